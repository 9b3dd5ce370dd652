"""LicenseServer: the same as the node, in bytes; what is garbage, and how bytes are cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.server.actions import CloseConnection
from flexcore.server.license_server import LicenseServer
from flexcore.wire.connection import Connection
from flexcore.wire.messages import (
    Checkout,
    ClientHello,
    Denied,
    FeatureRow,
    Granted,
    Heartbeat,
    HeartbeatReply,
    OpenSession,
    Refusal,
    SeatRow,
    ServerHello,
    SessionReply,
    StatusPage,
    StatusRequest,
)
from tests.budget import examples
from tests.server_kit import WALL, FakeQuorum, Kit, config, line, rights


class Bytes:
    """A LicenseServer whose quorum serves at once, and the clients' ends of its connections."""

    def __init__(self, *lines: Any) -> None:
        self.quorum = FakeQuorum()
        self.server = LicenseServer(
            config(), boot_id=b"b" * 16, triad_id=b"t" * 16, now=0.0, wall=WALL, rights=rights(*lines),
            quorum=self.quorum,  # type: ignore[arg-type]
        )  # fmt: skip
        self.quorum.start()
        self.ends: dict[int, Connection] = {}
        self.closed: list[int] = []
        self.sent: dict[int, bytes] = {}
        self.turn()

    def connect(self, conn: int) -> None:
        self.ends[conn] = Connection(max_frame_bytes=1 << 20)
        self.server.connection_opened(
            conn, nonce=bytes(16), local=True, remote="", now=0.0, wall=WALL
        )

    def write(self, conn: int, data: bytes) -> None:
        self.server.receive_data(conn, data, now=0.0, wall=WALL)

    def turn(self) -> dict[int, list[Any]]:
        self.server.end_turn(now=0.0, wall=WALL)
        said: dict[int, list[Any]] = {}
        for conn, data in self.server.data_to_send():
            self.sent[conn] = self.sent.get(conn, b"") + data
            self.ends[conn].receive_data(data)
            while (message := self.ends[conn].next_message()) is not None:
                said.setdefault(conn, []).append(message)
        while (action := self.server.next_action()) is not None:
            if isinstance(action, CloseConnection):
                self.closed.append(action.conn)
        return said


SESSION: list[Any] = [
    ClientHello(1, "test", "sampled", 0),
    OpenSession(1, b"i" * 16, b"s" * 16, "ann", "elm", ":0", "", 7, True, 0),
    Checkout(2, 1, 0, "f1", "1.0", 1, 0),
    Checkout(3, 2, 1, "f1", "1.0", 5, 0),
    Heartbeat(4, 2, 0),
]


def session_bytes() -> bytes:
    wire = Connection()
    return b"".join(wire.send(message) for message in SESSION)


def test_a_session_in_bytes() -> None:
    kit = Bytes()
    kit.connect(1)
    kit.write(1, session_bytes())
    said = kit.turn()[1]
    assert [type(message) for message in said] == [
        ServerHello,
        SessionReply,
        Granted,
        Denied,
        HeartbeatReply,
    ]


def test_byte_at_a_time() -> None:
    whole, slow = Bytes(), Bytes()
    for kit in (whole, slow):
        kit.connect(1)
    whole.write(1, session_bytes())
    whole.turn()
    for byte in session_bytes():
        slow.write(1, bytes([byte]))
    slow.turn()
    assert whole.sent == slow.sent
    assert whole.quorum.ledger.fingerprint() == slow.quorum.ledger.fingerprint()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 64, b"\x00\x00\x00\x02\xff\xff"]
)
def test_garbage_closes_only_its_connection(garbage: bytes) -> None:
    kit = Bytes()
    kit.connect(1)
    kit.connect(2)
    kit.write(2, session_bytes())
    kit.write(1, garbage)
    said = kit.turn()
    assert [type(message) for message in said[1]] == [Refusal]
    assert kit.closed == [1]
    assert len(said[2]) == 5
    kit.write(1, garbage)  # still in the socket's buffer: nobody cares
    kit.write(2, Connection().send(Heartbeat(5, 2, 0)))
    assert [type(message) for message in kit.turn()[2]] == [HeartbeatReply]


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(session_bytes())))
def test_any_bytes_leave_the_server_alive(data: bytes, at: int) -> None:
    kit = Bytes()
    kit.connect(1)
    kit.write(1, session_bytes()[:at] + data)
    kit.turn()
    kit.connect(2)
    kit.write(2, session_bytes().replace(b"i" * 16, b"j" * 16))
    assert [type(message) for message in kit.turn()[2]][:2] == [ServerHello, SessionReply]


