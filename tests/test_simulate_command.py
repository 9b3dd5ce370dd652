"""``flexcore simulate``: what it prints, and what it says to a wrong question. The engine: ``test_forecast.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from flexcore_testing.forecast import Forecaster
from flexcore_testing.licences import triad_text
from flexcore_tools import cli, simulate

SMALL = ("--hours", "0.01", "--intervals", "1,5", "--network", "quiet.toml")
QUIET = "crash = { per_month = 1, seconds = 5 }\nstall = { per_month = 2, seconds = 2 }\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("three.lic").write_text(triad_text({"f1": 1}, interval_s=5, primary_is_master=True))
    Path("one.lic").write_text("SERVER pat 17003456 2837\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 1 SIGN=0\n")
    Path("quiet.toml").write_text(QUIET)


def test_the_table_marks_the_files_own_value_and_recommends(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "three.lic", *SMALL, "--details"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    asked = "three.lic: pat, lee, terry; HEARTBEAT_INTERVAL=5, PRIMARY_IS_MASTER; network: quiet.toml\n"
    assert told.out.startswith(asked)
    marked = [line for line in told.out.splitlines() if line[:2].strip(" >") == "*"]
    assert len(marked) == 1
    assert marked[0].split()[1:4] == ["5", "19", "s"]
    assert "Recommended: HEARTBEAT_INTERVAL=" in told.out
    assert "killed" in told.out
    assert "power off" not in told.out  # not in this description


def test_json_is_the_same_whatever_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "three.lic", *SMALL, "--json", "--progress"]) == 0
    alone = capsys.readouterr().out
    assert cli.main(["simulate", "three.lic", *SMALL, "--json", "--jobs", "2"]) == 0
    assert capsys.readouterr().out == alone
    told = json.loads(alone)
    assert (told["schema"], told["heartbeat_interval_s"], told["complete"]) == (1, 5, True)
    assert [row["interval_s"] for row in told["rows"]] == [1, 5]
    assert told["rows"][1]["causes"]["crash"]["checkout"]["worst_s"] < 0.5
    assert told["recommendation"]["interval_s"] in (1, 5)
    assert told["network"]["troubles"]["stall"]["per_month"] == 2


def test_an_interrupt_tells_what_is_known(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = Forecaster.run

    def stops_after(rounds: int) -> Callable[..., None]:
        def stopping(self: Forecaster, **_: object) -> None:
            def stop(_: object) -> None:
                if self.rounds == rounds:
                    raise KeyboardInterrupt

            run(self, on_progress=stop)

        return stopping

    monkeypatch.setattr(Forecaster, "run", stops_after(1))
    assert cli.main(["simulate", "three.lic", *SMALL]) == 130
    told = capsys.readouterr().out
    assert "INTERRUPTED" in told
    assert "1 incident of each kind" in told
    monkeypatch.setattr(Forecaster, "run", stops_after(0))
    assert cli.main(["simulate", "three.lic", *SMALL]) == 130
    assert "nothing is known yet" in capsys.readouterr().err


def test_a_description_can_be_shown_changed_and_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    change = ["--set", "busy.per_day=1", "--set", "busy.seconds=30", "--set", "delay_ms=7"]
    assert cli.main(["simulate", "--show-network", "--network", "sites", *change]) == 0
    shown = capsys.readouterr().out
    assert "delay_ms = 7\n" in shown
    assert "busy = { per_month = 30, seconds = 30, delay_ms = 200" in shown
    Path("mine.toml").write_text(shown)
    assert cli.main(["simulate", "--show-network", "--network", "mine.toml"]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 1, "name the licence file"),
        (["one.lic"], 1, "one.lic has 1 SERVER line: there is nothing to fail over to"),
        (["missing.lic"], 1, "missing.lic: No such file"),
        (["three.lic", "--network", "offise"], 1, "there is no network 'offise': name office, sites, busy"),
        (["three.lic", "--network", "no.toml"], 1, "no.toml: No such file"),
        (["three.lic", "--network", "three.lic"], 1, "three.lic: not TOML"),
        (["three.lic", "--set", "busy=1"], 1, "office: busy: write busy = {"),
        (["three.lic", "--set", "hang.per_day"], 1, "write NAME=NUMBER"),
        (["three.lic", "--intervals", "1,121"], 2, "list of whole numbers from 0 to 120"),
        (["three.lic", "--hours", "0"], 2, "number above 0"),
        (["three.lic", "--hours", "1", "--days", "1"], 2, "not allowed with"),
        (["three.lic", "--jobs", "0"], 2, "number of processes"),
        (["three.lic", "--picture", "a.gif"], 1, "name a file that ends with .svg, .png, .pdf"),
        (["three.lic", "--picture", "no/a.svg"], 1, "there is no folder no"),
    ],
)
def test_a_wrong_question_is_answered_at_once(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", *arguments]) == status
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_without_matplotlib_it_says_so_before_it_simulates(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(simulate, "_simulate", None)  # not reached
    assert cli.main(["simulate", "three.lic", *SMALL, "--picture", "a.svg"]) == 1
    assert "pip install 'flexcore[pictures]'" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra [pictures] is not installed")
def test_a_picture_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "three.lic", *SMALL, "--picture", "a.svg"]) == 0
    assert "a.svg: the picture" in capsys.readouterr().out
    drawn = Path("a.svg").read_text()
    assert "Minutes without service a month" in drawn
    assert "recommended" in drawn
    assert "in the file" in drawn


def test_it_needs_no_extra_and_costs_the_other_commands_nothing() -> None:
    """The wheel without [trio], [testing] and [pictures] can simulate; --version imports none of it."""
    blocked = "import sys\nfor name in ('trio', 'pytest', 'pytest_trio', 'hypothesis', 'matplotlib', 'numpy'):\n"
    blocked += "    sys.modules[name] = None\nfrom flexcore_tools import cli\n"
    program = blocked + f"raise SystemExit(cli.main(['simulate', 'three.lic', *{SMALL!r}]))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 0, told.stderr
    assert "Recommended" in told.stdout
    program = "import sys\nfrom flexcore_tools import cli\ncli.main(['--version'])\n"
    program += "print([name for name in sys.modules if name.startswith('flexcore_testing')])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.splitlines()[-1] == "[]"
