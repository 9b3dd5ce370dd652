"""Seats of pools that the lines in force no longer have: they count as long as they are held.

The schedule: ten licences of f1 version 1.0 are out; the file that is read anew has ten of version
2.0, which is another pool, and nothing of it is in use. With each pool counted by itself twenty would
be out, ten more than either file licenses, and after a failover to a server with the old file and
back there would be no end to it. So a feature's seats under lines that are gone stand in the way of
new grants of that feature until they are given back (rule 19: nothing is granted above the count).

Shown by ``tests/test_server_rereads.py::test_another_pool_of_the_feature_does_not_double_it``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flexcore.checkout.machine import CheckoutMachine, Denial, Grant, Verdict
from flexcore.codes import ErrorCode
from flexcore.ledger.commands import LingerResumed
from flexcore.ledger.lingering import without

if TYPE_CHECKING:
    from flexcore.checkout.rights import Offer
    from flexcore.ledger.commands import SeatGranted
    from flexcore.ledger.state import LedgerState

_ALL = 1 << 62


def _held(state: LedgerState, pool: str) -> int:
    """Return the seats of *pool* that nobody else can have: held, or given back and not committed."""
    return _ALL - state.available(pool, _ALL)


def _taken(state: LedgerState, grant: SeatGranted | LingerResumed) -> int:
    """Return the seats that *grant* takes: who shares (DUP_GROUP) takes what the others do not have."""
    for pool, group in grant.shares:
        if pool == grant.pool:
            return state.extra(pool, group, grant.count)
    return grant.count


class Leftovers:
    """The pools of one reign that are in use and not on offer, by feature; there are none as a rule."""

    def __init__(self) -> None:
        self._pools: dict[str, tuple[str, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._pools)

    def look(self, state: LedgerState, checkout: CheckoutMachine) -> None:
        """Other lines came into force, or a reign begins: find what is in use and not in them."""
        offered = {pool.key for pool in checkout.rights.pools}
        self._pools = {}
        for pool in sorted(state.pools):
            if pool not in offered:
                feature = state.seats_page(pool, 0, 1)[0].feature
                self._pools[feature] = (*self._pools.get(feature, ()), pool)

    def settle(
        self, state: LedgerState, checkout: CheckoutMachine, verdict: Verdict, day: int,
        decide: Callable[[], Verdict],
    ) -> Verdict:  # fmt: skip
        """Return *verdict* unless it is a grant that is too much for its feature; else what *decide* says
        where that pool is passed over: a later pool may be uncounted, or shared with what is held.

        What *decide* says at last is a denial about other pools, so the first refusal is the one that is told.
        """
        first: Denial | None = None
        passed: set[str] = set()
        while type(verdict) is Grant:
            refused = self.refusal(state, checkout, verdict.command, day)
            if refused is None:
                return verdict
            first = first or refused
            passed.add(verdict.command.pool)
            with checkout.passing_over(verdict.command.feature, passed, day):
                verdict = decide()
        return first or verdict

    def refusal(
        self, state: LedgerState, checkout: CheckoutMachine, grant: SeatGranted | LingerResumed, day: int
    ) -> Denial | None:
        """Return why *grant*, which its own pool has room for, is too much for its feature."""
        feature = grant.feature
        if not self._left(state, feature):
            self._pools.pop(feature, None)
            return None
        offers = checkout.offers(day).get(feature, ())
        if any(offer.uncounted and offer.pool == grant.pool for offer in offers):
            return None
        counted = [offer for offer in offers if not offer.uncounted]
        if type(grant) is LingerResumed:  # what it takes over is free for it
            with without(state, tuple(state.seats[handle] for handle in grant.ended)):
                return self._too_much(state, grant, counted)
        return self._too_much(state, grant, counted)

    def _left(self, state: LedgerState, feature: str) -> int:
        return sum(_held(state, pool) for pool in self._pools.get(feature, ()))

    def _too_much(
        self, state: LedgerState, grant: SeatGranted | LingerResumed, counted: list[Offer]
    ) -> Denial | None:
        left = self._left(state, grant.feature)
        issued = sum(offer.seats for offer in counted)
        used = left + sum(_held(state, offer.pool) for offer in counted)
        takes = _taken(state, grant)
        if not takes or used + takes <= issued:
            return None
        return Denial(
            ErrorCode.USERS_REACHED,
            f"{used} of {issued} in use, {left} of them by lines that are no longer in force",
        )

    def copy(self) -> Leftovers:
        """Return a twin."""
        twin = Leftovers()
        twin._pools = dict(self._pools)
        return twin
