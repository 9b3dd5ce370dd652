"""Redundancy by search path: independent servers, each with a share of the licences, and one client.

What it needs it takes from wherever it is free; it remembers where, may prefer the least loaded, and may
wait everywhere at once without ever believing in two.
"""

from __future__ import annotations

import pytest

from flexcore.client import CheckoutDeniedAction, CheckoutGranted, CheckoutQueued, Connect
from flexcore.client.loads import free_share
from flexcore.client.route import LATE_S, LOAD_WAIT_S, REMEMBERED_MAX, Router
from flexcore.wire import messages as wire
from tests.client_fakes import FakeTriad, World


def sites(world: World) -> list[int]:
    return [told.seat.site for told in world.all_told(CheckoutGranted)]


def asked(triad: FakeTriad) -> list[str]:
    return [m.feature for m in triad.servers[0].heard if isinstance(m, wire.Checkout)]


def free_one(world: World, triad: FakeTriad) -> None:
    """Somebody gives a licence back there; who waits is served."""
    triad.ledger.free += 1
    for conn, message in triad.servers[0].take_pushes():
        world.push("to_client", conn, message)


# --- from wherever it is free ----------------------------------------------------------------------


def test_three_shares_are_one_pool_for_the_client_feature_by_feature() -> None:
    first, second, third = (FakeTriad(host, count=2) for host in "abc")
    third.features = {"f2"}
    world = World(first, second, third)
    for _ in range(4):
        world.checkout("f1")
        world.run(0.5)
    world.checkout("f2")
    world.run(0.5)
    assert sites(world) == [0, 0, 1, 1, 2]
    world.checkout("f1")
    world.run(3.0)
    assert [no.code for no in world.all_told(CheckoutDeniedAction)] == [-4], "not -5 of the one that has it not"


def test_a_dead_server_costs_its_share_and_nothing_else() -> None:
    first, second, third = (FakeTriad(host, count=2) for host in "abc")
    world = World(first, second, third)
    world.hold()
    world.kill(first.servers[0])
    world.run(1.0)
    for _ in range(4):
        world.checkout()
        world.run(1.0)
    assert sites(world) == [0, 1, 1, 2, 2]
    world.checkout()
    world.run(5.0)
    assert [no.code for no in world.all_told(CheckoutDeniedAction)] == [-4]
    first.servers[0].up = True
    world.run(30.0)
    world.checkout()
    world.run(1.0)
    assert sites(world)[-1] == 0, "its share is there again"


# --- remembering -----------------------------------------------------------------------------------


def test_a_feature_is_asked_for_first_where_it_was_granted_last() -> None:
    full, free = FakeTriad("a", count=0), FakeTriad("b")
    world = World(full, free)
    world.hold()
    assert (len(asked(full)), len(asked(free))) == (1, 1)
    world.hold()
    assert (len(asked(full)), len(asked(free))) == (1, 2), "the full one is not asked again"
    full.features = free.features = {"f1", "f2"}
    full.ledger.free = 1
    world.checkout("f2")
    world.run(0.5)
    assert sites(world) == [1, 1, 0], "another feature begins at the head of the path"
    free.ledger.free = 0
    world.checkout()
    world.run(0.5)
    assert [no.code for no in world.all_told(CheckoutDeniedAction)] == [-4]
    assert asked(full)[-1] == "f1", "the others are asked after it"


def test_a_dark_first_server_is_waited_for_once() -> None:
    dark, free = FakeTriad("a"), FakeTriad("b")
    dark.servers[0].dark = True
    world = World(dark, free)
    world.checkout()
    world.run(5.0)
    assert sites(world) == [1]
    for feature, patience_s in (("f1", 0.2), ("f2", 0.2)):  # f2 was never asked for
        free.features.add(feature)
        world.checkout(feature)
        world.run(patience_s)
    assert sites(world) == [1, 1, 1]
    dark.servers[0].dark = False
    world.run(LATE_S)
    free.ledger.free = 0
    world.checkout()
    world.run(1.0)
    assert sites(world)[-1] == 0
    dark.features = free.features = {"f3"}
    free.ledger.free = 5
    world.checkout("f3")
    world.run(1.0)
    assert sites(world)[-1] == 0, "it serves: the order of the path counts again"


def test_what_is_remembered_is_bounded() -> None:
    router = Router("path-order")
    for number in range(REMEMBERED_MAX + 9):
        router.note_grant(f"f{number}", 1)
    assert len(router.granted_by) == REMEMBERED_MAX
    assert "f0" not in router.granted_by


# --- the least loaded ------------------------------------------------------------------------------


def test_the_least_loaded_is_asked_first_by_the_share_that_is_free() -> None:
    shares = {"a": (1, 9), "b": (6, 4), "c": (3, 0)}  # free, used
    triads = [FakeTriad(host, count=free) for host, (free, _) in shares.items()]
    for triad, (_, used) in zip(triads, shares.values(), strict=True):
        seat = wire.HeldSeat(1, "f1", "1.0", used, 1.0)
        triad.ledger.seats[1] = (b"somebody", seat)
    world = World(*triads, prefer="least-loaded")
    for _ in range(5):
        world.hold()
    # 3 of 3 free; then 2 of 3 against 6 of 10; then 6 of 10 against 1 of 3, and so on
    assert sites(world) == [2, 2, 1, 1, 1]
    assert len(asked(triads[0])) == 0


def test_who_does_not_tell_in_time_comes_last_and_ties_keep_the_order_of_the_path() -> None:
    frozen, first, second = (FakeTriad(host) for host in "abc")
    world = World(frozen, first, second, prefer="least-loaded")
    world.hold()
    assert sites(world) == [0]
    frozen.servers[0].frozen = True
    began = world.now
    world.checkout()
    world.run(LOAD_WAIT_S + 0.5)
    assert sites(world) == [0, 1]
    assert world.now - began < 2.0


