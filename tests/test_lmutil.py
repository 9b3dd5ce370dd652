"""The utilities as existing scripts spell them, and the small ones: lmver, lmpath, lmcksum, format."""

from __future__ import annotations

import doctest
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.keys import SigningKey
from flexcore.licensefile import formatting, parse_license, sign_license, verify_license
from flexcore.licensefile.formatting import DecimalError, from_decimal, reformat_license, to_decimal
from flexcore_tools import cli
from flexcore_tools.cli import main
from tests.budget import examples

KEY = SigningKey.from_text(f"flexcore-secret-key demo ed25519 {bytes(range(32)).hex()}\n")
TEXT = """\
SERVER elm ID=1 2837
VENDOR demo
# a comment
FEATURE f1 demo 1.0 31-dec-2030 10 NOTICE="so   far" SN=1 SIGN=
PACKAGE p1 demo 1.0 COMPONENTS="f1 f2:1.0:3" SIGN=
INCREMENT f\xfc demo 2.0 permanent uncounted HOSTID=ANY asset_info=mine SIGN=
"""
SIGNED = sign_license(parse_license(TEXT), KEY)


def run(capsys, *words: str) -> tuple[int, str]:
    status = main(words)
    out, err = capsys.readouterr()
    assert err == ""
    return status, out


# --- spelling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lmutil", "lmver", "LMVER.EXE"])
def test_a_link_is_the_utility_that_it_is_named_after(name, tmp_path):
    link = tmp_path / name
    link.write_text(
        "import sys\nfrom flexcore_tools.cli import main\nraise SystemExit(main())\n", encoding="utf-8"
    )
    words = ["lminstall", "-v"] if name == "lmutil" else []  # lminstall has another name here
    done = subprocess.run(
        [sys.executable, str(link), *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("lmutil - Copyright" if words else "flexcore 0.")


def test_lmutil_takes_every_utility_and_flag_of_all(capsys):
    assert run(capsys, "lmutil", "lmver") == run(capsys, "lmver")
    for name in cli.utilities():
        status, out = run(capsys, "lmutil", name, "-v")
        assert status == 0
        assert out.splitlines()[0].startswith("lmutil - Copyright (c) 2026-")
        assert out.splitlines()[1].startswith(f"{name} v")
        status, out = run(capsys, "lmutil", name, "-help")
        assert (status, out.split()[0]) == (0, "usage:")
    status, out = run(capsys, "lmutil", "lmstat", "-verbose", "-c", "1@127.0.0.1")
    assert (status, "(-15,570:111" in out) == (241, True)


def test_what_lmutil_does_not_know(capsys):
    assert run(capsys, "lmutil")[0] == 2
    assert run(capsys, "lmutil", "lmfly")[0] == 2
    status, out = run(capsys, "lmutil", "-help")
    assert status == 0
    assert all(f"  {name}" in out for name in ("lmstat", "lminstall", "lmdiag"))
    assert run(capsys, "lmutil", "lmstat", "-no-such-flag")[0] == 2


# --- format ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0, 40, 76])
def test_every_form_still_verifies(width):
    text = reformat_license(SIGNED, width=width)
    for written in (text, from_decimal(to_decimal(reformat_license(parse_license(text))))):
        report = verify_license(parse_license(written), (KEY.verifying_key,))
        assert len(report.verdicts) == 3
        assert report.is_valid
    if width:
        assert max(len(line) for line in text.splitlines() if "SIGN" not in line) <= width + 2
    assert reformat_license(parse_license(text)) == reformat_license(SIGNED)


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 2**32), st.sampled_from("0123456789"))
def test_a_digit_that_is_typed_incorrectly_is_found(seed, digit):
    good = to_decimal(reformat_license(SIGNED))
    places = [at for at, char in enumerate(good) if char.isdigit() and char != digit]
    at = random.Random(seed).choice(places)
    with pytest.raises(DecimalError):
        from_decimal(good[:at] + digit + good[at + 1 :])


