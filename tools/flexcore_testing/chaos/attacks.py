"""What an attack is, and the list of them all.

An attack hurts one thing, looks at what must be so meanwhile, and mends it; the conductor then waits
until all three serve together again. So at any time at most one server is down, cut off or without its
disk, and nothing may be lost (I4).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

import attrs

from flexcore.identity import Rank

from .ground import Ground
from .load import Load
from .servers import Servers

__all__ = ["ATTACKS", "Attack", "Skipped", "Stage", "attack", "choose"]


class Skipped(Exception):
    """This machine does not allow the attack; the words say why."""


class Stage(Protocol):
    """What an attack works with."""

    folder: Path
    servers: Servers
    load: Load
    draw: random.Random

    @property
    def ground(self) -> Ground:
        """What servers and clients stand on."""

    def note(self, text: str) -> None:
        """Write into the run's log what is being done."""


@attrs.frozen(kw_only=True)
class Attack:
    """One attack: what it is called, how often it comes, where it works, and how it is done."""

    name: str
    ground: str
    """``any``, ``loopback`` or ``machines``."""
    weight: int
    run: Callable[[Stage], None]

    @property
    def key(self) -> str:
        """The name for ``--attacks``."""
        return self.run.__name__.replace("_", "-")


ATTACKS: list[Attack] = []


def attack(
    name: str, *, ground: str = "any", weight: int = 2
) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Enter a function into the list."""

    def enter(function: Callable[[Stage], None]) -> Callable[[Stage], None]:
        ATTACKS.append(Attack(name=name, ground=ground, weight=weight, run=function))
        return function

    return enter


def choose(ground: str, wanted: Collection[str] = ()) -> list[Attack]:
    """The attacks for a ground, in a fixed order; *wanted* keys only, where given."""
    return [
        each
        for each in ATTACKS
        if each.ground in ("any", ground) and (not wanted or each.key in wanted)
    ]


def any_rank(stage: Stage) -> Rank:
    """One of the three; every second time the master, who has more to lose."""
    master = stage.servers.master() if stage.draw.random() < 0.5 else None
    return stage.draw.choice(list(Rank)) if master is None else master
