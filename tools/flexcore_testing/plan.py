"""The fault plan of a seed: drawn before anything runs, so that it does not depend on what the system does."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs

from flexcore_testing.profile import Profile

MASTER = -1
"""As a target: whoever serves when the fault strikes (else a drawn rank)."""


@attrs.frozen(kw_only=True)
class Fault:
    """One fault: *kind* strikes *target* (and *other*) at *at* for *for_s*; details come from the number *draw*."""

    at: float
    kind: str
    target: int
    other: int
    for_s: float
    draw: float

    def text(self) -> str:
        """One line for people."""
        who = "master" if self.target == MASTER else "PST"[self.target]
        return f"{self.at:10.3f} {self.kind} {who}/{'PST'[self.other]} for {self.for_s:.3f} ({self.draw:.2f})"


def plan_text(faults: Sequence[Fault]) -> str:
    """A plan, one fault a line."""
    return "\n".join(fault.text() for fault in faults)


def draw_plan(profile: Profile) -> tuple[Fault, ...]:
    """All faults of the safety phase."""
    rng = random.Random(f"plan {profile.campaign} {profile.seed}")
    timeout = profile.timeout_s
    end = profile.warm_s + profile.safety_timeouts * timeout
    kinds = sorted(profile.faults)
    weights = [profile.faults[kind] for kind in kinds]
    faults: list[Fault] = []
    at = timeout * rng.choice((0.1, 1.0, 2.0)) + (profile.warm_s if rng.random() < 0.7 else 0.0)
    while at < end:
        kind = rng.choices(kinds, weights)[0]
        length = rng.choice((rng.random() * 0.2, rng.random() * 1.2, rng.random() * 1.2, rng.random() * 4)) * timeout
        target = MASTER if rng.random() < 0.5 else rng.randrange(3)
        faults.append(
            Fault(at=at, kind=kind, target=target, other=rng.randrange(3), for_s=length, draw=rng.random())
        )
        if rng.random() < 0.3:
            at += rng.random() * 0.05 * timeout
        else:
            at += rng.expovariate(profile.faults_per_timeout / timeout)
    return tuple(faults)
