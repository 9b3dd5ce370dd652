"""The attacks of ``make chaos``, for some seconds, on 127.0.0.1 to .3.

At any time at most one server is down, so nothing may ever be lost (I4), and the sum of what the
clients believe in may never exceed the licence (I3). ``FLEXCORE_CHAOS_S`` makes it longer,
``FLEXCORE_CHAOS_SEED`` repeats a run as far as real processes can be repeated.
"""

from __future__ import annotations

import os
import sys

import pytest

from flexcore_testing.chaos import attacks_disk, attacks_process, attacks_proxy
from flexcore_testing.chaos.conduct import conduct
from flexcore_testing.chaos.ground import Loopback
from flexcore_testing.chaos.report import table

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
]

CHAOS_S = float(os.environ.get("FLEXCORE_CHAOS_S", "12"))
SEED = int(os.environ.get("FLEXCORE_CHAOS_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
QUICK = {
    each.__name__.replace("_", "-")
    for each in (
        attacks_process.kill_and_restart, attacks_process.lose_disk, attacks_process.stop, attacks_process.freeze,
        attacks_process.wall_clock, attacks_process.kill_client, attacks_disk.cut_state_file,
        attacks_disk.foreign_state_file, attacks_disk.failing_disk, attacks_proxy.resets, attacks_proxy.isolate,
        attacks_proxy.one_way,
    )
}  # fmt: skip
"""Those that are over in a second or a few."""


def test_nothing_is_lost_and_nothing_is_given_twice(tmp_path):
    ground = Loopback(SEED)
    try:
        outcome = conduct(
            tmp_path, ground, name="loopback", seed=SEED, seconds=CHAOS_S, wanted=QUICK, say=print, runners=0
        )
    finally:
        ground.close()
    print("\n".join(table([outcome])))
    assert outcome.failure == ""
    assert outcome.findings.bad == []
    assert sum(outcome.attacks.values()) > 0
    assert outcome.findings.granted > 0
    assert outcome.compared > 0