def pages(kit: Kit, what: str, feature: str = "") -> tuple[list[Any], int]:
    conn = kit.connect(vendor="")
    kit.said(conn)
    rows: list[Any] = []
    cursor, count = "", 0
    while True:
        kit.send(conn, StatusRequest(1, what, feature, cursor))
        (page,) = kit.said(conn)
        assert isinstance(page, StatusPage)
        rows += page.features if what == "features" else page.seats
        cursor, count = page.cursor, count + 1
        if not cursor:
            return rows, count


def test_a_hundred_thousand_seats_in_pages() -> None:
    kit = Kit(line("f1", 200_000), line("f2", 10), line("f3", 0))
    state = kit.quorum.ledger.state
    ann = kit.client()
    from flexcore.ledger.commands import SeatGranted

    for number in range(100_000):
        feature = "f3" if number % 1000 == 0 else "f1"
        command = SeatGranted(
            ann.session, number + 1, number, state.next_handle, feature, f"{feature} 1.0", "1.0", 1
        )
        kit.quorum.propose(command, now=kit.now, wall=kit.wall)
    rows, count = pages(kit, "seats")
    assert count == 201
    assert len({row.handle for row in rows}) == len(rows) == 100_000
    assert isinstance(rows[0], SeatRow)
    assert (rows[0].user, rows[0].feature, rows[0].pid) == ("ann", "f1", 7)
    rows, count = pages(kit, "seats", "f3")
    assert ({row.feature for row in rows}, len(rows), count) == ({"f3"}, 100, 1)
    assert pages(kit, "seats", "f2") == ([], 1)
    features, count = pages(kit, "features")
    assert count == 1
    assert [(row.feature, row.count, row.in_use) for row in features] == [
        ("f1", 200_000, 99_900),
        ("f2", 10, 0),
        ("f3", 0, 100),
    ]


def test_pools_that_are_gone_and_lines_that_are_bad_are_shown() -> None:
    kit = Kit(line("f1", 5, expiry_day=740_000))
    ann = kit.client()
    from flexcore.ledger.commands import SeatGranted

    state = kit.quorum.ledger.state
    kit.quorum.propose(
        SeatGranted(ann.session, 1, 0, state.next_handle, "was", "was 1.0", "1.0", 2),
        now=kit.now,
        wall=kit.wall,
    )
    rows, _ = pages(kit, "features")
    assert isinstance(rows[0], FeatureRow)
    assert [(row.feature, row.pool, row.count, row.in_use, row.error) for row in rows] == [
        ("f1", "f1 1.0", 5, 0, ""),
        ("was", "was 1.0", 2, 2, "not in the license file"),
    ]
    assert rows[0].expires_in_days == 740_000 - (719_163 + int(kit.wall // 86_400))
    seats, _ = pages(kit, "seats")
    assert [seat.feature for seat in seats] == ["was"]


@pytest.mark.parametrize("cursor", ["x", "1", "1.", ".1", "-1.0", "1.0.0", "9" * 50, "1.²"])
def test_a_cursor_of_nobody_is_refused(cursor: str) -> None:
    kit = Kit()
    conn = kit.connect(vendor="")
    kit.said(conn)
    kit.send(conn, StatusRequest(1, "seats", "", cursor))
    assert [type(message) for message in kit.said(conn)] == [Refusal]
