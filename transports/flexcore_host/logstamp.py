"""Lines of the debug log with the time in front, which is worked out once a second and not for each line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from flexcore.report.logline import dated_stamp, stamped, time_stamp

from . import clock

__all__ = ["LinePrinter"]


class LinePrinter:
    """Makes lines out of (daemon, text) pairs; *dated*: with date and zone, as lmgrd's ``-datestamp``.

    The zone is asked for once a second, too: it changes on a whole one.
    """

    def __init__(
        self, *, dated: bool = False, wall: Callable[[], float] = clock.wall,
        utc_offset_s: Callable[[float], float] = clock.utc_offset_s,
    ) -> None:  # fmt: skip
        self._make = dated_stamp if dated else time_stamp
        self._wall, self._utc_offset_s = wall, utc_offset_s
        self._second = math.nan
        self._stamp = ""

    def __call__(self, lines: Sequence[tuple[str, str]]) -> list[str]:
        """The lines of a batch, as of now."""
        second = self._wall() // 1
        if second != self._second:
            self._second, self._stamp = second, self._make(second, self._utc_offset_s(second))
        stamp = self._stamp
        return [stamped(stamp, daemon, text) for daemon, text in lines]
