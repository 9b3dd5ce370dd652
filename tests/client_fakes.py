"""A triad made of answers: fake servers that speak the client's messages, and a loop without sockets.

No quorum, no disks: a test says who is master, and what each server does with the next question.
"""

from __future__ import annotations

import itertools
from typing import Any

from flexcore.client import (
    Abort,
    CheckedIn,
    CheckoutDeniedAction,
    CheckoutGranted,
    CheckoutQueued,
    ClientConfig,
    ClientNode,
    Close,
    Closed,
    Connect,
    ConnectFailed,
    ConnectionEnded,
    ConnectionMade,
    SeatLost,
    SendMessage,
    StateChanged,
    Trouble,
)
from flexcore.wire import messages as wire
from flexcore.wire.proof import session_proof

LEASE_S = 60.0


class Ledger:
    """What the servers of a fake triad know in common."""

    def __init__(self, count: int = 10) -> None:
        self.free = count
        self.sessions: dict[bytes, bytes] = {}  # id -> secret
        self.ended: set[bytes] = set()
        self.results: dict[tuple[bytes, int], tuple[str, Any]] = {}
        self.seats: dict[int, tuple[bytes, wire.HeldSeat]] = {}
        self.handles = itertools.count(101)
        self.places = itertools.count(11)
        self.waiting: list[tuple[int, bytes, wire.Checkout]] = []
        self.granted_later: list[tuple[bytes, int]] = []
        self.lent: dict[bytes, tuple[bytes, float, wire.HeldSeat]] = {}  # id -> secret, until, seat

    def end(self, session: bytes) -> None:
        self.sessions.pop(session, None)
        self.ended.add(session)
        self.waiting = [each for each in self.waiting if each[1] != session]
        for handle in [h for h, (owner, _) in self.seats.items() if owner == session]:
            self.give_back(handle)

    def give_back(self, handle: int) -> bool:
        owned = self.seats.pop(handle, None)
        if owned is not None:
            self.free += owned[1].count
        return owned is not None


