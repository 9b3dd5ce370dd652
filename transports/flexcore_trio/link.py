"""One connection: a non-blocking socket and the bytes that it did not take yet."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from flexcore.server.config import OUTGOING_BYTES_MAX

from . import sockets

__all__ = ["Link", "Watcher"]

PAUSE_BYTES = 256 * 1024
"""From so much on nothing more is read from a connection that was accepted, until it reads again."""

STALL_S = 60.0
"""A connection that takes nothing for so long while bytes wait for it is cut off."""

LINGER_S = 2.0
"""How long a closing connection waits for its last bytes to be taken."""

READ_BYTES = 65536
WRITE_BYTES = 262144


class Watcher(Protocol):
    """Who reads from links on their behalf; :mod:`.readers`."""

    def add(self, link: Link) -> None:
        """There is room again."""

    def forget(self, link: Link) -> None:
        """The link is about to be closed."""


class Link:
    """A connection's socket and outgoing bytes. Not thread-safe; one reader, one drain task.

    There are thousands that do nothing: events are made when somebody waits for one.
    """

    __slots__ = (
        "_gone", "_room", "_taken", "accepted", "closing", "conn", "draining", "ended", "sock", "unsent", "watcher",
    )  # fmt: skip

    def __init__(self, conn: int, sock: socket.socket, *, accepted: bool) -> None:
        self.conn = conn
        self.sock = sock
        self.accepted = accepted
        self.unsent = bytearray()
        self.draining = False
        """A task is sending what the socket did not take at once."""
        self.closing = False
        """Nothing more is sent, and what comes is thrown away: it is being closed in order."""
        self.ended = False
        """The socket is closed."""
        self.watcher: Watcher | None = None
        self._room: trio.Event | None = None
        self._taken: trio.Event | None = None
        self._gone: trio.Event | None = None

    @property
    def is_full(self) -> bool:
        """So much waits to be sent that nothing more is read."""
        return self.accepted and len(self.unsent) >= PAUSE_BYTES and not self.closing

    def send(self, data: bytes) -> bool:
        """Send or queue ``data``; False if the other end is gone or reads too slowly."""
        if self.ended or self.closing:
            return True
        if not self.unsent:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return False
            if sent == len(data):
                return True
            data = data[sent:]
        self.unsent += data
        return len(self.unsent) <= OUTGOING_BYTES_MAX

    async def drain(self) -> bool:
        """Send what is queued as the other end takes it; False if it does not."""
        while self.unsent:
            with trio.move_on_after(STALL_S) as patience:
                await self._ready(trio.lowlevel.wait_writable)
            if patience.cancelled_caught:
                return False
            try:
                with memoryview(self.unsent) as waiting:
                    sent = self.sock.send(waiting[:WRITE_BYTES])
            except BlockingIOError:
                continue
            except OSError:
                return False
            del self.unsent[:sent]
            if not self.is_full and not self._go_on_reading():
                return False
        if self._taken is not None:
            self._taken.set()
        return True

    def _go_on_reading(self) -> bool:
        """Wake or find whoever reads, if it had stopped; False if nobody can."""
        if self._room is not None:
            self._room.set()
        if self.watcher is not None and not self.ended:
            try:
                self.watcher.add(self)
            except OSError:
                return False
        return True

    async def receive(self) -> bytes:
        """Return the next bytes, b'' at an orderly end of stream. Raises OSError for any other end."""
        while True:
            await self._ready(trio.lowlevel.wait_readable)
            if self.is_full:
                self._room = trio.Event()
                await self._room.wait()
                continue
            try:
                return self.sock.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                continue

    async def _ready(self, wait: Callable[[socket.socket], Awaitable[None]]) -> None:
        """Wait for the socket; raises ClosedResourceError where it is closed, before or meanwhile."""
        if self.ended:
            raise trio.ClosedResourceError
        await wait(self.sock)

    async def linger(self) -> None:
        """Flush, say end of stream, and let the other end read the last bytes before closing.

        A close with unread input is a reset, and a reset may overtake what was sent before it; so
        whoever reads goes on reading until the other end has closed as well.
        """
        self.closing = True
        with trio.move_on_after(LINGER_S):
            if self.unsent:
                self._taken = self._taken or trio.Event()
                await self._taken.wait()
            if not self.ended:
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)
                self._gone = self._gone or trio.Event()
                await self._gone.wait()
        self.close()

    def close(self, *, abort: bool = False) -> None:
        """Close the socket and wake whoever waits for it. Twice is harmless."""
        if self.ended:
            return
        self.ended = True
        if self.watcher is not None:
            self.watcher.forget(self)
        trio.lowlevel.notify_closing(self.sock)
        if abort:
            sockets.abort(self.sock)
        else:
            self.sock.close()
        self.unsent.clear()
        for event in (self._room, self._taken, self._gone):
            if event is not None:
                event.set()
