"""A simulated triad and the slow model side by side: how they are brought to rest and compared.

The model is asked about one thing at a time, and things that end by themselves (what lingers, is lent, or idle) end
when the triad says so, within the model's :class:`~tests.slow_pools.Span`; so before anything is done, whatever might
end meanwhile is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from hypothesis.stateful import RuleBasedStateMachine

from flexcore.identity import Rank
from flexcore.ledger.commands import BorrowEnded, LingerPassed, SeatReturned
from flexcore.override import override
from flexcore.server import ServerConfig
from flexcore_testing.client_run import ClientRun
from flexcore_testing.scenario_files import Machine, ScenarioTriad
from flexcore_testing.schedule_kit import quiet_profile
from tests.model_files import FIRST_DAY, USERS, Files, license_of, options_of
from tests.slow_model import Asked, Grant, Model
from tests.slow_pools import Hold, Line, Option, Who

DAY_S = 86400.0
NOON = 43200.0
WAIT_S = 60.0
"""Longer than the lease of a client that ended without a word."""
MARGIN_S = 10.0
"""Longer than anything takes that is done to a triad with a master, or to one that finds another."""
LONG_MARGIN_S = 35.0
"""... that does not find one."""
LATE_S = 2.0
SEATS_MAX = 14
"""More are not held at once."""
REMOVE_MIN_S = 20.0
"""How old a seat has to be for lmremove."""


class ModelTriad(ScenarioTriad):
    """A triad that lets lmremove take away what is not that old."""

    @override
    def server_config(self, rank: Rank) -> ServerConfig:
        return attrs.evolve(super().server_config(rank), lmremove_min_s=REMOVE_MIN_S)


class TriadBesideModel(RuleBasedStateMachine):
    """Both, and the processes of users."""

    def __init__(self) -> None:
        super().__init__()
        self.triad: ModelTriad = None  # type: ignore[assignment]
        self.model: Model = None  # type: ignore[assignment]
        self.files: list[Files] = []
        self.read: list[list[tuple[Line, ...]]] = [[], [], []]
        """What each process has read since it started."""
        self.serial = 0
        self.clients: dict[str, tuple[ClientRun, Who]] = {}
        self.lent: dict[int, tuple[bytes, bytes]] = {}
        """Id and secret of each borrowing, by handle."""
        self.ended: list[int] = []
        """Handles that came back by themselves, in order."""

    def make(self, lines: tuple[Line, ...], rules: tuple[Option, ...]) -> None:
        """A triad with some files, in service."""
        profile = quiet_profile(interval_s=1)
        profile = attrs.evolve(profile, epoch=FIRST_DAY * DAY_S + NOON)
        profile.network.reset_at_death = 0.0
        self.triad = ModelTriad(profile, license_of(lines), options_of(rules))
        # Its sum of beliefs knows one sharing of each feature; here the lines differ, and the model knows better.
        self.triad.client_checks._check_sum = lambda feature: None  # type: ignore[method-assign]
        self.triad.checks.on_commit = self._committed
        for number, host in enumerate(sorted({who.host for who in USERS})):
            self.triad.machines[host] = Machine(hostids=(f"ether=00163e1111{number:02x}",))
        self.model = Model(lines, rules)
        self.files = [(lines, rules)] * 3
        for rank in Rank:
            self.start(rank)
            self.triad.advance(0.05)
        self.settle()

    @property
    def now(self) -> float:
        """What all clocks of the simulation show."""
        return self.triad.world.now

    @property
    def wall(self) -> float:
        """What the servers' calendars show."""
        return self.now + self.model.ahead_s

    def _committed(self, command: object) -> None:
        self.triad.queue_checks.committed(command)  # a second judge of who overtakes whom
        match command:
            case LingerPassed(ended=handles):
                self.ended += handles
            case SeatReturned(handle=handle):
                self.ended.append(handle)
            case BorrowEnded(borrow=borrow):
                self.ended += [handle for handle, (ident, _) in self.lent.items() if ident == borrow]
            case _:
                pass

    # --- servers ----------------------------------------------------------------------------------

    def start(self, rank: Rank) -> None:
        """Start a server that does not run; it reads its files."""
        if self.triad.run_of(rank) is None:
            self.read[rank] = [self.files[rank][0]]
            self.triad.start(rank)

    def put(self, rank: Rank, files: Files) -> None:
        """Put other files on one server and have them read."""
        self.get_ready()
        self.triad.put_files(rank, license_of(files[0]), options_of(files[1]))
        run = self.triad.run_of(rank)
        if run is not None:
            run.post(("reread",))
        self.files[rank] = files
        self.read[rank].append(files[0])
        self.triad.advance(0.5)
        master = self.triad.master()
        if master is not None and master.rank is rank:
            self.model.lines = files[0]  # the master's lines are in force
        self.settle()

    def may_serve_without(self, gone: Rank) -> bool:
        """Protocol rule 19: by lines that it has read and that are in force, or that another server shows as well."""
        other = Rank.SECONDARY if gone is Rank.PRIMARY else Rank.PRIMARY
        return self.model.lines in self.read[other] or self.files[other][0] == self.files[Rank.TERTIARY][0]

    def master_fails(self, meanwhile: Callable[[], Any] | None = None) -> Any:
        """The master dies; there is another one, or the same again. *meanwhile*: what happens while there is none."""
        master = self.triad.master()
        assert master is not None
        began = self.now
        self.triad.kill(master.rank)
        found = None if meanwhile is None else meanwhile()
        self.triad.advance(0.5)
        if not self.may_serve_without(master.rank):
            self.triad.advance(20.0)
            assert self.triad.master() is None
            self.start(master.rank)
        self.settle(began)
        return found

    def everybody_back(self) -> None:
        """Whoever is not there is started again."""
        for rank in Rank:
            self.start(rank)
        self.settle()

    # --- rest -------------------------------------------------------------------------------------

    def wait(self, what: str, happened: Callable[[], bool], within_s: float = WAIT_S) -> None:
        """Let time pass until something has happened."""
        there = self.triad.advance_until(within_s, happened, step_s=0.05)
        assert there, f"{what} does not come: {self.differences()}"

    def settle(self, outage_since: float | None = None) -> None:
        """A master serves, all that run follow, and the model knows what is in force."""
        triad = self.triad

        def quiet() -> bool:
            master = triad.master()
            followers: list[Any] = [run for run in triad.runs() if run is not master]
            return (
                master is not None
                and len({run.ledger.last for run in triad.runs()}) == 1
                and all(run.node.report().state == "follower" for run in followers)
            )

        self.wait("service", quiet)
        triad.advance(0.3)
        self.wait("service", quiet)
        master = triad.master()
        assert master is not None
        own = self.files[master.rank][0]
        if [self.files[run.rank][0] for run in triad.runs()].count(own) >= 2:
            self.model.lines = own  # it moves to its own file's lines when another server shows them too
        self.model.options = self.files[master.rank][1]
        self.model.since = self.now
        if outage_since is not None:
            self.model.nobody_served(self.now - outage_since)
        self.follow()

    def held_now(self) -> dict[int, Any]:
        """The master's seats, by handle."""
        master: Any = self.triad.master()
        return {} if master is None else master.ledger.state.seats

    def get_ready(self, margin_s: float = MARGIN_S) -> None:
        """Nothing ends by itself within the margin: what might is waited for."""
        while True:
            spans = {hold: span for hold in self.model.holds if (span := self.model.over(hold)) is not None}
            due = [hold for hold, span in spans.items() if span.earliest <= self.now + margin_s]
            if not due:
                return
            last = min(spans[hold].latest for hold in due)
            self.wait(
                f"the end of one of {due} until {last:.1f}, now {self.now:.1f}",
                lambda: any(hold.handle not in self.held_now() for hold in due),  # noqa: B023 - called here
                within_s=max(0.0, last - self.now) + LATE_S,
            )
            gone = [hold for hold in due if hold.handle not in self.held_now()]
            self.wait("the commit of an end", lambda: any(hold.handle in self.ended for hold in gone))  # noqa: B023
            first = min(gone, key=lambda hold: [*self.ended, hold.handle].index(hold.handle))
            assert self.now >= spans[first].earliest - 0.1, f"{first} ends too early: {self.now}, {spans[first]}"
            self.model.free(first)
            self.follow()

    def follow(self) -> None:
        """Who waits in the queue has what the model gives him, or the answer that he never will."""
        while True:
            served = self.model.next_served()
            if served is not None:
                waiting, found = served
                client = self.clients[waiting.name][0]
                self.wait(f"{waiting} is granted {found}", lambda: waiting.request in client.granted)  # noqa: B023
                self.model.waiting.remove(waiting)
                self.granted(client, waiting.request, waiting.name, waiting.who, found, waiting.asked)
                continue
            hopeless = self.model.next_hopeless()
            if hopeless is None:
                return
            client = self.clients[hopeless.name][0]
            self.wait(f"{hopeless} is denied", lambda: hopeless.request in client.denied)  # noqa: B023
            verdict = self.model.decide(hopeless.who, hopeless.asked, [])
            denied = client.denied[hopeless.request]
            assert denied.code in verdict, f"{hopeless}: denied {denied}, the model says {verdict}"
            self.model.waiting.remove(hopeless)

    def granted(self, client: ClientRun, request: int, name: str, who: Who, found: Grant, asked: Asked) -> None:
        """The model grants what the triad has granted."""
        self.model.grant(client.granted[request].handle, name, who, found, asked, self.wall)

    # --- comparing --------------------------------------------------------------------------------

    def differences(self) -> str:
        """What the ledgers and the users hold otherwise than the model, '' for nothing."""
        holds = sorted(self.model.holds)
        wanted = [(hold.handle, hold.pool.feature, hold.count, hold.who.user, _in_whose_hands(hold)) for hold in holds]
        queue = [(each.asked.feature, each.who.user, each.asked.count) for each in self.model.waiting]
        for run in self.triad.runs():
            state: Any = run.ledger.state
            held = sorted(
                (handle, seat.feature, seat.seats, (seat.linger or state.sessions[seat.session]).user,
                 "nobody" if seat.linger else "lent" if state.sessions[seat.session].borrowed_until else "a process")
                for handle, seat in state.seats.items()
            )  # fmt: skip
            if held != wanted:
                return f"{run.name} holds {held}, the model {wanted}"
            for feature in ("f1", "f2"):
                waits = [(feature, state.sessions[each.session].user, each.count) for each in state.queue.of(feature)]
                if waits != [each for each in queue if each[0] == feature]:
                    return f"at {run.name} wait {waits}, in the model {queue}"
        believed = sorted(seat.handle for client, _ in self.clients.values() for seat in client.held())
        if believed != [hold.handle for hold in holds if hold.name]:
            return f"users believe in {believed}, the model in {wanted}"
        return ""

    def matches(self) -> bool:
        """Whether there is no difference."""
        return not self.differences()


def _in_whose_hands(hold: Hold) -> str:
    return "nobody" if hold.lingers is not None else "lent" if hold.borrowed is not None else "a process"
