"""Seats that nobody uses and that are not free yet: lingering ones, and those that are taken away.

**Linger** (options file and signed lines): a seat that was given back stays with its user for a
while. It is out of its session (:class:`~flexcore.ledger.sessions.Seat` says in ``linger`` whose it
is), counts as in use, and ends when its time is over or when the same user on the same host and
display checks out again. *Protocol.md rule 18: linger is stored as remaining seconds*, and nobody
writes an entry a second for each of them: the ledger has one **linger clock** of counted seconds,
which only entries advance (:class:`~flexcore.ledger.commands.SeatLingers` and
:class:`~flexcore.ledger.commands.LingerPassed`, one a minute while anything lingers); each seat has
the reading at which it is over. What remains is the difference, in every server and after every
failover, restart and snapshot; the time that nobody served is not counted
(``tests/test_linger_server.py::test_what_remains_survives_a_failover``).

**Removal** (``lmremove``, TIMEOUT): a seat is *marked* as taken away, with code and reason, and stays
in use until its client has given it back or its session is over: the client may believe in it for as
long (invariant I3). A new master tells the client again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flexcore.ledger.commands import (
    LingerPassed,
    LingerResumed,
    SeatGranted,
    SeatLingers,
    SeatRemoved,
    SeatReturned,
)
from flexcore.ledger.sessions import LedgerCorrupt, Linger, Outcome, Removal, Seat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexcore.ledger.sessions import Session
    from flexcore.ledger.state import LedgerState

Owner = tuple[str, str, str, str]
"""Feature, user, host and display."""


def owner_of(feature: str, holder: Session | Linger) -> Owner:
    """Return by what a lingering seat is found again."""
    return feature, holder.user, holder.host, holder.display


class Lingering:
    """The lingering seats of a ledger by handle and by owner."""

    __slots__ = ("_by_owner", "_seats")

    def __init__(self) -> None:
        self._seats: dict[int, Seat] = {}
        self._by_owner: dict[Owner, dict[int, Seat]] = {}

    def __bool__(self) -> bool:
        return bool(self._seats)

    def __len__(self) -> int:
        return len(self._seats)

    def get(self, handle: int) -> Seat | None:
        """Return the seat *handle*, if it lingers."""
        return self._seats.get(handle)

    def all(self) -> tuple[Seat, ...]:
        """Every one of them, by handle."""
        return tuple(sorted(self._seats.values()))

    def of(self, owner: Owner) -> tuple[Seat, ...]:
        """What lingers for *owner*, by handle."""
        return tuple(sorted(self._by_owner.get(owner, {}).values()))

    def add(self, seat: Seat) -> None:
        """*seat* lingers from here on."""
        assert seat.linger is not None
        self._seats[seat.handle] = seat
        self._by_owner.setdefault(owner_of(seat.feature, seat.linger), {})[seat.handle] = seat

    def remove(self, seat: Seat) -> None:
        """It does not any more."""
        assert seat.linger is not None
        del self._seats[seat.handle]
        owner = owner_of(seat.feature, seat.linger)
        mine = self._by_owner[owner]
        del mine[seat.handle]
        if not mine:
            del self._by_owner[owner]

    def copy(self) -> Lingering:
        """One that shares nothing that changes."""
        twin = Lingering()
        twin._seats = dict(self._seats)
        twin._by_owner = {owner: dict(seats) for owner, seats in self._by_owner.items()}
        return twin


def enough_of(seats: tuple[Seat, ...], count: int) -> tuple[Seat, ...]:
    """Return the first of *seats* that hold *count* together; all where they do not."""
    taken: list[Seat] = []
    for seat in seats:
        if count <= 0:
            break
        taken.append(seat)
        count -= seat.seats
    return tuple(taken)


@contextmanager
def without(state: LedgerState, seats: tuple[Seat, ...]) -> Iterator[Counter[str]]:
    """For the time of a decision: *state* as it were if *seats*, which linger, were free; gives how many
    that are of each pool.

    The index is none that an entry ever had, so that nothing looked up meanwhile is taken for what
    the log says there.
    """
    index = state.index
    frees: list[tuple[str, int]] = []
    for seat in seats:
        state.lingering.remove(seat)
        frees += _drop_counted(state, seat, index)
    for _ in frees:
        state._freed.take_back()
    state.index = -1 - (index << 64 | seats[0].handle)
    back: Counter[str] = Counter()
    for pool, count in frees:
        back[pool] += count
    try:
        yield back
    finally:
        state.index = index
        for pool, count in frees:
            state._freed.add(index, pool, count)
        _put_back(state, seats)


# --- entries ----------------------------------------


def seat_lingers(
    state: LedgerState, index: int, term: int, stamp: float, command: SeatLingers
) -> tuple[Any, ...]:
    """Carry out a SeatLingers; returns its undo."""
    key, request, answered, handle, total_s, ends_s = command
    session = state._known(index, key)
    seat = session.seats.get(handle)
    if seat is None or not 0 < total_s <= ends_s < float("inf"):
        raise LedgerCorrupt(f"entry {index} lets handle {handle} linger, which makes no sense")
    if request:
        state._check_open(index, session, request, answered)
    whose = Linger(session.user, session.host, session.display, session.project, session.address,
                   session.pid, ends_s, total_s)  # fmt: skip
    left = seat._replace(session=b"", removal=None, linger=whose)
    before, clock_s = session.answered, state.linger_clock_s
    del session.seats[handle]
    state.seats[handle] = left
    state.lingering.add(left)
    state.linger_clock_s = max(clock_s, ends_s - total_s)
    dropped = state._advance(session, answered)
    if request:
        done = SeatReturned(key, request, answered, handle, "")
        session.results[request] = Outcome(index, stamp, done)
    return _undo_lingers, state.index, state.stamp, seat, left, request, before, dropped, clock_s


def _undo_lingers(state: LedgerState, undo: tuple[Any, ...]) -> None:
    seat, left, request, answered, dropped, clock_s = undo[3:]
    session = state.sessions[seat.session]
    if request:
        del session.results[request]
    state._retreat(session, answered, dropped)
    state.linger_clock_s = clock_s
    state.lingering.remove(left)
    session.seats[seat.handle] = state.seats[seat.handle] = seat


def linger_passed(
    state: LedgerState, index: int, term: int, stamp: float, command: LingerPassed
) -> tuple[Any, ...]:
    """Carry out a LingerPassed; returns its undo."""
    ended = _known(state, index, command.ended)
    if not state.linger_clock_s <= command.clock_s < float("inf"):
        raise LedgerCorrupt(f"entry {index} turns the linger clock back to {command.clock_s}")
    undo = _undo_passed, state.index, state.stamp, ended, state.linger_clock_s
    state.linger_clock_s = command.clock_s
    for seat in ended:
        state.lingering.remove(seat)
        state._drop_seat(seat, index)
    return undo


def _undo_passed(state: LedgerState, undo: tuple[Any, ...]) -> None:
    ended, state.linger_clock_s = undo[3:]
    for seat in reversed(ended):
        state._restore_seat(seat)
        state.lingering.add(seat)


def linger_resumed(
    state: LedgerState, index: int, term: int, stamp: float, command: LingerResumed
) -> tuple[Any, ...]:
    """Carry out a LingerResumed: what lingered is taken by the grant of the same entry, at once; only
    what it does not take is free (at commit, rule 14). Returns its undo."""
    ended = _known(state, index, command.ended)
    frees: list[tuple[str, int]] = []
    for seat in ended:
        state.lingering.remove(seat)
        frees += _drop_counted(state, seat, index)
    pools = [share.pool for share in command.shares] or [command.pool]
    before = {pool: state.in_use[pool] for pool in pools}
    try:
        granted = state._seat_granted(index, term, stamp, SeatGranted(*command[:9]))
    except LedgerCorrupt:
        _put_back(state, ended)
        raise
    taken = {pool: state.in_use[pool] - count for pool, count in before.items()}
    for _ in frees:
        state._freed.take_back()
    left: list[tuple[str, int]] = []
    for pool, count in frees:
        reused = min(count, taken.get(pool, 0))
        if reused:
            taken[pool] -= reused
        if count > reused:
            left.append((pool, count - reused))
            state._freed.add(index, pool, count - reused)
    return (_undo_resumed, state.index, state.stamp, index, ended, granted, tuple(frees), len(left))


def _undo_resumed(state: LedgerState, undo: tuple[Any, ...]) -> None:
    index, ended, granted, frees, left = undo[3:]
    for _ in range(left):
        state._freed.take_back()
    granted[0](state, granted)
    for pool, count in frees:
        state._freed.add(index, pool, count)
    _put_back(state, ended)


def _put_back(state: LedgerState, ended: tuple[Seat, ...]) -> None:
    for seat in reversed(ended):
        state._restore_seat(seat)
        state.lingering.add(seat)


def _drop_counted(state: LedgerState, seat: Seat, index: int) -> list[tuple[str, int]]:
    """Drop *seat*; return what that put among the freed ones, in the order in which it did."""
    pools = [share.pool for share in seat.shares] or [seat.pool]
    before = [state.in_use[pool] for pool in pools]
    state._drop_seat(seat, index)
    fewer = [(pool, count - state.in_use[pool]) for pool, count in zip(pools, before, strict=True)]
    return [(pool, count) for pool, count in fewer if count]


def _known(state: LedgerState, index: int, handles: Iterable[int]) -> tuple[Seat, ...]:
    found: list[Seat] = []
    for handle in handles:
        seat = state.lingering.get(handle)
        if seat is None or seat in found:
            raise LedgerCorrupt(f"entry {index} ends handle {handle}, which does not linger")
        found.append(seat)
    return tuple(found)


def seat_removed(
    state: LedgerState, index: int, term: int, stamp: float, command: SeatRemoved
) -> tuple[Any, ...]:
    """Carry out a SeatRemoved; returns its undo."""
    key, handle, code, reason, text = command
    session = state._known(index, key)
    seat = session.seats.get(handle)
    if seat is None:
        raise LedgerCorrupt(
            f"entry {index} takes handle {handle} away, which session {key.hex()} does not hold"
        )
    session.seats[handle] = state.seats[handle] = seat._replace(
        removal=Removal(code, reason, text)
    )
    return _undo_removed, state.index, state.stamp, seat


def _undo_removed(state: LedgerState, undo: tuple[Any, ...]) -> None:
    seat: Seat = undo[3]
    state.sessions[seat.session].seats[seat.handle] = state.seats[seat.handle] = seat
