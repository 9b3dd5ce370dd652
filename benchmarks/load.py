"""Clients by the thousand in one process: each waits for its answers, checks every one, and asks on.

One op is a checkout or a checkin, alternating; every tenth checkout asks for a feature whose only licence somebody
else has, and must be denied. Sessions are opened before the clock starts.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import statistics
import time
from collections.abc import Sequence

import attrs

from flexcore.wire.codec import MAX_FRAME_BYTES
from flexcore.wire.connection import Connection
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    Checkout,
    ClientHello,
    Granted,
    Message,
    OpenSession,
    ServerHello,
    SessionReply,
)

from .frames import CHECKED_IN, DENIED, GRANTED, Asking, Replies, frame_of
from .machine import cpu_s

VENDOR = "demo"
FREE, FULL = "f1", "full"
DENY_EVERY = 10
READ_BYTES = 1 << 18
OPENING_S = 60.0


@attrs.frozen(kw_only=True)
class Figure:
    """What was seen in one launch."""

    ops_s: float
    p50_us: float = 0.0
    p99_us: float = 0.0
    cpu_us: float = 0.0
    """CPU of the server processes for each op."""
    denied: float = 0.0
    """The share of ops that were denied."""


class WrongReply(Exception):
    """A server said something else than it had to."""


class Talker:
    """A blocking connection that speaks messages: to open sessions, and to ask who serves."""

    def __init__(self, host: str, port: int, timeout_s: float = 10.0) -> None:
        self.sock = socket.create_connection((host, port), timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire = Connection(max_frame_bytes=MAX_FRAME_BYTES)
        hello = self.ask(ClientHello(PROTOCOL_VERSION, "bench", VENDOR, 0))
        if not isinstance(hello, ServerHello):
            raise WrongReply(hello)
        self.hello = hello

    def ask(self, message: Message) -> Message:
        """The next message after *message*."""
        self.sock.sendall(self.wire.send(message))
        return self.receive()

    def receive(self) -> Message:
        """The next message."""
        while (message := self.wire.next_message()) is None:
            data = self.sock.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("end of stream")
            self.wire.receive_data(data)
        return message

    def open_session(self, user: str = "bench") -> None:
        """Open a session of a fresh id."""
        opened = self.ask(open_session(user))
        if not (isinstance(opened, SessionReply) and opened.state == "open"):
            raise WrongReply(opened)

    def take(self, feature: str, request: int = 1) -> int:
        """Check out *feature* and keep it; returns the handle."""
        granted = self.ask(Checkout(request + 1, request, request - 1, feature, "1.0", 1, 0))
        if not isinstance(granted, Granted):
            raise WrongReply(granted)
        return granted.handle

    def close(self) -> None:
        """End the connection."""
        self.sock.close()


def open_session(user: str) -> OpenSession:
    """A session of a fresh id."""
    return OpenSession(1, os.urandom(16), os.urandom(32), user, "bench", user, "", os.getpid(), True, 0)


class Client:
    """One connection with its session; *depth* ops are sent at once and waited for."""

    __slots__ = ("asked_at", "back", "checkouts", "depth", "handles", "replies", "request", "sock", "waiting")

    def __init__(self, sock: socket.socket, depth: int) -> None:
        self.sock = sock
        self.depth = depth
        self.replies = Replies()
        self.request = 0
        self.checkouts = 0
        self.handles: list[int] = []
        self.back = False
        """The batch under way is one of checkins."""
        self.waiting = 0
        self.asked_at = 0.0


class Load:
    """Clients that are connected and have a session each."""

    def __init__(self, host: str, port: int, clients: int, depth: int = 1) -> None:
        self._holder = Talker(host, port)
        self._holder.open_session("holder")
        self._holder.take(FULL)
        self._asking, self._full = Asking(FREE), Asking(FULL)
        self._epoll = select.epoll()
        self.clients: dict[int, Client] = {}
        for sock in opened(host, port, clients):
            self.clients[sock.fileno()] = Client(sock, depth)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        self.took_us: list[float] = []
        self.ops = self.denied = 0

    def close(self) -> None:
        """End all connections."""
        self._holder.close()
        self._epoll.close()
        for client in self.clients.values():
            client.sock.close()

    def run(self, seconds: float, pids: Sequence[int]) -> Figure:
        """Ask for so long, after a quarter of that to warm up."""
        for client in self.clients.values():
            self._ask(client)
        self._serve(seconds / 4)
        self.took_us.clear()
        self.ops = self.denied = 0
        gc.collect()
        used = cpu_s(pids)
        took = self._serve(seconds)
        used = cpu_s(pids) - used
        cuts = statistics.quantiles(self.took_us, n=100) if len(self.took_us) > 1 else [0.0] * 99
        return Figure(
            ops_s=self.ops / took, p50_us=cuts[49], p99_us=cuts[98], cpu_us=used / self.ops * 1e6,
            denied=self.denied / self.ops,
        )  # fmt: skip

    def _serve(self, seconds: float) -> float:
        clients, poll, now = self.clients, self._epoll.poll, time.perf_counter
        started = now()
        until = started + seconds
        while True:
            ready = poll(5.0)
            if not ready:
                raise WrongReply("no server answers any more")
            for fileno, _ in ready:
                self._read(clients[fileno])
            at = now()
            if at >= until:
                return at - started

    def _read(self, client: Client) -> None:
        data = client.sock.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError("the server closed a connection")
        for kind, request, handle in client.replies.take(data):
            self._check(client, kind, request, handle)
        if not client.waiting:
            self.took_us.append((time.perf_counter() - client.asked_at) * 1e6)
            self._ask(client)

    def _check(self, client: Client, kind: int, request: int, handle: int) -> None:
        client.waiting -= 1
        wanted = client.request - client.waiting
        if client.back:
            right = CHECKED_IN
        else:
            right = GRANTED if (client.checkouts - client.waiting) % DENY_EVERY else DENIED
        if request != wanted or kind != right:
            raise WrongReply(f"kind {kind} for request {request}; expected {wanted}, back: {client.back}")
        self.ops += 1
        if kind == GRANTED:
            client.handles.append(handle)
        elif kind == DENIED:
            self.denied += 1

    def _ask(self, client: Client) -> None:
        asking, full, request = self._asking, self._full, client.request
        frames = []
        if client.handles:
            client.back = True
            for handle in client.handles:
                request += 1
                frames.append(asking.checkin(request, handle))
            client.handles = []
        else:
            client.back = False
            for number in range(client.checkouts + 1, client.checkouts + client.depth + 1):
                request += 1
                frames.append((asking if number % DENY_EVERY else full).checkout(request))
            client.checkouts += client.depth
        client.waiting = len(frames)
        client.request = request
        client.asked_at = time.perf_counter()
        client.sock.sendall(b"".join(frames))


def opened(host: str, port: int, count: int) -> list[socket.socket]:
    """Connections whose sessions are open; in batches, so that no backlog overflows."""
    socks: list[socket.socket] = []
    hello = frame_of(ClientHello(PROTOCOL_VERSION, "bench", VENDOR, 0))
    for start in range(0, count, 32):
        batch = [socket.create_connection((host, port), OPENING_S) for _ in range(min(32, count - start))]
        for number, sock in enumerate(batch):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(hello + frame_of(open_session(f"u{start + number}")))
        for sock in batch:
            wire = Connection(max_frame_bytes=MAX_FRAME_BYTES)
            reply: Message | None = None
            while not isinstance(reply, SessionReply):
                reply = wire.next_message()
                if reply is None:
                    data = sock.recv(READ_BYTES)
                    if not data:
                        raise ConnectionResetError("the server closed a connection that was being opened")
                    wire.receive_data(data)
                elif not isinstance(reply, ServerHello | SessionReply):
                    raise WrongReply(reply)
            if reply.state != "open":
                raise WrongReply(reply)
        socks += batch
    return socks
