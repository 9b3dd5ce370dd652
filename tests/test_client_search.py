"""The search path: staggered, in order, the master learned from any member; and what is said when nobody serves."""

from __future__ import annotations

import itertools

import pytest

from flexcore.client import CheckoutDeniedAction, CheckoutGranted, ClientConfig
from flexcore.wire import messages as wire
from tests.client_fakes import LEASE_S, FakeTriad, World


def addresses(*hosts: str) -> tuple[wire.ServerAddress, ...]:
    return tuple(wire.ServerAddress(host, 2837) for host in hosts)


def granted_at(world: World) -> float:
    """Run until the checkout is granted; how long it took."""
    start = world.now
    world.checkout()
    while not world.all_told(CheckoutGranted) and world.now < start + 60:
        world.run(0.01)
    return world.now - start


def test_first_host_is_master_and_is_all_that_is_asked():
    world = World(FakeTriad("pat", "lee", "terry"))
    assert granted_at(world) < 0.1
    assert [host for _, host in world.connects()] == ["pat"]


def test_a_dead_first_host_costs_a_quarter_of_a_second():
    triad = FakeTriad("pat", "lee", "terry", master=1)
    triad.servers[0].dark = True
    world = World(triad)
    assert granted_at(world) < 0.35
    assert world.connects()[:2] == [(100.0, "pat"), (100.25, "lee")]


def test_a_refusing_first_host_costs_nothing():
    triad = FakeTriad("pat", "lee", "terry", master=1)
    triad.servers[0].up = False
    world = World(triad)
    assert granted_at(world) < 0.15


@pytest.mark.parametrize("member", [0, 1, 2])
def test_the_master_is_learned_from_any_member(member):
    """'the configuration will work if you include only one of the license servers' (seed)"""
    triad = FakeTriad("pat", "lee", "terry", master=1)
    world = World(triad, path=(triad.addresses[member : member + 1],))
    assert granted_at(world) < 0.2
    assert world.connects()[-1][1] == "lee"


def test_the_master_is_remembered():
    triad = FakeTriad("pat", "lee", "terry", master=1)
    world = World(triad)
    world.hold()
    count = len(world.connects())
    world.break_connections(triad.servers[1])
    world.run(0.2)
    assert [host for _, host in world.connects()[count:]] == ["lee"]


def test_addresses_of_the_path_win_over_names_that_do_not_resolve():
    """The path says how the servers are reached from here; what they call themselves may mean nothing here."""
    triad = FakeTriad("pat", "lee", "terry", master=1)
    local = addresses("10.0.0.1", "10.0.0.2", "10.0.0.3")
    world = World(triad, path=(local,))
    world.servers = dict(zip(local, triad.servers, strict=True))
    assert granted_at(world) < 0.6
    world.run(20)
    count = len(world.connects())
    world.break_connections(triad.servers[1])
    world.run(0.2)
    assert [host for _, host in world.connects()[count:]] == ["10.0.0.2"]
    triad.elect(0)
    world.kill(triad.servers[1])
    world.run(1)
    assert world.node.ready
    assert len(world.node.held(world.now)) == 1


def test_back_off_doubles_up_to_a_second_per_address():
    triad = FakeTriad("pat", "lee", "terry")
    for server in triad.servers:
        server.up = False
    world = World(triad)
    world.delay_s = 0.0
    world.checkout()
    world.run(30)
    times = [at for at, host in world.connects() if host == "pat"]
    gaps = [round(b - a, 2) for a, b in itertools.pairwise(times)]
    assert gaps[0] < 0.3
    assert all(0.7 < gap <= 1.3 for gap in gaps[5:])
    assert len(times) <= 45
    assert len([1 for _, host in world.connects()]) <= 3 * 45


def test_one_server_alone():
    world = World(FakeTriad("solo"))
    assert granted_at(world) < 0.1


def test_a_waiting_triad_is_polled_not_dialled_again():
    triad = FakeTriad("pat", "lee", "terry", master=None)
    world = World(triad)
    world.checkout()
    world.run(30)
    assert len(world.connects()) == 3
    polls = len(world.sent(wire.StatusRequest))
    assert 60 <= polls <= 150
    triad.elect(0)
    world.run(1.1)
    assert len(world.all_told(CheckoutGranted)) == 1
    assert len(world.conns) == 1


# --- why nobody serves ----------------------------------------------------------------------------


def test_no_server_is_told_apart_from_no_quorum():
    triad = FakeTriad("pat", "lee", "terry", master=None)
    triad.servers[0].up = False
    world = World(triad)
    assert world.node.trouble(world.now) is None
    world.checkout()
    world.run(2)
    trouble = world.trouble()
    assert trouble.code == -97
    assert trouble.text == "The desired vendor daemon is down. (-97,121) waiting for a quorum"
    assert trouble.attempts == (
        "2837@pat: Connection refused",
        "2837@lee: waiting: waiting for a quorum",
        "2837@terry: waiting: waiting for a quorum",
    )
    for server in triad.servers:
        world.kill(server)
    world.run(2)
    trouble = world.trouble()
    assert trouble.code == -15
    assert trouble.text == (
        'Cannot connect to license server system. (-15,570:111 "Connection refused")'
    )


def test_until_counts_down_and_the_reason_is_the_servers():
    triad = FakeTriad("pat", "lee", "terry", master=None)
    triad.reason = "forming a triad"
    triad.until_s = 100.0
    world = World(triad)
    world.checkout()
    world.run(0.5)
    first = world.trouble().until_s
    assert first is not None
    assert 99 < first <= 100
    for server in triad.servers:
        server.frozen = True
    world.run(3)
    assert world.trouble().until_s == pytest.approx(first - 3, abs=0.6)
    assert "forming a triad" in world.trouble().text


