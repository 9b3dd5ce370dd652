"""Everything that is wrong with an options file beside the licence file that it is for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from flexcore.licensefile import LicenseFile
from flexcore.licensefile.entitlements import read_entitlements
from flexcore.licensefile.lines import FeatureLine, Problem, Severity

from .named import Naming
from .patterns import parse_address_pattern, same_host, same_name
from .policy import Policy, PoolFacts, means, pool_facts
from .rules import (
    AccessRule,
    CountRule,
    FeatureNumber,
    FeatureSpec,
    Group,
    OptionsFile,
    Rule,
    Subject,
    SubjectType,
    format_rule,
)
from .vocabulary import KEYWORDS

COMPARISONS_MAX = 200_000
"""Pairs of rules that are compared; a file with more of them gets no word about the rest."""

_USERS = (SubjectType.USER, SubjectType.GROUP)
_HOSTS = (SubjectType.HOST, SubjectType.HOST_GROUP)


def lint_options(options: OptionsFile, license: LicenseFile, vendor: str = "") -> tuple[Problem, ...]:
    """Return all problems of *options*, those of reading it included, in the order of lines.

    Args:
        vendor: whose options they are; "": of the first VENDOR line.
    """
    wanted = vendor or (license.vendors[0].name if license.vendors else "")
    features = [line for line in license.features
                if not wanted or line.vendor.casefold() == wanted.casefold()]  # fmt: skip
    lint = _Lint(options, license, features, wanted)
    problems = [*options.problems, *lint.problems()]
    return tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))


def pools_of(license: LicenseFile, vendor: str = "") -> tuple[PoolFacts, ...]:
    """Return the facts of the pools that the lines of *vendor* ("" for all) make, in the order to try:
    what UPGRADE and PACKAGE make of them included, as a server has it. A package's own line is none of
    them: it is not checked out, so no rule is asked about it."""
    own = [line for line in license.signable_lines
           if not vendor or line.vendor.casefold() == vendor.casefold()]  # fmt: skip
    pools: dict[str, list[FeatureLine]] = {}
    for each in read_entitlements(own, license.hostids).items:
        if each.package is None:
            pools.setdefault(each.pool_key, []).append(each.line)
    return tuple(pool_facts(key, lines) for key, lines in pools.items())


def _problem(
    rule: Rule, code: str, message: str, advice: str, severity: Severity = Severity.WARNING
) -> Problem:
    return Problem(severity, rule.line, rule.column, code, message, advice)


class _Lint:
    def __init__(
        self, options: OptionsFile, license: LicenseFile, features: list[FeatureLine], vendor: str
    ) -> None:
        self.options = options
        self.features = features
        self.pools = pools_of(license, vendor)
        self.names = list(dict.fromkeys(pool.feature for pool in self.pools))
        self.packages = {line.name for line in license.packages}
        self.groups = options.groups("GROUP")
        self.host_groups = options.groups("HOST_GROUP")
        self._left = COMPARISONS_MAX

    def problems(self) -> Iterator[Problem]:
        """Every check, in turn."""
        seen: dict[Rule, Rule] = {}
        for rule in self.options.rules:
            if rule in seen and not isinstance(rule, Group):
                yield _problem(rule, "said-before", f"line {seen[rule].line} says the same",
                               "take one of them out", Severity.INFO)  # fmt: skip
            seen.setdefault(rule, rule)
            why = KEYWORDS[rule.keyword].no_effect
            if why:
                yield _problem(rule, "no-effect", f"{rule.keyword} has no effect: {why}", "",
                               Severity.INFO)  # fmt: skip
            if isinstance(rule, AccessRule | CountRule | FeatureNumber) and rule.feature:
                yield from self._feature(rule, rule.feature)
            if isinstance(rule, AccessRule | CountRule):
                yield from self._subject(rule, rule.subject)
            if isinstance(rule, Group):
                yield from self._members(rule)
        yield from self._unused_groups()
        yield from self._shadowed()
        yield from self._reservations()
        yield from self._numbers()
        yield from self._named()

    # --- names ----------------------------------------------------------------------------------

    def _feature(self, rule: Rule, spec: FeatureSpec) -> Iterator[Problem]:
        if spec.name not in self.names:
            if spec.name in ("*", "ALL") and rule.keyword in ("INCLUDE", "EXCLUDE"):
                advice = f"for all features there is {rule.keyword}ALL"
            elif spec.name in self.packages:
                advice = "rules are about features: name the package's components"
            else:
                folded = {name.casefold(): name for name in self.names}
                close = folded.get(spec.name.casefold())
                guesses = [close] if close else difflib.get_close_matches(spec.name, self.names, 1)
                advice = (f"did you mean {guesses[0]}? Names are spelt as in the licence file"
                          if guesses else "take the line out")  # fmt: skip
            yield _problem(rule, "unknown-feature",
                           f"the licence file has no feature {spec.name}: this never matches",
                           advice)  # fmt: skip
        elif not any(means(spec, pool) for pool in self.pools):
            yield _problem(rule, "unknown-pool",
                           f"no line of {spec.name} has {spec.key}={spec.value}: this never matches",
                           "compare with the lines of the licence file")  # fmt: skip

    def _subject(self, rule: Rule, subject: Subject) -> Iterator[Problem]:
        if subject.type in (SubjectType.GROUP, SubjectType.HOST_GROUP):
            is_users = subject.type is SubjectType.GROUP
            own, other = (
                (self.groups, self.host_groups) if is_users else (self.host_groups, self.groups)
            )
            if subject.name in own:
                return
            if subject.name in other:
                there = "HOST_GROUP" if is_users else "GROUP"
                advice = f"{subject.name} is a {there}: write {there} here"
            else:
                folded = {name.casefold(): name for name in own}
                close = folded.get(subject.name.casefold())
                guesses = [close] if close else difflib.get_close_matches(subject.name, own, 1)
                advice = (f"did you mean {guesses[0]}?" if guesses
                          else f"define it: {subject.type} {subject.name} member ...")  # fmt: skip
            yield _problem(rule, "unknown-group",
                           f"there is no {subject.type} {subject.name}: this matches nobody",
                           advice, Severity.ERROR)  # fmt: skip
        elif subject.type is SubjectType.INTERNET and subject.name != "*":
            if parse_address_pattern(subject.name) is None:
                yield _problem(rule, "bad-address",
                               f"{subject.name} is no internet address: this matches nobody",
                               "write 10.0.0.* or 2001:db8:*; for names there is HOST",
                               Severity.ERROR)  # fmt: skip

        elif subject.type is SubjectType.HOST:
            yield from self._host(rule, subject.name)

    def _members(self, group: Group) -> Iterator[Problem]:
        """Members that are no user and no host: groups of groups, and addresses that are none."""
        own = self.groups if group.keyword == "GROUP" else self.host_groups
        for member in group.members:
            if member != group.name and member in own:
                noun = "user" if group.keyword == "GROUP" else "host"
                yield _problem(group, "group-in-group",
                               f"{group.keyword} {group.name} has a {noun} called {member}, and not the members of"
                               f" {group.keyword} {member}: groups do not nest", "name its members")  # fmt: skip
            if group.keyword == "HOST_GROUP":
                yield from self._host(group, member)

    def _host(self, rule: Rule, name: str) -> Iterator[Problem]:
        looks_like_address = name.strip("0123456789.*") == "" and "." in name and name.strip("*.") != ""
        if "/" in name or (looks_like_address and parse_address_pattern(name) is None):
            yield _problem(rule, "bad-host", f"no host is called {name}, and it is no internet address: this matches"
                           " nobody", "write addresses such as 10.0.0.* or 2001:db8:*")  # fmt: skip

    def _unused_groups(self) -> Iterator[Problem]:
        used = {
            (str(rule.subject.type), rule.subject.name)
            for rule in self.options.rules if isinstance(rule, AccessRule | CountRule)
        }  # fmt: skip
        told: set[tuple[str, str]] = set()
        for rule in self.options.rules:
            if isinstance(rule, Group) and (rule.keyword, rule.name) not in used | told:
                told.add((rule.keyword, rule.name))
                yield _problem(rule, "unused-group",
                               f"no rule is about {rule.keyword} {rule.name}", "",
                               Severity.INFO)  # fmt: skip

    # --- rules that can never match -------------------------------------------------------------

    def _shadowed(self) -> Iterator[Problem]:
        """INCLUDE, RESERVE and MAX lines for people whom an EXCLUDE shuts out all the same."""
        access = [rule for rule in self.options.rules if isinstance(rule, AccessRule)]
        excludes = [rule for rule in access if rule.is_exclude and not rule.is_about_entitlements]
        for rule in self.options.rules:
            if isinstance(rule, AccessRule) and (rule.is_exclude or rule.is_about_entitlements):
                continue
            if not isinstance(rule, AccessRule | CountRule):
                continue
            about_borrowing = isinstance(rule, AccessRule) and rule.is_about_borrowing
            for exclude in excludes:
                self._left -= 1
                if self._left < 0:
                    return
                if exclude.is_about_borrowing and not about_borrowing:
                    continue
                if self._covers_feature(exclude.feature, rule.feature) and self._covers(
                    exclude.subject, rule.subject
                ):
                    yield _problem(rule, "shadowed",
                                   f"this never helps anybody: line {exclude.line},"
                                   f" {format_rule(exclude)}, shuts them out, and EXCLUDE wins",
                                   "take one of the two out")  # fmt: skip
                    break

    def _covers_feature(self, wide: FeatureSpec | None, narrow: FeatureSpec | None) -> bool:
        return wide is None or wide == narrow or (
            narrow is not None and not wide.key and wide.name == narrow.name
        )

    def _covers(self, wide: Subject, narrow: Subject) -> bool:
        """Say whether everybody of *narrow* is surely of *wide*."""
        for types, groups in ((_USERS, self.groups), (_HOSTS, self.host_groups)):
            if wide.type in types and narrow.type in types:
                outer, inner = self._names(wide, groups), self._names(narrow, groups)
                same = frozenset(outer)
                others = [each for each in inner if each not in same]
                self._left -= len(others) * len(outer)
                return bool(inner) and self._left >= 0 and all(
                    any(self._name_covers(wide, a, b) for a in outer) for b in others
                )
        return wide.type is narrow.type and (
            wide.name == narrow.name or self._name_covers(wide, wide.name, narrow.name)
        )

    def _names(self, subject: Subject, groups: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
        if subject.type in (SubjectType.GROUP, SubjectType.HOST_GROUP):
            return groups.get(subject.name, ())
        return (subject.name,)

    def _name_covers(self, wide: Subject, outer: str, inner: str) -> bool:
        if outer == inner or outer == "*":
            return True
        if "*" in inner or "?" in inner:
            return False
        pattern = parse_address_pattern(outer)
        if pattern is not None:
            return pattern.matches(inner)
        if wide.type in _HOSTS:
            return same_host(outer, inner, full_names=self.options.matches_full_names)
        ignore = wide.type is SubjectType.GROUP and self.options.groups_ignore_case
        return same_name(outer, inner, ignore_case=ignore)

    # --- numbers --------------------------------------------------------------------------------

    def _reservations(self) -> Iterator[Problem]:
        room = {pool.pool: pool.total for pool in self.pools}
        for rule in self.options.rules:
            if not isinstance(rule, CountRule):
                continue
            pools = [pool for pool in self.pools if means(rule.feature, pool)]
            if not pools:
                continue
            total = sum(pool.total for pool in pools)
            if rule.keyword == "MAX":
                if total and rule.number >= total:
                    yield _problem(rule, "max-without-effect",
                                   f"{rule.number} of {total} {rule.feature.printed()} limits nobody",
                                   "", Severity.INFO)  # fmt: skip
                continue
            if not total:
                yield _problem(rule, "reserve-uncounted",
                               f"{rule.feature.printed()} is uncounted: nothing is reserved",
                               "take the line out")  # fmt: skip
                continue
            left = rule.number
            for pool in pools:
                taken = min(left, room[pool.pool])
                room[pool.pool] -= taken
                left -= taken
            if left:
                yield _problem(rule, "reserved-beyond-count",
                               f"{left} of these {rule.number} cannot be reserved: of"
                               f" {rule.feature.printed()} there are {total}, and the lines above"
                               " come first", "reserve fewer")  # fmt: skip

    def _borrowed(self, rule: AccessRule) -> Iterator[Problem]:
        """Who may borrow what nobody may."""
        if rule.is_about_borrowing and rule.feature is not None:
            lines = [keys for pool in self.pools if means(rule.feature, pool) for keys in pool.lines]
            if lines and not any("BORROW" in keys for keys in lines):
                yield _problem(rule, "no-such-right", f"no line of {rule.feature.printed()} has BORROW: {rule.keyword}"
                               " has nothing to limit", "take the line out")  # fmt: skip

    def _numbers(self) -> Iterator[Problem]:
        needs = {"MAX_BORROW_HOURS": "BORROW", "BORROW_LOWWATER": "BORROW",
                 "MAX_OVERDRAFT": "OVERDRAFT"}  # fmt: skip
        last: dict[tuple[str, FeatureSpec], FeatureNumber] = {}
        for rule in self.options.rules:
            if isinstance(rule, AccessRule):
                yield from self._borrowed(rule)
            if not isinstance(rule, FeatureNumber):
                continue
            earlier = last.get((rule.keyword, rule.feature))
            if earlier is not None and earlier != rule:
                yield _problem(earlier, "overruled", f"line {rule.line} says {rule.number}:"
                               " the last line wins", "take this one out")  # fmt: skip
            last[rule.keyword, rule.feature] = rule
            key = needs.get(rule.keyword, "")
            lines = [line for line in self.features if line.name == rule.feature.name]
            if not key or not lines:
                continue
            values = [value for line in lines if (value := line.value(key)) is not None]
            if not values:
                yield _problem(rule, "no-such-right",
                               f"no line of {rule.feature.name} has {key}: {rule.keyword} has"
                               " nothing to limit", "take the line out")  # fmt: skip
            elif rule.keyword == "BORROW_LOWWATER":
                totals = [pool.total for pool in self.pools if means(rule.feature, pool)]
                if any(totals) and rule.number >= max(totals):
                    yield _problem(rule, "nothing-to-borrow",
                                   f"of {rule.feature.printed()} there are {max(totals)} in one pool: if"
                                   f" {rule.number} stay, none can be borrowed", "keep fewer")  # fmt: skip
            elif key == "BORROW" and rule.keyword == "MAX_BORROW_HOURS":
                hours = max(int(v) if v.isascii() and v.isdigit() and len(v) < 10 else 168
                            for v in values)  # fmt: skip
                if rule.number >= hours:
                    yield _problem(rule, "max-without-effect",
                                   f"the licence file allows {hours} hours, and it wins",
                                   "write fewer, or take the line out")  # fmt: skip

    def _named(self) -> Iterator[Problem]:
        """USER_BASED and HOST_BASED: more users or hosts than may be named, or none."""
        policy = Policy(self.options, self.pools)
        for pool in self.pools:
            for naming in Naming:
                given = [keys[naming] for keys in pool.lines if naming in keys]
                if not given:
                    continue
                names = policy.named(pool.pool, naming).names
                limit = sum(int(value) for value in given if _is_count(value)) or pool.total or len(names)
                what = f"{pool.feature} v{pool.lines[0]['VERSION']} is {naming}"
                if not names:
                    kind = naming.noun.upper().removesuffix("S")
                    yield Problem(Severity.WARNING, 1, 1, "nobody-named",
                                  f"{what}, and no INCLUDE line names {naming.noun}: nobody may use it (-84)",
                                  f"INCLUDE {pool.feature} {kind} name")  # fmt: skip
                elif len(names) > limit:
                    first = names[limit]
                    yield _problem(first.rule, "too-many-named",
                                   f"{what}, which lets {limit} be named: {first.text}"
                                   f" and {len(names) - limit - 1} more behind may not use it",
                                   "name fewer, or buy more")  # fmt: skip


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0
