"""Redundancy by search path (the seed's other method): three independent servers, one of which is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flexcore.client import CheckoutGranted
from flexcore.client.values import LEAST_LOADED, PATH_ORDER
from flexcore_testing.path_run import PathClient, PathWorld
from flexcore_testing.scenario_path import run_path_scenario

LEASE_S = 33.0
SCENARIOS = sorted((Path(__file__).parent / "scenarios" / "paths").glob("*.txt"))


def granted(client: PathClient) -> list[int]:
    """At which servers this client was granted something, in order."""
    return [each.seat.site for each in client.told if isinstance(each, CheckoutGranted)]


def take(world: PathWorld, name: str, *servers: int, **how: Any) -> PathClient:
    """A client that holds one seat."""
    client = world.client(name, *servers, **how)
    client.checkout()
    assert world.run(5.0, lambda: bool(client.held)), name
    return client


def waits(world: PathWorld) -> list[int]:
    return [len(server.state.queue) for server in world.servers if server.node is not None]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert run_path_scenario(text) == text


def test_it_waits_at_all_servers_at_once_and_holds_one_seat() -> None:
    world = PathWorld(1, (1, 1, 1))
    holders = [take(world, f"h{number}", number) for number in range(3)]
    ann = world.client("ann")
    ann.checkout(queue=True)
    assert world.run(5.0, lambda: waits(world) == [1, 1, 1])
    for holder in holders[1:]:  # two at once: one of the grants is given back before anybody hears of it
        holder.checkin()
    assert world.run(5.0, lambda: bool(ann.held))
    world.run(5.0)
    assert waits(world) == [0, 0, 0]
    assert len(granted(ann)) == len(ann.held) == 1
    assert sum(sum(server.state.in_use.values()) for server in world.servers) == 2


def test_the_least_loaded_server_is_preferred_and_the_next_when_it_is_killed() -> None:
    world = PathWorld(2, (4, 4, 4))
    for number in (0, 0, 0, 1, 1, 2):
        take(world, f"h{number}", number)
    assert granted(take(world, "ann", prefer=LEAST_LOADED)) == [2]
    assert granted(take(world, "bob", prefer=PATH_ORDER)) == [0]
    world.servers[2].kill()
    world.run(1.0)
    assert granted(take(world, "carl", prefer=LEAST_LOADED)) == [1]


def test_what_is_held_at_a_server_that_is_killed_is_lost_with_the_lease_and_asked_for_elsewhere() -> None:
    world = PathWorld(3, (1, 1, 1))
    ann = take(world, "ann")
    world.servers[0].kill()
    world.run(LEASE_S / 2)
    assert ann.held, "it is believed in as long as the lease runs"
    assert world.run(LEASE_S, lambda: not ann.held)
    ann.checkout()
    assert world.run(10.0, lambda: bool(ann.held))
    assert granted(ann) == [0, 1]


@pytest.mark.parametrize("seed", range(1, 3))
def test_seven_share_what_three_servers_have_while_one_dies(seed: int) -> None:
    """Checks after every turn: see PathWorld.check. Everybody is served again and again, by the two that are left."""
    world = PathWorld(seed, (2, 1, 2))
    prefer = LEAST_LOADED if seed % 2 else PATH_ORDER
    served: dict[str, list[float]] = {}

    def begin(client: PathClient) -> None:
        def told(action: Any) -> None:
            if isinstance(action, CheckoutGranted):
                served.setdefault(client.name, []).append(world.now)
                world.after(world.rng.uniform(0.2, 3.0), end)
            elif not client.held:
                world.after(0.5, ask)

        def end() -> None:
            if client.held:
                client.checkin()
                world.after(world.rng.uniform(0.0, 1.0), ask)

        def ask() -> None:
            if not client.held and client.name not in asking:
                asking.add(client.name)
                client.asked = 0
                client.checkout(queue=True)

        def heard(action: Any) -> None:
            if type(action).__name__ in ("CheckoutGranted", "CheckoutDeniedAction"):
                asking.discard(client.name)
            if type(action).__name__ != "CheckoutQueued":
                told(action)

        client.on_told = heard
        world.after(world.rng.random(), ask)

    asking: set[str] = set()
    for number in range(7):
        begin(world.client(f"c{number}", prefer=prefer))
    world.run(20.0)
    world.servers[world.rng.randrange(3)].kill()
    world.run(LEASE_S + 10.0)
    since = world.now
    world.run(30.0)
    assert all(any(at > since for at in served[f"c{number}"]) for number in range(7))
    assert sum(len(each) for each in served.values()) > 50
