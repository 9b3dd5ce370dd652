"""Rule 17: numbered requests, exactly once, withdrawn when given up."""

from __future__ import annotations

import pytest

from flexcore.client import CheckedIn, CheckoutDeniedAction, CheckoutGranted
from flexcore.client.machine import REQUESTS_MAX
from flexcore.client.session import WINDOW_REQUESTS
from flexcore.errors import LocalProtocolError
from flexcore.wire import messages as wire
from tests.client_fakes import FakeTriad, World


@pytest.fixture
def world() -> World:
    return World(FakeTriad("pat", "lee", "terry"))


def test_a_grant_whose_answer_was_lost_is_granted_once(world):
    """I5: the server decided, the answer never came, the retry is the same checkout."""
    triad = world.triads[0]
    world.hold()
    request = world.checkout()
    world.run(0.015)  # at the server, its answer under way
    assert len(triad.ledger.seats) == 2
    world.kill(triad.servers[0])
    triad.elect(1)
    world.run(1)
    granted = [a for a in world.all_told(CheckoutGranted) if a.request == request]
    assert len(granted) == 1
    assert len(triad.ledger.seats) == 2
    numbers = [m.request for _, m in world.sent(wire.Checkout)]
    assert numbers == [1, 2, 2]


def test_answered_follows_the_first_gap(world):
    server = world.triads[0].servers[0]
    world.hold()
    serve = server.serve
    server.serve = lambda conn, m: (
        [] if isinstance(m, wire.Checkout) and m.request == 2 else serve(conn, m)
    )
    world.checkout()
    world.run(0.1)
    world.hold()
    world.hold()
    messages = [m for _, m in world.sent(wire.Checkout)]
    assert [(m.request, m.answered) for m in messages] == [(1, 0), (2, 1), (3, 1), (4, 1)]
    server.serve = serve
    world.run(25)  # it is sent again after a whole heartbeat without an answer
    assert len(world.triads[0].ledger.seats) == 4
    assert world.sent(wire.Heartbeat)[-1][1].answered == 4


def test_denied_is_told_with_everything(world):
    request = world.checkout("nothing")
    world.run(0.5)
    (denied,) = world.all_told(CheckoutDeniedAction)
    assert (denied.request, denied.code, denied.minor) == (request, -5, 346)
    assert denied.text == "No such feature exists"


def test_a_late_grant_of_what_was_denied_is_given_back(world):
    """Two copies of one checkout, and a master that had not denied the first: nobody knows of that seat."""
    triad = world.triads[0]
    server = triad.servers[0]
    serve = server.serve

    def denies_then_grants(conn, message):
        if not isinstance(message, wire.Checkout):
            return serve(conn, message)
        denied = wire.Denied(message.seq, message.request, 1, False, -4, 342, "all in use", "")
        return [denied, *serve(conn, message)]

    server.serve = denies_then_grants
    request = world.checkout()
    world.run(1)
    assert [a.request for a in world.all_told(CheckoutDeniedAction)] == [request]
    assert world.all_told(CheckoutGranted) == []
    assert triad.ledger.seats == {}
    assert len(world.sent(wire.Checkin)) == 1


def test_checkin_is_believed_no_more_from_the_call(world):
    seat = world.hold()
    request = world.node.checkin(seat.handle, now=world.now)
    assert world.node.held(world.now) == ()
    assert not world.node.believes(seat.handle, world.now)
    world.drain()
    world.run(0.5)
    assert world.all_told(CheckedIn) == [CheckedIn(request=request, handle=seat.handle, site=0)]
    assert world.triads[0].ledger.free == 10


def test_checkin_of_what_is_not_held_is_the_callers_mistake(world):
    with pytest.raises(LocalProtocolError):
        world.node.checkin(5, now=world.now)


def test_checkin_survives_a_failover(world):
    triad = world.triads[0]
    seat = world.hold()
    triad.servers[0].frozen = True
    world.node.checkin(seat.handle, now=world.now)
    world.drain()
    world.run(0.5)
    world.kill(triad.servers[0])
    triad.elect(1)
    world.run(1)
    assert triad.ledger.free == 10
    assert len(world.all_told(CheckedIn)) == 1


def test_withdrawn_before_it_was_sent(world):
    triad = world.triads[0]
    for server in triad.servers:
        server.up = False
    request = world.checkout()
    world.run(3)
    world.node.withdraw(request, now=world.now)
    for server in triad.servers:
        server.up = True
    world.run(30)
    assert triad.ledger.seats == {}
    assert world.told == []
    assert world.node.next_timeout() is None  # nobody is looked for any more


def test_withdrawn_after_it_was_granted_unseen(world):
    """The application gives up while the answer is lost: a Withdraw frees what the server granted."""
    triad = world.triads[0]
    world.hold()
    request = world.checkout()
    world.run(0.015)
    world.kill(triad.servers[0])
    world.node.withdraw(request, now=world.now)
    world.drain()
    triad.elect(1)
    world.run(1)
    assert len(triad.ledger.seats) == 1
    assert [a.request for a in world.all_told(CheckoutGranted)] == [1]
    (withdraw,) = [m for _, m in world.sent(wire.Withdraw)]
    assert (withdraw.request, withdraw.target, withdraw.answered) == (3, 2, 1)
    world.hold()
    assert world.sent(wire.Checkout)[-1][1].answered == 3


def test_a_grant_that_crosses_its_withdrawal_is_not_told(world):
    triad = world.triads[0]
    world.hold()
    request = world.checkout()
    world.run(0.005)
    world.node.withdraw(request, now=world.now)
    world.drain()
    world.run(1)
    assert [a.request for a in world.all_told(CheckoutGranted)] == [1]
    assert len(triad.ledger.seats) == 1


def test_requests_of_an_ended_session_are_asked_anew_in_a_fresh_one(world):
    triad = world.triads[0]
    world.hold()
    triad.servers[0].frozen = True
    request = world.checkout()
    world.run(0.1)
    (session,) = triad.ledger.sessions
    triad.ledger.end(session)
    world.kill(triad.servers[0])
    triad.elect(1)
    world.run(1)
    granted = [a for a in world.all_told(CheckoutGranted) if a.request == request]
    assert len(granted) == 1
    assert len(triad.ledger.seats) == 1


def test_no_more_than_a_window_is_under_way(world):
    triad = world.triads[0]
    triad.ledger.free = 1000
    server = triad.servers[0]
    world.hold()
    server.frozen = True
    for _ in range(200):
        world.checkout()
    world.run(0.5)
    assert len(world.sent(wire.Checkout)) == 1 + WINDOW_REQUESTS
    world.thaw(server)
    world.run(2)
    assert len(world.all_told(CheckoutGranted)) == 201


def test_requests_are_bounded(world):
    for server in world.triads[0].servers:
        server.up = False
    for _ in range(REQUESTS_MAX):
        world.checkout()
    with pytest.raises(LocalProtocolError):
        world.checkout()


@pytest.mark.parametrize(("feature", "count"), [("", 1), ("f1", 0), ("f1", -3), ("f\udc80", 1), ("x" * 200, 1)])
def test_impossible_checkouts(world, feature, count):
    with pytest.raises(ValueError):
        world.node.checkout(feature, "", count, now=world.now)
