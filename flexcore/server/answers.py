"""What the desk says and writes, made from what was asked and decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.checkout.nodelock import kept_hostids
from flexcore.codes import ErrorCode, minor_of, text_of
from flexcore.ledger.commands import LingerResumed, SeatGranted, SeatReturned, SessionOpened
from flexcore.report.logline import dequeued_line
from flexcore.report.plain import line_of, word_of
from flexcore.wire.messages import (
    AdminRequest,
    Borrow,
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
    from flexcore.ledger.sessions import Queued, Session
    from flexcore.ledger.state import LedgerState
    from flexcore.options import OptionsFile

    from .config import ServerConfig

NAME_MAX = 128
REQUEST_MAX = 1 << 53
SESSION_BYTES = 16
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 16, 64

_new = tuple.__new__  # a third of the time of a NamedTuple's own constructor


def asker_of(message: AdminRequest) -> str:
    """Return who asks, by his own word, as logs and other servers are told: part of one line."""
    return f"{line_of(message.user[:64])}@{line_of(message.host[:64])}"


class ProtocolMistake(Exception):
    """The client sent what no correct one sends at this place."""

    code = ErrorCode.BAD_DATA_FROM_SERVER


class Crowded(ProtocolMistake):
    """No mistake, but the same end: as many applications are here as MAX_CONNECTIONS lets in."""

    code = ErrorCode.OUT_OF_CONNECTIONS


def check_crowd(options: OptionsFile | None, state: LedgerState) -> None:
    """Raise Crowded if no session more may be opened.

    Sessions are counted, which every master knows alike, and not the connections that it happens to have: after a
    failover newcomers must not stand in the way of those whose sessions go on.
    """
    most = None if options is None else options.connections_max
    if most is not None:
        here = len(state.sessions) - len(state.borrows)
        if here >= int(most.value):
            assert options is not None
            text = text_of(ErrorCode.OUT_OF_CONNECTIONS)
            raise Crowded(f"{text}: {here} are open, {options.where(most)}")


def check_number(message: Checkout | Checkin | Withdraw | Borrow) -> None:
    """Raise ProtocolMistake unless the request has a number that a client gives."""
    if not message.answered < message.request <= REQUEST_MAX or message.answered < 0:
        raise ProtocolMistake("a request number that no client gives")


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


def denied_answer(
    message: Checkout | Checkin | Withdraw | Borrow, denial: Denial, term: int
) -> Denied:
    """Return the no to *message*. It renews nothing (rule 15)."""
    code = int(denial.code)
    return Denied(message.seq, message.request, term, False, code, minor_of(code), text_of(code),
                  denial.detail)  # fmt: skip


def granted_answer(
    seq: int, term: int, renews: bool, command: SeatGranted | LingerResumed, started: float,
    proof: str, hostids: tuple[str, ...],
) -> Granted:  # fmt: skip
    """Return the answer to the request that *command* grants."""
    _, request, _, handle, feature, _, version, count, *_ = command
    return _new(Granted, (seq, request, term, renews, handle, feature, version, count, started, proof, hostids))


def repeated_answer(
    message: Checkout | Checkin | Withdraw, verdict: Repeat, term: int, hostids: tuple[str, ...]
) -> ServerMessage | None:
    """Return the answer that a request had the first time, None if it was another request then."""
    command = verdict.command
    if type(command) is SeatGranted and type(message) is Checkout:
        return granted_answer(
            message.seq, term, False, command, verdict.stamp, verdict.proof, hostids
        )
    if type(command) is SeatReturned and type(message) is Checkin:
        return CheckedIn(message.seq, command.request, term, False, command.handle)
    if type(message) is Withdraw:
        return Withdrawn(message.seq, message.request, term, False, message.target)
    return None


def freed_answer(message: Checkin | Withdraw, term: int) -> ServerMessage:
    """Return the answer to a request that gave something back."""
    if type(message) is Checkin:
        return _new(CheckedIn, (message.seq, message.request, term, True, message.handle))
    assert type(message) is Withdraw
    return Withdrawn(message.seq, message.request, term, True, message.target)


def dequeued_lines(session: Session, *given_up: Queued | None) -> tuple[str, ...]:
    """Return the lines of requests that wait no more; without *given_up*, of all of *session*."""
    return tuple(
        dequeued_line(each.feature, session.user, session.host, each.count)
        for each in (given_up or session.queued.values())
        if each is not None
    )


def _name(text: str) -> str:
    """Make a user's, host's or display's name fit for logs and lmstat: never empty, no blanks."""
    return "_".join(word_of(text[:NAME_MAX]).split()) or "unknown"
