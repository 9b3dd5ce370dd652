"""Who a server is: its rank in the triad, and which start of its process (boot) is speaking."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Rank(enum.IntEnum):
    """The place of a server's SERVER line (seed, "Overview of Three-Server Redundancy")."""

    PRIMARY = 0
    SECONDARY = 1
    TERTIARY = 2

    @property
    def may_be_master(self) -> bool:
        """The tertiary never is (invariant I1)."""
        return self is not Rank.TERTIARY

    @property
    def word(self) -> str:
        """'primary', 'secondary' or 'tertiary', as the manual and the command line spell it."""
        return self.name.lower()


NOBODY = -1
"""In a wire field that holds a rank: nobody (or nobody in particular)."""


class Boot(NamedTuple):
    """One start of a server's process (incarnation): a durable counter and a random id (protocol.md rule 7)."""

    counter: int
    boot_id: bytes


class Last(NamedTuple):
    """Term and index of a log's last entry; compares as Raft 5.4.1 asks: term first, then index."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls


class Endpoint(NamedTuple):
    """A server process: rank and boot."""

    rank: int
    boot: Boot


NO_LAST = Last(0, 0)
