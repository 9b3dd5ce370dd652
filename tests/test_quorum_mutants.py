"""protocol.md section 5, rows that random weather seldom meets: a rule taken out makes the test that shows it fail.

The other rows are hunted by the simulation (``python -m flexcore_testing.mutations``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flexcore.identity import NOBODY
from flexcore.quorum.catchup import CatchUp
from flexcore.quorum.elections import Elections
from flexcore.quorum.forming import Forming
from flexcore.quorum.links import Links
from flexcore.quorum.membership import Membership
from flexcore.quorum.promises import Promises
from flexcore.quorum.recovery import Recovery
from flexcore.quorum.rivals import Rivals
from flexcore.quorum.rounds import Rounds
from tests import (
    test_quorum_catchup,
    test_quorum_elections,
    test_quorum_forming,
    test_quorum_promises,
    test_quorum_recovery,
    test_quorum_rounds,
)

PROMISE = Promises._promise


def refusal_at_any_time(self: Any, rank: Any, refused: bool, now: float) -> None:
    peer = self.peers[rank]
    peer.dialling = False
    peer.redial_at = now + 1.0
    peer.gone = peer.gone or refused


def void_for_ever(self: Any, to: Any, now: float) -> float:
    void = self.promise_void
    length = PROMISE(self, to, now)
    self.promise_void = void
    return length


def nothing(*_: Any, **__: Any) -> None:
    return None


def always(*_: Any, **__: Any) -> bool:
    return True


def never(*_: Any, **__: Any) -> bool:
    return False


def not_spent(self: Any, term: int) -> None:
    self.hard.term = term
    self.hard.voted_for = NOBODY


def wait_of_memory(self: Any, master: Any, now: float) -> None:
    if master is None:
        self.no_promise_before = self.boot_at + self.longest_heard_s


def glued(self: Any, pull: Any, body: Any) -> bool:
    if pull.prev is None:
        pull.prev = body.prev
    pull.rows.extend(body.entries)
    pull.from_index = pull.newest.index + 1
    pull.until_index = self._pull_end(pull, body)
    return True


def agreed_for_ever(self: Any, endpoint: Any, now: float) -> None:
    self.master = endpoint


def what_was_sent(self: Any, body: Any, match: int) -> Any:
    return self.ledger.last


@pytest.mark.parametrize(
    ("owner", "name", "replacement", "shown_by"),
    [
        (Links, "_dial_failed", refusal_at_any_time,
         test_quorum_promises.test_an_attempt_begun_before_the_end_is_no_evidence),
        (Rivals, "_suspect_twice", nothing, test_quorum_promises.test_nobody_renews_a_server_that_runs_twice),
        (Links, "_believable", always, test_quorum_promises.test_an_older_boot_is_not_heard),
        (Promises, "_promise", void_for_ever,
         test_quorum_promises.test_a_voter_binds_itself_again_after_false_evidence),
        (Promises, "_may_promise", always,
         test_quorum_recovery.test_after_b_nothing_is_promised_until_the_longest_timeout_has_passed_since_boot),
        (Recovery, "_spend_vote", not_spent, test_quorum_recovery.test_a_spent_vote_stays_spent_over_a_restart),
        (Recovery, "_bind_after_recovery", nothing,
         test_quorum_recovery.test_after_a_the_server_is_bound_to_that_master),
        (Recovery, "_bind_after_recovery", wait_of_memory,
         test_quorum_recovery.test_a_restart_inside_the_wait_begins_it_anew),
        (Recovery, "_third_confirmed", always,
         test_quorum_recovery.test_recovery_a_needs_a_serving_master_confirmed_by_the_third),
        (Recovery, "_forming_wait_s", lambda _: 1.0,
         test_quorum_forming.test_without_that_word_a_triad_forms_after_the_wait_from_the_later_boot),
        (Membership, "_shows_less_than", never,
         test_quorum_recovery.test_who_shows_less_than_is_remembered_is_recovering),
        (Forming, "_third_had_its_chance", always,
         test_quorum_forming.test_first_start_waits_until_the_third_had_a_chance),
        (CatchUp, "_take_pulled", glued, test_quorum_recovery.test_two_logs_are_not_glued),
        (CatchUp, "_take_pulled", glued, test_quorum_catchup.test_two_logs_are_not_glued_for_a_candidate_either),
        (Rounds, "_new_master", agreed_for_ever,
         test_quorum_elections.test_a_new_term_begins_with_what_is_committed),
        (Rounds, "_peer_durable", what_was_sent,
         test_quorum_recovery.test_what_the_master_has_is_remembered_where_the_logs_agree),
        (Rounds, "_settle_doubt", lambda self: setattr(self, "_in_doubt_until_round", None),
         test_quorum_rounds.test_after_a_suspension_one_round_trip_is_needed),
        (Elections, "_has_rights", always, test_quorum_elections.test_a_server_with_other_rights_may_not_stand_alone),
        (Elections, "_detector_holds", never,
         test_quorum_elections.test_silence_on_an_open_connection_starts_no_election_with_interval_0),
        (Elections, "_drop_forming", nothing,
         test_quorum_forming.test_a_member_gives_up_a_forming_that_came_to_nothing),
    ],
    ids=lambda value: getattr(value, "__name__", value) if not isinstance(value, str) else value,
)  # fmt: skip
def test_without_the_rule_its_test_fails(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, replacement: Any, shown_by: Callable[[], None]
) -> None:
    shown_by()
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises(AssertionError):
        shown_by()
