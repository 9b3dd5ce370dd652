"""All servers of a triad at once, blocking: who is up, who serves, what is in use.

One address is enough: any server names the others (``ServerHello.servers``). Each server is asked
in a thread of its own, since looking up a name cannot be given a time limit; a thread that is late
is left behind and closes what it opened.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from flexcore.codes import ErrorCode
from flexcore.errors import NotOneTriad
from flexcore.report.status import (
    SERVING,
    Failure,
    ServerStatus,
    Status,
    StatusLost,
    VendorStatus,
)
from flexcore.wire.messages import (
    FeatureRow,
    NotServing,
    QueueRow,
    ReservationRow,
    SeatRow,
    ServerAddress,
    ServerHello,
    StatusPage,
)

from ._link import Link, LinkFailed, open_link

DEFAULT_TIMEOUT_S = 3.0
SETTLE_S = 1.0
"""Two servers without a master are asked again for so long: an election takes milliseconds."""

SETTLE_STEP_S = 0.05
VENDORS_MAX = 64
"""Vendors of one server that are asked; a server that names more is no honest one."""

PAGES_MAX = 100_000
"""More pages than this are no honest answer."""

_ELECTING = frozenset({"candidate", "follower", "waiting"})
_ANY_HOST = frozenset({"this_host", "any"})


def ask_all(
    addresses: Sequence[ServerAddress],
    timeout_s: float,
    *,
    open_one: Callable[[ServerAddress, float], Link] = open_link,
) -> list[Link | Failure]:
    """Open a link to each address, all at once; after *timeout_s* whoever is not there failed."""
    return ask_each([partial(open_one, address, timeout_s) for address in addresses], timeout_s)


def ask_each(calls: Sequence[Callable[[], Link]], timeout_s: float) -> list[Link | Failure]:
    """Make each of *calls* in a thread of its own; after *timeout_s* whoever is not there failed."""
    import errno
    import os

    late = Failure(ErrorCode.CANNOT_CONNECT, errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    results: list[Link | Failure] = [late] * len(calls)
    lock = threading.Lock()
    closed = False

    def ask(index: int, call: Callable[[], Link]) -> None:
        result: Link | Failure
        try:
            result = call()
        except LinkFailed as failed:
            result = failed.failure
        with lock:
            if not closed:
                results[index] = result
                return
        if isinstance(result, Link):
            result.close()

    threads = [
        threading.Thread(target=ask, args=(index, call), daemon=True)
        for index, call in enumerate(calls)
    ]
    deadline = time.monotonic() + timeout_s + SETTLE_STEP_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    with lock:
        closed = True
        return list(results)


class Survey:
    """The servers of one licence file: a link to each that answers, why not to each other.

    ``servers`` are in the order of the SERVER lines as far as that is known. Use as a context
    manager: it closes the links.

    Raises:
        NotOneTriad: the addresses are servers of different licence files.
    """

    def __init__(self, addresses: Sequence[ServerAddress], timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.servers: tuple[ServerAddress, ...] = tuple(addresses)
        self.links: dict[int, Link] = {}
        self.failures: dict[int, Failure] = {}
        self.problem: Failure | None = None
        self.reservations: tuple[ReservationRow, ...] = ()
        """Of the features that were asked for last."""
        self.vendor = ""
        self.asked = addresses[0]
        self.vendors: dict[str, Link | Failure] = {}
        """Where a single server has several: each, in the order of the VENDOR lines; else empty."""
        self._ask()
        self._ask_vendors()

    def __enter__(self) -> Survey:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """End all links."""
        for link in [*self.links.values(), *self.vendor_links.values()]:
            link.close()

    def reopen(self) -> None:
        """Ask everybody anew, over new connections: one of them was ended by a question."""
        self.close()
        self.links, self.failures = {}, {}
        self._ask()
        self._ask_vendors()

    @property
    def vendor_links(self) -> dict[str, Link]:
        """Of several vendors those that answered, each with a link of its own (one has the server's)."""
        return {name: link for name, link in self.vendors.items() if isinstance(link, Link)}

    @property
    def master(self) -> Link | None:
        """The link to the server that serves, of two that say so the one with the higher term."""
        serving = [link for link in self.links.values() if link.report.state == SERVING]
        return max(serving, key=lambda link: link.report.term, default=None)

    def status(
        self, wall: float, *, features: tuple[FeatureRow, ...] = (), wanted: str = ""
    ) -> Status:
        """Return what is known now as one value."""
        servers = tuple(
            ServerStatus(address=address, report=self.links[index].report)
            if index in self.links
            else ServerStatus(address=address, failure=self.failures.get(index))
            for index, address in enumerate(self.servers)
        )
        return Status(
            wall=wall, servers=servers, vendor=self.vendor, features=features, wanted=wanted,
            failure=self.problem, reservations=self.reservations, vendors=tuple(
                VendorStatus(name=name, report=each.report) if isinstance(each, Link)
                else VendorStatus(name=name, failure=each)
                for name, each in self.vendors.items()
            ),
        )  # fmt: skip

    def settle(self) -> None:
        """Wait a moment for an election that is going on to end."""
        deadline = time.monotonic() + SETTLE_S
        while self._is_electing() and time.monotonic() < deadline:
            time.sleep(SETTLE_STEP_S)
            self.refresh()

    def refresh(self) -> None:
        """Ask every server again what it is; who does not answer any more becomes a failure."""
        for index, link in list(self.links.items()):
            try:
                link.refresh(self.timeout_s)
            except LinkFailed as failed:
                link.close()
                del self.links[index]
                self.failures[index] = failed.failure

    def features(self, wanted: str = "") -> tuple[FeatureRow, ...]:
        """Return the master's pools, those of *wanted* if it is given.

        A master that went away since it said hello is replaced by whoever serves now, once.

        Raises:
            StatusLost: the master does not serve any more, or does not answer.
        """
        try:
            return self._all_features(wanted)
        except StatusLost:
            self.refresh()
            self.settle()
            if self.master is None:
                raise
        return self._all_features(wanted)

    def seats(self, feature: str) -> Iterator[SeatRow]:
        """Yield the seats of *feature*, a page at a time. Raises as :meth:`features` does."""
        for link in self._sources():
            for page in self._pages(link, "seats", feature):
                for row in page.seats:
                    if row.feature == feature:
                        yield row

    def queue(self, feature: str) -> Iterator[QueueRow]:
        """Yield who waits for *feature*, a page at a time. Raises as :meth:`features` does."""
        for link in self._sources():
            for page in self._pages(link, "queue", feature):
                for row in page.queue:
                    if row.feature == feature:
                        yield row

    def _all_features(self, wanted: str) -> tuple[FeatureRow, ...]:
        rows: list[FeatureRow] = []
        kept: list[ReservationRow] = []
        for link in self._sources():
            try:
                pages = list(self._pages(link, "features", wanted))
            except StatusLost as lost:
                if not self.vendors:
                    raise
                self.vendors[link.hello.vendor] = lost.failure  # the others are not lost with it
                continue
            rows += [
                row for page in pages for row in page.features if not wanted or row.feature == wanted
            ]
            kept += [row for page in pages for row in page.reservations]
        self.reservations = tuple(kept)
        return tuple(rows)

    # --- asking -----------------------------------------------------------------------------------

    def _ask(self) -> None:
        asked = self.servers
        results = ask_all(asked, self.timeout_s)
        found = [
            (address, result)
            for address, result in zip(asked, results, strict=True)
            if isinstance(result, Link)
        ]
        if not found:
            self._take_failures(asked, results)
            return
        first = found[0][1].hello
        self.vendor = first.vendor
        strangers = _not_one_triad(asked, found)
        if strangers:
            for _, link in found:
                link.close()
            raise NotOneTriad(strangers)
        self.servers = first.servers or asked
        for address, link in found:
            self._take_link(address, link)
        self._take_failures(asked, results)
        missing = [
            index
            for index in range(len(self.servers))
            if index not in self.links and index not in self.failures
        ]
        again = ask_all([self.servers[index] for index in missing], self.timeout_s)
        for index, result in zip(missing, again, strict=True):
            if not isinstance(result, Link):
                self.failures[index] = result
            elif _same_triad(first, result.hello) and result.report.rank == index:
                self.links[index] = result
            else:
                result.close()
                self.failures[index] = Failure(
                    ErrorCode.INVALID_HOST,
                    text=f"A server of another licence file, or another rank, answers at {index}",
                )

    def _take_link(self, address: ServerAddress, link: Link) -> None:
        """Put a link at the rank that its server has; a second way to the same server is closed."""
        rank = link.report.rank
        if not 0 <= rank < len(self.servers) or rank in self.links:
            link.close()
            return
        self.links[rank] = link
        if self.servers[rank].host.casefold() in _ANY_HOST:
            servers = list(self.servers)
            servers[rank] = ServerAddress(address.host, address.port)
            self.servers = tuple(servers)

    def _take_failures(
        self, asked: Sequence[ServerAddress], results: Sequence[Link | Failure]
    ) -> None:
        """Note failures of addresses that are SERVER lines, or stand where one stands."""
        known = [_key(address) for address in self.servers]
        for place, (address, result) in enumerate(zip(asked, results, strict=True)):
            if isinstance(result, Link):
                continue
            if _key(address) in known:
                index = known.index(_key(address))
            elif len(asked) == len(self.servers):
                index = place
            else:
                continue
            if index not in self.links:
                self.failures[index] = result

    def _is_electing(self) -> bool:
        if self.master is not None or len(self.links) < min(len(self.servers), 2):
            return False
        return any(
            link.report.state in _ELECTING
            and (link.report.until_s is None or link.report.until_s <= SETTLE_S)
            for link in self.links.values()
        )

    def _ask_vendors(self) -> None:
        """Where one port has several vendors behind it, each is greeted by its name."""
        first = next(iter(self.links.values()), None)
        if first is None or len(first.hello.vendors) < 2:
            return
        names = list(dict.fromkeys([first.hello.vendor, *first.hello.vendors]))[:VENDORS_MAX]
        others = [name for name in names if name != first.hello.vendor]
        answers = ask_each(
            [partial(open_link, self.asked, self.timeout_s, vendor=name) for name in others],
            self.timeout_s,
        )
        found = dict(zip(others, answers, strict=True))
        self.vendors = {name: found.get(name, first) for name in first.hello.vendors if name in names}

    def _sources(self) -> list[Link]:
        """Whoever can tell of features and seats: the master, or each of several vendors."""
        if self.vendors:
            return list(self.vendor_links.values())
        link = self.master
        if link is None:
            raise StatusLost(Failure(ErrorCode.VENDOR_DOWN))
        return [link]

    def _pages(self, link: Link, what: str, feature: str) -> Iterator[StatusPage]:
        cursor = ""
        for _ in range(PAGES_MAX):
            try:
                answer = link.status(what, feature, cursor, self.timeout_s)
            except LinkFailed as failed:
                raise StatusLost(failed.failure) from None
            if isinstance(answer, NotServing):
                raise StatusLost(Failure(ErrorCode.VENDOR_DOWN))
            if not isinstance(answer, StatusPage):
                break
            yield answer
            cursor = answer.cursor
            if not cursor:
                return
        raise StatusLost(Failure(ErrorCode.BAD_DATA_FROM_SERVER))


def _key(address: ServerAddress) -> tuple[str, int]:
    return address.host.casefold(), address.port


def _same_triad(one: ServerHello, other: ServerHello) -> bool:
    """They share one licence file: by the digest of vendor and hostids, else by what it lists."""
    if one.membership_digest and other.membership_digest:
        return one.membership_digest == other.membership_digest
    return one.vendor == other.vendor and len(one.servers) == len(other.servers)


def _not_one_triad(
    asked: Sequence[ServerAddress], found: Sequence[tuple[ServerAddress, Link]]
) -> str:
    """A comma list means one triad (seed, "Configuring the License Search Path"): say if not."""
    first_address, first = found[0]
    for address, link in found[1:]:
        if not _same_triad(first.hello, link.hello):
            return f"{_place(first_address)} and {_place(address)} are no one triad; {_COMMA}"
    if len(asked) > 1 and len(first.hello.servers) == 1:
        return f"{_place(first_address)} is a single server, not one of a triad; {_COMMA}"
    return ""


_COMMA = (
    "a comma joins the three servers of one licence file, alternatives are separated by a colon"
)


def _place(address: ServerAddress) -> str:
    return f"{address.port}@{address.host}"
