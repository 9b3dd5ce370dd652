"""One seed: a safety phase under faults, then peace, in which a master has to appear and everybody has to agree."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from flexcore import timing
from flexcore.identity import Rank
from flexcore_testing.checks import BEYOND_ONLY, Violation
from flexcore_testing.plan import Striker, draw_plan
from flexcore_testing.profile import BEYOND, Profile, draw_profile, refocused
from flexcore_testing.triad import SimulatedTriad

CHART_LINES = 120


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


def run_seed(
    seed: int,
    campaign: str = "within",
    *,
    level: str = "full",
    verbose: bool = False,
    chart_lines: int = CHART_LINES,
    focus: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run one seed to its end, or to its first violation. *focus* replaces parts of what the seed draws."""
    began = time.perf_counter()
    profile = draw_profile(seed, campaign, bare=level == "quorum")
    if focus:
        profile = refocused(profile, focus)
    triad = make_triad(profile, level)
    if verbose:
        triad.verbose = print
    failure = text = ""
    try:
        run_profile(triad)
    except Violation as violation:
        failure, text = violation.name, str(violation)
    except Exception as error:  # noqa: BLE001 - any exception of a machine is a finding
        failure = type(error).__name__
        text = "".join(traceback.format_exception(error)[-6:])
    counts = Counter(triad.coverage)
    counts["elections"] = triad.checks.elections
    counts["grants committed"] = triad.checks.grants
    counts["messages"] = triad.network.messages
    counts["dials"] = triad.network.dials
    return Outcome(
        seed=seed,
        failure=failure,
        text=text,
        chart=tuple(triad.journal.lines(chart_lines)) if failure else (),
        counts=counts,
        simulated_s=triad.world.now,
        spent_s=time.perf_counter() - began,
    )


def make_triad(profile: Profile, level: str) -> SimulatedTriad:
    """A triad of bare quorum machines (``quorum``), or of whole servers with clients (``full``)."""
    only = BEYOND_ONLY if profile.campaign == BEYOND else None
    if level == "quorum":
        from flexcore_testing.bare import BareTriad

        return BareTriad(profile, only=only)
    from flexcore_testing.service import ServiceTriad

    return ServiceTriad(profile, only=only)


def run_profile(triad: SimulatedTriad) -> None:
    """The whole life of one simulated triad."""
    profile = triad.profile
    striker = Striker(triad, triad.strike_client)
    triad.on_exit = lambda run: striker.restart_later(run.rank, 2.0)
    starts = triad.rng
    for rank in Rank:
        triad.world.at(starts.random() * profile.start_spread_s, triad.start, rank)
    triad.start_traffic()
    plan = draw_plan(profile)
    if triad.verbose is not None:
        triad.verbose(f"profile {profile}")
    striker.schedule(plan)
    triad.advance(profile.warm_s + profile.safety_timeouts * profile.timeout_s)
    triad.coverage["faults"] += striker.struck
    if profile.campaign == BEYOND:
        striker.peace()
        triad.advance(profile.timeout_s)
        return
    live_on(triad, striker)


def live_on(triad: SimulatedTriad, striker: Striker) -> None:
    """I7, and agreement."""
    profile = triad.profile
    members = [rank for rank in Rank if triad.is_member(rank)]
    absent = None
    if len(members) == 3 and triad.rng.random() < 0.4:
        absent = Rank(triad.rng.randrange(3))
    without = "" if absent is None else f", without {absent.word}"
    triad.note("all", f"peace{without}; members {[member.word for member in members]}")
    began = triad.world.now
    network = profile.network
    late = max(network.reorder_s, network.slow_s if network.slow_chance else 0.0)
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
