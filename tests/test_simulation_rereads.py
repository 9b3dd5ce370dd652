"""Rereads in the simulated triad: a failover in the middle of a rolling change, and rereads among other faults."""

from __future__ import annotations

import pytest

from flexcore.identity import Rank
from flexcore_testing.campaign import run_seed
from flexcore_testing.schedule_kit import quiet_profile
from flexcore_testing.service import ServiceTriad

P, S, T = Rank
FAULTS = {"reread": 6.0, "kill": 3.0, "cut": 1.0, "pause": 1.0, "stop one": 1.0, "new licence": 1.0}


@pytest.fixture
def triad():
    triad = ServiceTriad(quiet_profile(interval_s=1, licensed=3))
    for rank in Rank:
        triad.start(rank)
        triad.advance(0.05)
    triad.advance_until(10.0, lambda: triad.master() is not None)
    return triad


def take(client, triad, number):
    """How many of *number* checkouts are granted."""
    requests = [client.checkout("f1") for _ in range(number)]
    triad.advance_until(20.0, lambda: all(r in client.granted or r in client.denied for r in requests))
    return sum(request in client.granted for request in requests)


@pytest.mark.parametrize(
    ("told", "more"),
    [((S,), 1), ((P,), 1), ((S, T), 0), ((P, S), 0)],
    ids=lambda value: "".join(rank.name[0] for rank in value) if isinstance(value, tuple) else str(value),
)
def test_the_master_dies_in_the_middle_of_a_rolling_reread(triad, told, more):
    """Three are licensed, two are held; the new file licenses one. Nobody loses a seat, and what is granted afterwards
    is what two servers' files say, or what was in force."""
    client = triad.client("ann")
    assert take(client, triad, 2) == 2
    held = {seat.handle for seat in client.held()}
    for rank in told:
        assert triad.reread(rank, 1)
        triad.advance(0.3)
    triad.kill(P)
    triad.advance_until(10.0, lambda: triad.master() is not None)
    assert take(client, triad, 2) == more
    assert {seat.handle for seat in client.held()} >= held
    for rank in {S, T} - set(told):
        triad.reread(rank, 1)
    triad.edit_licence(P, 1)
    triad.start(P)
    triad.advance(10.0)
    assert take(client, triad, 1) == 0
    assert {seat.handle for seat in client.held()} >= held
    rights = {run.ledger.state.rights for run in triad.runs()}
    assert len(rights) == 1


@pytest.mark.parametrize("seed", [7])
def test_rereads_among_other_faults(seed):
    outcome = run_seed(seed, focus={"faults": FAULTS})
    assert not outcome.failure, outcome.text
    assert outcome.counts["reread"] + outcome.counts["reread while serving"] > 0
