"""Calendar time by arithmetic: an epoch and a zone's offset in, days and clock out.

The core reads no clock and no zone (design.md section 4): the caller says how many seconds its zone
is ahead of UTC at that instant. Whatever a server sends is printable: an instant outside the years
1 to 9999, or one that is no number, is moved to the nearest that has a date.
"""

from __future__ import annotations

import datetime
import math
from typing import NamedTuple

_DAY_S = 86_400
_EPOCH_ORDINAL = 719_163  # 1970-01-01
_LATEST_ORDINAL = 3_652_059  # 9999-12-31
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Civil(NamedTuple):
    """A date and a time of day in some zone; *weekday* has three letters."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    weekday: str


def civil(wall: float, utc_offset_s: float) -> Civil:
    """Return the date and time of *wall* (epoch seconds) where clocks are *utc_offset_s* ahead.

    >>> civil(0.0, 3600)
    Civil(year=1970, month=1, day=1, hour=1, minute=0, second=0, weekday='Thu')
    """
    local = wall + utc_offset_s
    if math.isnan(local):
        local = 0.0
    first = (1 - _EPOCH_ORDINAL) * _DAY_S
    last = (_LATEST_ORDINAL + 1 - _EPOCH_ORDINAL) * _DAY_S - 1
    seconds = math.floor(min(max(local, first), last))
    days, in_day = divmod(seconds, _DAY_S)
    date = datetime.date.fromordinal(days + _EPOCH_ORDINAL)
    return Civil(
        date.year, date.month, date.day,
        in_day // 3600, in_day // 60 % 60, in_day % 60,
        _WEEKDAYS[date.weekday()],
    )  # fmt: skip


def date_text(wall: float, utc_offset_s: float) -> str:
    """Return ``m/d/YYYY``, month and day without a leading zero (D1, D5)."""
    at = civil(wall, utc_offset_s)
    return f"{at.month}/{at.day}/{at.year}"
