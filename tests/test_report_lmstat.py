"""lmstat's text: a golden sample of every state, and a reader that takes any of them apart again.

The reader below knows only what monitoring tools know (observed-formats L0 to L9): regular
expressions over lines.
"""

from __future__ import annotations

import doctest
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.report import lmstat, status
from flexcore.report.lmstat import header_lines, lmstat_text
from flexcore.report.status import Failure, ServerStatus, Status, StatusLost, seats_from
from flexcore.wire.messages import FeatureRow, SeatRow, ServerAddress, ServerReport
from tests.budget import examples

WALL = 1795511100.0  # Tue 11/24/2026 09:05 UTC
REFUSED = Failure(-15, 111, "Connection refused")
TIMED_OUT = Failure(-15, 110, "Connection timed out")
HOSTS = ("pat", "lee.example.org", "terry")


def report(rank: int, state: str, **changes) -> ServerReport:
    plain = ServerReport(
        name=HOSTS[rank], rank=rank, state=state, term=7, master_rank=-1, reason="", until_s=None,
        uptime_s=60.0, software="flexcore 0.1.0.dev0", license_path="/etc/demo.lic",
        peers_up=tuple(other for other in range(3) if other != rank), notes=(), commit=4,
        vendor_up=state == "serving",
    )  # fmt: skip
    return plain._replace(**changes)


def server(rank: int, answer: ServerReport | Failure) -> ServerStatus:
    address = ServerAddress(HOSTS[rank], 2837)
    if isinstance(answer, Failure):
        return ServerStatus(address=address, failure=answer)
    return ServerStatus(address=address, report=answer)


def triad(*answers, **changes) -> Status:
    servers = tuple(server(rank, answer) for rank, answer in enumerate(answers))
    return Status(wall=WALL, servers=servers, vendor="demo", **changes)


def pool(feature: str, **changes) -> FeatureRow:
    plain = FeatureRow(
        feature=feature, pool=f"{feature}#1", version="1.0", vendor="demo", expiry="1-jan-2028",
        expires_in_days=402, vendor_string="", count=10, in_use=0, lock="",
    )  # fmt: skip
    return plain._replace(**changes)


def seat(feature: str, handle: int, **changes) -> SeatRow:
    plain = SeatRow(
        pool=f"{feature}#1", feature=feature, user="ann", host="elm", display="/dev/pts/1",
        version="1.0", handle=handle, started=WALL - 23 * 60, count=1, pid=4711,
    )  # fmt: skip
    return plain._replace(**changes)


def text_of(value: Status, seats=(), **how) -> str:
    return "\n".join(lmstat_text(value, seats_from(seats), utc_offset_s=0.0, **how)) + "\n"


# --- golden samples --------------------------------------------------------------------------------

TRIAD = """\
License server status: 2837@pat,2837@lee.example.org,2837@terry
    License file(s) on pat: /etc/demo.lic:

       pat: license server UP v0.1.0
lee.example.org: license server UP (MASTER) v0.1.0
     terry: license server UP v0.1.0

Vendor daemon status (on lee.example.org):

      demo: UP v0.1.0
"""

USAGE = """\
Feature usage info:

Users of f1:  (Total of 15 licenses issued;  Total of 4 licenses in use)

  "f1" v1.0, vendor: demo, expiry: 1-jan-2028
  vendor_string: commercial: extendable
  floating license

    ann elm /dev/pts/1 (v1.0) (pat/2837 101), start Tue 11/24 8:42
    Bob_B oak :0.0 (v1.0) (pat/2837 108), start Tue 11/24 8:42, 2 licenses

  "f1" v2.0, vendor: demo, expiry: permanent(no expiration date)
  nodelocked license, locked to "ID=12"

    eve ash - (v2.0) (pat/2837 200), start Fri 7/12 10:00  (linger: 60 / 300)

Users of f2:  (Total of 1 license issued;  Total of 0 licenses in use)

Users of f3:  (Uncounted, node-locked)

  "f3" v1.0, vendor: demo, expiry: 1-jan-2028
  uncounted nodelocked license, locked to NOTHING (hostid=ANY)

    ann elm /dev/pts/1 (v1.0) (pat/2837 300), start Tue 11/24 8:42

Users of f4:  (Error: 5 licenses, unsupported by licensed server)

"""


