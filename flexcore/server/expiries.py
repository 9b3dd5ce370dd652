"""What the debug log says of licences that run out: 30, 14, 7 and 1 days ahead, and EXPIRED when they have.

Only the server that serves says it: when it begins to, of all that end within the longest of these times, and
at each midnight where it stands. Who holds a licence at the end of its last day keeps it
(docs/licence-semantics.rst); the line says how many of the pool are out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flexcore import timing
from flexcore.checkout.rights import Line, Pool
from flexcore.report.logline import expired_line

WARNING_DAYS = (timing.EXPIRY_WARNING_DAYS, 14, 7, 1)
"""So many days before the last one a warning is due."""

LINES_MAX = 100
"""Lines that are written at a time."""


def expiries(
    pools: Iterable[Pool], day: int, in_use: Mapping[str, int], before: int | None = None
) -> Iterator[str]:
    """Yield the lines of *day* (a day ordinal), at most :data:`LINES_MAX`.

    *before*: the day on which this was asked last; None: a reign begins. *in_use*: seats by pool.
    """
    said = 0
    for pool in pools:
        for expiry_day in sorted({line.expiry_day for line in pool.lines if line.expiry_day is not None}):
            if not _is_due(expiry_day - day, None if before is None else expiry_day - before):
                continue
            if said == LINES_MAX:
                return
            said += 1
            lines = [line for line in pool.lines if line.expiry_day == expiry_day]
            yield _text(lines, expiry_day - day, in_use.get(pool.key, 0), is_all=len(lines) == len(pool.lines))


def _is_due(left: int, left_before: int | None) -> bool:
    """Whether something is to be said of what has *left* days, where this was last asked with *left_before*: a
    machine that was suspended may have slept through the very day."""
    if left_before is None:
        return left <= max(WARNING_DAYS)
    return any(left <= each < left_before for each in (*WARNING_DAYS, -1))


def _text(lines: list[Line], left: int, in_use: int, *, is_all: bool) -> str:
    first = lines[0]
    advice = f"ask {first.vendor} for a new licence file"
    count = 0 if any(line.seats == 0 for line in lines) else sum(line.seats for line in lines)
    some = "" if is_all or not count else f" ({count} of its licenses)"
    if left < 0:
        out = f" ({in_use} checked out; who holds one keeps it)" if in_use else ""
        return f"{expired_line(first.feature, first.version, first.expiry_text)}{some}{out}: {advice}"
    when = "today" if left == 0 else f"in {left} day{'' if left == 1 else 's'}"
    return f'Feature "{first.feature}" v{first.version}{some} expires on {first.expiry_text}, {when}: {advice}'
