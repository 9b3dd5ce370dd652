"""A strict reader of lmstat's text: every line has one shape of observed-formats L0 to L11, in its place, and gives
back the values that it was printed from."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

ADDRESSES = r"License server status: (?P<addresses>\d+@[^ ,]+(?:,\d+@[^ ,]+)*)"
FILES = r"    License file\(s\) on (?P<host>\S+): (?P<path>.*):"
FAILURE = r'(?P<text>[^(]+)\. \((?P<code>-\d+),(?P<minor>\d+)(?::(?P<errno>\d+) "(?P<why>[^"]*)")?\)'
SERVER = r" *(?P<host>\S+): license server UP(?P<master> \(MASTER\))? v(?P<version>\d+(?:\.\d+)+)"
NO_SERVER = rf" *(?P<host>\S+): {FAILURE}"
DAEMON = r"Vendor daemon status \(on (?P<host>\S+)\):"
VENDOR_UP = r" *(?P<name>\S+): UP v\d+(?:\.\d+)+"
USAGE = "Feature usage info:"
COUNTED = (
    r"Users of (?P<feature>\S+):  \(Total of (?P<issued>\d+) (?P<i>licenses?) issued;  "
    r"Total of (?P<used>\d+) (?P<u>licenses?) in use\)"
)
UNCOUNTED = r"Users of (?P<feature>\S+):  \(Uncounted, node-locked\)"
UNSUPPORTED = r"Users of (?P<feature>\S+):  \(Error: (?P<issued>\d+) (?P<i>licenses?), unsupported by licensed server\)"
POOL = (
    r'  "(?P<feature>[^"]+)" v(?P<version>\S+), vendor: (?P<vendor>\S+), '
    r"expiry: (?P<expiry>\S+|permanent\(no expiration date\))"
)
VENDOR_STRING = r"  vendor_string: (?P<string>.+)"
LOCK = (
    r'  (?:(?P<floating>floating license)|(?P<counted>nodelocked license, locked to "(?P<to>[^"]+)")'
    r'|(?P<free>uncounted nodelocked license, locked to (?:NOTHING \(hostid=ANY\)|"(?P<held>[^"]+)")))'
)
WHERE = r"\((?P<server>\S+)/(?P<port>\d+)"
SEAT = (
    rf"    (?P<user>\S+) (?P<host>\S+) (?P<display>\S+) \(v(?P<version>\S+)\) {WHERE} (?P<handle>\d+)\), "
    r"start (?P<day>\w{3}) (?P<month>\d+)/(?P<date>\d+) (?P<hour>\d|1\d|2[0-3]):(?P<minute>\d\d)"
    r"(?:, (?P<count>\d+) licenses)?(?:  \(linger: (?P<left>\d+) / (?P<linger>\d+)\))?"
)
RESERVED = rf"\t(?P<count>\d+) (?P<r>RESERVATIONs?) for (?P<kind>[A-Z_]+) (?P<name>\S+) {WHERE}\)"
QUEUED = (
    rf"    (?P<user>\S+) (?P<host>\S+) (?P<display>\S+) (?P<version>\S+) \(v(?P=version)\) {WHERE} (?P<handle>\d+)\)"
    r" queued for (?P<count>\d+) (?P<q>licenses?)"
)
ERROR = rf"Error getting status: {FAILURE}"


class Pool(NamedTuple):
    """One group of lines below a feature."""

    feature: str
    version: str
    vendor: str
    expiry: str
    vendor_string: str
    lock: str
    """'' for a floating licence; ANY for none."""
    reserved: tuple[tuple[int, str, str], ...]
    seats: tuple[tuple[Any, ...], ...]
    """User, host, display, version, handle, (month, day, hour, minute), licences, rest and length of lingering."""
    queue: tuple[tuple[Any, ...], ...]
    """User, host, display, version, handle, licences."""


class Seen(NamedTuple):
    """What a monitor knows after it has read the text."""

    addresses: tuple[str, ...]
    path: str
    servers: dict[str, str]
    """By host: master, up, or the code and number of the system: ``-15:111``."""
    vendor_on: str
    vendors: dict[str, bool]
    features: dict[str, tuple[int, int] | str]
    """Issued and in use; ``uncounted`` or ``unsupported``."""
    pools: tuple[Pool, ...]
    error: int
    """Of the line that ends a text which is not whole; 0: there is none."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.at = 0
        self.hosts: set[tuple[str, str]] = set()

    def take(self, shape: str) -> re.Match[str] | None:
        match = re.fullmatch(shape, self.lines[self.at]) if self.at < len(self.lines) else None
        self.at += match is not None
        return match

    def need(self, shape: str) -> re.Match[str]:
        match = self.take(shape)
        assert match is not None, f"line {self.at + 1}: {self.lines[self.at:self.at + 1]} is not {shape}"
        return match

    def blank(self) -> None:
        self.need("")


