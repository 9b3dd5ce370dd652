"""The JSON form of a status: its schema, and that it stays JSON whatever happens."""

from __future__ import annotations

import doctest
import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.report import status_json as module
from flexcore.report.status import Failure, ServerStatus, Status, StatusLost, seats_from
from flexcore.report.status_json import status_json
from flexcore.wire.messages import FeatureRow, SeatRow, ServerAddress, ServerReport
from tests.budget import examples

WALL = 1795511100.0
HEAD = [
    "schema", "software", "asked_at", "asked_at_text", "state", "degraded", "exit_status",
    "check_status", "triad", "vendor", "vendors", "master", "until_s", "servers", "features",
    "reservations", "seats", "queue", "complete", "error",
]  # fmt: skip


def report(rank, state, **changes):
    return ServerReport(
        f"host{rank}", rank, state, 7, 0 if state == "follower" else -1, "", None, 60.0,
        "flexcore 0.1.0", "/etc/demo.lic", (), (), 4, state == "serving",
    )._replace(**changes)  # fmt: skip


def server(rank, answer):
    address = ServerAddress(f"host{rank}", 2837 + rank)
    if isinstance(answer, Failure):
        return ServerStatus(address=address, failure=answer)
    return ServerStatus(address=address, report=answer)


def loads(value, *args, **kwargs):
    def refuse(word):
        raise AssertionError(f"not JSON: {word}")

    return json.loads("".join(status_json(value, *args, **kwargs)), parse_constant=refuse)


def test_every_documented_field_and_no_other():
    value = Status(
        wall=WALL, vendor="demo",
        servers=(
            server(0, report(0, "serving", peers_up=(1,), notes=("clock differs by 3 s",))),
            server(1, report(1, "follower")),
            server(2, Failure(-15, 111, "Connection refused")),
        ),
        features=(
            FeatureRow("f1", "p1", "1.0", "demo", "1-jan-2028", 402, "", 10, 1, ""),
            FeatureRow("f2", "p2", "1.0", "demo", "permanent", None, "v", 0, 0, "ANY"),
        ),
    )  # fmt: skip
    seat = SeatRow("p1", "f1", "ann", "elm", "/dev/pts/1", "1.0", 101, WALL, 1, 42)
    got = loads(value, seats_from([seat]), software="flexcore 9.9")
    assert list(got) == HEAD
    assert got["schema"] == 1
    assert got["software"] == "flexcore 9.9"
    assert (got["state"], got["degraded"], got["exit_status"], got["check_status"]) == (
        "serving", True, 0, 1,
    )  # fmt: skip
    assert got["master"] == {"rank": "primary", "host": "host0", "port": 2837}
    assert got["servers"][0]["peers_up"] == ["secondary"]
    assert got["servers"][0]["notes"] == ["clock differs by 3 s"]
    assert got["servers"][1]["master"] == "primary"
    assert got["servers"][2] == {
        "rank": "tertiary", "host": "host2", "port": 2839, "up": False,
        "error": {"code": -15, "minor": 570, "errno": 111,
                  "text": 'Cannot connect to license server system. '
                          '(-15,570:111 "Connection refused")'},
    }  # fmt: skip
    assert [f["count"] for f in got["features"]] == [10, None]
    assert [f["expires_in_days"] for f in got["features"]] == [402, None]
    assert got["seats"][0]["handle"] == 101
    assert got["seats"][0]["started"] == WALL
    assert got["seats"][0]["started_text"] == "2026-11-24T09:05:00Z"
    assert got["complete"] is True
    assert got["error"] is None
    described = module.__doc__ or ""
    for name in (*HEAD, *got["servers"][0], *got["features"][0], *got["seats"][0]):
        assert name in described, f"{name} is not documented"


def test_why_and_until_when_nobody_serves():
    waiting = report(1, "waiting", reason="a promise to the primary runs", until_s=12.5)
    refused = Failure(-15, 111, "Connection refused")
    got = loads(Status(wall=WALL, servers=(server(0, refused), server(1, waiting),
                                           server(2, refused))))  # fmt: skip
    assert (got["state"], got["master"], got["exit_status"]) == ("no-quorum", None, 159)
    assert got["until_s"] == 12.5
    assert got["servers"][1]["reason"] == "a promise to the primary runs"
    assert got["servers"][1]["until"] == WALL + 12.5
    assert got["servers"][1]["until_text"] == "2026-11-24T09:05:12Z"
    assert got["error"]["code"] == -97


def test_nobody_answers():
    got = loads(Status(wall=WALL, servers=(server(0, Failure(-15, 110, "timed out")),)))
    assert (got["state"], got["exit_status"], got["check_status"]) == ("down", 241, 2)
    assert (got["features"], got["seats"]) == ([], [])


def test_a_master_that_goes_away_leaves_an_object_that_says_so():
    value = Status(
        wall=WALL, vendor="demo", servers=(server(0, report(0, "serving")),),
        features=(FeatureRow("f1", "p1", "1.0", "demo", "permanent", None, "", 10, 2, ""),),
    )  # fmt: skip

    def broken(feature):
        yield SeatRow("p1", feature, "ann", "elm", "-", "1.0", 101, WALL, 1, 42)
        raise StatusLost(Failure(-16))

    got = loads(value, broken)
    assert len(got["seats"]) == 1
    assert got["complete"] is False
    assert got["error"]["code"] == -16


@settings(max_examples=examples(100), deadline=None)
@given(st.text(), st.floats(), st.floats())
def test_whatever_servers_and_clients_say_is_ascii_json(text, until, started):
    value = Status(
        wall=WALL, vendor=text,
        servers=(server(0, report(0, "serving", reason=text, until_s=until, notes=(text,))),),
        features=(FeatureRow(text, "p", text, text, text, 1, text, 10, 1, text),),
    )  # fmt: skip
    seat = SeatRow("p", text, text, text, text, text, 1, started, 1, 1)
    got = loads(value, seats_from([seat]))
    assert "".join(status_json(value, seats_from([seat]))).isascii()
    assert got["vendor"] == text
    assert got["seats"][0]["user"] == text
    assert got["seats"][0]["started"] == (started if math.isfinite(started) else None)


def test_examples_in_docstrings():
    assert doctest.testmod(module).failed == 0