def test_header():
    assert list(header_lines(WALL, 0.0)) == [
        "lmutil - Copyright (c) 2026-2026 flexcore contributors. All Rights Reserved.",
        "Flexible License Manager status on Tue 11/24/2026 09:05",
        "",
    ]
    assert list(header_lines(WALL, 3600.0, detecting=True))[1:] == [
        "Flexible License Manager status on Tue 11/24/2026 10:05",
        "",
        "[Detecting lmgrd processes...]",
    ]
    assert next(header_lines(WALL + 366 * 86400.0, 0.0)).startswith(
        "lmutil - Copyright (c) 2026-2027 "
    )


def test_a_triad_without_flags_shows_servers_and_vendor_daemon():
    value = triad(report(0, "follower"), report(1, "serving"), report(2, "follower"))
    assert text_of(value, usage=False) == TRIAD
    assert (value.exit_status, value.check_status, value.is_degraded) == (0, 0, False)


def test_features_pools_and_seats():
    value = triad(
        report(0, "follower"), report(1, "serving"), report(2, "follower"),
        features=(
            pool("f1", in_use=3, vendor_string="commercial: extendable"),
            pool("f2", count=1),
            pool("f1", pool="f1#2", version="2.0", expiry="permanent", count=5, in_use=1,
                 lock="ID=12"),
            pool("f3", count=0, in_use=1, lock="ANY"),
            pool("f4", count=5, error="not signed by this key"),
        ),
    )  # fmt: skip
    seats = [
        seat("f1", 101),
        seat("f1", 108, user="Bob B", host="oak", display=":0.0", count=2),
        seat("f1", 200, pool="f1#2", user="eve", host="ash", display="", version="2.0",
             started=(datetime(2024, 7, 12, 10) - EPOCH).total_seconds(),
             linger_left_s=60.0, linger_s=300.0),
        seat("f3", 300),
    ]  # fmt: skip
    assert text_of(value, seats) == TRIAD + USAGE


def test_one_server_of_three_is_gone():
    gone = triad(report(0, "serving", peers_up=(2,)), REFUSED, report(2, "follower"))
    lines = text_of(gone, usage=False).splitlines()
    assert lines[3:6] == [
        "       pat: license server UP (MASTER) v0.1.0",
        f"lee.example.org: {REFUSED.printed}",
        "     terry: license server UP v0.1.0",
    ]
    assert (gone.exit_status, gone.check_status, gone.is_degraded) == (0, 1, True)


def test_the_first_server_is_gone_so_the_file_is_that_of_the_next():
    gone = triad(TIMED_OUT, report(1, "serving", peers_up=(2,)), report(2, "follower"))
    lines = text_of(gone, usage=False).splitlines()
    assert lines[1] == "    License file(s) on lee.example.org: /etc/demo.lic:"
    assert lines[3] == (
        '       pat: Cannot connect to license server system. (-15,570:110 "Connection timed out")'
    )


def test_without_a_quorum_nobody_is_master_and_the_vendor_daemon_is_down():
    value = triad(REFUSED, report(1, "waiting", until_s=12.0), REFUSED)
    assert text_of(value) == (
        "License server status: 2837@pat,2837@lee.example.org,2837@terry\n"
        "    License file(s) on lee.example.org: /etc/demo.lic:\n"
        "\n"
        '       pat: Cannot connect to license server system. (-15,570:111 "Connection refused")\n'
        "lee.example.org: license server UP v0.1.0\n"
        "     terry: Cannot connect to license server system. "
        '(-15,570:111 "Connection refused")\n'
        "\n"
        "Vendor daemon status (on lee.example.org):\n"
        "\n"
        "      demo: The desired vendor daemon is down. (-97,121)\n"
    )
    assert (value.exit_status, value.check_status, value.until_s) == (159, 2, 12.0)


