"""protocol.md section 5, the rows that the server owns: a rule taken out makes the test that shows it fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flexcore import timing
from flexcore.checkout.machine import CheckoutMachine
from flexcore.ledger import LedgerState
from flexcore.server.desk import ClientDesk
from flexcore.server.leases import SessionLeases
from flexcore.server.node import ServerNode
from flexcore.server.replies import HeldReplies
from flexcore.server.waiting import WaitingRoom
from tests import (
    test_checkout_machine,
    test_server_replies,
    test_server_serving,
    test_server_sessions,
)

RELEASE = HeldReplies.release
HOLD_FOR_ROUND = ClientDesk._hold_for_round
HOLD = ClientDesk._hold
CONNECTION_ENDED = ClientDesk.connection_ended
STOP_SERVING = ServerNode._stop_serving
SEEN_BEFORE = CheckoutMachine._seen_before


def answers_leave_at_once(self: HeldReplies, *, commit: int, confirmed_round: int) -> Any:
    return RELEASE(self, commit=1 << 60, confirmed_round=confirmed_round)


def no_round(self: HeldReplies, *, commit: int, confirmed_round: int) -> Any:
    return RELEASE(self, commit=commit, confirmed_round=1 << 60)


def everything_renews(self: ClientDesk, conn: Any, message: Any, *rest: Any, **more: Any) -> None:
    if hasattr(message, "renews"):
        message = message._replace(renews=True)
    HOLD(self, conn, message, *rest, **more)


def freed_is_free(self: LedgerState, pool: str, count: int) -> int:
    return count - self.in_use[pool]


def last_heard_is_all(self: SessionLeases, session: Any) -> float:
    lease = timing.stretched_s(session.lease_s)
    heard = self._heard.get(session.session)
    return self._spared_until + lease if heard is None else heard + lease


def winning_is_all(self: SessionLeases, session: Any) -> float:
    return self._spared_until + timing.stretched_s(session.lease_s)


def every_end_is_an_end_of_stream(self: ClientDesk, conn: Any, *, orderly: bool, now: float) -> None:
    CONNECTION_ENDED(self, conn, orderly=True, now=now)


def connections_outlive_reigns(self: ServerNode, successor: Any = None) -> None:
    bound = {conn: each.session for conn, each in self._connections.items()}
    STOP_SERVING(self, successor)
    for conn, session in bound.items():
        self._connections[conn].session = session
        if session is not None:
            self._desk._speaks_on[session] = conn


def start_knows_connections(self: ClientDesk, term: int, *, now: float) -> None:
    speaks_on = dict(self._speaks_on)
    START(self, term, now=now)
    self._speaks_on = speaks_on


START = ClientDesk.start


def old_numbers_are_new(self: CheckoutMachine, session: Any, number: int) -> Any:
    result = SEEN_BEFORE(self, session, number)
    return None if getattr(result, "detail", "").endswith("answered before") else result


def nothing_is_a_repeat(self: CheckoutMachine, session: Any, number: int) -> Any:
    return None


def never_kept(self: WaitingRoom, connection: Any, message: Any, now: float) -> None:
    self.redirect(connection.conn, message.seq)


MUTANTS: dict[str, tuple[list[tuple[type, str, Any]], Callable[[], None]]] = {
    "5 answers before the term's first entry": (
        [(ServerNode, "_must_wait", lambda self, connection, kind: False)],
        test_server_serving.test_without_a_quorum_the_answer_is_at_once,
    ),
    "10 requests are turned away during a hand-over": (
        [(WaitingRoom, "keep_or_redirect", never_kept)],
        test_server_serving.test_nothing_is_decided_while_handing_over,
    ),
    "14 answers leave before their commit": (
        [(HeldReplies, "release", answers_leave_at_once)],
        test_server_replies.test_nothing_leaves_before_its_commit,
    ),
    "14 a freed seat is re-used before the commit": (
        [(LedgerState, "available", freed_is_free)],
        test_checkout_machine.test_freed_seat_waits_for_commit,
    ),
    "15 renewals without a round": (
        [(HeldReplies, "release", no_round)],
        test_server_replies.test_heartbeat_waits_for_its_round,
    ),
    "15 denials and repeats renew": (
        [(ClientDesk, "_hold", everything_renews)],
        test_server_serving.test_repeat_is_the_same_checkout,
    ),
    "15 only the last hearing counts": (
        [(SessionLeases, "_free_at", last_heard_is_all)],
        test_server_sessions.test_freed_only_after_both_waits,
    ),
    "15 only the winning counts": (
        [(SessionLeases, "_free_at", winning_is_all)],
        test_server_sessions.test_a_kept_message_was_heard_when_it_came,
    ),
    "16 a reset is an end of stream": (
        [(ClientDesk, "connection_ended", every_end_is_an_end_of_stream)],
        test_server_sessions.test_reset_waits_for_the_lease,
    ),
    "16 grace for a session that has not spoken to this master": (
        [
            (ServerNode, "_stop_serving", connections_outlive_reigns),
            (ClientDesk, "start", start_knows_connections),
        ],
        test_server_sessions.test_no_grace_in_a_reign_in_which_it_has_not_spoken,
    ),
    "17 numbers that were answered are decided again": (
        [(CheckoutMachine, "_seen_before", old_numbers_are_new)],
        test_checkout_machine.test_answered_number_is_refused,
    ),
    "17 a repeat is a new request": (
        [(CheckoutMachine, "_seen_before", nothing_is_a_repeat)],
        test_checkout_machine.test_repeat_is_the_same_checkout,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_rule_is_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patches, shown_by = MUTANTS[name]
    shown_by()
    for owner, attribute, replacement in patches:
        monkeypatch.setattr(owner, attribute, replacement)
    with pytest.raises((AssertionError, Exception)) as caught:
        shown_by()
    assert not isinstance(caught.value, (NameError, TypeError, AttributeError)), caught.value
