"""Servers with an options file: the log, rereads, and the finding of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexcore import LicenseError, LicenseFile, parse_license
from flexcore.identity import Rank
from flexcore.options import OptionsFile, parse_options
from flexcore.server import judge_license
from flexcore.wire.messages import Denied, Granted
from flexcore_tools._options import find_options, load_options
from flexcore_trio.serving import _read_and_judge
from tests.reread_kit import Farm, Host, feature, text_of

SINGLE = text_of(feature("f1", 3), hostids=("ID=1",))
EXCLUDED = "EXCLUDE f1 USER ann\nFOO\n"


def give(host: Host, text: str | None) -> None:
    """Put an options file beside the licence file of *host*, to be read with it."""
    options = None if text is None else parse_options(text, name="demo.opt")
    host.judge = lambda: judge_license(host.node.config, parse_license(host.text), options)  # type: ignore[method-assign]


def test_an_options_only_reread_takes_effect_at_once_and_is_said() -> None:
    farm = Farm(SINGLE)
    host = farm.hosts[Rank.PRIMARY]
    client = farm.client()
    seat = client.checkout("f1")
    assert isinstance(seat, Granted)
    give(host, EXCLUDED)
    reply = farm.reread(Rank.PRIMARY)
    assert reply.code == 0
    assert any("1 rules of options are in effect now" in line for line in reply.lines), reply.lines
    refused = client.checkout("f1")
    assert isinstance(refused, Denied)
    assert (refused.code, refused.detail.partition(";")[0]) == (-38, "demo.opt:1: EXCLUDE f1 USER ann")
    log = "\n".join(host.logs)
    assert 'REREAD: options file "demo.opt" reread completed' in log
    assert "EXCLUDE USER ann in f1" in log
    assert "WARNING: demo.opt:2:1: warning: there is no option 'FOO'" in log
    give(host, None)  # cannot be read just now: what is in effect stays
    farm.reread(Rank.PRIMARY)
    assert isinstance(client.checkout("f1"), Denied)
    give(host, "")
    farm.reread(Rank.PRIMARY)
    assert isinstance(client.checkout("f1"), Granted)


def test_new_lines_are_decided_by_the_options_that_are_in_effect() -> None:
    farm = Farm(SINGLE)
    host = farm.hosts[Rank.PRIMARY]
    give(host, "EXCLUDE f3 USER ann\n")
    farm.reread(Rank.PRIMARY)
    host.text = text_of(feature("f1", 3), feature("f3", 3), hostids=("ID=1",))
    give(host, None)
    farm.reread(Rank.PRIMARY)
    client = farm.client()
    assert isinstance(client.checkout("f1"), Granted)
    refused = client.checkout("f3")
    assert isinstance(refused, Denied)
    assert refused.code == -38


def test_the_options_of_the_new_master_decide() -> None:
    farm = Farm(text_of(feature("f1", 3)))
    give(farm.hosts[Rank.SECONDARY], EXCLUDED)
    farm.reread(Rank.PRIMARY)
    client = farm.client()
    assert isinstance(client.checkout("f1"), Granted)
    farm.kill(Rank.PRIMARY)
    farm.run(until=lambda: farm.master is farm.hosts[Rank.SECONDARY])
    client.resume_at(farm)
    refused = client.checkout("f1")
    assert isinstance(refused, Denied)
    assert refused.code == -38


def test_a_copy_has_the_same_options() -> None:
    farm = Farm(SINGLE)
    host = farm.hosts[Rank.PRIMARY]
    before = host.node.fingerprint(farm.now)
    give(host, EXCLUDED)
    farm.reread(Rank.PRIMARY)
    twin = host.node.copy()
    assert twin.fingerprint(farm.now) == host.node.fingerprint(farm.now) != before


# --- finding the file -------------------------------------------------------------------------------------------


def license_with(vendor_line: str) -> LicenseFile:
    text = f"SERVER elm ANY 27000\n{vendor_line}\nFEATURE f1 demo 1.0 permanent 5 SIGN=1\n"
    return parse_license(text)


@pytest.mark.parametrize(
    ("vendor_line", "name", "is_named"),
    [
        ("VENDOR demo", "demo.opt", False),
        ("VENDOR demo /usr/lib/demo", "demo.opt", False),
        ("VENDOR demo OPTIONS=my.opt", "my.opt", True),
        ("VENDOR demo options=sub/my.opt port=27001", "sub/my.opt", True),
        ("VENDOR demo /usr/lib/demo my.opt", "my.opt", True),
        ('VENDOR demo options="my own.opt"', "my own.opt", True),
        ("VENDOR demo options=", "demo.opt", False),
    ],
)
def test_where_the_options_file_is(tmp_path: Path, vendor_line: str, name: str, is_named: bool) -> None:
    license = license_with(vendor_line)
    found = find_options(license, str(tmp_path / "x.lic"), "demo")
    assert found == (str(tmp_path / name), is_named)


def test_an_absolute_path_stays() -> None:
    license = license_with("VENDOR demo options=/etc/demo.opt")
    assert find_options(license, "x.lic", "demo") == ("/etc/demo.opt", True)


def test_reading_it(tmp_path: Path) -> None:
    path = str(tmp_path / "x.lic")
    default = license_with("VENDOR demo")
    named = license_with("VENDOR demo options=my.opt")
    assert load_options(default, path, "demo") == OptionsFile()
    with pytest.raises(LicenseError, match=r"my\.opt, which the VENDOR line names, is not there"):
        load_options(named, path, "demo")
    (tmp_path / "my.opt").mkdir()
    with pytest.raises(LicenseError, match=r"my\.opt cannot be read: Is a directory"):
        load_options(named, path, "demo")
    (tmp_path / "demo.opt").write_text("EXCLUDEALL USER ann\n")
    found = load_options(default, path, "demo")
    assert (len(found.rules), found.name) == (1, str(tmp_path / "demo.opt"))


def test_a_reread_whose_options_cannot_be_read_says_so_and_takes_the_lines() -> None:
    farm = Farm(SINGLE)
    config = farm.hosts[Rank.PRIMARY].node.config

    def unreadable(_: object) -> OptionsFile:
        raise LicenseError("my.opt is not there")

    outcome = _read_and_judge(config, lambda: parse_license(SINGLE), unreadable)
    assert outcome.remarks == ("my.opt is not there; the options of before, if any, stay in effect",)  # type: ignore[union-attr]
    assert outcome.options is None  # type: ignore[union-attr]
