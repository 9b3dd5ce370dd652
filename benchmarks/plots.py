"""Two pictures of a run: throughput against clients, and how long failovers took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .machine import Missing
from .rows import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES = {
    "one server": {1: "single 1", 10: "single 10", 100: "single 100", 1000: "single 1000", 10_000: "single 10000"},
    "triad, in memory": {1: "triad 1", 100: "triad 100", 1000: "triad 1000"},
    "triad, on two disks": {1: "durable 1", 100: "durable 100"},
    "trio echo": {1: "echo 1", 100: "echo 100", 1000: "echo 1000"},
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7f7f7f")
"""Okabe and Ito's, which colour-blind readers tell apart."""
MARKS = ("o", "s", "^", "x")


def draw(results: dict[str, Result], folder: Path) -> list[Path]:
    """Write ``throughput.svg`` and ``failovers.svg``. Raises Missing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Missing("matplotlib is not installed: pip install flexcore[pictures]") from None
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(9, 4), layout="constrained")
    rates, waits = figure.subplots(1, 2)
    _against_clients(rates, results, "ops_s", "ops a second")
    _against_clients(waits, results, "p99_us", "99th percentile, us")
    rates.legend(frameon=False)
    path = folder / "throughput.svg"
    figure.savefig(path)
    timeline = Figure(figsize=(7, 2.6), layout="constrained")
    axes = timeline.subplots()
    kinds = [name for name in ("kill memory", "kill durable") if results.get(name) and results[name].values]
    for place, name in enumerate(kinds):
        values = results[name].values
        axes.plot(values, [place] * len(values), "|", markersize=18, color=COLOURS[place])
        axes.plot([results[name].median()], [place], "D", color=COLOURS[place])
    axes.set_yticks(range(len(kinds)), [results[name].row.text for name in kinds])
    axes.set_ylim(-0.6, len(kinds) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms from kill -9 to the next checkout; a diamond is the median")
    other = folder / "failovers.svg"
    timeline.savefig(other)
    return [path, other]


def _against_clients(axes: Axes, results: dict[str, Result], name: str, label: str) -> None:
    for (text, places), colour, mark in zip(SERIES.items(), COLOURS, MARKS, strict=True):
        points = [(clients, results[row].median(name)) for clients, row in places.items()
                  if row in results and results[row].values]  # fmt: skip
        if points:
            axes.plot(*zip(*points, strict=True), marker=mark, color=colour, label=text)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("clients, one at a time each")
    axes.set_ylabel(label)
    axes.grid(visible=True, which="major", alpha=0.3)
