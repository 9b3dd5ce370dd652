"""Answers that wait: for the commit of what they depend on, or for a round that confirms them.

Protocol.md rule 14: *decisions are made on the appended state; replies leave at commit, checked once
a turn.* Denials and status too: what they tell must not be undone. An answer that left earlier would
tell of an entry that a new master has never seen: a grant that is lost, or two grants of one seat.
Shown by ``tests/test_server_replies.py::test_nothing_leaves_before_its_commit``.

Rule 15: *no answer renews unless a peer acknowledged, in this term, a round sent or an entry
appended after that heartbeat or request arrived.* Otherwise a master that the others have long
replaced would go on renewing leases whose seats the new one gives away. A grant, a checkin or an
opened session renews because its own entry was appended after the message came and its commit takes
a peer's acknowledgement in this term; a heartbeat and a resume wait for their round; everything else
says ``renews = False``. Shown by ``tests/test_server_replies.py::test_heartbeat_waits_for_its_round``.

Indexes and rounds never decrease while a reign lasts, so both lines are queues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import NamedTuple

from flexcore.wire.messages import ServerMessage

_new = tuple.__new__  # a third of the time of a NamedTuple's own constructor


class Held(NamedTuple):
    """One answer (None: only log lines) for a connection, with what has to happen before."""

    number: int
    round: int
    entry: int
    conn: int
    message: ServerMessage | None
    log: tuple[str, ...]


class HeldReplies:
    """The two queues of one reign."""

    def __init__(self) -> None:
        self._for_commit: deque[Held] = deque()
        self._for_round: deque[Held] = deque()
        self._number = 0

    def __len__(self) -> int:
        return len(self._for_commit) + len(self._for_round)

    def until_commit(
        self, index: int, conn: int, message: ServerMessage | None, log: tuple[str, ...] = ()
    ) -> None:
        """Hold *message* until the entry *index* is committed."""
        self._number += 1
        self._for_commit.append(_new(Held, (self._number, 0, index, conn, message, log)))

    def until_round(self, round_: int, index: int, conn: int, message: ServerMessage) -> None:
        """Hold *message* until *round_* is confirmed and the entry *index* is committed."""
        self._number += 1
        self._for_round.append(Held(self._number, round_, index, conn, message, ()))

    def release(self, *, commit: int, confirmed_round: int) -> list[Held]:
        """Take what may leave, in the order of the questions."""
        free: list[Held] = []
        line = self._for_commit
        while line and line[0].entry <= commit:
            free.append(line.popleft())
        line = self._for_round
        if line and line[0].round <= confirmed_round and line[0].entry <= commit:
            while line and line[0].round <= confirmed_round and line[0].entry <= commit:
                free.append(line.popleft())
            free.sort(key=_number)
        return free

    def clear(self) -> None:
        """The reign is over: nothing of it is told any more."""
        self._for_commit.clear()
        self._for_round.clear()

    def copy(self) -> HeldReplies:
        """Return a twin."""
        twin = HeldReplies()
        twin._number = self._number
        twin._for_commit, twin._for_round = self._for_commit.copy(), self._for_round.copy()
        return twin

    def fingerprint(self) -> Hashable:
        """Return what decides its future."""
        return (
            tuple(held[1:] for held in self._for_commit),
            tuple(held[1:] for held in self._for_round),
        )


def _number(held: Held) -> int:
    return held.number
