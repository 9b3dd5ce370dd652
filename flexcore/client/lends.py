"""What an application asks of the client machine about borrowing: lend, use, find out, give back.

The servers' half is :mod:`flexcore.server.borrowing`; the files are kept by whoever calls
(``flexcore_host.lending``). A machine that died while it was lent something asks anew under the id and the secret that
it had written down before: the servers lend nothing twice under one id (:meth:`Lends.resume_borrow`,
``tests/client_borrowing.py``). An early return is asked of one server after the other until a serving one answers:
once more is harmless (:meth:`Lends.return_borrow`, ``tests/client_borrowing.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.borrowing import BorrowProblem, BorrowRecord, check_end
from flexcore.client.returns import EarlyReturn
from flexcore.client.session import Order
from flexcore.client.state import State
from flexcore.errors import LocalProtocolError

if TYPE_CHECKING:
    from flexcore.client.borrowed import BorrowedSeats
    from flexcore.client.site import Site
    from flexcore.client.values import ClientConfig, Seat
    from flexcore.client.verify import Verifier


class Lends(State):
    """The part of :class:`~flexcore.client.machine.ClientMachine` that is about borrowing."""

    __slots__ = ()

    if TYPE_CHECKING:
        _borrowed: BorrowedSeats
        _closing: bool
        _config: ClientConfig
        _now: float
        _sites: list[Site]
        _verifier: Verifier

        @property
        def _wall(self) -> float | None: ...
        def _see_clock(self, now: float, wall: float | None) -> None: ...
        def _take_number(self) -> int: ...
        def _turn(self) -> None: ...

    def borrow(
        self, handle: int, until: float, *, borrow: bytes, secret: bytes, now: float, site: int | None = None,
        wall: float | None = None,
    ) -> int:  # fmt: skip
        """Have a seat that is held lent to this machine until *until* (epoch seconds): SeatBorrowed or BorrowRefused
        follows. *borrow* (16) and *secret* (32) are random bytes, written down *before*: they can return it later.
        Those of an earlier run that never heard the answer are as good: what was lent under them is not lent twice.

        Raises:
            LocalProtocolError: no such seat is held. BorrowError: *until* can be no end (:func:`check_end`).
        """
        check_end(until)
        self._see_clock(now, wall)
        for place in self._sites:
            if site in (None, place.index) and place.session is not None and handle in place.session.seats:
                request = self._take_number()
                order = Order("borrow", request, handle=handle, borrow=borrow, secret=secret, until=until)
                place.session.borrow(order._replace(wall=self._wall or 0.0))
                self._turn()
                return request
        raise LocalProtocolError(f"no seat with handle {handle} is held")

    def resume_borrow(
        self, borrow: bytes, secret: bytes, until: float, *, site: int, now: float, wall: float | None = None
    ) -> int:
        """Find out what came of a borrowing that was written down, and whose answer nobody heard: BorrowKnown follows
        if it was lent, else BorrowRefused, unless :meth:`withdraw` comes before it. No seat is asked for.

        Raises:
            LocalProtocolError: the client is closing. BorrowError: *until* can be no end.
        """
        check_end(until)
        self._check_open()
        self._see_clock(now, wall)
        request = self._take_number()
        order = Order("borrow", request, borrow=borrow, secret=secret, until=until, wall=self._wall or 0.0)
        self._sites[site].submit(order)
        self._turn()
        return request

    def adopt(
        self, record: BorrowRecord, *, count: int, machine: tuple[str, ...], now: float, wall: float | None = None
    ) -> Seat | BorrowProblem:
        """Use *count* of what was borrowed, on this *machine* (its hostids), without a server: the seat, which is held
        at once, or why there is none. SeatLost follows at its end, BorrowNoted now and then, :meth:`checkin` ends its
        use.
        """
        self._see_clock(now, wall)
        found = self._borrowed.adopt(
            record, count=count, machine=machine, user=self._config.user, verifier=self._verifier,
            now=self._now, wall=self._wall,
        )  # fmt: skip
        self._turn()
        return found

    # --- early return -----------------------------------------------------------------------------

    def begin_errand(self, site: int, *, now: float, wall: float | None = None) -> float:
        """Look for the server that serves at *site* until :meth:`end_errand`, whatever else is asked for, and have it
        answer: ServerReached follows then. Returns what :meth:`is_reached` needs.

        Raises:
            LocalProtocolError: the client is closing.
        """
        self._check_open()
        self._see_clock(now, wall)
        place, since = self._sites[site], self._now
        place.errands += 1
        place.errand_at, place.reached_said = since, False
        place.heartbeat_at = min(place.heartbeat_at, since)
        self._turn()
        return since

    def is_reached(self, site: int, since: float) -> bool:
        """Whether a master has this client's session at *site*, and has answered after *since*: a connection that is
        there may be of a network that is not any more."""
        place = self._sites[site]
        return place.ready and place.session is not None and place.session.heard_at > since

    def return_borrow(self, record: BorrowRecord, *, site: int, now: float, wall: float | None = None) -> int:
        """Give what was borrowed back before its end: BorrowGivenBack follows, unless :meth:`end_errand` comes before
        it. Only during an errand.

        Raises:
            LocalProtocolError: the client is closing.
        """
        self._check_open()
        self._see_clock(now, wall)
        request = self._take_number()
        self._sites[site].returns[request] = EarlyReturn(request, record)
        self._turn()
        return request

    def end_errand(self, site: int, *, request: int = 0, now: float, wall: float | None = None) -> None:
        """The errand is over; no answer to the early return *request* follows."""
        self._see_clock(now, wall)
        place = self._sites[site]
        place.errands -= 1
        place.returns.pop(request, None)
        self._turn()

    def _check_open(self) -> None:
        if self._closing:
            raise LocalProtocolError("this client is closed")
