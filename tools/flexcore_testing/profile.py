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
DISK_FAULTS = ("stale disk", "torn disk", "full disk", "hung disk")
RARE_FAULTS = ("stop all", "kill all", "rolling", "new interval")
BEYOND_FAULTS = ("lose two", "false refusal")
MORE_FAULTS = ("storm", "new licence", *DISK_FAULTS)
CLIENT_FAULTS = ("client kill", "client pause", "client cut", "client reset")
MORE_CLIENT_FAULTS = ("client switch", "client wall jump", "client herd")
COMMON = ("kill", "stop one", "storm")
"""Faults that cost a triad its master and little simulated time: every mix has one of them."""

EVIDENCE = "evidence"
DISKS = "disks"
RESTORED = "restored"
CLOCKS = "clocks"
ASSUMPTIONS: Mapping[str, tuple[str, ...]] = {
    EVIDENCE: ("false refusal",),
    DISKS: ("lose two", "form anew"),
    RESTORED: ("restored disk",),
    CLOCKS: (),
}
"""What section 1 of the protocol assumes and the campaign ``beyond`` breaks, and the faults that break it: a refused
connection means that the process is gone; one disk is lost at a time; a state folder is never restored from an older
copy; clocks are true within the bound."""

BY_ORDER = frozenset({"I1", "I5", "one vote", "log", "renewal", "torn", "proof"})
"""Checks that rest on terms, votes and rounds alone, and on no clock."""
HOLDS: Mapping[str, frozenset[str]] = {
    EVIDENCE: BY_ORDER | {"I3"},
    DISKS: BY_ORDER | {"I3"},
    RESTORED: frozenset(),
    CLOCKS: BY_ORDER,
}
"""Which checks hold all the same when an assumption is broken. With a disk restored from a copy that nobody
remembers, none does: all that is asked is that nothing stops but with a clear error."""

MEMORY: Mapping[str, Any] = {
    "in_memory": True,
    "first_start": True,
    "faults": {
        "lose disk": 3.0, "cut": 1.0, "short cut": 1.0, "isolate": 1.0, "flap": 0.5, "reset": 1.0, "pause": 1.5,
        "wall jump": 0.5, "client kill": 0.5, "client pause": 0.5, "client cut": 0.5, "client reset": 0.5,
    },
}  # fmt: skip
"""Focus: a triad in memory. Every end of a process loses its state, so one at a time is all that may end."""

LATENCIES_S = (0.0002, 0.001, 0.005, 0.02, 0.08)
DISKS_S = (0.0, 0.0, 0.002, 0.01, 0.05)
INTERVALS = (1, 1, 1, 2, 2, 5, 20, 0)
RARE_INTERVALS = (3, 10, 60, 120)
SKEWS = (0.02, 0.05, 0.2)
"""Beyond the bound: how far rates may be off."""


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
    broken: tuple[str, ...] = ()
    """Assumptions that this seed breaks (campaign ``beyond``)."""
    rate_error: float = timing.RATE_ERROR
    """How far the clocks of clients may be off."""
    clients: int = 3
    liars: int = 0
    """Clients that break the protocol on purpose."""
    snapshot_entries: int = 0
    append_bytes: int = 0
    pull_bytes: int = 0
    """Smaller bounds than the real ones, so that snapshots and partial messages happen; 0: the real ones."""
    licensed: int = 4
    queueing: float = 0.0
    """How many of the checkouts may wait in the queue, 0 to 1. By focus only: no seed draws it, so that each stays what
    it was."""
    terms: float = 0.0
    """How often what licence and options files say besides is used, 0 to 1 (:mod:`flexcore_testing.terms`). By focus
    only."""
    in_memory: bool = False
    """Servers keep nothing (``lmgrd --state-dir none``): whoever dies starts blank. By focus only."""
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
    def holds(self) -> frozenset[str] | None:
        """Names of the checks that count; None: all of them."""
        if self.campaign != BEYOND:
            return None
        sets = [HOLDS[name] for name in self.broken or (EVIDENCE, DISKS)]
        return frozenset.intersection(*sets)

    @property
    def slack_s(self) -> float:
        """What delays, late timers and turns may add to a deadline."""
        network = self.network
        return (
            8 * (network.delay_s + network.jitter_s + self.turn_s + self.late_timer_s + 3 * self.disk_latency_s)
            + (2 * network.tail_max_s if network.tail_alpha else 0.0)
            + (2 * network.slow_s if network.slow_chance else 0.0)
            + 0.1
        )


def draw_profile(
    seed: int, campaign: str = WITHIN, *, bare: bool = False, focus: Mapping[str, Any] | None = None
) -> Profile:
    """The profile of *seed*. *bare*: for a quorum without clients. *focus* replaces parts of it; a focus on certain
    faults takes the plain mix, without what the whole swarm adds."""
    profile = _draw_base(seed, campaign, bare)
    if focus is None or "faults" not in focus:
        profile = _add_swarm(profile, random.Random(f"swarm {campaign} {seed}"), bare)
    return refocused(profile, focus) if focus else profile


