"""What must be true of a licence file as a whole before a server may start with it.

The rules are those of the seed ("Using License File Keywords", "Using Multiple Vendor Daemons") and
of the reference, a1 to a5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from .lines import (
    AnyLine,
    FeatureLine,
    OtherKind,
    OtherLine,
    PackageLine,
    Problem,
    ServerLine,
    Severity,
    UpgradeLine,
    VendorLine,
)
from .places import Place, place_of_key, place_of_port

TRIAD_PORT_MIN: Final = 1024
TRIAD_PORT_MAX: Final = 64000
PORT_MAX: Final = 65535
INTERVAL_MAX_S: Final = 120

TRUSTED_STORAGE_KEYS: Final = frozenset(
    {"TRUSTED_STORAGE", "FULFILLMENT_ID", "ENTITLEMENT_ID", "ACTIVATION_ID"}
)
"""Attributes that stand on rights which live in trusted storage."""

_INTERVAL_KEYS: Final = ("HEARTBEAT_INTERVAL", "SERVER_TIMEOUT")


def check_structure(lines: Sequence[AnyLine]) -> Iterator[Problem]:
    """Yield the errors that concern SERVER and VENDOR lines and how they go with the others."""
    servers = [line for line in lines if isinstance(line, ServerLine)]
    unreadable = [
        line
        for line in lines
        if isinstance(line, OtherLine)
        and line.kind is OtherKind.BROKEN
        and line.keyword == "SERVER"
    ]
    yield from _check_trusted_storage(lines)
    yield from _check_number(servers, unreadable)
    for rank, server in enumerate(servers):
        yield from _check_server(server, rank, is_triad=len(servers) == 3)
    if len(servers) == 3 and not unreadable:
        yield from _check_addresses(servers)
    yield from _check_vendors(lines, servers, unreadable)


def _error(
    at: int | Place, code: str, message: str, advice: str = "", *, fatal: bool = True
) -> Problem:
    line, column = (at, 1) if isinstance(at, int) else at
    return Problem(Severity.ERROR, line, column, code, message, advice, whole_file=fatal)


def _check_trusted_storage(lines: Sequence[AnyLine]) -> Iterator[Problem]:
    reason = (
        "three-server redundancy, and flexcore, serve rights from licence files only, "
        "not from trusted storage"
    )
    advice = "ask the publisher for a licence file"
    for line in lines:
        if isinstance(line, FeatureLine | PackageLine | UpgradeLine):
            for attribute in line.attributes:
                if attribute.key.upper() in TRUSTED_STORAGE_KEYS:
                    at = attribute.line, attribute.column
                    yield _error(at, "trusted-storage", reason, advice)
                    return
        elif isinstance(line, OtherLine) and line.kind is OtherKind.TEXT:
            start = line.text.lstrip("\ufeff \t")[:200].lower()
            if start.startswith("<") and any(
                word in start for word in ("trusted", "fulfil", "activation")
            ):
                yield _error(line.line, "trusted-storage", reason, advice)
                return


def _check_number(servers: list[ServerLine], unreadable: list[OtherLine]) -> Iterator[Problem]:
    number = len(servers) + len(unreadable)
    if number in (0, 1, 3):
        return
    if number == 2:
        why = "two servers can have no majority when one of them fails, so they protect nothing"
    else:
        why = "redundancy means exactly three servers, any two of which are a quorum"
    line = max(line.line for line in (*servers, *unreadable))
    advice = "write one SERVER line, or three, as the publisher signed them"
    yield _error(line, "server-count", f"{number} SERVER lines: {why}", advice)


def _check_server(server: ServerLine, rank: int, *, is_triad: bool) -> Iterator[Problem]:
    port, interval = server.port, server.heartbeat_interval_s
    if is_triad:
        allowed = f"write a number of {TRIAD_PORT_MIN} to {TRIAD_PORT_MAX} behind the hostid"
        if port is None:
            yield _error(
                server.line, "port-missing", "each SERVER line of three needs a port", allowed
            )
        elif not TRIAD_PORT_MIN <= port <= TRIAD_PORT_MAX:
            message = f"port {port} is out of range for one of three servers"
            yield _error(place_of_port(server), "port-range", message, allowed)
    elif port is not None and not 1 <= port <= PORT_MAX:
        message = f"port {port} is out of range"
        advice = f"write a number of 1 to {PORT_MAX}"
        yield _error(place_of_port(server), "port-range", message, advice)
    if rank:
        words: list[tuple[str, ...]] = [("PRIMARY_IS_MASTER",)] if server.primary_is_master else []
        words += [_INTERVAL_KEYS] if interval is not None else []
        for keys in words:
            message = f"{keys[0]} stands on SERVER line {rank + 1}"
            at = place_of_key(server, *keys)
            yield _error(at, "not-first-server", message, "it goes on the first SERVER line only")
    if interval is not None and interval > INTERVAL_MAX_S:
        message = f"HEARTBEAT_INTERVAL={interval} is out of range"
        at = place_of_key(server, *_INTERVAL_KEYS)
        yield _error(at, "interval-range", message, f"write 0 to {INTERVAL_MAX_S} seconds")


def _check_addresses(servers: list[ServerLine]) -> Iterator[Problem]:
    seen: dict[tuple[str, int | None], ServerLine] = {}
    for server in servers:
        address = (server.host.casefold(), server.port)
        first = seen.setdefault(address, server)
        if first is not server:
            message = f"{server.host} port {server.port} is already the server of line {first.line}"
            yield _error(server.line, "same-address", message, "each server needs its own address")


def _check_vendors(
    lines: Sequence[AnyLine], servers: list[ServerLine], unreadable: list[OtherLine]
) -> Iterator[Problem]:
    vendors = [line for line in lines if isinstance(line, VendorLine)]
    features = [line for line in lines if isinstance(line, FeatureLine)]
    if not servers and not unreadable:
        for feature in features:
            if not feature.is_uncounted:
                message = f"{feature.name} is counted, and there is no SERVER line"
                advice = "keep the feature line together with its SERVER and VENDOR lines"
                yield _error(feature.line, "counted-without-server", message, advice)
                break
        return
    names: dict[str, VendorLine] = {}
    for vendor in vendors:
        first = names.setdefault(vendor.name, vendor)
        if first is not vendor:
            message = f"vendor {vendor.name} has a line already, line {first.line}"
            yield _error(vendor.line, "vendor-twice", message, "take one of them out")
    if any(_is_broken_vendor(line) for line in lines):
        return  # its own error says what to correct first
    if not vendors:
        message = "no VENDOR line, so nobody serves the features"
        line = max(line.line for line in (*servers, *unreadable))
        advice = "write VENDOR and the vendor's name below the SERVER lines"
        yield _error(line, "vendor-missing", message, advice)
    elif len(servers) == 3 and len(names) > 1:
        message = "three servers serve exactly one vendor together"
        advice = "give the other vendor its own licence file, servers and ports"
        yield _error(vendors[1].line, "vendor-count", message, advice)
    strangers: set[str] = set()
    for feature in features:
        if names and feature.vendor not in names and feature.vendor not in strangers:
            strangers.add(feature.vendor)
            message = f"{feature.name} is of vendor {feature.vendor}, which has no VENDOR line"
            advice = "add the VENDOR line, or take the feature out"
            fatal = len(servers) == 3
            yield _error(feature.line, "vendor-unknown", message, advice, fatal=fatal)


def _is_broken_vendor(line: AnyLine) -> bool:
    return isinstance(line, OtherLine) and line.keyword in ("VENDOR", "DAEMON")
