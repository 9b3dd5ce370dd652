"""lmstat's flags, and that what they print reads back into the same values (observed-formats L6 to L13)."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.report.lmstat import Shown, license_lines, lmstat_text
from flexcore.report.status import seats_from
from flexcore.wire.messages import FeatureRow, QueueRow, ReservationRow, SeatRow
from flexcore_tools.cli import main
from tests.budget import examples
from tests.fake_servers import fake_servers, path_of
from tests.test_report_lmstat import WALL, pool, read, report, seat, triad

UP = (report(0, "serving"), report(1, "follower"), report(2, "follower"))
KINDS = ("USER", "HOST", "DISPLAY", "INTERNET", "PROJECT", "GROUP", "HOST_GROUP")
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,9}", fullmatch=True)
COUNT = st.integers(1, 40)


def text_of(value, seats=(), queue=(), **shown) -> str:
    def waiting(feature):
        return (row for row in queue if row.feature == feature)

    return "\n".join(lmstat_text(value, seats_from(seats), waiting, utc_offset_s=0.0, shown=Shown(**shown)))


@settings(max_examples=examples(80), deadline=None)
@given(
    reserved=st.lists(st.tuples(st.integers(0, 1), COUNT, st.sampled_from(KINDS), NAME), max_size=3),
    queued=st.lists(st.tuples(st.integers(0, 1), NAME, NAME, NAME, st.integers(1, 10**6), COUNT), max_size=3),
    held=st.lists(
        st.tuples(st.integers(0, 1), NAME, COUNT, st.sampled_from([None, (7, 60), (9, None)]), NAME), max_size=4
    ),
)
def test_every_kind_of_line_reads_back(reserved, queued, held):
    held.sort(key=lambda row: row[0])
    reserved.sort(key=lambda row: row[0])
    queued.sort(key=lambda row: row[0])
    keys = ("f1#1", "f1#2")
    seats = [
        seat("f1", 10 + n, pool=keys[p], user=user, count=count, project=project,
             linger_left_s=rest and rest[0], linger_s=rest and rest[1])
        for n, (p, user, count, rest, project) in enumerate(held)
    ]  # fmt: skip
    waiting = [QueueRow(keys[p], "f1", user, host, display, "1.0", handle, WALL, count, 7)
               for p, user, host, display, handle, count in queued]  # fmt: skip
    kept = [ReservationRow(keys[p], "f1", count, kind, name) for p, count, kind, name in reserved]
    pools = tuple(
        pool("f1", pool=key, version=f"{n + 1}.0", count=99,
             in_use=sum(s.count for s in seats if s.pool == key),
             queued=sum(q.pool == key for q in waiting))
        for n, key in enumerate(keys)
    )  # fmt: skip
    value = triad(*UP, features=pools, reservations=tuple(kept))
    found = read(text_of(value, seats, waiting, projects=True, seconds=True))
    assert [(m["count"], m["kind"], m["name"]) for _, m in found["reserved"]] == [
        (str(row.count), row.kind, row.name) for row in kept
    ]
    assert [(m["user"], m["host"], m["display"], m["version"], int(m["handle"]), int(m["count"]))
            for _, m in found["queued"]] == [
        (row.user, row.host, row.display, row.version, row.handle, row.count) for row in waiting
    ]  # fmt: skip
    assert [(m["user"], int(m["count"] or 1), m["left"], m["linger"], m["project"], m["second"])
            for _, m in found["seats"]] == [
        (row.user, row.count, row.linger_left_s and str(row.linger_left_s), row.linger_s and str(row.linger_s),
         row.project, "00") for row in seats
    ]  # fmt: skip
    used = {row.pool for row in seats} | {row.pool for row in waiting} | {row.pool for row in kept}
    assert [group[1] for group in found["groups"]] == [p.version for p in pools if p.pool in used]


def test_reservations_and_queue_look_as_monitors_read_them():
    value = triad(
        *UP, features=(pool("f1", in_use=1, queued=2),),
        reservations=(ReservationRow("f1#1", "f1", 48, "GROUP", "dev"), ReservationRow("f1#1", "f1", 1, "USER", "eve")),
    )  # fmt: skip
    queue = [QueueRow("f1#1", "f1", "bob", "oak", ":0", "1.0", 7, WALL, n, 1) for n in (1, 2)]
    assert text_of(value, [seat("f1", 101)], queue).splitlines()[-7:] == [
        "  floating license",
        "",
        "\t48 RESERVATIONs for GROUP dev (pat/2837)",
        "\t1 RESERVATION for USER eve (pat/2837)",
        "    ann elm /dev/pts/1 (v1.0) (pat/2837 101), start Tue 11/24 8:42",
        "    bob oak :0 1.0 (v1.0) (pat/2837 7) queued for 1 license",
        "    bob oak :0 1.0 (v1.0) (pat/2837 7) queued for 2 licenses",
    ]


def test_seats_of_two_pools_are_not_collected():
    value = triad(*UP, features=(pool("f1", in_use=10**6), pool("f1", pool="f1#2", in_use=1)))
    asked = []

    def endless(feature):
        for handle in range(10**9):
            asked.append(handle)
            yield seat(feature, handle)

    lines = lmstat_text(value, endless, utc_offset_s=0.0)
    assert next(line for line in lines if " 100)" in line)
    assert len(asked) < 110


def test_a_seat_that_comes_after_its_pool_is_shown_all_the_same():
    value = triad(*UP, features=(pool("f1", in_use=2), pool("f1", pool="f1#2", version="2.0", in_use=1)))
    rows = [seat("f1", 1), seat("f1", 2, pool="f1#2"), seat("f1", 3)]
    found = read(text_of(value, rows))
    assert [m["handle"] for _, m in found["seats"]] == ["1", "2", "3"]
    assert [group[1] for group in found["groups"]] == ["1.0", "2.0", "1.0"]


def test_what_a_file_says_in_columns():
    rows = [pool("f1", count=5), pool("a-rather-long-name-of-a-feature-indeed", expiry="permanent", count=0)]
    lines = list(license_lines(rows))
    assert lines[0] == "NOTE: lmstat -i does not give information from the server,"
    header = lines[4]
    assert [header.index(w) for w in ("Feature", "Version", "#licenses", "Expires", "Vendor")] == [0, 32, 44, 57, 70]
    assert read("\n".join(lines[6:]))["lines"] == [
        ("f1", "1.0", "5", "1-jan-2028", "demo"),
        ("a-rather-long-name-of-a-feature-indeed", "1.0", "0", "permanent", "demo"),
    ]


# --- the command --------------------------------------------------------------------------------------

FEATURES = (
    FeatureRow("f1", "p1", "1.0", "demo", "1-jan-2030", 900, "", 10, 1, ""),
    FeatureRow("f2", "p2", "1.0", "demo", "1-jan-2030", 900, "", 10, 0, ""),
)
SEATS = (SeatRow("p1", "f1", "ann", "elm", ":0", "1.0", 11, 1795511107.0, 1, 42, project="apollo"),)


def test_the_flags(capsys, tmp_path):
    with fake_servers("serving", "follower", "follower") as servers:
        servers[0].features, servers[0].seats = FEATURES, SEATS

        def lmstat(*words: str) -> str:
            assert main(["lmstat", *words, "-c", path_of(servers)]) == 0
            out, err = capsys.readouterr()
            assert err == ""
            return str(out)

        assert "Users of f2" in lmstat("-a")
        assert "Users of f2" not in lmstat("-A")
        assert ":07" in lmstat("-asec")
        assert ", PROJECT: apollo\n" in lmstat("-proj")
        assert "ann" not in lmstat("-a", "--no-user-info")
        assert "ann" in lmstat("-S", "demo")
        assert "Users of" not in lmstat("-S", "other")
        assert "Vendor daemon" not in lmstat("-s")
        assert lmstat("-s", "primary").count("license server UP") == 1
        out = lmstat("-a", "-i", "f1")
        assert read(out)["lines"] == [("f1", "1.0", "10", "1-jan-2030", "demo")]
        assert "ann" in out
        file = tmp_path / "demo.lic"
        file.write_text("FEATURE f9 demo 2.0 permanent 3 SIGN=x\n", encoding="utf-8")
        assert main(["lmstat", "-i", "-c", str(file)]) == 0
        assert read(capsys.readouterr().out)["lines"] == [("f9", "2.0", "3", "permanent", "demo")]


def test_one_server_of_a_triad_that_is_well(capsys):
    """A follower that was asked for alone is no outage: a monitor of each machine saw -97 on two of three."""
    with fake_servers("serving", "follower", "waiting") as servers:
        for name, status in ("primary", 0), ("secondary", 0), ("tertiary", 159):
            assert main(["lmstat", "-s", name, "-c", path_of(servers)]) == status, name
            assert capsys.readouterr().out.count("license server") >= 1
        assert main(["lmstat", "-s", "secondary", "--json", "-c", path_of(servers)]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["state"], said["error"], said["exit_status"]) == ("serving", None, 0)
        servers[0].close()
        assert main(["lmstat", "-s", "secondary", "-c", path_of(servers)]) == 159, "nobody serves"
        assert main(["lmstat", "-s", "primary", "-c", path_of(servers)]) == 241


def test_the_version(capsys):
    assert main(["lmstat", "-v"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("lmutil - Copyright (c) 2026-")
    assert second.startswith("lmstat v0.1.0 build 0 ")
