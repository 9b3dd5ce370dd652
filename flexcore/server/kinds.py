"""Kinds of client messages, by what a server needs before it attends to one."""

from __future__ import annotations

from flexcore.wire.messages import (
    CanCheckOut,
    Checkin,
    Checkout,
    Goodbye,
    Heartbeat,
    OpenSession,
    ResumeSession,
    StatusRequest,
    Withdraw,
)

NEEDS_SESSION = frozenset({Checkout, Checkin, Withdraw, Heartbeat, Goodbye})
DECIDES = frozenset({Checkout, Checkin, Withdraw, OpenSession, Goodbye})
"""What appends entries: during a hand-over the log has to come to rest (rule 10)."""
SHOWS_TERM = NEEDS_SESSION | frozenset({OpenSession, ResumeSession})
ASKS = frozenset({StatusRequest, CanCheckOut})
"""What is answered out of the master's state, and changes nothing."""
