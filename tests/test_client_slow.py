"""Slow and lossy ways to the servers: how long an answer is waited for (head of flexcore/client/link.py)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from flexcore import timing
from flexcore.client import CheckoutGranted, SeatLost
from flexcore.client.link import LEASE_WAIT_S, LINK_WAIT_MAX_S, connect_wait_s, link_wait_s
from flexcore.override import override
from flexcore.wire import messages as wire
from tests.client_fakes import FakeTriad, World

LEASE_S = 109.0


class SlowWorld(World):
    """TCP on a bad line: a lost segment comes after a repeat, later ones wait for it; connecting takes a round trip."""

    def __init__(self, *triads: FakeTriad, delay_s: float, loss: float = 0.0, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.last: dict[tuple[str, int], float] = {}
        super().__init__(*triads)
        self.delay_s = delay_s

    @override
    def push(self, kind: str, conn: int, what: Any) -> None:
        made = kind == "event"
        delay = 2 * self.delay_s if made else self.delay_s
        repeat_s = 1.0 if made else 6 * self.delay_s  # RFC 6298: without a sample, and after the first
        while self.rng.random() < self.loss:
            delay += repeat_s
            repeat_s *= 2
        at = max(self.now + delay, self.last.get((kind, conn), 0.0))
        self.last[kind, conn] = at
        self.queue.append((at, next(self.tick), kind, conn, what))


def slow_world(**ways: Any) -> SlowWorld:
    triad = FakeTriad("pat", "lee", "terry")
    triad.lease_s = LEASE_S
    return SlowWorld(triad, **ways)


def test_a_hello_that_takes_longer_than_the_least_wait_is_heard():
    """2.6 s each way, nothing lost: every hello came after 5.2 s, every wait was over after 5: never a licence."""
    world = slow_world(delay_s=2.6)
    world.checkout()
    world.run(30)
    assert len(world.all_told(CheckoutGranted)) == 1
    assert len(world.sent(wire.ClientHello)) <= 3, "what connects slowly is waited for from the first"


def test_the_round_trip_is_found_where_connecting_does_not_tell(monkeypatch):
    """A tunnel connects at once; the first wait is too short, the next is twice as long."""
    world = slow_world(delay_s=2.6)
    push = world.push

    def connect_at_once(kind, conn, what):
        if kind != "event":
            return push(kind, conn, what)
        return world.queue.append((world.now, next(world.tick), kind, conn, what))

    monkeypatch.setattr(world, "push", connect_at_once)
    world.checkout()
    world.run(40)
    assert len(world.all_told(CheckoutGranted)) == 1
    hellos = world.sent(wire.ClientHello)
    (opened, _message), *_ = world.sent(wire.OpenSession)
    assert opened - hellos[0][0] == pytest.approx(10.2, abs=0.7)


def test_one_lost_segment_does_not_begin_everything_anew(monkeypatch):
    """1.5 s each way; the connection breaks, and each hello and each resume is lost once. The answer comes after 12 s;
    what was given up after 5 s never had one, and the lease ended while the master served."""
    world = slow_world(delay_s=1.5)
    world.checkout()
    world.run(60)
    push = world.push
    lost: set[tuple[int, type]] = set()

    def lose_once(kind, conn, what):
        if kind != "to_server" or (conn, type(what)) in lost:
            return push(kind, conn, what)
        lost.add((conn, type(what)))
        return world.queue.append((world.now + 10.5, next(world.tick), kind, conn, what))

    monkeypatch.setattr(world, "push", lose_once)
    world.break_connections(world.triads[0].servers[0])
    broken = world.now
    world.run(LEASE_S)
    assert world.all_told(SeatLost) == []
    assert len(world.node.held(world.now)) == 1
    assert world.sent(wire.ResumeSession)[0][0] - broken < 20


def test_licences_are_kept_on_a_bad_network():
    """1.5 s each way, 10 % lost, the connection cut every few minutes."""
    for seed in range(3):
        world = slow_world(delay_s=1.5, loss=0.1, seed=seed)
        world.checkout()
        world.run(60)
        for _ in range(6):
            world.break_connections(world.triads[0].servers[0])
            world.run(120)
        assert world.all_told(SeatLost) == [], seed


def test_a_hung_server_does_not_keep_the_client_from_the_one_that_serves():
    """Slow lines make waits long; the lease is kept all the same, since the others are asked beside it."""
    world = slow_world(delay_s=1.0)
    triad = world.triads[0]
    world.checkout()
    world.run(60)
    triad.servers[0].frozen = True
    triad.elect(None)
    world.run(79)
    triad.elect(1)
    world.run(30)
    assert world.all_told(SeatLost) == []
    assert world.node.ready


def test_a_successor_that_was_dark_is_reached_while_the_lease_lasts():
    """The worst the lease allows: packets to the successor vanish until it serves, with 20 s of the lease left. The
    wait for the dead attempt and a whole approach fit into them."""
    for more in range(8):
        world = slow_world(delay_s=1.0)
        triad = world.triads[0]
        world.checkout()
        world.run(60 + more)
        for server in triad.servers:
            server.dark = True
        world.break_connections(triad.servers[0])
        site = world.node._sites[0]
        until = world.node.believed_until()
        assert until is not None
        world.run(until - 20 - world.now)
        for conn, server in list(world.conns.items()):
            if not site.links[conn].touched:
                del world.conns[conn]  # whatever was begun in the dark stays dead
                assert server.dark
        for server in triad.servers[1:]:
            server.dark = False
        triad.elect(1)
        world.run(30)
        assert world.all_told(SeatLost) == [], more


@pytest.mark.parametrize("lease_left_s", [1.0, 20.0, 33.0, 60.0, 109.0, 500.0])
@pytest.mark.parametrize("round_trip_s", [0.0, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("silences", [0, 1, 4])
def test_no_wait_uses_up_what_the_lease_leaves(lease_left_s, round_trip_s, silences):
    wait = link_wait_s(round_trip_s, silences, lease_left_s)
    assert 5.0 <= wait <= max(LEASE_WAIT_S, lease_left_s / 4)
    assert wait <= link_wait_s(round_trip_s, silences, None) or lease_left_s > 4 * LINK_WAIT_MAX_S
    assert 5.0 <= connect_wait_s(round_trip_s, silences) <= 10.0
    assert timing.CLIENT_LEASE_MARGIN_S - timing.CLIENT_HEARTBEAT_MAX_S >= 2 * LEASE_WAIT_S
