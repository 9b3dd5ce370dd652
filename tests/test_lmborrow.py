"""``flexcore lmborrow``: every form, what it prints, and its exit status (256 + code)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexcore.borrowing import ASKED, RETURNING
from flexcore.record import replace
from flexcore.wire.messages import BorrowReturned
from flexcore_host.borrow_files import BorrowFolder
from flexcore_testing import LoopbackTriad
from flexcore_tools._link import Link, LinkFailed
from flexcore_tools.cli import main
from tests.borrow_kit import HOUR, put

LICENSE = """\
SERVER pat id=1 2837
SERVER lee id=2 2837
SERVER terry id=3 2837
VENDOR demo
HEARTBEAT_INTERVAL=1
FEATURE f1 demo 1.0 permanent 3 BORROW
"""


HOSTIDS = ("id=1", "id=2", "id=3")
"""Of those SERVER lines: what says whether a server is one of those that lent a licence."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BorrowFolder:
    monkeypatch.setenv("FLEXCORE_BORROW_DIR", str(tmp_path / "borrow"))
    monkeypatch.delenv("LM_LICENSE_FILE", raising=False)
    return BorrowFolder(str(tmp_path / "borrow"))


@pytest.fixture(scope="module")
def triad() -> Iterator[LoopbackTriad]:
    with LoopbackTriad(LICENSE) as triad:
        yield triad


