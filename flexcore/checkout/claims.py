"""First come, first served: what requests that wait keep from those that came later.

**The rule**, by pool: whoever came later does not overtake a request that waits for the same pool, also
where the later one is small and would fit. Otherwise a request for many licences would wait for ever
while small ones take each licence that comes back
(``tests/test_queue_server.py::test_a_large_request_does_not_starve``). A suite's pool is a pool like
others: who waits for one component is not overtaken by another component of the suite.

Four kinds may pass, none of which takes anything that an earlier one could have had:

* who takes no further licence, since the duplicate group has it already;
* who takes back what lingers for him, as far as it is of the same pool
  (``tests/test_queue_server.py::test_what_lingers_in_one_pool_lets_nobody_pass_in_another``);
* who takes only seats that RESERVE keeps for him, and of which no earlier one may have any;
* who is not held up by what holds up the earlier one: a request that exceeds its own MAX claims the MAX,
  not the pool. Nobody counted by the same MAX overtakes it; others need not wait for what may take for
  ever. Once its MAX has room it claims the pool, at its old place.

What can never be granted does not wait: it is refused at once, and so is what waits when the file or the
options take away what it waits for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexcore.ledger.commands import Share
    from flexcore.ledger.state import LedgerState, Session
    from flexcore.options.rules import CountRule

    from .regulations import Regulations
    from .rights import Offer


_NOTHING: Mapping[str, int] = {}


class Claims:
    """What earlier requests of a line wait for. *all* is set where nobody can pass."""

    def __init__(self, regulations: Regulations | None) -> None:
        self._regulations = regulations
        self._pools: dict[str, set[int]] = {}
        self._limits: list[CountRule] = []
        self._back = _NOTHING
        self.all = False

    def besides(self, back: Mapping[str, int]) -> Claims:
        """Return the same claims on whoever gives *back* so many seats of each pool: what he takes of
        these is no overtaking."""
        twin = Claims(self._regulations)
        twin._pools, twin._limits, twin._back, twin.all = self._pools, self._limits, back, self.all
        return twin

    def has(self, pool: str) -> bool:
        """Whether an earlier request waits for *pool*."""
        return self.all or pool in self._pools

    def add(
        self, state: LedgerState, session: Session, offer: Offer, count: int,
        shares: tuple[Share, ...],
    ) -> None:  # fmt: skip
        """*session* waits for *count* seats of *offer*, which it may have some day."""
        kept: frozenset[int] = frozenset()
        if self._regulations is not None:
            limits = self._regulations.exceeded(state, session, offer, count, shares)
            if limits:
                self._limits += [rule for rule in limits if rule not in self._limits]
                return
            kept = self._regulations.kept_for(session, offer.pool)
        if not offer.uncounted:
            self._pools.setdefault(offer.pool, set()).update(kept)
        terms = offer.terms
        if terms is not None and terms.suite and not terms.suite_uncounted:
            self._pools.setdefault(terms.suite, set())

    def lets_pass(
        self, state: LedgerState, session: Session, offer: Offer, count: int,
        shares: tuple[Share, ...],
    ) -> bool:  # fmt: skip
        """Say whether *session* may have *count* seats of *offer*, which are free, before those that wait."""
        if shares:
            taken = [(share.pool, state.extra(share.pool, share.group, count)) for share in shares]
        else:
            taken = [(offer.pool, count)]
        taken = [(pool, more) for pool, more in taken if more > self._back.get(pool, 0)]
        if not taken:
            return True
        if self.all:
            return False
        rules = self._regulations
        if rules is not None and self._limits and taken[0][0] == offer.pool:
            mine = rules.limits_on(session, offer.pool)
            if any(rule in self._limits for rule in mine):
                return False
        for pool, more in taken:
            others = self._pools.get(pool)
            if others is None or (offer.uncounted and pool == offer.pool):
                continue
            if pool != offer.pool or rules is None:
                return False
            if not rules.is_kept_for(state, session, offer, more, besides=others):
                return False
        return True
