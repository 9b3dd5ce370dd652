"""Policy: what an options file decides, pool by pool. A value: it never changes, and keeps no holders.

In this order, each with the code of the refusal:

1. EXCLUDEALL, EXCLUDE: who is named by one is refused (-38), whatever INCLUDE says.
2. INCLUDE, INCLUDEALL: once a feature has an INCLUDE, or the file an INCLUDEALL, only those are let
   in whom one of its INCLUDE lines or an INCLUDEALL names (-39).
3. MAX: all seats that those named by the line hold together, in every pool that it means (-87).
4. RESERVE: afterwards the seats held and the seats kept for others (``reservations``) may not exceed
   the count; a seat that is kept for the one who asks is his (-101). A RESERVE that means several
   pools is laid into them in their order, as far as each one's count goes.

The decision depends on who holds what, not on the order in which it came to be. What those hold
together whom a rule names is counted beside it (:mod:`flexcore.options.tally`): nobody looks for it
among the holders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias

from flexcore.codes import ErrorCode
from flexcore.licensefile.lines import FeatureLine
from flexcore.licensefile.version import VersionError, parse_version

from .named import NamedList, Naming
from .patterns import Matcher, Matchers, Requester
from .rules import AccessRule, CountRule, FeatureNumber, FeatureSpec, OptionsFile, Rule
from .tally import KINDS_MAX, Counted, Limit, Reserve, Reserved, Tally

RULES_NAMED_MAX = 3

_Gate: TypeAlias = tuple[AccessRule, Matcher]


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


_NOBODY: Mapping[str, PoolUse] = {}


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


class _PoolRules:
    """The rules about one pool, ready to be asked; those about all features are the Policy's."""

    def __init__(self) -> None:
        self.excludes: list[_Gate] = []
        self.includes: list[_Gate] = []
        self.borrow_excludes: list[_Gate] = []
        self.borrow_includes: list[_Gate] = []
        self.numbers: dict[str, FeatureNumber] = {}
        self.counted = Counted()
        self.verdicts: dict[Requester, Refusal | None] = {}
        """What EXCLUDE and INCLUDE said: it depends on the requester alone. Bounded."""
        self.named: dict[Naming, NamedList] = {}
        self.places: dict[tuple[Naming, Requester], int | None] = {}
        """Where a requester stands among the names of a kind. Bounded."""

    def gates(self, rule: AccessRule) -> list[_Gate]:
        """Return the list in which *rule* belongs."""
        if rule.is_about_borrowing:
            return self.borrow_excludes if rule.is_exclude else self.borrow_includes
        return self.excludes if rule.is_exclude else self.includes


