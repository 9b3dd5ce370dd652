"""Several vendors in one process behind one port: a :class:`~.loop.ServerLoop` for each.

Every vendor has a machine, a store, a disk thread and a share of the connections of its own; what
they have in common is the port, the process and this event loop (docs/vendors.rst says why, and what
that costs). A vendor that fails, whatever the reason, is closed alone and started again after a
while; the others do not notice. Which vendor a connection is for is :mod:`flexcore.server.front`'s
to say.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Callable, Sequence

import attrs
import trio

from flexcore.errors import FlexcoreError
from flexcore.licensefile import LicenseFile
from flexcore.report import logline
from flexcore.server import ServerConfig, UseDebugLog
from flexcore.server.config import Limits
from flexcore.server.front import Front, Guest, Passed

from . import sockets
from .link import LINGER_S, READ_BYTES
from .loop import ACCEPT_BATCH, ACCEPT_PAUSE_S, Outcome, ServerLoop
from .serving import ReadOptions, run_until_signalled, serve
from .store import Store
from .turnlogs import EventSink, LogSink, LogSwitch, ReportSink

__all__ = ["VendorService", "VendorStart", "run_vendors", "serve_vendors"]

RESTART_MIN_S = 10.0
"""A vendor that failed is started again after so long, then after twice as long, and so on, ..."""
RESTART_MAX_S = 600.0
"""... up to this; one that ran for so long is taken for well."""
FAILED = 1
"""Exit status of a vendor that cannot be started, or whose program has a bug."""


@attrs.frozen(kw_only=True)
class VendorStart:
    """What one vendor's server starts with. The store is closed by whoever serves."""

    config: ServerConfig
    store: Store
    read_license: Callable[[], LicenseFile] | None = None
    read_options: ReadOptions | None = None
    use_debug_log: Callable[[UseDebugLog], None] | None = None
    switch_log: LogSwitch | None = None
    event: EventSink | None = None
    report: ReportSink | None = None
    at_end: Callable[[], None] | None = None
    """Called when this start is over, whatever ended it: closes the report log."""


@attrs.frozen(kw_only=True)
class VendorService:
    """A vendor, and how to make its start: *prepare* is called in a thread, each time anew, and
    raises FlexcoreError or OSError where the vendor cannot be served."""

    vendor: str
    prepare: Callable[[], VendorStart]


async def serve_vendors(
    services: Sequence[VendorService], *, listeners: Sequence[socket.socket], log: LogSink,
    task_status: trio.TaskStatus[VendorHouse] = trio.TASK_STATUS_IGNORED,
) -> Outcome:  # fmt: skip
    """Serve every vendor on ``listeners`` until all have ended; the listeners are closed here.

    A vendor that ends in order (lmdown) stays down until the licence file is read anew (lmreread); one
    that fails is started again by and by, or then. When none is
    left that runs, it is over: with exit status 0, or that of the last one if it failed.
    ``task_status`` yields the house, whose ``stop`` stops all in order.
    """
    house = VendorHouse(services, listeners, log)
    task_status.started(house)
    return await house.run()


def run_vendors(
    services: Sequence[VendorService], *, listeners: Sequence[socket.socket], log: LogSink,
    on_hangup: Callable[[], None] | None = None,
) -> Outcome:  # fmt: skip
    """Serve until all have ended, or are stopped by a signal, as :func:`~.serving.run_server`."""

    async def start(task_status: trio.TaskStatus[VendorHouse]) -> Outcome:
        return await serve_vendors(services, listeners=listeners, log=log, task_status=task_status)

    return trio.run(run_until_signalled, start, listeners, on_hangup)


