"""Three ServerNodes with the real quorum, no delay: what clients see of failover, hand-over, stop."""

from __future__ import annotations

from typing import Any

import pytest

from flexcore.identity import Rank
from flexcore.licensefile import LicenseFile, parse_license
from flexcore.licensefile.signing import sign_license
from flexcore.server import (
    CloseConnection,
    DialPeer,
    Halt,
    Persist,
    ServerConfig,
    ServerNode,
    WriteLog,
)
from flexcore.wire.messages import (
    AdminRequest,
    Checkout,
    ClientHello,
    Granted,
    Heartbeat,
    HeartbeatReply,
    NotServing,
    OpenSession,
    ResumeSession,
    SessionReply,
)
from flexcore.wire.proof import session_proof
from tests.test_server_single import KEY, WALL, Store

TEXT = """\
SERVER elm ID=1 2837 {keywords}HEARTBEAT_INTERVAL=1
SERVER oak ID=2 2837
SERVER ash ID=3 2837
VENDOR sampled
FEATURE f1 sampled 1.0 permanent 5
"""


class Triad:
    """Links are pairs of numbers; whatever one end sends arrives at once, in order."""

    def __init__(self, keywords: str = "", *, first_start: bool = True) -> None:
        self.license: LicenseFile = sign_license(parse_license(TEXT.format(keywords=keywords)), KEY)
        self.now = 100.0
        self.first_start = first_start
        self.nodes: dict[int, ServerNode] = {}
        self.stores = [Store(), Store(), Store()]
        self.links: dict[tuple[int, int], tuple[int, int]] = {}
        self.inbox: dict[int, list[Any]] = {}
        self.logs: dict[int, list[str]] = {0: [], 1: [], 2: []}
        self.halted: dict[int, Halt] = {}
        self.serial = 0

    @property
    def wall(self) -> float:
        return WALL + self.now

    def start(self, rank: int) -> None:
        self.serial += 1
        self.nodes[rank] = ServerNode(
            ServerConfig(
                license=self.license, keys=(KEY.verifying_key,), rank=Rank(rank), first_start=self.first_start
            ),
            stored=self.stores[rank].load(),
            boot_id=self.serial.to_bytes(16, "big"),
            triad_id=self.serial.to_bytes(16, "little"),
            now=self.now,
            wall=self.wall,
        )  # fmt: skip
        self.settle()

    def kill(self, rank: int) -> None:
        """kill -9: its connections end, later dials are refused."""
        del self.nodes[rank]
        for end, other in list(self.links.items()):
            if end[0] == rank:
                del self.links[end]
                del self.links[other]
                if other[0] in self.nodes:
                    self.nodes[other[0]].connection_ended(
                        other[1], orderly=True, now=self.now, wall=self.wall
                    )
        self.settle()

    def settle(self) -> None:
        """Run turns until nobody has anything to say at this instant."""
        for _ in range(200):
            busy = [self._turn(rank) for rank in sorted(self.nodes)]
            if not any(busy):
                return
        raise AssertionError("no rest")

    def _turn(self, rank: int) -> bool:
        node = self.nodes.get(rank)
        if node is None:
            return False
        node.handle_timeout(now=self.now, wall=self.wall)
        node.end_turn(now=self.now, wall=self.wall)
        busy = False
        for conn, message in node.messages_to_send():
            busy = True
            other = self.links.get((rank, conn))
            if other is None:
                self.inbox.setdefault(conn, []).append(message)
            elif other[0] in self.nodes:
                self.nodes[other[0]].receive_message(
                    other[1], message, now=self.now, wall=self.wall
                )
        while (action := node.next_action()) is not None:
            busy = self._do(rank, node, action) or busy
        return busy

    def _do(self, rank: int, node: ServerNode, action: Any) -> bool:
        if isinstance(action, WriteLog):
            self.logs[rank].append(action.text)
            return False
        if isinstance(action, Persist):
            self.stores[rank].write(action.batch)
            node.persisted(action.ticket, now=self.now, wall=self.wall)
        elif isinstance(action, DialPeer):
            peer = self.nodes.get(action.peer)
            if peer is None:
                node.dial_failed(
                    action.peer, refused=True, error="refused", now=self.now, wall=self.wall
                )
            else:
                self.serial += 2
                here, there = self.serial, self.serial + 1
                self.links[rank, here], self.links[action.peer, there] = (
                    (action.peer, there),
                    (rank, here),
                )
                peer.connection_opened(
                    there, nonce=bytes(16), local=False, remote="", now=self.now, wall=self.wall
                )
                node.peer_connected(
                    here, action.peer, nonce=bytes(16), now=self.now, wall=self.wall
                )
        elif isinstance(action, CloseConnection):
            other = self.links.pop((rank, action.conn), None)
            if other is not None:
                del self.links[other]
                if other[0] in self.nodes:
                    self.nodes[other[0]].connection_ended(
                        other[1], orderly=True, now=self.now, wall=self.wall
                    )
        elif isinstance(action, Halt):
            self.halted[rank] = action
            self.kill(rank)
        return True

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            dues = [due for node in self.nodes.values() if (due := node.next_timeout()) is not None]
            due = max(self.now, min(dues, default=until))
            if due >= until:
                break
            self.now = due
            self.settle()
        self.now = until
        self.settle()

    def connect(self, rank: int, conn: int, *messages: Any, local: bool = False) -> list[Any]:
        self.nodes[rank].connection_opened(
            conn, nonce=conn.to_bytes(16, "big"), local=local, remote="127.0.0.1", now=self.now, wall=self.wall
        )  # fmt: skip
        return self.say(rank, conn, ClientHello(1, "test", "sampled", 0), *messages)

    def say(self, rank: int, conn: int, *messages: Any) -> list[Any]:
        for message in messages:
            self.nodes[rank].receive_message(conn, message, now=self.now, wall=self.wall)
        self.settle()
        return sorted(self.inbox.pop(conn, []), key=lambda said: getattr(said, "seq", 0))

    def master(self) -> int | None:
        serving = [rank for rank, node in self.nodes.items() if node.serving]
        assert len(serving) <= 1
        return serving[0] if serving else None


