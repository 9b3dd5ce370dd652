"""The report log: one JSON object a line, each with term and index, each chained to the line before.

Every server of a triad writes down every committed ledger entry, so that the three logs tell the same
history in the same words and any of them heals what the others miss (:mod:`flexcore.report.reportmerge`).

A line is a JSON object without blanks whose last field is ``hash``: SHA-256, in hexadecimal, of the
hash of the line before (64 characters; none before a log's first line) followed by the line's text
without that field. So a line that was changed, removed or put in is found
(``tests/test_reportlog.py::test_any_line_removed_or_changed_is_found``). Whoever can write the file
can of course compute a whole new chain: that is found by the merge with the other servers' logs.

===========  =====================================================================================
``n``        number of the line in this server's log, from 1, without a hole
``kind``     what happened, see below
``term``     term of the ledger entry (of a denial: of the master that refused)
``index``    index of the ledger entry; of a denial and of the log's own records the last entry before
``at``       epoch seconds: the entry's stamp (the start time of a seat), the same on all servers
``triad``    first eight digits of the triad's id: indices count anew when a triad is formed anew
``hash``     the chain
===========  =====================================================================================

Kinds of committed entries: ``term`` ``formed`` ``rights`` ``session`` ``end`` ``out`` ``in``
``withdrawn`` ``queued`` ``dequeued`` ``linger`` ``passed`` ``removed`` ``borrowed`` ``borrow_end``, and
for entries of a newer kind the name of the command. With the fields of the entry stand ``user host
display project pid`` of its session, and of what was freed ``feature version pool count handle
started`` (several seats: ``seats``, a list of these). ``out`` has ``shares``, a list of [pool, group],
where a seat is shared by DUP_GROUP or is of a suite. ``denied`` is no entry: ``server after seq feature
count user host display project code minor text``; it comes after the entry ``index``, in the order of
``seq``. The log's own records: ``start`` (``schema server vendor prev software``), ``stop`` (``reason``),
``gap`` (``from`` ``to``: entries of which this server had only the outcome, since it caught up by a
snapshot).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from flexcore.errors import FlexcoreError
from flexcore.ledger.commands import (
    BorrowEnded,
    Command,
    Formed,
    LingerPassed,
    LingerResumed,
    RequestQueued,
    RequestUnqueued,
    RequestWithdrawn,
    Rights,
    SeatBorrowed,
    SeatGranted,
    SeatLingers,
    SeatRemoved,
    SeatReturned,
    SessionEnded,
    SessionOpened,
    TermStarted,
)
from flexcore.ledger.sessions import Seat, Session
from flexcore.override import override

SCHEMA = 1
LINE_CHARS_MAX = 1 << 20
"""A longer line is no record."""
_AT_MAX = 253_402_300_800.0
"""The end of the year 9999; nor is a stamp NaN."""
PROBLEMS_MAX = 1000
"""So many problems of a log are named; the others are counted."""
LOCAL = frozenset({"start", "stop", "gap"})
"""Kinds of records about the log itself; every server has its own."""
DENIED = "denied"

Record: TypeAlias = dict[str, Any]

_HIDDEN = frozenset({"secret", "answered", "hostids", "trusted_end"})
_ONLY_IF_ANY = frozenset({"shares"})
_SEAT = ("feature", "version", "pool", "handle", "started")
_KINDS: Mapping[type, str] = {
    TermStarted: "term", Formed: "formed", Rights: "rights", SessionOpened: "session",
    SessionEnded: "end", SeatGranted: "out", LingerResumed: "out", SeatReturned: "in",
    RequestWithdrawn: "withdrawn", RequestQueued: "queued", RequestUnqueued: "dequeued",
    SeatLingers: "linger", LingerPassed: "passed", SeatRemoved: "removed",
    SeatBorrowed: "borrowed", BorrowEnded: "borrow_end",
}  # fmt: skip
_GIVES = (SeatGranted, LingerResumed)
_dumps = json.JSONEncoder(separators=(",", ":")).encode


class Position(NamedTuple):
    """Where a log ends: what the next line of it has to know. Before the first line: the defaults."""

    n: int = 0
    hash: str = ""
    term: int = 0
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    triad: str = ""
    at: float = 0.0


START = Position()


def position_of(record: Record) -> Position:
    """Return where a log ends whose last line is *record*."""
    return Position(record["n"], record["hash"], record["term"], record["index"],
                    record.get("triad", ""), record["at"])  # fmt: skip


# --- writing ---------------------------------------------------------------------------------------


def entry_fields(command: Command, session: Session | None, undo: tuple[Any, ...]) -> Record:
    """Return what a record tells of one committed entry: a function of the log alone.

    *session*: the one that *command* names, if any; *undo*: what applying the entry gave, which holds
    the seats that it freed.
    """
    fields: Record = {}
    if session is not None and type(command) is not SessionOpened:
        fields.update(_person(session))
    names = getattr(command, "_fields", ())
    for name in names:
        value = getattr(command, name)
        if name not in _HIDDEN and (value or name not in _ONLY_IF_ANY):
            fields[name] = _plain(value)
    if type(command) in _GIVES:
        return fields
    seats = list(_seats_in(undo))
    if type(command) is SessionEnded or len(seats) > 1:
        fields["seats"] = [_seat(seat) for seat in seats]
    elif seats:
        fields.update(_seat(seats[0]))
    return fields


def kind_of(command: Command) -> str:
    """Return the word for a command; one that this module does not know has its own name."""
    return _KINDS.get(type(command)) or type(command).__name__


def person_fields(session: Session) -> Record:
    """Return what a record tells of who it was."""
    return _person(session)


def _person(session: Session) -> Record:
    return {"user": session.user, "host": session.host, "display": session.display,
            "project": session.project, "pid": session.pid}  # fmt: skip


def _seat(seat: Seat) -> Record:
    return {**{name: getattr(seat, name) for name in _SEAT}, "count": seat.seats}


def _seats_in(undo: Iterable[Any]) -> Iterator[Seat]:
    for part in undo:
        if type(part) is Seat:
            yield part
        elif type(part) is Session:
            yield from sorted(part.seats.values())
        elif type(part) is tuple:
            yield from _seats_in(part)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


class ReportChain:
    """Makes lines: numbers them and chains each to the one before."""

    def __init__(self, position: Position = START) -> None:
        self.position = position

    def line(self, kind: str, term: int, index: int, at: float, triad: str, fields: Record) -> str:
        """Return the next line of the log, without its line end."""
        before = self.position
        n = before.n + 1
        record = {"n": n, "kind": kind, "term": term, "index": index, "at": at, "triad": triad,
                  **fields}  # fmt: skip
        body = _dumps(record)[:-1]
        digest = _digest(before.hash, body)
        self.position = Position(n, digest, term, index, triad, at)
        return f'{body},"hash":"{digest}"}}'

    def copy(self) -> ReportChain:
        """Return a twin."""
        return ReportChain(self.position)


def _digest(before: str, body: str) -> str:
    return hashlib.sha256(f"{before}{body}}}".encode("utf-8", "surrogatepass")).hexdigest()


# --- reading and verifying -------------------------------------------------------------------------


class Problem(NamedTuple):
    """Something is wrong at line *line* (from 1) of file *name*."""

    name: str
    line: int
    text: str

    @override
    def __str__(self) -> str:
        return f"{self.name}:{self.line}: {self.text}"


class ReportReader:
    """Reads one server's log record by record, and verifies the chain on the way: take them from ``records``.

    *files*: (name, lines) of each file, oldest first. Memory does not grow with the log: who wants all
    of it at once takes :func:`read_report`. Never raises for what stands in the files: what is wrong is
    in ``problems``, which, like everything else here, is complete when ``records`` has no more. A
    FlexcoreError of *lines*, which a file that cannot be read further raises, is a problem there.
    """

    def __init__(self, files: Iterable[tuple[str, Iterable[str]]]) -> None:
        self._files = files
        self._server = ""
        self.name = ""
        """The first file's name."""
        self.problems: list[Problem] = []
        """The first ``PROBLEMS_MAX`` of them."""
        self.problem_count = 0
        self.count = 0
        """How many records were read."""
        self.end = START
        self.unstopped: list[Problem] = []
        """The first ``PROBLEMS_MAX`` lines that begin anew though no stop stands before: no fault of the chain, which
        goes on behind what the server found at its start, but all that is seen of lines that were removed before it."""
        self.closed = False
        """Its last record says that the server stopped; else it runs, was killed, or lines at the end are gone."""
        self.records: Iterator[Record] = self._read()
        """What is left to read."""

    @property
    def server(self) -> str:
        """The server that wrote it, by its own word; the file's name where it does not say."""
        return self._server or self.name

    def _read(self) -> Iterator[Record]:
        for name, lines in self._files:
            self.name = self.name or name
            for number, line in self._numbered(name, lines):
                text = line.rstrip("\r\n")
                record = _parse(text)
                if record is None:
                    self._note(name, number, "this is no whole record: it was changed or cut off")
                    continue
                wrong = _check(record, text, self.end if self.count else None)
                if wrong:
                    self._note(name, number, wrong)
                if record["kind"] == "start" and self.count and not self.closed:
                    self._note_unstopped(name, number)
                self.count += 1
                self.end = position_of(record)
                self.closed = record["kind"] == "stop"
                if record["kind"] == "start" and not self._server:
                    self._server = str(record.get("server") or "")
                yield record

    def _numbered(self, name: str, lines: Iterable[str]) -> Iterator[tuple[int, str]]:
        number = 0
        try:
            for number, line in enumerate(lines, 1):
                yield number, line
        except FlexcoreError as error:
            self._note(name, number + 1, str(error))
        else:
            if not number:
                self._note(name, 0, "there is nothing in this file")

    def _note_unstopped(self, name: str, line: int) -> None:
        if len(self.unstopped) < PROBLEMS_MAX:
            text = "no stop before this start: the server was killed then, or lines were removed while it was down"
            self.unstopped.append(Problem(name, line, text))

    def _note(self, name: str, line: int, text: str) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(name, line, text))


