"""Rule 15, the client's side: how long a seat is believed, and when the application is told."""

from __future__ import annotations

import itertools

import pytest

from flexcore.client import CheckoutGranted, SeatLost
from flexcore.wire import messages as wire
from tests.client_fakes import LEASE_S, FakeTriad, World


@pytest.fixture
def world() -> World:
    return World(FakeTriad("pat", "lee", "terry"))


def test_lease_counts_from_the_send_of_the_question(world):
    world.delay_s = 2.0  # the answer comes 4 s after the question
    world.checkout()
    world.run(40)
    opened_at, _ = world.sent(wire.OpenSession)[0]
    checkout_at, _ = world.sent(wire.Checkout)[0]
    assert checkout_at == opened_at + 4.0
    seat = world.all_told(CheckoutGranted)[0].seat
    last = max(at for at, _ in world.sent(wire.Heartbeat) if at + 4.0 <= world.now)
    assert world.node.believed_until() == last + LEASE_S
    world.triads[0].servers[0].frozen = True
    world.run(4.0)  # answers under way arrive
    until = world.node.believed_until()
    assert world.node.believes(seat.handle, until - 0.001)
    assert not world.node.believes(seat.handle, until)
    assert world.node.held(until) == ()


def test_heartbeats_keep_a_seat_for_ever(world):
    seat = world.hold()
    world.run(3600)
    assert world.node.held(world.now) == (seat,)
    times = [at for at, _ in world.sent(wire.Heartbeat)]
    gaps = {round(b - a, 3) for a, b in itertools.pairwise(times)}
    assert gaps == {10.0}  # min(10 s, L/6)


def test_short_leases_beat_faster():
    triad = FakeTriad("pat")
    triad.lease_s = 33.0
    world = World(triad)
    world.hold()
    world.run(60)
    times = [at for at, _ in world.sent(wire.Heartbeat)]
    assert {round(b - a, 3) for a, b in itertools.pairwise(times)} == {5.5}


def test_denials_do_not_renew(world):
    world.hold()
    world.triads[0].servers[0].renews = False  # heartbeats are answered, but confirmed by nobody
    until = world.node.believed_until()
    for _ in range(20):
        world.checkout("nothing")
        world.run(2)
    assert world.node.believed_until() == until


def test_unconfirmed_answers_lose_the_seat_at_the_end_of_the_lease(world):
    seat = world.hold()
    world.triads[0].servers[0].renews = False
    until = world.node.believed_until()
    world.run(until - world.now - 0.01)
    assert world.all_told(SeatLost) == []
    world.run(0.02)
    lost = world.all_told(SeatLost)
    assert [action.handle for action in lost] == [seat.handle]
    assert "confirmed" in lost[0].reason
    assert world.node.held(world.now) == ()


def test_lost_to_silence_is_told_at_the_very_end_of_the_lease(world):
    world.hold()
    for server in world.triads[0].servers:
        world.kill(server)
    until = world.node.believed_until()
    assert world.node.next_timeout() <= until
    world.run(until - world.now)
    assert len(world.all_told(SeatLost)) == 1
    assert world.now == until
    assert "refused" in world.all_told(SeatLost)[0].reason


def test_a_lost_seat_never_comes_back_and_is_given_back(world):
    """The servers return after the lease: the seat is not believed again, though the session goes on, and this
    client's ghost does not keep itself from a new seat."""
    triad = world.triads[0]
    triad.ledger.free = 1
    seat = world.hold()
    for server in triad.servers:
        world.kill(server)
    world.run(LEASE_S + 1)
    for server in triad.servers:
        server.up = True
    world.run(2)
    assert world.node.held(world.now) == ()
    assert triad.ledger.free == 1
    assert world.hold().handle != seat.handle
    assert len(triad.ledger.sessions) == 1


def test_seats_taken_by_an_administrator_are_told_at_once(world):
    seat = world.hold()
    kept = world.hold()
    server = world.triads[0].servers[0]
    world.push_message(server, wire.SeatsLost(1, (seat.handle, 999), -39, "removed by root"))
    world.run(0.1)
    (lost,) = world.all_told(SeatLost)
    assert (lost.handle, lost.reason, lost.code) == (seat.handle, "removed by root", -39)
    assert world.node.held(world.now) == (kept,)
    assert world.sent(wire.Checkin)[0][1].handle == seat.handle  # the confirmation


def test_a_seat_that_the_ledger_no_longer_holds_is_lost_on_resume(world):
    seat = world.hold()
    triad = world.triads[0]
    triad.ledger.give_back(seat.handle)
    world.break_connections(triad.servers[0])
    world.run(1)
    assert [action.handle for action in world.all_told(SeatLost)] == [seat.handle]


def test_ended_session_loses_everything_and_a_fresh_one_follows(world):
    first = world.hold()
    triad = world.triads[0]
    (session,) = triad.ledger.sessions
    triad.ledger.end(session)
    world.break_connections(triad.servers[0])
    world.run(1)
    assert [action.handle for action in world.all_told(SeatLost)] == [first.handle]
    second = world.hold()
    opened = [message for _, message in world.sent(wire.OpenSession)]
    assert len({message.session for message in opened}) == 2
    assert len({message.secret for message in opened}) == 2
    assert world.node.held(world.now) == (second,)


def test_end_told_in_answer_to_a_heartbeat(world):
    """The server tells the end of the session wherever it is asked something; a connection carries one session, so
    the fresh one gets a fresh connection, and the old one is aborted."""
    seat = world.hold()
    triad = world.triads[0]
    server = triad.servers[0]
    answer = server.serve

    def over(conn, message):
        if isinstance(message, wire.Heartbeat):
            return [wire.SessionReply(message.seq, triad.term, False, "ended", LEASE_S, (), "over")]
        return answer(conn, message)

    server.serve = over
    world.run(11)
    assert [action.handle for action in world.all_told(SeatLost)] == [seat.handle]
    server.serve = answer
    world.hold()
    conns = [a.conn for _, a in world.done if type(a).__name__ == "Connect"]
    assert len(conns) == 2


def test_a_grant_that_nothing_renews_is_not_told_before_the_lease_is():
    """A repeated answer does not renew: with the lease over, the seat is asked for by a heartbeat first."""
    world = World(FakeTriad("pat"))
    server = world.triads[0].servers[0]
    server.renews = False
    world.checkout()
    world.run(3)
    assert world.all_told(CheckoutGranted) == []
    assert len(world.triads[0].ledger.seats) == 1
    server.renews = True
    world.run(2)
    assert len(world.all_told(CheckoutGranted)) == 1
    assert len(world.node.held(world.now)) == 1
