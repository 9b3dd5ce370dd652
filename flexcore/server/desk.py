"""The desk at which a serving master attends to sessions: everything of one reign about clients.

The rules that live here, with the test of each:

* Rule 14: each answer is held with the index of the last entry at the time of the decision
  (:mod:`flexcore.server.replies`). *A freeing counts from append for renewals and resumes*: a
  session whose end is appended is answered as ended, though nobody is told before the commit
  (``tests/test_server_sessions.py::test_ended_session_is_told_after_its_commit``).
* Rule 15: a heartbeat asks for a round at its receipt and is answered when that is confirmed
  (:mod:`flexcore.server.replies`); leases end in :mod:`flexcore.server.leases`.
* Rule 16: goodbye frees at once; what an end of stream may do stands in
  :meth:`ClientDesk.connection_ended` (``test_reset_waits_for_the_lease``,
  ``test_no_grace_for_a_session_that_lives_on_another_connection``).
* Rule 17, how sessions begin, stands in :mod:`flexcore.server.admission`; the queue in
  :mod:`flexcore.server.queueing`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from flexcore.checkout.machine import (
    CheckoutMachine,
    Denial,
    Grant,
    Repeat,
    Return,
    Verdict,
    Withdrawal,
)
from flexcore.ledger.commands import Command, SessionEnded
from flexcore.report.logline import out_line
from flexcore.wire.messages import (
    Borrow,
    CanCheckOut,
    Checkin,
    Checkout,
    Goodbye,
    GoodbyeReply,
    Heartbeat,
    HeartbeatReply,
    OpenSession,
    ResumeSession,
    ReturnBorrow,
    StatusPage,
    StatusRequest,
    Withdraw,
)

from .admission import ProtocolMistake as ProtocolMistake
from .admission import SessionDesk
from .answers import check_number as check_number
from .answers import (
    denied_answer,
    dequeued_lines,
    freed_answer,
    granted_answer,
    repeated_answer,
)
from .borrowing import BorrowCounter
from .clocks import CLOCK_BACK_S, clock_refusal
from .config import LEASES_ENDED_PER_TURN_MAX, ServerConfig
from .connections import ServerConnection
from .details import answer_question
from .leftovers import Leftovers
from .lingering import LingerClock, leaving_line, lingers_s, resumed_lines
from .memory import RequestMemory
from .midnights import day_of
from .outbox import Outbox
from .queueing import Queueing
from .registrar import Refused, refusal_of
from .removals import lost_since, take_idle

if TYPE_CHECKING:
    from flexcore.checkout.claims import Claims
    from flexcore.ledger.state import Seat, Session
    from flexcore.options import OptionsFile
    from flexcore.quorum import QuorumMachine


DeskMessage: TypeAlias = (
    OpenSession | ResumeSession | Checkout | Checkin | Withdraw | Heartbeat | Goodbye | StatusRequest
    | CanCheckOut | Borrow | ReturnBorrow
)


class ClientDesk(SessionDesk):
    """Sessions, requests and leases while this server serves; knows nothing between reigns."""

    def __init__(
        self, config: ServerConfig, quorum: QuorumMachine, checkout: CheckoutMachine,
        outbox: Outbox, connections: dict[int, ServerConnection],
    ) -> None:  # fmt: skip
        super().__init__(config, quorum, outbox, connections)
        self._checkout = checkout
        self._vendor = config.served_vendor
        self._leftovers = Leftovers()
        self._linger = LingerClock()
        self._memory = RequestMemory()
        self.queueing = Queueing(self)
        self._borrows = BorrowCounter(self)
        self._handlers: dict[type, Callable[..., None]] = {
            Checkout: self._request,
            Checkin: self._request,
            Withdraw: self._request,
            Heartbeat: self._heartbeat,
            OpenSession: self._open,
            ResumeSession: self._resume,
            Goodbye: self._goodbye,
            StatusRequest: self._status,
            CanCheckOut: self._status,
            Borrow: self._borrows.borrow,
            ReturnBorrow: self._borrows.give_back,
        }

    # --- a reign ----------------------------------------------------------------------------------

    def start(self, term: int, *, now: float) -> None:
        """This server serves from *now* on; everybody's lease begins anew."""
        state = self._state
        self.term = term
        self.held.clear()
        self._speaks_on.clear()
        self._clocks.clear()
        self._memory.clear()
        self.queueing.stop()
        timeout = max(self._config.timeout_s, state.longest_timeout_s)
        self._leftovers.look(state, self._checkout)
        self._linger.start(state, now)
        self.leases.start(state.sessions.values(), won_at=now, timeout_s=timeout)

    def stop(self) -> None:
        """Nothing more is answered; answers that wait are dropped (rule 5)."""
        self.held.clear()
        self.leases.stop()
        self._speaks_on.clear()
        self._memory.clear()
        self.queueing.stop()

    @property
    def checkout(self) -> CheckoutMachine:
        """The machine that decides."""
        return self._checkout

    def use(self, checkout: CheckoutMachine, options: OptionsFile | None) -> None:
        """Decide by another machine and other options from here on: other lines are in force (rule 19)."""
        self._checkout, self.options = checkout, options
        self._leftovers.look(self._state, checkout)
        self.queueing.forget()

    def day(self, wall: float) -> int:
        """Return the calendar day of *wall* where this server stands."""
        return day_of(wall, self._config.utc_offset_s)

    # --- messages ---------------------------------------------------------------------------------

    def handle(
        self, conn: ServerConnection, message: DeskMessage, *, at: float, now: float, wall: float
    ) -> None:
        """Attend to *message*, which was received at *at* (it may have been kept since).

        Raises ProtocolMistake.
        """
        self._handlers[type(message)](conn, message, at, now, wall)

    def _heartbeat(
        self, conn: ServerConnection, message: Heartbeat, at: float, now: float, wall: float
    ) -> None:
        session = self._session_of(conn, message.seq, at, now)
        if session is not None:
            self._memory.note_answered(session, message.answered)
            if message.wall:
                conn.ahead_s = message.wall - wall
                self._hear_clock(conn, session)
            if message.idle and self._quorum.accepting:
                take_idle(self, session, message.idle, now=now, wall=wall)
            self._hold_for_round(conn, HeartbeatReply(message.seq, self.term, True), now)

    # --- sessions (rule 17; how they begin is the SessionDesk's) -----------------------------------

    def _goodbye(
        self, conn: ServerConnection, message: Goodbye, at: float, now: float, wall: float
    ) -> None:
        session = self._session_of(conn, message.seq, at, now)
        if session is None:
            return
        index, log = self._end_session(session, "", now, wall)
        self._hold(conn, GoodbyeReply(message.seq, self.term), log, index=index)

    def _end_session(
        self, session: Session, reason: str, now: float, wall: float
    ) -> tuple[int, tuple[str, ...]]:
        """Append the end of *session*; return the entry's index and the lines of its seats."""
        log: list[str] = []
        name = session.session
        for seat in self._state.seats_of(name):
            total_s = lingers_s(self._checkout.durations, seat)
            if total_s:
                stay = self._linger.entry(self._state, seat, total_s, now, (0, 0))
                self._quorum.propose(stay, now=now, wall=wall)
            log.append(leaving_line(session, seat, total_s, reason))
        index = self._quorum.propose(SessionEnded(name, reason), now=now, wall=wall)
        self.leases.forget(name)
        self._memory.forget(name)
        self._clocks.forget(name)
        self._speaks_on.pop(name, None)
        return index, (*log, *dequeued_lines(session))

    # --- requests ---------------------------------------------------------------------------------

    def _request(
        self, conn: ServerConnection, message: Checkout | Checkin | Withdraw, at: float, now: float,
        wall: float,
    ) -> None:  # fmt: skip
        session = self._session_of(conn, message.seq, at, now)
        if session is None:
            return
        number = message.request
        check_number(message)
        if message.answered > session.answered:
            self._memory.note_answered(session, message.answered)
        if type(message) is Checkout and message.queue:
            if self.queueing.answer_again(conn, message, session, now, wall):
                return
        recalled = self._memory.recall(session.session, number)
        if recalled is not None:
            self._hold(conn, denied_answer(message, recalled, self.term))
            return
        self._decide(conn, message, session, at, now, wall)

    def _verdict(
        self, session: Session, message: Checkout | Checkin | Withdraw, wall: float, now: float,
        claims: Claims | None,
    ) -> Verdict:  # fmt: skip
        day, state, checkout = self.day(wall), self._state, self._checkout
        verdict = checkout.decide(state, session, message, day=day, now=now, claims=claims)
        if type(verdict) is not Grant:
            return verdict
        if self._leftovers:
            again = partial(checkout.decide, state, session, message, day=day, now=now, claims=claims)
            verdict = self._leftovers.settle(state, checkout, verdict, day, again)
        behind_s = state.stamp - wall
        if behind_s > CLOCK_BACK_S and type(verdict) is Grant:
            verdict = clock_refusal(checkout, verdict.command, behind_s=behind_s, day=day) or verdict
        if self._clocks.off and type(verdict) is Grant:
            return self._clocks.refusal(checkout, session, verdict.command, day) or verdict
        return verdict

    def _imagine(self, now: float, wall: float, session: Session, message: Checkout) -> Verdict:
        """Return the verdict on a checkout that nobody asked for: lmdiag's question."""
        waits = bool(self._state.queue)
        claims = self.queueing.claims_on(message.feature, wall) if waits else None
        return self._verdict(session, message, wall, now, claims)

    def _decide(
        self, conn: ServerConnection, message: Checkout | Checkin | Withdraw, session: Session,
        at: float, now: float, wall: float, *, times: int = 0,
    ) -> None:  # fmt: skip
        claims = None
        if type(message) is Checkout and self._state.queue:
            claims = self.queueing.claims_on(message.feature, wall)
        verdict = self._verdict(session, message, wall, now, claims)
        kind = type(verdict)
        if kind is Grant:
            self._grant(conn, message, session, verdict, now, wall)  # type: ignore[arg-type]
        elif kind is Return:
            self._give_back(conn, message, session, verdict, now, wall)  # type: ignore[arg-type]
        elif type(verdict) is Denial:
            if type(message) is not Checkout or not self.queueing.may_wait(
                conn, message, session, verdict, at=at, now=now, wall=wall, times=times
            ):
                self._deny(conn, message, session, verdict)
        elif type(verdict) is Repeat:
            self._repeat(conn, message, verdict)
        else:
            self._give_back(conn, message, session, verdict, now, wall)  # type: ignore[arg-type]

    def _grant(
        self, conn: ServerConnection, message: Checkout | Checkin | Withdraw, session: Session,
        verdict: Grant, now: float, wall: float,
    ) -> None:  # fmt: skip
        command, proof = verdict
        log = (*resumed_lines(self._state, command),
               out_line(command.feature, session.user, session.host, command.count))  # fmt: skip
        index = self._quorum.propose(command, now=now, wall=wall)
        started = self._state.seats[command.handle].started
        said = granted_answer(message.seq, self.term, True, command, started, proof,
                              self._checkout.rights.hostids)  # fmt: skip
        conn.held += 1
        self.held.until_commit(index, conn.conn, said, log)

    def _deny(
        self, conn: ServerConnection, message: Checkout | Checkin | Withdraw, session: Session,
        denial: Denial,
    ) -> None:  # fmt: skip
        code = int(denial.code)
        log: tuple[str, ...] = ()
        if type(message) is Checkout:
            self._memory.keep(session.session, message.request, denial)
            after = self._quorum.ledger.last.index
            log = (refusal_of(message, session, code, term=self.term, after=after),)
        self._hold(conn, denied_answer(message, denial, self.term), log)

    def _repeat(
        self, conn: ServerConnection, message: Checkout | Checkin | Withdraw, verdict: Repeat
    ) -> None:
        """The same answer as the first time. It renews nothing: it appends no entry (rule 15)."""
        said = repeated_answer(message, verdict, self.term, self._checkout.rights.hostids)
        if said is None:
            raise ProtocolMistake("a request number was used for two requests")
        self._hold(conn, said)
        lost = lost_since(self._state, said, self.term)
        if lost is not None:
            self._hold(conn, lost)

    def _give_back(
        self, conn: ServerConnection, message: Checkin | Withdraw, session: Session,
        verdict: Return | Withdrawal, now: float, wall: float,
    ) -> None:  # fmt: skip
        seat: Seat | None = verdict.seat
        command: Command = verdict.command
        log: tuple[str, ...] = ()
        if type(verdict) is Withdrawal and verdict.queued is not None:
            log = dequeued_lines(session, verdict.queued)
        if seat is not None:
            total_s = lingers_s(self._checkout.durations, seat) if type(verdict) is Return else 0
            log = (leaving_line(session, seat, total_s),)
            if total_s:
                numbers = message.request, message.answered
                command = self._linger.entry(self._state, seat, total_s, now, numbers)
        index = self._quorum.propose(command, now=now, wall=wall)
        self._hold(conn, freed_answer(message, self.term), log, index=index)

    # --- status -----------------------------------------------------------------------------------

    def _status(
        self, conn: ServerConnection, message: StatusRequest | CanCheckOut, at: float, now: float,
        wall: float,
    ) -> None:  # fmt: skip
        page = answer_question(message, self._checkout, self._state, partial(self._imagine, now, wall),
                               term=self.term, rank=int(self._config.rank), remote=conn.remote,
                               day=self.day(wall), wall=wall)  # fmt: skip
        if page is None:
            raise ProtocolMistake("a status that does not exist")
        if self._state.lingering and type(page) is StatusPage and page.seats:
            page = page._replace(seats=self._linger.mark(self._state, page.seats, now))
        self._hold(conn, page)

    # --- rules 15 and 16: ends --------------------------------------------------------------------

    def connection_ended(self, conn: ServerConnection, *, orderly: bool, now: float) -> None:
        """*conn*, which is out of the table already, is over.

        The grace begins only if the end was orderly, its session's ends are trusted, the session
        spoke to this master in this reign on this connection, and speaks on no other (rule 16).
        """
        name = conn.session
        if name is None or self._speaks_on.get(name) != conn.conn:
            return
        del self._speaks_on[name]
        session = self._state.sessions.get(name)
        if orderly and session is not None and session.trusted_end:
            self.leases.end_of_stream(name, now)

    def end_due_leases(self, *, now: float, wall: float) -> None:
        """Append the end of what is over at *now*, some hundreds of sessions at a time."""
        passed = self._linger.pop_due(self._state, now)
        if passed is not None:
            index = self._quorum.propose(passed[0], now=now, wall=wall)
            self.held.until_commit(index, 0, None, passed[1])
        sessions = self._state.sessions
        for name, reason in self.leases.pop_due(sessions, now, LEASES_ENDED_PER_TURN_MAX):
            index, log = self._end_session(sessions[name], reason, now, wall)
            self.held.until_commit(index, 0, None, log)
        if self._state.borrows:
            self._borrows.end_due(now, wall)

    def next_timeout(self) -> float | None:
        """Return when the next lease, grace or lingering is over, or 0 if there is more to do at once."""
        if self.queueing.is_due:
            return 0.0
        due = self.leases.next_due(self._state.sessions)
        linger = self._linger.next_due(self._state)
        due = linger if due is None or (linger is not None and linger < due) else due
        if self._state.borrows and (other := self._borrows.next_due()) is not None:
            return other if due is None else min(due, other)
        return due

    def release(self) -> None:
        """Let go of the answers and log lines whose entries are committed and rounds confirmed."""
        quorum, outbox, connections = self._quorum, self._outbox, self._connections
        vendor = self._vendor
        for held in self.held.release(
            commit=quorum.ledger.commit, confirmed_round=quorum.confirmed_round
        ):
            _, _, _, number, message, log = held
            for text in log:
                outbox.log(vendor, text)
                if type(text) is Refused:
                    outbox.refusals.append(text)
            conn = connections.get(number)
            if message is not None and conn is not None:
                conn.held -= 1
                outbox.send(number, message)

    # --- copies -----------------------------------------------------------------------------------

    def copy(
        self, quorum: QuorumMachine, outbox: Outbox, connections: dict[int, ServerConnection]
    ) -> ClientDesk:
        """Return a twin that works with the twins of its surroundings."""
        twin = ClientDesk(self._config, quorum, self._checkout.copy(), outbox, connections)
        twin.term, twin.options = self.term, self.options
        twin._leftovers, twin._linger = self._leftovers.copy(), self._linger.copy()
        twin.leases, twin.held = self.leases.copy(), self.held.copy()
        twin._clocks = self._clocks.copy()
        twin._speaks_on, twin._memory = dict(self._speaks_on), self._memory.copy()
        twin.queueing = self.queueing.copy(twin)
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what decides its future, times relative to *now*."""
        return (
            self.term,
            self.leases.fingerprint(now),
            self.held.fingerprint(),
            tuple(sorted(self._speaks_on.items())),
            self._clocks.fingerprint(),
            self._memory.fingerprint(),
            self._linger.fingerprint(self._state, now),
            self.queueing.fingerprint(now),
        )