OPEN = OpenSession(1, b"i" * 16, b"s" * 16, "ann", "pc", ":0", "", 7, True, 0)
C = 1_000_001  # clients' connections, far from the links' numbers


def resume(conn: int, term: int) -> ResumeSession:
    return ResumeSession(
        9, b"i" * 16, session_proof(b"s" * 16, conn.to_bytes(16, "big"), b"i" * 16), term
    )


@pytest.fixture
def triad() -> Triad:
    triad = Triad()
    for rank in range(3):
        triad.start(rank)
    triad.pass_time(5.0)
    return triad


def test_the_first_two_serve_and_renewals_need_a_peer(triad: Triad) -> None:
    assert triad.master() == 0
    hello, opened, granted = triad.connect(0, C, OPEN, Checkout(2, 1, 0, "f1", "1.0", 1, 0))
    assert hello.report.peers_up
    assert opened.state == "open"
    assert isinstance(granted, Granted)
    assert granted.renews
    (reply,) = triad.say(0, C, Heartbeat(3, 1, 0))
    assert reply == HeartbeatReply(3, granted.term, True)
    assert "CONNECTED, master is elm" in triad.logs[1]


def test_a_follower_points_to_the_master(triad: Triad) -> None:
    _, reply = triad.connect(2, C, OPEN)
    assert isinstance(reply, NotServing)
    assert reply.master is not None
    assert reply.master.host == "elm"


def test_kill_of_the_master_loses_nothing(triad: Triad) -> None:
    granted = triad.connect(0, C, OPEN, Checkout(2, 1, 0, "f1", "1.0", 2, 0))[-1]
    began = triad.now
    triad.kill(0)
    triad.pass_time(1.0)
    assert triad.master() == 1
    assert triad.now - began <= 1.0
    _, resumed, again, other = triad.connect(
        1,
        C + 1,
        resume(C + 1, granted.term),
        Checkout(10, 1, 0, "f1", "1.0", 2, granted.term),
        Checkout(11, 2, 1, "f1", "1.0", 4, granted.term),
    )
    assert isinstance(resumed, SessionReply)
    assert resumed.renews
    assert [(seat.handle, seat.started) for seat in resumed.held] == [
        (granted.handle, granted.started)
    ]
    assert (again.handle, again.started, again.renews) == (granted.handle, granted.started, False)
    assert (other.code, other.detail) == (-4, "2 of 5 in use: ann@pc (2)")
    assert again.term > granted.term


