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
        self.unfilled = sum(sizes)
        """Seats that are still kept."""
        self._laid: list[dict[tuple[int, ...], int]] = [{} for _ in sizes]
        self._outside: dict[tuple[int, ...], int] = {}
        """Seats of those who may fill something and for whom there is no room."""
        self._kinds: list[dict[tuple[int, ...], None]] = [{} for _ in sizes]
        """Of each reservation, who may fill it."""

    def unfilled_of(self, number: int) -> int:
        """Seats of one reservation that are still kept."""
        return self._free[number]

    def copy(self) -> Filling:
        """Return a twin."""
        twin = Filling(self._free)
        twin._laid = [dict(laid) for laid in self._laid]
        twin._outside = dict(self._outside)
        twin._kinds = [dict(kinds) for kinds in self._kinds]
        return twin

    def room_for(self, kind: tuple[int, ...], seats: int) -> int:
        """Return how many of *seats* more of a kind would fill something; changes nothing."""
        if not kind or not self.unfilled:
            return 0
        if sum([self._free[number] for number in kind]) >= seats:
            return seats
        if seats == 1:
            return 0 if self._way(kind) is None else 1
        return self.copy().add(kind, seats)

    def add(self, kind: tuple[int, ...], seats: int) -> int:
        """Lay *seats* of a kind; return how many of them (after moving others) fill something."""
        for number in kind:
            self._kinds[number][kind] = None
        laid = self._lay(kind, seats)
        if laid < seats and kind:
            self._outside[kind] = self._outside.get(kind, 0) + seats - laid
        return laid

    def remove(self, kind: tuple[int, ...], seats: int) -> None:
        """Take away *seats* of a kind that were added; others move into their places."""
        seats -= self._take(self._outside, kind, seats)
        for number in kind:
            gone = self._take(self._laid[number], kind, seats)
            seats -= gone
            self._free[number] += gone
            self.unfilled += gone
            while gone and self._free[number]:
                other = self._who_could_fill(number)
                if other is None:
                    break
                moved = self._lay(other, self._outside[other])
                assert moved, "there is a way there"
                self._take(self._outside, other, moved)
        assert seats == 0 or not kind, "more seats come back than were laid"

    @staticmethod
    def _take(counts: dict[tuple[int, ...], int], kind: tuple[int, ...], most: int) -> int:
        """Take up to *most* seats of a kind out of *counts*; return how many there were."""
        there = counts.get(kind, 0)
        if there > most:
            counts[kind] = there - most
            return most
        if there:
            del counts[kind]
        return there

    def _who_could_fill(self, number: int) -> tuple[int, ...] | None:
        """Return a kind with seats outside that could fill a reservation with room, by way of others."""
        queue = [number]
        seen = {number}
        for at in queue:
            for kind in self._kinds[at]:
                if kind in self._outside:
                    return kind
                for other in kind:
                    if other not in seen and kind in self._laid[other]:
                        seen.add(other)
                        queue.append(other)
        return None

    def _lay(self, kind: tuple[int, ...], seats: int) -> int:
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
        self.unfilled -= count
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
