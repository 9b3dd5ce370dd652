"""What is out of each pool: the counts, the handles, the freeings that are not committed, and the
groups whose members share licences (DUP_GROUP, SUITE_DUP_GROUP).

A seat that shares says with whom in the entry that granted it (:class:`~flexcore.ledger.commands.Share`):
the checkout decides on a group once, and every server counts by the entry alone. **What a group
takes of a pool is the largest count that one of its seats holds**: two checkouts of one licence by
the same user are one licence, a third one of five makes it five, and when that one comes back it is
one again (tests/test_ledger_groups.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import TYPE_CHECKING, Protocol

from flexcore.ledger.pools import PendingFrees, PoolSeats

if TYPE_CHECKING:
    from flexcore.ledger.sessions import Seat


class GroupCounts:
    """How many seats of a group hold which count; a few numbers for each group, however many hold."""

    __slots__ = ("_holders",)

    def __init__(self) -> None:
        self._holders: dict[tuple[str, str], dict[int, int]] = {}

    def taken(self, pool: str, group: str) -> int:
        """How many licences of *pool* the group takes."""
        return max(self._holders.get((pool, group), ()), default=0)

    def join(self, pool: str, group: str, count: int) -> int:
        """One more seat of *count*; returns how many licences more the group takes now."""
        holders = self._holders.setdefault((pool, group), {})
        before = max(holders, default=0)
        holders[count] = holders.get(count, 0) + 1
        return max(0, count - before)

    def leave(self, pool: str, group: str, count: int) -> int:
        """One seat of *count* less; returns how many licences fewer the group takes now."""
        holders = self._holders[pool, group]
        left = holders[count] - 1
        if left:
            holders[count] = left
            return 0
        del holders[count]
        if not holders:
            del self._holders[pool, group]
        return max(0, count - max(holders, default=0))

    def copy(self) -> GroupCounts:
        """One that shares nothing that changes."""
        twin = GroupCounts()
        twin._holders = {key: dict(holders) for key, holders in self._holders.items()}
        return twin


class Watcher(Protocol):
    """Is told of every seat that is taken and that leaves, also where that is an undo."""

    def taken(self, seat: Seat) -> None:
        """*seat* is held from now on; its session is in the state."""

    def left(self, seat: Seat) -> None:
        """*seat* is held no more."""


class PoolBooks:
    """Takes seats out of their pools and puts them back, each undoable, last first."""

    __slots__ = ("freed", "groups", "in_use", "pools", "watcher")

    def __init__(self) -> None:
        self.in_use: Counter[str] = Counter()
        self.pools: dict[str, PoolSeats] = {}
        self.freed = PendingFrees()
        self.groups = GroupCounts()
        self.watcher: Watcher | None = None
        """Who counts seats by rules of an options file (:mod:`flexcore.checkout.tallies`): no part of
        the state, and in no copy of it."""

    def take(self, seat: Seat) -> None:
        """*seat* is granted; its handle is above all others."""
        if self.watcher is not None:
            self.watcher.taken(seat)
        if not seat.shares:
            self._take(seat.pool, seat.seats, seat.handle)
            return
        for pool, group in seat.shares:
            more = self.groups.join(pool, group, seat.seats) if group else seat.seats
            self._take(pool, more, seat.handle)

    def take_back(self, seat: Seat) -> None:
        """Undo :meth:`take`."""
        if self.watcher is not None:
            self.watcher.left(seat)
        for pool, count in self._leave(seat):
            self._count_down(pool, count)
            held = self.pools[pool]
            held.take_back(seat.handle)
            if held.live == 0:
                del self.pools[pool]

    def drop(self, seat: Seat, index: int, held: Container[int]) -> None:
        """*seat* is free by entry *index*; *held* knows the handles that are alive."""
        if self.watcher is not None:
            self.watcher.left(seat)
        for pool, count in self._leave(seat) if seat.shares else ((seat.pool, seat.seats),):
            left = self.in_use[pool] - count
            if left:
                self.in_use[pool] = left
            else:
                del self.in_use[pool]
            if count:
                self.freed.add(index, pool, count)
            members = self.pools[pool]
            members.drop(seat.handle, held)
            if members.live == 0:
                del self.pools[pool]

    def restore(self, seat: Seat) -> None:
        """Undo :meth:`drop`."""
        if self.watcher is not None:
            self.watcher.taken(seat)
        for pool, group in reversed(seat.shares or ((seat.pool, ""),)):
            count = self.groups.join(pool, group, seat.seats) if group else seat.seats
            if count:
                self.in_use[pool] += count
                self.freed.take_back()
            if pool not in self.pools:
                self.pools[pool] = PoolSeats()
            self.pools[pool].restore(seat.handle)

    def copy(self) -> PoolBooks:
        """One that shares nothing that changes."""
        twin = PoolBooks()
        twin.in_use = self.in_use.copy()
        twin.pools = {name: pool.copy() for name, pool in self.pools.items()}
        twin.freed = self.freed.copy()
        twin.groups = self.groups.copy()
        return twin

    def _take(self, pool: str, count: int, handle: int) -> None:
        if count:
            self.in_use[pool] += count
        held = self.pools.get(pool)
        if held is None:
            held = self.pools[pool] = PoolSeats()
        held.add(handle)

    def _leave(self, seat: Seat) -> tuple[tuple[str, int], ...]:
        """What *seat* gives back to each of its pools when it leaves its groups."""
        if not seat.shares:
            return ((seat.pool, seat.seats),)
        return tuple(
            [
                (pool, self.groups.leave(pool, group, seat.seats) if group else seat.seats)
                for pool, group in seat.shares
            ]
        )

    def _count_down(self, pool: str, count: int) -> None:
        left = self.in_use[pool] - count
        if left:
            self.in_use[pool] = left
        else:
            del self.in_use[pool]
