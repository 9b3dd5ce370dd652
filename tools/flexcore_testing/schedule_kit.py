"""What scripted schedules are made of: a quiet network, and waiting until something happened."""

from __future__ import annotations

from collections.abc import Callable

from flexcore.identity import Rank
from flexcore_testing.checks import Violation
from flexcore_testing.profile import Profile
from flexcore_testing.triad import SimulatedTriad

P, S, T = Rank.PRIMARY, Rank.SECONDARY, Rank.TERTIARY


def quiet_profile(*, interval_s: int = 5, primary_is_master: bool = False, licensed: int = 1) -> Profile:
    """A network without surprises: whatever is cut stays connected until it heals."""
    profile = Profile(seed=0, interval_s=interval_s, primary_is_master=primary_is_master, licensed=licensed)
    profile.network.keepalive_min_s = profile.network.keepalive_max_s = 1e6
    profile.network.flush_max_s = 0.001
    profile.network.dial_timeout_s = 1.0
    return profile


def until(triad: SimulatedTriad, what: str, happened: Callable[[], bool], within_s: float) -> None:
    """Let time pass until something happened.

    Raises:
        Violation: it did not.
    """
    if not happened():
        triad.world.run_until(triad.world.now + within_s, happened)
    if not happened():
        reports = "; ".join(f"{run.name}: {triad.describe(run)}" for run in triad.runs())
        raise Violation("I7", f"within {within_s:g} s: not {what}: {reports}")


def serves_now(triad: SimulatedTriad, rank: Rank) -> Callable[[], bool]:
    """Asks whether the server of this rank serves."""

    def serves() -> bool:
        master = triad.master()
        return master is not None and master.rank is rank

    return serves


def start_all(triad: SimulatedTriad) -> None:
    """All three start, the primary serves, and one timeout passes."""
    for rank in Rank:
        triad.start(rank)
        triad.advance(0.05)
    until(triad, "the primary serves", serves_now(triad, P), 10)
    triad.advance(1.2 * triad.profile.timeout_s)
