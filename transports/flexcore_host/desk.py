"""Who asked for what, who holds what, and what was given back: the books of one client, whatever drives it.

A transport moves bytes and time into the machine and hands every application action to
:meth:`Desk.note`; what an application asks goes through the other methods. The blocking and the async
client differ in how they wait, and in nothing that is decided here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from flexcore.borrowing import BorrowProblem
from flexcore.client import (
    ApplicationAction,
    BorrowGivenBack,
    BorrowKnown,
    BorrowNoted,
    BorrowRefused,
    CheckedIn,
    CheckoutDeniedAction,
    CheckoutGranted,
    CheckoutQueued,
    ClientConfig,
    Closed,
    LicenseClient,
    SeatBorrowed,
    SeatLost,
    ServerReached,
    StateChanged,
    Trouble,
)
from flexcore.client import Seat as Granted
from flexcore.errors import CheckoutDenied, FlexcoreError, LicenseLost, LocalProtocolError
from flexcore_host import clock, entropy
from flexcore_host.application import denial, no_answer
from flexcore_host.lazylog import logger
from flexcore_host.lending import Lending
from flexcore_host.seats import SeatBase
from flexcore_host.waiting import WaitingBase

__all__ = ["Desk", "Loss", "SeatBase"]

SeatT = TypeVar("SeatT", bound="SeatBase")
Key: TypeAlias = tuple[int, int]
"""Site and handle: a handle is unique at its site only."""


class Loss(NamedTuple):
    """A seat that is not held any more, and why."""

    seat: Any
    why: LicenseLost


class Desk(Generic[SeatT]):
    """The books of one client. *lock* guards them and the machine where several threads come here."""

    def __init__(
        self, config: ClientConfig, make_seat: Callable[[Granted], SeatT], *,
        lock: contextlib.AbstractContextManager[Any], now: Callable[[], float] = clock.now,
        wall: Callable[[], float] = clock.wall, draw: Callable[[int], bytes] = entropy.draw,
    ) -> None:  # fmt: skip
        self.machine = LicenseClient(config, entropy=draw(32), now=now(), wall=wall())
        self.lending = Lending(config, self.machine, now=now, wall=wall, draw=draw)
        self.now = now
        self.wall = wall
        self.pid = os.getpid()
        self.closing = False
        """Nothing more is asked, and nothing is held."""
        self.closed = False
        """The goodbye has been said."""
        self.failure: BaseException | None = None
        """A bug ended the transport's loop: nothing is confirmed any more."""
        self._make_seat = make_seat
        self.lock = self._lock = lock
        """Guards the books and the machine."""
        self._waiting: set[int] = set()
        self._answers: dict[int, SeatT | CheckoutDeniedAction] = {}
        self._queued: dict[int, WaitingBase[SeatT]] = {}
        self._seats: dict[Key, SeatT] = {}
        self._returning: set[Key] = set()
        self._borrowings: dict[int, SeatBorrowed | BorrowRefused | None] = {}
        self.errands: dict[int, BorrowKnown | BorrowRefused | BorrowGivenBack | None] = {}
        """The answers to what :mod:`flexcore_host.errands` has asked, by request; None: not there yet."""

    # --- whether there is a client ----------------------------------------------------------------

    @property
    def is_forked(self) -> bool:
        """Whether this is a copy of the books in a child process. The child may not touch the lock."""
        return os.getpid() != self.pid

    @property
    def is_over(self) -> bool:
        """Whether nothing is held and nothing answered any more."""
        return self.closing or self.failure is not None

    def check_usable(self) -> None:
        """Raise LocalProtocolError unless a server can be asked for something."""
        if self.is_forked:
            raise LocalProtocolError(
                "this process was forked from the one that connected: it holds no licence; connect again"
            )
        if self.failure is not None:
            raise LocalProtocolError(f"the licence client has failed: {self.failure}")
        if self.closing:
            raise LocalProtocolError("this client is closed")

    # --- checkouts --------------------------------------------------------------------------------

    def ask(self, feature: str, version: str, count: int) -> int:
        """Ask for licences; returns the request's number. What is borrowed is used first: no server is asked then."""
        self.check_usable()
        with self._lock:
            self.check_usable()
            seat = self._take_borrowed(feature, version, count)
            if seat is not None:
                self._answers[seat._granted.site] = seat  # the machine's numbers are above 0
                return seat._granted.site
            request = self.machine.checkout(
                feature, version, count, now=self.now(), wall=self.wall()
            )
            self._waiting.add(request)
        return request

    def _take_borrowed(self, feature: str, version: str, count: int) -> SeatT | None:
        granted = self.lending.take(feature, version, count)
        return None if granted is None else self._enter(granted)

    def _enter(self, granted: Granted) -> SeatT:
        seat = self._seats[granted.site, granted.handle] = self._make_seat(granted)
        return seat

    def queue(self, waiting: WaitingBase[SeatT], version: str, count: int) -> None:
        """Ask for licences and wait for them in the server's queue if need be; what is borrowed is there at once."""
        self.check_usable()
        with self._lock:
            self.check_usable()
            waiting._seat = self._take_borrowed(waiting.feature, version, count)
            if waiting._seat is not None:
                return
            waiting.request = self.machine.checkout(
                waiting.feature, version, count, now=self.now(), wall=self.wall(), queue=True
            )
            self._queued[waiting.request] = waiting

    def is_answered(self, request: int) -> bool:
        """Whether :meth:`collect` has more to say than that nobody answered."""
        return request in self._answers or self.is_over

    def collect(self, request: int, feature: str) -> SeatT:
        """The wait is over: return the seat, or raise why there is none. What is not answered is withdrawn."""
        trouble: Trouble | None = None
        with self._lock:
            answer = self._answers.pop(request, None)
            self._waiting.discard(request)
            if answer is None and not self.is_over:
                trouble = self.machine.trouble(self.now())
                self.machine.withdraw(request, now=self.now(), wall=self.wall())
        if isinstance(answer, SeatBase):
            return answer
        if answer is not None:
            raise denial(answer, feature)
        self.check_usable()
        raise self.no_answer(feature, trouble)

    def no_answer(self, feature: str, trouble: Trouble | None) -> FlexcoreError:
        """Return why there is nothing: nobody answers, and what was borrowed, if anything was, cannot be used. What has
        ended, and a file that may be of anything, only add to the text: there, it is the silence that matters."""
        silent = no_answer(trouble, self.lending.remark_on(feature))
        problem = self.lending.problem_of(feature)
        if problem is None:
            return silent
        return CheckoutDenied(int(problem.code), detail=f"{problem.detail}; {silent}", feature=feature)

    def abandon(self, request: int) -> None:
        """Whoever asked has left (an exception, a cancellation): withdraw, or give back what was granted meanwhile."""
        with self._lock:
            answer = self._answers.pop(request, None)
            self._waiting.discard(request)
            if isinstance(answer, SeatBase):
                self.give_back(answer, waits=False)
            elif answer is None and not self.is_over:
                self.machine.withdraw(request, now=self.now(), wall=self.wall())

    def abandon_queued(self, waiting: WaitingBase[SeatT]) -> None:
        """Nobody waits for it any more: withdraw, or give back what was granted."""
        with self._lock:
            self._queued.pop(waiting.request, None)
            if waiting._seat is not None:
                self.give_back(waiting._seat, waits=False)
            elif waiting._error is None and not self.is_over:
                self.machine.withdraw(waiting.request, now=self.now(), wall=self.wall())

    # --- what is held -----------------------------------------------------------------------------

    @property
    def seats(self) -> tuple[SeatT, ...]:
        """What is held now."""
        if self.is_forked:
            return ()
        with self._lock:
            seats = list(self._seats.values())
        return tuple(seat for seat in seats if seat.held)

    @property
    def trouble(self) -> Trouble | None:
        """Why nobody serves at the moment."""
        self.check_usable()
        with self._lock:
            return self.machine.trouble(self.now())

    @property
    def is_serving(self) -> bool:
        """Whether a master has the session at the moment."""
        if self.is_forked:
            return False
        with self._lock:
            return not self.is_over and self.machine.ready

    def believes(self, granted: Granted) -> bool:
        """Whether the seat is covered by its lease at this very moment (protocol.md rule 15)."""
        if self.is_forked:
            return False
        with self._lock:
            if self.is_over:
                return False
            return self.machine.believes(granted.handle, self.now(), granted.site)

    def lease_left_s(self, granted: Granted) -> float:
        """Seconds until it is not, if nothing is confirmed any more."""
        with self._lock:
            until = self.machine.believed_until(granted.site)
        return max(0.0, until - self.now()) if until is not None else 0.0

    def why_not_held(self) -> str:
        """The reason where a seat was neither lost nor given back."""
        if self.is_forked:
            return "this process was forked from the one that holds it"
        if self.closing:
            return "the client is closed"
        return "no licence server has confirmed it in time"

    # --- giving back ------------------------------------------------------------------------------

    def give_back(self, seat: SeatT, *, waits: bool) -> Key | None:
        """Give a seat back, once; it is not held from here on.

        Returns what to wait for with :meth:`is_returned`, if *waits* and a server serves.
        """
        if self.is_forked:
            return None
        with self._lock:
            if seat._returned:
                return None
            seat._returned = True
            seat._ended()
            granted = seat._granted
            key = granted.site, granted.handle
            self._seats.pop(key, None)
            if granted.site < 0:
                self.lending.release(granted.site)
            if seat._lost is not None or self.is_over:
                return None
            try:
                self.machine.checkin(
                    granted.handle, site=granted.site, now=self.now(), wall=self.wall()
                )
            except LocalProtocolError:
                return None  # lost a moment ago; that is being told
            if granted.site < 0 or not (waits and self.machine.ready):
                return None
            # A seat is free again once two servers have written that down (protocol.md rule 14). Without the
            # wait the next checkout of a program that returns its last seat is denied for that very seat.
            self._returning.add(key)
            return key

    def set_idle(self, seat: SeatBase, *, idle: bool) -> None:
        """The product leaves *seat* idle, or uses it again; the next heartbeat tells."""
        granted = seat._granted
        with self._lock:
            if not self.is_over:
                self.machine.set_idle(granted.handle, idle, site=granted.site, now=self.now(), wall=self.wall())

    def is_returned(self, key: Key) -> bool:
        """Whether the seat is free again, or nobody serves who could say so."""
        return key not in self._returning or self.is_over or not self.machine.ready

    def forget_return(self, key: Key) -> None:
        """The wait for it is over."""
        with self._lock:
            self._returning.discard(key)

    # --- what the machine says --------------------------------------------------------------------

    def note(self, action: ApplicationAction) -> Loss | StateChanged | WaitingBase[SeatT] | None:
        """Enter an application action in the books; returns what the application's callbacks are to be told."""
        with self._lock:
            if isinstance(action, CheckoutGranted | CheckoutDeniedAction | CheckoutQueued):
                waiting = self._queued.get(action.request)
                if waiting is not None:
                    self._note_queued(waiting, action)
                    return waiting
            if isinstance(action, CheckoutGranted):
                self._granted(action)
            elif isinstance(action, CheckoutQueued):
                pass  # whoever asked has given up meanwhile
            elif isinstance(action, CheckoutDeniedAction):
                if action.request in self._waiting:
                    self._answers[action.request] = action
            elif isinstance(action, CheckedIn):
                self._returning.discard((action.site, action.handle))
            elif isinstance(action, BorrowKnown | BorrowGivenBack | BorrowRefused) and action.request in self.errands:
                self.errands[action.request] = action
            elif isinstance(action, SeatBorrowed | BorrowRefused):
                return self._borrow_answered(action)
            elif isinstance(action, BorrowKnown | BorrowGivenBack | ServerReached):
                pass  # news for whoever waits; or they have given up meanwhile
            elif isinstance(action, BorrowNoted):
                self.lending.note(action)
            elif isinstance(action, Closed):
                self.closed = True
            elif isinstance(action, SeatLost):
                return self._seat_lost(action)
            else:
                return action
        return None

    def _note_queued(
        self, waiting: WaitingBase[SeatT],
        action: CheckoutGranted | CheckoutDeniedAction | CheckoutQueued,
    ) -> None:  # fmt: skip
        if isinstance(action, CheckoutQueued):
            waiting._queued = action
            return
        del self._queued[action.request]
        if isinstance(action, CheckoutDeniedAction):
            waiting._error = denial(action, waiting.feature)
        else:
            waiting._seat = self._enter(action.seat)

    def _granted(self, action: CheckoutGranted) -> None:
        granted = action.seat
        if action.request in self._waiting:
            self._answers[action.request] = self._enter(granted)
        elif not self.closing:  # whoever asked has given up meanwhile
            self.machine.checkin(
                granted.handle, site=granted.site, now=self.now(), wall=self.wall()
            )

    def _seat_lost(self, action: SeatLost) -> Loss | None:
        lost = self._seats.pop((action.seat.site, action.handle), None)
        if lost is None:
            return None
        self.lending.release(action.seat.site)
        return self._lose(lost, action.reason, action.code)

    def _lose(self, seat: SeatT, reason: str, code: int) -> Loss:
        seat._lost = LicenseLost(seat.feature, seat.handle, reason, code or None)
        seat._ended()
        return Loss(seat, seat._lost)

    # --- borrowing --------------------------------------------------------------------------------

    def wished_until(self, seat: SeatBase) -> float | None:
        """Until when LM_BORROW wants *seat* borrowed, None if it does not, or it is.

        Raises:
            BorrowError: LM_BORROW makes no sense.
        """
        return None if seat.borrowed else self.lending.wished_until(seat._granted.line)

    def borrow(self, seat: SeatT, until: float) -> int:
        """Ask for *seat* to be lent to this machine until *until* (epoch seconds); returns the request's number.

        Raises:
            LocalProtocolError: it is not held, or borrowed already. BorrowError: no such end, or no file.
        """
        self.check_usable()
        seat.require()
        with self._lock:
            self.check_usable()
            if seat.borrowed:
                raise LocalProtocolError(f"{seat.feature} is borrowed already: return it, then borrow it for longer")
            request = self.lending.begin(seat._granted, until)
            self._borrowings[request] = None
        return request

    def is_borrow_answered(self, request: int) -> bool:
        """Whether :meth:`collect_borrow` has more to say than that nobody answered."""
        return self._borrowings.get(request) is not None or self.is_over

    def collect_borrow(self, request: int, seat: SeatBase) -> None:
        """The wait is over: return if *seat* is borrowed, or raise why not; then it is held as before.

        Raises:
            CheckoutDenied, NoServerReachable, NoQuorum, LocalProtocolError.
        """
        with self._lock:
            answer = self._borrowings.pop(request, None)
            trouble = None if self.is_over else self.machine.trouble(self.now())
        if isinstance(answer, BorrowRefused):
            raise CheckoutDenied(answer.code, answer.minor, answer.text, answer.detail, seat.feature)
        if answer is None:
            self.check_usable()
            raise no_answer(trouble)
        seat.require()

    def _borrow_answered(self, action: SeatBorrowed | BorrowRefused) -> Loss | None:
        if action.request in self._borrowings:
            self._borrowings[action.request] = action
        if isinstance(action, BorrowRefused):
            self.lending.refused(action)
            return None
        seat = self._seats.pop((action.seat.site, action.seat.handle), None)
        granted = self.lending.lent(action)
        if seat is None:  # given back meanwhile; what was lent stays lent
            if isinstance(granted, Granted):
                self.machine.checkin(granted.handle, site=granted.site, now=self.now(), wall=self.wall())
                self.lending.release(granted.site)
            return None
        if isinstance(granted, BorrowProblem):
            return self._lose(seat, granted.detail, int(granted.code))
        seat._granted = granted
        self._seats[granted.site, granted.handle] = seat
        return None

    def end_use(self, borrow: bytes) -> None:
        """What was borrowed is to be given back: this client's own use of it is over."""
        with self._lock:
            for seat in list(self._seats.values()):
                if self.lending.uses(seat._granted.site, borrow):
                    self.give_back(seat, waits=False)

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Nothing is held or asked from here on; the machine says goodbye. Once more is harmless."""
        with self._lock:
            first = not self.closing
            self.closing = True
            seats, self._seats = list(self._seats.values()), {}
            for seat in seats:
                seat._ended()
            self.lending.close(seat.site for seat in seats)
            for waiting in self._queued.values():
                waiting._error = LocalProtocolError("this client is closed")
            self._queued.clear()
            if first and self.failure is None:
                self.machine.close(now=self.now(), wall=self.wall())

    def fail(self, error: BaseException) -> Collection[Loss]:
        """The transport's loop is broken: nothing is confirmed any more. Returns what everybody is to be told."""
        with self._lock:
            self.failure = error
            seats, self._seats = list(self._seats.values()), {}
            self.lending.close(seat.site for seat in seats)
            for seat in seats:
                seat._lost = LicenseLost(
                    seat.feature, seat.handle, f"the client has failed: {error}"
                )
                seat._ended()
        return [Loss(seat, seat._lost) for seat in seats if seat._lost is not None]


def call_safely(log: str, callback: Callable[..., object] | None, *arguments: object) -> object:
    """Call the application's callback; its mistake goes to the logger *log* and must not end its licences.

    Returns what it returned.
    """
    try:
        if callback is not None:
            return callback(*arguments)
    except Exception:  # noqa: BLE001  (it is logged, with its traceback)
        logger(log).exception(CALLBACK_FAILED)
    return None


CALLBACK_FAILED = "a callback of the application has failed"