class FakeServer:
    """One server of a triad. Its switches: *up*, *frozen* (takes bytes, says nothing), *serving*, *renews*."""

    def __init__(self, triad: FakeTriad, rank: int, address: wire.ServerAddress) -> None:
        self.triad = triad
        self.rank = rank
        self.address = address
        self.up = True
        self.frozen = False
        self.renews = True
        self.dark = False  # packets to it are lost: connecting neither succeeds nor fails
        self.links: dict[int, bytes] = {}  # conn -> session
        self.heard: list[wire.Message] = []
        self.held_back: list[tuple[int, wire.Message]] = []
        self.refusal: wire.Refusal | None = None

    @property
    def serving(self) -> bool:
        return self.triad.master == self.rank

    def report(self) -> wire.ServerReport:
        triad = self.triad
        state = "serving" if self.serving else "follower" if triad.master is not None else "waiting"
        return wire.ServerReport(
            name=self.address.host, rank=self.rank, state=state, term=triad.term,
            master_rank=-1 if triad.master is None else triad.master,
            reason="" if triad.master is not None else triad.reason, until_s=triad.until_s,
            uptime_s=1.0, software="fake", license_path="x", peers_up=(), notes=(), commit=0,
            vendor_up=True,
        )  # fmt: skip

    def take_pushes(self) -> list[tuple[int, wire.Message]]:
        """What is said unasked: the queue is served, first come first."""
        ledger = self.triad.ledger
        while ledger.waiting and self.serving and ledger.free >= ledger.waiting[0][2].count:
            _, session, asked = ledger.waiting.pop(0)
            self.grant(session, asked)
            ledger.granted_later.append((session, asked.request))
        told = []
        for session, request in list(ledger.granted_later):
            for conn, owner in self.links.items():
                if owner == session and self.serving:
                    kind, fields = ledger.results[session, request]
                    told.append((conn, self.result(0, request, kind, fields, renews=True)))
                    ledger.granted_later.remove((session, request))
        return told

    def answer(self, conn: int, message: Any) -> list[wire.Message]:
        self.heard.append(message)
        if isinstance(message, wire.ClientHello):
            if self.refusal is not None:
                return [self.refusal]
            return [
                wire.ServerHello(
                    1, "fake", b"nonce%d" % conn, "demo", self.triad.addresses, self.report(),
                    self.triad.lease_s, 0.0, self.triad.digest_of(self.rank),
                )
            ]  # fmt: skip
        if isinstance(message, wire.StatusRequest) and message.what == "features":
            return self.page(message)
        if isinstance(message, wire.StatusRequest):
            return [wire.StatusReport(message.seq, self.report())]
        seq = getattr(message, "seq", 0)
        if not self.serving:
            master = self.triad.addresses[self.triad.master] if self.triad.master is not None else None
            return [wire.NotServing(seq, self.triad.term, self.triad.reason, self.triad.until_s, master)]
        return self.serve(conn, message)

    def page(self, message: wire.StatusRequest) -> list[wire.Message]:
        ledger = self.triad.ledger
        used = sum(seat.count for _, seat in ledger.seats.values())
        row = wire.FeatureRow(
            message.feature, "p", "1.0", "demo", "permanent", None, "", ledger.free + used, used, ""
        )
        rows = (row,) if message.feature in self.triad.features else ()
        return [wire.StatusPage(message.seq, self.triad.term, self.rank, rows, (), "")]

    def serve(self, conn: int, message: Any) -> list[wire.Message]:
        ledger, term = self.triad.ledger, self.triad.term
        if isinstance(message, wire.OpenSession):
            assert message.session not in ledger.sessions, "a session is never opened twice"
            assert message.session not in ledger.ended, "a session is never reused"
            ledger.sessions[message.session] = message.secret
            return [self.session_reply(conn, message.seq, message.session)]
        if isinstance(message, wire.ResumeSession):
            secret = ledger.sessions.get(message.session)
            if secret is None:
                state = "ended" if message.session in ledger.ended else "unknown"
                return [wire.SessionReply(message.seq, term, False, state, 0.0, (), f"session {state}")]
            assert message.proof == session_proof(secret, b"nonce%d" % conn, message.session)
            return [self.session_reply(conn, message.seq, message.session)]
        if isinstance(message, wire.ReturnBorrow):
            return self.take_back(conn, message)
        session = self.links.get(conn)
        if session is None:
            return [
                wire.NotServing(message.seq, term, "resume the session first", None, self.address)
            ]
        if session not in ledger.sessions:
            return [wire.SessionReply(message.seq, term, False, "ended", 0.0, (), "session ended")]
        if isinstance(message, wire.Heartbeat):
            return [wire.HeartbeatReply(message.seq, term, self.renews)]
        if isinstance(message, wire.Goodbye):
            ledger.end(session)
            return [wire.GoodbyeReply(message.seq, term)]
        key = (session, message.request)
        for place, owner, asked in ledger.waiting:
            if (owner, asked.request) == key:
                return [self.queued(message.seq, place, message.request)]
        if key in ledger.results:
            kind, fields = ledger.results[key]
            return [self.result(message.seq, message.request, kind, fields, renews=False)]
        return [self.decide(session, message)]

    def session_reply(self, conn: int, seq: int, session: bytes) -> wire.SessionReply:
        self.links[conn] = session
        held = tuple(seat for owner, seat in self.triad.ledger.seats.values() if owner == session)
        return wire.SessionReply(
            seq, self.triad.term, self.renews, "open", self.triad.lease_s, held
        )

    def queued(self, seq: int, place: int, request: int) -> wire.Queued:
        ahead = sum(other < place for other, _, _ in self.triad.ledger.waiting)
        return wire.Queued(seq, request, self.triad.term, False, place, ahead, "all in use by bob@elm")

    def grant(self, session: bytes, message: wire.Checkout) -> wire.HeldSeat:
        ledger = self.triad.ledger
        ledger.free -= message.count
        handle = next(ledger.handles)
        seat = wire.HeldSeat(handle, message.feature, "1.0", message.count, 1000.0)
        ledger.seats[handle] = (session, seat)
        ledger.results[session, message.request] = ("granted", seat)
        return seat

    def take_back(self, conn: int, message: wire.ReturnBorrow) -> list[wire.Message]:
        """Early return: the seat is free. Told, unless this server is to fall silent then."""
        ledger = self.triad.ledger
        secret, _, seat = ledger.lent.get(message.borrow, (b"", 0.0, None))
        code = -128
        if seat is not None and message.proof == session_proof(secret, b"nonce%d" % conn, message.borrow):
            del ledger.lent[message.borrow]
            ledger.free += seat.count
            code = 0
        if self.triad.keeps_answers:
            return []
        return [wire.BorrowReturned(message.seq, self.triad.term, code, "", "no such borrowing" if code else "")]

    def lend(self, session: bytes, message: wire.Borrow) -> wire.Message:
        ledger, term = self.triad.ledger, self.triad.term
        handle = message.handle
        secret, until, _ = ledger.lent.get(message.borrow, (b"", 0.0, None))
        if secret == message.secret:
            handle = 0  # under this id it was lent before
        elif handle in ledger.seats and ledger.seats[handle][0] == session:
            until = message.until
            ledger.lent[message.borrow] = message.secret, until, ledger.seats.pop(handle)[1]
        else:
            return wire.Denied(message.seq, message.request, term, False, -41, 0, "never checked out", "")
        return wire.Borrowed(message.seq, message.request, term, self.renews, handle, message.borrow, until, 0.0)

    def decide(self, session: bytes, message: Any) -> wire.Message:
        ledger = self.triad.ledger
        if isinstance(message, wire.Borrow):
            return self.lend(session, message)
        fields: Any = (-4, 342, "Licensed number of users already reached", "")
        kind = "denied"
        if isinstance(message, wire.Checkout):
            if message.feature not in self.triad.features:
                fields = (-5, 346, "No such feature exists", "")
            elif ledger.free >= message.count and not ledger.waiting:
                kind, fields = "granted", self.grant(session, message)
            elif message.queue:
                place = next(ledger.places)
                ledger.waiting.append((place, session, message))
                return self.queued(message.seq, place, message.request)
        elif isinstance(message, wire.Checkin):
            ledger.give_back(message.handle)
            kind, fields = "checkedin", message.handle
        else:
            assert isinstance(message, wire.Withdraw)
            target = ledger.results.get((session, message.target))
            if target is not None and target[0] == "granted":
                ledger.give_back(target[1].handle)
            mine = (session, message.target)
            ledger.waiting = [each for each in ledger.waiting if (each[1], each[2].request) != mine]
            ledger.results[session, message.target] = ("denied", (-42, 0, "withdrawn", ""))
            kind, fields = "withdrawn", message.target
        ledger.results[session, message.request] = (kind, fields)
        return self.result(message.seq, message.request, kind, fields, renews=self.renews)

    def result(self, seq: int, request: int, kind: str, f: Any, *, renews: bool) -> wire.Message:
        term = self.triad.term
        if kind == "granted":
            return wire.Granted(
                seq, request, term, renews, f.handle, f.feature, f.version, f.count, f.started,
                self.triad.line, self.triad.hostids,
            )  # fmt: skip
        if kind == "denied":
            return wire.Denied(seq, request, term, False, *f)
        if kind == "checkedin":
            return wire.CheckedIn(seq, request, term, renews, f)
        return wire.Withdrawn(seq, request, term, renews, f)


