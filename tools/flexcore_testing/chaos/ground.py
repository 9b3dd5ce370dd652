"""Where a chaos run happens: three addresses of this machine and a proxy on every link, or four machines."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Protocol

from flexcore.identity import Rank
from flexcore_testing.namespaces import Machines
from flexcore_testing.proxy import ProxyLink, ProxyThread

__all__ = ["CLIENTS", "Ground", "Loopback", "NamespaceGround", "Place"]

Place = Rank | None
"""A server, or, None, where the clients are."""

CLIENTS: Place = None
CLIENT_MACHINE = 3

_FIRST_PORT, _LAST_PORT = 20_000, 32_000
"""Below the ports that the kernel gives to outgoing connections: ours stay free while nobody listens."""


class Ground(Protocol):
    """What the servers and clients stand on, and how it can be hurt."""

    hosts: tuple[str, str, str]
    port: int

    def prefix(self, place: Place) -> list[str]:
        """What comes before a command that shall run there."""

    def address(self, reader: Place, rank: Rank) -> tuple[str, int]:
        """Where *reader* finds the server *rank*."""

    def heal(self) -> None:
        """Take every fault of the network away."""


class Loopback:
    """127.0.0.1, .2 and .3. What a server or a client dials is a proxy of its own."""

    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")

    def __init__(self, seed: int) -> None:
        self.port = free_port(self.hosts)
        self._stack = contextlib.ExitStack()
        proxies = self._stack.enter_context(ProxyThread())
        self.links: dict[tuple[Place, Rank], ProxyLink] = {}
        for number, (reader, rank) in enumerate(_pairs()):
            host = self.hosts[rank]
            self.links[reader, rank] = proxies.add(
                (host, self.port), host=host, port=free_port([host]), seed=seed + number
            )

    def prefix(self, place: Place) -> list[str]:
        """Nothing: all are on this machine."""
        return []

    def address(self, reader: Place, rank: Rank) -> tuple[str, int]:
        """The proxy's; a server's own is its true one."""
        if reader is rank:
            return self.hosts[rank], self.port
        link = self.links[reader, rank]
        return link.host, link.port

    def between(self, one: Place, other: Place) -> list[tuple[ProxyLink, str]]:
        """The links that carry what *one* sends to *other*, each with the way on it."""
        found: list[tuple[ProxyLink, str]] = []
        if other is not None:
            found.append((self.links[one, other], "there"))
        if one is not None and one is not other:
            back = self.links.get((other, one))
            if back is not None:
                found.append((back, "back"))
        return found

    def of(self, rank: Rank) -> list[ProxyLink]:
        """All links of one server, those of clients included."""
        return [link for (reader, target), link in self.links.items() if rank in (reader, target)]

    def peers_of(self, rank: Rank) -> list[ProxyLink]:
        """Its links with the other two."""
        return [
            link
            for (reader, target), link in self.links.items()
            if reader is not None and rank in (reader, target)
        ]

    def heal(self) -> None:
        """All links as if there were none."""
        for link in self.links.values():
            link.heal()

    def close(self) -> None:
        """End the proxies."""
        self._stack.close()


class NamespaceGround:
    """Three machines and a fourth for the clients, each in a network namespace (:class:`Machines`)."""

    port = 27_000

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        one, two, three = machines.addresses[:3]
        self.hosts = (one, two, three)

    def prefix(self, place: Place) -> list[str]:
        """The clients' machine is the fourth."""
        return self.machines.prefix(CLIENT_MACHINE if place is None else place)

    def address(self, reader: Place, rank: Rank) -> tuple[str, int]:
        """The same from everywhere."""
        return self.hosts[rank], self.port

    def heal(self) -> None:
        """Put all cables in."""
        for number in range(len(self.machines.addresses)):
            self.machines.plug(number)


def _pairs() -> Iterator[tuple[Place, Rank]]:
    for rank in Rank:
        yield CLIENTS, rank
        for reader in Rank:
            if reader is not rank:
                yield reader, rank


def free_port(hosts: Sequence[str]) -> int:
    """A port that nobody has on any of *hosts*.

    Raises RuntimeError where there is none; OSError where this machine has no such address.
    """
    width = _LAST_PORT - _FIRST_PORT
    start = int.from_bytes(os.urandom(4), "big") % width
    for step in range(width):
        port = _FIRST_PORT + (start + step) % width
        if all(_is_free(host, port) for host in hosts):
            return port
    raise RuntimeError("no free port")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if isinstance(error, PermissionError) or error.errno == errno.EADDRNOTAVAIL:
                raise
            return False
    return True


def _conforms(ground: Loopback | NamespaceGround) -> Ground:
    """Let the type checker compare the two."""
    return ground
