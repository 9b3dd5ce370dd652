"""The answer of ``flexcore simulate`` as text and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

import attrs

import flexcore
from flexcore.licensefile import LicenseFile
from flexcore_testing.forecast import Forecast
from flexcore_testing.forecast_network import TROUBLES
from flexcore_testing.forecast_statistics import Cause, Row, Spread, amount, duration

SCHEMA = 1
"""Raised when a name in the JSON changes its meaning or goes away."""

_WIDTH = 100
_HOW = {"crash": "killed", "power": "power off", "hang": "hung", "cut": "cut off"}


def text(forecast: Forecast, license: LicenseFile, network: str, *, details: bool = False) -> str:
    """The whole answer for a person."""
    question = forecast.question
    hosts = ", ".join(server.host for server in license.servers)
    primary = ", PRIMARY_IS_MASTER" if question.primary_is_master else ""
    lines = [f"{license.name}: {hosts}; HEARTBEAT_INTERVAL={question.current_s}{primary}; network: {network}"]
    incidents = "incident" if forecast.rounds == 1 else "incidents"
    lines.append(
        f"{forecast.rounds} {incidents} of each kind with each value, {forecast.simulated_hours:.0f} simulated hours, "
        f"seed {question.seed}"
    )
    if not forecast.complete:
        lines.append("INTERRUPTED: this is what is known so far")
    lines += ["", *_months(forecast), "", *_marks(forecast), "", *_waits(forecast.rows)]
    if details:
        lines += ["", *_details(forecast.rows)]
    lines += ["", f"Recommended: HEARTBEAT_INTERVAL={forecast.recommendation.interval_s}", ""]
    for reason in forecast.recommendation.reasons:
        lines += textwrap.wrap(reason, _WIDTH - 2, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def _table(head: Sequence[Sequence[str]], body: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (*head, *body)) for column in range(len(head[0]))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (*head, *body)
    ]


def _mark(row: Row, forecast: Forecast) -> str:
    best = ">" if row.interval_s == forecast.recommendation.interval_s else " "
    return best + ("*" if row.interval_s == forecast.question.current_s else " ")


def _months(forecast: Forecast) -> list[str]:
    head = (
        ("", "HEARTBEAT", "manual's", "stops", "how long:", "", "", "without", "false", "licences"),
        ("", "_INTERVAL", "timeout", "a month", "median", "p90", "worst", "service", "alarms", "lost"),
    )
    body = []
    for row in forecast.rows:
        known = row.stops
        body.append((
            _mark(row, forecast),
            str(row.interval_s),
            f"{row.timeout_s:g} s",
            amount(row.stops_per_month),
            *(("-", "-", "-") if known is None else map(duration, (known.median_s, known.p90_s, known.worst_s))),
            duration(row.out_s_per_month),
            amount(row.false_alarms_per_month),
            amount(row.lost_per_month),
        ))  # fmt: skip
    return _table(head, body)


def _marks(forecast: Forecast) -> list[str]:
    left = min(row.belief_left_s for row in forecast.rows)
    lines = [
        "> recommended  * in the licence file. Everything is for a month of 30 days; stops under 1 s are not counted.",
        "False alarm: a master that gives up though no server is dead, hung or cut off. Licences lost: by an",
        "application that holds one all the time.",
    ]
    if not any(row.lost for row in forecast.rows):
        lines.append(f"No licence was lost; the closest call left {duration(left)} of a lease.")
    unfinished = sum(row.unfinished for row in forecast.rows)
    if unfinished:
        lines.append(f"After {unfinished} of {forecast.episodes} incidents not all was as before when time was up.")
    return lines


def _waits(rows: Sequence[Row]) -> list[str]:
    kinds = [cause.kind for cause in rows[0].causes]
    if not kinds:
        return ["The description names no failure of a server."]
    lines = ["When the master is lost, a checkout asked at that instant waits (median / worst):"]
    head = (("HEARTBEAT_INTERVAL", "timeout", *(_HOW[kind] for kind in kinds)),)
    body = []
    for row in rows:
        cells = [_middle_and_worst(cause.checkout) for cause in row.causes]
        body.append((str(row.interval_s), f"{row.timeout_s:g} s", *cells))
    lines += _table(head, body)
    return lines


def _middle_and_worst(known: Spread | None) -> str:
    return "-" if known is None else f"{duration(known.median_s)} / {duration(known.worst_s)}"


def _details(rows: Sequence[Row]) -> list[str]:
    lines = ["Noticed: another server stands. Replaced: it serves. (median / p90 / worst)"]
    head = (("HEARTBEAT_INTERVAL", "master", "noticed", "replaced", "next checkout", "taken over"),)
    body = [
        (
            str(row.interval_s),
            _HOW[cause.kind],
            *map(_three, (cause.detection, cause.failover, cause.checkout)),
            f"{cause.replaced} of {cause.episodes}",
        )
        for row in rows
        for cause in row.causes
    ]
    lines += _table(head, body)
    lines += ["", "Without service a month, by what stopped it:"]
    kinds = [kind for kind in TROUBLES if any(kind in row.out_by_kind for row in rows)]
    lines += _table(
        (("HEARTBEAT_INTERVAL", *kinds, "in all", "+-"),),
        [
            (
                str(row.interval_s),
                *(duration(row.out_by_kind.get(kind, 0.0)) for kind in kinds),
                duration(row.out_s_per_month),
                duration(row.out_error_s),
            )
            for row in rows
        ],
    )
    return lines


def _three(known: Spread | None) -> str:
    if known is None:
        return "-"
    return " / ".join(map(duration, (known.median_s, known.p90_s, known.worst_s)))


# --- JSON --------------------------------------------------------------------------------------------------------


def json_text(forecast: Forecast, license: LicenseFile, network: str) -> str:
    """The whole answer for programs."""
    return json.dumps(_json(forecast, license, network), indent=2)


def _json(forecast: Forecast, license: LicenseFile, network: str) -> dict[str, Any]:
    question = forecast.question
    return {
        "schema": SCHEMA,
        "software": f"flexcore {flexcore.__version__}",
        "file": license.name,
        "servers": [server.host for server in license.servers],
        "heartbeat_interval_s": question.current_s,
        "primary_is_master": question.primary_is_master,
        "network": {"name": network, **attrs.asdict(question.description)},
        "seed": question.seed,
        "complete": forecast.complete,
        "rounds": forecast.rounds,
        "episodes": forecast.episodes,
        "messages": forecast.messages,
        "simulated_hours": round(forecast.simulated_hours, 3),
        "rows": [_row(row) for row in forecast.rows],
        "recommendation": attrs.asdict(forecast.recommendation),
    }


def _row(row: Row) -> dict[str, Any]:
    told = attrs.asdict(row, recurse=False)
    told["stops"] = _spread(row.stops)
    told["out_by_kind"] = dict(row.out_by_kind)
    told["causes"] = {cause.kind: _cause(cause) for cause in row.causes}
    return told


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "detection": _spread(cause.detection),
        "failover": _spread(cause.failover),
        "checkout": _spread(cause.checkout),
        "replaced": cause.replaced,
        "episodes": cause.episodes,
    }


def _spread(known: Spread | None) -> dict[str, Any] | None:
    return None if known is None else attrs.asdict(known)
