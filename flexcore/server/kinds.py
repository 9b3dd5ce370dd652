"""Kinds of client messages, by what a server needs before it attends to one."""

from __future__ import annotations

from flexcore.wire.messages import (
    Borrow,
    CanCheckOut,
    Checkin,
    Checkout,
    Goodbye,
    Heartbeat,
    OpenSession,
    ResumeSession,
    ReturnBorrow,
    StatusRequest,
    Withdraw,
)

NEEDS_SESSION = frozenset({Checkout, Checkin, Withdraw, Borrow, Heartbeat, Goodbye})
DECIDES = frozenset({Checkout, Checkin, Withdraw, OpenSession, Goodbye, Borrow, ReturnBorrow})
"""What appends entries: during a hand-over the log has to come to rest (rule 10)."""
SHOWS_TERM = NEEDS_SESSION | frozenset({OpenSession, ResumeSession, ReturnBorrow})
ASKS = frozenset({StatusRequest, CanCheckOut})
"""What is answered out of the master's state, and changes nothing."""
