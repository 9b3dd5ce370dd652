"""In which order the alternatives of a search path are asked (seed, redundancy by the search path).

In the order of the path, except that a feature is first asked for where it was granted last: the servers
before that one were full or down. Or, where the application prefers that, in the order of what is free: every
server that serves is asked how much of the feature is in use, and whoever has the largest share free comes
first. Who does not tell within ``LOAD_WAIT_S`` comes last, in the order of the path; so does, for a minute, a
server that had to be passed over, since it did not serve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from flexcore.client.request import Request
from flexcore.client.site import Site
from flexcore.client.state import State
from flexcore.client.values import LEAST_LOADED

LOAD_WAIT_S = 1.0
"""How long it may take to find out who has most free; then whoever has told is chosen from."""

LATE_S = 60.0
"""How long a server that did not serve in time is asked after all others, unless it serves meanwhile."""

REMEMBERED_MAX = 256
"""Features of which a client remembers where it got them."""


class Router(State):
    """What a client with several alternatives remembers, and how it chooses."""

    __slots__ = ("by_load", "granted_by", "late_at")

    def __init__(self, prefer: str) -> None:
        self.by_load = prefer == LEAST_LOADED
        self.granted_by: dict[str, int] = {}
        self.late_at: dict[int, float] = {}  # sites that were passed over, and when

    def note_grant(self, feature: str, site: int) -> None:
        """*site* has granted *feature*."""
        self.granted_by.pop(feature, None)
        if site or self.by_load:  # the first is asked first in any case
            self.granted_by[feature] = site
            if len(self.granted_by) > REMEMBERED_MAX:
                del self.granted_by[next(iter(self.granted_by))]

    def note_late(self, site: int, now: float) -> None:
        """*site* did not serve in time: others are asked before it for a while."""
        self.late_at[site] = now

    def order(
        self, request: Request, sites: Sequence[Site], now: float, patience_s: float
    ) -> Sequence[Site] | None:
        """Return the sites in the order in which *request* asks them; None while that is being found out.

        *patience_s*: after so long a site that does not serve is not waited for."""
        if len(sites) == 1:
            return sites
        if not request.order:
            if self.by_load and not self._loads_are_known(request, sites, now, patience_s):
                return None
            request.order = self._chosen(request, sites, now)
        places = request.order
        if request.site is not None:  # it goes on from where it was put
            start = places.index(request.site)
            places = (*places[start:], *places[:start])
        return [sites[index] for index in places]

    def next_at(self, requests: Iterable[Request]) -> float | None:
        """When a request has waited long enough for what the servers tell."""
        if not self.by_load:
            return None
        return min(
            (each.begun_at + LOAD_WAIT_S for each in requests if each.begun_at is not None and not each.order),
            default=None,
        )

    def _loads_are_known(
        self, request: Request, sites: Sequence[Site], now: float, patience_s: float
    ) -> bool:
        if request.begun_at is None:
            request.begun_at = now
        known = True
        for site in sites:
            if site.broken:
                continue
            if not site.ready:
                site.wanted = True
                known = known and site.gave_up(now, patience_s)
            elif site.loads.share(request.feature, request.begun_at) is None:
                site.ask_load(request.feature)
                known = False
        return known or now >= request.begun_at + LOAD_WAIT_S

    def _chosen(self, request: Request, sites: Sequence[Site], now: float) -> tuple[int, ...]:
        remembered = self.granted_by.get(request.feature, 0)
        first = [remembered, *(site.index for site in sites if site.index != remembered)]
        if self.by_load:
            since_at = request.begun_at or 0.0
            told = [site.loads.share(request.feature, since_at) for site in sites]
            shares = [-1.0 if share is None else share for share in told]
            first.sort(key=lambda index: -shares[index])
        late = [
            site.index
            for site in sites
            if not site.ready and now < self.late_at.get(site.index, -math.inf) + LATE_S
        ]
        return (*(index for index in first if index not in late), *(index for index in first if index in late))
