"""SUPERSEDE, UPGRADE and PACKAGE: what a file's lines let people have, read by the server and again by the client."""

from __future__ import annotations

import datetime

import pytest

from flexcore.checkout import CheckoutMachine, Denial, Grant, read_rights
from flexcore.client.values import Seat
from flexcore.client.verify import Verifier
from flexcore.keys import SigningKey
from flexcore.licensefile import parse_license, sign_license
from flexcore.licensefile.entitlements import Entitlements, read_entitlements
from tests.test_checkout_machine import Desk

KEY = SigningKey("demo", b"entitlements".ljust(32, b"\0"))
SERVER = "SERVER elm ID=1 2837\nVENDOR demo\nVENDOR other\n"


def entitled(*lines: str) -> Entitlements:
    license = parse_license(SERVER + "\n".join(lines) + "\n")
    assert not license.errors
    return read_entitlements(license.signable_lines, license.hostids)


def counts(*lines: str) -> list[tuple[str, str, int]]:
    return [(each.line.name, each.line.version, each.line.count) for each in entitled(*lines).items]


def ignored(*lines: str) -> list[tuple[int, int, str]]:
    found = entitled(*lines).ignored
    return [(each.line.line - 3, each.because.line - 3, each.reason) for each in found]


def desk(*lines: str) -> Desk:
    license = sign_license(parse_license(SERVER + "\n".join(lines) + "\n"), KEY)
    made = Desk()
    made.machine = CheckoutMachine(read_rights(license, [KEY.verifying_key], vendor="demo"))
    return made


# --- SUPERSEDE ----------------------------------------------------------------------------------------

OLD = "FEATURE f demo 1.0 permanent 5 ISSUED=1-jan-2025 SN=1"
NEW = "FEATURE f demo 2.0 permanent 3 SUPERSEDE ISSUED=1-jan-2026 SN=2"


def test_supersede_takes_out_what_was_issued_earlier_wherever_it_stands() -> None:
    assert counts(OLD, NEW) == counts(NEW, OLD) == [("f", "2.0", 3)]
    assert ignored(OLD, NEW) == [(1, 2, "superseded")]


def test_supersede_leaves_what_was_issued_on_the_same_day_or_later() -> None:
    same = "INCREMENT f demo 1.0 permanent 7 ISSUED=1-jan-2026"
    later = "INCREMENT f demo 1.0 permanent 9 ISSUED=2-jan-2026"
    assert counts(NEW, same, later) == [("f", "2.0", 3), ("f", "1.0", 9), ("f", "1.0", 7)]


def test_a_line_without_a_date_was_issued_before_all_others() -> None:
    assert counts("INCREMENT f demo 1.0 permanent 7", NEW) == [("f", "2.0", 3)]
    assert counts("INCREMENT f demo 1.0 permanent 7 START=2-jan-2026", NEW)[-1] == ("f", "1.0", 7)


def test_supersede_with_a_list_names_other_features_and_not_its_own() -> None:
    lines = [
        "FEATURE a demo 1.0 permanent 1",
        "FEATURE b demo 1.0 permanent 2",
        "FEATURE c demo 1.0 permanent 3",
        'INCREMENT c demo 1.0 permanent 4 SUPERSEDE="a b" ISSUED=1-jan-2026',
    ]
    assert counts(*lines) == [("c", "1.0", 3), ("c", "1.0", 4)]


def test_supersede_without_issued_has_no_effect() -> None:
    assert len(counts(OLD, "INCREMENT f demo 2.0 permanent 3 SUPERSEDE")) == 2


def test_a_renewal_that_starts_later_supersedes_from_its_start() -> None:
    renewal = "INCREMENT f demo 1.0 permanent 3 SUPERSEDE ISSUED=1-jan-2026 START=1-feb-2026"
    found = entitled(OLD, renewal)
    assert [each.line.expiry for each in found.items] == [datetime.date(2026, 1, 31), None]
    assert found.ignored == ()


def test_lines_of_other_vendors_and_packages_are_not_superseded() -> None:
    other = OLD.replace("demo", "other")
    package = 'PACKAGE f demo COMPONENTS="x"'
    assert [each.line.vendor for each in entitled(other, NEW, package).items] == [
        "demo",
        "other",
        "demo",
    ]


def test_packages_supersede_packages() -> None:
    first = 'PACKAGE kit demo COMPONENTS="a" ISSUED=1-jan-2025'
    second = 'PACKAGE kit demo COMPONENTS="b" SUPERSEDE ISSUED=1-jan-2026'
    assert counts(first, second, "FEATURE kit demo 1.0 permanent 1") == [
        ("b", "1.0", 1),
        ("kit", "1.0", 1),
    ]


# --- UPGRADE ------------------------------------------------------------------------------------------


def test_an_upgrade_takes_from_the_closest_line_above() -> None:
    lines = [
        "INCREMENT f demo 1.0 permanent 5",
        "INCREMENT f demo 1.5 permanent 4",
        "UPGRADE f demo 1.0 2.0 31-dec-2030 3",
        "INCREMENT f demo 1.2 permanent 9",
    ]
    assert counts(*lines) == [("f", "2.0", 3), ("f", "1.5", 1), ("f", "1.2", 9), ("f", "1.0", 5)]
    new = entitled(*lines).items[0]
    assert (new.line.expiry, len(new.sources)) == (datetime.date(2030, 12, 31), 2)


