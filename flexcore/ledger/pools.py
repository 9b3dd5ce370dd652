"""The handles held out of one pool, in order, so that a page of them costs the page and not the
pool.

Handles are granted in rising order (the state refuses others), so a sorted list only grows at its
end. A handle that is given back stays in the list, dead, until half of the list is: handles are
never reused, so a dead one cannot be mistaken, and dropping and restoring one are cheap on average
(tests/test_ledger_state.py, ``test_pages``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Container, Mapping
from typing import TypeVar

SeatT = TypeVar("SeatT")

_DEAD_MIN = 64


class PoolSeats:
    """Sorted handles, the dead ones among them counted."""

    __slots__ = ("_dead", "_handles")

    def __init__(self) -> None:
        self._handles: list[int] = []
        self._dead = 0

    @property
    def live(self) -> int:
        """How many handles are held."""
        return len(self._handles) - self._dead

    def add(self, handle: int) -> None:
        """A new handle, above all others."""
        self._handles.append(handle)

    def take_back(self, handle: int) -> None:
        """Undo :meth:`add` of the last one: handles above it have been taken back before."""
        last = self._handles.pop()
        assert last == handle

    def drop(self, handle: int, held: Container[int]) -> None:
        """*handle* was given back; *held* knows the handles that are alive."""
        self._dead += 1
        if self._dead > _DEAD_MIN and 2 * self._dead > len(self._handles):
            self._handles = [each for each in self._handles if each in held]
            self._dead = 0

    def restore(self, handle: int) -> None:
        """Undo :meth:`drop`."""
        at = bisect_left(self._handles, handle)
        if at < len(self._handles) and self._handles[at] == handle:
            self._dead -= 1
        else:
            self._handles.insert(at, handle)

    def page(self, held: Mapping[int, SeatT], after: int, limit: int) -> tuple[SeatT, ...]:
        """Up to *limit* of the held ones above *after*."""
        found: list[SeatT] = []
        handles = self._handles
        for at in range(bisect_right(handles, after), len(handles)):
            seat = held.get(handles[at])
            if seat is not None:
                found.append(seat)
                if len(found) >= limit:
                    break
        return tuple(found)

    def copy(self) -> PoolSeats:
        """One that shares nothing that changes."""
        twin = PoolSeats()
        twin._handles = self._handles.copy()
        twin._dead = self._dead
        return twin


class PendingFrees:
    """Seats that entries freed which are not committed yet (protocol.md rule 14).

    Each is added once and leaves once, from either end: settled, or taken back.
    """

    __slots__ = ("_counts", "_freed")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._freed: deque[tuple[int, str, int]] = deque()

    def __getitem__(self, pool: str) -> int:
        """How many of *pool*."""
        return self._counts.get(pool, 0)

    def items(self) -> tuple[tuple[str, int], ...]:
        """Pools and how many of each, by name."""
        return tuple(sorted(self._counts.items()))

    def add(self, index: int, pool: str, count: int) -> None:
        """Entry *index*, which is the last one, frees *count*."""
        self._freed.append((index, pool, count))
        self._counts[pool] = self._counts.get(pool, 0) + count

    def take_back(self) -> None:
        """Undo the last :meth:`add`."""
        _, pool, count = self._freed.pop()
        self._less(pool, count)

    def settle(self, index: int) -> None:
        """Entries up to *index* are committed."""
        freed = self._freed
        while freed and freed[0][0] <= index:
            _, pool, count = freed.popleft()
            self._less(pool, count)

    def copy(self) -> PendingFrees:
        """One that shares nothing that changes."""
        twin = PendingFrees()
        twin._counts = self._counts.copy()
        twin._freed = self._freed.copy()
        return twin

    def _less(self, pool: str, count: int) -> None:
        left = self._counts[pool] - count
        assert left >= 0
        if left:
            self._counts[pool] = left
        else:
            del self._counts[pool]
