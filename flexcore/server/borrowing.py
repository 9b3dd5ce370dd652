"""The counter at which licences are lent: borrowing, early return, and the end of what was lent.

* What is lent is an entry, and so is its end (protocol.md rule 18; :mod:`flexcore.ledger.borrowing`):
  a session may go, a master may fail, all three may restart, and the seat is out until its end
  (``tests/test_borrow_simulated.py``).
* That the end has come is decided by **the middle of the servers' wall clocks, of two the earlier**,
  plus :data:`BORROW_SLACK_S` (:mod:`flexcore.quorum.clocks`): one clock that was set forward frees
  nothing, and a client whose clock is a little late has stopped by then.
* A borrow is known by its id: asked for again, with its secret, by a client that died before it heard the
  answer, it is told and not lent a second time (``tests/test_borrow_server.py``).
* A client whose clock is further off than that is refused (-34): it would not know when to stop.
* An early return proves itself by the borrow's secret, on any connection, from the machine that has
  the borrow file. After the end it is refused (-118): the seat may be somebody else's. A borrow that
  nobody knows is told only after a round (-128), as unknown sessions are (rule 17).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.checkout.borrowing import borrow_refusal
from flexcore.checkout.machine import Denial, Repeat
from flexcore.codes import ErrorCode, text_of
from flexcore.ledger.commands import BorrowEnded, SeatBorrowed
from flexcore.quorum.clocks import middle_clock_gap, middle_wall
from flexcore.report.logline import in_line
from flexcore.wire.messages import Borrow, Borrowed, BorrowReturned, ReturnBorrow
from flexcore.wire.proof import proofs_equal, session_proof

from .answers import (
    SECRET_BYTES_MAX,
    SECRET_BYTES_MIN,
    SESSION_BYTES,
    ProtocolMistake,
    check_number,
    denied_answer,
)

if TYPE_CHECKING:
    from flexcore.ledger import Session

    from .connections import ServerConnection
    from .desk import ClientDesk

BORROW_SLACK_S = 300.0
"""How long after its end a borrowed seat comes back: clocks of honest people differ by minutes."""

ENDED_PER_TURN_MAX = 500

EXPIRED, RETURNED = "BORROW EXPIRED", "BORROW RETURNED"
"""Reasons of BorrowEnded; the log shows them behind IN."""

_WALL_MAX = 1e11
"""Epoch seconds of no calendar that anybody uses."""


class BorrowCounter:
    """Borrowing at one desk. It remembers nothing that the ledger does not."""

    def __init__(self, desk: ClientDesk) -> None:
        self._desk = desk
        self._first: tuple[int, float] = (-1, 0.0)

    # --- lending ----------------------------------------------------------------------------------

    def borrow(
        self, conn: ServerConnection, message: Borrow, at: float, now: float, wall: float
    ) -> None:
        """A session wants to take a seat home."""
        desk = self._desk
        session = desk._session_of(conn, message.seq, at, now)
        if session is None:
            return
        check_number(message)
        if not (
            len(message.borrow) == SESSION_BYTES
            and SECRET_BYTES_MIN <= len(message.secret) <= SECRET_BYTES_MAX
            and 0.0 <= message.wall < _WALL_MAX
        ):
            raise ProtocolMistake("a borrow has an id of 16 bytes, and a secret of 16 to 64")
        desk._memory.note_answered(session, message.answered)
        denial = desk._memory.recall(session.session, message.request)
        if denial is not None:
            desk._hold(conn, denied_answer(message, denial, desk.term))
            return
        time = middle_wall(desk._quorum)
        seen = desk.checkout.seen_before(session, message.request)
        if type(seen) is Repeat:
            if type(seen.command) is not SeatBorrowed:
                raise ProtocolMistake("a request number was used for two requests")
            desk._hold(conn, self._said(message, wall if time is None else time, renews=False))
            return
        if type(seen) is Denial:
            denial = seen
        elif self._is_lent_already(message, time):
            known = desk._state.sessions[message.borrow]
            desk._hold_for_round(conn, Borrowed(message.seq, message.request, desk.term, False, 0, message.borrow,
                                                known.borrowed_until, wall if time is None else time), now)  # fmt: skip
            return
        elif time is None:
            denial = Denial(ErrorCode.SERVER_BUSY, "the servers do not know yet what time it is")
        else:
            denial = self._refusal(message, session, time)
        if denial is not None or time is None:
            assert denial is not None
            desk._memory.keep(session.session, message.request, denial)
            desk._hold(conn, denied_answer(message, denial, desk.term))
            return
        seat = session.seats[message.handle]
        command = SeatBorrowed(
            session.session, message.request, message.answered, message.handle, message.borrow,
            message.secret, message.until, session.hostids,
        )  # fmt: skip
        index = desk._quorum.propose(command, now=now, wall=wall)
        log = f'"{seat.feature}" borrowed by {session.user}@{session.host}'
        desk._hold(conn, self._said(message, time, renews=True), (log,), index=index)

    def _is_lent_already(self, message: Borrow, time: float | None) -> bool:
        """Whether it was lent under this very id and secret, by a run of the client that never heard of it: nothing
        more is lent then, and the answer names no handle."""
        known = self._desk._state.sessions.get(message.borrow)
        if known is None or not known.borrowed_until or not proofs_equal(known.secret, message.secret):
            return False
        return time is None or time < known.borrowed_until

    def _refusal(self, message: Borrow, session: Session, time: float) -> Denial | None:
        desk = self._desk
        if message.borrow in desk._state.sessions or desk._state.was_ended(message.borrow):
            return Denial(ErrorCode.BORROW_FAILED, "a borrow of this id is known already")
        seat = session.seats.get(message.handle)
        if seat is None:
            return Denial(
                ErrorCode.NEVER_CHECKED_OUT, f"this session does not hold handle {message.handle}"
            )
        off = message.wall - time if message.wall else 0.0
        if abs(off) > BORROW_SLACK_S:
            way = "ahead of" if off > 0 else "behind"
            return Denial(
                ErrorCode.CLOCK_DIFFERENCE,
                f"the client's clock is {abs(off) / 60:.0f} minutes {way} the license servers': set it first",
            )
        day = desk.day(time)
        refused = borrow_refusal(
            desk.checkout, desk._state, session, seat, message.until,
            wall=time, day=day, day_start=time - (time + desk._config.utc_offset_s) % 86_400,
        )  # fmt: skip
        return None if refused is None else Denial(*refused)

    def _said(self, message: Borrow, time: float, *, renews: bool) -> Borrowed:
        return Borrowed(message.seq, message.request, self._desk.term, renews, message.handle,
                        message.borrow, message.until, time)  # fmt: skip

    # --- coming back ------------------------------------------------------------------------------

    def give_back(
        self, conn: ServerConnection, message: ReturnBorrow, at: float, now: float, wall: float
    ) -> None:
        """Early return: whoever has the borrow's secret gives it back before its end."""
        desk = self._desk
        borrow = desk._state.sessions.get(message.borrow)
        if borrow is None or not borrow.borrowed_until:
            self._unknown(conn, message, now)
            return
        proof = session_proof(borrow.secret, conn.nonce, message.borrow)
        if not proofs_equal(proof, message.proof):
            self._unknown(conn, message, now)
            return
        time = middle_wall(desk._quorum)
        if (wall if time is None else time) >= borrow.borrowed_until:
            desk._hold(conn, self._returned(message, ErrorCode.BORROW_EXPIRED,
                                            "its time is over; the servers take it back"))  # fmt: skip
            return
        index, log = self._end(borrow, RETURNED, now, wall)
        desk._hold(conn, self._returned(message, 0, ""), log, index=index)

    def _unknown(self, conn: ServerConnection, message: ReturnBorrow, now: float) -> None:
        said = self._returned(message, ErrorCode.BORROW_UNKNOWN,
                              "no such borrowing: it has ended, or was another server's")  # fmt: skip
        self._desk._hold_for_round(conn, said, now)

    def _returned(self, message: ReturnBorrow, code: int, detail: str) -> BorrowReturned:
        text = text_of(code) if code else ""
        return BorrowReturned(message.seq, self._desk.term, int(code), text, detail)

    def _end(
        self, borrow: Session, reason: str, now: float, wall: float
    ) -> tuple[int, tuple[str, ...]]:
        log = tuple(
            in_line(seat.feature, borrow.user, borrow.host, seat.seats, reason)
            for seat in borrow.seats.values()
        )
        command = BorrowEnded(borrow.session, reason)
        return self._desk._quorum.propose(command, now=now, wall=wall), log

    # --- the end (rule 18) ------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Return when (monotonic) the first borrow is over by the servers' clocks, None if that is not
        known."""
        gap = middle_clock_gap(self._desk._quorum)
        return None if gap is None else self._first_until() + BORROW_SLACK_S - gap

    def end_due(self, now: float, wall: float) -> None:
        """Append the end of what is over, some hundreds at a time."""
        due = self.next_due()
        if due is None or now < due:
            return
        time = middle_wall(self._desk._quorum)
        assert time is not None
        state = self._desk._state
        over = [name for name, until in state.borrows.items() if until + BORROW_SLACK_S <= time]
        for name in sorted(over)[:ENDED_PER_TURN_MAX]:
            index, log = self._end(state.sessions[name], EXPIRED, now, wall)
            self._desk.held.until_commit(index, 0, None, log)

    def _first_until(self) -> float:
        state = self._desk._state
        if self._first[0] != state.borrow_changes:
            self._first = state.borrow_changes, min(state.borrows.values(), default=_WALL_MAX)
        return self._first[1]
