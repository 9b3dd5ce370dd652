"""Lint: what is legal and still worth a look, each with its place and what to do."""

from __future__ import annotations

import datetime

import pytest

from flexcore import Severity, SigningKey, format_license, lint_license, parse_license, sign_license
from flexcore.licensefile.lint import format_problems
from flexcore.licensefile.vocabulary import IN_EFFECT, WITHOUT_EFFECT

TODAY = datetime.date(2026, 11, 24)
KEY = SigningKey("demo", bytes(range(32)))
TRIAD = """\
SERVER pat 17003456 2837 PRIMARY_IS_MASTER
SERVER lee 17004355 2837
SERVER terry 17007ea8 2837
VENDOR demo
FEATURE f1 demo 1.0 permanent 10
"""
SINGLE = "SERVER pat 17003456 2837\nVENDOR demo\n"


def problems_of(text: str, *, signed: bool = True):
    license = parse_license(text)
    if signed and license.features and not license.errors:
        license = sign_license(license, KEY)
    return lint_license(license, TODAY)


def found(text: str, code: str):
    """The one problem of this code."""
    problems = problems_of(text)
    for each in problems:  # every problem says where it is and what to do
        assert each.line > 0
        assert each.column > 0
        assert each.message
        assert each.advice or each.severity == "info"
    (problem,) = [problem for problem in problems if problem.code == code]
    return problem


def attribute(words: str, code: str):
    return found(f"{SINGLE}FEATURE f demo 1.0 permanent 5 {words}\n", code)


def test_a_good_file_has_no_problems():
    assert problems_of(TRIAD) == ()


def test_an_unsigned_line_is_an_info():
    (problem,) = problems_of(TRIAD, signed=False)
    assert (problem.code, problem.severity, problem.line) == ("unsigned", Severity.INFO, 5)


@pytest.mark.parametrize(
    ("old", "new", "code", "severity"),
    [
        ("17004355 2837", "17004355 2838", "ports-differ", "warning"),
        ("2837", "27001", "default-port", "info"),
        ("_MASTER", "_MASTER HEARTBEAT_INTERVAL=0", "interval-zero", "warning"),
        ("_MASTER", "_MASTER SERVER_TIMEOUT=9", "server-timeout", "info"),
        ("_MASTER", "_MASTER FAST", "server-word", "warning"),
        ("SERVER pat", "SERVER this_host", "placeholder-host", "warning"),
        ("SERVER pat", "SERVER localhost", "loopback-host", "warning"),
        ("17004355", "ANY", "hostid-any", "info"),
        ("17004355", "DEMO", "hostid-demo", "error"),
        ("17004355", "MATLAB_HOSTID=1", "hostid-kind", "warning"),
        ("17004355", "PUBKEY=00ff", "hostid-kind", "warning"),
        ("17004355", "12345-abcde", "hostid-kind", "warning"),
        ("17004355", "17003456", "same-hostid", "warning"),
        ("VENDOR demo", "VENDOR demo /opt/demo port=4000", "vendor-parts", "info"),
        ("VENDOR demo", "VENDOR demo\nThis licence was made for you.", "prose", "info"),
        ("VENDOR demo", "VENDOR demo\nUSE_SERVER now", "extra-words", "warning"),
    ],
)
def test_servers_and_vendors(old, new, code, severity):
    problem = found(TRIAD.replace(old, new), code)
    assert problem.severity == severity
    assert problem.line > 0
    assert problem.message


def test_an_options_file_on_the_vendor_line_is_used_and_not_told_to_be_without_effect():
    text = TRIAD.replace("VENDOR demo", "VENDOR demo /opt/demo options=demo.opt port=4000")
    assert found(text, "vendor-parts").message.startswith("the path and the port on the VENDOR line: read and kept")
    text = TRIAD.replace("VENDOR demo", "VENDOR demo options=demo.opt")
    assert "vendor-parts" not in [problem.code for problem in problems_of(text)]


def test_keywords_of_a_triad_on_a_single_server():
    assert (
        found("SERVER pat 1 2837 PRIMARY_IS_MASTER\nVENDOR demo\n", "single-server-keyword").line
        == 1
    )
    assert found("USE_SERVER\n", "use-server-alone").severity == "warning"
    late = "VENDOR demo\nFEATURE f demo 1 permanent 1\nSERVER pat 1 2837\n"
    assert found(late, "server-after-feature").line == 3


