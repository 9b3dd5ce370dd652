"""The fake triad of client_fakes on loopback sockets, for transports: each server accepts in a thread of its own and
notes how its connections ended."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Any

from flexcore.wire import messages as wire
from flexcore.wire.connection import Connection
from tests.client_fakes import FakeServer, FakeTriad

ORDERLY, RESET = "orderly", "reset"


class SocketServer:
    """One server. ``kill`` resets everything; ``frozen`` (of the fake) takes bytes and says nothing."""

    def __init__(self, triad: SocketTriad, fake: FakeServer, listener: socket.socket) -> None:
        self.triad = triad
        self.fake = fake
        self.listener: socket.socket | None = listener
        self.ends: list[str] = []
        self.streams: dict[int, tuple[socket.socket, Connection]] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, 0)
        self.wake_in, self.wake_out = socket.socketpair()
        self.selector.register(self.wake_out, selectors.EVENT_READ, -1)
        self.stopped = False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.stopped:
            ready = self.selector.select(1.0)
            with self.triad.lock:
                for key, _ in ready:
                    if key.data == -1:
                        self.wake_out.recv(100)
                    elif key.data == 0:
                        self.accept()
                    else:
                        self.read(key.data)
        with self.triad.lock:
            self.kill()
        self.selector.close()

    def accept(self) -> None:
        if self.listener is None:
            return
        sock, _ = self.listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn = self.triad.take_conn()
        self.streams[conn] = (sock, Connection())
        self.selector.register(sock, selectors.EVENT_READ, conn)

    def read(self, conn: int) -> None:
        if conn not in self.streams:
            return
        sock, end = self.streams[conn]
        try:
            data = sock.recv(65536)
        except OSError:
            self.ended(conn, RESET)
            return
        if not data:
            self.ended(conn, ORDERLY)
            return
        end.receive_data(data)
        while (message := end.next_message()) is not None:
            if self.fake.frozen:
                self.fake.held_back.append((conn, message))
            else:
                self.say(conn, *self.fake.answer(conn, message))
                for to, pushed in self.fake.take_pushes():
                    self.say(to, pushed)

    def say(self, conn: int, *messages: wire.Message) -> None:
        if conn in self.streams:
            sock, end = self.streams[conn]
            with contextlib.suppress(OSError):  # the client may be gone: what is read next tells
                for message in messages:
                    sock.sendall(end.send(message))

    def ended(self, conn: int, how: str) -> None:
        session = self.fake.links.pop(conn, None)
        self.ends.append(how if session is not None else f"{how} without session")
        sock, _ = self.streams.pop(conn)
        self.selector.unregister(sock)
        sock.close()

    # --- what tests do, holding the lock of the triad ---

    def kill(self) -> None:
        """As kill -9: connections are reset, new ones refused."""
        if self.listener is not None:
            self.selector.unregister(self.listener)
            self.listener.close()
            self.listener = None
        for conn in list(self.streams):
            sock, _ = self.streams.pop(conn)
            self.fake.links.pop(conn, None)
            self.selector.unregister(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        self.wake_in.send(b"x")

    def thaw(self) -> None:
        self.fake.frozen = False
        held, self.fake.held_back = self.fake.held_back, []
        for conn, message in held:
            if conn in self.streams:
                self.say(conn, *self.fake.answer(conn, message))

    def push(self, message: wire.Message) -> None:
        for conn in list(self.fake.links):
            self.say(conn, message)


class SocketTriad(FakeTriad):
    """A context manager: three (or one) fake servers on 127.0.0.1."""

    def __init__(self, count: int = 3, **settings: Any) -> None:
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        super().__init__(*(["127.0.0.1"] * count), **settings)
        self.lock = threading.RLock()
        self.conns = 0
        self.addresses = tuple(
            wire.ServerAddress("127.0.0.1", listener.getsockname()[1]) for listener in listeners
        )
        for fake, address in zip(self.servers, self.addresses, strict=True):
            fake.address = address
        self.sockets = [
            SocketServer(self, fake, listener)
            for fake, listener in zip(self.servers, listeners, strict=True)
        ]

    @property
    def path(self) -> str:
        return ",".join(f"{address.port}@{address.host}" for address in self.addresses)

    def take_conn(self) -> int:
        self.conns += 1
        return self.conns

    def __enter__(self) -> SocketTriad:
        for server in self.sockets:
            server.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.sockets:
            server.stopped = True
            server.wake_in.send(b"x")
        for server in self.sockets:
            server.thread.join(5)
            server.wake_in.close()
            server.wake_out.close()
