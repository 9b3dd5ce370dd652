"""DEBUGLOG on disk: the vendor daemon's lines go elsewhere, lmgrd's stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flexcore_host.debuglogs import DebugLogs
from flexcore_host.logfile import LogFile


def printed(lines: Sequence[tuple[str, str]]) -> list[str]:
    return [f"({daemon}) {text}" for daemon, text in lines]


def test_the_vendors_lines_go_where_debuglog_says(tmp_path: Path) -> None:
    main, own, old = tmp_path / "main.log", tmp_path / "demo.log", tmp_path / "old.log"
    own.write_text("yesterday\n")
    old.write_text("yesterday\n")
    logs = DebugLogs(LogFile(str(main)), printed, tmp_path)
    logs.write([("lmgrd", "one"), ("demo", "two")])
    logs.use("demo", "demo.log", append=False)
    logs.write([("lmgrd", "three"), ("demo", "four")])
    own.rename(tmp_path / "demo.log.1")
    logs.reopen()
    logs.write([("demo", "five")])
    logs.use("demo", "old.log", append=True)
    logs.write([("demo", "six")])
    logs.use("demo", "no/such/folder/x.log", append=True)
    logs.write([("demo", "seven")])
    logs.use("demo", "", append=False)
    logs.write([("demo", "eight")])
    logs.close()
    logs.close()
    assert main.read_text().splitlines() == [
        "(lmgrd) one", "(demo) two", f"(demo) The lines of demo go to {own} from here on (DEBUGLOG)", "(lmgrd) three",
        "(demo) eight",
    ]  # fmt: skip
    assert (tmp_path / "demo.log.1").read_text() == "(demo) four\n"
    assert own.read_text().splitlines()[0] == "(demo) five"
    assert old.read_text().splitlines()[:2] == ["yesterday", "(demo) six"]
    assert old.read_text().splitlines()[-1] == "(demo) seven"
    assert "cannot be opened: No such file or directory" in old.read_text()


def test_a_debuglog_that_is_the_main_log_changes_nothing(tmp_path: Path) -> None:
    main = tmp_path / "main.log"
    logs = DebugLogs(LogFile(str(main)), printed, tmp_path)
    logs.use("demo", str(main), append=True)
    logs.write([("demo", "one")])
    logs.close()
    assert main.read_text() == "(demo) one\n"