def read(text: str) -> Seen:
    """Read the text of one server or triad, without its header. Raises AssertionError at a line out of shape."""
    reader = _Reader(text.removesuffix("\n"))
    if only := reader.take(ERROR):
        return Seen((), "", {}, "", {}, {}, (), int(only["code"]))
    addresses = tuple(reader.need(ADDRESSES)["addresses"].split(","))
    files = reader.take(FILES)
    reader.blank()
    servers = {}
    while match := reader.take(SERVER) or reader.take(NO_SERVER):
        values = match.groupdict()
        servers[match["host"]] = (
            f"{values['code']}:{values['errno']}" if "code" in values else "master" if match["master"] else "up"
        )
        assert values["host"] == match[0].split(":")[0].lstrip()
        assert len(match[0].split(":")[0]) >= 10
    reader.blank()
    vendor_on, vendors = "", {}
    if daemon := reader.take(DAEMON):
        vendor_on = daemon["host"]
        reader.blank()
        while match := reader.take(VENDOR_UP) or reader.take(NO_SERVER):
            values = match.groupdict()
            vendors[values.get("name") or values["host"]] = "name" in values
    features, pools = _usage(reader) if reader.take(USAGE) else ({}, ())
    error = reader.take(ERROR)
    while reader.take(""):
        pass
    assert reader.at == len(reader.lines), f"line {reader.at + 1}: {reader.lines[reader.at]!r}"
    assert {host for host, _ in reader.hosts} <= {addresses[0].partition("@")[2]}, "always the first SERVER line's"
    return Seen(addresses, files["path"] if files else "", servers, vendor_on, vendors, features, pools,
                int(error["code"]) if error else 0)  # fmt: skip


def _usage(reader: _Reader) -> tuple[dict[str, tuple[int, int] | str], tuple[Pool, ...]]:
    features: dict[str, tuple[int, int] | str] = {}
    pools: list[Pool] = []
    reader.blank()
    while match := reader.take(COUNTED) or reader.take(UNCOUNTED) or reader.take(UNSUPPORTED):
        values = match.groupdict()
        for number, noun in (("issued", "i"), ("used", "u")):
            if number in values:
                assert values[noun].endswith("s") == (values[number] != "1")
        features[match["feature"]] = (
            (int(values["issued"]), int(values["used"])) if "used" in values
            else "unsupported" if "issued" in values else "uncounted"
        )  # fmt: skip
        reader.blank()
        while group := reader.take(POOL):
            assert group["feature"] == match["feature"]
            pools.append(_pool(reader, group))
    return features, tuple(pools)


def _pool(reader: _Reader, group: re.Match[str]) -> Pool:
    string = reader.take(VENDOR_STRING)
    kind = reader.need(LOCK)
    reader.blank()
    reserved, seats, queue = [], [], []
    while match := reader.take(RESERVED):
        assert match["r"].endswith("s") == (match["count"] != "1")
        reader.hosts.add((match["server"], match["port"]))
        reserved.append((int(match["count"]), match["kind"], match["name"]))
    while match := reader.take(SEAT):
        reader.hosts.add((match["server"], match["port"]))
        when = tuple(int(match[part]) for part in ("month", "date", "hour", "minute"))
        linger = (int(match["left"]), int(match["linger"])) if match["left"] else None
        seats.append((*match.group("user", "host", "display", "version"), int(match["handle"]), when,
                      int(match["count"] or 1), linger))  # fmt: skip
    while match := reader.take(QUEUED):
        reader.hosts.add((match["server"], match["port"]))
        queue.append((*match.group("user", "host", "display", "version"), int(match["handle"]), int(match["count"])))
    reader.blank()
    lock = "" if kind["floating"] else kind["to"] or kind["held"] or "ANY"
    feature, version, vendor, expiry = group.group("feature", "version", "vendor", "expiry")
    return Pool(feature, version, vendor, expiry, string["string"] if string else "", lock, tuple(reserved),
                tuple(seats), tuple(queue))  # fmt: skip
