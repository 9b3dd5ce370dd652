"""Breadth first over all states of a world; the first violation has a shortest schedule."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence

import attrs

from flexcore_testing.checks import Violation
from flexcore_testing.explore_world import Event, RowFull, State, World

NO_PARENT = 0
PROGRESS_EVERY_S = 10.0


def key_of(state: State) -> int:
    """128 bits that stand for a state among those that were visited.

    Two different states with one key would hide one of them: the chance is below 1e-24 for ten million states.
    """
    return hash(state) << 64 ^ hash(state[::-1])


@attrs.define(kw_only=True)
class Outcome:
    """What an exploration came to."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    pruned: int = 0
    complete: bool = False
    spent_s: float = 0.0
    violation: Violation | None = None
    choices: tuple[int, ...] = ()
    """Of the schedule that breaks it: which of the events that were possible, in each state."""


class Search:
    """One exploration."""

    def __init__(self, world: World, *, states_max: int, progress: Callable[[str], None] | None = None) -> None:
        self.world = world
        self.states_max = states_max
        self._progress = progress
        self._parents = array("L", [NO_PARENT])
        self._choices = array("H", [0])

    def run(self) -> Outcome:
        """Visit every state, or stop at the first violation or at the limit."""
        outcome = Outcome(states=1)
        began = told_at = time.perf_counter()
        first = self.world.first_state()
        seen = {key_of(first)}
        level, base = [first], 0
        while level and outcome.states < self.states_max:
            following: list[State] = []
            for offset, state in enumerate(level):
                self._expand(state, base + offset, seen, following, outcome)
                if outcome.violation is not None or outcome.states >= self.states_max:
                    break
                if self._progress is not None and time.perf_counter() - told_at > PROGRESS_EVERY_S:
                    told_at = time.perf_counter()
                    self._progress(self._line(outcome, told_at - began))
            if outcome.violation is not None:
                break
            base += len(level)
            level = following
            outcome.depth += bool(level)
        outcome.complete = not level and outcome.violation is None
        outcome.spent_s = time.perf_counter() - began
        return outcome

    def _expand(
        self, state: State, index: int, seen: set[int], following: list[State], outcome: Outcome
    ) -> None:
        world = self.world
        for choice, event in enumerate(world.events(state)):
            try:
                after = world.after(state, event)
            except RowFull:
                outcome.pruned += 1
                continue
            except Violation as violation:
                outcome.violation = violation
                outcome.choices = (*self._path(index), choice)
                return
            outcome.transitions += 1
            key = key_of(after)
            if key not in seen:
                seen.add(key)
                following.append(after)
                self._parents.append(index)
                self._choices.append(choice)
                outcome.states += 1

    def _path(self, index: int) -> list[int]:
        path: list[int] = []
        while index:
            path.append(self._choices[index])
            index = self._parents[index]
        return path[::-1]

    def _line(self, outcome: Outcome, spent_s: float) -> str:
        parts = self.world.parts
        return (
            f"{outcome.states:,} states, {outcome.transitions:,} transitions, depth {outcome.depth}, "
            f"{len(parts.servers):,} server states, {parts.effects:,} server events, "
            f"{outcome.states / spent_s:,.0f} states/s"
        )


def replay(world: World, choices: Sequence[int]) -> tuple[list[str], Violation | None]:
    """The schedule of *choices* as text, and the violation in which it ends, if it does."""
    state, lines = world.first_state(), []
    for number, choice in enumerate(choices, 1):
        events: list[Event] = world.events(state)
        if choice >= len(events):
            lines.append(f"{number:>3}. what follows cannot happen here")
            return lines, None
        event = events[choice]
        lines.append(f"{number:>3}. {world.describe(state, event)}")
        try:
            state = world.after(state, event)
        except Violation as violation:
            return lines, violation
    return lines, None
