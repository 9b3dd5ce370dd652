"""The debug log: one small function a line, values in, text out (observed-formats D0 to D8).

Only :func:`log_line` knows the time; the others make the text that follows the daemon's name. Users
and hosts are whatever a client says they are, so no name can start a line of its own: control
characters become ``?``.

Readers of these logs match blanks: the two after ``user@host``, and the one that ends the line
``(N licenses)``, are part of the shape.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from flexcore.codes import ErrorCode

from .civil import civil, date_text
from .plain import line_of, word_of

LMGRD = "lmgrd"
"""The daemon name of lines that are about the server, its peers and its process."""

_LIST_COLUMNS = 60
_DASHES = "-" * 47


def log_line(wall: float, utc_offset_s: float, daemon: str, text: str) -> str:
    """Return one line of the debug log without its line end: ``hh:mm:ss (daemon) text`` (D0).

    The hour is padded with a blank. Tabs stay; what would break the line becomes ``?``.

    >>> log_line(32281.0, 0.0, "lmgrd", "Lost quorum")
    ' 8:58:01 (lmgrd) Lost quorum'
    """
    return stamped(time_stamp(wall, utc_offset_s), daemon, text)


def dated_log_line(wall: float, utc_offset_s: float, daemon: str, text: str) -> str:
    """Return a line as lmgrd's ``-datestamp`` has it: ISO 8601 with the zone in place of the time.

    >>> dated_log_line(32281.0, 3600.0, "lmgrd", "Lost quorum")
    '1970-01-01T09:58:01+01:00 (lmgrd) Lost quorum'
    """
    return stamped(dated_stamp(wall, utc_offset_s), daemon, text)


def time_stamp(wall: float, utc_offset_s: float) -> str:
    """Return what stands in front of all lines of one second: the time of day."""
    at = civil(wall, utc_offset_s)
    return f"{at.hour:2d}:{at.minute:02d}:{at.second:02d}"


def dated_stamp(wall: float, utc_offset_s: float) -> str:
    """Return what stands in front of them with ``-datestamp``."""
    at = civil(wall, utc_offset_s)
    minutes = round(utc_offset_s / 60)
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "Z"
    return f"{at.year:04d}-{at.month:02d}-{at.day:02d}T{at.hour:02d}:{at.minute:02d}:{at.second:02d}{zone}"


def stamped(stamp: str, daemon: str, text: str) -> str:
    """Return the line whose time is *stamp*."""
    return f"{stamp} ({word_of(daemon)}) {line_of(text)}"


# --- licences (D3, D4): by the vendor daemon of the master, once the outcome is committed --------


@functools.lru_cache(maxsize=4096)
def _who(user: str, host: str) -> str:
    return f"{word_of(user)}@{word_of(host)}  "


@functools.lru_cache(maxsize=4096)
def _feature(feature: str) -> str:
    return f'"{word_of(feature)}"'


def out_line(feature: str, user: str, host: str, count: int) -> str:
    """Return the line of a checkout (D3).

    >>> out_line("mill", "ann", "elm", 1), out_line("mill", "ann", "elm", 3)
    ('OUT: "mill" ann@elm  ', 'OUT: "mill" ann@elm  (3 licenses) ')
    """
    return f"OUT: {_feature(feature)} {_who(user, host)}" + _many(count)


def in_line(feature: str, user: str, host: str, count: int, reason: str = "") -> str:
    """Return the line of a checkin; *reason* is a word such as SHUTDOWN or INACTIVE (D3).

    >>> in_line("mill", "ann", "elm", 3, "SHUTDOWN")
    'IN: "mill" ann@elm  (3 licenses) (SHUTDOWN)'
    """
    said = f"({line_of(reason)})" if reason else ""
    return f"IN: {_feature(feature)} {_who(user, host)}" + _many(count) + said


def linger_line(feature: str, user: str, host: str, count: int, seconds: float) -> str:
    """Return the line of a seat that was given back and lingers; IN follows when that is over.

    >>> linger_line("mill", "ann", "elm", 1, 300.0)
    'LINGER: "mill" ann@elm  (300 seconds)'
    """
    return f"LINGER: {_feature(feature)} {_who(user, host)}{_many(count)}({seconds:g} seconds)"


def queued_line(feature: str, user: str, host: str, count: int) -> str:
    """Return the line of a request that waits (D4).

    >>> queued_line("mill", "ann", "elm", 1)
    'QUEUED: "mill" ann@elm  '
    """
    return f"QUEUED: {_feature(feature)} {_who(user, host)}" + _many(count)


def dequeued_line(feature: str, user: str, host: str, count: int) -> str:
    """Return the line of a request that waits no more: granted (OUT follows), given up or refused.

    >>> dequeued_line("mill", "ann", "elm", 3)
    'DEQUEUED: "mill" ann@elm  (3 licenses) '
    """
    return f"DEQUEUED: {_feature(feature)} {_who(user, host)}" + _many(count)


def expired_line(feature: str, version: str, expiry: str) -> str:
    """Return the line of licences whose last day is over; whoever holds some keeps them.

    >>> expired_line("mill", "1.0", "31-jan-2026")
    'EXPIRED: "mill" v1.0 on 31-jan-2026'
    """
    return f"EXPIRED: {_feature(feature)} v{word_of(version)} on {word_of(expiry)}"


def removed_line(feature: str, user: str, host: str, by: str) -> str:
    """Return the line of a seat that *by* takes away; IN follows when its client has given it back.

    >>> removed_line("mill", "ann", "elm", "root@oak")
    'REMOVE: "mill" ann@elm  (lmremove by root@oak)'
    """
    return f"REMOVE: {_feature(feature)} {_who(user, host)}(lmremove by {line_of(by)})"


def denied_line(
    feature: str, user: str, host: str, count: int, text: str, code: int, minor: int
) -> str:
    """Return the line of a denial: the manual's text, code and minor (D4).

    >>> denied_line("mill", "ann", "elm", 1, "No such feature exists", -5, 346)
    'DENIED: "mill" ann@elm  (No such feature exists. (-5,346))'
    """
    why = f"({_sentence(text)} ({int(code)},{minor}))"
    return f"DENIED: {_feature(feature)} {_who(user, host)}" + _many(count) + why


def unsupported_line(
    feature: str, keywords: Sequence[str], user: str, host: str, text: str, code: int, minor: int
) -> str:
    """Return the line of a request for something that is not served; *keywords* may be empty (D4).

    >>> unsupported_line("mill", [], "ann", "elm", "No such feature exists", -5, 346)
    'UNSUPPORTED: "mill" () ann@elm  (No such feature exists. (-5,346))'
    """
    words = "".join(f"{word_of(word)} " for word in keywords)
    why = f"({_sentence(text)} ({int(code)},{minor}))"
    return f"UNSUPPORTED: {_feature(feature)} ({words}) {_who(user, host)}" + why


def refusal_line(
    feature: str, user: str, host: str, count: int, text: str, code: int, minor: int
) -> str:
    """Return DENIED, or UNSUPPORTED where no licence line has the feature."""
    if code == ErrorCode.NO_SUCH_FEATURE:
        return unsupported_line(feature, (), user, host, text, code, minor)
    return denied_line(feature, user, host, count, text, code, minor)


def _many(count: int) -> str:
    return f"({count} licenses) " if count > 1 else ""


def _sentence(text: str) -> str:
    plain = line_of(text).strip()
    return plain if plain.endswith((".", "!", "?")) else plain + "."


# --- start (D1, D2) --------------------------------------------------------------------------------


def banner_lines() -> tuple[str, ...]:
    """Return the note that opens every log (D1), by lmgrd."""
    return (
        _DASHES,
        "  Please Note:",
        " ",
        "  This log is intended for debug purposes only.",
        "  In order to capture accurate license",
        "  usage data into an organized repository,",
        "  please enable report logging.",
        " ",
        _DASHES,
    )


def pid_line(pid: int) -> str:
    """Return lmgrd's ``pid N`` (D1)."""
    return f"pid {pid}"


