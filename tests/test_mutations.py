"""The checks can fail: each rule of protocol.md, taken out of the real machines, is noticed."""

from __future__ import annotations

import pytest

from flexcore_testing.mutations import MUTATIONS, hunt


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_is_caught(mutation):
    catch = hunt(mutation)
    assert catch.check, f"rule {mutation.rule} was taken out ({mutation.text}) and nothing noticed"
    assert catch.check in mutation.caught_by
