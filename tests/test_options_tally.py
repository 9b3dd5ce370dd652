"""What MAX and RESERVE are told about holders is what a look through all of them would find."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from flexcore.checkout import CheckoutMachine, Denial
from flexcore.checkout.regulations import Regulations
from flexcore.checkout.tallies import SeatTally, requester_of
from flexcore.ledger import LedgerState
from flexcore.ledger.commands import (
    Command,
    SeatGranted,
    SeatReturned,
    SessionEnded,
    SessionOpened,
    Share,
)
from flexcore.ledger.state import Undo
from flexcore.options import Policy, make_policy, parse_options
from flexcore.options.policy import PoolFacts
from flexcore.wire.messages import Checkout
from tests.server_kit import DAY, line
from tests.test_options_checkout import Desk

USERS = ("ann", "bob", "carl", "dora")
POOLS = ("p1", "p2", "q1")
TEXT = """
GROUP dev ann bob
MAX 3 f1 GROUP dev
MAX 2 f1 USER *
MAX 9 f2 HOST ann-pc
RESERVE 2 f1 USER ann
RESERVE 1 f1 GROUP dev
RESERVE 4 f1:VERSION=2 USER carl
"""


def policy() -> Policy:
    facts = [PoolFacts("p1", "f1", 4, ({"VERSION": "1"},)), PoolFacts("p2", "f1", 6, ({"VERSION": "2"},)),
             PoolFacts("q1", "f2", 3, ({"VERSION": "1"},))]  # fmt: skip
    return make_policy(parse_options(TEXT, name="demo.opt"), facts)


def slow_look(state: LedgerState, pool: str) -> Counter[tuple[str, str]]:
    """Seats of a pool by user and host; of a group the largest seat, the oldest of these."""
    found: Counter[tuple[str, str]] = Counter()
    groups: dict[str, list[tuple[int, int, bytes]]] = {}
    for seat in state.seats.values():
        if seat.pool != pool:
            continue
        group = seat.shares[0].group if seat.shares else ""
        session = state.sessions[seat.session]
        if group:
            groups.setdefault(group, []).append((-seat.seats, seat.handle, seat.session))
        else:
            found[session.user, session.host] += seat.seats
    for members in groups.values():
        seats, _, key = min(members)
        found[state.sessions[key].user, state.sessions[key].host] -= seats
    return found


def in_numbers(tally: SeatTally, rules: Policy) -> object:
    """Everything that a decision reads, whatever the order in which it came to be."""
    counted = tally.tally
    limits = {limit.number: counted.held(limit) for each in rules._counted.values() for limit in each.limits}
    return (
        {number: (held.seats, sorted(held._names.items())) for number, held in limits.items()},
        {
            pool: (sorted(counted.reserved(pool)._kinds.items()), counted.reserved(pool).filling(5).unfilled,
                   sorted(counted.reserved(pool).holdings._names.items()))
            for pool, each in rules._counted.items() if each.reserves
        },
    )  # fmt: skip


class Walk:
    """A ledger's state that is led at random, forwards and back, with a tally that watches it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.state = LedgerState()
        self.undos: list[Undo] = []
        self.rules = policy()
        self.opened = 0
        self.request = 0
        self.tally = SeatTally(self.rules, self.state)
        self.state.books.watcher = self.tally

    def apply(self, command: Command) -> None:
        self.undos.append(self.state.apply(self.state.index + 1, 1, 1.0, command))

    def step(self) -> None:
        state, random = self.state, self.random
        if self.undos and random.random() < 0.3:
            for _ in range(min(len(self.undos), random.randint(1, 4))):
                state.revert(self.undos.pop())
        elif not state.sessions or random.random() < 0.1:
            self.opened += 1
            user = random.choice(USERS)
            self.apply(SessionOpened(b"%d" % self.opened, b"s", user, f"{user}-pc", "", "", 1, 9.0, True))
        elif random.random() < 0.1:
            self.apply(SessionEnded(random.choice(sorted(state.sessions)), ""))
        elif state.seats and random.random() < 0.45:
            seat = state.seats[random.choice(sorted(state.seats))]
            self.apply(SeatReturned(seat.session, 0, 0, seat.handle, ""))
        else:
            session = state.sessions[random.choice(sorted(state.sessions))]
            pool = random.choice(POOLS)
            group = random.choice(["", "", "U", "SITE"])
            shares: tuple[Share, ...] = (Share(pool, group + (session.user if group == "U" else "")),) if group else ()
            if random.random() < 0.2:
                shares = (*(shares or (Share(pool, ""),)), Share("suite", "SITE"))
            self.request += 1
            self.apply(SeatGranted(session.session, self.request, 0, state.next_handle, "f", pool, "1",
                                   random.randint(1, 3), shares))  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_the_counts_are_those_of_a_slow_look(seed: int) -> None:
    walk = Walk(seed)
    for number in range(300):
        walk.step()
        if number % 7 == 0:
            anew = SeatTally(walk.rules, walk.state)
            assert in_numbers(walk.tally, walk.rules) == in_numbers(anew, walk.rules)
            (limit,) = walk.rules._counted["q1"].limits
            held = walk.tally.tally.held(limit)
            assert held.seats == slow_look(walk.state, "q1")["ann", "ann-pc"]
            both = slow_look(walk.state, "p1") + slow_look(walk.state, "p2")
            names = {f"{user}@{host}": seats for (user, host), seats in both.items()}
            assert names == walk.tally.tally.held(walk.rules._counted["p1"].limits[1])._names


def test_a_group_that_one_large_seat_holds_for_ever_stays_small() -> None:
    walk = Walk(1)
    walk.apply(SessionOpened(b"x", b"s", "ann", "ann-pc", "", "", 1, 9.0, True))
    for number in range(1, 1000):
        count = 5 if number == 1 else 1
        handle = walk.state.next_handle
        walk.apply(SeatGranted(b"x", number, number - 1, handle, "f", "p1", "1", count, (Share("p1", "SITE"),)))
        if number > 1:
            walk.apply(SeatReturned(b"x", 0, 0, handle, ""))
    (sharers,) = walk.tally._groups.values()
    assert len(sharers._heap) < 100
    assert walk.tally.tally.held(walk.rules._counted["p1"].limits[0]).seats == 5


def test_other_machines_and_other_ledgers_begin_to_count_anew() -> None:
    """A reread makes a new machine; a copy of a ledger has no watcher; neither believes old counts."""
    desk = Desk("MAX 2 f1 USER *\n", line(seats=9))
    assert desk.out("ann").count == 1
    state = desk.ledger.state
    old = desk.machine
    first = state.books.watcher
    assert first is not None
    assert state.copy().books.watcher is None
    rules = old._regulations
    assert rules is not None
    desk.machine = CheckoutMachine(desk.rights, Regulations(rules.policy))
    assert desk.out("bob").count == 1
    assert state.books.watcher is not first
    desk.machine = old  # no longer told what happens: it has to look again
    assert desk.refused("carl")[0] == -87
    twin = state.copy()
    verdict = old.copy().decide(
        twin, twin.sessions[b"carl"], Checkout(0, 9, 8, "f1", "", 2, 0), day=DAY, now=1.0
    )
    assert type(verdict) is Denial


def test_nobody_watches_where_nothing_is_counted() -> None:
    desk = Desk("EXCLUDE f1 USER bob\n", line(seats=9))
    desk.out("ann")
    assert desk.ledger.state.books.watcher is None
    assert requester_of(desk.ledger.state.sessions[b"ann"]).name == "ann@ann-pc"
