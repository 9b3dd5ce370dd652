"""Which lines count, and in which order a server tries them (reference, a5).

The steps, each on what the one before left: a copy counts once; SUPERSEDE takes out what was issued
earlier; of the FEATURE lines of a name only the first counts. What UPGRADE and PACKAGE lines make of
the rest is :mod:`flexcore.licensefile.entitlements`.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from .lines import FeatureLine, PackageLine, SignableLine, UpgradeLine
from .signature import first_copies
from .version import DateError, parse_date, parse_version

DEFAULT_SORT = 100
"""``sort=`` where a line does not say."""

COPY = "copy"
SECOND = "second"
SUPERSEDED = "superseded"


@attrs.frozen
class Ignored:
    """A line that does not count, and the one because of which."""

    line: SignableLine
    because: SignableLine
    reason: str
    """``copy``: the same signed content; ``second``: a FEATURE of that name stands above;
    ``superseded``: the other one was issued later and supersedes it."""


@attrs.frozen
class Selection:
    """The lines that count, in the order in which checkouts try them, and the others."""

    lines: tuple[FeatureLine, ...]
    ignored: tuple[Ignored, ...]


def select_features(lines: Iterable[FeatureLine], hostids: Sequence[str]) -> Selection:
    """Return the FEATURE and INCREMENT lines that count, in the order in which they are tried.

    Pass only verified lines: a forged copy must not displace a true line.
    """
    kept, ignored = effective_lines(lines, hostids)
    chosen = [line for line in kept if isinstance(line, FeatureLine)]
    chosen.sort(key=sort_key)
    return Selection(tuple(chosen), tuple(ignored))


def effective_lines(
    lines: Iterable[SignableLine], hostids: Sequence[str]
) -> tuple[list[SignableLine], list[Ignored]]:
    """Return the lines that count, in the order of the file, and those that do not.

    A line that is superseded only from a later day on counts until the day before: it is returned
    with that expiry.
    """
    firsts, copies = first_copies(lines, hostids)
    ignored = [Ignored(line, first, COPY) for line, first in copies]
    superseders = [
        (names, on, line) for line in firsts for names, on in [_superseded_by(line)] if names
    ]
    first_of: dict[tuple[str, str], SignableLine] = {}
    chosen: list[SignableLine] = []
    for line in firsts:
        kept: SignableLine = line
        if superseders:
            found = _superseder(line, superseders)
            if found is not None:
                until = _start_of(found)
                if until is None or isinstance(line, PackageLine):
                    ignored.append(Ignored(line, found, SUPERSEDED))
                    continue
                kept = _ends_before(line, until)
        if isinstance(line, FeatureLine) and line.keyword == "FEATURE":
            first = first_of.setdefault((line.vendor, line.name), line)
            if first is not line:
                ignored.append(Ignored(line, first, SECOND))
                continue
        chosen.append(kept)
    return chosen, ignored


# --- SUPERSEDE ----------------------------------------------------------------------------------------


def _superseded_by(line: SignableLine) -> tuple[frozenset[str], datetime.date | None]:
    """Return the names that *line* supersedes, and the date before which; () without ISSUED=."""
    found = line.attribute("SUPERSEDE")
    on = issue_date(line)
    if found is None or on is None or isinstance(line, UpgradeLine):
        return frozenset(), None
    return frozenset((found.value or "").split()) or frozenset((line.name,)), on


def _superseder(
    line: SignableLine,
    superseders: list[tuple[frozenset[str], datetime.date | None, SignableLine]],
) -> SignableLine | None:
    """Return the line that supersedes *line*. Packages supersede packages, features features; a line
    that does not say when it was issued was issued before all others."""
    issued = issue_date(line) or line_start(line) or datetime.date.min
    is_package = isinstance(line, PackageLine)
    for names, on, other in superseders:
        assert on is not None
        if (
            line.name in names
            and issued < on
            and line.vendor == other.vendor
            and isinstance(other, PackageLine) is is_package
        ):
            return other
    return None


def _start_of(superseder: SignableLine) -> datetime.date | None:
    """Return from which day on it supersedes, None: from when it was issued. A renewal that begins
    next month must not end the service today."""
    start, issued = line_start(superseder), issue_date(superseder)
    return start if start is not None and issued is not None and start > issued else None


def _ends_before(line: FeatureLine | UpgradeLine, day: datetime.date) -> FeatureLine | UpgradeLine:
    last = day - datetime.timedelta(days=1)
    if line.expiry is not None and line.expiry <= last:
        return line
    return attrs.evolve(line, expiry=last)


def issue_date(line: SignableLine) -> datetime.date | None:
    """Return the date of ISSUED=, or None."""
    with contextlib.suppress(DateError):
        return parse_date(line.value("ISSUED") or "")
    return None


def line_start(line: SignableLine) -> datetime.date | None:
    """Return the date of START=, or None."""
    if isinstance(line, FeatureLine):
        return line.start
    with contextlib.suppress(DateError):
        return parse_date(line.value("START") or "")
    return None


# --- order --------------------------------------------------------------------------------------------


def sort_key(line: FeatureLine) -> tuple[Any, ...]:
    """``sort=`` first, then: by name, FEATURE before INCREMENT, uncounted before counted, higher
    version first, newer first by ISSUED= or START=; Python's sort keeps the rest as it was."""
    written = line.value("sort") or ""
    sort = (
        int(written)
        if written.isascii() and written.isdigit() and len(written) < 6
        else DEFAULT_SORT
    )
    version = parse_version(line.version)
    fraction = tuple(-ord(digit) for digit in version.fraction)
    date = issue_date(line) or line.start
    return (
        sort,
        line.name,
        line.keyword != "FEATURE",
        not line.is_uncounted,
        -version.whole,
        (*fraction, 0),
        -(date.toordinal() if date is not None else 0),
    )