def test_a_row_that_is_lost_or_stands_twice_is_found():
    rows = to_decimal(reformat_license(SIGNED)).splitlines(keepends=True)
    for at in range(len(rows) - 1):  # the last one may be missing: the line ends early and does not verify
        if not rows[at + 1].split()[1].endswith(".1"):
            with pytest.raises(DecimalError):
                from_decimal("".join(rows[:at] + rows[at + 1 :]))
        with pytest.raises(DecimalError):
            from_decimal("".join(rows[: at + 1] + rows[at:]))


def test_the_command(capsys, tmp_path):
    file, digits, back = (tmp_path / name for name in ("a.lic", "a.dec", "b.lic"))
    file.write_text(reformat_license(SIGNED, width=60), encoding="utf-8")
    assert run(capsys, "lmutil", "lminstall", "-i", str(file), "-o", str(digits), "-odecimal") == (0, "")
    said = digits.read_text()
    assert run(capsys, "lminstall", "-i", str(file), "-o", str(digits), "-odecimal") == (0, ""), "as docs/utilities.rst"
    assert digits.read_text() == said
    assert run(capsys, "format", str(digits), "-o", str(back)) == (0, "")
    assert verify_license(parse_license(back.read_bytes()), (KEY.verifying_key,)).is_valid
    digits.write_text(digits.read_text().replace("DECIMAL 1.1 2", "DECIMAL 1.1 3"), encoding="ascii")
    status, out = run(capsys, "format", str(digits))
    assert (status, "row 1.1 is typed incorrectly" in out) == (157, True)
    assert run(capsys, "format", str(file), "-maxlen", "3")[0] == 1
    assert run(capsys, "format")[0] == 1


def test_examples_in_docstrings():
    assert doctest.testmod(formatting).failed == 0


# --- lmcksum, lmver, lmpath -----------------------------------------------------------------------


def test_checksums_are_of_the_content(capsys, tmp_path):
    numbers = []
    for name, text in (
        ("long.lic", reformat_license(SIGNED)),
        ("wrapped.lic", reformat_license(SIGNED, width=50)),
        ("other.lic", reformat_license(SIGNED).replace(" 10 NOTICE", " 11 NOTICE").replace("=mine", "=yours")),
    ):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        status, out = run(capsys, "lmcksum", "-c", str(file))
        assert status == 0
        numbers.append(out.splitlines()[1:])
    assert numbers[0] == numbers[1]
    assert "FEATURE f1 demo 1.0" in numbers[0][0]
    assert [one == other for one, other in zip(numbers[0], numbers[2], strict=True)] == [False, True, True]
    assert run(capsys, "lmcksum", "-c", "1@elm")[0] == 255


def test_versions(capsys, tmp_path):
    status, out = run(capsys, "lmver")
    assert (status, out.startswith("flexcore 0.1.0")) == (0, True)
    file = tmp_path / "log"
    file.write_bytes(b"\x00flexcore 3.2.1 began\nflexcore 3.2.1, flexcore 4.0.dev1")
    status, out = run(capsys, "lmver", str(file))
    assert (status, len(out.splitlines())) == (0, 2)
    file.write_bytes(b"nothing")
    assert run(capsys, "lmver", str(file))[0] == 1
    assert run(capsys, "lmver", str(tmp_path / "gone"))[0] == 1


def test_the_path(capsys, monkeypatch, tmp_path):
    for name in ("LM_LICENSE_FILE", "DEMO_LICENSE_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert run(capsys, "lmpath", "-status")[0] == 255
    monkeypatch.setenv("DEMO_LICENSE_FILE", "1@b")
    monkeypatch.setenv("LM_LICENSE_FILE", "2837@a,2837@b,2837@c:/tmp/x.lic")
    assert run(capsys, "lmpath", "-status") == (
        0, "LM_LICENSE_FILE:\n    2837@a,2837@b,2837@c\n    /tmp/x.lic\nDEMO_LICENSE_FILE:\n    1@b\n",
    )  # fmt: skip
    assert run(capsys, "lmpath", "-add", "demo", "2@c") == (0, "export DEMO_LICENSE_FILE=2@c:1@b\n")
    assert run(capsys, "lmpath", "-override", "all", "2@c") == (0, "export LM_LICENSE_FILE=2@c\n")
    assert run(capsys, "lmpath", "-add", "a b", "2@c")[0] == 1
    assert Path(tmp_path).exists()
