"""A licence server from its configuration to its exit status."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from flexcore.errors import FlexcoreError, StateDamaged
from flexcore.licensefile import LicenseFile
from flexcore.options import OptionsFile
from flexcore.quorum import StateError as BadState
from flexcore.server import (
    LicenseRead,
    LicenseRefused,
    LicenseServer,
    ServerConfig,
    UseDebugLog,
    judge_license,
)
from flexcore_host import administrators, clock, entropy

from .loop import LINKS_MAX, Outcome, ServerLoop
from .store import Store
from .turnlogs import EventSink, LogSink, LogSwitch, ReportSink

__all__ = ["run_server", "serve"]

ReadOptions: TypeAlias = Callable[[LicenseFile], OptionsFile]
"""Reads the options file that belongs to a licence file. Called in a thread; may raise FlexcoreError."""

_ID_BYTES = 16
DESCRIPTORS_KEPT = 64
"""File descriptors for peers, disk, log and dials."""
SIGNALLED = 1
"""Exit status after a second signal: stopped at once, without a hand-over."""


async def serve(
    config: ServerConfig, *, store: Store, listeners: Sequence[socket.socket], log: LogSink,
    now: Callable[[], float] = clock.now, wall: Callable[[], float] = clock.wall,
    draw: Callable[[int], bytes] = entropy.draw, read_license: Callable[[], LicenseFile] | None = None,
    read_options: ReadOptions | None = None, shares: int = 1, report: ReportSink | None = None,
    use_debug_log: Callable[[UseDebugLog], None] | None = None, switch_log: LogSwitch | None = None,
    event: EventSink | None = None,
    task_status: trio.TaskStatus[ServerLoop] = trio.TASK_STATUS_IGNORED,
) -> Outcome:  # fmt: skip
    """Serve on ``listeners`` (bound, listening, non-blocking) until the server halts.

    The listeners are open before the first message leaves (protocol.md section 2), and are closed
    here. ``read_license`` reads the licence file anew, in a thread, when an administrator wants that;
    what it raises is why the server keeps what it has. ``read_options`` then reads the options file for
    it in the same thread; what it raises is a remark, and the options stay. ``shares``: how many servers of this
    process share its file descriptors, in equal parts. ``use_debug_log`` sends the vendor daemon's lines
    elsewhere (DEBUGLOG), ``switch_log`` whatever an administrator has go on elsewhere (lmswitch, lmnewlog).
    ``report`` takes the lines of the report log, which ``config.report`` asks for, ``event`` what the system's own
    event log should have. ``task_status`` yields the
    loop, whose ``stop`` stops in order. Raises StateError when the stored state cannot be used, with its place
    and what to do.
    """
    links_max = max(1, _links_max() // shares)
    limits = config.limits
    if limits.connections > links_max - DESCRIPTORS_KEPT:  # a refusal with a reason needs one, too
        limits = attrs.evolve(limits, connections=max(1, links_max - DESCRIPTORS_KEPT))
        config = attrs.evolve(config, limits=limits)
    config = attrs.evolve(config, in_memory=not store.keeps)
    with contextlib.ExitStack() as stack:
        stack.callback(_close_all, listeners)
        stack.callback(store.close)
        stored = store.load()
        try:
            machine = LicenseServer(
                config, stored=stored, boot_id=draw(_ID_BYTES), triad_id=draw(_ID_BYTES),
                now=now(), wall=wall(),
            )  # fmt: skip
        except (BadState, StateDamaged) as error:
            raise StateDamaged(
                f"{error} ({store.place}): start the version that wrote it, or delete the folder and"
                " let the server recover from its peers"
            ) from error
        stack.pop_all()
    loop = ServerLoop(
        machine, store=store, listeners=listeners, log=log, timeout_s=config.timeout_s,
        links_max=links_max, now=now, wall=wall, draw=draw,
        read_license=None if read_license is None
        else partial(_read_and_judge, config, read_license, read_options),
        use_debug_log=use_debug_log, report=report, switch_log=switch_log,
        event=event, may_order=administrators.is_administrator if config.administrators_only else None,
    )  # fmt: skip
    try:
        task_status.started(loop)
        return await loop.run()
    finally:
        if not loop.write_under_way:  # a disk that hangs is left to the end of the process
            store.close()


def _read_and_judge(
    config: ServerConfig, read_license: Callable[[], LicenseFile], read_options: ReadOptions | None
) -> LicenseRead | LicenseRefused:
    license = read_license()
    options: OptionsFile | None = None
    remarks: tuple[str, ...] = ()
    if read_options is not None:
        try:
            options = read_options(license)
        except FlexcoreError as error:
            remarks = (f"{error}; the options of before, if any, stay in effect",)
    outcome = judge_license(config, license, options)
    if isinstance(outcome, LicenseRead):
        outcome = attrs.evolve(outcome, remarks=(*outcome.remarks, *remarks))
    return outcome


def run_server(
    config: ServerConfig, *, store: Store, listeners: Sequence[socket.socket], log: LogSink,
    on_hangup: Callable[[], None] | None = None,
    read_license: Callable[[], LicenseFile] | None = None, read_options: ReadOptions | None = None,
    use_debug_log: Callable[[UseDebugLog], None] | None = None, report: ReportSink | None = None,
    switch_log: LogSwitch | None = None, event: EventSink | None = None,
) -> Outcome:  # fmt: skip
    """Serve until halted: SIGTERM and SIGINT stop in order, a second one at once.

    ``on_hangup`` is called for SIGHUP, where the system has it (log rotation), and the report log goes on in
    the file that has its name then. ``read_license``, ``read_options``, ``use_debug_log``, ``switch_log``,
    ``event``: see :func:`serve`.
    """

    async def start(task_status: trio.TaskStatus[ServerLoop]) -> Outcome:
        return await serve(
            config, store=store, listeners=listeners, log=log, read_license=read_license, report=report,
            read_options=read_options, use_debug_log=use_debug_log, switch_log=switch_log,
            event=event, task_status=task_status,
        )  # fmt: skip

    return trio.run(run_until_signalled, start, listeners, on_hangup)


class Stoppable(Protocol):
    """Whatever serves, as far as signals are concerned."""

    def stop(self, scope: str, requested_by: str) -> None: ...
    def reopen_logs(self, reason: str) -> None: ...


async def run_until_signalled(
    start: Callable[[trio.TaskStatus[Any]], Awaitable[Outcome]], listeners: Sequence[socket.socket],
    on_hangup: Callable[[], None] | None,
) -> Outcome:  # fmt: skip
    """Run what *start* serves until it ends: SIGTERM and SIGINT stop it in order, a second one at once."""
    ended: list[Outcome] = []

    async def served(task_status: trio.TaskStatus[Stoppable]) -> None:
        ended.append(await start(task_status))
        nursery.cancel_scope.cancel()

    with contextlib.ExitStack() as stack:
        stack.callback(_close_all, listeners)
        signals = stack.enter_context(trio.open_signal_receiver(*_signals(on_hangup)))
        if on_hangup is not None and hasattr(signal, "pthread_sigmask") and hasattr(signal, "SIGHUP"):
            # Whoever starts a server holds it back until now: it would end one that is reading its files.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        async with trio.open_nursery() as nursery:
            loop: Stoppable = await nursery.start(served)
            stopping = False
            async for number in signals:
                name = signal.Signals(number).name
                if number == getattr(signal, "SIGHUP", None):
                    if on_hangup is not None:
                        on_hangup()
                        loop.reopen_logs(name)
                elif not stopping:
                    stopping = True
                    loop.stop("one", name)
                else:
                    ended.append(Outcome(SIGNALLED, f"a second signal ({name}): stopped at once"))
                    nursery.cancel_scope.cancel()
                    break
    return ended[-1]


def _links_max() -> int:
    """As many connections as file descriptors allow, less those that the server itself needs."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return LINKS_MAX
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return LINKS_MAX
    return max(1, min(LINKS_MAX, soft - DESCRIPTORS_KEPT))


def _signals(on_hangup: Callable[[], None] | None) -> list[signal.Signals]:
    chosen = [signal.SIGTERM, signal.SIGINT]
    if on_hangup is not None and hasattr(signal, "SIGHUP"):
        chosen.append(signal.SIGHUP)
    return chosen


def _close_all(listeners: Sequence[socket.socket]) -> None:
    for listener in listeners:
        listener.close()

