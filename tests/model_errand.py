"""One question to one server from a machine of one's own choice, by the bare protocol: lmremove, or an early return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flexcore_testing.service import ServiceTriad
from flexcore_testing.triad import NAMES

ANSWERED_S = 20.0


class Errand:
    """A process on *host* that says hello, asks *question* (made from the server's hello) and waits for the answer."""

    is_server = False

    def __init__(self, triad: ServiceTriad, host: str, question: Callable[[Any], Any], hello: Any) -> None:
        self.triad = triad
        triad.serial += 1
        self.serial = triad.serial
        self.host = host
        self.name = f"errand {self.serial}"
        self.alive = True
        self.answer: Any = None
        self._question, self._hello = question, hello
        if host not in triad.network.powered:
            triad.network.add_host(host)

    def take_conn(self) -> int:
        """Nobody dials it."""
        raise AssertionError("an errand does not listen")

    def accepted(self, conn: int, remote: str) -> None:
        """Nobody dials it."""
        raise AssertionError("an errand does not listen")

    def arrived(self, conn: int, message: Any) -> None:
        """The server's hello, and then its answer."""
        if type(message).__name__ == "ServerHello":
            self.triad.network.send(self, conn, self._question(message))
        else:
            self.answer = message

    def ended(self, conn: int, orderly: bool) -> None:
        """The server has gone: there is no answer."""

    def run(self, server: int) -> Any:
        """Ask the server of this rank; takes simulated time. None: it did not answer."""
        network, world = self.triad.network, self.triad.world
        network.dial(self, NAMES[server], 1, lambda conn: network.send(self, conn, self._hello), lambda *_: None)
        world.run_until(world.now + ANSWERED_S, lambda: self.answer is not None)
        network.close(self, 1)
        self.alive = False
        return self.answer
