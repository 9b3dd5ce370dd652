"""What a client is, whether it is driven by messages or by bytes.

It walks the alternatives of the search path in the order of :mod:`flexcore.client.route`. A request goes
to the first that serves; one that cannot be reached, or does not serve, for ``ALTERNATIVE_WAIT_S`` is
passed over, and one that denies passes the request on to the next. The answer is no when nobody is left.

A checkout that may wait (*queue*) is first asked for everywhere; when nobody has it, it waits at every
alternative that had only too few, and at those that come up meanwhile. There it stays, through failovers,
until one grants it: it is withdrawn from the others, and what they granted in the same moment is given
back before the application hears of it, so that no client ever believes in two.
"""

from __future__ import annotations

from flexcore.client.borrowed import BorrowedSeats
from flexcore.client.lends import Lends
from flexcore.client.request import Request
from flexcore.client.route import Router
from flexcore.client.session import Order
from flexcore.client.site import Site
from flexcore.client.trouble import explain
from flexcore.client.values import (
    CheckoutDeniedAction,
    CheckoutGranted,
    CheckoutQueued,
    ClientConfig,
    Closed,
    ConnectFailed,
    ConnectionEnded,
    ConnectionMade,
    MessageReceived,
    NodeAction,
    NodeEvent,
    Seat,
    Trouble,
)
from flexcore.client.verify import Verifier
from flexcore.codes import ErrorCode, minor_of, text_of
from flexcore.errors import LocalProtocolError
from flexcore.override import override

ALTERNATIVE_WAIT_S = 2.0
"""How long an alternative may take to serve before the next in the path is asked as well."""

REQUESTS_MAX = 1024
"""Checkouts of one client that are not answered yet."""

ENTROPY_BYTES = 32

NAME_MAX = 128
"""Characters of a feature's name, and of a version."""