class Told:
    """Runs the command in this process; what it printed is in ``text``."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.text = ""

    def __call__(self, *words: str) -> int:
        self._capsys.readouterr()
        status = main(list(words))
        said = self._capsys.readouterr()
        assert not said.err  # readers take any stderr as failure
        self.text = said.out
        return status


@pytest.fixture
def lmborrow(capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(capsys)


def day(offset_s: float, form: str = "%d-%b-%Y") -> str:
    return time.strftime(form, time.localtime(time.time() + offset_s)).lower()


def fresh(folder: BorrowFolder, lasts_s: float = HOUR, **changes: object) -> None:
    now = time.time()
    put(folder, **{"borrowed_at": now, "seen": now, "until": now + lasts_s, **changes})


# --- the wish ---------------------------------------------------------------------------------------


def test_the_wish_is_set_shown_and_cleared(
    folder: BorrowFolder, lmborrow: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lmborrow("lmborrow", "-status") == 0
    assert lmborrow.text == "nothing is borrowed\n"
    end = day(9e5)
    for words in ((end,), (f"{end}:17:30",), (end, "17:30")):
        assert lmborrow("lmutil", "lmborrow", "demo", *words) == 0
        assert "until" in lmborrow.text
        wish = folder.read_wish(time.time(), {})
        assert wish is not None
        assert (wish.vendor, f"{wish.end:%H:%M}") == ("demo", "23:59" if words == (end,) else "17:30")
    assert lmborrow("lmborrow", "-status") == 0
    assert "LM_BORROW=" in lmborrow.text
    assert ":demo:" in lmborrow.text
    assert "no effect" not in lmborrow.text
    for day_of, why in ((day(0.0), "its end has passed"), (day(-9e5), "not of today")):
        monkeypatch.setenv("LM_BORROW", f"{day_of}:demo:1-jan-2020")
        assert lmborrow("lmborrow", "-status") == 0
        assert f"({why}: it has no effect)" in lmborrow.text
    monkeypatch.delenv("LM_BORROW")
    assert lmborrow("lmborrow", "-clear") == 0
    assert folder.read_wish(time.time(), {}) is None
    assert lmborrow("lmborrow", "-clear") == 0


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("demo", "soon"), 245), (("demo", "permanent"), 245), (("demo", "1-jan-2020"), 139),
        (("demo", "1-jan-2040", "noon"), 214), (("de:mo", "1-jan-2040"), 214), (("demo",), 2), ((), 2),
        (("demo", "31-dec-9999"), 152),
        (("-return",), 2), (("-status", "x"), 1), (("-d", ":0", "demo", "1-jan-2040"), 1),
    ],
)  # fmt: skip
def test_what_makes_no_sense(folder: BorrowFolder, lmborrow: Told, words: tuple[str, ...], status: int) -> None:
    assert lmborrow("lmborrow", *words) == status
    assert lmborrow.text
    assert folder.read_wish(time.time(), {}) is None


def test_a_wish_that_cannot_be_written_or_removed(
    folder: BorrowFolder, lmborrow: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lmborrow("lmborrow", "demo", day(9e5)) == 0

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    assert lmborrow("lmborrow", "-clear") == 134
    assert "(-122,500)" in lmborrow.text
    monkeypatch.setattr(os, "replace", refuse)
    assert lmborrow("lmborrow", "demo", day(9e5)) == 139


# --- what is borrowed ---------------------------------------------------------------------------------


def test_status_and_purge(folder: BorrowFolder, lmborrow: Told) -> None:
    fresh(folder, count=2)
    fresh(folder, -60.0, borrow=b"c" * 16, feature="f2")
    fresh(folder, borrow=b"d" * 16, feature="f3", machine=("HOSTNAME=oak", "00163e777777"))
    Path(folder.path, "x.borrow").write_text("torn")
    assert lmborrow("lmborrow", "-status") == 0
    lines = lmborrow.text.splitlines()
    assert lines[0].split() == ["Vendor", "Feature", "Expiration"]
    assert lines[2].split() == ["demo", "f1", day(HOUR, "%d-%b-%Y").lstrip("0"), day(HOUR, "%H:%M"), "(2", "licenses)"]
    assert "(-118,496)" in lines[4]
    assert "(-9,57)" in lines[6]
    assert "(-8,130)" in lines[7]
    assert lmborrow("lmborrow", "-purge") == 0
    assert [each.record.feature for each in folder.files() if each.record] == ["f1", "f3"]
    assert lmborrow("lmborrow", "-purge") == 0
    assert "nothing has ended" in lmborrow.text


# --- early return -------------------------------------------------------------------------------------


def borrow(triad: LoopbackTriad, **changes: str) -> None:
    with triad.connect(**{"user": "ann", **changes}) as client:
        client.checkout("f1").borrow(time.time() + HOUR)


def test_return_by_the_servers_of_the_file_or_of_the_path(
    triad: LoopbackTriad, folder: BorrowFolder, lmborrow: Told
) -> None:
    borrow(triad, display=":7")
    assert lmborrow("lmborrow", "-return", "-d", ":8", "f1") == 215
    assert lmborrow("lmborrow", "-return", "f1", "-bv", "2.0") == 215
    assert lmborrow("lmborrow", "-return", "-c", "1@127.0.0.1", "f1") == 241
    assert "1 license in use" in triad.lmstat()
    assert lmborrow("lmborrow", "-return", "-fqdn", "-c", triad.path, "-d", ":7", "F1", "-bv", "1.00") == 0
    assert "0 licenses in use" in triad.lmstat()
    borrow(triad)
    assert lmborrow("lmborrow", "-return", "f1") == 0
    assert folder.files() == []
    assert lmborrow("lmborrow", "-return", "f1") == 215
    assert "0 licenses in use" in triad.lmstat()


def test_what_is_returned_before_it_is_locked_is_not_used(
    triad: LoopbackTriad, folder: BorrowFolder, lmborrow: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrow(triad)
    really, done = BorrowFolder.files, list[bool]()

    def files(self: BorrowFolder) -> object:
        found = really(self)
        if not done:
            done.append(True)
            assert main(["lmborrow", "-return", "f1"]) == 0  # by another process, between reading and locking
        return found

    monkeypatch.setattr(BorrowFolder, "files", files)
    with triad.connect(user="ann") as client, client.checkout("f1") as seat:
        assert done
        assert not seat.borrowed
        assert "1 license in use" in triad.lmstat()
    assert os.listdir(folder.path) in ([], [".lock"])  # no lock of what is no more


def test_a_purge_spares_what_is_not_over_once_it_is_locked(folder: BorrowFolder, lmborrow: Told) -> None:
    fresh(folder, -60.0)
    (stale,) = folder.files()
    assert stale.record is not None
    folder.write(replace(stale.record, until=time.time() + HOUR))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BorrowFolder, "files", lambda self: [stale])
        assert lmborrow("lmborrow", "-purge") == 0
        assert len(list(Path(folder.path).glob("*.borrow"))) == 1
        folder.delete(stale.record.borrow)
        assert lmborrow("lmborrow", "-purge") == 0
        assert "(-41," in lmborrow.text


def test_what_is_in_use_is_not_returned(triad: LoopbackTriad, folder: BorrowFolder, lmborrow: Told) -> None:
    with triad.connect(user="ann") as client:
        client.checkout("f1").borrow(time.time() + HOUR)
        assert lmborrow("lmborrow", "-return", "f1") == 132
        assert "(-124,502)" in lmborrow.text
    assert lmborrow("lmborrow", "-return", "f1") == 0


def test_a_return_whose_answer_got_lost_is_said_and_done_again(
    triad: LoopbackTriad, folder: BorrowFolder, lmborrow: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrow(triad)
    really = Link.give_back

    def gets_lost(self: Link, *arguments: object) -> BorrowReturned:
        answer = really(self, *arguments)  # type: ignore[arg-type]
        assert isinstance(answer, BorrowReturned)
        assert answer.code == 0
        from flexcore.report.status import Failure

        raise LinkFailed(Failure(-16))

    with monkeypatch.context() as patch:
        patch.setattr(Link, "give_back", gets_lost)
        assert lmborrow("lmborrow", "-return", "f1") == 132
    (found,) = folder.files()
    assert found.record is not None
    assert found.record.state == RETURNING
    with triad.connect(user="ann") as client, client.checkout("f1") as seat:
        assert not seat.borrowed  # the seat may be somebody else's by now
    assert lmborrow("lmborrow", "-return", "f1") == 0
    assert folder.files() == []


def test_two_returns_at_a_time_never_bring_it_back_to_life(
    triad: LoopbackTriad, folder: BorrowFolder, lmborrow: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has read the file while it was lent, and gets its lock after the answer to the first was lost."""
    borrow(triad)
    (stale,) = folder.files()
    assert stale.record is not None
    assert stale.record.hostids == HOSTIDS
    assert lmborrow("lmborrow", "-return", "f1") == 0
    folder.write(stale.record.turned(RETURNING))
    with monkeypatch.context() as patch:
        patch.setattr(BorrowFolder, "files", lambda self: [stale])
        assert lmborrow("lmborrow", "-return", "f1") == 0
    assert folder.files() == []