def started_line(
    version: str, build: str, arch: str, host: str, system: str, wall: float, utc_offset_s: float
) -> str:
    """Return lmgrd's start line; the date at its end dates the whole log (D1).

    >>> started_line("0.1.0", "1", "x86_64", "elm", "linux", 0.0, 0.0)
    'flexcore Licensing (v0.1.0 build 1 x86_64) started on elm (linux) (1/1/1970)'
    """
    what = f"v{word_of(version)} build {word_of(build)} {word_of(arch)}"
    date = date_text(wall, utc_offset_s)
    return f"flexcore Licensing ({what}) started on {word_of(host)} ({word_of(system)}) ({date})"


def license_files_line(paths: Iterable[str]) -> str:
    """Return lmgrd's ``License file(s): PATH`` (D1)."""
    return "License file(s): " + " ".join(line_of(path) for path in paths)


def lmgrd_port_line(port: int) -> str:
    """Return ``lmgrd tcp-port N`` (D1)."""
    return f"lmgrd tcp-port {port}"


def starting_vendors_line() -> str:
    """Return ``Starting vendor daemons ... `` with its trailing blank (D1)."""
    return "Starting vendor daemons ... "


def started_vendor_line(vendor: str, pid: int, port: int | None = None) -> str:
    """Return ``Started V (internet tcp_port N pid N)``, or without a port ``Started V (pid N)``."""
    where = f"internet tcp_port {port} pid {pid}" if port is not None else f"pid {pid}"
    return f"Started {word_of(vendor)} ({where})"


