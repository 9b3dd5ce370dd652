"""Lending at a serving master: who may, for how long, early return, and the end by the clocks."""

from __future__ import annotations

from typing import Any

import pytest

from flexcore.borrowing import signed_hours
from flexcore.options import parse_options
from flexcore.override import override
from flexcore.server.borrowing import BORROW_SLACK_S
from flexcore.wire.messages import (
    AdminRequest,
    Borrow,
    Borrowed,
    BorrowReturned,
    Denied,
    Granted,
    OpenSession,
    ReturnBorrow,
    StatusRequest,
)
from flexcore.wire.proof import session_proof
from tests.server_kit import DAY, WALL, Client, Kit, line

HOUR = 3600.0
BORROW, SECRET = b"b" * 16, b"x" * 32
LENT = line("f1", 2)._replace(borrow_hours=48)


class Borrower(Client):
    @override
    def open(self) -> Any:
        return self.ask(OpenSession(
            self.next(), self.session, self.secret, self.name, "elm", ":0", "", 7, True, 0,
            ("ether=00163e111111",),
        ))  # fmt: skip

    def borrow(self, handle: int, hours: float = 2.0, *, request: int = 0, ident: bytes = BORROW) -> Any:
        if not request:
            self.request += 1
            request = self.request
        until = self.kit.wall + hours * HOUR
        return self.ask(
            Borrow(self.next(), request, self.answered, handle, until, ident, SECRET, self.term_seen)
        )

    def give_back(self, ident: bytes = BORROW, secret: bytes = SECRET) -> Any:
        conn = self.kit.connect()
        self.kit.said(conn)
        proof = session_proof(secret, conn.to_bytes(16, "big"), ident)
        self.kit.send(conn, ReturnBorrow(1, ident, proof, 0))
        (said,) = self.kit.said(conn)
        assert isinstance(said, BorrowReturned)
        return said


def lent(**changes: Any) -> tuple[Kit, Borrower]:
    kit = Kit(LENT, **changes)
    ann = Borrower(kit, "ann")
    granted = ann.checkout()
    assert isinstance(granted, Granted)
    assert isinstance(ann.borrow(granted.handle), Borrowed)
    return kit, ann


def test_a_borrowed_seat_outlives_its_session_and_comes_back_at_its_end() -> None:
    kit, ann = lent()
    ann.goodbye()
    assert kit.state.in_use["f1 1.0"] == 1
    kit.pass_time(2 * HOUR + BORROW_SLACK_S - 2.0)
    assert kit.state.in_use["f1 1.0"] == 1  # past its end, not past the slack
    kit.pass_time(4.0)
    assert kit.state.in_use["f1 1.0"] == 0
    assert kit.logs[-1] == 'IN: "f1" ann@elm  (BORROW EXPIRED)'


def test_the_session_goes_on_without_it() -> None:
    kit, ann = lent()
    other = ann.checkout()
    assert isinstance(other, Granted)
    assert ann.checkin(1).code == -41
    assert [seat.handle for seat in ann.resume().held] == [other.handle]
    assert Borrower(kit, "bob").checkout().code == -4


def test_a_repeat_is_answered_again_and_not_lent_twice() -> None:
    kit, ann = lent()
    first = ann.kit.state.sessions[BORROW].borrowed_until
    again = ann.borrow(1, 9.0, request=ann.request)
    assert isinstance(again, Borrowed)
    assert not again.renews
    assert kit.state.borrows == {BORROW: first}


def test_a_client_that_died_unheard_is_told_and_lent_nothing_twice() -> None:
    kit, ann = lent()
    ann.goodbye()
    until = kit.state.borrows[BORROW]
    again = Borrower(kit, "ann2")
    for handle in (0, again.checkout().handle):  # asked before anything is held, and with a seat of its own
        said = again.borrow(handle, 1.0)
        assert isinstance(said, Borrowed)
        assert (said.handle, said.borrow, said.until, said.renews) == (0, BORROW, until, False)
    assert kit.state.borrows == {BORROW: until}
    assert [seat.handle for seat in again.resume().held] == [2]
    assert kit.state.in_use["f1 1.0"] == 2
    again.checkin(2)
    assert again.borrow(0, ident=b"n" * 16).code == -41  # never lent: it may be asked for under this id
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "SECRET", b"y" * 32)
        assert again.borrow(again.checkout().handle).code == -117  # somebody else's
    kit.pass_time(2 * HOUR + 1.0)
    assert Borrower(kit, "ann3").borrow(0).code == -117  # over, and the servers have not taken it back yet
    assert kit.state.borrows == {BORROW: until}
    kit.pass_time(BORROW_SLACK_S)
    assert Borrower(kit, "ann4").borrow(0).code == -41  # it is as if it had never been


