"""The answer of ``flexcore usage``: as rows, as JSON and as CSV."""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from flexcore.errors import ConfigurationError
from flexcore.licensefile.entitlements import read_entitlements
from flexcore.options import parse_options
from flexcore.options.patterns import Matchers, Requester
from flexcore.options.rules import Subject, SubjectType
from flexcore.report.reportlog import Record
from flexcore.report.usage import MICRO, NOBODY, FeatureUse, Keys, UsageReport

from ._files import read_bytes, read_license

SCHEMA = 1
"""Raised when a name in the JSON changes its meaning or goes away."""

TABLES: dict[str, tuple[str, ...]] = {
    "features": ("feature", "issued", "peak", "peak_at", "enough_95", "average", "licence_hours", "checkouts", "users",
                 "denied", "full_hours", "waited", "longest_wait_s"),
    "denials": ("feature", "code", "cause", "times", "users", "first_day", "last_day"),
    "hours": ("by", "feature", "licence_hours", "peak", "checkouts", "denied"),
    "week": ("feature", "weekday", "hour", "average", "peak", "observed_hours"),
    "days": ("feature", "day", "peak", "licence_hours"),
    "levels": ("feature", "in_use", "hours"),
    "expiries": ("feature", "version", "licences", "expires", "days"),
}  # fmt: skip
"""Tables and their columns; *by* stands for what --by says."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOUR_US = 3600 * MICRO
ENOUGH_PERCENT = 95
_OPTIONS_BYTES_MAX = 16 * 1024 * 1024
_EPOCH = datetime.date(1970, 1, 1)


class Line:
    """A feature line of the licence file as it counts."""

    def __init__(self, feature: str, version: str, seats: int, expiry: datetime.date | None, text: str) -> None:
        self.feature, self.version, self.seats, self.expiry, self.expiry_text = feature, version, seats, expiry, text


@attrs.frozen(kw_only=True)
class Answer:
    """What was found out, and what was asked."""

    report: UsageReport
    by: str
    zone: str
    offset: Callable[[int], int]
    logs: int
    first: int
    """The index of the first entry that any log has."""
    is_whole: bool
    lines: tuple[Line, ...] | None
    """None: no licence file was named."""
    license_name: str
    today: datetime.date
    expiring_days: int
    faults: tuple[str, ...] = ()

    def issued(self, feature: str) -> int | None:
        """How many licences of *feature* there are today; None where nobody knows or counts."""
        if self.lines is None:
            return None
        mine = [line for line in self.lines
                if line.feature == feature and (line.expiry is None or line.expiry >= self.today)]  # fmt: skip
        if any(line.seats == 0 for line in mine):
            return None
        return sum(line.seats for line in mine)

    def full_us(self, use: FeatureUse) -> int | None:
        """For how long all licences of a feature were in use."""
        issued = self.issued(use.feature)
        return use.time_at(issued) if issued else None

    def average(self, use: FeatureUse) -> float:
        """How many licences were in use on average."""
        return use.licence_us / self.report.length_us if self.report.length_us else 0.0

    def at(self, us: int) -> datetime.datetime:
        """An instant in the zone of the answer."""
        seconds = us // MICRO
        zone = datetime.timezone(datetime.timedelta(seconds=self.offset(seconds)))
        return datetime.datetime.fromtimestamp(seconds, zone)

    def expiries(self) -> list[tuple[Line, int]]:
        """Lines that expire soon, or have, with the days that are left; the next first."""
        found = [(line, (line.expiry - self.today).days) for line in self.lines or () if line.expiry is not None]
        return sorted((each for each in found if each[1] <= self.expiring_days), key=lambda each: each[1])


def read_lines(path: str) -> tuple[Line, ...]:
    """Read what the licence file says, signed or not."""
    license = read_license(path)
    return tuple(
        Line(each.line.name, each.line.version, each.seats, each.line.expiry, each.line.expiry_text)
        for each in read_entitlements(license.signable_lines, license.hostids).items
        if each.package is None or each.package.is_suite
    )


def groups_of(path: str) -> Keys:
    """Return how to find the groups of a user: those of the GROUP lines of an options file."""
    options = parse_options(read_bytes(path, _OPTIONS_BYTES_MAX), name=path)
    names = tuple(options.groups("GROUP"))
    if not names:
        raise ConfigurationError(f"{path} has no GROUP lines")
    matchers = Matchers(options)
    known: dict[str, tuple[str, ...]] = {}

    def groups(record: Record) -> tuple[str, ...]:
        user = str(record.get("user", ""))
        if user not in known:
            who = Requester(user, "")
            mine = tuple(name for name in names if matchers.of(Subject(SubjectType.GROUP, name))(who))
            known[user] = mine or (NOBODY,)
        return known[user]

    return groups


def day_text(day: int) -> str:
    """A local day as 2026-11-02."""
    return (_EPOCH + datetime.timedelta(days=day)).isoformat()


def hours(us: int) -> float:
    """Hours, to the millionth."""
    return round(us / HOUR_US, 6)


# --- rows: the same in JSON and in CSV -----------------------------------------------------------------------------


def rows(answer: Answer, table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one of :data:`TABLES`."""
    report = answer.report
    match table:
        case "features":
            yield from (_feature(answer, use) for use in report.features)
        case "denials":
            for denial in report.denials:
                yield {"feature": denial.feature, "code": denial.code, "cause": denial.text,
                       "times": denial.count, "users": denial.users,
                       "first_day": day_text(min(denial.days)), "last_day": day_text(max(denial.days))}  # fmt: skip
        case "hours":
            for key in report.keys:
                yield {answer.by: key.key, "feature": key.feature, "licence_hours": hours(key.licence_us),
                       "peak": key.peak, "checkouts": key.checkouts, "denied": key.denials}  # fmt: skip
        case "week":
            for use in report.features:
                yield from _week(answer, use)
        case "days":
            for use in report.features:
                for day in sorted(use.days):
                    yield {"feature": use.feature, "day": day_text(day), "peak": use.days[day].peak,
                           "licence_hours": hours(use.days[day].licence_us)}  # fmt: skip
        case "levels":
            for use in report.features:
                for level in sorted(use.levels):
                    yield {"feature": use.feature, "in_use": level, "hours": hours(use.levels[level])}
        case "expiries":
            for line, left in answer.expiries():
                yield {"feature": line.feature, "version": line.version, "licences": line.seats,
                       "expires": line.expiry_text, "days": left}  # fmt: skip
        case _:
            raise ValueError(f"there is no table {table!r}")


