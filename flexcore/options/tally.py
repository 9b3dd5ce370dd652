"""Who holds what, counted by the rules that ask for it: what MAX and RESERVE need of the ledger.

A checkout asks "how many do those whom line 7 names hold together": looked up among 1,000 holders that
took 10 ms. So it is counted when a seat is taken or given back, and read at a checkout. Nothing of
this is state: it is made out of the seats that are held whenever options or a ledger are new
(:mod:`flexcore.checkout.tallies`).

What a requester counts for is found out once for each pool and requester, and remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from .patterns import Matcher, Requester
from .reservations import Filling, clipped
from .rules import CountRule

HOLDERS_NAMED_MAX = 8
KINDS_MAX = 20_000
"""Requesters a pool of whom it is remembered what matches them; beyond, all are looked up anew."""


class Limit(NamedTuple):
    """A MAX with the pools that it means; *number* is its place among the file's."""

    number: int
    rule: CountRule
    matches: Matcher
    pools: tuple[str, ...]


class Reserve(NamedTuple):
    """A RESERVE, as far as it lies in one pool."""

    rule: CountRule
    matches: Matcher
    size: int


class Classes(NamedTuple):
    """What somebody counts for in a pool: MAX lines, and the reservations, by number, that he may fill."""

    limits: tuple[Limit, ...]
    kind: tuple[int, ...]


class Counted:
    """The rules about one pool for which holders are counted."""

    def __init__(self) -> None:
        self.limits: list[Limit] = []
        self.reserves: list[Reserve] = []
        self.reserved = 0
        """Seats of all of them."""
        self._known: dict[Requester, Classes] = {}

    def __bool__(self) -> bool:
        return bool(self.limits or self.reserves)

    def reserve(self, reserve: Reserve) -> None:
        """One more reservation."""
        self.reserves.append(reserve)
        self.reserved += reserve.size

    def classes_of(self, who: Requester) -> Classes:
        """Return what *who* counts for."""
        known = self._known.get(who)
        if known is None:
            if len(self._known) >= KINDS_MAX:
                self._known.clear()
            known = Classes(
                tuple(limit for limit in self.limits if limit.matches(who)),
                tuple(i for i, each in enumerate(self.reserves) if each.matches(who)),
            )
            self._known[who] = known
        return known


class Holdings:
    """How many seats some people hold, and who they are."""

    __slots__ = ("_names", "seats")

    def __init__(self) -> None:
        self.seats = 0
        self._names: dict[str, int] = {}

    def add(self, name: str, seats: int) -> None:
        """*name* holds *seats* more; fewer if negative."""
        self.seats += seats
        left = self._names.get(name, 0) + seats
        if left:
            self._names[name] = left
        else:
            self._names.pop(name, None)

    def text(self) -> str:
        """Return `` by ann@elm (2), bob@oak and 3 more``, "" if it is nobody."""
        names = self._names
        if not names:
            return ""
        named = [f"{name} ({count})" if count > 1 else name
                 for name, count in islice(names.items(), HOLDERS_NAMED_MAX)]  # fmt: skip
        more = len(names) - len(named)
        return " by " + ", ".join(named) + (f" and {more} more" if more else "")


class Reserved:
    """The holders of a pool with reservations, by the reservations that they may fill."""

    def __init__(self, reserves: Iterable[Reserve]) -> None:
        self._sizes = tuple(each.size for each in reserves)
        self._kinds: dict[tuple[int, ...], int] = {}
        self._filling: Filling | None = None
        self._total = 0
        self.holdings = Holdings()

    def add(self, kind: tuple[int, ...], seats: int) -> None:
        """Those of *kind*, who may fill something, hold *seats* more."""
        left = self._kinds.get(kind, 0) + seats
        if left:
            self._kinds[kind] = left
        else:
            self._kinds.pop(kind, None)
        if self._filling is not None:
            if seats > 0:
                self._filling.add(kind, seats)
            else:
                self._filling.remove(kind, -seats)

    def filling(self, total: int) -> Filling:
        """Return how far the reservations of a pool of *total* are filled now; not to be changed."""
        filling = self._filling
        if filling is None or total != self._total:
            filling = Filling(clipped(self._sizes, total))
            for kind, seats in self._kinds.items():
                filling.add(kind, seats)
            self._filling, self._total = filling, total
        return filling


class Tally:
    """What those hold together who are named by a MAX, and how far each RESERVE is filled."""

    def __init__(self, pools: dict[str, Counted]) -> None:
        """*pools*: those about which there is a MAX or a RESERVE."""
        self._pools = pools
        self._limits: dict[int, Holdings] = {}
        self._reserved: dict[str, Reserved] = {}
        for pool, counted in pools.items():
            for limit in counted.limits:
                self._limits.setdefault(limit.number, Holdings())
            if counted.reserves:
                self._reserved[pool] = Reserved(counted.reserves)

    def add(self, pool: str, who: Requester, seats: int) -> None:
        """*who* holds *seats* more of *pool*; fewer if negative."""
        counted = self._pools.get(pool)
        if counted is None:
            return
        limits, kind = counted.classes_of(who)
        for limit in limits:
            self._limits[limit.number].add(who.name, seats)
        reserved = self._reserved.get(pool)
        if reserved is not None:
            reserved.holdings.add(who.name, seats)
            if kind:
                reserved.add(kind, seats)

    def held(self, limit: Limit) -> Holdings:
        """Return what those hold together who are named by a MAX, in all pools that it means."""
        return self._limits[limit.number]

    def reserved(self, pool: str) -> Reserved:
        """Return the holders of a pool that has reservations."""
        return self._reserved[pool]
