"""The judge of chaos runs is shown books that are wrong on purpose."""

from __future__ import annotations

import json

import pytest

from flexcore_testing.chaos.audit import audit, longest_gaps
from flexcore_testing.chaos.conduct import Outcome, from_json, to_json
from flexcore_testing.chaos.report import table

LICENSED = {"f1": 2}


def grant(at, handle, count=1):
    return {"at": at, "what": "granted", "op": 1, "feature": "f1", "handle": handle, "count": count, "started": 0.0}


def row(at, what, **fields):
    return {"at": at, "what": what, **fields}


def judge(folder, excused=(), **books):
    for name, rows in books.items():
        (folder / f"book-{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return audit(sorted(folder.glob("book-*.jsonl")), LICENSED, excused=frozenset(excused))


def held(begun, ended, handle, count=1):
    return [grant(begun, handle, count), row(ended, "return", handle=handle), row(ended, "returned", handle=handle)]


def test_books_in_order(tmp_path):
    found = judge(tmp_path, a=held(1, 3, 1), b=held(2, 4, 2), c=held(3, 5, 3))
    assert found.bad == []
    assert (found.granted, found.returned, found.most) == (3, 3, {"f1": 2})


def test_over_the_count(tmp_path):
    found = judge(tmp_path, a=held(1, 3, 1), b=held(2, 4, 2, count=2))
    assert len(found.over) == 1
    assert "3 of 2 f1" in found.over[0]


def test_a_belief_ends_with_the_last_look(tmp_path):
    frozen = [grant(1, 1, 2), row(2, "held", handle=1), row(60, "lost", handle=1, why="lease")]
    found = judge(tmp_path, excused=["a"], a=frozen, b=held(50, 51, 2, count=2))
    assert found.bad == []
    found = judge(tmp_path, excused=["a"], a=frozen, b=held(1.5, 51, 2, count=2))
    assert len(found.over) == 1


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("lost", [grant(1, 1), row(2, "lost", handle=1, why="?")]),
        ("wrong", [row(1, "ask"), row(2, "denied", feature="f1", code=-9)]),
        ("wrong", [row(1, "ask"), row(2, "silent", feature="f1", why="?")]),
    ],
)
def test_what_no_client_may_see(tmp_path, kind, rows):
    found = judge(tmp_path, a=rows)
    assert len(getattr(found, kind)) == len(found.bad) == 1
    if rows[-1]["what"] != "denied":
        assert judge(tmp_path, excused=["a"], a=rows).bad == []


def test_a_handle_is_given_once(tmp_path):
    found = judge(tmp_path, a=held(1, 2, 7), b=held(3, 4, 7))
    assert found.double == ["handle 7 was given to a and to b"]


def test_gaps_leave_out_the_quiet_moments():
    assert longest_gaps([1.0, 2.0, 9.0, 10.0], [(3.0, 8.0)]) == [(1.0, 9.0), (1.0, 1.0)]


def test_the_table_shows_what_went_wrong(tmp_path):
    found = judge(tmp_path, a=held(1, 3, 1), b=held(2, 4, 2, count=2))
    outcome = Outcome(ground="loopback", seed=5, findings=found)
    outcome.attacks["kill"] = 3
    again = from_json(to_json(outcome))
    assert again == outcome
    assert again.failed
    text = "\n".join(table([again]))
    assert "FAILED (loopback): 3 of 2 f1" in text
    assert not Outcome(ground="loopback", seed=5).failed
