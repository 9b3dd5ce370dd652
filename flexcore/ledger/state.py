"""What the log says: who holds what, and what every open request came to.

This file owns these rules of protocol.md:

* **18, apply is a function of the log alone.** :meth:`LedgerState.apply` gets an entry's index,
  term, stamp and command and nothing else: no clock, no options, no calendar. A seat starts at the
  stamp of the entry that granted it, an ended session is forgotten by stamps. Two servers that
  apply one log are therefore equal, byte for byte of their snapshots (tests/test_ledger_state.py,
  ``test_replicas_are_equal``).
* **17, sessions and requests.** A session exists from its entry to the entry that ends it. What
  came of a request stays in ``Session.results`` until the client says that it has the answer
  (*answered*), so that a retry after a failover finds the same handle
  (``test_a_retry_finds_its_result``). A withdrawn request frees what it was granted and can never
  be granted later (``test_withdrawn``). A number at or below *answered* is over: an old duplicate
  must not grant a seat that nobody knows; the checkout refuses it, and an entry that grants one all
  the same is no sense (``test_nonsense_is_refused``). Never reused: ids of ended sessions are kept
  for :data:`ENDED_LEASES` of their stretched leases by stamp, which outlives every connection on
  which an old duplicate of the opening could still travel; longer would be unbounded.
* **14, second half: a freeing counts from append for renewals and resumes, from commit for
  re-use.** Decisions are made on the appended state, so a seat that an uncommitted entry frees is
  already out of ``seats`` and ``in_use``: its holder is not told that it holds it. But that entry
  may yet be lost with this master, and then its holder still has the seat; so its count stays in
  :meth:`LedgerState.freed_uncommitted` and out of :meth:`LedgerState.available` until commit
  (``test_a_freed_seat_is_free_at_commit``).

Every apply gives an *undo*: an immutable record with which :meth:`LedgerState.revert` takes exactly
that entry back, last first (``test_apply_then_revert_is_identity``). An entry that makes no sense
raises :class:`LedgerCorrupt` before anything is changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeAlias

from flexcore.identity import Last
from flexcore.ledger.books import PoolBooks
from flexcore.ledger.borrowing import borrow_seat, end_borrow
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
from flexcore.ledger.lingering import (
    Lingering,
    linger_passed,
    linger_resumed,
    seat_lingers,
    seat_removed,
)
from flexcore.ledger.queue import Queues, come_back, leave, queue_request, unqueue_request
from flexcore.ledger.sessions import RESULTS_MAX as RESULTS_MAX
from flexcore.ledger.sessions import LedgerCorrupt as LedgerCorrupt
from flexcore.ledger.sessions import Linger as Linger
from flexcore.ledger.sessions import Outcome as Outcome
from flexcore.ledger.sessions import Seat as Seat
from flexcore.ledger.sessions import Session as Session
from flexcore.ledger.withdrawal import withdraw_request
from flexcore.timing import stretched_s

ENDED_LEASES = 2
"""How many of its own (stretched) leases an ended session's id is remembered."""

_ENDED_PURGE_MIN = 64

# A NamedTuple's own constructor takes twice the time, and there are two for each grant.
_new = tuple.__new__

Undo: TypeAlias = tuple[Any, ...]
"""(revert function, index before, stamp before, what else it needs); holds nothing that changes."""


