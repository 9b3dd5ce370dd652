"""Three hosts, their network, and the handles to hurt them: what a campaign, a scenario and a test drive."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from flexcore import timing
from flexcore.errors import FlexcoreError
from flexcore.identity import Rank
from flexcore.ledger import Ledger
from flexcore.ledger.commands import Command
from flexcore_testing.checks import ServerChecks, Violation
from flexcore_testing.clockwork import WallClock, World
from flexcore_testing.journal import Journal
from flexcore_testing.network import Network, Party
from flexcore_testing.process import ServerHost, ServerRun
from flexcore_testing.profile import Profile

if TYPE_CHECKING:
    from flexcore_testing.plan import Fault

NAMES = "PST"


class SimulatedTriad:
    """Three servers under true time.

    Subclasses say what a run is (:meth:`make_run`). Everything random is drawn from the profile's seed; the network and
    the fault plan draw from streams of their own, so that a change in one does not reshuffle the other.
    """

    is_triad = True

    def __init__(self, profile: Profile, *, only: frozenset[str] | None = None) -> None:
        self.profile = profile
        self.world = World()
        self.rng = random.Random(f"run {profile.campaign} {profile.seed}")
        self.journal = Journal()
        self.network = Network(
            self.world, random.Random(f"net {profile.campaign} {profile.seed}"), profile.network, self.journal
        )
        self.coverage: Counter[str] = Counter()
        self.checks = ServerChecks(self, only)
        self.network.on_delivery = self.checks.delivered
        self.network.on_send = self.checks.sent
        self.hosts = tuple(
            ServerHost(rank, profile.rates[rank], WallClock(profile.epoch, profile.wall_errors_s[rank]))
            for rank in Rank
        )
        self.intervals_s = [profile.interval_s] * 3
        """HEARTBEAT_INTERVAL in each server's own licence file: it may differ for a while (rule 2)."""
        self.longest_timeout_s = profile.timeout_s
        self.slack_s = profile.slack_s
        self.peace_at = self.master_due_at = 0.0
        self.first_start = profile.first_start
        self.serial = 0
        self.verbose: Callable[[str], None] | None = None
        self.listeners: list[Callable[[str, str], None]] = []
        self.back_at_once: set[Rank] = set()
        """In peace: who stops all the same (an lmdown was still under way) is started again."""
        self.on_exit: Callable[[ServerRun], None] | None = None
        self.on_refused_state: Callable[[Rank], None] | None = None
        """A server would not start with the state that it found."""
        self.licensed_on = [profile.licensed] * 3
        """How many seats each server's own licence file names (rule 19)."""
        for host in self.hosts:
            self.network.add_host(host.name)
            host.disk_latency_s = profile.disk_latency_s
            host.disk_jitter_s = profile.disk_latency_s

    # --- what subclasses provide ---------------------------------------------------------------------------------

    def make_run(self, host: ServerHost, serial: int) -> ServerRun:
        """Start a process on *host*."""
        raise NotImplementedError

    def next_command(self, ledger: Ledger) -> Command:
        """What the traffic of a bare quorum proposes next."""
        raise NotImplementedError

    def start_traffic(self) -> None:
        """Begin to use the triad."""
        raise NotImplementedError

    def settle(self, absent: Rank | None) -> None:
        """After peace and an election: everything that must come true again does."""
        raise NotImplementedError

    def rest(self) -> None:
        """A long time without service begins: whoever uses the triad goes away."""

    def go_on(self) -> None:
        """... and comes back."""

    def strike_client(self, fault: Fault) -> bool:
        """Carry out a fault that is about clients; False where there are none."""
        return False

    def describe(self, run: ServerRun) -> str:
        """How a server sees itself, for a person who reads a failure."""
        raise NotImplementedError

    def is_member(self, rank: Rank) -> bool:
        """Whether losing *another* server's disk is within the assumptions as far as this one is concerned."""
        raise NotImplementedError

    # --- asking --------------------------------------------------------------------------------------------------

    def runs(self) -> list[ServerRun]:
        """The processes that exist, by rank."""
        return [host.run for host in self.hosts if host.run is not None]

    def run_of(self, rank: Rank) -> ServerRun | None:
        """The process of this server."""
        return self.hosts[rank].run

    def master(self) -> ServerRun | None:
        """The server that serves now."""
        for host in self.hosts:  # asked after every event while a master is waited for
            run = host.run
            if run is not None and run.books.serving and run.serves():
                return run
        return None

    def require_master(self) -> ServerRun:
        """I7: a master serves, now or at the latest when it is due.

        Raises:
            Violation: nobody serves.
        """
        self.world.run_until(self.master_due_at, lambda: self.master() is not None)
        master = self.master()
        if master is None:
            reports = "; ".join(f"{run.name}: {self.describe(run)}" for run in self.runs())
            raise Violation("I7", f"{self.world.now - self.peace_at:.1f} s after peace nobody serves: {reports}")
        return master

    def turn_delay(self) -> float:
        """How long after an event the loop comes round."""
        turn = self.profile.turn_s
        return self.rng.random() * turn if turn else 0.0

    def timer_delay(self) -> float:
        """How late a timer is."""
        late = self.profile.late_timer_s
        return self.rng.random() * late if late else 0.0

    def after_turn(self, run: ServerRun) -> None:
        """Check everything that a turn may have changed."""
        self.checks.after_turn(run)

    def note(self, who: Party | str, text: str) -> None:
        """Write something into the journal, and say it to whoever watches."""
        name = who if isinstance(who, str) else who.name
        self.journal.note(self.world.now, name, text)
        if self.verbose is not None:
            self.verbose(f"{self.world.now:12.4f}  {name:>5} {text}")

    def tell(self, who: str, text: str) -> None:
        """Something that people outside can see happened."""
        self.note(who, text)
        for listener in self.listeners:
            listener(who, text)

    # --- starting and stopping -----------------------------------------------------------------------------------

    def start(self, rank: Rank) -> None:
        """Start the server's process; its host is switched on if need be."""
        host = self.hosts[rank]
        if host.run is not None:
            return
        if not self.network.powered[host.name]:
            self.network.power_on(host.name)
        host.starts += 1
        self.serial += 1
        self.coverage["start"] += 1
        self.note(host.name, f"starts ({'blank' if host.disk.blank else 'with state'})")
        try:
            host.run = self.make_run(host, self.serial)
        except FlexcoreError as error:
            self._refused(host, error)
            return
        if host.torn:
            self.checks.fail("torn", f"{host.name} starts with a state whose {host.torn} was cut in the middle")
        self.network.listen(host.run)
        host.run.wake()

    def _refused(self, host: ServerHost, error: FlexcoreError) -> None:
        """The process has ended with an error instead of using what it found."""
        self.coverage[f"state refused: {host.torn or 'not damaged'}"] += 1
        self.tell(host.rank.word, f"refuses its state: {error}")
        if not host.torn:
            self.checks.fail("torn", f"{host.name} refuses a state that nobody damaged: {error}")
        if self.on_refused_state is not None:
            self.on_refused_state(host.rank)

    def kill(self, rank: Rank) -> bool:
        """kill -9: the process is gone and its kernel says so."""
        run = self.hosts[rank].run
        if run is None:
            return False
        self._note_death(run, "killed")
        run.die()
        self.network.die(run, says_so=True)
        self.hosts[rank].run = None
        return True

    def power_off(self, rank: Rank) -> bool:
        """The machine is gone without a word; dials to it time out."""
        host = self.hosts[rank]
        if not self.network.powered[host.name]:
            return False
        run = host.run
        if run is not None:
            self._note_death(run, "powered off")
            run.die()
            self.network.die(run, says_so=False)
            host.run = None
        self.network.power_off(host.name)
        return True

    def exited(self, run: ServerRun) -> None:
        """The process ended by its own decision: everything it sent goes out, then it closes."""
        run.die()
        self.network.die(run, says_so=True)
        if self.hosts[run.rank].run is run:
            self.hosts[run.rank].run = None
        self.coverage["halt"] += 1
        if run.rank in self.back_at_once:
            self.world.after(0.1, self.start, run.rank)
        if run.halted is not None:
            self.tell(run.rank.word, f"exits {run.halted[0]}: {run.halted[1]}")
        if run.halted is not None and run.halted[0] != 0:
            self.checks.halted(run, *run.halted)
            if self.on_exit is not None:
                self.on_exit(run)

    def _note_death(self, run: ServerRun, how: str) -> None:
        serving = run.serves()
        self.note(run, how + (" while serving" if serving else ""))
        self.coverage[f"{how}{' while serving' if serving else ''}"] += 1

    def stop(self, rank: Rank, scope: str) -> bool:
        """SIGTERM (``one``) or lmdown (``all``)."""
        run = self.hosts[rank].run
        if run is None:
            return False
        run.stopping = True
        self.coverage[f"stop {scope}"] += 1
        self.note(run, f"is told to stop {scope}")
        run.post(("stop", scope, "simulation"))
        return True

    def lose_disk(self, rank: Rank) -> None:
        """The disk of a server that does not run is replaced by an empty one."""
        assert self.hosts[rank].run is None
        self.hosts[rank].disk.lose()
        self.hosts[rank].torn = ""
        self.hosts[rank].unsound = False
        self.coverage["disk lost"] += 1
        self.note(self.hosts[rank].name, "lost its disk")

    def pause(self, rank: Rank) -> bool:
        """SIGSTOP."""
        run = self.hosts[rank].run
        if run is None or run.paused:
            return False
        serving = run.serves()
        self.coverage[f"paused{' while serving' if serving else ''}"] += 1
        self.note(run, "paused")
        run.pause()
        return True

    def resume(self, rank: Rank) -> None:
        """SIGCONT."""
        run = self.hosts[rank].run
        if run is not None and run.paused:
            self.note(run, "resumes")
            run.resume()

    def edit_interval(self, rank: Rank, interval_s: int) -> None:
        """An administrator edits one server's file; it is read at the next start."""
        self.intervals_s[rank] = interval_s
        self.longest_timeout_s = max(self.longest_timeout_s, timing.timeout_s(interval_s))
        self.note(self.hosts[rank].name, f"its file says HEARTBEAT_INTERVAL={interval_s} from the next start on")

    def edit_licence(self, rank: Rank, licensed: int) -> None:
        """An administrator puts a licence file with another count on one server; it is read at the next start."""
        self.licensed_on[rank] = licensed
        self.note(self.hosts[rank].name, f"its file licenses {licensed} from the next start on")

    def reread(self, rank: Rank, licensed: int) -> bool:
        """An administrator puts a licence file with another count on one server and has it read anew (rule 19)."""
        self.edit_licence(rank, licensed)
        run = self.hosts[rank].run
        if run is None:
            return False
        self.coverage[f"reread{' while serving' if run.serves() else ''}"] += 1
        self.note(run, "is told to read its file anew")
        run.post(("reread",))
        return True

    def reread_options(self, rank: Rank, number: int) -> None:
        """An administrator puts another options file on one server and has it read anew."""

    def remove_seat(self, rank: Rank, draw: float) -> bool:
        """An administrator takes a seat away; False where there is none."""
        return False

    # --- the network ---------------------------------------------------------------------------------------------

    def cut(self, source: Rank, target: Rank, *, one_way: bool = False) -> None:
        """Stall what goes from *source* to *target*, and back unless *one_way*."""
        self.coverage["cut one way" if one_way else "cut"] += 1
        self.note("net", f"cut {NAMES[source]}{'->' if one_way else '--'}{NAMES[target]}")
        self.network.cut(NAMES[source], NAMES[target])
        if not one_way:
            self.network.cut(NAMES[target], NAMES[source])

    def heal(self, source: Rank, target: Rank, *, one_way: bool = False) -> None:
        """Undo :meth:`cut`."""
        self.note("net", f"heal {NAMES[source]}{'->' if one_way else '--'}{NAMES[target]}")
        self.network.heal(NAMES[source], NAMES[target])
        if not one_way:
            self.network.heal(NAMES[target], NAMES[source])

    def reset(self, first: Rank, second: Rank, *, half_open: bool = False) -> None:
        """Break the links between two servers."""
        self.coverage["half-open" if half_open else "reset"] += 1
        self.note("net", f"reset {NAMES[first]}--{NAMES[second]}{' half-open' if half_open else ''}")
        self.network.reset_between(NAMES[first], NAMES[second], half_open=half_open)

    def refuse(self, source: Rank, target: Rank) -> None:
        """Break the links between two servers and refuse the dials of one, though the other lives: beyond the rules."""
        self.coverage["false refusal"] += 1
        self.note("net", f"false refusal {NAMES[source]}->{NAMES[target]}")
        self.network.refusing.add((NAMES[source], NAMES[target]))
        self.network.reset_between(NAMES[source], NAMES[target], half_open=False)

    def jump_wall(self, rank: Rank, seconds: float) -> None:
        """Move one host's wall clock."""
        self.coverage["wall jump"] += 1
        self.note(self.hosts[rank].name, f"wall clock jumps {seconds:+.1f} s")
        self.hosts[rank].wall.jump(seconds)

    def advance(self, seconds: float) -> None:
        """Let true time pass."""
        self.world.run_until(self.world.now + seconds)

    def advance_until(self, seconds: float, stop: Callable[[], bool], *, step_s: float = 1.0) -> bool:
        """Let true time pass, at most *seconds*; look every *step_s* whether *stop* says that it is enough."""
        end = self.world.now + seconds
        while self.world.now < end:
            if stop():
                return True
            self.world.run_until(min(end, self.world.now + step_s))
        return stop()
