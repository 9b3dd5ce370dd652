"""A simulated triad and the slow model side by side: what is asked, read anew, killed and restarted, for Hypothesis.

Every checkout has to end as the model says, out of the pool that the model says; after every step the ledgers of all
servers that take part, and what users believe, have to be what the model holds (I9).
"""

from __future__ import annotations

import datetime
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flexcore.identity import Rank
from flexcore.override import override
from flexcore_testing.client_run import ClientRun
from flexcore_testing.licences import signed, triad_text
from flexcore_testing.scenario_files import Files, ScenarioTriad
from flexcore_testing.schedule_kit import quiet_profile
from tests.slow_model import DEVELOPERS, Line, Model, Option, Pool, Who

FEATURES = ("f1", "f2")
USERS = tuple(Who(user, host) for user in ("ann", "bob", "carl") for host in ("elm", "oak"))
DAYS_MAX = 6
NOON = 43200.0
FIRST_DAY = 20_000
WAIT_S = 50.0
"""Longer than the lease of a client that ended without a word."""
SEATS_MAX = 14
"""More are not held at once: the model tries every way to fill reservations."""

lines = st.builds(
    Line,
    kind=st.sampled_from(("INCREMENT", "INCREMENT", "FEATURE")),
    feature=st.sampled_from(FEATURES),
    version=st.sampled_from((1, 2)),
    count=st.sampled_from((1, 2, 2, 3)),
    expiry=st.sampled_from((None, None, None, 0, 1, 2)),
    start=st.sampled_from((None, None, None, 1, 2)),
    host=st.sampled_from(("", "", "", "elm")),
    dup=st.sampled_from(("", "", "", "U", "UH", "SITE")),
    overdraft=st.sampled_from((0, 0, 0, 1)),
    vendor_string=st.sampled_from(("", "", "x")),
)
uncounted_lines = st.builds(
    lambda kind, feature, version, host: Line(kind, feature, version, 0, host=host),
    st.sampled_from(("FEATURE", "INCREMENT")), st.sampled_from(FEATURES), st.sampled_from((1, 2)),
    st.sampled_from(("elm", "oak")),
)  # fmt: skip
licences = st.lists(lines | lines | lines | uncounted_lines, min_size=1, max_size=4, unique=True).map(tuple)
people = st.sampled_from((("USER", "ann"), ("USER", "carl"), ("HOST", "elm"), ("GROUP", "dev")))
access = st.builds(
    lambda what, feature, key, who: (
        Option(what, "" if what.endswith("ALL") else feature, "" if what.endswith("ALL") else key, who[0], who[1])
    ),
    st.sampled_from(("EXCLUDE", "INCLUDE", "EXCLUDE", "INCLUDE", "EXCLUDEALL", "INCLUDEALL")),
    st.sampled_from(FEATURES), st.sampled_from(("", "", "x")), people,
)  # fmt: skip
counts = st.builds(
    lambda what, feature, key, who, number: Option(what, feature, key, who[0], who[1], number),
    st.sampled_from(("MAX", "RESERVE", "RESERVE")), st.sampled_from(FEATURES), st.sampled_from(("", "", "x")), people,
    st.sampled_from((1, 2)),
)  # fmt: skip
options = st.lists(counts | access | counts, max_size=3, unique=True).map(tuple)
users = st.sampled_from(USERS)
features = st.sampled_from(FEATURES)
orders = st.permutations(tuple(Rank))
numbers = st.integers(0, 1000)


def line_text(line: Line) -> str:
    """The line as a publisher writes it."""

    def date(day: int) -> str:
        return (datetime.date(1970, 1, 1) + datetime.timedelta(FIRST_DAY + day)).strftime("%d-%b-%Y").lower()

    words = [line.kind, line.feature, "demo", f"{line.version}.0"]
    words += ["permanent" if line.expiry is None else date(line.expiry), str(line.count or "uncounted")]
    words += [f"HOSTID=HOSTNAME={line.host}"] * bool(line.host)
    words += [f"DUP_GROUP={line.dup}"] * bool(line.dup)
    words += [f"OVERDRAFT={line.overdraft}"] * bool(line.overdraft)
    words += [f"VENDOR_STRING={line.vendor_string}"] * bool(line.vendor_string)
    words += [f"START={date(line.start)}"] if line.start is not None else []
    return " ".join(words)


