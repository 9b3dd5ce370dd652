"""The files that the model's triad is given: drawn by Hypothesis, and written as publishers and administrators do.

Small on purpose: a rule matters only where people are few, seats are fewer, and two of them mean the same pool.
"""

from __future__ import annotations

import datetime
from typing import Any

import attrs
from hypothesis import strategies as st

from flexcore.licensefile import LicenseFile
from flexcore.options import OptionsFile, parse_options
from flexcore.options.rules import FeatureNumber, Rule, Setting
from flexcore_testing.licences import signed, triad_text
from tests.slow_pools import DEVELOPERS, Line, Option, Who

FEATURES = ("f1", "f2")
Files = tuple[tuple[Line, ...], tuple[Option, ...]]
"""A licence file's lines, and an options file's."""
USERS = tuple(Who(user, host) for user in ("ann", "bob", "carl") for host in ("elm", "oak"))
FIRST_DAY = 20_000
IDLE_S = 20
"""What TIMEOUT and TIMEOUTALL say here. 900 seconds are the least in a file, and too long to simulate so often."""
_IDLE_WRITTEN_S = 900

lines = st.builds(
    Line,
    kind=st.sampled_from(("INCREMENT", "INCREMENT", "FEATURE")),
    feature=st.sampled_from(("f1", "f1", "f2")),
    version=st.sampled_from((1, 1, 2)),
    count=st.sampled_from((1, 2, 2, 3)),
    expiry=st.sampled_from((None, None, None, None, 0, 1, 2)),
    start=st.sampled_from((None, None, None, None, 1, 2)),
    host=st.sampled_from(("", "", "", "", "elm")),
    dup=st.sampled_from(("", "", "", "U", "U", "UH", "SITE")),
    overdraft=st.sampled_from((0, 0, 0, 1)),
    vendor_string=st.sampled_from(("", "", "", "x")),
    linger=st.sampled_from((0, 0, 40)),
    borrow=st.sampled_from((0, 48, 48)),
)
uncounted_lines = st.builds(
    lambda kind, feature, version, host: Line(kind, feature, version, 0, host=host),
    st.sampled_from(("FEATURE", "INCREMENT")), st.sampled_from(FEATURES), st.sampled_from((1, 2)),
    st.sampled_from(("elm", "oak")),
)  # fmt: skip
_few_lines = st.lists(lines | lines | lines | lines | uncounted_lines, min_size=1, max_size=3, unique=True).map(tuple)
_twins = st.builds(
    lambda line, count, expiry, start: (line, line._replace(kind="INCREMENT", count=count, expiry=expiry, start=start)),
    lines, st.sampled_from((1, 2)), st.sampled_from((0, 1, None)), st.sampled_from((None, None, 1)),
).filter(lambda pair: pair[0] != pair[1])  # fmt: skip
"""Two lines of one pool, of which one ends sooner."""
licences = _few_lines | _few_lines | _twins
people = st.sampled_from((("USER", "ann"), ("USER", "carl"), ("HOST", "elm"), ("GROUP", "dev"), ("GROUP", "dev")))
_features = st.sampled_from(("f1", "f1", "f2"))
_keys = st.sampled_from(("", "", "", "x"))
access = st.builds(
    lambda what, feature, key, who: (
        Option(what, "" if what.endswith("ALL") else feature, "" if what.endswith("ALL") else key, who[0], who[1])
    ),
    st.sampled_from(("EXCLUDE", "INCLUDE", "EXCLUDE", "INCLUDE", "EXCLUDEALL", "INCLUDEALL",
                     "EXCLUDE_BORROW", "INCLUDE_BORROW")),
    _features, _keys, people,
)  # fmt: skip
counts = st.builds(
    lambda what, feature, key, who, number: Option(what, feature, key, who[0], who[1], number),
    st.sampled_from(("MAX", "RESERVE", "RESERVE")), _features, _keys, people, st.sampled_from((1, 1, 2)),
)  # fmt: skip
numbers = st.builds(
    lambda what, feature, key: Option(what[0], "" if what[0].endswith("ALL") else feature, key, number=what[1]),
    st.sampled_from((("LINGER", 40), ("LINGER", 60), ("TIMEOUT", IDLE_S), ("MAX_OVERDRAFT", 0),
                     ("MAX_BORROW_HOURS", 2), ("BORROW_LOWWATER", 1))),
    _features, _keys,
) | st.just(Option("TIMEOUTALL", "", number=IDLE_S))  # fmt: skip
_rules = st.lists(counts | access | counts | numbers, min_size=1, max_size=3, unique=True).map(tuple)
_rivals = st.builds(
    lambda rule, who, number: (rule, rule._replace(type=who[0], name=who[1], number=number)),
    counts, people, st.sampled_from((1, 1, 2)),
).filter(lambda pair: pair[0] != pair[1])  # fmt: skip
"""One rule twice, for different people."""
_conflicts = st.builds(
    lambda all_of_them, let_in, shut_out: tuple(
        Option(f"{what}{'ALL' if all_of_them else ''}", "" if all_of_them else "f1", "", *who)
        for what, who in (("INCLUDE", let_in), ("EXCLUDE", shut_out))
    ),
    st.sampled_from((False, False, True)), st.sampled_from((("GROUP", "dev"), ("HOST", "elm"))),
    st.sampled_from((("GROUP", "dev"), ("USER", "ann"), ("HOST", "elm"))),
)  # fmt: skip
"""Somebody is let in by one line and shut out by another."""
options = _rules | _rules | _rivals | _conflicts | st.just(())
_small = st.sampled_from((1, 2, 2, 3))
_few = st.sampled_from((1, 1, 2))


