"""``flexcore lint --options FILE LICENSE``."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexcore_tools.cli import main

LICENSE = "SERVER elm ANY 27000\nVENDOR demo\nVENDOR other\nFEATURE f1 demo 1.0 permanent 5 SIGN=1\nFEATURE g1 other 1.0 permanent 5 SIGN=1\n"  # noqa: E501


@pytest.fixture
def license_path(tmp_path: Path) -> str:
    path = tmp_path / "demo.lic"
    path.write_text(LICENSE)
    return str(path)


def lint(options: bytes, license_path: str, *more: str) -> int:
    path = Path(license_path).with_name("demo.opt")
    path.write_bytes(options)
    return main(["lint", "--options", str(path), license_path, *more])


def test_problems_have_file_line_and_column(license_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(b"# m\xfcller\nRESERVE 9 f1 USER ann\n  EXCLUDE f1 GROUP dev\n", license_path) == 1
    said = capsys.readouterr().out.replace(str(Path(license_path).parent) + "/", "").splitlines()
    assert said == [
        ("demo.opt:2:1: warning: 4 of these 9 cannot be reserved: of f1 there are 5, and the lines above"
        " come first; reserve fewer"),
        "demo.opt:3:3: error: there is no GROUP dev: this matches nobody; define it: GROUP dev member ...",
        "demo.opt: 1 error, 1 warning, 0 to know",
    ]


def test_a_good_file_exits_with_0(license_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(b"EXCLUDE f1 USER ann\n", license_path) == 0
    assert capsys.readouterr().out.endswith("demo.opt: 0 errors, 0 warnings, 0 to know\n")


def test_whose_options_they_are(license_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(b"EXCLUDE g1 USER ann\n", license_path, "--vendor", "other") == 0
    assert "unknown" not in capsys.readouterr().out
    assert lint(b"EXCLUDE g1 USER ann\n", license_path) == 0
    assert "the licence file has no feature g1" in capsys.readouterr().out
    assert lint(b"", license_path, "--vendor", "nobody") == 1
    assert "has no VENDOR line of nobody, but of demo, other" in capsys.readouterr().err


def test_an_options_file_that_is_not_there(license_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--options", license_path + ".none", license_path]) == 1
    assert "No such file" in capsys.readouterr().err


def test_lint_knows_components_of_packages_and_what_upgrades_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "demo.lic"
    path.write_text(
        "SERVER elm ANY 27000\nVENDOR demo\n"
        'PACKAGE pack demo 1.0 COMPONENTS="part:1.0:2" SIGN=1\n'
        "INCREMENT pack demo 1.0 permanent 3 SIGN=1\n"
        "INCREMENT up demo 1.0 permanent 5 SIGN=1\nUPGRADE up demo 1.0 2.0 permanent 2 SIGN=1\n"
    )
    text = (b"RESERVE 6 part USER ann\nRESERVE 1 part USER bob\nMAX 1 pack USER ann\n"
            b"RESERVE 4 up:VERSION=1.0 USER ann\nRESERVE 2 up:VERSION=2.0 USER ann\n")  # fmt: skip
    lint(text, str(path))
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(str(tmp_path))[2][1:].partition(";")[0] for line in said[:3]] == [
        "demo.opt:2:1: warning: 1 of these 1 cannot be reserved: of part there are 6, and the lines above come first",
        "demo.opt:3:1: warning: the licence file has no feature pack: this never matches",
        ('demo.opt:4:1: warning: 1 of these 4 cannot be reserved: of "up:VERSION=1.0" there are 3, and the lines above'
         " come first"),
    ]
    assert len(said) == 4


def test_more_are_named_than_the_licence_lets_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demo.lic"
    path.write_text(
        "SERVER elm ANY 27000\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 2 USER_BASED SIGN=1\n"
        "FEATURE f2 demo 1.0 permanent 5 HOST_BASED=1 SIGN=1\n"
    )
    assert lint(b"INCLUDE f1 USER ann\nGROUP dev ann bob carl dan\nINCLUDE f1 GROUP dev\n", str(path)) == 0
    said = capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines()
    assert said[:2] == [
        ("demo.opt:1:1: warning: f2 v1.0 is HOST_BASED, and no INCLUDE line names hosts: nobody may use it (-84);"
        " INCLUDE f2 HOST name"),
        ("demo.opt:3:1: warning: f1 v1.0 is USER_BASED, which lets 2 be named: carl and 1 more behind may not use it;"
        " name fewer, or buy more"),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("HOST_GROUP h elm 10.0.0.0/8\nEXCLUDE f1 HOST_GROUP h",
         "1:1: warning: no host is called 10.0.0.0/8, and it is no internet address"),
        ("EXCLUDE f1 HOST 300.1.1.1", "1:1: warning: no host is called 300.1.1.1"),
        ("EXCLUDE f1 HOST 10.1.*", ""),
        ("EXCLUDE f1 HOST *.example.org", ""),
        ("EXCLUDE f1 HOST *", ""),
        ("GROUP a ann\nGROUP b a bob\nEXCLUDE f1 GROUP b\nMAX 1 f1 GROUP a",
         "2:1: warning: GROUP b has a user called a, and not the members of GROUP a: groups do not nest"),
        ("EXCLUDE_BORROW f1 USER ann", "1:1: warning: no line of f1 has BORROW: EXCLUDE_BORROW has nothing to limit"),
        ("EXCLUDE_BORROW b1 USER ann", ""),
        ("EXCLUDE * USER ann", "no feature *: this never matches; for all features there is EXCLUDEALL"),
        ("INCLUDE ALL USER ann", "no feature ALL: this never matches; for all features there is INCLUDEALL"),
        ("MAX 1 * USER ann", "no feature *: this never matches; take the line out"),
        ("EXCLUDE_BORROW b1:VERSION=2.0 USER ann", 'no line of "b1:VERSION=2.0" has BORROW'),
        ("BORROW_LOWWATER b1 2", "1:1: warning: of b1 there are 2 in one pool: if 2 stay, none can be borrowed"),
        ("BORROW_LOWWATER b1 1", ""),
        (f"LINGER f1 {'1' * 400}", f"1:11: error: '{'1' * 40}' is no number of seconds"),
    ],
)  # fmt: skip
def test_what_can_never_match_or_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, said: str
) -> None:
    path = tmp_path / "demo.lic"
    path.write_text("SERVER elm ANY 27000\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 5 SIGN=1\n"
                    "INCREMENT b1 demo 1.0 permanent 2 BORROW=9 SIGN=1\n"
                    "INCREMENT b1 demo 2.0 permanent 1 SIGN=1\n")  # fmt: skip
    lint(f"{options}\n".encode(), str(path))
    told = capsys.readouterr().out
    if said:
        assert f"{said}" in told
    else:
        assert "0 errors, 0 warnings" in told, told
