"""A whole triad for the tests of a product: three real servers, any number of clients, a clock that the test moves.

No socket is opened, no thread started, nobody waits: the machines of :mod:`flexcore` are driven by messages over a
made-up network, and hours pass in milliseconds. After each step of each server and client the checkers of
:mod:`flexcore_testing.checks` look whether a promise of the protocol was broken.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from flexcore.client import SeatLost
from flexcore.errors import LocalProtocolError, NoQuorum
from flexcore.identity import Rank
from flexcore.keys import VerifyingKey
from flexcore.licensefile import LicenseFile
from flexcore.override import override
from flexcore_testing.checks import BEYOND_ONLY, Violation
from flexcore_testing.client_run import ClientRun
from flexcore_testing.harness_client import Client, OnLoss, seconds_of
from flexcore_testing.harness_licence import Terms, epoch_of, read_terms
from flexcore_testing.harness_names import (
    ServerName,
    machine_of,
    rank_of,
    require_client_name,
)
from flexcore_testing.harness_reread import ChangesFiles
from flexcore_testing.harness_service import HarnessTriad, quiet_profile, with_chart
from flexcore_testing.harness_status import lmstat
from flexcore_testing.server_run import NodeRun

STORY_LINES = 30
CHART_LINES = 40
"""How many of the last happenings and messages a failure shows."""

ADVANCE_MAX_S = 366 * 86400.0
"""The longest simulated time of one call: a year takes minutes."""

STOP_S = 30.0
"""How long :meth:`Triad.stop` waits for a server to end, beyond the timeout of the triad."""

LATENCY_MAX_S = 60.0
"""A longer delay is a cut."""

CLIENTS_MAX = 10_000

_IS_MESSAGE = re.compile(r" *[0-9.]+ +\S+ -[>x] ").match
_STARTS_APART_S = 0.1
_STARTUP_S = 10.0


class Triad(ChangesFiles):
    """Three simulated servers that serve one licence file, and their clients.

    Args:
        license: a licence file of three servers: its path, its text, or what ``flexcore.parse_license`` returned.
            None: one is made up from *features*.
        features: name and number of licences of what the made-up file has; ``{"f1": 10, "f2": 10}`` where not given.
        keys: the publisher's public keys. With them *license* is verified and served as it was signed; without, its
            lines are signed anew by a key of the tests, so that any file serves.
        heartbeat_interval_s: HEARTBEAT_INTERVAL, in place of what the file says (0 to 120; 20 where nobody says).
        primary_is_master: PRIMARY_IS_MASTER, in place of what the file says.
        date: the day on which the simulation starts, at noon UTC; 1 January 2026 where not given.
        latency_s, jitter_s: each message takes *latency_s* and up to *jitter_s* more, in simulated seconds.
        seed: decides whatever is drawn. Everything else being equal, the same seed gives the same run.
        start: False leaves the servers down; :meth:`start` them as the test likes.

    Raises:
        LicenseError: no server would start with this licence file; the text says why.
        ValueError, TypeError: an argument that makes no sense.
    """

    def __init__(
        self,
        license: str | os.PathLike[str] | LicenseFile | None = None,
        *,
        features: Mapping[str, int] | None = None,
        keys: VerifyingKey | str | Iterable[VerifyingKey | str] = (),
        heartbeat_interval_s: int | None = None,
        primary_is_master: bool | None = None,
        date: datetime.date | str | None = None,
        latency_s: float = 0.001,
        jitter_s: float = 0.0,
        seed: int = 0,
        start: bool = True,
    ) -> None:
        self._terms: Terms = read_terms(
            license, features=features, keys=keys, heartbeat_interval_s=heartbeat_interval_s,
            primary_is_master=primary_is_master,
        )  # fmt: skip
        file = self._terms.license
        self._profile = quiet_profile(
            seed=seed,
            interval_s=file.heartbeat_interval_s,
            primary_is_master=file.primary_is_master,
            epoch=epoch_of(date),
            latency_s=seconds_of(latency_s, "latency_s", longest=LATENCY_MAX_S),
            jitter_s=seconds_of(jitter_s, "jitter_s", longest=LATENCY_MAX_S),
        )
        self._sim = HarnessTriad(self._profile, self._terms)
        self._sim.on_lost = self._note_loss
        self._clients: dict[str, Client] = {}
        self._violation: Violation | None = None
        if start:
            for rank in Rank:
                self._sim.start(rank)
                self._run_for(_STARTS_APART_S)
            if not self._run_for(self.timeout_s + _STARTUP_S, self._all_take_part):
                raise LocalProtocolError(f"the triad does not start:\n{self._states()}\n\n{self.chart()}")
            self._sim.first_start = False  # an administrator says it once, for the first start

    # --- looking --------------------------------------------------------------------------------------------------

    @property
    def master(self) -> str | None:
        """Who serves at this instant: ``"primary"``, ``"secondary"``, or None for nobody."""
        run = self._sim.master()
        return None if run is None else run.rank.word

    @property
    def broken(self) -> bool:
        """Whether a promise was broken: the simulation goes no further then, and every call says so again."""
        return self._violation is not None

    @property
    def now(self) -> float:
        """Simulated seconds since the triad was made."""
        return self._sim.world.now

    @property
    def date(self) -> datetime.date:
        """The simulated day, in UTC."""
        days = int((self._profile.epoch + self.now) // 86400)
        return datetime.date(1970, 1, 1) + datetime.timedelta(days=days)

    @property
    def timeout_s(self) -> float:
        """The timeout of this triad, 3*s + (s-1) for a HEARTBEAT_INTERVAL of s: 79 s by default. A master that
        hangs is replaced after that; one whose process ended, at once."""
        return self._profile.timeout_s

    @property
    def lease_s(self) -> float:
        """How long a client keeps what it holds if no server confirms it any more: the timeout and 30 s."""
        return self._profile.lease_s

    @property
    def license(self) -> LicenseFile:
        """The licence file that is served, signed."""
        return self._terms.license

    @property
    def keys(self) -> tuple[VerifyingKey, ...]:
        """The keys that it verifies with."""
        return self._terms.keys

    @property
    def clients(self) -> tuple[Client, ...]:
        """The clients whose processes are there, in the order of their names."""
        return tuple(client for _, client in sorted(self._clients.items()) if client._run.alive)

    def state(self, server: ServerName) -> str:
        """What a server is doing: ``"serving"``, ``"follower"``, ``"recovering"`` ..., as ``lmstat --json`` says;
        ``"down"`` and ``"paused"`` for a process that is not there or does not run."""
        run = self._sim.run_of(self._rank(server))
        if run is None:
            return "down"
        assert isinstance(run, NodeRun)
        return "paused" if run.paused else run.node.report().state

    def in_use(self, feature: str) -> int:
        """How many licences of *feature* are out, as the server that serves has it.

        Raises:
            NoQuorum: nobody serves. ValueError: the licence file has no such feature.
        """
        self._require_feature(feature)
        run = self._sim.master()
        if run is None:
            raise NoQuorum(f"nobody serves:\n{self._states()}")
        return sum(seat.seats for seat in run.ledger.state.seats.values() if seat.feature == feature)

    def lmstat(self, *, usage: bool = True) -> str:
        """What ``flexcore lmstat -a`` prints on a machine that no cut concerns; *usage* False: without ``-a``.

        The question takes simulated time as on a real network: some milliseconds, three seconds and more if a server
        does not answer.
        """
        self._require_whole()
        try:
            text = lmstat(self._sim, usage=usage)
        except Violation as violation:
            self._break(violation)
        self._run_for(0.0)  # losses that were found meanwhile are told now
        return text

    def log(self, server: ServerName) -> str:
        """The debug log of a server, over all its restarts: the newest 10,000 lines."""
        return "".join(f"{line}\n" for line in self._sim.logs[self._rank(server)])

    def chart(self, lines: int = CHART_LINES) -> str:
        """The last messages and happenings, as a failure shows them."""
        head = "The last messages (P primary, S secondary, T tertiary; simulated seconds):"
        return "\n".join([head, *self._sim.journal.lines(lines)])

    def story(self, lines: int = STORY_LINES) -> str:
        """What happened last, without the messages: who was hurt, who serves, who holds and loses what."""
        head = "What happened (P primary, S secondary, T tertiary; simulated seconds):"
        told = [line for line in self._sim.journal.lines() if not _IS_MESSAGE(line)]
        return "\n".join([head, *told[-lines:]])

    # --- time -----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let *seconds* simulated seconds pass.

        Raises:
            Violation: a promise of the protocol was broken meanwhile.
        """
        self._run_for(seconds_of(seconds, "seconds", longest=ADVANCE_MAX_S))

    def advance_until(self, condition: Callable[[], bool], *, within_s: float) -> None:
        """Let time pass until *condition* holds.

        Raises:
            TimeoutError: it does not hold within *within_s* simulated seconds.
        """
        limit = seconds_of(within_s, "within_s", longest=ADVANCE_MAX_S)
        if not condition() and not self._run_for(limit, condition):
            raise TimeoutError(f"{limit:g} simulated seconds have passed in vain:\n{self._states()}")

    def wait_for_master(self, within_s: float | None = None) -> str:
        """Let time pass until somebody serves, and return who.

        *within_s* defaults to what the protocol promises where two members can talk to each other: the timeout and
        the margin for the rate of clocks, and five seconds for the election.

        Raises:
            TimeoutError: nobody serves by then; the text says what each server waits for.
        """
        limit = 1.03 * self.timeout_s + 5.0 if within_s is None else within_s
        self.advance_until(lambda: self.master is not None, within_s=limit)
        assert self.master is not None
        return self.master

    # --- clients --------------------------------------------------------------------------------------------------

    def client(self, name: str, *, on_loss: OnLoss | None = None) -> Client:
        """Return the client process of the user *name*; it is started if there is none (any more).

        *on_loss* is called at once when a seat is lost, with the seat and why, as in ``flexcore_sync.connect``.

        Raises:
            ValueError: the name is that of a server, or not printable.
        """
        known = self._clients.get(name)
        if known is not None and known._run.alive and not known._closing:
            if on_loss is not None:
                known._on_loss = on_loss
            return known
        require_client_name(name, self._terms.license)
        if len(self._clients) >= CLIENTS_MAX:
            raise ValueError(f"more than {CLIENTS_MAX} clients")
        self._require_whole()
        client = self._clients[name] = Client(self, self._sim.client(name), on_loss)
        return client

    # --- servers --------------------------------------------------------------------------------------------------

    def start(self, server: ServerName) -> None:
        """Start a server's process; its machine is switched on if need be. What its disk holds is found again."""
        rank = self._rank(server)
        self._require_whole()
        if self._sim.run_of(rank) is not None:
            raise LocalProtocolError(f"the {rank.word} runs already; restart() stops it first")
        self._sim.start(rank)

    def stop(self, server: ServerName) -> None:
        """Stop one server in order, as SIGTERM does: a master hands over first. Returns when its process has ended."""
        rank = self._running(server, "stop")
        run = self._sim.run_of(rank)
        assert run is not None
        if run.paused:
            raise LocalProtocolError(f"the {rank.word} is paused: resume it, or crash it")
        self._sim.stop(rank, "one")
        self._run_for(self.timeout_s + STOP_S, lambda: not run.alive)
        if run.alive:
            raise LocalProtocolError(f"the {rank.word} does not stop:\n{self._states()}\n\n{self.chart()}")

    def restart(self, server: ServerName) -> None:
        """Start a server again; if it runs, it is stopped in order before."""
        rank = self._rank(server)
        if self._sim.run_of(rank) is not None:
            self.stop(rank)
        self.start(rank)

    def crash(self, server: ServerName) -> None:
        """kill -9: the process is gone, its machine's kernel ends its connections, its disk keeps what it has."""
        self._sim.kill(self._running(server, "crash"))

    def power_off(self, server: ServerName) -> None:
        """The machine is gone without a word: connections hang, new ones time out. :meth:`start` switches it on."""
        self._sim.power_off(self._running(server, "power off"))

    def pause(self, server: ServerName) -> None:
        """Stop the process as SIGSTOP does, or a virtual machine that is moved: connections stay, nobody answers."""
        rank = self._running(server, "pause")
        if not self._sim.pause(rank):
            raise LocalProtocolError(f"the {rank.word} is paused already")

    def resume(self, server: ServerName) -> None:
        """Let a paused server go on."""
        rank = self._running(server, "resume")
        run = self._sim.run_of(rank)
        if run is None or not run.paused:
            raise LocalProtocolError(f"the {rank.word} is not paused")
        self._sim.resume(rank)

    def lose_disk(self, server: ServerName) -> None:
        """Replace the disk of a server that is down by an empty one.

        One lost disk is survived while both other servers run and take part. Beyond that licences may be lost, and
        :meth:`check` from then on demands only what holds all the same: one master a term, and nothing over the count.
        """
        rank = self._rank(server)
        self._require_whole()
        if self._sim.run_of(rank) is not None:
            raise LocalProtocolError(f"the {rank.word} runs: crash or stop it before it loses its disk")
        if not all(self._sim.is_member(other) for other in Rank if other is not rank):
            self._sim.checks.only = BEYOND_ONLY
        self._sim.lose_disk(rank)

    def forget_everything(self) -> None:
        """All three servers are installed anew: no disk knows who held what, and every seat is lost.

        Afterwards :meth:`check` demands no more than one master a term: the administrator has said that nothing is
        held (``lmgrd --first-start``), and that was not so.
        """
        self._require_whole()
        self._sim.checks.only = frozenset({"I1"})
        for rank in Rank:
            self._sim.kill(rank)
            self._sim.lose_disk(rank)
        self._sim.first_start = True
        for rank in Rank:
            self._sim.start(rank)
        self._run_for(self.timeout_s + _STARTUP_S, self._all_take_part)
        self._sim.first_start = False

    def jump_wall_clock(self, server: ServerName, seconds: float) -> None:
        """Set a server's wall clock forward, or back (*seconds* below 0), as an administrator or NTP does."""
        rank = self._rank(server)
        length = seconds_of(abs(seconds), "seconds", longest=100 * ADVANCE_MAX_S)
        self._sim.jump_wall(rank, length if seconds >= 0 else -length)

    # --- the network ----------------------------------------------------------------------------------------------

    def cut(self, source: ServerName, target: ServerName, *, one_way: bool = False) -> None:
        """Let nothing pass between two machines, servers or clients; *one_way*: from *source* to *target* only.

        What was sent waits, as TCP keeps it, and arrives after :meth:`heal` unless a keepalive ended the connection.
        """
        first, second = self._ends(source, target)
        for pair in ((first, second),) if one_way else ((first, second), (second, first)):
            if pair not in self._sim.network.cuts:
                self._sim.network.cut(*pair)
        self._sim.note("net", f"cut {first}{'->' if one_way else '--'}{second}")

    def isolate(self, machine: ServerName) -> None:
        """Cut a machine off from all servers and from all clients that there are."""
        lonely = self._end(machine)
        for other in (*Rank, *sorted(self._sim.clients)):
            if self._end(other) != lonely:
                self.cut(machine, other)

    def heal(self, source: ServerName | None = None, target: ServerName | None = None) -> None:
        """Undo all cuts, or those between two machines."""
        self._require_whole()
        if source is None and target is None:
            self._sim.note("net", "all cuts heal")
            self._sim.network.heal_all()
            return
        if source is None or target is None:
            raise TypeError("heal() undoes all cuts, heal(one, other) those between two machines")
        first, second = self._ends(source, target)
        self._sim.note("net", f"heal {first}--{second}")
        for pair in ((first, second), (second, first)):
            if pair in self._sim.network.cuts:
                self._sim.network.heal(*pair)

    # --- checking -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check at this instant every promise of the protocol that can be broken in an instant.

        At most one master a term and at any instant, never the tertiary (I1, I2); no more licences believed in or given
        out than there are (I3); whatever a client believes in is in the books of whoever serves, with the same handle,
        start time and number (I4, I9); no checkout counted twice (I5); nobody serves without a quorum (I6); the
        servers' logs agree. The same is looked at after each step of :meth:`advance`.

        Raises:
            Violation: an AssertionError that names the promise, with the last messages.
        """
        self._require_whole()
        try:
            self._sim.check_now()
        except Violation as violation:
            self._break(violation)

    # --- inside ---------------------------------------------------------------------------------------------------

    @override
    def __repr__(self) -> str:
        return f"<simulated triad at {self.now:.3f} s, master {self.master or 'nobody'}, {len(self.clients)} clients>"

    @override
    def _run_for(self, seconds: float, stop: Callable[[], bool] | None = None) -> bool:
        """Let time pass until *stop* holds (True), or for *seconds* (False). Callbacks come between two turns."""
        self._require_whole()
        world, news = self._sim.world, self._sim.news
        until = world.now + seconds
        while True:
            try:
                world.run_until(until, lambda: bool(news) or (stop is not None and stop()))
            except Violation as violation:
                self._break(violation)
            except Exception as error:
                error.add_note(self.chart())
                raise
            while news:
                news.popleft()()
            if stop is not None and stop():
                return True
            if world.now >= until:
                return False

    def _break(self, violation: Violation) -> NoReturn:
        self._violation = with_chart(violation, self.chart())
        raise self._violation from None

    def _require_whole(self) -> None:
        """A simulation in which a promise was broken goes no further."""
        if self._violation is not None:
            raise self._violation

    def _note_loss(self, run: ClientRun, action: SeatLost) -> None:
        client = self._clients.get(run.name)
        if client is not None and client._run is run:
            self._sim.news.append(lambda: client._lose(action))

    def _kill_client(self, client: Client, how: str, *, says_so: bool) -> None:
        client._end = how
        self._sim.kill_client(client.name, says_so=says_so)

    def _all_take_part(self) -> bool:
        return self._sim.master() is not None and all(self._sim.is_member(rank) for rank in Rank)

    def _states(self) -> str:
        lines = []
        for host in self._sim.hosts:
            said = "down" if host.run is None else self._sim.describe(host.run)
            paused = " (paused)" if host.run is not None and host.run.paused else ""
            lines.append(f"  {host.rank.word}: {said}{paused}")
        return "\n".join(lines)

    # --- names ----------------------------------------------------------------------------------------------------

    @override
    def _rank(self, server: ServerName) -> Rank:
        return rank_of(server, self._terms.license)

    def _running(self, server: ServerName, what: str) -> Rank:
        rank = self._rank(server)
        self._require_whole()
        if self._sim.run_of(rank) is None:
            raise LocalProtocolError(f"cannot {what} the {rank.word}: it is down")
        return rank

    def _end(self, machine: ServerName) -> str:
        return machine_of(machine, self._terms.license, self._clients)

    def _ends(self, source: ServerName, target: ServerName) -> tuple[str, str]:
        self._require_whole()
        first, second = self._end(source), self._end(target)
        if first == second:
            raise ValueError(f"{source!r} and {target!r} are one machine")
        return first, second

    def _require_feature(self, feature: str) -> None:
        known = sorted(self._sim.client_checks.licensed)
        if feature not in known:
            raise ValueError(f"{feature!r} is not in the licence file: {', '.join(known)}")
