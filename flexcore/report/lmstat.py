"""What lmstat prints, line by line (observed-formats L0 to L9).

The shapes are those that monitoring tools read, which match blanks, so each is spelled out here
once. Where the sources are silent (design.md section 10): without a quorum the servers are shown
without (MASTER) and the vendor daemon as down; a seat always names the host and port of the first
SERVER line, so that nothing changes in graphs at a failover; a user, host or display is one word,
as readers split at blanks.

Lines come from a generator and go out as they come: 100,000 seats are never one text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from flexcore.codes import ErrorCode
from flexcore.record import Record
from flexcore.wire.messages import (
    FeatureRow,
    QueueRow,
    ReservationRow,
    SeatRow,
    ServerAddress,
)

from .civil import civil
from .plain import line_of, word_of
from .status import (
    Failure,
    QueueSource,
    SeatSource,
    ServerStatus,
    Status,
    StatusLost,
    VendorStatus,
    by_feature,
    no_queue,
    no_seats,
    version_of,
)

SINCE = 2026
OWNER = "flexcore contributors"
NAME_COLUMNS = 10
"""Names of servers and vendors are right-justified to this width; longer ones are not cut."""

SEPARATOR = "-" * 40
"""Between the parts of a search path that name different servers."""

LICENSE_NOTE = (
    "NOTE: lmstat -i does not give information from the server,",
    "      but only reads the license file.  For this reason,",
    "      lmstat -a is recommended instead.",
    "",
)
"""Above the table of ``-i`` (L12)."""
LICENSE_COLUMNS = (32, 12, 13, 13)
"""Widths of the columns of ``-i``, the last of which has none."""

_BLANKS = re.compile(r"\s")


class Shown(Record, kw_only=True):
    """What of the usage is shown.

    *servers* and *vendors*: the two parts above it (without *servers* the addresses stay). *users*:
    who holds what; without it only the totals (``--no-user-info``). *in_use*: only features that
    somebody holds (``-A``). *seconds* in start times (``-asec``); *projects* at the end of each user's
    line (``-proj``); *vendor*: only this one's features (``-S``), '' for all.
    """

    servers: bool = True
    vendors: bool = True
    users: bool = True
    in_use: bool = False
    seconds: bool = False
    projects: bool = False
    vendor: str = ""


EVERYTHING = Shown()


def header_lines(wall: float, utc_offset_s: float, *, detecting: bool = False) -> Iterator[str]:
    """Yield what stands above everything (L0), and the line of a search without -c (L1)."""
    at = civil(wall, utc_offset_s)
    last = max(SINCE, at.year)
    yield f"lmutil - Copyright (c) {SINCE}-{last} {OWNER}. All Rights Reserved."
    date = f"{at.weekday} {at.month}/{at.day}/{at.year}"
    yield f"Flexible License Manager status on {date} {at.hour:02d}:{at.minute:02d}"
    yield ""
    if detecting:
        yield "[Detecting lmgrd processes...]"


def lmstat_text(
    status: Status,
    seats: SeatSource = no_seats,
    queue: QueueSource = no_queue,
    *,
    utc_offset_s: float,
    usage: bool = True,
    shown: Shown = EVERYTHING,
) -> Iterator[str]:
    """Yield the lines about one server or triad, without line ends.

    *utc_offset_s* is that of the reader's zone. *usage* asks for features and seats, as ``-a`` and
    ``-f`` do; without it only servers and vendor daemon are shown. A *seats* that raises
    :class:`StatusLost` ends the text with one line that says so.
    """
    if not status.up:
        yield from _unreachable(status)
        return
    if shown.servers:
        yield from _server_lines(status)
    if shown.vendors:
        yield from _vendor_lines(status)
    if not (usage and status.is_serving):
        if status.failure is not None:
            yield error_line(status.failure)
        return
    yield "Feature usage info:"
    yield ""
    try:
        yield from _Usage(status, seats, queue, utc_offset_s, shown).lines()
    except StatusLost as lost:
        yield error_line(lost.failure)
        return
    if status.failure is not None:
        yield error_line(status.failure)


def error_line(failure: Failure) -> str:
    """Return the line of a status that could not be had (L4)."""
    return f"Error getting status: {line_of(failure.printed)}"


# --- servers (L2 to L5) ----------------------------------------------------------------------------


def _unreachable(status: Status) -> Iterator[str]:
    """Nobody answers. A single server has one line; of a triad each server is named first."""
    if status.is_triad:
        yield _addresses_line(status)
        yield ""
        for server in status.servers:
            yield _server_line(status, server)
        yield ""
    failing = status.failing
    if failing is not None:
        yield error_line(failing)


def _server_lines(status: Status) -> Iterator[str]:
    yield _addresses_line(status)
    first = status.up[0]
    path = line_of(first.report.license_path) if first.report is not None else ""
    yield f"    License file(s) on {_host(first.address)}: {path}:"
    yield ""
    for server in status.servers:
        yield _server_line(status, server)
    yield ""


def _addresses_line(status: Status) -> str:
    addresses = ",".join(f"{s.address.port}@{_host(s.address)}" for s in status.servers)
    return f"License server status: {addresses}"


def _server_line(status: Status, server: ServerStatus) -> str:
    if server.report is None:
        failure = server.failure if server.failure is not None else Failure(-15)
        return f"{_host(server.address):>{NAME_COLUMNS}}: {line_of(failure.printed)}"
    master = " (MASTER)" if server is status.master and status.is_serving else ""
    version = version_of(server.report.software)
    return f"{_host(server.address):>{NAME_COLUMNS}}: license server UP{master} v{version}"


def _vendor_lines(status: Status) -> Iterator[str]:
    where = status.master if status.master is not None else status.up[0]
    yield f"Vendor daemon status (on {_host(where.address)}):"
    yield ""
    if status.vendors:
        for each in status.vendors:
            yield _vendor_line(each)
        return
    vendor = f"{word_of(status.vendor):>{NAME_COLUMNS}}"
    if status.is_serving and where.report is not None:
        yield f"{vendor}: UP v{version_of(where.report.software)}"
    else:
        yield f"{vendor}: {Failure(ErrorCode.VENDOR_DOWN).printed}"


def _vendor_line(vendor: VendorStatus) -> str:
    name = f"{word_of(vendor.name):>{NAME_COLUMNS}}"
    if vendor.is_up and vendor.report is not None:
        return f"{name}: UP v{version_of(vendor.report.software)}"
    failure = vendor.failure if vendor.failure is not None else Failure(ErrorCode.VENDOR_DOWN)
    return f"{name}: {line_of(failure.printed)}"


# --- features and seats (L6 to L9) -----------------------------------------------------------------


class _Usage:
    """Features, and below each one its pools that are in use, kept for somebody or waited for."""

    def __init__(
        self, status: Status, seats: SeatSource, queue: QueueSource, utc_offset_s: float, shown: Shown
    ) -> None:
        self._status, self._seats, self._queue = status, seats, queue
        self._first = status.servers[0].address
        self._utc_offset_s = utc_offset_s
        self._shown = shown
        self._kept: dict[str, list[ReservationRow]] = {}
        for row in status.reservations:
            self._kept.setdefault(row.pool, []).append(row)

    def lines(self) -> Iterator[str]:
        """Yield the lines of all features."""
        status, shown = self._status, self._shown
        features = by_feature(
            row for row in status.features
            if not shown.vendor or row.vendor.casefold() == shown.vendor.casefold()
        )
        if status.wanted and not features:
            yield _error_usage_line(status.wanted, 0)
            yield ""
        for name, pools in features.items():
            if shown.in_use and not any(pool.in_use > 0 for pool in pools):
                continue
            yield _users_of_line(name, pools)
            yield ""
            if shown.users:
                yield from self._pool_lines(name, pools)

    def _pool_lines(self, name: str, pools: list[FeatureRow]) -> Iterator[str]:
        """Yield a group for each pool: its line, then its users (L8 to L11).

        Seats come pool by pool in the order of the pools, as the server's pages have them, and none
        is kept here. (One that comes later than its pool gets a group of its own.)
        """
        busy = any(pool.in_use > 0 for pool in pools)
        seats: Iterable[SeatRow] = self._seats(name) if busy else ()
        waiting = self._waiting(name, pools)
        known = {pool.pool: pool for pool in pools}
        ahead = deque(pools)
        for key, held in groupby(seats, key=attrgetter("pool")):
            while ahead and ahead[0].pool != key and any(pool.pool == key for pool in ahead):
                yield from self._group(ahead.popleft(), (), waiting)
            if ahead and ahead[0].pool == key:
                ahead.popleft()
            yield from self._group(known.get(key, pools[0]), held, waiting, is_held=True)
        for pool in ahead:
            yield from self._group(pool, (), waiting)

    def _waiting(self, name: str, pools: list[FeatureRow]) -> dict[str, list[QueueRow]]:
        found: dict[str, list[QueueRow]] = {}
        if any(pool.queued > 0 for pool in pools):
            known = {pool.pool for pool in pools}
            for row in self._queue(name):
                found.setdefault(row.pool if row.pool in known else pools[0].pool, []).append(row)
        return found

    def _group(
        self, pool: FeatureRow, held: Iterable[SeatRow], waiting: dict[str, list[QueueRow]],
        *, is_held: bool = False,
    ) -> Iterator[str]:  # fmt: skip
        kept, queued = self._kept.pop(pool.pool, ()), waiting.pop(pool.pool, ())
        if not (is_held or kept or queued or pool.in_use > 0):
            return
        yield from _group_lines(pool)
        for reservation in kept:
            yield reservation_line(reservation, self._first)
        shown = self._shown
        for seat in held:
            yield seat_line(seat, self._first, self._utc_offset_s,
                            seconds=shown.seconds, project=shown.projects)  # fmt: skip
        for row in queued:
            yield queue_line(row, self._first)
        yield ""


def _users_of_line(name: str, pools: list[FeatureRow]) -> str:
    good = [pool for pool in pools if not pool.error]
    if not good:
        return _error_usage_line(name, sum(pool.count for pool in pools))
    counted = [pool for pool in good if pool.count > 0]
    if not counted:
        return f"Users of {word_of(name)}:  (Uncounted, node-locked)"
    issued = sum(pool.count for pool in counted)
    used = sum(pool.in_use for pool in counted)
    return (
        f"Users of {word_of(name)}:  (Total of {_licenses(issued)} issued;  "
        f"Total of {_licenses(used)} in use)"
    )


def _error_usage_line(name: str, count: int) -> str:
    return f"Users of {word_of(name)}:  (Error: {_licenses(count)}, unsupported by licensed server)"


def _group_lines(pool: FeatureRow) -> Iterator[str]:
    expiry = word_of(pool.expiry) or "unknown"  # a pool that the file no longer has
    if expiry.lower() == "permanent":
        expiry = "permanent(no expiration date)"
    yield (
        f'  "{word_of(pool.feature)}" v{word_of(pool.version)}, '
        f"vendor: {word_of(pool.vendor)}, expiry: {expiry}"
    )
    if pool.vendor_string:
        yield f"  vendor_string: {line_of(pool.vendor_string)}"
    yield f"  {_kind(pool)}"
    yield ""


def _kind(pool: FeatureRow) -> str:
    lock = word_of(pool.lock)
    if pool.count > 0:
        return f'nodelocked license, locked to "{lock}"' if lock else "floating license"
    if not lock or lock.upper() == "ANY":
        return "uncounted nodelocked license, locked to NOTHING (hostid=ANY)"
    return f'uncounted nodelocked license, locked to "{lock}"'


def seat_line(
    seat: SeatRow, first: ServerAddress, utc_offset_s: float, *, seconds: bool = False,
    project: bool = False,
) -> str:  # fmt: skip
    """Return the line of one checkout (L9); *first* is the address of the first SERVER line."""
    at = civil(seat.started, utc_offset_s)
    where = f"{_host(first)}/{first.port}"
    line = (
        f"    {one_word(seat.user)} {one_word(seat.host)} {one_word(seat.display)} "
        f"(v{one_word(seat.version)}) ({where} {seat.handle}), "
        f"start {at.weekday} {at.month}/{at.day} {at.hour}:{at.minute:02d}"
    )
    if seconds:
        line += f":{at.second:02d}"
    if seat.count > 1:
        line += f", {_licenses(seat.count)}"
    if seat.linger_s is not None and seat.linger_left_s is not None:
        line += f"  (linger: {int(seat.linger_left_s)} / {int(seat.linger_s)})"
    elif seat.linger_left_s is not None:
        line += f"  (linger: {int(seat.linger_left_s)})"
    if project and seat.project:
        line += f", PROJECT: {one_word(seat.project)}"
    return line


def reservation_line(row: ReservationRow, first: ServerAddress) -> str:
    """Return the line of seats that are kept for somebody (L10)."""
    plural = "" if row.count == 1 else "s"
    return (
        f"\t{row.count} RESERVATION{plural} for {one_word(row.kind)} {one_word(row.name)} "
        f"({_host(first)}/{first.port})"
    )


def queue_line(row: QueueRow, first: ServerAddress) -> str:
    """Return the line of a request that waits (L11)."""
    version = one_word(row.version)
    return (
        f"    {one_word(row.user)} {one_word(row.host)} {one_word(row.display)} {version} "
        f"(v{version}) ({_host(first)}/{first.port} {row.handle}) queued for {_licenses(row.count)}"
    )


def license_lines(rows: Iterable[FeatureRow]) -> Iterator[str]:
    """Yield the table of ``-i``: what a licence file says, not what is in use (L12)."""
    yield from LICENSE_NOTE
    yield _in_columns("Feature", "Version", "#licenses", "Expires", "Vendor")
    yield _in_columns("_______", "_________", "_________", "__________", "______")
    for row in rows:
        yield _in_columns(
            one_word(row.feature), one_word(row.version), str(max(row.count, 0)),
            one_word(row.expiry), one_word(row.vendor),
        )  # fmt: skip


def _in_columns(*words: str) -> str:
    *front, last = words
    padded = [f"{word:<{width - 1}} " for word, width in zip(front, LICENSE_COLUMNS, strict=True)]
    return "".join(padded) + last


def one_word(name: str) -> str:
    """Return a user, host or display as one word: readers split at blanks.

    >>> one_word("Ann B"), one_word("")
    ('Ann_B', '-')
    """
    plain = word_of(name)
    if not plain.isascii() or " " in plain:
        plain = _BLANKS.sub("_", plain)
    return plain or "-"


def _licenses(count: int) -> str:
    return f"{count} license" if count == 1 else f"{count} licenses"


def _host(address: ServerAddress) -> str:
    return one_word(address.host)