def _numbers(*rules: tuple[str, int]) -> st.SearchStrategy[tuple[Option, ...]]:
    return st.lists(st.sampled_from([Option(what, "f1", number=number) for what, number in rules]),
                    min_size=1, max_size=2, unique=True).map(tuple)  # fmt: skip


def _rule(what: str) -> st.SearchStrategy[tuple[Option, ...]]:
    return st.builds(lambda who, number: (Option(what, "f1", "", who[0], who[1], number),), people, _few)


def _both(first: st.SearchStrategy[Files], *more: st.SearchStrategy[tuple[Option, ...]]) -> st.SearchStrategy[Files]:
    return st.builds(lambda files, *rules: (files[0], sum(rules, files[1])), first, *more)


def _lines(*made: st.SearchStrategy[Line]) -> st.SearchStrategy[Files]:
    return st.tuples(*made).map(lambda some: (tuple(dict.fromkeys(some)), ()))


def _of_f1(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Line]:
    return st.fixed_dictionaries(fields).map(lambda drawn: Line("INCREMENT", "f1", **drawn))


_one, _two = st.just(1), st.just(2)
_old = _of_f1(version=_one, count=_small)
_plenty = _of_f1(version=_one, count=st.sampled_from((3, 4)))
_new = _of_f1(version=_two, count=_small)
_ending = _of_f1(version=_one, count=_few, expiry=st.just(0))
_spare = _of_f1(version=_two, count=_two, overdraft=_one)
_shared = _of_f1(version=_one, count=_small, dup=st.sampled_from(("U", "SITE")))
_lent = _of_f1(version=_one, count=_small, borrow=st.just(48))
_stays = _of_f1(version=_one, count=_few, linger=st.just(40))
themes = st.one_of(
    _both(_lines(_new, _stays), st.just(()) | _rule("MAX")),
    _both(_lines(_old, _ending), _rule("RESERVE"), _rule("RESERVE")),
    _both(_lines(_spare, _old), _rule("RESERVE"), _numbers(("MAX_OVERDRAFT", 0))),
    _lines(_shared, _new) | _lines(_shared),
    _both(_lines(_plenty), _rule("MAX"), _rule("MAX") | _rule("RESERVE")),
    _both(_lines(_plenty), st.just(()) | _rule("RESERVE") | _rule("INCLUDE")),
    _both(_lines(_plenty), _conflicts),
    _both(_lines(_lent), _rule("EXCLUDE_BORROW") | _rule("INCLUDE_BORROW")
          | _numbers(("MAX_BORROW_HOURS", 2), ("BORROW_LOWWATER", 1))),
    _both(_lines(_old), _numbers(("LINGER", 40), ("TIMEOUT", IDLE_S))),
)  # fmt: skip
"""Files in which two rules meet: pools to choose from, seats that are reserved and end, who shares, who waits."""
first_files = themes | themes | st.tuples(licences, options)
users = st.sampled_from((Who("ann", "elm"), Who("bob", "elm"), *USERS))


def line_text(line: Line) -> str:
    """The line as a publisher writes it."""

    def date(day: int) -> str:
        return (datetime.date(1970, 1, 1) + datetime.timedelta(FIRST_DAY + day)).strftime("%d-%b-%Y").lower()

    words = [line.kind, line.feature, "demo", f"{line.version}.0"]
    words += ["permanent" if line.expiry is None else date(line.expiry), str(line.count or "uncounted")]
    words += [f"HOSTID=HOSTNAME={line.host}"] * bool(line.host)
    words += [f"DUP_GROUP={line.dup}"] * bool(line.dup)
    words += [f"OVERDRAFT={line.overdraft}"] * bool(line.overdraft)
    words += [f"VENDOR_STRING={line.vendor_string}"] * bool(line.vendor_string)
    words += [f"LINGER={line.linger}"] * bool(line.linger)
    words += [f"BORROW={line.borrow}"] * bool(line.borrow)
    words += [f"START={date(line.start)}"] if line.start is not None else []
    return " ".join(words)


def option_text(option: Option) -> str:
    """The rule as an administrator writes it."""
    feature = option.feature + (f":VENDOR_STRING={option.vendor_string}" if option.vendor_string else "")
    if option.what in ("MAX", "RESERVE"):
        return f"{option.what} {option.number} {feature} {option.type} {option.name}"
    if option.type:
        return " ".join([option.what, *[feature] * bool(feature), option.type, option.name])
    number = _IDLE_WRITTEN_S if option.what.startswith("TIMEOUT") else option.number
    return " ".join([option.what, *[feature] * bool(feature), str(number)])


def license_of(lines: tuple[Line, ...]) -> LicenseFile:
    """The signed licence file with these lines."""
    return signed(triad_text({}, interval_s=1) + "".join(f"{line_text(line)} SIGN=0\n" for line in lines))


def options_of(rules: tuple[Option, ...]) -> OptionsFile:
    """The options file with these rules."""
    text = "".join(f"{line}\n" for line in [f"GROUP dev {' '.join(DEVELOPERS)}", *map(option_text, rules)])
    parsed = parse_options(text, name="demo.opt")
    assert not parsed.problems, parsed.problems
    return attrs.evolve(parsed, rules=tuple(_shorter(rule) for rule in parsed.rules))


def _shorter(rule: Rule) -> Rule:
    if isinstance(rule, FeatureNumber) and rule.keyword == "TIMEOUT":
        return attrs.evolve(rule, number=IDLE_S)
    if isinstance(rule, Setting) and rule.keyword == "TIMEOUTALL":
        return attrs.evolve(rule, value=str(IDLE_S))
    return rule
