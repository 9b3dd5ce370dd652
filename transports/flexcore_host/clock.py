"""The two clocks: seconds that count suspended time, and the wall.

``now`` of every machine comes from :func:`now` (protocol.md section 1: a laptop's lid or a paused
virtual machine must not stretch a lease). ``wall`` is for expiry dates and log stamps only.
"""

from __future__ import annotations

import sys
import time

__all__ = ["now", "utc_offset_s", "wall"]

_UTC_OFFSET_LIMIT_S = 86400


def _boot_clock() -> int | None:
    """The id of the clock that goes on counting while the machine sleeps, None: not by an id."""
    if sys.platform == "darwin":
        # time.monotonic() stops there during sleep; this clock does not.
        return getattr(time, "CLOCK_MONOTONIC", None)
    return getattr(time, "CLOCK_BOOTTIME", None)


_CLOCK = _boot_clock()


def now() -> float:
    """Seconds on a monotonic clock that counts suspended time where the system has one."""
    if _CLOCK is None:
        return time.monotonic()
    return time.clock_gettime(_CLOCK)


def wall() -> float:
    """Seconds since the epoch, by the machine's calendar clock, which may jump."""
    return time.time()


def utc_offset_s(at: float) -> int:
    """Seconds that local time was ahead of UTC at wall time ``at`` (for log stamps); 0 if unknown."""
    try:
        offset = time.localtime(at).tm_gmtoff
    except (OverflowError, OSError, ValueError):
        return 0
    return offset if abs(offset) <= _UTC_OFFSET_LIMIT_S else 0
