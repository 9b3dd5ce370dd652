"""One session at one triad: what is asked, what is held, and until when to believe in it.

Owns the client's side of these rules of protocol.md:

* Rule 15: a seat is believed iff now < send time of the last *renewing* message + L. What renews is
  said by the answer; this file keeps when each question was sent. ``tests/test_client_belief.py``.
* Rule 17: requests are numbered, ``answered`` says up to which one the results are known, a request
  is sent again under its own number until it is answered, and one that is given up is withdrawn by
  a request. ``tests/test_client_requests.py``.
* Rule 23: after a suspension nothing is believed until a question sent after it was answered.
  ``tests/test_client_edges.py``.

Nothing in here knows about connections or addresses: :mod:`flexcore.client.site` does.
"""

from __future__ import annotations

import hmac
import math
from typing import Literal, NamedTuple

from flexcore import timing
from flexcore.client.state import State
from flexcore.client.values import Seat
from flexcore.codes import ErrorCode
from flexcore.wire.messages import (
    Borrow,
    Borrowed,
    CheckedIn,
    Checkin,
    Checkout,
    ClientMessage,
    Denied,
    Granted,
    Heartbeat,
    HeldSeat,
    IdleSeat,
    Queued,
    Withdraw,
    Withdrawn,
)

WINDOW_REQUESTS = 64
"""Requests sent and not answered, a session. The server keeps results for as many; more wait here."""

QUESTIONS_MAX = 1024
"""Questions whose send time is remembered. The oldest is forgotten first: its answer then renews nothing."""

QUEUE_ASK_S = 60.0
"""How often a request that waits is sent again: the answer says how it stands, and what came of it if that got lost."""

IDLE_MAX = 1024
"""Idle seats that one heartbeat tells of: those that have been idle for longest."""

NEVER = -math.inf


SESSION_ID_BYTES = 16


def derive_session(entropy: bytes, site: int, counter: int) -> tuple[bytes, bytes]:
    """Make the id and the secret of this client's *counter*-th session at *site*: a fresh pair for each (rule 17)."""
    place = b"%d/%d" % (site, counter)
    ident = hmac.digest(entropy, b"flexcore session id 1\0" + place, "sha256")
    secret = hmac.digest(entropy, b"flexcore session secret 1\0" + place, "sha256")
    return ident[:SESSION_ID_BYTES], secret


class Order(NamedTuple):
    """Something that must happen exactly once. *request* is the application's number for it, 0 for nobody's."""

    kind: Literal["checkout", "checkin", "withdraw", "borrow"]
    request: int
    feature: str = ""
    version: str = ""
    count: int = 1  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    handle: int = 0
    target: int = 0
    queue: bool = False
    borrow: bytes = b""
    secret: bytes = b""
    until: float = 0.0
    wall: float = 0.0
    """When it was asked; a repeat repeats it, since only the first is judged."""


class Result(NamedTuple):
    """What an answer means to the application."""

    kind: Literal["granted", "denied", "returned", "queued", "borrowed", "not_borrowed"]
    order: Order
    seat: Seat | None = None
    denied: Denied | None = None
    queued: Queued | None = None
    borrowed: Borrowed | None = None


