"""Which FEATURE and INCREMENT lines count, and in which order a server tries them (reference, a5)."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from .lines import FeatureLine
from .signature import first_copies
from .version import DateError, parse_date, parse_version

DEFAULT_SORT = 100
"""``sort=`` where a line does not say."""


@attrs.frozen
class Ignored:
    """A line that does not count, and the one because of which."""

    line: FeatureLine
    because: FeatureLine
    reason: str
    """``copy``: the same signed content; ``second``: a FEATURE of that name stands above."""


@attrs.frozen
class Selection:
    """The lines that count, in the order in which checkouts try them, and the others."""

    lines: tuple[FeatureLine, ...]
    ignored: tuple[Ignored, ...]


def select_features(lines: Iterable[FeatureLine], hostids: Sequence[str]) -> Selection:
    """Return the lines that count: copies count once (design.md section 6), and of the FEATURE lines
    of a name only the first; INCREMENT lines always add.

    Pass only verified lines: a forged copy must not displace a true line.
    """
    kept, copies = first_copies(lines, hostids)
    ignored = [Ignored(line, first, "copy") for line, first in copies]
    first_of: dict[tuple[str, str], FeatureLine] = {}
    chosen: list[FeatureLine] = []
    for line in kept:
        if line.keyword == "FEATURE":
            first = first_of.setdefault((line.vendor, line.name), line)
            if first is not line:
                ignored.append(Ignored(line, first, "second"))
                continue
        chosen.append(line)
    chosen.sort(key=_sort_key)
    return Selection(tuple(chosen), tuple(ignored))


def _sort_key(line: FeatureLine) -> tuple[Any, ...]:
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
    return (
        sort,
        line.name,
        line.keyword != "FEATURE",
        not line.is_uncounted,
        -version.whole,
        (*fraction, 0),
        -_issued(line),
    )


def _issued(line: FeatureLine) -> int:
    date: datetime.date | None = None
    with contextlib.suppress(DateError):
        date = parse_date(line.value("ISSUED") or "")
    date = date or line.start
    return date.toordinal() if date is not None else 0
