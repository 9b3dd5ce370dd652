"""Attacks on three machines with addresses of their own: cables pulled, routes cut, administration."""

from __future__ import annotations

import time
from typing import cast

from flexcore.identity import Rank

from .attacks import Stage, any_rank, attack
from .ground import CLIENTS, NamespaceGround
from .servers import ChaosFailed

NOT_ON_SERVER_MACHINE = 137
"""The exit status of -119."""


def _ground(stage: Stage) -> NamespaceGround:
    return cast("NamespaceGround", stage.ground)


def _while(stage: Stage) -> None:
    time.sleep(stage.draw.uniform(0.2, 2.5 * stage.servers.timeout_s))


@attack("network cable of a server pulled (veth down)", ground="machines", weight=6)
def pull_cable(stage: Stage) -> None:
    """The kernel drops everything, the process lives."""
    rank = any_rank(stage)
    stage.note(f"cable of {rank.word} pulled")
    machines = _ground(stage).machines
    machines.unplug(rank)
    try:
        _while(stage)
        stage.load.await_work("a cable is pulled")
    finally:
        machines.plug(rank)


@attack("cable pulled and the server killed meanwhile", ground="machines", weight=3)
def pull_and_kill(stage: Stage) -> None:
    """Nobody is told that it is dead; it comes back on the same address."""
    rank = any_rank(stage)
    stage.note(f"cable of {rank.word} pulled, kill -9, back")
    machines = _ground(stage).machines
    machines.unplug(rank)
    try:
        time.sleep(stage.draw.uniform(0.0, 1.0))
        stage.servers.kill(rank)
        stage.load.await_work("a dead server behind a dead cable")
        stage.servers.start(rank, wait=False)
    finally:
        machines.plug(rank)


@attack("route between two servers cut, one way", ground="machines", weight=4)
def one_way_route(stage: Stage) -> None:
    """The sender's kernel drops what it sends to one other."""
    sender = any_rank(stage)
    receiver = stage.draw.choice([rank for rank in Rank if rank is not sender])
    stage.note(f"no route from {sender.word} to {receiver.word}")
    machines = _ground(stage).machines
    machines.cut(sender, receiver)
    try:
        _while(stage)
        stage.load.await_work("a one-way cut")
    finally:
        machines.join(sender, receiver)


@attack("routes between two servers cut", ground="machines", weight=3)
def cut_routes(stage: Stage) -> None:
    """Both reach the third and the clients."""
    one, other = stage.draw.sample(list(Rank), 2)
    stage.note(f"no route between {one.word} and {other.word}")
    machines = _ground(stage).machines
    machines.cut(one, other)
    machines.cut(other, one)
    try:
        _while(stage)
        stage.load.await_work("two servers do not reach each other")
    finally:
        machines.join(one, other)
        machines.join(other, one)


@attack("administration from a fourth machine is refused", ground="machines", weight=2)
def stranger(stage: Stage) -> None:
    """lmdown from where the clients are: -119, and nothing happens."""
    stage.note("lmdown from the clients' machine")
    for words in ((), ("--server", any_rank(stage).word)):
        done = stage.servers.flexcore("lmdown", "-q", *words, "-c", stage.servers.path(), place=CLIENTS)
        if done.returncode != NOT_ON_SERVER_MACHINE or "-119" not in done.stdout:
            raise ChaosFailed(f"lmdown from a fourth machine: {done.returncode}\n{done.stdout}{done.stderr}")
    stage.servers.await_peace("an lmdown that is refused")


@attack("lmdown of one server from its own machine", ground="machines", weight=2)
def down_one(stage: Stage) -> None:
    """It hands over and ends with 0; the others serve."""
    rank = any_rank(stage)
    stage.note(f"lmdown --server {rank.word} on its machine")
    _down(stage, rank, "--server", rank.word)
    if stage.servers.processes.pop(rank).wait(60) != 0:
        raise ChaosFailed(f"the {rank.word} did not end with 0 after lmdown")
    stage.load.await_work("lmdown of one server")
    stage.servers.start(rank)


@attack("lmdown of one server from another server's machine", ground="machines", weight=1)
def down_other(stage: Stage) -> None:
    """That is not its own machine: refused, like any other stranger."""
    one, other = stage.draw.sample(list(Rank), 2)
    stage.note(f"lmdown --server {other.word} on the machine of {one.word}")
    done = stage.servers.flexcore(
        "lmdown", "-q", "--server", other.word, "-c", stage.servers.path(one), place=one
    )
    if done.returncode != NOT_ON_SERVER_MACHINE:
        raise ChaosFailed(f"lmdown of another machine's server: {done.returncode}\n{done.stdout}{done.stderr}")


@attack("lmdown of all three from one machine", ground="machines", weight=2)
def down_all(stage: Stage) -> None:
    """All end in order; started again they serve, and everything is held."""
    rank = any_rank(stage)
    stage.note(f"lmdown of all on the machine of {rank.word}")
    _down(stage, rank)
    for each in Rank:
        if stage.servers.processes.pop(each).wait(60) != 0:
            raise ChaosFailed(f"the {each.word} did not end with 0 after lmdown")
    for each in Rank:
        stage.servers.start(each)


def _down(stage: Stage, rank: Rank, *words: str) -> None:
    done = stage.servers.flexcore("lmdown", "-q", *words, "-c", stage.servers.path(rank), place=rank)
    if done.returncode != 0:
        raise ChaosFailed(f"lmdown {words} on {rank.word}: {done.returncode}\n{done.stdout}{done.stderr}")
