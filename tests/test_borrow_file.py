"""The borrow file and LM_BORROW: what is read, what is refused and with which code, and the folder on disk."""

from __future__ import annotations

import datetime
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexcore.borrowing import (
    ASKED,
    CLOCK_SLACK_S,
    RETURNING,
    BorrowWish,
    check_end,
    dump_record,
    fits,
    format_wish,
    is_same_machine,
    is_shared,
    judge,
    load_record,
    parse_end,
    parse_wish,
)
from flexcore.errors import BorrowError
from flexcore.record import replace
from flexcore_host.borrow_files import BorrowFolder, default_borrow_dir, epoch_of
from tests.borrow_kit import HOUR, LINE, RECORD, WALL, put

ELM = ("HOSTNAME=elm", "00163e111111", "INTERNET=10.0.0.7")
DAY = datetime.date(2026, 11, 24)


@pytest.fixture
def folder(tmp_path: Path) -> BorrowFolder:
    return BorrowFolder(str(tmp_path / "borrow"))


# --- the record -----------------------------------------------------------------------------------


def test_a_record_is_what_was_written() -> None:
    assert load_record(dump_record(RECORD), "x") == RECORD
    assert RECORD.secret.hex() not in repr(RECORD)


CHANGES: list[tuple[str, Any]] = [
    ("until", WALL + 900 * HOUR), ("count", 500), ("user", "bob"), ("seen", WALL - HOUR), ("state", ASKED),
    ("machine", ["00163e222222"]), ("line", LINE.replace("48", "480")), ("secret", "00" * 32), ("borrow", "00" * 16),
    ("seal", "0" * 64), ("count", "2"), ("count", True), ("until", float("nan")), ("hostids", "ID=1"), ("until", 1e300),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), CHANGES)
def test_a_field_that_somebody_changed_is_found(key: str, value: Any) -> None:
    body = json.loads(dump_record(RECORD))
    assert body[key] != value
    body[key] = value
    with pytest.raises(BorrowError) as told:
        load_record(json.dumps(body), "ours.borrow")
    assert told.value.code == -8
    assert "ours.borrow" in str(told.value)


@given(st.data())
def test_no_text_reads_as_a_record_but_a_sealed_one(data: Any) -> None:
    text = dump_record(RECORD)
    at = data.draw(st.integers(0, len(text) - 2))
    cut = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    try:
        read = load_record(cut, "x")
    except BorrowError as error:
        read, code = RECORD, error.code
        assert code == -8
    assert read == RECORD


def verdict(wall: float = WALL + 60.0, machine: tuple[str, ...] = ELM, user: str = "ann", **changes: Any) -> int:
    problem = judge(replace(RECORD, **changes), wall=wall, machine=machine, user=user)
    return 0 if problem is None else int(problem.code)


def test_when_it_may_be_used() -> None:
    assert verdict() == 0
    assert verdict(WALL + 2 * HOUR) == -118
    assert verdict(WALL - CLOCK_SLACK_S) == 0
    assert verdict(WALL - CLOCK_SLACK_S - 1.0) == -88  # the clock was set back
    assert verdict(WALL, seen=WALL + 2 * HOUR) == -88  # it was over once, and stays over
    assert verdict(WALL + 2 * HOUR - 10.0, seen=WALL + 2 * HOUR) == -118
    assert verdict(user="bob") == -9
    assert verdict(state=ASKED) == verdict(state=RETURNING) == -117


def test_what_the_line_does_not_allow_is_no_borrowing() -> None:
    assert verdict(line=LINE.replace(" BORROW=48", "")) == -68
    assert verdict(until=WALL + 49 * HOUR) == -104
    assert verdict(line=LINE.replace("permanent", "1-jan-2026")) == -104
    assert verdict(line="") == -68
    old = LINE.replace("permanent", "1-jan-2026")
    assert verdict(line=f"{old}\n{LINE}") == 0  # a count from two lines, of which one lasts


