"""One history out of the report logs of three servers, and what is missing from it.

Every server records every committed entry, in the same words; so the union by (triad, index) is the
whole history as long as at every moment one of them wrote. What is not covered by any of them is named,
with who wrote until where; two logs that tell the same entry in different words are a conflict: one of
them was changed. Denials are only in the log of the master that refused.

The logs are read side by side, as iterators: each is in the order of its triads' lives and, within
one, of the entries, so that memory does not grow with them. A denial is decided after the entry that
its ``index`` names and may be written a few entries later (its answer waits for a round of the
servers): it stays after the entry behind which its master wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from .reportlog import DENIED, LOCAL, Record, ReportChain

GAPS_MAX = 1000
"""So many gaps, conflicts and disorders are named, and so many stretches of a log; a history with more
holes than that is no history."""

_OWN_FIELDS = ("n", "hash")


class Log(Protocol):
    """One server's log: a :class:`~flexcore.report.reportlog.ReportReader`, or a ``Reading``."""

    @property
    def server(self) -> str:
        """Who wrote it."""

    @property
    def records(self) -> Iterable[Record]:
        """What stands in it; iterated once."""


class Source(NamedTuple):
    """What one log covers of one triad's life, as ranges of indices (both ends within)."""

    server: str
    triad: str
    ranges: tuple[tuple[int, int], ...]
    last_at: float

    @property
    def until(self) -> int:
        """The last entry that it has."""
        return self.ranges[-1][1]


class Gap(NamedTuple):
    """Entries *first* to *last* are in no log; *wrote*: (server, its last entry before that)."""

    triad: str
    first: int
    last: int
    wrote: tuple[tuple[str, int], ...]


class Conflict(NamedTuple):
    """Two servers tell entry *index* in different words."""

    triad: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    servers: tuple[str, str]


class Disorder(NamedTuple):
    """*server*'s log tells entry *index* after it has told *last*, or all of that triad's life and the
    next one's: no server writes so. The entry was passed over."""

    server: str
    triad: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    last: int


class Merged(NamedTuple):
    """The history: *records* in their order, without the logs' own records, numbers and hashes."""

    records: tuple[Record, ...]
    sources: tuple[Source, ...]
    gaps: tuple[Gap, ...]
    conflicts: tuple[Conflict, ...]
    disorders: tuple[Disorder, ...] = ()

    @property
    def complete(self) -> bool:
        """See :attr:`ReportMerge.complete`."""
        return not self.gaps and not self.conflicts and not self.disorders


