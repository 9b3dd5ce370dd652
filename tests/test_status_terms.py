"""What lmstat is told of suites and of what is shared."""

from __future__ import annotations

from flexcore.checkout import read_rights
from flexcore.licensefile import parse_license, sign_license
from flexcore.wire.messages import Granted
from tests.server_kit import Kit
from tests.test_entitlements import KEY, SERVER
from tests.test_license_server import pages


def kit_of(*lines: str) -> Kit:
    license = sign_license(parse_license(SERVER + "\n".join(lines) + "\n"), KEY)
    rights = read_rights(license, [KEY.verifying_key], vendor="demo")
    return Kit(*[line for pool in rights.pools for line in pool.lines])


def test_a_suite_shows_who_holds_its_components() -> None:
    kit = kit_of(
        'PACKAGE office demo 1.0 COMPONENTS="draw print" OPTIONS=SUITE',
        "INCREMENT office demo 1.0 permanent 3",
        "INCREMENT office demo 1.0 permanent 2 SN=2",
    )
    ann = kit.client()
    for feature in ("draw", "print"):
        assert isinstance(ann.checkout(feature), Granted)
    features, _ = pages(kit, "features")
    assert [(row.feature, row.count, row.in_use) for row in features] == [
        ("draw", 5, 1),
        ("office", 5, 1),
        ("print", 5, 1),
    ]
    seats, _ = pages(kit, "seats")
    shown = [(row.feature, row.handle) for row in seats]
    assert shown == [("draw", 1), ("office", 1), ("office", 2), ("print", 2)]
    assert len({(row.pool, row.handle) for row in seats}) == 4
    (office, again) = pages(kit, "seats", "office")[0]
    assert (office.feature, office.handle, again.handle) == ("office", 1, 2)
    assert [row.handle for row in pages(kit, "seats", "draw")[0]] == [1]