def _draw_base(seed: int, campaign: str, bare: bool) -> Profile:
    rng = random.Random(f"profile {campaign} {seed}")
    interval = rng.choice(INTERVALS)
    timeout = timing.timeout_s(interval)
    return Profile(
        seed=seed,
        campaign=campaign,
        interval_s=interval,
        primary_is_master=rng.random() < 0.4,
        first_start=rng.random() < 0.98,
        rates=_draw_rates(rng, timing.RATE_ERROR),
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


def _add_swarm(profile: Profile, rng: random.Random, bare: bool) -> Profile:
    """What makes seeds differ in kind: rare intervals, heavy tails, small bounds, liars, broken assumptions; and enough
    to do, so that no seed idles."""
    interval = profile.interval_s
    network = profile.network
    if rng.random() < 0.06:
        interval = rng.choice(RARE_INTERVALS)
        network = _draw_network(rng, timing.timeout_s(interval))
    _draw_tail(rng, network, timing.timeout_s(interval))
    timeout = timing.timeout_s(interval)
    timeouts = rng.uniform(12, 24) if 0 < interval <= 5 else rng.uniform(8, 14)
    clients = rng.randint(3, 5)
    actions = rng.choice((400, 700, 1000))
    changes: dict[str, Any] = {
        "interval_s": interval,
        "network": network,
        "faults": _draw_more_faults(rng, profile.faults),
        "faults_per_timeout": rng.choice((0.6, 1.2, 2.0, 3.0)),
        "safety_timeouts": timeouts,
        "clients": clients,
        "liars": rng.choice((0, 0, 0, 1)),
        "licensed": rng.choice((1, 2, 4, 6, 9)),
    }
    if not bare:
        changes["traffic_s"] = timeouts * timeout * clients / actions
    if rng.random() < 0.4:
        entries = rng.choice((4, 15, 60))
        changes["snapshot_entries"] = entries
        changes["append_bytes"] = rng.choice((0, 300))
        changes["pull_bytes"] = rng.choice((0, 600 if entries < 60 else 4000))
    if profile.campaign == BEYOND:
        changes.update(_break_assumptions(rng, changes["faults"]))
    return attrs.evolve(profile, **changes)


def _draw_more_faults(rng: random.Random, faults: Mapping[str, float]) -> dict[str, float]:
    chosen = {name: weight for name, weight in faults.items() if name not in BEYOND_FAULTS}
    for name in MORE_FAULTS + MORE_CLIENT_FAULTS:
        if rng.random() < 0.4:
            chosen[name] = rng.choice((0.2, 0.6, 1.5))
    common = rng.choice(COMMON)
    chosen[common] = chosen.get(common, 0.0) + rng.choice((0.4, 0.9)) * sum(chosen.values())
    return chosen


def _break_assumptions(rng: random.Random, faults: dict[str, float]) -> dict[str, Any]:
    """Draw one or two of the assumptions and the faults that break them."""
    names = list(ASSUMPTIONS)
    broken = rng.sample(names, k=1 if rng.random() < 0.75 else 2)
    total = sum(faults.values())
    for name in broken:
        for fault in ASSUMPTIONS[name]:
            faults[fault] = total * rng.choice((0.05, 0.2))
    changes: dict[str, Any] = {"broken": tuple(sorted(broken)), "faults": faults}
    if CLOCKS in broken:
        skew = rng.choice(SKEWS)
        changes["rates"] = _draw_rates(rng, skew, mode=rng.choice((1, 2)))
        changes["rate_error"] = rng.choice((timing.RATE_ERROR, skew))
    return changes


def refocused(profile: Profile, focus: Mapping[str, Any]) -> Profile:
    """*profile* with some of its parts replaced (of ``network``: those that are named); a network drawn for another
    timeout is fitted to the new one."""
    parts = dict(focus)
    settings = parts.pop("network", {})
    changed = attrs.evolve(profile, **parts)
    if changed.timeout_s != profile.timeout_s:
        rng = random.Random(f"network {changed.campaign} {changed.seed}")
        fitted: dict[str, Any] = {"network": _draw_network(rng, changed.timeout_s), "safety_timeouts": 30.0}
        if "traffic_s" not in focus:
            fitted["traffic_s"] = changed.timeout_s * 0.3
        changed = attrs.evolve(changed, **{name: value for name, value in fitted.items() if name not in focus})
        if "network" in focus:
            changed = attrs.evolve(changed, network=fitted["network"])
    for name, value in settings.items():
        if not hasattr(changed.network, name):
            raise ValueError(f"the network has no setting {name!r}")
        setattr(changed.network, name, value)
    return changed


def _draw_rates(rng: random.Random, bound: float, *, mode: int | None = None) -> tuple[float, float, float]:
    if mode is None:
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


def _draw_tail(rng: random.Random, settings: NetworkSettings, timeout: float) -> None:
    """Delays with a heavy tail: most are short, a few are longer than anybody would set a timeout for."""
    if rng.random() < 0.3:
        settings.tail_alpha = rng.choice((0.8, 1.2, 2.0))
        settings.tail_max_s = timeout * rng.choice((0.1, 0.4, 1.1))


def _draw_faults(rng: random.Random, campaign: str) -> dict[str, float]:
    names = list(FAULTS + CLIENT_FAULTS)
    chosen = {name: rng.choice((0.2, 1.0, 1.0, 3.0)) for name in names if rng.random() < 0.55}
    for rare in RARE_FAULTS:
        if rare in chosen:
            chosen[rare] *= 0.4
    if campaign == BEYOND:
        for name in BEYOND_FAULTS:
            if rng.random() < 0.7:
                chosen[name] = rng.choice((0.3, 1.0))
    return chosen or {"kill": 1.0}
