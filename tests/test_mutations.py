"""The checks can fail: each rule of protocol.md, taken out of the real machines, is noticed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flexcore_testing.mutations import MUTATIONS, hunt_many

NAMES = [mutation.name for mutation in MUTATIONS]
QUICK_NAMES = [mutation.name for mutation in MUTATIONS if not mutation.costly]
"""Which are hunted here; ``make mutants`` hunts all."""
CAUGHT_BY = {mutation.name: mutation.caught_by for mutation in MUTATIONS}
DOCUMENT = Path(__file__).parent.parent / "docs" / "mutations.rst"


@pytest.fixture(scope="module")
def catches(request):
    """All hunts of this run, on both cores; a single one is hunted here."""
    mine = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    wanted = [item.callspec.params["name"] for item in mine]
    return {catch.name: catch for catch in hunt_many(wanted, jobs=2 if len(wanted) > 1 else 1)}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK_NAMES)
def test_mutation_is_caught(catches, name):
    catch = catches[name]
    assert catch.check, f"{name} was taken out and nothing noticed"
    assert catch.check in CAUGHT_BY[name]


def test_there_are_enough_and_each_has_one_name():
    assert len(set(NAMES)) == len(NAMES) >= 40


def test_the_document_names_them_all():
    assert re.findall(r"^ +\* - ``(\w+)``", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE) == NAMES


def test_the_document_names_tests_that_exist():
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("test_*.py")))
    named = set(re.findall(r"``(test_\w+)``", DOCUMENT.read_text(encoding="utf-8")))
    assert len(named) >= 10
    assert [name for name in sorted(named) if f"def {name}(" not in text] == []
