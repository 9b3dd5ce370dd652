"""Seats that linger: how a serving master begins, ends, shows and hands over what stays with its user."""

from __future__ import annotations

from typing import Any

import pytest

from flexcore.ledger import Ledger
from flexcore.options import parse_options
from flexcore.wire.messages import Denied, Granted, StatusRequest
from tests.server_kit import Client, Kit, in_use, line, live


def kit_of(text: str, *lines: Any, **changes: Any) -> Kit:
    return Kit(*lines or (line("f1", seats=2),), options=parse_options(text, name="demo.opt"), **changes)


def rest(kit: Kit) -> list[tuple[float | None, float | None]]:
    """What lmstat is shown of f1: remaining and total seconds of each seat."""
    conn = kit.connect()
    kit.said(conn)
    kit.send(conn, StatusRequest(1, "seats", "f1", ""))
    (page,) = kit.said(conn)
    return [(row.linger_left_s, row.linger_s) for row in page.seats]


def code(answer: Any) -> int:
    assert isinstance(answer, Denied), answer
    return answer.code


def test_a_seat_that_comes_back_stays_for_its_user() -> None:
    kit = kit_of("LINGER f1 300")
    ann, bob = kit.client("ann"), kit.client("bob")
    first = ann.checkout()
    kit.pass_time(3)
    ann.checkin(first.handle)
    bob.checkout()
    assert in_use(kit) == 2
    assert rest(kit) == [(300.0, 300.0), (None, None)]
    live(kit, 100.0, ann, bob)
    assert rest(kit) == [(200.0, 300.0), (None, None)]
    assert code(kit.client("carl").checkout()) == -4
    again = ann.checkout()
    assert isinstance(again, Granted)
    assert again.handle != first.handle
    assert rest(kit) == [(None, None), (None, None)]
    assert [text for text in kit.logs if "ann" in text] == [
        'OUT: "f1" ann@elm  ', 'LINGER: "f1" ann@elm  (300 seconds)',
        'IN: "f1" ann@elm  (LINGER OVER)', 'OUT: "f1" ann@elm  ',
    ]  # fmt: skip


def test_it_is_free_when_its_time_is_over_and_no_earlier() -> None:
    kit = kit_of("LINGER f1 130", line("f1", seats=1))
    ann, bob = kit.client("ann"), kit.client("bob")
    ann.checkin(ann.checkout().handle)
    live(kit, 129.9, bob)
    assert code(bob.checkout()) == -4
    kit.pass_time(0.2)
    assert isinstance(bob.checkout(), Granted)
    assert 'IN: "f1" ann@elm  (LINGER OVER)' in kit.logs


@pytest.mark.parametrize("how", ["goodbye", "lease"])
def test_it_outlives_its_session(how: str) -> None:
    kit = kit_of("LINGER f1 1000", line("f1", seats=1))
    ann = kit.client("ann")
    ann.checkout()
    if how == "goodbye":
        ann.goodbye()
    else:
        kit.pass_time(400.0)
    assert not kit.state.sessions
    assert in_use(kit) == 1
    kit.pass_time(500.0)
    assert code(kit.client("bob").checkout()) == -4
    again = Client(kit, "ann", opened=False)
    again.session = b"another".ljust(16)
    again.open()
    assert isinstance(again.checkout(), Granted)
    assert not kit.state.lingering


def test_only_the_same_user_on_the_same_host_and_display_gets_it() -> None:
    kit = kit_of("LINGER f1 300", line("f1", seats=1))
    ann = kit.client("ann")
    ann.checkin(ann.checkout().handle)
    session = kit.state.sessions[ann.session]
    other = kit.client("bob")
    who = kit.state.sessions[other.session]
    for field in ("user", "host", "display"):
        who.user, who.host, who.display = session.user, session.host, session.display
        setattr(who, field, "other")
        assert code(other.checkout()) == -4
    who.user, who.host, who.display = session.user, session.host, session.display
    assert isinstance(other.checkout(), Granted)


def test_who_asks_for_more_than_lingers_gets_it_if_the_rest_is_free() -> None:
    kit = kit_of("LINGER f1 300", line("f1", seats=4))
    ann, bob = kit.client("ann"), kit.client("bob")
    two = ann.checkout(count=2)
    one = ann.checkout()
    bob.checkout()
    ann.checkin(two.handle)
    ann.checkin(one.handle)
    assert code(ann.checkout(count=4)) == -4
    assert isinstance(ann.checkout(count=3), Granted)
    assert in_use(kit) == 4
    assert not kit.state.lingering


def test_what_is_not_needed_of_it_is_free_at_commit() -> None:
    kit = kit_of("LINGER f1 300", line("f1", seats=3), auto=False)
    ann = kit.client("ann", opened=False)
    ann.strict = False
    for ask in (ann.open, lambda: ann.checkout(count=3), lambda: ann.checkin(1), ann.checkout):
        ask()
    assert (in_use(kit), [count for _, count in kit.state.pending()]) == (1, [2])
    kit.quorum.commit()
    assert (in_use(kit), kit.state.pending()) == (1, ())


def test_max_and_reserve_count_what_lingers_once() -> None:
    kit = kit_of("LINGER f1 300\nMAX 2 f1 USER ann", line("f1", seats=9))
    ann = kit.client("ann")
    ann.checkin(ann.checkout(count=2).handle)
    assert isinstance(ann.checkout(), Granted)
    assert code(ann.checkout(count=2)) == -87
    assert isinstance(ann.checkout(), Granted)
    assert code(ann.checkout()) == -87


def test_the_signed_minimum_and_the_option() -> None:
    kit = kit_of("LINGER f1 60\nLINGER f2 60", line("f1", seats=1)._replace(linger_s=300), line("f2", seats=1))
    ann = kit.client("ann")
    for feature in ("f1", "f2"):
        ann.checkin(ann.checkout(feature).handle)
    kit.pass_time(61.0)
    assert [seat.feature for seat in kit.state.lingering.all()] == ["f1"]


def test_a_repeated_checkin_is_answered_again() -> None:
    kit = kit_of("LINGER f1 300")
    ann = kit.client("ann")
    handle = ann.checkout().handle
    first = ann.checkin(handle, request=2)
    assert ann.checkin(handle, request=2)._replace(seq=0, renews=True) == first._replace(seq=0)
    assert code(ann.checkin(handle, request=3)) == -41


def test_what_remains_survives_a_failover() -> None:
    """The next master counts on from the last entry: at most a minute more, never less, and the time
    that nobody served is not counted."""
    kit = kit_of("LINGER f1 1000")
    ann = kit.client("ann")
    ann.checkin(ann.checkout().handle)
    kit.pass_time(150.0)
    ledger = kit.quorum.ledger
    ledger.commit_to(ledger.last.index)
    for snapshot in (False, True):
        heir = kit_of("LINGER f1 1000", serving=False)
        heir.now = 5000.0
        heir.quorum.ledger = Ledger(ledger.make_snapshot()) if snapshot else ledger.copy()
        heir.quorum.start(2)
        heir.turn()
        assert rest(heir) == [(880.0, 1000.0)]
        heir.pass_time(879.0)
        assert in_use(heir) == 1
        heir.pass_time(1.1)
        assert in_use(heir) == 0


def test_a_minute_is_one_entry_however_many_linger() -> None:
    kit = kit_of("LINGER f1 1000", line("f1", seats=50))
    ann = kit.client("ann")
    for _ in range(50):
        ann.checkout()
        ann.answered = ann.request
    ann.goodbye()
    before = kit.quorum.ledger.last.index
    kit.pass_time(601.0)
    assert kit.quorum.ledger.last.index == before + 10
