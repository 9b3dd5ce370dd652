"""Shrinking: from a seed that fails to a small schedule that fails in the same way, by delta debugging (Zeller 2002).

Tried in this order, again and again until nothing more helps or the time is over: end sooner, take faults out (first
halves, then quarters ..., then one by one), fewer clients, a quieter network and truer clocks, shorter faults, rounder
numbers. Whatever fails with the *same check* is kept. A run is a function of the case alone, so what is kept fails
whenever it is replayed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from flexcore_testing.campaign import Outcome, run_case
from flexcore_testing.case import Case
from flexcore_testing.plan import Fault, draw_plan, plan_text
from flexcore_testing.profile import Profile, draw_profile

SHRINK_S = 120.0
ROUNDS_MAX = 4

Run = Callable[[Case], Outcome]

QUIETER: tuple[Mapping[str, Any], ...] = (
    {"network": {"loss": 0.0, "double": 0.0, "reorder_s": 0.0}},
    {"network": {"slow_chance": 0.0}},
    {"network": {"tail_alpha": 0.0}},
    {"network": {"jitter_s": 0.0}},
    {"network": {"delay_s": 0.001}},
    {"network": {"reset_at_death": 0.0}},
    {"network": {"flush_max_s": 0.001}},
    {"network": {"keepalive_min_s": 1e6, "keepalive_max_s": 1e6}},
    {"rates": (1.0, 1.0, 1.0)},
    {"rate_error": 0.0},
    {"wall_errors_s": (0.0, 0.0, 0.0)},
    {"disk_latency_s": 0.0},
    {"turn_s": 0.0},
    {"late_timer_s": 0.0},
    {"start_spread_s": 0.0},
    {"primary_is_master": False},
    {"first_start": True},
    {"snapshot_entries": 0, "append_bytes": 0, "pull_bytes": 0},
    {"liars": 0},
    {"licensed": 1},
)
"""Replacements of what the seed draws, each simpler than what it replaces."""


@attrs.frozen(kw_only=True)
class Shrunk:
    """The smallest case that was found, how it fails, and what it took."""

    case: Case
    outcome: Outcome
    runs: int
    spent_s: float

    def text(self) -> str:
        """For people: what is left, and how to keep it."""
        case = self.case
        faults = case.faults or ()
        many = "faults" if len(faults) != 1 else "fault"
        head = f"{len(faults)} {many} left after {self.runs} runs in {self.spent_s:.0f} s"
        changes = "\n".join(f"  {name} = {value!r}" for name, value in sorted(case.focus.items()))
        return (
            f"{head}; it fails with {self.outcome.failure}:\n{self.outcome.text.strip()}\n\n"
            f"faults:\n{plan_text(faults)}\n\nreplaced in what seed {case.seed} draws:\n{changes}\n\n"
            "To keep it, write this into a file (--keep FILE does; flexcore's own tests replay every file of\n"
            "tests/cases); `python -m flexcore_testing.simulate --case FILE -v` runs it again:\n\n"
            f"{case.to_json()}"
        )


class Shrinker:
    """One shrinking. *failure* is the name of the check that has to fail."""

    def __init__(
        self, case: Case, failure: str, *, seconds: float = SHRINK_S, run: Run = run_case,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        profile = draw_profile(case.seed, case.campaign, bare=case.level == "quorum", focus=case.focus)
        faults = draw_plan(profile) if case.faults is None else case.faults
        self.case = attrs.evolve(case, faults=faults)
        self.failure = failure
        self.outcome: Outcome | None = None
        self.runs = 0
        self._run = run
        self._clock = clock
        self._began = clock()
        self._until = self._began + seconds

    def shrink(self) -> Shrunk | None:
        """The smallest case that was found; None if the case does not fail as it should."""
        if not self._try(self.case):
            return None
        for _ in range(ROUNDS_MAX):
            before = self.case
            self._end_sooner()
            self._take_faults_out()
            self._fewer_clients()
            self._quieter()
            self._simpler_faults()
            if self.case == before or self._over():
                break
        assert self.outcome is not None
        return Shrunk(case=self.case, outcome=self.outcome, runs=self.runs, spent_s=self._clock() - self._began)

    # --- the steps -------------------------------------------------------------------------------

    def _over(self) -> bool:
        return self._clock() >= self._until

    def _try(self, case: Case) -> bool:
        """Whether *case* fails in the same way; it is kept then."""
        if self.outcome is not None and self._over():
            return False
        self.runs += 1
        try:
            outcome = self._run(case)
        except ValueError:  # a combination that makes no sense
            return False
        if outcome.failure != self.failure:
            return False
        self.case, self.outcome = case, outcome
        return True

    def _profile(self) -> Profile:
        case = self.case
        return draw_profile(case.seed, case.campaign, bare=case.level == "quorum", focus=case.focus)

    def _focused(self, change: Mapping[str, Any]) -> Case:
        focus = dict(self.case.focus)
        for name, value in change.items():
            focus[name] = {**focus.get(name, {}), **value} if isinstance(value, Mapping) else value
        return attrs.evolve(self.case, focus=focus)

    def _end_sooner(self) -> None:
        """What comes after the failure is not needed; nor is, perhaps, much of what comes before."""
        assert self.outcome is not None
        profile = self._profile()
        failed_at = self.outcome.simulated_s - profile.warm_s
        longest = min(profile.safety_timeouts, failed_at / profile.timeout_s + 0.01)
        for share in (0.25, 0.5, 0.75, 1.0):
            timeouts = round(longest * share + 0.005, 2)
            if timeouts >= profile.safety_timeouts:
                continue
            shorter = self._focused({"safety_timeouts": timeouts})
            end = profile.warm_s + timeouts * profile.timeout_s
            faults = tuple(fault for fault in self.case.faults or () if fault.at < end)
            if self._try(attrs.evolve(shorter, faults=faults)):
                return

    def _take_faults_out(self) -> None:
        """Delta debugging: complements of ever smaller parts."""
        parts = 2
        while not self._over():
            faults = self.case.faults or ()
            if not faults:
                return
            size = max(1, len(faults) // parts)
            if any(self._try(self._with(faults[:at] + faults[at + size :])) for at in range(0, len(faults), size)):
                parts = max(2, parts - 1)
            elif size == 1:
                return
            else:
                parts = min(2 * parts, len(faults))

    def _with(self, faults: Sequence[Fault]) -> Case:
        return attrs.evolve(self.case, faults=tuple(faults))

    def _fewer_clients(self) -> None:
        if self.case.level != "full":
            return
        for clients in range(1, self._profile().clients):
            if self._try(self._focused({"clients": clients})):
                return

    def _quieter(self) -> None:
        for change in QUIETER:
            if not self._is_so(change):
                self._try(self._focused(change))

    def _is_so(self, change: Mapping[str, Any]) -> bool:
        profile = self._profile()
        return all(
            all(getattr(profile.network, key) == each for key, each in value.items())
            if name == "network"
            else getattr(profile, name) == value
            for name, value in change.items()
        )

    def _simpler_faults(self) -> None:
        for number in range(len(self.case.faults or ())):
            for simpler in self._simpler(number):
                faults = list(self.case.faults or ())
                if simpler != faults[number]:
                    faults[number] = simpler
                    self._try(self._with(faults))

    def _simpler(self, number: int) -> Iterator[Fault]:
        """Ever simpler variants of one fault as it stands."""
        assert self.case.faults is not None
        for share in (0.1, 0.5):
            fault = self.case.faults[number]
            yield attrs.evolve(fault, for_s=fault.for_s * share)
        for digits in (0, 1, 2, 3):
            fault = self.case.faults[number]
            yield attrs.evolve(fault, at=round(fault.at, digits), for_s=round(fault.for_s, max(1, digits)))
            fault = self.case.faults[number]
            yield attrs.evolve(fault, draw=round(fault.draw, max(1, digits)))
