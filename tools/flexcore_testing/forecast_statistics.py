"""What the episodes of a forecast say together: how often, for how long, and which HEARTBEAT_INTERVAL is best.

Each kind of episode stands for so many incidents a month as the description says (its *weight*); a month is the sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from flexcore import timing
from flexcore_testing.forecast_episode import QUIET, Episode, quiet_s
from flexcore_testing.forecast_network import MONTH_S, OF_EACH_SERVER, TROUBLES, NetworkDescription

NOTICEABLE_S = 1.0
"""A stop shorter than this is a checkout that took a moment: an orderly hand-over, a killed process."""

FAILURES = ("crash", "power", "hang", "cut")
"""A master lost without a word of its own: these have a detection and a failover time."""

NEAR_SHARE = 0.10
NEAR_S = 10.0
"""Intervals whose time without service a month is within 10 % and 10 s of the least are equally good in that."""


@attrs.frozen(kw_only=True)
class Spread:
    """Some durations: how many, and their middle, their worst tenth and their worst, in seconds."""

    count: int
    median_s: float
    p90_s: float
    worst_s: float


def spread(values: Iterable[float], weights: Iterable[float] | None = None) -> Spread | None:
    """The :class:`Spread` of *values*, each counted *weights* times; None for no values."""
    known = list(values)
    if not known:
        return None
    pairs = sorted(zip(known, weights if weights is not None else [1.0] * len(known), strict=True))
    total = sum(weight for _, weight in pairs)
    return Spread(
        count=len(pairs),
        median_s=_quantile(pairs, 0.5 * total),
        p90_s=_quantile(pairs, 0.9 * total),
        worst_s=pairs[-1][0],
    )


def _quantile(pairs: Sequence[tuple[float, float]], target: float) -> float:
    reached = 0.0
    for value, weight in pairs:
        reached += weight
        if reached >= target - 1e-9:
            return value
    return pairs[-1][0]


@attrs.frozen(kw_only=True)
class Cause:
    """What losing the master in one way is like."""

    kind: str
    detection: Spread | None
    failover: Spread | None
    checkout: Spread | None
    """How long a checkout waits that is asked for at the instant of the failure."""
    replaced: int
    """In how many of the episodes another server took over before the master was back."""
    episodes: int


@attrs.frozen(kw_only=True)
class Row:
    """One HEARTBEAT_INTERVAL: a month with it."""

    interval_s: int
    timeout_s: float
    """The manual's formula, 3s + (s-1): the worst case of detecting a silent server."""
    lease_s: float
    """How long an application believes in its licence without an answer."""
    stops_per_month: float
    """Stops of at least :data:`NOTICEABLE_S`."""
    stops: Spread | None
    brief_stops_per_month: float
    out_s_per_month: float
    out_error_s: float
    """The standard error of the sampling in *out_s_per_month*."""
    out_by_kind: Mapping[str, float]
    """Seconds without service a month by the kind of trouble."""
    false_alarms_per_month: float
    false_alarms: int
    """As they were counted in the episodes, before weighing."""
    lost_per_month: float
    """How often an application that holds a licence all the time loses it."""
    lost: int
    belief_left_s: float
    """The closest call: the least that was left of a lease when service came back."""
    unfinished: int
    causes: tuple[Cause, ...]
    episodes: int
    simulated_hours: float


def stratum_weight(description: NetworkDescription, kind: str, on_master: bool, interval_s: int) -> float:
    """How many incidents of this sort a month has."""
    if kind == QUIET:
        return MONTH_S / quiet_s(interval_s)
    per_month = description.troubles[kind].per_month
    if kind not in OF_EACH_SERVER:
        return per_month
    return per_month if on_master else 2.0 * per_month


def make_row(interval_s: int, episodes: Sequence[Episode], description: NetworkDescription) -> Row:
    """What the *episodes* with one interval say. Call it with at least one."""
    strata: dict[tuple[str, bool], list[Episode]] = {}
    for episode in episodes:
        strata.setdefault((episode.task.kind, episode.task.on_master), []).append(episode)
    totals = dict.fromkeys(("stops", "brief", "out", "alarms", "lost", "variance"), 0.0)
    out_by_kind: dict[str, float] = {}
    lengths: list[float] = []
    weights: list[float] = []
    for (kind, on_master), some in sorted(strata.items()):
        per_month = stratum_weight(description, kind, on_master, interval_s)
        share = per_month / len(some)
        outs = [sum(episode.stops) for episode in some]
        for episode in some:
            noticeable = [length for length in episode.stops if length >= NOTICEABLE_S]
            totals["stops"] += share * len(noticeable)
            totals["brief"] += share * (len(episode.stops) - len(noticeable))
            totals["alarms"] += share * episode.false_alarms
            totals["lost"] += share * episode.lost
            lengths += noticeable
            weights += [share] * len(noticeable)
        totals["out"] += share * sum(outs)
        out_by_kind[kind] = out_by_kind.get(kind, 0.0) + share * sum(outs)
        totals["variance"] += per_month**2 * _variance(outs) / len(outs)
    timeout = timing.timeout_s(interval_s)
    return Row(
        interval_s=interval_s,
        timeout_s=timeout,
        lease_s=timing.client_lease_s(timeout),
        stops_per_month=totals["stops"],
        stops=spread(lengths, weights),
        brief_stops_per_month=totals["brief"],
        out_s_per_month=totals["out"],
        out_error_s=math.sqrt(totals["variance"]),
        out_by_kind={kind: out_by_kind[kind] for kind in (*TROUBLES, QUIET) if kind in out_by_kind},
        false_alarms_per_month=totals["alarms"],
        false_alarms=sum(episode.false_alarms for episode in episodes),
        lost_per_month=totals["lost"],
        lost=sum(episode.lost for episode in episodes),
        belief_left_s=min(episode.belief_left_s for episode in episodes),
        unfinished=sum(episode.unfinished for episode in episodes),
        causes=tuple(_cause(kind, strata[kind, True]) for kind in FAILURES if (kind, True) in strata),
        episodes=len(episodes),
        simulated_hours=sum(episode.simulated_s for episode in episodes) / 3600.0,
    )