class LedgerState:
    """Everything that the log says at some index. Read its attributes; change it through apply and
    revert only."""

    def __init__(self) -> None:
        self.index = 0
        """Of the last entry applied."""
        self.stamp = 0.0
        self.sessions: dict[bytes, Session] = {}
        self.seats: dict[int, Seat] = {}
        self.books = PoolBooks()
        self.in_use = self.books.in_use
        """Seats out of each pool; 0 for any other name. Uncommitted freeings are out of it (see
        available)."""
        self.next_handle = 1
        self.rights = b""
        self.rights_index = 0
        self.triad_id = b""
        self.membership_digest = b""
        self.formed_index = 0
        self.longest_timeout_s = 0.0
        """Over all TermStarted that the triad ever had (rule 8)."""
        self.term = 0
        self.term_index = 0
        self.term_rank = -1
        self.term_timeout_s = 0.0
        self.term_lease_s = 0.0
        self.ended: dict[bytes, float] = {}
        """Ids of ended sessions, and the stamp until which each is remembered; ask was_ended."""
        self.queue = Queues()
        self.lingering = Lingering()
        self.linger_clock_s = 0.0
        """Counted seconds, advanced by entries alone (:mod:`flexcore.ledger.lingering`)."""
        self.borrows: dict[bytes, float] = {}
        """Until when each borrow lasts; each is in *sessions* too."""
        self.borrow_changes = 0  # changes with them, for whoever keeps something made of them
        self.pools = self.books.pools
        self._freed = self.books.freed
        self._ended_purge_at = _ENDED_PURGE_MIN

    # --- questions ----------------------------------------

    def freed_uncommitted(self, pool: str) -> int:
        """Seats of *pool* whose freeing is appended but not committed: not held, and not to be
        given (rule 14)."""
        return self._freed[pool]

    def available(self, pool: str, count: int) -> int:
        """How many of *count* seats of *pool* may be granted now; negative where a count became
        smaller (rule 19)."""
        return count - self.in_use.get(pool, 0) - self._freed[pool]

    def extra(self, pool: str, group: str, count: int) -> int:
        """How many licences of *pool* a seat of *count* takes in *group* beside what the group has."""
        return max(0, count - self.books.groups.taken(pool, group)) if group else count

    def was_ended(self, session: bytes) -> bool:
        """Whether a session of this id is known to be over: it is never opened again (rule 17)."""
        return self.ended.get(session, -1.0) >= self.stamp

    def result_of(self, session: bytes, request: int) -> Outcome | None:
        """What came of a request, if it was decided and the client has not said that it knows."""
        found = self.sessions.get(session)
        return None if found is None else found.results.get(request)

    def seats_of(self, session: bytes) -> tuple[Seat, ...]:
        """What a session holds, by rising handle."""
        found = self.sessions.get(session)
        return () if found is None else tuple(sorted(found.seats.values()))

    def holder_of(self, seat: Seat) -> Session | Linger:
        """Whose *seat*, one of ``seats``, is: both kinds know user, host, display, project, address
        and pid."""
        return seat.linger or self.sessions[seat.session]

    def seats_page(self, pool: str, after: int = 0, limit: int = 500) -> tuple[Seat, ...]:
        """Up to *limit* seats of *pool* with handles above *after*, rising. A page costs its own
        length, not the pool's."""
        found = self.pools.get(pool)
        return () if found is None else found.page(self.seats, after, limit)

    def seat_count(self, pool: str) -> int:
        """How many handles (not seats) of *pool* are held."""
        found = self.pools.get(pool)
        return 0 if found is None else found.live

    def pending(self) -> tuple[tuple[str, int], ...]:
        """Pools with a freeing that is not committed, and how many seats of each, by name."""
        return self._freed.items()

    # --- entries ----------------------------------------

    def apply(self, index: int, term: int, stamp: float, command: Command) -> Undo:
        """Carry out one entry; what it returns takes it back.

        Raises:
            LedgerCorrupt: the entry makes no sense here; nothing was changed.
        """
        handler = _APPLY[type(command)]
        undo = handler(self, index, term, stamp, command)
        self.index = index
        self.stamp = stamp
        return undo

    def revert(self, undo: Undo) -> None:
        """Take the last entry back. *undo* is what its apply gave; last first."""
        undo[0](self, undo)
        self.index = undo[1]
        self.stamp = undo[2]

    def settle(self, index: int) -> None:
        """Entries up to *index* are committed: what they freed may be given again, what is long
        over is forgotten."""
        self._freed.settle(index)

    def forget_ended(self, stamp: float) -> None:
        """Drop ids of ended sessions whose time is over at a *committed* stamp. Changes no answer:
        stamps never fall.

        Amortised: it looks at all of them only when there are twice as many as the last time.
        """
        if len(self.ended) < self._ended_purge_at:
            return
        self.ended = {session: until for session, until in self.ended.items() if until >= stamp}
        self._ended_purge_at = max(_ENDED_PURGE_MIN, 2 * len(self.ended))

    def copy(self) -> LedgerState:
        """One that shares nothing that changes."""
        twin = LedgerState.__new__(LedgerState)
        twin.__dict__.update(self.__dict__)
        twin.sessions = {key: session.copy() for key, session in self.sessions.items()}
        twin.seats = dict(self.seats)
        twin.books = self.books.copy()
        twin.in_use, twin.pools, twin._freed = twin.books.in_use, twin.books.pools, twin.books.freed
        twin.ended = dict(self.ended)
        twin.queue = self.queue.copy()
        twin.lingering = self.lingering.copy()
        twin.borrows = dict(self.borrows)
        return twin

    def fingerprint(self) -> bytes:
        """A digest of what the log says up to here; the same however it came to be.

        What is pending depends on commit as well and is not in it (Ledger.fingerprint).
        """
        from flexcore.ledger.snapshot import encode_state  # which imports this module

        return hashlib.sha256(encode_state(self, Last(0, self.index))).digest()

    # --- term, triad, rights ----------------------------------------

    def _term_started(self, index: int, term: int, stamp: float, command: TermStarted) -> Undo:
        before = (
            self.term,
            self.term_index,
            self.term_rank,
            self.term_timeout_s,
            self.term_lease_s,
            self.longest_timeout_s,
        )
        self.term = term
        self.term_index = index
        self.term_rank = command.rank
        self.term_timeout_s = command.timeout_s
        self.term_lease_s = command.lease_s
        self.longest_timeout_s = max(self.longest_timeout_s, command.timeout_s)
        return LedgerState._undo_term, self.index, self.stamp, before

    def _undo_term(self, undo: Undo) -> None:
        (
            self.term,
            self.term_index,
            self.term_rank,
            self.term_timeout_s,
            self.term_lease_s,
            self.longest_timeout_s,
        ) = undo[3]

    def _formed(self, index: int, term: int, stamp: float, command: Formed) -> Undo:
        before = (self.triad_id, self.membership_digest, self.formed_index)
        self.triad_id = command.triad_id
        self.membership_digest = command.membership_digest
        self.formed_index = index
        return LedgerState._undo_formed, self.index, self.stamp, before

    def _undo_formed(self, undo: Undo) -> None:
        self.triad_id, self.membership_digest, self.formed_index = undo[3]

    def _rights(self, index: int, term: int, stamp: float, command: Rights) -> Undo:
        before = (self.rights, self.rights_index)
        self.rights = command.digest
        self.rights_index = index
        return LedgerState._undo_rights, self.index, self.stamp, before

    def _undo_rights(self, undo: Undo) -> None:
        self.rights, self.rights_index = undo[3]

    # --- sessions ----------------------------------------

    def _session_opened(self, index: int, term: int, stamp: float, command: SessionOpened) -> Undo:
        key = command.session
        if key in self.sessions:
            raise LedgerCorrupt(f"entry {index} opens session {key.hex()} a second time")
        if self.ended.get(key, -1.0) >= stamp:
            raise LedgerCorrupt(f"entry {index} opens session {key.hex()}, which has ended")
        forgotten = self.ended.pop(key, None)
        self.sessions[key] = Session(
            session=key,
            secret=command.secret,
            user=command.user,
            host=command.host,
            display=command.display,
            project=command.project,
            pid=command.pid,
            lease_s=command.lease_s,
            trusted_end=command.trusted_end,
            opened=stamp,
            opened_index=index,
            hostids=command.hostids,
            platform=command.platform,
            address=command.address,
        )
        return LedgerState._undo_opened, self.index, self.stamp, key, forgotten

    def _undo_opened(self, undo: Undo) -> None:
        key, forgotten = undo[3:]
        del self.sessions[key]
        if forgotten is not None:
            self.ended[key] = forgotten

    def _session_ended(self, index: int, term: int, stamp: float, command: SessionEnded) -> Undo:
        session = self._known(index, command.session)
        for seat in session.seats.values():
            self._drop_seat(seat, index)
        for queued in session.queued.values():
            self.queue.remove(queued)
        del self.sessions[command.session]
        self.ended[command.session] = stamp + ENDED_LEASES * stretched_s(session.lease_s)
        return LedgerState._undo_ended, self.index, self.stamp, session

    def _undo_ended(self, undo: Undo) -> None:
        # The undo itself must never change: a copy of this state may hold it too.
        session: Session = undo[3].copy()
        del self.ended[session.session]
        self.sessions[session.session] = session
        for seat in reversed(session.seats.values()):
            self._restore_seat(seat)
        for queued in session.queued.values():
            self.queue.restore(queued)

    # --- requests ----------------------------------------

    def _seat_granted(self, index: int, term: int, stamp: float, command: SeatGranted) -> Undo:
        key, request, answered, handle, feature, pool, version, count, shares = command
        session = self.sessions.get(key)
        queued = session.queued.get(request) if session is not None and session.queued else None
        if (
            session is None
            or handle < self.next_handle
            or count <= 0
            or (
                queued is None
                and (request in session.results or session.is_over(request, answered))
            )
            or (shares and not _make_sense(command))
        ):
            raise self._no_grant(index, command)
        seat = _new(
            Seat,
            (handle, key, request, feature, pool, version, count, stamp, index, shares, None, None),
        )
        undo = (
            LedgerState._undo_granted,
            self.index,
            self.stamp,
            seat,
            self.next_handle,
            session.answered,
            self._advance(session, answered) if answered > session.answered else (),
            queued,
        )
        if queued is None:
            session.results[request] = _new(Outcome, (index, stamp, command))
        else:
            leave(self, queued)
        session.seats[handle] = self.seats[handle] = seat
        self.books.take(seat)
        self.next_handle = handle + 1
        return undo

    def _undo_granted(self, undo: Undo) -> None:
        seat: Seat
        seat, next_handle, answered, dropped, queued = undo[3:]
        session = self.sessions[seat.session]
        if queued is None:
            del session.results[seat.request]
        else:
            come_back(self, queued)
        del session.seats[seat.handle], self.seats[seat.handle]
        self.books.take_back(seat)
        self.next_handle = next_handle
        self._retreat(session, answered, dropped)

    def _seat_returned(self, index: int, term: int, stamp: float, command: SeatReturned) -> Undo:
        key, request, answered, handle, _ = command
        session = self._known(index, key)
        seat = session.seats.get(handle)
        if seat is None:
            raise LedgerCorrupt(
                f"entry {index} returns handle {handle}, which session {key.hex()} does not hold"
            )
        if request:
            self._check_open(index, session, request, answered)
        del session.seats[handle]
        self._drop_seat(seat, index)
        before = session.answered
        dropped = self._advance(session, answered)
        if request:
            session.results[request] = _new(Outcome, (index, stamp, command))
        return LedgerState._undo_returned, self.index, self.stamp, seat, request, before, dropped

    def _undo_returned(self, undo: Undo) -> None:
        seat: Seat
        seat, request, answered, dropped = undo[3:]
        session = self.sessions[seat.session]
        if request:
            del session.results[request]
        self._retreat(session, answered, dropped)
        session.seats[seat.handle] = seat
        self._restore_seat(seat)

    # --- shared parts ----------------------------------------

    def _known(self, index: int, key: bytes) -> Session:
        session = self.sessions.get(key)
        if session is None:
            raise LedgerCorrupt(f"entry {index} names session {key.hex()}, which is not open")
        return session

    def _check_open(self, index: int, session: Session, request: int, answered: int) -> None:
        """*request* may get an outcome: it has none, and is not over."""
        if (
            session.is_over(request, answered)
            or request in session.results
            or request in session.queued
        ):
            raise LedgerCorrupt(
                f"entry {index} decides request {request} of session {session.session.hex()} again"
            )

    def _no_grant(self, index: int, command: SeatGranted) -> LedgerCorrupt:
        """Why a grant makes no sense."""
        session = self._known(index, command.session)
        self._check_open(index, session, command.request, command.answered)
        return LedgerCorrupt(
            f"entry {index} grants handle {command.handle} for {command.count} seats;"
            f" the next handle is {self.next_handle}"
        )

    def _drop_seat(self, seat: Seat, index: int) -> None:
        """*seat* is free by entry *index*; its session forgets it itself."""
        del self.seats[seat.handle]
        self.books.drop(seat, index, self.seats)

    def _restore_seat(self, seat: Seat) -> None:
        """Undo _drop_seat, the last one first."""
        self.seats[seat.handle] = seat
        self.books.restore(seat)

    def _advance(self, session: Session, answered: int) -> tuple[Any, ...]:
        """The client has its answers up to *answered*: drop them. Gives what _retreat needs."""
        if answered <= session.answered:
            return ()
        session.answered = answered
        known = session.results
        results = tuple([(n, known.pop(n)) for n in [n for n in known if n <= answered]])
        if not session.withdrawn:
            return (results, ())
        withdrawn = tuple([n for n in session.withdrawn if n <= answered])
        session.withdrawn.difference_update(withdrawn)
        return results, withdrawn

    def _retreat(self, session: Session, answered: int, dropped: tuple[Any, ...]) -> None:
        session.answered = answered
        if dropped:
            session.results.update(dropped[0])
            session.withdrawn.update(dropped[1])


def _make_sense(command: SeatGranted) -> bool:
    """Whether the shares are of the seat's own pool and at most one other."""
    pools = [share.pool for share in command.shares]
    return len(pools) <= 2 and pools[0] == command.pool and len(set(pools)) == len(pools)


_APPLY: dict[type, Callable[..., Undo]] = {
    TermStarted: LedgerState._term_started,
    Formed: LedgerState._formed,
    Rights: LedgerState._rights,
    SessionOpened: LedgerState._session_opened,
    SessionEnded: LedgerState._session_ended,
    SeatGranted: LedgerState._seat_granted,
    SeatReturned: LedgerState._seat_returned,
    RequestWithdrawn: withdraw_request,
    RequestQueued: queue_request,
    RequestUnqueued: unqueue_request,
    SeatLingers: seat_lingers,
    LingerPassed: linger_passed,
    LingerResumed: linger_resumed,
    SeatRemoved: seat_removed,
    SeatBorrowed: borrow_seat,
    BorrowEnded: end_borrow,
}
