"""A server's clock that was set back, a client's that is far off, and clocks of a triad that differ."""

from __future__ import annotations

from typing import Any

import pytest

from flexcore.client import ClientConfig, ClientNode, ConnectionMade
from flexcore.ledger.commands import TermStarted
from flexcore.server.clocks import CLIENT_CLOCK_S, CLOCK_BACK_S, CLOCKS_DIFFER_S
from flexcore.wire.messages import (
    ClientHello,
    Denied,
    Granted,
    Heartbeat,
    Hello,
    Queued,
    ServerAddress,
)
from tests.quorum_kit import P, S, T, formed
from tests.server_kit import DAY, WALL, Client, Kit, line


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


def client_with_clock(kit: Kit, name: str, ahead_s: float) -> Client:
    conn = kit.connect(hello=False)
    kit.send(conn, ClientHello(1, "test", "sampled", 0, wall=kit.wall + ahead_s))
    made = Client(kit, name, opened=False)
    made.conn = conn
    kit.said(conn)
    made.open()
    return made


def tell_time(client: Client, ahead_s: float) -> None:
    """A heartbeat with a clock."""
    kit = client.kit
    client.ask(Heartbeat(client.next(), 0, 0, (), kit.wall + ahead_s))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_client_whose_clock_is_far_off_is_told(sign: int) -> None:
    kit = Kit(line("soon", 9, expiry_day=DAY + 30), line("ever", 9))
    near = client_with_clock(kit, "near", sign * (CLIENT_CLOCK_S - 60.0))
    assert isinstance(near.checkout("soon"), Granted)
    assert not any("clock" in text for text in kit.logs)
    far = client_with_clock(kit, "far", sign * (CLIENT_CLOCK_S + 2 * 3600.0))
    refused = far.checkout("soon")
    words = f"The clock of elm is 26 hours {'ahead of' if sign > 0 else 'behind'} the license servers'"
    assert refused.code == -34
    assert refused.detail.startswith(f"{words}, and soon expires on ")
    assert [text for text in kit.logs if "clock of" in text] == [
        f"{words}: checkouts of what expires are denied until it is set right"
    ]
    assert any("(-34,436)" in text for text in kit.logs)
    assert isinstance(far.checkout("ever"), Granted)


def test_a_clock_that_is_set_right_is_served_with_the_next_heartbeat() -> None:
    kit = Kit(line("soon", 9, expiry_day=DAY + 30))
    ann = client_with_clock(kit, "ann", 0.0)
    held = ann.checkout("soon")
    tell_time(ann, 1e7)
    assert ann.checkout("soon").code == -34
    assert held.handle in kit.state.seats, "what it holds it keeps"
    tell_time(ann, 1e7)
    tell_time(ann, 5.0)
    assert isinstance(ann.checkout("soon"), Granted)
    assert sum("clock of" in text for text in kit.logs) == 2, kit.logs
    tell_time(ann, 1e7)
    ann.goodbye()
    assert not kit.node._desk._clocks.off


def test_who_waits_with_a_clock_that_is_off_does_not_hold_up_the_others() -> None:
    kit = Kit(line("soon", 1, expiry_day=DAY + 30))
    ann, bob, cem = (client_with_clock(kit, name, 0.0) for name in ("ann", "bob", "cem"))
    held = ann.checkout("soon")
    assert isinstance(bob.checkout("soon", queue=True), Queued)
    assert isinstance(cem.checkout("soon", queue=True), Queued)
    tell_time(bob, -1e6)
    ann.checkin(held.handle)
    kit.turn()
    assert [(type(said), getattr(said, "code", 0)) for said in kit.out.pop(bob.conn)] == [(Denied, -34)]
    assert [type(said) for said in kit.out.pop(cem.conn)] == [Granted]


def test_a_server_whose_own_clock_is_wrong_refuses_nobody_for_it(monkeypatch: Any) -> None:
    """The other two agree with the client: the middle of the servers' clocks counts."""
    kit = Kit(line("soon", 9, expiry_day=DAY + 30))
    monkeypatch.setattr("flexcore.server.clocks.middle_clock_gap", lambda quorum: quorum.clock_gap + 1e6)
    assert isinstance(client_with_clock(kit, "ann", 1e6).checkout("soon"), Granted)
    assert client_with_clock(kit, "bob", 3e6).checkout("soon").code == -34


def test_clients_say_how_late_it_is() -> None:
    """Without a calendar clock they say nothing, which is never held against them."""
    address = ServerAddress("elm", 1)
    settings = ClientConfig(path=((address,),), vendor="demo", user="ann", host="elm", display=":0")
    for wall in (WALL, None):
        node = ClientNode(settings, entropy=b"e" * 32, now=5.0, wall=wall)
        node.checkout("f1", now=6.0, wall=None if wall is None else wall + 1.0)
        connect: Any = node.next_action()
        node.receive_event(ConnectionMade(conn=connect.conn), now=7.0, wall=None if wall is None else wall + 2.0)
        hello: Any = node.next_action()
        assert hello.message.wall == (0.0 if wall is None else wall + 2.0)


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
