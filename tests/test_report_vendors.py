"""What lmstat and its JSON show of several vendors behind the port of a single server (observed-formats L5)."""

from __future__ import annotations

import json

from flexcore.report.lmstat import lmstat_text
from flexcore.report.status import Failure, Status, VendorStatus, no_seats
from flexcore.report.status_json import status_json
from tests.test_report_lmstat import WALL, pool, report, server

DOWN = Failure(-97, text="The desired vendor daemon is down: disk full")


def status(*vendors: VendorStatus, **changes) -> Status:
    return Status(
        wall=WALL, servers=(server(0, report(0, "serving", peers_up=())),), vendor="demo",
        vendors=vendors, **changes,
    )  # fmt: skip


def up(name: str) -> VendorStatus:
    return VendorStatus(name=name, report=report(0, "serving", peers_up=()))


def test_every_vendor_has_a_line_and_the_features_stand_together():
    value = status(
        up("demo"), VendorStatus(name="acme", failure=DOWN),
        features=(pool("f1"), pool("a1", vendor="acme")),
    )  # fmt: skip
    lines = list(lmstat_text(value, no_seats, utc_offset_s=0.0))
    at = lines.index("Vendor daemon status (on pat):")
    assert lines[at + 1 : at + 5] == [
        "",
        "      demo: UP v0.1.0",
        "      acme: The desired vendor daemon is down: disk full. (-97,121)",
        "Feature usage info:",
    ]
    assert [line for line in lines if line.startswith("Users of")] == [
        "Users of f1:  (Total of 10 licenses issued;  Total of 0 licenses in use)",
        "Users of a1:  (Total of 10 licenses issued;  Total of 0 licenses in use)",
    ]


def test_one_vendor_down_is_degraded_and_all_down_is_down():
    assert (status(up("demo"), up("acme")).exit_status, status(up("demo"), up("acme")).check_status) == (0, 0)
    one = status(up("demo"), VendorStatus(name="acme", failure=DOWN))
    assert (one.exit_status, one.check_status) == (0, 1)
    none = status(VendorStatus(name="demo", failure=DOWN), VendorStatus(name="acme", failure=DOWN))
    assert (none.exit_status, none.check_status) == (159, 2)


def test_json_names_each_vendor():
    got = json.loads("".join(status_json(status(up("demo"), VendorStatus(name="acme", failure=DOWN)))))
    assert [(each["name"], each["up"]) for each in got["vendors"]] == [("demo", True), ("acme", False)]
    assert got["vendors"][1]["error"]["code"] == -97
    single = json.loads("".join(status_json(status())))
    assert single["vendors"] == [{"name": "demo", "up": True, "error": None}]
