"""Versions, dates and counts as licence lines spell them.

A version is a floating-point number (reference, a5; error -77), so 1.10 equals 1.1 and is less than
1.9; a date-based version ``yyyy.mmdd`` compares rightly as the number that it is. Digits are
compared as written, without rounding.
"""

from __future__ import annotations

import datetime
import functools
import re
from typing import NamedTuple

from flexcore.codes import ErrorCode
from flexcore.errors import LicenseError

VERSION_LENGTH_MAX = 32
"""Characters of a version; real ones have up to ten."""

COUNT_MAX = 2**31 - 1
"""The largest count of one line, so that sums of 10,000 lines stay far below 2**63."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_VERSION = re.compile(r"([0-9]+)(?:\.([0-9]*))?|\.([0-9]+)")
_DATE = re.compile(r"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{1,4})")


class VersionError(LicenseError):
    """A version that is no floating-point number (-77)."""

    code: int | None = ErrorCode.BAD_VERSION


class DateError(LicenseError):
    """A date that is not ``dd-mmm-yyyy`` (-11)."""

    code: int | None = ErrorCode.BAD_DATE


class Version(NamedTuple):
    """A version; compares and hashes by its value, so ``1.0 == 1.00`` and ``1.10 < 1.9``."""

    whole: int
    """The digits before the point, as a number."""
    fraction: str
    """The digits after the point without trailing zeros; compares as text because of that."""


@functools.lru_cache(maxsize=4096)
def parse_version(text: str) -> Version:
    """Return the value of a version.

    Raises :class:`VersionError` for anything that is no floating-point number, such as ``v1`` or
    ``1.2.3``.

    >>> parse_version("1.10") < parse_version("1.9"), parse_version("2022.0630")
    (True, Version(whole=2022, fraction='063'))
    """
    found = _VERSION.fullmatch(text) if len(text) <= VERSION_LENGTH_MAX else None
    if found is None:
        shown = text if len(text) <= VERSION_LENGTH_MAX else text[:VERSION_LENGTH_MAX] + "..."
        raise VersionError(f"{shown!r} is no version: write a number such as 1.0 or 2026.1124")
    fraction = found[2] or found[3] or ""
    return Version(int(found[1] or 0), fraction.rstrip("0"))


def compare_versions(a: str, b: str) -> int:
    """Return -1, 0 or 1 as version ``a`` is older than, equal to or newer than ``b``.

    Raises :class:`VersionError`.
    """
    left, right = parse_version(a), parse_version(b)
    return (left > right) - (left < right)


@functools.lru_cache(maxsize=4096)
def parse_date(text: str) -> datetime.date | None:
    """Return the date of ``dd-mmm-yyyy``, or None for one that never comes.

    ``permanent`` and every year 0 (``1-jan-0``, ``01-jan-0000``, a bare ``0000``) mean never
    (reference, a5). Months are English, three letters, in any case. Raises :class:`DateError`.
    """
    if text.lower() == "permanent" or (text and len(text) <= 4 and not text.strip("0")):
        return None
    found = _DATE.fullmatch(text)
    if found is None or found[2].lower() not in MONTHS:
        raise DateError(f"{text[:40]!r} is no date: write one such as 31-dec-2026, or permanent")
    year = int(found[3])
    if year == 0:
        return None
    if len(found[3]) < 4:
        raise DateError(f"{text!r} has no full year: write four digits")
    try:
        return datetime.date(year, MONTHS.index(found[2].lower()) + 1, int(found[1]))
    except ValueError:
        raise DateError(f"{text!r} is in no calendar: write a day that exists") from None


def format_date(date: datetime.date | None) -> str:
    """Return ``d-mmm-yyyy`` or ``permanent``, as licence lines have it."""
    if date is None:
        return "permanent"
    return f"{date.day}-{MONTHS[date.month - 1]}-{date.year:04}"


def parse_count(text: str) -> int:
    """Return the number of licences of a line; ``uncounted`` is 0, and 0 is uncounted.

    Raises :class:`~flexcore.errors.LicenseError`.
    """
    if text.lower() == "uncounted":
        return 0
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= COUNT_MAX:
        return int(text)
    raise LicenseError(
        f"{text[:40]!r} is no number of licences: write one such as 10, or uncounted"
    )
