"""Which addresses of a triad to try next, and when.

A dead first host costs nothing: the next address is dialled ``CLIENT_STAGGER_S`` later, or at once
when the first failed. Each address backs off on its own, from 0.1 s doubled up to min(1 s, L/20)
(design.md section 10). The master is learned from any member and tried first from then on.
``tests/test_client_search.py`` shows all of it.
"""

from __future__ import annotations

import math

from flexcore import timing
from flexcore.client.state import State
from flexcore.client.values import TRIAD_MAX
from flexcore.wire.messages import ServerAddress, ServerHello, ServerReport

NEVER = -math.inf

WORDS_MAX = 200
"""Longest explanation that is kept of an address: what another machine says is shown, not stored for ever."""

SILENCES_MAX = 4
"""Waits in vain that are counted: LINK_WAIT_S doubled so often is above every bound of a wait."""


class Backoff(State):
    """What happened at one address."""

    __slots__ = ("code", "errno", "error", "failures", "next_at", "silences", "silent")

    def __init__(self) -> None:
        self.failures = 0
        self.next_at = NEVER
        self.error = ""
        self.errno: int | None = None
        self.code = 0  # of the refusal that the server gave as its reason
        self.silences = 0  # waits that were in vain since it last answered
        self.silent = False  # it took the connection and said nothing


