"""``flexcore usage`` on the example's month, and on logs that are not whole."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from flexcore.report.reportlog import ReportChain
from flexcore_testing import example_logs
from flexcore_tools import _usage_answer, cli

LICENSE = """\
SERVER pat 17003456 2837
VENDOR demo
FEATURE solver demo 1.0 31-dec-2036 6 SIGN="0"
FEATURE mesher demo 1.0 permanent 4 SIGN="0"
FEATURE viewer demo 1.0 1-jan-2021 12 SIGN="0"
"""
BERLIN = ("--timezone", "Europe/Berlin")


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    folder = tmp_path_factory.mktemp("month")
    (folder / "demo.lic").write_text(LICENSE)
    return folder, [str(path) for path in example_logs.write(folder, 28)]


@pytest.fixture
def run(month, capsys):
    """Run the command on the month; returns (status, stdout, stderr)."""

    def run(*arguments, logs=None):
        status = cli.main(["usage", *(month[1] if logs is None else logs), *map(str, arguments)])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_the_table(run, month):
    status, out, err = run(*BERLIN, "--license", month[0] / "demo.lic", "--expiring", "100000")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Use of licences, 2026-10-05 00:00 to 2026-11-01 11:50 (Europe/Berlin), 27.5 days"
    assert lines[1].endswith("records: nothing is missing")
    assert re.search(r"^solver +6 +6 +2026-10-05 12:02 +5 +1\.1 ", out, re.MULTILINE)
    assert re.search(r"^solver +-4 +\d+ +\d+ +2026-10-\d\d  Licensed number of users already", out, re.MULTILINE)
    assert re.search(r"^viewer +1\.0 +12 +1-jan-2021 +expired$", out, re.MULTILINE)
    assert max(map(len, lines)) <= 110


def test_json_and_csv_tell_the_same(run, month):
    log = month[1][1:2]
    usual = (*BERLIN, "--license", month[0] / "demo.lic", "--expiring", "100000")
    _, out, _ = run("--json", *usual, logs=log)
    told = json.loads(out)
    assert (told["schema"], told["whole"], told["by"]) == (1, True, "user")
    assert told["from"] == "2026-10-05T00:00:00+02:00"
    assert told["to"].endswith("+01:00"), "clocks have gone back"
    for table, columns in _usage_answer.TABLES.items():
        status, out, _ = run("--csv", table, *usual, logs=log)
        assert status == 0
        rows = list(csv.DictReader(io.StringIO(out)))
        assert rows
        names = ["user" if each == "by" else each for each in columns]
        assert [list(row) for row in told[table]] == [names] * len(rows)
        for row, wanted in zip(rows, told[table], strict=True):
            assert row == {name: "" if value is None else str(value) for name, value in wanted.items()}
    for feature in told["features"]:
        name = feature["feature"]
        whole = pytest.approx(feature["licence_hours"], abs=0.001)
        assert sum(row["licence_hours"] for row in told["hours"] if row["feature"] == name) == whole
        assert sum(row["licence_hours"] for row in told["days"] if row["feature"] == name) == whole
        assert sum(row["in_use"] * row["hours"] for row in told["levels"] if row["feature"] == name) == whole
        assert sum(row["average"] * row["observed_hours"] for row in told["week"] if row["feature"] == name) == whole


def test_a_period_and_one_feature(run):
    _, out, _ = run("--json", *BERLIN, "--from", "2026-10-25", "--to", "2026-10-25", "--feature", "solver")
    told = json.loads(out)
    assert (told["from"], told["to"]) == ("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00")
    assert told["seconds"] == 25 * 3600, "the day on which clocks go back"
    assert {row["feature"] for row in told["features"]} <= {"solver"}
    assert sum(row["observed_hours"] for row in told["week"]) == 25
    _, out, _ = run("--json", "--from", "2026-10-05T08:00+02:00", "--to", "2026-10-05T09:30+02:00", "--timezone", "UTC")
    assert json.loads(out)["seconds"] == 5400
    status, out, _ = run("--from", "2030-01-01", "--timezone", "UTC")
    assert status == 0
    assert "No licence was used or denied in this period." in out


def test_by_project_host_and_group(run, month):
    def names(*arguments):
        _, out, _ = run("--json", *arguments, logs=month[1][1:2])
        told = json.loads(out)
        return {row[told["by"]] for row in told["hours"]}


    assert names("--by", "project") == {"site-a", "site-b", "site-c", "cfd"}
    assert "ann-pc" in names("--by", "host")
    options = month[0] / "demo.opt"
    options.write_text("GROUPCASEINSENSITIVE ON\nGROUP early ANN b*\nGROUP both ann\n")
    assert names("--by", "group", "--options", options) == {"early", "both", "(none)"}


def test_pictures(run, month, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ("--license", month[0] / "demo.lic", *BERLIN, "--to", "2026-10-08", "--feature", "solver")
    status, out, _ = run("--pictures", tmp_path / "a", *arguments)
    assert status == 0
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"peaks.svg", "hours-by-user.svg", "denials.svg", "use-solver.svg", "week-solver.svg"}
    assert str(tmp_path / "a" / "use-solver.svg") in out
    text = (tmp_path / "a" / "use-solver.svg").read_text()
    for words in ("solver: licences in use by day", "2026-10-05 00:00 to 2026-10-09 00:00, Europe/Berlin", "issued: 6"):
        assert words in text


def test_names_of_features_make_file_names():
    from flexcore_tools._usage_pictures import _file_name

    taken: set[str] = set()
    names = [_file_name(name, taken) for name in ("a/b", "a b", "A_B", "..", "../../x", "x" * 300)]
    assert names == ["a_b", "a_b-2", "A_B-3", "feature", "_.._x", "x" * 80]


def test_a_formula_stays_text():
    assert [_usage_answer._cell(name) for name in ("=1+1", "@x", "-", "ann", 4)] == ["'=1+1", "'@x", "-", "ann", 4]


@pytest.fixture
def hurt(month, tmp_path):
    """Make copies of the logs, with one changed by *how*."""

    def hurt(how, every=False):
        paths = []
        for number, name in enumerate(month[1]):
            path = tmp_path / f"{number}.log"
            lines = Path(name).read_text().splitlines()
            path.write_text("".join(f"{line}\n" for line in (how(lines) if every or number == 2 else lines)))
            paths.append(str(path))
        return paths

    return hurt


@pytest.mark.parametrize(
    ("how", "every", "words"),
    [
        (lambda lines: lines[:50] + lines[51:], False, "lines 51 to 51 of the log are missing"),
        (lambda lines: [*lines[:50], lines[50].replace("user", "User"), *lines[51:]], False, "was changed"),
        (lambda lines: [*lines[:50], lines[50][:40]], False, "changed or cut off"),
        (lambda lines: lines[50:], False, "not with a start"),
        (lambda lines: [], False, "there is nothing in this file"),
        (lambda lines: lines[:50] + lines[60:], True, "MISSING: entries"),
    ],
)
def test_logs_that_are_not_whole_are_named_and_refused(run, hurt, how, every, words):
    logs = hurt(how, every)
    status, out, err = run(logs=logs)
    assert (status, out) == (1, "")
    assert words in err
    assert "--anyway" in err
    status, out, err = run("--anyway", "--json", logs=logs)
    assert status == 1
    assert words in err
    told = json.loads(out)
    assert told["whole"] is False
    assert words in "\n".join(told["faults"])
    assert told["features"]


def test_logs_that_begin_late_say_so(run, month):
    lines = Path(month[1][1]).read_text().splitlines()
    chain, late = ReportChain(), []
    for record in map(json.loads, [lines[0], *lines[200:]]):
        rest = {name: value for name, value in record.items()
                if name not in ("n", "kind", "term", "index", "at", "triad", "hash")}  # fmt: skip
        kind, term, index, at, triad = (record[name] for name in ("kind", "term", "index", "at", "triad"))
        late.append(chain.line(kind, term, index, at, triad, rest))
    path = month[0] / "late.log"
    path.write_text("".join(f"{line}\n" for line in late))
    status, out, _ = run(logs=[str(path)])
    assert status == 0
    assert re.search(r"The logs begin with entry \d+: .* \(\d+ checkouts were given back that had begun before\)", out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "yesterday"], "write 2026-11-02 or"), (["--timezone", "Mars"], "no time zone 'Mars'"),
        (["--from", "2026-10-06", "--to", "2026-10-05"], "is not before"), (["--by", "group"], "--options FILE"),
        (["--options", "x.opt"], "--by group"), (["--license", "/nowhere.lic"], "/nowhere.lic"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_says_why(run, arguments, words):
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert words in err


def test_a_log_that_is_not_there_is_an_error_before_anything_is_read(run, month):
    status, out, err = run(logs=[month[1][0], "/nowhere.log"])
    assert (status, out) == (1, "")
    assert "/nowhere.log" in err