def test_a_triad_of_which_nobody_answers():
    value = triad(REFUSED, REFUSED, TIMED_OUT)
    assert text_of(value) == (
        "License server status: 2837@pat,2837@lee.example.org,2837@terry\n"
        "\n"
        '       pat: Cannot connect to license server system. (-15,570:111 "Connection refused")\n'
        "lee.example.org: Cannot connect to license server system. "
        '(-15,570:111 "Connection refused")\n'
        "     terry: Cannot connect to license server system. "
        '(-15,570:110 "Connection timed out")\n'
        "\n"
        "Error getting status: Cannot connect to license server system. "
        '(-15,570:111 "Connection refused")\n'
    )
    assert (value.exit_status, value.check_status) == (241, 2)


def test_a_single_server():
    up = triad(report(0, "serving", peers_up=()))
    assert text_of(up, usage=False) == (
        "License server status: 2837@pat\n"
        "    License file(s) on pat: /etc/demo.lic:\n"
        "\n"
        "       pat: license server UP (MASTER) v0.1.0\n"
        "\n"
        "Vendor daemon status (on pat):\n"
        "\n"
        "      demo: UP v0.1.0\n"
    )
    assert (up.exit_status, up.check_status) == (0, 0)
    down = triad(REFUSED)
    assert text_of(down) == (
        "Error getting status: Cannot connect to license server system. "
        '(-15,570:111 "Connection refused")\n'
    )
    assert (down.exit_status, down.check_status) == (241, 2)


def test_a_vendor_daemon_that_is_down_though_its_server_serves():
    value = triad(report(0, "serving", vendor_up=False), report(1, "follower"), REFUSED)
    text = text_of(value)
    assert "(MASTER)" not in text
    assert "      demo: The desired vendor daemon is down. (-97,121)\n" in text
    assert value.exit_status == 159


def test_a_feature_that_nobody_has():
    value = triad(report(0, "serving"), report(1, "follower"), report(2, "follower"), wanted="f9")
    assert text_of(value).endswith(
        "Feature usage info:\n\nUsers of f9:  (Error: 0 licenses, unsupported by licensed server)"
        "\n\n"
    )
    assert value.exit_status == 251


def test_of_two_that_say_they_serve_the_higher_term_does():
    value = triad(report(0, "serving", term=7), report(1, "serving", term=8), REFUSED)
    assert text_of(value, usage=False).count("(MASTER)") == 1
    assert value.master is value.servers[1]


@pytest.mark.parametrize(
    "answers",
    [
        (report(0, "serving", peers_up=(1,)), report(1, "follower"), report(2, "follower")),
        (report(0, "serving"), report(1, "recovering"), report(2, "follower")),
        (report(0, "serving"), report(1, "follower"), TIMED_OUT),
    ],
)
def test_degraded(answers):
    assert triad(*answers).check_status == 1


def test_a_master_that_goes_away_in_the_middle_is_said_and_ends_the_text():
    value = triad(
        report(0, "serving"), report(1, "follower"), report(2, "follower"),
        features=(pool("f1", in_use=2), pool("f2", in_use=1)),
    )  # fmt: skip

    def broken(feature):
        yield seat(feature, 101)
        raise StatusLost(Failure(-16))

    lines = list(lmstat_text(value, broken, utc_offset_s=0.0))
    assert lines[-2:] == [
        "    ann elm /dev/pts/1 (v1.0) (pat/2837 101), start Tue 11/24 8:42",
        "Error getting status: Cannot read data from license server system. (-16,287)",
    ]


def test_seats_are_not_collected_before_they_are_printed():
    value = triad(
        report(0, "serving"), report(1, "follower"), report(2, "follower"),
        features=(pool("f1", count=10**6, in_use=10**6),),
    )  # fmt: skip
    asked = []

    def endless(feature):
        for handle in range(10**9):
            asked.append(handle)
            yield seat(feature, handle)

    lines = lmstat_text(value, endless, utc_offset_s=0.0)
    for line in lines:
        if " 100)" in line:
            break
    assert len(asked) < 110


# --- a reader, and that it reads back what was printed --------------------------------------------