def test_the_preference_asks_nothing_where_there_is_one_server_or_no_preference() -> None:
    for prefer, hosts in (("least-loaded", "a"), ("path-order", "abc")):
        triads = [FakeTriad(host) for host in hosts]
        world = World(*triads, prefer=prefer)
        world.hold()
        assert not any(m.what == "features" for _, m in world.sent(wire.StatusRequest))
        assert len([a for _, a in world.done if isinstance(a, Connect)]) == 1
    with pytest.raises(ValueError, match="least-loaded"):
        World(FakeTriad("a"), prefer="nearest")


def test_a_server_that_tells_unasked_is_not_believed() -> None:
    one, other = FakeTriad("a"), FakeTriad("b")
    world = World(one, other, prefer="least-loaded")
    world.hold()
    row = wire.FeatureRow("f1", "p", "1.0", "demo", "permanent", None, "", 0, 0, "")
    world.push_message(other.servers[0], wire.StatusPage(999, 1, 0, (row,), (), ""))
    world.run(0.5)
    world.hold()
    assert sites(world) == [0, 1], "nine of ten are free at the first, all at the second"


def test_the_free_share_of_a_page() -> None:
    row = wire.FeatureRow("f1", "p", "1.0", "demo", "permanent", None, "", 10, 4, "")
    assert free_share([row, row._replace(count=2, in_use=2), row._replace(feature="f2", count=90)], "f1") == 0.5
    assert free_share([row._replace(count=0)], "f1") == 1.0
    assert free_share([row._replace(error="no")], "f1") == 0.0
    assert free_share([row._replace(in_use=12)], "f1") == 0.0


# --- waiting everywhere ----------------------------------------------------------------------------


def waiting(*triads: FakeTriad) -> list[int]:
    return [len(triad.ledger.waiting) for triad in triads]


def test_a_checkout_waits_everywhere_and_leaves_the_other_queues_when_one_grants() -> None:
    triads = [FakeTriad(host, count=0) for host in "abc"]
    world = World(*triads)
    request = world.checkout(queue=True)
    world.run(1.0)
    assert waiting(*triads) == [1, 1, 1]
    assert [(one.request, one.site) for one in world.all_told(CheckoutQueued)] == [(request, 0)]
    free_one(world, triads[1])
    world.run(1.0)
    assert sites(world) == [1]
    assert waiting(*triads) == [0, 0, 0]


def test_two_grants_in_one_moment_leave_one() -> None:
    triads = [FakeTriad(host, count=0) for host in "abc"]
    world = World(*triads)
    world.checkout(queue=True)
    world.run(1.0)
    for triad in triads:
        free_one(world, triad)
    for _ in range(300):
        world.run(0.01)
        assert len(world.node.held(world.now)) <= 1
    assert len(sites(world)) == 1
    assert [triad.ledger.free for triad in triads] == [0, 1, 1], "the others have it back"


def test_a_withdrawal_leaves_every_queue() -> None:
    triads = [FakeTriad(host, count=0) for host in "ab"]
    world = World(*triads)
    request = world.checkout(queue=True)
    world.run(1.0)
    world.node.withdraw(request, now=world.now, wall=world.wall)
    world.drain()
    world.run(1.0)
    assert waiting(*triads) == [0, 0]
    for triad in triads:
        free_one(world, triad)
    world.run(1.0)
    assert sites(world) == []


def test_a_server_that_comes_up_while_it_waits_is_asked_as_well() -> None:
    full, dead = FakeTriad("a", count=0), FakeTriad("b")
    dead.servers[0].up = False
    world = World(full, dead)
    world.checkout(queue=True)
    world.run(5.0)
    assert waiting(full) == [1]
    dead.servers[0].up = True
    world.run(30.0)
    assert sites(world) == [1]
    assert waiting(full) == [0]


def test_a_server_that_dies_while_it_waits_takes_no_other_place_with_it() -> None:
    first, second = (FakeTriad(host, count=0) for host in "ab")
    world = World(first, second)
    world.checkout(queue=True)
    world.run(1.0)
    world.kill(first.servers[0])
    world.run(8.0)
    assert not world.all_told(CheckoutDeniedAction)
    assert waiting(second) == [1]
    free_one(world, second)
    world.run(1.0)
    assert sites(world) == [1]


def test_waiting_ends_with_a_no_when_nobody_is_left_who_could_grant() -> None:
    first, second = (FakeTriad(host, count=0) for host in "ab")
    world = World(first, second)
    request = world.checkout(queue=True)
    world.run(1.0)
    for triad in (first, second):
        _, session, message = triad.ledger.waiting.pop()
        no = wire.Denied(0, message.request, 1, False, -5, 346, "No such feature exists", "it was taken out")
        triad.ledger.results[session, message.request] = ("denied", (-5, 346, "No such feature exists", ""))
        assert not world.all_told(CheckoutDeniedAction)
        world.push_message(triad.servers[0], no)
        world.run(1.0)
    assert [(no.request, no.code) for no in world.all_told(CheckoutDeniedAction)] == [(request, -5)]


def test_the_best_place_is_told_and_where() -> None:
    first, second = (FakeTriad(host, count=0) for host in "ab")
    first.ledger.waiting = [(1, b"x", wire.Checkout(1, 1, 0, "f1", "", 1, 0, True))]
    world = World(first, second)
    world.checkout(queue=True)
    world.run(1.0)
    last = world.all_told(CheckoutQueued)[-1]
    assert (last.site, last.ahead) == (1, 0)
