"""The queue in the simulated triad: failover, restart and reread in the middle of a wait lose no place."""

from __future__ import annotations

import pytest

from flexcore.checkout.claims import Claims
from flexcore.identity import Rank
from flexcore.options import parse_options
from flexcore.wire.messages import Granted, Queued
from flexcore_testing.campaign import run_seed
from flexcore_testing.queue_checks import QueueChecks, Rules
from flexcore_testing.schedule_kit import quiet_profile
from flexcore_testing.service import ServiceTriad
from tests.server_kit import Kit, line

P, S, T = Rank
FAULTS = {"kill": 3.0, "power": 2.0, "stop one": 1.0, "reread": 1.0, "new licence": 1.0, "client kill": 2.0,
          "client reset": 2.0, "client cut": 1.0, "kill all": 0.5}  # fmt: skip


@pytest.fixture
def triad():
    triad = ServiceTriad(quiet_profile(interval_s=1, licensed=3))
    for rank in Rank:
        triad.start(rank)
        triad.advance(0.05)
    triad.advance_until(10.0, lambda: triad.master() is not None)
    return triad


def hold(client, triad, count=1):
    request = client.checkout("f1", count)
    triad.advance_until(20.0, lambda: request in client.granted)
    return client.granted[request].handle


def wait(client, triad, count=1):
    request = client.checkout("f1", count, queue=True)
    triad.advance_until(20.0, lambda: request in client.queued)
    return request


@pytest.mark.parametrize("event", ["kill", "hand-over", "all restart", "reread"])
def test_the_order_survives(triad, event):
    """Three are held; a large request waits, then a small one. Whatever happens to the servers, the large one is first,
    though one licence is free for a while."""
    ann, big, bob = (triad.client(name) for name in ("ann", "big", "bob"))
    handles = [hold(ann, triad) for _ in range(3)]
    large, small = wait(big, triad, 2), wait(bob, triad)
    places = [big.queued[large].place, bob.queued[small].place]
    if event == "kill":
        triad.kill(P)
    elif event == "hand-over":
        triad.stop(P, "one")
    elif event == "reread":
        for rank in Rank:
            triad.reread(rank, 3)
    else:
        for rank in Rank:
            triad.power_off(rank)
        for rank in Rank:
            triad.start(rank)
    triad.advance(1.0)
    triad.advance_until(20.0, lambda: triad.master() is not None and ann.node.ready and bob.node.ready)
    ann.checkin(handles[0])
    triad.advance(5.0)
    assert not big.granted
    assert not bob.granted
    assert [queued.place for queued in triad.master().ledger.state.queue.of("f1")] == places
    ann.checkin(handles[1])
    triad.advance_until(10.0, lambda: large in big.granted)
    assert not bob.granted
    big.close()
    triad.advance_until(10.0, lambda: small in bob.granted)
    assert triad.queue_checks.granted == 2


def test_a_reread_that_leaves_too_few_refuses_who_waits(triad):
    ann, big, bob = (triad.client(name) for name in ("ann", "big", "bob"))
    handles = [hold(ann, triad) for _ in range(3)]
    large, small = wait(big, triad, 3), wait(bob, triad)
    for rank in Rank:
        triad.reread(rank, 2)
    triad.advance_until(10.0, lambda: large in big.denied)
    assert big.denied[large].code == -26
    for handle in handles[:2]:
        ann.checkin(handle)
    triad.advance_until(10.0, lambda: small in bob.granted)


def test_who_is_gone_does_not_wait(triad):
    ann, dead, bob = (triad.client(name) for name in ("ann", "dead", "bob"))
    handle = hold(ann, triad, 3)
    wait(dead, triad, 3)
    small = wait(bob, triad)
    triad.kill(P)
    triad.kill_client("dead", says_so=False)
    triad.advance_until(20.0, lambda: triad.master() is not None and ann.node.ready)
    ann.checkin(handle)
    triad.advance_until(120.0, lambda: small in bob.granted or bool(triad.master().ledger.state.queue) is False)
    triad.advance(1.0)
    assert small in bob.granted


@pytest.mark.parametrize("seed", [3])
def test_queues_among_faults(seed):
    outcome = run_seed(seed, focus={"faults": FAULTS, "queueing": 0.6, "licensed": 2})
    assert not outcome.failure, outcome.text
    assert outcome.counts["queued"] > 0


def test_the_check_sees_who_is_overtaken():
    from flexcore.ledger.commands import RequestQueued, SeatGranted

    said = []
    checks = QueueChecks(lambda name, text: said.append(name))
    checks.committed(RequestQueued(b"a", 1, 0, "f1", "", 2))
    checks.committed(RequestQueued(b"b", 1, 0, "f1", "", 1))
    checks.committed(SeatGranted(b"a", 1, 0, 1, "f1", "p", "1.0", 2))
    assert not said
    checks.committed(SeatGranted(b"c", 1, 0, 2, "f1", "p", "1.0", 1))
    assert said == ["I9"]


def judged(options, *, group=""):
    """A desk whose entries the check hears, and what it complains of."""
    kit = Kit(line(seats=4)._replace(group=group), options=parse_options(options, name="x.opt"))
    said = []
    checks = QueueChecks(
        lambda name, text: said.append(text),
        lambda: Rules(kit.node._checkout, kit.state, kit.node._desk.day(kit.wall)),
    )
    propose = kit.quorum.propose

    def heard(command, **times):
        checks.committed(command)
        return propose(command, **times)

    kit.quorum.propose = heard  # type: ignore[method-assign]
    return kit, checks, said


MAX = "GROUP team ann bob\nMAX 3 f1 GROUP team\n"


@pytest.mark.parametrize(
    ("options", "group", "waits_for", "passes", "overtakes"),
    [
        ("", "", 3, None, "cem"),
        ("RESERVE 1 f1 USER cem\n", "", 3, "cem", "dan"),
        (MAX, "", 2, "cem", "ann"),
        ("", "U", 3, "ann", "cem"),
        ("LINGER f1 300\n", "", 3, "ann", "cem"),
    ],
)
def test_the_check_knows_who_may_pass(monkeypatch, options, group, waits_for, passes, overtakes):
    """The desk lets some pass, and the check says nothing; without the desk's rule it complains."""
    kit, checks, said = judged(options, group=group)
    clients = {name: kit.client(name) for name in ("ann", "bob", "cem", "dan")}
    handle = clients["ann"].checkout(count=2).handle
    assert isinstance(clients["bob"].checkout(count=waits_for, queue=True), Queued)
    if "LINGER" in options:
        clients["ann"].checkin(handle)
    if passes is not None:
        assert isinstance(clients[passes].checkout(count=2 if passes == "ann" else 1), Granted)
        assert not said
        assert checks.passed == (passes == "cem")  # what takes nothing more passes nobody
    assert clients[overtakes].checkout().code == -24
    monkeypatch.setattr(Claims, "lets_pass", lambda *_arguments: True)
    assert isinstance(clients[overtakes].checkout(), Granted)
    assert len(said) == 1
