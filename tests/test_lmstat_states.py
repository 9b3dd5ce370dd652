"""lmstat in every state, read back by a strict reader into the values that it was printed from."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs
import pytest

from flexcore.codes import ErrorCode
from flexcore.options import parse_options
from flexcore.record import replace
from flexcore.report.lmstat import lmstat_text
from flexcore.report.status import Failure, ServerStatus, Status, VendorStatus, seats_from
from flexcore.wire.messages import FeatureRow, QueueRow, ReservationRow, SeatRow, ServerAddress
from flexcore_testing import Triad
from tests.lmstat_grammar import Pool, Seen, read
from tests.test_report_lmstat import REFUSED, TIMED_OUT, WALL, pool, report, seat, triad

UP = (report(0, "serving"), report(1, "follower"), report(2, "follower"))
DOWN = Failure(ErrorCode.VENDOR_DOWN)
DISK = Failure(ErrorCode.VENDOR_DOWN, text="The desired vendor daemon is down: disk full")
FLOATING = pool("f1", in_use=3)
SECOND = pool("f1", pool="f1#2", version="2.0", expiry="permanent", count=5, vendor_string="a: b", lock="ID=12")
FREE = pool("f3", count=0, lock="ANY", in_use=1)
SEATS = (
    seat("f1", 101), seat("f1", 102, user="bob", count=2, started=WALL - 400 * 86400.0),
    seat("f1", 103, user="eve", linger_left_s=60, linger_s=300),
)  # fmt: skip
BORROWED = seat("f1", 104, user="fay", linger_left_s=3600.0 * 20, linger_s=3600.0 * 24, borrowed=True)
QUEUE = (QueueRow("f1#1", "f1", "joe", "ash", ":0", "1.0", 105, WALL, 4, 7),)
KEPT = (ReservationRow("f1#1", "f1", 1, "GROUP", "staff"), ReservationRow("f1#2", "f1", 4, "USER", "ann"))

STATES = {
    "nothing used": (triad(*UP, features=(pool("f1"), pool("f2", count=1))), (), ()),
    "used": (triad(*UP, features=(FLOATING, pool("f2", count=1))), SEATS[:2], ()),
    "lingering": (triad(*UP, features=(FLOATING,)), SEATS, ()),
    "borrowed": (triad(*UP, features=(FLOATING,)), (BORROWED,), ()),
    "queued": (triad(*UP, features=(FLOATING._replace(queued=1),)), SEATS[:1], QUEUE),
    "queued only": (triad(*UP, features=(pool("f1", queued=1),)), (), QUEUE),
    "reserved": (triad(*UP, features=(pool("f1"), SECOND), reservations=KEPT), (), ()),
    "several pools": (
        triad(*UP, features=(FLOATING, SECOND._replace(in_use=1, queued=0)), reservations=KEPT),
        (*SEATS, seat("f1", 200, pool="f1#2", version="2.0")), (),
    ),
    "uncounted": (triad(*UP, features=(FREE, pool("f4", count=0, lock="HOSTNAME=elm", in_use=1))),
                  (seat("f3", 300), seat("f4", 301)), ()),
    "a line that is not served": (triad(*UP, features=(pool("f4", count=5, error="-8"),)), (), ()),
    "member down": (triad(UP[0], REFUSED, UP[2], features=(FLOATING,)), SEATS, ()),
    "frozen member": (triad(UP[0], UP[1], TIMED_OUT, features=(FLOATING,)), SEATS, ()),
    "another master": (triad(REFUSED, UP[0]._replace(name="lee", rank=1), UP[2], features=(FLOATING,)), SEATS, ()),
    "no quorum": (triad(REFUSED, report(1, "waiting", reason="no quorum"), REFUSED, failure=DOWN), (), ()),
    "recovering": (triad(*(report(rank, "recovering", reason="waits", until_s=900.0) for rank in range(3)),
                         failure=DOWN), (), ()),
    "all down": (triad(REFUSED, TIMED_OUT, REFUSED), (), ()),
    "lost in the middle": (triad(*UP, features=(pool("f1"),), failure=Failure(-16)), (), ()),
    "vendor down": (
        Status(wall=WALL, servers=(ServerStatus(address=ServerAddress("pat", 2837), report=report(0, "waiting")),),
               vendor="demo", failure=DOWN), (), (),
    ),
    "a single server down": (
        Status(wall=WALL, servers=(ServerStatus(address=ServerAddress("pat", 2837), failure=REFUSED),), vendor="demo"),
        (), (),
    ),
    "several vendors": (
        Status(wall=WALL, servers=(ServerStatus(address=ServerAddress("pat", 2837), report=report(0, "serving")),),
               vendor="demo", features=(FLOATING, pool("g1", vendor="acme", in_use=0)),
               vendors=(VendorStatus(name="demo", report=report(0, "serving")),
                        VendorStatus(name="acme", report=report(0, "serving")),
                        VendorStatus(name="third", failure=DISK))), SEATS, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("offset_s", [0.0, -5 * 3600.0])
@pytest.mark.parametrize("state", STATES)
def test_what_is_printed_reads_back_into_what_it_was_printed_from(state, offset_s):
    status, seats, queue = STATES[state]
    text = "\n".join(lmstat_text(
        status, seats_from(seats), lambda name: (row for row in queue if row.feature == name), utc_offset_s=offset_s
    ))  # fmt: skip
    assert read(text + "\n") == values_of(status, seats, queue, offset_s)


def values_of(status: Status, seats: tuple[SeatRow, ...], queue: tuple[QueueRow, ...], offset_s: float) -> Seen:
    """What a reader has to know, by the values alone."""
    up = [server for server in status.servers if server.report is not None]
    failure = 0 if status.failure is None else int(status.failure.code)
    serving = [server for server in up if server.report is not None and server.report.state == "serving"]
    if not up:
        failure = int(status.servers[0].failure.code) if status.servers[0].failure else 0
        if len(status.servers) == 1:
            return Seen((), "", {}, "", {}, {}, (), failure)
    states = {}
    for server in status.servers:
        if server.failure is not None:
            states[server.address.host] = f"{int(server.failure.code)}:{server.failure.sys_errno}"
        else:
            states[server.address.host] = "master" if server in serving else "up"
    vendors = {each.name: each.failure is None for each in status.vendors} or {status.vendor: bool(serving)}
    features: dict[str, tuple[int, int] | str] = {}
    for row in status.features if serving else ():
        before = features.get(row.feature, (0, 0))
        assert isinstance(before, tuple)
        features[row.feature] = (
            "unsupported" if row.error else "uncounted" if not row.count
            else (before[0] + row.count, before[1] + row.in_use)
        )  # fmt: skip
    pools = [
        each for row in (status.features if serving else ())
        if (each := pool_of(row, status.reservations, seats, queue, offset_s)) is not None
    ]  # fmt: skip
    return Seen(
        tuple(f"{server.address.port}@{server.address.host}" for server in status.servers),
        up[0].report.license_path if up and up[0].report is not None else "", states,
        (serving or up)[0].address.host if up else "", vendors if up else {}, features, tuple(pools), failure,
    )  # fmt: skip


def pool_of(
    row: FeatureRow, reserved: tuple[ReservationRow, ...], seats: tuple[SeatRow, ...],
    queue: tuple[QueueRow, ...], offset_s: float,
) -> Pool | None:  # fmt: skip
    kept = tuple((each.count, each.kind, each.name) for each in reserved if each.pool == row.pool)
    held = []
    for each in seats:
        if each.pool == row.pool:
            at = datetime(1970, 1, 1) + timedelta(seconds=each.started + offset_s)
            linger = None if each.linger_s is None else (int(each.linger_left_s or 0), int(each.linger_s))
            held.append((each.user, each.host, each.display, each.version, each.handle,
                         (at.month, at.day, at.hour, at.minute), each.count, linger))  # fmt: skip
    waiting = [(one.user, one.host, one.display, one.version, one.handle, one.count)
               for one in queue if one.pool == row.pool]  # fmt: skip
    if not (kept or held or waiting):
        return None
    expiry = "permanent(no expiration date)" if row.expiry == "permanent" else row.expiry
    return Pool(row.feature, row.version, row.vendor, expiry, row.vendor_string, row.lock, kept, tuple(held),
                tuple(waiting))  # fmt: skip


# --- of real machines -----------------------------------------------------------------------------


def seen(triad: Triad) -> Seen:
    text = triad.lmstat()
    head, _, body = text.partition("\n\n")
    assert head.splitlines()[1].startswith("Flexible License Manager status on ")
    return read(body)


@pytest.fixture
def machines():
    triad = Triad(features={"f1": 3, "f2": 2, "f3": 1}, heartbeat_interval_s=20, start=False)
    options = parse_options("LINGER f2 600\nRESERVE 1 f3 USER ann\n", name="demo.opt")
    sim = triad._sim
    config_of = sim.server_config
    sim.server_config = lambda rank: attrs.evolve(config_of(rank), options=options)  # type: ignore[method-assign]
    sim.first_start = True
    for server in ("primary", "secondary", "tertiary"):
        triad.start(server)
    triad.wait_for_master()
    sim.first_start = False
    triad.advance(2.0)
    return triad


def test_what_clients_hold_wait_for_and_left_behind(machines):
    ann, bob = machines.client("ann"), machines.client("bob")
    first = ann.checkout("f1", count=2)
    with bob.checkout("f2"):
        pass
    bob.queue("f1", count=3)
    machines.advance(50.0)
    now = seen(machines)
    assert now.features == {"f1": (3, 2), "f2": (2, 1), "f3": (1, 0)}
    f1, f2, f3 = now.pools
    assert [(*row[:2], row[4], row[6], row[7]) for row in f1.seats] == [("ann", "ann-host", first.handle, 2, None)]
    assert [(row[0], row[-1]) for row in f1.queue] == [("bob", 3)]
    ((*_, linger),) = f2.seats
    assert linger is not None
    assert linger[1] == 600
    assert 500 < linger[0] < 600
    assert f3.reserved == ((1, "USER", "ann"),)
    machines.crash("primary")
    machines.wait_for_master()
    machines.advance(20.0)
    after = seen(machines)
    assert after.features == now.features
    assert [(row[:5], row[5:7]) for row in after.pools[0].seats] == [(row[:5], row[5:7]) for row in f1.seats]
    assert [row[:4] for row in after.pools[0].queue] == [row[:4] for row in f1.queue], "nothing changes at a failover"


def test_servers_that_are_down_frozen_alone_and_blank(machines):
    assert seen(machines).servers == {"pat": "master", "lee": "up", "terry": "up"}
    machines.crash("tertiary")
    assert seen(machines).servers == {"pat": "master", "lee": "up", "terry": "-15:111"}
    machines.start("tertiary")
    machines.advance(5.0)
    machines.pause("tertiary")
    assert seen(machines).servers == {"pat": "master", "lee": "up", "terry": "-15:110"}
    machines.crash("tertiary")
    machines.crash("secondary")
    machines.advance(100.0)
    alone = seen(machines)
    assert alone.servers == {"pat": "up", "lee": "-15:111", "terry": "-15:111"}
    assert (alone.vendors, alone.features, alone.vendor_on) == ({"demo": False}, {}, "pat")
    machines.crash("primary")
    nobody = seen(machines)
    assert (set(nobody.servers.values()), nobody.error) == ({"-15:111"}, -15)
    machines.lose_disk("primary")
    machines.start("primary")
    machines.start("tertiary")
    machines.advance(5.0)
    assert machines.state("primary") == "recovering"
    blank = seen(machines)
    assert blank.servers == {"pat": "up", "lee": "-15:111", "terry": "up"}
    assert blank.vendors == {"demo": False}


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("issued;  Total", "issued; Total"), ("5 licenses in use", "5 license in use"), ("    ann", "   ann"),
        ("       pat:", "pat:"), ('  "f1"', '"f1"'), ("start Tue 11/24 8:42", "start Tue 11/24 08:42"),
        ("Feature usage info:\n\n", "Feature usage info:\n"),
    ],
)  # fmt: skip
def test_the_reader_is_strict(good, bad):
    status, seats, _ = STATES["used"]
    status = replace(status, features=(FLOATING._replace(in_use=5),))
    text = "\n".join(lmstat_text(status, seats_from(seats), utc_offset_s=0.0)) + "\n"
    read(text)
    assert good in text
    with pytest.raises(AssertionError):
        read(text.replace(good, bad, 1))
