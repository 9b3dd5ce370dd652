"""A ledger's state as bytes: what replaces the log's beginning, on disk and for a server that lags.

Version 2 is ``b"FXLS"``, u16 version, then records (:mod:`flexcore.wire.records`): one
:class:`Head`, then as many as it announces of :class:`Name` (each text that seats share, once),
:class:`SessionRow`, :class:`SeatRow` and :class:`EndedRow`, each kind sorted, then the SHA-256 of
all before. Sorting makes it deterministic: equal states have equal snapshots, however they came to
be (tests/test_ledger_snapshot.py, ``test_equal_states_have_equal_bytes``). Records may grow at
their end without a new version where an older program may do without what is new; anything else
is a new version, and a program refuses other versions than its own with a clear error. Version 2
says of which pools a seat takes what, shared with whom.

The parts are independent and can be made and sent one after the other (:func:`snapshot_parts`).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeVar, cast

from flexcore.errors import RemoteProtocolError
from flexcore.identity import Last
from flexcore.ledger.commands import (
    RequestWithdrawn,
    SeatBorrowed,
    SeatGranted,
    SeatReturned,
    Share,
)
from flexcore.ledger.sessions import (
    LedgerCorrupt,
    Linger,
    Outcome,
    Queued,
    Removal,
    Seat,
    Session,
)
from flexcore.ledger.state import LedgerState
from flexcore.wire.codec import decode_command, encode_command
from flexcore.wire.records import Compiler

SNAPSHOT_VERSION = 2

_MAGIC = b"FXLS"
_START = struct.Struct("<4sH")
_DIGEST_BYTES = 32
_NOBODY = -1


class Snapshot(NamedTuple):
    """The state after entry *last*, whose stamp is *stamp*; *state* holds both once more."""

    last: Last
    stamp: float
    state: bytes


class Head(NamedTuple):
    """First record: everything that there is one of, and how many of the others follow."""

    last: Last
    stamp: float
    names: int
    sessions: int
    seats: int
    ended: int
    next_handle: int
    rights: bytes
    rights_index: int
    triad_id: bytes
    membership_digest: bytes
    formed_index: int
    longest_timeout_s: float
    term: int
    term_index: int
    term_rank: int
    term_timeout_s: float
    term_lease_s: float
    linger_clock_s: float = 0.0


class Name(NamedTuple):
    text: str


class OutcomeRow(NamedTuple):
    request: int
    entry: int
    stamp: float
    command: bytes


class QueuedRow(NamedTuple):
    place: int
    request: int
    feature: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    since: float


class SessionRow(NamedTuple):
    session: bytes
    secret: bytes
    user: str
    host: str
    display: str
    project: str
    pid: int
    lease_s: float
    trusted_end: bool
    opened: float
    opened_index: int
    answered: int
    withdrawn: tuple[int, ...]
    results: tuple[OutcomeRow, ...]
    hostids: tuple[str, ...]
    platform: str
    address: str
    queued: tuple[QueuedRow, ...] = ()
    borrowed_until: float = 0.0


class RemovalRow(NamedTuple):
    code: int
    reason: str
    text: str


class LingerRow(NamedTuple):
    user: str
    host: str
    display: str
    project: str
    address: str
    pid: int
    ends_s: float
    total_s: float


class SeatRow(NamedTuple):
    """session: place among the SessionRows, -1 for a seat that lingers; feature, pool, version:
    places among the Names; shares: places of a pool and a group, of the next pool and group."""

    handle: int
    session: int
    request: int
    feature: int
    pool: int
    version: int
    seats: int
    started: float
    entry: int
    shares: tuple[int, ...]
    removal: RemovalRow | None = None
    linger: LingerRow | None = None


class EndedRow(NamedTuple):
    session: bytes
    until: float


_records = Compiler({})
RowT = TypeVar("RowT")


def encode_state(state: LedgerState, last: Last) -> bytes:
    """The bytes of a snapshot of *state*, whose last entry is *last*."""
    parts = list(snapshot_parts(state, last))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return b"".join([*parts, digest.digest()])


def snapshot_parts(state: LedgerState, last: Last) -> Iterator[bytes]:
    """The bytes before the digest, in small pieces. *state* must not change meanwhile."""
    sessions = sorted(state.sessions.values(), key=lambda session: session.session)
    seats = sorted(state.seats.values())
    texts = {text for seat in seats for text in (seat.feature, seat.pool, seat.version)}
    texts.update(text for seat in seats for share in seat.shares for text in share)
    names = sorted(texts)
    ended = sorted((key, until) for key, until in state.ended.items() if until >= state.stamp)
    yield _START.pack(_MAGIC, SNAPSHOT_VERSION)
    counts = (len(names), len(sessions), len(seats), len(ended))
    yield _records.encoder(Head)(_head(state, last, counts))
    encode = _records.encoder(Name)
    for name in names:
        yield encode(Name(name))
    encode = _records.encoder(SessionRow)
    for session in sessions:
        yield encode(_session_row(session))
    place = {name: at for at, name in enumerate(names)}
    session_place = {session.session: at for at, session in enumerate(sessions)}
    session_place[b""] = _NOBODY
    encode = _records.encoder(SeatRow)
    for seat in seats:
        handle, key, request, feature, pool, version, count, started, entry, shares, gone, linger = (
            seat
        )
        yield encode(
            (
                handle,
                session_place[key],
                request,
                place[feature],
                place[pool],
                place[version],
                count,
                started,
                entry,
                tuple([place[text] for share in shares for text in share]),
                gone,
                linger,
            )
        )
    encode = _records.encoder(EndedRow)
    for row in ended:
        yield encode(row)


def _head(state: LedgerState, last: Last, counts: tuple[int, int, int, int]) -> Head:
    return Head(
        last,
        state.stamp,
        *counts,
        state.next_handle,
        state.rights,
        state.rights_index,
        state.triad_id,
        state.membership_digest,
        state.formed_index,
        state.longest_timeout_s,
        state.term,
        state.term_index,
        state.term_rank,
        state.term_timeout_s,
        state.term_lease_s,
        state.linger_clock_s,
    )


def _session_row(session: Session) -> SessionRow:
    return SessionRow(
        session.session,
        session.secret,
        session.user,
        session.host,
        session.display,
        session.project,
        session.pid,
        session.lease_s,
        session.trusted_end,
        session.opened,
        session.opened_index,
        session.answered,
        tuple(sorted(session.withdrawn)),
        tuple(
            OutcomeRow(request, outcome.index, outcome.stamp, encode_command(outcome.command))
            for request, outcome in sorted(session.results.items())
        ),
        session.hostids,
        session.platform,
        session.address,
        tuple(
            QueuedRow(each.place, request, each.feature, each.version, each.count, each.since)
            for request, each in sorted(session.queued.items())
        ),
        session.borrowed_until,
    )


class _Reader:
    """Records one after the other."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    def rows(self, cls: type[RowT], count: int) -> Iterator[RowT]:
        """*count* records of one class. Stops with an error at the first that does not fit: nothing
        is allotted ahead."""
        decode = _records.decoder(cls)
        for _ in range(count):
            row, self.at = decode(self.data, self.at, self.end)
            yield row


