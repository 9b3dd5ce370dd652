"""Two rooms in which nobody may stay: messages that wait for a reign, and connections that say nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping

from flexcore.identity import Rank
from flexcore.quorum import QuorumMachine
from flexcore.wire.messages import NotServing

from .config import Limits, ServerConfig
from .connections import CLIENT, NEW, ServerConnection
from .desk import DeskMessage
from .outbox import Outbox

_KEPT_STATES = frozenset({"candidate", "serving", "stopping"})
"""States of a server that may serve in a moment, or know in a moment who does."""


class WaitingRoom:
    """What came before this server served, or during a hand-over (rules 5 and 10): kept or redirected."""

    def __init__(
        self, config: ServerConfig, quorum: QuorumMachine, outbox: Outbox,
        connections: Mapping[int, ServerConnection],
    ) -> None:  # fmt: skip
        self._config = config
        self._quorum = quorum
        self._outbox = outbox
        self._connections = connections
        self._kept: deque[tuple[float, int, DeskMessage]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._kept

    def keep_or_redirect(
        self, connection: ServerConnection, message: DeskMessage, now: float
    ) -> None:
        """Keep *message* where this server may soon serve or know who does, else say who serves."""
        said = self._quorum.report()
        limits = self._config.limits
        if (
            said.state not in _KEPT_STATES
            or self._serves_elsewhere(said.master)
            or connection.kept >= limits.kept_per_connection
            or len(self._kept) >= limits.kept
        ):
            self.redirect(connection.conn, message.seq)
            return
        connection.kept += 1
        self._kept.append((now, connection.conn, message))

    def redirect(
        self, conn: int, seq: int, reason: str = "", successor: Rank | None = None
    ) -> None:
        """Say on *conn* that this server does not serve, why, and who does."""
        said = self._quorum.report()
        rank = successor if successor is not None else said.master
        servers = self._config.servers
        master = servers[rank] if rank is not None and rank < len(servers) else None
        self._outbox.send(
            conn, NotServing(seq, said.term, reason or said.reason, said.until_s, master)
        )

    def redirect_late(self, now: float) -> None:
        """Redirect what has waited long enough."""
        for _, connection, message in self._take(now, self._config.limits.kept_s):
            self.redirect(connection.conn, message.seq)

    def redirect_if_elsewhere(self, now: float) -> None:
        """Redirect everything if another server is known to serve."""
        if self._serves_elsewhere(self._quorum.report().master):
            for _, connection, message in self.take(now):
                self.redirect(connection.conn, message.seq)

    def _serves_elsewhere(self, master: Rank | None) -> bool:
        return master is not None and master != self._config.rank

    def take(self, now: float) -> list[tuple[float, ServerConnection, DeskMessage]]:
        """Take everything, each with the time of its receipt, as far as the connections live."""
        return self._take(now, 0.0)

    def _take(
        self, now: float, waited_s: float
    ) -> list[tuple[float, ServerConnection, DeskMessage]]:
        taken = []
        while self._kept and self._kept[0][0] + waited_s <= now:
            at, conn, message = self._kept.popleft()
            connection = self._connections.get(conn)
            if connection is not None:
                connection.kept -= 1
                taken.append((at, connection, message))
        return taken

    def next_timeout(self) -> float | None:
        """Return when the first has waited long enough."""
        return self._kept[0][0] + self._config.limits.kept_s if self._kept else None

    def copy(
        self, quorum: QuorumMachine, outbox: Outbox, connections: Mapping[int, ServerConnection]
    ) -> WaitingRoom:
        """Return a twin that works with the twins of its surroundings."""
        twin = WaitingRoom(self._config, quorum, outbox, connections)
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
        if self._due and self._idle:
            return min(self._due[0][0], self._idle[0][0])
        line = self._due or self._idle
        return line[0][0] if line else None

    def copy(self) -> SilenceWatch:
        """Return a twin."""
        twin = SilenceWatch(self._limits)
        twin._due, twin._idle, twin.strangers = self._due.copy(), self._idle.copy(), self.strangers
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what decides its future."""
        return tuple(tuple((due - now, conn) for due, conn in line) for line in (self._due, self._idle))
