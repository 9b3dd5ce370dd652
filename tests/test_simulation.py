"""The simulated triad: seeds with all faults on, scripted schedules, and scenarios that read like the manual."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flexcore.ledger.commands import LingerPassed, SeatLingers, SeatRemoved
from flexcore_testing.checks import Violation
from flexcore_testing.coverage import RULE, SHOWN_BY, probing, rule_names
from flexcore_testing.disk import Disk
from flexcore_testing.profile import BEYOND, MEMORY, WITHIN, draw_profile
from flexcore_testing.scenario import run_scenario
from flexcore_testing.schedules import SCHEDULES, run_schedule
from flexcore_testing.simulate import Tally, failure_text, run_many
from flexcore_testing.stories import STORIES
from flexcore_testing.terms import TERMS, TermsChecks

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


@pytest.mark.parametrize("name", sorted(STORIES))
def test_story_holds(name):
    STORIES[name]()


def test_licence_terms_among_faults():
    """Who waits, lingers, idles and is removed while servers die and read their files anew."""
    tally = Tally()
    for outcome in run_many([2, 3, 7], focus=TERMS):
        assert not outcome.failure, failure_text(outcome, WITHIN, "full")
        tally.add(outcome)
    for seen in ("lingered", "resumed", "removed", "queued", "reread of options", "lmremove", "said to be idle"):
        assert tally.counts[seen], seen


@pytest.mark.parametrize("level", ["full", "quorum"])
def test_a_triad_in_memory_among_faults(level, monkeypatch):
    """Servers that keep nothing, one of which dies at a time and starts blank."""
    monkeypatch.setattr(Disk, "write", lambda self, batch: pytest.fail("a server in memory wrote to its disk"))
    tally = Tally()
    for outcome in run_many([2, 4, 6], level=level, focus=MEMORY):
        assert not outcome.failure, failure_text(outcome, WITHIN, level)
        tally.add(outcome)
    assert tally.counts["fault lose disk"] > 5
    assert tally.counts["elections"] > 5


def test_no_seed_draws_licence_terms_of_itself():
    assert not any(draw_profile(seed).terms or draw_profile(seed).in_memory for seed in range(50))


def refuse(name, text):
    raise Violation(name, text)


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ((SeatLingers(b"a", 1, 0, 7, 30.0, 40.0), LingerPassed(39.0, (7,))), "lingers until"),
        ((SeatRemoved(b"a", 7, 0, "x", "x"), SeatLingers(b"a", 1, 0, 7, 30.0, 40.0)), "was taken away and lingers"),
        ((LingerPassed(20.0, ()), LingerPassed(10.0, ())), "goes back"),
        ((LingerPassed(1e6, ()),), "the linger clock shows"),
    ],
)
def test_the_checks_of_terms_can_fail(commands, said):
    checks = TermsChecks(refuse, lambda: 100.0)
    for command in commands[:-1]:
        checks.committed(command)
    with pytest.raises(Violation, match=said):
        checks.committed(commands[-1])


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
