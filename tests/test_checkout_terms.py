"""DUP_GROUP, suites, OVERDRAFT, node locks, platforms and named users: the words of a line, asked at a checkout."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flexcore.checkout import Denial, Grant
from flexcore.checkout.nodelock import lock_allows
from flexcore.checkout.sharing import normal_group
from flexcore.checkout.terms import platform_allows
from flexcore.ledger.commands import SessionEnded, SessionOpened
from tests.budget import examples
from tests.test_checkout_machine import Desk
from tests.test_entitlements import desk


def sit(made: Desk, name: str, user: str, host: str, display: str = ":0", **more: Any) -> bytes:
    key = name.encode()
    made.append(SessionOpened(key, b"s", user, host, display, "", 1, 33.0, True, **more))
    made.numbers[key] = 0
    return key


def test_what_dup_group_may_say() -> None:
    said = {
        "UHD": "UHD",
        "duh": "UHD",
        "V": "",
        "UV": "U",
        "SITE": "SITE",
        "NONE": "",
        "": "",
        "UX": "",
    }
    assert {text: normal_group(text) for text in said} == said


@pytest.mark.parametrize(
    ("group", "licences"),
    [
        ("U", 2), ("H", 2), ("D", 2), ("V", 8), ("UH", 4), ("UD", 4), ("HD", 4), ("UHD", 8), ("UHDV", 8),
        ("UV", 2), ("SITE", 1), ("NONE", 8),
    ],
)  # fmt: skip
def test_what_is_shared_and_counted_once(group: str, licences: int) -> None:
    """Two users at two hosts at two displays each: eight checkouts."""
    made = desk(f"FEATURE f demo 1.0 permanent {licences} DUP_GROUP={group}")
    for number in range(8):
        key = sit(
            made,
            f"s{number}",
            "ab"[number & 1],
            ["elm", "oak"][number >> 1 & 1],
            [":0", ":1"][number >> 2],
        )
        assert isinstance(made.out(key, "f"), Grant), number
    (pool,) = made.machine.rights.pools
    assert made.state.in_use[pool.key] == licences
    key = sit(made, "stranger", "c", "ash", ":9")
    assert isinstance(made.out(key, "f"), Grant if group == "SITE" else Denial)


def test_hosts_are_one_whatever_their_case_and_a_share_needs_no_free_licence() -> None:
    made = desk("FEATURE f demo 1.0 permanent 1 DUP_GROUP=H")
    one, two = sit(made, "1", "ann", "elm"), sit(made, "2", "bob", "ELM")
    first = made.out(one, "f").command.handle
    second = made.out(two, "f").command.handle
    assert first != second
    made.back(one, first)
    made.commit()
    other = sit(made, "3", "bob", "oak")
    assert made.out(other, "f").code == -4
    made.back(two, second)
    made.commit()
    assert isinstance(made.out(other, "f"), Grant)


SUITE = 'PACKAGE kit demo 1.0 COMPONENTS="draw print" OPTIONS=SUITE'


def test_a_suite_is_checked_out_with_its_first_component() -> None:
    made = desk(SUITE, "INCREMENT kit demo 1.0 permanent 2")
    ann, bob, eve = (
        sit(made, "1", "ann", "elm"),
        sit(made, "2", "bob", "oak"),
        sit(made, "3", "eve", "ash"),
    )
    assert isinstance(made.out(ann, "draw"), Grant)
    held = made.out(ann, "print").command.handle
    assert isinstance(made.out(bob, "draw"), Grant)
    denied = made.out(eve, "print")
    assert (denied.code, denied.detail) == (-4, "1 of 2 in use: ann@elm; of the suite kit 2 of 2")
    made.back(ann, held)
    made.commit()
    assert made.out(eve, "print").code == -4
    assert made.out(ann, "kit").code == -125
    made.append(SessionEnded(ann, ""))
    made.commit()
    assert isinstance(made.out(eve, "print"), Grant)


@pytest.mark.parametrize(
    ("words", "suites"),
    [
        ("", 2), ("SUITE_DUP_GROUP=SITE", 1), ("SUITE_DUP_GROUP=NONE", 4), ("DUP_GROUP=H", 1),
        ("DUP_GROUP=H SUITE_DUP_GROUP=U", 2),
    ],
)  # fmt: skip
def test_how_a_suite_is_shared(words: str, suites: int) -> None:
    made = desk(SUITE, f"INCREMENT kit demo 1.0 permanent 9 {words}")
    for user in ("ann", "bob"):
        key = sit(made, user, user, "elm")
        for name in ("draw", "print"):
            assert isinstance(made.out(key, name), Grant)
    (kit,) = [pool for pool in made.machine.rights.pools if pool.feature == "kit"]
    assert made.state.in_use[kit.key] == suites


def test_overdraft_is_there_beside_the_count() -> None:
    made = desk("FEATURE f demo 1.0 permanent 2 OVERDRAFT=1")
    assert isinstance(made.out(b"a", "f", count=3), Grant)
    assert made.out(b"b", "f").code == -4
    made = desk(
        'PACKAGE kit demo COMPONENTS="draw:1.0:3"', "FEATURE kit demo 1.0 permanent 2 OVERDRAFT=1"
    )
    assert isinstance(made.out(b"a", "draw", count=9), Grant)


@pytest.mark.parametrize("key", ["USER_BASED", "HOST_BASED=3"])
def test_nobody_is_named(key: str) -> None:
    denied = desk(f"FEATURE f demo 1.0 permanent 2 {key}").out(b"a", "f")
    assert (denied.code, "INCLUDE" in denied.detail) == (-84, True)


@pytest.mark.parametrize(
    ("wanted", "platform", "allowed"),
    [
        ("x64_lsb", "x64_lsb", True), ("i86_n x64_l", "x64_lsb", True), ("i86_l", "x64_lsb", False),
        ("x64_n", "", False), ("X64_N", "x64_n", True),
    ],
)  # fmt: skip
def test_platforms(wanted: str, platform: str, allowed: bool) -> None:
    made = desk(f'FEATURE f demo 1.0 permanent 2 PLATFORMS="{wanted}"')
    said = made.out(sit(made, "x", "ann", "elm", platform=platform), "f")
    assert isinstance(said, Grant) is allowed
    assert allowed or said.code == -89
    assert platform_allows(tuple(wanted.lower().split()), platform) is allowed


@pytest.mark.parametrize(
    ("lock", "allowed"),
    [
        ("00146c37f273", True), ("00:14:6C:37:F2:73", True), ("00146c37f274", False), ("17003456", True),
        ("INTERNET=10.1.*.*", True), ("INTERNET=10.2.*.*", False), ("DISK_SERIAL_NUM=ab-1", True),
        ('"000000000001 ID=7"', True), ("COMPOSITE=0123456789ab", False), ("ID=8", False),
    ],
)  # fmt: skip
def test_locks_to_what_the_machine_shows(lock: str, allowed: bool) -> None:
    made = Desk()
    shown = ("00146c37f273", "17003456", "INTERNET=10.1.2.3", "DISK_SERIAL_NUM=AB-1", "ID=7", "=")
    key = sit(made, "x", "ann", "elm", hostids=shown)
    assert lock_allows(lock, made.state.sessions[key]) is allowed
    assert not lock_allows(lock, made.state.sessions[b"a"])


# --- against the words, worked out slowly ---------------------------------------------------------------

LINES = (
    'PACKAGE kit demo 1.0 COMPONENTS="draw print" OPTIONS=SUITE',
    "INCREMENT kit demo 1.0 permanent 2 SUITE_DUP_GROUP=U",
    "FEATURE plain demo 1.0 permanent 3",
    "FEATURE user demo 1.0 permanent 3 DUP_GROUP=U",
    "FEATURE site demo 1.0 permanent 2 DUP_GROUP=SITE OVERDRAFT=1",
)
HAVE = {"kit": 2, "draw": 2, "print": 2, "plain": 3, "user": 3, "site": 3}
PEOPLE = {b"a1": "ann", b"a2": "ann", b"b1": "bob", b"e1": "eve"}


def taken(seats: list[tuple[bytes, str, int]]) -> Counter[str]:
    """How many licences of each feature *seats* are, by the words of the lines."""
    total: Counter[str] = Counter()
    for feature in ("plain", "draw", "print"):
        total[feature] = sum(count for _, name, count in seats if name == feature)
    for user in set(PEOPLE.values()):
        mine = [(name, count) for key, name, count in seats if PEOPLE[key] == user]
        total["user"] += max((count for name, count in mine if name == "user"), default=0)
        total["kit"] += max((count for name, count in mine if name in ("draw", "print")), default=0)
    total["site"] = max((count for _, name, count in seats if name == "site"), default=0)
    return total


class TermsAgainstWords(RuleBasedStateMachine):
    """Everything is committed at once; a checkout is granted exactly if the words leave room for it."""

    @initialize()
    def start(self) -> None:
        self.desk = desk(*LINES)
        for key, user in PEOPLE.items():
            sit(self.desk, key.decode(), user, "elm")
        self.held: dict[int, tuple[bytes, str, int]] = {}

    @rule(
        key=st.sampled_from(sorted(PEOPLE)),
        feature=st.sampled_from(sorted(HAVE)),
        count=st.integers(1, 3),
    )
    def check_out(self, key: bytes, feature: str, count: int) -> None:
        verdict = self.desk.out(key, feature, count=count)
        wanted = taken([*self.held.values(), (key, feature, count)])
        fits = feature != "kit" and all(wanted[name] <= HAVE[name] for name in HAVE)
        assert isinstance(verdict, Grant) is fits, verdict
        if isinstance(verdict, Grant):
            self.held[verdict.command.handle] = (key, feature, count)
        self.desk.commit()

    @rule(pick=st.integers(0, 1 << 16))
    def check_in(self, pick: int) -> None:
        if self.held:
            handle = sorted(self.held)[pick % len(self.held)]
            self.desk.back(self.held.pop(handle)[0], handle)
            self.desk.commit()

    @rule(key=st.sampled_from(sorted(PEOPLE)))
    def leave(self, key: bytes) -> None:
        self.desk.append(SessionEnded(key, ""))
        self.held = {handle: seat for handle, seat in self.held.items() if seat[0] != key}
        self.desk.stamp += 1000.0
        sit(self.desk, key.decode(), PEOPLE[key], "elm")
        self.desk.commit()

    @invariant()
    def the_books_say_the_same(self) -> None:
        if hasattr(self, "desk"):
            books: Counter[str] = Counter()
            for pool in self.desk.machine.rights.pools:
                books[pool.feature] += self.desk.state.in_use[pool.key]
            assert +books == +taken(list(self.held.values()))


TermsAgainstWords.TestCase.settings = settings(
    max_examples=examples(40), stateful_step_count=40, deadline=None
)
TestTerms = TermsAgainstWords.TestCase
