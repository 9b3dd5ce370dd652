"""Two rooms in which nobody may stay: messages that wait for a reign, and connections that say nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping

from .config import Limits
from .connections import CLIENT, NEW, ServerConnection
from .desk import DeskMessage


class WaitingRoom:
    """Messages that came before this server served, or during a hand-over (rules 5 and 10)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: deque[tuple[float, int, DeskMessage]] = deque()

    def keep(self, connection: ServerConnection, message: DeskMessage, now: float) -> bool:
        """Keep *message* if there is room for it."""
        limits = self._limits
        if connection.kept >= limits.kept_per_connection or len(self._kept) >= limits.kept:
            return False
        connection.kept += 1
        self._kept.append((now, connection.conn, message))
        return True

    def take(
        self, connections: Mapping[int, ServerConnection], until: float
    ) -> list[tuple[float, ServerConnection, DeskMessage]]:
        """Take what was kept at *until* or before, in order, as far as its connections live."""
        taken = []
        while self._kept and self._kept[0][0] <= until:
            at, conn, message = self._kept.popleft()
            connection = connections.get(conn)
            if connection is not None:
                connection.kept -= 1
                taken.append((at, connection, message))
        return taken

    def next_timeout(self) -> float | None:
        """Return when the first has waited long enough."""
        return self._kept[0][0] + self._limits.kept_s if self._kept else None

    def copy(self) -> WaitingRoom:
        """Return a twin."""
        twin = WaitingRoom(self._limits)
        twin._kept = self._kept.copy()
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what decides its future."""
        return tuple((at - now, conn, message) for at, conn, message in self._kept)


class SilenceWatch:
    """Closes connections that never say what they are, and clients without a session that fall silent."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._due: deque[tuple[float, int]] = deque()
        self._idle: deque[tuple[float, int]] = deque()
        self.strangers = 0
        """Connections that have not said what they are."""

    def accepted(self, conn: int, now: float) -> None:
        """A connection was accepted."""
        self.strangers += 1
        self._due.append((now + self._limits.hello_s, conn))

    def is_client(self, conn: int, now: float) -> None:
        """*conn* is a client's; it has no session yet."""
        self._idle.append((now + self._limits.idle_s, conn))

    def pop_silent(
        self, connections: Mapping[int, ServerConnection], now: float
    ) -> list[tuple[int, str]]:
        """Take the connections to close, each with what to tell it."""
        silent = []
        while self._due and self._due[0][0] <= now:
            conn = self._due.popleft()[1]
            connection = connections.get(conn)
            if connection is not None and connection.kind == NEW:
                silent.append((conn, "nothing was said"))
        while self._idle and self._idle[0][0] <= now:
            conn = self._idle.popleft()[1]
            connection = connections.get(conn)
            if connection is None or connection.kind != CLIENT:
                continue
            if connection.session is None and connection.quiet_since + self._limits.idle_s <= now:
                silent.append((conn, "silent for too long"))
            else:
                self.is_client(conn, now)
        return silent

    def next_timeout(self) -> float | None:
        """Return when to look again."""
        return min((line[0][0] for line in (self._due, self._idle) if line), default=None)

    def copy(self) -> SilenceWatch:
        """Return a twin."""
        twin = SilenceWatch(self._limits)
        twin._due, twin._idle, twin.strangers = self._due.copy(), self._idle.copy(), self.strangers
        return twin
