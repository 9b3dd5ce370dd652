"""Attacks by the proxies on the links: slow, stalling, reset, half-open, cut in one way or both, refused.

None of them takes more from the triad than one server: two always can talk, and clients reach them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from flexcore.identity import Rank

from .attacks import Stage, any_rank, attack
from .ground import CLIENTS, Loopback, Place


def _ground(stage: Stage) -> Loopback:
    return cast("Loopback", stage.ground)


@contextmanager
def _healed(stage: Stage) -> Iterator[Loopback]:
    ground = _ground(stage)
    try:
        yield ground
    finally:
        ground.heal()


def _while(stage: Stage, factor: float = 2.0) -> float:
    """Shorter and longer than the timeout."""
    seconds = stage.draw.uniform(0.2, factor * stage.servers.timeout_s)
    time.sleep(seconds)
    return seconds


def _cut(ground: Loopback, sender: Place, receiver: Place) -> None:
    for link, way in ground.between(sender, receiver):
        link.set(cut=True, way=way)  # type: ignore[arg-type]


@attack("slow and stalling network", ground="loopback", weight=4)
def slow_network(stage: Stage) -> None:
    """Delay, jitter and loss on every link, of servers and clients."""
    draw = stage.draw
    with _healed(stage) as ground:
        faults: dict[str, Any] = {
            "delay_s": draw.choice((0.0, 0.01, 0.1, 0.3)), "jitter_s": draw.choice((0.0, 0.02, 0.2)),
            "stall_chance": draw.choice((0.0, 0.02, 0.1)), "stall_s": draw.uniform(0.2, 1.0),
        }  # fmt: skip
        stage.note(f"all links: {faults}")
        for link in ground.links.values():
            link.set(**faults)
        _while(stage)
        stage.load.await_work("a slow network")


@attack("little bandwidth", ground="loopback", weight=1)
def little_bandwidth(stage: Stage) -> None:
    """A few kilobytes a second on the links of one server."""
    rank = any_rank(stage)
    rate = stage.draw.uniform(2_000.0, 50_000.0)
    stage.note(f"links of {rank.word}: {rate:.0f} bytes/s")
    with _healed(stage) as ground:
        for link in ground.of(rank):
            link.set(bytes_per_s=rate)
        _while(stage)
        stage.load.await_work("little bandwidth")


@attack("connections reset", ground="loopback", weight=4)
def resets(stage: Stage) -> None:
    """All connections of some links, several times."""
    ground = _ground(stage)
    links = list(ground.links.values())
    chosen = stage.draw.sample(links, stage.draw.randrange(1, len(links) + 1))
    ended = 0
    for _ in range(stage.draw.randrange(1, 4)):
        ended += sum(link.reset() for link in chosen)
        time.sleep(stage.draw.uniform(0.0, 0.5))
    stage.note(f"reset {ended} connections on {len(chosen)} links")


@attack("one server cut off from the other two", ground="loopback", weight=4)
def isolate(stage: Stage) -> None:
    """Clients still reach it: it must not serve them."""
    rank = any_rank(stage)
    stage.note(f"cut {rank.word} off from its peers")
    with _healed(stage) as ground:
        for link in ground.peers_of(rank):
            link.set(cut=True)
        _while(stage)
        stage.load.await_work("one server is cut off from its peers")


@attack("one server cut off from everybody (black hole)", ground="loopback", weight=3)
def black_hole(stage: Stage) -> None:
    """As if its cable were pulled."""
    rank = any_rank(stage)
    stage.note(f"cut {rank.word} off from everybody")
    with _healed(stage) as ground:
        for link in ground.of(rank):
            link.set(cut=True)
        _while(stage)
        stage.load.await_work("one server is cut off")


@attack("one-way cut between two servers", ground="loopback", weight=4)
def one_way(stage: Stage) -> None:
    """What one sends does not arrive, the answers do."""
    sender = any_rank(stage)
    receiver = stage.draw.choice([rank for rank in Rank if rank is not sender])
    stage.note(f"nothing from {sender.word} arrives at {receiver.word}")
    with _healed(stage) as ground:
        _cut(ground, sender, receiver)
        _while(stage)
        stage.load.await_work("a one-way cut")


@attack("link between two servers cut", ground="loopback", weight=3)
def cut_pair(stage: Stage) -> None:
    """Both reach the third, not each other."""
    one, other = stage.draw.sample(list(Rank), 2)
    stage.note(f"cut {one.word} from {other.word}")
    with _healed(stage) as ground:
        _cut(ground, one, other)
        _cut(ground, other, one)
        _while(stage)
        stage.load.await_work("two servers do not reach each other")


@attack("server deaf: hears nothing, is heard", ground="loopback", weight=2)
def deaf(stage: Stage) -> None:
    """A one-way cut of one server from everybody."""
    rank = any_rank(stage)
    mute = stage.draw.random() < 0.5
    stage.note(f"{rank.word} is {'mute' if mute else 'deaf'}")
    with _healed(stage) as ground:
        for other in (CLIENTS, *(each for each in Rank if each is not rank)):
            if mute:
                _cut(ground, rank, other)
            else:
                _cut(ground, other, rank)
        _while(stage)
        stage.load.await_work("a server is deaf or mute")


@attack("half-open connections", ground="loopback", weight=2)
def half_open(stage: Stage) -> None:
    """New connections with one server are accepted and nobody answers; the open ones are reset."""
    rank = any_rank(stage)
    stage.note(f"half-open: {rank.word}")
    with _healed(stage) as ground:
        for link in ground.of(rank):
            link.set(accept="hang")
            link.reset()
        _while(stage)
        stage.load.await_work("half-open connections")


@attack("flapping link", ground="loopback", weight=2)
def flapping(stage: Stage) -> None:
    """Cut and healed many times."""
    rank = any_rank(stage)
    stage.note(f"links of {rank.word} flap")
    with _healed(stage) as ground:
        for _ in range(stage.draw.randrange(3, 12)):
            for link in ground.peers_of(rank):
                link.set(cut=True)
            time.sleep(stage.draw.uniform(0.0, 0.5 * stage.servers.timeout_s))
            ground.heal()
            time.sleep(stage.draw.uniform(0.0, 0.3))


@attack("false evidence of death (a firewall refuses)", ground="loopback", weight=3)
def false_evidence(stage: Stage) -> None:
    """Everybody else finds a living server refused and its connections gone (section 1 of the protocol:
    two masters for one lease are possible, more seats than licensed are not)."""
    rank = any_rank(stage)
    stage.note(f"{rank.word} lives, and all links say that it does not")
    with _healed(stage) as ground:
        for link in ground.of(rank) if stage.draw.random() < 0.5 else ground.peers_of(rank):
            link.set(accept="refuse")
            link.reset()
        _while(stage)
        stage.load.await_work("false evidence of death")


@attack("clients cut off from the master", ground="loopback", weight=2)
def clients_cut_off(stage: Stage) -> None:
    """The servers see each other, so nobody takes over: clients wait, and lose nothing."""
    master = stage.servers.await_master()
    stage.note(f"clients do not reach the master {master.word}")
    with _healed(stage) as ground:
        ground.links[CLIENTS, master].set(cut=True)
        _while(stage)


@attack("addresses that answer, but not every time", ground="loopback", weight=2)
def accept_and_reset(stage: Stage) -> None:
    """New connections with one server are reset in the first instant. Where it is the master, and only its connections
    with the others last, nobody takes over: then clients wait until the network is well again."""
    rank = any_rank(stage)
    stage.note(f"new connections with {rank.word} are reset")
    with _healed(stage) as ground:
        for link in ground.of(rank):
            link.set(accept="reset")
            if stage.draw.random() < 0.5:
                link.reset()
        _while(stage)
    stage.load.await_work("connections that are reset")
