"""What passes through a proxy: the two sockets of a connection, and a queue in each direction."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from flexcore_trio import sockets

if TYPE_CHECKING:
    from .proxy import Proxy

__all__ = ["Faults", "Pair", "dial"]

CHUNK_BYTES = 16 * 1024
IN_FLIGHT_MAX = 64
"""So many chunks at most are under way in one direction of one connection; then nothing more is read."""
DIAL_S = 5.0
"""How long the target may take to answer a dial."""


@attrs.frozen(kw_only=True)
class Faults:
    """What happens to the bytes of one direction. The default is nothing."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Up to so much more, drawn for each chunk; the order of bytes stays."""
    stall_chance: float = 0.0
    """How likely a chunk is to be held up for ``stall_s``: what a lost packet looks like from above."""
    stall_s: float = 0.2
    bytes_per_s: float = 0.0
    """0: no bound."""
    cut: bool = False
    """Nothing passes; what comes meanwhile passes when the cut ends."""

    def __attrs_post_init__(self) -> None:
        for name in ("delay_s", "jitter_s", "stall_s", "bytes_per_s"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a number from 0, not {getattr(self, name)!r}")
        if not 0.0 <= self.stall_chance <= 1.0:
            raise ValueError(f"stall_chance is a number from 0 to 1, not {self.stall_chance!r}")


class Chunk:
    """Bytes under way; none: the end of the stream, or a reset."""

    __slots__ = ("data", "due_at", "generation", "reset")

    def __init__(self, data: bytes, due_at: float, generation: int, *, reset: bool) -> None:
        self.data = data
        self.due_at = due_at
        self.generation = generation
        self.reset = reset


class Pair:
    """Two sockets, near (who connected) and far (the target), and a way in each direction."""

    def __init__(self, proxy: Proxy, near: socket.socket) -> None:
        self.proxy = proxy
        self.near = near
        self.far: socket.socket | None = None
        self.ended = False
        """Both sockets are closed: their numbers may be another connection's by now."""
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Forward until both directions have ended. Raises ConnectionRefusedError."""
        with self._scope:
            await self._forward()

    async def _forward(self) -> None:
        proxy = self.proxy
        _tune(self.near)
        while proxy.accept == "hang" or proxy.there.cut or proxy.back.cut:
            await proxy.changed.wait()
        try:
            self.far = await dial(proxy.target)
        except ConnectionRefusedError:
            raise
        except OSError:
            return
        _tune(self.far)
        there = Stream(self, self.near, self.far, forward=True)
        back = Stream(self, self.far, self.near, forward=False)
        async with trio.open_nursery() as nursery:
            for stream in (there, back):
                nursery.start_soon(stream.read)
                nursery.start_soon(stream.write)

    def abort(self) -> None:
        """Reset both ends. Twice is harmless."""
        self.ended = True
        self._scope.cancel()
        for sock in (self.near, self.far):
            if sock is not None and sock.fileno() >= 0:
                trio.lowlevel.notify_closing(sock)
                sockets.abort(sock)


class Stream:
    """One direction of one connection."""

    def __init__(
        self, pair: Pair, source: socket.socket, sink: socket.socket, *, forward: bool
    ) -> None:
        self.pair = pair
        self.proxy = pair.proxy
        self.source = source
        self.sink = sink
        self.forward = forward
        self.under_way: deque[Chunk] = deque()
        self.news = trio.Event()
        self.due_at = 0.0

    @property
    def faults(self) -> Faults:
        return self.proxy.there if self.forward else self.proxy.back

    async def read(self) -> None:
        """Take in what comes, as far as there is room."""
        while True:
            while len(self.under_way) >= IN_FLIGHT_MAX:
                await self.news.wait()
            if self.pair.ended:
                return
            try:
                await trio.lowlevel.wait_readable(self.source)
                data = self.source.recv(CHUNK_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                self._put(b"", reset=True)
                return
            self._put(data, reset=False)
            if not data:
                return

    def _put(self, data: bytes, *, reset: bool) -> None:
        faults, draw = self.faults, self.proxy.random
        late_s = faults.delay_s + faults.jitter_s * draw.random()
        if draw.random() < faults.stall_chance:
            late_s += faults.stall_s
        self.due_at = max(self.due_at, trio.current_time() + late_s)
        self.under_way.append(Chunk(data, self.due_at, self.proxy.generation, reset=reset))
        self._tell()

    def _tell(self) -> None:
        news, self.news = self.news, trio.Event()
        news.set()

    async def write(self) -> None:
        """Hand on what is due, until the end of the stream."""
        while True:
            while not self.under_way:
                await self.news.wait()
            chunk = self.under_way[0]
            await self._wait_until_due(chunk)
            if self.pair.ended:
                return
            try:
                if chunk.reset:
                    self.pair.abort()  # wakes the other direction as well
                    return
                if not chunk.data:
                    self.sink.shutdown(socket.SHUT_WR)
                    return
                await self._send(chunk.data)
            except OSError:
                self.pair.abort()
                return
            self.under_way.popleft()
            self._tell()

    async def _wait_until_due(self, chunk: Chunk) -> None:
        """Until it may leave: a change of the faults takes effect on what is under way, too."""
        proxy = self.proxy
        while True:
            faults = self.faults
            if chunk.generation != proxy.generation:
                chunk.generation = proxy.generation
                soon = proxy.changed_at + faults.delay_s + faults.jitter_s
                chunk.due_at = min(chunk.due_at, soon)
                self.due_at = min(self.due_at, soon)
            left_s = float("inf") if faults.cut else chunk.due_at - trio.current_time()
            if left_s <= 0.0:
                return
            with trio.move_on_after(left_s):
                await proxy.changed.wait()

    async def _send(self, data: bytes) -> None:
        """Send all of it; the closed socket of a pair that was aborted raises OSError or is cancelled."""
        rest = memoryview(data)
        rate = self.faults.bytes_per_s
        while rest:
            try:
                rest = rest[self.sink.send(rest) :]
            except BlockingIOError:  # of an open socket, so it is not another's
                await trio.lowlevel.wait_writable(self.sink)
        if self.forward:
            self.proxy.bytes_there += len(data)
        else:
            self.proxy.bytes_back += len(data)
        if rate > 0.0:
            await trio.sleep(len(data) / rate)


def _tune(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def dial(target: tuple[str, int]) -> socket.socket:
    """Connect, or raise OSError; ConnectionRefusedError: nobody listens there."""
    found = await trio.socket.getaddrinfo(*target, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        with trio.fail_after(DIAL_S):
            code = sock.connect_ex(address)
            if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                await trio.lowlevel.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if sock.getsockname() == sock.getpeername():  # TCP's self-connection on one machine
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    except trio.TooSlowError:
        sockets.abort(sock)
        raise TimeoutError(errno.ETIMEDOUT, "the target does not answer") from None
    except BaseException:
        sockets.abort(sock)
        raise
    return sock
