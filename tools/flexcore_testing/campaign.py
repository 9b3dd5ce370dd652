"""One seed: a safety phase under faults, then peace, in which a master has to appear and everybody has to agree."""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from flexcore import timing
from flexcore.identity import Rank
from flexcore.quorum import catchup, rounds
from flexcore_testing.case import Case
from flexcore_testing.checks import Violation
from flexcore_testing.coverage import probing
from flexcore_testing.plan import Fault, draw_plan
from flexcore_testing.profile import BEYOND, DISKS, WITHIN, Profile, draw_profile
from flexcore_testing.striker import Striker
from flexcore_testing.triad import SimulatedTriad

CHART_LINES = 120
GC_THRESHOLD = 20_000
"""Instead of 700: a seed makes many objects and hardly a cycle, and looking for cycles took a twentieth of its time."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one seed. *failure* is empty, or the name of what failed."""

    seed: int
    failure: str
    text: str
    chart: tuple[str, ...]
    counts: Counter[str]
    simulated_s: float
    spent_s: float
    case: Case


def run_seed(
    seed: int,
    campaign: str = WITHIN,
    *,
    level: str = "full",
    verbose: bool = False,
    chart_lines: int = CHART_LINES,
    focus: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run one seed to its end, or to its first violation. *focus* replaces parts of what the seed draws."""
    case = Case(seed=seed, campaign=campaign, level=level, focus=focus or {})
    return run_case(case, verbose=verbose, chart_lines=chart_lines)


def run_case(case: Case, *, verbose: bool = False, chart_lines: int = CHART_LINES) -> Outcome:
    """Run one case to its end, or to its first violation."""
    began = time.process_time()
    profile = draw_profile(case.seed, case.campaign, bare=case.level == "quorum", focus=case.focus)
    plan = draw_plan(profile) if case.faults is None else case.faults
    failure = text = ""
    with probing() as probed, bounds(profile), seldom_collecting():
        triad = make_triad(profile, case.level)
        if verbose:
            triad.verbose = print
            print(f"profile {profile}")  # noqa: T201 - the story goes to the same place
        try:
            run_profile(triad, plan)
        except Violation as violation:
            failure, text = violation.name, str(violation)
        except Exception as error:  # noqa: BLE001 - any exception of a machine is a finding
            failure = type(error).__name__
            text = "".join(traceback.format_exception(error)[-6:])
    return Outcome(
        seed=case.seed,
        failure=failure,
        text=text,
        chart=tuple(triad.journal.lines(chart_lines)) if failure else (),
        counts=_counts(triad, probed),
        simulated_s=triad.world.now,
        spent_s=time.process_time() - began,
        case=case,
    )


def _counts(triad: SimulatedTriad, probed: Counter[str]) -> Counter[str]:
    counts = Counter(triad.coverage)
    counts.update(probed)
    for kind, number in triad.checks.said.items():
        counts[f"sent {kind.__name__}"] = number
    counts["elections"] = triad.checks.elections
    counts["grants committed"] = triad.checks.grants
    counts["messages"] = triad.network.messages
    counts["dials"] = triad.network.dials
    return counts


@contextlib.contextmanager
def bounds(profile: Profile) -> Iterator[None]:
    """The profile's smaller bounds instead of the real ones: logs of a few hundred entries are folded into snapshots,
    and messages carry a part of them."""
    kept = rounds.SNAPSHOT_ENTRIES, rounds.MAX_APPEND_BYTES, catchup.PULL_BYTES
    rounds.SNAPSHOT_ENTRIES = profile.snapshot_entries or kept[0]
    rounds.MAX_APPEND_BYTES = profile.append_bytes or kept[1]
    catchup.PULL_BYTES = profile.pull_bytes or kept[2]
    try:
        yield
    finally:
        rounds.SNAPSHOT_ENTRIES, rounds.MAX_APPEND_BYTES, catchup.PULL_BYTES = kept


@contextlib.contextmanager
def seldom_collecting() -> Iterator[None]:
    """While the context lasts, look for garbage in cycles after :data:`GC_THRESHOLD` new objects."""
    if not hasattr(gc, "get_threshold"):  # PyPy collects in its own way
        yield
        return
    kept = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD, *kept[1:])
    try:
        yield
    finally:
        gc.set_threshold(*kept)


def make_triad(profile: Profile, level: str) -> SimulatedTriad:
    """A triad of bare quorum machines (``quorum``), or of whole servers with clients (``full``)."""
    if level == "quorum":
        from flexcore_testing.bare import BareTriad

        return BareTriad(profile, only=profile.holds)
    from flexcore_testing.service import ServiceTriad

    return ServiceTriad(profile, only=profile.holds)


def run_profile(triad: SimulatedTriad, plan: Sequence[Fault]) -> None:
    """The whole life of one simulated triad: safety under the plan's faults, then peace."""
    profile = triad.profile
    striker = Striker(triad, triad.strike_client)
    triad.on_exit = striker.restart_after_exit
    triad.on_refused_state = striker.refused_state
    starts = triad.rng
    for rank in Rank:
        triad.world.at(starts.random() * profile.start_spread_s, triad.start, rank)
    triad.start_traffic()
    striker.schedule(plan)
    triad.advance(profile.warm_s + profile.safety_timeouts * profile.timeout_s)
    triad.coverage["faults"] += striker.struck
    if profile.campaign == BEYOND:
        linger_on(triad, striker)
    else:
        live_on(triad, striker)


def linger_on(triad: SimulatedTriad, striker: Striker) -> None:
    """Beyond the assumptions nobody promises service. Where two disks were lost, wait until a triad may be formed anew,
    and let whoever was away come back to it with the record of the old one."""
    profile = triad.profile
    striker.peace()
    triad.advance(2.0 * profile.timeout_s)
    if DISKS in profile.broken and sum(triad.is_member(rank) for rank in Rank) < 2:
        triad.advance(1.03 * profile.lease_s)
        triad.rest()
        triad.advance_until(attrs.evolve(profile, first_start=False).warm_s, lambda: triad.master() is not None)
        triad.go_on()
        if triad.master() is not None:
            triad.coverage["formed anew after the wait"] += 1
    if striker.away is not None:
        striker.bring_back()
        triad.coverage["came back to a triad without it"] += 1
        triad.advance(profile.timeout_s)
    triad.advance(profile.timeout_s)


def live_on(triad: SimulatedTriad, striker: Striker) -> None:
    """I7, and agreement."""
    profile = triad.profile
    members = [rank for rank in Rank if striker.sound(rank)]
    absent = None
    if len(members) == 3 and triad.rng.random() < 0.4:
        absent = Rank(triad.rng.randrange(3))
    without = "" if absent is None else f", without {absent.word}"
    triad.note("all", f"peace{without}; members {[member.word for member in members]}")
    began = triad.world.now
    network = profile.network
    late = max(
        network.reorder_s,
        network.slow_s if network.slow_chance else 0.0,
        network.tail_max_s if network.tail_alpha else 0.0,
    )
    striker.peace(absent)
    allowed = late + timing.stretched_s(triad.longest_timeout_s) + 2.0 + profile.slack_s
    allowed += network.dial_timeout_s + network.flush_max_s + 1.0 + 2.0 * max(profile.interval_s, 0)
    if len(members) < 2:
        allowed += attrs.evolve(profile, first_start=False).warm_s
    triad.peace_at, triad.master_due_at = began, began + allowed
    triad.require_master()
    triad.coverage["liveness ms"] += int(1000 * (triad.world.now - began))
    triad.note("all", f"a master after {triad.world.now - began:.3f} s")
    triad.settle(absent)