def option_text(option: Option) -> str:
    """The rule as an administrator writes it."""
    feature = option.feature + (f":VENDOR_STRING={option.vendor_string}" if option.vendor_string else "")
    words = [option.what] + [str(option.number)] * bool(option.number) + [feature] * bool(option.feature)
    return " ".join([*words, option.type, option.name])


class TriadAndModel(RuleBasedStateMachine):
    """What users, administrators and bad luck do, to both."""

    def __init__(self) -> None:
        super().__init__()
        self.triad: ScenarioTriad = None  # type: ignore[assignment]
        self.model: Model = None  # type: ignore[assignment]
        self.files: list[tuple[tuple[Line, ...], tuple[Option, ...]]] = []
        self.read: list[list[tuple[Line, ...]]] = [[], [], []]
        """What each process has read since it started."""
        self.serial = 0
        self.clients: dict[str, tuple[ClientRun, Who]] = {}

    # --- files ------------------------------------------------------------------------------------

    @initialize(lines=licences, rules=options)
    def begin(self, lines: tuple[Line, ...], rules: tuple[Option, ...]) -> None:
        """A triad with some files, in service."""
        profile = quiet_profile(interval_s=1)
        profile = attrs.evolve(profile, epoch=FIRST_DAY * 86400.0 + NOON)
        profile.network.reset_at_death = 0.0
        self.triad = ScenarioTriad(profile, *self._texts(lines, rules))
        # Its sum of beliefs knows one sharing of each feature; here the lines differ, and the model knows better.
        self.triad.client_checks._check_sum = lambda feature: None  # type: ignore[method-assign]
        self.model = Model(lines, rules)
        self.files = [(lines, rules)] * 3
        for rank in Rank:
            self._start(rank)
            self.triad.advance(0.05)
        self._settle()

    def _texts(self, lines: tuple[Line, ...], rules: tuple[Option, ...]) -> Any:
        files = Files()
        files.add("option", ["GROUP", "dev", *DEVELOPERS])
        for rule_ in rules:
            files.add("option", option_text(rule_).split())
        text = triad_text({}, interval_s=1) + "".join(f"{line_text(line)} SIGN=0\n" for line in lines)
        return signed(text), files.options()

    def _put(self, rank: Rank, files: tuple[tuple[Line, ...], tuple[Option, ...]]) -> None:
        self.triad.put_files(rank, *self._texts(*files))
        run = self.triad.run_of(rank)
        if run is not None:
            run.post(("reread",))
        self.files[rank] = files
        self.read[rank].append(files[0])
        self.triad.advance(0.5)
        if self._is_master(rank):
            self.model.lines = files[0]  # the master's lines are in force
        self._settle()

    def _is_master(self, rank: Rank) -> bool:
        master = self.triad.master()
        return master is not None and master.rank is rank

    def _start(self, rank: Rank) -> None:
        if self.triad.run_of(rank) is None:
            self.read[rank] = [self.files[rank][0]]
            self.triad.start(rank)

    def _may_serve_without(self, gone: Rank) -> bool:
        """Protocol rule 19: by lines that it has read and that are in force, or that another server shows as well."""
        other = Rank.SECONDARY if gone is Rank.PRIMARY else Rank.PRIMARY
        return self.model.lines in self.read[other] or self.files[other][0] == self.files[Rank.TERTIARY][0]

    @rule(lines=licences, rules=options)
    def reread(self, lines: tuple[Line, ...], rules: tuple[Option, ...]) -> None:
        """New files everywhere."""
        for rank in Rank:
            self._put(rank, (lines, rules))

    @rule(rules=options)
    def reread_options(self, rules: tuple[Option, ...]) -> None:
        """New options everywhere, the same licence lines."""
        for rank in Rank:
            self._put(rank, (self.files[rank][0], rules))

    @rule(lines=licences, rules=options, order=orders, at=st.sampled_from((0, 1, 1, 2, 2)), all_of_them=st.booleans(),
          who=users, feature=features)  # fmt: skip
    def rolling_reread(
        self, lines: tuple[Line, ...], rules: tuple[Option, ...], order: list[Rank], at: int, all_of_them: bool,
        who: Who, feature: str,
    ) -> None:  # fmt: skip
        """New files on one server after the other; the master dies, or all of them, in the middle of it."""
        for step, rank in enumerate(order):
            self._put(rank, (lines, rules))
            if step + 1 == at:
                if all_of_them:
                    self.power_cut()
                else:
                    self.failover(who, feature)
                self.checkout(who, feature, 0, 1)

    # --- users ------------------------------------------------------------------------------------

    @rule(who=users, feature=features, version=st.sampled_from((0, 0, 1, 2)), count=st.sampled_from((1, 1, 1, 2, 3)))
    def checkout(self, who: Who, feature: str, version: int, count: int) -> None:
        """Somebody asks, in a process of its own."""
        client, request, name = self._ask(who, feature, version, count)
        self._answered(client, request, name, who, (feature, version, count))

    @precondition(lambda self: self.clients)
    @rule(number=numbers, feature=features)
    def checkout_again(self, number: int, feature: str) -> None:
        """A process that holds something, or was denied, asks for more."""
        name = sorted(self.clients)[number % len(self.clients)]
        client, who = self.clients[name]
        if self._held() < SEATS_MAX:
            request = client.checkout(feature, 1)
            self._answered(client, request, name, who, (feature, 0, 1))

    def _held(self) -> int:
        return sum(hold.count for hold in self.model.holds)

    def _ask(self, who: Who, feature: str, version: int, count: int) -> tuple[ClientRun, int, str]:
        self.serial += 1
        name = f"{who.user}@{who.host}/{self.serial}"
        client = self.triad.client(name)
        self.clients[name] = client, who
        if self._held() >= SEATS_MAX:
            feature = "nothing"
        return client, client.checkout(feature, count, f"{version}.0" if version else ""), name

    def _answered(
        self, client: ClientRun, request: int, name: str, who: Who, asked: tuple[str, int, int]
    ) -> None:
        self._wait("an answer", lambda: request in client.granted or request in client.denied)
        if request in client.denied and client.denied[request].code == -5 and self._held() >= SEATS_MAX:
            return
        verdict = self.model.decide(who, *asked)
        if request in client.denied:
            denied = client.denied[request]
            assert isinstance(verdict, set), f"{name} {asked}: denied {denied}, the model grants of {verdict}"
            assert denied.code in verdict, f"{name} {asked}: denied {denied}, the model says {verdict}"
            return
        seat = client.granted[request]
        assert isinstance(verdict, Pool), f"{name} {asked}: granted {seat}, the model denies {verdict}"
        self.model.grant(seat.handle, name, who, verdict, asked[2])

    @precondition(lambda self: self.model.holds)
    @rule(number=numbers)
    def checkin(self, number: int) -> None:
        """A seat comes back."""
        hold = self.model.holds[number % len(self.model.holds)]
        self.clients[hold.name][0].checkin(hold.handle)
        self.model.give_back(hold.handle)
        self._wait("the seat is free", lambda: self._matches())

    @precondition(lambda self: self.clients)
    @rule(number=numbers, in_order=st.booleans())
    def client_ends(self, number: int, in_order: bool) -> None:
        """A process ends, in order or not; what it holds is free after the grace."""
        name = sorted(self.clients)[number % len(self.clients)]
        if in_order:
            self.clients[name][0].close()
        else:
            self.triad.kill_client(name)
        del self.clients[name]
        self.model.holds = [hold for hold in self.model.holds if hold.name != name]
        self._wait("its seats are free", lambda: self._matches())

    # --- bad luck ---------------------------------------------------------------------------------

    @rule(who=users, feature=features)
    def failover(self, who: Who, feature: str) -> None:
        """The master dies; somebody asks while there is none; the machine comes back."""
        master = self.triad.master()
        assert master is not None
        self.triad.kill(master.rank)
        client, request, name = self._ask(who, feature, 0, 1)
        self.triad.advance(0.5)
        if not self._may_serve_without(master.rank):
            self.triad.advance(20.0)
            assert self.triad.master() is None
            self._start(master.rank)
        self._settle()
        self._answered(client, request, name, who, (feature, 0, 1))
        self._start(master.rank)
        self._settle()

    @rule()
    def hand_over(self) -> None:
        """The master is stopped in order and started again."""
        master = self.triad.master()
        assert master is not None
        self.triad.stop(master.rank, "one")
        self._wait("the master stops", lambda: self.triad.run_of(master.rank) is None)
        self._settle()
        self._start(master.rank)
        self._settle()

    @rule()
    def power_cut(self) -> None:
        """All three are killed and started with what their disks hold."""
        for rank in Rank:
            self.triad.kill(rank)
        self.triad.advance(1.0)
        for rank in Rank:
            self._start(rank)
            self.triad.advance(0.05)
        self._settle()

    @precondition(lambda self: self.model.day < DAYS_MAX)
    @rule()
    def next_day(self) -> None:
        """Midnight passes."""
        for rank in Rank:
            self.triad.jump_wall(rank, 86400.0)
        self.model.day += 1
        self.triad.advance(1.0)

    # --- comparing --------------------------------------------------------------------------------

    def _wait(self, what: str, happened: Any) -> None:
        assert self.triad.advance_until(WAIT_S, happened, step_s=0.05), f"{what} does not come: {self._differences()}"

    def _settle(self) -> None:
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

        self._wait("service", quiet)
        triad.advance(0.3)
        self._wait("service", quiet)
        master = triad.master()
        assert master is not None
        own = self.files[master.rank][0]
        if [self.files[run.rank][0] for run in triad.runs()].count(own) >= 2:
            self.model.lines = own  # it moves to its own file's lines when another server shows them too
        self.model.options = self.files[master.rank][1]

    def _differences(self) -> str:
        wanted = sorted((hold.handle, hold.pool.feature, hold.count, hold.who.user) for hold in self.model.holds)
        for run in self.triad.runs():
            state: Any = run.ledger.state
            held = sorted(
                (handle, seat.feature, seat.seats, state.sessions[seat.session].user)
                for handle, seat in state.seats.items()
            )
            if held != wanted:
                return f"{run.name} holds {held}, the model {wanted}"
        believed = sorted(seat.handle for client, _ in self.clients.values() for seat in client.held())
        if believed != [hold[0] for hold in wanted]:
            return f"users believe in {believed}, the model in {wanted}"
        return ""

    def _matches(self) -> bool:
        return not self._differences()

    @invariant()
    def both_hold_the_same(self) -> None:
        """I9: nothing is lost, and nothing is held that was not granted."""
        if self.files:
            if not self._matches():  # a follower may be a heartbeat behind
                self.triad.advance(0.5)
            assert self._matches(), self._differences()

    @invariant()
    def seats_came_out_of_the_pools_that_the_model_took(self) -> None:
        """A pool is told by the words of its key."""
        master = self.triad.master() if self.files else None
        if master is None:
            return
        for hold in self.model.holds:
            seat = master.ledger.state.seats.get(hold.handle)
            if seat is not None:
                said = seat.pool
                pool = hold.pool
                assert said.startswith(f"{pool.feature} {pool.version}."), (said, pool)
                assert (f"HOSTNAME={pool.host}" in said) == bool(pool.host), (said, pool)
                assert (f"DUP_GROUP={pool.dup}" in said) == bool(pool.dup), (said, pool)
                assert ("VENDOR_STRING" in said) == bool(pool.vendor_string), (said, pool)

    @override
    def teardown(self) -> None:
        if self.files and self.triad.master() is not None:
            self.triad.checks.check_replicas()

