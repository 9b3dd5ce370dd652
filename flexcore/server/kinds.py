"""Kinds of client messages, by what a server needs before it attends to one."""

from __future__ import annotations

from flexcore.wire.messages import (
    Checkin,
    Checkout,
    Goodbye,
    Heartbeat,
    OpenSession,
    ResumeSession,
    Withdraw,
)

NEEDS_SESSION = frozenset({Checkout, Checkin, Withdraw, Heartbeat, Goodbye})
DECIDES = frozenset({Checkout, Checkin, Withdraw, OpenSession, Goodbye})
"""What appends entries: during a hand-over the log has to come to rest (rule 10)."""
SHOWS_TERM = NEEDS_SESSION | frozenset({OpenSession, ResumeSession})
