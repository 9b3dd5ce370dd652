"""protocol.md rules 3, 4, 13 and 19 (rights): who stands, who votes, what a term is."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from flexcore.identity import NO_LAST, Boot, Endpoint, Last, Rank
from flexcore.ledger.commands import Rights, TermStarted
from flexcore.quorum.base import Role
from flexcore.wire.codec import decode_command
from flexcore.wire.messages import (
    AppendReply,
    PreVote,
    PreVoteReply,
    Pull,
    PullReply,
    Vote,
    VoteReply,
)
from tests.quorum_kit import RIGHTS, TO, Alone, P, S, T, Triad, formed, row, session, settled_state

END = Last(1, 6)


def candidate(rank: Any = S, **stored: Any) -> Alone:
    """A server that has asked the tertiary for a pre-vote."""
    alone = Alone(rank, settled_state(rank, **stored))
    alone.connect(T, last=END)
    return alone


def elected(alone: Alone) -> Vote:
    """The tertiary says yes to a pre-vote and to the vote."""
    alone.reply(T, PreVoteReply(True, END, b"nonce", 0.0), term=alone.machine.hard.term)
    vote = alone.last_sent(T, Vote)
    alone.reply(T, VoteReply(True, vote.round, b"nonce", TO), term=alone.machine.hard.term)
    return vote


# --- rule 3: standing ------------------------------------------------------------------------------------------------


def test_a_pre_vote_binds_nobody_and_raises_nothing() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    alone.request(S, PreVote(50, END, b"n"), term=49)
    assert alone.last_sent(S, PreVoteReply).ok
    assert alone.machine.hard.term == 5
    assert alone.machine.hard.promised_to is None


def test_the_tertiary_never_stands() -> None:
    triad = formed()
    triad.kill(P, S)
    triad.run(3 * TO)
    assert triad[T].machine.role is Role.FOLLOWER
    assert triad.master is None
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    alone.request(P, PreVote(50, END, b"n"), term=5)
    alone.boots[P] = Boot(1, b"boot of primary")
    alone.run(2 * TO)
    assert not alone.take(P, PreVote)
    assert not alone.take(S, PreVote)


def test_nobody_votes_for_the_tertiary() -> None:
    alone = Alone(S, settled_state(S))
    alone.connect(T, last=END)
    alone.request(T, PreVote(50, END, b"n"), term=5)
    assert not alone.last_sent(T, PreVoteReply).ok


def test_of_two_that_started_together_the_primary_is_first() -> None:
    def asks_after_s(rank: Rank, other: Rank, other_up_s: float) -> float:
        alone = Alone(rank, settled_state(rank))
        alone.connect(other, last=END, uptime_s=other_up_s)
        alone.accepted(T, last=END)
        began = alone.now
        while not alone.take(other, PreVote):
            alone.run(0.1)
        return alone.now - began

    assert asks_after_s(P, S, 1.9) < 0.2
    assert asks_after_s(S, P, 1.9) > 0.9
    assert asks_after_s(P, S, 2.1) > 0.9
    assert asks_after_s(S, P, 2.1) > 0.9


def test_the_one_longer_up_is_first() -> None:
    triad = formed()
    triad.kill(P, S, T)
    triad.run(TO)
    triad.start(S)
    triad.run(10.0)
    triad.start(P)
    triad.start(T)
    triad.run(5.0)
    assert triad.master is S


def test_nobody_waits_for_the_master_whose_promise_is_void() -> None:
    triad = formed()
    triad.kill(P)
    assert triad.run_until(lambda: triad.master is S, at_most=5.0) < 0.5


def test_a_refused_candidate_asks_again_when_the_promise_is_over() -> None:
    alone = candidate()
    alone.take(T, PreVote)
    alone.reply(T, PreVoteReply(False, END, b"nonce", 12.0), term=5)
    alone.run(11.9)
    assert not alone.take(T, PreVote)
    alone.run(1.2)
    assert alone.take(T, PreVote)


def test_a_voter_says_unasked_that_it_is_free() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    alone.append(P, term=6, prev=END)
    alone.request(S, PreVote(7, END, b"n"), term=6)
    assert not alone.last_sent(S, PreVoteReply).ok
    alone.lose(P)
    alone.refuse(P)
    alone.refuse(P)
    assert alone.last_sent(S, PreVoteReply).ok


def test_a_candidate_pulls_what_only_the_tertiary_has() -> None:
    triad = formed()
    triad.cut(P, S)
    triad.run(30.0)
    triad.propose(P, session(1))  # committed by P and T, and told to a client
    triad.run(1.0)
    assert triad[P].machine.ledger.commit == triad[T].machine.ledger.last.index
    assert triad[S].machine.ledger.last < triad[T].machine.ledger.last
    triad.kill(P)
    triad.heal()
    triad.run(TO + 5.0)
    assert triad.master is S
    assert triad.commands(S) == triad.commands(T)
    assert any(b"user" in payload for payload in triad.commands(S))


def test_a_pull_replaces_the_conflicting_tail_in_one_transaction() -> None:
    stored = settled_state(S)
    tail = tuple(row(2, session(50 + n)) for n in range(4))
    alone = Alone(S, attrs.evolve(stored, entries=(*stored.entries, *tail)))
    alone.connect(T, last=Last(4, 7))
    alone.reply(T, PreVoteReply(False, Last(4, 7), b"nonce", 0.0), term=5)
    pull = alone.last_sent(T, Pull)
    rows = (*stored.entries, row(4, session(90)))
    alone.batches.clear()
    alone.reply(T, PullReply(pull.nonce, NO_LAST, rows, Last(4, 7)), term=5)
    assert alone.machine.ledger.last == Last(4, 7)
    (batch,) = [each for each in alone.batches if each.entries]
    assert batch.truncate_from == 7
    assert [index for index, _ in batch.entries] == [7]
    assert alone.take(T, PreVote)  # it asks again


def test_what_was_pulled_is_not_used_when_it_is_no_longer_newer() -> None:
    alone = candidate()
    alone.reply(T, PreVoteReply(False, Last(4, 7), b"nonce", 0.0), term=5)
    pull = alone.last_sent(T, Pull)
    alone.accepted(P, last=END)
    alone.append(P, term=6, prev=END, rows=(row(6, session(70)),))
    rows = (*settled_state(S).entries, row(4, session(90)))
    alone.reply(T, PullReply(pull.nonce, NO_LAST, rows, Last(4, 7)), term=5)
    assert alone.machine.ledger.last == Last(6, 7)


def test_after_three_failures_a_candidate_yields_once() -> None:
    alone = candidate()
    for _ in range(3):
        alone.run(1.5)
        alone.reply(T, PreVoteReply(True, END, b"nonce", 0.0), term=alone.machine.hard.term)
        vote = alone.last_sent(T, Vote)
        alone.reply(T, VoteReply(False, vote.round, b"nonce", 0.0), term=5)
    assert alone.machine.failures == 3
    alone.take(T, PreVote)
    alone.connect(P, last=END, uptime_s=0.0)  # S is longer up, and would go first
    alone.take(P, PreVote)
    alone.run(0.9)
    assert not alone.take(P, PreVote)
    alone.run(0.5)
    assert alone.take(P, PreVote)


# --- rule 4: voting --------------------------------------------------------------------------------------------------


def vote_of(alone: Alone, rank: Any, term: int, *, last: Last = END, nonce: bytes | None = None) -> VoteReply:
    alone.request(rank, PreVote(term, last, b"n"), term=term - 1)
    given = alone.last_sent(rank, PreVoteReply).nonce
    alone.request(rank, Vote(last, 1, given if nonce is None else nonce, None), term=term)
    return alone.last_sent(rank, VoteReply)


def voter(**stored: Any) -> Alone:
    alone = Alone(T, settled_state(T, **stored))
    alone.connect(P, S, last=END)
    return alone


def test_one_vote_a_term() -> None:
    alone = voter()
    assert vote_of(alone, P, 9).ok
    alone.run(TO + 1.0)  # free again, but the vote of term 9 is given
    assert not vote_of(alone, S, 9).ok
    assert vote_of(alone, P, 9).ok
    alone.run(TO + 1.0)
    assert vote_of(alone, S, 10).ok


def test_a_vote_survives_a_restart() -> None:
    alone = voter()
    assert vote_of(alone, P, 9).ok
    hard = alone.batches[-1].hard
    again = Alone(T, attrs.evolve(settled_state(T), hard=hard))
    again.run(TO + 1.0)
    again.connect(P, S, last=END)
    assert not vote_of(again, S, 9).ok


@pytest.mark.parametrize("last", [Last(1, 5), Last(0, 99), NO_LAST])
def test_no_vote_for_an_older_log(last: Last) -> None:
    assert not vote_of(voter(), S, 9, last=last).ok


@pytest.mark.parametrize("last", [Last(1, 6), Last(1, 7), Last(2, 1)])
def test_a_vote_for_a_log_at_least_as_new(last: Last) -> None:
    assert vote_of(voter(), S, 9, last=last).ok


def test_no_vote_without_a_link_that_works_both_ways() -> None:
    assert not vote_of(voter(), S, 9, nonce=b"another nonce").ok
    assert not vote_of(voter(), S, 9, nonce=b"").ok


def test_a_vote_leaves_only_when_it_is_durable() -> None:
    alone = voter()
    alone.disk_waits = True
    alone.request(S, PreVote(9, END, b"n"), term=8)
    nonce = alone.last_sent(S, PreVoteReply).nonce
    alone.request(S, Vote(END, 1, nonce, None), term=9)
    assert not alone.take(S, VoteReply)
    alone.write()
    assert alone.last_sent(S, VoteReply).ok


def test_a_candidates_own_vote_is_durable_before_it_asks() -> None:
    alone = candidate()
    alone.disk_waits = True
    alone.reply(T, PreVoteReply(True, END, b"nonce", 0.0), term=5)
    assert not alone.take(T, Vote)
    alone.write()
    assert alone.take(T, Vote)


def test_a_vote_that_waited_for_the_disk_does_not_leave_after_the_candidacy() -> None:
    alone = candidate()
    alone.disk_waits = True
    alone.reply(T, PreVoteReply(True, END, b"nonce", 0.0), term=5)
    alone.run(1.1)  # the candidacy is over
    alone.write()
    assert not alone.take(T, Vote)


def test_a_server_that_is_no_member_does_not_vote() -> None:
    alone = Alone(T, settled_state(T, member=False))
    alone.connect(P, S, last=END)
    alone.request(S, PreVote(9, END, b"n"), term=8)
    assert [reply.ok for reply in alone.take(S, PreVoteReply)] in ([], [False])


# --- rule 5: winning -------------------------------------------------------------------------------------------------


def test_the_terms_first_entry_is_appended_at_once() -> None:
    alone = candidate()
    elected(alone)
    ledger = alone.machine.ledger
    (first,) = ledger.rows(7, 1 << 20)
    assert decode_command(first.payload) == TermStarted(1, TO, TO + 30.0)


# --- rules 1 and 13: terms -------------------------------------------------------------------------------------------


def test_a_refused_request_raises_no_term() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    assert not vote_of(alone, S, 40).ok
    assert alone.machine.hard.term == 6


def test_a_higher_term_in_a_reply_deposes_a_master_and_it_stands_above() -> None:
    alone = candidate()
    elected(alone)
    assert alone.machine.role is Role.MASTER
    alone.take(T, PreVote)
    alone.reply(T, AppendReply(False, 1, 0, 0.0, 0.0), term=20)
    assert alone.machine.role is not Role.MASTER
    assert alone.machine.hard.term == 20
    assert alone.last_sent(T, PreVote).next_term == 21


def test_a_reply_teaches_a_candidate_the_term() -> None:
    alone = candidate()
    alone.take(T, PreVote)
    alone.reply(T, PreVoteReply(False, END, b"nonce", 0.0), term=33)
    alone.run(0.1)
    assert alone.last_sent(T, PreVote).next_term == 34
    assert alone.machine.hard.voted_for == -1


def test_a_new_term_begins_with_what_is_committed() -> None:
    """Agreement with P as master of term 6 said nothing of P as master of term 9, whose log had changed meanwhile."""
    alone = voter()
    alone.append(P, term=6, prev=END, rows=(row(6, session(7)), row(6, session(8))))
    assert alone.machine.ledger.last == Last(6, 8)
    alone.append(P, term=9, round=5, prev=END, rows=(), commit=8)
    assert alone.machine.ledger.commit == 6


def test_two_masters_of_one_term_stop_this_process() -> None:
    alone = candidate()
    elected(alone)
    alone.accepted(P, last=END)
    alone.append(P, term=alone.machine.hard.term, prev=END)
    assert alone.halt is not None
    assert "two masters" in alone.halt.reason


# --- rule 19: rights -------------------------------------------------------------------------------------------------

NEW = b"n" * 32


def test_the_masters_rights_become_an_entry() -> None:
    triad = formed()
    assert triad[T].machine.ledger.state.rights == RIGHTS
    kinds = [type(decode_command(payload)) for payload in triad.commands(T)]
    assert kinds.count(Rights) == 1


def test_a_server_with_other_rights_may_not_stand_alone() -> None:
    triad = formed()
    triad.kill(S)
    triad.changes[S]["rights_digest"] = NEW
    triad.start(S)
    triad.run(5.0)
    assert triad[P].said("rights")
    assert triad[S].said("rights")
    assert any("other signed lines" in note for note in triad[P].machine.report().notes)
    triad.propose(P, session(1))
    triad.run(21.0)
    assert triad[S].machine.ledger.commit == triad[P].machine.ledger.last.index  # it acknowledges all the same
    triad.kill(P)
    triad.run(2 * TO)
    assert triad.master is None
    assert "signed lines" in triad[S].machine.report().reason


def test_new_rights_of_a_majority_follow_the_terms_first_entry() -> None:
    triad = formed()
    for rank in (S, T):
        triad.kill(rank)
        triad.changes[rank]["rights_digest"] = NEW
        triad.start(rank)
        triad.run(TO + 5.0)
    assert triad.master is P
    assert triad[T].machine.ledger.state.rights == RIGHTS
    triad.kill(P)
    triad.run(5.0)
    assert triad.master is S
    kinds = [type(decode_command(payload)) for payload in triad.commands(S)]
    assert kinds[-2:] == [TermStarted, Rights]
    assert triad[T].machine.ledger.state.rights == NEW
    assert triad[S].machine.started_index == len(kinds)


def test_new_rights_on_all_three_need_one_restart_each() -> None:
    """A rolling change: somebody may stand at every moment."""
    triad = formed()
    for rank in (T, S, P):
        triad.kill(rank)
        triad.changes[rank]["rights_digest"] = NEW
        triad.start(rank)
        triad.run(10.0)
        assert triad.master is not None
    master = triad.master
    assert master is not None
    assert triad[master].machine.ledger.state.rights == NEW


def test_a_stored_promise_binds_to_that_process_only() -> None:
    alone = voter(promised_to=Endpoint(0, Boot(1, b"boot of primary")), promise_len_s=TO)
    assert not vote_of(alone, S, 9).ok
    assert vote_of(alone, P, 9).ok


def test_silence_on_an_open_connection_starts_no_election_with_interval_0() -> None:
    """Rule 21: promises and leases stay finite; the transport's keepalive ends a dead connection."""
    triad = formed(heartbeat_interval_s=0.0)
    assert triad[P].said("detector_off")
    triad.silent |= {(P, S), (P, T)}  # the master hangs: it is heard no more, its connections stay open
    triad[P].paused = True
    triad.run(3 * TO)
    assert triad[S].machine.role is Role.FOLLOWER
    triad.break_links(P, S)
    triad.break_links(P, T)
    triad.run(5.0)
    assert triad.master is S


def test_with_interval_0_a_master_stops_when_its_lease_is_over() -> None:
    triad = formed(heartbeat_interval_s=0.0)
    triad.cut_off(P)
    triad.run(TO)
    assert not triad[P].serves()


def test_a_triad_is_a_triad_with_two() -> None:
    triad = Triad(first_start=True)
    triad.start(P, S)
    triad.run(2.0)
    assert triad.master is P
