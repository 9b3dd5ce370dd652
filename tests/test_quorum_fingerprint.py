"""Equal fingerprints, equal futures: what exhaustive exploration rests on; and twins that share nothing."""

from __future__ import annotations

import copy
import enum
import random
from typing import Any

import attrs
import pytest

from flexcore.quorum import QuorumMachine
from flexcore.quorum.fingerprint import _AHEAD, _BEHIND, _PAIRS, fingerprint_of
from flexcore.wire.messages import Hello
from flexcore_testing.explore_server import Setting
from flexcore_testing.explore_world import Bounds, State, World
from flexcore_testing.explore_world import Event as Happening

WALKS, STEPS = 12, 40


def world() -> World:
    bounds = Bounds(longs=6, shorts=6, crashes=2, losses=1, cuts=2, asks=4, stops=1, row=50)
    return World(Setting(), bounds, urgent=(Hello,))


def a_walk(world: World, seed: int) -> list[State]:
    rng, state = random.Random(seed), world.first_state()
    states = [state]
    for _ in range(STEPS):
        events: list[Happening] = world.events(state)
        if not events:
            break
        state = world.after(state, rng.choice(events))
        states.append(state)
    return states


@pytest.fixture(scope="module")
def machines() -> list[QuorumMachine]:
    """Of many moments: elections, recoveries, hand-overs."""
    here = world()
    for seed in range(WALKS):
        a_walk(here, seed)
    return [server.machine for server in here.parts.servers if server.machine is not None]


def test_machines_with_one_fingerprint_behave_alike() -> None:
    """Two lives of the same walk at other instants of the clock: each answer and each state is the same."""
    one, two = world(), world()
    for seed in range(4):
        assert a_walk(one, seed) == a_walk(two, seed)
    assert [each.digest() for each in one.parts.servers] == [each.digest() for each in two.parts.servers]


def test_an_event_makes_the_same_of_every_machine_with_this_fingerprint(machines: list[QuorumMachine]) -> None:
    """The same machine, shifted in time, wakes up to the same fingerprint."""
    for machine in machines[:: max(1, len(machines) // 60)]:
        shifted = copy.deepcopy(machine)
        _shift(shifted, 500.0)
        assert fingerprint_of(shifted, machine.now + 500.0) == fingerprint_of(machine, machine.now)
        twin = machine.copy()
        twin.handle_timeout(now=machine.now + 30.0, wall=machine.wall)
        shifted.handle_timeout(now=machine.now + 530.0, wall=machine.wall)
        assert fingerprint_of(twin, machine.now + 30.0) == fingerprint_of(shifted, machine.now + 530.0)


def _shift(value: Any, by: float) -> None:
    """Move every instant of a machine."""
    instants = {
        "acked_at", "asked_at", "beat_at", "boot_at", "candidacy_until", "eligible_since", "form_at", "good_since",
        "greet_at", "handover_until", "heard_at", "hello_at", "hello_sent_at", "hurried_at", "lease_until",
        "no_promise_before", "now", "opened_at", "primary_reign_since", "promise_until", "recover_at", "redial_at",
        "refused_handover_until", "stand_not_before", "stop_until", "vote_sent_at", "_outstanding_since",
    }  # fmt: skip
    names = vars(value) if hasattr(value, "__dict__") else [each.name for each in attrs.fields(type(value))]
    for name in names:
        at = getattr(value, name)
        if name in instants and isinstance(at, float):
            setattr(value, name, at + by)
        elif name in ("inflight", "_acks"):
            setattr(value, name, type(at)((number, instant + by) for number, instant in at))
        elif name in ("peers", "links"):
            for each in at.values():
                _shift(each, by)
        elif name == "pull" and at is not None:
            _shift(at, by)


def test_every_attribute_counts(machines: list[QuorumMachine]) -> None:
    """Whatever is changed in a machine shows, but for what is left out with a reason."""
    machine = machines[-1]
    before = fingerprint_of(machine, machine.now)
    for name in vars(machine):
        if name in ("config", "now", "wall", "_actions"):
            continue
        twin = machine.copy()
        if name in _AHEAD | _BEHIND:
            setattr(twin, name, machine.now + 7.25)
        else:
            setattr(twin, name, ((1, 7.25),) if name in _PAIRS else "other")
        assert fingerprint_of(twin, machine.now) != before, name


def test_a_twin_shares_nothing_that_changes(machines: list[QuorumMachine]) -> None:
    for machine in machines[:: max(1, len(machines) // 60)]:
        shared = _mutable(machine, {}) .keys() & _mutable(machine.copy(), {}).keys()
        assert not shared


def _mutable(value: Any, found: dict[int, str], depth: int = 0) -> dict[int, str]:
    """Ids of everything inside that can change."""
    if value is None or isinstance(value, bool | int | float | str | bytes | enum.Enum) or callable(value):
        return found
    if isinstance(value, tuple):
        for each in value:
            _mutable(each, found, depth + 1)
        return found
    kind = type(value)
    if id(value) in found:
        return found
    if not (attrs.has(kind) and kind.__name__ in _FROZEN):
        found[id(value)] = kind.__name__
    if isinstance(value, dict):
        for each in value.values():
            _mutable(each, found, depth + 1)
    elif isinstance(value, list | set) or kind.__name__ == "deque":
        for each in value:
            _mutable(each, found, depth + 1)
    elif hasattr(value, "__dict__"):
        for each in vars(value).values():
            _mutable(each, found, depth + 1)
    elif attrs.has(kind):
        for field in attrs.fields(kind):
            _mutable(getattr(value, field.name), found, depth + 1)
    return found


_FROZEN = frozenset({"QuorumConfig", "Halt", "RecoverGoal", "RecoverAsk"})
