"""The campaign around the seeds: faults of disks, liars, what was exercised, small failures, and hours that go on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import attrs
import pytest

from flexcore.identity import Rank
from flexcore_testing import soak
from flexcore_testing.bare import BareTriad
from flexcore_testing.campaign import Outcome, run_case
from flexcore_testing.case import Case, CaseError
from flexcore_testing.checks import Violation
from flexcore_testing.coverage import coverage_text, never_exercised, probing, rule_names
from flexcore_testing.plan import Fault
from flexcore_testing.probes import CLIENT_PROBES, QUORUM_PROBES
from flexcore_testing.profile import ASSUMPTIONS, BEYOND, draw_profile
from flexcore_testing.schedule_kit import quiet_profile
from flexcore_testing.shrink import Shrinker
from flexcore_testing.simulate import main
from flexcore_testing.striker import _HANDLERS, Striker

P, S, T = Rank.PRIMARY, Rank.SECONDARY, Rank.TERTIARY
CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))


def fault(kind: str, *, at: float = 0.0, target: int = 0, for_s: float = 1.0, draw: float = 0.1) -> Fault:
    return Fault(at=at, kind=kind, target=target, other=(target + 1) % 3, for_s=for_s, draw=draw)


@pytest.fixture
def triad() -> BareTriad:
    triad = BareTriad(quiet_profile(interval_s=1))
    for rank in Rank:
        triad.start(rank)
    triad.start_traffic()
    triad.advance(20)
    assert triad.master() is not None
    return triad


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_kept_case_holds(path):
    """Each was the smallest schedule of a failure that is mended."""
    outcome = run_case(Case.from_json(path.read_text(encoding="utf-8")))
    assert not outcome.failure, outcome.text


# --- faults ----------------------------------------------------------------------------------------------------------


def test_every_fault_that_is_drawn_can_be_carried_out():
    drawn: set[str] = set()
    for campaign in ("within", BEYOND):
        for seed in range(1, 120):
            drawn |= set(draw_profile(seed, campaign).faults)
    assert {name for name in drawn if not name.startswith("client")} == set(_HANDLERS)


@pytest.mark.parametrize("draw", [0.05, 0.3, 0.62, 0.9])
def test_a_torn_state_is_refused_and_the_server_comes_back_without_it(triad, draw):
    striker = Striker(triad)
    triad.on_refused_state = striker.refused_state
    assert striker.torn_disk(fault("torn disk", draw=draw), T)
    triad.advance(20)
    assert sum(number for name, number in triad.coverage.items() if name.startswith("state refused: ")) == 1
    assert triad.is_member(T)


def test_a_torn_state_that_starts_is_a_violation(triad):
    triad.kill(T)
    triad.hosts[T].torn = "row"  # said to be cut, and loads all the same
    with pytest.raises(Violation, match="torn"):
        triad.start(T)


def test_an_older_state_is_noticed_where_peers_remember(triad):
    striker = Striker(triad)
    master = triad.master()
    assert master is not None
    assert striker.stale_disk(fault("stale disk", target=master.rank, for_s=10.0), master.rank)
    triad.advance(10.5)
    assert triad.coverage["stale disk remembered"] == 1
    host = triad.hosts[master.rank]
    assert not striker.sound(master.rank)
    triad.advance(30)
    assert triad.is_member(master.rank)
    assert host.run is not None
    assert striker.sound(master.rank)


def test_a_full_disk_stops_the_server_and_nobody_else(triad):
    striker = Striker(triad)
    triad.on_exit = striker.restart_after_exit
    striker.full_disk(fault("full disk", for_s=9.0), S)
    triad.advance(8)
    assert triad.coverage["halt 1"] >= 1
    triad.advance(30)
    assert triad.is_member(S)


def test_a_hung_disk_answers_at_last_when_peace_begins(triad):
    striker = Striker(triad)
    striker.hung_disk(fault("hung disk", for_s=1e6), T)
    triad.advance(5)
    run = triad.run_of(T)
    assert run is not None
    assert run.pending is not None
    striker.peace()
    triad.advance(1)
    assert triad.run_of(T) is run
    assert run.pending is None or run.machine_host.hung_until == 0.0


def test_a_dial_whose_other_end_dies_at_once_is_answered(triad):
    """Found by seed 34: it was neither made nor failed, and the machine waited for it for ever."""
    run = triad.run_of(P)
    assert run is not None
    answers: list[str] = []
    triad.network.dial(run, "S", 12345, lambda _conn: answers.append("made"),
                       lambda _conn, _refused, error: answers.append(error))  # fmt: skip
    triad.world.run_until(triad.world.now + 10, lambda: (run.serial, 12345) in triad.network._links)
    triad.network._end(*triad.network._links[run.serial, 12345], orderly=False)  # the reset overtakes the news
    triad.advance(5)
    assert answers == ["Connection reset by peer"]


def test_liars_lie_and_hurt_nobody():
    outcome = run_case(Case(seed=3, focus={"liars": 2, "safety_timeouts": 8.0}))
    assert not outcome.failure, outcome.text
    assert sum(number for name, number in outcome.counts.items() if name.startswith("lie ")) > 20


def test_beyond_says_what_it_breaks():
    broken = Counter(name for seed in range(1, 60) for name in draw_profile(seed, BEYOND).broken)
    assert set(broken) == set(ASSUMPTIONS)
    assert draw_profile(1).holds is None


# --- coverage --------------------------------------------------------------------------------------------------------


def test_probes_fit_the_machines_and_are_taken_off_again():
    before = {(p.owner, p.method): p.owner.__dict__.get(p.method) for p in QUORUM_PROBES + CLIENT_PROBES}
    with probing():
        for owner, method in before:
            assert hasattr(getattr(owner, method), "__wrapped__"), f"{owner.__name__} has no {method}"
    assert before == {(owner, method): owner.__dict__.get(method) for owner, method in before}


def test_what_was_not_exercised_is_told_loudly():
    outcome = run_case(Case(seed=1, level="quorum", faults=()))
    assert outcome.counts["rule 9 form: done"] > 0
    never = never_exercised(outcome.counts, level="quorum")
    assert "fault kill" in never
    assert "rule 9 form: done" not in never
    text = coverage_text(outcome.counts, 1, level="quorum")
    assert "NEVER EXERCISED" in text
    assert "!!  fault kill" in text
    assert len(rule_names()) > 60


# --- shrinking -------------------------------------------------------------------------------------------------------


def fails_with(*kinds: str):
    """A run that fails if, and only if, faults of all these kinds are in the plan, in this order."""

    def run(case: Case) -> Outcome:
        seen = [fault.kind for fault in case.faults or ()]
        at = 0
        for kind in seen:
            if at < len(kinds) and kind == kinds[at]:
                at += 1
        failure = "I2" if at == len(kinds) else ""
        return Outcome(seed=case.seed, failure=failure, text="two masters", chart=(), counts=Counter(),
                       simulated_s=10.0, spent_s=0.0, case=case)  # fmt: skip

    return run


def test_shrinking_leaves_what_is_needed():
    kinds = ["cut", "kill", "pause", "reset", "kill", "flap", "power", "cut", "storm", "isolate", "stop one", "kill"]
    plan = tuple(fault(kind, at=number * 0.7, for_s=3.3) for number, kind in enumerate(kinds))
    case = Case(seed=1, faults=plan)
    shrunk = Shrinker(case, "I2", run=fails_with("pause", "storm", "kill"), seconds=60).shrink()
    assert shrunk is not None
    assert [each.kind for each in shrunk.case.faults or ()] == ["pause", "storm", "kill"]
    assert shrunk.case.focus["network"]["delay_s"] == 0.001
    assert Case.from_json(shrunk.case.to_json()) == shrunk.case
    assert "3 faults left" in shrunk.text()


def test_what_does_not_fail_is_not_shrunk():
    assert Shrinker(Case(seed=1, faults=()), "I2", run=fails_with("kill")).shrink() is None


def test_a_shrunk_failure_of_the_simulator_fails_again(monkeypatch):
    def broken(self: Striker, fault: Fault, target: Rank) -> bool:
        raise AssertionError("the pause is broken")

    monkeypatch.setattr(Striker, "pause", broken)
    case = Case(seed=2, level="quorum", focus={"safety_timeouts": 6.0},
                faults=(fault("cut", at=5.0), fault("pause", at=6.0), fault("kill", at=7.0)))  # fmt: skip
    shrunk = Shrinker(case, "AssertionError", seconds=20).shrink()
    assert shrunk is not None
    assert [each.kind for each in shrunk.case.faults or ()] == ["pause"]


NO_CAMPAIGN = '{"format": 1, "seed": 1, "campaign": "x", "level": "full", "focus": {}, "faults": null}'


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}', NO_CAMPAIGN])
def test_a_file_that_is_no_case_is_refused(text, tmp_path, capsys):
    with pytest.raises(CaseError):
        Case.from_json(text)
    path = tmp_path / "case.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--case", str(path)])
    assert "case" in capsys.readouterr().err


def test_a_case_is_replayed_by_the_command(tmp_path, capsys):
    path = tmp_path / "case.json"
    path.write_text(Case(seed=4, level="quorum", focus={"safety_timeouts": 3.0}, faults=()).to_json(), encoding="utf-8")
    assert main(["--case", str(path)]) == 0
    assert "1 seeds, 0 violations" in capsys.readouterr().out


# --- soaking ---------------------------------------------------------------------------------------------------------


def quick(case: Case) -> Outcome:
    counts = Counter({"elections": 3, "checkouts": 5, "faults": 7, "rule 10 release": 1})
    failure = "I7" if case.seed == 13 else ""
    return Outcome(seed=case.seed, failure=failure, text="nobody serves", chart=(), counts=counts, simulated_s=36.0,
                   spent_s=0.5, case=case)  # fmt: skip


def test_a_soak_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(soak, "run_case", quick)
    path = tmp_path / "soak.json"
    assert soak.main(["--seeds", "1..10", "--jobs", "1", "--resume", str(path), "-q"]) == 0
    assert soak.main(["--seeds", "1..25", "--jobs", "1", "--resume", str(path), "-q"]) == 1
    out = capsys.readouterr().out
    assert "going on at seed 11" in out
    assert "seeds 1 to 25: 1 violations" in out
    assert "failed: seed 13 within full: I7" in out
    state = json.loads(path.read_text(encoding="utf-8"))
    assert state["next"] == 26
    assert state["tally"]["counts"]["faults"] == 25 * 7
    with pytest.raises(SystemExit):
        soak.main(["--state", str(path)])


def test_what_failed_is_run_again_after_a_mend(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(soak, "run_case", quick)
    path = tmp_path / "soak.json"
    again = ["--seeds", "1..20", "--jobs", "1", "--resume", str(path), "-q", "--again"]
    assert soak.main(again[:-1]) == 1
    assert soak.main(again) == 1, "it is not mended"
    assert len(soak.SoakState.load(path).failures) == 1
    monkeypatch.setattr(soak, "run_case", lambda case: attrs.evolve(quick(case), failure=""))
    assert soak.main(again) == 0
    assert "run again without, after a mend: 13 (I7)" in capsys.readouterr().out
    state = soak.SoakState.load(path)
    assert not state.failures
    assert [each["seed"] for each in state.mended] == [13]
    assert state.tally.seeds == 20, "it was counted before"


def test_ctrl_c_loses_nothing_that_was_counted(tmp_path, monkeypatch, capsys):
    def interrupted(case: Case) -> Outcome:
        if case.seed == 5:
            raise KeyboardInterrupt
        return quick(case)

    monkeypatch.setattr(soak, "run_case", interrupted)
    path = tmp_path / "soak.json"
    assert soak.main(["--seeds", "1..10", "--jobs", "1", "--state", str(path), "-q"]) == 0
    assert "interrupted" in capsys.readouterr().out
    assert soak.SoakState.load(path).next == 5
    monkeypatch.setattr(soak, "run_case", quick)
    assert soak.main(["--jobs", "1", "--seeds", "1..10", "--resume", str(path), "-q"]) == 0
    assert soak.SoakState.load(path).tally.seeds == 10


def test_a_state_file_of_something_else_is_refused(tmp_path, capsys):
    path = tmp_path / "soak.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(SystemExit):
        soak.main(["--resume", str(path)])
    assert "not the state of a soak" in capsys.readouterr().err


def test_every_kind_of_seed_is_soaked():
    kinds = Counter((case.campaign, case.level) for case in map(soak.case_of, range(1, 101)))
    assert kinds == {("within", "full"): 80, ("beyond", "full"): 10, ("within", "quorum"): 10}
