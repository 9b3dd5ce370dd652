"""For how long seats of a pool linger, and how long one may be idle: LINGER, TIMEOUT, TIMEOUTALL.

The signed ``LINGER=seconds`` of a line is the publisher's minimum: the options file can only let
seats stay for longer. TIMEOUT beats TIMEOUTALL; both have a least value
(:data:`flexcore.options.parser.TIMEOUT_MIN_S`). Of several lines of one pool the longest counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from flexcore.options.policy import means
from flexcore.options.rules import FeatureNumber

from .regulations import facts_of

if TYPE_CHECKING:
    from flexcore.options.rules import OptionsFile

    from .rights import Rights

LINGER_S_MAX = 10 * 365 * 86_400
"""Nothing lingers for longer than ten years: the linger clock stays exact."""


class Durations(NamedTuple):
    """Seconds by pool; a pool that is not in it has none."""

    linger_s: Mapping[str, int]
    timeout_s: Mapping[str, int]


NO_DURATIONS = Durations({}, {})


def durations_of(options: OptionsFile | None, rights: Rights) -> Durations:
    """Return what the options file and the signed lines say of each pool."""
    linger: dict[str, int] = {}
    timeout: dict[str, int] = {}
    for pool in rights.pools:
        linger[pool.key] = min(max(line.linger_s for line in pool.lines), LINGER_S_MAX)
    rules = [] if options is None else [
        rule for rule in options.rules
        if isinstance(rule, FeatureNumber) and rule.keyword in ("LINGER", "TIMEOUT")
    ]  # fmt: skip
    for facts in () if options is None else facts_of(options, rights):
        assert options is not None
        told = {rule.keyword: rule.number for rule in rules if means(rule.feature, facts)}
        linger[facts.pool] = min(max(linger[facts.pool], told.get("LINGER", 0)), LINGER_S_MAX)
        timeout[facts.pool] = told.get("TIMEOUT", int(options.setting("TIMEOUTALL") or 0))
    return Durations(_some(linger), _some(timeout))


def _some(seconds: dict[str, int]) -> dict[str, int]:
    return {pool: number for pool, number in seconds.items() if number > 0}
