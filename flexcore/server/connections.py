"""The server's side of its connections: what each one is, and to which session it belongs."""

from __future__ import annotations

from collections.abc import Hashable

NEW, CLIENT, PEER = range(3)
"""A connection that has not said what it is; a client or utility; a link to another server."""


class ServerConnection:
    """One connection, accepted or dialled. Plain slots: there are ten thousands, and they change."""

    __slots__ = (
        "administrator",
        "ahead_s",
        "conn",
        "held",
        "kept",
        "kind",
        "local",
        "nonce",
        "quiet_since",
        "remote",
        "session",
        "shown_term",
    )  # fmt: skip

    def __init__(
        self, conn: int, kind: int, *, nonce: bytes, local: bool, remote: str, now: float,
        administrator: bool = True,
    ) -> None:  # fmt: skip
        self.conn = conn
        self.kind = kind
        self.nonce = nonce
        self.local = local
        self.administrator = administrator
        self.remote = remote
        self.session: bytes | None = None
        """The session that proved itself here *in this reign* (rule 16); unbound when it ends."""
        self.held = 0
        self.kept = 0
        self.quiet_since = now
        self.shown_term = 0
        """The highest term above this reign's that was shown here."""
        self.ahead_s = 0.0
        """How far the client's clock is ahead of this server's, as it said last; 0 where it does not say."""

    def greeted(self, its_wall: float, wall: float) -> None:
        """It said hello: a client or a utility, whose calendar clock shows *its_wall*, 0 where it does not say."""
        self.kind = CLIENT
        self.ahead_s = its_wall - wall if its_wall else 0.0

    def copy(self) -> ServerConnection:
        """Return a twin."""
        twin = ServerConnection(self.conn, self.kind, nonce=self.nonce, local=self.local,
                                remote=self.remote, now=self.quiet_since,
                                administrator=self.administrator)  # fmt: skip
        twin.session, twin.held, twin.kept = self.session, self.held, self.kept
        twin.shown_term, twin.ahead_s = self.shown_term, self.ahead_s
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what decides its future."""
        return (self.conn, self.kind, self.nonce, self.local, self.administrator, self.session, self.held, self.kept,
                self.quiet_since - now, self.shown_term, self.ahead_s)  # fmt: skip
