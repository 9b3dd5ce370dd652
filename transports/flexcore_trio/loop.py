"""The server's loop: whatever is ready goes into the machine, then one turn carries out what it asks.

Everything that can be read at once (:mod:`.readers`) goes to the machine before the turn, so that one
``end_turn`` serves a whole batch of clients with one frame a peer and one ``Persist`` (design.md section 4).
The order of a turn: time, ``end_turn``, logs, bytes out, actions.
Entries thus leave for the peers before their own commit begins (protocol.md rule 20), and nobody is told
what is not in the logs yet: a denial is in no ledger, so one that was told by a process that is killed
before it writes would be in no log at all.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias, assert_never

import trio

from flexcore.codes import ErrorCode
from flexcore.errors import FlexcoreError, StateError
from flexcore.identity import Rank
from flexcore.quorum import PersistBatch
from flexcore.server import (
    CloseConnection,
    DialPeer,
    Halt,
    LicenseRead,
    LicenseRefused,
    Persist,
    ReadLicense,
    UseDebugLog,
)
from flexcore_host import clock, entropy, resolver

from . import readers, sockets
from .link import Link
from .machine import Machine
from .store import Store
from .turnlogs import Duty, EventSink, LogSink, LogSwitch, ReportSink, TurnLogs

__all__ = ["LicenseReader", "LogSink", "Machine", "Outcome", "ServerLoop"]

NONCE_BYTES = 16
DIAL_TIMEOUT_S = 3.0
"""A dial that is not answered for so long has failed; the machine asks for the next one."""
MAX_SLEEP_S = 10.0
"""The loop wakes up this often at least: trio's own clock stands still while the machine sleeps."""
RESOLVERS_MAX = 4
"""Threads that may hang in the resolver at once."""
LINKS_MAX = 25_000
"""Connections that are open at once, where the system allows as many; more than the server takes."""
LINES_MAX = 100
"""So many lines say what is wrong with a licence file that was read anew."""
TURNS_AT_ONCE = 4
"""After a batch was read, turns that ask for one more follow at once, so many; then other tasks have their turn."""
ACCEPT_BATCH = 64
ACCEPT_PAUSE_S = 0.1
"""Without free file descriptors accepting pauses; who waits in the backlog is served afterwards."""
ACCEPT_COMPLAINT_S = 60.0
FLUSH_S = 2.0
"""How long the end of the process waits for the last bytes to be taken."""

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


LicenseReader: TypeAlias = Callable[[], LicenseRead | LicenseRefused]
"""Reads the licence file anew and judges it. Called in a thread; may raise FlexcoreError or OSError."""


class Outcome(NamedTuple):
    """How the server ended: the status to exit with, and why."""

    exit_code: int
    reason: str


