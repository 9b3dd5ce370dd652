"""What an application uses: :func:`connect` and :class:`Client`."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, Self

import flexcore
from flexcore.client import (
    ApplicationAction,
    CheckedIn,
    CheckoutDeniedAction,
    CheckoutGranted,
    ClientConfig,
    Closed,
    SeatLost,
    StateChanged,
    Trouble,
)
from flexcore.client import Seat as Granted
from flexcore.codes import ErrorCode
from flexcore.errors import (
    CheckoutDenied,
    LicenseLost,
    LocalProtocolError,
    NoQuorum,
    NoServerReachable,
    NotOneTriad,
)
from flexcore.keys import VerifyingKey
from flexcore_host import clock, whoami
from flexcore_sync.engine import SLEEP_MAX_S, Engine
from flexcore_sync.paths import find_servers
from flexcore_sync.seat import Seat

TIMEOUT_S = 10.0
"""How long a checkout waits for a server, and a server's answer, where the caller says nothing."""

CHECKIN_S = 1.0
"""How long a checkin waits for the server that serves to have the seat back."""

CLOSE_S = 2.5
"""How long :meth:`Client.close` waits for its goodbye to be answered."""

EXIT_S = 1.0
"""The same when the interpreter ends without a close."""

_BESIDE_S = 0.05
"""Without a keep-alive thread, how often a waiting thread looks whether another did its work."""

_log = logging.getLogger("flexcore_sync")

OnLoss = Callable[[Seat, LicenseLost], None]
OnState = Callable[[StateChanged], None]


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
) -> Client:
    """Return a client of the licence servers in *path*; no server is contacted before the first checkout.

    Args:
        path: as in ``LM_LICENSE_FILE``: ``2837@pat,2837@lee,2837@terry``. None: from the environment,
            ``<VENDOR>_LICENSE_FILE`` and then ``LM_LICENSE_FILE``.
        vendor: the vendor's name; it follows from *keys* where those are given.
        keys: the publisher's public keys (``VENDOR.pub``, as text or as keys): every grant is
            verified with them. Without keys none is.
        user, host, display, project: who is shown by lmstat; found out where not given.
        timeout_s: how long a checkout waits for a server.
        on_loss: called at once when a seat is lost, with the seat and why; from the keep-alive
            thread, or without one from inside of whatever call is driving the client.
        on_state: called when a master is found or lost; no seat is lost by that.
        keep_alive: "thread" keeps seats alive without any call. With "none" the application calls
            :meth:`Client.pump`, at least every ten seconds.
        trusted_end: False behind a proxy that ends connections by itself.

    Raises:
        SearchPathError: no path, or not a usable one. KeyFormatError: a key's text is none.
        ValueError: an impossible argument.
    """
    if keep_alive not in ("thread", "none"):
        raise ValueError(f"keep_alive is 'thread' or 'none', not {keep_alive!r}")
    known = tuple(
        VerifyingKey.from_text(key) if isinstance(key, str) else key for key in keys
    )
    if not vendor and known:
        vendor = known[0].vendor
    config = ClientConfig(
        path=find_servers(path, vendor),
        vendor=vendor,
        user=_word(user) or whoami.user(),
        host=_word(host) or whoami.host(),
        display=_word(display) or whoami.display(),
        project=_word(project),
        pid=os.getpid(),
        software=f"flexcore {flexcore.__version__}",
        keys=known,
        trusted_end=trusted_end,
    )
    return Client(config, timeout_s, on_loss, on_state, threaded=keep_alive == "thread")


