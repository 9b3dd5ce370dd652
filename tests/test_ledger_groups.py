"""Seats that share a licence: what a group takes of a pool is its largest seat, on every server alike."""

from __future__ import annotations

import pytest

from flexcore.ledger import Ledger, LedgerCorrupt
from flexcore.ledger.commands import Command, SeatGranted, SeatReturned, SessionEnded, Share
from flexcore.wire.codec import encode_command
from tests.ledger_logs import opened, session_id

ANN = (Share("p", "ann"),)


class Log:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.number = 0
        for number in (1, 2):
            self.append(opened(number))

    def append(self, command: Command) -> None:
        self.ledger.append(1, 1.0, encode_command(command))

    def grant(
        self, count: int, shares: tuple[Share, ...] = ANN, pool: str = "p", who: int = 1
    ) -> int:
        self.number += 1
        handle = self.ledger.state.next_handle
        self.append(
            SeatGranted(session_id(who), self.number, 0, handle, "f", pool, "1", count, shares)
        )
        return handle

    def give_back(self, handle: int, who: int = 1) -> None:
        self.append(SeatReturned(session_id(who), 0, 0, handle, "taken"))

    def used(self, pool: str = "p") -> tuple[int, int]:
        state = self.ledger.state
        return state.in_use[pool], state.freed_uncommitted(pool)


def test_a_group_takes_what_its_largest_seat_holds() -> None:
    log = Log()
    first, large = log.grant(1), log.grant(5)
    log.grant(2)
    assert log.used() == (5, 0)
    assert log.ledger.state.extra("p", "ann", 5) == 0
    assert log.ledger.state.extra("p", "ann", 7) == 2
    assert log.ledger.state.extra("p", "bob", 7) == 7
    log.give_back(first)
    assert log.used() == (5, 0)
    log.give_back(large)
    assert log.used() == (2, 3)
    log.ledger.commit_to(log.ledger.last.index)
    assert log.used() == (2, 0)


def test_a_suite_is_counted_once_for_its_components() -> None:
    log = Log()
    for pool in ("draw", "print"):
        log.grant(1, (Share(pool, ""), Share("suite", "ann")), pool)
    log.grant(1, (Share("draw", ""), Share("suite", "bob")), "draw", who=2)
    assert [log.used(pool) for pool in ("draw", "print", "suite")] == [(2, 0), (1, 0), (2, 0)]
    log.append(SessionEnded(session_id(1), ""))
    assert [log.used(pool) for pool in ("draw", "print", "suite")] == [(1, 1), (0, 1), (1, 1)]


@pytest.mark.parametrize(
    "shares",
    [
        (Share("q", "ann"),),
        (Share("p", "ann"), Share("p", "bob")),
        (Share("p", ""), Share("q", ""), Share("r", "")),
    ],
)
def test_shares_that_make_no_sense_are_refused(shares: tuple[Share, ...]) -> None:
    log = Log()
    with pytest.raises(LedgerCorrupt):
        log.grant(1, shares)
    assert log.used() == (0, 0)