def decode_state(snapshot: Snapshot) -> LedgerState:
    """The state that a snapshot holds.

    Raises:
        LedgerCorrupt: the bytes are damaged, of a newer version, or contradict themselves.
    """
    data = snapshot.state
    if len(data) < _START.size + _DIGEST_BYTES:
        raise LedgerCorrupt("the ledger's snapshot is cut short")
    magic, version = _START.unpack_from(data)
    if magic != _MAGIC:
        raise LedgerCorrupt("this is no snapshot of a ledger")
    if version != SNAPSHOT_VERSION:
        raise LedgerCorrupt(
            f"the ledger's snapshot has version {version}; this program knows {SNAPSHOT_VERSION}"
        )
    end = len(data) - _DIGEST_BYTES
    if hashlib.sha256(memoryview(data)[:end]).digest() != data[end:]:
        raise LedgerCorrupt("the ledger's snapshot is damaged: its digest does not match")
    try:
        reader = _Reader(data, _START.size, end)
        state, last = _read(reader)
    except (RemoteProtocolError, struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
        raise LedgerCorrupt(f"the ledger's snapshot is damaged: {error}") from error
    if reader.at != end:
        raise LedgerCorrupt("the ledger's snapshot goes on after its end")
    if (last, state.stamp) != (snapshot.last, snapshot.stamp):
        raise LedgerCorrupt(
            f"a ledger's snapshot of entry {last} is stored as one of {snapshot.last}"
        )
    return state


def _read(reader: _Reader) -> tuple[LedgerState, Last]:
    state = LedgerState()
    (head,) = reader.rows(Head, 1)
    state.index = head.last.index
    state.stamp = head.stamp
    state.next_handle = head.next_handle
    state.rights = head.rights
    state.rights_index = head.rights_index
    state.triad_id = head.triad_id
    state.membership_digest = head.membership_digest
    state.formed_index = head.formed_index
    state.longest_timeout_s = head.longest_timeout_s
    state.term = head.term
    state.term_index = head.term_index
    state.term_rank = head.term_rank
    state.term_timeout_s = head.term_timeout_s
    state.term_lease_s = head.term_lease_s
    state.linger_clock_s = head.linger_clock_s
    names = [name.text for name in reader.rows(Name, head.names)]
    sessions = [_session_of(row) for row in reader.rows(SessionRow, head.sessions)]
    state.sessions = {session.session: session for session in sessions}
    if len(state.sessions) != len(sessions):
        raise LedgerCorrupt("the ledger's snapshot holds a session twice")
    state.borrows = {
        each.session: each.borrowed_until for each in sessions if each.borrowed_until
    }
    waiting = sorted(each for session in sessions for each in session.queued.values())
    for queued in waiting:
        state.queue.add(queued)
    if len({queued.place for queued in waiting}) != len(waiting):
        raise LedgerCorrupt("the ledger's snapshot gives one place in the queue twice")
    handle = 0
    for row in reader.rows(SeatRow, head.seats):
        if (
            not handle < row.handle < head.next_handle
            or min(row.feature, row.pool, row.version, *row.shares) < 0
            or (row.session < 0) is (row.linger is None)
        ):
            raise LedgerCorrupt(f"the ledger's snapshot holds handle {row.handle} out of place")
        handle = row.handle
        seat = _seat_of(row, names, sessions)
        state.seats[handle] = seat
        state.books.take(seat)
        if seat.linger is None:
            sessions[row.session].seats[handle] = seat
        else:
            state.lingering.add(seat)
    state.ended = {row.session: row.until for row in reader.rows(EndedRow, head.ended)}
    return state, head.last


def _seat_of(row: SeatRow, names: list[str], sessions: list[Session]) -> Seat:
    shares = zip(row.shares[::2], row.shares[1::2], strict=True)
    return Seat(
        row.handle,
        sessions[row.session].session if row.linger is None else b"",
        row.request,
        names[row.feature],
        names[row.pool],
        names[row.version],
        row.seats,
        row.started,
        row.entry,
        tuple([Share(names[at], names[group]) for at, group in shares]),
        None if row.removal is None else Removal(*row.removal),
        None if row.linger is None else Linger(*row.linger),
    )


def _session_of(row: SessionRow) -> Session:
    session = Session(*row[:12], hostids=row.hostids, platform=row.platform,
                      address=row.address, borrowed_until=row.borrowed_until)  # fmt: skip
    session.withdrawn = set(row.withdrawn)
    for request, index, stamp, payload in row.results:
        command = decode_command(payload)
        if not isinstance(command, (SeatGranted, SeatReturned, RequestWithdrawn, SeatBorrowed)):
            raise LedgerCorrupt(
                f"the ledger's snapshot has a {type(command).__name__} as the result of a request"
            )
        session.results[request] = Outcome(index, stamp, cast("SeatGranted", command))
    for place, request, feature, version, count, since in row.queued:
        session.queued[request] = Queued(
            place, row.session, request, feature, version, count, since
        )
    return session
