"""The pictures of ``flexcore usage``. matplotlib is an extra, and is imported when they are drawn.

Colours are those of Okabe and Ito, which colour-blind people tell apart, and nothing is said by colour alone.
"""

from __future__ import annotations

import datetime
import importlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flexcore.report.plain import word_of
from flexcore.report.usage import FeatureUse

from ._usage_answer import HOUR_US, WEEKDAYS, Answer
from ._usage_text import period

BLUE, SKY, RED, BLACK, GREY = "#0072B2", "#9ccbe8", "#D55E00", "#000000", "#e3e6e9"
_STACK = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_HATCHES = ("", "///", "...", "xx", "\\\\\\", "oo")
_OTHERS = "#9aa5b1"
FEATURES_MAX = 20
"""So many features, those with the most licence hours, get pictures of their own."""
BARS_MAX = 15
_LABEL_CHARS_MAX = 32
_CAUSE_CHARS_MAX = 56
_DAYS_OF_LABELS = 100
"""A longer period has months below its axis."""
_DAYS_LEAST = 10
"""A shorter one leaves room beside its bars."""
_EPOCH = datetime.date(1970, 1, 1)


def draw_all(answer: Answer, folder: str, kind: str) -> list[str]:
    """Draw everything into *folder*, which is made; return the paths.

    Raises:
        OSError: it cannot be written.
    """
    matplotlib: Any = importlib.import_module("matplotlib")
    os.makedirs(folder, exist_ok=True)
    # Equal input, equal file: no random ids, no date; letters as letters, so that they can be searched.
    settings = {
        "svg.hashsalt": "flexcore", "svg.fonttype": "none", "font.size": 10, "axes.titlesize": 12,
        "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "hatch.linewidth": 0.6,
        "figure.facecolor": "white", "axes.facecolor": "white", "axes.axisbelow": True,
        # A name is text, not a formula.
        "text.parse_math": False,
    }  # fmt: skip
    paths = []
    with matplotlib.rc_context(settings):
        for name, figure in _figures(answer):
            path = os.path.join(folder, f"{name}.{kind}")
            figure.savefig(path, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            paths.append(path)
    return paths


def _figures(answer: Answer) -> Iterator[tuple[str, Any]]:
    features = [use for use in answer.report.features if use.licence_us]
    features.sort(key=lambda use: -use.licence_us)
    if features:
        yield "peaks", _peaks(answer, features[:BARS_MAX])
        yield f"hours-by-{answer.by}", _hours(answer, features)
    if answer.report.denials:
        yield "denials", _denials(answer)
    taken: set[str] = set()
    for use in features[:FEATURES_MAX]:
        name = _file_name(use.feature, taken)
        yield f"use-{name}", _use(answer, use)
        yield f"week-{name}", _week(answer, use)


def _file_name(feature: str, taken: set[str]) -> str:
    """A name that every file system takes, and that is no other feature's."""
    name = plain = re.sub(r"[^A-Za-z0-9_.-]", "_", feature)[:80].strip(".") or "feature"
    number = 1
    while name.lower() in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name.lower())
    return name


def _figure(inches: tuple[float, float]) -> Any:
    figures: Any = importlib.import_module("matplotlib.figure")
    return figures.Figure(figsize=inches, layout="constrained")


def _short(text: str, chars: int = _LABEL_CHARS_MAX) -> str:
    text = word_of(text)
    return text if len(text) <= chars else f"{text[: chars - 1]}\N{HORIZONTAL ELLIPSIS}"


def _title(axes: Any, answer: Answer, what: str) -> None:
    axes.set_title(f"{what}\n", fontweight="bold")
    axes.text(0, 1.02, f"{period(answer)}, {answer.zone}", transform=axes.transAxes, fontsize=9, color="#44607a")


# --- one feature -----------------------------------------------------------------------------------------------------