class Reading(NamedTuple):
    """What stands in one server's log, in one file or several that follow each other."""

    name: str
    server: str
    """See :attr:`ReportReader.server`."""
    records: tuple[Record, ...]
    problems: tuple[Problem, ...]
    end: Position
    closed: bool
    """See :attr:`ReportReader.closed`."""


def read_report(files: Iterable[tuple[str, Iterable[str]]]) -> Reading:
    """Read one server's whole log into memory; see :class:`ReportReader`."""
    reader = ReportReader(files)
    records = tuple(reader.records)
    return Reading(reader.name, reader.server, records, tuple(reader.problems), reader.end, reader.closed)


def _parse(text: str) -> Record | None:
    if len(text) > LINE_CHARS_MAX or not text.startswith('{"n":') or not text.endswith('"}'):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    whole = (
        isinstance(record, dict)
        and type(record.get("n")) is int
        and type(record.get("term")) is int
        and type(record.get("index")) is int
        and type(record.get("kind")) is str
        and type(record.get("hash")) is str
        and type(record.get("triad")) is str
        and isinstance(record.get("at"), (int, float))
        and 0 <= record["at"] < _AT_MAX
    )
    return record if whole else None


def _check(record: Record, text: str, end: Position | None) -> str:
    """Return what is wrong with a record that follows *end*; None: it is the first of all."""
    body, mark, _ = text.rpartition(',"hash":"')
    n = record["n"]
    if end is None:
        if record["kind"] != "start":
            return f"the log begins with line {n}, not with a start: what stood before is gone"
        before = str(record.get("prev", ""))
    else:
        before = end.hash
        if n != end.n + 1:
            if n <= end.n:
                return f"line {n} comes after line {end.n}"
            return f"lines {end.n + 1} to {n - 1} of the log are missing"
    if not mark or _digest(before, body) != record["hash"]:
        return f"line {n} was changed, or the one before it: the hash does not fit"
    return ""
