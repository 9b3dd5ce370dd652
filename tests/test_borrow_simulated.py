"""What is borrowed stays borrowed in a triad: through failovers, restarts of all three and clocks that leap
(protocol.md rule 18, invariant I9)."""

from __future__ import annotations

import pytest

from flexcore.client import SeatBorrowed
from flexcore.record import replace
from flexcore.server.borrowing import BORROW_SLACK_S
from flexcore_testing import Triad

HOUR = 3600.0
LICENSE = """\
SERVER pat id=1 2837
SERVER lee id=2 2837
SERVER terry id=3 2837
VENDOR demo
HEARTBEAT_INTERVAL=1
FEATURE f1 demo 1.0 permanent 2 BORROW=48
"""
IDENT, SECRET = b"b" * 16, b"s" * 32
SERVERS = ("primary", "secondary", "tertiary")


def lent(hours: float = 2.0) -> tuple[Triad, float]:
    """A triad of which one of two seats is borrowed, by somebody who has gone; and its end."""
    triad = Triad(LICENSE)
    ann = triad.client("ann")
    run = ann._run
    for site in run.node._sites:
        site.config = replace(site.config, hostids=("ether=00163e111111",))
    seat = ann.checkout("f1")
    until = run.wall() + hours * HOUR
    request = run.borrow(seat.handle, until, IDENT, SECRET)
    triad.advance_until(lambda: request in run.lent, within_s=5.0)
    said = run.lent[request]
    assert isinstance(said, SeatBorrowed)
    assert said.until == until
    ann.close()
    triad.advance(1.0)
    return triad, until


def test_it_outlives_failovers_and_a_restart_of_all_three() -> None:
    triad, _ = lent()
    master = triad.master
    assert master is not None
    triad.crash(master)
    triad.wait_for_master()
    assert triad.in_use("f1") == 1
    for server in SERVERS:
        if server != master:
            triad.crash(server)
    for server in SERVERS:
        triad.start(server)
    triad.wait_for_master(60.0)
    assert triad.in_use("f1") == 1
    triad.advance(2 * HOUR - 120.0)
    assert triad.in_use("f1") == 1
    triad.advance(BORROW_SLACK_S + 180.0)
    assert triad.in_use("f1") == 0
    triad.client("bob").checkout("f1", count=2)
    triad.check()


def test_a_failover_at_its_end_gives_it_back_once() -> None:
    triad, _ = lent()
    triad.advance(2 * HOUR + BORROW_SLACK_S - 5.0)
    master = triad.master
    assert master is not None
    triad.crash(master)
    triad.wait_for_master()
    triad.advance(60.0)
    assert triad.in_use("f1") == 0
    assert "BORROW EXPIRED" in "".join(triad.log(server) for server in ("primary", "secondary"))


def one_clock_frees_nothing() -> None:
    """The master's clock leaps a week ahead: nothing is freed, nor when it fails and comes back."""
    triad, _ = lent()
    master = triad.master
    assert master is not None
    triad.jump_wall_clock(master, 7 * 24 * HOUR)
    triad.advance(60.0)
    assert triad.in_use("f1") == 1, "one clock freed it"
    triad.crash("tertiary")  # two are left: the earlier counts
    triad.advance(60.0)
    assert triad.in_use("f1") == 1, "one clock of two freed it"


def test_one_clock_frees_nothing() -> None:
    one_clock_frees_nothing()


def test_one_clock_that_is_set_back_keeps_nothing() -> None:
    triad, _ = lent()
    master = triad.master
    assert master is not None
    triad.jump_wall_clock(master, -7 * 24 * HOUR)
    triad.advance(2 * HOUR + BORROW_SLACK_S + 60.0)
    assert triad.in_use("f1") == 0


def test_two_clocks_that_agree_are_right() -> None:
    triad, _ = lent()
    for server in SERVERS[:2]:
        triad.jump_wall_clock(server, 3 * HOUR)
    triad.advance(60.0)
    assert triad.in_use("f1") == 0


def test_the_mutation_one_clock_decides_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """protocol.md section 5, rule 18: without the middle of the clocks the test above fails."""
    from flexcore.server import borrowing

    monkeypatch.setattr(borrowing, "middle_clock_gap", lambda quorum: quorum.clock_gap)
    monkeypatch.setattr(borrowing, "middle_wall", lambda quorum: quorum.wall)
    with pytest.raises(AssertionError, match="one clock freed it"):
        one_clock_frees_nothing()
