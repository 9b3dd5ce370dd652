"""A single server with the real quorum machine and a signed licence file: one store, restarts, a stop in order."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import parse_license
from flexcore.licensefile.signing import sign_license
from flexcore.licensefile.verification import verify_line
from flexcore.quorum import PersistBatch, StoredState
from flexcore.server.actions import Halt, Persist, WriteLog
from flexcore.server.config import ServerConfig
from flexcore.server.license_server import LicenseServer
from flexcore.wire.connection import Connection
from flexcore.wire.messages import (
    AdminReply,
    AdminRequest,
    CheckedIn,
    Checkin,
    Checkout,
    ClientHello,
    Denied,
    EntryRow,
    Granted,
    Heartbeat,
    HeartbeatReply,
    OpenSession,
    ResumeSession,
    ServerHello,
    SessionReply,
    StatusPage,
    StatusRequest,
)
from flexcore.wire.proof import session_proof

KEY = SigningKey("sampled", b"k" * 32)
OTHER = SigningKey("sampled", b"o" * 32)
TEXT = """\
SERVER elm ID=1 2837 HEARTBEAT_INTERVAL=1
VENDOR sampled
FEATURE f1 sampled 1.0 permanent 2
INCREMENT f2 sampled 1.0 31-dec-2027 1
INCREMENT f2 sampled 2.0 31-dec-2027 1
INCREMENT f2 sampled 1.0 31-dec-2027 3 SN=2
FEATURE f1 sampled 1.0 permanent 7
"""
WALL = 1_795_000_000.0  # November 2026


class Store:
    """What a real store keeps, in memory."""

    def __init__(self) -> None:
        self.hard = b""
        self.snapshot: Any = None
        self.rows: dict[int, EntryRow] = {}

    def write(self, batch: PersistBatch) -> None:
        if batch.replace_log:
            self.rows, self.snapshot = {}, None
        if batch.truncate_from is not None:
            self.rows = {
                index: row for index, row in self.rows.items() if index < batch.truncate_from
            }
        if batch.snapshot is not None:
            self.snapshot = batch.snapshot
            self.rows = {
                index: row for index, row in self.rows.items() if index > batch.snapshot.last.index
            }
        self.rows.update(batch.entries)
        if batch.hard is not None:
            self.hard = batch.hard

    def load(self) -> StoredState:
        return StoredState(
            hard=self.hard,
            snapshot=self.snapshot,
            entries=tuple(row for _, row in sorted(self.rows.items())),
        )


class Single:
    def __init__(
        self,
        text: str = TEXT,
        store: Store | None = None,
        *,
        now: float = 10.0,
        key: SigningKey = KEY,
    ) -> None:
        self.store = store or Store()
        self.now = now
        license_file = sign_license(parse_license(text), key)
        config = ServerConfig(
            license=license_file, keys=(KEY.verifying_key,), rank=Rank.PRIMARY, license_path="x.lic"
        )
        self.server = LicenseServer(
            config,
            stored=self.store.load(),
            boot_id=now.hex().encode()[:16].ljust(16),
            triad_id=b"t" * 16,
            now=now,
            wall=self.wall,
        )
        self.ends: dict[int, Connection] = {}
        self.nonces: dict[int, bytes] = {}
        self.logs: list[str] = []
        self.halts: list[Halt] = []
        self.turn()

    @property
    def wall(self) -> float:
        return WALL + self.now

    def turn(self) -> dict[int, list[Any]]:
        said: dict[int, list[Any]] = {}
        for _ in range(5):
            self.server.handle_timeout(now=self.now, wall=self.wall)
            self.server.end_turn(now=self.now, wall=self.wall)
            for conn, data in self.server.data_to_send():
                self.ends[conn].receive_data(data)
                while (message := self.ends[conn].next_message()) is not None:
                    said.setdefault(conn, []).append(message)
            tickets = []
            while (action := self.server.next_action()) is not None:
                if isinstance(action, Persist):
                    self.store.write(action.batch)
                    tickets.append(action.ticket)
                elif isinstance(action, WriteLog):
                    self.logs.append(f"({action.daemon}) {action.text}")
                elif isinstance(action, Halt):
                    self.halts.append(action)
            for ticket in tickets:
                self.server.persisted(ticket, now=self.now, wall=self.wall)
            if not tickets:
                break
        return said

    def connect(self, conn: int, *messages: Any, local: bool = True) -> list[Any]:
        self.ends[conn] = Connection(max_frame_bytes=1 << 20)
        self.nonces[conn] = conn.to_bytes(16, "big")
        self.server.connection_opened(
            conn,
            nonce=self.nonces[conn],
            local=local,
            remote="127.0.0.1",
            now=self.now,
            wall=self.wall,
        )
        return self.say(conn, ClientHello(1, "test", "sampled", 0), *messages)

    def say(self, conn: int, *messages: Any) -> list[Any]:
        for message in messages:
            self.server.receive_data(
                conn, self.ends[conn].send(message), now=self.now, wall=self.wall
            )
        return self.turn().get(conn, [])


OPEN = OpenSession(1, b"i" * 16, b"s" * 16, "ann", "elm", ":0", "", 7, True, 0)


@pytest.fixture
def single() -> Single:
    return Single()


def test_serves_at_once_what_is_signed(single: Single) -> None:
    hello, opened, granted, denied = single.connect(
        1, OPEN, Checkout(2, 1, 0, "f1", "1.0", 2, 0), Checkout(3, 2, 1, "f1", "1.0", 1, 0)
    )
    assert isinstance(hello, ServerHello)
    assert (hello.report.state, hello.report.name, hello.report.vendor_up) == (
        "serving",
        "elm",
        True,
    )
    assert isinstance(opened, SessionReply)
    assert isinstance(granted, Granted)
    assert granted.renews
    verdict = verify_line(granted.line, granted.hostids, "sampled", (KEY.verifying_key,))
    assert verdict.is_valid
    assert isinstance(denied, Denied)
    assert (denied.code, denied.detail) == (-4, "2 of 2 in use: ann@elm (2)")
    assert single.say(1, Heartbeat(4, 2, 0)) == [HeartbeatReply(4, granted.term, True)]
    assert isinstance(single.say(1, Checkin(5, 3, 2, granted.handle, 0))[0], CheckedIn)
    assert '(sampled) OUT: "f1" ann@elm  (2 licenses) ' in single.logs
    assert "(sampled) Server started on elm for:\tf1\t\t" in single.logs


def test_pools_add_up_and_are_tried_in_order(single: Single) -> None:
    single.connect(1, OPEN)
    (page,) = single.say(1, StatusRequest(2, "features", "", ""))
    assert isinstance(page, StatusPage)
    rows = [(row.feature, row.version, row.count, row.error) for row in page.features]
    assert rows == [("f1", "1.0", 2, ""), ("f2", "2.0", 1, ""), ("f2", "1.0", 4, "")]
    got = [single.say(1, Checkout(10 + n, n, n - 1, "f2", "1.0", 1, 0))[0] for n in range(1, 7)]
    assert [getattr(reply, "version", "denied") for reply in got] == ["1.0"] * 5 + ["denied"]
    assert {index for index, row in single.server.node.quorum.ledger.state.in_use.items()} == {
        key
        for key in (pool.key for pool in single.server.node._checkout.rights.pools)
        if key.startswith("f2")
    }


def test_lines_of_another_key_give_no_rights() -> None:
    single = Single(key=OTHER)
    replies = single.connect(1, OPEN, Checkout(2, 1, 0, "f1", "1.0", 1, 0))
    assert replies[-1].code == -5
    assert any("is not served: not signed by this key" in text for text in single.logs)
    (page,) = single.say(1, StatusRequest(3, "features", "", ""))
    assert {row.error[:12] for row in page.features} == {"not signed b"}


def test_restart_keeps_what_is_held(single: Single) -> None:
    granted = single.connect(1, OPEN, Checkout(2, 1, 0, "f1", "1.0", 1, 0))[-1]
    again = Single(store=single.store, now=single.now + 1.0)
    hello = again.connect(1)[0]
    assert hello.report.term > granted.term
    proof = session_proof(b"s" * 16, again.nonces[1], b"i" * 16)
    resumed, repeated, denied = again.say(
        1, ResumeSession(3, b"i" * 16, proof, granted.term), Checkout(4, 1, 0, "f1", "1.0", 1, granted.term),
        Checkout(5, 2, 1, "f1", "1.0", 2, granted.term),
    )  # fmt: skip
    assert [(seat.handle, seat.started) for seat in resumed.held] == [
        (granted.handle, granted.started)
    ]
    assert resumed.renews
    assert (repeated.handle, repeated.started) == (granted.handle, granted.started)
    assert denied.code == -4


def test_a_smaller_count_after_a_restart_takes_nothing_away(single: Single) -> None:
    single.connect(1, OPEN, Checkout(2, 1, 0, "f1", "1.0", 2, 0))
    again = Single(TEXT.replace("permanent 2", "permanent 1"), single.store, now=single.now + 1.0)
    again.connect(1)
    proof = session_proof(b"s" * 16, again.nonces[1], b"i" * 16)
    resumed, denied = again.say(
        1, ResumeSession(3, b"i" * 16, proof, 0), Checkout(5, 2, 1, "f1", "1.0", 1, 0)
    )
    assert [seat.count for seat in resumed.held] == [2]
    assert denied.code == -4
    (page,) = again.say(1, StatusRequest(6, "features", "f1", ""))
    assert [(row.count, row.in_use) for row in page.features] == [(1, 2)]


def test_down_needs_this_machine(single: Single) -> None:
    single.connect(1, local=False)
    (reply,) = single.say(1, AdminRequest(1, "down", ("all",), "ann", "elm"))
    assert isinstance(reply, AdminReply)
    assert (reply.code, reply.lines) == (-119, ("elm",))
    assert single.halts == []


@pytest.mark.parametrize("scope", ["all", "one"])
def test_down_ends_in_order(single: Single, scope: str) -> None:
    single.connect(1, OPEN)
    replies = single.say(1, AdminRequest(1, "down", (scope,), "ann", "elm"))
    assert replies[0] == AdminReply(1, 0, "")
    single.turn()
    assert [halt.exit_code for halt in single.halts] == [0]
    assert "(sampled) Shutdown requested from ann@elm IP=127.0.0.1" in single.logs
    assert single.logs[-1] == "(lmgrd) License server manager (lmgrd) exiting"


def test_expiry_is_said_at_start() -> None:
    single = Single(
        TEXT.replace("31-dec-2027", "25-nov-2026").replace("permanent 7", "1-jan-2020 7")
    )
    warned = [text for text in single.logs if "expires on" in text]
    assert len(warned) == 2, single.logs
    assert "in 7 days" in warned[0]


def test_the_date_is_said_every_six_hours_and_when_a_day_begins() -> None:
    single = Single()
    hours = []
    for _ in range(5):
        stamps = [text for text in single.logs if "TIMESTAMP" in text]
        date = datetime.date.fromordinal(719_163 + int(single.wall // 86400))
        text = f"TIMESTAMP {date.month}/{date.day}/{date.year}"
        assert stamps == [f"(lmgrd) {text}", f"(sampled) {text}"]
        hours.append(single.wall % 86400 / 3600)
        single.logs.clear()
        due = single.server.next_timeout()
        assert due is not None
        single.now = due
        single.turn()
    start = hours[0]
    assert hours == [start, start + 6.0, start + 12.0, 0.0, 6.0]
    assert "(sampled) (@sampled-SLOG@) Sessions: 0" in single.logs


def test_next_timeout_always_makes_progress(single: Single) -> None:
    single.connect(1, OPEN, Checkout(2, 1, 0, "f1", "1.0", 1, 0))
    until = single.now + 200.0
    for _ in range(5000):
        due = single.server.next_timeout()
        if due is None or due > until:
            break
        single.now = max(single.now, due)
        single.turn()
    else:
        raise AssertionError("woken for ever")
    assert single.server.node.quorum.ledger.state.sessions == {}
