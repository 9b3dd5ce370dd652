"""The checkout machine: pools against a plain dict, batches, node locks, numbers of requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from flexcore.checkout import CheckoutMachine, Denial, Grant, Repeat, Return, Withdrawal
from flexcore.checkout.nodelock import lock_allows
from flexcore.checkout.rights import PROOF_LINES_MAX, offer_on, version_key
from flexcore.ledger import RESULTS_MAX, Ledger
from flexcore.ledger.commands import Command, SessionEnded, SessionOpened
from flexcore.wire.codec import encode_command
from flexcore.wire.messages import Checkin, Checkout, Withdraw
from tests.budget import examples
from tests.server_kit import DAY, line, rights


class Desk:
    """A ledger, a machine, and sessions a, b, c: what an embedder writes."""

    def __init__(self, *lines: Any) -> None:
        self.ledger = Ledger()
        self.machine = CheckoutMachine(rights(*lines))
        self.stamp = 1.0
        self.numbers: dict[bytes, int] = {}
        for name in (b"a", b"b", b"c"):
            self.open(name)

    @property
    def state(self) -> Any:
        return self.ledger.state

    def append(self, command: Command) -> int:
        self.stamp += 1.0
        return self.ledger.append(1, self.stamp, encode_command(command), command)

    def open(self, name: bytes) -> None:
        self.append(
            SessionOpened(name, b"s", name.decode(), "pc.example.org", ":0", "", 1, 33.0, True)
        )
        self.numbers[name] = 0

    def commit(self) -> None:
        self.ledger.commit_to(self.ledger.last.index)

    def next(self, name: bytes) -> int:
        self.numbers[name] += 1
        return self.numbers[name]

    def ask(self, name: bytes, request: Checkout | Checkin | Withdraw) -> Any:
        ((_, verdict),) = self.machine.decide_batch(
            self.state, [(name, request)], self.append, day=DAY, now=0.0
        )
        return verdict

    def out(
        self,
        name: bytes,
        feature: str = "f1",
        version: str = "1.0",
        count: int = 1,
        answered: int | None = None,
    ) -> Any:
        number = self.next(name)
        seen = number - 1 if answered is None else answered
        return self.ask(name, Checkout(0, number, seen, feature, version, count, 0))

    def back(self, name: bytes, handle: int) -> Any:
        number = self.next(name)
        return self.ask(name, Checkin(0, number, number - 1, handle, 0))


def test_a_grant_comes_with_as_many_signed_lines_as_its_count_takes() -> None:
    lines = [line(seats=seats, signed_text=f"line of {seats}") for seats in (2, 1, 4)]
    over = line(seats=9, signed_text="over", expiry_day=DAY - 1)
    desk = Desk(*lines, over)
    assert desk.out(b"a", count=2).proof == "line of 2"
    assert desk.out(b"b", count=5).proof == "line of 2\nline of 4"
    again = desk.ask(b"b", Checkout(0, 1, 0, "f1", "", 5, 0))
    assert (type(again), again.proof) == (Repeat, "line of 2\nline of 4")
    assert Desk(*lines, over).out(b"a", count=7).proof == "line of 2\nline of 4\nline of 1"
    many = Desk(*[line(seats=1, signed_text=f"{number}") for number in range(100)])
    assert many.out(b"a", count=80).proof.count("\n") == PROOF_LINES_MAX - 1


# --- versions and days ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0", "1.1"),
        ("1.10", "1.9"),
        ("2.0", "10.0"),
        ("2025.1231", "2026.0101"),
        ("2026.06", "2026.1"),
    ],
)
def test_versions_compare_as_numbers(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)  # type: ignore[operator]
    desk = Desk(line(version=newer))
    assert isinstance(desk.out(b"a", version=older), Grant)
    desk = Desk(line(version=older))
    assert desk.out(b"a", version=newer).code == -25


@pytest.mark.parametrize("text", ["", "v1", "1.0a", "1.2.3", "١", "-1", "1e5", "9" * 100])
def test_what_is_no_version(text: str) -> None:
    assert version_key(text) is None


def test_a_pool_counts_the_lines_of_its_day() -> None:
    machine = CheckoutMachine(
        rights(
            line(seats=3, pool="p", expiry_day=DAY),
            line(seats=2, pool="p", start_day=DAY + 1),
            line(seats=4, pool="p", expiry_day=DAY + 5, signed_text="longest"),
        )
    )
    (pool,) = machine.rights.pools
    assert [offer_on(pool, day).seats for day in (DAY, DAY + 1, DAY + 6)] == [7, 6, 2]
    assert offer_on(pool, DAY).line.signed_text == "longest"
    assert machine.offers(DAY)["f1"][0].seats == 7
    assert machine.offers(DAY + 6)["f1"][0].seats == 2


def test_expired_and_early_pools_have_their_codes() -> None:
    (old,) = rights(line(expiry_day=DAY - 1)).pools
    (new,) = rights(line(start_day=DAY + 1)).pools
    assert (offer_on(old, DAY).refusal, offer_on(new, DAY).refusal) == (-10, -31)


def test_a_line_without_a_version_gives_no_rights() -> None:
    made = rights(line(version="x"))
    assert made.pools == ()
    assert made.rejected[0].is_error


# --- requests ------------------------------------------------------------------------------------


def test_requests_of_one_batch_see_each_other() -> None:
    desk = Desk(line(seats=2))
    batch = [(name, Checkout(0, 1, 0, "f1", "1.0", 1, 0)) for name in (b"a", b"b", b"c")]
    done = desk.machine.decide_batch(desk.state, batch, desk.append, day=DAY, now=0.0)
    assert [type(verdict) for _, verdict in done] == [Grant, Grant, Denial]
    assert [index > 0 for index, _ in done] == [True, True, False]
    assert done[2][1].detail == "2 of 2 in use: a@pc.example.org, b@pc.example.org"  # type: ignore[union-attr]


def test_an_unknown_session_is_denied() -> None:
    desk = Desk()
    assert desk.ask(b"x", Checkout(0, 1, 0, "f1", "1.0", 1, 0)).code == -41


def test_freed_seat_waits_for_commit() -> None:
    desk = Desk(line(seats=1))
    handle = desk.out(b"a").command.handle
    desk.commit()
    assert isinstance(desk.back(b"a", handle), Return)
    assert isinstance(desk.out(b"b"), Denial)
    desk.commit()
    assert isinstance(desk.out(b"b"), Grant)


def test_repeat_is_the_same_checkout() -> None:
    desk = Desk()
    first = desk.out(b"a", answered=0)
    again = desk.ask(b"a", Checkout(0, 1, 0, "f1", "1.0", 1, 0))
    assert isinstance(again, Repeat)
    assert again.command == first.command
    assert again.proof == first.proof
    assert len(desk.state.seats) == 1


def test_answered_number_is_refused() -> None:
    desk = Desk(line(seats=5))
    desk.out(b"a")
    desk.out(b"a")
    verdict = desk.ask(b"a", Checkout(0, 1, 0, "f1", "1.0", 1, 0))
    assert isinstance(verdict, Denial)
    assert len(desk.state.seats) == 2


def test_only_the_holder_gives_back() -> None:
    desk = Desk()
    handle = desk.out(b"a").command.handle
    assert desk.back(b"b", handle).code == -41
    assert desk.back(b"a", handle + 1).code == -41
    assert isinstance(desk.back(b"a", handle), Return)
    assert desk.back(b"a", handle).code == -41


def test_withdrawals() -> None:
    desk = Desk()
    desk.out(b"a", answered=0)
    number = desk.next(b"a")
    verdict = desk.ask(b"a", Withdraw(0, number, 0, 1, 0))
    assert isinstance(verdict, Withdrawal)
    assert verdict.seat.handle == 1  # type: ignore[union-attr]
    assert desk.ask(b"a", Checkout(0, 1, 0, "f1", "1.0", 1, 0)).code == -42
    assert isinstance(desk.ask(b"a", Withdraw(0, number, 0, 1, 0)), Repeat)
    assert desk.ask(b"a", Withdraw(0, desk.next(b"a"), 0, 99, 0)).code == -42


def test_open_requests_are_bounded() -> None:
    desk = Desk(line(seats=1000))
    for _ in range(RESULTS_MAX):
        assert isinstance(desk.out(b"a", answered=0), Grant)
    assert desk.out(b"a", answered=0).code == -23
    assert isinstance(desk.out(b"b"), Grant)


def test_denials_name_some_holders_and_say_how_many_more() -> None:
    desk = Desk(line(seats=20))
    for number in range(20):
        name = b"u%02d" % number
        desk.open(name)
        desk.out(name)
    detail = desk.out(b"a").detail
    assert detail.startswith("20 of 20 in use: u00@pc.example.org, u01@")
    assert detail.endswith(" and 12 more")


@pytest.mark.parametrize(
    ("lock", "allowed"),
    [
        ("ANY", True),
        ("DEMO", True),
        ("HOSTNAME=PC", True),
        ("HOSTNAME=pc.example.org", True),
        ("HOSTNAME=pc.other.org", False),
        ("HOSTNAME=", False),
        ("USER=a", True),
        ("USER=b", False),
        ("DISPLAY=:0", True),
        ("001122334455", False),
        ('"001122334455 USER=a"', True),
        ("", False),
    ],
)
def test_node_locks(lock: str, allowed: bool) -> None:
    desk = Desk()
    assert lock_allows(lock, desk.state.sessions[b"a"]) is allowed


def test_a_locked_pool_is_passed_over() -> None:
    desk = Desk(line(version="2.0", lock="USER=b"), line(version="1.0"))
    assert desk.out(b"a").command.pool == "f1 1.0"
    assert desk.out(b"b").command.pool == "f1 2.0"


# --- against a plain dict ------------------------------------------------------------------------

COUNTS = {"big": 7, "small": 2, "free": 0}
NAMES = st.sampled_from([b"a", b"b", b"c"])


class PoolsAgainstDict(RuleBasedStateMachine):
    """Grants, returns, withdrawals, ends and commits; the books are one dict of handles."""

    handles = Bundle("handles")

    @initialize()
    def start(self) -> None:
        self.desk = Desk(*(line(feature, seats) for feature, seats in COUNTS.items()))
        self.desk.commit()
        self.held: dict[int, tuple[bytes, str, int]] = {}
        self.freed = dict.fromkeys(COUNTS, 0)

    def in_use(self, feature: str) -> int:
        return sum(count for _, name, count in self.held.values() if name == feature)

    @rule(
        target=handles, name=NAMES, feature=st.sampled_from(sorted(COUNTS)), count=st.integers(1, 8)
    )
    def check_out(self, name: bytes, feature: str, count: int) -> Any:
        verdict = self.desk.out(name, feature, count=count)
        issued = COUNTS[feature]
        if issued == 0 or self.in_use(feature) + self.freed[feature] + count <= issued:
            assert isinstance(verdict, Grant)
            assert verdict.command.handle not in self.held
            self.held[verdict.command.handle] = (name, feature, count)
            return verdict.command.handle
        assert isinstance(verdict, Denial)
        assert verdict.code == (-26 if count > issued else -4)
        return multiple()

    @rule(handle=consumes(handles))
    def check_in(self, handle: int) -> None:
        known = self.held.pop(handle, None)
        name = known[0] if known else b"a"
        verdict = self.desk.back(name, handle)
        assert isinstance(verdict, Return if known else Denial)
        if known:
            self.freed[known[1]] += known[2]

    @rule(handle=handles, thief=NAMES)
    def steal(self, handle: int, thief: bytes) -> None:
        if handle in self.held and self.held[handle][0] != thief:
            assert self.desk.back(thief, handle).code == -41

    @rule(name=NAMES, count=st.integers(1, 3))
    def give_up(self, name: bytes, count: int) -> None:
        """Ask, and withdraw the request whatever came of it."""
        before = self.desk.numbers[name]
        verdict = self.desk.out(name, "big", count=count, answered=before)
        number = self.desk.next(name)
        withdrawn = self.desk.ask(name, Withdraw(0, number, before, number - 1, 0))
        assert isinstance(withdrawn, Withdrawal)
        assert (withdrawn.seat is not None) == isinstance(verdict, Grant)
        if isinstance(verdict, Grant):
            self.freed["big"] += count

    @rule(name=NAMES)
    def end_session(self, name: bytes) -> None:
        self.desk.append(SessionEnded(name, ""))
        for handle, (holder, feature, count) in list(self.held.items()):
            if holder == name:
                del self.held[handle]
                self.freed[feature] += count
        self.desk.stamp += 1000.0
        self.desk.open(name)

    @rule()
    def commit(self) -> None:
        self.desk.commit()
        self.freed = dict.fromkeys(COUNTS, 0)

    @invariant()
    def books_balance(self) -> None:
        if hasattr(self, "desk"):
            state = self.desk.state
            assert set(state.seats) == set(self.held)
            for feature in COUNTS:
                assert state.in_use[f"{feature} 1.0"] == self.in_use(feature)


PoolsAgainstDict.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
TestPools = PoolsAgainstDict.TestCase