def _use(answer: Answer, use: FeatureUse) -> Any:
    """Day by day: the peak, the average, how many there are, and who was refused."""
    figure = _figure((10.0, 4.8))
    denied = _denied_days(answer, use)
    if denied:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    else:
        above, below = figure.subplots(), None
    first, last = _day(answer, answer.report.begin), _day(answer, max(answer.report.end - 1, answer.report.begin))
    days = range(first, last + 1)
    dates = [_EPOCH + datetime.timedelta(days=day) for day in days]
    peaks = [use.days[day].peak if day in use.days else 0 for day in days]
    averages = [use.days[day].licence_us / (24 * HOUR_US) if day in use.days else 0.0 for day in days]
    above.bar(dates, peaks, width=0.9, color=SKY, label="peak of the day")
    above.bar(dates, averages, width=0.5, color=BLUE, label="average over its 24 hours")
    issued = answer.issued(use.feature)
    if issued:
        above.axhline(issued, color=BLACK, ls="--", lw=1.2, label=f"issued: {issued}")
    above.set_ylim(0, 1.08 * max(issued or 0, use.peak, 1))
    above.set_ylabel("licences in use")
    above.grid(axis="y", color=GREY, lw=0.6)
    _whole_numbers(above.yaxis)
    _legend(figure, above)
    _title(above, answer, f"{_short(use.feature)}: licences in use by day")
    bottom = above
    if below is not None:
        below.bar(dates, [denied.get(day, 0) for day in days], width=0.9, color=RED)
        below.set_ylabel("denied")
        below.grid(axis="y", color=GREY, lw=0.6)
        _whole_numbers(below.yaxis)
        bottom = below
    _date_axis(bottom, dates)
    return figure


