"""What users, administrators and bad luck do to a triad and to the slow model, for Hypothesis.

Every checkout, borrowing and removal has to end as the model says, out of the pool that the model says; after every
step the ledgers of all servers that take part, their queues, and what users believe, have to be what the model has
(I9).
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from flexcore.codes import ErrorCode
from flexcore.identity import Rank
from flexcore.override import override
from flexcore.wire.messages import PROTOCOL_VERSION, AdminRequest, ClientHello, ReturnBorrow
from flexcore.wire.proof import session_proof
from flexcore_testing.client_run import ClientRun
from flexcore_testing.triad import NAMES
from tests.model_errand import Errand
from tests.model_files import FEATURES, Files, first_files, licences, options, users
from tests.model_triad import (
    DAY_S,
    LONG_MARGIN_S,
    MARGIN_S,
    NOON,
    REMOVE_MIN_S,
    SEATS_MAX,
    TriadBesideModel,
)
from tests.slow_model import Asked, Grant, Waiting
from tests.slow_pools import Hold, Line, Option, Who

DAYS_MAX = 6
SOON_S = 400.0
"""So much time may pass for nothing else: what lingers or is idle is over by then."""
features = st.sampled_from(FEATURES)
wanted = st.builds(
    Asked, st.sampled_from((*["f1"] * 5, "f2")), st.sampled_from((0, 0, 0, 1, 2)), st.sampled_from((1, 1, 1, 2, 2, 3))
)
waits = st.sampled_from((True, True, False))
orders = st.permutations(tuple(Rank))
numbers = st.integers(0, 1000)


class TriadAndModel(TriadBesideModel):
    """The steps, in any order."""

    @initialize(files=first_files)
    def begin(self, files: Files) -> None:
        """A triad with some files, in service."""
        self.make(*files)

    # --- files ------------------------------------------------------------------------------------

    @rule(lines=st.none() | licences, rules=options)
    def reread(self, lines: tuple[Line, ...] | None, rules: tuple[Option, ...]) -> None:
        """New options everywhere, and new licence lines or the same."""
        for rank in Rank:
            self.put(rank, (self.files[rank][0] if lines is None else lines, rules))

    @rule(files=st.tuples(licences, options), order=orders, at=st.sampled_from((0, 1, 1, 2, 2)),
          all_of_them=st.booleans(), who=users, feature=features)  # fmt: skip
    def rolling_reread(
        self, files: Files, order: list[Rank], at: int, all_of_them: bool, who: Who, feature: str
    ) -> None:
        """New files on one server after the other; the master dies, or all of them, in the middle of it."""
        for step, rank in enumerate(order):
            self.put(rank, files)
            if step + 1 == at:
                if all_of_them:
                    self.power_cut()
                else:
                    self.failover(who, Asked(feature, 0, 1), False)
                self.checkout(who, Asked(feature, 0, 1), False)

    # --- users ------------------------------------------------------------------------------------

    @rule(asks=st.lists(st.tuples(users, wanted, waits), min_size=1, max_size=6))
    def checkouts(self, asks: list[tuple[Who, Asked, bool]]) -> None:
        """Some people ask, one after the other."""
        for who, asked, queue in asks:
            self.checkout(who, asked, queue)

    def checkout(self, who: Who, asked: Asked, queue: bool) -> None:
        """Somebody asks, in a process of its own, and waits in the queue or does not."""
        self.get_ready()
        client, request, name = self._ask(who, asked, queue)
        self._answered(client, request, name, asked, queue)

    @precondition(lambda self: self.clients)
    @rule(number=numbers, asked=wanted, queue=waits)
    def checkout_again(self, number: int, asked: Asked, queue: bool) -> None:
        """A process that holds something, waits or was denied asks for more."""
        self.get_ready()
        name = sorted(self.clients)[number % len(self.clients)]
        client = self.clients[name][0]
        if self._has_room():
            request = client.checkout(asked.feature, asked.count, _version(asked), queue=queue)
            self._answered(client, request, name, asked, queue)

    def _has_room(self) -> bool:
        return sum(hold.count for hold in self.model.holds) + len(self.model.waiting) < SEATS_MAX

    def _ask(self, who: Who, asked: Asked, queue: bool) -> tuple[ClientRun, int, str]:
        self.serial += 1
        name = f"{who.user}@{who.host}/{self.serial}"
        client = self.triad.client(name)
        client.wall_error_s = self.model.ahead_s
        self.clients[name] = client, who
        feature = asked.feature if self._has_room() else "nothing"
        return client, client.checkout(feature, asked.count, _version(asked), queue=queue), name

    def _answered(self, client: ClientRun, request: int, name: str, asked: Asked, queue: bool) -> None:
        answers = (client.granted, client.denied, client.queued)
        self.wait("an answer", lambda: any(request in each for each in answers))
        if request in client.denied and client.denied[request].code == -5 and not self._has_room():
            return
        who = self.clients[name][1]
        verdict = self.model.decide(who, asked)
        text = f"{name} {asked}{' queue' if queue else ''}"
        if request in client.granted:
            seat = client.granted[request]
            assert isinstance(verdict, Grant), f"{text}: granted {seat}, the model denies {verdict}"
            self.granted(client, request, name, who, verdict, asked)
            self.follow()
            return
        assert isinstance(verdict, set), f"{text}: {client.denied.get(request, 'waits')}, the model grants of {verdict}"
        waits = queue and self.model.may_wait(who, asked)
        if request in client.denied:
            denied = client.denied[request]
            assert not waits, f"{text}: denied {denied}, the model lets it wait"
            assert denied.code in verdict, f"{text}: denied {denied}, the model says {verdict}"
        else:
            assert waits, f"{text}: waits, the model says {verdict}"
            self.model.waiting.append(Waiting(name, request, who, asked))

    @precondition(lambda self: self.model.waiting)
    @rule(number=numbers)
    def withdraw(self, number: int) -> None:
        """Somebody waits no longer."""
        self.get_ready()
        waiting = self.model.waiting[number % len(self.model.waiting)]
        self.clients[waiting.name][0].withdraw(waiting.request)
        self.model.waiting.remove(waiting)
        self.follow()
        self.wait("a withdrawal", self.matches)

    def _in_processes(self) -> list[Hold]:
        return [hold for hold in self.model.holds if hold.name]

    @precondition(lambda self: self._in_processes())
    @rule(number=numbers, dies=st.sampled_from((False, False, True)))
    def checkin(self, number: int, dies: bool) -> None:
        """A seat comes back; the master dies before it can say so."""
        self.get_ready()
        hold = self._in_processes()[number % len(self._in_processes())]
        began = self.now
        self.clients[hold.name][0].checkin(hold.handle)
        if dies:
            self._master_dies_now()
        self.wait("a checkin", lambda: self._left(hold))
        self.model.leave(hold, began, self.now)
        self._recover(dies, began)

    def _left(self, hold: Hold) -> bool:
        seat = self.held_now().get(hold.handle)
        return self.triad.master() is not None and (seat is None or seat.linger is not None)

    def _master_dies_now(self) -> None:
        master = self.triad.master()
        assert master is not None
        self.triad.kill(master.rank)
        if not self.may_serve_without(master.rank):
            self.start(master.rank)

    def _recover(self, dies: bool, began: float) -> None:
        """After a step in which the master may have died."""
        if dies:
            self.settle(began)
            self.everybody_back()
        self.follow()
        self.wait("both have the same", self.matches)

    @precondition(lambda self: self.clients)
    @rule(number=numbers, in_order=st.booleans())
    def client_ends(self, number: int, in_order: bool) -> None:
        """A process ends, in order or not; what it holds is free after the grace, or lingers."""
        self.get_ready()
        name = sorted(self.clients)[number % len(self.clients)]
        began = self.now
        if in_order:
            self.clients[name][0].close()
        else:
            self.triad.kill_client(name)
        del self.clients[name]
        mine = [hold for hold in sorted(self.model.holds) if hold.name == name]
        self.wait("the end of a process", lambda: all(self._left(hold) for hold in mine))
        for hold in mine:
            self.model.leave(hold, began, self.now)
        self.model.waiting = [each for each in self.model.waiting if each.name != name]
        self.follow()
        self.wait("both have the same", self.matches)

    @precondition(lambda self: self._in_processes())
    @rule(number=numbers, idle=st.sampled_from((True, True, False)))
    def idle(self, number: int, idle: bool) -> None:
        """A program says that it does not use a seat, or that it does again."""
        self.get_ready()
        hold = self._in_processes()[number % len(self._in_processes())]
        client = self.clients[hold.name][0]
        client.node.set_idle(hold.handle, idle, now=client.now(), wall=client.wall())
        since = (self.now if hold.idle_since is None else hold.idle_since) if idle else None
        self.model.replace(hold, hold._replace(idle_since=since))

    # --- what is lent -----------------------------------------------------------------------------

    @precondition(lambda self: self._in_processes())
    @rule(number=numbers, hours=st.sampled_from((1, 1, 3, 30, 50)), dies=st.sampled_from((False, False, True)))
    def borrow(self, number: int, hours: int, dies: bool) -> None:
        """Somebody takes a seat home."""
        self.get_ready()
        hold = self._in_processes()[number % len(self._in_processes())]
        client = self.clients[hold.name][0]
        self.serial += 1
        ident, secret = b"b%015d" % self.serial, b"s%031d" % self.serial
        until, began = self.wall + hours * 3600.0, self.now
        request = client.borrow(hold.handle, self.triad.profile.epoch + until, ident, secret)
        self.lent[hold.handle] = ident, secret
        if dies:
            self._master_dies_now()
        self.wait("a borrowing", lambda: request in client.lent)
        said = client.lent[request]
        codes = self.model.no_borrow(hold, hours, (NOON + self.wall) / 3600.0 - 24 * self.model.day)
        if type(said).__name__ == "SeatBorrowed":
            assert not codes, f"{hold} is lent for {hours} hours, the model says {codes}"
            self.model.replace(hold, hold._replace(name="", idle_since=None, borrowed=until))
        else:
            code = getattr(said, "code", 0)
            busy = {int(ErrorCode.SERVER_BUSY)} if dies else set()
            assert code in codes | busy, f"{hold} is not lent for {hours} hours: {said}, the model says {codes}"
        self._recover(dies, began)

    def _lent(self) -> list[Hold]:
        return [hold for hold in self.model.holds if hold.borrowed is not None]

    @precondition(lambda self: self._lent())
    @rule(number=numbers)
    def return_early(self, number: int) -> None:
        """Somebody brings it back before its end."""
        self.get_ready()
        hold = self._lent()[number % len(self._lent())]
        ident, secret = self.lent[hold.handle]

        def question(hello: Any) -> ReturnBorrow:
            return ReturnBorrow(1, ident, session_proof(secret, hello.nonce, ident), 0)

        master = self.triad.master()
        assert master is not None
        said = Errand(self.triad, hold.who.host, question, _hello()).run(master.rank)
        assert hold.borrowed is not None
        expired = self.wall >= hold.borrowed
        assert said.code == (int(ErrorCode.BORROW_EXPIRED) if expired else 0), f"{hold} comes back: {said}"
        if not expired:
            self.model.free(hold)
        self.follow()
        self.wait("both have the same", self.matches)

    # --- administrators -----------------------------------------------------------------------------

    @precondition(lambda self: self.model.holds)
    @rule(number=numbers, server=st.sampled_from(tuple(Rank)), dies=st.sampled_from((False, False, True)))
    def lmremove(self, number: int, server: Rank, dies: bool) -> None:
        """What somebody holds of a feature is taken away; the master dies behind the answer."""
        self.get_ready()
        hold = self.model.holds[number % len(self.model.holds)]
        his = [each for each in self.model.holds if each.who == hold.who and each.pool.feature == hold.pool.feature]
        if any(abs(self.wall - each.started - REMOVE_MIN_S) < MARGIN_S for each in his):
            self.triad.advance(2 * MARGIN_S)
            self.get_ready()
            his = [each for each in his if each in self.model.holds]
        arguments = ("user", hold.pool.feature, hold.who.user, hold.who.host, "/dev/tty")
        began = self.now
        said = Errand(
            self.triad, NAMES[server], lambda _: AdminRequest(1, "remove", arguments, "root", "pat"), _hello()
        ).run(server)
        codes, removed = _removal(his, self.wall)
        assert said.code in codes, f"lmremove {arguments}: {said}, the model says {codes} of {his}"
        if dies:
            self._master_dies_now()
        for each in removed:
            self.wait("a removal", lambda: self.triad.master() is not None and each.handle not in self.held_now())  # noqa: B023
            self.model.free(each)
        self._recover(dies, began)

    # --- bad luck, and time --------------------------------------------------------------------------

    @rule(who=users, asked=wanted, queue=waits)
    def failover(self, who: Who, asked: Asked, queue: bool) -> None:
        """The master dies; somebody asks while there is none; the machine comes back."""
        master = self.triad.master()
        assert master is not None
        self.get_ready(MARGIN_S if self.may_serve_without(master.rank) else LONG_MARGIN_S)
        client, request, name = self.master_fails(lambda: self._ask(who, asked, queue))
        self._answered(client, request, name, asked, queue)
        self.everybody_back()

    @rule(all_of_them=st.booleans())
    def restart(self, all_of_them: bool) -> None:
        """The master is stopped in order, or all three lose power."""
        if all_of_them:
            self.power_cut()
        else:
            self.hand_over()

    def hand_over(self) -> None:
        """The master is stopped in order and started again."""
        self.get_ready()
        master = self.triad.master()
        assert master is not None
        began = self.now
        self.triad.stop(master.rank, "one")
        self.wait("the master stops", lambda: self.triad.run_of(master.rank) is None)
        self.settle(began)
        self.everybody_back()

    def power_cut(self) -> None:
        """All three are killed and started with what their disks hold."""
        self.get_ready()
        began = self.now
        for rank in Rank:
            self.triad.kill(rank)
        self.triad.advance(1.0)
        for rank in Rank:
            self.start(rank)
            self.triad.advance(0.05)
        self.settle(began)

    @precondition(lambda self: self.model.day < DAYS_MAX)
    @rule(hours=st.sampled_from((1.02, 23.9)))
    def later(self, hours: float) -> None:
        """An hour or a day later by all calendars: the same as if so much time had passed, and much quicker."""
        self.get_ready()
        for rank in Rank:
            self.triad.jump_wall(rank, hours * 3600.0)
        for client, _ in self.clients.values():
            client.wall_error_s += hours * 3600.0
        self.model.ahead_s += hours * 3600.0
        self.model.day = int((NOON + self.wall) // DAY_S)
        self.model.since = self.now
        self.triad.advance(7.0)  # until users have seen it, and know again that they are served
        self.follow()

    def _next_end(self) -> float:
        """In how many seconds something ends by itself."""
        spans = [span for hold in self.model.holds if (span := self.model.over(hold)) is not None]
        return min(spans).earliest - self.now if spans else SOON_S + 1.0

    @precondition(lambda self: self._next_end() <= SOON_S)
    @rule()
    def soon(self) -> None:
        """Something ends by itself."""
        self.get_ready(max(0.0, self._next_end()))

    # --- comparing --------------------------------------------------------------------------------

    @invariant()
    def both_have_the_same(self) -> None:
        """I9: nothing is lost, and nothing is held that was not granted."""
        if self.files:
            if not self.matches():  # a follower may be a heartbeat behind
                self.triad.advance(0.5)
            if not self.matches():
                self.get_ready(0.0)
            assert self.matches(), self.differences()

    @invariant()
    def seats_came_out_of_the_pools_that_the_model_took(self) -> None:
        """A pool is told by the words of its key."""
        if not self.files:
            return
        held = self.held_now()
        for hold in self.model.holds:
            seat = held.get(hold.handle)
            if seat is not None:
                said = seat.pool
                pool = hold.pool
                assert said.startswith(f"{pool.feature} {pool.version}."), (said, pool)
                assert (f"HOSTNAME={pool.host}" in said) == bool(pool.host), (said, pool)
                assert (f"DUP_GROUP={pool.dup}" in said) == bool(pool.dup), (said, pool)
                assert ("VENDOR_STRING" in said) == bool(pool.vendor_string), (said, pool)
                assert ("BORROW" in said) == bool(pool.borrow), (said, pool)

    @override
    def teardown(self) -> None:
        if self.files and self.triad.master() is not None:
            self.triad.checks.check_replicas()


def _version(asked: Asked) -> str:
    return f"{asked.version}.0" if asked.version else ""


def _hello() -> ClientHello:
    return ClientHello(PROTOCOL_VERSION, "errand", "demo", 0)


def _removal(his: list[Hold], wall: float) -> tuple[set[int], list[Hold]]:
    """What lmremove says of somebody's seats of a feature, and which are taken away."""
    held = [hold for hold in his if hold.name]
    if not held:
        return {int(ErrorCode.LINGER_NOT_REMOVABLE)} if his else {-5, int(ErrorCode.NEVER_CHECKED_OUT)}, []
    old = [hold for hold in held if wall - hold.started >= REMOVE_MIN_S]
    return ({0}, old) if old else ({int(ErrorCode.REMOVE_TOO_SOON)}, [])
