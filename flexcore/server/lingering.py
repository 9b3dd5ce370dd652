"""Seats that linger while this server serves: the clock that counts, and what is over.

What lingers, and how much of it remains, is in the ledger (:mod:`flexcore.ledger.lingering`). A
master makes its linger clock run: it begins at the ledger's reading when the reign begins or the
first seat lingers, and is written down with every seat that begins to linger, and once a minute while
any does. So a failover gives a lingering seat at most a minute more, and never less
(``tests/test_linger_server.py::test_what_remains_survives_a_failover``).
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import TYPE_CHECKING

from flexcore.ledger.commands import LingerPassed, LingerResumed, SeatGranted, SeatLingers
from flexcore.report.logline import in_line, linger_line

if TYPE_CHECKING:
    from flexcore.checkout.durations import Durations
    from flexcore.ledger.state import LedgerState, Seat, Session
    from flexcore.wire.messages import SeatRow

TICK_S = 60.0
"""The clock is written down so often while anything lingers."""

ENDED_PER_TURN_MAX = 500
"""Lingering seats that one entry ends; the next timeout is due at once if there are more."""

OVER = "LINGER OVER"
"""The word behind IN when the time of a lingering seat is over, or its user has it again."""

_EXACT_S = 1e-6
"""Instants that are as near as this are one: sums of floats."""


class LingerClock:
    """The linger clock of one reign. Instants are on the caller's monotonic clock."""

    def __init__(self) -> None:
        self._from_s = self._since = self._written_at = 0.0
        self._due: list[tuple[float, int]] = []

    def start(self, state: LedgerState, now: float) -> None:
        """A reign begins: the clock goes on where the ledger has it."""
        self._from_s, self._since, self._written_at = state.linger_clock_s, now, now
        self._due = [_due(seat) for seat in state.lingering.all()]
        heapq.heapify(self._due)

    def reading_s(self, state: LedgerState, now: float) -> float:
        """What the clock shows; it does not run while nothing lingers."""
        if not state.lingering:
            return state.linger_clock_s
        return max(state.linger_clock_s, self._from_s + (now - self._since))

    def entry(
        self, state: LedgerState, seat: Seat, total_s: float, now: float, numbers: tuple[int, int]
    ) -> SeatLingers:
        """Return the entry by which *seat* begins to linger; it is appended at once. *numbers*: the
        request, and up to which one the client has its answers."""
        if not state.lingering:
            self.start(state, now)
        clock_s = self.reading_s(state, now)
        self._written_at = now
        ends_s = clock_s + total_s
        heapq.heappush(self._due, (ends_s, seat.handle))
        return SeatLingers(seat.session, *numbers, seat.handle, total_s, ends_s)

    def next_due(self, state: LedgerState) -> float | None:
        """Return when :meth:`pop_due` has something to say next."""
        if not state.lingering:
            return None
        due = self._written_at + TICK_S
        self._settle(state)
        return min(due, self._since + (self._due[0][0] - self._from_s)) if self._due else due

    def pop_due(
        self, state: LedgerState, now: float
    ) -> tuple[LingerPassed, tuple[str, ...]] | None:
        """Return the entry that is due, and the log lines of what it ends."""
        if not state.lingering:
            return None
        clock_s = self.reading_s(state, now)
        over: list[Seat] = []
        self._settle(state)
        while self._due and self._due[0][0] <= clock_s + _EXACT_S and len(over) < ENDED_PER_TURN_MAX:
            over.append(state.seats[heapq.heappop(self._due)[1]])
            self._settle(state)
        if not over and now < self._written_at + TICK_S - _EXACT_S:
            return None
        self._written_at = now
        return LingerPassed(clock_s, tuple(seat.handle for seat in over)), ended_lines(over)

    def mark(self, state: LedgerState, rows: tuple[SeatRow, ...], now: float) -> tuple[SeatRow, ...]:
        """Return *rows* of a status page with what remains of those that linger."""
        clock_s = self.reading_s(state, now)
        return tuple(_marked(row, state, clock_s) for row in rows)

    def _settle(self, state: LedgerState) -> None:
        while self._due and state.lingering.get(self._due[0][1]) is None:
            heapq.heappop(self._due)

    def copy(self) -> LingerClock:
        """Return a twin."""
        twin = LingerClock()
        twin.__dict__.update(self.__dict__)
        twin._due = list(self._due)
        return twin

    def fingerprint(self, state: LedgerState, now: float) -> Hashable:
        """Return what decides its future, times relative to *now*."""
        if not state.lingering:
            return ()
        return self.reading_s(state, now) - state.linger_clock_s, self._written_at - now


def lingers_s(durations: Durations, seat: Seat) -> int:
    """Return for how long *seat* stays with its user; what is taken away does not."""
    if not durations.linger_s or seat.removal is not None:
        return 0
    return durations.linger_s.get(seat.pool, 0)


def leaving_line(session: Session, seat: Seat, total_s: float, reason: str = "") -> str:
    """Return the log line of *seat* that leaves *session*, to linger for *total_s* or for good."""
    who = session.user, session.host, seat.seats
    if total_s:
        return linger_line(seat.feature, *who, total_s)
    return in_line(seat.feature, *who, reason or (seat.removal.reason if seat.removal else ""))


def resumed_lines(
    state: LedgerState, command: SeatGranted | LingerResumed
) -> tuple[str, ...]:
    """Return the log lines of what *command*, which is not appended yet, takes over."""
    if type(command) is not LingerResumed:
        return ()
    return ended_lines([state.seats[handle] for handle in command.ended])


def ended_lines(seats: list[Seat]) -> tuple[str, ...]:
    """Return the log lines of seats that linger no more."""
    return tuple(
        in_line(seat.feature, seat.linger.user, seat.linger.host, seat.seats, OVER)
        for seat in seats
        if seat.linger is not None
    )


def _due(seat: Seat) -> tuple[float, int]:
    assert seat.linger is not None
    return seat.linger.ends_s, seat.handle


def _marked(row: SeatRow, state: LedgerState, clock_s: float) -> SeatRow:
    seat = state.lingering.get(row.handle)
    if seat is None or seat.linger is None:
        return row
    left_s = max(0.0, seat.linger.ends_s - clock_s)
    return row._replace(linger_left_s=left_s, linger_s=seat.linger.total_s)
