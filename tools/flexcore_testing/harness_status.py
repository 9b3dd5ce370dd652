"""lmstat in a simulation: somebody on a machine of their own asks all three servers over the simulated network."""

from __future__ import annotations

import errno
import os
from typing import Any

from flexcore.codes import ErrorCode
from flexcore.report.lmstat import header_lines, lmstat_text
from flexcore.report.status import SERVING, Failure, ServerStatus, Status, seats_from
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    ClientHello,
    FeatureRow,
    SeatRow,
    ServerHello,
    StatusPage,
    StatusRequest,
)
from flexcore_testing.harness_service import SOFTWARE, HarnessTriad
from flexcore_testing.triad import NAMES

HOST = "lmstat"
"""The machine on which the asking is done."""

TIMEOUT_S = 3.0
"""How long a server's answer is waited for, as ``flexcore lmstat`` does."""

PAGES_MAX = 10_000
"""More pages than this are no honest answer."""


class Asker:
    """One run of lmstat as the simulated network sees it."""

    is_server = False

    def __init__(self, triad: HarnessTriad) -> None:
        self.triad = triad
        triad.serial += 1
        self.serial = triad.serial
        self.name = self.host = HOST
        self.alive = True
        self.hellos: dict[int, ServerHello] = {}
        """By the number of the connection, which is the server's rank."""
        self.failures: dict[int, Failure] = {}
        self.pages: list[StatusPage] = []
        self._answered = -1
        if HOST not in triad.network.powered:
            triad.network.add_host(HOST)

    # --- Party ---------------------------------------------------------------------------------------------------

    def take_conn(self) -> int:
        """Nobody dials lmstat."""
        raise AssertionError("lmstat does not listen")

    def accepted(self, conn: int, remote: str) -> None:
        """Nobody dials lmstat."""
        raise AssertionError("lmstat does not listen")

    def arrived(self, conn: int, message: Any) -> None:
        """A server answers."""
        if isinstance(message, ServerHello):
            self.hellos[conn] = message
        elif isinstance(message, StatusPage):
            self.pages.append(message)
            self._answered = message.seq

    def ended(self, conn: int, orderly: bool) -> None:
        """A server went away before it had said everything."""
        self._fail(conn, errno.ECONNRESET)

    # --- asking --------------------------------------------------------------------------------------------------

    def ask(self, *, usage: bool) -> Status:
        """Ask all servers, and whoever serves for its features and seats; takes simulated time."""
        world, network = self.triad.world, self.triad.network
        for rank, name in enumerate(NAMES):
            network.dial(self, name, rank, self._made, self._failed)
        world.run_until(world.now + TIMEOUT_S, lambda: len({*self.hellos, *self.failures}) == len(NAMES))
        for rank in range(len(NAMES)):
            if rank not in self.hellos and rank not in self.failures:
                self._fail(rank, errno.ETIMEDOUT)
        serving = [rank for rank, hello in self.hellos.items() if hello.report.state == SERVING]
        master = max(serving, key=lambda rank: self.hellos[rank].report.term, default=None)
        features: tuple[FeatureRow, ...] = ()
        self.seats: tuple[SeatRow, ...] = ()
        problem: Failure | None = None
        if usage and master is not None:
            pages = self._pages(master, "features", 1)
            seats = self._pages(master, "seats", PAGES_MAX + 1)
            features = tuple(row for page in pages or () for row in page.features)
            self.seats = tuple(row for page in seats or () for row in page.seats)
            if pages is None or seats is None:
                problem = Failure(ErrorCode.VENDOR_DOWN)
        status = Status(
            wall=self.triad.profile.epoch + world.now,
            servers=tuple(self._server(rank) for rank in range(len(NAMES))),
            vendor=self.triad.terms.vendor,
            features=features,
            failure=problem,
        )
        for rank in range(len(NAMES)):
            network.close(self, rank)
        self.alive = False
        return status

    def _made(self, conn: int) -> None:
        hello = ClientHello(PROTOCOL_VERSION, SOFTWARE, "", 0)
        self.triad.network.send(self, conn, hello)

    def _failed(self, conn: int, refused: bool, error: str) -> None:
        self._fail(conn, errno.ECONNREFUSED if refused else errno.ETIMEDOUT)

    def _fail(self, rank: int, number: int) -> None:
        self.failures.setdefault(rank, Failure(ErrorCode.CANNOT_CONNECT, number, os.strerror(number)))

    def _pages(self, master: int, what: str, first_seq: int) -> list[StatusPage] | None:
        """Every page of *what*; None if the master did not answer to the end."""
        world = self.triad.world
        began, cursor = len(self.pages), ""
        for seq in range(first_seq, first_seq + PAGES_MAX):
            self.triad.network.send(self, master, StatusRequest(seq, what, "", cursor))
            if not world.run_until(world.now + TIMEOUT_S, lambda: self._answered == seq):  # noqa: B023 - run here
                return None
            cursor = self.pages[-1].cursor
            if not cursor:
                return self.pages[began:]
        return None

    def _server(self, rank: int) -> ServerStatus:
        address = self.triad.addresses[rank]
        if rank in self.hellos:
            return ServerStatus(address=address, report=self.hellos[rank].report)
        return ServerStatus(address=address, failure=self.failures[rank])


def lmstat(triad: HarnessTriad, *, usage: bool = True) -> str:
    """Return what ``flexcore lmstat -a`` would print on a machine that reaches all servers, in UTC."""
    asker = Asker(triad)
    status = asker.ask(usage=usage)
    lines = [
        *header_lines(status.wall, 0.0),
        *lmstat_text(status, seats_from(asker.seats), utc_offset_s=0.0, usage=usage),
    ]
    return "\n".join(lines) + "\n"
