"""What lmdiag asks: could this be checked out, and how does a server stand with the others?

Looking, never touching. Whether a feature could be checked out is decided by the machine that decides
checkouts, with a session that is in no ledger: what it would append is thrown away, so that the
question takes no seat (``tests/test_lmdiag.py::test_the_question_takes_no_seat``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from flexcore.checkout.machine import CheckoutMachine, Denial, Grant, Verdict
from flexcore.checkout.nodelock import kept_hostids
from flexcore.codes import ErrorCode, minor_of, text_of
from flexcore.identity import NOBODY
from flexcore.ledger.sessions import Session
from flexcore.options.rules import format_options
from flexcore.report.plain import word_of
from flexcore.wire.messages import (
    CanCheckOut,
    Checkout,
    CheckoutAnswer,
    CheckoutAnswers,
    LinkDetails,
    ServerDetails,
    ServerReport,
    StatusPage,
    StatusReport,
    StatusRequest,
)

from .status import REPORT, status_page

if TYPE_CHECKING:
    from flexcore.ledger.state import LedgerState
    from flexcore.options import OptionsFile
    from flexcore.quorum import QuorumMachine
    from flexcore.quorum.links import Peer

    from .rereads import Rereads

Decide: TypeAlias = Callable[[Session, Checkout], Verdict]
"""The desk's verdict on a checkout: with the queue, what lines left behind and the clock."""

DETAILS = "details"
AT_ONCE = frozenset({REPORT, DETAILS})
"""What any server answers of itself (StatusRequest.what), whether it serves or not."""

ANSWERS_MAX = 100
"""Features that one CheckoutAnswers tells of."""

NAME_MAX = 128
DIGEST_DIGITS = 16


# --- of any server --------------------------------------------------------------------------------


def said_at_once(
    message: StatusRequest, report: ServerReport, quorum: QuorumMachine, rereads: Rereads
) -> StatusReport | ServerDetails:  # fmt: skip
    """Return the answer to a question of :data:`AT_ONCE`."""
    if message.what == REPORT:
        return StatusReport(message.seq, report)
    return _details(message.seq, report, quorum, rereads.options)


def _details(
    seq: int, report: ServerReport, quorum: QuorumMachine, options: OptionsFile | None
) -> ServerDetails:
    hard, ledger, now = quorum.hard, quorum.ledger, quorum.now
    promised = hard.promised_to
    left = None if promised is None else max(0.0, quorum.promise_until - now)
    writing = quorum.writing_since
    return ServerDetails(
        seq, report.rank, report.state, hard.term, hard.voted_for,
        NOBODY if promised is None else promised.rank, left, hard.counter, hard.member,
        quorum.has_state, _digits(hashlib.sha256(hard.triad_id).digest() if hard.triad_id else b""),
        _digits(quorum.config.membership_digest), _digits(quorum.rights_digest),
        _digits(ledger.state.rights), options_digest(options),
        options.name if options is not None else "", ledger.last.term, ledger.last.index,
        quorum.durable_index, ledger.commit, None if writing is None else now - writing,
        quorum.config.timeout_s, quorum.config.primary_is_master, quorum.wall,
        len(ledger.state.sessions), len(ledger.state.seats),
        tuple(_link(peer, quorum) for _, peer in sorted(quorum.peers.items())),
    )  # fmt: skip


def _link(peer: Peer, quorum: QuorumMachine) -> LinkDetails:
    now, hello = quorum.now, peer.hello
    clock = None if hello is None else hello.wall - (quorum.wall - (now - peer.hello_at))
    note = ("it runs twice" if peer.twice else "not of this triad" if peer.foreign
            else "its process is gone" if peer.gone else "")  # fmt: skip
    return LinkDetails(
        int(peer.rank), peer.rank in quorum.report().peers_up,
        None if peer.heard_at is None else now - peer.heard_at, peer.round_trip_s or None, clock,
        0 if peer.boot is None else peer.boot.counter, "" if hello is None else hello.software,
        "" if hello is None else _digits(hello.rights_digest), note,
    )  # fmt: skip


