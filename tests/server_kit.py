"""What the server's tests share: a quorum that commits when told, rights without a licence file, a driver."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

from flexcore.checkout.rights import Line, Rights, make_rights
from flexcore.identity import Rank
from flexcore.ledger import Ledger
from flexcore.ledger.commands import TermStarted
from flexcore.quorum import events as q
from flexcore.quorum.events import QuorumReport
from flexcore.server.actions import CloseConnection, WriteLog
from flexcore.server.config import Limits, ServerConfig
from flexcore.server.node import ServerNode
from flexcore.wire.codec import encode_command
from flexcore.wire.messages import (
    Checkin,
    Checkout,
    ClientHello,
    Goodbye,
    Heartbeat,
    OpenSession,
    ResumeSession,
    ServerAddress,
    Withdraw,
)
from flexcore.wire.proof import session_proof

WALL = 1_764_000_000.0  # 24 November 2025
DAY = 719_163 + int(WALL // 86_400)
TO, L = 3.0, 33.0  # HEARTBEAT_INTERVAL=1


def line(
    feature: str = "f1", seats: int = 2, version: str = "1.0", *, pool: str = "", expiry_day: int | None = None,
    start_day: int | None = None, lock: str = "", signed_text: str = "",
) -> Line:  # fmt: skip
    return Line(
        feature=feature, pool=pool or f"{feature} {version}", version=version, vendor="sampled", seats=seats,
        expiry_text="permanent" if expiry_day is None else "1-jan-2026", expiry_day=expiry_day, start_day=start_day,
        vendor_string="", lock=lock, signed_text=signed_text or f"FEATURE {feature} sampled {version}",
    )  # fmt: skip


def rights(*lines: Line) -> Rights:
    return make_rights(lines or (line(),), vendor="sampled", digest=b"r" * 32, hostids=("id=1",))


class FakeQuorum:
    """A master by decree: commits, confirms and is trusted when the test says so."""

    def __init__(self, *, auto: bool = True) -> None:
        self.ledger = Ledger()
        self.config = SimpleNamespace(membership_digest=b"m" * 32, triad=False)
        self.clock_gap = WALL
        self.now = 100.0
        self.auto = auto
        self.confirmed_round = 0
        self.rounds = 0
        self.lease = True
        self.doubt = False
        self.handing_over = False
        self.terms_seen: list[int] = []
        self.events: list[Any] = []
        self.links: dict[int, Any] = {}
        self.actions: deque[Any] = deque()
        self.term = 0
        self.state = "waiting"
        self.master: Rank | None = None

    def start(self, term: int = 1, wall: float = WALL) -> None:
        self.term = term
        self.lease = True
        self.state, self.master = "serving", Rank.PRIMARY
        self.propose(TermStarted(0, TO, L), now=0.0, wall=wall)
        self.ledger.commit_to(self.ledger.last.index)
        self.actions.append(q.StartServing(term=term))

    def stop(self, *, master: Rank | None = None, state: str = "waiting") -> None:
        self.lease = False
        self.state, self.master = state, master
        self.actions.append(q.StopServing(reason="the lease is over"))

    def propose(self, command: Any, *, now: float, wall: float) -> int:
        stamp = max(wall, self.ledger.last_stamp)
        return self.ledger.append(self.term, stamp, encode_command(command))

    def request_round(self, now: float) -> int:
        self.rounds += 1
        return self.rounds

    def note_term_seen(self, term: int, now: float) -> None:
        self.terms_seen.append(term)
        self.doubt = True

    @property
    def accepting(self) -> bool:
        return not self.handing_over

    def may_serve(self, now: float) -> bool:
        return self.lease

    def may_answer(self, now: float) -> bool:
        return self.lease and not self.doubt

    def commit(self) -> None:
        self.ledger.commit_to(self.ledger.last.index)

    def confirm(self) -> None:
        self.confirmed_round = self.rounds
        self.doubt = False

    def end_turn(self, *, now: float, wall: float) -> None:
        self.now, self.clock_gap = now, wall - now
        if self.auto:
            self.commit()
            self.confirm()

    def receive_event(self, event: Any, *, now: float, wall: float) -> None:
        self.events.append(event)

    def too_old_for(self, request: type, rank: Rank) -> str:
        return ""

    def next_action(self) -> Any:
        return self.actions.popleft() if self.actions else None

    def next_timeout(self) -> float | None:
        return None

    def handle_timeout(self, *, now: float, wall: float) -> None:
        self.now, self.clock_gap = now, wall - now

    def report(self) -> QuorumReport:
        return QuorumReport(
            state=self.state, term=self.term, master=self.master, reason="" if self.master is not None else "no quorum",
            until_s=None, peers_up=(), notes=(),
        )  # fmt: skip

    def copy(self) -> FakeQuorum:
        twin = FakeQuorum(auto=self.auto)
        twin.__dict__.update(self.__dict__)
        twin.ledger, twin.actions = self.ledger.copy(), self.actions.copy()
        twin.terms_seen, twin.events = list(self.terms_seen), list(self.events)
        return twin

    def fingerprint(self, now: float) -> Any:
        return (
            self.ledger.fingerprint(),
            self.term,
            self.lease,
            self.doubt,
            self.confirmed_round,
            self.rounds,
        )


def config(**changes: Any) -> ServerConfig:
    license_file = SimpleNamespace(
        vendors=(SimpleNamespace(name="sampled"),), servers=(SimpleNamespace(host="elm", port=2837),),
        heartbeat_interval_s=1, is_triad=False, features=(), hostids=("id=1",), primary_is_master=False,
    )  # fmt: skip
    settings: dict[str, Any] = {
        "license": license_file,
        "keys": (),
        "addresses": tuple(ServerAddress(host, 2837) for host in ("elm", "oak", "ash")),
        "limits": Limits(),
    }
    return ServerConfig(**{**settings, **changes})


class Kit:
    """A node, its fake quorum and a clock; collects what leaves."""

    def __init__(
        self, *lines: Line, serving: bool = True, auto: bool = True, **changes: Any
    ) -> None:
        self.now = 100.0
        self.quorum = FakeQuorum(auto=auto)
        self.config = config(**changes)
        self.node = ServerNode(
            self.config, boot_id=b"b" * 16, triad_id=b"t" * 16, now=self.now, wall=self.wall,
            rights=rights(*lines), quorum=self.quorum,  # type: ignore[arg-type]
        )  # fmt: skip
        self.out: dict[int, list[Any]] = {}
        self.logs: list[str] = []
        self.closed: dict[int, bool] = {}
        self.rest: list[Any] = []
        self.connections = 0
        if serving:
            self.quorum.start()
            self.turn()
            self.logs.clear()

    @property
    def wall(self) -> float:
        return WALL + self.now

    @property
    def state(self) -> Any:
        return self.quorum.ledger.state

    def turn(self) -> None:
        self.node.handle_timeout(now=self.now, wall=self.wall)
        self.node.end_turn(now=self.now, wall=self.wall)
        for conn, message in self.node.messages_to_send():
            self.out.setdefault(conn, []).append(message)
        while (action := self.node.next_action()) is not None:
            if isinstance(action, WriteLog):
                self.logs.append(action.text)
            elif isinstance(action, CloseConnection):
                self.closed[action.conn] = action.abort
            else:
                self.rest.append(action)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, waking the node whenever it asks to be woken."""
        until = self.now + seconds
        for _ in range(100_000):
            due = self.node.next_timeout()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.turn()
        else:
            raise AssertionError("the node asks to be woken for ever")
        self.now = until
        self.turn()

    def connect(
        self, *, local: bool = False, hello: bool = True, vendor: str = "sampled", administrator: bool = True
    ) -> int:
        self.connections += 1
        conn = self.connections
        self.node.connection_opened(
            conn,
            nonce=conn.to_bytes(16, "big"),
            local=local,
            remote="127.0.0.1",
            now=self.now,
            wall=self.wall,
            administrator=administrator,
        )
        if hello:
            self.send(conn, ClientHello(1, "test", vendor, 0))
        return conn

    def send(self, conn: int, message: Any) -> None:
        self.node.receive_message(conn, message, now=self.now, wall=self.wall)

    def end(self, conn: int, *, orderly: bool) -> None:
        self.node.connection_ended(conn, orderly=orderly, now=self.now, wall=self.wall)

    def said(self, conn: int) -> list[Any]:
        """Run a turn and take what was said on *conn*."""
        self.turn()
        return self.out.pop(conn, [])

    def client(self, name: str = "ann", **changes: Any) -> Client:
        return Client(self, name, **changes)


