"""One alternative of the search path, a triad or a single server, and this client's session there.

Owns rule 15 of protocol.md on the client's side: an answer with a lower term than was seen is
ignored, and the highest is shown; and rule 17: what was not answered before a connection was lost
is sent again, under its old number, when the session is resumed
(``tests/test_client_failover.py``).

Everything that depends on time happens in :meth:`Site.advance`, which is called after every event;
:meth:`Site.next_at` says when it has something to do next.
"""

from __future__ import annotations

from typing import TypeAlias

from flexcore import timing
from flexcore.client.link import Link, Stage
from flexcore.client.loads import Loads
from flexcore.client.returns import Returns
from flexcore.client.session import NEVER, QUEUE_ASK_S, Order, Result, Session
from flexcore.client.values import (
    BorrowKnown,
    BorrowRefused,
    CheckedIn,
    CheckoutDeniedAction,
    CheckoutGranted,
    CheckoutQueued,
    ClientConfig,
    Seat,
    SeatBorrowed,
    SeatLost,
    StateChanged,
)
from flexcore.codes import ErrorCode, minor_of, text_of
from flexcore.wire import messages as wire

CLOSE_WAIT_S = 2.0
"""How long closing looks for a server to say goodbye to, and waits for its answer."""

GOODBYE_WAIT_S = 0.5
"""How long the answer to a goodbye is waited for alone. Then whoever serves is looked for beside it: a quarter of
CLOSE_WAIT_S, so that the rest is enough for a connection, the resuming and the goodbye there."""

Answer: TypeAlias = (
    wire.SessionReply | wire.Granted | wire.Denied | wire.CheckedIn | wire.Withdrawn
    | wire.HeartbeatReply | wire.SeatsLost | wire.Queued
    | wire.Borrowed
)  # fmt: skip


