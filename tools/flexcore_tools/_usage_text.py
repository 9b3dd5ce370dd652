"""The answer of ``flexcore usage`` for a person at a terminal."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from flexcore.report.plain import word_of
from flexcore.report.usage import MICRO, FeatureUse

from ._usage_answer import ENOUGH_PERCENT, HOUR_US, WEEKDAYS, Answer, day_text

ROWS_MAX = 20
"""So many users are printed, and so many causes of denials; --csv has all."""
HEAT_MAPS_MAX = 3
"""Of so many features: those with the most licence hours."""


def text_lines(answer: Answer) -> Iterator[str]:
    """Yield the whole answer."""
    yield from _head(answer)
    if not answer.report.features:
        yield ""
        yield "No licence was used or denied in this period."
    else:
        yield ""
        yield from _features(answer)
        yield from _denials(answer)
        yield from _hours(answer)
        yield from _weeks(answer)
    yield from _expiries(answer)


def period(answer: Answer) -> str:
    """From when to when, as ``2026-11-02 08:00 to 2026-11-29 18:00``."""
    begin, end = answer.at(answer.report.begin), answer.at(answer.report.end)
    return f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"


def number(value: float) -> str:
    """A number of licences or hours, without digits that mean nothing."""
    if value == 0:
        return "0"
    if value < 0.05:
        return "<0.1"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def _head(answer: Answer) -> Iterator[str]:
    report = answer.report
    days = report.length_us / (24 * HOUR_US)
    yield f"Use of licences, {period(answer)} ({answer.zone}), {number(days)} days"
    logs = f"{answer.logs} log{'s' * (answer.logs != 1)}, {report.records:,} records"
    yield f"{logs}: " + ("nothing is missing" if answer.is_whole else "NOT whole (see above); taken as they are")
    if answer.first > 1:
        yield (f"The logs begin with entry {answer.first}: what was held before is not known"
               f" ({report.unknown} checkouts were given back that had begun before)")  # fmt: skip
    elif report.unknown:
        yield f"{report.unknown} checkouts were given back whose beginning is in no log: they are in no number"


def _table(head: Sequence[str], body: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    """Numbers to the right, the columns of *left* to the left."""
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    for row in (head, *body):
        cells = (cell.ljust(width) if column in left else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
        yield "  ".join(cells).rstrip()


def _features(answer: Answer) -> Iterator[str]:
    body = []
    for use in answer.report.features:
        issued, full = answer.issued(use.feature), answer.full_us(use)
        body.append((
            word_of(use.feature), "-" if issued is None else str(issued), str(use.peak),
            f"{answer.at(use.peak_at):%Y-%m-%d %H:%M}" if use.peak else "-", str(use.enough_for(ENOUGH_PERCENT)),
            number(answer.average(use)), number(use.licence_us / HOUR_US), f"{use.checkouts:,}", str(use.users),
            f"{use.denials:,}", "-" if full is None else f"{number(full / HOUR_US)} h",
        ))  # fmt: skip
    yield from _table(("feature", "issued", "peak", "first reached at", f"{ENOUGH_PERCENT}%", "average", "hours",
                       "checkouts", "users", "denied", "all in use"), body)  # fmt: skip
    yield ""
    yield f"{ENOUGH_PERCENT}%: so many licences were enough for {ENOUGH_PERCENT} % of the time. hours: licence hours."
    for use in answer.report.features:
        if use.waited:
            longest = datetime.timedelta(seconds=round(use.longest_wait_us / MICRO))
            yield f"{word_of(use.feature)}: {use.waited:,} requests waited in the queue, the longest for {longest}."


def _denials(answer: Answer) -> Iterator[str]:
    denials = sorted(answer.report.denials, key=lambda each: -each.count)
    if not denials:
        return
    yield ""
    yield "Denials by cause"
    yield from _table(
        ("feature", "code", "times", "users", "last on", "cause"),
        [(word_of(each.feature), str(each.code), f"{each.count:,}", str(each.users), day_text(max(each.days)),
          word_of(each.text)) for each in denials[:ROWS_MAX]],
        left=(0, 5),
    )  # fmt: skip
    yield from _more(len(denials), "denials")


def _hours(answer: Answer) -> Iterator[str]:
    keys = answer.report.keys
    total = {use.feature: use.licence_us for use in answer.report.features}
    yield ""
    yield f"Hours by {answer.by}"
    body = []
    for key in keys[:ROWS_MAX]:
        of_all = total.get(key.feature, 0)
        share = f"{100 * key.licence_us / of_all:.0f} %" if of_all else "-"
        body.append((word_of(key.key), word_of(key.feature), number(key.licence_us / HOUR_US), share, str(key.peak),
                     f"{key.checkouts:,}", f"{key.denials:,}"))  # fmt: skip
    yield from _table((answer.by, "feature", "hours", "of all", "peak", "checkouts", "denied"), body, left=(0, 1))
    yield from _more(len(keys), "hours")


def _more(count: int, table: str) -> Iterator[str]:
    if count > ROWS_MAX:
        yield f"... and {count - ROWS_MAX} more: --csv {table} has all"


def _weeks(answer: Answer) -> Iterator[str]:
    used = sorted((use for use in answer.report.features if use.licence_us), key=lambda use: -use.licence_us)
    for use in used[:HEAT_MAPS_MAX]:
        yield ""
        yield f"{word_of(use.feature)}: in use on average, by weekday and hour"
        yield from _week(answer, use)
    if len(used) > HEAT_MAPS_MAX:
        yield ""
        yield f"{len(used) - HEAT_MAPS_MAX} more features: --feature NAME, or --csv week"


def _week(answer: Answer, use: FeatureUse) -> Iterator[str]:
    first = min(hour for _, hour in use.cells)
    last = max(hour for _, hour in use.cells)
    body = []
    for weekday, name in enumerate(WEEKDAYS):
        row = [name]
        for hour in range(first, last + 1):
            observed, cell = answer.report.hours.get((weekday, hour), 0), use.cells.get((weekday, hour))
            average = cell.licence_us / observed if cell and observed else 0.0
            shown = "<.1" if 0 < average < 0.05 else f"{average:.1f}" if average < 9.95 else f"{average:.0f}"
            row.append(" " if not observed else "." if not average else shown)
        body.append(row)
    lines = _table(["", *(f"{hour:02d}" for hour in range(first, last + 1))], body)
    yield from (line.replace("  ", " ") if last - first > 15 else line for line in lines)


def _expiries(answer: Answer) -> Iterator[str]:
    if answer.lines is None:
        return
    yield ""
    expiries = answer.expiries()
    if not expiries:
        yield f"No line of {answer.license_name} expires within {answer.expiring_days} days."
        return
    yield f"Lines of {answer.license_name} that expire within {answer.expiring_days} days"
    yield from _table(
        ("feature", "version", "licences", "last day", "days"),
        [(word_of(line.feature), line.version, str(line.seats) if line.seats else "uncounted", line.expiry_text,
          str(left) if left >= 0 else "expired") for line, left in expiries],
    )  # fmt: skip
