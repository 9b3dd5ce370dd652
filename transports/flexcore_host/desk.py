"""Who asked for what, who holds what, and what was given back: the books of one client, whatever drives it.

A transport moves bytes and time into the machine and hands every application action to
:meth:`Desk.note`; what an application asks goes through the other methods. The blocking and the async
client differ in how they wait, and in nothing that is decided here.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from flexcore.client import (
    ApplicationAction,
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
    StateChanged,
    Trouble,
)
from flexcore.client import Seat as Granted
from flexcore.errors import LicenseLost, LocalProtocolError
from flexcore.override import override
from flexcore_host import clock, entropy
from flexcore_host.application import denial, no_answer
from flexcore_host.waiting import WaitingBase

__all__ = ["Desk", "Loss", "SeatBase"]

SeatT = TypeVar("SeatT", bound="SeatBase")
Key: TypeAlias = tuple[int, int]
"""Site and handle: a handle is unique at its site only."""


class Loss(NamedTuple):
    """A seat that is not held any more, and why."""

    seat: Any
    why: LicenseLost


class SeatBase:
    """What a seat tells of itself; how it is given back is the transport's."""

    def __init__(self, desk: Desk[Any], granted: Granted) -> None:
        self._desk = desk
        self._granted = granted
        self._lost: LicenseLost | None = None
        self._returned = False

    @property
    def handle(self) -> int:
        """The handle that lmstat shows."""
        return self._granted.handle

    @property
    def feature(self) -> str:
        """What was checked out."""
        return self._granted.feature

    @property
    def version(self) -> str:
        """The version that was granted."""
        return self._granted.version

    @property
    def count(self) -> int:
        """How many licences."""
        return self._granted.count

    @property
    def started(self) -> float:
        """When it was granted: epoch seconds, the same after any failover."""
        return self._granted.started

    @property
    def site(self) -> int:
        """Which alternative of the search path granted it, 0 the first."""
        return self._granted.site

    @property
    def held(self) -> bool:
        """Whether it is held at this very moment: not given back, not lost, and confirmed within the lease."""
        return not self._returned and self._lost is None and self._desk.believes(self._granted)

    @property
    def lease_left_s(self) -> float:
        """How much longer it is held if no licence server confirms it any more."""
        return self._desk.lease_left_s(self._granted) if self.held else 0.0

    @property
    def lost(self) -> LicenseLost | None:
        """Why it was lost, None if it was not."""
        return self._lost

    def idle(self) -> None:
        """Say that the product does not use it from now on. After the seconds of TIMEOUT in the options file (900 at
        least) the servers take it back, and it is lost; without such a line nothing happens. A seat of which
        nothing is said is in use, so a product that never calls this loses nothing by TIMEOUT."""
        self._desk.set_idle(self, idle=True)

    def active(self) -> None:
        """Say that the product uses it again (see :meth:`idle`); once more is harmless."""
        self._desk.set_idle(self, idle=False)

    def require(self) -> None:
        """Raise :class:`~flexcore.errors.LicenseLost` unless it is held."""
        if self._lost is not None:
            raise self._lost
        if self._returned:
            raise LicenseLost(self.feature, self.handle, "it was given back")
        if not self.held:
            raise LicenseLost(self.feature, self.handle, self._desk.why_not_held())

    def _ended(self) -> None:
        """It is over: lost, given back, or its client closed. Called once or more, with the desk's lock held."""

    @override
    def __repr__(self) -> str:
        return f"<Seat {self.feature} handle {self.handle} {'held' if self.held else 'not held'}>"


class Desk(Generic[SeatT]):
    """The books of one client. *lock* guards them and the machine where several threads come here."""

    def __init__(
        self, config: ClientConfig, make_seat: Callable[[Granted], SeatT], *,
        lock: contextlib.AbstractContextManager[Any], now: Callable[[], float] = clock.now,
        wall: Callable[[], float] = clock.wall, draw: Callable[[int], bytes] = entropy.draw,
    ) -> None:  # fmt: skip
        self.machine = LicenseClient(config, entropy=draw(32), now=now(), wall=wall())
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
        self._lock = lock
        self._waiting: set[int] = set()
        self._answers: dict[int, SeatT | CheckoutDeniedAction] = {}
        self._queued: dict[int, WaitingBase[SeatT]] = {}
        self._seats: dict[Key, SeatT] = {}
        self._returning: set[Key] = set()
        self._borrowings: dict[int, SeatBorrowed | BorrowRefused | None] = {}

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
        """Ask for licences; returns the request's number."""
        self.check_usable()
        with self._lock:
            self.check_usable()
            request = self.machine.checkout(
                feature, version, count, now=self.now(), wall=self.wall()
            )
            self._waiting.add(request)
        return request

    def queue(self, waiting: WaitingBase[SeatT], version: str, count: int) -> None:
        """Ask for licences and wait for them in the server's queue if need be."""
        self.check_usable()
        with self._lock:
            self.check_usable()
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
        raise no_answer(trouble)

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
            if seat._lost is not None or self.is_over:
                return None
            try:
                self.machine.checkin(
                    granted.handle, site=granted.site, now=self.now(), wall=self.wall()
                )
            except LocalProtocolError:
                return None  # lost a moment ago; that is being told
            if not (waits and self.machine.ready):
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
            elif isinstance(action, SeatBorrowed | BorrowRefused):
                self._borrow_answered(action)
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
            granted = action.seat
            waiting._seat = self._seats[granted.site, granted.handle] = self._make_seat(granted)

    def _borrow_answered(self, action: SeatBorrowed | BorrowRefused) -> None:
        if action.request in self._borrowings:
            self._borrowings[action.request] = action
        if isinstance(action, SeatBorrowed):
            self._seats.pop((action.seat.site, action.seat.handle), None)

    def _granted(self, action: CheckoutGranted) -> None:
        granted = action.seat
        if action.request in self._waiting:
            seat = self._make_seat(granted)
            self._seats[granted.site, granted.handle] = seat
            self._answers[action.request] = seat
        elif not self.closing:  # whoever asked has given up meanwhile
            self.machine.checkin(
                granted.handle, site=granted.site, now=self.now(), wall=self.wall()
            )

    def _seat_lost(self, action: SeatLost) -> Loss | None:
        lost = self._seats.pop((action.seat.site, action.handle), None)
        if lost is None:
            return None
        lost._lost = LicenseLost(lost.feature, lost.handle, action.reason, action.code or None)
        lost._ended()
        return Loss(lost, lost._lost)

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Nothing is held or asked from here on; the machine says goodbye. Once more is harmless."""
        with self._lock:
            first = not self.closing
            self.closing = True
            seats, self._seats = list(self._seats.values()), {}
            for seat in seats:
                seat._ended()
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
            for seat in seats:
                seat._lost = LicenseLost(
                    seat.feature, seat.handle, f"the client has failed: {error}"
                )
                seat._ended()
        return [Loss(seat, seat._lost) for seat in seats if seat._lost is not None]


def call_safely(
    log: logging.Logger, callback: Callable[..., object] | None, *arguments: object
) -> object:
    """Call the application's callback; its mistake must not end its licences. Returns what it returned."""
    try:
        if callback is not None:
            return callback(*arguments)
    except Exception:
        log.exception(CALLBACK_FAILED)
    return None


CALLBACK_FAILED = "a callback of the application has failed"
