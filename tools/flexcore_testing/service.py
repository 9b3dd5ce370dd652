"""The whole service: three ServerNodes that serve a signed licence file, and clients that use it and suffer."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import attrs

from flexcore import timing
from flexcore.checkout.rights import Rights
from flexcore.client import CheckedIn, CheckoutDeniedAction, ClientConfig, Seat, SeatLost
from flexcore.identity import Rank
from flexcore.ledger import Ledger
from flexcore.ledger.commands import Command
from flexcore.licensefile import LicenseFile
from flexcore.options import OptionsFile
from flexcore.override import override
from flexcore.server import ServerConfig
from flexcore.server.setup import make_server_rights
from flexcore.wire.messages import ServerAddress
from flexcore_testing.applications import Application
from flexcore_testing.checks import Violation
from flexcore_testing.client_checks import ClientChecks
from flexcore_testing.client_run import ClientRun
from flexcore_testing.liars import Liar
from flexcore_testing.licences import HOSTS, PORT, licence_for, test_key
from flexcore_testing.process import ServerHost, ServerRun
from flexcore_testing.profile import Profile
from flexcore_testing.queue_checks import QueueChecks, Rules
from flexcore_testing.recorder import Recorder
from flexcore_testing.server_run import NodeRun
from flexcore_testing.terms import (
    BY_RULES,
    LINGER_MAX_S,
    OPTIONS,
    REFUSED_BY_RULES,
    TICK_S,
    TermsChecks,
    options_numbered,
    remove_somebodys,
)
from flexcore_testing.triad import NAMES, SimulatedTriad

if TYPE_CHECKING:
    from flexcore_testing.plan import Fault

TOO_MANY_ASKED = -26
SEATS_UNAVAILABLE = frozenset({-4, -24})
"""Denials that a healthy triad gives to these clients: all seats are in use."""


class ServiceTriad(SimulatedTriad):
    """Three servers with clients."""

    def __init__(
        self, profile: Profile, *, only: frozenset[str] | None = None, license_file: LicenseFile | None = None
    ) -> None:
        super().__init__(profile, only=only)
        self.client_rng = random.Random(f"clients {profile.campaign} {profile.seed}")
        self.license: LicenseFile = licence_for(profile) if license_file is None else license_file
        self.keys = (test_key(),)
        self._rights: dict[ServerConfig, Rights] = {}
        self.clients: dict[str, ClientRun] = {}
        self.applications: list[Application] = []
        self.liar_rng = random.Random(f"liars {profile.campaign} {profile.seed}")
        self.liars: list[Liar] = []
        self.client_checks = ClientChecks(self)
        self.recorder = Recorder(self)
        self.queue_checks = QueueChecks(self._overtaken, self._rules_now)
        self.terms_checks = TermsChecks(self.checks.fail, lambda: self.world.now)
        self.options_on = [profile.seed % len(OPTIONS)] * 3
        """Which options file is on which server's disk, where *terms* are used."""
        self._by_rules = profile.terms > 0 and self.options_on[0] in BY_RULES
        self.checks.on_commit = self._committed
        self.reporting = False
        """Whether servers that start from now on write report logs."""
        self.report_logs: tuple[list[str], ...] = tuple([] for _ in Rank)
        """Each server's, on a file system of its own: it survives the loss of the state folder."""
        self.calm = False
        """In peace: a denial for any other reason than that the seats are in use is a fault (I8)."""

    def _committed(self, command: object) -> None:
        self.recorder.committed(command)
        self.queue_checks.committed(command)
        self.terms_checks.committed(command)

    def _overtaken(self, name: str, text: str) -> None:
        """Somebody passed whoever waits. Where options that let some pass come and go while servers die, nobody knows
        by which of them an entry was decided that is committed only now."""
        if not self._by_rules:
            self.checks.fail(name, text)

    def _rules_now(self) -> Rules | None:
        """By what the serving server decides; where none serves, whoever runs knows who waits."""
        run = self.master() or next(iter(self.runs()), None)
        if not isinstance(run, NodeRun):
            return None
        node = run.node
        day = node._desk.day(run.machine_host.wall.read(self.world.now))
        return Rules(node._checkout, run.ledger.state, day)

    # --- servers -------------------------------------------------------------------------------------------------

    @override
    def make_run(self, host: ServerHost, serial: int) -> NodeRun:
        return NodeRun(self, host, serial, self.server_config(host.rank))

    def server_config(self, rank: Rank) -> ServerConfig:
        """What the server of this rank is told when it starts."""
        return ServerConfig(
            license=self.license_of(rank),
            keys=self.keys,
            rank=rank,
            license_path="simulated.lic",
            software="0.1",
            first_start=self.first_start,
            in_memory=self.profile.in_memory,
            options=self.options_of(rank),
            lmremove_min_s=timing.LMREMOVE_MIN_S if not self.profile.terms else 1.0,
        )

    def rights_of(self, config: ServerConfig) -> Rights:
        """What the file of a server that starts lets clients have: a file that was verified before is not verified
        again at each of a hundred starts."""
        rights = self._rights.get(config)
        if rights is None:
            rights = self._rights[config] = make_server_rights(config)
        return rights

    def license_of(self, rank: Rank) -> LicenseFile:
        """The licence file on the disk of this server: its unsigned parts may differ."""
        interval_s, licensed = self.intervals_s[rank], self.licensed_on[rank]
        if (interval_s, licensed) == (self.profile.interval_s, self.profile.licensed):
            return self.license
        return licence_for(attrs.evolve(self.profile, interval_s=interval_s, licensed=licensed))

    def options_of(self, rank: Rank) -> OptionsFile | None:
        """The options file on the disk of this server; None: there is none."""
        return options_numbered(self.options_on[rank]) if self.profile.terms else None

    @override
    def reread_options(self, rank: Rank, number: int) -> None:
        self.options_on[rank] = number % len(OPTIONS)
        if self.options_on[rank] in BY_RULES:
            self._by_rules = True
        run = self.run_of(rank)
        if run is not None:
            self.note(run, f"is told to read its files anew: {OPTIONS[self.options_on[rank]].split(chr(10))}")
            self.coverage["reread of options"] += 1
            run.post(("reread",))

    @override
    def remove_seat(self, rank: Rank, draw: float) -> bool:
        return remove_somebodys(self, rank, draw)

    @override
    def edit_licence(self, rank: Rank, licensed: int) -> None:
        super().edit_licence(rank, licensed)
        self.recorder.count_changed()
        self.client_checks.licensed["f1"] = max(self.client_checks.licensed["f1"], licensed)

    @override
    def is_member(self, rank: Rank) -> bool:
        run = self.hosts[rank].run
        if not isinstance(run, NodeRun):
            return False
        return run.node.quorum.hard.member and (self.profile.in_memory or not self.hosts[rank].disk.blank)

    @override
    def next_command(self, ledger: Ledger) -> Command:
        raise AssertionError("here clients decide")

    @override
    def describe(self, run: ServerRun) -> str:
        assert isinstance(run, NodeRun)
        report = run.node.quorum.report()
        return f"{report.state} term {report.term} ({report.reason})"

    def server_at(self, host: str, port: int) -> str:
        """The simulated host that an address means."""
        assert port == PORT, f"nobody listens on port {port}"
        return NAMES[HOSTS.index(host)]

    def logged(self, run: NodeRun, daemon: str, text: str) -> None:
        """A server wrote a line of its debug log."""
        self.journal.note(self.world.now, run.name, f"log ({daemon}) {text}")
        self.client_checks.logged(run, daemon, text)

    def highest_term(self) -> int:
        """The highest term that any server knows."""
        return max((run.term for run in self.runs()), default=0)

    # --- clients -------------------------------------------------------------------------------------------------

    def client(self, name: str, *, rate: float = 1.0, first: int = 0) -> ClientRun:
        """Start a client process; its search path begins with server number *first*. *name*:
        ``user[@host[:display]][/number]``."""
        if name not in self.network.powered:
            self.network.add_host(name)
        self.serial += 1
        addresses = tuple(ServerAddress(HOSTS[(first + step) % 3], PORT) for step in range(3))
        user, _, machine = name.partition("/")[0].partition("@")
        host, _, display = machine.partition(":")
        config = ClientConfig(
            path=(addresses,), vendor="demo", user=user, host=host or f"{user}-host",
            display=f":{display}" if display else "/dev/tty", keys=self.keys,
        )  # fmt: skip
        run = ClientRun(self, name, self.serial, self.client_config(config), rate)
        self.clients[name] = run
        return run

    def client_config(self, config: ClientConfig) -> ClientConfig:
        """What a client is told when it starts, where it is more than who it is and whom it asks."""
        return config

    def kill_client(self, name: str, *, says_so: bool = True) -> None:
        """kill -9 of a client, or its machine loses power."""
        run = self.clients.pop(name, None)
        if run is None:
            return
        self.note(run, f"killed, held {[seat.handle for seat in run.held()]}")
        run.die()
        self.network.die(run, says_so=says_so)

    def after_client_turn(self, run: ClientRun) -> None:
        """Called after each turn of a client."""
        self.client_checks.after_client_turn(run)
        self.recorder.after_client_turn(run)

    @override
    def after_turn(self, run: ServerRun) -> None:
        super().after_turn(run)
        assert isinstance(run, NodeRun)
        self.client_checks.after_server_turn(run)

    def client_granted(self, run: ClientRun, request: int, seat: Seat) -> None:
        """A client was told that it holds a seat."""
        self.recorder.granted(run, request, seat)
        self.coverage["checkouts"] += 1
        self.note(run, f"granted {seat.feature} x{seat.count} handle {seat.handle} (request {request})")
        self.client_checks.granted(run, seat)

    def client_denied(self, run: ClientRun, action: CheckoutDeniedAction) -> None:
        """A client was told no."""
        self.recorder.denied(run, action)
        self.coverage[f"denied {action.code}"] += 1
        self.note(run, f"denied {action.code},{action.minor} {action.text} {action.detail}")
        fewer = action.code == TOO_MANY_ASKED and min(self.licensed_on) < self.profile.licensed
        ruled = self.profile.terms > 0 and action.code in REFUSED_BY_RULES
        if self.calm and action.code not in SEATS_UNAVAILABLE and not fewer and not ruled:
            self.checks.fail("I8", f"{run.name} was refused in peace: {action.code} {action.text} {action.detail}")

    def client_lost(self, run: ClientRun, action: SeatLost) -> None:
        """A client was told that a seat is gone."""
        self.recorder.lost(run, action)
        self.coverage["seat lost"] += 1
        self.note(run, f"lost handle {action.handle}: {action.reason}")
        if self.calm and not action.reason.startswith(("taken away", "inactive")):
            self.checks.fail("I4", f"{run.name} lost handle {action.handle} in peace: {action.reason}")

    def client_returned(self, run: ClientRun, action: CheckedIn) -> None:
        """A server took a seat back."""
        self.recorder.returned(run, action)
        self.coverage["checkins"] += 1

    def client_closed(self, run: ClientRun) -> None:
        """A client ended in order."""
        self.coverage["client closed"] += 1
        run.die()
        self.network.die(run, says_so=True)
        if self.clients.get(run.name) is run:
            del self.clients[run.name]

    # --- traffic -------------------------------------------------------------------------------------------------

    @override
    def start_traffic(self) -> None:
        idle_s = max(0.0, self.profile.warm_s - 10.0)  # nobody serves before blank servers have waited (rule 9)
        for number in range(self.profile.clients):
            application = Application(self, f"c{number}", number)
            self.applications.append(application)
            self.world.after(idle_s, application.begin)
        if self.profile.liars or self.profile.terms:
            self.recorder.count_changed()  # they take seats, and no history says so
        for number in range(self.profile.liars):
            self.liars.append(Liar(self, f"liar{number}"))
            self.liars[-1].begin()

    @override
    def strike_client(self, fault: Fault) -> bool:
        """Carry out a fault that is about clients."""
        if fault.kind == "client herd":  # all come back at once
            for application in self.applications:
                application.reset(half_open=fault.draw < 0.3)
            self.coverage["fault client herd"] += 1
            return True
        return self.applications[int(fault.draw * len(self.applications))].strike(fault)

    @override
    def rest(self) -> None:
        for application in self.applications:
            application.rest()

    @override
    def go_on(self) -> None:
        for application in self.applications:
            application.go_on()

    @override
    def settle(self, absent: Rank | None) -> None:
        profile = self.profile
        self._expect_service(absent)
        self._expect_primary(absent)
        for application in self.applications:
            application.finish()
        for liar in self.liars:
            liar.finish()
        longest = self.longest_timeout_s
        allowed = 1.03 * (timing.client_lease_s(longest) + 2 * longest) + 10.0 + 4 * profile.slack_s
        if profile.terms:
            allowed += LINGER_MAX_S + TICK_S
        reign = self.highest_term()
        self.advance_until(allowed, lambda: self._all_returned(absent))
        if self.highest_term() != reign:  # handed over to the primary: rule 15 counts from the winning of each reign
            self.advance_until(allowed, lambda: self._all_returned(absent))
        self.checks.check_replicas()
        master = self.require_master()
        state = master.ledger.state
        if state.seats or state.sessions or any(state.in_use.values()):
            raise Violation("returned", f"all clients are gone, but {state.seats} {list(state.sessions)} are held")
        self.advance_until(4 * profile.slack_s, lambda: len({run.ledger.last for run in self.runs()}) == 1)
        lasts = {host.name: host.run.ledger.last for host in self.hosts if host.run is not None}
        self.recorder.check()
        self.terms_checks.count_in(self.coverage)
        if len(set(lasts.values())) != 1:
            raise Violation("I7", f"in peace the logs do not become one: {lasts}")
        for rank in Rank:
            if rank is not absent and not self.is_member(rank):
                raise Violation("I7", f"in peace {rank.word} does not become a member")

    def _all_returned(self, absent: Rank | None) -> bool:
        """Nothing is held any more, and the servers are all there and agree about that."""
        master = self.master()
        if master is None or master.ledger.state.sessions or master.ledger.state.seats:
            return False
        expected = [rank for rank in Rank if rank is not absent]
        lasts = {run.ledger.last for run in self.runs()}
        return len(self.runs()) == len(expected) and len(lasts) == 1 and all(map(self.is_member, expected))

    def _expect_service(self, absent: Rank | None) -> None:
        """Every client that lives is served again, soon."""
        network = self.profile.network
        for application in self.applications:
            application.calm_down()
        probe = self.client("probe", first=self.client_rng.randrange(3))
        request = probe.checkout("probe")
        began = self.world.now
        allowed = 6.0 + 2 * network.dial_timeout_s + 8 * self.profile.slack_s + self.longest_timeout_s
        self.world.run_until(began + allowed, lambda: request in probe.granted or request in probe.denied)
        if request not in probe.granted:
            raise Violation("I7", f"{allowed:.1f} s after a master appeared a client gets no answer")
        self.coverage["probe ms"] += int(1000 * (self.world.now - began))
        self.advance(5.0 + 2 * network.dial_timeout_s + 4 * self.profile.slack_s)
        self.kill_client("probe")

    def _expect_primary(self, absent: Rank | None) -> None:
        """I8."""
        if not self.profile.primary_is_master or absent is not None:
            return
        self.calm = True
        began = self.world.now
        allowed = self.primary_wait_s()
        self.world.run_until(began + allowed, self._primary_serves)
        if not self._primary_serves():
            raise Violation("I8", f"{allowed:.0f} s of peace, and the primary is not master")
        self.advance(2.0)
        self.calm = False
        self.coverage["primary is master again"] += 1

    def _primary_serves(self) -> bool:
        master = self.master()
        return master is not None and master.rank is Rank.PRIMARY

    def primary_wait_s(self) -> float:
        """How long the primary may take to become master again."""
        wait = self.longest_timeout_s
        for run in self.runs():
            assert isinstance(run, NodeRun)
            wait = max(wait, run.quorum._primary_wait_s())
        return 1.05 * wait + 2 * self.longest_timeout_s + 10.0 + 4 * self.profile.slack_s