def options_digest(options: OptionsFile | None) -> str:
    """Return a name for the rules of an options file: equal ones have equal names whatever the
    comments and blanks; '' where there is none."""
    if options is None or not (options.name or options.rules):
        return ""
    return _digits(hashlib.sha256(format_options(options).encode("utf-8", "replace")).digest())


def _digits(digest: bytes) -> str:
    return digest.hex()[:DIGEST_DIGITS]


# --- of the master --------------------------------------------------------------------------------


def answer_question(
    message: StatusRequest | CanCheckOut, machine: CheckoutMachine, state: LedgerState,
    decide: Decide, *, remote: str, term: int, rank: int, day: int, wall: float,
) -> StatusPage | CheckoutAnswers | None:  # fmt: skip
    """Return the page that *message* asks for, None if it asks for nothing that exists."""
    if isinstance(message, StatusRequest):
        return status_page(message, machine, state, term=term, rank=rank, day=day, wall=wall)
    return can_check_out(message, machine, decide, remote=remote, term=term, rank=rank, day=day)


def can_check_out(
    message: CanCheckOut, machine: CheckoutMachine, decide: Decide,
    *, remote: str, term: int, rank: int, day: int,
) -> CheckoutAnswers | None:  # fmt: skip
    """Return the page of answers that *message* asks for, None if its cursor is none of ours."""
    if message.cursor and not (message.cursor.isascii() and message.cursor.isdigit()
                               and len(message.cursor) < 20):  # fmt: skip
        return None
    start = int(message.cursor or 0)
    names = [message.feature[:NAME_MAX]] if message.feature else list(_features(machine, day))
    chosen = names[start : start + ANSWERS_MAX]
    session = _imagined(message, remote)
    answers = tuple(
        _answer(name, message, session, machine, decide, day) for name in chosen
    )
    more = str(start + ANSWERS_MAX) if start + ANSWERS_MAX < len(names) else ""
    return CheckoutAnswers(message.seq, term, rank, answers, more)


def _features(machine: CheckoutMachine, day: int) -> dict[str, None]:
    """The features of the file in its order; those last of which no line is valid."""
    known = dict.fromkeys(pool.feature for pool in machine.rights.pools)
    known |= dict.fromkeys(machine.offers(day))
    return known | dict.fromkeys(bad.feature for bad in machine.rights.rejected if bad.is_error)


def _imagined(message: CanCheckOut, remote: str) -> Session:
    """Who asks, as a session that nobody opened."""
    return Session(
        b"", b"", _name(message.user), _name(message.host), _name(message.display),
        word_of(message.project[:NAME_MAX]), 0, 0.0, False, 0.0, 0,
        hostids=kept_hostids(message.hostids), platform=word_of(message.platform[:NAME_MAX]),
        address=remote[:NAME_MAX],
    )  # fmt: skip


def _answer(
    feature: str, message: CanCheckOut, session: Session, machine: CheckoutMachine,
    decide: Decide, day: int,
) -> CheckoutAnswer:  # fmt: skip
    request = Checkout(0, 1, 0, feature, message.version[:NAME_MAX], message.count, 0)
    verdict = decide(session, request)
    if isinstance(verdict, Grant):
        command = verdict.command
        expiry = next((offer.line.expiry_text for offer in machine.offers(day)[feature]
                       if offer.pool == command.pool), "")  # fmt: skip
        return CheckoutAnswer(feature, command.version, 0, 0, "", "", expiry)
    code, detail = int(ErrorCode.USERS_QUEUED), ""
    if isinstance(verdict, Denial):
        code, detail = int(verdict.code), verdict.detail
    if code == ErrorCode.NO_SUCH_FEATURE:
        bad = next((each for each in machine.rights.rejected
                    if each.feature == feature and each.is_error), None)  # fmt: skip
        if bad is not None:
            detail = f"the file has a line that gives no rights: {bad.why}"
    return CheckoutAnswer(feature, message.version, code, minor_of(code), text_of(code), detail)


def _name(text: str) -> str:
    return "_".join(word_of(text[:NAME_MAX]).split()) or "unknown"