class Session(State):
    """Bookkeeping of a session: numbers, questions, seats and the lease."""

    __slots__ = (
        "asked",
        "asked_at",
        "denied",
        "distrusted_at",
        "doubtful",
        "heard_at",
        "ident",
        "idle_since",
        "lease_s",
        "lease_until",
        "next_number",
        "next_seq",
        "orders",
        "queued",
        "seats",
        "secret",
        "sent_at",
        "site",
        "waiting",
    )
    NUMBERING = frozenset({"next_seq", "ident", "secret", "site"})
    NUMBERED = frozenset({"asked_at"})

    def __init__(self, site: int, ident: bytes, secret: bytes) -> None:
        self.site = site
        self.ident = ident
        self.secret = secret
        self.asked = False  # OpenSession was sent once: from then on it is resumed, never opened again
        self.next_seq = 1
        self.next_number = 1
        self.waiting: list[Order] = []  # not numbered, not sent
        self.orders: dict[int, Order] = {}  # numbered, not answered
        self.queued: dict[int, Order] = {}  # numbered; the answer was that they wait at the server
        self.denied: dict[int, None] = {}  # numbers of checkouts that were denied, the last ones
        self.sent_at: dict[int, float] = {}  # number -> when it was sent last
        self.asked_at: dict[int, float] = {}  # seq -> when it was sent on the present connection
        self.heard_at = NEVER  # the last answer on the present connection
        self.seats: dict[int, Seat] = {}  # told to the application
        self.doubtful: dict[int, tuple[Order, Seat]] = {}  # granted, but the lease is over: not told
        self.idle_since: dict[int, float] = {}  # handle -> since when the product has not used it
        self.lease_s = 0.0
        self.lease_until = NEVER
        self.distrusted_at: float | None = None

    # --- belief (rules 15 and 23) ---

    def trusts(self, now: float) -> bool:
        """Whether the lease covers *now*."""
        return now < self.lease_until and self.distrusted_at is None

    def believes(self, handle: int, now: float) -> bool:
        return handle in self.seats and self.trusts(now)

    def distrust(self, now: float) -> None:
        """The machine was suspended: a question sent from now on has to be answered first (rule 23)."""
        self.distrusted_at = now

    def note_answer(self, seq: int, *, renews: bool, now: float) -> float | None:
        """An answer came. Returns the round trip where the question is remembered."""
        self.heard_at = now
        sent_at = self.asked_at.pop(seq, None)
        if sent_at is None:
            return None
        if renews:
            self.lease_until = max(self.lease_until, sent_at + self.lease_s)
            if self.distrusted_at is not None and sent_at >= self.distrusted_at:
                self.distrusted_at = None
        return now - sent_at

    def set_lease(self, lease_s: float) -> bool:
        """L as the session's entry has it; False if no lease can be that long."""
        if not 0.0 < lease_s < math.inf:
            return False
        self.lease_s = lease_s
        return True

    @property
    def heartbeat_s(self) -> float:
        """How often to heartbeat: min(10 s, L/6)."""
        return timing.client_heartbeat_s(self.lease_s) if self.lease_s else timing.CLIENT_HEARTBEAT_MAX_S

    def lost_by_lease(self, now: float) -> list[Seat]:
        """The lease is over: forget the seats, and give them back when a server is reached, so that this client's
        own ghosts do not stand in its way."""
        if now < self.lease_until or not self.seats:
            return []
        lost = list(self.seats.values())
        for seat in lost:
            self.give_back(seat.handle)
        return lost

    def give_back(self, handle: int, request: int = 0) -> None:
        """Stop believing in a seat at once and have the server told."""
        self.seats.pop(handle, None)
        self.waiting.append(Order("checkin", request, handle=handle))

    # --- questions ---

    def take_seq(self, now: float) -> int:
        """Number a question that is sent now."""
        seq = self.next_seq
        self.next_seq += 1
        while len(self.asked_at) >= QUESTIONS_MAX:
            del self.asked_at[next(iter(self.asked_at))]
        self.asked_at[seq] = now
        return seq

    def silent_since_at(self) -> float | None:
        """Since when the server owes an answer and has said nothing, None if it owes none."""
        if not self.asked_at:
            return None
        return max(next(iter(self.asked_at.values())), self.heard_at)

    def connection_lost(self) -> None:
        """No answer to what was asked can come any more; the orders stay and are sent again."""
        self.asked_at.clear()
        self.heard_at = NEVER

    def heartbeat(self, term_seen: int, now: float, wall: float) -> Heartbeat:
        return Heartbeat(self.take_seq(now), self.answered, term_seen, self._idle(now), wall)

    def _idle(self, now: float) -> tuple[IdleSeat, ...]:
        """The seats that the product does not use, the longest first: every heartbeat tells of them all, so
        that any master knows it."""
        if not self.idle_since:
            return ()
        self.idle_since = {
            handle: at for handle, at in self.idle_since.items() if handle in self.seats
        }
        oldest = sorted((at, handle) for handle, at in self.idle_since.items())
        return tuple(IdleSeat(handle, now - at) for at, handle in oldest[:IDLE_MAX])

    # --- requests (rule 17) ---

    @property
    def answered(self) -> int:
        """Up to which number the results are known here."""
        return (min(self.orders) if self.orders else self.next_number) - 1

    @property
    def wants(self) -> bool:
        """Whether a server is needed: something is to be asked, or something is held."""
        return bool(self.waiting or self.orders or self.queued or self.seats or self.doubtful)

    @property
    def window_open(self) -> bool:
        return bool(self.waiting) and self.next_number - 1 - self.answered < WINDOW_REQUESTS

    def number_next(self) -> int:
        """Number the request that has waited longest."""
        assert self.window_open
        number = self.next_number
        self.next_number += 1
        self.orders[number] = self.waiting.pop(0)
        return number

    def message_for(self, number: int, term_seen: int, now: float) -> ClientMessage | None:
        """Return the request's message, None if it is not to be sent again: it is being withdrawn."""
        order = self.orders.get(number) or self.queued[number]
        self.sent_at[number] = now
        if order.kind == "checkout":
            if self._withdrawal_of(number) is not None:
                return None
            return Checkout(
                self.take_seq(now), number, min(self.answered, number - 1), order.feature,
                order.version, order.count, term_seen, order.queue,
            )  # fmt: skip
        seq = self.take_seq(now)
        if order.kind == "checkin":
            return Checkin(seq, number, self.answered, order.handle, term_seen)
        if order.kind == "borrow":
            return Borrow(seq, number, self.answered, order.handle, order.until, order.borrow, order.secret,
                          term_seen, order.wall)  # fmt: skip
        return Withdraw(seq, number, self.answered, order.target, term_seen)

    def withdraw(self, request: int) -> bool:
        """Give up the application's checkout *request*; returns whether it was known here.

        What was never sent is simply dropped; what was sent is withdrawn by a request of its own, and what was
        granted meanwhile is given back.
        """
        for index, order in enumerate(self.waiting):
            if order.request == request and order.kind == "checkout":
                del self.waiting[index]
                return True
        for number, order in (*self.orders.items(), *self.queued.items()):
            if order.request == request and order.kind == "checkout":
                if self._withdrawal_of(number) is None:
                    self.waiting.append(Order("withdraw", 0, target=number))
                return True
        for handle, (order, _seat) in self.doubtful.items():
            if order.request == request:
                del self.doubtful[handle]
                self.give_back(handle)
                return True
        return False

    def _withdrawal_of(self, number: int) -> Order | None:
        for order in (*self.waiting, *self.orders.values()):
            if order.kind == "withdraw" and order.target == number:
                return order
        return None

    def borrow(self, order: Order) -> None:
        """Have a seat lent. It is held as before until the answer, and no more from then on."""
        assert order.kind == "borrow"
        self.waiting.append(order)

    def borrowings(self) -> list[Order]:
        """What was asked to be lent and is not answered."""
        return [o for o in (*self.orders.values(), *self.waiting) if o.kind == "borrow"]

    def forget_resumed(self, request: int) -> None:
        """Nobody waits any more to hear what came of an earlier borrowing (an order of no handle)."""

        def is_meant(order: Order) -> bool:
            return order.kind == "borrow" and order.request == request and not order.handle

        self.waiting = [order for order in self.waiting if not is_meant(order)]
        for number in [number for number, order in self.orders.items() if is_meant(order)]:
            self._done(number)

    def _lent(self, order: Order, message: Borrowed | Denied) -> Result:
        if isinstance(message, Denied):
            lost = message.code == ErrorCode.NEVER_CHECKED_OUT
            seat = self.seats.pop(order.handle, None) if lost else None
            return Result("not_borrowed", order, seat=seat, denied=message)
        seat = self.seats.pop(order.handle, None)
        if seat is not None and message.handle != seat.handle:
            self.give_back(seat.handle)  # an earlier run was lent it under this id: this one is not needed
        return Result("borrowed", order, seat=seat, borrowed=message)

    def resolve(
        self, message: Granted | Denied | CheckedIn | Withdrawn | Queued | Borrowed
    ) -> Result | None:
        """Take the answer to a request; None if it is no news: a repeat, or the answer to what was withdrawn."""
        order = self.orders.get(message.request) or self.queued.get(message.request)
        if order is None:
            if message.request in self.denied and isinstance(message, Granted | Queued):
                # A copy of it came to a master that had not denied the first: nobody wants that seat any more.
                del self.denied[message.request]
                if isinstance(message, Granted):
                    self.give_back(message.handle)
                else:
                    self.waiting.append(Order("withdraw", 0, target=message.request))
            return None
        if order.kind == "checkout":
            if self._withdrawal_of(message.request) is not None:
                return None  # its result must stay at the server until the withdrawal is done
            if isinstance(message, Granted):
                self._grant(message, order)
                return None  # told by confirmed()
            if isinstance(message, Queued):
                self.queued[message.request] = order
                self.orders.pop(message.request, None)  # it is answered: it waits
                return Result("queued", order, queued=message)
            if isinstance(message, Denied):
                self._done(message.request)
                self.denied[message.request] = None
                if len(self.denied) > WINDOW_REQUESTS:
                    del self.denied[next(iter(self.denied))]
                return Result("denied", order, denied=message)
            return None
        if isinstance(message, Granted | Queued):
            return None
        if order.kind == "borrow":
            if not isinstance(message, Borrowed | Denied):
                return None
            self._done(message.request)
            return self._lent(order, message)
        self._done(message.request)
        if order.kind == "withdraw":
            self._done(order.target)
            return None
        return Result("returned", order)

    def _done(self, number: int) -> None:
        self.orders.pop(number, None)
        self.queued.pop(number, None)
        self.sent_at.pop(number, None)

    def _grant(self, message: Granted, order: Order) -> None:
        self._done(message.request)
        seat = Seat(
            message.handle, message.feature, message.version, message.count, message.started,
            self.site, message.line, message.hostids,
        )  # fmt: skip
        self.doubtful[message.handle] = (order, seat)

    def confirmed(self, now: float) -> list[Result]:
        """Grants that may be told now: the lease covers them (rule 15)."""
        if not self.doubtful or not self.trusts(now):
            return []
        results = [
            Result("granted", order, seat=seat) for order, seat in self.doubtful.values()
        ]
        for result in results:
            assert result.seat is not None
            self.seats[result.seat.handle] = result.seat
        self.doubtful.clear()
        return results

    def missing_from(self, held: tuple[HeldSeat, ...]) -> list[Seat]:
        """Seats that the ledger does not hold for this session any more: forget them."""
        listed = {seat.handle for seat in held}
        listed.update(order.handle for order in self.borrowings())  # lent perhaps: the answer will tell
        lost = [seat for handle, seat in self.seats.items() if handle not in listed]
        for seat in lost:
            del self.seats[seat.handle]
        return lost

    def abandon(self) -> None:
        """Nothing that was asked or granted is wanted any more: a goodbye follows."""
        for forgotten in (self.seats, self.doubtful, self.orders, self.queued, self.sent_at):
            forgotten.clear()
        self.waiting.clear()

    def unfinished(self) -> tuple[list[Order], list[Order]]:
        """Of a session that is over: checkouts to ask for anew elsewhere, and checkins that are done by its end."""
        every = [*self.orders.items(), *self.queued.items(), *((0, order) for order in self.waiting)]
        checkouts = [order for order, _seat in self.doubtful.values()]
        checkouts += [
            order
            for number, order in every
            if order.kind == "checkout" and not (number and self._withdrawal_of(number) is not None)
        ]
        return checkouts, [order for _number, order in every if order.kind == "checkin"]
