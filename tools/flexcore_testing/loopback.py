"""A real triad inside the test's process: three servers on sockets of 127.0.0.1, each in a thread of its own.

Whatever connects over TCP can use it: the blocking client, the async client, ``flexcore run``, another program. Its
time is real, so the HEARTBEAT_INTERVAL is 1 unless the test says otherwise.
"""

from __future__ import annotations

import datetime
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio

from flexcore.errors import LocalProtocolError, RemoteProtocolError
from flexcore.identity import Rank
from flexcore.keys import VerifyingKey
from flexcore.licensefile import LicenseFile
from flexcore.override import override
from flexcore.server import ServerConfig
from flexcore.wire.codec import MAX_FRAME_BYTES
from flexcore.wire.connection import Connection
from flexcore.wire.messages import ServerAddress
from flexcore_host import clock
from flexcore_testing.harness_client import seconds_of
from flexcore_testing.harness_names import ServerName
from flexcore_testing.inquiry import TIMEOUT_S, Inquiry, lmstat_of, master_of
from flexcore_testing.loopback_links import Links
from flexcore_testing.loopback_setup import (
    INTERVAL_S,
    STARTUP_S,
    TAKING_PART,
    Stage,
    must_be_down,
    must_run,
)
from flexcore_trio import Outcome, ServerLoop, serve

if TYPE_CHECKING:
    import flexcore_sync

POLL_S = 0.01
"""How often a wait looks again."""

END_S = 10.0
"""How long the end of a server's thread is waited for, beyond the timeout of the triad where it stops in order."""

WAIT_MAX_S = 3600.0
"""The longest wait in real time."""

READ_BYTES = 1 << 16


