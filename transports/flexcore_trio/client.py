"""What an application on trio uses: :func:`open_client` and :class:`Client`."""

from __future__ import annotations

import contextlib
import inspect
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar, cast

import trio

from flexcore.client import PATH_ORDER, ApplicationAction, ClientConfig, StateChanged, Trouble
from flexcore.client import Seat as Granted
from flexcore.codes import ErrorCode
from flexcore.errors import CheckoutDenied, LicenseLost
from flexcore.keys import VerifyingKey
from flexcore_host import clock, entropy, errands
from flexcore_host.application import CHECKIN_S, CLOSE_S, TIMEOUT_S, client_config
from flexcore_host.desk import CALLBACK_FAILED, Desk, Loss, call_safely
from flexcore_host.lazylog import logger
from flexcore_host.waiting import WaitingBase

from .client_dial import Connect, Dialler
from .client_engine import Engine
from .client_seat import Checkout, Seat
from .client_waiting import Waiting

__all__ = ["Client", "open_client"]

_LOG = "flexcore_trio"

T = TypeVar("T")
OnLoss = Callable[[Seat, LicenseLost], Awaitable[None] | None]
OnState = Callable[[StateChanged], Awaitable[None] | None]
OnChange = Callable[[Waiting], Awaitable[None] | None]


@contextlib.asynccontextmanager
async def open_client(
    path: str | None = None, *, vendor: str = "", keys: Iterable[VerifyingKey | str] = (),
    user: str | None = None, host: str | None = None, display: str | None = None,
    project: str = "", timeout_s: float = TIMEOUT_S,
    on_loss: OnLoss | None = None, on_state: OnState | None = None, trusted_end: bool = True,
    prefer: str = PATH_ORDER,
    connect: Connect | None = None, now: Callable[[], float] = clock.now,
    wall: Callable[[], float] = clock.wall, draw: Callable[[int], bytes] = entropy.draw,
) -> AsyncIterator[Client]:  # fmt: skip
    """Open a client of the licence servers in *path* for an ``async with`` block.

    No server is contacted before the first checkout. One nursery keeps what is held alive in the background, whatever
    the block does; at its end, however it ends, everything is given back and a goodbye is said, for
    CLOSE_S seconds at most and shielded from cancellation. What the block raises comes out as it is, in no group.

    Args:
        path: as in ``LM_LICENSE_FILE``: ``2837@pat,2837@lee,2837@terry``. None: from the environment,
            ``<VENDOR>_LICENSE_FILE`` and then ``LM_LICENSE_FILE``.
        vendor: the vendor's name; it follows from *keys* where those are given.
        keys: the publisher's public keys (``VENDOR.pub``, as text or as keys): every grant is
            verified with them. Without keys none is.
        user, host, display, project: who is shown by lmstat; found out where not given (LM_PROJECT).
        timeout_s: how long a checkout waits for a server.
        on_loss: called at once when a seat is lost, with the seat and why. An async one runs as a task of the
            client's nursery, beside the block; the block's end waits for it, an exception in the block cancels it.
        on_state: called when a master is found or lost; no seat is lost by that. May be async as well.
        trusted_end: False behind a proxy that ends connections by itself.
        prefer: of several servers that are independent (a path with colons) ``"path-order"`` asks first where the
            feature was granted last, else in the order of the path; ``"least-loaded"`` first the one that has the
            largest share free, at the price of a question to all before each checkout.
        connect: instead of TCP: ``await connect(host, port)`` returns a stream, or raises OSError.
        now, wall, draw: the clocks and the randomness. With ``trio.testing.MockClock`` pass ``now=trio.current_time``.

    Raises:
        SearchPathError: no path, or not a usable one. KeyFormatError: a key's text is none.
        ValueError: an impossible argument.
    """
    config = client_config(
        path, vendor=vendor, keys=keys, user=user, host=host, display=display, project=project,
        trusted_end=trusted_end, prefer=prefer,
    )  # fmt: skip
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        client = Client(
            config, nursery, timeout_s=timeout_s, on_loss=on_loss, on_state=on_state,
            connect=connect or Dialler(), now=now, wall=wall, draw=draw,
        )  # fmt: skip
        await nursery.start(client._engine.run)
        try:
            yield client
        except BaseException as error:  # noqa: BLE001 - raised again, outside of the nursery
            raised = error
            nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await client.close()
    if raised is not None:
        try:
            raise raised
        finally:
            del raised  # its traceback holds this frame