def test_hand_over_pushes_clients_to_the_successor(triad: Triad) -> None:
    triad.connect(0, C, OPEN)
    triad.nodes[0].stop("one", "SIGTERM", now=triad.now, wall=triad.wall)
    triad.settle()
    (pushed,) = triad.inbox.pop(C)
    assert isinstance(pushed, NotServing)
    assert pushed.master is not None
    assert pushed.master.host == "oak"
    triad.pass_time(1.0)
    assert triad.master() == 1
    assert triad.halted[0].exit_code == 0
    assert triad.connect(1, C + 1, resume(C + 1, pushed.term))[-1].state == "open"


def test_primary_takes_over_and_the_client_is_sent_there() -> None:
    triad = Triad("PRIMARY_IS_MASTER ")
    for rank in (1, 2):
        triad.start(rank)
    triad.pass_time(5.0)
    assert triad.master() == 1
    triad.connect(1, C, OPEN)
    triad.start(0)
    for _ in range(600):
        triad.pass_time(0.1)
        if triad.master() != 1:
            break
    assert triad.master() == 0  # no instant without a master but the turn in which it changed hands
    (pushed,) = [message for message in triad.inbox.pop(C) if isinstance(message, NotServing)]
    assert pushed.master is not None
    assert pushed.master.host == "elm"
    assert triad.connect(0, C + 1, resume(C + 1, pushed.term))[-1].state == "open"


def test_down_of_all_three_from_any_of_them(triad: Triad) -> None:
    triad.connect(2, C, local=True)
    (reply,) = triad.say(2, C, AdminRequest(1, "down", ("all",), "ann", "pc"))
    assert reply.code == 0
    triad.pass_time(5.0)
    assert {rank: halt.exit_code for rank, halt in triad.halted.items()} == {0: 0, 1: 0, 2: 0}
    for rank in range(3):
        triad.start(rank)
    triad.pass_time(2.0)
    assert triad.master() is not None


def test_without_a_quorum_clients_are_told_so(triad: Triad) -> None:
    triad.connect(0, C, OPEN)
    triad.kill(1)
    triad.kill(2)
    triad.pass_time(10.0)
    assert triad.master() is None
    assert any(isinstance(message, NotServing) for message in triad.inbox.pop(C))
    (reply,) = triad.say(0, C, Heartbeat(5, 0, 0))
    assert isinstance(reply, NotServing)
    assert reply.master is None
    assert not triad.nodes[0].report().vendor_up
    assert "Lost quorum" in triad.logs[0]


def test_an_old_client_dies_and_its_seats_come_back_under_the_new_master(triad: Triad) -> None:
    triad.connect(0, C, OPEN, Checkout(2, 1, 0, "f1", "1.0", 5, 0))
    triad.kill(0)
    triad.pass_time(3.0 + 33.0 * 1.01 / 0.99 - 0.5)
    second = OpenSession(1, b"j" * 16, b"s" * 16, "bob", "pc", ":0", "", 7, True, 0)
    assert triad.connect(1, C + 1, second, Checkout(2, 1, 0, "f1", "1.0", 1, 0))[-1].code == -4
    triad.pass_time(1.5)
    assert isinstance(triad.say(1, C + 1, Checkout(3, 2, 1, "f1", "1.0", 1, 0))[-1], Granted)
    assert 'IN: "f1" ann@pc  (5 licenses) (LEASE EXPIRED)' in triad.logs[1]


def test_copies_of_a_whole_server_live_on(triad: Triad) -> None:
    triad.connect(0, C, OPEN)
    twin = triad.nodes[0].copy()
    assert twin.fingerprint(triad.now) == triad.nodes[0].fingerprint(triad.now)
    triad.say(0, C, Heartbeat(5, 0, 0))
    twin.receive_message(C, Heartbeat(5, 0, 0), now=triad.now, wall=triad.wall)
    twin.end_turn(now=triad.now, wall=triad.wall)
    assert twin.messages_to_send()
