"""A real triad inside the test's own trio loop: three servers as tasks, on sockets of 127.0.0.1.

Their clock is trio's, so that under ``trio.testing.MockClock`` minutes pass in milliseconds, for servers and clients
alike: what a lost licence does to an async product needs no waiting.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

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
from flexcore_testing.loopback_setup import (
    INTERVAL_S,
    STARTUP_S,
    TAKING_PART,
    Stage,
    must_be_down,
    must_run,
)
from flexcore_trio import Client, ServerLoop, open_client, serve

POLL_S = 0.05
"""How often a wait looks again."""

END_S = 10.0
"""How long a server that is told to stop may take, beyond the timeout of the triad."""

WAIT_MAX_S = 366 * 86400.0


class _Server:
    """One run of a server."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.loop: ServerLoop | None = None


class TrioTriad:
    """Three real servers on 127.0.0.1 as tasks of this trio program; :func:`open_triad` makes them.

    There is no ``pause``: who freezes a server freezes the test with it. :class:`flexcore_testing.LoopbackTriad` can.
    """

    def __init__(self, stage: Stage, nursery: trio.Nursery) -> None:
        self._stage = stage
        self._nursery = nursery
        self._servers: dict[Rank, _Server] = {}

    # --- what the product is told ---------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The search path: for LM_LICENSE_FILE, ``flexcore_trio.open_client``, ``flexcore_sync.connect``."""
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

    def open_client(self, **options: Any) -> contextlib.AbstractAsyncContextManager[Client]:
        """An async client of this triad, on trio's clock: ``async with triad.open_client(user="user1") as client:``;
        *options* as those of ``flexcore_trio.open_client``."""
        defaults = {"keys": self.keys, "now": trio.current_time, "wall": self._stage.wall}
        return open_client(self.path, **{**defaults, **options})

    # --- looking --------------------------------------------------------------------------------------------------

    @property
    def timeout_s(self) -> float:
        """The timeout of this triad: 3 s for a HEARTBEAT_INTERVAL of 1."""
        return self._stage.timeout_s

    async def master(self) -> str | None:
        """Who says at this instant that it serves, None for nobody."""
        place = master_of(await self._ask_all(usage=False))
        return None if place is None else Rank(place).word

    async def state(self, server: ServerName) -> str:
        """What a server says that it is doing: ``"serving"``, ``"follower"``, ``"recovering"`` ...; ``"down"``."""
        answer = await self._ask(self._stage.rank(server), usage=False)
        return "down" if answer.hello is None else answer.hello.report.state

    async def lmstat(self, *, usage: bool = True) -> str:
        """What ``flexcore lmstat -a`` prints, in UTC; *usage* False: without ``-a``."""
        answers = await self._ask_all(usage=usage)
        return lmstat_of(
            answers, self._stage.addresses, vendor=self.vendor, wall=self._stage.wall(), usage=usage
        )

    def log(self, server: ServerName) -> str:
        """The debug log of a server, over all its restarts: the newest 10,000 lines."""
        return self._stage.log(server)

    async def wait_for_master(self, within_s: float | None = None) -> str:
        """Wait until somebody serves, and return who. Raises TimeoutError after *within_s* (default: the timeout and
        ten seconds)."""
        limit = self.timeout_s + STARTUP_S if within_s is None else seconds_of(within_s, "within_s", longest=WAIT_MAX_S)
        found: list[str] = []

        async def served() -> bool:
            master = await self.master()
            found.extend(() if master is None else (master,))
            return bool(found)

        await self._wait(served, limit, "nobody serves")
        return found[0]

    # --- hurting --------------------------------------------------------------------------------------------------

    async def start(self, server: ServerName) -> None:
        """Start a server. What its disk holds is found again."""
        rank = self._stage.rank(server)
        must_be_down(rank, rank in self._servers, "restart() stops it first")
        run = self._servers[rank] = _Server()
        config = self._stage.config(rank, self._stage.addresses)
        run.loop = await self._nursery.start(self._serve, rank, run, config)

    async def stop(self, server: ServerName) -> None:
        """Stop one server in order, as SIGTERM does: a master hands over first. Returns when it has ended."""
        rank = self._running(server, "stop")
        run = self._servers[rank]
        assert run.loop is not None
        run.loop.stop("one", "test")
        with trio.move_on_after(self.timeout_s + END_S):
            await run.over.wait()
        if not run.over.is_set():
            raise LocalProtocolError(f"the {rank.word} does not stop")

    async def restart(self, server: ServerName) -> None:
        """Start a server again; if it runs, it is stopped in order before."""
        rank = self._stage.rank(server)
        if rank in self._servers:
            await self.stop(rank)
        await self.start(rank)

    async def crash(self, server: ServerName) -> None:
        """End a server as kill -9 does: without a word, and its sockets are closed. Its disk keeps what it has."""
        run = self._servers[self._running(server, "crash")]
        run.scope.cancel()
        await run.over.wait()

    def lose_disk(self, server: ServerName) -> None:
        """Replace the disk of a server that is down by an empty one."""
        rank = self._stage.rank(server)
        must_be_down(rank, rank in self._servers, "crash or stop it before it loses its disk")
        self._stage.lose_disk(rank)

    async def forget_everything(self) -> None:
        """All three servers are installed anew: no disk knows who held what, and every seat is lost."""
        for rank in Rank:
            if rank in self._servers:
                await self.crash(rank)
            self._stage.lose_disk(rank)
        await self._start_all()

    # --- inside ---------------------------------------------------------------------------------------------------

    @override
    def __repr__(self) -> str:
        up = [rank.word for rank in sorted(self._servers)]
        return f"<real triad {self.path} on trio, up: {', '.join(up) or 'nobody'}>"

    async def _start_all(self) -> None:
        self._stage.first_start = True
        for rank in Rank:
            await self.start(rank)
        await self._wait(self._all_take_part, self.timeout_s + STARTUP_S, "the triad does not start")
        self._stage.first_start = False

    async def _serve(
        self, rank: Rank, run: _Server, config: ServerConfig, *,
        task_status: trio.TaskStatus[ServerLoop],
    ) -> None:  # fmt: skip
        stage = self._stage
        try:
            with run.scope:
                await serve(
                    config, store=stage.store(rank), listeners=stage.ports.listen(rank), now=trio.current_time,
                    wall=stage.wall, log=lambda lines: stage.note(rank, lines), task_status=task_status,
                )  # fmt: skip
        finally:
            if self._servers.get(rank) is run:
                del self._servers[rank]
            run.over.set()

    def _running(self, server: ServerName, what: str) -> Rank:
        rank = self._stage.rank(server)
        must_run(rank, rank in self._servers, what)
        return rank

    async def _all_take_part(self) -> bool:
        states = [await self.state(rank) for rank in Rank]
        return "serving" in states and all(state in TAKING_PART for state in states)

    async def _ask_all(self, *, usage: bool) -> list[Inquiry]:
        return [await self._ask(rank, usage=usage) for rank in Rank]

    async def _ask(self, rank: Rank, *, usage: bool) -> Inquiry:
        inquiry = Inquiry(usage=usage)
        if rank in self._servers:
            await _converse(inquiry, self._stage.addresses[rank])
        else:
            inquiry.refused()
        return inquiry

    async def _wait(self, condition: Callable[[], Awaitable[bool]], limit_s: float, complaint: str) -> None:
        with trio.move_on_after(limit_s):
            while not await condition():  # noqa: ASYNC110 - what servers say of themselves is asked, not told
                await trio.sleep(POLL_S)
            return
        states = self._stage.states_text([await self.state(rank) for rank in Rank])
        raise TimeoutError(f"after {limit_s:g} s {complaint}:\n{states}")