class Site(Returns):
    """Where one alternative's session is, and everything that is asked of it."""

    __slots__ = ("close_until", "goodbye_until", "loads", "resend_before_at", "wanted")

    def __init__(self, index: int, config: ClientConfig, entropy: bytes) -> None:
        super().__init__(index, config, entropy)
        self.close_until: float | None = None
        self.goodbye_until = NEVER  # until then nobody else is looked for to say goodbye to
        self.loads = Loads()
        self.wanted = False  # a request waits for this site to be ready
        self.resend_before_at = NEVER  # orders sent before this instant have waited for a whole heartbeat

    # --- what the node asks ---

    @property
    def wants(self) -> bool:
        """Whether a server is needed here."""
        if self.session is None:
            return self.wanted or self.errands > 0
        return self.wanted or self.errands > 0 or self.session.wants or self.close_until is not None

    def gave_up(self, now: float, wait_s: float) -> bool:
        """Whether others may be asked instead: nobody has served for *wait_s*, or there is nobody."""
        if self.broken:
            return True
        if self.ready or self.unready_since_at is None:
            return False
        if now >= self.unready_since_at + wait_s:
            return True
        return self.search.all_failed([link.address for link in self.links.values()])

    def submit(self, order: Order) -> None:
        """Ask for something."""
        session = self.session if self.session is not None else self.start_session()
        session.waiting.append(order)

    # --- events ---

    def receive_message(self, conn: int, message: wire.Message, now: float) -> None:
        """A message came on one of this site's connections."""
        link = self.links.get(conn)
        if link is None:
            return
        if isinstance(message, wire.Refusal):
            self._end(link, message.text, now, code=message.code)
        elif isinstance(message, wire.ServerHello):
            self._hello(link, message, now)
        elif link.hello is None:
            self._end(link, "the server did not say hello", now)
        elif isinstance(message, wire.StatusPage):
            self.loads.take(message, now)
        elif isinstance(message, wire.StatusReport):
            self._status(link, message, now)
        elif isinstance(message, wire.NotServing):
            self._not_serving(link, message, now)
        elif isinstance(message, wire.GoodbyeReply):
            if link.stage is Stage.LEAVING:
                self.session = None
                self._drop(link)
        elif isinstance(message, wire.BorrowReturned):
            self._returned(link, message, now)
        elif isinstance(message, Answer):
            if link.is_home and self.session is not None:
                self._answer(link, self.session, message, now)
            elif link.stage is Stage.LEAVING and isinstance(message, wire.SessionReply):
                if message.state != wire.SESSION_OPEN and message.term >= self.term_seen:
                    self.session = None  # it is over already
                    self._drop(link)
        else:
            self._end(link, f"the server sent {type(message).__name__}", now)

    def ask_load(self, feature: str) -> None:
        """Ask how much of *feature* is in use, unless that is asked already."""
        home = self.home
        question = None if home is None else self.loads.question(feature, home.conn)
        if home is not None and question is not None:
            self._send(home, question)

    # --- the session's answers ---

    def _answer(self, link: Link, session: Session, message: Answer, now: float) -> None:
        if message.term < self.term_seen:
            return  # a master of the past (rule 15)
        self.term_seen = message.term
        if isinstance(message, wire.SeatsLost):
            self._seats_taken(session, message)
            return
        if isinstance(message, wire.SessionReply):
            if message.state == wire.SESSION_OPEN and not session.set_lease(message.lease_s):
                self._end(link, f"a lease of {message.lease_s} seconds", now)
                return
        round_trip = session.note_answer(message.seq, renews=message.renews, now=now)
        if round_trip is not None:
            self.note_round_trip(round_trip)
        if isinstance(message, wire.SessionReply):
            self._session_reply(link, session, message, now)
        elif isinstance(message, wire.HeartbeatReply):
            if not message.renews:
                soon = now + self.search.retry_max_s(session.lease_s)
                self.heartbeat_at = min(self.heartbeat_at, soon)
        else:
            result = session.resolve(message)
            if result is not None:
                self._tell(result)
        for result in session.confirmed(now):
            self._tell(result)
        if session.doubtful:  # granted, but nothing has renewed the lease: ask, before telling
            self.heartbeat_at = min(self.heartbeat_at, now + timing.CLIENT_RETRY_MIN_S)

    def _tell(self, result: Result) -> None:
        order = result.order
        if result.kind == "granted":
            assert result.seat is not None
            self.actions.append(CheckoutGranted(request=order.request, seat=result.seat))
        elif result.kind == "denied":
            denied = result.denied
            assert denied is not None
            self.actions.append(
                CheckoutDeniedAction(
                    request=order.request, code=denied.code, minor=denied.minor, text=denied.text,
                    detail=denied.detail,
                )
            )  # fmt: skip
        elif result.kind == "queued":
            queued = result.queued
            assert queued is not None
            self.actions.append(
                CheckoutQueued(
                    request=order.request, site=self.index, place=queued.place, ahead=queued.ahead,
                    text=queued.text,
                )
            )  # fmt: skip
        elif result.kind == "borrowed":
            self._borrowed(result)
        elif result.kind == "not_borrowed":
            assert result.denied is not None
            self._not_borrowed(order, result.denied.code, result.denied.detail, certain=True)
            if result.seat is not None:
                self._lose(result.seat, "the licence server does not hold it for this client any more")
        elif order.request:
            self.actions.append(
                CheckedIn(request=order.request, handle=order.handle, site=self.index)
            )

    def _borrowed(self, result: Result) -> None:
        """It is this machine's now. A seat that was lost to its lease meanwhile is borrowed all the same: whoever
        asked has written down that it did, and returns it by that."""
        said, order = result.borrowed, result.order
        assert said is not None
        if not order.handle:
            self.actions.append(
                BorrowKnown(request=order.request, borrow=said.borrow, until=said.until, wall=said.wall)
            )
        elif result.seat is not None:
            self.actions.append(
                SeatBorrowed(
                    request=order.request, seat=result.seat, borrow=said.borrow, until=said.until, wall=said.wall
                )
            )
        else:
            self._not_borrowed(order, ErrorCode.BORROW_FAILED, "its lease was over before the answer came")

    def _not_borrowed(self, order: Order, code: int, detail: str, *, certain: bool = False) -> None:
        self.actions.append(
            BorrowRefused(
                request=order.request, handle=order.handle, site=self.index, code=int(code), minor=minor_of(code),
                text=text_of(code), detail=detail, certain=certain,
            )
        )  # fmt: skip

    def _borrowings_void(self, session: Session, reason: str) -> None:
        for order in session.borrowings():
            self._not_borrowed(order, ErrorCode.BORROW_FAILED, reason)

    def _session_reply(
        self, link: Link, session: Session, message: wire.SessionReply, now: float
    ) -> None:
        if message.state == wire.SESSION_OPEN:
            if link.stage is Stage.OPENING:
                self._opened(link, session, message, now)
        elif message.state == wire.SESSION_REFUSED and not session.seats and not session.doubtful:
            self._refused(link, session, message, now)
        elif link.stage is Stage.OPENING:
            self._session_over(session, message, now)
            link.stage = Stage.PARKED
            link.deadline_at = None
            link.poll_at = now
            if self.session is not None:
                self._adopt(link, now)
        else:  # told in answer to something else; a connection carries one session, so: another one
            self._session_over(session, message, now)
            self._drop(link)
            self.search.lost(link.address, "", now)
            self._say_unready(message.text or "the session is over", now)

    def _opened(
        self, link: Link, session: Session, message: wire.SessionReply, now: float
    ) -> None:
        link.stage = Stage.READY
        link.deadline_at = None
        link.poll_delay_s = timing.CLIENT_RETRY_MIN_S
        self.search.served(link.address)
        self.unready_since_at = None
        self.heartbeat_at = now + session.heartbeat_s if session.trusts(now) else now
        for seat in session.missing_from(message.held):
            self._lose(seat, "the licence server does not hold it for this client any more")
        self.actions.append(StateChanged(site=self.index, ready=True, server=link.address))
        self.ready_said = True
        if self.close_until is None:
            for number in sorted((*session.orders, *session.queued)):
                self._send_order(link, session, number, now)

    def _refused(
        self, link: Link, session: Session, message: wire.SessionReply, now: float
    ) -> None:
        text = message.text or "the licence server refuses this session"
        code = int(ErrorCode.BAD_HANDSHAKE)
        checkouts, checkins = session.unfinished()
        for order in checkouts:
            self.actions.append(
                CheckoutDeniedAction(
                    request=order.request, code=code, minor=minor_of(code), text=text_of(code),
                    detail=text,
                )
            )  # fmt: skip
        self._checkins_done(checkins)
        self._borrowings_void(session, text)
        self.session = None
        self._end(link, text, now)

    def _session_over(
        self, session: Session, message: wire.SessionReply, now: float
    ) -> None:
        """A serving master says that the session has ended or is not known: everything is lost. Checkouts that were
        not answered are void with it, and are asked for anew in a fresh session."""
        reason = message.text or f"the licence server says that the session is {message.state}"
        for seat in session.seats.values():
            self._lose(seat, reason)
        checkouts, checkins = session.unfinished()
        self._checkins_done(checkins)
        self._borrowings_void(session, reason)
        self.session = None
        self.heartbeat_at = NEVER
        if checkouts:
            self.start_session().waiting = checkouts

    def _checkins_done(self, checkins: list[Order]) -> None:
        for order in checkins:
            if order.request:
                self.actions.append(
                    CheckedIn(request=order.request, handle=order.handle, site=self.index)
                )

    def _seats_taken(self, session: Session, message: wire.SeatsLost) -> None:
        """An administrator took seats away; giving them back confirms that they are not believed in any more."""
        for handle in message.handles:
            doubtful = session.doubtful.pop(handle, None)
            if doubtful is not None:  # granted, and not told to the application yet: it never will be
                session.give_back(handle)
                self._deny(doubtful[0], message)
            seat = session.seats.get(handle)
            if seat is not None:
                session.give_back(handle)
                self._lose(seat, message.text or "the licence server took it back", message.code)

    def _deny(self, order: Order, message: wire.SeatsLost) -> None:
        code = message.code or int(ErrorCode.CHECKIN_FAILED)
        self.actions.append(
            CheckoutDeniedAction(
                request=order.request, code=code, minor=minor_of(code), text=text_of(code),
                detail=message.text,
            )
        )  # fmt: skip

    def _lose(self, seat: Seat, reason: str, code: int = 0) -> None:
        self.actions.append(SeatLost(handle=seat.handle, seat=seat, reason=reason, code=code))

    # --- time ---

    def distrust(self, now: float) -> None:
        """The machine was suspended (rule 23): one round trip confirms the lease, or does not."""
        if self.session is not None:
            self.session.distrust(now)
            self.heartbeat_at = now

    def advance(self, now: float) -> None:
        """Do what is due. Early, late or twice is harmless."""
        session = self.session
        if session is not None:
            for seat in session.lost_by_lease(now):
                self._lose(seat, self._why_lost())
            self._forget_lease(session, now)
        self.end_overdue(now)
        closing = self.close_until is not None
        if closing:
            self._advance_closing(now)
        home = self.home
        ready = home is not None and home.stage is Stage.READY
        if not closing and not self.wants:
            self.unready_since_at = None
        elif not closing and not ready:
            if self.unready_since_at is None:
                self.unready_since_at = now
            if self.session is None:
                self.start_session()
        if home is not None and ready and self.session is not None:
            self._advance_session(home, self.session, now)
        searching = self._searching(now)
        if searching and self._adopt_parked(now):
            ready, searching = False, self._searching(now)
        if searching:
            self.look_around(now)
        elif ready or not self.wants:
            self._end_spare_links()

    def _why_lost(self) -> str:
        failures = [b.error for b in self.search.backoffs.values() if b.error]
        return "no licence server has confirmed it in time" + (
            f" (last: {failures[-1]})" if failures else ""
        )

    def _forget_lease(self, session: Session, now: float) -> None:
        """With no belief at stake the terms seen mean nothing: the triad may have been formed anew (rule 9). And a
        session whose lease has been over for another lease is given up: it is over at any server, or soon will be."""
        if session.seats or now < session.lease_until:
            return
        if not self.ready:
            self.term_seen = 0
            if self.home is None:
                self.digest = b"" if session.asked else self.digest
        home = self.home
        if home is not None and not self.suspects(now):
            return  # it serves, or is about to say what has become of the session
        if now >= session.lease_until + session.lease_s and not self.ready and session.asked:
            checkouts, checkins = session.unfinished()
            if not checkouts and session.lease_s:
                if home is not None:  # its answer is about this session, and must not open the next one
                    self._end(home, "it does not answer", now, silent=True)
                self._checkins_done(checkins)
                self._borrowings_void(session, "no licence server has answered in time")
                self.session = None

    def _advance_session(self, home: Link, session: Session, now: float) -> None:
        if self.close_until is not None:
            return
        self._ask_returns(home, session, now)
        while session.window_open:
            self._send_order(home, session, session.number_next(), now)
        if now >= self.heartbeat_at:
            for number in sorted(session.orders):
                if session.sent_at[number] < self.resend_before_at:
                    self._send_order(home, session, number, now)
            for number in session.queued:
                if session.sent_at[number] <= now - QUEUE_ASK_S:
                    self._send_order(home, session, number, now)
            self.resend_before_at = now
            self.heartbeat_at = now + session.heartbeat_s
            self._send(home, session.heartbeat(self.term_seen, now, self.wall(now)))

    def _send_order(self, home: Link, session: Session, number: int, now: float) -> None:
        message = session.message_for(number, self.term_seen, now)
        if message is not None:
            self._send(home, message)

    def _searching(self, now: float) -> bool:
        if not self.wants or self.broken:
            return False
        if self._leaving:
            return now >= self.goodbye_until
        return self.home is None or self.suspects(now)

    def _adopt_parked(self, now: float) -> bool:
        """A session is wanted: whether one of those that were greeted before serves, and has it now."""
        for link in list(self.links.values()):
            if link.stage is Stage.PARKED and link.serves and self._may_move_to(link, now):
                report = link.report
                if report is not None and report.term >= self.term_seen:
                    self._adopt(link, now)
                    return True
        return False

    def _end_spare_links(self) -> None:
        """The master is found, or not wanted: the others need not be kept busy."""
        for link in list(self.links.values()):
            if not link.is_home and link.stage is not Stage.LEAVING:
                self._drop(link)

    def next_at(self, now: float) -> float | None:
        """When :meth:`advance` has something to do, if nothing happens before."""
        times = [link.deadline_at for link in self.links.values() if link.deadline_at is not None]
        session = self.session
        if session is not None and session.seats:
            times.append(session.lease_until)
        if self.close_until is not None:
            if not self.closed:
                times.append(self.close_until)
            if self._leaving and now < self.goodbye_until:
                times.append(self.goodbye_until)
        elif self.ready:
            times.append(self.heartbeat_at)
        if self.wants and not self.broken:
            at = self.look_around_at() if self._searching(now) else self.suspect_at()
            if at is not None:
                times.append(at)
        return min(times, default=None)

    # --- closing ---

    def close(self, now: float) -> None:
        """Give everything up and say goodbye, if anybody knows of this session."""
        if self.close_until is not None:
            return
        self.close_until = now + CLOSE_WAIT_S
        self.wanted = False
        session = self.session
        if session is not None:
            session.abandon()
            if not session.asked:
                self.session = None

    @property
    def closed(self) -> bool:
        return self.close_until is not None and self.session is None and not self.links

    @property
    def _leaving(self) -> bool:
        """Goodbye was said, and may be answered yet."""
        return self.close_until is not None and any(
            link.stage is Stage.LEAVING for link in self.links.values()
        )

    def _advance_closing(self, now: float) -> None:
        """Say goodbye, to the next master as well if one dies, does not serve any more, or is silent: what it had not
        committed is undone, and the seats would stay taken for the lease."""
        home = self.home
        if home is not None and home.stage is Stage.READY and self.session is not None:
            self.goodbye_until = now if self.suspects(now) else now + GOODBYE_WAIT_S
            self._send(home, wire.Goodbye(self.session.take_seq(now), self.term_seen))
            home.stage = Stage.LEAVING
            for other in self.links.values():
                other.hurry(now)
            home.deadline_at = self.close_until
        if self.close_until is not None and now >= self.close_until:
            self.session = None
        if self.session is None:
            for link in list(self.links.values()):
                if link.stage is not Stage.LEAVING:
                    self._drop(link)
