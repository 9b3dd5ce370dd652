"""What a client says of seats that its product leaves idle (TIMEOUT), and of seats taken away before they were told."""

from __future__ import annotations

import pytest

from flexcore.client import CheckoutDeniedAction, CheckoutGranted
from flexcore.wire import messages as wire
from tests.client_fakes import FakeTriad, World


@pytest.fixture
def world() -> World:
    return World(FakeTriad("pat", "lee", "terry"))


def last_idle(world: World) -> list[tuple[int, int]]:
    return [(handle, round(idle_s)) for handle, idle_s in world.sent(wire.Heartbeat)[-1][1].idle]


def test_every_heartbeat_tells_of_idle_seats_until_they_are_used_again(world):
    first, second = world.hold(), world.hold()
    world.run(20)
    assert last_idle(world) == []
    world.node.set_idle(second.handle, True, now=world.now)
    since = world.now
    world.run(5)
    world.node.set_idle(first.handle, True, now=world.now)
    world.node.set_idle(second.handle, True, now=world.now)  # once more: it has been idle all the time
    world.node.set_idle(999, True, now=world.now)
    world.run(30)
    told_at = world.sent(wire.Heartbeat)[-1][0]
    assert last_idle(world) == [
        (second.handle, round(told_at - since)), (first.handle, round(told_at - since - 5)),
    ]  # fmt: skip
    world.node.set_idle(second.handle, False, now=world.now)
    world.node.checkin(first.handle, now=world.now)
    world.run(20)
    assert last_idle(world) == []


def test_the_next_master_is_told_too(world):
    seat = world.hold()
    world.node.set_idle(seat.handle, True, now=world.now)
    world.break_connections(world.triads[0].servers[0])
    world.run(30)
    ((handle, idle_s),) = last_idle(world)
    assert (handle, idle_s >= 20) == (seat.handle, True)


def test_a_grant_that_is_taken_away_before_it_is_told_is_a_denial(world):
    world.hold()
    session = world.node._sites[0].session
    server = world.triads[0].servers[0]
    server.renews = False
    world.run(60)
    world.checkout()
    world.run(0.5)
    (handle,) = session.doubtful
    world.push_message(server, wire.SeatsLost(1, (handle,), 0, "removed by root"))
    world.run(0.1)
    assert world.all_told(CheckoutDeniedAction)[-1].detail == "removed by root"
    assert len(world.all_told(CheckoutGranted)) == 1
    assert world.sent(wire.Checkin)[-1][1].handle == handle