@pytest.mark.parametrize(
    ("words", "code", "severity"),
    [
        ("BORROW=often", "number", "warning"),
        ("MAX_BORROW_HOURS=5", "no-effect", "info"),
        ("TZ=x", "no-effect", "info"),
        ("DUP_GROUP=UX", "group", "warning"),
        ("DUP_GROUP=UV", "group-v", "info"),
        ("OVERDRAFT", "number", "warning"),
        ("USER_BASED=x", "number", "warning"),
        ("Sn=5", "unknown-keyword", "warning"),
        ("COLOUR=red", "unknown-keyword", "warning"),
        ("overdraft=100", "lower-case", "warning"),
        ("dup_group=UH", "lower-case", "warning"),
        ("asset_info", "lower-case", "warning"),
        ("sort=300", "sort", "warning"),
        ("COMPONENTS=x", "package-keyword", "warning"),
        ("SN=1 SN=2", "keyword-twice", "error"),
        ('"SN=1"', "stray-quoted", "warning"),
        ("0123456789AB", "legacy-key", "info"),
        ("HOSTID=DEMO", "hostid-demo", "error"),
        ("START=1-jan-2027", "not-found", ""),
        ("SN=1 ISSUED=1-jan-2026 VENDOR_STRING=x asset_info=x sort=7 ck=1", "not-found", ""),
    ],
)
def test_attributes(words, code, severity):
    if code == "not-found":
        assert problems_of(f"{SINGLE}FEATURE f demo 1.0 permanent 5 {words}\n") == ()
        return
    problem = attribute(words, code)
    assert problem.severity == severity
    assert problem.line == 3


@pytest.mark.parametrize(
    ("line", "text", "code", "column"),
    [
        (2, "SERVER lee 17004355 80", "port-range", 21),
        (2, "SERVER lee 17004355  PORT=80", "port-range", 22),
        (2, "SERVER lee 17004355 2838", "ports-differ", 21),
        (2, "SERVER lee 17003456 2837", "same-hostid", 12),
        (2, "SERVER lee ANY 2837", "hostid-any", 12),
        (2, "SERVER localhost 17004355 2837", "loopback-host", 8),
        (2, "SERVER lee 17004355 2837 PRIMARY_IS_MASTER", "not-first-server", 26),
        (2, "SERVER lee 17004355 2837 heartbeat_interval=9", "not-first-server", 26),
        (1, "SERVER pat 17003456 2837 HEARTBEAT_INTERVAL=121", "interval-range", 26),
        (1, "SERVER pat 17003456 2837 HEARTBEAT_INTERVAL=0", "interval-zero", 26),
        (5, "FEATURE f1 demo 1.0 1-jan-2018 10", "expired", 21),
        (5, "FEATURE a.b demo 1.0 permanent 10", "name", 9),
        (5, 'FEATURE f1 demo 1.0 permanent 10 SIGN="12 34"', "foreign-sign", 34),
        (5, "FEATURE f1 demo 1.0 permanent 10 0123456789AB", "legacy-key", 34),
        (5, 'FEATURE f1 demo 1.0 permanent 10 NOTICE="ab', "quote-not-closed", 41),
        (5, "FEATURE f1 demo 1.0 permanent 10 \\ # more", "backslash-at-end", 34),
        (5, "FEATURE f1 demo 1.0 permanent 10 NOTICE=a\x01", "control-character", 42),
        (5, "FEATURE f1 demo 1.0 permanent 10 TRUSTED_STORAGE=x", "trusted-storage", 34),
    ],
)
@pytest.mark.parametrize("indent", ["", "\t "])
def test_columns_point_at_the_word(line, text, code, column, indent):
    lines = TRIAD.splitlines()
    lines[line - 1] = indent + text
    problems = problems_of("\n".join(lines), signed=False)
    (problem,) = [problem for problem in problems if problem.code == code]
    assert (problem.line, problem.column) == (line, column + len(indent))


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing\n", "PK\u0003\u0004 an archive\n", "Dear customer,\n"]
)
def test_a_file_without_any_licence_line(text):
    assert found(text, "no-license-lines").line == 1
    assert found(SINGLE, "no-features").line == 1


def test_a_word_on_a_continuation_line_is_found_there():
    text = TRIAD.replace("17004355 2837", "17004355 \\\r\n   80")
    (problem,) = [each for each in problems_of(text) if each.code == "port-range"]
    assert (problem.line, problem.column) == (3, 4)


def test_two_servers_that_cannot_be_read_have_a_line_too():
    (problem,) = [each for each in problems_of("SERVER\nSERVER a\n") if each.code == "server-count"]
    assert (problem.line, problem.column) == (2, 1)


def test_columns_point_at_the_attribute():
    license = parse_license(f"{SINGLE}FEATURE f demo 1.0 permanent 5 \\\n\tSN=1 overdraft=100\n")
    (problem,) = [problem for problem in lint_license(license) if problem.code == "lower-case"]
    assert (problem.line, problem.column) == (4, 7)


def test_every_keyword_without_effect_is_said():
    for key, why in WITHOUT_EFFECT.items():
        assert attribute(f"{key}=1", "no-effect").message == f"{key} has no effect here: {why}"
    assert not IN_EFFECT & set(WITHOUT_EFFECT)


