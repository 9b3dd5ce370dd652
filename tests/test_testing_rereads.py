"""Licence files that change under a product's tests: ``flexcore_testing.Triad.reread``."""

from __future__ import annotations

import pytest

from flexcore.errors import CheckoutDenied, LicenseError
from flexcore_testing import Triad
from flexcore_testing.licences import HOSTIDS, triad_text


@pytest.fixture
def triad():
    return Triad(features={"f1": 3, "f2": 1}, heartbeat_interval_s=1)


def test_a_new_file_on_all_three(triad):
    ann = triad.client("ann")
    seats = [ann.checkout("f1"), ann.checkout("f1"), ann.checkout("f2")]
    said = triad.reread(features={"f1": 1, "f3": 2})
    assert said == dict.fromkeys(("primary", "secondary", "tertiary"),
                                 "reread completed: 1 added, 1 removed, 1 changed")  # fmt: skip
    assert [seat.held for seat in seats] == [True] * 3
    ann.checkout("f3")
    for feature, code in (("f1", -4), ("f2", -5)):
        with pytest.raises(CheckoutDenied) as denied:
            ann.checkout(feature)
        assert denied.value.code == code
    assert triad.in_use("f2") == 1
    triad.crash(triad.master)
    triad.wait_for_master()
    ann.checkout("f3")
    assert [seat.held for seat in seats] == [True] * 3
    triad.check()


def test_one_after_the_other_with_a_failover_between(triad):
    said = triad.reread(features={"f1": 1}, server="secondary")
    assert said == {"secondary": "reread completed: 1 removed, 1 changed"}
    triad.crash("primary")
    assert triad.wait_for_master() == "secondary"
    triad.client("ann").checkout("f2")  # the old lines are in force, and the secondary has read them
    assert triad.reread(features={"f1": 1}, server="primary") == {}, "it is down, and reads the file when it starts"
    triad.start("primary")
    triad.advance(2.0)
    with pytest.raises(CheckoutDenied):
        triad.client("ann").checkout("f2")
    triad.check()


def test_files_that_are_not_taken(triad):
    with pytest.raises(LicenseError):
        triad.reread(triad_text({"f1": 9}).replace("SERVER", "#SERVER", 2))
    moved = triad_text({"f1": 9}).replace(HOSTIDS[2], "17009999")
    said = triad.reread(moved)
    assert all("was not taken: it names other hostids" in text for text in said.values())
    assert len(said) == 3
    assert triad.reread(features={"f1": 3, "f2": 1}, server="tertiary") == {"tertiary": "reread completed: no change"}
