"""How much of a feature is free at one alternative of the path: for clients that prefer the least loaded."""

from __future__ import annotations

from collections.abc import Iterable

from flexcore.client.state import State
from flexcore.wire.messages import FeatureRow, StatusPage, StatusRequest

LOADS_MAX = 64
"""Features of which it is known how much is free, or is asked."""


class Load(State):
    """Which part of a feature was free, and when that was told."""

    __slots__ = ("share", "told_at")

    def __init__(self, share: float, told_at: float) -> None:
        self.share = share
        self.told_at = told_at


class Loads(State):
    """What one alternative has told, and what it is asked."""

    __slots__ = ("asked", "known", "next_seq")
    NUMBERING = frozenset({"next_seq"})
    NUMBERED = frozenset({"asked"})

    def __init__(self) -> None:
        self.asked: dict[int, tuple[int, str]] = {}  # seq -> connection, feature
        self.known: dict[str, Load] = {}
        self.next_seq = 1

    def question(self, feature: str, conn: int) -> StatusRequest | None:
        """Return what to ask on *conn*; None if it is asked there already."""
        if (conn, feature) in self.asked.values():
            return None
        while len(self.asked) >= LOADS_MAX:
            del self.asked[next(iter(self.asked))]
        seq = self.next_seq
        self.next_seq += 1
        self.asked[seq] = (conn, feature)
        return StatusRequest(seq, "features", feature, "")

    def take(self, page: StatusPage, now: float) -> None:
        """An answer came; one to nothing that was asked is no news."""
        asked = self.asked.pop(page.seq, None)
        if asked is not None:
            while len(self.known) >= LOADS_MAX:
                del self.known[next(iter(self.known))]
            self.known[asked[1]] = Load(free_share(page.features, asked[1]), now)

    def share(self, feature: str, since_at: float) -> float | None:
        """Return which part of *feature* was free, as it was told at *since_at* or later; None: it was not."""
        load = self.known.get(feature)
        return None if load is None or load.told_at < since_at else load.share


def free_share(rows: Iterable[FeatureRow], feature: str) -> float:
    """Return which part of *feature* is free: 1.0 of what is not counted, 0.0 where there is nothing.

    >>> free_share([], "f1")
    0.0
    """
    issued = in_use = 0
    for row in rows:
        if row.feature != feature or row.error:
            continue
        if row.count <= 0:
            return 1.0
        issued += row.count
        in_use += row.in_use
    return max(issued - in_use, 0) / issued if issued else 0.0
