"""Scenarios with a failover, a restart of all servers and a reread in their middle, of which nobody may notice (I9).

Here the three take turns, one behind every second step. ``make scenarios`` does each of them behind each step, and
has all three on real servers (tests/real/test_scenarios.py).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from flexcore_testing.scenario_disturbed import KINDS, not_disturbed, run_disturbed

FOLDER = Path(__file__).parent / "scenarios"
SCENARIOS = [path for path in sorted(FOLDER.glob("*.txt")) if not not_disturbed(path.read_text(encoding="utf-8"))]
ALL = os.environ.get("FLEXCORE_SCENARIOS") == "all"
IN_TURN = tuple(KINDS)


def test_nearly_all_are_disturbed_and_the_others_say_why():
    others = [path.stem for path in sorted(FOLDER.glob("*.txt")) if path not in SCENARIOS]
    assert len(others) < len(SCENARIOS) / 2
    assert all(len(not_disturbed((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))) > 10 for name in others)


def test_the_table_of_semantics_is_complete():
    """Each scenario that it names exists, each file of a test does, and no scenario about licences is missing."""
    page = (FOLDER.parents[1] / "docs" / "simulation.rst").read_text(encoding="utf-8")
    table = page.partition("* - Semantic")[2].partition("When a seed fails")[0]
    named = set(re.findall(r"``(\w+)\.txt``", table))
    there = {path.stem for path in FOLDER.glob("*.txt")}
    assert named <= there
    about_licences = {
        path.stem for path in FOLDER.glob("*.txt")
        if re.search(r"^(licence|option) \S", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert about_licences <= named, about_licences - named
    assert all((FOLDER.parents[1] / file).exists() for file in re.findall(r"``(tests/\S+\.py)``", table))


@pytest.mark.parametrize("kinds", [IN_TURN, *((kind,) for kind in KINDS)] if ALL else [IN_TURN], ids=" ".join)
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_nobody_notices(path, kinds):
    assert run_disturbed(path.read_text(encoding="utf-8"), kinds, every=1 if ALL else 2) >= 1