@pytest.mark.parametrize(
    "words", ["DUP_GROUP=SITE", "DUP_GROUP=uh", "USER_BASED", "HOST_BASED=3", "OVERDRAFT=2", "BORROW", "BORROW=48"]
)
def test_values_that_are_right(words):
    assert not {"group", "number", "no-effect"} & {
        problem.code for problem in problems_of(f"{SINGLE}FEATURE f demo 1.0 permanent 5 {words}\n")
    }


@pytest.mark.parametrize(
    ("expiry", "code"),
    [
        ("24-nov-2026", "expires-soon"),
        ("23-nov-2026", "expired"),
        ("24-dec-2026", "expires-soon"),
        ("25-dec-2026", ""),
        ("permanent", ""),
    ],
)
def test_expiry(expiry, code):
    problems = problems_of(f"{SINGLE}FEATURE f demo 1.0 {expiry} 5\n")
    assert [problem.code for problem in problems] == ([code] if code else [])
    assert lint_license(parse_license(TRIAD)) == lint_license(parse_license(TRIAD), TODAY)


def test_dates_that_cannot_be():
    assert (
        found(
            f"{SINGLE}FEATURE f demo 1.0 1-jan-2027 5 START=1-feb-2027\n", "start-after-expiry"
        ).severity
        == "error"
    )


def test_uncounted_lines_are_bound_to_machines():
    assert found("FEATURE f demo 1.0 permanent uncounted\n", "uncounted-hostid").severity == "error"
    good = "FEATURE f demo 1.0 permanent uncounted HOSTID=DEMO\n"
    assert [problem.code for problem in problems_of(good, signed=False)] == ["unsigned"]


def test_copies_and_second_features_name_the_first():
    text = (
        f"{TRIAD}FEATURE f1 demo 1.0 permanent 10 ck=1\nFEATURE f1 demo 2.0 permanent 10\n"
        "INCREMENT f1 demo 1.0 permanent 10\n"
    )
    problems = {problem.code: problem for problem in problems_of(text, signed=False)}
    assert problems["copy"].line == 6
    assert "line 5" in problems["copy"].message
    assert problems["second-feature"].line == 7
    assert "INCREMENT" in problems["second-feature"].advice


def test_packages_and_upgrades():
    package = f'{TRIAD}PACKAGE kit demo 1.0 COMPONENTS="a b"\n'
    assert found(package, "package-alone").severity == "warning"
    assert "package-alone" not in [
        p.code for p in problems_of(package + "INCREMENT kit demo 1.0 permanent 1\n")
    ]
    assert (
        found(f"{TRIAD}UPGRADE f1 demo 1.5 2.0 permanent 1\n", "upgrade-alone").severity
        == "warning"
    )
    assert "upgrade-alone" not in [
        p.code for p in problems_of(f"{TRIAD}UPGRADE f1 demo 1.0 2.0 permanent 1\n")
    ]
    for bad in (
        'COMPONENTS=""',
        "OPTIONS=SUITE",
        'COMPONENTS="a:x"',
        'COMPONENTS="a:1:2" OPTIONS=SUITE',
        'COMPONENTS=":1"',
    ):
        assert found(f"{TRIAD}PACKAGE kit demo 1.0 {bad}\n", "components").severity == "error"


def test_names_that_readers_of_lmstat_cannot_see():
    assert found(f"{SINGLE}FEATURE a/b demo 1.0 permanent 5\n", "name").severity == "info"
    assert found(f"{SINGLE}FEATURE {'x' * 31} demo 1.0 permanent 5\n", "name").severity == "info"


def test_a_value_of_another_system():
    problems = problems_of(
        f'{SINGLE}FEATURE f demo 1.0 permanent 5 SIGN="003E 53D1"\n', signed=False
    )
    assert [problem.code for problem in problems] == ["foreign-sign"]


def test_a_file_without_features():
    assert found(SINGLE, "no-features").severity == "warning"
    broken = problems_of(f"{SINGLE}FEATURE f demo\n")
    assert [problem.code for problem in broken] == ["missing-field"]


def test_printing_problems_as_compilers_do():
    text = f"{SINGLE}FEATURE f demo 1.0 99-jan-2026 5\nPACKAGE\n"
    printed = format_problems(problems_of(text), "demo.lic")
    first, second = printed.splitlines()
    assert first.startswith("demo.lic:3:20: error: '99-jan-2026'")
    assert second.startswith("demo.lic:4:1: error: the name is missing")
    assert format_license(parse_license(text)) == text


def test_superseded_lines_and_those_that_supersede_nothing():
    old = f"{SINGLE}INCREMENT f demo 1.0 permanent 5\n"
    new = "INCREMENT f demo 1.0 permanent 5 SUPERSEDE"
    assert found(f"{old}{new} ISSUED=1-jan-2026\n", "superseded").line == 3
    assert found(f"{old}{new}\n", "supersede-date").severity == "warning"
