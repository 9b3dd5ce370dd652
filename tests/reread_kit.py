"""Real nodes, one or three, each with a licence file of its own that a test may change and have read anew."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license
from flexcore.report.reportlog import START
from flexcore.server import (
    CloseConnection,
    DialPeer,
    Persist,
    ReadLicense,
    ServerConfig,
    ServerNode,
    SwitchLog,
    WriteLog,
    WriteReport,
    judge_license,
)
from flexcore.wire.messages import AdminReply, AdminRequest, ClientHello
from tests.server_kit import Client

KEY = SigningKey("demo", bytes(range(32)))
OTHER_KEY = SigningKey("demo", bytes(range(1, 33)))
HOSTS = ("elm", "oak", "ash")
P, S, T = Rank


def text_of(*features: str, words: str = " HEARTBEAT_INTERVAL=1", key: SigningKey = KEY,
            hostids: tuple[str, ...] = ("ID=1", "ID=2", "ID=3"), port: int = 2837) -> str:  # fmt: skip
    lines = [
        f"SERVER {host} {hostid} {port}{words if host == 'elm' else ''}"
        for host, hostid in zip(HOSTS, hostids, strict=False)
    ]
    lines.append("VENDOR demo")
    lines += [f"INCREMENT {feature}" for feature in features]
    return format_license(sign_license(parse_license("\n".join(lines) + "\n"), key))


def feature(name: str = "f1", count: int = 2, version: str = "1.0") -> str:
    return f"{name} demo {version} permanent {count}"


OLD_LINES = (feature("f1", 3), feature("f2", 2))
NEW_LINES = (feature("f1", 1), feature("f3", 5))
OLD, NEW = text_of(*OLD_LINES), text_of(*NEW_LINES)


class Host:
    """One server of :class:`Farm`, with its file."""

    def __init__(self, farm: Farm, rank: Rank, text: str, stored: Any = None) -> None:
        self.farm, self.rank, self.text = farm, rank, text
        self.logs: list[str] = []
        self.out: dict[int, list[Any]] = {}
        self.report: list[str] = []
        self.switched: list[SwitchLog] = []
        self.cannot_switch = ""
        self.reading: int | None = None
        self.node = ServerNode(
            ServerConfig(license=parse_license(text), keys=(KEY.verifying_key,), rank=rank, first_start=True,
                         report=START if farm.reporting else None),
            stored=stored, boot_id=farm.draw(), triad_id=farm.draw(), now=farm.now, wall=farm.wall,
        )  # fmt: skip

    def judge(self) -> Any:
        return judge_license(self.node.config, parse_license(self.text))


class Farm:
    """Real nodes, one or three, whose messages arrive at once; files are read when the test says so."""

    def __init__(self, text: str = OLD, *, read: bool = True, reporting: bool = False) -> None:
        self.reporting = reporting
        self.now, self.drawn, self.conns = 100.0, 0, 0
        self.read_at_once = read
        self.hosts: dict[Rank, Host] = {}
        self.wires: dict[tuple[Rank, int], tuple[Rank, int]] = {}
        self.mail: deque[tuple[Rank, int, Any]] = deque()
        for rank in Rank if parse_license(text).is_triad else (P,):
            self.hosts[rank] = Host(self, rank, text)
        self.run(until=lambda: self.master is not None)

    @property
    def wall(self) -> float:
        return 1_764_000_000.0 + self.now

    def draw(self) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(16, "big")

    @property
    def master(self) -> Host | None:
        return next((host for host in self.hosts.values() if host.node.quorum.may_serve(self.now)), None)

    @property
    def in_force(self) -> set[bytes]:
        return {host.node.quorum.ledger.state.rights for host in self.hosts.values()}

    # --- the loop ---------------------------------------------------------------------------------

    def turns(self) -> None:
        """Everything that happens at this instant."""
        for _ in range(10_000):
            busy = bool(self.mail)
            while self.mail:
                rank, conn, message = self.mail.popleft()
                if rank in self.hosts:
                    self.deliver(self.hosts[rank], conn, message)
            for host in list(self.hosts.values()):
                busy = self.turn(host) or busy
            if not busy:
                return
        raise AssertionError("the nodes talk for ever")

    def deliver(self, host: Host, conn: int, message: Any) -> None:
        host.node.receive_message(conn, message, now=self.now, wall=self.wall)

    def turn(self, host: Host) -> bool:
        node = host.node
        due = node.next_timeout()
        if due is not None and due <= self.now:
            node.handle_timeout(now=self.now, wall=self.wall)
        node.end_turn(now=self.now, wall=self.wall)
        busy = False
        for conn, message in node.messages_to_send():
            target = self.wires.get((host.rank, conn))
            if target is not None:
                self.mail.append((*target, message))
            else:
                host.out.setdefault(conn, []).append(message)
            busy = True
        while (action := node.next_action()) is not None:
            self.carry_out(host, action)
            busy = True
        return busy

    def carry_out(self, host: Host, action: Any) -> None:
        if isinstance(action, WriteLog):
            host.logs.append(action.text)
        elif isinstance(action, WriteReport):
            host.report.append(action.text)
        elif isinstance(action, SwitchLog):
            host.switched.append(action)
            host.report += [action.first] if action.first else []
            said = host.cannot_switch or f"it goes on ({action.path})"
            host.node.log_switched(action.ticket, -42 if host.cannot_switch else 0, said, now=self.now, wall=self.wall)
        elif isinstance(action, Persist):
            host.node.persisted(action.ticket, now=self.now, wall=self.wall)
        elif isinstance(action, ReadLicense):
            host.reading = action.ticket
            if self.read_at_once:
                self.read(host.rank)
        elif isinstance(action, DialPeer):
            self.dial(host, Rank(action.peer))
        elif isinstance(action, CloseConnection):
            other = self.wires.pop((host.rank, action.conn), None)
            if other is not None and other[0] in self.hosts:
                self.wires.pop(other, None)
                self.hosts[other[0]].node.connection_ended(other[1], orderly=True, now=self.now, wall=self.wall)
        else:
            raise AssertionError(action)

    def read(self, rank: Rank) -> None:
        host = self.hosts[rank]
        assert host.reading is not None
        ticket, host.reading = host.reading, None
        host.node.license_read(ticket, host.judge(), now=self.now, wall=self.wall)

    def dial(self, host: Host, peer: Rank) -> None:
        if peer not in self.hosts:
            host.node.dial_failed(peer, refused=True, error="refused", now=self.now, wall=self.wall)
            return
        here, there = self.next_conn(), self.next_conn()
        self.wires[host.rank, here], self.wires[peer, there] = (peer, there), (host.rank, here)
        self.hosts[peer].node.connection_opened(
            there, nonce=self.draw(), local=False, remote="x", now=self.now, wall=self.wall
        )
        host.node.peer_connected(here, peer, nonce=self.draw(), now=self.now, wall=self.wall)

    def next_conn(self) -> int:
        self.conns += 1
        return self.conns

    def run(self, seconds: float = 30.0, until: Any = None) -> None:
        """Let time pass, up to *seconds* or *until* something is true."""
        end = self.now + seconds
        self.turns()
        while not (until is not None and until()):
            dues = [host.node.next_timeout() for host in self.hosts.values()]
            due = min([at for at in dues if at is not None], default=end)
            if due > end:
                break
            self.now = max(self.now, due)
            self.turns()
        else:
            return
        assert until is None, "it never came true"
        self.now = end
        self.turns()

    def kill(self, rank: Rank) -> None:
        del self.hosts[rank]
        for (here, conn), (there, _) in list(self.wires.items()):
            if rank in (here, there):
                del self.wires[here, conn]
                if there == rank:
                    self.hosts[here].node.connection_ended(conn, orderly=True, now=self.now, wall=self.wall)
        self.turns()

    # --- clients and administrators ---------------------------------------------------------------

    def connect(self, rank: Rank, *, local: bool = True) -> int:
        conn = self.next_conn()
        node = self.hosts[rank].node
        nonce = conn.to_bytes(16, "big")
        node.connection_opened(conn, nonce=nonce, local=local, remote="x", now=self.now, wall=self.wall)
        node.receive_message(conn, ClientHello(1, "test", "demo", 0), now=self.now, wall=self.wall)
        self.said(rank, conn)
        return conn

    def send(self, rank: Rank, conn: int, message: Any) -> None:
        self.hosts[rank].node.receive_message(conn, message, now=self.now, wall=self.wall)

    def said(self, rank: Rank, conn: int) -> list[Any]:
        self.turns()
        return self.hosts[rank].out.pop(conn, [])

    def reread(self, rank: Rank, scope: str = "all", *, local: bool = True, wait_s: float = 0.0) -> AdminReply:
        return self.order(rank, "reread", scope, local=local, wait_s=wait_s)

    def order(self, rank: Rank, verb: str, *words: str, local: bool = True, wait_s: float = 0.0) -> AdminReply:
        conn = self.connect(rank, local=local)
        self.send(rank, conn, AdminRequest(1, verb, words, "ann", "elm"))
        self.turns()
        if wait_s:
            self.run(wait_s)
        (reply,) = self.said(rank, conn)
        assert isinstance(reply, AdminReply)
        return reply

    def client(self) -> FarmClient:
        """A client of the master, in the words of server_kit."""
        return FarmClient(self)


class FarmClient(Client):
    """A client of whoever is master."""

    def __init__(self, farm: Farm) -> None:
        super().__init__(self._kit(farm), "ann")

    def _kit(self, farm: Farm) -> Any:
        host = farm.master
        assert host is not None
        return SimpleNamespace(
            now=farm.now, connect=lambda **_: farm.connect(host.rank), said=lambda conn: farm.said(host.rank, conn),
            send=lambda conn, message: farm.send(host.rank, conn, message),
        )  # fmt: skip

    def resume_at(self, farm: Farm) -> None:
        """Go on at the master of now."""
        self.kit = self._kit(farm)
        assert self.resume().state == "open"
