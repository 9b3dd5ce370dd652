"""Midnight where and when a scenario wants it: a time zone in which it is soon."""

from __future__ import annotations

import datetime


def zone_before(now: datetime.datetime, seconds: float) -> tuple[str, datetime.datetime]:
    """A TZ in which the next midnight is *seconds* after *now* (UTC), and the local time there."""
    midnight = now + datetime.timedelta(seconds=seconds)
    past = midnight.hour * 3600 + midnight.minute * 60 + midnight.second  # how far UTC's day is by then
    ahead = -past if past <= 43200 else 86400 - past
    sign, rest = ("-" if ahead > 0 else "+"), abs(ahead)  # POSIX counts west of Greenwich
    return (
        f"XXX{sign}{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}",
        now + datetime.timedelta(seconds=ahead),
    )
