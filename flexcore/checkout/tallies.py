"""Counting the ledger's seats by the rules of an options file, entry by entry.

A :class:`SeatTally` watches the books of one ledger: each seat that is taken or given back (and each
undo of that) moves its counts, so that a checkout reads them instead of looking through the holders.
It is made by one look at all seats of the pools with a MAX or a RESERVE, when the first checkout of a
reign, after a reread or after a snapshot asks; pools without such a rule are never looked at.

What a duplicate group shares is held by the one of its members with the largest seat, the oldest of
these (``tests/test_options_tally.py::test_the_counts_are_those_of_a_slow_look``). A seat that begins to
linger stays with whom it was, so nothing has to be told of that.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from flexcore.options.patterns import Requester

if TYPE_CHECKING:
    from flexcore.ledger.state import LedgerState, Linger, Seat, Session
    from flexcore.options.policy import Policy

_ALL = 1 << 60
_DEAD_MIN = 64


def requester_of(session: Session | Linger) -> Requester:
    """Return whom the rules of an options file see in *session*, or in whose seat lingers."""
    return Requester(session.user, session.host, session.display, session.address,
                     session.project)  # fmt: skip


class _Sharers:
    """The members of a duplicate group, and who of them stands for it."""

    __slots__ = ("_heap", "_members")

    def __init__(self) -> None:
        self._members: dict[int, tuple[Requester, int]] = {}
        self._heap: list[tuple[int, int]] = []

    def join(self, handle: int, who: Requester, seats: int) -> None:
        """*who* holds *seats* under *handle*."""
        self._members[handle] = (who, seats)
        heapq.heappush(self._heap, (-seats, handle))

    def leave(self, handle: int) -> None:
        """*handle* is held no more."""
        del self._members[handle]
        if len(self._heap) > _DEAD_MIN + 2 * len(self._members):
            self._heap = sorted((-seats, each) for each, (_, seats) in self._members.items())

    def first(self) -> tuple[Requester, int] | None:
        """Return who holds what the group takes, and how many seats that are."""
        heap, members = self._heap, self._members
        while heap and heap[0][1] not in members:
            heapq.heappop(heap)
        return members[heap[0][1]] if heap else None


class SeatTally:
    """The tally of one policy over one ledger's state, as its :class:`~flexcore.ledger.books.Watcher`."""

    def __init__(self, policy: Policy, state: LedgerState) -> None:
        self.tally = policy.tally()
        self._counts = policy.counts
        self._sessions = state.sessions
        self._holders: dict[int, Requester] = {}
        self._groups: dict[tuple[str, str], _Sharers] = {}
        for pool in policy.counted_pools:
            for seat in state.seats_page(pool, 0, _ALL):
                if seat.pool == pool:
                    self.taken(seat)

    def taken(self, seat: Seat) -> None:
        """*seat* is held from now on."""
        if not self._counts(seat.pool):
            return
        who = requester_of(seat.linger or self._sessions[seat.session])
        group = seat.shares[0].group if seat.shares else ""
        if group:
            self._share(seat, group, who)
        else:
            self._holders[seat.handle] = who
            self.tally.add(seat.pool, who, seat.seats)

    def left(self, seat: Seat) -> None:
        """*seat* is held no more."""
        if not self._counts(seat.pool):
            return
        group = seat.shares[0].group if seat.shares else ""
        if group:
            self._share(seat, group, None)
        else:
            self.tally.add(seat.pool, self._holders.pop(seat.handle), -seat.seats)

    def _share(self, seat: Seat, group: str, who: Requester | None) -> None:
        """A member joins a group, or leaves it: *who* is None."""
        key = (seat.pool, group)
        sharers = self._groups.setdefault(key, _Sharers())
        before = sharers.first()
        if who is not None:
            sharers.join(seat.handle, who, seat.seats)
        else:
            sharers.leave(seat.handle)
        after = sharers.first()
        if after is None:
            del self._groups[key]
        if after != before:
            if before is not None:
                self.tally.add(seat.pool, before[0], -before[1])
            if after is not None:
                self.tally.add(seat.pool, *after)
