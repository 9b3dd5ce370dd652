"""Exhaustive exploration: a tiny scope is complete and clean, and rules taken out are found with a short schedule."""

from __future__ import annotations

import pytest

from flexcore_testing import explore as command
from flexcore_testing.explore import explore, schedule_of
from flexcore_testing.explore_scopes import SCOPES
from flexcore_testing.explore_search import key_of


def test_a_tiny_scope_is_complete_and_clean() -> None:
    outcome = explore(SCOPES["tiny"])
    assert outcome.complete
    assert outcome.violation is None
    assert outcome.states > 300
    assert outcome.transitions > outcome.states


def test_two_explorations_are_one() -> None:
    one, two = explore(SCOPES["tiny"]), explore(SCOPES["tiny"])
    assert (one.states, one.transitions, one.depth) == (two.states, two.transitions, two.depth)


@pytest.mark.parametrize(
    ("mutation", "scope", "steps_max"),
    [("restart_forgets_promise", "restart", 10), ("vote_for_self_without_being_free", "delays", 8)],
)
def test_a_rule_taken_out_is_found(mutation: str, scope: str, steps_max: int) -> None:
    outcome = explore(SCOPES[scope], mutation=mutation, states_max=20_000)
    assert outcome.violation is not None
    assert outcome.violation.name in ("I2", "I6")
    assert len(outcome.choices) <= steps_max
    told = schedule_of(SCOPES[scope], outcome.choices, mutation=mutation)
    assert str(outcome.violation) in told
    assert "every invariant holds" in schedule_of(SCOPES[scope], outcome.choices)  # with the rule in force


def test_the_command_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--scope", "tiny", "--quiet"]) == 0
    assert "complete: every state within these bounds was visited" in capsys.readouterr().out
    assert command.main(["--scope", "small", "--quiet", "--states", "50"]) == 1
    assert "NOT complete" in capsys.readouterr().out
    found = ["--scope", "delays", "--quiet", "--mutation", "vote_for_self_without_being_free"]
    assert command.main(found) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert command.main(last.split("flexcore_testing.explore ")[1].split()) == 0
    assert "I6" in capsys.readouterr().out


def test_states_that_differ_have_other_keys() -> None:
    assert key_of((1, 2, 3)) != key_of((3, 2, 1))
    assert key_of((1, 2, 3)).bit_length() > 64