class ServerThread:
    """One run of a server: a thread with an event loop, which can be stopped, killed and frozen."""

    def __init__(self, stage: Stage, rank: Rank, addresses: tuple[ServerAddress, ...]) -> None:
        self._stage = stage
        self.rank = rank
        self.paused = False
        self.outcome: Outcome | None = None
        self.failure: BaseException | None = None
        self._config: ServerConfig = stage.config(rank, addresses)
        self._listeners = stage.ports.listen(rank)
        self._started = threading.Event()
        self._go_on = threading.Event()
        self._killed = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._loop: ServerLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"flexcore-{rank.word}", daemon=True)
        self._thread.start()
        if not self._started.wait(END_S):
            raise LocalProtocolError(f"the thread of the {rank.word} does not start")
        if self.failure is not None:
            raise self.failure

    @property
    def runs(self) -> bool:
        """Whether the server is there."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """SIGTERM."""
        loop = self._loop
        assert loop is not None
        self._soon(lambda: loop.stop("one", "test"))

    def kill(self) -> None:
        """kill -9: nothing more is done, the sockets are closed as a kernel closes them."""
        self._killed = True
        self._soon(self._scope.cancel)
        self._go_on.set()
        self.join(END_S)

    def pause(self) -> None:
        """SIGSTOP: the loop stands still, the sockets stay open and fill."""
        self.paused = True
        self._go_on.clear()
        stands = threading.Event()
        self._soon(lambda: self._stand_still(stands))
        stands.wait(END_S)

    def resume(self) -> None:
        """SIGCONT."""
        self.paused = False
        self._go_on.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end. Raises LocalProtocolError if it does not come."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise LocalProtocolError(f"the {self.rank.word} does not end within {timeout_s:g} s")

    def _stand_still(self, stands: threading.Event) -> None:
        stands.set()
        self._go_on.wait()
        if self._killed:
            self._scope.cancel()

    def _soon(self, action: Callable[[], object]) -> None:
        assert self._token is not None
        try:
            self._token.run_sync_soon(action)
        except trio.RunFinishedError:
            return  # it has ended by itself

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001 - told to whoever asks next
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            self.failure = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._loop = await nursery.start(self._serve)
                self._started.set()

    async def _serve(self, *, task_status: trio.TaskStatus[ServerLoop] = trio.TASK_STATUS_IGNORED) -> None:
        stage, rank = self._stage, self.rank
        self.outcome = await serve(
            self._config, store=stage.store(rank), listeners=self._listeners, wall=stage.wall,
            log=lambda lines: stage.note(rank, lines), task_status=task_status,
        )  # fmt: skip


class LoopbackTriad:
    """Three real servers on 127.0.0.1, in threads of this process; a context manager that starts and ends them.

    The arguments are those of :class:`flexcore_testing.Triad`. *heartbeat_interval_s* is 1 where not given; None takes
    what the file says. *date* sets the servers' calendar, which is the machine's where not given. The hosts and ports
    of the SERVER lines are replaced by ports of this machine that are free (they are not signed). *cuttable* puts a
    proxy on each connection between two servers, which :meth:`cut` and :meth:`heal` need.

    Methods may be called from any thread; they block. In a trio program call them by ``trio.to_thread.run_sync``, or
    use :func:`flexcore_testing.open_triad`, which runs in the program's own loop.
    """

    def __init__(
        self,
        license: str | os.PathLike[str] | LicenseFile | None = None,
        *,
        features: Mapping[str, int] | None = None,
        keys: VerifyingKey | str | Iterable[VerifyingKey | str] = (),
        heartbeat_interval_s: int | None = INTERVAL_S,
        primary_is_master: bool | None = None,
        date: datetime.date | str | None = None,
        cuttable: bool = False,
        start: bool = True,
    ) -> None:
        self._stage = Stage(
            license, features=features, keys=keys, heartbeat_interval_s=heartbeat_interval_s,
            primary_is_master=primary_is_master, date=date, wall=clock.wall,
        )  # fmt: skip
        self._start_all = start
        self._cuttable = cuttable
        self._links: Links | None = None
        self._threads: dict[Rank, ServerThread] = {}
        self._closed = False

    # --- the context ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            if self._cuttable:
                self._links = Links(self._stage.addresses)
            if self._start_all:
                for rank in Rank:
                    self.start(rank)
                self._wait(self._all_take_part, self.timeout_s + STARTUP_S, "the triad does not start")
                self._stage.first_start = False
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill all servers and let go of their ports; once more is harmless."""
        if self._closed:
            return
        self._closed = True
        try:
            for thread in self._threads.values():
                if thread.runs:
                    thread.kill()
        finally:
            self._stage.ports.close()
            if self._links is not None:
                self._links.close()

    # --- what the product is told ---------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The search path: for LM_LICENSE_FILE, ``flexcore_sync.connect``, ``flexcore lmstat -c``."""
        return self._stage.path

    @property
    def license(self) -> LicenseFile:
        """The licence file that is served, signed."""
        return self._stage.terms.license

    @property
    def keys(self) -> tuple[VerifyingKey, ...]:
        """The keys that it verifies with: what the product embeds."""
        return self._stage.terms.keys

    @property
    def vendor(self) -> str:
        """The vendor that is served."""
        return self._stage.terms.vendor

    def connect(self, **options: Any) -> flexcore_sync.Client:
        """Return a blocking client of this triad; *options* as those of ``flexcore_sync.connect``."""
        import flexcore_sync

        return flexcore_sync.connect(self.path, **{"keys": self.keys, **options})

    # --- looking --------------------------------------------------------------------------------------------------

    @property
    def timeout_s(self) -> float:
        """The timeout of this triad: 3 s for a HEARTBEAT_INTERVAL of 1."""
        return self._stage.timeout_s

    @property
    def master(self) -> str | None:
        """Who says at this instant that it serves, None for nobody."""
        place = master_of(self._ask_all(usage=False))
        return None if place is None else Rank(place).word

    def state(self, server: ServerName) -> str:
        """What a server says that it is doing: ``"serving"``, ``"follower"``, ``"recovering"`` ...; ``"down"`` and
        ``"paused"`` for one that is."""
        return self._state(self._stage.rank(server))

    def lmstat(self, *, usage: bool = True) -> str:
        """What ``flexcore lmstat -a`` prints, in UTC; *usage* False: without ``-a``."""
        answers = self._ask_all(usage=usage)
        return lmstat_of(
            answers, self._stage.addresses, vendor=self.vendor, wall=self._stage.wall(), usage=usage
        )

    def log(self, server: ServerName) -> str:
        """The debug log of a server, over all its restarts: the newest 10,000 lines."""
        return self._stage.log(server)

    def wait_for_master(self, within_s: float | None = None) -> str:
        """Wait until somebody serves, and return who. Raises TimeoutError after *within_s* (default: the timeout and
        ten seconds)."""
        limit = self.timeout_s + STARTUP_S if within_s is None else seconds_of(within_s, "within_s", longest=WAIT_MAX_S)
        found: list[str] = []

        def served() -> bool:
            master = self.master
            if master is not None:
                found.append(master)
            return master is not None

        self._wait(served, limit, "nobody serves")
        return found[-1]

    # --- hurting --------------------------------------------------------------------------------------------------

    def start(self, server: ServerName) -> None:
        """Start a server. What its disk holds is found again."""
        rank = self._stage.rank(server)
        if self._closed:
            raise LocalProtocolError("this triad is closed")
        must_be_down(rank, self._runs(rank), "restart() stops it first")
        addresses = self._stage.addresses if self._links is None else self._links.addresses_for(rank)
        self._threads[rank] = ServerThread(self._stage, rank, addresses)

    def stop(self, server: ServerName) -> None:
        """Stop one server in order, as SIGTERM does: a master hands over first. Returns when it has ended."""
        thread = self._running(server, "stop")
        if thread.paused:
            raise LocalProtocolError(f"the {thread.rank.word} is paused: resume it, or crash it")
        thread.stop()
        thread.join(self.timeout_s + END_S)

    def restart(self, server: ServerName) -> None:
        """Start a server again; if it runs, it is stopped in order before."""
        rank = self._stage.rank(server)
        if self._runs(rank):
            self.stop(rank)
        self.start(rank)

    def crash(self, server: ServerName) -> None:
        """End a server as kill -9 does: without a word, and its sockets are closed. Its disk keeps what it has."""
        self._running(server, "crash").kill()

    def pause(self, server: ServerName) -> None:
        """Freeze a server as SIGSTOP does: its sockets stay open, and nobody answers."""
        thread = self._running(server, "pause")
        if thread.paused:
            raise LocalProtocolError(f"the {thread.rank.word} is paused already")
        thread.pause()

    def resume(self, server: ServerName) -> None:
        """Let a frozen server go on."""
        thread = self._running(server, "resume")
        if not thread.paused:
            raise LocalProtocolError(f"the {thread.rank.word} is not paused")
        thread.resume()

    def lose_disk(self, server: ServerName) -> None:
        """Replace the disk of a server that is down by an empty one."""
        rank = self._stage.rank(server)
        must_be_down(rank, self._runs(rank), "crash or stop it before it loses its disk")
        self._stage.lose_disk(rank)

    def forget_everything(self) -> None:
        """All three servers are installed anew: no disk knows who held what, and every seat is lost, at once."""
        for rank in Rank:
            if self._runs(rank):
                self.crash(rank)
            self._stage.lose_disk(rank)
        self._stage.first_start = True
        for rank in Rank:
            self.start(rank)
        self._wait(self._all_take_part, self.timeout_s + STARTUP_S, "the triad does not start")
        self._stage.first_start = False

    def cut(self, source: ServerName, target: ServerName, *, one_way: bool = False) -> None:
        """Let nothing pass between two servers of a *cuttable* triad; *one_way*: from *source* to *target* only.

        Clients are not cut off: :mod:`flexcore_testing.proxy` goes between a product and a server.
        """
        links, first, second = self._ends(source, target)
        links.cut(first, second)
        if not one_way:
            links.cut(second, first)

    def isolate(self, server: ServerName) -> None:
        """Cut a server off from both others."""
        for rank in Rank:
            if rank is not self._stage.rank(server):
                self.cut(server, rank)

    def heal(self, source: ServerName | None = None, target: ServerName | None = None) -> None:
        """Undo all cuts, or those between two servers. What waited arrives."""
        if source is None and target is None:
            self._require_links().heal()
        elif source is None or target is None:
            raise TypeError("heal() undoes all cuts, heal(one, other) those between two servers")
        else:
            links, first, second = self._ends(source, target)
            links.heal(first, second)

    # --- inside ---------------------------------------------------------------------------------------------------

    @override
    def __repr__(self) -> str:
        up = [rank.word for rank in Rank if self._runs(rank)]
        return f"<real triad {self.path}, up: {', '.join(up) or 'nobody'}>"

    def _require_links(self) -> Links:
        if self._links is None:
            raise LocalProtocolError("only a triad that was made with cuttable=True can be cut")
        return self._links

    def _ends(self, source: ServerName, target: ServerName) -> tuple[Links, Rank, Rank]:
        links = self._require_links()
        first, second = self._stage.rank(source), self._stage.rank(target)
        if first is second:
            raise ValueError(f"{source!r} and {target!r} are one server")
        return links, first, second

    def _runs(self, rank: Rank) -> bool:
        thread = self._threads.get(rank)
        if thread is None:
            return False
        if thread.failure is not None:
            raise LocalProtocolError(f"the {rank.word} has failed: {thread.failure}") from thread.failure
        return thread.runs

    def _running(self, server: ServerName, what: str) -> ServerThread:
        rank = self._stage.rank(server)
        must_run(rank, self._runs(rank), what)
        return self._threads[rank]

    def _state(self, rank: Rank) -> str:
        if not self._runs(rank):
            return "down"
        if self._threads[rank].paused:
            return "paused"
        answer = self._ask(rank, usage=False)
        return "down" if answer.hello is None else answer.hello.report.state

    def _all_take_part(self) -> bool:
        states = [self._state(rank) for rank in Rank]
        return "serving" in states and all(state in TAKING_PART for state in states)

    def _ask_all(self, *, usage: bool) -> list[Inquiry]:
        return [self._ask(rank, usage=usage) for rank in Rank]

    def _ask(self, rank: Rank, *, usage: bool) -> Inquiry:
        inquiry = Inquiry(usage=usage)
        if not self._runs(rank):
            inquiry.refused()
        elif self._threads[rank].paused:
            inquiry.timed_out()  # as it would be, after three seconds
        else:
            converse(inquiry, self._stage.addresses[rank])
        return inquiry

    def _wait(self, condition: Callable[[], bool], limit_s: float, complaint: str) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                states = self._stage.states_text([self._state(rank) for rank in Rank])
                raise TimeoutError(f"after {limit_s:g} s {complaint}:\n{states}")
            time.sleep(POLL_S)


def converse(inquiry: Inquiry, address: ServerAddress, timeout_s: float = TIMEOUT_S) -> None:
    """Lead *inquiry* over a blocking connection; what goes wrong is its failure."""
    deadline = time.monotonic() + timeout_s
    wire = Connection(max_frame_bytes=MAX_FRAME_BYTES)
    try:
        with socket.create_connection((address.host, address.port), timeout_s) as sock:
            sock.sendall(wire.send(inquiry.begin()))
            while not inquiry.is_over:
                message = wire.next_message()
                if message is None:
                    sock.settimeout(max(0.001, deadline - time.monotonic()))
                    data = sock.recv(READ_BYTES)
                    if not data:
                        raise ConnectionResetError
                    wire.receive_data(data)
                elif (question := inquiry.answered(message)) is not None:
                    sock.sendall(wire.send(question))
    except ConnectionRefusedError:
        inquiry.refused()
    except (OSError, RemoteProtocolError):
        inquiry.timed_out()
