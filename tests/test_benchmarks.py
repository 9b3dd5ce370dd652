"""The benchmark runs: a slice of it, for a blink, with every reply checked. Nothing is asserted about time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import etcd
from benchmarks.frames import DENIED, GRANTED, Asking, Replies, frame_of
from benchmarks.load import Figure
from benchmarks.machine import Missing, module
from benchmarks.rows import AT_LEAST, AT_MOST, B, Goal, Result, Row
from benchmarks.table import cells, rst_table, text_table
from flexcore.wire.connection import Connection
from flexcore.wire.messages import CheckedIn, Checkin, Checkout, Denied, Granted, Message

HOUSE = Path(__file__).resolve().parent.parent


def row(name: str, *goals: Goal, unit: str = "op/s") -> Row:
    return Row(name=name, group="g", text=name, measure=lambda _seconds: 0.0, goals=goals, unit=unit)


def result(name: str, values: list[float | None], *goals: Goal, unit: str = "op/s") -> Result:
    return Result(row(name, *goals, unit=unit), [None if value is None else Figure(ops_s=value) for value in values])


def test_a_slice_of_it_runs_and_every_reply_is_right(tmp_path):
    """A wrong reply ends the load generator with an exception, and so this command."""
    out = tmp_path / "bench.json"
    only = [word for name in ("core 64", "single 10", "triad 100", "parse 10", "version") for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(out), *only],
        cwd=HOUSE, check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {each["name"]: each for each in json.loads(out.read_text())["rows"]}
    assert rows.keys() == {"echo 1", "core 64", "single 10", "triad 100", "parse 10", "version"}
    assert all(each["rounds"][0]["ops_s"] > 0 for each in rows.values()), rows


def test_frames_are_those_of_the_codec():
    asking, wire = Asking("f1"), Connection()
    wire.receive_data(asking.checkout(7) + asking.checkin(8, 99))
    assert wire.next_message() == Checkout(8, 7, 6, "f1", "1.0", 1, 0)
    assert wire.next_message() == Checkin(9, 8, 7, 99, 0)


def test_replies_are_read_in_any_pieces():
    said: list[Message] = [
        Granted(2, 1, 5, True, 77, "f1", "1.0", 1, 1.5, "a line", ("ANY",)),
        Denied(3, 2, 5, True, -4, 342, "no", "more"),
        CheckedIn(4, 3, 5, True, 77),
    ]
    data = b"".join(frame_of(each) for each in said)
    for cut in range(len(data)):
        replies = Replies()
        found = replies.take(data[:cut]) + replies.take(data[cut:])
        assert [each[1:] for each in found] == [(1, 77), (2, 0), (3, 77)]
        assert [each[0] for each in found][:2] == [GRANTED, DENIED]


def test_ratios_are_taken_within_a_round():
    """A machine that became ten times slower in the second round has changed nothing."""
    floor = result(B, [100.0, 10.0, 100.0])
    own = result("own", [200.0, 20.0, None])
    assert own.ratios(floor) == [2.0, 2.0]


@pytest.mark.parametrize(
    ("goal", "values", "met"),
    [
        (Goal(AT_LEAST, 2), [200.0, 200.0], True),
        (Goal(AT_LEAST, 2.1), [200.0, 200.0], False),
        (Goal(AT_MOST, 10, ""), [9.0, 12.0, 9.5], True),
        (Goal(AT_MOST, 10, "", worst=True), [9.0, 12.0, 9.5], False),
    ],
)
def test_a_goal_is_met_or_not(goal, values, met):
    results = {B: result(B, [100.0] * len(values)), "own": result("own", values, goal)}
    judged = results["own"].judged(goal, results)
    assert judged is not None
    assert judged[1] is met
    assert cells(results["own"], results)[0][-1] == ("yes" if met else "NO")


def test_what_was_not_measured_is_a_gap_that_says_why():
    results = {"own": Result(row("own", Goal(AT_LEAST, 1)), [None], missing="etcd is not installed")}
    assert "not measured" in text_table(results)
    assert "etcd is not installed" in rst_table(results)


def test_what_etcd_is_asked_is_what_its_proto_file_says():
    """Against bytes made by protobuf's own rules: tags, lengths, and a version of 0 that is said though it is 0."""
    assert etcd.take(b"f1/7", b"seat") == (
        b"\x0a\x0c\x08\x00\x10\x00\x1a\x04f1/7\x20\x00"  # compare: EQUAL, VERSION, key, version
        b"\x12\x0e\x12\x0c\x0a\x04f1/7\x12\x04seat"  # success: put key, value
    )  # fmt: skip
    assert etcd.give_back(b"f1/7") == b"\x0a\x04f1/7"
    assert etcd.varint(300) == b"\xac\x02"


def test_etcd_s_answers_are_read_and_what_is_none_is_refused():
    member = 0xC6BA1FEDFC83F0DE
    answer = etcd.piece(1, etcd.whole(1, 5) + etcd.whole(2, member)) + etcd.whole(2, 1) + etcd.whole(2, 3)
    read = etcd.fields(answer)
    assert read[2] == 3
    assert isinstance(read[1], bytes)
    assert etcd.fields(read[1])[2] == member
    assert etcd.fields(b"") == {}
    with pytest.raises(ValueError, match="wire type 5"):
        etcd.fields(b"\x0d\0\0\0\0")


def test_without_the_package_the_row_says_which_is_missing(monkeypatch):
    monkeypatch.setattr("benchmarks.machine.importlib.util.find_spec", lambda name: None)
    with pytest.raises(Missing, match="grpcio is not installed"):
        module("grpc", "grpcio")
