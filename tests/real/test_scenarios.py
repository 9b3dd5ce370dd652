"""The scenarios of tests/scenarios, which read like the manual, against real lmgrd processes and real clients.

A few of them in every run; ``make scenarios`` (FLEXCORE_SCENARIOS=all) runs all, and all once more with a failover, a
restart of all servers and a reread behind every third step. What cannot be run says so in the
scenario, and why.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from flexcore_testing.scenario_disturbed import not_disturbed
from tests.real.scenario_stage import only_simulated, run_real_scenario
from tests.real.scenario_trouble import run_disturbed_scenario

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
]

SCENARIOS = sorted((Path(__file__).parents[1] / "scenarios").glob("*.txt"))
IN_EVERY_RUN = ("reserve",)
ALL = os.environ.get("FLEXCORE_SCENARIOS") == "all"


@pytest.mark.parametrize(
    "path",
    [path for path in SCENARIOS if ALL or path.stem in IN_EVERY_RUN],
    ids=lambda path: path.stem,
)
def test_scenario(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    if reason := only_simulated(text):
        pytest.skip(reason)
    run_real_scenario(text, tmp_path)


@pytest.mark.parametrize("path", [path for path in SCENARIOS if ALL], ids=[path.stem for path in SCENARIOS if ALL])
def test_nobody_notices_trouble(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    if reason := only_simulated(text) or not_disturbed(text):
        pytest.skip(reason)
    run_disturbed_scenario(text, tmp_path)