def _date_axis(axes: Any, dates: Sequence[datetime.date]) -> None:
    """At most twelve days, or months, so that no label meets the next."""
    ticks: Any = importlib.import_module("matplotlib.dates")
    if len(dates) <= _DAYS_OF_LABELS:
        step = -(-len(dates) // 12)
        axes.set_xticks(dates[::step], [f"{date.day} {date:%b}" for date in dates[::step]])
    else:
        axes.xaxis.set_major_locator(ticks.AutoDateLocator(minticks=3, maxticks=12))
        axes.xaxis.set_major_formatter(ticks.DateFormatter("%b %Y"))
    margin = max(0.7, (_DAYS_LEAST - len(dates)) / 2)  # two days are no two walls
    axes.set_xlim(ticks.date2num(dates[0]) - margin, ticks.date2num(dates[-1]) + margin)


def _legend(figure: Any, axes: Any) -> None:
    """Below everything, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=len(labels), loc="outside lower center")


def _day(answer: Answer, us: int) -> int:
    return (answer.at(us).date() - _EPOCH).days


def _denied_days(answer: Answer, use: FeatureUse) -> dict[int, int]:
    found: dict[int, int] = {}
    for denial in answer.report.denials:
        if denial.feature == use.feature:
            for day, times in denial.days.items():
                found[day] = found.get(day, 0) + times
    return found


def _whole_numbers(axis: Any) -> None:
    ticker: Any = importlib.import_module("matplotlib.ticker")
    axis.set_major_locator(ticker.MaxNLocator(nbins=6, integer=True))


def _week(answer: Answer, use: FeatureUse) -> Any:
    """The heat map: on average in use in each hour of the week; the number stands in each field."""
    figure = _figure((11.0, 3.8))
    axes = figure.subplots()
    observed = answer.report.hours
    grid = [[_average(answer, use, weekday, hour) for hour in range(24)] for weekday in range(7)]
    top = max((value for row in grid for value in row if value is not None), default=0.0) or 1.0
    shown = [[float("nan") if value is None else value for value in row] for row in grid]
    axes.set_facecolor("#dedede")
    image = axes.imshow(shown, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for weekday, row in enumerate(grid):
        for hour, value in enumerate(row):
            if value:
                text = "<.1" if value < 0.05 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
                axes.text(hour, weekday, text, ha="center", va="center", fontsize=8,
                          color="white" if value > 0.55 * top else BLACK)  # fmt: skip
    axes.set_xticks(range(24), [f"{hour:02d}" for hour in range(24)])
    axes.set_yticks(range(7), WEEKDAYS)
    axes.tick_params(length=0)
    axes.set_xlabel("hour of the day")
    for side in axes.spines.values():
        side.set_visible(False)
    figure.colorbar(image, ax=axes, label="licences in use", fraction=0.03, pad=0.01)
    _title(axes, answer, f"{_short(use.feature)}: in use on average, by weekday and hour")
    if len(observed) < 7 * 24:
        axes.text(1, 1.02, "grey: not in the period", transform=axes.transAxes, ha="right", fontsize=9)
    return figure


def _average(answer: Answer, use: FeatureUse, weekday: int, hour: int) -> float | None:
    observed, cell = answer.report.hours.get((weekday, hour), 0), use.cells.get((weekday, hour))
    if not observed:
        return None
    return cell.licence_us / observed if cell else 0.0


# --- all features ----------------------------------------------------------------------------------------------------


def _bars(answer: Answer, what: str, labels: Sequence[str], fill: Callable[[Any, list[int]], None], xlabel: str) -> Any:
    """Horizontal bars, the largest above; *fill* draws them at these heights."""
    figure = _figure((10.0, 1.9 + 0.36 * max(len(labels), 2)))
    axes = figure.subplots()
    places = list(range(len(labels)))
    fill(axes, places)
    axes.set_yticks(places, labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel(xlabel)
    axes.grid(axis="x", color=GREY, lw=0.6)
    axes.tick_params(axis="y", length=0)
    _title(axes, answer, what)
    return figure


def _peaks(answer: Answer, features: Sequence[FeatureUse]) -> Any:
    """Peak, what was enough for most of the time, and what is there."""

    def fill(axes: Any, places: list[int]) -> None:
        axes.barh(places, [use.peak for use in features], height=0.72, color=SKY, label="peak")
        axes.barh(places, [use.enough_for(95) for use in features], height=0.4, color=BLUE,
                  label="enough for 95 % of the time")  # fmt: skip
        issued = [(place, answer.issued(use.feature)) for place, use in zip(places, features, strict=True)]
        known = [(place, count) for place, count in issued if count]
        if known:
            axes.plot([count for _, count in known], [place for place, _ in known], "|", color=BLACK, ms=15, mew=2.2,
                      ls="none", label="issued")  # fmt: skip
        most = max([use.peak for use in features] + [count for _, count in known])
        axes.set_xlim(0, 1.06 * most)
        _whole_numbers(axes.xaxis)
        _legend(axes.figure, axes)

    return _bars(answer, "Licences in use at once, by feature", [_short(use.feature) for use in features], fill,
                 "licences")  # fmt: skip


def _hours(answer: Answer, features: Sequence[FeatureUse]) -> Any:
    """Licence hours of those who used most, told apart by feature."""
    sums: dict[str, int] = {}
    parts: dict[tuple[str, str], int] = {}
    own = [use.feature for use in features[: len(_STACK)]]
    for key in answer.report.keys:
        if key.licence_us:
            sums[key.key] = sums.get(key.key, 0) + key.licence_us
            part = (key.key, key.feature if key.feature in own else "")
            parts[part] = parts.get(part, 0) + key.licence_us
    most = sorted(sums, key=lambda name: (-sums[name], name))
    names = most[:BARS_MAX]
    left_out = sum(sums[name] for name in most[BARS_MAX:])

    def fill(axes: Any, places: list[int]) -> None:
        left = [0.0] * len(places)
        rest = [("other features", _OTHERS, "", "")] if len(features) > len(own) else []
        looks = [(_short(name), _STACK[at], _HATCHES[at], name) for at, name in enumerate(own)]
        for label, colour, hatch, feature in [*looks, *rest]:
            widths = [parts.get((name, feature), 0) / HOUR_US for name in names]
            widths += [0.0] * (len(places) - len(widths))
            axes.barh(places, widths, left=left, height=0.72, color=colour, hatch=hatch, edgecolor="white", lw=0,
                      label=label)  # fmt: skip
            left = [low + width for low, width in zip(left, widths, strict=True)]
        if left_out:
            axes.barh(places[-1:], [left_out / HOUR_US], height=0.72, color="#d5dae0")
            left[-1] = left_out / HOUR_US
        for place, end in zip(places, left, strict=True):
            axes.annotate(f"{end:,.0f}" if end >= 9.95 else f"{end:.1f}", (end, place), xytext=(4, 0),
                          textcoords="offset points", va="center", fontsize=9)  # fmt: skip
        axes.set_xlim(0, 1.1 * max(left))
        if len(looks) > 1:
            _legend(axes.figure, axes)

    labels = [_short(name) for name in names] + ([f"{len(most) - BARS_MAX} others"] if left_out else [])
    return _bars(answer, f"Licence hours by {answer.by}", labels, fill, "licence hours")


def _denials(answer: Answer) -> Any:
    """How often who was refused, by cause."""
    denials = sorted(answer.report.denials, key=lambda each: (-each.count, each.feature, each.code))[:BARS_MAX]

    def fill(axes: Any, places: list[int]) -> None:
        axes.barh(places, [each.count for each in denials], height=0.72, color=RED)
        for place, each in zip(places, denials, strict=True):
            axes.annotate(f"{each.count:,} ({each.users} user{'s' * (each.users != 1)})", (each.count, place),
                          xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)  # fmt: skip
        axes.set_xlim(0, 1.22 * denials[0].count)
        _whole_numbers(axes.xaxis)

    labels = [f"{_short(each.feature)}\n{_short(each.text, _CAUSE_CHARS_MAX)} ({each.code})" for each in denials]
    figure = _bars(answer, "Denials by cause", labels, fill, "times")
    figure.set_size_inches(10.0, 1.9 + 0.5 * max(len(denials), 2))
    return figure