class Search(State):
    """The addresses of one alternative of the path: those of the path, and those that its servers name."""

    __slots__ = (
        "backoffs",
        "dial_at",
        "listed",
        "master",
        "names",
        "ranks",
        "servers",
        "spread",
    )

    NUMBERING = frozenset({"names"})  # which follows from listed, servers and ranks

    def __init__(self, listed: tuple[ServerAddress, ...], spread: float) -> None:
        self.listed = listed
        self.spread = spread  # 0..1, this client's own: waits of many clients do not coincide
        self.servers: tuple[ServerAddress, ...] = ()
        self.ranks: dict[ServerAddress, int] = {}
        self.names: dict[ServerAddress, ServerAddress] = {}
        self.master: ServerAddress | None = None
        self.backoffs: dict[ServerAddress, Backoff] = {}
        self.dial_at = NEVER

    def candidates(self) -> list[ServerAddress]:
        """All addresses worth trying, best first: the master, the path's, then what the servers call themselves
        where no address of the path is known to be that server."""
        known = {self.ranks[a] for a in self.listed if a in self.ranks}
        named = [a for rank, a in enumerate(self.servers) if rank not in known]
        first = [self.master] if self.master is not None else []
        return list(dict.fromkeys([*first, *self.listed, *named]))

    def address_of(self, rank: int) -> ServerAddress | None:
        """Where the server of this rank is: an address of the path that turned out to be it, or what it is called."""
        for address in self.listed:
            if self.ranks.get(address) == rank:
                return address
        return self.servers[rank] if 0 <= rank < len(self.servers) else None

    def same_server(self, one: ServerAddress, other: ServerAddress) -> bool:
        """Whether two addresses are known to be one server."""
        return self._listed_name(one) == self._listed_name(other)

    def learn_hello(self, address: ServerAddress, hello: ServerHello) -> None:
        """A member told who the others are."""
        servers = hello.servers[:TRIAD_MAX]
        if servers != self.servers:
            self.servers = servers
            kept = {*self.listed, *servers}
            self.ranks = {a: rank for a, rank in self.ranks.items() if a in kept}
            if self.master not in kept:
                self.master = None
        if address in self.listed or address in servers:
            self.ranks[address] = hello.report.rank
        self.names = {a: self._find_name(a) for a in (*self.listed, *servers)}

    def learn_master(self, report: ServerReport, now: float) -> None:
        """A member says who is master (or does not know). A new name is worth a try at once."""
        master = self.address_of(report.master_rank)
        if master is not None and master != self.master:
            self.point_to(master, now)

    def point_to(self, master: ServerAddress, now: float) -> None:
        """Try this address first, and now."""
        self.master = self._listed_name(master)
        self.dial_at = min(self.dial_at, now)

    def _listed_name(self, address: ServerAddress) -> ServerAddress:
        """The path's own address of the same server where there is one: it is the one that works
        from here."""
        return self.names.get(address, address)

    def _find_name(self, address: ServerAddress) -> ServerAddress:
        rank = self.ranks.get(address)
        if rank is None and address in self.servers:
            rank = self.servers.index(address)
        return address if rank is None else self.address_of(rank) or address

    # --- back-off ---

    def backoff(self, address: ServerAddress) -> Backoff:
        return self.backoffs.setdefault(address, Backoff())

    def retry_max_s(self, lease_s: float) -> float:
        """min(1 s, L/20), less up to a quarter of it."""
        most = timing.CLIENT_RETRY_MAX_S
        if lease_s > 0.0:
            most = timing.client_retry_max_s(lease_s)
        return most * (1.0 - self.spread / 4.0)

    def failed(
        self, address: ServerAddress, error: str, *, now: float, lease_s: float,
        errno: int | None = None, code: int = 0, silent: bool = False,
    ) -> None:  # fmt: skip
        """An attempt at, or a connection with, this address has ended."""
        backoff = self.backoff(address)
        delay = timing.CLIENT_RETRY_MIN_S * 2.0 ** min(backoff.failures, 16)
        backoff.next_at = now + min(delay, self.retry_max_s(lease_s))
        backoff.failures += 1
        backoff.error = error[:WORDS_MAX]
        backoff.errno = errno
        backoff.code = code
        backoff.silent = silent
        self.dial_at = now
        self._forget_strangers()

    def lost(self, address: ServerAddress, error: str, now: float) -> None:
        """A connection that had served was lost: it may be tried again at once."""
        backoff = self.backoff(address)
        backoff.next_at = now
        backoff.error = error[:WORDS_MAX]
        backoff.errno = None
        self.dial_at = now

    def timed_out(self, address: ServerAddress) -> None:
        """A wait for this address was in vain: the next may be longer, for the way may be."""
        backoff = self.backoff(address)
        backoff.silences = min(backoff.silences + 1, SILENCES_MAX)

    def answered(self, address: ServerAddress) -> None:
        """The server there said hello."""
        backoff = self.backoff(address)
        backoff.silences = 0
        backoff.error = ""
        backoff.errno = None
        backoff.code = 0
        backoff.silent = False

    def served(self, address: ServerAddress) -> None:
        """The server there took the session: it is the master."""
        self.backoff(address).failures = 0
        self.master = address

    def _forget_strangers(self) -> None:
        known = self.candidates()
        self.backoffs = {a: b for a, b in self.backoffs.items() if a in known}

    # --- dialling ---

    def next_dial(
        self, busy: list[ServerAddress], last: ServerAddress | None, now: float
    ) -> ServerAddress | None:
        """Return the address to dial now, if any. *busy* are being tried; *last* is to be tried after all others."""
        if now < self.dial_at:
            return None
        for address in self._free(self._order(last), busy):
            if self.backoff(address).next_at <= now:
                self.dial_at = now + timing.CLIENT_STAGGER_S
                return address
        return None

    def next_dial_at(self, busy: list[ServerAddress]) -> float | None:
        """When next_dial has something to say, if nothing happens before."""
        times = [self.backoff(address).next_at for address in self._free(self.candidates(), busy)]
        return max(self.dial_at, min(times)) if times else None

    def _free(
        self, addresses: list[ServerAddress], busy: list[ServerAddress]
    ) -> list[ServerAddress]:
        """Those of *addresses* that are none of the servers that are being tried."""
        if not busy:
            return addresses
        tried = [self._listed_name(address) for address in busy]
        return [address for address in addresses if self._listed_name(address) not in tried]

    def _order(self, last: ServerAddress | None) -> list[ServerAddress]:
        order = self.candidates()
        if last in order:
            order.remove(last)
            order.append(last)
        return order

    def all_failed(self, busy: list[ServerAddress]) -> bool:
        """Whether nothing is under way and every address has failed."""
        return not busy and all(self.backoff(address).failures for address in self.candidates())
