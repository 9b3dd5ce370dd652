"""What is measured: checkouts and checkins against one single server, in memory, with nothing of a disk in it.

``in_core``: bytes in, bytes out, no socket: batches as a busy turn of the loop sees them. ``over_trio``: the real
server process and one client that waits for each answer; this is what the floor is for.
"""

from __future__ import annotations

import socket
import time

from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import LicenseFile, parse_license, sign_license
from flexcore.server import LicenseServer, ServerConfig
from flexcore.server.actions import Persist
from flexcore.wire.connection import Connection
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    CheckedIn,
    Checkin,
    Checkout,
    ClientHello,
    Granted,
    Message,
    OpenSession,
    ServerHello,
    SessionReply,
)

from .floor import child, rate

KEY = SigningKey.from_text("flexcore-secret-key demo ed25519 " + "01".zfill(64))
SERVER = """
import sys, trio
from benchmarks.checkout import config
from flexcore_trio import MemoryStore, serve
async def main():
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    sock = __import__("socket").socket(fileno=listener.detach())
    sock.setblocking(False)
    port = sock.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve(config(), store=MemoryStore(), listeners=[sock], log=lambda *_: None))
        print(port, flush=True)
trio.run(main)
"""


def license_file() -> LicenseFile:
    """A single server's file with seats enough."""
    text = "SERVER this_host ANY 2837\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 100000\n"
    return sign_license(parse_license(text), KEY)


def config() -> ServerConfig:
    """A server that serves at once."""
    return ServerConfig(license=license_file(), keys=(KEY.verifying_key,), rank=Rank.PRIMARY, first_start=True)


class Talk:
    """One session's side of the conversation, numbers and all."""

    def __init__(self) -> None:
        self.wire = Connection()
        self.request = 0

    def hello(self) -> bytes:
        """The first two messages."""
        return self.wire.send(
            ClientHello(protocol=PROTOCOL_VERSION, software="bench", vendor="demo", term_seen=0)
        ) + self.wire.send(
            OpenSession(
                seq=1, session=b"s" * 16, secret=b"k" * 32, user="bench", host="bench", display="bench",
                project="", pid=1, trusted_end=True, term_seen=0,
            )
        )  # fmt: skip

    def checkout(self) -> bytes:
        """The next checkout."""
        self.request += 1
        return self.wire.send(
            Checkout(
                seq=self.request + 1, request=self.request, answered=self.request - 1, feature="f1",
                version="1.0", count=1, term_seen=0,
            )
        )  # fmt: skip

    def checkin(self, handle: int) -> bytes:
        """Give *handle* back."""
        self.request += 1
        return self.wire.send(
            Checkin(
                seq=self.request + 1, request=self.request, answered=self.request - 1, handle=handle, term_seen=0
            )
        )  # fmt: skip

    def read(self, data: bytes) -> list[Message]:
        """The messages in *data*."""
        self.wire.receive_data(data)
        messages = []
        while (message := self.wire.next_message()) is not None:
            messages.append(message)
        return messages


class Core:
    """The core without a socket: an answer to each batch of bytes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy_s = 0.0
        self.machine = LicenseServer(config(), boot_id=b"b" * 16, triad_id=b"t" * 16, now=0.0, wall=1e9)
        self.turn()
        self.machine.connection_opened(1, nonce=b"n" * 16, local=True, remote="127.0.0.1", now=self.now, wall=1e9)

    def turn(self) -> bytes:
        """End turns until the machine has nothing more to do; what it sends to connection 1."""
        sent = b""
        again = True
        while again:
            again = False
            self.machine.end_turn(now=self.now, wall=1e9)
            sent += b"".join(data for conn, data in self.machine.data_to_send() if conn == 1)
            while (action := self.machine.next_action()) is not None:
                if isinstance(action, Persist):
                    self.machine.persisted(action.ticket, now=self.now, wall=1e9)
                    again = True
        return sent

    def ask(self, data: bytes) -> bytes:
        """One turn with *data*, timed; advances the clock until there is an answer."""
        started = time.perf_counter()
        self.machine.receive_data(1, data, now=self.now, wall=1e9)
        answer = self.turn()
        while not answer:
            due = self.machine.next_timeout()
            assert due is not None, "the server will never answer"
            self.now = max(self.now, due)
            self.machine.handle_timeout(now=self.now, wall=1e9)
            answer = self.turn()
        self.busy_s += time.perf_counter() - started
        return answer


def in_core(seconds: float, batch: int = 64) -> float:
    """Operations (a checkout or a checkin) a second of the core's own time, *batch* of them a turn."""
    core, talk = Core(), Talk()
    opened = talk.read(core.ask(talk.hello()))
    while not any(isinstance(message, SessionReply) for message in opened):
        opened += talk.read(core.ask(b""))

    def turn() -> None:
        granted = talk.read(core.ask(b"".join(talk.checkout() for _ in range(batch))))
        handles = [message.handle for message in granted if isinstance(message, Granted)]
        returned = talk.read(core.ask(b"".join(talk.checkin(handle) for handle in handles)))
        assert len(returned) == batch
        core.now += 1e-6

    rate(turn, seconds / 10)
    core.busy_s = 0.0
    first = talk.request
    rate(turn, seconds)
    return (talk.request - first) / core.busy_s


def over_trio(seconds: float) -> float:
    """Operations a second against a freshly launched server, one connection, one at a time."""
    with child(SERVER) as port, connected(int(port)) as client:
        client.settimeout(30.0)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        talk = Talk()
        client.sendall(talk.hello())
        seen: list[Message] = []
        while not any(isinstance(message, SessionReply) for message in seen):
            seen += talk.read(client.recv(65536))
        assert isinstance(seen[0], ServerHello)

        def ask(data: bytes) -> Message:
            client.sendall(data)
            answers = talk.read(client.recv(65536))
            while not answers:
                answers = talk.read(client.recv(65536))
            return answers[0]

        def turn() -> None:
            granted = ask(talk.checkout())
            assert isinstance(granted, Granted), granted
            returned = ask(talk.checkin(granted.handle))
            assert isinstance(returned, CheckedIn), returned

        return rate(turn, seconds, 2)


def connected(port: int) -> socket.socket:
    """A connection to a server that is just starting."""
    until = time.monotonic() + 10.0
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1.0)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