def _word(text: str | None) -> str:
    """What lmstat can show: it is split at blanks by everybody who reads it."""
    shown = "".join(c if c.isprintable() and not c.isspace() else "_" for c in (text or "").strip())
    return shown[:128]


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
        self._engine = Engine(config, self._tell)
        self._waiting: set[int] = set()
        self._answers: dict[int, Seat | CheckoutDeniedAction] = {}
        self._seats: dict[tuple[int, int], Seat] = {}
        self._closing = False
        self._returning: set[tuple[int, int]] = set()
        self._closed = False
        self._failure: BaseException | None = None
        self._loop_thread: int | None = None
        self._thread: threading.Thread | None = None
        _live.add(self)
        if threaded:
            self._thread = threading.Thread(target=self._run, name="flexcore-keep-alive", daemon=True)
            self._thread.start()

    # --- asking -----------------------------------------------------------------------------------

    def checkout(
        self, feature: str, version: str = "", *, count: int = 1, wait_s: float | None = None
    ) -> Seat:
        """Check out *count* licences of *feature* and return the seat.

        A denial is told at once. *wait_s* (default: the client's timeout_s) is how long to look for a server that
        serves, and to wait for its answer; what is given up is withdrawn at the server.

        Raises:
            CheckoutDenied: the answer is no, with the manual's code.
            NoQuorum: servers answer, none serves. NoServerReachable: no server answers.
            NotOneTriad: the path joins servers by a comma that do not belong together.
            LocalProtocolError: closed, or in a forked child. ValueError: an impossible argument.
        """
        engine = self._engine
        self._check_usable()
        deadline = time.monotonic() + (self._timeout_s if wait_s is None else wait_s)
        with engine.lock:
            self._check_usable()
            request = engine.machine.checkout(
                feature, version, count, now=clock.now(), wall=clock.wall()
            )
            self._waiting.add(request)
        engine.wake()
        trouble: Trouble | None = None
        try:
            self._await(lambda: request in self._answers or self._closing, deadline)
        finally:
            with engine.lock:
                answer = self._answers.pop(request, None)
                self._waiting.discard(request)
                if answer is None and not engine.is_shut:
                    trouble = engine.machine.trouble(clock.now())
                    engine.machine.withdraw(request, now=clock.now(), wall=clock.wall())
            if answer is None:
                engine.wake()
        if isinstance(answer, Seat):
            return answer
        if answer is not None:
            raise _denial(answer, feature)
        self._check_usable()
        raise _no_answer(trouble)

    @property
    def seats(self) -> tuple[Seat, ...]:
        """What is held now."""
        if self._is_forked:
            return ()
        with self._engine.lock:
            seats = list(self._seats.values())
        return tuple(seat for seat in seats if seat.held)

    @property
    def trouble(self) -> Trouble | None:
        """Why nobody serves this client at the moment; None: somebody does, or nothing is asked."""
        self._check_usable()
        with self._engine.lock:
            return self._engine.machine.trouble(clock.now())

    @property
    def is_serving(self) -> bool:
        """Whether a master has this client's session at the moment."""
        if self._is_forked:
            return False
        with self._engine.lock:
            return not self._closing and self._engine.machine.ready

    def pump(self, timeout_s: float = 0.0) -> None:
        """Without a keep-alive thread: do what is due (heartbeats, answers), for *timeout_s* at most.

        Call it at least every ten seconds, or seats are lost to their lease.
        """
        self._check_usable()
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
                engine.release(abort=self._failure is not None)

    def _fail(self, error: BaseException) -> None:
        """The loop is broken: nothing is confirmed any more, and everybody is told."""
        _log.error("the licence client has failed", exc_info=error)
        self._failure = error
        self._engine.shut()
        with self._engine.lock:
            seats, self._seats = list(self._seats.values()), {}
        for seat in seats:
            self._lose(seat, LicenseLost(seat.feature, seat.handle, f"the client has failed: {error}"))

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
                    engine.wait_for_news(left)
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
                engine.release(abort=self._failure is not None)
            engine.turn_lock.release()

    def _tell(self, action: ApplicationAction) -> None:
        """Something for the application; called by the loop, without the lock."""
        lost: Seat | None = None
        with self._engine.lock:
            if isinstance(action, CheckoutGranted):
                self._granted(action)
                return
            if isinstance(action, CheckoutDeniedAction):
                if action.request in self._waiting:
                    self._answers[action.request] = action
                return
            if isinstance(action, Closed):
                self._closed = True
                return
            if isinstance(action, CheckedIn):
                self._returning.discard((action.site, action.handle))
                return
            if isinstance(action, SeatLost):
                lost = self._seats.pop((action.seat.site, action.handle), None)
        if isinstance(action, StateChanged):
            self._call(self._on_state, action)
        elif lost is not None:
            code = action.code or None
            self._lose(lost, LicenseLost(lost.feature, lost.handle, action.reason, code))

    def _granted(self, action: CheckoutGranted) -> None:
        granted = action.seat
        if action.request in self._waiting:
            seat = Seat(self, granted)
            self._seats[granted.site, granted.handle] = seat
            self._answers[action.request] = seat
        elif not self._closing:  # whoever asked has given up meanwhile
            self._engine.machine.checkin(
                granted.handle, site=granted.site, now=clock.now(), wall=clock.wall()
            )

    def _lose(self, seat: Seat, error: LicenseLost) -> None:
        seat._lost = error
        self._call(self._on_loss, seat, error)

    def _call(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        try:
            if callback is not None:
                callback(*arguments)
        except Exception:  # noqa: BLE001 - the application's mistake must not end its licences
            _log.exception("a callback of the application has failed")

    # --- seats ------------------------------------------------------------------------------------

    def _believes(self, granted: Granted) -> bool:
        if self._is_forked:
            return False
        with self._engine.lock:
            if self._closing or self._engine.is_shut:
                return False
            return self._engine.machine.believes(granted.handle, clock.now(), granted.site)

    def _lease_left_s(self, granted: Granted) -> float:
        with self._engine.lock:
            until = self._engine.machine.believed_until(granted.site)
        return max(0.0, until - clock.now()) if until is not None else 0.0

    def _why_not_held(self) -> str:
        if self._is_forked:
            return "this process was forked from the one that holds it"
        if self._closing:
            return "the client is closed"
        return "no licence server has confirmed it in time"

    def _check_in(self, seat: Seat) -> None:
        if self._is_forked:
            return
        engine = self._engine
        with engine.lock:
            if seat._returned:
                return
            seat._returned = True
            granted = seat._granted
            key = granted.site, granted.handle
            self._seats.pop(key, None)
            if seat._lost is not None or self._closing or engine.is_shut:
                return
            try:
                engine.machine.checkin(
                    granted.handle, site=granted.site, now=clock.now(), wall=clock.wall()
                )
            except LocalProtocolError:
                return  # lost a moment ago; that is being told
            inside = self._loop_thread == threading.get_ident()
            waits = engine.machine.ready and not inside
            if waits:
                self._returning.add(key)
        engine.wake()
        if waits:
            # A seat is free again once two servers have written that down (protocol.md rule 14). Without the
            # wait the next checkout of a program that returns its last seat is denied for that very seat.
            self._await(
                lambda: key not in self._returning or not engine.machine.ready,
                time.monotonic() + CHECKIN_S,
            )
            with engine.lock:
                self._returning.discard(key)
        elif self._thread is None and not inside:
            self._await(lambda: False, time.monotonic())

    # --- the end ----------------------------------------------------------------------------------

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Give everything back and end; waits for the server's answer for *timeout_s* at most. Once
        more is harmless."""
        if self._is_forked:
            return
        engine = self._engine
        with engine.lock:
            first = not self._closing
            self._closing = True
            self._seats.clear()
            if first and not engine.is_shut:
                engine.machine.close(now=clock.now(), wall=clock.wall())
        _live.discard(self)
        engine.wake()
        self._await(lambda: self._closed, time.monotonic() + timeout_s)
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

    # --- fork -------------------------------------------------------------------------------------

    @property
    def _is_forked(self) -> bool:
        return os.getpid() != self._engine.pid

    def _check_usable(self) -> None:
        if self._is_forked:
            raise LocalProtocolError(
                "this process was forked from the one that connected: it holds no licence; connect again"
            )
        if self._failure is not None:
            raise LocalProtocolError(f"the licence client has failed: {self._failure}")
        if self._closing:
            raise LocalProtocolError("this client is closed")


def _denial(action: CheckoutDeniedAction, feature: str) -> Exception:
    if action.code == ErrorCode.INVALID_HOST and "not one triad" in action.detail:
        return NotOneTriad(action.detail)
    return CheckoutDenied(
        action.code, action.minor, action.text, detail=action.detail, feature=feature
    )


def _no_answer(trouble: Trouble | None) -> Exception:
    if trouble is None:
        code = int(ErrorCode.NO_ANSWER_IN_TIME)
        return NoServerReachable("the licence server did not answer in time", code=code)
    kind = NoQuorum if trouble.code == ErrorCode.VENDOR_DOWN else NoServerReachable
    text = trouble.text
    if trouble.until_s:
        text += f" (the servers expect to serve in {trouble.until_s:.0f} s)"
    return kind(text, trouble.attempts, trouble.code)


_live: weakref.WeakSet[Client] = weakref.WeakSet()


def _leave() -> None:
    """The interpreter ends without a close: say goodbye as far as that goes at once."""
    for client in list(_live):
        client.close(EXIT_S)


def _forked() -> None:
    for client in list(_live):
        client._engine.let_go_in_child()


atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
