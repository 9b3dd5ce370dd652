"""What an options file says about the pools of some rights, asked with the ledger's state.

The rules themselves are :mod:`flexcore.options.policy`; here holders are made out of sessions and
seats. Who holds what of a pool is looked up at most once an entry of the ledger, and only for pools
with a MAX or a RESERVE. A server without an options file has none of this (``regulations_of`` gives
None), and pays one comparison a checkout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flexcore.licensefile import parse_license
from flexcore.options.patterns import Requester
from flexcore.options.policy import Holder, Policy, PoolFacts, PoolUse, Refusal
from flexcore.options.rules import AccessRule, CountRule, FeatureNumber, OptionsFile

if TYPE_CHECKING:
    from flexcore.ledger.commands import Share
    from flexcore.ledger.state import LedgerState, Linger, Seat, Session

    from .rights import Line, Offer, Pool, Rights

_ALL = 1 << 60
_KNOWN_KEYS = frozenset({"VERSION", "EXPDATE", "VENDOR_STRING", "HOSTID"})
"""Keys of a specification that need no look into the signed lines."""


class Regulations:
    """A policy for the pools of one :class:`~flexcore.checkout.rights.Rights`."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._kept: dict[str, tuple[int, int, tuple[Holder, ...]]] = {}

    def copy(self) -> Regulations:
        """Return a twin; what it has looked up is not shared: the two may see other ledgers."""
        return Regulations(self.policy)

    def refusal(
        self, state: LedgerState, session: Session, offer: Offer, count: int,
        shares: tuple[Share, ...] = (),
    ) -> Refusal | None:  # fmt: skip
        """Return why *session* may not have *count* seats of *offer* now, or None.

        *shares*: with whom it shares licences (DUP_GROUP). Who takes no further licence is asked for
        EXCLUDE and INCLUDE alone: neither MAX nor RESERVE counts one licence twice.
        """
        policy = self.policy
        if not policy.decides(offer.pool):
            return None
        if shares and shares[0].group:
            count = state.extra(*shares[0], count)
            if not count:
                return policy.shut_out(offer.pool, _requester(session))
        return policy.refusal(
            offer.pool, _requester(session), count,
            total=None if offer.uncounted else offer.seats,
            use_of=lambda pool: self._use(state, pool),
        )  # fmt: skip

    def shut_out(self, session: Session, offers: Sequence[Offer]) -> Refusal | None:
        """Return the refusal if EXCLUDE and INCLUDE let *session* have none of *offers* at all."""
        who = _requester(session)
        refusals = [self.policy.shut_out(offer.pool, who) for offer in offers]
        return None if not refusals or None in refusals else refusals[0]

    def _use(self, state: LedgerState, pool: str) -> PoolUse:
        """Who holds what. An index and a term are one log (protocol.md rule 13), so what was looked
        up there stays right; commits change only what is pending."""
        kept = self._kept.get(pool)
        if kept is None or kept[:2] != (state.index, state.term):
            kept = self._kept[pool] = (state.index, state.term, tuple(_holders(state, pool)))
        held = sum(holder.seats for holder in kept[2])
        others = state.in_use[pool] - held  # of a suite's pool: what its components take
        return PoolUse(kept[2], others + state.freed_uncommitted(pool))


def regulations_of(options: OptionsFile | None, rights: Rights) -> Regulations | None:
    """Return what *options* says about *rights*, None where nothing can be refused by it."""
    if options is None or not options.rules:
        return None
    specs = [
        rule.feature for rule in options.rules
        if isinstance(rule, AccessRule | CountRule | FeatureNumber) and rule.feature is not None
    ]  # fmt: skip
    deep = frozenset(spec.name for spec in specs if spec.key and spec.key not in _KNOWN_KEYS)
    policy = Policy(options, [_facts(pool, look_inside=pool.feature in deep)
                              for pool in rights.pools])  # fmt: skip
    return Regulations(policy) if any(policy.decides(p.key) for p in rights.pools) else None


def _holders(state: LedgerState, pool: str) -> Iterator[Holder]:
    """Return who holds what of a pool. What a duplicate group shares is held by the one of them with
    the largest seat, the oldest of these."""
    largest: dict[str, Seat] = {}
    for seat in state.seats_page(pool, 0, _ALL):
        group = seat.shares[0].group if seat.shares else ""
        if group:
            known = largest.get(group)
            if known is None or seat.seats > known.seats:
                largest[group] = seat
        else:
            yield Holder(_requester(state.holder_of(seat)), seat.seats)
    for seat in largest.values():
        yield Holder(_requester(state.holder_of(seat)), seat.seats)


def _requester(session: Session | Linger) -> Requester:
    return Requester(session.user, session.host, session.display, session.address,
                     session.project)  # fmt: skip


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
