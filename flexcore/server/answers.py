"""What the desk says and writes, made from what was asked and decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.checkout.nodelock import kept_hostids
from flexcore.codes import minor_of, text_of
from flexcore.ledger.commands import SeatGranted, SeatReturned, SessionOpened
from flexcore.report.plain import word_of
from flexcore.wire.messages import (
    CheckedIn,
    Checkin,
    Checkout,
    Denied,
    Granted,
    OpenSession,
    ServerMessage,
    Withdraw,
    Withdrawn,
)

if TYPE_CHECKING:
    from flexcore.checkout.machine import Denial, Repeat

    from .config import ServerConfig

NAME_MAX = 128
SESSION_BYTES = 16
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 16, 64


def is_well_formed(message: OpenSession) -> bool:
    """Return whether the session's id and secret are as every client makes them."""
    secret_bytes = len(message.secret)
    return (
        len(message.session) == SESSION_BYTES
        and SECRET_BYTES_MIN <= secret_bytes <= SECRET_BYTES_MAX
    )


def opening_entry(message: OpenSession, config: ServerConfig, remote: str) -> SessionOpened:
    """Return the entry that opens a session; *remote* is from where it was opened."""
    return SessionOpened(
        message.session, message.secret, _name(message.user), _name(message.host),
        _name(message.display), word_of(message.project[:NAME_MAX]), message.pid,
        config.client_lease_s, message.trusted_end and config.trusted_end,
        kept_hostids(message.hostids), word_of(message.platform[:NAME_MAX]), remote[:NAME_MAX],
    )  # fmt: skip


def denied_answer(message: Checkout | Checkin | Withdraw, denial: Denial, term: int) -> Denied:
    """Return the no to *message*. It renews nothing (rule 15)."""
    code = int(denial.code)
    return Denied(message.seq, message.request, term, False, code, minor_of(code), text_of(code),
                  denial.detail)  # fmt: skip


def repeated_answer(
    message: Checkout | Checkin | Withdraw, verdict: Repeat, term: int, hostids: tuple[str, ...]
) -> ServerMessage | None:
    """Return the answer that a request had the first time, None if it was another request then."""
    command = verdict.command
    if type(command) is SeatGranted and type(message) is Checkout:
        return Granted(
            message.seq, command.request, term, False, command.handle, command.feature,
            command.version, command.count, verdict.stamp, verdict.proof, hostids,
        )  # fmt: skip
    if type(command) is SeatReturned and type(message) is Checkin:
        return CheckedIn(message.seq, command.request, term, False, command.handle)
    if type(message) is Withdraw:
        return Withdrawn(message.seq, message.request, term, False, message.target)
    return None


def _name(text: str) -> str:
    """Make a user's, host's or display's name fit for logs and lmstat: never empty, no blanks."""
    return "_".join(word_of(text[:NAME_MAX]).split()) or "unknown"