def vendor_port_line(vendor: str, port: int) -> str:
    """Return lmgrd's ``V using TCP-port N`` (D1)."""
    return f"{word_of(vendor)} using TCP-port {port}"


def vendor_version_line(version: str, build: str, arch: str) -> str:
    """Return the first line of a vendor daemon (D2)."""
    return f"flexcore Licensing version v{word_of(version)} build {word_of(build)} {word_of(arch)}"


def vendor_started_lines(host: str, features: Iterable[str]) -> tuple[str, ...]:
    """Return the vendor daemon's list of what it serves: tabs, about 60 columns a line (D2).

    >>> vendor_started_lines("elm", ["f1", "f2"])
    ('Server started on elm for:\\tf1\\t\\t', 'f2\\t\\t', '', 'EXTERNAL FILTERS are OFF')
    """
    names = [word_of(name) for name in features]
    lines = [f"Server started on {word_of(host)} for:\t{names[0] if names else ''}\t\t"]
    row = ""
    for name in names[1:]:
        if row and len(row.expandtabs(8)) + len(name) > _LIST_COLUMNS:
            lines.append(row)
            row = ""
        row += f"{name}\t\t"
    if row:
        lines.append(row)
    return (*lines, "", "EXTERNAL FILTERS are OFF")


def vendor_start_lines(
    host: str, features: Iterable[str], version: str, build: str, arch: str
) -> tuple[str, ...]:
    """Return all lines with which a vendor daemon starts to serve (D2)."""
    return (vendor_version_line(version, build, arch), *vendor_started_lines(host, features))


# --- the block for support (D9) -----------------------------------------------------------------


