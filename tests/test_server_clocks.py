"""A server's clock that was set back, and clocks of a triad that differ."""

from __future__ import annotations

from typing import Any

from flexcore.ledger.commands import TermStarted
from flexcore.server.clocks import CLOCK_BACK_S, CLOCKS_DIFFER_S
from flexcore.wire.messages import Denied, Granted, Hello
from tests.quorum_kit import P, S, T, formed
from tests.server_kit import DAY, WALL, Kit, line


def set_back(kit: Kit, behind_s: float) -> None:
    """Let the ledger have recorded something that much later than the clock of *kit* shows."""
    kit.quorum.propose(TermStarted(0, 3.0, 33.0), now=kit.now, wall=kit.wall + behind_s)


def test_nothing_that_expires_is_given_while_the_clock_is_set_back() -> None:
    kit = Kit(line("soon", 9, expiry_day=DAY + 30), line("ever", 9))
    ann = kit.client("ann")
    seat = ann.checkout("soon")
    assert isinstance(seat, Granted)
    set_back(kit, CLOCK_BACK_S - 60.0)
    assert isinstance(ann.checkout("soon"), Granted)  # a correction
    set_back(kit, CLOCK_BACK_S + 7200.0)
    refused = ann.checkout("soon")
    assert isinstance(refused, Denied)
    assert refused.code == -88
    assert refused.detail.startswith("the server's clock is 26 hours behind")
    assert isinstance(ann.checkout("ever"), Granted)
    assert seat.handle in kit.state.seats  # whoever holds one keeps it
    kit.now += 3 * 3600.0  # it was set right, or time has caught up
    assert isinstance(kit.client("bob").checkout("soon"), Granted)
    assert WALL > 0


def test_the_next_master_knows_that_its_clock_is_behind() -> None:
    """Stamps are in the ledger, so a failover to a server with an older clock changes nothing."""
    kit = Kit(line("soon", 9, expiry_day=DAY + 30), serving=False)
    set_back(kit, 10 * CLOCK_BACK_S)
    kit.quorum.start(term=2, wall=kit.wall)
    kit.turn()
    refused = kit.client("ann").checkout("soon")
    assert isinstance(refused, Denied)
    assert refused.code == -88


def test_clocks_that_differ_are_told(monkeypatch: Any) -> None:
    triad = formed()
    assert not any(triad[rank].said("clock") for rank in (P, S, T))
    real = type(triad[T].machine)._hello

    def late(machine: Any, to: Any, **words: bytes) -> Hello:
        hello = real(machine, to, **words)
        return hello._replace(wall=hello.wall + 2 * CLOCKS_DIFFER_S) if machine.rank is T else hello

    monkeypatch.setattr(type(triad[T].machine), "_hello", late)
    triad.break_links(P, T)
    triad.run(3.0)
    (said,) = triad[P].said("clock")
    assert said.startswith("tertiary's clock is 120 minutes ahead of this server's")
    assert triad.master is P
