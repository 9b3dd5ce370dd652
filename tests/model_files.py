"""The files that the model's triad is given: drawn by Hypothesis, and written as publishers and administrators do.

Small on purpose: a rule matters only where people are few, seats are fewer, and two of them mean the same pool.
"""

from __future__ import annotations

import datetime

import attrs
from hypothesis import strategies as st

from flexcore.licensefile import LicenseFile
from flexcore.options import OptionsFile, parse_options
from flexcore.options.rules import FeatureNumber, Rule, Setting
from flexcore_testing.licences import signed, triad_text
from tests.slow_pools import DEVELOPERS, Line, Option, Who

FEATURES = ("f1", "f2")
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
    dup=st.sampled_from(("", "", "", "U", "UH", "SITE")),
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
licences = st.lists(lines | lines | lines | lines | uncounted_lines, min_size=1, max_size=3, unique=True).map(tuple)
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
options = st.lists(counts | access | counts | numbers, max_size=4, unique=True).map(tuple)


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
