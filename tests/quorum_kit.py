"""Real quorum machines on a clock, links and disks that a test moves by hand.

:class:`Triad` joins three machines: frames arrive at once, unless the test holds, cuts or drops them.
:class:`Alone` is one machine whose peers are the test: it writes their frames, in any order, and reads
what the machine sends.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from flexcore.identity import NO_LAST, Boot, Endpoint, Last, Rank
from flexcore.ledger.commands import Command, Formed, Rights, SessionOpened, TermStarted
from flexcore.quorum import (
    CloseLink,
    DialFailed,
    DialPeer,
    Halt,
    HardState,
    LinkEnded,
    Notice,
    PeerConnected,
    PeerFrameReceived,
    Persist,
    Persisted,
    PersistFailed,
    QuorumConfig,
    QuorumMachine,
    SendFrame,
    StartServing,
    StopRequested,
    StopServing,
    StoredState,
)
from flexcore.quorum.events import QuorumEvent
from flexcore.wire.codec import encode_command
from flexcore.wire.messages import Append, Beat, BeatReply, EntryRow, Hello, PeerBody, PeerFrame
from flexcore_testing.disk import Disk

P, S, T = Rank.PRIMARY, Rank.SECONDARY, Rank.TERTIARY
TO = 79.0  # HEARTBEAT_INTERVAL=20
WALL = 1_764_000_000.0
MEMBERS = ("17003456", "17004355", "17007ea8")
RIGHTS = b"r" * 32
TURNS_MAX = 100_000

BodyT = TypeVar("BodyT", bound=PeerBody)


def config(rank: Rank, **changes: Any) -> QuorumConfig:
    facts: dict[str, Any] = {
        "rank": rank,
        "triad": True,
        "vendor": "sampled",
        "membership_digest": b"m" * 32,
        "hostids": MEMBERS,
        "rights_digest": RIGHTS,
        "software": "test",
    }
    return QuorumConfig(**(facts | changes))


def session(number: int, *, user: str = "user") -> Command:
    """An entry of a client, told from others by *number*."""
    return SessionOpened(number.to_bytes(16, "big"), b"s" * 32, user, "host", "", "", 1, 109.0, True)


def row(term: int, command: Command, *, stamp: float = WALL) -> EntryRow:
    return EntryRow(term, stamp, encode_command(command))


class Server:
    """One machine's process: its disk survives it."""

    def __init__(self, triad: Triad, rank: Rank, disk: Disk) -> None:
        self.triad = triad
        self.rank = rank
        self.disk = disk
        self.machine: QuorumMachine = None  # type: ignore[assignment]  # set by start()
        self.alive = False
        self.paused = False
        self.disk_waits = False
        """The test completes Persists by hand (:meth:`write`)."""
        self.pending: Persist | None = None
        self.notices: list[Notice] = []
        self.actions: list[Any] = []
        self.halt: Halt | None = None
        self.serving: int | None = None
        self.stopped: list[StopServing] = []

    def serves(self) -> bool:
        return self.alive and self.machine.may_serve(self.triad.now)

    def write(self) -> None:
        """The outstanding Persist becomes durable."""
        assert self.pending is not None
        pending, self.pending = self.pending, None
        self.disk.write(pending.batch)
        self.triad.event(self, Persisted(ticket=pending.ticket))

    def said(self, kind: str) -> list[str]:
        return [each.text for each in self.notices if each.kind == kind]


