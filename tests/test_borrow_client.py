"""Borrowed licences in the client: used first and without a server, until their end, whatever is done to the clock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import flexcore_sync
import flexcore_trio
from flexcore.borrowing import ASKED, LENT, BorrowProblem
from flexcore.client import BorrowNoted, ClientConfig, LicenseClient, Seat, SeatBorrowed, SeatLost
from flexcore.client.borrowed import NOTE_EVERY_S
from flexcore.errors import (
    BorrowError,
    CheckoutDenied,
    LicenseLost,
    LocalProtocolError,
    NoServerReachable,
)
from flexcore.keys import SigningKey
from flexcore.licensefile import license_bytes, parse_license, sign_license
from flexcore.options import parse_options
from flexcore.record import replace
from flexcore.wire.messages import ServerAddress
from flexcore_host.borrow_files import BorrowFolder
from flexcore_host.lending import Lending
from flexcore_testing import LoopbackTriad
from tests.borrow_kit import HOUR, RECORD, WALL, put

ELM = RECORD.machine
NOBODY = "1@127.0.0.1"
"""Nothing listens there."""


# --- the machine, on a manual clock ---------------------------------------------------------------


class Machine:
    def __init__(self, **config: Any) -> None:
        path = ((ServerAddress("pat", 2837),),)
        self.now, self.wall = 1000.0, WALL + 60.0
        self.client = LicenseClient(
            ClientConfig(path=path, vendor="demo", user="ann", host="elm", display=":0", **config),
            entropy=bytes(32), now=self.now, wall=self.wall,
        )  # fmt: skip

    def adopt(self, **changes: Any) -> Seat | BorrowProblem:
        record = replace(RECORD, **changes)
        return self.client.adopt(record, count=1, machine=ELM, now=self.now, wall=self.wall)

    def seat(self, **changes: Any) -> Seat:
        seat = self.adopt(**changes)
        assert isinstance(seat, Seat)
        return seat

    def pass_time(self, seconds: float, leap_s: float = 0.0) -> list[Any]:
        """What is told while time passes; *leap_s*: how far the wall clock is set meanwhile."""
        self.now += seconds
        self.wall += seconds + leap_s
        self.client.handle_timeout(now=self.now, wall=self.wall)
        return list(iter(self.client.next_action, None))


def test_it_is_held_without_a_word_to_a_server_and_lost_at_its_end() -> None:
    machine = Machine()
    seat = machine.seat()
    assert machine.client.next_action() is None
    assert machine.client.held(machine.now) == (seat,)
    assert seat.site < 0
    assert machine.client.believes(seat.handle, machine.now, seat.site)
    assert machine.client.believed_until(seat.site) == machine.now + 2 * HOUR - 60.0
    assert machine.client.next_timeout() == machine.now + NOTE_EVERY_S
    told = machine.pass_time(2 * HOUR - 60.5)
    assert told == [BorrowNoted(borrow=RECORD.borrow, seen=WALL + 2 * HOUR - 0.5)]
    assert machine.client.next_timeout() == machine.now + 0.5
    assert not machine.client.believes(seat.handle, machine.now + 0.5, seat.site)  # before anybody was told
    noted, lost = machine.pass_time(0.5)
    assert noted == BorrowNoted(borrow=RECORD.borrow, seen=WALL + 2 * HOUR)
    assert lost == SeatLost(handle=7, seat=seat, reason="BORROW period has expired", code=-118)
    assert machine.client.held(machine.now) == ()
    assert machine.client.next_timeout() is None


def test_a_clock_that_is_set_back_gains_nothing_while_it_is_held() -> None:
    machine = Machine()
    seat = machine.seat()
    assert not [each for each in machine.pass_time(HOUR, leap_s=-HOUR) if isinstance(each, SeatLost)]
    told = machine.pass_time(HOUR - 60.0)
    assert [each.seat for each in told if isinstance(each, SeatLost)] == [seat]


def test_a_clock_that_is_set_forward_ends_it() -> None:
    machine = Machine()
    machine.seat()
    assert [each.code for each in machine.pass_time(1.0, leap_s=2 * HOUR) if isinstance(each, SeatLost)] == [-118]


def test_setting_the_clock_back_a_little_again_and_again_ends_as_soon() -> None:
    machine = Machine()
    seen = WALL
    for _ in range(60):  # four minutes of use, then four minutes back: within what is forgiven each time
        seat = machine.adopt(seen=seen)
        if isinstance(seat, BorrowProblem):
            break
        machine.pass_time(240.0, leap_s=-240.0)
        machine.client.checkin(seat.handle, site=seat.site, now=machine.now, wall=machine.wall)
        (noted,) = iter(machine.client.next_action, None)
        assert isinstance(noted, BorrowNoted)
        assert noted.seen > seen
        seen = noted.seen
    else:
        pytest.fail("it can be used for ever")
    assert seat.code == -88
    assert seen <= WALL + 60.0 + 3 * 240.0


def test_giving_it_back_ends_its_use_and_closing_does() -> None:
    machine = Machine()
    first, second = machine.seat(), machine.seat(borrow=b"c" * 16)  # of another triad, with the same handle
    assert (first.handle, first.site) != (second.handle, second.site)
    machine.client.checkin(first.handle, site=first.site, now=machine.now, wall=machine.wall)
    assert machine.client.held(machine.now) == (second,)
    with pytest.raises(LocalProtocolError):
        machine.client.checkin(first.handle, site=first.site, now=machine.now, wall=machine.wall)
    machine.client.close(now=machine.now, wall=machine.wall)
    told = list(iter(machine.client.next_action, None))
    assert [each.borrow for each in told if isinstance(each, BorrowNoted)] == [b"b" * 16, b"c" * 16]
    assert machine.client.held(machine.now) == ()


def test_with_the_publishers_key_the_line_must_be_theirs() -> None:
    key = SigningKey("demo", bytes(32))
    text = f"SERVER pat ID=1 2837\nVENDOR demo\n{RECORD.line}\n"
    signed = sign_license(parse_license(text.encode()), key)
    line = license_bytes(signed).decode().splitlines()[-1]
    machine = Machine(keys=(key.verifying_key,))
    unsigned = machine.adopt()
    assert isinstance(unsigned, BorrowProblem)
    assert unsigned.code == -8
    assert isinstance(machine.adopt(line=line), Seat)
    forged = machine.adopt(line=line.replace("BORROW=48", "BORROW=480"))
    assert isinstance(forged, BorrowProblem)
    assert forged.code == -8


def test_copies_and_fingerprints_hold_it() -> None:
    machine = Machine()
    before = machine.client.fingerprint(machine.now)
    seat = machine.seat()
    twin = machine.client.copy()
    machine.client.checkin(seat.handle, site=seat.site, now=machine.now, wall=machine.wall)
    assert twin.held(machine.now) == (seat,)
    assert twin.fingerprint(machine.now) != before


# --- both transports ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BorrowFolder:
    monkeypatch.setenv("FLEXCORE_BORROW_DIR", str(tmp_path))
    return BorrowFolder(str(tmp_path))


def fresh(folder: BorrowFolder, lasts_s: float = HOUR, **changes: Any) -> None:
    now = time.time()
    put(folder, borrowed_at=now, seen=now, until=now + lasts_s, **changes)


def offline(**options: Any) -> flexcore_sync.Client:
    return flexcore_sync.connect(NOBODY, vendor="demo", user="ann", timeout_s=0.3, **options)


def test_without_a_server_it_is_used_and_its_end_is_told(folder: BorrowFolder) -> None:
    fresh(folder, 0.8)
    lost = threading.Event()
    told: list[LicenseLost] = []

    def on_loss(_: object, error: LicenseLost) -> None:
        told.append(error)
        lost.set()

    with offline(on_loss=on_loss) as client:
        with client.checkout("f1", "1.5") as seat:
            assert seat.held
            assert seat.borrowed
            assert 0.0 < seat.lease_left_s <= 0.8
            assert (seat.handle, seat.version, client.seats) == (7, "2.0", (seat,))
            with offline() as other, pytest.raises(CheckoutDenied) as busy:  # one seat, one use
                other.checkout("f1")
            assert busy.value.code == -4
            assert lost.wait(20.0)
            assert not seat.held
        assert told[0].code == -118
        with pytest.raises(NoServerReachable) as over:
            client.checkout("f1")
        assert over.value.code == -15
        assert "Cannot connect" in str(over.value)
        assert "f1 was borrowed until" in str(over.value)
        with pytest.raises(NoServerReachable) as other_feature:
            client.checkout("f2")
        assert "borrowed" not in str(other_feature.value)
    (found,) = folder.files()
    assert found.record is not None
    assert found.record.seen >= found.record.until


def test_what_is_lent_waits_for_no_word_about_what_was_asked_for(folder: BorrowFolder) -> None:
    fresh(folder)
    fresh(folder, borrow=b"a" * 16, state=ASKED, servers=(NOBODY,))
    began = time.monotonic()
    with flexcore_sync.connect(NOBODY, vendor="demo", user="ann", timeout_s=60.0) as client:
        assert client.checkout("f1").borrowed
    assert time.monotonic() - began < 30.0


def test_another_process_may_use_it_after_a_checkin(folder: BorrowFolder) -> None:
    fresh(folder)
    with offline() as one, offline() as two:
        one.checkout("f1").checkin()
        waiting = two.queue("f1")
        assert waiting.seat is not None
        assert waiting.seat.borrowed


@pytest.mark.parametrize(
    ("change", "code"),
    [({"machine": ("HOSTNAME=oak", "00163e777777")}, -9), ({"user": "bob"}, -9), ({"seen": time.time() + 9e6}, -88)],
)
def test_why_what_is_there_grants_nothing_where_nobody_answers(
    folder: BorrowFolder, change: dict[str, Any], code: int
) -> None:
    now = time.time()
    put(folder, **{"borrowed_at": now, "seen": now, "until": now + 9e7, **change})
    with offline() as client, pytest.raises(CheckoutDenied) as told:
        client.checkout("f1")
    assert told.value.code == code


def test_a_damaged_file_is_told_and_not_used(folder: BorrowFolder) -> None:
    fresh(folder)
    (found,) = folder.files()
    text = Path(found.path).read_text()
    Path(found.path).write_text(text.replace('"count": 2', '"count": 9'))
    with offline() as client:
        for feature in ("f1", "f2"):  # whose it was cannot be read: it is told, and is nobody's answer
            with pytest.raises(NoServerReachable) as told:
                client.checkout(feature)
            assert told.value.code == -15
            assert found.path in str(told.value)


def test_a_forked_child_holds_nothing_and_its_parent_does(folder: BorrowFolder) -> None:
    fresh(folder)
    with offline() as client:
        seat = client.checkout("f1")
        child = os.fork()
        if not child:
            os._exit(0 if not seat.held and not client.seats else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert seat.held
        with offline() as other, pytest.raises(CheckoutDenied):
            other.checkout("f1")


LICENSE = """\
SERVER pat id=1 2837
SERVER lee id=2 2837
SERVER terry id=3 2837
VENDOR demo
HEARTBEAT_INTERVAL=1
FEATURE f1 demo 1.0 permanent 2 BORROW=48
FEATURE f2 demo 1.0 permanent 2
"""


@pytest.fixture(scope="module")
def triad() -> Iterator[LoopbackTriad]:
    triad = LoopbackTriad(LICENSE)
    options = parse_options("BORROW_LOWWATER f1 1\nEXCLUDE_BORROW f1 USER bob\n", name="demo.opt")
    made = triad._stage.config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triad._stage, "config", lambda *each: attrs.evolve(made(*each), options=options))
        with triad:
            yield triad


@contextlib.contextmanager
def returned(folder: BorrowFolder) -> Iterator[None]:
    """What a test has borrowed is given back behind it."""
    from flexcore_tools.cli import main

    yield
    assert main(["lmborrow", "-return", "f1"]) == 0
    assert folder.files() == []


def test_borrow_keep_and_use_it_first(triad: LoopbackTriad, folder: BorrowFolder) -> None:
    with returned(folder):
        with triad.connect(user="ann") as client:
            seat = client.checkout("f1")
            with pytest.raises(CheckoutDenied) as told:
                seat.borrow(time.time() + 49 * HOUR)
            assert told.value.code == -104
            assert folder.files() == []
            assert seat.held
            assert not seat.borrowed
            seat.borrow(time.time() + HOUR)
            assert seat.held
            assert seat.borrowed
            assert client.seats == (seat,)
            with pytest.raises(LocalProtocolError):
                seat.borrow(time.time() + 2 * HOUR)
            with pytest.raises(CheckoutDenied) as told:
                client.checkout("f1").borrow(time.time() + HOUR)
            assert told.value.code == -67  # BORROW_LOWWATER
        assert "(linger: " in triad.lmstat()
        with triad.connect(user="ann") as client, client.checkout("f1") as seat:  # the next run of the product
            assert seat.borrowed
            assert "Total of 1 license in use" in triad.lmstat()


def test_lm_borrow_borrows_what_is_checked_out(
    triad: LoopbackTriad, folder: BorrowFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tomorrow = time.strftime("%d-%b-%Y:%H:%M", time.localtime(time.time() + 24 * HOUR)).lower()
    monkeypatch.setenv("LM_BORROW", f"today:demo:{tomorrow}")
    with (
        returned(folder), triad.connect(user="ann") as client,
        client.checkout("f1") as seat, client.checkout("f2") as other,
    ):  # fmt: skip
        assert seat.borrowed
        assert not other.borrowed  # f2 has no BORROW: held as usual
        with pytest.raises(CheckoutDenied) as told:
            other.borrow(time.time() + HOUR)
        assert told.value.code == -68
    with triad.connect(user="bob") as client, pytest.raises(CheckoutDenied) as told:
        client.checkout("f1")
    assert told.value.code == -38
    assert "Total of 0 licenses in use" in triad.lmstat()  # a wish that is refused leaves nothing behind
    monkeypatch.setenv("LM_BORROW", "tomorrow")
    with triad.connect(user="ann") as client, pytest.raises(BorrowError) as wrong:
        client.checkout("f1")
    assert wrong.value.code == -42


def test_a_clock_that_is_far_off_is_told(
    triad: LoopbackTriad, folder: BorrowFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with triad.connect(user="ann") as client:
        seat = client.checkout("f1")
        monkeypatch.setattr(client._desk.lending, "_wall", lambda: time.time() - HOUR)
        with pytest.raises(CheckoutDenied) as told:
            seat.borrow(time.time() + HOUR)
    assert told.value.code == -34
    assert "60 minutes behind" in told.value.detail
    assert folder.files() == []


def test_an_end_that_is_no_time_is_refused_before_anything_is_written(
    triad: LoopbackTriad, folder: BorrowFolder
) -> None:
    with triad.connect(user="ann") as client:
        other, seat = client.checkout("f2"), client.checkout("f1")
        for until, code in ((time.time() * 1000, -104), (float("inf"), -104), (float("nan"), -42)):
            with pytest.raises(BorrowError) as told:
                seat.borrow(until)
            assert told.value.code == code
            with pytest.raises(BorrowError):  # whoever has no borrow folder
                client._desk.machine.borrow(seat.handle, until, borrow=bytes(16), secret=bytes(32), now=0.0)
        assert folder.files() == []
        seat.borrow(time.time() + HOUR)  # the connection is whole, and so is everything else
        assert other.held
    from flexcore_tools.cli import main

    assert main(["lmborrow", "-return", "f1"]) == 0


def test_what_cannot_be_written_down_is_not_borrowed(
    triad: LoopbackTriad, folder: BorrowFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(folder.path, "file").write_text("x")
    monkeypatch.setenv("FLEXCORE_BORROW_DIR", str(Path(folder.path, "file", "in")))
    with triad.connect(user="ann") as client, client.checkout("f1") as seat:
        with pytest.raises(BorrowError) as told:
            seat.borrow(time.time() + HOUR)
        assert told.value.code == -117
        assert seat.held
    assert "Total of 0 licenses in use" in triad.lmstat()


def test_what_cannot_be_locked_is_not_borrowed_nor_said_to_be_in_use(
    triad: LoopbackTriad, folder: BorrowFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network folder without locks: nothing is lent that this process could not hold then."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with triad.connect(user="ann") as client, client.checkout("f1") as seat:
        with pytest.raises(BorrowError) as told:
            seat.borrow(time.time() + HOUR)
        assert told.value.code == -117
        assert "No locks available" in str(told.value)
        assert folder.files() == []
        assert seat.held
        assert not seat.borrowed
    assert "Total of 0 licenses in use" in triad.lmstat()
    fresh(folder)
    with triad.connect(user="ann") as client, client.checkout("f1") as seat:
        assert not seat.borrowed
    with pytest.raises(BorrowError) as told:
        folder.note_seen(RECORD.borrow, WALL)
    assert told.value.code == -117


DIES = """
import os, signal, time, flexcore_sync
from flexcore_host.lending import Lending
Lending.lent = lambda self, action: os.kill(os.getpid(), signal.SIGKILL)
flexcore_sync.connect(os.environ["WHERE"], vendor="demo", user="ann").checkout("f1").borrow(time.time() + 3600)
"""


def test_a_death_between_the_answer_and_its_file_takes_no_second_seat(
    triad: LoopbackTriad, folder: BorrowFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 behind the servers' answer; then LM_BORROW, a queue and an early return find what was lent."""
    environment = {**os.environ, "WHERE": triad.path}
    tomorrow = time.strftime("%d-%b-%Y:%H:%M", time.localtime(time.time() + 24 * HOUR)).lower()
    for how in ("checkout", "wish", "queue", "return"):
        died = subprocess.run([sys.executable, "-c", DIES], env=environment, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL
        (found,) = folder.files()
        assert found.record is not None
        assert found.record.state == ASKED
        assert "Total of 1 license in use" in triad.lmstat()
        with triad.connect(user="ann") as client:
            if how == "return":
                assert client.return_borrowed("f1") == 1
                break
            if how == "wish":
                monkeypatch.setenv("LM_BORROW", f"today:demo:{tomorrow}")
            with client.checkout("f1", queue=how == "queue") as seat:
                assert seat.borrowed
                assert "Total of 1 license in use" in triad.lmstat()
            (kept,) = folder.files()
            assert kept.record is not None
            assert (kept.record.state, kept.record.borrow) == (LENT, found.record.borrow)
            assert client.return_borrowed("f1") == 1
    assert folder.files() == []
    assert "Total of 0 licenses in use" in triad.lmstat()


class Deaf:
    """A machine whose servers never answer."""

    def borrow(self, *_: object, **__: object) -> int:
        return 1


def test_a_close_leaves_no_lock_on_what_was_not_answered(folder: BorrowFolder) -> None:
    config = Machine().client._config
    deaf: Any = Deaf()
    lending = Lending(config, deaf, now=time.monotonic, wall=time.time, draw=os.urandom, folder=folder)
    granted = Seat(1, "f1", "1.0", 1, WALL, 0, RECORD.line, RECORD.hostids)
    request = lending.begin(granted, time.time() + HOUR)
    (found,) = folder.files()
    assert found.record is not None
    assert folder.use(found.record.borrow) is None
    lending.close(())
    use = folder.use(found.record.borrow)  # lmborrow -return gets it
    assert use is not None
    lent = SeatBorrowed(request=request, seat=granted, borrow=found.record.borrow, until=found.record.until, wall=WALL)
    assert isinstance(lending.lent(lent), BorrowProblem)  # too late: nothing is written over what has another's lock
    assert [each.record for each in folder.files()] == [found.record]
    use.close()


def test_the_async_client_borrows_and_uses_it(triad: LoopbackTriad, folder: BorrowFolder) -> None:
    async def borrow(path: str) -> bool:
        async with (
            flexcore_trio.open_client(path, vendor="demo", user="ann", timeout_s=5.0) as client,
            client.checkout("f1") as seat,
        ):
            was_there = seat.borrowed
            if not was_there:
                await seat.borrow(time.time() + HOUR)
            assert seat.held
            return was_there

    with returned(folder):
        assert [trio.run(borrow, triad.path), trio.run(borrow, NOBODY)] == [False, True]


def test_the_async_client_is_told_of_the_end(folder: BorrowFolder) -> None:
    fresh(folder, 0.5)

    async def hold() -> LicenseLost | None:
        async with (
            flexcore_trio.open_client(NOBODY, vendor="demo", user="ann") as client,
            client.checkout("f1") as seat,
        ):
            return await seat.wait_lost()

    lost = trio.run(hold)
    assert lost is not None
    assert lost.code == -118
