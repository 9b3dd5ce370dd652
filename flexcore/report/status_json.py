"""Status for programs: ``lmstat --json``.

One JSON object, written in pieces so that 100,000 seats are never one text. Its ``schema`` is 1;
a field may be added under the same number, a field that changes or goes makes it 2. Times of day
are epoch seconds (a number) beside an ISO 8601 text in UTC; durations end in ``_s``.

=================  ==============================================================================
``schema``         1
``software``       ``flexcore`` and the version of the reader
``asked_at``       when the reader asked, epoch seconds; ``asked_at_text`` the same for people
``state``          ``serving``; ``no-quorum`` (servers answer, none serves); ``down`` (none answers)
``degraded``       true: it serves, but one more failure would end that
``exit_status``    what lmstat exits with: 0, 241 (down), 159 (nobody serves), 251 (no such feature)
``check_status``   what ``lmstat --check`` exits with: 0, 1 (degraded), 2 (down)
``triad``          true where three SERVER lines serve together
``vendor``         the vendor daemon's name, ``""`` while no server answers
``vendors``        one a VENDOR line: ``name up error``; of a triad and most single servers one
``master``         ``{rank, host, port}`` of the server that serves, or null
``until_s``        seconds until a server that waits has waited enough, null where none waits
``servers``        in the order of the SERVER lines, see below
``features``       one a pool, in the order of the licence file: ``feature pool version vendor
                   expiry expires_in_days`` (null: never) ``vendor_string count`` (null: uncounted)
                   ``in_use lock error queued``
``seats``          one a checkout: ``feature pool user host display version handle started
                   started_text count pid linger_left_s linger_s borrowed project``
``reservations``   what RESERVE still keeps: ``pool feature count kind name``
``queue``          one a request that waits: ``feature pool user host display version handle since
                   since_text count pid``
``complete``       false where the server went away before the last seat
``error``          null, or ``{code, minor, errno, text}``: why ``exit_status`` is not 0
=================  ==============================================================================

A server is ``{rank, host, port, up, error}``; if it is up also ``name state`` (``serving``,
``follower``, ``candidate``, ``waiting``, ``recovering``, ``forming``, ``stopping``) ``reason``
(why it does not serve) ``until_s until until_text master`` (the rank that it follows, or null)
``term commit uptime_s software license_path peers_up notes vendor_up``. Ranks are ``primary``,
``secondary`` and ``tertiary``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from flexcore.codes import ErrorCode
from flexcore.identity import Rank
from flexcore.wire.messages import FeatureRow, SeatRow

from .civil import civil
from .status import (
    Failure,
    QueueSource,
    SeatSource,
    ServerStatus,
    Status,
    StatusLost,
    by_feature,
    no_queue,
    no_seats,
)

SCHEMA = 1


def status_json(
    status: Status, seats: SeatSource = no_seats, queue: QueueSource = no_queue,
    *, software: str = "flexcore",
) -> Iterator[str]:  # fmt: skip
    """Yield the pieces of the JSON text; joined they are one object and a line end."""
    head = _head(status, software)
    yield "{\n"
    for key, value in head.items():
        yield f" {json.dumps(key)}: {_dumps(value)},\n"
    yield from _array("servers", (_server(status, n) for n in range(len(status.servers))))
    yield from _array("features", (_feature(row) for row in status.features))
    ending: list[Failure] = []
    yield from _array("reservations", (row._asdict() for row in status.reservations))
    yield from _array("seats", _seats(status, seats, ending))
    yield from _array("queue", _waiting(status, queue, ending))
    failure = ending[0] if ending else status.failing
    yield f' "complete": {_dumps(not ending)},\n'
    yield f' "error": {_dumps(_failure(failure))}\n'
    yield "}\n"


def _head(status: Status, software: str) -> dict[str, Any]:
    master = status.master
    return {
        "schema": SCHEMA,
        "software": software,
        "asked_at": status.wall,
        "asked_at_text": iso_text(status.wall),
        "state": "serving" if status.is_served else "no-quorum" if status.up else "down",
        "degraded": status.is_degraded,
        "exit_status": status.exit_status,
        "check_status": status.check_status,
        "triad": status.is_triad,
        "vendor": status.vendor,
        "vendors": _vendors(status),
        "master": None if master is None else _place(status, status.servers.index(master)),
        "until_s": status.until_s,
    }


def _vendors(status: Status) -> list[dict[str, Any]]:
    if status.vendors:
        return [
            {"name": each.name, "up": each.is_up, "error": _failure(each.failure)}
            for each in status.vendors
        ]
    if not status.vendor:
        return []
    failure = None if status.is_served else Failure(ErrorCode.VENDOR_DOWN)
    return [{"name": status.vendor, "up": status.is_served, "error": _failure(failure)}]


def _seats(status: Status, seats: SeatSource, ending: list[Failure]) -> Iterator[dict[str, Any]]:
    """Yield the seats; a server that goes away is noted in *ending*, not raised: the text must
    still become one object."""
    try:
        for name, pools in by_feature(status.features).items():
            if any(pool.in_use > 0 for pool in pools):
                for seat in seats(name):
                    yield _seat(seat)
    except StatusLost as lost:
        ending.append(lost.failure)


def _waiting(status: Status, queue: QueueSource, ending: list[Failure]) -> Iterator[dict[str, Any]]:
    try:
        for name, pools in by_feature(status.features).items():
            if any(pool.queued > 0 for pool in pools) and not ending:
                for row in queue(name):
                    yield row._asdict() | {"since_text": iso_text(row.since)}
    except StatusLost as lost:
        ending.append(lost.failure)


def _array(name: str, values: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield f" {json.dumps(name)}: ["
    between = "\n  "
    for value in values:
        yield between + _dumps(value)
        between = ",\n  "
    yield "],\n" if between == "\n  " else "\n ],\n"


def _place(status: Status, index: int) -> dict[str, Any]:
    address = status.servers[index].address
    return {"rank": rank_word(index), "host": address.host, "port": address.port}


def _server(status: Status, index: int) -> dict[str, Any]:
    server: ServerStatus = status.servers[index]
    row = _place(status, index)
    row |= {"up": server.is_up, "error": _failure(server.failure)}
    report = server.report
    if report is None:
        return row
    until = None if report.until_s is None else status.wall + report.until_s
    row |= {
        "name": report.name,
        "state": report.state,
        "reason": report.reason,
        "until_s": report.until_s,
        "until": until,
        "until_text": None if until is None else iso_text(until),
        "master": rank_word(report.master_rank),
        "term": report.term,
        "commit": report.commit,
        "uptime_s": report.uptime_s,
        "software": report.software,
        "license_path": report.license_path,
        "peers_up": [rank_word(rank) for rank in report.peers_up],
        "notes": list(report.notes),
        "vendor_up": report.vendor_up,
    }
    return row


def _feature(row: FeatureRow) -> dict[str, Any]:
    return row._asdict() | {"count": row.count if row.count > 0 else None}


def _seat(row: SeatRow) -> dict[str, Any]:
    return row._asdict() | {"started_text": iso_text(row.started)}


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "code": int(failure.code),
        "minor": failure.shown_minor,
        "errno": failure.sys_errno,
        "text": failure.printed,
    }


def rank_word(rank: int) -> str | None:
    """Return 'primary', 'secondary' or 'tertiary', None for nobody."""
    return Rank(rank).word if rank in (0, 1, 2) else None


def iso_text(wall: float) -> str:
    """Return an epoch as ISO 8601 in UTC, to the second.

    >>> iso_text(1795475000.5)
    '2026-11-23T23:03:20Z'
    """
    at = civil(wall, 0.0)
    date = f"{at.year:04d}-{at.month:02d}-{at.day:02d}"
    return f"{date}T{at.hour:02d}:{at.minute:02d}:{at.second:02d}Z"


def _dumps(value: Any) -> str:
    """One value on one line, in ASCII; JSON has no NaN and no infinity: null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value
