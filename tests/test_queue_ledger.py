"""The queue in the ledger: places, numbers, what a failover and a snapshot keep."""

from __future__ import annotations

import pytest

from flexcore.ledger import Ledger, LedgerCorrupt, LedgerState
from flexcore.ledger.commands import (
    Command,
    RequestQueued,
    RequestUnqueued,
    RequestWithdrawn,
    SeatGranted,
    SeatReturned,
    SessionEnded,
)
from flexcore.wire.codec import encode_command
from tests.ledger_logs import opened, session_id

ANN, BOB = session_id(1), session_id(2)


def ledger_of(*commands: Command) -> Ledger:
    ledger = Ledger()
    for number, command in enumerate(commands, 1):
        ledger.append(1, float(number), encode_command(command))
    return ledger


def queued(session: bytes, request: int, answered: int = 0, count: int = 1) -> RequestQueued:
    return RequestQueued(session, request, answered, "f1", "", count)


def granted(session: bytes, request: int, handle: int) -> SeatGranted:
    return SeatGranted(session, request, 0, handle, "f1", "f1|1.0", "1.0", 1)


def places(state: LedgerState) -> list[tuple[int, bytes, int]]:
    return [(each.place, each.session, each.request) for each in state.queue.of("f1")]


def test_the_place_is_the_entry_and_survives_snapshot_and_restart() -> None:
    ledger = ledger_of(opened(1), opened(2), queued(BOB, 1), queued(ANN, 1), queued(BOB, 2))
    want = [(3, BOB, 1), (4, ANN, 1), (5, BOB, 2)]
    assert places(ledger.state) == want
    ledger.commit_to(5)
    again = Ledger(ledger.make_snapshot())
    assert places(again.state) == want
    assert again.state.fingerprint() == ledger.state.fingerprint()
    assert next(again.state.queue.of("f1")).since == 3.0


def test_a_wait_ends_in_a_seat_a_no_a_withdrawal_or_with_the_session() -> None:
    ledger = ledger_of(opened(1), opened(2), queued(ANN, 1), queued(ANN, 2), queued(BOB, 1),
                       queued(ANN, 3))  # fmt: skip
    for command, left in (
        (granted(ANN, 2, 1), [(3, ANN, 1), (5, BOB, 1), (6, ANN, 3)]),
        (RequestUnqueued(ANN, 1, "no such feature"), [(5, BOB, 1), (6, ANN, 3)]),
        (RequestWithdrawn(ANN, 4, 0, 3), [(5, BOB, 1)]),
        (SessionEnded(BOB, ""), []),
    ):
        ledger.append(1, 9.0, encode_command(command))
        assert places(ledger.state) == left
    assert not ledger.state.queue
    ledger.truncate(7)  # all four are undone: everybody has the old place
    assert places(ledger.state) == [(3, ANN, 1), (4, ANN, 2), (5, BOB, 1), (6, ANN, 3)]


def test_a_repeat_finds_the_seat_of_the_wait() -> None:
    """The client said that it knows of the queueing; the grant is found all the same."""
    ledger = ledger_of(opened(1), queued(ANN, 1), granted(ANN, 2, 1), granted(ANN, 1, 2),
                       RequestWithdrawn(ANN, 3, 2, 9))  # fmt: skip
    session = ledger.state.sessions[ANN]
    assert session.answered == 2
    seat = session.seat_of(1)
    assert seat is not None
    assert seat.handle == 2
    ledger.append(1, 9.0, encode_command(RequestWithdrawn(ANN, 4, 3, 1)))
    assert session.seat_of(1) is None
    ledger.truncate(6)
    assert session.seat_of(1) == seat


def test_nonsense_is_refused() -> None:
    ledger = ledger_of(opened(1), queued(ANN, 2), granted(ANN, 1, 1))
    for command in (
        queued(ANN, 2),
        queued(ANN, 3, count=0),
        queued(ANN, 1),
        queued(BOB, 1),
        RequestUnqueued(ANN, 1, ""),
        RequestUnqueued(BOB, 1, ""),
        SeatReturned(ANN, 2, 0, 1, ""),
    ):
        before = ledger.fingerprint()
        with pytest.raises(LedgerCorrupt):
            ledger.append(1, 9.0, encode_command(command))
        assert ledger.fingerprint() == before
