"""A goodbye that its master does not take: it serves no more, says nothing, or has ended the session already."""

from __future__ import annotations

import pytest

from flexcore.client import Closed
from flexcore.client.site import CLOSE_WAIT_S
from flexcore.wire import messages as wire
from tests.client_fakes import FakeTriad, World


@pytest.fixture
def world() -> World:
    world = World(FakeTriad("pat", "lee", "terry"))
    world.hold()
    return world


def close(world: World) -> float:
    """Close, and let the whole budget pass; returns how long it took."""
    began = world.now
    world.node.close(now=world.now)
    world.drain()
    while not world.node.closed:
        world.run(0.05)
        assert world.now - began < CLOSE_WAIT_S + 0.2
    assert world.told[-1] == Closed()
    assert world.conns == {}
    return world.now - began


@pytest.mark.parametrize("knows", [True, False])
def test_an_old_master_that_serves_no_more_passes_the_goodbye_on(world, knows):
    """Thawed, it answers that it does not serve; whether it can name its successor or not, the seat is given back.

    That answer was ignored: the seat stayed taken at the successor for the whole lease.
    """
    triad = world.triads[0]
    triad.elect(1)
    if not knows:
        pat, answer = triad.servers[0], triad.servers[0].answer
        pat.answer = lambda conn, message: [
            m._replace(master=None) if isinstance(m, wire.NotServing) else m for m in answer(conn, message)
        ]
    assert close(world) < 1.0
    assert triad.ledger.free == 10


def test_a_goodbye_that_is_not_answered_is_said_to_whoever_serves(world):
    """The old master is frozen still. Its successor is looked for inside the budget, not at its end."""
    triad = world.triads[0]
    triad.servers[0].frozen = True
    triad.elect(1)
    assert close(world) < 1.0
    assert triad.ledger.free == 10


def test_no_second_of_waiting_for_a_master_that_is_suspected_already(world):
    triad = world.triads[0]
    triad.servers[0].frozen = True
    triad.elect(None)
    world.checkout()
    world.run(3)
    triad.elect(1)
    assert close(world) < 0.5
    assert triad.ledger.free == 10


def test_a_slow_answer_is_taken_while_nobody_else_serves(world):
    triad = world.triads[0]
    triad.servers[0].frozen = True
    world.node.close(now=world.now)
    world.drain()
    world.run(1.2)
    assert not world.node.closed
    world.thaw(triad.servers[0])
    world.run(0.1)
    assert world.node.closed
    assert triad.ledger.free == 10
    assert len(world.sent(wire.Goodbye)) == 1
    assert world.conns == {}


def test_both_masters_take_the_goodbye(world):
    """What the first one had committed, the second says: there is no such session. That ends it as well."""
    triad = world.triads[0]
    pat, answer = triad.servers[0], triad.servers[0].answer

    def mute(conn, message):
        answer(conn, message)
        return []

    pat.answer = mute
    world.node.close(now=world.now)
    world.drain()
    world.run(0.1)
    assert triad.ledger.free == 10
    triad.elect(1)
    world.run(1.0)
    assert world.node.closed
    assert world.conns == {}


def test_a_session_that_is_over_needs_no_goodbye(world):
    """Its end is the answer: it was waited for until the budget was over."""
    triad = world.triads[0]
    triad.ledger.end(next(iter(triad.ledger.sessions)))
    assert close(world) < 0.5


def test_the_end_that_a_master_of_the_past_claims_is_none(world):
    triad = world.triads[0]
    world.node._sites[0].term_seen = 7
    triad.ledger.end(next(iter(triad.ledger.sessions)))
    assert close(world) >= CLOSE_WAIT_S - 0.1
