"""Who holds a feature, for the text of a denial: bounded, and not counted anew for every denial.

A farm whose licences are all in use is denied thousands of times a second; each answer names some
holders, but the list is looked up at most once a second a feature.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexcore.ledger import LedgerState

HOLDERS_NAMED_MAX = 8
SEATS_LOOKED_AT_MAX = 2_000
LIST_LIFE_S = 1.0
_LISTS_MAX = 256


class HolderLists:
    """Texts such as ``ann@elm (2), bob@oak and 3 more``, each kept for a second."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, str]] = {}

    def copy(self) -> HolderLists:
        """Return a twin that keeps the same texts."""
        twin = HolderLists()
        twin._kept = dict(self._kept)
        return twin

    def text(self, state: LedgerState, feature: str, pools: Iterable[str], now: float) -> str:
        """Return who holds seats of *feature* out of *pools*, in the order of their checkouts."""
        kept = self._kept.get(feature)
        if kept is not None and kept[0] <= now < kept[0] + LIST_LIFE_S:
            return kept[1]
        if len(self._kept) >= _LISTS_MAX:
            self._kept.clear()
        text = _holders(state, pools)
        self._kept[feature] = (now, text)
        return text


def _holders(state: LedgerState, pools: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for pool in pools:
        for seat in state.seats_page(pool, 0, SEATS_LOOKED_AT_MAX):
            session = state.holder_of(seat)
            name = f"{session.user}@{session.host}"
            counts[name] = counts.get(name, 0) + seat.seats
    named = [f"{name} ({count})" if count > 1 else name
             for name, count in islice(counts.items(), HOLDERS_NAMED_MAX)]  # fmt: skip
    more = len(counts) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")
