"""Drives a client machine: a task that keeps time, two for each connection, all in one nursery.

Everything that happens goes into the machine and what it wants is begun at once, in :meth:`Engine.turn`,
which never waits and may be called from any task. Only bytes wait, in the connections' own tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio
import trio.abc

from flexcore.client import (
    Abort,
    ApplicationAction,
    ClientEvent,
    Close,
    Connect,
    ConnectFailed,
    ConnectionEnded,
    ConnectionMade,
    DataReceived,
    LicenseClient,
    SendData,
)
from flexcore_host.application import CLOSE_FLUSH_S, READ_BYTES, SLEEP_MAX_S, UNSENT_BYTES_MAX

from . import client_dial

__all__ = ["Engine"]


class Link:
    """One connection, or the attempt at one."""

    __slots__ = ("abort", "closing", "conn", "more", "scope", "stream", "unsent")

    def __init__(self, conn: int) -> None:
        self.conn = conn
        self.scope = trio.CancelScope()
        self.stream: trio.abc.Stream | None = None
        self.unsent = bytearray()
        self.more = trio.Event()
        self.closing = False
        """It ends in order once everything is sent."""
        self.abort = False
        """It ends with a reset."""


class Engine:
    """The tasks of one client. *tell* hears each application action, *failed* of our own bugs, once."""

    def __init__(
        self, machine: LicenseClient, *, connect: client_dial.Connect,
        tell: Callable[[ApplicationAction], None], failed: Callable[[Exception], None],
        now: Callable[[], float], wall: Callable[[], float],
    ) -> None:  # fmt: skip
        self._machine = machine
        self._connect = connect
        self._tell = tell
        self._failed = failed
        self._now = now
        self._wall = wall
        self._links: dict[int, Link] = {}
        self._waits: dict[trio.Event, Callable[[], bool]] = {}
        self._sooner = trio.lowlevel.ParkingLot()
        self._sleeps_until = -math.inf
        self._scope = trio.CancelScope(shield=True)
        self._nursery: trio.Nursery | None = None
        self.is_over = False
        """Nothing is done any more."""

    # --- for the client ---------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until :meth:`end`. Shielded: heartbeats, and the goodbye, go on while the application is cancelled."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    task_status.started()
                    await self._keep_time()
        except Exception as error:  # noqa: BLE001 - told, not hidden
            self._fail(error)

    def turn(self) -> None:
        """Do what is due and begin what the machine wants."""
        if self.is_over:
            return
        try:
            self._turn()
        except Exception as error:  # noqa: BLE001 - told, not hidden
            self._fail(error)

    async def wait_until(self, done: Callable[[], bool], timeout_s: float) -> None:
        """Wait until *done*, which is asked after each news, for *timeout_s* at most."""
        event = trio.Event()
        if done() or self.is_over:
            event.set()
        self._waits[event] = done
        try:
            with trio.move_on_after(max(0.0, timeout_s)):
                await event.wait()
        finally:
            del self._waits[event]

    def end(self, *, abort: bool = False) -> None:
        """End all tasks; connections end in order, or with a reset. Once more is harmless."""
        self.is_over = True
        for link in self._links.values():
            link.abort = abort
        self._links.clear()
        self._scope.cancel()
        for event in self._waits:
            event.set()

    def let_go_in_child(self) -> None:
        """In a forked child: close the copies of the sockets; the parent has them still, so nothing is sent."""
        self.is_over = True
        for link in self._links.values():
            if link.stream is not None:
                client_dial.close_in_child(link.stream)
        if isinstance(self._connect, client_dial.Dialler):
            self._connect.let_go_in_child()

    # --- turns ------------------------------------------------------------------------------------

    def _turn(self) -> None:
        machine, now = self._machine, self._now()
        due_at = machine.next_timeout()
        if due_at is not None and due_at <= now:
            machine.handle_timeout(now=now, wall=self._wall())
        told = False
        while (action := machine.next_action()) is not None:
            if isinstance(action, SendData):
                self._send(action)
            elif isinstance(action, Connect):
                self._dial(action)
            elif isinstance(action, Abort):
                self._abort(action.conn)
            elif isinstance(action, Close):
                self._close(action.conn)
            else:
                told = True
                self._tell(action)
        if told:
            for event, done in self._waits.items():
                if done():
                    event.set()
        due_at = machine.next_timeout()
        if due_at is not None and due_at < self._sleeps_until:
            self._sooner.unpark_all()

    async def _keep_time(self) -> None:
        while True:
            self.turn()
            now, due_at = self._now(), self._machine.next_timeout()
            pause_s = SLEEP_MAX_S if due_at is None else min(SLEEP_MAX_S, max(0.0, due_at - now))
            self._sleeps_until = now + pause_s
            with trio.move_on_after(pause_s):
                await self._sooner.park()
            self._sleeps_until = -math.inf

    def _happened(self, event: ClientEvent) -> None:
        if self.is_over:
            return
        try:
            self._machine.receive_event(event, now=self._now(), wall=self._wall())
        except Exception as error:  # noqa: BLE001 - told, not hidden
            self._fail(error)
        self.turn()

    def _fail(self, error: Exception) -> None:
        """Our own bug. What the application holds is not confirmed any more: it must hear of that."""
        if not self.is_over:
            self.end(abort=True)
            self._failed(error)

    # --- connections ------------------------------------------------------------------------------

    def _dial(self, action: Connect) -> None:
        assert self._nursery is not None
        link = self._links[action.conn] = Link(action.conn)
        self._nursery.start_soon(self._converse, link, action.host, action.port)

    def _send(self, action: SendData) -> None:
        link = self._links.get(action.conn)
        if link is None:
            return
        link.unsent += action.data
        link.more.set()
        if len(link.unsent) > UNSENT_BYTES_MAX:
            self._gone(link, "the server reads nothing")

    def _abort(self, conn: int) -> None:
        link = self._links.pop(conn, None)
        if link is not None:
            link.abort = True
            link.scope.cancel()

    def _close(self, conn: int) -> None:
        link = self._links.get(conn)
        if link is None or link.stream is None:
            self._abort(conn)
        else:
            link.closing = True
            link.scope.deadline = trio.current_time() + CLOSE_FLUSH_S
            link.more.set()

    @trio.lowlevel.enable_ki_protection
    async def _converse(self, link: Link, host: str, port: int) -> None:
        with link.scope:
            try:
                link.stream = await self._connect(host, port)
            except (OSError, trio.BrokenResourceError) as error:
                self._unreachable(link, error)
                return
            try:
                self._happened(ConnectionMade(conn=link.conn))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pour, link, link.stream)
                    await self._read(link, link.stream)
            finally:
                self._links.pop(link.conn, None)
                with trio.CancelScope(deadline=trio.current_time() + CLOSE_FLUSH_S, shield=True):
                    await (client_dial.abort(link.stream) if link.abort else link.stream.aclose())

    @trio.lowlevel.enable_ki_protection
    async def _pour(self, link: Link, stream: trio.abc.Stream) -> None:
        """Send what there is to be sent."""
        try:
            while True:
                await link.more.wait()
                link.more = trio.Event()
                while link.unsent:
                    data, link.unsent = link.unsent, bytearray()
                    await stream.send_all(data)
                if link.closing:
                    link.scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._gone(link, _words(error))

    async def _read(self, link: Link, stream: trio.abc.Stream) -> None:
        """Take in what comes, until the end."""
        try:
            while data := await stream.receive_some(READ_BYTES):
                if not link.closing:
                    self._happened(DataReceived(conn=link.conn, data=bytes(data)))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._gone(link, _words(error))
        else:
            self._gone(link, "", orderly=True)

    def _gone(self, link: Link, error: str, *, orderly: bool = False) -> None:
        """The other end is gone, or is given up."""
        link.scope.cancel()
        if self._links.pop(link.conn, None) is not None and not link.closing:
            link.abort = True
            self._happened(ConnectionEnded(conn=link.conn, orderly=orderly, error=error))

    def _unreachable(self, link: Link, error: Exception) -> None:
        if self._links.pop(link.conn, None) is not None:
            number = error.errno if isinstance(error, OSError) else None
            refused = isinstance(error, ConnectionRefusedError)
            self._happened(
                ConnectFailed(conn=link.conn, error=_words(error), refused=refused, errno=number)
            )


def _words(error: BaseException) -> str:
    """What the operating system said, where it did."""
    cause = error if isinstance(error, OSError) else error.__cause__ or error
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
