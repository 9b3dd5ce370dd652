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
from collections.abc import Iterable, Iterator

from flexcore.codes import ErrorCode
from flexcore.wire.messages import FeatureRow, SeatRow, ServerAddress

from .civil import civil
from .plain import line_of, word_of
from .status import (
    Failure,
    SeatSource,
    ServerStatus,
    Status,
    StatusLost,
    VendorStatus,
    by_feature,
    no_seats,
    version_of,
)

SINCE = 2026
OWNER = "flexcore contributors"
NAME_COLUMNS = 10
"""Names of servers and vendors are right-justified to this width; longer ones are not cut."""

SEPARATOR = "-" * 40
"""Between the parts of a search path that name different servers."""

_BLANKS = re.compile(r"\s")


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
    *,
    utc_offset_s: float,
    usage: bool = True,
) -> Iterator[str]:
    """Yield the lines about one server or triad, without line ends.

    *utc_offset_s* is that of the reader's zone. *usage* asks for features and seats, as ``-a`` and
    ``-f`` do; without it only servers and vendor daemon are shown. A *seats* that raises
    :class:`StatusLost` ends the text with one line that says so.
    """
    if not status.up:
        yield from _unreachable(status)
        return
    yield from _server_lines(status)
    yield from _vendor_lines(status)
    if not (usage and status.is_serving):
        if status.failure is not None:
            yield error_line(status.failure)
        return
    yield "Feature usage info:"
    yield ""
    try:
        yield from _usage_lines(status, seats, utc_offset_s)
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


def _usage_lines(status: Status, seats: SeatSource, utc_offset_s: float) -> Iterator[str]:
    first = status.servers[0].address
    features = by_feature(status.features)
    if status.wanted and not features:
        yield _error_usage_line(status.wanted, 0)
        yield ""
    for name, pools in features.items():
        yield _users_of_line(name, pools)
        yield ""
        yield from _pool_lines(name, pools, seats, first, utc_offset_s)


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


def _pool_lines(
    name: str,
    pools: list[FeatureRow],
    seats: SeatSource,
    first: ServerAddress,
    utc_offset_s: float,
) -> Iterator[str]:
    """Yield a group for each pool that is in use: its line, then its users (L8, L9)."""
    if not any(pool.in_use > 0 for pool in pools):
        return
    rows: Iterable[SeatRow] = seats(name)
    if len(pools) == 1:  # the usual case, however many seats it has: nothing is kept
        yield from _group_lines(pools[0])
        yield from (seat_line(seat, first, utc_offset_s) for seat in rows)
        yield ""
        return
    by_pool: dict[str, list[SeatRow]] = {pool.pool: [] for pool in pools}
    for row in rows:
        by_pool.setdefault(row.pool, []).append(row)
    for pool in pools:
        held = by_pool[pool.pool]
        if held or pool.in_use > 0:
            yield from _group_lines(pool)
            yield from (seat_line(seat, first, utc_offset_s) for seat in held)
            yield ""


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


def seat_line(seat: SeatRow, first: ServerAddress, utc_offset_s: float) -> str:
    """Return the line of one checkout (L9); *first* is the address of the first SERVER line."""
    at = civil(seat.started, utc_offset_s)
    where = f"{_host(first)}/{first.port}"
    line = (
        f"    {one_word(seat.user)} {one_word(seat.host)} {one_word(seat.display)} "
        f"(v{one_word(seat.version)}) ({where} {seat.handle}), "
        f"start {at.weekday} {at.month}/{at.day} {at.hour}:{at.minute:02d}"
    )
    if seat.count > 1:
        line += f", {_licenses(seat.count)}"
    if seat.linger_s is not None and seat.linger_left_s is not None:
        line += f"  (linger: {int(seat.linger_left_s)} / {int(seat.linger_s)})"
    elif seat.linger_left_s is not None:
        line += f"  (linger: {int(seat.linger_left_s)})"
    return line


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