class Policy:
    """The decisions of one options file about the pools of one vendor.

    Making one takes time by the rules and by the pools that each means, not by their product.
    """

    def __init__(self, options: OptionsFile, pools: Iterable[PoolFacts]) -> None:
        self.options = options
        self._timeout_all_s = int(options.setting("TIMEOUTALL") or 0)
        facts = tuple(pools)
        self._pools = {each.pool: _PoolRules() for each in facts}
        self._all = _PoolRules()
        """EXCLUDEALL and INCLUDEALL."""
        named: dict[str, list[PoolFacts]] = {}
        for each in facts:
            named.setdefault(each.feature, []).append(each)
        matchers = Matchers(options)
        limits = 0
        for rule in options.rules:
            feature = getattr(rule, "feature", None)
            meant = [] if feature is None else [
                each for each in named.get(feature.name, ()) if means(feature, each)
            ]  # fmt: skip
            match rule:
                case AccessRule():
                    self._take_access(rule, matchers, meant)
                case FeatureNumber():
                    for each in meant:
                        self._pools[each.pool].numbers[rule.keyword] = rule
                case CountRule(keyword="MAX"):
                    limit = Limit(limits, rule, matchers.of(rule.subject),
                                  tuple(each.pool for each in meant))  # fmt: skip
                    limits += 1
                    for each in meant:
                        self._pools[each.pool].counted.limits.append(limit)
                case CountRule():
                    self._take_reserve(rule, matchers.of(rule.subject), meant)
                case _:
                    pass  # groups are in the matchers; settings are no decision about a pool
        self._counted = {pool: rules.counted for pool, rules in self._pools.items() if rules.counted}

    def _take_access(self, rule: AccessRule, matchers: Matchers, meant: list[PoolFacts]) -> None:
        if rule.is_about_entitlements:
            return
        gate = (rule, matchers.of(rule.subject))
        if rule.feature is None:
            self._all.gates(rule).append(gate)
        for each in meant:
            self._pools[each.pool].gates(rule).append(gate)

    def _take_reserve(self, rule: CountRule, matches: Matcher, meant: list[PoolFacts]) -> None:
        left = rule.number
        for each in meant:
            counted = self._pools[each.pool].counted
            size = min(left, each.total - counted.reserved)
            if size > 0:
                counted.reserve(Reserve(rule, matches, size))
                left -= size

    def decides(self, pool: str) -> bool:
        """Whether any checkout from *pool* can be refused."""
        rules = self._pools.get(pool)
        return rules is not None and bool(
            rules.excludes or rules.includes or rules.counted
            or self._all.excludes or self._all.includes
        )  # fmt: skip

    def counts(self, pool: str) -> bool:
        """Whether a MAX or a RESERVE needs to know who holds what of *pool*."""
        return pool in self._counted

    @property
    def counted_pools(self) -> tuple[str, ...]:
        """The pools of which a tally has to know the holders, in their order."""
        return tuple(self._counted)

    def tally(self, uses: Mapping[str, PoolUse] = _NOBODY) -> Tally:
        """Return the counts that :meth:`refusal` asks for, of who holds what by pool."""
        tally = Tally(self._counted)
        for pool, use in uses.items():
            for who, seats in use.holders:
                tally.add(pool, who, seats)
        return tally

    def refusal(
        self, pool: str, who: Requester, count: int, *, total: int | None, used: int = 0,
        tally: Tally | None = None,
    ) -> Refusal | None:  # fmt: skip
        """Return why *who* may not have *count* seats of *pool* now, or None.

        *total* is what the pool offers now, None if it is uncounted, and *used* how many of these
        cannot be given. *tally* is needed where :meth:`counts` says so.
        """
        rules = self._pools.get(pool)
        if rules is None:
            return None
        said = self._remembered_access(rules, who)
        if said is not None or not rules.counted:
            return said
        assert tally is not None, "a MAX or a RESERVE needs to know who holds what"
        limits, kind = rules.counted.classes_of(who)
        for limit in limits:
            held = tally.held(limit)
            if held.seats + count > limit.rule.number:
                words = f"{self.options.where(limit.rule)}: {held.seats} in use{held.text()}"
                return Refusal(ErrorCode.EXCEEDS_MAX, (limit.rule,), words)
        if total is None or not rules.counted.reserves:
            return None
        return self._reserved(rules.counted, kind, count, total, used, tally.reserved(pool))

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
        """Return the INCLUDE and INCLUDEALL lines about *pool*."""
        rules = self._pools.get(pool)
        if rules is None:
            return ()
        return tuple(rule for rule, _ in (*self._all.includes, *rules.includes))

    def named(self, pool: str, naming: Naming) -> NamedList:
        """Return whom those lines name (USER_BASED, HOST_BASED), all of them."""
        rules = self._pools.get(pool)
        if rules is None:
            return NamedList(self.options, (), naming)
        made = rules.named.get(naming)
        if made is None:
            made = rules.named[naming] = NamedList(self.options, self.included(pool), naming)
        return made

    def place_of(self, pool: str, naming: Naming, who: Requester) -> int | None:
        """Return where *who* stands among those whom these lines name, counted from 0, or None."""
        rules = self._pools.get(pool)
        if rules is None:
            return None
        key = (naming, who)
        if key not in rules.places:
            if len(rules.places) >= KINDS_MAX:
                rules.places.clear()
            rules.places[key] = self.named(pool, naming).place_of(who)
        return rules.places[key]

    # --- who waits (flexcore.checkout.claims) ----------------------------------------------------

    def never(self, pool: str, who: Requester, count: int, *, total: int | None) -> Refusal | None:
        """Return why *who* may not have *count* seats of *pool* even if nobody held any, or None."""
        return self.refusal(pool, who, count, total=total, tally=self.tally())

    def limits_on(self, pool: str, who: Requester) -> tuple[CountRule, ...]:
        """Return the MAX lines that count what *who* holds of *pool*."""
        counted = self._counted.get(pool)
        return () if counted is None else tuple(each.rule for each in counted.classes_of(who)[0])

    def exceeded(
        self, pool: str, who: Requester, count: int, *, tally: Tally
    ) -> tuple[CountRule, ...]:
        """Return all MAX lines that *count* seats of *pool* for *who* would go beyond."""
        counted = self._counted.get(pool)
        limits = () if counted is None else counted.classes_of(who).limits
        return tuple(
            limit.rule for limit in limits if tally.held(limit).seats + count > limit.rule.number
        )

    def kept_for(self, pool: str, who: Requester) -> frozenset[int]:
        """Return the RESERVE lines, by number, whose seats of *pool* *who* may have."""
        counted = self._counted.get(pool)
        return frozenset() if counted is None else frozenset(counted.classes_of(who)[1])

    def is_kept_for(
        self, pool: str, who: Requester, count: int, *, total: int, tally: Tally,
        besides: AbstractSet[int],
    ) -> bool:  # fmt: skip
        """Say whether all of *count* seats are kept for *who* by RESERVE lines of which none is in
        *besides*."""
        kind = self.kept_for(pool, who)
        if not kind or not besides.isdisjoint(kind):
            return False
        return tally.reserved(pool).filling(total).room_for(tuple(sorted(kind)), count) == count

    # --- the steps ------------------------------------------------------------------------------

    def _remembered_access(self, rules: _PoolRules, who: Requester) -> Refusal | None:
        try:
            return rules.verdicts[who]
        except KeyError:
            if len(rules.verdicts) >= KINDS_MAX:
                rules.verdicts.clear()
            everybody = self._all
            verdict = self._access(
                [*everybody.excludes, *rules.excludes], [*everybody.includes, *rules.includes], who
            )
            rules.verdicts[who] = verdict
            return verdict

    def _access(
        self, excludes: list[_Gate], includes: list[_Gate], who: Requester
    ) -> Refusal | None:
        for rule, matches in excludes:
            if matches(who):
                return Refusal(ErrorCode.EXCLUDED, (rule,), self.options.where(rule))
        if includes and not any(matches(who) for _, matches in includes):
            rules = tuple(rule for rule, _ in includes)
            return Refusal(ErrorCode.NOT_INCLUDED, rules, f"not in {self._named(rules)}")
        return None

    def _reserved(
        self, rules: Counted, kind: tuple[int, ...], count: int, total: int, used: int,
        reserved: Reserved,
    ) -> Refusal | None:  # fmt: skip
        filling = reserved.filling(total)
        mine = filling.room_for(kind, count)
        kept = filling.unfilled - mine
        fits = used + count <= total
        if fits and (mine == count or used + count + kept <= total):
            return None
        words = f"{used} of {total} in use{reserved.holdings.text()}"
        after = filling.copy()
        after.add(kind, count)
        keeping = [
            each.rule for number, each in enumerate(rules.reserves) if after.unfilled_of(number)
        ]
        if kept:
            words += f"; {kept} reserved by {self._named(keeping)}"
        code = ErrorCode.ALL_RESERVED if fits else ErrorCode.USERS_REACHED
        return Refusal(code, tuple(keeping), words)

    def _named(self, rules: Iterable[Rule]) -> str:
        every = list(rules)
        said = ", ".join(self.options.where(rule) for rule in every[:RULES_NAMED_MAX])
        more = len(every) - RULES_NAMED_MAX
        return said + (f" and {more} more" if more > 0 else "")

    # --- reservations and numbers to look up ----------------------------------------------------

    def reservations(self, pool: str, total: int, tally: Tally) -> Iterator[tuple[CountRule, int]]:
        """Return each RESERVE about *pool* with the seats that it still keeps (lmstat's L10)."""
        counted = self._counted.get(pool)
        if counted is None or not counted.reserves:
            return
        filling = tally.reserved(pool).filling(total)
        for number, each in enumerate(counted.reserves):
            if filling.unfilled_of(number):
                yield each.rule, filling.unfilled_of(number)

    def number(self, keyword: str, pool: str) -> int | None:
        """Return the number that the last line with *keyword* gives *pool*, or None."""
        rule = self.number_rule(keyword, pool)
        return None if rule is None else rule.number

    def number_rule(self, keyword: str, pool: str) -> FeatureNumber | None:
        """Return the last line with *keyword* about *pool*, or None."""
        rules = self._pools.get(pool)
        return rules.numbers.get(keyword) if rules is not None else None

    def timeout_s(self, pool: str) -> int:
        """Seconds of inactivity after which a seat comes back; 0: never. TIMEOUT beats TIMEOUTALL."""
        number = self.number("TIMEOUT", pool)
        return self._timeout_all_s if number is None else number

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
