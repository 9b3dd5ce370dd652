"""What licences were used for, when and by whom: the history of report logs in, sums and peaks out.

:class:`Usage` takes the records of one triad's history in their order (:mod:`flexcore.report.reportmerge`)
and keeps what is held now, and sums: its memory grows with the features, users and days, never with the
records. All times are whole microseconds, so nothing is rounded before it is printed
(``tests/test_usage.py`` compares every number with a list of intervals and loops over it).

What counts, and how (docs/usage.rst says the same to users):

* **In use** is what a pool has fewer: a licence that lingers or is borrowed is in use, and checkouts that
  share one (DUP_GROUP) are one. Of one user it is what *his* checkouts take, by the same rule.
* **A peak** is a number that was in use for a while: of what changes at one instant only the outcome counts.
* **Licence hours** are the number in use, summed up over time.
* What is held when the period begins counts from its beginning, what is open at the end of the logs until
  their last record.
* Where a triad was formed anew, what the old one had granted ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from flexcore.ledger.books import GroupCounts
from flexcore.override import override

from .reportlog import DENIED, Record
from .usagehours import MICRO, LocalHours, ZoneOffset

__all__ = ["BY", "MICRO", "NOBODY", "Cell", "Day", "Denial", "FeatureUse", "KeyUse", "Usage", "UsageReport"]

NOBODY = "(none)"
"""Who has no project, or is in no group."""
BY = ("user", "project", "host", "group")
"""By what hours can be told apart."""

_FREES = frozenset({"in", "withdrawn", "end", "passed", "borrow_end"})
"""Kinds of records whose seats are free afterwards."""

Keys: TypeAlias = Callable[[Record], Iterable[str]]
"""For whom the hours of a checkout count: what ``--by`` says."""


class Share(NamedTuple):
    """What a checkout takes: *count* of *pool*, together with all of the same *group* there."""

    pool: str
    group: str

    @property
    def feature(self) -> str:
        """Pools are named by the feature first."""
        return self.pool.partition(" ")[0]


class _Seat(NamedTuple):
    shares: tuple[Share, ...]
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    user: str
    keys: tuple[str, ...]
    since: int
    """Within the period."""


class Meter:
    """How many licences a set of checkouts takes, over time."""

    def __init__(self, since: int) -> None:
        self.level = 0
        self.since = since
        """Up to when everything is summed up."""
        self.licence_us = 0
        self.peak = 0
        self.peak_at = since
        """When the peak was reached first."""
        self.checkouts = 0
        self._groups = GroupCounts()

    def take(self, share: Share, count: int, at: int) -> None:
        """A checkout at *at*."""
        self.advance(at)
        self.level += self._groups.join(share.pool, share.group, count) if share.group else count

    def leave(self, share: Share, count: int, at: int) -> None:
        """It is given back at *at*."""
        self.advance(at)
        self.level -= self._groups.leave(share.pool, share.group, count) if share.group else count

    def advance(self, at: int) -> None:
        """Sum up until *at*."""
        if at > self.since:
            if self.level > self.peak:
                self.peak, self.peak_at = self.level, self.since
            self.licence_us += self.level * (at - self.since)
            self.passed(at)
            self.since = at

    def passed(self, until: int) -> None:
        """The level was the same from ``since`` to *until*."""


class Day(NamedTuple):
    """One local day of a feature: the most that was in use, and licence microseconds."""

    peak: int
    licence_us: int


class Cell(NamedTuple):
    """One hour of one weekday: over all such hours of the period."""

    peak: int
    licence_us: int


class FeatureMeter(Meter):
    """Of all checkouts of one feature: with days, hours of the week, and how long how many were in use."""

    def __init__(self, since: int, hours: LocalHours) -> None:
        super().__init__(since)
        self.levels: Counter[int] = Counter()
        """Number in use -> for how many microseconds."""
        self.days: dict[int, Day] = {}
        self.cells: dict[tuple[int, int], Cell] = {}
        """By (weekday, hour)."""
        self._hours = hours

    @override
    def passed(self, until: int) -> None:
        level = self.level
        self.levels[level] += until - self.since
        if not level:
            return
        for begin, end, day, weekday, hour in self._hours.between(self.since, until):
            spent = level * (end - begin)
            peak, sum_us = self.days.get(day, (0, 0))
            self.days[day] = Day(max(peak, level), sum_us + spent)
            peak, sum_us = self.cells.get((weekday, hour), (0, 0))
            self.cells[weekday, hour] = Cell(max(peak, level), sum_us + spent)


class Denial(NamedTuple):
    """How often checkouts of *feature* were refused with *code* in the period, on which days, and to whom."""

    feature: str
    code: int
    text: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    users: int
    days: Mapping[int, int]


class FeatureUse(NamedTuple):
    """What was used of one feature. Times are epoch microseconds, durations microseconds."""

    feature: str
    peak: int
    peak_at: int
    licence_us: int
    checkouts: int
    users: int
    """How many different users checked it out or held it in the period."""
    levels: Mapping[int, int]
    """Number in use -> for how long; together the whole period."""
    days: Mapping[int, Day]
    cells: Mapping[tuple[int, int], Cell]
    denials: int
    waited: int
    """How many requests were queued and then served."""
    longest_wait_us: int

    def enough_for(self, percent: int) -> int:
        """Return how many licences were enough for *percent* % of the time."""
        whole = sum(self.levels.values())
        passed = 0
        for level in sorted(self.levels):
            passed += self.levels[level]
            if passed * 100 >= percent * whole:
                return level
        return self.peak

    def time_at(self, level: int) -> int:
        """Return for how long *level* or more were in use."""
        return sum(spent for reached, spent in self.levels.items() if reached >= level)


class KeyUse(NamedTuple):
    """What one user (project, host, group) used of one feature."""

    key: str
    feature: str
    licence_us: int
    peak: int
    checkouts: int
    denials: int


class UsageReport(NamedTuple):
    """The answer. *begin* and *end*: epoch microseconds; equal where there is nothing in the period."""

    begin: int
    end: int
    features: tuple[FeatureUse, ...]
    keys: tuple[KeyUse, ...]
    denials: tuple[Denial, ...]
    hours: Mapping[tuple[int, int], int]
    """How long the period was in each hour of each weekday."""
    records: int
    unknown: int
    """So many checkouts were given back that had begun before the logs do: they are in no number."""

    @property
    def length_us(self) -> int:
        """How long the period is."""
        return self.end - self.begin


class Usage:
    """Sums up a history; see the head of this module.

    Args:
        offset: the zone in which days and hours are told.
        begin_at, end_at: the period in epoch seconds (*end_at* is not in it); None: all of the logs.
        features: only these; empty: all.
        keys: see :data:`Keys`; by default the user.
    """

    def __init__(
        self, offset: ZoneOffset, *, begin_at: float | None = None, end_at: float | None = None,
        features: Iterable[str] = (), keys: Keys | None = None,
    ) -> None:  # fmt: skip
        self._hours = LocalHours(offset)
        self._begin = None if begin_at is None else _micro(begin_at)
        self._end = None if end_at is None else _micro(end_at)
        self._wanted = frozenset(features)
        self._keys_of = keys or (lambda record: (str(record.get("user", "")),))
        self._now = -1
        """The stamp of the last entry; what follows is never before it."""
        self._last = -1
        self._triad = ""
        self._seats: dict[int, _Seat] = {}
        self._meters: dict[str, FeatureMeter] = {}
        self._by_key: dict[tuple[str, str], Meter] = {}
        self._users: dict[str, set[str]] = {}
        self._denied: dict[tuple[str, int], _Denied] = {}
        self._denied_keys: Counter[tuple[str, str]] = Counter()
        self._waiting: dict[str, dict[int, tuple[str, int]]] = {}
        self._waits: dict[str, tuple[int, int]] = {}
        self._records = 0
        self._unknown = 0

    # --- records -----------------------------------------------------------------------------------

    def add(self, record: Record) -> None:
        """Take the next record of the history."""
        kind, at = record["kind"], _micro(record["at"])
        self._records += 1
        if self._begin is None:
            self._begin = at
        self._last = max(self._last, at)
        if kind == DENIED:
            self._deny(record, at)
            return
        self._now = max(self._now, at)
        if record["triad"] != self._triad:
            self._forget_triad(record["triad"])
        if kind == "out":
            self._take(record)
        elif kind in _FREES:
            self._free(record)
        elif kind == "queued":
            feature = str(record.get("feature", ""))
            if self._is_wanted(feature):
                waiting = self._waiting.setdefault(str(record.get("session")), {})
                waiting[_number(record, "request")] = feature, self._now
        elif kind == "dequeued":
            self._waits_no_more(record, "request")

    def _is_wanted(self, feature: str) -> bool:
        return not self._wanted or feature in self._wanted

    def _clipped(self, at: int) -> int:
        """*at*, or the edge of the period that is next to it."""
        assert self._begin is not None
        at = max(at, self._begin)
        return at if self._end is None else max(self._begin, min(at, self._end))

    def _is_within(self, at: int) -> bool:
        return (self._begin is None or at >= self._begin) and (self._end is None or at < self._end)

    def _forget_triad(self, triad: str) -> None:
        for handle in tuple(self._seats):
            self._leave(self._seats.pop(handle))
        self._waiting.clear()
        self._triad = triad

    def _take(self, record: Record) -> None:
        for handle in _handles(record, "ended"):
            self._give_back(handle)
        waited = self._waits_no_more(record, "request")
        if waited is not None and self._is_within(self._now):
            count, longest = self._waits.get(waited[0], (0, 0))
            self._waits[waited[0]] = count + 1, max(longest, self._now - waited[1])
        handle = _number(record, "handle")
        self._give_back(handle)  # it was free before, unless records are missing
        shares = tuple(share for share in _shares(record) if self._is_wanted(share.feature))
        if not shares:
            return
        at, is_new = self._clipped(self._now), self._is_within(self._now)
        seat = _Seat(shares, _number(record, "count"), str(record.get("user", "")), tuple(self._keys_of(record)), at)
        self._seats[handle] = seat
        for share, meter in self._meters_of(seat):
            meter.take(share, seat.count, at)
            meter.checkouts += is_new
        if is_new:
            self._note_user(seat)

    def _free(self, record: Record) -> None:
        kind = record["kind"]
        if kind == "end":
            self._waiting.pop(str(record.get("session")), None)
        elif kind == "withdrawn":
            self._waits_no_more(record, "target")
        for handle, feature in _freed(record):
            known = self._give_back(handle)
            if not known and self._is_wanted(feature) and self._is_within(self._now):
                self._unknown += 1

    def _give_back(self, handle: int) -> bool:
        seat = self._seats.pop(handle, None)
        if seat is not None:
            self._leave(seat)
        return seat is not None

    def _leave(self, seat: _Seat) -> None:
        at = self._clipped(self._now)
        for share, meter in self._meters_of(seat):
            meter.leave(share, seat.count, at)
        if at > seat.since:
            self._note_user(seat)

    def _meters_of(self, seat: _Seat) -> Iterator[tuple[Share, Meter]]:
        """Everything that counts *seat*."""
        assert self._begin is not None
        for share in seat.shares:
            feature = self._meters.get(share.feature)
            if feature is None:
                feature = self._meters[share.feature] = FeatureMeter(self._begin, self._hours)
            yield share, feature
            for key in seat.keys:
                meter = self._by_key.get((share.feature, key))
                if meter is None:
                    meter = self._by_key[share.feature, key] = Meter(self._begin)
                yield share, meter

    def _note_user(self, seat: _Seat) -> None:
        for share in seat.shares:
            self._users.setdefault(share.feature, set()).add(seat.user)

    def _waits_no_more(self, record: Record, field: str) -> tuple[str, int] | None:
        """Return the feature and since when it waited."""
        session = str(record.get("session"))
        waiting = self._waiting.get(session)
        if waiting is None:
            return None
        found = waiting.pop(_number(record, field), None)
        if not waiting:
            del self._waiting[session]
        return found

    def _deny(self, record: Record, at: int) -> None:
        feature = str(record.get("feature", ""))
        if not self._is_wanted(feature) or not self._is_within(at):
            return
        code = _number(record, "code")
        denied = self._denied.setdefault((feature, code), _Denied(str(record.get("text", ""))))
        denied.days[self._hours.day_of(at)] += 1
        denied.users.add(str(record.get("user", "")))
        for key in self._keys_of(record):
            self._denied_keys[feature, key] += 1

    # --- the answer --------------------------------------------------------------------------------

    def report(self) -> UsageReport:
        """Return what has been summed up so far."""
        begin = self._begin if self._begin is not None else 0
        end = max(begin, self._last if self._end is None else min(self._end, self._last))
        for meter in (*self._meters.values(), *self._by_key.values()):
            meter.advance(end)
        for seat in self._seats.values():
            if end > seat.since:
                self._note_user(seat)
        hours: Counter[tuple[int, int]] = Counter()
        for stretch in self._hours.between(begin, end):
            hours[stretch.weekday, stretch.hour] += stretch.end - stretch.begin
        return UsageReport(
            begin, end, tuple(self._feature(name, end) for name in self._names()), tuple(self._all_keys()),
            tuple(
                Denial(feature, code, denied.text, denied.days.total(), len(denied.users), denied.days)
                for (feature, code), denied in sorted(self._denied.items())
            ),
            hours, self._records, self._unknown,
        )  # fmt: skip

    def _names(self) -> list[str]:
        """The features that anything is to be said of."""
        used = {name for name, meter in self._meters.items() if meter.licence_us or meter.checkouts}
        return sorted(used | {feature for feature, _ in self._denied})

    def _feature(self, name: str, end: int) -> FeatureUse:
        meter = self._meters.get(name)
        if meter is None:
            meter = FeatureMeter(self._begin or 0, self._hours)
            meter.advance(end)
        waited, longest = self._waits.get(name, (0, 0))
        return FeatureUse(
            name, meter.peak, meter.peak_at, meter.licence_us, meter.checkouts, len(self._users.get(name, ())),
            meter.levels, meter.days, meter.cells,
            sum(denied.days.total() for (feature, _), denied in self._denied.items() if feature == name),
            waited, longest,
        )  # fmt: skip

    def _all_keys(self) -> Iterator[KeyUse]:
        """Who used most first."""
        found = []
        for feature, key in {*self._by_key, *self._denied_keys}:
            meter, denials = self._by_key.get((feature, key)), self._denied_keys[feature, key]
            if meter is None:
                found.append(KeyUse(key, feature, 0, 0, 0, denials))
            elif meter.licence_us or meter.checkouts or denials:
                found.append(KeyUse(key, feature, meter.licence_us, meter.peak, meter.checkouts, denials))
        yield from sorted(found, key=lambda use: (-use.licence_us, -use.checkouts, use.key, use.feature))


class _Denied:
    def __init__(self, text: str) -> None:
        self.text = text
        self.days: Counter[int] = Counter()
        self.users: set[str] = set()


def _micro(at: float) -> int:
    return round(at * MICRO)


def _number(record: Mapping[str, Any], field: str) -> int:
    """A whole number, 0 where a log that was changed has none."""
    value = record.get(field)
    return value if type(value) is int else 0


def _shares(record: Record) -> Iterator[Share]:
    shares = record.get("shares") or [[record.get("pool", record.get("feature")), ""]]
    if isinstance(shares, list):
        for share in shares:
            if isinstance(share, list) and len(share) == 2:
                yield Share(str(share[0]), str(share[1]))


def _handles(record: Record, field: str) -> Iterator[int]:
    handles = record.get(field)
    if isinstance(handles, list):
        yield from (handle for handle in handles if type(handle) is int)


def _freed(record: Record) -> Iterator[tuple[int, str]]:
    """Handle and feature of everything that is free after *record*."""
    seats = record.get("seats")
    for seat in [record, *(seats if isinstance(seats, list) else ())]:
        if isinstance(seat, dict) and type(seat.get("handle")) is int and "pool" in seat:
            yield seat["handle"], str(seat.get("feature", ""))
