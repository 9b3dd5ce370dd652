"""AUTOMATIC_REREAD ON: when the files are to be read anew without anybody's word.

At the first turn of each calendar day where the server stands. Each server of a triad reads its own
files; what that may change is the same as at an administrator's word (protocol.md rule 19).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexcore.options import OptionsFile

DAY_S = 86_400.0

EPOCH_ORDINAL = 719_163
"""``datetime.date(1970, 1, 1).toordinal()``."""


def day_of(wall: float, utc_offset_s: float) -> int:
    """Return the calendar day of *wall*, as ``datetime.date.toordinal`` counts."""
    return int((wall + utc_offset_s) // DAY_S) + EPOCH_ORDINAL


def until_midnight_s(wall: float, utc_offset_s: float) -> float:
    """Return the seconds until the next calendar day begins, more than 0."""
    return DAY_S - (wall + utc_offset_s) % DAY_S


class Midnights:
    """Watches the calendar for one server."""

    def __init__(self, utc_offset_s: float) -> None:
        self._utc_offset_s = utc_offset_s
        self._wanted = False
        self._day: int | None = None
        self.next_at: float | None = None
        """When to look again on the monotonic clock; None: nobody asked for it."""

    def use(self, options: OptionsFile | None) -> None:
        """These options are in effect."""
        self._wanted = options is not None and options.rereads_by_itself
        if not self._wanted:
            self._day = self.next_at = None

    def is_over(self, now: float, wall: float) -> bool:
        """Whether a day has begun since the last look. Asked once a turn."""
        if not self._wanted or (self.next_at is not None and now < self.next_at):
            return False
        day, passed_s = divmod(wall + self._utc_offset_s, DAY_S)
        before, self._day = self._day, int(day)
        self.next_at = now + DAY_S - passed_s
        return before is not None and self._day > before

    def copy(self) -> Midnights:
        """Return a twin."""
        twin = Midnights(self._utc_offset_s)
        twin.__dict__.update(self.__dict__)
        return twin