class Client:
    """A session on a connection, saying what a correct client says."""

    def __init__(
        self,
        kit: Kit,
        name: str,
        *,
        trusted_end: bool = True,
        opened: bool = True,
        secret: bytes = b"s" * 16,
    ) -> None:
        self.kit = kit
        self.name = name
        self.session = name.encode().ljust(16, b"-")
        self.secret = secret
        self.seq = self.request = self.answered = 0
        self.term_seen = 0
        self.strict = True
        self.trusted_end = trusted_end
        self.conn = kit.connect()
        kit.said(self.conn)
        if opened:
            self.open()

    def ask(self, message: Any) -> Any:
        """Send, run one turn, and take the single answer (None: none yet)."""
        self.kit.send(self.conn, message)
        said = self.kit.said(self.conn)
        assert not self.strict or len(said) <= 1, said
        return said[-1] if said else None

    def next(self) -> int:
        self.seq += 1
        return self.seq

    def open(self) -> Any:
        return self.ask(OpenSession(
            self.next(), self.session, self.secret, self.name, "elm", ":0", "", 7, self.trusted_end, self.term_seen
        ))  # fmt: skip

    def resume(self, conn: int | None = None, *, secret: bytes | None = None) -> Any:
        if conn is None:
            conn = self.kit.connect()
            self.kit.said(conn)
        self.conn = conn
        proof = session_proof(secret or self.secret, conn.to_bytes(16, "big"), self.session)
        return self.ask(ResumeSession(self.next(), self.session, proof, self.term_seen))

    def checkout(
        self,
        feature: str = "f1",
        version: str = "1.0",
        count: int = 1,
        *,
        request: int | None = None,
        answered: int | None = None,
        queue: bool = False,
    ) -> Any:
        if request is None:
            self.request += 1
            request = self.request
        if answered is None:
            answered = self.answered
        return self.ask(
            Checkout(
                self.next(), request, answered, feature, version, count, self.term_seen, queue
            )
        )

    def checkin(self, handle: int, *, request: int | None = None) -> Any:
        if request is None:
            self.request += 1
            request = self.request
        return self.ask(Checkin(self.next(), request, self.answered, handle, self.term_seen))

    def withdraw(self, target: int) -> Any:
        self.request += 1
        return self.ask(Withdraw(self.next(), self.request, self.answered, target, self.term_seen))

    def heartbeat(self) -> Any:
        return self.ask(Heartbeat(self.next(), self.answered, self.term_seen))

    def goodbye(self) -> Any:
        return self.ask(Goodbye(self.next(), self.term_seen))


def live(kit: Kit, seconds: float, *clients: Client) -> None:
    """Let time pass while *clients* heartbeat."""
    while seconds > 0:
        kit.pass_time(min(seconds, 10.0))
        seconds -= 10.0
        for client in clients:
            client.heartbeat()


def in_use(kit: Kit) -> int:
    """Seats that are out, in all pools."""
    return sum(kit.state.in_use.values())