@pytest.mark.parametrize(
    ("change", "options", "hours", "code"),
    [
        ({"borrow_hours": 0}, "", 2, -68),
        ({}, "", 50, -104),
        ({}, "MAX_BORROW_HOURS f1 1", 2, -104),
        ({"expiry_day": DAY}, "", 47, -104),  # beyond its last day
        ({}, "", -1, -117),
        ({}, "", -1e6, -117),
        ({}, "", 1e9, -104),  # an answer, not an end of the connection: the client would ask again for ever
        ({}, "BORROW_LOWWATER f1 2", 2, -67),
        ({}, "BORROW_LOWWATER f1 1", 2, 0),
        ({}, "EXCLUDE_BORROW f1 USER ann", 2, -38),
        ({}, "INCLUDE_BORROW f1 USER bob", 2, -39),
        ({}, "INCLUDE_BORROW f1 USER ann", 2, 0),
        ({}, "MAX_BORROW_HOURS f1 24\nMAX_BORROW_HOURS f1 900", 48, 0),
    ],
)
def test_who_may_and_for_how_long(change: dict[str, Any], options: str, hours: float, code: int) -> None:
    kit = Kit(LENT._replace(**change), options=parse_options(options, name="sampled.opt"))
    ann = Borrower(kit, "ann")
    assert isinstance(ann.checkout(), Granted)
    said = ann.borrow(1, hours)
    assert (said.code if isinstance(said, Denied) else 0) == code
    assert len(kit.state.borrows) == (code == 0)
    assert kit.state.in_use["f1 1.0"] == 1  # a refusal takes nothing away


def test_a_denial_stays_a_denial() -> None:
    kit = Kit(LENT)
    ann = Borrower(kit, "ann")
    ann.checkout()
    assert ann.borrow(1, 50.0).code == -104
    assert ann.borrow(1, 2.0, request=ann.request).code == -104
    assert not kit.state.borrows


def test_low_water_counts_what_is_borrowed() -> None:
    kit = Kit(LENT, options=parse_options("BORROW_LOWWATER f1 1", name="sampled.opt"))
    ann = Borrower(kit, "ann")
    for number, want in ((1, Borrowed), (2, Denied)):
        granted = ann.checkout()
        assert isinstance(ann.borrow(granted.handle, ident=bytes([number]) * 16), want)


def test_early_return_takes_the_secret_and_is_refused_after_the_end() -> None:
    kit, ann = lent()
    assert ann.give_back(secret=b"y" * 32).code == -128
    assert ann.give_back(ident=b"z" * 16).code == -128
    assert kit.state.in_use["f1 1.0"] == 1
    assert ann.give_back().code == 0
    assert kit.state.in_use["f1 1.0"] == 0
    assert ann.give_back().code == -128  # a second time, or a copy that was late
    kit, ann = lent()
    kit.pass_time(2 * HOUR + 1.0)
    assert ann.give_back().code == -118
    assert kit.state.in_use["f1 1.0"] == 1


def test_nobody_speaks_for_a_borrow_as_if_it_were_a_session() -> None:
    kit, ann = lent()
    ann.session, ann.secret = BORROW, SECRET
    assert ann.resume().state == "unknown"
    ann.conn = kit.connect()
    kit.said(ann.conn)
    assert ann.open().state == "refused"
    assert kit.state.borrows


def test_lmstat_shows_it_as_lingering_until_its_end() -> None:
    kit, ann = lent()
    ann.goodbye()
    kit.pass_time(HOUR)
    conn = kit.connect()
    kit.said(conn)
    kit.send(conn, StatusRequest(1, "seats", "", ""))
    (page,) = kit.said(conn)
    (row,) = page.seats
    assert (row.user, row.borrowed, row.linger_left_s, row.linger_s) == ("ann", True, HOUR, 2 * HOUR)


def test_lmdown_is_refused_while_something_is_borrowed_unless_forced() -> None:
    kit, _ = lent()
    kit.config.license.is_triad = False  # type: ignore[misc]
    for arguments, code in ((("all",), -120), (("one",), -120), (("all", "force"), 0)):
        conn = kit.connect(local=True)
        kit.said(conn)
        kit.send(conn, AdminRequest(1, "down", arguments, "root", "elm"))
        said = kit.said(conn)
        assert [each.code for each in said] == [code]


def test_a_leap_of_a_single_servers_clock_is_its_own_business() -> None:
    """One clock is all that a single server has."""
    kit, _ = lent()
    kit.quorum.clock_gap += 3 * HOUR
    assert WALL + kit.now < kit.state.borrows[BORROW]
    kit.node._desk.end_due_leases(now=kit.now, wall=kit.wall + 3 * HOUR)
    assert not kit.state.borrows


def test_hours_of_the_keyword() -> None:
    assert [signed_hours(each) for each in (None, "", "24", "-1", "1e9")] == [0, 168, 24, 168, 168]
