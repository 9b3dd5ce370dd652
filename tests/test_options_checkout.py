"""The checkout machine under an options file: what is refused, why, and that nothing changes without one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flexcore.checkout import CheckoutMachine, Denial, Grant
from flexcore.checkout.regulations import regulations_of
from flexcore.ledger import Ledger
from flexcore.ledger.commands import Command, SessionOpened
from flexcore.ledger.snapshot import Snapshot, decode_state, encode_state
from flexcore.options import parse_options
from flexcore.options.named import NamedList, Naming
from flexcore.options.patterns import Requester
from flexcore.options.rules import AccessRule
from flexcore.wire.codec import encode_command
from flexcore.wire.messages import Checkin, Checkout
from tests.budget import examples
from tests.server_kit import DAY, line, rights


class Desk:
    """A ledger, a machine under an options file, and one session a user, on a host of that name."""

    def __init__(self, text: str, *lines: Any, users: tuple[str, ...] = ("ann", "bob", "carl")) -> None:
        self.ledger = Ledger()
        self.options = parse_options(text, name="demo.opt")
        self.rights = rights(*lines)
        self.machine = CheckoutMachine(self.rights, regulations_of(self.options, self.rights))
        self.stamp = 1.0
        self.numbers: dict[str, int] = {}
        for user in users:
            self.append(SessionOpened(user.encode(), b"s", user, f"{user}-pc", ":0", "", 1, 33.0, True))
            self.numbers[user] = 0

    def append(self, command: Command) -> int:
        self.stamp += 1.0
        index = self.ledger.append(1, self.stamp, encode_command(command), command)
        self.ledger.commit_to(index)
        return index

    def ask(self, user: str, request: Checkout | Checkin) -> Any:
        ((_, verdict),) = self.machine.decide_batch(
            self.ledger.state, [(user.encode(), request)], self.append, day=DAY, now=self.stamp
        )
        return verdict

    def out(self, user: str, count: int = 1, feature: str = "f1") -> Any:
        self.numbers[user] += 1
        number = self.numbers[user]
        verdict = self.ask(user, Checkout(0, number, number - 1, feature, "", count, 0))
        return verdict.command if type(verdict) is Grant else verdict

    def back(self, user: str, handle: int) -> None:
        self.numbers[user] += 1
        self.ask(user, Checkin(0, self.numbers[user], self.numbers[user] - 1, handle, 0))

    def refused(self, user: str, count: int = 1, feature: str = "f1") -> tuple[int, str]:
        verdict = self.out(user, count, feature)
        assert type(verdict) is Denial, verdict
        return int(verdict.code), verdict.detail


def test_exclude_and_include_name_the_rule_the_numbers_and_the_holders() -> None:
    desk = Desk("INCLUDE f1 USER ann\nEXCLUDEALL HOST carl-pc\n", line(seats=2))
    desk.out("ann")
    assert desk.refused("bob") == (
        -39, "not in demo.opt:1: INCLUDE f1 USER ann; 1 of 2 in use: ann@ann-pc"
    )  # fmt: skip
    assert desk.refused("carl") == (-38, "demo.opt:2: EXCLUDEALL HOST carl-pc; 1 of 2 in use: ann@ann-pc")
    desk.out("ann")
    assert desk.refused("bob")[0] == -39  # not -4: waiting would not help him
    assert desk.refused("ann") == (-4, "2 of 2 in use: ann@ann-pc (2)")


FOUR = ("ann", "bob", "carl", "dan")
NAMED = """GROUP dev bob ann b*
INCLUDE f1 USER ann
INCLUDE f1 GROUP dev
INCLUDE f1 USER *
INCLUDE f1 USER carl
"""


def test_no_more_users_are_named_than_the_licence_says() -> None:
    """USER_BASED=2: the first two names count; a pattern names nobody, and lets nobody in beside them."""
    desk = Desk(NAMED, line(seats=5)._replace(named_users=2), users=FOUR)
    assert desk.out("ann").count == desk.out("bob").count == 1
    assert desk.refused("carl") == (
        -39, "USER_BASED: 2 of the users named may use it, and carl is number 3: demo.opt:5: INCLUDE f1 USER carl"
    )  # fmt: skip
    assert desk.refused("dan") == (-39, "USER_BASED: dan is none of the 3 that INCLUDE lines of demo.opt name")


@pytest.mark.parametrize(
    ("text", "users", "hosts"),
    [
        ("GROUP g ann bob\nINCLUDE f1 USER ann\nINCLUDE f1 GROUP g\n", {"ann": 0, "ANN": 0, "Bob": 1}, {}),
        ("GROUP g ANN\nINCLUDE f1 GROUP g\nINCLUDE f1 USER ann\nINCLUDE f1 USER Bob\n",
         {"ann": 0, "bob": None, "Bob": 1}, {}),
        ("GROUP g ann\nINCLUDE f1 USER ann\nINCLUDE f1 USER bob\nINCLUDE f1 USER Ann\nINCLUDE f1 GROUP g\n",
         {"ann": 0, "ANN": 0, "bob": 1}, {}),
        ("INCLUDE f1 HOST elm\nINCLUDE f1 HOST elm.site.com\nINCLUDE f1 HOST oak\n", {},
         {"ELM": 0, "elm.site.com": 0, "oak.a.b": 1}),
        ("INCLUDE f1 HOST elm.a.com\nINCLUDE f1 HOST elm.b.com\nINCLUDE f1 INTERNET 10.0.0.1\nINCLUDE f1 HOST ELM\n",
         {}, {"elm.a.com": 0, "elm.c.com": 0, "10.0.0.1": 1}),
        ("INCLUDE f1 INTERNET 10.0.0.1\nINCLUDE f1 HOST 10.0.0.1\n", {}, {"10.0.0.1": 0}),
        ("INCLUDE f1 HOST elm.a.com\nINCLUDE f1 HOST elm.b.com\n", {}, {"elm.a.com": 0, "elm": 0, "elm.b.com": 1}),
        ("FQDN_MATCHING EXACT\nINCLUDE f1 HOST elm\nINCLUDE f1 HOST elm.site.com\n", {}, {"elm": 0, "elm.site.com": 1}),
    ],
)  # fmt: skip
def test_names_that_mean_one_count_once(
    text: str, users: dict[str, int | None], hosts: dict[str, int | None]
) -> None:
    options = parse_options(f"GROUPCASEINSENSITIVE ON\n{text}", name="demo.opt")
    for naming, wanted in ((Naming.USERS, users), (Naming.HOSTS, hosts)):
        listed = NamedList(options, [rule for rule in options.rules if isinstance(rule, AccessRule)], naming)
        assert {who: listed.place_of(Requester(who, who, address=who)) for who in wanted} == wanted
        assert len(listed) == 1 + max((place for place in wanted.values() if place is not None), default=-1)


def test_named_users_add_up_as_counts_do() -> None:
    two = [line(seats=1)._replace(named_users=1), line(seats=1)._replace(named_users=2)]
    assert Desk(NAMED, *two, users=FOUR).out("carl").count == 1


def test_named_hosts() -> None:
    """Short and long names are one host; addresses and patterns; a user's name names no host."""
    text = "HOST_GROUP lab ANN-PC.example.org\nINCLUDE f1 USER *\nINCLUDE f1 HOST_GROUP lab\nINCLUDEALL HOST carl-pc\n"
    desk = Desk(text, line(seats=5)._replace(named_hosts=1), users=FOUR)
    assert desk.out("ann").count == 1
    assert desk.refused("bob")[1] == "HOST_BASED: bob-pc is none of the 2 that INCLUDE lines of demo.opt name"
    said = "HOST_BASED: 1 of the hosts named may use it, and carl-pc is number 2: demo.opt:4: INCLUDEALL HOST carl-pc"
    assert desk.refused("carl")[1] == said


