"""The fake triad of client_fakes on trio's memory streams: no sockets, and time is the loop's, which a test may make
up (trio.testing.MockClock)."""

from __future__ import annotations

import errno
from typing import Any

import trio
import trio.testing

from flexcore.wire import messages as wire
from flexcore.wire.connection import Connection
from tests.client_fakes import FakeServer, FakeTriad


class MemoryTriad(FakeTriad):
    """``connect`` is what a client is given to connect with. A server that is not *up* refuses, one that is *dark*
    never answers a dial, a *frozen* one takes bytes and says nothing until it is thawed."""

    def __init__(self, nursery: trio.Nursery, *hosts: str, **settings: Any) -> None:
        super().__init__(*(hosts or ("a", "b", "c")), **settings)
        self.nursery = nursery
        self.streams: dict[int, tuple[FakeServer, Any, Connection]] = {}
        self.conns = 0
        self.delay_s = 0.01
        """How long an answer takes."""
        self.ends: list[int] = []
        """Ranks of the servers whose connections the client has ended, in order."""

    @property
    def path(self) -> str:
        return ",".join(f"{address.port}@{address.host}" for address in self.addresses)

    async def connect(self, host: str, port: int) -> Any:
        (server,) = [s for s in self.servers if s.address == wire.ServerAddress(host, port)]
        await trio.sleep(self.delay_s)
        if server.dark:
            await trio.sleep_forever()
        if not server.up:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self.conns += 1
        self.streams[self.conns] = (server, ours, Connection())
        self.nursery.start_soon(self.serve, self.conns)
        return theirs

    async def serve(self, conn: int) -> None:
        server, stream, connection = self.streams[conn]
        try:
            while data := await stream.receive_some():
                connection.receive_data(bytes(data))
                while (message := connection.next_message()) is not None:
                    if server.frozen:
                        server.held_back.append((conn, message))
                    else:
                        await trio.sleep(self.delay_s)
                        if conn in self.streams:
                            await self.say(conn, *server.answer(conn, message))
            self.ends.append(server.rank)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        server.links.pop(conn, None)
        self.streams.pop(conn, None)

    async def say(self, conn: int, *messages: wire.Message) -> None:
        _, stream, connection = self.streams[conn]
        for message in messages:
            await stream.send_all(connection.send(message))

    # --- what tests do ---

    async def kill(self, rank: int) -> None:
        """Its process dies."""
        self.servers[rank].up = False
        for conn in [c for c, (server, _, _) in self.streams.items() if server.rank == rank]:
            _, stream, _ = self.streams.pop(conn)
            self.servers[rank].links.pop(conn, None)
            await stream.aclose()

    async def thaw(self, rank: int) -> None:
        """It answers what it was asked, late."""
        server = self.servers[rank]
        server.frozen = False
        held, server.held_back = server.held_back, []
        for conn, message in held:
            if conn in self.streams:
                await self.say(conn, *server.answer(conn, message))

    async def push(self, rank: int, message: wire.Message) -> None:
        """A server says something unasked, on every connection that has a session."""
        for conn in list(self.servers[rank].links):
            await self.say(conn, message)

    def heard(self, kind: type) -> list[Any]:
        return [message for server in self.servers for message in server.heard if isinstance(message, kind)]