class Client:
    """A client of licence servers; made by :func:`open_client`. Usable from any task of the same ``trio.run``.

    After a fork the child's copy holds nothing: its seats are not held, and whatever needs a server raises
    LocalProtocolError. The parent's is not disturbed, as long as the child does not go on with trio.
    """

    def __init__(
        self, config: ClientConfig, nursery: trio.Nursery, *, timeout_s: float,
        on_loss: OnLoss | None, on_state: OnState | None, connect: Connect,
        now: Callable[[], float], wall: Callable[[], float], draw: Callable[[int], bytes],
    ) -> None:  # fmt: skip
        self._nursery = nursery
        self._timeout_s = timeout_s
        self._on_loss = on_loss
        self._on_state = on_state
        self._desk = Desk(
            config, self._make_seat, lock=contextlib.nullcontext(), now=now, wall=wall, draw=draw
        )
        self._engine = Engine(
            self._desk.machine, connect=connect, tell=self._tell, failed=self._fail, now=now, wall=wall
        )
        _live.add(self)

    # --- asking -----------------------------------------------------------------------------------

    def checkout(
        self, feature: str, version: str = "", *, count: int = 1, wait_s: float | None = None,
        queue: bool = False, queue_s: float | None = None, on_queue: OnChange | None = None,
    ) -> Checkout:  # fmt: skip
        """Check out *count* licences of *feature*: ``async with client.checkout("f1") as seat:``, or
        ``seat = await client.checkout("f1")``.

        What this machine has borrowed is used first, without a server. With LM_BORROW set (``lmborrow``) what is
        checked out is borrowed, or refused with the reason (a feature without BORROW is held as usual).

        A denial is told at once. *wait_s* (default: the client's timeout_s) is how long to look for a server that
        serves, and to wait for its answer. What is given up, by that or by cancellation, is withdrawn at the server.

        With *queue* this waits in the server's queue if too few are free, for *queue_s* seconds at most (default: as
        long as it takes). Cancellation leaves the queue. *on_queue* is as *on_change* of :meth:`queue`.

        Raises:
            CheckoutDenied: the answer is no, with the manual's code; -35: still in the queue after *queue_s*.
            NoQuorum: servers answer, none serves. NoServerReachable: no server answers.
            NotOneTriad: the path joins servers by a comma that do not belong together.
            LocalProtocolError: closed, or in a forked child. ValueError: an impossible argument.
            BorrowError: LM_BORROW makes no sense, or the borrow file cannot be written.
        """
        patience_s = self._timeout_s if wait_s is None else wait_s
        if queue:
            ask = partial(self._queue_for, feature, version, count, queue_s, on_queue)
        else:
            ask = partial(self._check_out, feature, version, count)
        return Checkout(self._borrowed_as_wished(ask, (feature, version, count), patience_s))

    async def _queue_for(
        self, feature: str, version: str, count: int,
        queue_s: float | None, on_queue: OnChange | None, wait_s: float,
    ) -> Seat:  # fmt: skip
        waiting = self.queue(feature, version, count=count, on_change=on_queue)
        return await waiting._wait_for_place(wait_s, queue_s)

    def queue(
        self, feature: str, version: str = "", *, count: int = 1, on_change: OnChange | None = None
    ) -> Waiting:
        """Ask for *count* licences of *feature*, and wait for them in the server's queue if too few are free; returns
        at once. Look at the result now and then, wait for it, or have *on_change* called with it whenever something
        has changed; an async one runs as a task of the client's nursery.

        What can never be granted is refused at once, also with a queue. The place is kept through failovers; it is
        lost by :meth:`Waiting.cancel`, with the client, or when no server was reached for the length of the lease
        (then the wait goes on at the end of the queue).

        Raises:
            LocalProtocolError: closed, or in a forked child. ValueError: an impossible argument.
        """
        waiting = Waiting(self, self._desk, feature, on_change)
        self._desk.queue(waiting, version, count)
        self._engine.turn()
        if waiting.seat is not None:  # borrowed
            self._call(on_change, waiting)
        return waiting

    async def return_borrowed(self, feature: str, version: str = "", *, wait_s: float | None = None) -> int:
        """Give back before its end what this user has borrowed of *feature* (of *version*, if that is given), as
        ``flexcore lmborrow -return`` does; returns how many borrowings those were. This client's own use of it ends
        then. *wait_s* is as for a checkout. If this is cancelled it may be given back all the same; it is not used
        any more then: return it again.

        Raises:
            BorrowError: -41: nothing like that is borrowed; -124: another process uses it, or no answer came (it is
                not used any more: return it again); -118: its time is over; -128: these servers know nothing of it;
                -9: it was borrowed on another machine; -122, -117: a file cannot be removed, or written.
            NoQuorum, NoServerReachable: nobody serves; it stays borrowed.
            LocalProtocolError: closed, or in a forked child.
        """
        steps = errands.return_borrowed(self._desk, feature, version)
        return await self._run_errand(steps, self._timeout_s if wait_s is None else wait_s)

    async def _run_errand(self, steps: errands.Steps[T], wait_s: float) -> T:
        deadline = trio.current_time() + wait_s
        has_asked = False
        try:
            while True:
                done = next(steps)
                has_asked = True
                self._engine.turn()
                await self._engine.wait_until(done, deadline - trio.current_time())
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            steps.close()
            if has_asked:
                self._engine.turn()  # what it left unanswered is withdrawn

    async def _borrow(self, seat: Seat, until: float, wait_s: float) -> None:
        desk, engine = self._desk, self._engine
        request = desk.borrow(seat, until)
        engine.turn()
        await engine.wait_until(lambda: desk.is_borrow_answered(request), wait_s)
        desk.collect_borrow(request, seat)

    async def _borrowed_as_wished(
        self, ask: Callable[[float], Coroutine[Any, Any, Seat]], wanted: tuple[str, str, int], wait_s: float
    ) -> Seat:
        """LM_BORROW is set: whoever asks goes home with the licence, or is told why not."""
        began = trio.current_time()
        await self._run_errand(errands.resume(self._desk, *wanted), wait_s)
        seat = await ask(max(0.0, wait_s - (trio.current_time() - began)))
        try:
            until = self._desk.wished_until(seat)
            if until is not None:
                await self._borrow(seat, until, wait_s)
        except BaseException as error:
            if isinstance(error, CheckoutDenied) and error.code == ErrorCode.NO_BORROW:
                logger(_LOG).warning("%s is held, and not borrowed: %s", seat.feature, error)
                return seat
            self._desk.give_back(seat, waits=False)
            self._engine.turn()
            raise
        return seat

    async def _check_out(
        self, feature: str, version: str, count: int, wait_s: float | None
    ) -> Seat:
        desk, engine = self._desk, self._engine
        request = desk.ask(feature, version, count)
        try:
            engine.turn()
            await engine.wait_until(
                lambda: desk.is_answered(request), self._timeout_s if wait_s is None else wait_s
            )
        except BaseException:
            desk.abandon(request)
            engine.turn()
            raise
        try:
            return desk.collect(request, feature)
        finally:
            engine.turn()  # it may have been withdrawn

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

    # --- what the engine says ---------------------------------------------------------------------

    def _make_seat(self, granted: Granted) -> Seat:
        return Seat(self, self._desk, granted)

    def _tell(self, action: ApplicationAction) -> None:
        news = self._desk.note(action)
        if isinstance(news, Loss):
            self._call(self._on_loss, *news)
        elif isinstance(news, WaitingBase):
            self._call(news._on_change, news)
        elif news is not None:
            self._call(self._on_state, news)

    def _fail(self, error: Exception) -> None:
        """The engine is broken: nothing is confirmed any more, and everybody is told."""
        logger(_LOG).error("the licence client has failed", exc_info=error)
        for loss in self._desk.fail(error):
            self._call(self._on_loss, *loss)

    def _call(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        result = call_safely(_LOG, callback, *arguments)
        if inspect.isawaitable(result):
            self._nursery.start_soon(self._finish, result)

    async def _finish(self, awaitable: Awaitable[Any]) -> None:
        try:
            await awaitable
        except Exception:  # noqa: BLE001 - the application's mistake must not end its licences
            logger(_LOG).exception(CALLBACK_FAILED)

    # --- giving back ------------------------------------------------------------------------------

    async def _check_in(self, seat: Seat) -> None:
        desk, engine = self._desk, self._engine
        key = desk.give_back(seat, waits=True)
        if desk.is_forked:
            return
        engine.turn()
        if key is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await engine.wait_until(lambda: desk.is_returned(key), CHECKIN_S)
        finally:
            desk.forget_return(key)

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Give everything back and end; waits for the server's answer for *timeout_s* at most. Once
        more is harmless, and the end of the ``async with`` block does it."""
        desk, engine = self._desk, self._engine
        if not desk.is_forked:
            desk.close()
            engine.turn()
            try:
                await engine.wait_until(lambda: desk.closed, timeout_s)
            finally:
                engine.end(abort=desk.failure is not None)
        else:
            engine.end()
        _live.discard(self)


_live: weakref.WeakSet[Client] = weakref.WeakSet()


def _forked() -> None:
    for client in list(_live):
        client._engine.let_go_in_child()
        client._desk.lending.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
