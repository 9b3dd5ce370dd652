"""lmstat in a simulation: somebody on a machine of their own asks all three servers over the simulated network."""

from __future__ import annotations

import errno
from typing import Any

from flexcore_testing.harness_service import HarnessTriad
from flexcore_testing.inquiry import TIMEOUT_S, Inquiry, lmstat_of
from flexcore_testing.triad import NAMES

HOST = "lmstat"
"""The machine on which the asking is done."""


class Asker:
    """One run of lmstat as the simulated network sees it; the number of a connection is the server's rank."""

    is_server = False

    def __init__(self, triad: HarnessTriad, *, usage: bool) -> None:
        self.triad = triad
        triad.serial += 1
        self.serial = triad.serial
        self.name = self.host = HOST
        self.alive = True
        self.inquiries = [Inquiry(usage=usage) for _ in NAMES]
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
        question = self.inquiries[conn].answered(message)
        if question is not None:
            self.triad.network.send(self, conn, question)

    def ended(self, conn: int, orderly: bool) -> None:
        """A server went away before it had said everything."""
        self.inquiries[conn].failed(errno.ECONNRESET)

    # --- asking --------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Ask all servers, and whoever serves for its features and seats; takes simulated time."""
        world, network = self.triad.world, self.triad.network
        for rank, name in enumerate(NAMES):
            network.dial(self, name, rank, self._made, self._failed)
        world.run_until(world.now + TIMEOUT_S, lambda: all(inquiry.is_over for inquiry in self.inquiries))
        for rank, inquiry in enumerate(self.inquiries):
            inquiry.timed_out()
            network.close(self, rank)
        self.alive = False

    def _made(self, conn: int) -> None:
        self.triad.network.send(self, conn, self.inquiries[conn].begin())

    def _failed(self, conn: int, refused: bool, error: str) -> None:
        if refused:
            self.inquiries[conn].refused()
        else:
            self.inquiries[conn].timed_out()


def lmstat(triad: HarnessTriad, *, usage: bool = True) -> str:
    """Return what ``flexcore lmstat -a`` would print on a machine that reaches all servers, in UTC."""
    asker = Asker(triad, usage=usage)
    asker.ask()
    wall = triad.profile.epoch + triad.world.now
    return lmstat_of(asker.inquiries, triad.addresses, vendor=triad.terms.vendor, wall=wall, usage=usage)
