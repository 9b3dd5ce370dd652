"""When a session's seats may be given to others, because nobody can believe in them any more.

Protocol.md rule 15: *a holder is freed not before max(winning + L' + TO, last heard + L')*, where
heard is the receipt of any message of that session, L' its lease stretched by the clocks' rate
error, and *winning* the moment this master's reign began. A new master does not know when its
predecessor last renewed whom, so everybody gets a full lease from the winning, and TO more because a
predecessor's last renewal may have been confirmed as late as that. Without the maximum the belt is
off for whoever was heard once: a message that was under way for long would shorten the wait.
Shown by ``tests/test_server_sessions.py::test_freed_only_after_both_waits``.

Rule 16: *a closed connection is not a dead client.* An orderly end of stream frees after a grace of
two seconds, only of sessions whose end of stream is trusted, and only if the session spoke to this
master in this reign on that connection and lives on no other. A reset or a close by the server waits
for the lease. Shown by ``tests/test_server_sessions.py::test_end_of_stream_frees_after_the_grace``
and its neighbours.

Nothing of this is in the ledger (rule 15: renewals are no entries); it begins anew with each reign.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING

from flexcore import timing

if TYPE_CHECKING:
    from flexcore.ledger import Session

LEASE_OVER = "LEASE EXPIRED"
CLIENT_GONE = "CLIENT EXITED"
"""Reasons of SessionEnded entries; the log shows them behind IN (observed-formats D3)."""


class SessionLeases:
    """The leases of one reign. Instants are on the caller's monotonic clock."""

    def __init__(self) -> None:
        self._spared_until = 0.0
        self._timeout_s = 0.0
        self._heard: dict[bytes, float] = {}
        self._due: list[tuple[float, bytes]] = []
        self._grace: dict[bytes, float] = {}

    def start(self, sessions: Iterable[Session], *, won_at: float, timeout_s: float) -> None:
        """Begin a reign: nobody has been heard yet."""
        self.stop()
        self._spared_until = won_at + timeout_s
        self._timeout_s = timeout_s
        self._due = [(self._free_at(session), session.session) for session in sessions
                     if not session.borrowed_until]  # fmt: skip
        heapq.heapify(self._due)

    def stop(self) -> None:
        """End the reign: nothing is known any more."""
        self._heard.clear()
        self._due = []
        self._grace.clear()

    def add(self, session: Session, now: float) -> None:
        """A session was opened at *now*."""
        self._heard[session.session] = now
        heapq.heappush(self._due, (self._free_at(session), session.session))

    def hear(self, session: bytes, now: float) -> None:
        """A message of *session* was received at *now*; it is alive, so no grace runs."""
        if now > self._heard.get(session, -1.0):
            self._heard[session] = now
        if self._grace:
            self._grace.pop(session, None)

    def forget(self, session: bytes) -> None:
        """The session is over."""
        self._heard.pop(session, None)
        self._grace.pop(session, None)

    def end_of_stream(self, session: bytes, now: float) -> None:
        """The last connection of *session* ended in order; the caller has checked rule 16."""
        self._grace.pop(session, None)
        self._grace[session] = now + timing.END_OF_STREAM_GRACE_S

    def next_due(self, sessions: Mapping[bytes, Session]) -> float | None:
        """Return when :meth:`pop_due` has something to say next, None if never."""
        self._settle(sessions)
        due = self._due[0][0] if self._due else None
        if self._grace:
            first = next(iter(self._grace.values()))
            due = first if due is None else min(due, first)
        return due

    def pop_due(
        self, sessions: Mapping[bytes, Session], now: float, limit: int
    ) -> list[tuple[bytes, str]]:
        """Take the sessions, at most *limit*, that are over at *now*, each with the reason."""
        over: list[tuple[bytes, str]] = []
        while self._grace and len(over) < limit:
            session, due = next(iter(self._grace.items()))
            if now < due:
                break
            del self._grace[session]
            if session in sessions:
                over.append((session, CLIENT_GONE))
        taken = {session for session, _ in over}
        while len(over) < limit:
            self._settle(sessions)
            if not self._due or now < self._due[0][0]:
                break
            session = heapq.heappop(self._due)[1]
            if session not in taken:
                over.append((session, LEASE_OVER))
        return over

    def _free_at(self, session: Session) -> float:
        lease = timing.stretched_s(session.lease_s)
        heard = self._heard.get(session.session)
        spared = self._spared_until + lease
        return spared if heard is None else max(spared, heard + lease)

    def _settle(self, sessions: Mapping[bytes, Session]) -> None:
        """Make the top of the heap true: entries are put right only when their turn comes."""
        due = self._due
        while due:
            at, name = due[0]
            session = sessions.get(name)
            if session is None:
                heapq.heappop(due)
                continue
            real = self._free_at(session)
            if real <= at:
                return
            heapq.heapreplace(due, (real, name))

    def copy(self) -> SessionLeases:
        """Return a twin."""
        twin = SessionLeases()
        twin._spared_until, twin._timeout_s = self._spared_until, self._timeout_s
        twin._heard, twin._due = dict(self._heard), list(self._due)
        twin._grace = dict(self._grace)
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what decides its future, times relative to *now*."""
        return (
            self._spared_until - now,
            tuple(sorted((name, at - now) for name, at in self._heard.items())),
            tuple((name, at - now) for name, at in self._grace.items()),
        )
