"""The core without a socket: bytes in, bytes out, against one single server in memory.

Batches are as a busy turn of the loop sees them. What grows with what is outstanding, or with the number of features,
shows here, since nothing else is measured.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import attrs

from flexcore.identity import Rank
from flexcore.licensefile import LicenseFile, parse_license, sign_license
from flexcore.server import LicenseServer, ServerConfig
from flexcore.server.actions import Persist
from flexcore.wire.messages import PROTOCOL_VERSION, ClientHello

from .frames import CHECKED_IN, GRANTED, Asking, Replies, frame_of
from .load import FREE, VENDOR, WrongReply, open_session
from .servers import KEY

SESSION_SEATS = 5_000
WALL = 1e9


def license_file(features: int = 1) -> LicenseFile:
    """A single server's file with seats enough; *features*: so many more names in it."""
    lines = [f"FEATURE {FREE} {VENDOR} 1.0 permanent 10000000"]
    lines += [f"FEATURE x{number} {VENDOR} 1.0 permanent 5" for number in range(features - 1)]
    text = f"SERVER this_host ANY 2837\nVENDOR {VENDOR}\n" + "".join(f"{line}\n" for line in lines)
    return sign_license(parse_license(text), KEY)


class Core:
    """A server that serves, driven by hand, with one client's session."""

    def __init__(self, file: LicenseFile) -> None:
        self.now = 0.0
        self.busy_s = 0.0
        config = ServerConfig(license=file, keys=(KEY.verifying_key,), rank=Rank.PRIMARY, first_start=True)
        if hasattr(config, "in_memory"):  # a tree that this one is compared with may be older
            config = attrs.evolve(config, in_memory=True)
        self.machine = LicenseServer(config, boot_id=b"b" * 16, triad_id=b"t" * 16, now=0.0, wall=WALL)
        self.turn()
        self._asking = Asking(FREE)
        self._conn = 0
        self.use_another_session()

    def use_another_session(self) -> None:
        """Ask on a connection and in a session of their own from here on; others keep what they hold."""
        self._conn += 1
        self.machine.connection_opened(
            self._conn, nonce=b"n" * 16, local=True, remote="127.0.0.1", now=self.now, wall=WALL)  # fmt: skip
        self.request, self._replies = 0, Replies()
        self.ask(frame_of(ClientHello(PROTOCOL_VERSION, "bench", VENDOR, 0)) + frame_of(open_session("bench")))

    def turn(self) -> bytes:
        """End turns until the machine has nothing more to do; what it sends to the client."""
        machine, now = self.machine, self.now
        sent = b""
        again = True
        while again:
            again = False
            machine.end_turn(now=now, wall=WALL)
            for conn, data in machine.data_to_send():
                if conn == self._conn:
                    sent += data
            while (action := machine.next_action()) is not None:
                if isinstance(action, Persist):
                    machine.persisted(action.ticket, now=now, wall=WALL)
                    again = True
        return sent

    def ask(self, data: bytes) -> bytes:
        """One turn with *data*, timed; advances the clock until there is an answer."""
        started = time.perf_counter()
        self.machine.receive_data(self._conn, data, now=self.now, wall=WALL)
        answer = self.turn()
        while not answer:
            due = self.machine.next_timeout()
            assert due is not None, "the server will never answer"
            self.now = max(self.now, due)
            self.machine.handle_timeout(now=self.now, wall=WALL)
            answer = self.turn()
        self.busy_s += time.perf_counter() - started
        return answer

    def checkout(self, count: int) -> list[int]:
        """So many checkouts in one turn; returns the handles."""
        first = self.request + 1
        self.request += count
        asked = b"".join(self._asking.checkout(number) for number in range(first, self.request + 1))
        return self._answers(asked, GRANTED, count)

    def checkin(self, handles: Sequence[int]) -> None:
        """Give them back in one turn."""
        first = self.request + 1
        self.request += len(handles)
        asked = b"".join(self._asking.checkin(first + at, handle) for at, handle in enumerate(handles))
        self._answers(asked, CHECKED_IN, len(handles))

    def _answers(self, asked: bytes, kind: int, count: int) -> list[int]:
        replies = self._replies.take(self.ask(asked))
        if [each[:2] for each in replies] != [(kind, self.request - count + at + 1) for at in range(count)]:
            raise WrongReply(replies[:3])
        return [handle for _, _, handle in replies]


def in_core(seconds: float, batch: int = 64, *, outstanding: int = 0, features: int = 1) -> float:
    """Operations (a checkout or a checkin) a second of the core's own time, *batch* of them a turn.

    With *outstanding*, so many seats are held besides, by sessions of up to 5,000 each; each checkin gives back the
    oldest of its own.
    """
    core = Core(license_file(features))
    held: deque[int] = deque()
    others = outstanding
    while others > SESSION_SEATS:
        for _ in range(SESSION_SEATS // 1000):
            core.checkout(1000)
            core.now += 1e-6
        others -= SESSION_SEATS
        core.use_another_session()
    while len(held) < others:
        held.extend(core.checkout(min(1000, others - len(held))))
        core.now += 1e-6

    def turn() -> None:
        held.extend(core.checkout(batch))
        core.checkin([held.popleft() for _ in range(batch)])
        core.now += 1e-6

    warm = core.request + max(2 * batch, 200)
    while core.request < warm:
        turn()
    core.busy_s = 0.0
    first, until = core.request, time.perf_counter() + seconds
    while time.perf_counter() < until:
        turn()
    return (core.request - first) / core.busy_s
