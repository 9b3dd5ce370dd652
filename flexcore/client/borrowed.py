"""Borrowed licences in use: held without a server, until their end.

A borrowed licence has no lease, since nobody renews it; what ends it is the calendar of this machine, which its user
can set. So the time here never goes back: it is the latest that was ever seen in the record, and goes on with the
clock that nobody sets. A calendar that is set forward ends a licence early, which is its user's own affair; one that is
set back gains nothing while the licence is held, and is found when it is used the next time (-88). What is noted
now and then (``BorrowNoted``) is this time. ``tests/test_borrow_client.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.borrowing import BorrowProblem, BorrowRecord, judge
from flexcore.client.state import State
from flexcore.client.values import BorrowNoted, Seat, SeatLost
from flexcore.codes import ErrorCode, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexcore.client.verify import Verifier

NOTE_EVERY_S = 60.0
"""How often the time of last use is written down."""


class _Held(State):
    """One borrowed seat in use; *seen* is the time of day at *seen_at*."""

    __slots__ = ("noted", "record", "seat", "seen", "seen_at")

    def __init__(self, record: BorrowRecord, seat: Seat, seen: float, now: float) -> None:
        self.record = record
        self.seat = seat
        self.seen = self.noted = seen
        self.seen_at = now

    @property
    def next_at(self) -> float:
        """When it ends, or is noted."""
        return self.seen_at + min(self.record.until, self.noted + NOTE_EVERY_S) - self.seen

    def look(self, now: float, wall: float | None) -> float:
        """Return the time of day: it never goes back, and goes on whatever the calendar shows."""
        self.seen += max(0.0, now - self.seen_at)
        self.seen_at = max(self.seen_at, now)
        if wall is not None:
            self.seen = max(self.seen, wall)
        return self.seen


class BorrowedSeats(State):
    """The borrowed seats of one client, by the numbers that stand in the place of a site: -1, -2 ..."""

    __slots__ = ("_count", "_held")
    NUMBERING = frozenset({"_count"})

    def __init__(self) -> None:
        self._count = 0
        self._held: dict[int, _Held] = {}

    def adopt(
        self, record: BorrowRecord, *, count: int, machine: Iterable[str], user: str, verifier: Verifier,
        now: float, wall: float | None,
    ) -> Seat | BorrowProblem:  # fmt: skip
        """Take *record* into use for *count* licences; return the seat, or why it grants nothing."""
        seen = record.seen if wall is None else wall
        problem = judge(record, wall=seen, machine=machine, user=user)
        if problem is not None:
            return problem
        seat = Seat(record.handle, record.feature, record.version, count, record.started, -self._count - 1,
                    record.line, record.hostids)  # fmt: skip
        unsigned = verifier.problem_with(seat)
        if unsigned:
            return BorrowProblem(ErrorCode.BAD_SIGNATURE, unsigned)
        self._count += 1
        self._held[seat.site] = _Held(record, seat, max(seen, record.seen), now)
        return seat

    @property
    def seats(self) -> tuple[Seat, ...]:
        return tuple(each.seat for each in self._held.values())

    def believes(self, site: int, handle: int, now: float, wall: float | None) -> bool:
        """Whether the seat is held at this very moment."""
        each = self._held.get(site)
        return each is not None and each.seat.handle == handle and each.look(now, wall) < each.record.until

    def ends_at(self, site: int) -> float | None:
        """Return when (monotonic) it ends as the calendar stands; None if it is not held."""
        each = self._held.get(site)
        return None if each is None else each.seen_at + each.record.until - each.seen

    def release(self, site: int, handle: int, now: float, wall: float | None) -> BorrowNoted | None:
        """It is not used any more, and borrowed all the same; None if it was not held."""
        each = self._held.get(site)
        if each is None or each.seat.handle != handle:
            return None
        del self._held[site]
        return BorrowNoted(borrow=each.record.borrow, seen=each.look(now, wall))

    def release_all(self, now: float, wall: float | None) -> list[BorrowNoted]:
        """The client closes."""
        held, self._held = self._held, {}
        return [BorrowNoted(borrow=each.record.borrow, seen=each.look(now, wall)) for each in held.values()]

    def next_at(self) -> float | None:
        """When :meth:`advance` has something to do, if no clock is set before."""
        return min((each.next_at for each in self._held.values()), default=None)

    def advance(self, now: float, wall: float | None) -> list[SeatLost | BorrowNoted]:
        """Time has passed: what is over is lost, and told at once."""
        told: list[SeatLost | BorrowNoted] = []
        for site, each in list(self._held.items()):
            seen = each.look(now, wall)
            over = seen >= each.record.until
            if over:
                del self._held[site]
            if over or seen >= each.noted + NOTE_EVERY_S:
                each.noted = seen
                told.append(BorrowNoted(borrow=each.record.borrow, seen=seen))
            if over:
                code = ErrorCode.BORROW_EXPIRED
                told.append(SeatLost(handle=each.seat.handle, seat=each.seat, reason=text_of(code), code=int(code)))
        return told
