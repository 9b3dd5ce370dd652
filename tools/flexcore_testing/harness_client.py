"""A client of a simulated triad, with the surface of :class:`flexcore_sync.Client`: hand it to the product."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flexcore.borrowing import LENT, BorrowProblem, BorrowRecord, after_return
from flexcore.client import BorrowRefused, CheckoutDeniedAction, SeatLost, Trouble
from flexcore.client import Seat as Granted
from flexcore.codes import ErrorCode, text_of
from flexcore.errors import BorrowError, CheckoutDenied, LicenseLost, LocalProtocolError
from flexcore.licensefile.version import compare_versions
from flexcore.override import override
from flexcore.record import replace
from flexcore_host.application import CHECKIN_S, CLOSE_S, TIMEOUT_S, denial, no_answer
from flexcore_host.desk import SeatBase
from flexcore_host.lending import BORROW_BYTES, SECRET_BYTES
from flexcore_testing.client_run import ClientRun
from flexcore_testing.harness_waiting import WAIT_MAX_S as WAIT_MAX_S
from flexcore_testing.harness_waiting import Waiting
from flexcore_testing.harness_waiting import seconds_of as seconds_of

if TYPE_CHECKING:
    from flexcore_testing.harness import Triad

CLOSED = "closed"
"""How a client ended that was not killed."""

_DATES = (ErrorCode.EXPIRED, ErrorCode.NOT_STARTED_YET)

OnLoss = Callable[["Seat", LicenseLost], None]
OnChange = Callable[[Waiting], None]


class Client:
    """One application process and the licence client in it, on a machine of its own.

    :meth:`flexcore_testing.Triad.client` makes them. ``checkout``, ``checkin`` and ``close`` let simulated time pass as
    far as they need it, and no further than they say.
    """

    def __init__(self, triad: Triad, run: ClientRun, on_loss: OnLoss | None) -> None:
        self._triad = triad
        self._run = run
        self._on_loss = on_loss
        self._seats: dict[int, Seat] = {}
        self._lent: list[BorrowRecord] = []
        self._closing = False
        self._end = ""
        """How the process ended; '' while it lives."""

    @property
    def name(self) -> str:
        """The user's name, as lmstat shows it."""
        return self._run.name

    # --- what flexcore_sync.Client has, too -----------------------------------------------------------------------

    def checkout(
        self, feature: str, version: str = "", *, count: int = 1, wait_s: float | None = None,
        queue: bool = False, queue_s: float | None = None, on_queue: OnChange | None = None,
    ) -> Seat:  # fmt: skip
        """Check out *count* licences of *feature* and return the seat.

        Simulated time passes until the answer is there: some milliseconds while a server serves, and *wait_s*
        (default: ten seconds) at most. What is given up is withdrawn at the server. With *queue* it waits in the
        server's queue for *queue_s* simulated seconds at most (default: thirty days).

        Raises:
            CheckoutDenied: the answer is no, with the manual's code.
            NoQuorum: servers answer, none serves. NoServerReachable: no server answers.
            LocalProtocolError: this process has crashed, is paused or closed. ValueError: an impossible argument.
        """
        self._check_usable()
        wait = TIMEOUT_S if wait_s is None else seconds_of(wait_s, "wait_s")
        if queue:
            return self.queue(feature, version, count=count, on_change=on_queue)._wait_for_place(wait, queue_s)
        run = self._run
        request = run.checkout(feature, count, version)
        self._triad._run_for(wait, lambda: request not in run.pending)
        granted = run.granted.get(request)
        if granted is not None:
            return self._seat_of(granted)
        denied = run.denied.get(request)
        if denied is not None:
            raise self._denial(denied, feature)
        self._check_usable()
        trouble = run.node.trouble(run.now())
        run.withdraw(request)
        raise no_answer(trouble)

    def queue(
        self, feature: str, version: str = "", *, count: int = 1, on_change: OnChange | None = None
    ) -> Waiting:
        """Ask for licences and wait for them in the server's queue if need be; returns at once, and no time passes.

        Raises: as :meth:`checkout` does.
        """
        self._check_usable()
        return Waiting(self, feature, version, count, on_change)

    def return_borrowed(self, feature: str, version: str = "", *, wait_s: float | None = None) -> int:
        """Give back before its end what this process has borrowed of *feature*; returns how many borrowings those
        were. Simulated time passes until a server answers, *wait_s* (default: ten seconds) at most, twice.

        Raises:
            BorrowError: -41: nothing like that is borrowed; -124: no answer came; -118: its time is over; -128: the
                servers know nothing of it. NoQuorum, NoServerReachable: nobody serves; it stays borrowed.
        """
        self._check_usable()
        meant = [
            record
            for record in self._lent
            if record.feature.casefold() == feature.casefold()
            and (not version or compare_versions(record.version, version) == 0)
        ]
        if not meant:
            raise BorrowError(f"nothing like that is borrowed here: {feature}", ErrorCode.NEVER_CHECKED_OUT)
        for record in meant:
            self._give_back(record, TIMEOUT_S if wait_s is None else seconds_of(wait_s, "wait_s"))
        return len(meant)

    @property
    def seats(self) -> tuple[Seat, ...]:
        """What is held now."""
        return tuple(seat for seat in self._seats.values() if seat.held)

    @property
    def trouble(self) -> Trouble | None:
        """Why nobody serves this client at the moment; None: somebody does, or nothing is asked."""
        self._check_usable(paused_too=False)
        return self._run.node.trouble(self._run.now())

    @property
    def is_serving(self) -> bool:
        """Whether a master has this client's session at the moment."""
        return self._run.alive and not self._closing and self._run.node.ready

    def pump(self, timeout_s: float = 0.0) -> None:
        """Let *timeout_s* simulated seconds pass. The simulated client needs no pumping; products may pump it."""
        self._check_usable()
        self._triad.advance(timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Give everything back and end, waiting for the server's answer; once more is harmless."""
        wait = seconds_of(timeout_s, "timeout_s")
        if self._closing or self._end:
            return
        self._check_usable()
        self._closing = True
        run = self._run
        run.close()
        self._triad._run_for(wait, lambda: run.closed)
        if run.alive:  # nobody answered: the process ends all the same
            self._triad._kill_client(self, CLOSED, says_so=True)
        self._end = CLOSED

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._run.paused:
            self.close()

    # --- what can happen to a process -----------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the process is there and not paused."""
        return self._run.alive and not self._run.paused

    def crash(self) -> None:
        """kill -9: the process is gone without a goodbye, and its machine's kernel ends its connections."""
        self._check_usable(paused_too=False)
        self._triad._kill_client(self, "crashed", says_so=True)

    def power_off(self) -> None:
        """Its machine is gone without a word; the servers wait for its lease to end."""
        self._check_usable(paused_too=False)
        self._triad._kill_client(self, "powered off", says_so=False)

    def pause(self) -> None:
        """Stop the process as SIGSTOP does (a debugger, a closed lid with the clock running): it says nothing."""
        self._check_usable()
        self._run.pause()

    def resume(self) -> None:
        """Let it go on. What it finds lost by then, it tells."""
        self._check_usable(paused_too=False)
        if not self._run.paused:
            raise LocalProtocolError(f"{self.name} is not paused")
        self._run.resume()

    @override
    def __repr__(self) -> str:
        state = self._end or ("paused" if self._run.paused else "running")
        return f"<simulated client {self.name}, {state}, holds {len(self.seats)}>"

    # --- inside ---------------------------------------------------------------------------------------------------

    def _check_usable(self, *, paused_too: bool = True) -> None:
        if self._end:
            how = f"{'is' if self._end == CLOSED else 'has'} {self._end}"
            raise LocalProtocolError(
                f"the client {self.name} {how}; triad.client({self.name!r}) starts another process of it"
            )
        if self._closing:
            raise LocalProtocolError(f"the client {self.name} is closing")
        if paused_too and self._run.paused:
            raise LocalProtocolError(f"the client {self.name} is paused: a process that is stopped asks for nothing")

    def _seat_of(self, granted: Granted) -> Seat:
        seat = Seat(self, granted)
        if seat.held:
            self._seats[granted.handle] = seat
        return seat

    def _lose(self, action: SeatLost) -> None:
        seat = self._seats.pop(action.handle, None)
        if seat is None:
            seat = Seat(self, action.seat)
        seat._lost = LicenseLost(seat.feature, seat.handle, action.reason, action.code or None)
        if self._on_loss is not None:
            self._on_loss(seat, seat._lost)

    def _check_in(self, seat: Seat) -> None:
        if seat._returned:
            return
        run, handle = self._run, seat.handle
        if run.alive and not self._closing:
            self._check_usable()
        seat._returned = True
        self._seats.pop(handle, None)
        if seat._lost is not None or self._closing or not run.alive:
            return
        if seat.borrowed:
            run.put_aside(seat._granted)
            return
        try:
            run.checkin(handle)
        except LocalProtocolError:
            return  # lost a moment ago; that is being told
        if run.node.ready:
            returned = self._triad._sim.returned
            self._triad._run_for(CHECKIN_S, lambda: (run.serial, handle) in returned or not run.node.ready)

    def _borrow(self, seat: Seat, until: float, wait_s: float) -> None:
        self._check_usable()
        seat.require()
        if seat.borrowed:
            raise LocalProtocolError(f"{seat.feature} is borrowed already")
        run, rng, wall = self._run, self._triad._sim.rng, self._run.wall()
        granted, config = seat._granted, self._run.config
        record = BorrowRecord(
            vendor=config.vendor, feature=granted.feature, version=granted.version, count=granted.count,
            handle=granted.handle, user=config.user, host=config.host, display=config.display,
            started=granted.started, line=granted.line, hostids=granted.hostids, machine=config.hostids,
            borrow=rng.randbytes(BORROW_BYTES), secret=rng.randbytes(SECRET_BYTES), servers=(), borrowed_at=wall,
            until=until, seen=wall, state=LENT,
        )  # fmt: skip
        request = run.borrow(granted.handle, until, record.borrow, record.secret)
        self._triad._run_for(wait_s, lambda: request in run.lent)
        answer = run.lent.get(request)
        if isinstance(answer, BorrowRefused):
            raise CheckoutDenied(answer.code, answer.minor, answer.text, answer.detail, seat.feature)
        if answer is None:
            self._check_usable()
            raise no_answer(run.node.trouble(run.now()))
        taken = run.adopt(replace(record, until=answer.until))
        if isinstance(taken, BorrowProblem):
            raise CheckoutDenied(int(taken.code), 0, text_of(taken.code), taken.detail, seat.feature)
        self._lent.append(replace(record, until=answer.until))
        del self._seats[seat.handle]
        seat._granted = taken
        self._seats[taken.handle] = seat

    def _give_back(self, record: BorrowRecord, wait_s: float) -> None:
        run, sim = self._run, self._triad
        request = 0
        since = run.begin_errand()
        try:
            sim._run_for(wait_s, lambda: run.node.is_reached(0, since))
            self._check_usable()
            if not run.node.is_reached(0, since):
                raise no_answer(run.node.trouble(run.now()))
            for seat in list(self._seats.values()):
                if seat.borrowed and seat.handle == record.handle:
                    seat.checkin()
            request = run.return_borrow(record)
            sim._run_for(wait_s, lambda: request in run.given_back)
            self._check_usable()
        finally:
            if run.alive and not self._closing:
                run.end_errand(request)
        answer = run.given_back.get(request)
        if answer is None:
            raise BorrowError(f"{record.feature}: no answer came; return it again", ErrorCode.BORROW_NOT_RETURNED)
        goes, code = after_return(record, answer.code, has_lent=True)
        if goes:
            self._lent.remove(record)
        if code:
            raise BorrowError(f"{record.feature}: {answer.detail}", code)

    def _denial(self, action: CheckoutDeniedAction, feature: str) -> Exception:
        denied = denial(action, feature)
        if action.code in _DATES:
            denied.add_note(f"In this simulation it is {self._triad.date}; Triad(date=...) starts on another day.")
        return denied


class Seat(SeatBase):
    """Licences that were checked out of a simulated triad. A context manager: they are given back at its end."""

    def __init__(self, client: Client, granted: Granted) -> None:
        books: Any = _Books(client)
        super().__init__(books, granted)
        self._client = client

    def checkin(self) -> None:
        """Give it back; once more is harmless. While a server serves, a simulated second at most passes until the
        seat is free for the next checkout."""
        self._client._check_in(self)

    def borrow(self, until: float, *, wait_s: float | None = None) -> None:
        """Have it lent to this client's machine until *until* (epoch seconds, by ``triad.date``'s calendar): it is held
        without a server from then on, to its end. A simulated machine keeps no borrow file: who is started anew there
        has nothing, and the licence stays lent.

        Raises:
            CheckoutDenied: the server says no. NoQuorum, NoServerReachable: nobody answered in *wait_s* (default: ten
                seconds). BorrowError: *until* can be no end. LicenseLost: it is not held. LocalProtocolError: it is
                borrowed already.
        """
        self._client._borrow(self, until, TIMEOUT_S if wait_s is None else seconds_of(wait_s, "wait_s"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._client._run.paused:  # a process that is stopped gives nothing back
            self.checkin()


class _Books:
    """What a seat asks of its client, where real clients have a :class:`flexcore_host.desk.Desk`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def believes(self, granted: Granted) -> bool:
        client, run = self._client, self._client._run
        return run.alive and not client._closing and run.node.believes(granted.handle, run.now(), granted.site)

    def lease_left_s(self, granted: Granted) -> float:
        run = self._client._run
        until = run.node.believed_until(granted.site)
        return max(0.0, until - run.now()) if until is not None else 0.0

    def why_not_held(self) -> str:
        end = self._client._end
        if end:
            return f"the client {'is' if end == CLOSED else 'has'} {end}"
        return "no licence server has confirmed it in time"
