"""Borrowing in scenarios: ``ann@elm borrows 2`` (hours), ``ann@elm returns``: what a product and ``lmborrow -return``
do."""

from __future__ import annotations

from typing import Any, NamedTuple

from flexcore.client import SeatBorrowed
from flexcore.report.status import SERVING
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    BorrowReturned,
    ClientHello,
    ReturnBorrow,
    ServerHello,
)
from flexcore.wire.proof import session_proof
from flexcore_testing.client_run import ClientRun
from flexcore_testing.inquiry import SOFTWARE, TIMEOUT_S
from flexcore_testing.service import ServiceTriad
from flexcore_testing.triad import NAMES

HOUR_S = 3600.0
HOST = "lmborrow"
"""The machine that returns."""


class Loan(NamedTuple):
    """What a borrow file holds, as far as a return needs it."""

    client: ClientRun
    request: int
    feature: str
    ident: bytes
    secret: bytes


class Returner:
    """One run of ``lmborrow -return``; the number of a connection is the server's rank."""

    is_server = False

    def __init__(self, triad: ServiceTriad, loan: Loan) -> None:
        self.triad = triad
        triad.serial += 1
        self.serial = triad.serial
        self.name = self.host = HOST
        self.alive = True
        self.loan = loan
        self.said: BorrowReturned | None = None
        if HOST not in triad.network.powered:
            triad.network.add_host(HOST)

    # --- Party ---------------------------------------------------------------------------------------------------

    def take_conn(self) -> int:
        """Nobody dials lmborrow."""
        raise AssertionError("lmborrow does not listen")

    def accepted(self, conn: int, remote: str) -> None:
        """Nobody dials lmborrow."""
        raise AssertionError("lmborrow does not listen")

    def arrived(self, conn: int, message: Any) -> None:
        """A server answers; the one that serves is asked."""
        if isinstance(message, BorrowReturned):
            self.said = message
        elif isinstance(message, ServerHello) and message.report.state == SERVING:
            proof = session_proof(self.loan.secret, message.nonce, self.loan.ident)
            self.triad.network.send(self, conn, ReturnBorrow(1, self.loan.ident, proof, message.report.term))

    def ended(self, conn: int, orderly: bool) -> None:
        """A server went away."""

    def run(self) -> str:
        """Return what came of it; takes simulated time."""
        world, network = self.triad.world, self.triad.network
        for rank, name in enumerate(NAMES):
            network.dial(self, name, rank, self._made, lambda *_: None)
        world.run_until(world.now + TIMEOUT_S, lambda: self.said is not None)
        for rank in range(len(NAMES)):
            network.close(self, rank)
        self.alive = False
        if self.said is None:
            return "nobody"
        return "" if not self.said.code else f"{self.said.text} ({self.said.code})"

    def _made(self, conn: int) -> None:
        self.triad.network.send(self, conn, ClientHello(PROTOCOL_VERSION, SOFTWARE, "", 0))


def borrow(client: ClientRun, hours: float) -> list[Loan]:
    """Have everything that *client* holds lent to its machine; the answers come later."""
    loans = []
    for handle, seat in sorted(client.seats.items()):
        ident = b"borrow %4d %4d" % (client.serial, handle)
        request = client.borrow(handle, client.wall() + hours * HOUR_S, ident, b"s" * 32)
        loans.append(Loan(client, request, seat.feature, ident, b"s" * 32))
    return loans


def give_back(triad: ServiceTriad, loans: list[Loan]) -> list[str]:
    """Return what was lent; one sentence each."""
    said = []
    for loan in loans:
        if isinstance(loan.client.lent.get(loan.request), SeatBorrowed):
            why = Returner(triad, loan).run()
            said.append(f"cannot return {loan.feature}: {why}" if why else f"returns {loan.feature}")
    return said
