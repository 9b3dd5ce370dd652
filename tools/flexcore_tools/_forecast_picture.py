"""The answer of ``flexcore simulate`` as a picture. matplotlib is an extra, and is imported when one is drawn."""

from __future__ import annotations

import importlib
from typing import Any

from flexcore_testing.forecast import Forecast
from flexcore_testing.forecast_network import TROUBLES

_COLOURS = {
    "crash": "#2f7d4f",
    "power": "#b3261e",
    "hang": "#f2c14e",
    "cut": "#44607a",
    "reboot": "#9aa5b1",
    "busy": "#8e5ea2",
    "stall": "#c9d6e2",
    "quiet": "#000000",
}
_NAMES = {"crash": "killed", "power": "power off", "hang": "hung", "cut": "cut off"}
_INCHES = (11.0, 4.6)


def draw(forecast: Forecast, path: str) -> None:
    """Write the picture to *path*; its ending says which kind of file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: it cannot be written.
    """
    matplotlib: Any = importlib.import_module("matplotlib")
    figures: Any = importlib.import_module("matplotlib.figure")
    # Equal input, equal file: no random ids, no date; letters as letters, so that they can be searched.
    settings = {"svg.hashsalt": "flexcore", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(settings):
        figure = figures.Figure(figsize=_INCHES, layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_month(left, forecast)
        _draw_waits(right, forecast)
        kind = path.rsplit(".", 1)[-1].lower()
        figure.savefig(path, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _labels(forecast: Forecast) -> list[str]:
    labels = []
    for row in forecast.rows:
        label = str(row.interval_s)
        if row.interval_s == forecast.question.current_s:
            label += "\nin the file"
        if row.interval_s == forecast.recommendation.interval_s:
            label += "\nrecommended"
        labels.append(label)
    return labels


def _draw_month(axes: Any, forecast: Forecast) -> None:
    """Time without service a month, by what stopped it; false alarms above."""
    rows = forecast.rows
    places = range(len(rows))
    below = [0.0] * len(rows)
    for kind in (*TROUBLES, "quiet"):
        heights = [row.out_by_kind.get(kind, 0.0) / 60 for row in rows]
        if any(heights):
            axes.bar(places, heights, bottom=below, color=_COLOURS[kind], label=kind, width=0.7)
            below = [low + height for low, height in zip(below, heights, strict=True)]
    most = max(below) or 1.0
    for place, row, top in zip(places, rows, below, strict=True):
        if row.false_alarms_per_month:
            alarms = row.false_alarms_per_month
            said = f"{alarms:.0f}" if alarms >= 10 else f"{alarms:.1f}"
            axes.annotate(f"{said} false\nalarms", (place, top + 0.01 * most), ha="center", va="bottom", fontsize=7)
    axes.set_ylim(0, 1.15 * most)
    axes.set_xticks(list(places), _labels(forecast))
    axes.set_xlabel("HEARTBEAT_INTERVAL")
    axes.set_title("Minutes without service a month")
    axes.legend(frameon=False, fontsize=8)


def _draw_waits(axes: Any, forecast: Forecast) -> None:
    """How long the next checkout waits when the master is lost, and the manual's formula."""
    rows = forecast.rows
    places = list(range(len(rows)))
    axes.plot(places, [row.timeout_s for row in rows], color="#000000", ls="--", lw=1, label="the manual's 3s + (s-1)")
    for number, cause in enumerate(rows[0].causes):
        spots = [place + 0.12 * (number - 1.5) for place in places]
        known = [row.causes[number].checkout for row in rows]
        shown = [(spot, one) for spot, one in zip(spots, known, strict=True) if one is not None]
        if not shown:
            continue
        at = [spot for spot, _ in shown]
        middle = [one.median_s for _, one in shown]
        worst = [one.worst_s for _, one in shown]
        colour = _COLOURS[cause.kind]
        axes.vlines(at, middle, worst, color=colour, lw=2)
        axes.plot(at, middle, "o", color=colour, ms=4, label=f"{_NAMES[cause.kind]} (median, up to the worst)")
    axes.set_yscale("log")
    axes.set_xticks(places, _labels(forecast))
    axes.set_xlabel("HEARTBEAT_INTERVAL")
    axes.set_title("Seconds until the next checkout when the master is lost")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(axis="y", color="#e3e6e9", lw=0.6)
