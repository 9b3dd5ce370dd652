"""The arithmetic of RESERVE: which seats of a pool are still kept for somebody.

A reservation of n seats is filled by seats that are held by those whom it is for, as far as n goes.
Who may fill several (a user in two groups) fills the one that lets most seats be filled altogether;
so the numbers depend on who holds what, never on the order in which they came, and are the same on
every server and after a failover. What is not filled is kept: nobody else gets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise


class Filling:
    """Seats of some kinds of holders laid into reservations, as many as possible.

    A kind is the tuple of the reservations (by number) that its holders may fill.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        """*sizes*: of each reservation, in the order of the file."""
        self._free = list(sizes)
        self._laid: list[dict[tuple[int, ...], int]] = [{} for _ in sizes]

    @property
    def unfilled(self) -> int:
        """Seats that are still kept."""
        return sum(self._free)

    def unfilled_of(self, number: int) -> int:
        """Seats of one reservation that are still kept."""
        return self._free[number]

    def copy(self) -> Filling:
        """Return a twin."""
        twin = Filling(self._free)
        twin._laid = [dict(laid) for laid in self._laid]
        return twin

    def add(self, kind: tuple[int, ...], seats: int) -> int:
        """Lay *seats* of a kind; return how many of them (after moving others) fill something."""
        left = seats
        while left:
            path = self._way(kind)
            if path is None:
                break
            left -= self._move(path, left)
        return seats - left

    def _way(self, kind: tuple[int, ...]) -> list[tuple[tuple[int, ...], int]] | None:
        """Return the shortest chain of moves (kind, to reservation) that ends where there is room."""
        came: dict[int, tuple[int, tuple[int, ...]]] = {}
        queue: list[tuple[int, tuple[int, ...]]] = [(-1, kind)]
        for at, moving in queue:
            for number in moving:
                if number in came:
                    continue
                came[number] = (at, moving)
                if self._free[number]:
                    return _chain(number, came)
                queue.extend((number, each) for each in self._laid[number])
        return None

    def _move(self, path: list[tuple[tuple[int, ...], int]], most: int) -> int:
        """Carry out a chain, as many seats at once as it takes; return how many."""
        count = min(most, self._free[path[-1][1]])
        for (_, source), (kind, _) in pairwise(path):
            count = min(count, self._laid[source][kind])
        for (_, source), (kind, _) in pairwise(path):
            rest = self._laid[source][kind] - count
            if rest:
                self._laid[source][kind] = rest
            else:
                del self._laid[source][kind]
        for kind, target in path:
            self._laid[target][kind] = self._laid[target].get(kind, 0) + count
        self._free[path[-1][1]] -= count
        return count


def _chain(
    last: int, came: dict[int, tuple[int, tuple[int, ...]]]
) -> list[tuple[tuple[int, ...], int]]:
    path: list[tuple[tuple[int, ...], int]] = []
    number = last
    while number >= 0:
        before, kind = came[number]
        path.append((kind, number))
        number = before
    return path[::-1]


def clipped(sizes: Iterable[int], total: int) -> tuple[int, ...]:
    """Return the sizes that fit into *total* seats: the first reservations have the first claim."""
    fitting = []
    for size in sizes:
        size = min(size, total)
        fitting.append(size)
        total -= size
    return tuple(fitting)