class ServerLoop:
    """Drives one machine on one set of listening sockets until it halts."""

    def __init__(
        self, machine: Machine, *, store: Store, listeners: Sequence[socket.socket], log: LogSink,
        timeout_s: float, links_max: int = LINKS_MAX, now: Callable[[], float] = clock.now,
        wall: Callable[[], float] = clock.wall, draw: Callable[[int], bytes] = entropy.draw,
        read_license: LicenseReader | None = None, report: ReportSink | None = None,
        use_debug_log: Callable[[UseDebugLog], None] | None = None, switch_log: LogSwitch | None = None,
        event: EventSink | None = None, may_order: Callable[[socket.socket], bool] | None = None,
    ) -> None:  # fmt: skip
        self._readers = readers.choose(deliver=self._arrived, serve=self._serve)
        self._machine, self._may_order = machine, may_order
        self._logs = TurnLogs(log, report=report, use_debug_log=use_debug_log, switch_log=switch_log, event=event)
        self._read_license = read_license
        self._store = store
        self._listeners = list(listeners)
        self._timeout_s = timeout_s
        self._links_max = links_max
        self._now = now
        self._wall = wall
        self._draw = draw
        self._links: dict[int, Link] = {}
        self._last_conn = 0
        self._known: dict[Rank, resolver.Address] = {}
        self._resolved: dict[tuple[str, int], tuple[resolver.Address, ...]] = {}
        self._writes_under_way = 0
        self._written: tuple[int, str | None] | None = None
        self._disk = trio.CapacityLimiter(1)
        self._names = trio.CapacityLimiter(RESOLVERS_MAX)
        self._complain_at = 0.0
        self._due_at = math.inf  # the first turn asks
        self._due = True
        self._at_once = False
        self._wake_at = -math.inf  # when the task that waits for a turn wakes by itself
        self._idle = trio.lowlevel.ParkingLot()
        self._outcome: Outcome | None = None
        self._nursery: trio.Nursery | None = None

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> Outcome:
        """Serve until the machine halts; returns why. Cancelling it closes everything at once."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._readers.open(nursery)
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener)
                task_status.started()
                await self._turns()
                self._close_listeners()
                await self._flush()
                nursery.cancel_scope.cancel()
        finally:
            self._close_listeners()
            for link in list(self._links.values()):
                link.close()
            self._links.clear()
            self._readers.close()
            self._logs.write()
        assert self._outcome is not None
        return self._outcome

    def stop(self, scope: str, requested_by: str) -> None:
        """Stop in order: this server after a hand-over ('one'), or the triad ('all')."""
        now, wall = self._moment()
        self._machine.stop(scope, requested_by, now=now, wall=wall)
        self._ask_for_turn()

    def reopen_logs(self, reason: str) -> None:
        """Let the report log go on in the file that has its name now (log rotation)."""
        now, wall = self._moment()
        self._machine.reopen_logs(reason, now=now, wall=wall)
        self._ask_for_turn()

    @property
    def write_under_way(self) -> bool:
        """True while the store is at work in another thread: it must not be closed."""
        return self._writes_under_way > 0

    # --- turns ------------------------------------------------------------------------------------

    def _ask_for_turn(self) -> None:
        self._due = True
        if not self._at_once:
            self._idle.unpark()

    async def _turns(self) -> None:
        """Run the turns that nobody runs at once: those that are due by the clock, or that other tasks ask for."""
        while self._outcome is None:
            if self._due:
                await trio.lowlevel.checkpoint()
            else:
                now = self._now()
                self._wake_at = min(self._due_at, now + MAX_SLEEP_S)
                with trio.move_on_after(max(0.0, self._wake_at - now)):
                    await self._idle.park()
                self._wake_at = -math.inf
            if self._due or self._now() >= self._due_at:
                self._due = False
                self._turn()

    def _serve(self, batch: Sequence[readers.Arrival]) -> None:
        """Tell the machine what was read, and let it answer now: no task has to be woken for it."""
        self._at_once = True
        self._arrived(batch)
        for _ in range(TURNS_AT_ONCE):
            if self._due and self._outcome is None:
                self._due = False
                self._turn()
        self._at_once = False
        if self._due or self._due_at < self._wake_at or self._outcome is not None:
            self._idle.unpark()

    def _moment(self) -> tuple[float, float]:
        """Return now and wall, and tell the machine of what is due before it hears of anything else.

        A process that was stopped or starved must not answer by what was true before: its lease
        may be over (protocol.md rule 12). What its disk finished meanwhile is not late, though.
        """
        now, wall = self._now(), self._wall()
        if now >= self._due_at:
            self._hand_over_written(now, wall)
            self._machine.handle_timeout(now=now, wall=wall)
            self._note_due()
            self._ask_for_turn()
        return now, wall

    def _note_due(self) -> None:
        due_at = self._machine.next_timeout()
        self._due_at = math.inf if due_at is None else due_at

    def _turn(self) -> None:
        machine = self._machine
        now, wall = self._moment()
        machine.end_turn(now=now, wall=wall)
        links = self._links
        outgoing = machine.data_to_send()
        later: list[Duty] = []
        while (action := machine.next_action()) is not None:
            duty = self._logs.take(action)
            if duty is not None:
                later.append(duty)
        self._logs.write()
        for conn, data in outgoing:
            link = links.get(conn)
            if link is not None:
                self._send(link, data)
        for duty in later:
            self._carry_out(duty)
        if self._logs.switched:
            self._tell_switched()
        self._note_due()

    def _tell_switched(self) -> None:
        switched, self._logs.switched = self._logs.switched, []
        for ticket, code, text in switched:  # at the time it is: what was done since may have told of a later one
            self._machine.log_switched(ticket, code, text, now=self._now(), wall=self._wall())
        self._ask_for_turn()

    def _carry_out(self, action: Duty) -> None:
        match action:
            case Persist(ticket=ticket, batch=batch):
                self._persist(ticket, batch)
            case CloseConnection(conn=conn, abort=abort):
                self._close(conn, abort=abort)
            case DialPeer(peer=peer, host=host, port=port):
                self._start(self._dial, peer, host, port)
            case ReadLicense(ticket=ticket):
                self._start(self._reread, ticket)
            case Halt(exit_code=exit_code, reason=reason):
                if self._outcome is None:
                    self._outcome = Outcome(exit_code, reason)
            case _:
                assert_never(action)

    def _start(self, function: Callable[..., object], *args: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(partial(function, *args))  # type: ignore[arg-type]

    # --- disk -------------------------------------------------------------------------------------

    def _persist(self, ticket: int, batch: PersistBatch) -> None:
        if self._store.blocking:
            self._start(self._persist_in_thread, ticket, batch)
            return
        self._write(ticket, batch)
        self._hand_over_written(self._now(), self._wall())

    def _write(self, ticket: int, batch: PersistBatch) -> None:
        try:
            self._store.write(batch)
        except StateError as error:
            self._written = (ticket, str(error))
        else:
            self._written = (ticket, None)

    async def _persist_in_thread(self, ticket: int, batch: PersistBatch) -> None:
        """Write off the loop's thread. A disk that hangs is abandoned when the process ends."""
        self._writes_under_way += 1
        await trio.to_thread.run_sync(
            self._write, ticket, batch, abandon_on_cancel=True, limiter=self._disk
        )
        self._writes_under_way -= 1
        self._hand_over_written(self._now(), self._wall())

    def _hand_over_written(self, now: float, wall: float) -> None:
        """Tell the machine what the store has done, unless it knows."""
        if self._written is None:
            return
        (ticket, failure), self._written = self._written, None
        if failure is None:
            self._machine.persisted(ticket, now=now, wall=wall)
        else:
            self._machine.persist_failed(ticket, failure, now=now, wall=wall)
        self._ask_for_turn()

    async def _reread(self, ticket: int) -> None:
        """Read the licence file off the loop's thread: it may be large, or on a disk that hangs."""
        outcome: LicenseRead | LicenseRefused
        if self._read_license is None:
            outcome = LicenseRefused(
                code=ErrorCode.NO_LICENSE_FILE, text="this server was started without a file"
            )
        else:
            try:
                outcome = await trio.to_thread.run_sync(self._read_license, abandon_on_cancel=True)
            except (FlexcoreError, OSError) as error:
                code = error.code if isinstance(error, FlexcoreError) else None
                first, *more = str(error).splitlines() or [repr(error)]
                outcome = LicenseRefused(
                    code=code or ErrorCode.CANNOT_READ_FILE, text=first,
                    details=tuple(more[:LINES_MAX]),
                )  # fmt: skip
        now, wall = self._moment()
        self._machine.license_read(ticket, outcome, now=now, wall=wall)
        self._ask_for_turn()

    # --- connections ------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        while listener.fileno() >= 0:  # it may have been closed since this task was woken
            try:
                await trio.lowlevel.wait_readable(listener)
            except trio.ClosedResourceError:
                return
            for _ in range(ACCEPT_BATCH):
                try:
                    sock, _address = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _OUT_OF_RESOURCES:
                        self._complain(f"Cannot accept connections: {os.strerror(error.errno)}")
                        await trio.sleep(ACCEPT_PAUSE_S)
                        break
                    continue  # the client has given up meanwhile
                self._accepted(sock)

    def adopt(self, sock: socket.socket, data: bytes) -> None:
        """Take a connection that was accepted elsewhere, and what was read from it there."""
        assert not self.is_over
        self._accepted(sock, data)

    @property
    def is_over(self) -> bool:
        """The machine has halted: no connection is taken any more."""
        return self._outcome is not None

    def _accepted(self, sock: socket.socket, data: bytes = b"") -> None:
        sock.setblocking(False)
        local, remote = sockets.is_local(sock)
        if len(self._links) >= self._links_max and not self._is_peers(remote):
            sockets.abort(sock)
            self._complain(f"Too many connections ({self._links_max}): turning clients away")
            return
        sockets.tune(sock, self._timeout_s, peer=False)
        link = self._add_link(sock, accepted=True)
        now, wall = self._moment()
        self._machine.connection_opened(
            link.conn, nonce=self._draw(NONCE_BYTES), local=local, remote=remote, now=now, wall=wall,
            administrator=self._may_order is None or (local and self._may_order(sock)),
        )
        if data:
            self._machine.receive_data(link.conn, data, now=now, wall=wall)
        self._watch(link)
        self._ask_for_turn()

    def _is_peers(self, remote: str) -> bool:
        """Peers always get in: file descriptors are kept for them."""
        return any(str(address.sockaddr[0]) == remote for address in self._known.values())

    def _complain(self, text: str) -> None:
        now = self._now()
        if now >= self._complain_at:
            self._complain_at = now + ACCEPT_COMPLAINT_S
            self._logs.say("lmgrd", text)
            self._ask_for_turn()

    def _add_link(self, sock: socket.socket, *, accepted: bool) -> Link:
        self._last_conn += 1
        link = Link(self._last_conn, sock, accepted=accepted)
        self._links[link.conn] = link
        return link

    def _watch(self, link: Link) -> None:
        try:
            self._readers.add(link)
        except OSError:
            self._end(link, orderly=False)

    def _arrived(self, batch: Sequence[readers.Arrival]) -> None:
        """Tell the machine what was read. The time is taken after that: nothing of it is later than *now*."""
        moment = now, wall = self._moment()
        receive_data = self._machine.receive_data
        for link, data in batch:
            if not data:
                self._end(link, orderly=data is not None, moment=moment)
            elif not link.closing:
                receive_data(link.conn, data, now=now, wall=wall)
        self._ask_for_turn()

    def _send(self, link: Link, data: bytes) -> None:
        if not link.send(data):
            self._end(link, orderly=False)
        elif link.unsent and not link.draining:
            link.draining = True
            self._start(self._drain, link)

    async def _drain(self, link: Link) -> None:
        try:
            taken = await link.drain()
        except trio.ClosedResourceError:
            return
        link.draining = False
        if not taken:
            self._end(link, orderly=False)

    def _end(self, link: Link, *, orderly: bool, moment: tuple[float, float] | None = None) -> None:
        """The other end is gone, or is given up: tell the machine, unless it knows."""
        if self._links.pop(link.conn, None) is not None and not link.closing:
            now, wall = moment or self._moment()
            self._machine.connection_ended(link.conn, orderly=orderly, now=now, wall=wall)
            self._ask_for_turn()
        link.close(abort=not orderly)

    def _close(self, conn: int, *, abort: bool) -> None:
        link = self._links.get(conn)
        if link is None or link.closing:
            return
        if abort:
            del self._links[conn]
            link.close(abort=True)
        else:
            link.closing = True
            self._start(self._linger, link)

    async def _linger(self, link: Link) -> None:
        await link.linger()
        self._links.pop(link.conn, None)

    # --- dialling ---------------------------------------------------------------------------------

    async def _dial(self, peer: Rank, host: str, port: int) -> None:
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            result = sockets.DialResult(None, error=f"{host}: {error.strerror or error}")
        else:
            result = await sockets.connect_any(addresses, DIAL_TIMEOUT_S, self._known.get(peer))
        now, wall = self._moment()
        if result.sock is None:
            self._machine.dial_failed(
                peer, refused=result.refused, error=result.error, now=now, wall=wall
            )
            self._ask_for_turn()
            return
        if result.address is not None:
            self._known[peer] = result.address
        sockets.tune(result.sock, self._timeout_s, peer=True)
        link = self._add_link(result.sock, accepted=False)
        self._machine.peer_connected(
            link.conn, peer, nonce=self._draw(NONCE_BYTES), now=now, wall=wall
        )
        self._watch(link)
        self._ask_for_turn()

    async def _resolve(self, host: str, port: int) -> tuple[resolver.Address, ...]:
        """Ask the resolver; when it fails or hangs, what it said before is used."""
        if resolver.is_literal(host):
            return resolver.addresses_of(host, port)
        with trio.move_on_after(DIAL_TIMEOUT_S):
            try:
                found = await trio.to_thread.run_sync(
                    resolver.addresses_of, host, port, abandon_on_cancel=True, limiter=self._names
                )
            except OSError:
                if (host, port) not in self._resolved:
                    raise
            else:
                self._resolved[host, port] = found
        known = self._resolved.get((host, port))
        if known is None:
            raise OSError(errno.ETIMEDOUT, "the name server does not answer")
        return known

    # --- the end ----------------------------------------------------------------------------------

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            if listener.fileno() >= 0:
                trio.lowlevel.notify_closing(listener)
                listener.close()

    async def _flush(self) -> None:
        with trio.move_on_after(FLUSH_S):
            async with trio.open_nursery() as nursery:
                for link in list(self._links.values()):
                    nursery.start_soon(link.linger)
