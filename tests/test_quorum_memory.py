"""A server that keeps nothing (``lmgrd --state-dir none``): what memory holds is durable in the turn it came in."""

from __future__ import annotations

import random

import pytest

from flexcore.identity import Rank
from flexcore.quorum.events import Persist
from tests.quorum_kit import TO, P, S, T, Triad, session


def in_memory(**changes: object) -> Triad:
    triad = Triad(first_start=True, in_memory=True, **changes)
    triad.start(P, S, T)
    triad.run_until(lambda: triad.master is P and len(triad.members()) == 3, at_most=10.0)
    return triad


def test_what_memory_holds_is_durable_in_the_same_turn() -> None:
    alone = Triad(triad=False, in_memory=True)
    alone.start(P)
    machine = alone[P].machine
    assert machine.may_serve(alone.now)
    index = machine.propose(session(1), now=alone.now, wall=alone.wall)
    assert machine.ledger.commit < index
    machine.end_turn(now=alone.now, wall=alone.wall)
    assert machine.ledger.commit == machine.durable_index == index
    assert not [each for each in alone[P].actions if isinstance(each, Persist)]
    assert machine.next_action() is None


def test_a_triad_in_memory_asks_for_no_persist_and_survives_its_master() -> None:
    triad = in_memory()
    index = triad.propose(P, session(1))
    assert triad[P].machine.ledger.commit == index, "one acknowledgement is enough, and nothing waits for a disk"
    triad.run(2.0)
    triad.kill(P)
    triad.run_until(lambda: triad.master is S, at_most=2 * TO)
    assert triad[S].machine.ledger.state.sessions.keys() == {(1).to_bytes(16, "big")}
    triad.start(P)  # blank: nothing outlived the process
    assert not triad[P].machine.hard.member
    triad.run_until(lambda: len(triad.members()) == 3, at_most=3 * TO)
    assert triad[P].machine.ledger.state.sessions.keys() == {(1).to_bytes(16, "big")}
    for rank in (P, S, T):
        assert not [each for each in triad[rank].actions if isinstance(each, Persist)]
        assert triad[rank].machine.writing_since is None


@pytest.mark.parametrize("seed", range(12))
def test_a_triad_in_memory_keeps_its_word_whatever_is_cut(seed: int) -> None:
    """Proposals, cuts, one server at a time killed and started blank again: what was committed stays."""
    triad = in_memory()
    drawn = random.Random(seed)
    told: set[bytes] = set()
    down: Rank | None = None
    for number in range(1, 100):
        what, rank, seconds = drawn.random(), drawn.choice([P, S, T]), drawn.uniform(0.01, 2 * TO)
        if what < 0.4 and triad.master is not None:
            index = triad.propose(triad.master, session(number))
            if triad[triad.master].machine.ledger.commit >= index:
                told.add(number.to_bytes(16, "big"))
        elif what < 0.5:
            triad.heal()
            triad.cut_off(rank)
        elif what < 0.6:
            triad.heal()
        elif what < 0.7 and down is None and len(triad.members()) == 3:
            triad.heal()
            triad.run(2 * TO)
            triad.kill(rank)
            down = rank
        elif what < 0.8 and down is not None:
            triad.heal()
            triad.start(down)
            triad.run(4 * TO)
            down = None
        else:
            triad.run(seconds)
        serving = [each for each in Rank if triad[each].serves()]
        assert len(serving) <= 1, f"after step {number}"
    triad.heal()
    if down is not None:
        triad.start(down)
    triad.run(6 * TO)
    master = triad.master
    assert master is not None
    assert told <= triad[master].machine.ledger.state.sessions.keys()
    assert len(told) > 5
    assert triad[master].machine.hard.term > 1
    assert len({triad[rank].machine.ledger.state.fingerprint() for rank in Rank}) == 1