EPOCH = datetime(1970, 1, 1)
ADDRESSES = re.compile(r"^License server status: ((?:\d+@[^ ,]+,?)+)$")
FILES = re.compile(r"^    License file\(s\) on ([^:]+): (.*):$")
SERVER = re.compile(r"^ *(\S+): license server UP( \(MASTER\))? v(\d+(?:\.\d+)+)$")
NO_SERVER = re.compile(r"^ *(\S+): Cannot connect .*\((-\d+),(\d+):(\d+) \"(.*)\"\)$")
VENDOR = re.compile(r"^ *(\S+): (?:UP v(\d+(?:\.\d+)+)|The desired (vendor daemon is down)\..*)$")
USERS = re.compile(
    r"^Users of (\S+):  \(Total of (\d+) licenses? issued;  Total of (\d+) licenses? in use\)$"
)
GROUP = re.compile(r'^  "(.+)" v(\S+), vendor: (\S+), expiry: (.+)$')
SEAT = re.compile(
    r"^    (?P<user>\S+) (?P<host>\S+) (?P<display>\S+) \(v(?P<version>\S+)\) "
    r"\((?P<server>\S+)/(?P<port>\d+) (?P<handle>\d+)\), "
    r"start (?P<day>\w{3}) (?P<month>\d+)/(?P<date>\d+) (?P<hour>\d+):(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d))?(?:, (?P<count>\d+) licenses)?"
    r"(?:  \(linger: (?P<left>\d+)(?: / (?P<linger>\d+))?\))?(?:, PROJECT: (?P<project>\S+))?$"
)
RESERVED = re.compile(
    r"^\t(?P<count>\d+) RESERVATIONs? for (?P<kind>USER|HOST|DISPLAY|INTERNET|PROJECT|GROUP|HOST_GROUP) "
    r"(?P<name>\S+) \((?P<server>\S+)/(?P<port>\d+)\)$"
)
QUEUED = re.compile(
    r"^    (?P<user>\S+) (?P<host>\S+) (?P<display>\S+) (?P<version>\S+) \(v(?P=version)\) "
    r"\((?P<server>\S+)/(?P<port>\d+) (?P<handle>\d+)\) queued for (?P<count>\d+) licenses?$"
)
LICENSE = re.compile(r"^(\S+) +([0-9.]+) +(\d+) +(\S+) +(\S+)$")


def read(text: str) -> dict[str, Any]:
    """Take lmstat's text apart as the monitoring tools do."""
    found: dict[str, Any] = {
        key: [] for key in ("servers", "down", "users", "groups", "seats", "reserved", "queued", "lines")
    }
    vendor_part = False
    for line in text.split("\n"):
        vendor_part = vendor_part or line.startswith("Vendor daemon status (on ")
        if match := ADDRESSES.match(line):
            found["addresses"] = match[1].split(",")
        elif match := FILES.match(line):
            found["files"] = [match[1], match[2]]
        elif match := SERVER.match(line):
            found["servers"].append((match[1], match[2] is not None, match[3]))
        elif match := NO_SERVER.match(line):
            found["down"].append((match[1], int(match[4]), match[5]))
        elif vendor_part and "vendor" not in found and (match := VENDOR.match(line)):
            found["vendor"] = [match[1], match[3] is None]
        elif match := USERS.match(line):
            found["users"].append((match[1], int(match[2]), int(match[3])))
        elif match := GROUP.match(line):
            found["groups"].append(match.groups())
        elif match := SEAT.match(line):
            found["seats"].append((found["groups"][-1][0], match.groupdict()))
        elif match := RESERVED.match(line):
            found["reserved"].append((found["groups"][-1][0], match.groupdict()))
        elif match := QUEUED.match(line):
            found["queued"].append((found["groups"][-1][0], match.groupdict()))
        elif match := LICENSE.match(line):
            found["lines"].append(match.groups())
    return found


WORD = st.text(
    st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12
).filter(lambda word: not any(c in word for c in "()/,"))  # fmt: skip
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", fullmatch=True)
VERSION = st.from_regex(r"[0-9]{1,4}\.[0-9]{1,3}", fullmatch=True)
ANSWER = st.one_of(
    st.sampled_from([REFUSED, TIMED_OUT]),
    st.sampled_from(["follower", "candidate", "waiting", "recovering"]),
)
SEATS = st.lists(
    st.tuples(WORD, WORD, WORD, VERSION, st.integers(1, 10**9), st.integers(1, 50),
              st.integers(0, 4_000_000_000)),
    max_size=6,
)  # fmt: skip