def _feature(answer: Answer, use: FeatureUse) -> dict[str, Any]:
    full = answer.full_us(use)
    return {
        "feature": use.feature,
        "issued": answer.issued(use.feature),
        "peak": use.peak,
        "peak_at": answer.at(use.peak_at).isoformat() if use.peak else None,
        "enough_95": use.enough_for(ENOUGH_PERCENT),
        "average": round(answer.average(use), 6),
        "licence_hours": hours(use.licence_us),
        "checkouts": use.checkouts,
        "users": use.users,
        "denied": use.denials,
        "full_hours": None if full is None else hours(full),
        "waited": use.waited,
        "longest_wait_s": round(use.longest_wait_us / MICRO, 6),
    }


def _week(answer: Answer, use: FeatureUse) -> Iterator[dict[str, Any]]:
    for weekday, hour in sorted(answer.report.hours):
        cell = use.cells.get((weekday, hour))
        spent = answer.report.hours[weekday, hour]
        yield {"feature": use.feature, "weekday": WEEKDAYS[weekday], "hour": hour,
               "average": round(cell.licence_us / spent, 6) if cell else 0.0,
               "peak": cell.peak if cell else 0, "observed_hours": hours(spent)}  # fmt: skip


def json_text(answer: Answer) -> str:
    """Return everything, for programs."""
    report = answer.report
    head = {
        "schema": SCHEMA, "from": answer.at(report.begin).isoformat(), "to": answer.at(report.end).isoformat(),
        "seconds": report.length_us / MICRO, "timezone": answer.zone, "by": answer.by, "logs": answer.logs,
        "records": report.records, "first_entry": answer.first, "whole": answer.is_whole,
        "faults": list(answer.faults), "unknown_checkouts": report.unknown,
    }  # fmt: skip
    return json.dumps({**head, **{table: list(rows(answer, table)) for table in TABLES}}, indent=2)


# --- CSV -------------------------------------------------------------------------------------------------------------


def csv_lines(answer: Answer, table: str) -> Iterator[str]:
    """Yield one table, with a head."""
    columns = [answer.by if column == "by" else column for column in TABLES[table]]
    for row in (columns, *(row.values() for row in rows(answer, table))):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(_cell(value) for value in row)
        yield text.getvalue()


def _cell(value: Any) -> Any:
    """Users choose their names, and a spreadsheet would carry out one that begins like a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) and len(value) > 1:
        return f"'{value}"
    return value