class Triad:
    """Three servers; :attr:`now` is everybody's clock."""

    def __init__(self, **changes: Any) -> None:
        self.now = 1000.0
        self.wall_ahead = WALL
        self.changes: dict[Rank, dict[str, Any]] = {rank: dict(changes) for rank in Rank}
        self.servers = {rank: Server(self, rank, Disk()) for rank in Rank}
        self._boots = 0
        self._links = 0
        self.ends: dict[tuple[Server, int], tuple[Server, int]] = {}
        self.silent: set[tuple[Rank, Rank]] = set()
        """Directions in which nothing arrives; a dial that needs one times out."""
        self.closed: set[Rank] = set()
        """Alive, but a dial is refused all the same (false evidence)."""
        self.moved: set[Rank] = set()
        """Alive, and listening elsewhere than the others' file says: every dial is refused, whatever is cut."""
        self.filter: Callable[[Rank, Rank, PeerFrame], bool] = lambda _from, _to, _frame: True
        self.held: dict[tuple[Rank, Rank], list[tuple[Server, int, PeerFrame]]] = {}
        self._queue: deque[tuple[Server, QuorumEvent]] = deque()
        self._later: list[tuple[float, int, Server, QuorumEvent]] = []
        self.sent: list[tuple[Rank, Rank, PeerFrame]] = []

    def __getitem__(self, rank: Rank) -> Server:
        return self.servers[rank]

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, *ranks: Rank) -> None:
        for rank in ranks:
            old = self.servers[rank]
            assert not old.alive
            server = self.servers[rank] = Server(self, rank, old.disk)
            server.notices = old.notices
            self._boots += 1
            number = self._boots.to_bytes(8, "big")
            server.machine = QuorumMachine(
                config(rank, **self.changes[rank]),
                stored=old.disk.load(),
                boot_id=b"boot-id:" + number,
                triad_id=b"triadid:" + number,
                now=self.now,
                wall=self.wall,
            )
            server.alive = True
            self._turn(server)
        self._settle()

    def kill(self, *ranks: Rank) -> None:
        """kill -9: all its connections end."""
        for rank in ranks:
            server = self.servers[rank]
            server.alive = False
            for (one, number), (other, theirs) in list(self.ends.items()):
                if one is server:
                    self._unlink(one, number)
                    if (other.rank, one.rank) not in self.silent and (one.rank, other.rank) not in self.silent:
                        self._queue.append((other, LinkEnded(link=theirs)))
        self._settle()

    def power_off(self, rank: Rank) -> None:
        """Nothing says that it is gone."""
        self.cut_off(rank)
        self.servers[rank].alive = False

    def stop(self, rank: Rank, scope: str = "one") -> None:
        self.event(self.servers[rank], StopRequested(scope=scope, requested_by="test"))

    # --- the network -------------------------------------------------------------------------------------------------

    def cut(self, one: Rank, other: Rank) -> None:
        self.silent |= {(one, other), (other, one)}

    def cut_off(self, rank: Rank) -> None:
        for other in Rank:
            if other is not rank:
                self.cut(rank, other)

    def heal(self) -> None:
        self.silent.clear()

    def hold(self, sender: Rank, to: Rank) -> None:
        """Keep what *sender* sends *to* until it is let go."""
        self.held.setdefault((sender, to), [])

    def let_go(self, sender: Rank, to: Rank) -> None:
        for server, link, frame in self.held.pop((sender, to)):
            self._queue.append((server, PeerFrameReceived(link=link, frame=frame)))
        self._settle()

    def break_links(self, one: Rank, other: Rank) -> None:
        """The connections of these two end, and both learn it."""
        for (server, number), (far, theirs) in list(self.ends.items()):
            if {server.rank, far.rank} == {one, other} and (server, number) in self.ends:
                self._unlink(server, number)
                self._queue.append((server, LinkEnded(link=number)))
                self._queue.append((far, LinkEnded(link=theirs)))
        self._settle()

    def _unlink(self, server: Server, number: int) -> None:
        other = self.ends.pop((server, number), None)
        if other is not None:
            self.ends.pop(other, None)

    def _dial(self, server: Server, to: Rank) -> None:
        target = self.servers[to]
        if to in self.moved:
            self._queue.append((server, DialFailed(peer=to, refused=True)))
        elif (server.rank, to) in self.silent or (to, server.rank) in self.silent:
            failed = DialFailed(peer=to, refused=False, error="timed out")
            self._later.append((self.now + 3.0, len(self._later), server, failed))
            heapq.heapify(self._later)
        elif not target.alive or target.halt is not None or to in self.closed:
            self._queue.append((server, DialFailed(peer=to, refused=True)))
        else:
            self._links += 2
            here, there = (server, self._links - 1), (target, self._links)
            self.ends[here], self.ends[there] = there, here
            self._queue.append((server, PeerConnected(link=here[1], peer=to)))

    def _send(self, server: Server, link: int, frame: PeerFrame) -> None:
        far = self.ends.get((server, link))
        if far is None:
            return
        way = (server.rank, far[0].rank)
        self.sent.append((*way, frame))
        if way in self.silent or not self.filter(*way, frame):
            return
        if way in self.held:
            self.held[way].append((far[0], far[1], frame))
        else:
            self._queue.append((far[0], PeerFrameReceived(link=far[1], frame=frame)))

    # --- time --------------------------------------------------------------------------------------------------------

    @property
    def wall(self) -> float:
        return self.now + self.wall_ahead

    def run(self, seconds: float) -> None:
        """Let time pass; every timer fires when it is due."""
        until = self.now + seconds
        for _ in range(TURNS_MAX):
            self._settle()
            due = min([until, *self._timers()])
            if due >= until:
                break
            self.now = max(self.now, due)
            self._fire()
        else:
            raise AssertionError("timers stay due for ever")
        self.now = until
        self._fire()
        self._settle()

    def run_until(self, true: Callable[[], bool], *, at_most: float) -> float:
        """Let time pass until *true*; gives the seconds that it took."""
        began = self.now
        while not true():
            self._settle()
            if true():
                break
            due = min([began + at_most, *self._timers()])
            assert due < began + at_most, "it never became true"
            self.now = max(self.now, due)
            self._fire()
        return self.now - began

    def _timers(self) -> Iterator[float]:
        for server in self.servers.values():
            if server.alive and server.halt is None and not server.paused:
                due = server.machine.next_timeout()
                if due is not None:
                    yield due
        if self._later:
            yield self._later[0][0]

    def _fire(self) -> None:
        while self._later and self._later[0][0] <= self.now:
            _, _, server, event = heapq.heappop(self._later)
            self._queue.append((server, event))
        for server in self.servers.values():
            if server.alive and server.halt is None and not server.paused:
                due = server.machine.next_timeout()
                if due is not None and due <= self.now:
                    server.machine.handle_timeout(now=self.now, wall=self.wall)
                    self._turn(server)

    def event(self, server: Server, event: QuorumEvent) -> None:
        self._queue.append((server, event))
        self._settle()

    def end_turn(self, rank: Rank) -> None:
        """After the test itself called the machine (propose, request_round)."""
        self._turn(self.servers[rank])
        self._settle()

    def propose(self, rank: Rank, command: Command) -> int:
        index = self.servers[rank].machine.propose(command, now=self.now, wall=self.wall)
        self.end_turn(rank)
        return index

    def _settle(self) -> None:
        waiting: list[tuple[Server, QuorumEvent]] = []
        for _ in range(TURNS_MAX):
            if not self._queue:
                break
            server, event = self._queue.popleft()
            if not server.alive:
                continue
            if server.paused:
                waiting.append((server, event))
                continue
            server.machine.receive_event(event, now=self.now, wall=self.wall)
            self._turn(server)
        else:
            raise AssertionError("messages go round for ever")
        self._queue.extend(waiting)

    def _turn(self, server: Server) -> None:
        machine = server.machine
        machine.end_turn(now=self.now, wall=self.wall)
        while (action := machine.next_action()) is not None:
            server.actions.append(action)
            if isinstance(action, SendFrame):
                self._send(server, action.link, action.frame)
            elif isinstance(action, DialPeer):
                self._dial(server, action.peer)
            elif isinstance(action, Persist):
                assert server.pending is None
                server.pending = action
                if not server.disk_waits:
                    server.pending = None
                    server.disk.write(action.batch)
                    self._queue.append((server, Persisted(ticket=action.ticket)))
            elif isinstance(action, CloseLink):
                far = self.ends.get((server, action.link))
                self._unlink(server, action.link)
                if far is not None and (server.rank, far[0].rank) not in self.silent:
                    self._queue.append((far[0], LinkEnded(link=far[1])))
            elif isinstance(action, Notice):
                server.notices.append(action)
            elif isinstance(action, StartServing):
                server.serving = action.term
            elif isinstance(action, StopServing):
                server.serving = None
                server.stopped.append(action)
            elif isinstance(action, Halt):
                server.halt = action
                self.kill(server.rank)

    # --- questions ---------------------------------------------------------------------------------------------------

    @property
    def master(self) -> Rank | None:
        """Who serves. I2 stands in every test: at most one does."""
        serving = [server.rank for server in self.servers.values() if server.serves()]
        assert len(serving) <= 1, f"two masters: {serving}"
        return serving[0] if serving else None

    def members(self) -> set[Rank]:
        return {server.rank for server in self.servers.values() if server.alive and server.machine.hard.member}

    def logs(self) -> set[Last]:
        return {server.machine.ledger.last for server in self.servers.values() if server.alive}

    def commands(self, rank: Rank) -> list[bytes]:
        return [each.payload for each in self.servers[rank].machine.ledger.rows(1, 1 << 30)]


