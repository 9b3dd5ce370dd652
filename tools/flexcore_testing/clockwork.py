"""True time: a heap of events, and clocks that run a little wrong.

Everything in a simulation happens at an instant of *true* time, which no simulated process can read. A process reads
a :class:`DriftingClock` instead: started at an arbitrary number, fast or slow by up to the bound of protocol.md
section 1. Wall clocks are separate and may jump.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class World:
    """A heap of (true time, action); equal times run in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._serial = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Run *action* at true time *when* (not before now)."""
        self._serial += 1
        heapq.heappush(self._heap, (max(when, self.now), self._serial, action, arguments))

    def after(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Run *action* in *delay_s* true seconds."""
        self.at(self.now + delay_s, action, *arguments)

    def run_until(self, when: float, stop: Callable[[], bool] | None = None) -> bool:
        """Run everything up to true time *when*; True if *stop* said so before."""
        heap = self._heap
        while heap and heap[0][0] <= when:
            self.now, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
            if stop is not None and stop():
                return True
        self.now = max(self.now, when)
        return False


class DriftingClock:
    """What one process reads as ``now``: *rate* local seconds a true second, from an arbitrary start."""

    def __init__(self, rate: float, started_at: float, shows: float) -> None:
        self.rate = rate
        self._started_at = started_at
        self._shows = shows

    def local(self, true_time: float) -> float:
        """What the clock shows at *true_time*."""
        return self._shows + (true_time - self._started_at) * self.rate

    def true(self, local_time: float) -> float:
        """When the clock shows *local_time*."""
        return self._started_at + (local_time - self._shows) / self.rate


class WallClock:
    """Calendar time of one host: true time plus an error that an administrator, or NTP, changes in jumps."""

    def __init__(self, epoch_at_zero: float, error_s: float = 0.0) -> None:
        self.epoch_at_zero = epoch_at_zero
        self.error_s = error_s

    def read(self, true_time: float) -> float:
        """Epoch seconds at *true_time*, as this host believes."""
        return self.epoch_at_zero + true_time + self.error_s

    def jump(self, seconds: float) -> None:
        """Move the wall clock; ``now`` does not move with it."""
        self.error_s += seconds
