"""The client machine in a server's queue: its place, its numbers, failover, several alternatives."""

from __future__ import annotations

from flexcore.client import CheckoutDeniedAction, CheckoutGranted, CheckoutQueued
from flexcore.client.session import QUEUE_ASK_S, WINDOW_REQUESTS
from flexcore.wire import messages as wire
from tests.client_fakes import FakeTriad, World


def served(world: World, triad: FakeTriad, free: int) -> None:
    """Somebody else gives *free* seats back."""
    triad.ledger.free += free
    for server in triad.servers:
        for conn, message in server.take_pushes():
            world.push("to_client", conn, message)
    world.run(1.0)


def test_a_wait_holds_nothing_else_up() -> None:
    """As many requests follow as would fill the window twice: the wait counts as answered."""
    triad = FakeTriad("a", "b", "c", count=4)
    world = World(triad)
    world.hold(4)
    waits = world.checkout(count=3, queue=True)
    world.run(1.0)
    assert [told.request for told in world.all_told(CheckoutQueued)] == [waits]
    for _ in range(2 * WINDOW_REQUESTS):
        world.checkout("f9")
        world.run(0.1)
    denied = world.all_told(CheckoutDeniedAction)
    assert len(denied) == 2 * WINDOW_REQUESTS
    assert world.node.copy().fingerprint(world.now) == world.node.fingerprint(world.now)
    served(world, triad, 3)
    assert world.all_told(CheckoutGranted)[-1].request == waits


def test_the_new_master_is_asked_again_under_the_old_number() -> None:
    triad = FakeTriad("a", "b", "c", count=0)
    world = World(triad)
    waits = world.checkout(queue=True)
    world.run(1.0)
    place = triad.ledger.waiting[0][0]
    world.kill(triad.servers[0])
    triad.elect(1)
    world.run(3.0)
    asked = [message for _, message in world.sent(wire.Checkout)]
    assert [one.request for one in asked] == [asked[0].request] * 2
    assert all(one.queue and one.answered < one.request for one in asked)
    assert triad.ledger.waiting[0][0] == place
    assert len(world.all_told(CheckoutQueued)) == 1  # nothing has changed: nothing is told
    served(world, triad, 1)
    assert [told.request for told in world.all_told(CheckoutGranted)] == [waits]


def test_what_was_granted_during_the_failover_is_found() -> None:
    triad = FakeTriad("a", "b", "c", count=0)
    world = World(triad)
    waits = world.checkout(queue=True)
    world.run(1.0)
    world.kill(triad.servers[0])
    triad.elect(1)
    triad.ledger.free = 1
    triad.servers[1].take_pushes()  # granted, and told to nobody: no connection has the session
    world.run(3.0)
    assert [told.request for told in world.all_told(CheckoutGranted)] == [waits]


def test_it_asks_now_and_then_how_it_stands() -> None:
    triad = FakeTriad("a", count=0)
    world = World(triad)
    first = world.checkout(queue=True)
    second = world.checkout(queue=True)
    world.run(1.0)
    triad.ledger.waiting = triad.ledger.waiting[1:]
    world.run(QUEUE_ASK_S + 20.0)
    told = [(one.request, one.ahead) for one in world.all_told(CheckoutQueued)]
    assert told[:2] == [(first, 0), (second, 1)]
    assert (second, 0) in told
    assert len(world.sent(wire.Checkout)) == 4


def test_withdrawal_leaves_the_queue_and_a_late_grant_is_given_back() -> None:
    triad = FakeTriad("a", count=0)
    world = World(triad)
    waits = world.checkout(queue=True)
    world.run(1.0)
    triad.ledger.free = 1  # granted while the withdrawal is under way
    world.node.withdraw(waits, now=world.now, wall=world.wall)
    world.drain()
    for conn, message in triad.servers[0].take_pushes():
        world.push("to_client", conn, message)
    world.run(1.0)
    assert world.all_told(CheckoutGranted) == []
    assert triad.ledger.free == 1
    assert not triad.ledger.waiting


def test_a_session_that_is_over_queues_anew() -> None:
    """The lease ended without a server: the place is gone, the wish is not."""
    triad = FakeTriad("a", count=0)
    world = World(triad)
    waits = world.checkout(queue=True)
    world.run(1.0)
    first = triad.ledger.waiting[0][0]
    world.kill(triad.servers[0])
    triad.ledger.end(next(iter(triad.ledger.sessions)))
    world.run(2.0)
    triad.servers[0].up = True
    world.run(10.0)
    told = world.all_told(CheckoutQueued)
    assert [one.request for one in told] == [waits, waits]
    assert told[1].place > first
    served(world, triad, 1)
    assert world.all_told(CheckoutGranted)[0].request == waits


def test_a_free_alternative_is_taken_instead_of_waiting() -> None:
    full, free = FakeTriad("a", count=0), FakeTriad("b", count=1)
    world = World(full, free)
    world.checkout(queue=True)
    world.run(1.0)
    assert world.all_told(CheckoutGranted)[0].seat.site == 1
    assert not full.ledger.waiting