@pytest.mark.parametrize("text", ["", "INCLUDE f1 HOST ann-pc\n", "INCLUDE f1 USER *\n", "EXCLUDE f1 USER bob\n"])
def test_nobody_is_named_by_lines_about_others(text: str) -> None:
    assert Desk(text, line(seats=5)._replace(named_users=2)).refused("ann")[0] == -84


def test_max_counts_what_its_people_hold_and_no_more() -> None:
    desk = Desk("GROUP dev ann bob\nMAX 2 f1 GROUP dev\n", line(seats=5))
    handle = desk.out("ann").handle
    desk.out("bob")
    assert desk.refused("ann") == (-87, "demo.opt:2: MAX 2 f1 GROUP dev: 2 in use by ann@ann-pc, bob@bob-pc")
    desk.out("carl")
    desk.back("ann", handle)
    assert desk.out("bob").count == 1


def test_reserved_seats_wait_for_those_they_are_for() -> None:
    desk = Desk("RESERVE 2 f1 USER ann\n", line(seats=3))
    desk.out("bob")
    assert desk.refused("carl") == (
        -101, "1 of 3 in use by bob@bob-pc; 2 reserved by demo.opt:1: RESERVE 2 f1 USER ann"
    )  # fmt: skip
    desk.out("ann", 2)
    assert desk.refused("carl")[0] == -4


