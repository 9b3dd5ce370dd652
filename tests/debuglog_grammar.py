"""A strict reader of debug logs: every line is of one shape of observed-formats D0 to D9, or a sentence of flexcore's
own that is listed here. What readers of the field match by is spelled out, to the blank.

A sentence that the servers learn to say belongs into ``LMGRD_SENTENCES`` or ``VENDOR_SENTENCES``, in a form that cannot
be taken for one of the shapes.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

TIMED = re.compile(r"(?P<hour>[ 1]\d|2[0-3]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d) \((?P<daemon>\w+)\) (?P<text>.*)")
DATED = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)T(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d)(?:Z|[+-]\d\d:\d\d)"
    r" \((?P<daemon>\w+)\) (?P<text>.*)"
)
DATE = r"(?P<month>[1-9]|1[0-2])/(?P<day>[1-9]|[12]\d|3[01])/(?P<year>\d{4})"
WHO = r'"(?P<feature>[^"]+)" (?P<user>.+)@(?P<host>[^@ ]+)  '
COUNT = r"(?:\((?P<count>\d+) licenses\) )?"
WHY = r"\((?P<said>.+[.!?]) \((?P<code>-\d+),(?P<minor>\d+)\)\)"

LICENCES = {  # D3, D4
    "OUT": f"OUT: {WHO}{COUNT}",
    "IN": rf"IN: {WHO}{COUNT}(?:\((?P<reason>[A-Z ]+)\))?",
    "LINGER": rf"LINGER: {WHO}{COUNT}\((?P<seconds>\d+) seconds\)",
    "QUEUED": f"QUEUED: {WHO}{COUNT}",
    "DEQUEUED": f"DEQUEUED: {WHO}{COUNT}",
    "REMOVE": rf"REMOVE: {WHO}\(lmremove by (?P<by>\S+@\S+)\)",
    "DENIED": f"DENIED: {WHO}{COUNT}{WHY}",
    "UNSUPPORTED": r'UNSUPPORTED: "(?P<feature>[^"]+)" \((?P<words>(?:\S+ )*)\) (?P<user>.+)@(?P<host>[^@ ]+)  ' + WHY,
}
BOTH = {
    "TIMESTAMP": f"TIMESTAMP {DATE}",  # D5
    "slog": r"\(@(?P<of>\w+)-SLOG@\) .*",  # D9
}
LMGRD = {
    **BOTH,
    # D1
    "dashes": "-{47}",
    "note": r"  (?:Please Note:|This log is intended for debug purposes only\.|In order to capture accurate license"
    r"|usage data into an organized repository,|please enable report logging\.)",
    "blank": " ",
    "pid": r"pid \d+",
    "started": rf"flexcore Licensing \(v(?P<version>\S+) build \d+ \w+\) started on (?P<host>\S+) \(\w+\) \({DATE}\)",
    "files": r"License file\(s\): (?P<path>.+)",
    "port": r"lmgrd tcp-port \d+",
    "starting": r"Starting vendor daemons \.\.\. ",
    "started vendor": r"Started (?P<vendor>\w+) \((?:internet tcp_port \d+ )?pid \d+\)",
    "using": r"(?P<vendor>\w+) using TCP-port \d+",
    # D6
    "reread": r'REREAD: lmreread received from admin "(?P<user>.+)" on (?P<host>\S+)',
    "rereading": r"Rereading license file\(s\) and signaling vendor daemons to reread options",
    "finished": r"\.\.\.Finished rereading|Done rereading",
    # D7
    "exited": r"(?P<vendor>\w+) exited with status \d+ \(.+\)",
    "unknown status": r"Since this is an unknown status, license server |"
    r"manager \(lmgrd\) will attempt to re-start the vendor daemon\.",
    "restarted": r"REStarted (?P<vendor>\w+) \(pid \d+\)",
    "shutting down": r"Shutting down (?P<vendor>\w+) pid=\d+ because of signal \d+",
    "all down": "All vendor daemons are down",
    "end": r"License server manager \(lmgrd\) exiting",
    # D8
    "connected": r"Connected to (?P<peer>\S+)",
    "master": r"CONNECTED, master is (?P<peer>\S+)",
    "existing": r"Selected \(EXISTING\) master (?P<peer>\S+)",
    "lost": r"Lost connection to (?P<peer>\S+)",
    "no quorum": "Lost quorum",
    "why": r"Why: (?P<why>[^;]+); term (?P<term>\d+)(?:; \S+ (?:last heard \d+\.\d s ago|not heard yet))*",
}
VENDOR = {
    **BOTH,
    **LICENCES,
    # D2
    "version": r"flexcore Licensing version v\S+ build \d+ \w+",
    "serves": r"Server started on (?P<host>\S+) for:\t(?P<name>\S*)\t\t",
    "list": r"(?:\S+\t\t)+",
    "empty": "",
    "filters": "EXTERNAL FILTERS are OFF",
    # D6
    "access": r"(?:INCLUDE|EXCLUDE)(?:_BORROW)? [A-Z_]+ .+ in (?:ALL FEATURES|\S+)",
    "reserving": r"RESERVING \d+ \S+ licenses? for [A-Z_]+ .+",
    "inactivity": r"(?:ALL FEATURES|\S+): INACTIVITY TIMEOUT set to \d+ seconds",
    "reread options": r'REREAD: options file ".+" reread completed',
    "reread license": r'REREAD: license file ".+" (?:reread completed: .+|was not taken: .+)',
    "expired": r'EXPIRED: "(?P<feature>[^"]+)" v\S+ on \S+.*',
    # D7
    "asked": r"Shutdown requested from (?P<user>.+)@(?P<host>\S+) IP=(?P<address>\S+)",
    "exiting": r"EXITING DUE TO SIGNAL \d+ Exit reason \d+",
}
LMGRD_SENTENCES = (
    r"This server is the (?:primary|secondary|tertiary) of the triad|This is a single server", r"Listening on .+",
    r"State folder.*: .+", r"No state folder: .+", r"WARNING: .+", r"EXITING: .+", r"Report log: .+",
    r"proposing a new triad to \w+", r"triad [0-9a-f]{8} is formed", r"--first-start is ignored: .+",
    r"copied \d+ entries from \w+", r"requested by .+", r"it stops", r"stopped by .+", r"The hostid .+ was asserted .+",
    r"\w+ is started again in .+", r"the (?:report|debug) log .*goes on in .+",
    r"\w+'s licence file has other signed lines than this server's",
    r"the state could not be written: .+",
)  # fmt: skip
VENDOR_SENTENCES = (
    r"Stopped serving(?:: .+)?", r'Using options file: ".+"', r"REREAD: (?!options file|license file).+",
    r'Feature ".+" v\S+ .*(?:is not served|expires on).+', r"The license lines in force are others now .+",
    r"MAX \d+ \S+ licenses? for [A-Z_]+ .+", r"\S+: (?:LINGER|MAX_OVERDRAFT|MAX_BORROW_HOURS) set to \d+",
    r"The lines of \w+ go to .+",
)  # fmt: skip


class Line(NamedTuple):
    """One line that was read: *at* is None until a TIMESTAMP or the start line has said the date."""

    at: datetime.datetime | None
    daemon: str
    shape: str
    values: dict[str, str]
    text: str

    @property
    def event(self) -> tuple[str, str, str, int]:
        """Of a line about a licence: kind, feature, user@host, licences."""
        values = self.values
        return self.shape, values["feature"], f"{values['user']}@{values['host']}", int(values.get("count") or 1)


class NoShape(Exception):
    """A line is of no shape, or of two."""


def shape_of(daemon: str, text: str) -> tuple[str, dict[str, str]]:
    """Return the one shape that a text has, and the values in it."""
    shapes, sentences = (LMGRD, LMGRD_SENTENCES) if daemon == "lmgrd" else (VENDOR, VENDOR_SENTENCES)
    found = [(name, match) for name, shape in shapes.items() if (match := re.fullmatch(shape, text))]
    own = [match for sentence in sentences if (match := re.fullmatch(sentence, text))]
    if len(found) + bool(own) != 1:
        raise NoShape(f"({daemon}) {text!r} is of the shapes {[name for name, _ in found] + ['own'] * len(own)}")
    name, match = found[0] if found else ("own", own[0])
    return name, {key: value for key, value in match.groupdict().items() if value is not None}


def read(lines: Iterable[str]) -> Iterator[Line]:
    """Read a log line by line. Raises NoShape at the first line that is none."""
    date: datetime.date | None = None
    for line in lines:
        match = TIMED.fullmatch(line) or DATED.fullmatch(line)
        if match is None:
            raise NoShape(repr(line))
        shape, values = shape_of(match["daemon"], match["text"])
        if "date" in match.groupdict():
            date = datetime.date.fromisoformat(match["date"])
        elif "year" in values:
            date = datetime.date(*(int(values[part]) for part in ("year", "month", "day")))
        time = datetime.time(int(match["hour"]), int(match["minute"]), int(match["second"]))
        at = None if date is None else datetime.datetime.combine(date, time)
        yield Line(at, match["daemon"], shape, values, match["text"])