@pytest.mark.parametrize(
    ("bound", "machine", "same"),
    [
        (ELM, ("HOSTNAME=oak", "00:16:3E:11:11:11", "INTERNET=192.0.2.1"), True),  # renamed, on another network
        (ELM, ("HOSTNAME=elm", "00163e222222", "INTERNET=10.0.0.7"), False),  # another machine of that name
        (ELM, ("HOSTNAME=elm", "INTERNET=10.0.0.7"), False),
        (("HOSTNAME=elm", "INTERNET=10.0.0.7"), ("HOSTNAME=elm",), True),  # no hardware was known
        (("HOSTNAME=elm", "INTERNET=10.0.0.7"), ("HOSTNAME=oak", "INTERNET=10.0.0.7"), False),
        ((), (), False),
        (("DISK_SERIAL_NUM=ab1", "00163e111111"), ("disk_serial_num=AB1", "00163e333333"), True),
        (("", "HOSTNAME="), ("",), False),
        # Adapters of VirtualBox and VMware, which are the same on every machine that has these installed:
        (("HOSTNAME=elm", "a0cec8000001", "0a0027000000", "005056c00008"),
         ("HOSTNAME=oak", "3c22fb000002", "0a0027000000", "005056c00008"), False),
        (("HOSTNAME=elm", "0242ac110002"), ("HOSTNAME=oak", "0242ac110002"), False),  # two containers
        (("HOSTNAME=elm", "0242ac110002"), ("HOSTNAME=elm", "0242ac110003"), False),
        (("HOSTNAME=elm", "525400aa0001"), ("HOSTNAME=elm", "525400aa0001", "0242ac110002"), True),
    ],
)
def test_which_machine_is_the_same(bound: tuple[str, ...], machine: tuple[str, ...], same: bool) -> None:
    assert is_same_machine(bound, machine) is same


def test_a_copy_on_another_machine_grants_nothing() -> None:
    assert verdict(machine=("HOSTNAME=elm", "00163e222222")) == -9


def test_what_a_checkout_may_ask() -> None:
    assert fits(RECORD, "demo", "F1", "1.9", 2)
    assert fits(RECORD, "", "f1", "", 1)
    assert not fits(RECORD, "other", "f1", "", 1)
    assert not fits(RECORD, "demo", "f1", "2.1", 1)
    assert not fits(RECORD, "demo", "f1", "", 3)
    assert not fits(RECORD, "demo", "f2", "", 1)


@pytest.mark.parametrize(
    ("group", "shared"),
    [("", False), (" DUP_GROUP=NONE", False), (" DUP_GROUP=UH", True), (" DUP_GROUP=SITE", True),
     (" DUP_GROUP=UHD", False), (" DUP_GROUP=UV", False)],
)  # fmt: skip
def test_who_shares_what_is_borrowed(group: str, shared: bool) -> None:
    record = replace(RECORD, line=LINE.replace(" SIGN", group + " SIGN"))
    assert is_shared(record, ":1") is shared
    assert is_shared(record, ":0") is (shared or group.endswith("D"))


# --- LM_BORROW --------------------------------------------------------------------------------------


def test_the_forms_of_a_wish() -> None:
    end = datetime.datetime(2026, 11, 30, 23, 59)
    assert parse_wish("24-nov-2026:demo:30-nov-2026", DAY) == BorrowWish(DAY, "demo", end)
    assert parse_wish("today:ALL:30-Nov-2026:7:05\n", DAY) == BorrowWish(DAY, "ALL", end.replace(hour=7, minute=5))
    wish = parse_wish("23-nov-2026:demo:30-nov-2026:17:30", DAY)
    assert parse_wish(format_wish(wish), DAY) == wish
    assert not wish.is_for("demo", DAY)  # of yesterday
    assert wish.is_for("DEMO", wish.day)
    assert not wish.is_for("other", wish.day)
    assert parse_wish("today:all:30-nov-2026", DAY).is_for("other", DAY)
    assert parse_end("1-jan-2030", "0905") == datetime.datetime(2030, 1, 1, 9, 5)


@pytest.mark.parametrize(
    ("text", "code"),
    [("demo", -42), ("today::30-nov-2026", -42), ("today:demo:soon", -11), ("today:demo:permanent", -11),
     ("today:demo:31-feb-2027", -11), ("today:demo:30-nov-2026:25:00", -42), ("x:demo:30-nov-2026", -11),
     ("today:demo:31-dec-9999", -104)],
)  # fmt: skip
def test_a_wish_that_makes_no_sense(text: str, code: int) -> None:
    with pytest.raises(BorrowError) as told:
        parse_wish(text, DAY)
    assert told.value.code == code