class ClientMachine(Lends):
    """A client: sessions at the alternatives of its path, and what the application asks of them.

    *entropy* is 32 random bytes, fresh for every client; ids and secrets of its sessions are derived from it. *now* is
    seconds of a clock that counts suspended time, *wall* epoch seconds; where a transport gives no *wall*, a
    suspension is not noticed (rule 23).
    """

    __slots__ = (
        "_actions",
        "_borrowed",
        "_closed_said",
        "_closing",
        "_config",
        "_next_request",
        "_now",
        "_offset",
        "_requests",
        "_router",
        "_sites",
        "_verifier",
    )
    NUMBERING = frozenset({"_config", "_next_request", "_now", "_offset", "_verifier"})
    NUMBERED = frozenset({"_requests"})

    def __init__(
        self, config: ClientConfig, *, entropy: bytes, now: float, wall: float | None = None
    ) -> None:
        if len(entropy) != ENTROPY_BYTES:
            raise ValueError(f"entropy is {ENTROPY_BYTES} random bytes, not {len(entropy)}")
        self._config = config
        self._verifier = Verifier(config.keys, config.vendor)
        self._sites = [Site(index, config, entropy) for index in range(len(config.path))]
        self._router = Router(config.prefer)
        self._borrowed = BorrowedSeats()
        self._requests: dict[int, Request] = {}
        self._next_request = 1
        self._actions: list[NodeAction] = []
        self._closing = False
        self._closed_said = False
        self._now = now
        self._offset: float | None = None
        self._see_clock(now, wall)

    # --- what the application asks ---

    def checkout(
        self, feature: str, version: str = "", count: int = 1, *, now: float,
        wall: float | None = None, queue: bool = False,
    ) -> int:  # fmt: skip
        """Ask for *count* licences of *feature*; returns the request's number. '' = the highest version on offer.

        Exactly one of CheckoutGranted and CheckoutDeniedAction follows, unless :meth:`withdraw` comes before it. While
        no server can be reached the request waits; :meth:`trouble` says why. With *queue* it waits in the server's
        queue where too few are free, and CheckoutQueued says so.

        Raises:
            LocalProtocolError: the client is closing, or REQUESTS_MAX are waiting.
            ValueError: *count* is not positive, or *feature* is no name.
        """
        if self._closing:
            raise LocalProtocolError("this client is closed")
        if len(self._requests) >= REQUESTS_MAX:
            raise LocalProtocolError(f"{REQUESTS_MAX} checkouts are waiting already")
        if count < 1:
            raise ValueError(f"a checkout is for at least one licence, not {count}")
        for name in (feature, version or "-"):
            if not 0 < len(name) <= NAME_MAX or not name.isprintable():
                raise ValueError(f"a name has 1 to {NAME_MAX} printable characters: {name!r}")
        self._see_clock(now, wall)
        request = self._take_number()
        self._requests[request] = made = Request(request, feature, version, count, queue)
        made.waits = queue and len(self._sites) == 1
        for site in self._sites:
            site.broken = ""  # whoever was misconfigured may be right today
        self._turn()
        return request

    def checkin(
        self, handle: int, *, now: float, site: int | None = None, wall: float | None = None
    ) -> int:
        """Give a seat back. It is not believed from here on; CheckedIn follows when a server has it back.

        Raises:
            LocalProtocolError: no such seat is held (it may just have been lost).
        """
        self._see_clock(now, wall)
        noted = self._borrowed.release(0 if site is None else site, handle, self._now, self._wall)
        if noted is not None:
            self._actions.append(noted)
            return 0
        for place in self._sites:
            if site in (None, place.index) and place.session is not None:
                if handle in place.session.seats:
                    request = self._take_number()
                    place.session.give_back(handle, request)
                    self._turn()
                    return request
        raise LocalProtocolError(f"no seat with handle {handle} is held")

    def set_idle(
        self, handle: int, idle: bool, *, now: float, site: int | None = None,
        wall: float | None = None,
    ) -> None:  # fmt: skip
        """Say that the product does not use a seat from now on (*idle*), or that it does again. The servers take
        back what is idle for longer than TIMEOUT of the options file; SeatLost follows then. Without a word a seat
        is in use. A handle that is not held is ignored: it may just have been lost."""
        self._see_clock(now, wall)
        for place in self._sites:
            if site in (None, place.index) and place.session is not None:
                if not idle:
                    place.session.idle_since.pop(handle, None)
                elif handle in place.session.seats:
                    place.session.idle_since.setdefault(handle, self._now)

    def withdraw(self, request: int, *, now: float, wall: float | None = None) -> None:
        """Give up a checkout: no answer to it follows. If it was granted meanwhile its seats are given back. So too
        what :meth:`resume_borrow` asked; what it asked about stays as it is.

        A number that is not waiting (any more) is ignored: its answer may already be on its way to the application.
        """
        self._see_clock(now, wall)
        waiting = self._requests.pop(request, None)
        if waiting is not None:
            self._withdraw_everywhere(waiting)
        else:
            for site in self._sites:
                if site.session is not None:
                    site.session.forget_resumed(request)
        self._turn()

    def close(self, *, now: float, wall: float | None = None) -> None:
        """Believe nothing any more, say goodbye to the servers that know this client; Closed follows, soon."""
        self._see_clock(now, wall)
        self._closing = True
        self._requests.clear()
        self._actions += self._borrowed.release_all(self._now, self._wall)
        for site in self._sites:
            site.close(now)
        self._turn()

    # --- what the application may know ---

    def held(self, now: float) -> tuple[Seat, ...]:
        """The seats that this client believes in at *now* (protocol.md rule 15)."""
        return tuple(
            seat
            for site in self._sites
            if site.session is not None and site.session.trusts(now)
            for seat in site.session.seats.values()
        ) + tuple(seat for seat in self._borrowed.seats if self.believes(seat.handle, now, seat.site))

    def believes(self, handle: int, now: float, site: int | None = None) -> bool:
        """Whether this client believes at *now* that it holds *handle* (at *site*, or anywhere)."""
        if site is not None and site < 0:
            return self._borrowed.believes(site, handle, now, None)
        return any(
            place.session is not None and place.session.believes(handle, now)
            for place in self._sites
            if site in (None, place.index)
        )

    def believed_until(self, site: int = 0) -> float | None:
        """Until when the lease at *site* runs if nothing renews it, or what was borrowed lasts; None without one."""
        if site < 0:
            return self._borrowed.ends_at(site)
        session = self._sites[site].session
        return session.lease_until if session is not None and session.lease_s else None

    @property
    def ready(self) -> bool:
        """Whether a master has this client's session, at some alternative."""
        return any(site.ready for site in self._sites)

    @property
    def closed(self) -> bool:
        return self._closed_said

    def trouble(self, now: float) -> Trouble | None:
        """Why what is asked is not answered: None where all is well."""
        return explain(self._sites, now)

    # --- what a transport drives ---

    def _happened(self, event: NodeEvent, now: float, wall: float | None) -> None:
        self._see_clock(now, wall)
        site = self._site_of(event.conn)
        if isinstance(event, ConnectionMade):
            site.connection_made(event.conn, self._now)
        elif isinstance(event, MessageReceived):
            site.receive_message(event.conn, event.message, self._now)
        elif isinstance(event, ConnectFailed):
            site.connection_over(event.conn, event.error, event.errno, self._now)
        else:
            assert isinstance(event, ConnectionEnded)
            site.connection_over(event.conn, event.error, None, self._now)
        self._turn()

    def _take_action(self) -> NodeAction | None:
        return self._actions.pop(0) if self._actions else None

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` has something to do; None: only an event or the application can change things."""
        times = [at for site in self._sites if (at := site.next_at(self._now)) is not None]
        if (ends_at := self._borrowed.next_at()) is not None:
            times.append(ends_at)
        if len(self._sites) > 1 and self._requests:
            passed = (
                site.unready_since_at + ALTERNATIVE_WAIT_S
                for site in self._sites
                if site.unready_since_at is not None
            )
            times += [at for at in passed if at > self._now]
            known_at = self._router.next_at(self._requests.values())
            if known_at is not None:
                times.append(known_at)
        return min(times, default=None)

    def handle_timeout(self, *, now: float, wall: float | None = None) -> None:
        """Time has passed. Early, late or twice is harmless."""
        self._see_clock(now, wall)
        self._turn()

    # --- inside ---

    @override
    def _take_number(self) -> int:
        self._next_request += 1
        return self._next_request - 1

    def _site_of(self, conn: int) -> Site:
        return self._sites[conn % len(self._sites)]

    @override
    def _see_clock(self, now: float, wall: float | None) -> None:
        self._now = max(self._now, now)
        if wall is None:
            return
        offset = wall - self._now
        if self._offset is not None:
            for site in self._sites:
                beat = site.session.heartbeat_s if site.session is not None else 0.0
                if beat and offset - self._offset > beat:
                    site.distrust(self._now)
        if offset != self._offset:
            self._offset = offset
            for site in self._sites:
                site.clock_gap_s = offset

    @property
    @override
    def _wall(self) -> float | None:
        return None if self._offset is None else self._now + self._offset

    @override
    def _turn(self) -> None:
        self._actions += self._borrowed.advance(self._now, self._wall)
        for _ in range(2 * len(self._sites) + 4):
            self._place_all()
            for site in self._sites:
                site.advance(self._now)
            if not self._collect():
                break
        if self._closing and not self._closed_said and all(site.closed for site in self._sites):
            self._closed_said = True
            self._actions.append(Closed())

    def _collect(self) -> bool:
        """Take over what the sites have to say; returns whether that was anything."""
        found = False
        for site in self._sites:
            actions, site.actions = site.actions, []
            found = found or bool(actions)
            for action in actions:
                if isinstance(action, CheckoutGranted):
                    self._granted(action)
                elif isinstance(action, CheckoutDeniedAction):
                    self._denied(site, action)
                elif isinstance(action, CheckoutQueued):
                    self._queued(action)
                else:
                    self._actions.append(action)
        return found

    def _granted(self, action: CheckoutGranted) -> None:
        request = self._requests.get(action.request)
        site = self._sites[action.seat.site]
        if request is None:  # withdrawn in the very turn
            assert site.session is not None
            site.session.give_back(action.seat.handle)
            return
        problem = self._verifier.problem_with(action.seat)
        if not problem:
            del self._requests[action.request]
            if len(self._sites) > 1:
                self._router.note_grant(request.feature, site.index)
                self._withdraw_everywhere(request, but=site.index)
            self._actions.append(action)
            return
        if site.session is not None:
            site.session.give_back(action.seat.handle)
        code = int(ErrorCode.BAD_SIGNATURE)
        self._denied(
            site,
            CheckoutDeniedAction(
                request=action.request, code=code, minor=minor_of(code), text=text_of(code),
                detail=problem,
            ),
        )  # fmt: skip

    def _denied(self, site: Site, action: CheckoutDeniedAction) -> None:
        request = self._requests.get(action.request)
        if request is not None:
            request.denials[site.index] = action
            request.site = None
            request.places.pop(site.index, None)
            if site.index in request.at:
                request.at.remove(site.index)

    def _queued(self, action: CheckoutQueued) -> None:
        request = self._requests.get(action.request)
        if request is None:
            return
        request.places[action.site] = action
        best = min(request.places.values(), key=lambda each: (each.ahead, each.site))
        if request.queued != best:
            request.queued = best
            self._actions.append(best)

    def _place_all(self) -> None:
        """Put every waiting checkout where it can be answered, and wish for those who might."""
        for site in self._sites:
            site.wanted = False
        for request in list(self._requests.values()):
            self._place(request)

    def _place(self, request: Request) -> None:
        if request.waits and len(self._sites) > 1:
            self._wait_everywhere(request)
            return
        order = self._router.order(request, self._sites, self._now, ALTERNATIVE_WAIT_S)
        for site in order or ():
            if site.index in request.denials:
                continue
            if site.broken:
                self._move(request, None)
                request.denials[site.index] = _not_one_triad(request, site)
                continue
            if site.ready:
                self._move(request, site)
                return
            site.wanted = True
            if not site.gave_up(self._now, ALTERNATIVE_WAIT_S):
                return
            if len(self._sites) > 1:
                self._router.note_late(site.index, self._now)
            if request.queued is not None and request.site == site.index:
                return  # it has its place there, and keeps it as long as the session lives
        if order is None:
            return
        if request.begin_to_wait():
            self._place(request)
        elif request.denials:
            self._move(request, None)
            self._deny(request)

    def _deny(self, request: Request) -> None:
        del self._requests[request.request]
        self._actions.append(request.denial())

    def _wait_everywhere(self, request: Request) -> None:
        """Have it wait wherever it may be granted one day, also where nobody serves yet."""
        hope = bool(request.at)
        for site in self._sites:
            index = site.index
            if index in request.denials or index in request.at:
                continue
            if site.broken:
                request.denials[index] = _not_one_triad(request, site)
            elif site.ready:
                request.at.append(index)
                site.submit(_order(request))
                hope = True
            else:
                site.wanted = True
                hope = hope or not site.gave_up(self._now, ALTERNATIVE_WAIT_S)
        if not hope and request.denials:
            self._deny(request)

    def _withdraw_everywhere(self, request: Request, but: int | None = None) -> None:
        for index in dict.fromkeys([*request.at, *(() if request.site is None else (request.site,))]):
            session = self._sites[index].session
            if session is not None and index != but:
                session.withdraw(request.request)

    def _move(self, request: Request, site: Site | None) -> None:
        if request.site is not None:
            old = self._sites[request.site]
            if old is site:
                return
            if old.session is not None:
                old.session.withdraw(request.request)
        request.site = None if site is None else site.index
        if site is not None:
            site.submit(_order(request))


def _order(request: Request) -> Order:
    return Order(
        "checkout", request.request, request.feature, request.version, request.count,
        queue=request.waits,
    )  # fmt: skip


def _not_one_triad(request: Request, site: Site) -> CheckoutDeniedAction:
    code = int(ErrorCode.INVALID_HOST)
    return CheckoutDeniedAction(
        request=request.request, code=code, minor=minor_of(code), text=text_of(code),
        detail=site.broken,
    )  # fmt: skip
