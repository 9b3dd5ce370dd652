"""What an application uses: :func:`connect` and :class:`Client`."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, Self, TypeVar, cast

from flexcore.client import PATH_ORDER, ApplicationAction, ClientConfig, StateChanged, Trouble
from flexcore.client import Seat as Granted
from flexcore.codes import ErrorCode
from flexcore.errors import CheckoutDenied, LicenseLost
from flexcore.keys import VerifyingKey
from flexcore_host import errands
from flexcore_host.application import (
    CHECKIN_S,
    CLOSE_S,
    SLEEP_MAX_S,
    TIMEOUT_S,
    client_config,
)
from flexcore_host.desk import Desk, Loss, call_safely
from flexcore_host.lazylog import logger
from flexcore_host.waiting import WaitingBase
from flexcore_sync.engine import Engine
from flexcore_sync.seat import Seat
from flexcore_sync.waiting import Waiting

EXIT_S = 1.0
"""How long the end of the interpreter waits for goodbyes to be answered, a client."""

_BESIDE_S = 0.05
"""Without a keep-alive thread, how often a waiting thread looks whether another did its work."""

_LOG = "flexcore_sync"

T = TypeVar("T")
OnLoss = Callable[[Seat, LicenseLost], None]
OnState = Callable[[StateChanged], None]
OnChange = Callable[[Waiting], None]


def connect(
    path: str | None = None,
    *,
    vendor: str = "",
    keys: Iterable[VerifyingKey | str] = (),
    user: str | None = None,
    host: str | None = None,
    display: str | None = None,
    project: str = "",
    timeout_s: float = TIMEOUT_S,
    on_loss: OnLoss | None = None,
    on_state: OnState | None = None,
    keep_alive: Literal["thread", "none"] = "thread",
    trusted_end: bool = True,
    prefer: str = PATH_ORDER,
) -> Client:
    """Return a client of the licence servers in *path*; no server is contacted before the first checkout.

    Args:
        path: as in ``LM_LICENSE_FILE``: ``2837@pat,2837@lee,2837@terry``. None: from the environment,
            ``<VENDOR>_LICENSE_FILE`` and then ``LM_LICENSE_FILE``.
        vendor: the vendor's name; it follows from *keys* where those are given.
        keys: the publisher's public keys (``VENDOR.pub``, as text or as keys): every grant is
            verified with them. Without keys none is.
        user, host, display, project: who is shown by lmstat; found out where not given (LM_PROJECT).
        timeout_s: how long a checkout waits for a server.
        on_loss: called at once when a seat is lost, with the seat and why; from the keep-alive
            thread, or without one from inside of whatever call is driving the client.
        on_state: called when a master is found or lost; no seat is lost by that.
        keep_alive: "thread" keeps seats alive without any call. With "none" the application calls
            :meth:`Client.pump`, at least every ten seconds.
        trusted_end: False behind a proxy that ends connections by itself.
        prefer: of several servers that are independent (a path with colons) ``"path-order"`` asks first where the
            feature was granted last, else in the order of the path; ``"least-loaded"`` first the one that has the
            largest share free, at the price of a question to all before each checkout.

    Raises:
        SearchPathError: no path, or not a usable one. KeyFormatError: a key's text is none.
        ValueError: an impossible argument.
    """
    if keep_alive not in ("thread", "none"):
        raise ValueError(f"keep_alive is 'thread' or 'none', not {keep_alive!r}")
    config = client_config(
        path, vendor=vendor, keys=keys, user=user, host=host, display=display, project=project,
        trusted_end=trusted_end, prefer=prefer,
    )  # fmt: skip
    return Client(config, timeout_s, on_loss, on_state, threaded=keep_alive == "thread")


class Client:
    """A client of licence servers; made by :func:`connect`. Usable from any thread.

    After a fork the child's copy holds nothing: its seats are not held, and whatever needs a server raises
    LocalProtocolError. The parent's is not disturbed.
    """

    def __init__(
        self, config: ClientConfig, timeout_s: float, on_loss: OnLoss | None,
        on_state: OnState | None, *, threaded: bool,
    ) -> None:  # fmt: skip
        self._timeout_s = timeout_s
        self._on_loss = on_loss
        self._on_state = on_state
        lock = threading.RLock()
        self._desk = Desk(config, self._make_seat, lock=lock)
        self._engine = Engine(self._desk.machine, lock, self._tell)
        self._loop_thread: int | None = None
        self._thread: threading.Thread | None = None
        _live.add(self)
        if threaded:
            self._thread = threading.Thread(target=self._run, name="flexcore-keep-alive", daemon=True)
            self._thread.start()

    # --- asking -----------------------------------------------------------------------------------

    def checkout(
        self, feature: str, version: str = "", *, count: int = 1, wait_s: float | None = None,
        queue: bool = False, queue_s: float | None = None, on_queue: OnChange | None = None,
    ) -> Seat:  # fmt: skip
        """Check out *count* licences of *feature* and return the seat.

        What this machine has borrowed is used first, without a server. With LM_BORROW set (``lmborrow``) what is
        checked out is borrowed, or refused with the reason (a feature without BORROW is held as usual).

        A denial is told at once. *wait_s* (default: the client's timeout_s) is how long to look for a server that
        serves, and to wait for its answer; what is given up is withdrawn at the server.

        With *queue* this waits in the server's queue if too few are free, for *queue_s* seconds at most (default: as
        long as it takes); an exception from outside, such as KeyboardInterrupt, ends the wait and leaves the queue.
        *on_queue* is the *on_change* of :meth:`queue`.

        Raises:
            CheckoutDenied: the answer is no, with the manual's code; -35: still in the queue after *queue_s*.
            NoQuorum: servers answer, none serves. NoServerReachable: no server answers.
            NotOneTriad: the path joins servers by a comma that do not belong together.
            LocalProtocolError: closed, or in a forked child. ValueError: an impossible argument.
            BorrowError: LM_BORROW makes no sense, or the borrow file cannot be written.
        """
        patience_s = self._timeout_s if wait_s is None else wait_s
        deadline = time.monotonic() + patience_s
        self._run_errand(errands.resume(self._desk, feature, version, count), deadline)
        patience_s = max(0.0, deadline - time.monotonic())
        if queue:
            waiting = self.queue(feature, version, count=count, on_change=on_queue)
            seat = waiting._wait_for_place(patience_s, queue_s)
        else:
            seat = self._check_out(feature, version, count, patience_s)
        self._borrow_as_wished(seat, patience_s)
        return seat

    def _check_out(self, feature: str, version: str, count: int, wait_s: float) -> Seat:
        desk, engine = self._desk, self._engine
        desk.check_usable()
        deadline = time.monotonic() + wait_s
        request = desk.ask(feature, version, count)
        engine.wake()
        try:
            self._await(lambda: desk.is_answered(request), deadline)
        except BaseException:
            desk.abandon(request)
            engine.wake()
            raise
        try:
            return desk.collect(request, feature)
        except BaseException:
            engine.wake()  # it was withdrawn
            raise

    def queue(
        self, feature: str, version: str = "", *, count: int = 1, on_change: OnChange | None = None
    ) -> Waiting:
        """Ask for *count* licences of *feature*, and wait for them in the server's queue if too few are free; returns
        at once. Look at the result now and then, wait for it, or have *on_change* called with it whenever something
        has changed (from the keep-alive thread, or without one from inside of whatever call drives the client).

        What can never be granted is refused at once, also with a queue. The place is kept through failovers; it is
        lost by :meth:`Waiting.cancel`, with the client, or when no server was reached for the length of the lease
        (then the wait goes on at the end of the queue).

        Raises:
            LocalProtocolError: closed, or in a forked child. ValueError: an impossible argument.
        """
        waiting = Waiting(self, self._desk, feature, on_change)
        self._desk.queue(waiting, version, count)
        self._engine.wake()
        if waiting.seat is not None:  # borrowed
            call_safely(_LOG, on_change, waiting)
        return waiting

    def return_borrowed(self, feature: str, version: str = "", *, wait_s: float | None = None) -> int:
        """Give back before its end what this user has borrowed of *feature* (of *version*, if that is given), as
        ``flexcore lmborrow -return`` does; returns how many borrowings those were. This client's own use of it ends
        then. *wait_s* is as for a checkout.

        Raises:
            BorrowError: -41: nothing like that is borrowed; -124: another process uses it, or no answer came (it is
                not used any more: return it again); -118: its time is over; -128: these servers know nothing of it;
                -9: it was borrowed on another machine; -122, -117: a file cannot be removed, or written.
            NoQuorum, NoServerReachable: nobody serves; it stays borrowed.
            LocalProtocolError: closed, or in a forked child.
        """
        patience_s = self._timeout_s if wait_s is None else wait_s
        steps = errands.return_borrowed(self._desk, feature, version)
        return self._run_errand(steps, time.monotonic() + patience_s)

    def _run_errand(self, steps: errands.Steps[T], deadline: float) -> T:
        has_asked = False
        try:
            while True:
                done = next(steps)
                has_asked = True
                self._engine.wake()
                self._await(done, deadline)
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            steps.close()
            if has_asked:
                self._engine.wake()  # what it left unanswered is withdrawn

    def _borrow(self, seat: Seat, until: float, wait_s: float) -> None:
        desk, engine = self._desk, self._engine
        deadline = time.monotonic() + wait_s
        request = desk.borrow(seat, until)
        engine.wake()
        self._await(lambda: desk.is_borrow_answered(request), deadline)
        desk.collect_borrow(request, seat)

    def _borrow_as_wished(self, seat: Seat, wait_s: float) -> None:
        """LM_BORROW is set: whoever asks goes home with the licence, or is told why not."""
        try:
            until = self._desk.wished_until(seat)
            if until is not None:
                self._borrow(seat, until, wait_s)
        except CheckoutDenied as denied:
            if denied.code != ErrorCode.NO_BORROW:
                seat.checkin()
                raise
            logger(_LOG).warning("%s is held, and not borrowed: %s", seat.feature, denied)
        except BaseException:
            seat.checkin()
            raise

    @property
    def seats(self) -> tuple[Seat, ...]:
        """What is held now."""
        return self._desk.seats

    @property
    def trouble(self) -> Trouble | None:
        """Why nobody serves this client at the moment; None: somebody does, or nothing is asked."""
        return self._desk.trouble

    @property
    def is_serving(self) -> bool:
        """Whether a master has this client's session at the moment."""
        return self._desk.is_serving

    def pump(self, timeout_s: float = 0.0) -> None:
        """Without a keep-alive thread: do what is due (heartbeats, answers), for *timeout_s* at most.

        Call it at least every ten seconds, or seats are lost to their lease.
        """
        self._desk.check_usable()
        deadline = time.monotonic() + timeout_s
        self._await(lambda: False, deadline)

    # --- the loop ---------------------------------------------------------------------------------

    def _run(self) -> None:
        engine = self._engine
        self._loop_thread = threading.get_ident()
        with engine.turn_lock:
            try:
                while not engine.is_shut:
                    engine.turn(SLEEP_MAX_S)
            except BaseException as error:  # noqa: BLE001 - nobody else would hear of our bug
                self._fail(error)
            finally:
                engine.release(abort=self._desk.failure is not None)

    def _fail(self, error: BaseException) -> None:
        """The loop is broken: nothing is confirmed any more, and everybody is told."""
        logger(_LOG).error("the licence client has failed", exc_info=error)
        losses = self._desk.fail(error)
        self._engine.shut()
        for loss in losses:
            call_safely(_LOG, self._on_loss, *loss)

    def _await(self, done: Callable[[], bool], deadline: float) -> None:
        """Wait until *done* (asked under the lock), or *deadline*, running the loop if nobody else does."""
        engine = self._engine
        inside = self._loop_thread == threading.get_ident()
        while True:
            left = deadline - time.monotonic()
            with engine.lock:
                if engine.is_shut or done():
                    return
                if self._thread is not None and not inside:
                    if left <= 0.0:
                        return
                    engine.wait_for_news(min(left, SLEEP_MAX_S))
                    continue
            if inside:  # called back from the loop: nobody else can run it
                engine.turn(max(left, 0.0))
            elif engine.turn_lock.acquire(timeout=max(min(left, _BESIDE_S), 0.0)):
                self._turn_once(max(left, 0.0))
            if left <= 0.0:
                return

    def _turn_once(self, timeout_s: float) -> None:
        """One turn with the turn lock held, which is let go of."""
        engine = self._engine
        self._loop_thread = threading.get_ident()
        try:
            engine.turn(timeout_s)
        except Exception as error:
            self._fail(error)
            raise
        finally:
            self._loop_thread = None
            if engine.is_shut:
                engine.release(abort=self._desk.failure is not None)
            engine.turn_lock.release()

    def _tell(self, action: ApplicationAction) -> None:
        """Something for the application; called by the loop, without the lock."""
        news = self._desk.note(action)
        if isinstance(news, Loss):
            call_safely(_LOG, self._on_loss, *news)
        elif isinstance(news, WaitingBase):
            call_safely(_LOG, news._on_change, news)
        elif news is not None:
            call_safely(_LOG, self._on_state, news)

    # --- seats ------------------------------------------------------------------------------------

    def _make_seat(self, granted: Granted) -> Seat:
        return Seat(self, self._desk, granted)

    def _check_in(self, seat: Seat) -> None:
        desk, inside = self._desk, self._loop_thread == threading.get_ident()
        key = desk.give_back(seat, waits=not inside)
        if desk.is_forked or desk.is_over:
            return
        self._engine.wake()
        if key is not None:
            self._await(lambda: desk.is_returned(key), time.monotonic() + CHECKIN_S)
            desk.forget_return(key)
        elif self._thread is None and not inside:
            self._await(lambda: False, time.monotonic())

    # --- the end ----------------------------------------------------------------------------------

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Give everything back and end; waits for the server's answer for *timeout_s* at most. Once
        more is harmless."""
        if self._desk.is_forked:
            return
        engine = self._engine
        self._desk.close()
        _live.discard(self)
        engine.wake()
        self._await(lambda: self._desk.closed, time.monotonic() + timeout_s)
        engine.shut()
        if self._loop_thread == threading.get_ident():
            return  # called back from the loop, which ends now
        if self._thread is not None:
            self._thread.join(timeout_s)
        elif engine.turn_lock.acquire(timeout=timeout_s):
            engine.release()
            engine.turn_lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


_live: weakref.WeakSet[Client] = weakref.WeakSet()


def _leave() -> None:
    """The interpreter ends without a close: say goodbye as far as that goes at once."""
    for client in list(_live):
        client.close(EXIT_S)


def _forked() -> None:
    for client in list(_live):
        client._engine.let_go_in_child()
        client._desk.lending.forget()


atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