def formed(*, master: Rank = P, **changes: Any) -> Triad:
    """Three members; *master* serves. Started so long ago that no promise of the start is in force."""
    triad = Triad(first_start=True, **changes)
    first, second = (P, S) if master is P else (S, P)
    if master is P:
        triad.start(first, second, T)
    else:
        triad.start(S, T)
        triad.run(3.0)
        triad.start(P)
    triad.run(5.0)
    for rank in Rank:
        triad.changes[rank]["first_start"] = False
    assert triad.members() == {P, S, T}
    assert triad.master is master
    triad.run(100.0)
    assert triad.master is master
    return triad


def settled_state(rank: Rank, *, term: int = 5, rows: int = 3, **changes: Any) -> StoredState:
    """What a member's disk holds after an ordinary life: one term's first entry and some sessions."""
    entries = [
        row(1, Formed(b"triad-id--------", 0, b"m" * 32)),
        row(1, TermStarted(0, TO, TO + 30)),
        row(1, Rights(RIGHTS)),
        *(row(1, session(1000 + number)) for number in range(rows)),
    ]
    facts: dict[str, Any] = {
        "triad_id": b"triad-id--------",
        "member": True,
        "counter": 3,
        "term": term,
        "hostids": MEMBERS,
    }
    hard = HardState(**(facts | changes))
    return StoredState(hard=hard.encode(), entries=tuple(entries))