@settings(max_examples=examples(150), deadline=None)
@given(
    hosts=st.lists(NAME, min_size=3, max_size=3, unique_by=str.casefold),
    vendor=NAME,
    answers=st.lists(ANSWER, min_size=3, max_size=3),
    master=st.integers(0, 2),
    offset=st.integers(-12 * 3600, 14 * 3600),
    features=st.lists(st.tuples(NAME, VERSION, SEATS), max_size=3, unique_by=lambda f: f[0]),
)
def test_what_is_printed_reads_back(hosts, vendor, answers, master, offset, features):
    states = [answer if isinstance(answer, Failure) else report(rank, answer)
              for rank, answer in enumerate(answers)]  # fmt: skip
    states[master] = report(master, "serving")
    servers = tuple(
        ServerStatus(address=ServerAddress(host, 2837), failure=state)
        if isinstance(state, Failure)
        else ServerStatus(address=ServerAddress(host, 2837), report=state)
        for host, state in zip(hosts, states, strict=True)
    )
    rows, seats = [], []
    for name, version, held in features:
        used = sum(count for *_, count, _ in held)
        rows.append(pool(name, version=version, vendor=vendor, count=used + 1, in_use=used))
        for user, host, display, asked, handle, count, started in held:
            seats.append(seat(name, handle, user=user, host=host, display=display, version=asked,
                              count=count, started=float(started)))  # fmt: skip
    value = Status(wall=WALL, servers=servers, vendor=vendor, features=tuple(rows))
    text = "\n".join(lmstat_text(value, seats_from(seats), utc_offset_s=float(offset)))
    found = read(text)

    assert found["addresses"] == [f"2837@{host}" for host in hosts]
    assert found["servers"] == [
        (host, rank == master, "0.1.0")
        for rank, host in enumerate(hosts)
        if not isinstance(states[rank], Failure)
    ]
    assert found["down"] == [
        (host, state.sys_errno, state.sys_text)
        for host, state in zip(hosts, states, strict=True)
        if isinstance(state, Failure)
    ]
    assert found["vendor"] == [vendor, True]
    assert found["users"] == [(row.feature, row.count, row.in_use) for row in rows]
    assert found["groups"] == [
        (row.feature, row.version, vendor, "1-jan-2028") for row in rows if row.in_use
    ]
    assert len(found["seats"]) == len(seats)
    for (feature, got), put in zip(found["seats"], seats, strict=True):
        at = EPOCH + timedelta(seconds=put.started + offset)
        assert feature == put.feature
        assert (got["user"], got["host"], got["display"]) == (put.user, put.host, put.display)
        assert (got["version"], int(got["handle"])) == (put.version, put.handle)
        assert (got["server"], int(got["port"])) == (hosts[0], 2837)
        assert (int(got["month"]), int(got["date"])) == (at.month, at.day)
        assert (int(got["hour"]), int(got["minute"])) == (at.hour, at.minute)
        assert got["day"] == at.strftime("%a")
        assert int(got["count"] or 1) == put.count


@settings(max_examples=examples(150), deadline=None)
@given(user=st.text(max_size=20), host=st.text(max_size=20), display=st.text(max_size=20))
def test_no_name_of_a_client_forges_a_line(user, host, display):
    value = triad(
        report(0, "serving"), report(1, "follower"), report(2, "follower"),
        features=(pool("f1", in_use=1),),
    )  # fmt: skip
    row = seat("f1", 5, user=user, host=host, display=display)
    text = text_of(value, [row])
    text.encode()
    assert len(text.splitlines()) == text.count("\n")
    line = next(line for line in text.splitlines() if line.endswith("8:42"))
    assert len(line.split()) == 10


def test_examples_in_docstrings():
    for module in (lmstat, status):
        assert doctest.testmod(module).failed == 0
