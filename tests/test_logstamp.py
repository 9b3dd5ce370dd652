"""The time in front of a log's lines: that of the second, whatever the zone does, asked for once in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexcore.report.logline import dated_log_line, log_line
from flexcore_host.logstamp import LinePrinter

LINES = [("lmgrd", "Lost quorum"), ("demo\t", 'OUT: "f1" ann@elm\n')]
OFFSETS_S = st.sampled_from([0, 3600, 7200, -12600, 45900])


@pytest.mark.parametrize("dated", [False, True])
@given(st.lists(st.tuples(st.floats(0, 2e9), OFFSETS_S), min_size=1))
def test_every_line_is_as_if_it_were_printed_alone(dated, moments):
    zone = {int(wall): offset for wall, offset in moments}  # one a second: zones change on whole ones
    at = [0.0]
    printer = LinePrinter(dated=dated, wall=lambda: at[0], utc_offset_s=lambda wall: zone[int(wall)])
    alone = dated_log_line if dated else log_line
    for wall, _ in moments:
        at[0] = wall
        assert printer(LINES) == [alone(wall, zone[int(wall)], *line) for line in LINES]


def test_the_zone_is_asked_for_once_a_second_and_the_clock_may_jump_back():
    asked = []
    at = [1000.25]

    def offset_s(wall):
        asked.append(wall)
        return 0.0

    printer = LinePrinter(wall=lambda: at[0], utc_offset_s=offset_s)
    assert printer(LINES[:1]) == [" 0:16:40 (lmgrd) Lost quorum"]
    at[0] = 1000.99
    printer(LINES)
    assert asked == [1000.0]
    at[0] = 3.5
    assert printer(LINES[:1]) == [" 0:00:03 (lmgrd) Lost quorum"]
    assert printer([]) == []
    assert asked == [1000.0, 3.0]
