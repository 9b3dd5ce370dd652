"""No false alarm: ten simulated minutes of a healthy triad under load, with the shortest interval, elect nobody."""

from __future__ import annotations

import pytest

from flexcore_testing.calm import simulated_elections


@pytest.mark.slow
def test_ten_minutes_of_load_elect_nobody():
    elections, checkouts = simulated_elections(600.0)
    assert elections == 0
    assert checkouts >= 1000
