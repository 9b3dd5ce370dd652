"""What one seed is made of: the network, the clocks, the disks, the licence, and how often which fault strikes.

Swarm style: each seed draws its own mix, so that rare combinations of ordinary faults are met often.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import attrs

from flexcore import timing
from flexcore_testing.network import NetworkSettings

WITHIN = "within"
BEYOND = "beyond"
CAMPAIGNS = (WITHIN, BEYOND)

FAULTS = (
    "kill", "power", "lose disk", "cut", "isolate", "flap", "reset", "pause", "wall jump", "stop one", "stop all",
    "kill all", "slow disk", "rolling", "short cut", "new interval",
)  # fmt: skip
CLIENT_FAULTS = ("client kill", "client pause", "client cut", "client reset")
BEYOND_FAULTS = ("lose two", "false refusal")

LATENCIES_S = (0.0002, 0.001, 0.005, 0.02, 0.08)
DISKS_S = (0.0, 0.0, 0.002, 0.01, 0.05)
INTERVALS = (1, 1, 1, 2, 2, 5, 20, 0)


@attrs.frozen(kw_only=True)
class Profile:
    """All that a seed decides before anything runs."""

    seed: int
    campaign: str = WITHIN
    interval_s: int = 1
    primary_is_master: bool = False
    first_start: bool = True
    rates: tuple[float, float, float] = (1.0, 1.0, 1.0)
    wall_errors_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    epoch: float = 1_500_000_000.0
    network: NetworkSettings = attrs.field(factory=NetworkSettings)
    disk_latency_s: float = 0.0
    turn_s: float = 0.0
    late_timer_s: float = 0.0
    start_spread_s: float = 0.0
    faults: Mapping[str, float] = attrs.field(factory=dict)
    faults_per_timeout: float = 0.5
    safety_timeouts: float = 40.0
    clients: int = 3
    licensed: int = 4
    traffic_s: float = 1.0
    """Mean pause between two things that one client (or the traffic of a bare quorum) does."""

    @property
    def timeout_s(self) -> float:
        """TO of this triad."""
        return timing.timeout_s(self.interval_s)

    @property
    def lease_s(self) -> float:
        """L of this triad."""
        return timing.client_lease_s(self.timeout_s)

    @property
    def warm_s(self) -> float:
        """How long blank servers wait before they form (rule 9): the longest TO + L that a signed file allows."""
        if self.first_start:
            return 0.0
        longest = timing.timeout_s(timing.INTERVAL_MAX_S)
        return 1.02 * (longest + timing.client_lease_s(longest)) + 10.0

    @property
    def slack_s(self) -> float:
        """What delays, late timers and turns may add to a deadline."""
        network = self.network
        return (
            8 * (network.delay_s + network.jitter_s + self.turn_s + self.late_timer_s + 3 * self.disk_latency_s)
            + (2 * network.slow_s if network.slow_chance else 0.0)
            + 0.1
        )


def draw_profile(seed: int, campaign: str = WITHIN, *, bare: bool = False) -> Profile:
    """The profile of *seed*. *bare*: for a quorum without clients, which can afford more time."""
    rng = random.Random(f"profile {campaign} {seed}")
    interval = rng.choice(INTERVALS)
    timeout = timing.timeout_s(interval)
    return Profile(
        seed=seed,
        campaign=campaign,
        interval_s=interval,
        primary_is_master=rng.random() < 0.4,
        first_start=rng.random() < 0.92,
        rates=_draw_rates(rng),
        wall_errors_s=tuple(rng.choice((0.0, 0.0, rng.uniform(-5, 5), rng.uniform(-86400, 86400))) for _ in range(3)),  # type: ignore[arg-type]
        network=_draw_network(rng, timeout),
        disk_latency_s=rng.choice(DISKS_S),
        turn_s=rng.choice((0.0, 0.0002, 0.005)),
        late_timer_s=rng.choice((0.0, 0.001, 0.05)),
        start_spread_s=rng.choice((0.0, 1.0, 10.0)),
        faults=_draw_faults(rng, campaign),
        faults_per_timeout=rng.choice((0.15, 0.4, 1.0, 2.0)),
        safety_timeouts=rng.uniform(10, 30) if interval <= 5 and interval else rng.uniform(8, 15),
        clients=rng.randint(2, 5),
        licensed=rng.choice((1, 2, 3, 5)),
        traffic_s=timeout * rng.choice((0.05, 0.2, 0.5)) if bare else timeout * rng.choice((0.1, 0.3, 0.6)),
    )


def refocused(profile: Profile, focus: Mapping[str, Any]) -> Profile:
    """*profile* with some of its parts replaced; a network drawn for another timeout is fitted to the new one."""
    changed = attrs.evolve(profile, **focus)
    if changed.timeout_s != profile.timeout_s:
        rng = random.Random(f"network {changed.campaign} {changed.seed}")
        changed = attrs.evolve(changed, network=_draw_network(rng, changed.timeout_s), safety_timeouts=30.0)
        if "traffic_s" not in focus:
            changed = attrs.evolve(changed, traffic_s=changed.timeout_s * 0.3)
    return changed


def _draw_rates(rng: random.Random) -> tuple[float, float, float]:
    bound = timing.RATE_ERROR
    mode = rng.randrange(3)
    if mode == 0:
        return (1.0, 1.0, 1.0)
    if mode == 1:
        fast, slow = 1.0 + bound, 1.0 - bound
        return (rng.choice((fast, slow)), rng.choice((fast, slow)), rng.choice((fast, slow)))
    return (rng.uniform(1 - bound, 1 + bound), rng.uniform(1 - bound, 1 + bound), rng.uniform(1 - bound, 1 + bound))


def _draw_network(rng: random.Random, timeout: float) -> NetworkSettings:
    settings = NetworkSettings()
    settings.delay_s = rng.choice(LATENCIES_S)
    settings.jitter_s = settings.delay_s * rng.choice((0.1, 1.0, 3.0))
    if rng.random() < 0.3:
        settings.slow_chance = rng.choice((0.002, 0.02))
        settings.slow_s = timeout * rng.choice((0.1, 0.5, 1.2))
    settings.dial_timeout_s = rng.choice((1.0, 3.0, 10.0))
    settings.flush_max_s = rng.choice((0.05, 1.0, timeout * 0.3))
    settings.keepalive_min_s = timeout * 0.25
    settings.keepalive_max_s = timeout * rng.choice((0.75, 1.25))
    if rng.random() < 0.25:
        settings.loss = rng.choice((0.0, 0.01, 0.05))
        settings.double = rng.choice((0.0, 0.02, 0.1))
        settings.reorder_s = rng.choice((0.0, 0.05, timeout * 0.2))
    return settings


def _draw_faults(rng: random.Random, campaign: str) -> dict[str, float]:
    names = list(FAULTS + CLIENT_FAULTS)
    chosen = {name: rng.choice((0.2, 1.0, 1.0, 3.0)) for name in names if rng.random() < 0.55}
    for rare in ("stop all", "kill all", "rolling", "new interval"):
        if rare in chosen:
            chosen[rare] *= 0.4
    if campaign == BEYOND:
        for name in BEYOND_FAULTS:
            if rng.random() < 0.7:
                chosen[name] = rng.choice((0.3, 1.0))
    return chosen or {"kill": 1.0}