class VendorHouse:
    """The port, and the vendors behind it."""

    def __init__(
        self, services: Sequence[VendorService], listeners: Sequence[socket.socket], log: LogSink
    ) -> None:
        self._services = services
        self._listeners = list(listeners)
        self._log = log
        self._front = Front([service.vendor for service in services])
        self._loops: dict[str, ServerLoop] = {}
        self._alive = {service.vendor for service in services}  # asked for membership only
        self._exited: set[str] = set()  # asked for membership only
        self._stopping: str | None = None
        self._wanted = trio.Event()
        self._over = trio.Event()
        self._outcome = Outcome(0, "")
        self._limits = Limits()
        self._guests = 0
        self._hangups, self._hangup = 0, ""

    async def run(self) -> Outcome:
        """Serve until no vendor runs any more."""
        try:
            async with trio.open_nursery() as nursery:
                for service in self._services:
                    nursery.start_soon(self._keep, service)
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener, nursery)
                await self._over.wait()
                nursery.cancel_scope.cancel()
        finally:
            for listener in self._listeners:
                if listener.fileno() >= 0:
                    trio.lowlevel.notify_closing(listener)
                    listener.close()
        lines = [logline.all_vendors_down_line()]
        if not self._outcome.exit_code:
            lines.append(logline.lmgrd_exiting_line())
        self._log([("lmgrd", text) for text in lines])
        return self._outcome

    def stop(self, scope: str, requested_by: str) -> None:
        """Stop all vendors in order."""
        self._stopping = requested_by
        self.wake()
        for loop in list(self._loops.values()):
            loop.stop(scope, requested_by)

    def reopen_logs(self, reason: str) -> None:
        """Let every vendor's report log go on in the file that has its name now (log rotation); of one that is
        just starting, as soon as it has: it may have opened the file before the rotation."""
        self._hangups, self._hangup = self._hangups + 1, reason
        for loop in list(self._loops.values()):
            if not loop.is_over:
                loop.reopen_logs(reason)

    # --- vendors ----------------------------------------------------------------------------------

    async def _keep(self, service: VendorService) -> None:
        """Serve one vendor, again and again if it fails."""
        vendor, pause_s, said = service.vendor, RESTART_MIN_S, ""
        while True:
            begun_at = trio.current_time()
            outcome = await self._once(service)
            self._front.vendor_down(vendor, outcome.reason or "it was stopped")
            in_order = not outcome.exit_code or self._stopping is not None
            self._alive.discard(vendor)
            self._exited.add(vendor)
            if not self._alive:
                self._outcome = Outcome(0, "") if in_order else outcome
                self._over.set()
            if self._over.is_set() or self._stopping is not None:
                return
            if not in_order and outcome.reason != said:
                said = outcome.reason
                self._say_exited(vendor, outcome)
            if trio.current_time() - begun_at > RESTART_MAX_S:
                pause_s = RESTART_MIN_S
            with trio.move_on_after(math.inf if in_order else pause_s):
                await self._wanted.wait()
            if self._stopping is not None:
                return
            pause_s = min(2 * pause_s, RESTART_MAX_S)
            self._alive.add(vendor)
            self._front.vendor_down(vendor, "it is starting")

    def wake(self) -> None:
        """Start now whatever vendor is down: an administrator has had the licence file read anew."""
        self._wanted.set()
        self._wanted = trio.Event()

    def _say_exited(self, vendor: str, outcome: Outcome) -> None:
        exited = logline.vendor_exited_line(vendor, outcome.exit_code, outcome.reason)
        again = f"{vendor} is started again in {RESTART_MIN_S:g} s, later in longer steps"
        lines = (exited, *logline.attempt_restart_lines(), f"{again}; the other vendors are served")
        self._log([("lmgrd", text) for text in lines])

    async def _once(self, service: VendorService) -> Outcome:
        """Serve one vendor once. Whatever goes wrong is this vendor's alone."""
        hangups = self._hangups
        try:
            start = await trio.to_thread.run_sync(service.prepare, abandon_on_cancel=True)
            try:
                async with trio.open_nursery() as nursery:
                    outcome = await self._serve(service.vendor, start, nursery, hangups)
            finally:
                if start.at_end is not None:
                    start.at_end()
        except Exception as error:  # noqa: BLE001 - the failure domain: a bug in one is not the others' end
            outcome = Outcome(FAILED, _words(error))
        self._loops.pop(service.vendor, None)
        return outcome

    async def _serve(
        self, vendor: str, start: VendorStart, nursery: trio.Nursery, hangups: int
    ) -> Outcome:
        ended: list[Outcome] = []

        async def served(task_status: trio.TaskStatus[ServerLoop]) -> None:
            ended.append(
                await serve(
                    start.config, store=start.store, listeners=(), log=self._log,
                    read_license=self._waking(start.read_license), read_options=start.read_options,
                    shares=len(self._services), use_debug_log=start.use_debug_log,
                    switch_log=start.switch_log, event=start.event, report=start.report,
                    task_status=task_status,
                )
            )  # fmt: skip
            over.set()

        over = trio.Event()
        loop = await nursery.start(served)
        self._loops[vendor] = loop
        self._front.vendor_up(vendor)
        if vendor in self._exited:
            self._exited.discard(vendor)
            self._log([("lmgrd", logline.restarted_line(vendor, os.getpid()))])
        if self._hangups != hangups:  # while it was starting
            loop.reopen_logs(self._hangup)
        if self._stopping is not None:
            loop.stop("one", self._stopping)
        await over.wait()
        return ended[0]

    def _waking(self, read: Callable[[], LicenseFile] | None) -> Callable[[], LicenseFile] | None:
        """*read* is called in a thread when lmreread wants it: that is when vendors that are down are
        tried again."""

        def read_and_wake() -> LicenseFile:
            assert read is not None
            license = read()
            trio.from_thread.run_sync(self.wake)
            return license

        return None if read is None else read_and_wake

    # --- connections ------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(ACCEPT_BATCH):
                try:
                    sock, _address = listener.accept()
                except BlockingIOError:
                    break
                except OSError:  # no descriptors, or the client has given up
                    await trio.sleep(ACCEPT_PAUSE_S)
                    break
                sock.setblocking(False)
                if self._guests >= self._limits.unknown_connections:
                    sockets.abort(sock)
                    continue
                self._guests += 1
                nursery.start_soon(self._receive, sock)

    async def _receive(self, sock: socket.socket) -> None:
        """Find out for whom a connection is, and hand it over."""
        try:
            with trio.move_on_after(self._limits.hello_s) as patience:
                await self._greet(sock)
            if patience.cancelled_caught:
                sockets.abort(sock)
        except (OSError, trio.ClosedResourceError):
            sock.close()
        except BaseException:
            sock.close()
            raise
        finally:
            self._guests -= 1

    async def _greet(self, sock: socket.socket) -> None:
        guest = Guest()
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                data = sock.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                continue
            if not data:
                sock.close()
                return
            for vendor, loop in self._loops.items():
                if loop.is_over:
                    self._front.vendor_down(vendor, "it is stopping")
            verdict = self._front.receive(guest, data)
            if isinstance(verdict, Passed):
                self._loops[verdict.vendor].adopt(sock, verdict.data)
                return
            if verdict is not None:
                await _send_last(sock, verdict.data)
                return


async def _send_last(sock: socket.socket, data: bytes) -> None:
    """Send the last word, and let the other end read it: a close with unread input is a reset."""
    with contextlib.suppress(OSError):
        sock.send(data)
        sock.shutdown(socket.SHUT_WR)
    with trio.move_on_after(LINGER_S), contextlib.suppress(OSError):
        while True:
            await trio.lowlevel.wait_readable(sock)
            if not sock.recv(READ_BYTES):
                break
    sock.close()


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return str(error) if isinstance(error, FlexcoreError | OSError) else repr(error)
