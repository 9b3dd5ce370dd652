"""The shapes of the debug log, each as its readers match it (observed-formats D0 to D8)."""

from __future__ import annotations

import doctest
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexcore.report import civil, logline

# How the monitoring tools read a log: the time with its blank, the daemon as \w+, then the text.
READER = re.compile(r"^(?P<time>[ \d]\d:\d\d:\d\d) \((?P<daemon>\w+)\) (?P<text>.*)$")
OUT = re.compile(r'^(OUT|IN): "(?P<feature>[^"]+)" (?P<who>.+)  (?:\((?P<n>\d+) licenses\) )?')


def test_examples_in_docstrings():
    for module in (logline, civil):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("wall", "offset", "expected"),
    [
        (32281.0, 0.0, " 8:58:01 (demo) x"),
        (32281.9, 3600.0, " 9:58:01 (demo) x"),
        (0.0, -1.0, "23:59:59 (demo) x"),
        (86399.0, 0.0, "23:59:59 (demo) x"),
        (0.0, 0.0, " 0:00:00 (demo) x"),
    ],
)
def test_a_line_starts_with_the_time_in_the_zone(wall, offset, expected):
    assert logline.log_line(wall, offset, "demo", "x") == expected


def test_lines_of_licences():
    assert logline.out_line("mill", "ann", "elm", 1) == 'OUT: "mill" ann@elm  '
    assert logline.out_line("mill", "ann", "elm", 2) == 'OUT: "mill" ann@elm  (2 licenses) '
    assert logline.in_line("mill", "ann", "elm", 1) == 'IN: "mill" ann@elm  '
    assert logline.in_line("mill", "ann", "elm", 1, "INACTIVE") == 'IN: "mill" ann@elm  (INACTIVE)'
    assert (
        logline.denied_line("mill", "a b", "elm", 1, "Licensed number of users already reached.",
                            -4, 342)
        == 'DENIED: "mill" a b@elm  (Licensed number of users already reached. (-4,342))'
    )  # fmt: skip
    assert (
        logline.unsupported_line("mill", ["PORT_AT_HOST_PLUS"], "ann", "elm",
                                 "No such feature exists", -5, 346)
        == 'UNSUPPORTED: "mill" (PORT_AT_HOST_PLUS ) ann@elm  (No such feature exists. (-5,346))'
    )  # fmt: skip


def test_lines_of_the_triad_and_of_the_end():
    assert logline.connected_line("lee") == "Connected to lee"
    assert logline.master_line("pat") == "CONNECTED, master is pat"
    assert logline.lost_connection_line("lee") == "Lost connection to lee"
    assert logline.lost_quorum_line() == "Lost quorum"
    assert logline.timestamp_line(1795475000.0, 0.0) == "TIMESTAMP 11/23/2026"
    assert (
        logline.shutdown_requested_line("ann", "elm", "127.0.0.1")
        == "Shutdown requested from ann@elm IP=127.0.0.1"
    )
    assert logline.lmgrd_exiting_line() == "License server manager (lmgrd) exiting"


def test_the_banner_and_the_vendor_start():
    banner = logline.banner_lines()
    assert banner[0] == banner[-1]
    assert set(banner[0]) == {"-"}
    assert banner[1:4] == ("  Please Note:", " ", "  This log is intended for debug purposes only.")
    lines = logline.vendor_start_lines("elm", [f"feature{n}" for n in range(9)], "0.1.0", "1", "x")
    assert lines[0] == "flexcore Licensing version v0.1.0 build 1 x"
    assert lines[1] == "Server started on elm for:\tfeature0\t\t"
    assert lines[-1] == "EXTERNAL FILTERS are OFF"
    listed = [name for line in lines[1:-1] for name in line.split(":")[-1].split()]
    assert listed == [f"feature{n}" for n in range(9)]
    assert all(len(line.expandtabs()) <= 80 for line in lines)


TEXT = st.text(min_size=1, max_size=30)


@given(st.floats(), st.integers(-50_000, 50_000), TEXT)
def test_whatever_a_client_calls_itself_stays_in_one_readable_line(wall, offset, text):
    line = logline.log_line(wall, offset, "demo", logline.out_line("mill", text, text, 3))
    assert line.splitlines() == [line]
    line.encode()
    read = READER.match(line)
    assert read is not None
    assert OUT.match(read["text"]) is not None


@given(st.integers(-62_000_000_000, 250_000_000_000), st.integers(-86_400, 86_400))
def test_arithmetic_agrees_with_the_library(wall, offset):
    import datetime

    zone = datetime.timezone(datetime.timedelta(seconds=max(-86_399, min(86_399, offset))))
    offset = int(zone.utcoffset(None).total_seconds())
    expected = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=wall + offset)
    at = civil.civil(float(wall), float(offset))
    assert at[:6] == expected.timetuple()[:6]
    assert at.weekday == expected.strftime("%a")


@pytest.mark.parametrize("wall", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_no_instant_is_unprintable(wall):
    assert READER.match(logline.log_line(wall, 0.0, "demo", "x"))