def test_a_server_that_says_nothing_is_down():
    triad = FakeTriad("solo")
    triad.servers[0].frozen = True
    world = World(triad)
    world.checkout()
    world.run(7)
    assert world.trouble().code == -96
    world.thaw(triad.servers[0])
    world.run(3)
    assert world.node.trouble(world.now) is None


def test_a_refusal_is_passed_on():
    triad = FakeTriad("solo")
    triad.servers[0].refusal = wire.Refusal(-106, "too many connections")
    world = World(triad)
    world.checkout()
    world.run(2)
    trouble = world.trouble()
    assert (trouble.code, trouble.text) == (-106, "too many connections")


# --- comma lists that are no triad ----------------------------------------------------------------


def test_a_comma_list_of_single_servers_is_told_so():
    one, other = FakeTriad("one"), FakeTriad("other")
    world = World(one, other, path=(addresses("one", "other"),))
    world.checkout()
    world.run(1)
    (denied,) = world.all_told(CheckoutDeniedAction)
    assert denied.code == -9
    assert "2837@one,2837@other is not one triad" in denied.detail
    assert "':'" in denied.detail


def test_a_comma_list_of_two_triads_is_told_so():
    triad = FakeTriad("pat", "lee", "terry", master=None)
    triad.digests = {1: b"other"}
    world = World(triad)
    world.checkout()
    world.run(2)
    (denied,) = world.all_told(CheckoutDeniedAction)
    assert denied.code == -9
    assert "another licence file" in denied.detail


def test_who_holds_something_does_not_follow_a_stranger():
    triad = FakeTriad("pat", "lee", "terry")
    world = World(triad)
    seat = world.hold()
    world.kill(triad.servers[0])
    triad.elect(1)
    triad.digests = {1: b"other"}
    world.run(10)
    assert not world.node.ready
    assert world.node.held(world.now) == (seat,)
    triad.digests = {}
    world.run(2)
    assert world.node.ready


# --- alternatives ---------------------------------------------------------------------------------


def two_sites(**config) -> tuple[World, FakeTriad, FakeTriad]:
    first, second = FakeTriad("pat", "lee", "terry"), FakeTriad("solo")
    return World(first, second, **config), first, second


def test_the_first_alternative_is_used_while_it_serves():
    world, _, second = two_sites()
    seat = world.hold()
    assert seat.site == 0
    assert second.servers[0].heard == []


def test_an_unreachable_alternative_is_passed_over_at_once_when_it_refuses():
    world, first, _ = two_sites()
    for server in first.servers:
        server.up = False
    seat = world.hold()
    assert seat.site == 1


def test_a_silent_alternative_is_passed_over_after_two_seconds():
    world, first, _ = two_sites()
    for server in first.servers:
        server.dark = True
    world.checkout()
    world.run(1.9)
    assert world.all_told(CheckoutGranted) == []
    world.run(0.3)
    assert world.all_told(CheckoutGranted)[0].seat.site == 1


def test_a_denial_goes_on_to_the_next_alternative():
    world, first, second = two_sites()
    second.features.add("f2")
    request = world.checkout("f2")
    world.run(1)
    (granted,) = world.all_told(CheckoutGranted)
    assert (granted.request, granted.seat.site) == (request, 1)
    assert world.all_told(CheckoutDeniedAction) == []
    assert len(first.ledger.sessions) == 1


def test_denied_by_all_tells_the_most_telling_no():
    world, first, second = two_sites()
    first.features.clear()
    second.ledger.free = 0
    request = world.checkout()
    world.run(1)
    (denied,) = world.all_told(CheckoutDeniedAction)
    assert (denied.request, denied.code) == (request, -4)


def test_denied_by_one_with_the_other_down_is_a_denial():
    world, first, second = two_sites()
    first.ledger.free = 0
    second.servers[0].up = False
    world.checkout()
    world.run(1)
    assert [a.code for a in world.all_told(CheckoutDeniedAction)] == [-4]


def test_a_request_moves_on_and_is_withdrawn_where_it_was():
    world, first, _ = two_sites()
    world.hold()
    for server in first.servers:
        server.frozen = True
    world.checkout()
    world.run(0.1)
    for server in first.servers:
        world.kill(server)
    world.run(1)
    assert [a.seat.site for a in world.all_told(CheckoutGranted)] == [0, 1]
    for server in first.servers:
        server.up, server.frozen = True, False
    world.run(3)
    assert len(world.sent(wire.Withdraw)) == 1
    assert len(first.ledger.seats) == 1
    assert {seat.site for seat in world.node.held(world.now)} == {0, 1}


def test_seats_of_both_alternatives_live_and_die_apart():
    world, first, _ = two_sites()
    world.hold()
    first.ledger.free = 0
    world.hold()
    world.run(200)
    assert [seat.site for seat in world.node.held(world.now)] == [0, 1]
    for server in first.servers:
        world.kill(server)
    world.run(LEASE_S + 1)
    assert [seat.site for seat in world.node.held(world.now)] == [1]


# --- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [(), ((),), (addresses("a", "b", "c", "d"),), (addresses("a"),) * 65]
)
def test_impossible_paths(path):
    with pytest.raises(ValueError):
        ClientConfig(path=path, vendor="demo", user="u", host="h", display="d")
