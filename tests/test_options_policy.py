"""What an options file decides: patterns, precedence, the arithmetic of RESERVE, against a slow model."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore import ErrorCode, parse_license
from flexcore.options import Holder, Policy, PoolUse, Requester, make_policy, parse_options
from flexcore.options.lint import pools_of
from flexcore.options.patterns import glob_matches, parse_address_pattern, same_host
from flexcore.options.policy import PoolFacts, pool_facts
from flexcore.options.reservations import Filling, clipped
from tests.budget import examples

ANN = Requester("ann", "elm", ":0", "10.0.0.7", "apollo")
BOB = Requester("bob", "oak.example.org", "", "2001:db8::7")
CARL = Requester("carl", "fir")


def policy_of(text: str, *pools: PoolFacts) -> Policy:
    options = parse_options(text, name="demo.opt")
    assert not options.errors, options.errors
    return make_policy(options, pools or (PoolFacts("p1", "f1", 5),))


def answer(
    policy: Policy, who: Requester, count: int = 1, *, total: int | None = 5,
    held: tuple[tuple[Requester, int], ...] = (), pending: int = 0, pool: str = "p1",
) -> int:  # fmt: skip
    use = PoolUse(tuple(Holder(*each) for each in held), pending)
    refusal = policy.refusal(
        pool, who, count, total=total, used=use.seats, tally=policy.tally({pool: use})
    )
    return 0 if refusal is None else int(refusal.code)


# --- whom a rule is about ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ("USER ann", "ann"), ("USER Ann", ""), ("USER *", "ann bob carl"), ("USER ?o*", "bob"),
        ("HOST elm", "ann"), ("HOST ELM", "ann"), ("HOST elm.example.org", "ann"),
        ("HOST oak", "bob"), ("HOST oak.example.com", ""), ("HOST *.example.org", "bob"),
        ("HOST 10.0.0.*", "ann"), ("HOST *", "ann bob carl"), ("DISPLAY :0", "ann"),
        ("INTERNET 10.0.0.7", "ann"), ("INTERNET 10.*.*.7", "ann"), ("INTERNET 10.*", "ann"),
        ("INTERNET 10.0.1.*", ""), ("INTERNET 2001:db8:*", "bob"), ("INTERNET 2001:DB8::7", "bob"),
        ("INTERNET 2001:db8::*", "bob"), ("INTERNET 2001:db9:*", ""), ("INTERNET *", "ann bob"),
        ("PROJECT apollo", "ann"), ("GROUP dev", "ann carl"), ("HOST_GROUP lab", "ann bob"),
        ("GROUP none", ""),
    ],
)  # fmt: skip
def test_subjects(subject: str, names: str) -> None:
    text = f"GROUP dev ann c*\nHOST_GROUP lab oak 10.0.0.*\nEXCLUDE f1 {subject}\n"
    policy = policy_of(text)
    shut = [who.user for who in (ANN, BOB, CARL) if answer(policy, who) == ErrorCode.EXCLUDED]
    assert " ".join(shut) == names


def test_settings_of_matching() -> None:
    assert answer(policy_of("GROUP g ANN\nEXCLUDE f1 GROUP g"), ANN) == 0
    assert answer(policy_of("GROUP g AN?\nEXCLUDE f1 GROUP g\nGROUPCASEINSENSITIVE ON"), ANN) == -38
    assert answer(policy_of("EXCLUDE f1 HOST oak\nFQDN_MATCHING LENIENT"), BOB) == -38
    assert answer(policy_of("EXCLUDE f1 HOST oak\nFQDN_MATCHING EXACT"), BOB) == 0


def test_addresses() -> None:
    assert parse_address_pattern("10.*.3") is None
    assert parse_address_pattern("256.*") is None
    assert parse_address_pattern("1.2.3.4.*") is None
    assert parse_address_pattern("::*:1:2:3:4:5:6:7:8") is None
    assert parse_address_pattern("2001:db8:*:0:0:0:0:7") == (6, (0x2001, 0xDB8, None, 0, 0, 0, 0, 7))
    mapped = Requester("x", "y", "", "::ffff:10.0.0.7")
    assert answer(policy_of("EXCLUDE f1 INTERNET 10.0.0.*"), mapped) == -38
    assert answer(policy_of("EXCLUDE f1 INTERNET 10.0.0.*"), Requester("x", "y", "", "nonsense")) == 0


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_are_those_of_everybody(pattern: str, text: str) -> None:
    assert glob_matches(pattern, text) == fnmatchcase(text, pattern)


def test_a_short_host_is_not_any_host() -> None:
    assert not same_host("*.example.org", "elm")
    assert same_host("elm*", "elm1.example.org")


# --- precedence -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ann", "bob"),
    [
        ("", 0, 0),
        ("EXCLUDE f1 USER ann", -38, 0),
        ("EXCLUDE f2 USER ann", 0, 0),
        ("EXCLUDEALL USER ann", -38, 0),
        ("INCLUDE f1 USER ann", 0, -39),
        ("INCLUDEALL USER ann", 0, -39),
        ("INCLUDEALL USER ann\nINCLUDE f1 USER bob", 0, 0),
        ("INCLUDEALL USER ann\nINCLUDE f2 USER bob", 0, -39),
        ("INCLUDE f1 USER ann\nEXCLUDE f1 USER ann", -38, -39),
        ("EXCLUDE f1 USER ann\nINCLUDE f1 USER ann", -38, -39),
        ("INCLUDE f1 USER ann\nEXCLUDEALL HOST oak", 0, -38),
        ("INCLUDE f1 GROUP nobody", -39, -39),
        ("INCLUDE_BORROW f1 USER carl\nEXCLUDE_BORROW f1 USER ann", 0, 0),
        ("EXCLUDE_ENTITLEMENT f1 USER ann\nINCLUDEALL_ENTITLEMENT USER ann", 0, 0),
        ("MAX 0 f1 USER ann", -87, 0),
    ],
)
def test_precedence(text: str, ann: int, bob: int) -> None:
    policy = policy_of(text)
    assert (answer(policy, ANN), answer(policy, BOB)) == (ann, bob)
    assert answer(policy, BOB, total=None) == bob  # an uncounted pool has the same gate


def test_who_holds_what_is_asked_only_where_a_rule_needs_it() -> None:
    two = PoolFacts("p1", "f1", 5), PoolFacts("p2", "f2", 5)
    policy = policy_of("EXCLUDE f1 USER ann\nMAX 1 f2 USER carl\n", *two)
    assert policy.counted_pools == ("p2",)
    assert policy.refusal("p1", BOB, 1, total=5) is None


def test_borrowing_has_rules_of_its_own() -> None:
    policy = policy_of("EXCLUDE_BORROW f1 USER ann\nINCLUDE_BORROW f1 USER bob")
    said = [policy.borrow_refusal("p1", who) for who in (ANN, BOB, CARL)]
    assert [None if each is None else int(each.code) for each in said] == [-38, None, -39]


def test_a_refusal_names_its_rule_the_numbers_and_the_holders() -> None:
    policy = policy_of("GROUP g ann bob\nMAX 2 f1 GROUP g\nEXCLUDE f1 USER carl\nRESERVE 2 f1 USER ann")
    use = PoolUse((Holder(ANN, 1), Holder(BOB, 1), Holder(CARL, 2)))

    def detail(who: Requester) -> str:
        refusal = policy.refusal("p1", who, 1, total=5, used=use.seats, tally=policy.tally({"p1": use}))
        assert refusal is not None
        return refusal.detail

    assert detail(CARL) == "demo.opt:3: EXCLUDE f1 USER carl"
    assert detail(ANN) == "demo.opt:2: MAX 2 f1 GROUP g: 2 in use by ann@elm, bob@oak.example.org"
    assert detail(Requester("dora", "yew")) == (
        "4 of 5 in use by ann@elm, bob@oak.example.org, carl@fir (2);"
        " 1 reserved by demo.opt:4: RESERVE 2 f1 USER ann"
    )
    many = policy_of("".join(f"INCLUDE f1 USER u{i}\n" for i in range(9)))
    said = many.refusal("p1", ANN, 1, total=5, tally=many.tally())
    assert said is not None
    assert said.detail.startswith("not in demo.opt:1: INCLUDE f1 USER u0, demo.opt:2")
    assert said.detail.endswith(" and 6 more")


# --- pools ------------------------------------------------------------------------------------------------------

LICENSE = parse_license(
    "SERVER elm ANY 27000\nVENDOR demo\n"
    'FEATURE f1 demo 2.0 permanent 2 VENDOR_STRING="a b" SIGN=1\n'
    'INCREMENT f1 demo 1.0 permanent 3 VENDOR_STRING="c" SIGN="00 11"\n'
    "FEATURE f2 demo 1.0 1-jan-2030 uncounted HOSTID=ANY SIGN=3\n"
)


@pytest.mark.parametrize(
    ("spec", "refused"),
    [
        ("f1", [0, 1]), ("f1:VERSION=2.00", [0]), ("f1:VERSION=1", [1]), ("f1:VERSION=x", []),
        ('f1:vendor_string="A  B"', [0]), ("f1:SIGN=0011", [1]), ("f1:NOTICE=x", []),
        ("f2:EXPDATE=1-jan-2030", [2]), ("f2:HOSTID=ANY", [2]), ("F1", []),
    ],
)  # fmt: skip
def test_a_specification_picks_pools(spec: str, refused: list[int]) -> None:
    pools = pools_of(LICENSE)
    policy = make_policy(parse_options(f"EXCLUDE {spec} USER *"), pools)
    assert [i for i, each in enumerate(pools) if policy.decides(each.pool)] == refused


def test_max_counts_all_pools_that_it_means() -> None:
    pools = PoolFacts("p1", "f1", 5), PoolFacts("p2", "f1", 5)
    policy = policy_of("MAX 3 f1 USER ann", *pools)
    uses = {"p1": PoolUse((Holder(ANN, 2),)), "p2": PoolUse((Holder(ANN, 1), Holder(BOB, 2)))}
    said = policy.refusal("p1", ANN, 1, total=5, tally=policy.tally(uses))
    assert said is not None
    assert said.code == ErrorCode.EXCEEDS_MAX
    assert policy.refusal("p1", BOB, 1, total=5, tally=policy.tally(uses)) is None


def test_a_reservation_fills_pools_in_their_order() -> None:
    pools = PoolFacts("p1", "f1", 2), PoolFacts("p2", "f1", 3)
    policy = policy_of("RESERVE 4 f1 USER ann\nRESERVE 9 f1 USER bob", *pools)
    kept = [[(rule.line, seats) for rule, seats in policy.reservations(p.pool, p.total, policy.tally())]
            for p in pools]  # fmt: skip
    assert kept == [[(1, 2)], [(1, 2), (2, 1)]]
    # on a day on which less is licensed, the first line has the first claim
    assert [seats for _, seats in policy.reservations("p2", 2, policy.tally())] == [2]


def test_numbers() -> None:
    text = "TIMEOUTALL 3600\nTIMEOUT f1 1800\nLINGER f1 60\nMAX_BORROW_HOURS f1 24\nMAX_BORROW_HOURS f1 12\nBORROW_LOWWATER f1 3\nMAX_OVERDRAFT f1 2"  # noqa: E501
    policy = policy_of(text, PoolFacts("p1", "f1", 5), PoolFacts("p2", "f2", 5))
    assert (policy.timeout_s("p1"), policy.timeout_s("p2"), policy_of("").timeout_s("p1")) == (1800, 3600, 0)
    assert (policy.linger_s("p1"), policy.linger_s("p1", 90), policy.linger_s("p2", 5)) == (60, 90, 5)
    assert (policy.borrow_hours_max("p1", 168), policy.borrow_hours_max("p2", 168)) == (12, 168)
    assert (policy.borrow_low_water("p1"), policy.borrow_low_water("p2")) == (3, 0)
    assert (policy.overdraft_max("p1", 5), policy.overdraft_max("p1", 1)) == (2, 1)
    assert not policy.decides("p1")
    assert [rule.subject.name for rule in policy_of("INCLUDE f1 USER ann").included("p1")] == ["ann"]


def test_facts_of_a_pool_that_has_an_uncounted_line() -> None:
    assert pool_facts("x", [LICENSE.features[2]]).total == 0
    assert pool_facts("x", LICENSE.features[:2]).total == 5


# --- reservations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "pending", "who", "count", "code"),
    [
        ((), 0, CARL, 3, 0),
        ((), 0, CARL, 4, -101),
        ((), 0, ANN, 5, 0),
        (((CARL, 3),), 0, CARL, 1, -101),
        (((CARL, 3),), 0, ANN, 2, 0),
        (((CARL, 3),), 0, ANN, 3, -4),
        (((ANN, 2), (CARL, 3)), 0, ANN, 1, -4),
        (((ANN, 2),), 0, ANN, 3, 0),
        (((ANN, 2),), 0, CARL, 3, 0),
        (((ANN, 4),), 0, CARL, 1, 0),
        # who held them before the line was written keeps them, and the reserved seat that comes free is ann's
        (((CARL, 4),), 0, ANN, 1, 0),
        (((CARL, 4),), 0, CARL, 1, -101),
        (((CARL, 4),), 1, ANN, 1, -4),
    ],
)  # fmt: skip
def test_reserve(
    held: tuple[tuple[Requester, int], ...], pending: int, who: Requester, count: int, code: int
) -> None:
    policy = policy_of("RESERVE 2 f1 USER ann")
    assert answer(policy, who, count, held=held, pending=pending) == code


def test_reservations_are_filled_as_well_as_possible() -> None:
    """bob could sit on either; he makes room for carl, whichever of the two came first."""
    policy = policy_of("GROUP a ann bob\nGROUP b bob carl\nRESERVE 1 f1 GROUP a\nRESERVE 1 f1 GROUP b")
    for held in (((BOB, 1), (ANN, 1)), ((ANN, 1), (BOB, 1)), ((BOB, 1), (CARL, 1))):
        assert answer(policy, Requester("dora", "yew"), 3, held=held) == 0


class World(NamedTuple):
    """Sizes of reservations, whom each is for, the count, who holds what, and who wants how many."""

    sizes: tuple[int, ...]
    members: tuple[frozenset[str], ...]
    total: int
    held: tuple[tuple[str, int], ...]
    user: str
    wanted: int


USERS = ("ann", "bob", "carl")
WORLDS = st.builds(
    World,
    sizes=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    members=st.tuples(*[st.frozensets(st.sampled_from(USERS))] * 3),
    total=st.integers(1, 6),
    held=st.lists(st.tuples(st.sampled_from(USERS), st.integers(1, 2)), max_size=3).map(tuple),
    user=st.sampled_from(USERS),
    wanted=st.integers(1, 3),
)


def most_filled(sizes: tuple[int, ...], members: tuple[frozenset[str], ...], seats: list[str]) -> int:
    """Try every way to lay each seat into a reservation or into none."""
    best = 0
    for way in product(range(-1, len(sizes)), repeat=len(seats)):
        laid = [way.count(number) for number in range(len(sizes))]
        legal = all(number < 0 or user in members[number] for user, number in zip(seats, way, strict=True))
        if legal and all(n <= size for n, size in zip(laid, sizes, strict=True)):
            best = max(best, sum(laid))
    return best


def model_code(world: World) -> int:
    """The rule in one sentence: afterwards, what is held and what is kept fit into the count; or all
    seats that were asked for fill reservations, and there are that many."""
    sizes = []
    left = world.total
    for size in world.sizes:
        sizes.append(min(size, left))
        left -= sizes[-1]
    seats = [user for user, count in world.held for _ in range(count)]
    more = seats + [world.user] * world.wanted
    kept_before = sum(sizes) - most_filled(tuple(sizes), world.members, seats)
    kept_after = sum(sizes) - most_filled(tuple(sizes), world.members, more)
    if not any(world.sizes):
        return 0  # nothing decides: the count itself is the checkout's business
    if len(more) > world.total:
        return -4
    if kept_before - kept_after == world.wanted or len(more) + kept_after <= world.total:
        return 0
    return -101


@given(WORLDS)
def test_reserve_against_a_slow_model(world: World) -> None:
    text = "".join(
        f"GROUP g{i} {' '.join(sorted(world.members[i]))}\nRESERVE {size} f1 GROUP g{i}\n"
        for i, size in enumerate(world.sizes)
    )
    policy = policy_of(text, PoolFacts("p1", "f1", world.total))
    people = {user: Requester(user, "pc") for user in USERS}
    held = tuple((people[user], count) for user, count in world.held)
    code = answer(policy, people[world.user], world.wanted, total=world.total, held=held)
    assert code == model_code(world)
    assert code == answer(policy, people[world.user], world.wanted, total=world.total, held=held[::-1])


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.lists(st.tuples(st.frozensets(st.integers(0, 3)), st.integers(1, 3)), max_size=4),
)
def test_filling_is_undisturbed_by_copies_and_adds_up(
    sizes: list[int], kinds: list[tuple[frozenset[int], int]]
) -> None:
    filling = Filling(sizes)
    filled = 0
    for members, seats in kinds:
        kind = tuple(sorted(number for number in members if number < len(sizes)))
        before = filling.unfilled
        twin = filling.copy()
        filled += filling.add(kind, seats)
        assert twin.unfilled == before
        assert twin.add(kind, seats) == before - filling.unfilled
        assert filling.unfilled == sum(sizes) - filled >= 0
        assert all(filling.unfilled_of(number) >= 0 for number in range(len(sizes)))


@settings(max_examples=examples(40))
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
    st.lists(st.tuples(st.frozensets(st.integers(0, 3)), st.integers(-2, 3)), max_size=12),
)
def test_filling_after_removals_is_that_of_who_is_left(
    sizes: list[int], moves: list[tuple[frozenset[int], int]]
) -> None:
    filling = Filling(sizes)
    held: dict[tuple[int, ...], int] = {}
    for members, seats in moves:
        kind = tuple(sorted(number for number in members if number < len(sizes)))
        seats = max(seats, -held.get(kind, 0))
        held[kind] = held.get(kind, 0) + seats
        if seats < 0:
            filling.remove(kind, -seats)
        else:
            filling.add(kind, seats)
        anew = Filling(sizes)
        for each, count in held.items():
            anew.add(each, count)
        assert filling.unfilled == anew.unfilled == sum(filling.unfilled_of(n) for n in range(len(sizes)))
        assert filling.room_for(kind, 2) == anew.copy().add(kind, 2)
        assert filling.room_for(kind, 1) == anew.add(kind, 1)


def test_the_first_lines_have_the_first_claim() -> None:
    assert clipped((2, 3, 4), 6) == (2, 3, 1)
    assert clipped((2, 3), 0) == (0, 0)


# --- all of it against a slow model ------------------------------------------------------------------------------

SUBJECTS = ("USER ann", "USER *", "USER b*", "HOST elm", "GROUP g")
LINES = st.one_of(
    st.tuples(st.sampled_from(["INCLUDE", "EXCLUDE"]), st.just(0), st.sampled_from(SUBJECTS)),
    st.tuples(st.sampled_from(["INCLUDEALL", "EXCLUDEALL"]), st.just(0), st.sampled_from(SUBJECTS)),
    st.tuples(st.just("MAX"), st.integers(0, 4), st.sampled_from(SUBJECTS)),
)


def named(subject: str, who: Requester) -> bool:
    kind, name = subject.split()
    value = who.host if kind == "HOST" else who.user
    return value in ("ann", "carl") if kind == "GROUP" else fnmatchcase(value, name)


@given(
    st.lists(LINES, max_size=5),
    st.lists(st.tuples(st.sampled_from([ANN, BOB, CARL]), st.integers(1, 2)), max_size=4),
    st.sampled_from([ANN, BOB, CARL]),
    st.integers(1, 3),
)
def test_access_and_max_against_a_slow_model(
    lines: list[tuple[str, int, str]], held: list[tuple[Requester, int]], who: Requester, count: int
) -> None:
    text = "".join(
        f"{keyword}{'' if keyword.endswith('ALL') else f' {number} f1' if keyword == 'MAX' else ' f1'} {subject}\n"
        for keyword, number, subject in lines
    )
    includes = [subject for keyword, _, subject in lines if keyword.startswith("INCLUDE")]
    if any(k.startswith("EXCLUDE") and named(subject, who) for k, _, subject in lines):
        wanted = -38
    elif includes and not any(named(subject, who) for subject in includes):
        wanted = -39
    elif any(
        keyword == "MAX" and named(subject, who)
        and sum(seats for one, seats in held if named(subject, one)) + count > number
        for keyword, number, subject in lines
    ):  # fmt: skip
        wanted = -87
    else:
        wanted = 0
    assert answer(policy_of(text + "GROUP g ann carl\n"), who, count, total=99, held=tuple(held)) == wanted
