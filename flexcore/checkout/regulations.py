"""What an options file says about the pools of some rights, asked with the ledger's state.

The rules themselves are :mod:`flexcore.options.policy`; who holds what is counted for them in
:mod:`flexcore.checkout.tallies`, and only for pools with a MAX or a RESERVE. A server without an
options file has none of this (``regulations_of`` gives None), and pays one comparison a checkout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flexcore.licensefile import parse_license
from flexcore.options.policy import Policy, PoolFacts, Refusal, means
from flexcore.options.rules import AccessRule, CountRule, FeatureNumber, OptionsFile
from flexcore.options.tally import Tally

from .tallies import SeatTally, requester_of

if TYPE_CHECKING:
    from flexcore.ledger.commands import Share
    from flexcore.ledger.state import LedgerState, Session

    from .rights import Line, Offer, Pool, Rights

_NO_MAXIMA: Mapping[str, int] = {}
_KNOWN_KEYS = frozenset({"VERSION", "EXPDATE", "VENDOR_STRING", "HOSTID"})
"""Keys of a specification that need no look into the signed lines."""


class Regulations:
    """A policy for the pools of one :class:`~flexcore.checkout.rights.Rights`."""

    def __init__(self, policy: Policy, overdrafts: Mapping[str, int] = _NO_MAXIMA) -> None:
        self.policy = policy
        self.overdrafts = dict(overdrafts)
        """What MAX_OVERDRAFT leaves of OVERDRAFT, by pool, where that is fewer."""
        self._watcher: SeatTally | None = None

    def copy(self) -> Regulations:
        """Return a twin; what it has counted is not shared: the two may see other ledgers."""
        return Regulations(self.policy, self.overdrafts)

    def refusal(
        self, state: LedgerState, session: Session, offer: Offer, count: int,
        shares: tuple[Share, ...] = (),
    ) -> Refusal | None:  # fmt: skip
        """Return why *session* may not have *count* seats of *offer* now, or None.

        *shares*: with whom it shares licences (DUP_GROUP). Who takes no further licence is asked for
        EXCLUDE and INCLUDE alone: neither MAX nor RESERVE counts one licence twice.
        """
        policy, pool = self.policy, offer.pool
        if not policy.decides(pool):
            return None
        if shares and shares[0].group:
            count = state.extra(*shares[0], count)
            if not count:
                return policy.shut_out(pool, requester_of(session))
        if not policy.counts(pool):
            return policy.shut_out(pool, requester_of(session))
        return policy.refusal(
            pool, requester_of(session), count, total=None if offer.uncounted else offer.seats,
            used=state.in_use[pool] + state.freed_uncommitted(pool), tally=self._tally(state),
        )  # fmt: skip

    def never(self, session: Session, offer: Offer, count: int) -> Refusal | None:
        """Return why *session* may not have *count* seats of *offer* even when nobody holds any."""
        policy = self.policy
        if not policy.decides(offer.pool):
            return None
        total = None if offer.uncounted else offer.seats
        return policy.never(offer.pool, requester_of(session), count, total=total)

    def exceeded(
        self, state: LedgerState, session: Session, offer: Offer, count: int,
        shares: tuple[Share, ...] = (),
    ) -> tuple[CountRule, ...]:  # fmt: skip
        """Return all MAX lines that *count* seats of *offer* for *session* would go beyond now."""
        if not self.policy.counts(offer.pool):
            return ()
        if shares and shares[0].group:
            count = state.extra(*shares[0], count)
        if not count:
            return ()
        return self.policy.exceeded(
            offer.pool, requester_of(session), count, tally=self._tally(state)
        )

    def limits_on(self, session: Session, pool: str) -> tuple[CountRule, ...]:
        """Return the MAX lines that count what *session* holds of *pool*."""
        return self.policy.limits_on(pool, requester_of(session))

    def kept_for(self, session: Session, pool: str) -> frozenset[int]:
        """Return the RESERVE lines, by number, whose seats of *pool* *session* may have."""
        return self.policy.kept_for(pool, requester_of(session))

    def is_kept_for(
        self, state: LedgerState, session: Session, offer: Offer, count: int, *, besides: set[int]
    ) -> bool:
        """Say whether *count* seats are all kept for *session*, by RESERVE lines not in *besides*."""
        return self.policy.is_kept_for(
            offer.pool, requester_of(session), count, total=offer.seats,
            tally=self._tally(state), besides=besides,
        )  # fmt: skip

    def shut_out(self, session: Session, offers: Sequence[Offer]) -> Refusal | None:
        """Return the refusal if EXCLUDE and INCLUDE let *session* have none of *offers* at all."""
        who = requester_of(session)
        refusals = [self.policy.shut_out(offer.pool, who) for offer in offers]
        return None if not refusals or None in refusals else refusals[0]

    def kept_back(self, offers: Sequence[Offer]) -> str:
        """Return, for a denial, which MAX_OVERDRAFT makes the count smaller; '' for none."""
        rules = [
            rule for offer in offers if offer.pool in self.overdrafts
            and (rule := self.policy.number_rule("MAX_OVERDRAFT", offer.pool)) is not None
        ]  # fmt: skip
        return f"; the licence allows more, {self.policy.options.where(rules[0])} does not" if rules else ""

    def reservations(self, state: LedgerState, offer: Offer) -> list[tuple[CountRule, int]]:
        """Return each RESERVE about *offer* with the seats that it keeps now."""
        if offer.uncounted or not self.policy.counts(offer.pool):
            return []
        return list(self.policy.reservations(offer.pool, offer.seats, self._tally(state)))

    def _tally(self, state: LedgerState) -> Tally:
        """The counts of *state*: made when these rules are new to it, and moved by its entries."""
        watcher = self._watcher
        if watcher is None or state.books.watcher is not watcher:
            watcher = self._watcher = state.books.watcher = SeatTally(self.policy, state)
        return watcher.tally


def facts_of(options: OptionsFile, rights: Rights) -> list[PoolFacts]:
    """Return what the rules of *options* need to know of each pool, in the order of *rights*."""
    specs = [
        rule.feature for rule in options.rules
        if isinstance(rule, AccessRule | CountRule | FeatureNumber) and rule.feature is not None
    ]  # fmt: skip
    deep = frozenset(spec.name for spec in specs if spec.key and spec.key not in _KNOWN_KEYS)
    facts = [_facts(pool, look_inside=pool.feature in deep) for pool in rights.pools]
    rules = [
        rule for rule in options.rules
        if isinstance(rule, FeatureNumber) and rule.keyword == "MAX_OVERDRAFT"
    ]  # fmt: skip
    if not rules:
        return facts
    return [_less_overdraft(*each, rules) for each in zip(facts, rights.pools, strict=True)]


def _less_overdraft(facts: PoolFacts, pool: Pool, rules: Sequence[FeatureNumber]) -> PoolFacts:
    """Return the facts with a total that has no more of OVERDRAFT than the last of *rules* allows."""
    allowed = [rule.number for rule in rules if means(rule.feature, facts)]
    if not allowed or not facts.total:
        return facts
    more = sum(line.overdraft for line in pool.lines) - allowed[-1]
    return facts._replace(total=facts.total - max(0, more))


def policy_of(options: OptionsFile | None, rights: Rights) -> Policy | None:
    """Return what *options* says about the pools of *rights*, None where it says nothing."""
    if options is None or not options.rules:
        return None
    return Policy(options, facts_of(options, rights))


def regulations_of(options: OptionsFile | None, rights: Rights) -> Regulations | None:
    """Return what *options* says about *rights*, None where nothing can be refused by it."""
    policy = policy_of(options, rights)
    if policy is None:
        return None
    overdrafts = {
        pool.key: most for pool in rights.pools
        if (most := policy.number("MAX_OVERDRAFT", pool.key)) is not None
        and most < sum(line.overdraft for line in pool.lines)
    }  # fmt: skip
    if overdrafts or any(policy.decides(pool.key) for pool in rights.pools):
        return Regulations(policy, overdrafts)
    return None


def _facts(pool: Pool, *, look_inside: bool) -> PoolFacts:
    uncounted = any(line.seats == 0 for line in pool.lines)
    return PoolFacts(pool.key, pool.feature, 0 if uncounted else sum(n.seats for n in pool.lines),
                     tuple(_keys(line, look_inside) for line in pool.lines))  # fmt: skip


def _keys(line: Line, look_inside: bool) -> dict[str, str]:
    keys = {"VERSION": line.version, "EXPDATE": line.expiry_text, "HOSTID": line.lock,
            "VENDOR_STRING": line.vendor_string}  # fmt: skip
    if look_inside:
        for feature in parse_license(line.signed_text).signable_lines:
            for attribute in feature.attributes:
                keys.setdefault(attribute.key.upper(), attribute.value or "")
    return keys
