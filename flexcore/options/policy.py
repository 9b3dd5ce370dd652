"""Policy: what an options file decides, pool by pool. A value: it never changes, and keeps no holders.

In this order, each with the code of the refusal:

1. EXCLUDEALL, EXCLUDE: who is named by one is refused (-38), whatever INCLUDE says.
2. INCLUDE, INCLUDEALL: once a feature has an INCLUDE, or the file an INCLUDEALL, only those are let
   in whom one of its INCLUDE lines or an INCLUDEALL names (-39).
3. MAX: all seats that those named by the line hold together, in every pool that it means (-87).
4. RESERVE: afterwards the seats held and the seats kept for others (``reservations``) may not exceed
   the count; a seat that is kept for the one who asks is his (-101). A RESERVE that means several
   pools is laid into them in their order, as far as each one's count goes.

The decision depends on who holds what, not on the order in which it came to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from flexcore.codes import ErrorCode
from flexcore.licensefile.lines import FeatureLine
from flexcore.licensefile.version import VersionError, parse_version

from .patterns import Matcher, Matchers, Requester
from .reservations import Filling, clipped
from .rules import AccessRule, CountRule, FeatureNumber, FeatureSpec, OptionsFile, Rule

HOLDERS_NAMED_MAX = 8
RULES_NAMED_MAX = 3
_KINDS_MAX = 20_000
"""Requesters a pool of whom it is remembered what matches them; beyond, all are looked up anew."""


class Holder(NamedTuple):
    """Somebody who holds *seats* seats."""

    who: Requester
    seats: int


class PoolUse(NamedTuple):
    """Who holds what of a pool. *pending*: seats given back whose freeing is not committed yet."""

    holders: tuple[Holder, ...] = ()
    pending: int = 0

    @property
    def seats(self) -> int:
        """Seats that cannot be given now."""
        return sum(holder.seats for holder in self.holders) + self.pending


class PoolFacts(NamedTuple):
    """What a pool is to an options file: *lines*, for each of its lines what keys it has."""

    pool: str
    feature: str
    total: int
    """All that its lines license; 0: uncounted."""
    lines: tuple[dict[str, str], ...] = ()


class Refusal(NamedTuple):
    """No: the code of the answer, the rules that said so, and what a person needs to know."""

    code: ErrorCode
    rules: tuple[Rule, ...]
    detail: str

    @property
    def is_access(self) -> bool:
        """Whether EXCLUDE or INCLUDE said so, whoever holds what."""
        return self.code in (ErrorCode.EXCLUDED, ErrorCode.NOT_INCLUDED)


def pool_facts(pool: str, lines: Iterable[FeatureLine]) -> PoolFacts:
    """Return the facts of a pool out of its lines, at least one."""
    members = list(lines)
    uncounted = any(line.is_uncounted for line in members)
    return PoolFacts(pool, members[0].name, 0 if uncounted else sum(m.count for m in members),
                     tuple(_keys_of(line) for line in members))  # fmt: skip


def _keys_of(line: FeatureLine) -> dict[str, str]:
    keys = {"VERSION": line.version, "EXPDATE": line.expiry_text, "KEY": line.legacy_key}
    for attribute in line.attributes:
        keys.setdefault(attribute.key.upper(), attribute.value or "")
    return keys


def means(spec: FeatureSpec, facts: PoolFacts) -> bool:
    """Say whether a rule about *spec* is about a pool."""
    if spec.name != facts.feature:
        return False
    return not spec.key or any(_has(spec, keys) for keys in facts.lines)


def _has(spec: FeatureSpec, keys: dict[str, str]) -> bool:
    value = keys.get(spec.key)
    if value is None:
        return False
    if spec.key == "VERSION":
        try:
            return parse_version(spec.value) == parse_version(value)
        except VersionError:
            return False
    if spec.key in ("SIGN", "SIGN2", "KEY"):
        return "".join(spec.value.split()).upper() == "".join(value.split()).upper()
    return " ".join(spec.value.split()).casefold() == " ".join(value.split()).casefold()


class _Limit(NamedTuple):
    """A MAX with the pools that it means."""

    rule: CountRule
    matches: Matcher
    pools: tuple[str, ...]


class _PoolRules:
    """The rules about one pool, ready to be asked."""

    def __init__(self) -> None:
        self.excludes: list[tuple[AccessRule, Matcher]] = []
        self.includes: list[tuple[AccessRule, Matcher]] = []
        self.borrow_excludes: list[tuple[AccessRule, Matcher]] = []
        self.borrow_includes: list[tuple[AccessRule, Matcher]] = []
        self.limits: list[_Limit] = []
        self.reserves: list[tuple[CountRule, Matcher, int]] = []
        self.numbers: dict[str, FeatureNumber] = {}
        self.verdicts: dict[Requester, Refusal | None] = {}
        """What EXCLUDE and INCLUDE said: it depends on the requester alone. Bounded."""
        self._kinds: dict[Requester, tuple[int, ...]] = {}

    @property
    def decides(self) -> bool:
        """Whether a checkout can be refused by any of them."""
        return bool(self.excludes or self.includes or self.limits or self.reserves)

    def kind_of(self, who: Requester) -> tuple[int, ...]:
        """Return the reservations, by number, that *who* may fill."""
        kind = self._kinds.get(who)
        if kind is None:
            if len(self._kinds) >= _KINDS_MAX:
                self._kinds.clear()
            kind = tuple(i for i, (_, is_for, _) in enumerate(self.reserves) if is_for(who))
            self._kinds[who] = kind
        return kind

    def filling(self, total: int, use: PoolUse) -> Filling:
        """Return how far the reservations are filled now."""
        filling = Filling(clipped((size for _, _, size in self.reserves), total))
        seats: dict[tuple[int, ...], int] = {}
        for who, count in use.holders:
            kind = self.kind_of(who)
            if kind:
                seats[kind] = seats.get(kind, 0) + count
        for kind, count in seats.items():
            filling.add(kind, count)
        return filling


class Policy:
    """The decisions of one options file about the pools of one vendor."""

    def __init__(self, options: OptionsFile, pools: Iterable[PoolFacts]) -> None:
        self.options = options
        self._pools: dict[str, _PoolRules] = {}
        facts = tuple(pools)
        matchers = Matchers(options)
        for each in facts:
            self._pools[each.pool] = _rules_about(each, options, matchers)
        for rule in options.rules:
            if isinstance(rule, CountRule):
                self._take_count(rule, matchers.of(rule.subject),
                                 [each for each in facts if means(rule.feature, each)])  # fmt: skip

    def _take_count(self, rule: CountRule, matches: Matcher, facts: list[PoolFacts]) -> None:
        if rule.keyword == "MAX":
            limit = _Limit(rule, matches, tuple(each.pool for each in facts))
            for each in facts:
                self._pools[each.pool].limits.append(limit)
            return
        left = rule.number
        for each in facts:
            room = each.total - sum(size for _, _, size in self._pools[each.pool].reserves)
            size = min(left, room)
            if size > 0:
                self._pools[each.pool].reserves.append((rule, matches, size))
                left -= size

    def decides(self, pool: str) -> bool:
        """Whether any checkout from *pool* can be refused."""
        rules = self._pools.get(pool)
        return rules is not None and rules.decides

    def refusal(
        self, pool: str, who: Requester, count: int, *, total: int | None,
        use_of: Callable[[str], PoolUse],
    ) -> Refusal | None:  # fmt: skip
        """Return why *who* may not have *count* seats of *pool* now, or None.

        *total* is what the pool offers now, None if it is uncounted. *use_of* gives the use of a
        pool by name; it is asked only where a MAX or a RESERVE needs to know.
        """
        rules = self._pools.get(pool)
        if rules is None or not rules.decides:
            return None
        return (
            self._remembered_access(rules, who)
            or self._over_limit(rules, who, count, use_of)
            or (
                self._reserved(rules, who, count, total, use_of(pool))
                if total is not None and rules.reserves
                else None
            )
        )

    def borrow_refusal(self, pool: str, who: Requester) -> Refusal | None:
        """Return why *who* may not borrow from *pool*, beside what forbids a checkout, or None."""
        rules = self._pools.get(pool)
        if rules is None:
            return None
        return self._access(rules.borrow_excludes, rules.borrow_includes, who)

    def shut_out(self, pool: str, who: Requester) -> Refusal | None:
        """Return the refusal of EXCLUDE and INCLUDE alone, or None."""
        rules = self._pools.get(pool)
        return None if rules is None else self._remembered_access(rules, who)

    def included(self, pool: str) -> tuple[AccessRule, ...]:
        """Return the INCLUDE and INCLUDEALL lines about *pool*: USER_BASED needs some (-84)."""
        rules = self._pools.get(pool)
        return () if rules is None else tuple(rule for rule, _ in rules.includes)

    # --- the steps ------------------------------------------------------------------------------

    def _remembered_access(self, rules: _PoolRules, who: Requester) -> Refusal | None:
        try:
            return rules.verdicts[who]
        except KeyError:
            if len(rules.verdicts) >= _KINDS_MAX:
                rules.verdicts.clear()
            verdict = self._access(rules.excludes, rules.includes, who)
            rules.verdicts[who] = verdict
            return verdict

    def _access(
        self, excludes: list[tuple[AccessRule, Matcher]], includes: list[tuple[AccessRule, Matcher]],
        who: Requester,
    ) -> Refusal | None:  # fmt: skip
        for rule, matches in excludes:
            if matches(who):
                return Refusal(ErrorCode.EXCLUDED, (rule,), self.options.where(rule))
        if includes and not any(matches(who) for _, matches in includes):
            rules = tuple(rule for rule, _ in includes)
            return Refusal(ErrorCode.NOT_INCLUDED, rules, f"not in {self._named(rules)}")
        return None

    def _over_limit(
        self, rules: _PoolRules, who: Requester, count: int, use_of: Callable[[str], PoolUse]
    ) -> Refusal | None:
        for rule, matches, pools in rules.limits:
            if not matches(who):
                continue
            held = [holder for pool in pools for holder in use_of(pool).holders
                    if matches(holder.who)]  # fmt: skip
            in_use = sum(holder.seats for holder in held)
            if in_use + count > rule.number:
                said = f"{self.options.where(rule)}: {in_use} in use"
                return Refusal(ErrorCode.EXCEEDS_MAX, (rule,), said + _names(held))
        return None

    def _reserved(
        self, rules: _PoolRules, who: Requester, count: int, total: int, use: PoolUse
    ) -> Refusal | None:
        used = use.seats
        filling = rules.filling(total, use)
        before = filling.unfilled
        mine = filling.add(rules.kind_of(who), count)
        fits = used + count <= total
        if fits and (mine == count or used + count + before - mine <= total):
            return None
        kept = [
            rule for number, (rule, _, _) in enumerate(rules.reserves)
            if filling.unfilled_of(number)
        ]  # fmt: skip
        code = ErrorCode.ALL_RESERVED if fits else ErrorCode.USERS_REACHED
        words = f"{used} of {total} in use" + _names(use.holders)
        if before - mine:
            words += f"; {before - mine} reserved by {self._named(kept)}"
        return Refusal(code, tuple(kept), words)

    def _named(self, rules: Iterable[Rule]) -> str:
        every = list(rules)
        said = ", ".join(self.options.where(rule) for rule in every[:RULES_NAMED_MAX])
        more = len(every) - RULES_NAMED_MAX
        return said + (f" and {more} more" if more > 0 else "")

    # --- reservations and numbers to look up ----------------------------------------------------

    def reservations(self, pool: str, total: int, use: PoolUse) -> Iterator[tuple[CountRule, int]]:
        """Return each RESERVE about *pool* with the seats that it still keeps (lmstat's L10)."""
        rules = self._pools.get(pool)
        if rules is None or not rules.reserves:
            return
        filling = rules.filling(total, use)
        for number, (rule, _, _) in enumerate(rules.reserves):
            if filling.unfilled_of(number):
                yield rule, filling.unfilled_of(number)

    def number(self, keyword: str, pool: str) -> int | None:
        """Return the number that the last line with *keyword* gives *pool*, or None."""
        rules = self._pools.get(pool)
        found = rules.numbers.get(keyword) if rules is not None else None
        return None if found is None else found.number

    def timeout_s(self, pool: str) -> int:
        """Seconds of inactivity after which a seat comes back; 0: never. TIMEOUT beats TIMEOUTALL."""
        number = self.number("TIMEOUT", pool)
        return int(self.options.setting("TIMEOUTALL") or 0) if number is None else number

    def linger_s(self, pool: str, signed_s: int = 0) -> int:
        """Seconds that a seat stays with who gave it back; the publisher's minimum applies."""
        return max(self.number("LINGER", pool) or 0, signed_s)

    def borrow_low_water(self, pool: str) -> int:
        """Seats that cannot be borrowed."""
        return self.number("BORROW_LOWWATER", pool) or 0

    def borrow_hours_max(self, pool: str, signed_hours: int) -> int:
        """The longest borrowing, in hours: never longer than the licence's."""
        number = self.number("MAX_BORROW_HOURS", pool)
        return signed_hours if number is None else min(number, signed_hours)

    def overdraft_max(self, pool: str, signed: int) -> int:
        """Seats beyond the count: never more than the licence's OVERDRAFT."""
        number = self.number("MAX_OVERDRAFT", pool)
        return signed if number is None else min(number, signed)


def make_policy(options: OptionsFile, pools: Iterable[PoolFacts]) -> Policy:
    """Return what *options* decides about *pools*, which stand in the order to try."""
    return Policy(options, pools)


def _rules_about(facts: PoolFacts, options: OptionsFile, matchers: Matchers) -> _PoolRules:
    found = _PoolRules()
    for rule in options.rules:
        match rule:
            case AccessRule():
                if rule.feature is not None and not means(rule.feature, facts):
                    continue
                if rule.is_about_entitlements:
                    continue
                pair = (rule, matchers.of(rule.subject))
                if rule.is_about_borrowing:
                    (found.borrow_excludes if rule.is_exclude else found.borrow_includes).append(pair)
                else:
                    (found.excludes if rule.is_exclude else found.includes).append(pair)
            case FeatureNumber():
                if means(rule.feature, facts):
                    found.numbers[rule.keyword] = rule
            case _:
                pass  # MAX and RESERVE may mean several pools: Policy takes them
    return found


def _names(holders: Iterable[Holder]) -> str:
    counts: dict[str, int] = {}
    for who, seats in holders:
        counts[who.name] = counts.get(who.name, 0) + seats
    named = [f"{name} ({count})" if count > 1 else name
             for name, count in islice(counts.items(), HOLDERS_NAMED_MAX)]  # fmt: skip
    more = len(counts) - len(named)
    said = ", ".join(named) + (f" and {more} more" if more else "")
    return f" by {said}" if said else ""
