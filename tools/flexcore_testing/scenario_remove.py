"""``lmremove`` in a simulation: an administrator on a server's machine, and what the command would print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flexcore.codes import ErrorCode
from flexcore.report.status import Failure
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    AdminReply,
    AdminRequest,
    ClientHello,
    ServerHello,
)

if TYPE_CHECKING:
    from flexcore_testing.process import ServerRun
    from flexcore_testing.service import ServiceTriad

REMOVAL_S = 15.0
"""How long the answer may take: a server waits ten seconds for the master."""

CONN = 1


class Remover:
    """One run of lmremove as the simulated network sees it, on the machine of the server that it asks: *server*, else
    the master's, else the first that runs."""

    is_server = False

    def __init__(self, triad: ServiceTriad, words: Sequence[str], *, server: ServerRun | None = None) -> None:
        self.triad = triad
        by_handle = words[0] == "-h"
        self.arguments = ("handle", *words[1:]) if by_handle else ("user", *words)
        self.lines: list[str] = []
        """What is printed; empty until there is an answer."""
        triad.serial += 1
        self.serial = triad.serial
        self.name = "lmremove"
        self.alive = True
        server = server or triad.master() or next(iter(triad.runs()), None)
        self.host = "" if server is None else server.host
        if server is None:
            self._finish([Failure(ErrorCode.CANNOT_CONNECT).printed])
        else:
            triad.network.dial(self, server.host, CONN, self._made, self._failed)

    def is_over(self) -> bool:
        """Whether it has printed what it has to say."""
        return bool(self.lines)

    def _finish(self, lines: list[str]) -> None:
        self.lines = self.lines or lines
        self.alive = False
        self.triad.network.close(self, CONN)

    def _made(self, conn: int) -> None:
        self.triad.network.send(self, conn, ClientHello(PROTOCOL_VERSION, "lmremove", "", 0))

    def _failed(self, conn: int, refused: bool, error: str) -> None:
        self._finish([Failure(ErrorCode.CANNOT_CONNECT).printed])

    # --- Party ---------------------------------------------------------------------------------------------------

    def take_conn(self) -> int:
        """Nobody dials lmremove."""
        raise AssertionError("lmremove does not listen")

    def accepted(self, conn: int, remote: str) -> None:
        """Nobody dials lmremove."""
        raise AssertionError("lmremove does not listen")

    def ended(self, conn: int, orderly: bool) -> None:
        """The server went away before it had answered."""
        self._finish([Failure(ErrorCode.CANNOT_CONNECT).printed])

    def arrived(self, conn: int, message: Any) -> None:
        """The server answers."""
        if isinstance(message, ServerHello):
            self.triad.network.send(self, conn, AdminRequest(1, "remove", self.arguments, "root", self.host))
        elif isinstance(message, AdminReply):
            self._finish(printed(message))


def printed(answer: AdminReply) -> list[str]:
    """What ``flexcore lmremove`` prints of an answer."""
    if answer.code:
        return [Failure(answer.code, text=answer.text.rstrip(".") or None).printed, *answer.lines]
    return [f"taken away: {line}" for line in answer.lines]
