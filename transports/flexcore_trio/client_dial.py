"""Dialling a licence server: a name to addresses to a stream, the addresses beside each other."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio
import trio.abc

from flexcore import timing
from flexcore_host.names import Names
from flexcore_host.resolver import Address

from . import sockets

__all__ = ["Connect", "Dialler", "abort"]

Connect: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""How a client connects to a host and port; raises OSError where it cannot."""


class Dialler:
    """Connects over TCP. A name server that hangs or is gone delays nothing that was ever looked up."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._looked_up = trio.lowlevel.ParkingLot()
        self._names = Names(self._wake)
        self._under_way: set[socket.socket] = set()

    async def __call__(self, host: str, port: int) -> trio.SocketStream:
        """Return a stream to the first address of ``host`` that answers. Raises OSError."""
        while (found := self._names.ask(host, port)) is None:
            await self._looked_up.park()
        if isinstance(found, str):
            raise OSError(found)
        sock = await connect_first(found, self._under_way)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return trio.SocketStream(trio.socket.from_stdlib_socket(sock))

    def _wake(self) -> None:
        """From the thread that has looked something up."""
        try:
            self._token.run_sync_soon(self._looked_up.unpark_all)
        except trio.RunFinishedError:
            return  # nobody waits any more

    def let_go_in_child(self) -> None:
        """In a forked child: close the copies of what is being connected."""
        for sock in self._under_way:
            sock.close()


async def connect_first(
    addresses: Sequence[Address], under_way: set[socket.socket]
) -> socket.socket:
    """Connect to the first of ``addresses`` that answers: the next begins a quarter of a second after the last,
    or when that has failed (RFC 8305's way). Raises the last one's OSError where none does."""
    won: list[socket.socket] = []
    errors: list[OSError] = [OSError("no address")]

    async def attempt(address: Address, over: trio.Event) -> None:
        try:
            sock = await sockets.connect_one(address, under_way)
        except OSError as error:
            errors.append(error)
            over.set()
            return
        won.append(sock)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                over = trio.Event()
                nursery.start_soon(attempt, address, over)
                with trio.move_on_after(timing.CLIENT_STAGGER_S):
                    await over.wait()
    except BaseException:
        for sock in won:
            sockets.abort(sock)
        raise
    for sock in won[1:]:  # in the same instant
        sockets.abort(sock)
    if not won:
        raise errors[-1]
    return won[0]


async def abort(stream: trio.abc.Stream) -> None:
    """End with a reset where the stream can: a server must not take it for the death of this process
    (protocol.md rules 16 and 17)."""
    if isinstance(stream, trio.SocketStream):
        with contextlib.suppress(OSError, trio.ClosedResourceError):  # not connected (any more)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, sockets.RESET)
    await trio.aclose_forcefully(stream)


def close_in_child(stream: trio.abc.Stream) -> None:
    """In a forked child: close the copy of a socket, past trio, whose epoll is shared with the parent."""
    if isinstance(stream, trio.SocketStream):
        number = stream.socket.detach()
        if number >= 0:
            os.close(number)