@contextlib.asynccontextmanager
async def open_triad(
    license: str | os.PathLike[str] | LicenseFile | None = None,
    *,
    features: Mapping[str, int] | None = None,
    keys: VerifyingKey | str | Iterable[VerifyingKey | str] = (),
    heartbeat_interval_s: int | None = INTERVAL_S,
    primary_is_master: bool | None = None,
    date: datetime.date | str | None = None,
) -> AsyncIterator[TrioTriad]:
    """Run three real servers on 127.0.0.1 for an ``async with`` block; all three take part when it begins.

    The arguments are those of :class:`flexcore_testing.LoopbackTriad`. Under ``trio.testing.MockClock`` with an
    autojump threshold the servers' time jumps with the test's.
    """
    stage = Stage(
        license, features=features, keys=keys, heartbeat_interval_s=heartbeat_interval_s,
        primary_is_master=primary_is_master, date=date, wall=_trio_wall(),
    )  # fmt: skip
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            triad = TrioTriad(stage, nursery)
            try:
                await triad._start_all()
                yield triad
            except BaseException as error:  # noqa: BLE001 - raised again, outside of the nursery's group
                raised = error
            nursery.cancel_scope.cancel()
    finally:
        stage.ports.close()
    if raised is not None:
        try:
            raise raised
        finally:
            del raised  # its traceback holds this frame


def _trio_wall() -> Callable[[], float]:
    """A calendar that begins as the machine's does, and moves as trio's clock."""
    began_at, began = trio.current_time(), clock.wall()
    return lambda: began + (trio.current_time() - began_at)


async def _converse(inquiry: Inquiry, address: ServerAddress) -> None:
    """Lead *inquiry* over a connection of this loop; what goes wrong is its failure."""
    wire = Connection(max_frame_bytes=MAX_FRAME_BYTES)
    try:
        with trio.fail_after(TIMEOUT_S):
            stream = await trio.open_tcp_stream(address.host, address.port)
            async with stream:
                await stream.send_all(wire.send(inquiry.begin()))
                while not inquiry.is_over:
                    message = wire.next_message()
                    if message is None:
                        data = await stream.receive_some()
                        if not data:
                            raise ConnectionResetError
                        wire.receive_data(data)
                    elif (question := inquiry.answered(message)) is not None:
                        await stream.send_all(wire.send(question))
    except ConnectionRefusedError:
        inquiry.refused()
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, RemoteProtocolError):
        inquiry.timed_out()