@pytest.mark.parametrize(
    ("until", "code"),
    [(float("nan"), -42), (float("inf"), -104), (1e11, -104), (WALL * 1000, -104), (0.0, -117), (-float("inf"), -117)],
)
def test_what_can_be_no_end(until: float, code: int) -> None:
    with pytest.raises(BorrowError) as told:
        check_end(until)
    assert told.value.code == code
    check_end(WALL)


def test_the_environment_is_before_the_file(folder: BorrowFolder) -> None:
    now = epoch_of(BorrowWish(DAY, "x", datetime.datetime(2026, 11, 24, 12, 0)))
    assert folder.wish("demo", now, {}) is None
    folder.write_wish(parse_wish("today:demo:30-nov-2026:12:00", DAY))
    assert folder.wish("demo", now, {}) == now + 6 * 24 * HOUR
    assert folder.wish("demo", now + 24 * HOUR, {}) is None  # only what is checked out on the day
    assert folder.wish("other", now, {}) is None
    assert folder.wish("demo", now, {"LM_BORROW": "today:all:25-nov-2026:12:00"}) == now + 24 * HOUR
    over = {"LM_BORROW": "today:all:24-nov-2026:12:00"}
    assert folder.wish("demo", now - 1.0, over) == now
    assert folder.wish("demo", now, over) is None  # its end has come: for the rest of the day all is as without it
    assert folder.clear_wish()
    assert not folder.clear_wish()
    assert folder.wish("demo", now, {}) is None


# --- the folder -------------------------------------------------------------------------------------


def test_the_folder_is_ours_alone(folder: BorrowFolder) -> None:
    assert folder.files() == []
    os.makedirs(folder.path, mode=0o755)
    put(folder)
    (found,) = folder.files()
    assert found.record is not None
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(found.path).st_mode) == 0o600
    assert default_borrow_dir({}) == os.path.join(os.path.expanduser("~"), ".flexcore", "borrow")
    assert default_borrow_dir({"FLEXCORE_BORROW_DIR": "/x/y"}) == "/x/y"


def test_one_damaged_file_hides_no_other(folder: BorrowFolder) -> None:
    good = put(folder)
    Path(folder.path, "0.borrow").write_text("torn")
    Path(folder.path, "1.borrow").write_text(dump_record(good))  # a second file of one borrowing
    Path(folder.path, "2.borrow").write_bytes(b"\xff\0" * 1000)
    found = folder.files()
    assert [each.error.code if each.error else 0 for each in found] == [-8, -8, -8, 0]
    assert found[-1].record == good


def test_what_cannot_be_written_or_removed_is_told(folder: BorrowFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    record = put(folder)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(BorrowError) as told:
            folder.delete(record.borrow)
        assert told.value.code == -122
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(BorrowError) as told:
            put(folder, seen=WALL + 5.0)
        assert told.value.code == -117
    assert [each.record for each in folder.files()] == [record]  # as it was, and nothing torn beside it
    assert not [name for name in os.listdir(folder.path) if name.endswith(".new")]
    folder.delete(record.borrow)
    folder.delete(record.borrow)  # once more is harmless
    assert folder.files() == []


def test_the_time_of_last_use_never_goes_back_and_brings_nothing_back(folder: BorrowFolder) -> None:
    record = put(folder)
    folder.note_seen(record.borrow, WALL + 50.0)
    folder.note_seen(record.borrow, WALL + 20.0)
    (found,) = folder.files()
    assert found.record is not None
    assert found.record.seen == WALL + 50.0
    folder.delete(record.borrow)
    folder.note_seen(record.borrow, WALL + 60.0)
    assert folder.files() == []


def test_one_process_at_a_time_uses_it(folder: BorrowFolder) -> None:
    record = put(folder)
    script = (
        "import sys; from flexcore_host.borrow_files import BorrowFolder\n"
        "use = BorrowFolder(sys.argv[1]).use(bytes.fromhex(sys.argv[2]))\n"
        "print(use is not None, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, folder.path, record.borrow.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert folder.use(record.borrow) is None
        assert folder.use(record.borrow, shared=True) is None
        other.kill()  # the system gives up its lock
    use = folder.use(record.borrow, shared=True)
    assert use is not None
    second = folder.use(record.borrow, shared=True)
    assert second is not None
    assert folder.use(record.borrow) is None
    use.close()
    second.close()
    second.close()
    alone = folder.use(record.borrow)
    assert alone is not None
    alone.close()