def slog_lines(daemon: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return *texts* as a block that readers of the log skip (D9), between two empty lines of it.

    >>> slog_lines("lmgrd", ["PID: 7"])
    ('(@lmgrd-SLOG@) =====', '(@lmgrd-SLOG@) PID: 7', '(@lmgrd-SLOG@) =====')
    """
    mark = f"(@{word_of(daemon)}-SLOG@) "
    return (f"{mark}=====", *(mark + line_of(text) for text in texts), f"{mark}=====")


# --- while it runs (D5, D8) ------------------------------------------------------------------------


def timestamp_line(wall: float, utc_offset_s: float) -> str:
    """Return ``TIMESTAMP m/d/YYYY``: by lmgrd and each vendor daemon, every few hours and at the
    start of a day (D5)."""
    return f"TIMESTAMP {date_text(wall, utc_offset_s)}"


def connected_line(host: str) -> str:
    """Return ``Connected to HOST``: this server reached its peer (D8)."""
    return f"Connected to {word_of(host)}"


def master_line(name: str) -> str:
    """Return ``CONNECTED, master is NAME``: a quorum chose its master (D8)."""
    return f"CONNECTED, master is {word_of(name)}"


def existing_master_line(name: str) -> str:
    """Return the line of a server that joins a running group and accepts its master."""
    return f"Selected (EXISTING) master {word_of(name)}"


def lost_connection_line(host: str) -> str:
    """Return ``Lost connection to HOST``: a peer is gone (D8)."""
    return f"Lost connection to {word_of(host)}"


def lost_quorum_line() -> str:
    """Return ``Lost quorum``: too few servers, nobody is served (D8)."""
    return "Lost quorum"


def why_line(why: str, term: int, heard: Iterable[tuple[str, float | None]] = ()) -> str:
    """Return the line that follows one of the triad's (D8): what the shape itself does not tell.

    *heard*: peers, and how many seconds ago each was heard last (None: never). No reader of these logs
    has a pattern that it could be taken for, and none needs it.

    >>> why_line("the connection ended", 7, [("lee", 0.21), ("terry", None)])
    'Why: the connection ended; term 7; lee last heard 0.2 s ago; terry not heard yet'
    """
    parts = [line_of(why).rstrip("."), f"term {term}"]
    for host, ago in heard:
        said = "not heard yet" if ago is None else f"last heard {ago:.1f} s ago"
        parts.append(f"{word_of(host)} {said}")
    return "Why: " + "; ".join(part for part in parts if part)


# --- a licence file that is read anew (D6) -------------------------------------------------------


def reread_lines(user: str, host: str) -> tuple[str, ...]:
    """Return what lmgrd says when it is told to read its files anew (D6).

    >>> reread_lines("ann", "elm")[0]
    'REREAD: lmreread received from admin "ann" on elm'
    """
    return (
        f'REREAD: lmreread received from admin "{word_of(user)}" on {word_of(host)}',
        "Rereading license file(s) and signaling vendor daemons to reread options",
    )


def reread_finished_lines() -> tuple[str, ...]:
    """Return the last lines of a reread (D6)."""
    return ("...Finished rereading", "Done rereading")


# --- ends (D7) -------------------------------------------------------------------------------------


def shutdown_requested_line(user: str, host: str, address: str) -> str:
    """Return the vendor daemon's line about who asked it to stop (D7)."""
    return f"Shutdown requested from {word_of(user)}@{word_of(host)} IP={word_of(address)}"


def exiting_line(signal: int, reason: int) -> str:
    """Return the last line of a vendor daemon (D7).

    >>> exiting_line(15, 4)
    'EXITING DUE TO SIGNAL 15 Exit reason 4'
    """
    return f"EXITING DUE TO SIGNAL {signal} Exit reason {reason}"


def vendor_exited_line(vendor: str, status: int, reason: str) -> str:
    """Return lmgrd's ``V exited with status N (reason)`` (D7)."""
    return f"{word_of(vendor)} exited with status {status} ({line_of(reason)})"


def attempt_restart_lines() -> tuple[str, ...]:
    """Return lmgrd's two lines behind :func:`vendor_exited_line` where it starts the daemon again (D7)."""
    return (
        "Since this is an unknown status, license server ",
        "manager (lmgrd) will attempt to re-start the vendor daemon.",
    )


def shutting_down_vendor_line(vendor: str, pid: int, signal: int) -> str:
    """Return lmgrd's line about a vendor daemon that it stops (D7)."""
    return f"Shutting down {word_of(vendor)} pid={pid} because of signal {signal}"


def restarted_line(vendor: str, pid: int) -> str:
    """Return ``REStarted V (pid N)`` (D7): a vendor daemon serves again after it had stopped."""
    return f"REStarted {word_of(vendor)} (pid {pid})"


def all_vendors_down_line() -> str:
    """Return ``All vendor daemons are down`` (D7)."""
    return "All vendor daemons are down"


def lmgrd_exiting_line() -> str:
    """Return lmgrd's last line (D7)."""
    return "License server manager (lmgrd) exiting"
