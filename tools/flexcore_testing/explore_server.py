"""One server of an exploration: the real quorum machine and desk, their disk, and what one event makes of them.

A :class:`Server` is a value: :func:`step` copies it, hands the event to the copy, lets the copy's turn run to its end,
and gives back the copy with what it wants of the outside. The disk answers within the turn unless the scope says that
this server's disk is slow.

Three things are other than in life, so that states that differ by nothing that matters are one state: wall clocks stand
still, round trips count as zero, and a heartbeat does not say when it was sent.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

import attrs

from flexcore.checkout.machine import CheckoutMachine
from flexcore.checkout.rights import Rights
from flexcore.errors import FlexcoreError
from flexcore.identity import Rank
from flexcore.override import override
from flexcore.quorum import (
    CloseLink,
    DialPeer,
    Halt,
    Persist,
    PersistBatch,
    Persisted,
    QuorumConfig,
    QuorumMachine,
    SendFrame,
    StartServing,
    StopServing,
)
from flexcore.quorum.events import QuorumAction, QuorumEvent
from flexcore.quorum.links import Peer
from flexcore.server.config import ServerConfig
from flexcore.server.connections import CLIENT, ServerConnection
from flexcore.server.desk import ClientDesk
from flexcore.server.outbox import Outbox
from flexcore.server.setup import make_server_rights
from flexcore.wire.messages import (
    Beat,
    BeatReply,
    Checkin,
    Checkout,
    EntryRow,
    Heartbeat,
    Message,
    OpenSession,
    PeerFrame,
)
from flexcore_testing.disk import Disk
from flexcore_testing.licences import HOSTIDS, signed, test_key, triad_text

WALL = 1_764_000_000.0
START_AT = 1000.0
TURNS_MAX = 50
"""A machine that wants another turn so often without an event is broken."""

DIGEST_BYTES = 16


class ExploredMachine(QuorumMachine):
    """The machine as it is, but for two clocks that would make every state a new one."""

    @override
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock_gap = 0.0

    @override
    def _tick(self, now: float, wall: float) -> None:
        """Wall clocks stand still, so nobody seems to have been suspended (rule 23)."""
        assert now >= self.now
        self.now = now
        self.wall = wall

    @override
    def _measure(self, peer: Peer, sample_s: float) -> None:
        """Round trips count as zero: waits that are made of them are one second."""


@attrs.frozen(kw_only=True)
class Setting:
    """What all three servers are told, and how their disks are."""

    interval_s: int = 20
    primary_is_master: bool = False
    slow_disks: frozenset[Rank] = frozenset()
    """Servers whose writes are finished by an event of their own."""

    def quorum(self, rank: Rank, *, first_start: bool) -> QuorumConfig:
        """What the quorum machine of *rank* is told."""
        return QuorumConfig(
            rank=rank,
            triad=True,
            heartbeat_interval_s=self.interval_s,
            primary_is_master=self.primary_is_master,
            vendor="demo",
            membership_digest=b"m" * 32,
            hostids=HOSTIDS,
            rights_digest=rights_of(self).digest,
            software="explored",
            first_start=first_start,
        )


@functools.cache
def server_config(setting: Setting, rank: Rank) -> ServerConfig:
    """The configuration of one server: one seat of f1."""
    text = triad_text({"f1": 1}, interval_s=setting.interval_s, primary_is_master=setting.primary_is_master)
    return ServerConfig(license=signed(text), keys=(test_key(),), rank=rank)


@functools.cache
def rights_of(setting: Setting) -> Rights:
    """What the licence file gives to clients."""
    return make_server_rights(server_config(setting, Rank.PRIMARY))


class Wanted(NamedTuple):
    """What a server wants of the outside after an event, in order."""

    what: str
    """send, close, dial, told."""
    link: int
    """The link; for a dial the rank, for 'told' the client's connection."""
    message: Message | None


