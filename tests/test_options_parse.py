"""Options files: reading and printing them, and what is said of what cannot be read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexcore import LicenseTooLarge, Severity, parse_license
from flexcore.options import (
    AccessRule,
    CountRule,
    FeatureNumber,
    FeatureSpec,
    Group,
    OptionsFile,
    Setting,
    Subject,
    SubjectType,
    echo_lines,
    format_options,
    format_rule,
    lint_options,
    parse_options,
)
from flexcore.options import parser as parser_module
from flexcore.options.rules import Rule
from flexcore.options.vocabulary import KEYWORDS, Shape

LICENSE = parse_license(
    "SERVER elm ANY 27000\nVENDOR demo\n"
    "FEATURE f1 demo 2.0 permanent 5 SIGN=1\nINCREMENT f1 demo 1.0 permanent 3 SIGN=2\n"
    "FEATURE f2 demo 1.0 permanent 2 BORROW=48 SIGN=3\n"
    "FEATURE f3 demo 1.0 permanent uncounted HOSTID=ANY SIGN=4\n"
)


def printed(text: str | bytes) -> list[str]:
    return [format_rule(rule) for rule in parse_options(text).rules]


def told(text: str) -> list[str]:
    """``line:column severity code`` of each problem."""
    return [f"{p.line}:{p.column} {p.severity} {p.code}" for p in parse_options(text).problems]


def linted(text: str) -> list[str]:
    options = parse_options(text, name="demo.opt")
    return [
        f"{p.line}:{p.column} {p.severity} {p.code}"
        for p in lint_options(options, LICENSE)
        if p.code not in ("no-effect", "unused-group")
    ]


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("INCLUDE f1 USER ann", ["INCLUDE f1 USER ann"]),
        ("\ufeffexclude\tf1   user\tann   # away", ["EXCLUDE f1 USER ann"]),
        ("INCLUDEALL USER jane\r\nEXCLUDEALL HOST 10.0.0.*", ["INCLUDEALL USER jane", "EXCLUDEALL HOST 10.0.0.*"]),
        ("RESERVE 1 f1:VERSION=2.0 USER ann", ['RESERVE 1 "f1:VERSION=2.0" USER ann']),
        ('MAX 1 "f1 VERSION=2.0" USER ann', ['MAX 1 "f1:VERSION=2.0" USER ann']),
        ('MAX 1 f1:VENDOR_STRING="a  b" USER ann', ['MAX 1 "f1:VENDOR_STRING=a b" USER ann']),
        ('MAX 1 f1:vendor_string=“a b” USER “John Smith”', ['MAX 1 "f1:VENDOR_STRING=a b" USER "John Smith"']),
        ("GROUP dev ann, bob,carl \\\n  dora \\  # and\n  'eve'", ['GROUP dev ann bob carl dora "\'eve\'"']),
        ('GROUP dev "a, b" c', ['GROUP dev "a, b" c']),
        ("HOST_GROUP lab elm 10.0.*.* 2001:db8::*", ["HOST_GROUP lab elm 10.0.*.* \"2001:db8::*\""]),
        ("GROUP nobody", ["GROUP nobody"]),
        ("EXCLUDE f1 USER John Smith", ['EXCLUDE f1 USER "John Smith"']),
        ("REPORTLOG +C:\\logs\\\nNOLOG IN", ['REPORTLOG "+C:\\logs\\"', "NOLOG IN"]),
        ('DEBUGLOG "+/var/log/my demo.log"', ['DEBUGLOG "+/var/log/my demo.log"']),
        ("NOLOG in out", ["NOLOG IN", "NOLOG OUT"]),
        ("AUTOMATIC_REREAD", ["AUTOMATIC_REREAD ON"]),
        ("TIMEOUTALL 60\nTIMEOUT f1 0", ["TIMEOUTALL 900", "TIMEOUT f1 0"]),
        ("MAX_CONNECTIONS 0100", ["MAX_CONNECTIONS 100"]),
        ("# only\n\n   \n\\\n", []),
        ("EXCLUDE f1 USER m\xfcller".encode("latin-1"), ['EXCLUDE f1 USER "m\xfcller"']),
        ("INCLUDE <Toolbox_Name> USER x", ['INCLUDE "<Toolbox_Name>" USER x']),
        ("EXCLUDE f1 USER dom\\ann", ['EXCLUDE f1 USER "dom\\ann"']),
        ("EXCLUDE f1 USER a#b", ['EXCLUDE f1 USER "a#b"']),
    ],
)  # fmt: skip
def test_what_lines_say(text: str | bytes, rules: list[str]) -> None:
    assert printed(text) == rules


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\n  FOO bar", "2:3 warning unknown-keyword"),
        ("HEARTBEAT_INTERVAL=30", "1:1 warning redundancy"),
        ("PRIMARY_IS_MASTER", "1:1 warning redundancy"),
        ("INCLUDE f1 USER", "1:1 error too-few-words"),
        ("INCLUDE f1 USR ann", "1:12 error unknown-type"),
        ("INCLUDE f1 USER \\\n  \"\"", "2:3 error no-name"),
        ("MAX ten f1 USER ann", "1:5 error not-a-number"),
        ("MAX -1 f1 USER ann", "1:5 error not-a-number"),
        ("MAX 99999999999 f1 USER ann", "1:5 error not-a-number"),
        ("TIMEOUT f1 899", "1:12 warning timeout-too-short"),
        ("TIMEOUT f1 900 1", "1:16 warning too-many-words"),
        ("EXCLUDE f1:2.0 USER ann", "1:9 error bad-specification"),
        ('EXCLUDE f1 USER "ann', "1:17 error quote-not-closed"),
        ('EXCLUDE f1 USER an"n', "1:19 warning stray-quote"),
        ("EXCLUDE f1 USER “ann”", "1:17 info curly-quotes"),
        ("EXCLUDE f1 USER John Smith", "1:22 warning name-with-blanks"),
        ("GROUP dev ann \\", "1:15 warning backslash-at-end"),
        ("GROUP dev", "1:7 warning empty-group"),
        ("NOLOG ALL", "1:7 error unknown-word"),
        ("GROUPCASEINSENSITIVE", "1:1 error too-few-words"),
        ("GROUP " + "x" * 1025, "1:7 error word-too-long"),
        ("GROUP g " + "ann " * 40_000, "1:1 error line-too-long"),
    ],
)
def test_problems_have_a_place(text: str, problem: str) -> None:
    assert told(text) == [problem]
    said = parse_options(text).problems[0]
    assert said.message
    assert said.advice


def test_all_problems_are_told_together_and_the_rest_is_read() -> None:
    options = parse_options("FOO\nMAX x f1 USER a\nEXCLUDE f1 USER ann\nINCLUDE\n", name="demo.opt")
    assert [p.line for p in options.problems] == [1, 2, 4]
    assert [options.where(rule) for rule in options.rules] == ["demo.opt:3: EXCLUDE f1 USER ann"]
    assert len(options.errors) == 2


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    many = parse_options("FOO\n" * 3_000)
    assert len(many.problems) == parser_module.PROBLEMS_MAX + 1
    assert many.problems[-1].message == "2000 more problems are not shown"
    monkeypatch.setattr(parser_module, "RULES_MAX", 3)
    with pytest.raises(LicenseTooLarge):
        parse_options("GROUP g a\n" * 4)
    monkeypatch.setattr(parser_module, "OPTIONS_SIZE_MAX", 10)
    with pytest.raises(LicenseTooLarge):
        parse_options("GROUP g a b c d e f")


def test_settings_and_groups() -> None:
    options = parse_options(
        "GROUP g ann\nGROUP g bob ann\nHOST_GROUP g elm\nGROUPCASEINSENSITIVE on\n"
        "FQDN_MATCHING EXACT\nAUTOMATIC_REREAD off\nNOLOG IN\nNOLOG OUT\nDEBUGLOG a\nDEBUGLOG b\n"
    )
    assert options.groups("GROUP") == {"g": ("ann", "bob")}
    assert options.groups("HOST_GROUP") == {"g": ("elm",)}
    assert options.groups_ignore_case
    assert options.matches_full_names
    assert not options.rereads_by_itself
    assert options.unlogged == {"IN", "OUT"}
    assert options.setting("DEBUGLOG") == "b"
    assert not OptionsFile().rereads_by_itself
    assert parse_options("AUTOMATIC_REREAD").rereads_by_itself


def test_the_log_repeats_what_it_read() -> None:
    options = parse_options(
        "RESERVE 2 f1 GROUP dev\nINCLUDE_BORROW f1 GROUP dev\nEXCLUDEALL USER ann\n"
        "TIMEOUTALL 3600\nTIMEOUT f2 1800\nFOO\nNOLOG IN\n", name="demo.opt",
    )  # fmt: skip
    assert echo_lines(options) == [
        "RESERVING 2 f1 licenses for USER_GROUP dev",
        "INCLUDE_BORROW USER_GROUP dev in f1",
        "EXCLUDE USER ann in ALL FEATURES",
        "ALL FEATURES: INACTIVITY TIMEOUT set to 3600 seconds",
        "f2: INACTIVITY TIMEOUT set to 1800 seconds",
        "WARNING: demo.opt:6:1: warning: there is no option 'FOO'; the line is ignored; take it out",
    ]
    assert len(echo_lines(parse_options("EXCLUDEALL USER a\n" * 500))) == 201


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("EXCLUDE f1 USER ann\nRESERVE 8 f1 USER bob\nMAX 7 f1 HOST elm", []),
        ("EXCLUDE F1 USER ann", ["1:1 warning unknown-feature"]),
        ("EXCLUDE f1:VERSION=3.0 USER ann", ["1:1 warning unknown-pool"]),
        ("EXCLUDE f1:VERSION=2.00 USER ann", []),
        ("EXCLUDE f1 GROUP dev", ["1:1 error unknown-group"]),
        ("HOST_GROUP dev elm\nEXCLUDE f1 GROUP dev", ["2:1 error unknown-group"]),
        ("EXCLUDE f1 INTERNET elm", ["1:1 error bad-address"]),
        ("EXCLUDE f1 USER ann\nINCLUDE f1 USER ann", ["2:1 warning shadowed"]),
        ("EXCLUDEALL USER a*\nINCLUDEALL USER ann", ["2:1 warning shadowed"]),
        ("EXCLUDE f1:VERSION=1.0 USER ann\nINCLUDE f1 USER ann", []),
        ("GROUP d ann\nEXCLUDE f1 GROUP d\nRESERVE 1 f1 USER ann", ["3:1 warning shadowed"]),
        ("GROUP d ann bob\nEXCLUDE f1 USER bob\nINCLUDE f1 GROUP d", []),
        ("GROUP d ann bob\nEXCLUDE f1 USER ?*\nINCLUDE f1 GROUP d", ["3:1 warning shadowed"]),
        ("EXCLUDE f1 HOST 10.0.*\nINCLUDE f1 HOST 10.0.0.1", ["2:1 warning shadowed"]),
        ("EXCLUDE_BORROW f2 USER ann\nINCLUDE f2 USER ann", []),
        ("EXCLUDE f2 USER ann\nINCLUDE_BORROW f2 USER ann", ["2:1 warning shadowed"]),
        ("RESERVE 6 f1 USER a\nRESERVE 3 f1 USER b", ["2:1 warning reserved-beyond-count"]),
        ("RESERVE 4 f1:VERSION=1.0 USER a", ["1:1 warning reserved-beyond-count"]),
        ("RESERVE 1 f3 USER a", ["1:1 warning reserve-uncounted"]),
        ("MAX 8 f1 USER a", ["1:1 info max-without-effect"]),
        ("MAX_BORROW_HOURS f2 48\nMAX_BORROW_HOURS f2 24", ["1:1 warning max-without-effect", "1:1 warning overruled"]),
        ("BORROW_LOWWATER f1 1", ["1:1 warning no-such-right"]),
        ("EXCLUDE f1 USER ann\nEXCLUDE f1 USER ann", ["2:1 info said-before"]),
    ],
)  # fmt: skip
def test_lint_compares_with_the_licence(text: str, problems: list[str]) -> None:
    assert linted(text) == problems


def test_lint_names_what_has_no_effect() -> None:
    options = parse_options("GROUP g a\nEXCLUDE_ENTITLEMENT x USER a\n")
    said = [(p.line, p.code) for p in lint_options(options, LICENSE)]
    assert (1, "unused-group") in said
    assert (2, "no-effect") in said


# --- properties -------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *KEYWORDS,
        *("USER", "GROUP", "HOST", "f1", "ann", "2", "900", "f1:VERSION=2.0", "f1:", "K=v", "*", ":", "="),
        *(" ", "  ", "\t", "\n", "\r\n", "\r", "\\\n", "\\", " \\ \n", "\\ # c\n", "\xa0", "\ufeff", "\x00"),
        *('"', "“", "”", "\x93", "#", " #", ",", "+", "\x85", "\u2028", "\ud800"),
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=60)


@given(TEXTS)
@example('DEBUGLOG "\n')
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    with contextlib.suppress(LicenseTooLarge):
        options = parse_options(text)
        lint_options(options, LICENSE)
        echo_lines(options)
        for problem in options.problems:
            assert 1 <= problem.line <= text.count("\n") + text.count("\r") + 1
            assert problem.column >= 1


@given(st.binary(max_size=60))
def test_any_bytes_are_read(data: bytes) -> None:
    parse_options(data)


@given(TEXTS)
def test_what_was_read_prints_and_reads_again(text: str) -> None:
    options = parse_options(text)
    again = parse_options(format_options(options))
    assert again.rules == options.rules
    assert not again.errors


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters='"“”„‟″\x93\x94\r\n\t\f\v\xa0 :='), min_size=1, max_size=8
)
SUBJECTS = st.builds(Subject, st.sampled_from(SubjectType), NAMES)
SPECS = NAMES.map(FeatureSpec) | st.builds(FeatureSpec, NAMES, st.sampled_from(["VERSION", "SIGN"]), NAMES)
NUMBERS = st.integers(900, 10**9)


def keywords(*shapes: Shape) -> st.SearchStrategy[str]:
    return st.sampled_from([k.name for k in KEYWORDS.values() if k.shape in shapes])


RULES: st.SearchStrategy[Rule] = st.one_of(
    st.builds(AccessRule, keyword=keywords(Shape.ACCESS), feature=SPECS, subject=SUBJECTS),
    st.builds(AccessRule, keyword=keywords(Shape.ACCESS_ALL), feature=st.none(), subject=SUBJECTS),
    st.builds(CountRule, keyword=keywords(Shape.COUNT), number=NUMBERS, feature=SPECS, subject=SUBJECTS),
    st.builds(FeatureNumber, keyword=keywords(Shape.FEATURE_NUMBER), feature=SPECS, number=NUMBERS),
    st.builds(Group, keyword=keywords(Shape.GROUP), name=NAMES, members=st.lists(NAMES, max_size=3).map(tuple)),
    st.builds(Setting, keyword=keywords(Shape.PATH), value=NAMES.filter(lambda name: name != "+")),
    st.builds(Setting, keyword=keywords(Shape.NUMBER), value=NUMBERS.map(str)),
)


@given(st.lists(RULES, max_size=5).map(tuple))
def test_what_is_printed_reads_again(rules: tuple[Rule, ...]) -> None:
    options = parse_options(format_options(OptionsFile(rules=rules)))
    assert options.rules == rules
    assert not options.errors


def test_severities_are_those_of_licence_files() -> None:
    assert {p.severity for p in parse_options("FOO\nMAX\n").problems} == {Severity.WARNING, Severity.ERROR}