def test_another_pool_is_tried_where_the_first_is_closed() -> None:
    desk = Desk("EXCLUDE f1:VERSION=2.0 USER ann\n", line(seats=1, version="2.0"), line(seats=1, version="1.0"))
    assert desk.out("ann").pool == "f1 1.0"
    assert desk.refused("ann")[0] == -4  # the pool that she may use is full
    assert desk.out("bob").pool == "f1 2.0"


def test_a_specification_can_look_into_the_signed_line() -> None:
    special = line(seats=1, signed_text='FEATURE f1 sampled 1.0 permanent 1 NOTICE="for bob" SIGN="1"')
    desk = Desk('EXCLUDE f1:NOTICE="For Bob" USER ann\n', special)
    assert desk.refused("ann")[0] == -38
    assert desk.out("bob").count == 1


def test_addresses_are_compared_and_survive_a_snapshot() -> None:
    desk = Desk("EXCLUDE f1 INTERNET 10.0.7.*\nMAX 1 f1 HOST 10.0.8.*\n", line(seats=5))
    for user, address in (("dora", "10.0.7.9"), ("eve", "10.0.8.1"), ("fay", "10.0.8.2")):
        command = SessionOpened(user.encode(), b"s", user, "pc", ":0", "", 1, 33.0, True, address=address)
        desk.append(command)
        desk.numbers[user] = 0
    assert desk.refused("dora")[0] == -38
    desk.out("eve")
    last = desk.ledger.last
    again = decode_state(Snapshot(last, desk.ledger.state.stamp, encode_state(desk.ledger.state, last)))
    assert {s.user: s.address for s in again.sessions.values() if s.address} == {
        "dora": "10.0.7.9", "eve": "10.0.8.1", "fay": "10.0.8.2",
    }  # fmt: skip
    assert desk.refused("fay")[0] == -87


def test_uncounted_features_have_the_same_gate() -> None:
    desk = Desk("EXCLUDE f1 USER ann\nMAX 1 f1 USER bob\nRESERVE 1 f1 USER carl", line(seats=0))
    assert desk.refused("ann")[0] == -38
    desk.out("bob")
    assert desk.refused("bob")[0] == -87


def test_a_licence_that_is_shared_counts_once() -> None:
    """DUP_GROUP=U: ann's second checkout takes no licence, so neither MAX nor RESERVE minds."""
    shared = line(seats=3)._replace(group="U")
    desk = Desk("MAX 1 f1 USER ann\nRESERVE 1 f1 USER carl\nEXCLUDE f1 USER bob\n", shared)
    assert [desk.out("ann").count for _ in range(3)] == [1, 1, 1]
    assert desk.refused("ann", 2)[0] == -87
    assert desk.refused("bob")[0] == -38
    desk = Desk("RESERVE 1 f1 USER carl\n", shared, users=("ann", "bob", "carl", "dora"))
    assert [desk.out("ann", 2).count for _ in range(3)] == [2, 2, 2]
    assert desk.out("ann").count == 1
    assert desk.refused("bob")[0] == -101
    assert desk.out("carl").count == 1
    assert desk.out("carl").count == 1
    assert desk.refused("dora")[0] == -4


