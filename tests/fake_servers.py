"""Servers on loopback that speak wire messages and know only what a test tells them.

Each accepts in a thread of its own; a test may stop, freeze or script it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from flexcore.errors import RemoteProtocolError
from flexcore.wire.codec import MAX_FRAME_BYTES
from flexcore.wire.connection import Connection
from flexcore.wire.messages import (
    AdminReply,
    AdminRequest,
    ClientHello,
    FeatureRow,
    Message,
    NotServing,
    Refusal,
    SeatRow,
    ServerAddress,
    ServerHello,
    ServerReport,
    StatusPage,
    StatusReport,
    StatusRequest,
)

PAGE_ROWS = 2


class FakeServer:
    """One SERVER line. ``report`` is what it says of itself; ``admin`` what it does on commands."""

    def __init__(self, host: str, rank: int, state: str) -> None:
        self._listener = socket.create_server((host, 0))
        self.address = ServerAddress(host, self._listener.getsockname()[1])
        self.servers: tuple[ServerAddress, ...] = (self.address,)
        self.vendor = "demo"
        self.digest = b"one"
        self.frozen = False
        self.refusal: Refusal | None = None
        self.cut_after: int | None = None
        self.features: tuple[FeatureRow, ...] = ()
        self.seats: tuple[SeatRow, ...] = ()
        self.commands: list[AdminRequest] = []
        self.admin: Callable[[AdminRequest], AdminReply] = lambda request: AdminReply(
            request.seq, -119, "lmdown and lmreread must be run on license server machine"
        )
        self.asked: list[StatusRequest] = []
        self.status: Callable[[StatusRequest], Message | None] = self.plain_status
        self.report = ServerReport(
            name=host, rank=rank, state=state, term=3, master_rank=-1, reason="", until_s=None,
            uptime_s=5.0, software="flexcore 0.1.0", license_path="/etc/demo.lic",
            peers_up=(), notes=(), commit=1, vendor_up=state == "serving",
        )  # fmt: skip
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End as a process that is killed: the listener first, then every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._thread is not threading.current_thread():
            self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        wire = Connection(max_frame_bytes=MAX_FRAME_BYTES)
        try:
            with connection:
                while True:
                    data = connection.recv(1 << 16)
                    if not data:
                        return
                    wire.receive_data(data)
                    while (message := wire.next_message()) is not None:
                        if self.frozen:
                            continue
                        answer = self._answer(message)
                        if answer is None:
                            return
                        connection.sendall(wire.send(answer))
        except (OSError, RemoteProtocolError):
            pass
        finally:
            self._open.discard(connection)

    def _answer(self, message: Message) -> Message | None:
        if isinstance(message, ClientHello):
            if self.refusal is not None:
                return self.refusal
            return ServerHello(
                1, "flexcore 0.1.0", bytes(16), self.vendor, self.servers, self.report, 33.0,
                0.0, self.digest,
            )  # fmt: skip
        if isinstance(message, StatusRequest):
            return self.status(message)
        if isinstance(message, AdminRequest):
            self.commands.append(message)
            return self.admin(message)
        return None

    def plain_status(self, message: StatusRequest) -> Message | None:
        self.asked.append(message)
        if self.cut_after is not None and len(self.asked) > self.cut_after:
            return None
        if message.what == "report":
            return StatusReport(message.seq, self.report)
        if self.report.state != "serving":
            return NotServing(message.seq, 3, "no quorum", None, None)
        start = int(message.cursor or 0)
        rows = self.features if message.what == "features" else self.seats
        wanted = [row for row in rows if not message.feature or row.feature == message.feature]
        page = wanted[start : start + PAGE_ROWS]
        cursor = str(start + PAGE_ROWS) if start + PAGE_ROWS < len(wanted) else ""
        features = tuple(row for row in page if isinstance(row, FeatureRow))
        seats = tuple(row for row in page if isinstance(row, SeatRow))
        return StatusPage(message.seq, 3, self.report.rank, features, seats, cursor)


@contextlib.contextmanager
def fake_servers(*states: str, host: str = "127.0.0.1") -> Iterator[list[FakeServer]]:
    """One server, or a triad, with the states given."""
    servers = [FakeServer(host, rank, state) for rank, state in enumerate(states)]
    addresses = tuple(server.address for server in servers)
    for server in servers:
        server.servers = addresses
        others = tuple(other for other in range(len(servers)) if other != server.report.rank)
        server.report = server.report._replace(peers_up=others)
    try:
        yield servers
    finally:
        for server in servers:
            server.close()


def path_of(servers: list[FakeServer]) -> str:
    """The triad as a search path has it."""
    return ",".join(f"{server.address.port}@{server.address.host}" for server in servers)
