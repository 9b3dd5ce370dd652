"""One run of a server's process: an event loop around a machine, as an adapter would drive it.

Events collect in an inbox; a *turn* hands all of them to the machine, then its due timer, then ends the turn and
performs what the machine asks for. A paused process (SIGSTOP) runs no turn; its sockets stay open and fill. Its clock
starts at an arbitrary number at each start of the process, so that an instant that was stored by mistake shows.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

from flexcore.identity import Rank
from flexcore.ledger import Ledger
from flexcore.quorum import PersistBatch, QuorumMachine
from flexcore_testing.clockwork import DriftingClock, WallClock
from flexcore_testing.disk import Disk

if TYPE_CHECKING:
    from flexcore_testing.triad import SimulatedTriad

SPINS_MAX = 200
SPIN_S = 1e-4
"""A machine whose timer is due this many turns in a row, each this soon after the last, is broken."""

TURNS_PER_TURN_MAX = 50


class ServerHost:
    """A machine that runs one of the three servers: a disk, clocks, and at most one process."""

    def __init__(self, rank: Rank, rate: float, wall: WallClock) -> None:
        self.rank = rank
        self.name = "PST"[rank]
        self.rate = rate
        self.wall = wall
        self.disk = Disk()
        self.disk_latency_s = 0.0
        self.disk_jitter_s = 0.0
        self.hung_until = 0.0
        """In true time: until then nothing that is written is acknowledged."""
        self.write_error = ""
        """Not empty: every write fails with this."""
        self.torn = ""
        """What of the state was cut: a server has to refuse it."""
        self.unsound = False
        """An older state was put back, and the server does not know that yet."""
        self.starts = 0
        self.run: ServerRun | None = None


class ServerRun:
    """The event loop of one run; subclasses drive a QuorumMachine or a ServerNode."""

    is_server = True

    def __init__(self, triad: SimulatedTriad, host: ServerHost, serial: int) -> None:
        self.triad = triad
        self.world = triad.world
        self.machine_host = host
        self.host = host.name
        self.name = host.name
        self.serial = serial
        self.rank = host.rank
        self.alive = True
        self.paused = False
        self.halted: tuple[int, str] | None = None
        self.stopping = False
        rng: random.Random = triad.rng
        self.clock = DriftingClock(host.rate, self.world.now, rng.uniform(0.0, 1e6))
        self.started_at = self.world.now
        self._inbox: deque[tuple[Any, ...]] = deque()
        self._turn_at: float | None = None
        self._conn = 0
        self._spins = 0
        self._spun_at = 0.0
        self._due: float | None = None
        """What the machine said at the end of the last turn: an adapter asks once a turn."""
        self._answered: list[int] = []
        self.pending: PersistBatch | None = None
        self._pending_ticket = 0
        self.dialling: set[Rank] = set()
        self.books = triad.checks.books_of(serial)
        """What the checkers remember of it."""

    # --- what the subclass provides ------------------------------------------------------------------------------

    quorum: QuorumMachine
    """The quorum machine inside: to look at, not to drive."""

    @property
    def ledger(self) -> Ledger:
        """The machine's ledger."""
        return self.quorum.ledger

    @property
    def term(self) -> int:
        """The machine's term."""
        return self.quorum.hard.term

    def serves(self) -> bool:
        """What the machine itself believes at this very instant, by its own clock."""
        return self.quorum.may_serve(self.clock.local(self.world.now))

    def _handle(self, item: tuple[Any, ...], now: float, wall: float) -> None:
        raise NotImplementedError

    def _next_timeout(self) -> float | None:
        raise NotImplementedError

    def _handle_timeout(self, now: float, wall: float) -> None:
        raise NotImplementedError

    def _finish_turn(self, now: float, wall: float) -> None:
        raise NotImplementedError

    def _perform(self) -> bool:
        """Do what the machine asks for; False once that ended the process."""
        raise NotImplementedError

    # --- Party ---------------------------------------------------------------------------------------------------

    def take_conn(self) -> int:
        """A fresh number, never used again in this run."""
        self._conn += 1
        return self._conn

    def accepted(self, conn: int, remote: str) -> None:
        """Somebody's dial reached this process."""
        self.post(("accepted", conn, remote))

    def arrived(self, conn: int, message: Any) -> None:
        """A message came in."""
        self.post(("message", conn, message))

    def ended(self, conn: int, orderly: bool) -> None:
        """A connection is over."""
        self.post(("ended", conn, orderly))

    # --- the loop ------------------------------------------------------------------------------------------------

    def post(self, item: tuple[Any, ...]) -> None:
        """Put an event into the inbox and wake the loop."""
        if not self.alive:
            return
        self._inbox.append(item)
        self._wake(self.world.now + self.triad.turn_delay())

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True
        self._turn_at = None

    def resume(self) -> None:
        """SIGCONT."""
        if self.paused:
            self.paused = False
            self._wake(self.world.now + self.triad.turn_delay())

    def wake(self) -> None:
        """Run a turn soon, whether or not anything happened."""
        self._wake(self.world.now + self.triad.turn_delay())

    def _wake(self, when: float) -> None:
        if self.paused or not self.alive:
            return
        if self._turn_at is not None and self._turn_at <= when:
            return
        self._turn_at = when
        self.world.at(when, self._turn, when)

    def _turn(self, when: float) -> None:
        if self._turn_at != when or self.paused or not self.alive:
            return
        self._turn_at = None
        now = self.clock.local(self.world.now)
        wall = self.machine_host.wall.read(self.world.now)
        while self._inbox:
            self._handle(self._inbox.popleft(), now, wall)
            if not self.alive:
                return
        due = self._due
        if due is not None and due <= now:
            self._spins = self._spins + 1 if self.world.now - self._spun_at < SPIN_S else 0
            self._spun_at = self.world.now
            if self._spins > SPINS_MAX:
                raise AssertionError(f"{self.name}: the timer at {due} stays due for ever (now {now})")
            self._handle_timeout(now, wall)
        for _ in range(TURNS_PER_TURN_MAX):
            self._finish_turn(now, wall)
            lives = self._perform()
            if not lives or not self._answered:
                break
            answered, self._answered = self._answered, []
            for ticket in answered:
                self._handle(("persisted", ticket), now, wall)
        else:
            raise AssertionError(f"{self.name}: a turn that never ends")
        self.triad.after_turn(self)
        if lives:
            self._sleep()

    def _sleep(self) -> None:
        if self._inbox:
            self._wake(self.world.now + self.triad.turn_delay())
        due = self._due = self._next_timeout()
        if due is not None:
            late = self.triad.timer_delay()
            self._wake(max(self.clock.true(due), self.world.now) + 1e-6 + late)

    # --- dialling ------------------------------------------------------------------------------------------------

    def _dial(self, peer: Rank) -> None:
        """Try once to connect to another server."""
        assert peer not in self.dialling, f"{self.name} dials {peer.word} twice at once"
        self.dialling.add(peer)
        conn = self.take_conn()

        def made(conn: int) -> None:
            self.dialling.discard(peer)
            self.post(("connected", conn, peer))

        def failed(_conn: int, refused: bool, error: str) -> None:
            self.dialling.discard(peer)
            self.post(("dial_failed", peer, refused, error))

        self.triad.network.dial(self, "PST"[peer], conn, made, failed)

    # --- disk and death ------------------------------------------------------------------------------------------

    def _persist(self, ticket: int, batch: PersistBatch) -> None:
        host = self.machine_host
        if host.write_error:
            self.post(("persist_failed", ticket, host.write_error))
            return
        latency = host.disk_latency_s + self.triad.rng.random() * host.disk_jitter_s
        if host.hung_until > self.world.now:
            latency += host.hung_until - self.world.now
        if latency <= 0:
            host.disk.write(batch)
            self._answered.append(ticket)
            return
        assert self.pending is None, f"{self.name}: two Persists at once"
        self.pending = batch
        self._pending_ticket = ticket
        self.world.after(latency, self._persisted, ticket, batch)

    def disk_answers(self) -> None:
        """The disk works again: what it was asked for is done."""
        if self.pending is not None:
            self.world.after(self.machine_host.disk_latency_s, self._persisted, self._pending_ticket, self.pending)

    def _persisted(self, ticket: int, batch: PersistBatch) -> None:
        if not self.alive or self.pending is not batch:
            return
        self.machine_host.disk.write(batch)
        self.pending = None
        self.post(("persisted", ticket))

    def die(self) -> None:
        """The process is gone; a transaction that was under way is whole or absent."""
        if not self.alive:
            return
        self.alive = False
        if self.pending is not None and self.triad.rng.random() < 0.5:
            self.machine_host.disk.write(self.pending)
        self.pending = None
        self._inbox.clear()
