"""An application and the :class:`flexcore.client.ClientNode` inside it, on a host of its own."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flexcore.borrowing import BorrowProblem, BorrowRecord
from flexcore.client import (
    Abort,
    BorrowGivenBack,
    BorrowRefused,
    CheckedIn,
    CheckoutDeniedAction,
    CheckoutGranted,
    CheckoutQueued,
    ClientConfig,
    ClientNode,
    Close,
    Closed,
    Connect,
    ConnectFailed,
    ConnectionEnded,
    ConnectionMade,
    MessageReceived,
    NodeEvent,
    Seat,
    SeatBorrowed,
    SeatLost,
    SendMessage,
    StateChanged,
)
from flexcore_testing.clockwork import DriftingClock
from flexcore_testing.process import SPIN_S, SPINS_MAX

if TYPE_CHECKING:
    from flexcore_testing.service import ServiceTriad

CONNS_MAX = 1 << 20


class ClientRun:
    """One process of a client: an event loop around a ClientNode, and what it told the application."""

    is_server = False

    def __init__(self, triad: ServiceTriad, name: str, serial: int, config: ClientConfig, rate: float) -> None:
        self.triad = triad
        self.world = triad.world
        self.network = triad.network
        self.name = self.host = name
        self.config = config
        self.serial = serial
        self.alive = True
        self.paused = False
        rng: random.Random = triad.client_rng
        self.wall_error_s = 0.0
        self.clock = DriftingClock(rate, self.world.now, rng.uniform(0.0, 1e6))
        self.node = ClientNode(
            config,
            entropy=rng.randbytes(32),
            now=self.now(),
            wall=self.wall(),
        )
        self.seats: dict[int, Seat] = {}
        """What the application was told that it holds."""
        self.pending: dict[int, str] = {}
        """Checkouts without an answer: request, feature."""
        self.granted: dict[int, Seat] = {}
        """By request."""
        self.denied: dict[int, CheckoutDeniedAction] = {}
        self.queued: dict[int, CheckoutQueued] = {}
        """How those that wait in a queue, or did, stood last."""
        self.lent: dict[int, SeatBorrowed | BorrowRefused] = {}
        """What came of borrowings, by request."""
        self.given_back: dict[int, BorrowGivenBack] = {}
        self.listeners: dict[int, Callable[[], None]] = {}
        """Who is to hear what is told about a request."""
        self.told: list[str] = []
        self.closed = False
        self._inbox: deque[NodeEvent] = deque()
        self._dials: dict[int, bool] = {}
        self._turn_at: float | None = None
        self._spins = 0
        self._spun_at = 0.0
        self._due: float | None = None
        self._conn = CONNS_MAX

    def now(self) -> float:
        """What this process's clock shows."""
        return self.clock.local(self.world.now)

    def wall(self) -> float:
        """The client machine's wall clock."""
        return self.triad.profile.epoch + self.world.now + self.wall_error_s

    def held(self) -> tuple[Seat, ...]:
        """What the client believes in at this very instant, whether or not it runs."""
        if not self.alive:
            return ()
        return tuple(self.node.held(self.now()))

    # --- what the application does -------------------------------------------------------------------------------

    def checkout(self, feature: str, count: int = 1, version: str = "", *, queue: bool = False) -> int:
        """Ask for seats; with *queue* wait for them at the server if need be."""
        request = self.node.checkout(feature, version, count, now=self.now(), wall=self.wall(), queue=queue)
        self.pending[request] = feature
        self.triad.recorder.asked(self, request, feature, count)
        self._wake(self.world.now)
        return request

    def borrow(self, handle: int, until: float, ident: bytes, secret: bytes) -> int:
        """Take a seat home until *until*."""
        request = self.node.borrow(
            handle, until, borrow=ident, secret=secret, now=self.now(), wall=self.wall()
        )
        self._wake(self.world.now)
        return request

    def adopt(self, record: BorrowRecord) -> Seat | BorrowProblem:
        """Use what was lent, on this machine, without a server."""
        taken = self.node.adopt(
            record, count=record.count, machine=record.machine, now=self.now(), wall=self.wall()
        )
        if isinstance(taken, Seat):
            self.seats[taken.handle] = taken
        self._wake(self.world.now)
        return taken

    def begin_errand(self) -> float:
        """Look for a server, to give something borrowed back."""
        since = self.node.begin_errand(0, now=self.now(), wall=self.wall())
        self._wake(self.world.now)
        return since

    def return_borrow(self, record: BorrowRecord) -> int:
        """Give it back early."""
        request = self.node.return_borrow(record, site=0, now=self.now(), wall=self.wall())
        self._wake(self.world.now)
        return request

    def end_errand(self, request: int) -> None:
        """It is given back, or nobody answers."""
        self.node.end_errand(0, request=request, now=self.now(), wall=self.wall())
        self._wake(self.world.now)

    def put_aside(self, seat: Seat) -> None:
        """End the use of a borrowed seat; it stays lent."""
        self.seats.pop(seat.handle, None)
        self.node.checkin(seat.handle, site=seat.site, now=self.now(), wall=self.wall())
        self._wake(self.world.now)

    def checkin(self, handle: int) -> None:
        """Give a seat back."""
        self.seats.pop(handle, None)
        request = self.node.checkin(handle, now=self.now(), wall=self.wall())
        self.triad.recorder.returning(self, request, handle)
        self._wake(self.world.now)

    def set_idle(self, handle: int, idle: bool, *, for_s: float = 0.0) -> None:
        """Say that a seat has not been used for *for_s* seconds, or is again; the next heartbeat tells."""
        self.node.set_idle(handle, idle, now=self.now(), wall=self.wall())
        session = self.node._sites[0].session
        if for_s and session is not None and handle in session.idle_since:
            session.idle_since[handle] -= for_s  # a product cannot say so afterwards; here hours are to be minutes

    def withdraw(self, request: int) -> None:
        """Give up a request."""
        if self.pending.pop(request, None) is not None:
            self.triad.recorder.gave_up(self, request)
        self.node.withdraw(request, now=self.now(), wall=self.wall())
        self._wake(self.world.now)

    def close(self) -> None:
        """Give everything back and end the process in order."""
        self.triad.recorder.ended(self)
        self.seats.clear()
        self.pending.clear()
        self.node.close(now=self.now(), wall=self.wall())
        self._wake(self.world.now)

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True
        self._turn_at = None

    def resume(self) -> None:
        """SIGCONT."""
        if self.paused:
            self.paused = False
            self._wake(self.world.now)

    def die(self) -> None:
        """The process is gone."""
        self.triad.recorder.ended(self)
        self.alive = False
        self.seats.clear()
        self.pending.clear()

    # --- Party ---------------------------------------------------------------------------------------------------

    def take_conn(self) -> int:
        """Nobody dials a client."""
        raise AssertionError("a client does not listen")

    def accepted(self, conn: int, remote: str) -> None:
        """Nobody dials a client."""
        raise AssertionError("a client does not listen")

    def arrived(self, conn: int, message: Any) -> None:
        """A message came in."""
        self._post(MessageReceived(conn=conn, message=message))

    def ended(self, conn: int, orderly: bool) -> None:
        """A connection is over."""
        self._post(ConnectionEnded(conn=conn, orderly=orderly))

    # --- the loop ------------------------------------------------------------------------------------------------

    def _post(self, event: NodeEvent) -> None:
        if self.alive:
            self._inbox.append(event)
            self._wake(self.world.now + self.triad.turn_delay())

    def _wake(self, when: float) -> None:
        if self.paused or not self.alive:
            return
        if self._turn_at is not None and self._turn_at <= when:
            return
        self._turn_at = when
        self.world.at(when, self._turn, when)

    def _turn(self, when: float) -> None:
        if self._turn_at != when or self.paused or not self.alive:
            return
        self._turn_at = None
        now = self.now()
        while self._inbox:
            self.node.receive_event(self._inbox.popleft(), now=now, wall=self.wall())
        due = self._due
        if due is not None and due <= now:
            self._spins = self._spins + 1 if self.world.now - self._spun_at < SPIN_S else 0
            self._spun_at = self.world.now
            assert self._spins < SPINS_MAX, f"{self.name}: the timer at {due} stays due for ever (now {now})"
            self.node.handle_timeout(now=now, wall=self.wall())
        lives = self._perform()
        self.triad.after_client_turn(self)
        if not lives:
            return
        due = self._due = self.node.next_timeout()
        if due is not None:
            self._wake(max(self.clock.true(due), self.world.now) + 1e-6 + self.triad.timer_delay())

    def _perform(self) -> bool:
        """Do what the node asks for; False once that ended the process."""
        while (action := self.node.next_action()) is not None:
            if isinstance(action, SendMessage):
                self.network.send(self, action.conn, action.message)
            elif isinstance(action, Connect):
                self._connect(action)
            elif isinstance(action, Abort):
                self._dials.pop(action.conn, None)
                self.network.close(self, action.conn, abort=True)
            elif isinstance(action, Close):
                self._dials.pop(action.conn, None)
                self.network.close(self, action.conn)
            elif isinstance(action, Closed):
                self.closed = True
                self.triad.client_closed(self)
                return False
            else:
                self._tell(action)
        return True

    def _tell(self, action: Any) -> None:
        if isinstance(action, CheckoutGranted):
            self.pending.pop(action.request, None)
            self.granted[action.request] = action.seat
            self.seats[action.seat.handle] = action.seat
            self.triad.client_granted(self, action.request, action.seat)
            self._say(f"holds {action.seat.feature} handle {action.seat.handle}")
        elif isinstance(action, CheckoutDeniedAction):
            self.pending.pop(action.request, None)
            self.denied[action.request] = action
            self.triad.client_denied(self, action)
            self._say(f"is denied: {action.text} ({action.code},{action.minor})")
        elif isinstance(action, CheckoutQueued):
            first = action.request not in self.queued
            self.queued[action.request] = action
            self.triad.coverage["queued" if first else "queued, told again"] += 1
            self._say(f"waits for {self.pending.get(action.request, 'nothing')}, {action.ahead} ahead")
        elif isinstance(action, SeatLost):
            if self.seats.pop(action.handle, None) is not None:
                self.triad.client_lost(self, action)
                self._say(f"has lost {action.seat.feature} handle {action.handle}: {action.reason}")
        elif isinstance(action, SeatBorrowed):
            self.lent[action.request] = action
            self.seats.pop(action.seat.handle, None)
            self._say(f"takes {action.seat.feature} handle {action.seat.handle} home")
        elif isinstance(action, BorrowRefused):
            self.lent[action.request] = action
            self._say(f"does not take it home: {action.text} ({action.code},{action.minor})")
        elif isinstance(action, BorrowGivenBack):
            self.given_back[action.request] = action
            self._say(f"has given it back: {action.code}" if action.code else "has given it back")
        elif isinstance(action, CheckedIn):
            self.triad.client_returned(self, action)
        elif isinstance(action, StateChanged):
            self.triad.coverage["client ready" if action.ready else "client searching"] += 1

        listener = self.listeners.get(getattr(action, "request", 0)) if self.listeners else None
        if listener is not None:
            listener()

    def _say(self, text: str) -> None:
        self.told.append(text)
        self.triad.tell(self.name, text)

    def _connect(self, action: Connect) -> None:
        conn = action.conn
        target = self.triad.server_at(action.host, action.port)
        self._dials[conn] = True

        def made(conn: int) -> None:
            if self._dials.pop(conn, None) is None:
                self.network.close(self, conn, abort=True)
            else:
                self._post(ConnectionMade(conn=conn))

        def failed(conn: int, refused: bool, error: str) -> None:
            if self._dials.pop(conn, None) is not None:
                self._post(ConnectFailed(conn=conn, error=error, refused=refused))

        self.network.dial(self, target, conn, made, failed)