def test_what_was_asked_for_and_never_lent_is_cleared_up(
    triad: LoopbackTriad, folder: BorrowFolder, lmborrow: Told
) -> None:
    servers = tuple(triad.path.split(","))
    fresh(folder, servers=servers, hostids=HOSTIDS, state=ASKED)
    assert lmborrow("lmborrow", "-return", "f1") == 0
    assert folder.files() == []


def test_what_the_servers_do_not_know_and_what_is_over(
    triad: LoopbackTriad, folder: BorrowFolder, lmborrow: Told
) -> None:
    servers = tuple(triad.path.split(","))
    fresh(folder, servers=servers)
    assert lmborrow("lmborrow", "-return", "f1") == 128
    assert "(-128,506)" in lmborrow.text
    (found,) = folder.files()  # these servers never lent it (-c may have named the wrong ones): it is as it was
    assert found.record is not None
    assert found.record.state == "lent"
    for state in (RETURNING, ASKED):
        folder.write(found.record.turned(state))
        assert lmborrow("lmborrow", "-return", "-c", triad.path, "f1") == 128
        assert [each.record.state for each in folder.files() if each.record] == [state]
    folder.delete(found.record.borrow)
    fresh(folder, servers=servers, hostids=HOSTIDS)
    assert lmborrow("lmborrow", "-return", "f1") == 128  # they lent it once, and it is somebody else's now
    assert folder.files() == []
    fresh(folder, servers=servers, machine=("HOSTNAME=oak", "00163e777777"))
    assert lmborrow("lmborrow", "-return", "f1") == 247  # a copy, on another machine


def test_its_time_is_over_by_the_servers_clocks(
    triad: LoopbackTriad, folder: BorrowFolder, lmborrow: Told
) -> None:
    with triad.connect(user="ann") as client:
        client.checkout("f1").borrow(time.time() + 0.3)
    time.sleep(0.4)  # the servers' clocks are the machine's: its end has to come
    assert lmborrow("lmborrow", "-return", "f1") == 138
    assert "BORROW period has expired" in lmborrow.text
    assert folder.files() == []


def test_a_file_that_cannot_be_removed_grants_nothing(
    triad: LoopbackTriad, folder: BorrowFolder, lmborrow: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrow(triad)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        assert lmborrow("lmborrow", "-return", "f1") == 134
    (found,) = folder.files()
    assert found.record is not None
    assert found.record == replace(found.record, state=RETURNING)
    assert lmborrow("lmborrow", "-return", "f1") == 0
