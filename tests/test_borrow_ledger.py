"""Borrowed seats in the ledger: who holds them, until when, and what a failover and a snapshot keep."""

from __future__ import annotations

import pytest

from flexcore.ledger import Ledger, LedgerCorrupt
from flexcore.ledger.commands import (
    BorrowEnded,
    Command,
    SeatBorrowed,
    SeatGranted,
    SessionEnded,
)
from flexcore.wire.codec import encode_command
from tests.ledger_logs import opened, session_id

ANN, BOB, BORROW = session_id(1), session_id(2), session_id(99)
GRANT = SeatGranted(ANN, 1, 0, 1, "f1", "f1|1.0", "1.0", 2)
LENT = SeatBorrowed(ANN, 2, 1, 1, BORROW, b"s" * 16, 5000.0, ("ether=1",))


def ledger_of(*commands: Command) -> Ledger:
    ledger = Ledger()
    for number, command in enumerate(commands, 1):
        ledger.append(1, float(number), encode_command(command))
    return ledger


def test_the_end_of_the_session_does_not_free_a_borrowed_seat() -> None:
    ledger = ledger_of(opened(1), GRANT, LENT, SessionEnded(ANN, "goodbye"))
    state = ledger.state
    assert ANN not in state.sessions
    assert state.in_use["f1|1.0"] == 2
    assert state.borrows == {BORROW: 5000.0}
    borrow = state.sessions[BORROW]
    assert (borrow.user, borrow.host, borrow.hostids) == ("user1", "host", ("ether=1",))
    assert [seat.handle for seat in state.seats_of(BORROW)] == [1]
    assert [seat.session for seat in state.seats_page("f1|1.0")] == [BORROW]


def test_time_alone_ends_nothing_and_an_entry_does() -> None:
    ledger = ledger_of(opened(1), GRANT, LENT)
    ledger.append(1, 9e9, encode_command(opened(2)))  # stamped long after the end
    assert ledger.state.in_use["f1|1.0"] == 2
    ledger.commit_to(4)
    ledger.append(1, 9e9, encode_command(BorrowEnded(BORROW, "over")))
    assert ledger.state.in_use["f1|1.0"] == 0
    assert ledger.state.freed_uncommitted("f1|1.0") == 2  # rule 14: for others at commit
    assert BORROW not in ledger.state.sessions
    ledger.commit_to(5)
    assert ledger.state.available("f1|1.0", 2) == 2


def test_a_snapshot_and_a_restart_keep_it() -> None:
    ledger = ledger_of(opened(1), GRANT, LENT, SessionEnded(ANN, ""))
    ledger.commit_to(4)
    again = Ledger(ledger.make_snapshot())
    assert again.state.borrows == {BORROW: 5000.0}
    assert again.state.sessions[BORROW].secret == LENT.secret
    assert again.state.fingerprint() == ledger.state.fingerprint()
    again.append(2, 9.0, encode_command(BorrowEnded(BORROW, "")))
    assert again.state.in_use["f1|1.0"] == 0


@pytest.mark.parametrize("last", [LENT, BorrowEnded(BORROW, "")])
def test_what_another_master_overrules_is_taken_back(last: Command) -> None:
    before: list[Command] = [opened(1), GRANT]
    if isinstance(last, BorrowEnded):
        before.append(LENT)
    ledger = ledger_of(*before)
    was = ledger.state.fingerprint()
    ledger.append(1, 50.0, encode_command(last))
    assert ledger.state.fingerprint() != was
    ledger.truncate(len(before) + 1)
    assert ledger.state.fingerprint() == was
    assert ledger.state.seats_of(ANN if last is LENT else BORROW)[0].handle == 1
    assert ledger.state.borrows == ({} if last is LENT else {BORROW: 5000.0})


@pytest.mark.parametrize(
    "command",
    [
        LENT._replace(session=BOB),  # who does not hold it
        LENT._replace(handle=7),
        LENT._replace(borrow=ANN),  # an id that lives
        LENT._replace(until=0.0),
        LENT._replace(request=1),  # decided before
        BorrowEnded(ANN, ""),  # no borrow
        BorrowEnded(BORROW, ""),  # unknown
    ],
)
def test_nonsense_is_refused(command: Command) -> None:
    ledger = ledger_of(opened(1), opened(2), GRANT)
    with pytest.raises(LedgerCorrupt):
        ledger.append(1, 9.0, encode_command(command))
    assert not ledger.state.borrows
