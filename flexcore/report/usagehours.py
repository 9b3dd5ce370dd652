"""Local hours: which weekday, hour and day an instant belongs to where clocks are changed now and then.

The core knows no zones (:mod:`flexcore.report.civil`): the caller says how many seconds its zone is ahead
of UTC at an instant. A day on which clocks go forward has 23 hours here, one on which they go back 25, and
of that day the hour that the clock shows twice counts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

MICRO = 1_000_000
"""All times of usage are whole microseconds, so that sums are exact. A stamp of today has 0.24 of one."""
_HOUR_S = 3600
_DAY_S = 86_400
_EPOCH_WEEKDAY = 3  # a Thursday; Monday is 0

ZoneOffset: TypeAlias = Callable[[int], int]
"""Epoch seconds -> how many seconds the zone is ahead of UTC then."""


class Stretch(NamedTuple):
    """From *begin* to before *end* (epoch microseconds) the local clock is in one hour of one day."""

    begin: int
    end: int
    day: int
    """Days from 1970-01-01 on, local."""
    weekday: int
    """0 is Monday."""
    hour: int


class LocalHours:
    """Cuts time where a local hour ends, or where the zone's clocks are changed."""

    def __init__(self, offset: ZoneOffset) -> None:
        self._offset = offset
        self._known: dict[int, tuple[Stretch, ...]] = {}

    def between(self, begin: int, end: int) -> Iterator[Stretch]:
        """Yield the stretches from *begin* to *end* (epoch microseconds), in order and without a hole."""
        hour = begin // (_HOUR_S * MICRO)
        while begin < end:
            stretches = self._known.get(hour)
            if stretches is None:
                stretches = self._known[hour] = tuple(self._cut(hour * _HOUR_S))
            for stretch in stretches:
                stop = min(stretch.end, end)
                if begin < stop:
                    yield stretch._replace(begin=begin, end=stop)
                    begin = stop
            hour += 1

    def _cut(self, begin: int) -> Iterator[Stretch]:
        """One hour of UTC, from *begin* (seconds) on."""
        end = begin + _HOUR_S
        while begin < end:
            offset = self._offset(begin)
            local = begin + offset
            stop = min(end, begin + _HOUR_S - local % _HOUR_S)
            if self._offset(stop - 1) != offset:
                stop = self._changed(begin, stop - 1, offset)
            days = local // _DAY_S
            yield Stretch(begin * MICRO, stop * MICRO, days, (days + _EPOCH_WEEKDAY) % 7, local % _DAY_S // _HOUR_S)
            begin = stop

    def _changed(self, before: int, after: int, offset: int) -> int:
        """The first second after *before* at which the zone is no longer *offset* ahead; at *after* it is not."""
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after

    def day_of(self, at: int) -> int:
        """The local day of an instant, in days from 1970-01-01 on."""
        return (at // MICRO + self._offset(at // MICRO)) // _DAY_S