class ReportMerge:
    """Joins the logs of the servers of one triad: any number, in any order, also the same one twice.

    Take the history from ``records``; everything else is complete when that has no more.
    """

    def __init__(self, logs: Sequence[Log]) -> None:
        self.count = 0
        """How many records the history has."""
        self._conflicts: list[tuple[str, int, _Cursor, _Cursor]] = []
        self._gaps: list[tuple[str, int, int, tuple[tuple[_Cursor, int], ...]]] = []
        self._disorders: list[tuple[_Cursor, str, int, int]] = []
        self._done: set[str] = set()
        self._cursors = [_Cursor(log) for log in logs]
        self.records: Iterator[Record] = self._join()
        """What is left of the history, without the logs' own records, numbers and hashes."""

    # --- what was found ----------------------------------------------------------------------------

    @property
    def sources(self) -> tuple[Source, ...]:
        """What each log covers."""
        return tuple(
            Source(cursor.log.server, triad, tuple((first, last) for first, last in ranges), at)
            for cursor in self._cursors
            for triad, (ranges, at) in cursor.covered.items()
        )

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What is in no log."""
        return tuple(
            Gap(triad, first, last, tuple((cursor.log.server, until) for cursor, until in wrote))
            for triad, first, last, wrote in self._gaps
        )

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """What two logs tell in different words."""
        return tuple(
            Conflict(triad, index, (one.log.server, other.log.server))
            for triad, index, one, other in self._conflicts
        )

    @property
    def disorders(self) -> tuple[Disorder, ...]:
        """What stands at a place where no server writes it."""
        return tuple(
            Disorder(cursor.log.server, triad, index, last) for cursor, triad, index, last in self._disorders
        )

    @property
    def complete(self) -> bool:
        """Whether every entry from the first that any log has to the last is there, in one wording."""
        return not self._gaps and not self._conflicts and not self._disorders

    # --- joining -----------------------------------------------------------------------------------

    def _join(self) -> Iterator[Record]:
        for cursor in self._cursors:
            self._advance(cursor)
        while (triad := self._next_triad()) is not None:
            edge: int | None = None
            while here := [cursor for cursor in self._cursors if cursor.triad == triad]:
                index = min(cursor.index for cursor in here)
                here = [cursor for cursor in here if cursor.index == index]
                if any(cursor.entry is not None for cursor in here):
                    if edge is not None and index > edge + 1:
                        self._note_gap(triad, edge + 1, index - 1)
                    edge = index
                for record in self._at(here):
                    self.count += 1
                    yield record
            self._done.add(triad)

    def _next_triad(self) -> str | None:
        """The triad that lived first of those that the logs come to; None at their end."""
        heads = [(cursor.begun_at, cursor.triad) for cursor in self._cursors if cursor.triad is not None]
        return min(heads)[1] if heads else None

    def _at(self, here: Sequence[_Cursor]) -> Iterator[Record]:
        """What the logs *here*, which are at one index, have there: the entry once, and the denials after it."""
        denials: dict[tuple[Any, ...], Record] = {}
        told: tuple[_Cursor, Record] | None = None
        other: _Cursor | None = None
        for cursor in here:
            entry = cursor.entry
            if entry is not None:
                if told is None:
                    told = (cursor, entry)
                elif told[1] != entry and other is None:
                    other = cursor
                    _keep(self._conflicts, (cursor.triad, cursor.index, told[0], other))
            denials.update((_denial(each), each) for each in cursor.denials)
            self._advance(cursor)
        if told is not None:
            yield told[1]
        yield from (denials[key] for key in sorted(denials))

    def _advance(self, cursor: _Cursor) -> None:
        """Bring *cursor* to its next entry that belongs there."""
        while cursor.advance() and (cursor.triad in self._done or cursor.goes_back):
            _keep(self._disorders, (cursor, cursor.triad, cursor.index, cursor.until))
        if cursor.triad is not None and cursor.entry is not None:
            cursor.cover()

    def _note_gap(self, triad: str, first: int, last: int) -> None:
        wrote = ((cursor, cursor.before(triad, first)) for cursor in self._cursors)
        _keep(self._gaps, (triad, first, last, tuple((cursor, until) for cursor, until in wrote if until)))


class _Cursor:
    """Where one log is: at an entry and the denials that follow it there, or at denials alone."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.triad: str | None = None
        """None at the end of the log (and before its beginning)."""
        self.index = 0
        self.goes_back = False
        """The entry is one that this log should have told before."""
        self.entry: Record | None = None
        self.denials: list[Record] = []
        self.begun_at = 0.0
        """The stamp of this log's first record of the triad."""
        self.covered: dict[str, tuple[list[list[int]], float]] = {}
        self._highest = 0
        self._plain = (_plain(each) for each in log.records if each["kind"] not in LOCAL)
        self._next: Record | None = next(self._plain, None)

    def advance(self) -> bool:
        """Go on; returns False at the end."""
        record = self._next
        self.entry, self.denials = None, []
        if record is None:
            self.triad = None
            return False
        if record["triad"] != self.triad:
            self.triad, self.begun_at, self._highest = record["triad"], record["at"], 0
        self.index = record["index"]
        self.goes_back = False
        if record["kind"] == DENIED:
            self.index = max(self.index, self._highest)
        else:
            self.goes_back = self.index <= self._highest
            self.entry = record
            record = next(self._plain, None)
        self._highest = max(self.index, self._highest)
        while record is not None and record["kind"] == DENIED and record["triad"] == self.triad \
                and record["index"] <= self.index:  # fmt: skip
            self.denials.append(record)
            record = next(self._plain, None)
        self._next = record
        return True

    def cover(self) -> None:
        """Note that this log has the entry."""
        assert self.triad is not None
        assert self.entry is not None
        ranges, _ = self.covered.get(self.triad, ([], 0.0))
        if ranges and (self.index == ranges[-1][1] + 1 or len(ranges) >= GAPS_MAX):
            ranges[-1][1] = self.index
        else:
            ranges.append([self.index, self.index])
        self.covered[self.triad] = ranges, self.entry["at"]

    @property
    def until(self) -> int:
        """The last entry of this triad that was read here."""
        ranges, _ = self.covered.get(self.triad or "", ([[0, 0]], 0.0))
        return ranges[-1][1]

    def before(self, triad: str, first: int) -> int:
        """The last entry before *first* that this log has, 0 without one. It may be there already where
        others are not: what it is at counts as read."""
        ranges, _ = self.covered.get(triad, ([], 0.0))
        return max((last for start, last in ranges if last < first), default=0)


def _keep(found: list[Any], what: Any) -> None:
    if len(found) < GAPS_MAX:
        found.append(what)


def _plain(record: Record) -> Record:
    return {name: value for name, value in record.items() if name not in _OWN_FIELDS}


def _denial(record: Record) -> tuple[Any, ...]:
    """What tells one denial from another, in their order."""
    return record["at"], str(record.get("server", "")), record.get("seq", 0), record["index"]


def merge_reports(logs: Sequence[Log]) -> Merged:
    """Join logs and keep the whole history in memory; see :class:`ReportMerge`."""
    merge = ReportMerge(logs)
    records = tuple(merge.records)
    return Merged(records, merge.sources, merge.gaps, merge.conflicts, merge.disorders)


def merged_lines(records: Iterable[Record], servers: Sequence[str], *, at: float) -> Iterator[str]:
    """Yield the lines of a report log of a history: a start that names whose logs it was made of, and
    the *records* with a chain of their own."""
    chain = ReportChain()
    yield chain.line("start", 0, 0, at, "", {"schema": 1, "server": "merged", "prev": "",
                                             "sources": list(servers)})  # fmt: skip
    for record in records:
        rest = dict(record)
        kind, term, index = rest.pop("kind"), rest.pop("term"), rest.pop("index")
        yield chain.line(kind, term, index, rest.pop("at"), rest.pop("triad"), rest)