class Server:
    """A process (or none) and its disk. Never changed once :func:`step` has returned it."""

    __slots__ = ("boots", "connections", "desk", "disk", "halted", "machine", "outbox", "pending", "rank", "setting")

    def __init__(self, setting: Setting, rank: Rank) -> None:
        self.setting = setting
        self.rank = rank
        self.boots = 0
        self.disk = Disk()
        self._no_process()

    def _no_process(self) -> None:
        self.machine: ExploredMachine | None = None
        self.desk: ClientDesk | None = None
        self.outbox = Outbox()
        self.connections: dict[int, ServerConnection] = {}
        self.pending: Persist | None = None
        self.halted = ""

    @property
    def quorum(self) -> ExploredMachine:
        """The machine of a server that is up."""
        assert self.machine is not None
        return self.machine

    @property
    def now(self) -> float:
        """This representative's own clock: only distances count."""
        return self.machine.now if self.machine is not None else START_AT

    def twin(self) -> Server:
        """A copy that shares nothing that changes."""
        twin = object.__new__(Server)
        twin.setting, twin.rank, twin.boots = self.setting, self.rank, self.boots
        twin.disk = copy.copy(self.disk)
        twin.disk.rows = list(self.disk.rows)
        twin.pending, twin.halted = self.pending, self.halted
        twin.outbox = self.outbox.copy()
        twin.connections = {conn: each.copy() for conn, each in self.connections.items()}
        twin.machine = twin.desk = None
        if self.machine is not None:
            machine = self.machine.copy()
            assert isinstance(machine, ExploredMachine)
            twin.machine = machine
            if self.desk is not None:
                twin.desk = self.desk.copy(machine, twin.outbox, twin.connections)
        return twin

    def digest(self) -> bytes:
        """Equal for two servers with the same future."""
        disk = (self.disk.hard, self.disk.snapshot, self.disk.first, tuple(self.disk.rows))
        facts: tuple[object, ...] = (int(self.rank), self.boots, self.halted, disk)
        if self.machine is not None:
            assert self.desk is not None
            now = self.machine.now
            facts += (
                self.machine.fingerprint(now),
                self.desk.fingerprint(now),
                tuple([each.fingerprint(each.quiet_since) for _, each in sorted(self.connections.items())]),
                self.pending,
            )
        return blake2b(repr(facts).encode(), digest_size=DIGEST_BYTES).digest()

    # --- a process ---------------------------------------------------------------------------------------------------

    def start(self, *, first_start: bool = False) -> None:
        """A new process on this disk."""
        assert self.machine is None
        self.halted = ""
        self.boots += 1
        mark = b"%d.%d" % (self.rank, self.boots)
        machine = ExploredMachine(
            self.setting.quorum(self.rank, first_start=first_start),
            stored=self.disk.load(),
            boot_id=mark.rjust(16, b"b"),
            triad_id=mark.rjust(16, b"t"),
            now=START_AT,
            wall=WALL,
        )
        self.machine = machine
        self.desk = ClientDesk(
            server_config(self.setting, self.rank),
            machine,
            CheckoutMachine(rights_of(self.setting)),
            self.outbox,
            self.connections,
        )

    def crash(self) -> None:
        """The process is gone; what was not durable is lost."""
        self._no_process()

    def lose_disk(self) -> None:
        """The disk is replaced by an empty one."""
        self.disk = Disk()

    def tell(self, event: QuorumEvent) -> None:
        """Something happened."""
        self.quorum.receive_event(event, now=self.now, wall=WALL)

    def pass_time(self, seconds: float) -> None:
        """The process wakes up *seconds* later."""
        now = self.now + seconds
        self.quorum.handle_timeout(now=now, wall=WALL)
        assert self.desk is not None
        if self._may_decide():
            self.desk.end_due_leases(now=now, wall=WALL)

    def _may_decide(self) -> bool:
        machine = self.quorum
        return machine.serving and machine.accepting and machine.may_answer(machine.now)

    def attends(self) -> bool:
        """Whether a client's request would be decided now."""
        return self.machine is not None and self._may_decide()

    def open_session(self, client: int, session: bytes) -> None:
        """A client opens its session."""
        assert self.desk is not None
        connection = ServerConnection(client, CLIENT, nonce=b"", local=False, remote="", now=self.now)
        self.connections[client] = connection
        message = OpenSession(1, session, b"s" * 16, "user", "host", "", "", 1, True, 0)
        self.desk.handle(connection, message, at=self.now, now=self.now, wall=WALL)

    def request(self, client: int, session: bytes, message: Checkout | Checkin | Heartbeat) -> None:
        """A client asks on its connection; it has proved its session in this reign."""
        assert self.desk is not None
        connection = self.connections.get(client)
        if connection is None:
            connection = ServerConnection(client, CLIENT, nonce=b"", local=False, remote="", now=self.now)
            self.connections[client] = connection
        self.desk._bind(connection, session)
        self.desk.handle(connection, message, at=self.now, now=self.now, wall=WALL)

    def write(self) -> None:
        """The outstanding Persist becomes durable."""
        assert self.pending is not None
        pending, self.pending = self.pending, None
        self.disk.write(pending.batch)
        self.tell(Persisted(ticket=pending.ticket))

    # --- the turn ----------------------------------------------------------------------------------------------------

    def settle(self) -> list[Wanted]:
        """Run the turn to its end: due timers, replication, disk, answers."""
        wanted: list[Wanted] = []
        for _ in range(TURNS_MAX):
            if self.machine is None:
                return wanted
            machine, desk = self.machine, self.desk
            assert desk is not None
            machine.end_turn(now=machine.now, wall=WALL)
            again = self._perform(wanted)
            if machine.serving and machine.may_answer(machine.now):
                desk.release()
            self._take_answers(wanted)
            due = machine.next_timeout()
            if due is not None and due <= machine.now:
                machine.handle_timeout(now=machine.now, wall=WALL)
                again = True
            if not again:
                return wanted
        raise FlexcoreError(f"the {self.rank.word} never comes to rest")

    def _perform(self, wanted: list[Wanted]) -> bool:
        """Do what is ours; True: another turn is needed."""
        again = False
        while self.machine is not None and (action := self.machine.next_action()) is not None:
            again = self._do(action, wanted) or again
        return again

    def _do(self, action: QuorumAction, wanted: list[Wanted]) -> bool:
        assert self.desk is not None
        if isinstance(action, SendFrame):
            wanted.append(Wanted("send", action.link, _timeless(action.frame)))
        elif isinstance(action, Persist):
            assert self.pending is None
            self.pending = action
            if self.rank not in self.setting.slow_disks:
                self.write()
                return True
        elif isinstance(action, DialPeer):
            wanted.append(Wanted("dial", int(action.peer), None))
        elif isinstance(action, CloseLink):
            wanted.append(Wanted("close", action.link, None))
        elif isinstance(action, StartServing):
            self.desk.start(action.term, now=self.now)
        elif isinstance(action, StopServing):
            self.desk.stop()
            self.connections.clear()
        elif isinstance(action, Halt):
            self._no_process()
            self.halted = action.reason
        return False

    def _take_answers(self, wanted: list[Wanted]) -> None:
        messages, self.outbox.messages = self.outbox.messages, []
        wanted += [Wanted("told", conn, message) for conn, message in messages]
        self.outbox.actions.clear()


def _timeless(frame: PeerFrame) -> PeerFrame:
    """A heartbeat without the instant at which it was sent: it serves to measure the round trip only."""
    if isinstance(frame.body, Beat):
        return frame._replace(body=Beat(0))
    if isinstance(frame.body, BeatReply):
        return frame._replace(body=BeatReply(0))
    return frame


def step(server: Server, event: Callable[[Server], None]) -> tuple[Server, list[Wanted]]:
    """*server* after *event*, and what it wants then."""
    twin = server.twin()
    event(twin)
    return twin, twin.settle()


def rows_of(server: Server) -> tuple[EntryRow, ...]:
    """The log that a server holds in memory, or on its disk if it is down."""
    if server.machine is None:
        return tuple(server.disk.rows)
    return server.machine.ledger.rows(1, 1 << 40)


def batch_of(server: Server) -> PersistBatch | None:
    """What is on its way to the disk."""
    return server.pending.batch if server.pending is not None else None
