"""The values of an options file: one class a shape of line, and the file that holds them in order.

Where a line stands does not take part in comparison, so that a file equals itself printed and read
again, whatever comments and blank lines were lost on the way.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import attrs

from flexcore.licensefile.lines import Problem, only_errors

_PLAIN = re.compile(r"[A-Za-z0-9_.*?@/+%~-]+\Z")


class SubjectType(enum.StrEnum):
    """Whom a rule is about."""

    USER = "USER"
    HOST = "HOST"
    DISPLAY = "DISPLAY"
    INTERNET = "INTERNET"
    PROJECT = "PROJECT"
    GROUP = "GROUP"
    HOST_GROUP = "HOST_GROUP"


class Subject(NamedTuple):
    """``USER ann``, ``INTERNET 10.0.0.*``, ``GROUP dev``."""

    type: SubjectType
    name: str
    """As written, ``*`` and ``?`` included."""

    def printed(self) -> str:
        """Return it as a line has it."""
        return f"{self.type} {quote(self.name)}"


class FeatureSpec(NamedTuple):
    """``f1``, or ``f1:VERSION=2.0``, which means only the pools whose lines say so."""

    name: str
    key: str = ""
    """In capitals; "" where every pool of the feature is meant."""
    value: str = ""

    def printed(self) -> str:
        """Return it as a line has it."""
        return quote(f"{self.name}:{self.key}={self.value}" if self.key else self.name)


@attrs.frozen(kw_only=True)
class Option:
    """What every line has: its keyword and where it stands."""

    keyword: str
    """In capitals."""
    line: int = attrs.field(default=0, eq=False)
    """Counted from 1."""
    column: int = attrs.field(default=0, eq=False)
    """Of the keyword, counted from 1."""


@attrs.frozen(kw_only=True)
class AccessRule(Option):
    """``INCLUDE feature type name`` and the other lines that let in or shut out."""

    feature: FeatureSpec | None
    """None in the forms with ALL."""
    subject: Subject

    @property
    def is_exclude(self) -> bool:
        """Whether it shuts out."""
        return self.keyword.startswith("EXCLUDE")

    @property
    def is_about_borrowing(self) -> bool:
        """Whether it is one of the two that end in ``_BORROW``."""
        return self.keyword.endswith("_BORROW")

    @property
    def is_about_entitlements(self) -> bool:
        """Whether it is one of the four that end in ``_ENTITLEMENT`` (no effect here)."""
        return self.keyword.endswith("_ENTITLEMENT")


@attrs.frozen(kw_only=True)
class CountRule(Option):
    """``RESERVE number feature type name``, or ``MAX`` with the same."""

    number: int
    feature: FeatureSpec
    subject: Subject


@attrs.frozen(kw_only=True)
class FeatureNumber(Option):
    """``TIMEOUT feature seconds`` and the other lines that give a feature a number."""

    feature: FeatureSpec
    number: int


@attrs.frozen(kw_only=True)
class Group(Option):
    """``GROUP name member ...``, or ``HOST_GROUP``. Lines of one name add up."""

    name: str
    members: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Setting(Option):
    """A line about the server as a whole: a number, a path or a word, as text."""

    value: str


Rule: TypeAlias = AccessRule | CountRule | FeatureNumber | Group | Setting


def quote(word: str) -> str:
    """Return a word as a line has it, in quotes unless it is plain."""
    return word if _PLAIN.match(word) else f'"{word}"'


def format_rule(rule: Rule) -> str:
    """Return a rule on one physical line, without a line end."""
    words: list[str] = []
    match rule:
        case AccessRule():
            words = [rule.feature.printed() if rule.feature else "", rule.subject.printed()]
        case CountRule():
            words = [str(rule.number), rule.feature.printed(), rule.subject.printed()]
        case FeatureNumber():
            words = [rule.feature.printed(), str(rule.number)]
        case Group():
            words = [quote(rule.name), *(quote(member) for member in rule.members)]
        case Setting():
            words = [quote(rule.value)] if rule.value else []
    return " ".join([rule.keyword, *(word for word in words if word)])


@attrs.frozen(kw_only=True)
class OptionsFile:
    """An options file, parsed. :func:`~flexcore.options.parse_options` makes them."""

    name: str = ""
    """What messages call it; usually its path."""
    rules: tuple[Rule, ...] = ()
    """In the order of the file; lines that cannot be read are problems instead."""
    problems: tuple[Problem, ...] = attrs.field(default=(), eq=False)
    """In the order of lines."""
    _last: dict[str, Setting] = attrs.field(init=False, eq=False, repr=False)

    @_last.default
    def _last_settings(self) -> dict[str, Setting]:
        return {rule.keyword: rule for rule in self.rules if isinstance(rule, Setting)}

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that are errors: these lines are not in effect."""
        return only_errors(self.problems)

    def groups(self, keyword: str) -> dict[str, tuple[str, ...]]:
        """Return the members of each ``GROUP`` or each ``HOST_GROUP``, in the order of the file."""
        found: dict[str, list[str]] = {}
        for rule in self.rules:
            if isinstance(rule, Group) and rule.keyword == keyword:
                found.setdefault(rule.name, []).extend(rule.members)
        return {name: tuple(dict.fromkeys(members)) for name, members in found.items()}

    def settings(self, keyword: str) -> Iterator[Setting]:
        """Return the lines with *keyword*, in the order of the file."""
        return (
            rule for rule in self.rules if isinstance(rule, Setting) and rule.keyword == keyword
        )

    def setting(self, keyword: str) -> str:
        """Return the value of the last line with *keyword*, "" without one: the last line wins."""
        rule = self._last.get(keyword)
        return "" if rule is None else rule.value

    @property
    def groups_ignore_case(self) -> bool:
        """GROUPCASEINSENSITIVE: members of groups compare without case. Off unless ON."""
        return self.setting("GROUPCASEINSENSITIVE") == "ON"

    @property
    def matches_full_names(self) -> bool:
        """FQDN_MATCHING EXACT: a short host name does not stand for one with a domain."""
        return self.setting("FQDN_MATCHING") == "EXACT"

    @property
    def rereads_by_itself(self) -> bool:
        """AUTOMATIC_REREAD ON: the files are read anew at each midnight. Without the line they are
        not: a change on three servers is made when its administrator says so (lmreread)."""
        return self.setting("AUTOMATIC_REREAD") == "ON"

    @property
    def debug_log(self) -> str:
        """DEBUGLOG: where the vendor daemon's lines go, with a + in front if they are to be appended;
        "" to the log of lmgrd."""
        return self.setting("DEBUGLOG")

    @property
    def report_log(self) -> str:
        """REPORTLOG: the report log's path, with a + in front if it is to be appended; "" for none."""
        return self.setting("REPORTLOG")

    @property
    def connections_max(self) -> Setting | None:
        """The last MAX_CONNECTIONS line, None without one."""
        return self._last.get("MAX_CONNECTIONS")

    @property
    def unlogged(self) -> frozenset[str]:
        """The kinds of log lines that NOLOG leaves out."""
        return frozenset(rule.value for rule in self.settings("NOLOG"))

    def where(self, rule: Rule) -> str:
        """Return ``demo.opt:7: EXCLUDE f1 USER ann``: what refusals and logs call a rule."""
        return f"{self.name or 'options'}:{rule.line}: {format_rule(rule)}"


PER_MACHINE = frozenset(
    {"DEBUGLOG", "REPORTLOG", "NOLOG", "AUTO_ROLLOVER", "AUTOMATIC_REREAD", "DAEMON_SELECT_TIMEOUT"}
)
"""Lines about a server itself, which may differ in a triad: paths, what is logged."""


def options_digest(options: OptionsFile | None) -> bytes:
    """Return 32 bytes that are the same for two files which decide the same about licences; no file
    is as an empty one. Servers of a triad compare them."""
    rules = () if options is None else options.rules
    text = "\n".join(format_rule(rule) for rule in rules if rule.keyword not in PER_MACHINE)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def format_options(options: OptionsFile) -> str:
    """Return the text of an options file, one rule a line; comments are not kept."""
    return "".join(f"{format_rule(rule)}\n" for rule in options.rules)