def _variance(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _cause(kind: str, episodes: Sequence[Episode]) -> Cause:
    return Cause(
        kind=kind,
        detection=spread(e.detection_s for e in episodes if e.detection_s is not None),
        failover=spread(e.failover_s for e in episodes if e.failover_s is not None),
        checkout=spread(e.checkout_s for e in episodes if e.checkout_s is not None),
        replaced=sum(e.failover_s is not None for e in episodes),
        episodes=len(episodes),
    )


@attrs.frozen(kw_only=True)
class Recommendation:
    """Which HEARTBEAT_INTERVAL to set, and why, in sentences."""

    interval_s: int
    reasons: tuple[str, ...]


def recommend(rows: Sequence[Row], current_s: int) -> Recommendation:
    """The best of *rows*; *current_s* is what the file says now.

    First no licence may be lost (or as few as can be). Of those the time without service decides; where it is about
    the same (:data:`NEAR_SHARE`, :data:`NEAR_S`), the fewest false alarms; where those are the same, the least time
    again.
    """
    fewest = min(row.lost_per_month for row in rows)
    keeping = [row for row in rows if row.lost_per_month <= fewest]
    least = min(row.out_s_per_month for row in keeping)
    near = [row for row in keeping if row.out_s_per_month <= least * (1 + NEAR_SHARE) + NEAR_S]
    alarms = min(row.false_alarms_per_month for row in near)
    calm = [row for row in near if row.false_alarms_per_month <= alarms * (1 + NEAR_SHARE)]
    best = min(calm, key=lambda row: (row.out_s_per_month, row.interval_s))
    return Recommendation(interval_s=best.interval_s, reasons=_reasons(best, rows, current_s))


def _reasons(best: Row, rows: Sequence[Row], current_s: int) -> tuple[str, ...]:
    first = (
        f"With {best.interval_s} service is away for about {duration(best.out_s_per_month)} a month, in "
        f"{amount(best.stops_per_month)} stops that anybody notices, with {amount(best.false_alarms_per_month)} "
        f"false alarms, and {_losses(best)}."
    )
    reasons = [first]
    smaller = [row for row in rows if row.interval_s < best.interval_s and row.interval_s > 0]
    larger = [row for row in rows if row.interval_s > best.interval_s]
    if smaller:
        reasons.append(_against(max(smaller, key=lambda row: row.interval_s), best, "Smaller"))
    if larger:
        reasons.append(_against(min(larger, key=lambda row: row.interval_s), best, "Larger"))
    current = next((row for row in rows if row.interval_s == current_s), None)
    if current is not None and current is not best:
        reasons.append(
            f"The file says {current_s} now: {duration(current.out_s_per_month)} a month without service, "
            f"{amount(current.false_alarms_per_month)} false alarms, {_losses(current)}."
        )
    elif current is best:
        reasons.append("That is what the file says now: nothing is to be changed.")
    return tuple(reasons)


def _losses(row: Row) -> str:
    if row.lost:
        return f"an application that holds a licence all the time loses it {amount(row.lost_per_month)} times a month"
    return "no application loses a licence"


def _against(other: Row, best: Row, which: str) -> str:
    parts = [f"{duration(other.out_s_per_month)} a month without service"]
    if max(other.false_alarms, best.false_alarms):
        parts.append(f"{amount(other.false_alarms_per_month)} false alarms")
    if other.lost:
        parts.append(_losses(other))
    text = f"{which}, {other.interval_s}: {', '.join(parts)}"
    if which == "Larger" and other.out_s_per_month > best.out_s_per_month:
        text += f"; a silent server is replaced after up to {other.timeout_s:g} s instead of {best.timeout_s:g} s"
    return text + "."


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(0.004), duration(3.25), duration(150), duration(8000)
    ('4 ms', '3.2 s', '2.5 min', '2.2 h')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def amount(number: float) -> str:
    """How many, for people: no digits that mean nothing.

    >>> amount(0), amount(0.034), amount(2.26), amount(31.4)
    ('0', '0.03', '2.3', '31')
    """
    if number == 0:
        return "0"
    if number < 0.995:
        return f"{number:.2f}" if number >= 0.01 else "<0.01"
    return f"{number:.1f}" if number < 9.95 else f"{number:.0f}"
