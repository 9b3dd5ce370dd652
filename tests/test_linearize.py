"""The judge of histories: wrong histories are found, right ones are not, and it agrees with trying every order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore_testing import linearize
from flexcore_testing.checks import Violation
from flexcore_testing.history import NEVER, Event, History, HistoryError
from flexcore_testing.linearize import check_history, find_offence, main
from tests.budget import examples

USERS_REACHED = -4


class Story:
    """Writes a history down as a person would tell it: each thing happens a second after the last."""

    def __init__(self, seats=1):
        self.at = 0.0
        self.events = [Event(0.0, "pool", feature="f1", count=seats)]
        self.ops = 0

    def tell(self, event, client, **fields):
        self.at += 1.0
        self.events.append(Event(self.at, event, client, **fields))
        return self

    def asks(self, client, count=1):
        self.ops += 1
        self.tell("checkout", client, op=self.ops, feature="f1", count=count)
        return self.ops

    def takes(self, client, handle, count=1):
        return self.tell("granted", client, op=self.asks(client, count), handle=handle)

    def is_denied(self, client, count=1, code=USERS_REACHED):
        return self.tell("denied", client, op=self.asks(client, count), code=code)

    def gives(self, client, handle):
        self.ops += 1
        return self.tell("checkin", client, op=self.ops, handle=handle)

    def returns(self, client, handle):
        self.gives(client, handle)
        return self.tell("returned", client, op=self.ops)

    @property
    def history(self):
        return History.of(self.events)

    @property
    def offence(self):
        return find_offence(self.history)


# --- wrong on purpose ------------------------------------------------------------------------------------------------


def test_over_issue():
    story = Story().takes("a", 1).takes("b", 2)
    assert "b was granted 1 of 1 seats" in story.offence.report()
    assert [one.client for one in story.offence.operations] == ["b"]
    assert [one.client for one in story.offence.holders] == ["a"]


def test_over_issue_by_size():
    assert Story(3).takes("a", 1, 2).takes("b", 2, 2).offence is not None
    assert Story(3).takes("a", 1, 2).takes("b", 2, 1).offence is None


def test_a_handle_that_is_granted_twice():
    story = Story(5).takes("a", 7).returns("a", 7).takes("b", 7)
    assert "handle 7 was granted twice" in story.offence.text


def test_denial_with_free_seats():
    story = Story(2).takes("a", 1).is_denied("b")
    assert "b was denied 1 of 2 seats" in story.offence.report()


def test_denial_of_more_than_is_free():
    assert Story(2).takes("a", 1).is_denied("b", 2).offence is None


def test_a_stale_master_denies_after_the_freeing_was_told():
    assert Story().takes("a", 1).returns("a", 1).is_denied("b").offence is not None


def test_a_denial_may_count_a_seat_whose_client_was_not_told():
    """A freeing counts for others from its commit, and nobody knows when that is before the client is told."""
    story = Story().takes("a", 1).gives("a", 1).is_denied("b")
    assert story.tell("returned", "a", op=2).offence is None


def test_a_freed_seat_that_is_free_for_one_is_free_for_the_next():
    """One denial says that the seat is not yet free, an earlier grant says that it is."""
    story = Story(2).takes("a", 1).takes("b", 2).gives("a", 1).takes("c", 3).is_denied("d")
    assert story.offence is None
    story = Story(2).takes("a", 1).takes("b", 2).gives("a", 1)
    story.takes("c", 3).returns("c", 3).is_denied("d").tell("returned", "a", op=3)
    assert story.offence is not None


def test_a_lost_seat():
    """It was returned, that was told, and nobody ever gets it again."""
    story = Story(2).takes("a", 1).takes("b", 2).returns("a", 1)
    for client in "cdefg":
        story.is_denied(client)
    assert story.offence is not None
    assert len(story.offence.operations) == 1  # one of them shows it


def test_freed_while_held():
    story = Story().takes("a", 1).takes("b", 2)
    story.tell("lost", "a", handle=1)
    assert "b was granted" in story.offence.text


def test_a_seat_is_freed_after_its_client_ceased_to_believe():
    story = Story().takes("a", 1)
    story.takes("b", 2)  # at 3 to 4
    assert story.tell("lost", "a", handle=1, until=2.5).offence is None


def test_a_dead_client_may_hold_for_ever_or_not():
    for rest in (lambda s: s.is_denied("b"), lambda s: s.takes("b", 2), lambda s: s.is_denied("b").takes("b", 2)):
        assert rest(Story().takes("a", 1).tell("died", "a")).offence is None


def test_a_dead_client_holds_once():
    story = Story().takes("a", 1).tell("died", "a").takes("b", 2).returns("b", 2).is_denied("c")
    assert story.offence is not None


def test_a_dead_client_whose_seats_are_known_to_be_free():
    story = Story().takes("a", 1).tell("died", "a").tell("settled", "a")
    assert story.is_denied("b").offence is not None


def test_what_was_given_up_may_be_granted_until_it_is_settled():
    story = Story()
    story.tell("gave up", "a", op=story.asks("a"))
    assert story.is_denied("b").offence is None
    assert story.takes("b", 1).returns("b", 1).offence is None
    assert story.tell("settled", "a").is_denied("c").offence is not None


def test_what_was_asked_in_two_sessions_may_have_been_granted_in_the_first():
    for anew in (True, False):
        story = Story()
        op = story.asks("a")
        if anew:
            story.tell("anew", "a")
        story.is_denied("b").takes("b", 1).returns("b", 1)
        story.tell("denied", "a", op=op, code=-18)
        assert (story.offence is None) == anew


def test_denials_for_other_reasons_are_not_judged():
    assert Story().is_denied("a", code=-18).is_denied("a", code=-5).offence is None


def test_a_grant_in_flight_explains_a_denial_that_comes_first():
    story = Story()
    op = story.asks("a")
    assert story.is_denied("b").tell("granted", "a", op=op, handle=1).offence is None


def test_pools_are_judged_apart():
    story = Story().takes("a", 1)
    story.events += [Event(0.0, "pool", feature="f2", count=1), Event(9.0, "checkout", "b", 1, "f2")]
    story.events += [Event(10.0, "granted", "b", 1, handle=2)]
    assert story.offence is None


def test_the_window_is_small():
    story = Story(3).takes("a", 1)
    for handle in range(2, 200):
        story.takes("b", handle).returns("b", handle)
    story.is_denied("c")
    for handle in range(200, 300):
        story.takes("b", handle).returns("b", handle)
    offence = story.offence
    assert len(offence.operations) == 1
    assert [one.handle for one in offence.holders] == [1]
    with pytest.raises(Violation, match="c was denied 1 of 3 seats") as caught:
        check_history(story.history)
    assert caught.value.name == "history"


def test_too_many_ways_are_said(monkeypatch):
    monkeypatch.setattr(linearize, "CONFIGURATIONS_MAX", 1)
    story = Story(2)
    ops = [story.asks(client, count) for client, count in zip("abcd", (1, 2, 1, 2), strict=True)]
    story.tell("denied", "a", op=ops[0], code=USERS_REACHED)
    for op, client in zip(ops[1:], "bcd", strict=True):
        story.tell("granted", client, op=op, handle=op)
    with pytest.raises(linearize.TooConcurrent):
        _ = story.offence


# --- against all orders ----------------------------------------------------------------------------------------------


def explained(history):
    """Try every order: the definition, word for word, for a handful of operations of known result."""
    operations = list(history.operations)
    seats = history.pools["f1"]

    def go(left, in_use):
        if all(one.ended_at == NEVER for one in left):
            return True
        for one in left:
            if any(other.ended_at < one.began_at for other in left):
                continue
            free = seats - in_use
            if one.kind == "checkout" and (free >= one.count) != (one.result == "granted"):
                continue
            if one.kind != "checkout" and any(o.result == "granted" and o.handle == one.handle for o in left):
                continue
            change = {"granted": one.count, "denied": 0}.get(one.result, -one.count)
            if go([other for other in left if other is not one], in_use + change):
                return True
        return False

    return go(operations, 0)


@st.composite
def anything(draw):
    """Up to four clients that ask and are told anything at all."""
    story = Story(draw(st.integers(1, 3)))
    state: dict[str, Any] = dict.fromkeys("abcd", "idle")
    held: dict[str, Any] = {}
    handle = 0
    for _ in range(draw(st.integers(2, 15))):
        client = draw(st.sampled_from("abcd"))
        now = state[client]
        if now == "idle" and held.get(client) and draw(st.booleans()):
            story.gives(client, held.pop(client))
            state[client] = ("checkin", story.ops)
            if draw(st.integers(0, 9)) == 0:
                story.tell("died", client)
                state[client] = "dead"
        elif now == "idle" and not held.get(client):
            state[client] = ("checkout", story.asks(client, draw(st.sampled_from([1, 1, 2]))))
        elif now == "idle":
            until = draw(st.sampled_from([NEVER, NEVER, story.at - 1, 0.0]))
            story.tell("lost", client, handle=held.pop(client), until=until)
        elif now[0] == "checkin":
            story.tell("returned", client, op=now[1])
            state[client] = "idle"
        elif now != "dead":
            state[client] = "idle"
            if draw(st.booleans()):
                handle += 1
                held[client] = handle
                story.tell("granted", client, op=now[1], handle=handle)
            else:
                story.tell("denied", client, op=now[1], code=USERS_REACHED)
    history = story.history
    known = [one for one in history.operations if one.kind != "checkout" or one.result != "unknown"]
    return History(history.pools, known)


@settings(max_examples=examples(100), deadline=None)
@given(anything())
def test_agrees_with_trying_every_order(history):
    assert (find_offence(history) is None) == explained(history)


@st.composite
def right(draw):
    """A pool that does one thing at a time, and clients that see it late; what they leave open is left open."""
    seats = draw(st.integers(1, 4))
    events = [Event(0.0, "pool", feature="f1", count=seats)]
    in_use, handle, op, at = 0, 0, 0, 0.0
    held: dict[str, Any] = {}
    busy_until: dict[str, float] = {}
    numbers: dict[str, int] = {}
    for _ in range(draw(st.integers(1, 60))):
        at += draw(st.sampled_from([0.1, 0.5, 1.0]))
        name = draw(st.sampled_from("abcdef"))
        client = f"{name}{numbers.setdefault(name, 0)}"
        began = max(busy_until.get(client, 0.0), at - draw(st.sampled_from([0.0, 0.3, 3.0])))
        ended = at + draw(st.sampled_from([0.0, 0.3, 3.0]))
        if began > at:
            continue
        op += 1
        if client in held:
            mine, count, told_at = held[client]
            if told_at > at:
                continue
            began = max(began, told_at)
            del held[client]
            in_use -= count
            if draw(st.integers(0, 5)) == 0:
                events.append(Event(began, "died", client))
                numbers[name] += 1
                continue
            events.append(Event(began, "checkin", client, op, handle=mine))
            events.append(Event(ended, "returned", client, op))
        else:
            count = draw(st.sampled_from([1, 1, 2]))
            events.append(Event(began, "checkout", client, op, "f1", count))
            if draw(st.integers(0, 9)) == 0:
                events.append(Event(ended, "gave up", client, op))
                busy_until[client] = ended
                continue
            if in_use + count > seats:
                events.append(Event(ended, "denied", client, op, code=USERS_REACHED))
            else:
                handle += 1
                in_use += count
                held[client] = handle, count, ended
                events.append(Event(ended, "granted", client, op, handle=handle))
        busy_until[client] = ended
    return History.of(events)


@settings(max_examples=examples(100), deadline=None)
@given(right())
def test_what_a_pool_does_is_right(history):
    offence = find_offence(history)
    assert offence is None, offence.report()


# --- files -----------------------------------------------------------------------------------------------------------


def write(path, events):
    path.write_text("".join(event.line() + "\n" for event in events), encoding="utf-8")
    return str(path)


def test_files_of_a_run_are_judged_together(tmp_path, capsys):
    story = Story().takes("a", 1)
    first = write(tmp_path / "1.jsonl", story.events)
    assert main([first]) == 0
    assert capsys.readouterr().out == "linearizable: 1 operations on 1 pools: 1 granted, 0 checkins\n"
    second = write(tmp_path / "2.jsonl", Story().takes("b", 2).events)
    assert main([first, second]) == 1
    assert "1 of 1 seats, and never can 1 have been free" in capsys.readouterr().out


def test_a_line_that_was_cut_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "1.jsonl"
    write(path, Story().takes("a", 1).events)
    path.write_text(path.read_text()[:-9])
    (operation,) = History.read(path).operations
    assert operation.result == "unknown"


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", "{}", '{"at":1,"event":"sleep"}', '{"at":"1","event":"died","client":"a"}',
     '{"at":1,"event":"checkout","client":"a","op":1,"feature":"f1","count":0}',
     '{"at":1,"event":"granted","client":"a","op":1,"handle":2}',
     '{"at":1,"event":"checkin","client":"a","op":1,"handle":2}',
     '{"at":1,"event":"checkout","client":"a","op":1,"feature":"unknown","count":1}'],
)  # fmt: skip
def test_what_is_no_history_is_refused(tmp_path, capsys, line):
    path = tmp_path / "1.jsonl"
    path.write_text(line + "\n")
    assert main([str(path)]) == 2
    assert capsys.readouterr().err


def test_a_line_holds_what_an_event_has():
    event = Event(1.5, "lost", "a", handle=3, until=1.0)
    assert json.loads(event.line()) == {"at": 1.5, "event": "lost", "client": "a", "handle": 3, "until": 1.0}
    assert Event.from_line(event.line()) == event


def test_two_counts_of_one_pool_are_refused():
    with pytest.raises(HistoryError, match="two counts of f1"):
        History.of([*Story(1).events, *Story(2).events])
