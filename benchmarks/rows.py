"""What a row of the table is, and how rows are measured: round by round, the contenders one after the other.

Absolute figures drift between machines, hours and launches; a ratio of two figures of the same round holds. So each row
is launched afresh in each round, its ratio is taken to the figure that the reference had *in that round*, and the table
shows the median over the rounds with the smallest and the largest.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import attrs

from flexcore.override import override

from .load import Figure
from .machine import Missing

AT_LEAST, AT_MOST = ">=", "<="
B = "echo 1"
"""The row that ratios refer to where nothing else is said: trio echo, one client, one at a time."""


@attrs.frozen
class Goal:
    """A ratio to another row of the same round (*against*), or where that is empty the figure itself."""

    sign: str
    value: float
    against: str = B
    worst: bool = False
    """Of all rounds the worst counts, not the median."""

    def met(self, value: float) -> bool:
        """Whether *value* is good enough."""
        return value >= self.value if self.sign == AT_LEAST else value <= self.value

    @override
    def __str__(self) -> str:
        what = "" if not self.against else "x" if self.against == B else f"x {self.against}"
        return f"{self.sign} {self.value:g}{what}" + (" (worst)" if self.worst else "")


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table; *measure* gets the seconds that a measurement may take, and launches everything afresh."""

    name: str
    group: str
    text: str
    measure: Callable[[float], Figure | float]
    unit: str = "op/s"
    goals: tuple[Goal, ...] = ()
    rounds_max: int = 1000
    """Slow rows are not measured in every round."""
    slow: bool = False
    """Left out of the quick slice."""


@attrs.define
class Result:
    """What was seen of one row: a figure a round, None where it was not measured."""

    row: Row
    figures: list[Figure | None] = attrs.field(factory=list)
    missing: str = ""

    @property
    def values(self) -> list[float]:
        """The rounds' main figures."""
        return [each.ops_s for each in self.figures if each is not None]

    def median(self, name: str = "ops_s") -> float:
        """The median of one figure over the rounds."""
        values: list[float] = [getattr(each, name) for each in self.figures if each is not None]
        return statistics.median(values)

    def ratios(self, reference: Result) -> list[float]:
        """This row's figures by the reference's of the same rounds; of all rounds where they share none."""
        pairs = [(own.ops_s, other.ops_s) for own, other in zip(self.figures, reference.figures, strict=False)
                 if own is not None and other is not None]  # fmt: skip
        if not pairs and self.values and reference.values:
            pairs = [(value, reference.median()) for value in self.values]
        return [own / other for own, other in pairs]

    def judged(self, goal: Goal, results: dict[str, Result]) -> tuple[float, bool] | None:
        """(what counts, whether the goal is met), None where it cannot be told."""
        if not self.values:
            return None
        values = self.values
        if goal.against:
            reference = results.get(goal.against)
            values = [] if reference is None else self.ratios(reference)
        if not values:
            return None
        worst = min(values) if goal.sign == AT_LEAST else max(values)
        value = worst if goal.worst else statistics.median(values)
        return value, goal.met(value)


def measure(rows: Sequence[Row], *, rounds: int, seconds: float, budget_s: float | None = None) -> dict[str, Result]:
    """Measure *rows*, interleaved, for *rounds* rounds, or as many as fit into *budget_s*.

    What cannot be measured here is said on standard error, at once, and stays a gap.
    """
    results = {row.name: Result(row) for row in rows}
    began = time.monotonic()
    for number in range(rounds):
        for row in rows:
            result = results[row.name]
            figure: Figure | None = None
            if not result.missing and number < row.rounds_max:
                try:
                    seen = row.measure(seconds)
                    figure = seen if isinstance(seen, Figure) else Figure(ops_s=seen)
                except Missing as missing:
                    result.missing = str(missing)
                    print(f"!! SKIPPED {row.name}: {missing}", file=sys.stderr, flush=True)
            result.figures.append(figure)
        took = time.monotonic() - began
        print(f"   round {number + 1} of {rounds}: {took:.0f} s so far", file=sys.stderr, flush=True)
        if budget_s is not None and number + 1 < rounds and took * (number + 2) / (number + 1) > budget_s:
            print(f"!! {number + 1} of {rounds} rounds fit into {budget_s:g} s", file=sys.stderr, flush=True)
            break
    return results
