"""What two quorum machines must have in common to have one future.

Exhaustive exploration carries out each event of each state once and takes equal fingerprints for
equal states; a fact that decides something and is left out would make it pass over schedules that
were never tried. So every attribute counts, whatever its name, unless it stands below with its
reason: an attribute that is added later is in without anybody's care.

Instants are relative to *now*. Those in :data:`_AHEAD` are only ever asked whether they are over,
so all that are over are alike. Shown by ``tests/test_quorum_fingerprint.py``: machines with equal
fingerprints behave alike under the same events.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

from flexcore.ledger import Ledger
from flexcore.quorum.config import HardState
from flexcore.quorum.links import Link, Peer

_LEFT_OUT = frozenset({
    "config",  # what it was told; never changes
    "now", "wall",  # set by every call before anything looks at them
    "_actions",  # taken by the adapter before it does anything else
})  # fmt: skip

_AHEAD = frozenset({
    "beat_at", "candidacy_until", "form_at", "greet_at", "handover_until", "no_promise_before",
    "promise_until", "recover_at", "redial_at", "refused_handover_until", "stand_not_before",
    "stop_until",
})  # fmt: skip
"""Instants of which only the rest of the time until then counts."""

_BEHIND = frozenset({
    "acked_at", "asked_at", "boot_at", "eligible_since", "good_since", "heard_at", "hello_at",
    "hello_sent_at", "hurried_at", "lease_until", "opened_at", "primary_reign_since",
    "vote_sent_at", "_outstanding_since",
})  # fmt: skip
"""Instants whose distance counts when they are past as well. ``lease_until`` is compared with the
ends of other leases."""

_NEVER_S = -1e6
"""Longer ago than anything is remembered: 'not yet' (``hurried_at``)."""

_PAIRS = frozenset({"inflight", "_acks"})
"""Rows of (number, instant)."""


def fingerprint_of(machine: object, now: float) -> tuple[object, ...]:
    """Everything that decides what *machine* will do, instants relative to *now*; hashable."""
    return _facts(vars(machine).items(), now)


def _facts(items: Any, now: float) -> tuple[object, ...]:
    return tuple([
        (name, _fact(name, value, now)) for name, value in items if name not in _LEFT_OUT
    ])  # fmt: skip


def _fact(name: str, value: Any, now: float) -> object:
    if name in _AHEAD:
        return value if value is None or math.isinf(value) else max(round(value - now, 6), 0.0)
    if name in _BEHIND:
        return _behind(value, now)
    if name in _PAIRS:
        return tuple([(number, _behind(at, now)) for number, at in value])
    return _plain(value, now)


def _behind(at: float | None, now: float) -> float | None:
    """Relative, to a microsecond: sums of the same steps in another order differ by less."""
    if at is None or math.isinf(at):
        return at
    return max(round(at - now, 6), _NEVER_S)


def _plain(value: Any, now: float) -> object:
    """Containers as tuples, in an order that depends on nothing but what is in them."""
    how = _HOW.get(type(value))
    if how is not None:
        return how(value, now)
    if isinstance(value, tuple):
        return value  # a NamedTuple: what it holds never changes
    if isinstance(value, enum.Enum):
        return value.value
    if attrs.has(type(value)):
        return _facts([(each.name, getattr(value, each.name)) for each in attrs.fields(type(value))], now)
    return value


def _row(value: Any, now: float) -> object:
    return tuple([_plain(each, now) for each in value])


def _by_key(value: Any, now: float) -> object:
    return tuple([(key, _plain(value[key], now)) for key in sorted(value)])


def _slots(names: tuple[str, ...]) -> Callable[[Any, float], object]:
    return lambda value, now: tuple([_fact(name, getattr(value, name), now) for name in names])


_LINK_INSTANTS = frozenset({"opened_at", "heard_at", "greet_at"})
_LINK_ALWAYS = _slots(
    tuple(each.name for each in attrs.fields(Link) if each.name not in _LINK_INSTANTS)
)
_LINK_UNGREETED = _slots(("opened_at", "greet_at"))


def _link(link: Link, now: float) -> object:
    """Only the dialler watches a link: until it is greeted for the greeting, then for silence."""
    if not link.dialled:
        return _LINK_ALWAYS(link, now)
    instants = _behind(link.heard_at, now) if link.greeted else _LINK_UNGREETED(link, now)
    return _LINK_ALWAYS(link, now), instants


_HOW: dict[type, Callable[[Any, float], object]] = {
    **dict.fromkeys((int, float, bool, str, bytes, type(None)), lambda value, _now: value),
    list: _row,
    tuple: _row,
    deque: _row,
    dict: _by_key,
    set: lambda value, _now: tuple(sorted(value)),
    bytearray: lambda value, _now: bytes(value),
    HardState: lambda value, _now: value.encode(),
    Ledger: lambda value, _now: value.fingerprint(),
    Link: _link,
    Peer: _slots(tuple(each.name for each in attrs.fields(Peer))),
}
