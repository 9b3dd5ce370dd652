"""Scenarios of redundancy by search path: several independent servers, each with a share of f1, and no triad.

The form is that of :mod:`flexcore_testing.scenario`: blocks of a command a line, ``----`` and what happens. The first
command says which servers there are, and how many licences each has; a client's path is all of them in that order::

    servers elm=1 oak=1 fir=2
    ann checkout
    run 1
    ----
    ann        holds a licence of elm

``ann prefers least-loaded`` before she asks for anything; ``ann queue`` waits at all of them if need be, ``ann
checkin`` gives back what she has longest, or ``ann checkin oak`` one of oak's. Where it is chance who of several grants
it, for who has waited and behind ``cem checkout anywhere``, the server is not told. ``kill elm`` is for good.
``seats?`` says what each server has out, and who waits there; ``held?`` how many each user holds. Times are not told:
this network draws its delays.

``tests/real/test_path_scenario.py`` runs the same text with real servers and clients. ``python -m
flexcore_testing.scenario_path FILE...`` compares, ``--rewrite`` puts what happened in place of what was expected.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from flexcore.client import (
    LEAST_LOADED,
    PATH_ORDER,
    CheckoutDeniedAction,
    CheckoutGranted,
    CheckoutQueued,
    SeatLost,
)
from flexcore_testing.path_run import PathClient, PathWorld
from flexcore_testing.scenario import ScenarioError, format_scenario, parse_scenario

SEED = 1


def shares_of(words: Sequence[str]) -> dict[str, int]:
    """``elm=1 oak=2`` as names and numbers of licences."""
    return {name: int(count) for name, _, count in (word.partition("=") for word in words)}


class PathStage:
    """Simulated servers and clients, and the commands that move them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.world = PathWorld(SEED, ())
        self.clients: dict[str, PathClient] = {}
        self.prefers: dict[str, str] = {}
        self._waiting: set[str] = set()
        self.told: list[str] = []

    def run(self, commands: Sequence[str]) -> list[str]:
        """Carry out some commands; what happened, one line each, or ``ok``."""
        self.told = []
        for command in commands:
            words = command.split()
            if words[0] == "servers":
                shares = shares_of(words[1:])
                self.names = list(shares)
                self.world = PathWorld(SEED, tuple(shares.values()))
            elif words[0] == "run":
                self.world.run(float(words[1]))
            elif words[0] == "kill":
                self.world.servers[self.names.index(words[1])].kill()
            elif words[0] == "seats?":
                self._seats()
            elif words[0] == "held?":
                for name, client in self.clients.items():
                    self.told.append(f"{name:<10} holds {len(client.node.held(self.world.now))}")
            else:
                self._user(words[0], words[1], words[2:])
        return self.told or ["ok"]

    def _user(self, name: str, what: str, words: list[str]) -> None:
        if what == "prefers":
            self.prefers[name] = LEAST_LOADED if words == ["least-loaded"] else PATH_ORDER
        elif what in ("checkout", "queue"):
            if name not in self.clients:
                client = self.world.client(name, prefer=self.prefers.get(name, PATH_ORDER))
                client.on_told = lambda action: self._tell(name, action)
                self.clients[name] = client
            if words == ["anywhere"]:
                self._waiting.add(name)
            self.clients[name].checkout(queue=what == "queue")
        elif what == "checkin":
            wanted = self.names.index(words[0]) if words else None
            held = self.clients[name].held
            self.clients[name].give_back(next(each for each in held if wanted in (None, each[0])))
        else:
            raise ScenarioError(f"what is {what!r}?")

    def _tell(self, name: str, action: Any) -> None:
        if isinstance(action, CheckoutGranted) and name in self._waiting:  # which server is first is chance
            self._waiting.discard(name)
            self.told.append(f"{name:<10} holds a licence")
        elif isinstance(action, CheckoutGranted):
            self.told.append(f"{name:<10} holds a licence of {self.names[action.seat.site]}")
        elif isinstance(action, CheckoutDeniedAction):
            self._waiting.discard(name)
            self.told.append(f"{name:<10} is denied: {action.text} ({action.code},{action.minor})")
        elif isinstance(action, SeatLost):
            self.told.append(f"{name:<10} has lost the licence of {self.names[action.seat.site]}")
        elif isinstance(action, CheckoutQueued) and name not in self._waiting:
            self._waiting.add(name)
            self.told.append(f"{name:<10} waits")

    def _seats(self) -> None:
        for name, server in zip(self.names, self.world.servers, strict=True):
            if server.node is None:
                self.told.append(f"{name:<10} is down")
                continue
            state = server.state
            out = ", ".join(sorted(state.holder_of(seat).user for seat in state.seats.values())) or "nobody"
            waiting = sorted(state.sessions[each.session].user for each in state.queue.of("f1"))
            text = f"{out}; {', '.join(waiting)} waits" if waiting else out
            self.told.append(f"{name:<10} {text}")


def run_path_scenario(text: str) -> str:
    """The file with what really happened in place of what was expected."""
    stage, blocks = PathStage(), []
    for block in parse_scenario(text):
        told = stage.run(block.commands) if block.commands else ()
        blocks.append(attrs.evolve(block, expected=tuple(told)))
    return format_scenario(blocks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare or rewrite; 0 if all is as expected."""
    parser = argparse.ArgumentParser(prog="python -m flexcore_testing.scenario_path", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rewrite", action="store_true")
    options = parser.parse_args(arguments)
    wrong = 0
    for path in options.files:
        text = path.read_text(encoding="utf-8")
        happened = run_path_scenario(text)
        if happened != text and options.rewrite:
            path.write_text(happened, encoding="utf-8")
        elif happened != text:
            wrong += 1
            sys.stdout.write(f"{path}: what happens is\n{happened}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
