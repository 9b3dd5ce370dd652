"""The simulated triad: seeds with all faults on, scripted schedules, and scenarios that read like the manual."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flexcore_testing.coverage import RULE, SHOWN_BY, probing, rule_names
from flexcore_testing.profile import BEYOND, WITHIN
from flexcore_testing.scenario import run_scenario
from flexcore_testing.schedules import SCHEDULES, run_schedule
from flexcore_testing.simulate import Tally, failure_text, run_many

SEEDS = int(os.environ.get("FLEXCORE_SIM_SEEDS", "200"))
"""How many seeds of whole servers with clients; half as many of bare quorums, a tenth beyond the assumptions."""

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


def run(count, campaign, level):
    tally = Tally()
    for outcome in run_many(range(1, count + 1), campaign, level=level, jobs=2 if count >= 20 else 1):
        tally.add(outcome)
        if outcome.failure:
            pytest.fail(failure_text(outcome, campaign, level), pytrace=False)
    print(tally.headline())
    return tally


@pytest.mark.slow
def test_servers_and_clients_under_all_faults():
    tally = run(SEEDS, WITHIN, "full")
    assert tally.counts["elections"] >= SEEDS
    assert tally.counts["checkouts"] >= SEEDS
    assert tally.counts["faults"] >= SEEDS


@pytest.mark.slow
def test_bare_quorums_under_all_faults():
    tally = run(max(1, SEEDS // 2), WITHIN, "quorum")
    assert tally.counts["grants committed"] >= SEEDS // 2


@pytest.mark.slow
def test_beyond_the_assumptions():
    """Any disk may be lost, and death falsely reported: one master a term, no over-issue, no renewal by a ghost."""
    run(max(1, SEEDS // 10), BEYOND, "full")


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedule_holds(name):
    """... and exercises the rule that no seed has to show because of it."""
    with probing() as counts:
        run_schedule(name)
    assert [rule for rule, by in SHOWN_BY.items() if by == name and not counts[RULE + rule]] == []


def test_schedules_that_show_a_rule_exist():
    assert set(SHOWN_BY.values()) <= set(SCHEDULES)
    assert set(SHOWN_BY) <= set(rule_names())


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path):
    text = path.read_text(encoding="utf-8")
    assert run_scenario(text) == text


def test_a_seed_replays():
    first, second = list(run_many([7, 7], level="quorum"))
    assert first.counts == second.counts
    assert first.simulated_s == second.simulated_s
