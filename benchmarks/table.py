"""The table: for a terminal and for the docs (RST), and everything that was measured as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

import attrs

from .rows import B, Goal, Result

HEADS = ("what", "median", "min..max", "unit", "p50 us", "p99 us", "CPU us/op", "ratio", "goal", "")


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def cells(result: Result, results: dict[str, Result]) -> list[list[str]]:
    """The lines of a row: one, and one more for each goal after the first."""
    row = result.row
    if not result.values:
        return [[row.text, "not measured", result.missing, *[""] * (len(HEADS) - 3)]]
    is_rate = row.unit == "op/s"
    micros = [_number(value) if is_rate and value else "" for value in
              (result.median("p50_us"), result.median("p99_us"), result.median("cpu_us"))]  # fmt: skip
    spread = f"{_number(min(result.values))}..{_number(max(result.values))}"
    first = [row.text, _number(result.median()), spread, row.unit, *micros]
    lines: list[list[str]] = []
    for goal in row.goals or (None,):
        head = first if not lines else [""] * len(first)
        if goal is None:
            ratio = _ratio_to_floor(result, results) if is_rate else ""
            lines.append([*head, ratio, "", ""])
            continue
        judged = result.judged(goal, results)
        if judged is None:
            lines.append([*head, "", str(goal), "?"])
        else:
            value, met = judged
            lines.append([*head, _number(value) + ("x" if goal.against else ""), str(goal), "yes" if met else "NO"])
    return lines


def _ratio_to_floor(result: Result, results: dict[str, Result]) -> str:
    floor = results.get(B)
    if floor is None or not floor.values or floor is result:
        return ""
    ratios = sorted(result.ratios(floor))
    return f"{_number(ratios[len(ratios) // 2])}x" if ratios else ""


def _grouped(results: dict[str, Result]) -> Iterable[tuple[str, list[list[str]]]]:
    groups: dict[str, list[list[str]]] = {}
    for result in results.values():
        groups.setdefault(result.row.group, []).extend(cells(result, results))
    return groups.items()


def text_table(results: dict[str, Result]) -> str:
    """For a terminal."""
    groups = list(_grouped(results))
    lines = [line for _, some in groups for line in some]
    widths = [max([len(HEADS[at]), *(len(line[at]) for line in lines)]) for at in range(len(HEADS))]
    out = ["  ".join(head.ljust(width) for head, width in zip(HEADS, widths, strict=True)).rstrip()]
    for group, some in groups:
        out.append(f"-- {group}")
        for line in some:
            rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
            out.append("  ".join([line[0].ljust(widths[0]), *rest]).rstrip())
    return "\n".join(out)


def rst_table(results: dict[str, Result]) -> str:
    """For the docs: a list-table for each group."""
    out = []
    for group, some in _grouped(results):
        out += [group, "-" * len(group), "", ".. list-table::", "   :header-rows: 1", ""]
        for line in [list(HEADS), *some]:
            out += [f"   {'*' if at == 0 else ' '} - {cell}".rstrip() for at, cell in enumerate(line)]
        out.append("")
    return "\n".join(out)


def _goal_data(result: Result, goal: Goal, results: dict[str, Result]) -> dict[str, object]:
    value, met = result.judged(goal, results) or (None, None)
    return {"goal": str(goal), "value": value, "met": met}


def json_text(results: dict[str, Result], about: dict[str, object]) -> str:
    """Everything that was measured, a list of rounds for each row."""
    rows = [
        {
            "name": result.row.name, "group": result.row.group, "text": result.row.text, "unit": result.row.unit,
            "missing": result.missing,
            "rounds": [None if each is None else attrs.asdict(each) for each in result.figures],
            "goals": [_goal_data(result, goal, results) for goal in result.row.goals],
        }
        for result in results.values()
    ]  # fmt: skip
    return json.dumps({**about, "rows": rows}, indent=1) + "\n"