class FakeTriad:
    """Three servers (or one) with one ledger; a test moves *master* and *term*."""

    def __init__(self, *hosts: str, count: int = 10, master: int | None = 0) -> None:
        self.addresses = tuple(wire.ServerAddress(host, 2837) for host in hosts)
        self.servers = [FakeServer(self, rank, a) for rank, a in enumerate(self.addresses)]
        self.ledger = Ledger(count)
        self.master = master
        self.term = 1
        self.lease_s = LEASE_S
        self.reason = "waiting for a quorum"
        self.until_s: float | None = None
        self.features = {"f1"}
        self.keeps_answers = False
        """Early returns are done and not answered."""
        self.digests: dict[int, bytes] = {}
        self.line = "FEATURE f1 demo 1.0 permanent 10"
        self.hostids: tuple[str, ...] = ("a", "b", "c")

    def digest_of(self, rank: int) -> bytes:
        return self.digests.get(rank, b"d")

    def elect(self, rank: int | None) -> None:
        self.master = rank
        self.term += 1


class World:
    """A client and its servers on a manual clock. A message takes *delay_s*; refused connections as long."""

    def __init__(
        self, *triads: FakeTriad, path: tuple[tuple[wire.ServerAddress, ...], ...] | None = None,
        now: float = 100.0, wall: float = 1_000_000.0, **config: Any,
    ) -> None:  # fmt: skip
        self.now = now
        self.wall_offset = wall - now
        self.delay_s = 0.01
        self.triads = triads
        self.servers = {s.address: s for t in triads for s in t.servers}
        settings: dict[str, Any] = {"vendor": "demo", "user": "ann", "host": "ws1", "display": ":0", "pid": 7} | config
        self.config = ClientConfig(
            path=path if path is not None else tuple(t.addresses for t in triads), **settings
        )
        self.node = ClientNode(self.config, entropy=bytes(range(32)), now=now, wall=self.wall)
        self.conns: dict[int, FakeServer] = {}
        self.queue: list[tuple[float, int, str, int, Any]] = []
        self.tick = itertools.count()
        self.told: list[Any] = []
        self.done: list[tuple[float, Any]] = []  # every transport action with its time

    @property
    def wall(self) -> float:
        return self.now + self.wall_offset

    # --- the loop ---

    def drain(self) -> None:
        while (action := self.node.next_action()) is not None:
            if isinstance(
                action,
                CheckoutGranted | CheckoutDeniedAction | CheckoutQueued | CheckedIn | SeatLost
                | StateChanged | Closed,
            ):
                self.told.append(action)
            else:
                self.done.append((self.now, action))
                self.perform(action)

    def perform(self, action: Any) -> None:
        if isinstance(action, Connect):
            server = self.servers.get(wire.ServerAddress(action.host, action.port))
            if server is None or not server.up:
                self.later(ConnectFailed(conn=action.conn, error="Connection refused", refused=True, errno=111))
            elif not server.dark:
                self.conns[action.conn] = server
                self.later(ConnectionMade(conn=action.conn))
        elif isinstance(action, SendMessage):
            self.push("to_server", action.conn, action.message)
        elif isinstance(action, Abort | Close):
            server = self.conns.pop(action.conn, None)
            if server is not None:
                server.links.pop(action.conn, None)

    def push(self, kind: str, conn: int, what: Any) -> None:
        self.queue.append((self.now + self.delay_s, next(self.tick), kind, conn, what))

    def later(self, event: Any) -> None:
        self.push("event", event.conn, event)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        turns = 0
        self.drain()
        while True:
            turns += 1
            assert turns < 20_000, "the client never sleeps"
            self.queue.sort()
            timeout = self.node.next_timeout()
            times = [end, *([self.queue[0][0]] if self.queue else []), *([timeout] if timeout is not None else [])]
            self.now = max(self.now, min(times))
            if self.queue and self.queue[0][0] <= self.now:
                _, _, kind, conn, what = self.queue.pop(0)
                self.deliver(kind, conn, what)
            elif timeout is not None and timeout <= self.now:
                self.node.handle_timeout(now=self.now, wall=self.wall)
                later = self.node.next_timeout()
                self.drain()
                assert later is None or later > self.now, "a timeout that does not move"
            else:
                return
            self.drain()

    def deliver(self, kind: str, conn: int, what: Any) -> None:
        server = self.conns.get(conn)
        if kind == "event":
            if server is not None or isinstance(what, ConnectFailed):
                self.node.receive_event(what, now=self.now, wall=self.wall)
        elif server is not None and kind == "to_server":
            if server.up and not server.dark:
                if server.frozen:
                    server.held_back.append((conn, what))
                else:
                    for message in server.answer(conn, what):
                        self.push("to_client", conn, message)
                    for to, message in server.take_pushes():
                        self.push("to_client", to, message)
        elif server is not None and not server.dark:
            self.node.receive_message(conn, what, now=self.now, wall=self.wall)

    # --- what tests do to servers ---

    def kill(self, server: FakeServer) -> None:
        """Its process dies: connections break, new ones are refused."""
        server.up = False
        self.break_connections(server)

    def break_connections(self, server: FakeServer, *, orderly: bool = False) -> None:
        for conn in [c for c, s in self.conns.items() if s is server]:
            del self.conns[conn]
            server.links.pop(conn, None)
            self.node.receive_event(
                ConnectionEnded(conn=conn, orderly=orderly, error="Connection reset by peer"),
                now=self.now, wall=self.wall,
            )  # fmt: skip
        self.drain()

    def thaw(self, server: FakeServer) -> None:
        server.frozen = False
        for conn, what in server.held_back:
            if conn in self.conns:
                for message in server.answer(conn, what):
                    self.push("to_client", conn, message)
        server.held_back.clear()

    def push_message(self, server: FakeServer, message: wire.Message) -> None:
        """A server says something unasked, on every connection that has a session."""
        for conn in list(server.links):
            self.push("to_client", conn, message)

    # --- what tests ask ---

    def checkout(
        self, feature: str = "f1", count: int = 1, version: str = "", *, queue: bool = False
    ) -> int:
        request = self.node.checkout(
            feature, version, count, now=self.now, wall=self.wall, queue=queue
        )
        self.drain()
        return request

    def hold(self, count: int = 1) -> Any:
        """Check out and return the seat."""
        request = self.checkout(count=count)
        self.run(0.5)
        return next(
            a.seat for a in self.told if isinstance(a, CheckoutGranted) and a.request == request
        )

    def trouble(self) -> Trouble:
        trouble = self.node.trouble(self.now)
        assert trouble is not None
        return trouble

    def all_told(self, kind: type) -> list[Any]:
        return [action for action in self.told if isinstance(action, kind)]

    def connects(self) -> list[tuple[float, str]]:
        return [(round(at, 3), a.host) for at, a in self.done if isinstance(a, Connect)]

    def sent(self, kind: type) -> list[tuple[float, Any]]:
        return [
            (at, a.message)
            for at, a in self.done
            if isinstance(a, SendMessage) and isinstance(a.message, kind)
        ]