class Alone:
    """One machine; the test is both its peers and its disk (which answers at once, unless ``disk_waits``)."""

    def __init__(
        self, rank: Rank = S, stored: StoredState | None = None, *, disk_waits: bool = False, now: float = 1000.0,
        **changes: Any,
    ) -> None:  # fmt: skip
        self.now = now
        self.wall_ahead = WALL
        self.rank = rank
        self.config = config(rank, **changes)
        self.boots: dict[Rank, Boot] = {}
        self.disk_waits = disk_waits
        self.pending: Persist | None = None
        self.batches: list[Any] = []
        self.sent: list[tuple[Rank, PeerFrame]] = []
        self.dials: list[Rank] = []
        self.actions: list[Any] = []
        self.outs: dict[Rank, int] = {}
        self.ins: dict[Rank, int] = {}
        self._beaten: list[tuple[Rank, Beat]] = []
        self._link = 0
        self.triad_id = b"triad-id--------"
        self.halt: Halt | None = None
        self.machine = QuorumMachine(
            self.config, stored=stored, boot_id=b"my-own-boot-----", triad_id=b"fresh-triad-----",
            now=self.now, wall=self.wall,
        )  # fmt: skip
        self.run(0.0)

    @property
    def wall(self) -> float:
        return self.now + self.wall_ahead

    @property
    def me(self) -> Endpoint:
        return self.machine.me

    def end(self, rank: Rank) -> Endpoint:
        return Endpoint(int(rank), self.boots[rank])

    # --- driving -----------------------------------------------------------------------------------------------------

    def event(self, event: QuorumEvent) -> None:
        self.machine.receive_event(event, now=self.now, wall=self.wall)
        self.turn()

    def turn(self) -> None:
        while True:
            self.machine.end_turn(now=self.now, wall=self.wall)
            ticket = self._perform()
            if ticket is None:
                break
            self.machine.receive_event(Persisted(ticket=ticket), now=self.now, wall=self.wall)
        while self._beaten:
            peer, beat = self._beaten.pop()
            if peer in self.outs:
                self.reply(peer, BeatReply(beat.sent), term=0)

    def _perform(self) -> int | None:
        done = None
        while (action := self.machine.next_action()) is not None:
            self.actions.append(action)
            if isinstance(action, SendFrame):
                peer = next(
                    rank for links in (self.outs, self.ins) for rank, link in links.items() if link == action.link
                )
                self.sent.append((peer, action.frame))
                if isinstance(action.frame.body, Beat):
                    self._beaten.append((peer, action.frame.body))  # a peer that is connected is heard
            elif isinstance(action, DialPeer):
                self.dials.append(action.peer)
            elif isinstance(action, Persist):
                self.pending = action
                self.batches.append(action.batch)
                if not self.disk_waits:
                    self.pending, done = None, action.ticket
            elif isinstance(action, Halt):
                self.halt = action
        return done

    def write(self) -> None:
        """The outstanding Persist is durable."""
        assert self.pending is not None
        ticket, self.pending = self.pending.ticket, None
        self.event(Persisted(ticket=ticket))

    def fail_disk(self) -> None:
        assert self.pending is not None
        self.event(PersistFailed(ticket=self.pending.ticket, error="no space left"))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(TURNS_MAX):
            due = self.machine.next_timeout()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.machine.handle_timeout(now=self.now, wall=self.wall)
            self.turn()
        else:
            raise AssertionError("a timer stays due for ever")
        self.now = until
        self.machine.handle_timeout(now=self.now, wall=self.wall)
        self.turn()

    # --- being the peers ---------------------------------------------------------------------------------------------

    def hello(self, rank: Rank, *, nonce: bytes = b"nonce", echo: bytes = b"", **changes: Any) -> Hello:
        facts: dict[str, Any] = {
            "nonce": nonce, "echo": echo, "last": NO_LAST, "durable_last": NO_LAST, "seen_of_you": None,
            "promised_to": None, "member": True, "has_state": True, "only_formed": False,
            "committed_triad": self.triad_id, "uptime_s": 5.0, "protocol": 1, "software": "test", "vendor": "sampled",
            "membership_digest": b"m" * 32, "hostids": MEMBERS, "rights_digest": RIGHTS, "committed_rights": RIGHTS,
            "primary_is_master": False, "timeout_s": TO, "longest_timeout_s": TO, "wall": WALL, "serving": False,
            "forming_at_s": None, "first_start": False,
        }  # fmt: skip
        return Hello(**(facts | changes))

    def dialled(self, rank: Rank, *, boot: Boot | None = None, term: int = 0, **hello: Any) -> int:
        """The machine's dial succeeds and its greeting is answered by *boot*."""
        assert rank in self.dials
        self.dials.remove(rank)
        self._link += 1
        self.outs[rank] = link = self._link
        self.boots[rank] = boot or self.boots.get(rank) or Boot(1, b"boot of " + rank.word[:8].encode())
        self.event(PeerConnected(link=link, peer=rank))
        greeting = self.last_sent(rank, Hello)
        self.reply(rank, self.hello(rank, echo=greeting.nonce, **hello), term=term, triad_id=b"")
        return link

    def accepted(self, rank: Rank, *, boot: Boot | None = None, **hello: Any) -> int:
        """*rank* dials the machine and greets."""
        self._link += 1
        self.ins[rank] = link = self._link
        self.boots[rank] = boot or self.boots.get(rank) or Boot(1, b"boot of " + rank.word[:8].encode())
        self.request(rank, self.hello(rank, **hello), term=0, triad_id=b"")
        return link

    def connect(self, *ranks: Rank, **hello: Any) -> None:
        for rank in ranks:
            self.dialled(rank, **hello)
            self.accepted(rank, **hello)

    def lose(self, rank: Rank) -> None:
        """Both connections with *rank* end."""
        for links in (self.outs, self.ins):
            if rank in links:
                self.event(LinkEnded(link=links.pop(rank)))

    def refuse(self, rank: Rank) -> None:
        """The machine's dial is refused."""
        assert rank in self.dials
        self.dials.remove(rank)
        self.event(DialFailed(peer=rank, refused=True))

    def frame(self, rank: Rank, body: PeerBody, term: int, triad_id: bytes | None = None) -> PeerFrame:
        triad = self.triad_id if triad_id is None else triad_id
        return PeerFrame(triad, term, self.end(rank), self.me, body)

    def request(self, rank: Rank, body: PeerBody, *, term: int, triad_id: bytes | None = None) -> None:
        """*rank* says *body* on the connection that it dialled."""
        frame = self.frame(rank, body, term, triad_id)
        self.event(PeerFrameReceived(link=self.ins[rank], frame=frame))

    def reply(self, rank: Rank, body: PeerBody, *, term: int, triad_id: bytes | None = None) -> None:
        """*rank* answers on the connection that the machine dialled."""
        frame = self.frame(rank, body, term, triad_id)
        self.event(PeerFrameReceived(link=self.outs[rank], frame=frame))

    def append(
        self, rank: Rank, *, term: int, round: int = 1, prev: Last = NO_LAST, rows: tuple[EntryRow, ...] = (),
        commit: int = 0, durable: int = 0, heard: int = 0, pull: bool = False,
    ) -> None:  # fmt: skip
        """*rank*, master of *term*, sends an Append."""
        self.request(rank, Append(round, prev, rows, commit, durable, WALL, heard, pull), term=term)

    # --- what it said ------------------------------------------------------------------------------------------------

    def take(self, rank: Rank, kind: type[BodyT]) -> list[BodyT]:
        """Bodies of this kind sent to *rank*; they are forgotten."""
        found: list[BodyT] = []
        for to, frame in self.sent:
            if to is rank and isinstance(frame.body, kind):
                found.append(frame.body)
        self.sent = [each for each in self.sent if not (each[0] is rank and isinstance(each[1].body, kind))]
        return found

    def last_sent(self, rank: Rank, kind: type[BodyT]) -> BodyT:
        found = self.take(rank, kind)
        assert found, f"no {kind.__name__} to {rank.word}"
        return found[-1]

    def notices(self, kind: str) -> list[str]:
        return [each.text for each in self.actions if isinstance(each, Notice) and each.kind == kind]
