"""docs/utilities.rst and docs/errors.rst have every row, and say what the code says."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

import flexcore
import flexcore_host
import flexcore_sync
import flexcore_tools
import flexcore_trio
from flexcore.codes import TEXTS, ErrorCode
from flexcore_tools import cli

ROOT = Path(__file__).resolve().parent.parent

# What the public manuals and recorded outputs name, as the project's collection of facts has it.
FLAGS = {
    "lmstat": "-a -A -asec --no-user-info -f -i -s -S -t -proj -lm -vd -old",
    "lmdown": "-vendor -q -all -force",
    "lmreread": "-vendor -all",
    "lmremove": "-h",
    "lmhostid": "-n -ether -internet -user -display -hostname -hostdomain -long -container_id -string -vsn -flexid "
    "-dtype -utf8 -ptype",
    "lmver": "FILE", "lmpath": "-status -add -override", "lmnewlog": "VENDOR",
    "lmborrow": "-status -clear -purge -return -d -fqdn VENDOR",
    "lmswitch": "-rollover", "lmswitchr": "VENDOR", "lmcksum": "FEATURE", "lmdiag": "-n",
    "lminstall": "-i -o -odecimal -maxlen -overfmt",
    "lmgrd": "-c -l -x -2 -local -z -v -help -datestamp -m -servTransferred -t -s",
    "all": "-c -help -v -verbose", "lmutil": "NAME", "lmborrowl": "",
    "lmadmin": "-adminOnly -foreground -import -logDir -allowStopServer -allowRemoteStopServer "
    "-allowLicenseReclaim",
    "lmlicvalidator": "", "lmckout": "",
}  # fmt: skip


def rows(page: str, number: int = 0) -> list[list[str]]:
    """The cells of a page's table, without its head."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").split(".. list-table::")[number + 1]
    return [[cell.strip() for cell in row.split("\n     - ")] for row in text.split("\n   * - ")[2:]]


def flags() -> dict[tuple[str, str], tuple[str, str]]:
    found = {}
    for name, state, where in rows("utilities.rst"):
        utility, _, flag = name.strip("`").partition(" ")
        found[utility, flag.split()[0] if flag else ""] = (state, where)
    return found


def test_no_flag_is_missing() -> None:
    wanted = {(utility, flag) for utility, text in FLAGS.items() for flag in text.split() or [""]}
    assert wanted - set(flags()) == set()


def test_what_is_called_implemented_is_there() -> None:
    for (utility, flag), (state, where) in flags().items():
        assert state in ("implemented", "not")
        assert where
        name = cli._SPELLINGS.get(utility, utility)
        known = cli.make_parser(name)._option_string_actions if name in cli.COMMANDS else {}
        if utility == "all":
            known = cli.make_parser("lmstat")._option_string_actions
        if state == "implemented":
            assert name in cli.COMMANDS or utility == "all", utility
            assert not flag.startswith("-") or flag in known, (utility, flag)
        elif state == "not":
            assert flag not in known, (utility, flag)
        for path in re.findall(r"``(tests/[a-z_/]+\.py)``", where):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lmhostid", ["-flexid", "-dtype", "9"]), ("lmhostid", ["-utf8", "-ether"]), ("lmdown", ["-all", "-q"]),
        ("lmborrow", ["-return", "-fqdn", "f1"]),
        ("lminstall", ["-i", "x", "-overfmt", "7.1"]), ("lmgrd", ["-z", "-c", "x", "--vendor-key", "y"]),
    ],
)  # fmt: skip
def test_flags_that_are_accepted(name, words) -> None:
    cli.make_parser(cli._SPELLINGS.get(name, name)).parse_args(words)


@pytest.mark.parametrize(("flag", "said"), [("-help", "usage: flexcore lmgrd"), ("-v", "lmgrd v")])
def test_lmgrd_says_what_it_is_without_a_licence_file(capsys: pytest.CaptureFixture[str], flag: str, said: str) -> None:
    assert cli.main(["lmgrd", flag]) == 0
    assert said in capsys.readouterr().out


@functools.cache
def given_codes() -> set[int]:
    """The codes that the product gives out, by the names that stand in its modules."""
    found = set()
    for package in (flexcore, flexcore_host, flexcore_sync, flexcore_trio, flexcore_tools):
        for path in Path(package.__file__ or "").parent.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            found |= {int(ErrorCode[name]) for name in re.findall(r"ErrorCode\.([A-Z_]+)", text)}
    return found


def test_no_error_is_missing_and_each_has_cause_and_remedy() -> None:
    table = {int(row[0].strip("`")): row for row in rows("errors.rst")}
    assert set(table) == set(TEXTS)
    for code, row in table.items():
        _, text, cause, remedy, where = row
        assert text == TEXTS[code]
        assert cause
        if cause.startswith("understood, not given"):
            continue
        if cause.startswith("not given by flexcore: "):
            assert code not in given_codes(), code
            continue
        assert code in given_codes(), code
        assert remedy != "-"
        assert (ROOT / where.strip("`")).is_file(), code


def given_rows() -> set[int]:
    """The codes of which docs/errors.rst says that flexcore gives them: tests/test_errors_provoked.py meets each."""
    excused = ("understood, not given", "not given by flexcore: ")
    return {int(row[0].strip("`")) for row in rows("errors.rst") if not row[2].startswith(excused)}