def test_an_upgrade_gives_no_more_than_the_line_had() -> None:
    assert counts("FEATURE f demo 1.0 permanent 5", "UPGRADE f demo 1.0 2.0 permanent 99") == [
        ("f", "2.0", 5)
    ]


@pytest.mark.parametrize("version", ["0.9", "2.0", "2.1"])
def test_an_upgrade_outside_its_range_gives_nothing(version: str) -> None:
    line = f"FEATURE f demo {version} permanent 5"
    assert counts(line, "UPGRADE f demo 1.0 2.0 permanent 2") == [("f", version, 5)]


def test_upgrades_follow_each_other_and_keep_the_attributes() -> None:
    lines = [
        "FEATURE f demo 1.0 permanent 5 HOSTID=ID=7 SN=1",
        "UPGRADE f demo 1.0 2.0 permanent 3 SN=2",
        "UPGRADE f demo 2.0 3.0 permanent 1",
    ]
    assert counts(*lines) == [("f", "1.0", 2), ("f", "3.0", 1), ("f", "2.0", 2)]
    for each in entitled(*lines).items:
        assert each.line.hostid == "ID=7"
    assert [each.line.value("SN") for each in entitled(*lines).items] == ["1", "2", "2"]


def test_uncounted_lines_are_upgraded_whole_or_in_part() -> None:
    line = "FEATURE f demo 1.0 permanent uncounted HOSTID=ANY"
    assert counts(line, "UPGRADE f demo 1.0 2.0 permanent uncounted") == [("f", "2.0", 0)]
    assert counts(line, "UPGRADE f demo 1.0 2.0 permanent 2") == [("f", "1.0", 0), ("f", "2.0", 2)]


# --- PACKAGE ------------------------------------------------------------------------------------------

KIT = 'PACKAGE kit demo 1.0 COMPONENTS="draw solid:3.0 print:2.0:4"'
ENABLES = "INCREMENT kit demo 1.0 permanent 3"


@pytest.mark.parametrize("lines", [(KIT, ENABLES), (ENABLES, KIT)])
def test_a_package_gives_its_components(lines: tuple[str, ...]) -> None:
    assert counts(*lines) == [
        ("draw", "1.0", 3),
        ("kit", "1.0", 3),
        ("print", "2.0", 12),
        ("solid", "3.0", 3),
    ]


def test_a_package_alone_or_of_another_version_licenses_nothing() -> None:
    assert counts(KIT) == []
    other = "INCREMENT kit demo 2.0 permanent 3"
    assert counts(KIT, other) == [("kit", "2.0", 3)]
    assert len(counts(KIT.replace("kit demo 1.0", "kit demo"), other)) == 4


def test_the_package_itself_is_not_checked_out() -> None:
    denied = desk(KIT, ENABLES).out(b"a", "kit")
    assert (denied.code, denied.detail) == (
        -125,
        "kit is a package: check out one of its components",
    )
    assert desk(ENABLES).out(b"a", "kit").command.pool


def test_components_expire_with_the_package() -> None:
    made = desk(KIT, ENABLES.replace("permanent", "1-jan-2020"))
    assert [made.out(b"a", name).code for name in ("draw", "kit")] == [-10, -10]


def test_lines_of_a_package_add_up() -> None:
    made = desk(KIT, ENABLES, "INCREMENT kit demo 1.0 permanent 2 SN=2")
    granted = made.out(b"a", "draw", count=5)
    assert isinstance(granted, Grant)
    assert granted.proof.count("PACKAGE kit") == 1
    assert isinstance(made.out(b"a", "draw"), Denial)


# --- the client's look at a grant ---------------------------------------------------------------------


def problem(proof: str, feature: str, count: int) -> str:
    seat = Seat(1, feature, "1.0", count, 0.0, 0, proof, ("id=1",))
    return Verifier((KEY.verifying_key,), "demo").problem_with(seat)


def test_the_client_accepts_what_the_lines_say_together_and_no_more() -> None:
    made = desk(
        KIT, ENABLES, "FEATURE f demo 1.0 permanent 5", "UPGRADE f demo 1.0 2.0 permanent 3"
    )
    for feature, version, most in (("draw", "", 3), ("print", "", 12), ("f", "2.0", 3)):
        proof = made.out(b"a", feature, version, count=1).proof
        assert proof.count("\n") == 1
        assert problem(proof, feature, most) == "", feature
        assert problem(proof, feature, most + 1) == (
            f"the publisher signed {most} licences, the server granted {most + 1}"
        )
    proof = made.out(b"a", "draw").proof
    assert "the line of kit" in problem(proof, "kit", 1)
    assert "the line of kit" in problem(proof, "other", 1)
    for text in proof.split("\n"):
        assert "with a grant of draw" in problem(text, "draw", 1)