@pytest.mark.parametrize("text", ["", "GROUP g ann\nTIMEOUTALL 900\n", "EXCLUDE f2 USER ann\n", "FOO\n"])
def test_a_file_without_a_rule_about_these_features_costs_nothing(text: str) -> None:
    assert regulations_of(parse_options(text), rights(line())) is None
    assert regulations_of(None, rights(line())) is None


def test_a_twin_looks_for_itself() -> None:
    """Two copies of a server may go different ways at the same index."""
    desk = Desk("MAX 1 f1 USER ann\n", line(seats=5))
    twin, ledger = desk.machine.copy(), desk.ledger.copy()
    desk.out("ann")
    desk.refused("ann")
    desk.machine, desk.ledger, desk.numbers["ann"] = twin, ledger, 0
    desk.out("bob")
    assert desk.out("ann").count == 1


# --- against a slow model ---------------------------------------------------------------------------------------

USERS = ("ann", "bob", "carl", "dora")


class UnderOptions(RuleBasedStateMachine):
    """Checkouts, checkins and new options; the model looks through everything each time."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[str, int]] = {}
        self.total = 4
        self.limit: dict[str, int] = {}
        self.kept: dict[str, int] = {}
        self.shut: frozenset[str] = frozenset()

    @initialize()
    def begin(self) -> None:
        self.desk = Desk("", line(seats=self.total), users=USERS)

    @rule(
        limit=st.dictionaries(st.sampled_from(USERS), st.integers(0, 3), max_size=2),
        kept=st.dictionaries(st.sampled_from(USERS), st.integers(1, 2), max_size=2),
        shut=st.frozensets(st.sampled_from(USERS), max_size=1),
    )
    def reread(self, limit: dict[str, int], kept: dict[str, int], shut: frozenset[str]) -> None:
        text = "".join(f"MAX {n} f1 USER {user}\n" for user, n in limit.items())
        text += "".join(f"RESERVE {n} f1 USER {user}\n" for user, n in kept.items())
        text += "".join(f"EXCLUDE f1 USER {user}\n" for user in sorted(shut))
        self.limit, self.kept, self.shut = limit, kept, shut
        desk = self.desk
        desk.machine = CheckoutMachine(desk.rights, regulations_of(parse_options(text), desk.rights))

    def of(self, user: str) -> int:
        return sum(count for who, count in self.held.values() if who == user)

    @rule(user=st.sampled_from(USERS), count=st.integers(1, 3))
    def out(self, user: str, count: int) -> None:
        used = sum(count for _, count in self.held.values())
        others = sum(max(0, n - self.of(who)) for who, n in self.kept.items() if who != user)
        mine = max(0, self.kept.get(user, 0) - self.of(user))
        if user in self.shut:
            wanted = -38
        elif used + count > self.total:
            wanted = -4
        elif user in self.limit and self.of(user) + count > self.limit[user]:
            wanted = -87
        elif count > mine and used + count + others > self.total:
            wanted = -101
        else:
            wanted = 0
        said = self.desk.out(user, count)
        assert (int(said.code) if type(said) is Denial else 0) == wanted
        if not wanted:
            self.held[said.handle] = (user, count)

    @rule(data=st.data())
    def back(self, data: st.DataObject) -> None:
        if self.held:
            handle = data.draw(st.sampled_from(sorted(self.held)))
            self.desk.back(self.held.pop(handle)[0], handle)

    @invariant()
    def the_ledger_agrees(self) -> None:
        if hasattr(self, "desk"):
            assert {h: s.seats for h, s in self.desk.ledger.state.seats.items()} == {
                handle: count for handle, (_, count) in self.held.items()
            }


TestUnderOptions = UnderOptions.TestCase
TestUnderOptions.settings = settings(max_examples=examples(30), stateful_step_count=20, deadline=None)

