"""The queue at the desk: who is told to wait, who is served from it, and who waits for a commit only.

The queue itself is in the ledger (:mod:`flexcore.ledger.queue`), so that a new master knows it; who may
pass whom is decided in :mod:`flexcore.checkout.claims`. Here is when it is looked at:

* once a turn if anything has changed (an entry, a commit, the day, the lines or the options), first
  come first, in every line of features that have seats in common. A grant out of the queue is a
  SeatGranted like others, told unasked to the connection on which its session speaks; who speaks on
  none finds it when it asks again. Shown by ``tests/test_queue_server.py``.
* **Not a false no.** A seat whose freeing is appended but not committed is nobody's (rule 14), and a
  checkout that fails for it alone would be denied between two commits what is free after the second.
  The answer has to wait for that commit anyway (rule 14), so the checkout is decided again then, at
  most :data:`AGAIN_MAX` times (``test_a_seat_on_its_way_back_is_waited_for``).

What this keeps besides the ledger are those that wait for a commit, and what the last look depended
on; a new master starts with neither.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from flexcore.checkout.machine import Denial, Grant, Verdict
from flexcore.codes import ErrorCode, minor_of, text_of
from flexcore.ledger.commands import RequestQueued, RequestUnqueued
from flexcore.ledger.lingering import owner_of
from flexcore.report.logline import denied_line, dequeued_line, out_line, queued_line
from flexcore.wire.messages import Checkout, Denied, Granted, Queued

from .answers import denied_answer, granted_answer
from .lingering import resumed_lines

if TYPE_CHECKING:
    from flexcore.checkout.claims import Claims
    from flexcore.checkout.machine import CheckoutMachine
    from flexcore.ledger.sessions import Queued as Waiting
    from flexcore.ledger.sessions import Session

    from .connections import ServerConnection
    from .desk import ClientDesk

QUEUED_PER_SESSION_MAX = 64
"""Requests of one session that may wait."""

QUEUE_MAX = 20_000
"""Requests that may wait at one server: twice the clients that it is made for."""

LOOK_MAX = 1_000
"""How many of a line are asked who may pass them; behind so many nobody passes anybody."""

GRANTS_PER_TURN_MAX = 500
"""Out of the queue; the next turn is due at once if there are more."""

AGAIN_MAX = 3
"""How often a checkout waits for a commit that frees seats before it is denied all the same."""

AGAIN_WAITING_MAX = 1_000
"""How many checkouts wait for a commit; beyond that they are denied as before."""

_WORTH_WAITING = frozenset(
    {ErrorCode.USERS_REACHED, ErrorCode.USERS_QUEUED, ErrorCode.EXCEEDS_MAX, ErrorCode.ALL_RESERVED}
)


class Again(NamedTuple):
    """A checkout that is decided again when the entry *entry* is committed, for the *times*-th time."""

    entry: int
    times: int
    conn: int
    session: bytes
    message: Checkout
    at: float


class Queueing:
    """What a desk does about requests that wait."""

    def __init__(self, desk: ClientDesk) -> None:
        self._desk = desk
        self._again: deque[Again] = deque()
        self._seen: Hashable = None
        self._day = 0
        self._everybody = True
        self._unfinished = False
        self._lines: dict[str, tuple[str, ...]] = {}
        self._lines_of: object = None

    def forget(self) -> None:
        """A reign begins or ends, or other lines or options are in force: look at everything anew."""
        self._seen = None
        self._everybody = True
        self._unfinished = False

    def stop(self) -> None:
        """The reign is over: who waits for a commit asks whoever serves next."""
        self._again.clear()
        self.forget()

    @property
    def is_due(self) -> bool:
        """Whether there is more to do at once."""
        return self._unfinished

    @property
    def has_work(self) -> bool:
        """Whether :meth:`serve` has to be called this turn: a turn of a house where nobody waits costs nothing."""
        return bool(self._again or self._unfinished or self._desk._quorum.ledger.state.queue)

    # --- a checkout that comes --------------------------------------------------------------------

    def answer_again(
        self, conn: ServerConnection, message: Checkout, session: Session, now: float, wall: float
    ) -> bool:
        """Answer a request that waits, or waited, and is asked about again; False if it is new."""
        desk, number = self._desk, message.request
        waiting = session.queued.get(number)
        if waiting is not None:
            text = desk.checkout.in_use_text(desk._state, waiting.feature, desk.day(wall), now)
            desk._hold(conn, self._told(waiting, message.seq, text))
            return True
        seat = session.seat_of(number)
        if seat is None or number in session.results:
            return False
        proof = desk.checkout.proof_of(seat.feature, seat.pool, seat.seats)
        said = Granted(message.seq, number, desk.term, False, seat.handle, seat.feature, seat.version,
                       seat.seats, seat.started, proof, desk.checkout.rights.hostids)  # fmt: skip
        desk._hold(conn, said)
        return True

    def claims_on(self, feature: str, wall: float) -> Claims | None:
        """Return what those that wait keep from a request for *feature* that comes now."""
        desk = self._desk
        state, checkout, day = desk._state, desk.checkout, desk.day(wall)
        if not any(each in state.queue for each in self._line_of(feature, day)):
            return None
        claims = checkout.make_claims()
        plain = checkout.is_plain(feature, day)
        for number, waiting in enumerate(self._waiting_in(feature, day)):
            if number >= LOOK_MAX:
                claims.all = True
                break
            checkout.claim(claims, state, state.sessions[waiting.session], waiting, day)
            offers = checkout.offers(day).get(feature, ())
            if plain and all(claims.has(offer.pool) for offer in offers):
                break
        return claims

    def may_wait(
        self, conn: ServerConnection, message: Checkout, session: Session, denial: Denial, *,
        at: float, now: float, wall: float, times: int = 0,
    ) -> bool:  # fmt: skip
        """See whether a checkout that was denied waits instead: in the queue if it wants to, or for a
        commit that frees seats; False if the answer is no."""
        desk = self._desk
        if denial.code not in _WORTH_WAITING:
            return False
        day = desk.day(wall)
        if not message.queue:
            return self._wait_for_commit(conn, message, session, at, day, times)
        state = desk._state
        asked = message.feature, message.version, message.count
        if not desk.checkout.may_ever(session, *asked, day):
            return False
        if len(session.queued) >= QUEUED_PER_SESSION_MAX or len(state.queue) >= QUEUE_MAX:
            return False
        command = RequestQueued(session.session, message.request, message.answered, *asked)
        index = desk._quorum.propose(command, now=now, wall=wall)
        text = desk.checkout.in_use_text(state, message.feature, day, now)
        log = queued_line(message.feature, session.user, session.host, message.count)
        waiting = session.queued[message.request]
        desk._hold(conn, self._told(waiting, message.seq, text), (log,), index=index)
        return True

    def _told(self, waiting: Waiting, seq: int, text: str) -> Queued:
        ahead = 0
        for other in self._desk._state.queue.of(waiting.feature):
            if other.place >= waiting.place:
                break
            ahead += 1
        return Queued(seq, waiting.request, self._desk.term, False, waiting.place, ahead, text)

    # --- a commit that frees seats ----------------------------------------------------------------

    def _wait_for_commit(
        self, conn: ServerConnection, message: Checkout, session: Session, at: float, day: int,
        times: int,
    ) -> bool:  # fmt: skip
        desk = self._desk
        if times >= AGAIN_MAX or len(self._again) >= AGAIN_WAITING_MAX:
            return False
        asked = message.feature, message.version, message.count
        for offer in desk.checkout.may_ever(session, *asked, day):
            pools = [offer.pool, *([offer.terms.suite] if offer.terms is not None else [])]
            if any(desk._state.freed_uncommitted(pool) for pool in pools):
                break
        else:
            return False
        last = desk._quorum.ledger.last.index
        self._again.append(Again(last, times + 1, conn.conn, session.session, message, at))
        conn.held += 1
        return True

    def decide_again(self, now: float, wall: float) -> None:
        """Decide those again whose commit has come."""
        desk = self._desk
        commit = desk._quorum.ledger.commit
        for _ in range(len(self._again)):
            if self._again[0].entry > commit:
                break
            again = self._again.popleft()
            conn = desk._connections.get(again.conn)
            if conn is None:
                continue
            conn.held -= 1
            session = desk._state.sessions.get(again.session)
            if session is not None and conn.session == again.session:
                desk._decide(conn, again.message, session, again.at, now, wall, times=again.times)

    # --- the queue, once a turn -------------------------------------------------------------------

    def serve(self, now: float, wall: float) -> None:
        """Grant what can be granted to those that wait, first come first served, and refuse what never
        can be."""
        if self._again:
            self.decide_again(now, wall)
        desk = self._desk
        state = desk._state
        if not state.queue:
            self._unfinished = False
            return
        day = desk.day(wall)
        seen = (desk._quorum.ledger.last.index, desk._quorum.ledger.commit, day)
        if seen == self._seen:
            return
        self._seen = None
        if day != self._day:
            self._day, self._everybody = day, True
        left = GRANTS_PER_TURN_MAX
        done: set[str] = set()
        for feature in state.queue.features:
            if feature not in done:
                done.update(self._line_of(feature, day))
                left = self._serve_line(feature, day, now, wall, left)
        self._unfinished = left <= 0
        if not self._unfinished:
            self._everybody = False
            self._seen = (desk._quorum.ledger.last.index, desk._quorum.ledger.commit, day)

    def _serve_line(self, feature: str, day: int, now: float, wall: float, left: int) -> int:
        """Serve one line; returns how many grants are left for this turn.

        Where nobody can pass whoever waits first but who takes back what lingers for him
        (``test_who_waits_takes_back_what_begins_to_linger``), the rest is looked at only after the
        lines, the options or the day have changed: some of it may never be served any more.
        """
        desk = self._desk
        state, checkout = desk._state, desk.checkout
        claims = checkout.make_claims()
        everybody = self._everybody
        plain = checkout.is_plain(feature, day) and not everybody
        closed = False
        for number, waiting in enumerate(list(self._waiting_in(feature, day))):
            if left <= 0 or (number >= LOOK_MAX and not everybody):
                break
            session = state.sessions[waiting.session]
            if closed and not state.lingering.of(owner_of(waiting.feature, session)):
                continue
            asked = Checkout(0, waiting.request, session.answered, waiting.feature, waiting.version,
                             waiting.count, 0, True)  # fmt: skip
            verdict = desk._verdict(session, asked, wall, now, claims)
            if type(verdict) is Grant:
                self._grant(session, waiting, verdict, now, wall)
                left -= 1
            elif _is_his_clock(verdict) or not checkout.claim(claims, state, session, waiting, day):
                self._refuse(session, waiting, asked, day, now, wall)
                left -= 1
            elif plain and all(claims.has(o.pool) for o in checkout.offers(day).get(feature, ())):
                closed = True
                if not state.lingering:
                    break
        return left

    def _grant(
        self, session: Session, waiting: Waiting, verdict: Grant, now: float, wall: float
    ) -> None:
        desk = self._desk
        command = verdict.command
        taken_over = resumed_lines(desk._state, command)
        index = desk._quorum.propose(command, now=now, wall=wall)
        started = desk._state.seats[command.handle].started
        said = granted_answer(0, desk.term, False, command, started, verdict.proof,
                              desk.checkout.rights.hostids)  # fmt: skip
        who = session.user, session.host, waiting.count
        log = (dequeued_line(waiting.feature, *who), *taken_over, out_line(waiting.feature, *who))
        desk._hold_for_session(session.session, said, log, index)

    def _refuse(
        self, session: Session, waiting: Waiting, asked: Checkout, day: int, now: float, wall: float
    ) -> None:
        """What *waiting* waits for will never be free for it: the file or the options have changed."""
        desk = self._desk
        verdict = desk._verdict(session, asked, wall, now, None)
        denial = verdict if type(verdict) is Denial else Denial(ErrorCode.NO_SUCH_FEATURE, "")
        code = int(denial.code)
        command = RequestUnqueued(session.session, waiting.request, text_of(code))
        index = desk._quorum.propose(command, now=now, wall=wall)
        desk._memory.keep(session.session, waiting.request, denial)
        who = session.user, session.host, waiting.count
        log = (dequeued_line(waiting.feature, *who),
               denied_line(waiting.feature, *who, text_of(code), code, minor_of(code)))  # fmt: skip
        said: Denied = denied_answer(asked, denial, desk.term)
        desk._hold_for_session(session.session, said, log, index)

    # --- lines ------------------------------------------------------------------------------------

    def _line_of(self, feature: str, day: int) -> tuple[str, ...]:
        """Return the features with which *feature* has seats in common, by suites; itself among them."""
        checkout = self._desk.checkout
        offers = checkout.offers(day)
        if self._lines_of is not offers:
            self._lines, self._lines_of = _joined(checkout, day), offers
        return self._lines.get(feature, (feature,))

    def _waiting_in(self, feature: str, day: int) -> Iterator[Waiting]:
        queue = self._desk._state.queue
        line = self._line_of(feature, day)
        if len(line) == 1:
            return queue.of(feature)
        return heapq.merge(*(queue.of(each) for each in line))

    # --- copies -----------------------------------------------------------------------------------

    def copy(self, desk: ClientDesk) -> Queueing:
        """Return a twin that works for the twin of its desk."""
        twin = Queueing(desk)
        twin._again = self._again.copy()
        twin._seen, twin._unfinished = self._seen, self._unfinished
        twin._day, twin._everybody = self._day, self._everybody
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what decides its future."""
        again = tuple(each._replace(at=each.at - now) for each in self._again)
        return again, self._seen is None, self._unfinished, self._everybody


def _is_his_clock(verdict: Verdict) -> bool:
    """Whether somebody who waits is refused for his clock: nobody else shall wait until it is set right."""
    return type(verdict) is Denial and verdict.code == ErrorCode.CLOCK_DIFFERENCE


def _joined(checkout: CheckoutMachine, day: int) -> dict[str, tuple[str, ...]]:
    """Return the features of each line of more than one, by feature."""
    lines: dict[str, set[str]] = {}
    by_suite: dict[str, set[str]] = {}
    for feature, offers in checkout.offers(day).items():
        suites = {o.terms.suite for o in offers if o.terms is not None and o.terms.suite}
        if not suites:
            continue
        line = {feature}.union(*(by_suite.get(suite, ()) for suite in sorted(suites)))
        for each in line:
            lines[each] = line
        for suite, members in by_suite.items():
            if members & line:
                by_suite[suite] = line
        for suite in suites:
            by_suite[suite] = line
    return {feature: tuple(sorted(line)) for feature, line in lines.items()}
