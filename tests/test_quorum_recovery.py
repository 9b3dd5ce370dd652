"""protocol.md rules 7 and 8: servers without state, or with less of it than others remember."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from flexcore.identity import NO_LAST, Boot, Endpoint, Last, Rank
from flexcore.quorum import HardState, StoredState
from flexcore.quorum.config import SPENT
from flexcore.wire.messages import (
    Append,
    AppendReply,
    EntryRow,
    Hello,
    PreVote,
    PreVoteReply,
    Pull,
    PullReply,
    Recover,
    RecoverReply,
    Seen,
    Vote,
    VoteReply,
)
from tests.quorum_kit import MEMBERS, TO, WALL, Alone, P, S, T, formed, row, session, settled_state

END = Last(1, 6)
BEFORE = Seen(Boot(9, b"an earlier boot"), END)


def blank(rank: Rank = T, **hello: Any) -> Alone:
    """A server without state; both others are members."""
    alone = Alone(rank)
    others = [each for each in Rank if each is not rank]
    alone.connect(*others, last=END, **hello)
    return alone


def answer(
    alone: Alone, rank: Rank, *, term: int = 6, last: Last = END, serving: bool = False, confirmed: bool = False,
    longest_s: float = TO, seen: Seen | None = None, member: bool = True, triad: bytes = b"triad-id--------",
    nonce: bytes | None = None,
) -> None:  # fmt: skip
    """*rank* answers the question of the recovering server."""
    asked = alone.machine.recover_nonce if nonce is None else nonce
    reply = RecoverReply(asked, last, serving, confirmed, longest_s, seen, member, triad)
    alone.reply(rank, reply, term=term)


def copy_from(alone: Alone, rank: Rank, rows: tuple[EntryRow, ...] | None = None, *, term: int = 6) -> None:
    rows = settled_state(rank).entries if rows is None else rows
    pull = alone.last_sent(rank, Pull)
    alone.reply(rank, PullReply(pull.nonce, NO_LAST, rows, Last(rows[-1].term, len(rows))), term=term)


def recovered_from_master(rank: Rank = T, **facts: Any) -> Alone:
    alone = blank(rank)
    answer(alone, P, serving=True, confirmed=True, **facts)
    copy_from(alone, P)
    assert alone.machine.hard.member
    return alone


def recovered_from_both(rank: Rank = T, *, up_s: float = 0.0, **facts: Any) -> Alone:
    alone = blank(rank)
    alone.run(up_s)
    other = S if rank is T else T
    answer(alone, P, **facts)
    answer(alone, other, **facts)
    copy_from(alone, P)
    assert alone.machine.hard.member
    return alone


def asked_for_vote(alone: Alone, rank: Rank = S, *, term: int = 9) -> bool:
    alone.request(rank, PreVote(term, END, b"n"), term=term - 1)
    return alone.last_sent(rank, PreVoteReply).ok


# --- rule 7: boots ---------------------------------------------------------------------------------------------------


def test_a_server_without_state_only_greets_and_asks() -> None:
    alone = blank()
    assert alone.machine.boot.counter == 0
    alone.append(P, term=6, prev=NO_LAST)
    alone.request(S, PreVote(9, END, b"n"), term=8)
    alone.run(200.0)
    said = {type(frame.body).__name__ for _, frame in alone.sent}
    assert said <= {"Hello", "Recover", "Beat", "BeatReply", "PreVoteReply"}
    assert not [reply for reply in alone.take(S, PreVoteReply) if reply.ok]


def test_hello_and_recover_of_counter_0_are_never_dropped() -> None:
    """Nor while the connections of its earlier boot are still thought alive."""
    alone = Alone(P, settled_state(P))
    alone.connect(S, T, last=END)
    old = alone.ins[T]
    alone.accepted(T, boot=Boot(0, b"boot without state"), member=False, has_state=False, committed_triad=b"")
    assert alone.last_sent(T, Hello).echo == b"nonce"
    alone.request(T, Recover(b"question"), term=0, triad_id=b"")
    assert alone.last_sent(T, RecoverReply).nonce == b"question"
    assert old in alone.machine.links


def test_the_counter_becomes_one_more_than_anybody_remembers() -> None:
    alone = blank(seen_of_you=BEFORE)
    answer(alone, P, serving=True, confirmed=True, seen=Seen(Boot(12, b"another boot---"), END))
    copy_from(alone, P)
    assert alone.machine.boot.counter == 13


def test_who_shows_less_than_is_remembered_is_recovering() -> None:
    for seen in (Seen(Boot(3, b"an earlier boot"), Last(1, 7)), Seen(Boot(4, b"an earlier boot"), END)):
        alone = Alone(T, settled_state(T))
        alone.connect(P, last=END, seen_of_you=seen)
        assert not alone.machine.hard.member
        assert alone.notices("recovering")
        alone.append(P, term=6, prev=END)
        assert not alone.take(P, AppendReply)


def test_who_shows_what_is_remembered_is_not() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, last=END, seen_of_you=Seen(Boot(3, b"an earlier boot"), END))
    assert alone.machine.hard.member
    assert not alone.notices("recovering")


def test_a_master_killed_before_its_own_commit_is_not_recovering() -> None:
    """What counts is what it said to be durable, not what it merely sent."""
    triad = formed()
    triad[P].disk_waits = True
    triad.propose(P, session(1))  # at S and T; not on P's own disk
    triad.run(1.0)
    triad.kill(P)
    triad[P].disk_waits = False
    triad.start(P)
    triad.run(5.0)
    assert not triad[P].said("recovering")
    assert triad[P].machine.hard.member
    assert triad.commands(P) == triad.commands(S)


def test_what_the_master_has_is_remembered_where_the_logs_agree() -> None:
    """Our own conflicting tail lent its term to an index of the master's: its good disk looked shortened."""
    stored = settled_state(T)
    alone = Alone(T, attrs.evolve(stored, entries=(*stored.entries, row(5, session(99)))))
    alone.connect(P, S, last=END)
    alone.append(P, term=6, prev=END, durable=7)
    alone.accepted(P)
    seen = alone.last_sent(P, Hello).seen_of_you
    assert seen is not None
    assert seen.last == END


def test_what_a_peer_showed_is_written_with_the_next_rows_and_not_alone() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    alone.append(P, term=6, prev=END, durable=5)
    written = len(alone.batches)
    alone.append(P, term=6, round=2, prev=END, durable=6)
    assert len(alone.batches) == written
    alone.append(P, term=6, round=3, prev=END, rows=(row(6, session(7)),), durable=6)
    hard = json.loads(alone.batches[-1].hard)
    assert hard["peer_seen"] == [[0, 1, b"boot of primary".hex(), 1, 6]]


def test_a_counter_that_rises_is_noticed() -> None:
    """A server that was without state when we met is remembered all the same."""
    alone = Alone(T, settled_state(T))
    young = Boot(0, b"boot of primary")
    alone.dialled(P, boot=young, member=False, committed_triad=b"")
    alone.accepted(P, boot=young, member=False, committed_triad=b"")
    alone.boots[P] = Boot(4, b"boot of primary")
    alone.append(P, term=6, prev=END, durable=6)
    alone.accepted(P, last=END)
    seen = alone.last_sent(P, Hello).seen_of_you
    assert seen == Seen(Boot(4, b"boot of primary"), END)


# --- rule 8, asking --------------------------------------------------------------------------------------------------


def test_recovery_a_needs_a_serving_master_confirmed_by_the_third() -> None:
    for serving, confirmed in ((False, True), (True, False), (False, False)):
        alone = blank()
        answer(alone, P, serving=serving, confirmed=confirmed)
        assert not alone.take(P, Pull)
    alone = blank()
    answer(alone, P, serving=True, confirmed=True)
    copy_from(alone, P)
    assert alone.machine.hard.member
    assert alone.notices("recovered")


def test_an_answer_to_another_question_counts_nothing() -> None:
    alone = blank()
    answer(alone, P, serving=True, confirmed=True, nonce=b"of an earlier boot")
    assert not alone.take(P, Pull)


def test_the_log_is_copied_to_what_the_master_had_appended() -> None:
    alone = blank()
    answer(alone, P, serving=True, confirmed=True, last=Last(6, 7))
    copy_from(alone, P)  # six entries: less
    assert not alone.machine.hard.member
    alone.run(1.1)
    answer(alone, P, serving=True, confirmed=True, last=Last(6, 7))
    copy_from(alone, P, (*settled_state(P).entries, row(6, session(7))))
    assert alone.machine.hard.member


def test_recovery_b_copies_the_newest_of_both() -> None:
    alone = blank()
    answer(alone, P, last=Last(1, 6))
    assert not alone.take(P, Pull)
    answer(alone, S, last=Last(3, 4))
    assert not alone.take(P, Pull)
    copy_from(alone, S, (*settled_state(S).entries[:3], row(3, session(50))))
    assert alone.machine.hard.member
    assert alone.machine.ledger.last == Last(3, 4)


@pytest.mark.parametrize("facts", [{"member": False}, {"serving": True}, {"triad": b"another---------"}])
def test_recovery_b_needs_both_members_of_one_triad(facts: dict[str, Any]) -> None:
    alone = blank()
    answer(alone, P)
    answer(alone, S, **facts)
    assert not alone.take(P, Pull)
    assert not alone.take(S, Pull)


def test_two_logs_are_not_glued() -> None:
    """The master was overruled between two answers: what comes does not follow what is here."""
    alone = blank()
    answer(alone, P, serving=True, confirmed=True, last=Last(6, 4))
    pull = alone.last_sent(P, Pull)
    alone.reply(P, PullReply(pull.nonce, NO_LAST, settled_state(P).entries[:2], Last(5, 4)), term=6)
    pull = alone.last_sent(P, Pull)
    assert pull.from_index == 3
    rows = (row(6, session(8)), row(6, session(9)))
    alone.reply(P, PullReply(pull.nonce, Last(6, 2), rows, Last(6, 4)), term=6)
    assert not alone.machine.hard.member
    alone.run(1.1)
    answer(alone, P, serving=True, confirmed=True, last=Last(6, 4))
    assert alone.last_sent(P, Pull).from_index == 1  # begun anew


def test_membership_is_durable_before_it_is_used() -> None:
    alone = blank()
    answer(alone, P, serving=True, confirmed=True)
    alone.disk_waits = True
    copy_from(alone, P)
    alone.append(P, term=6, prev=END)
    assert not alone.take(P, AppendReply)
    alone.write()
    assert alone.last_sent(P, AppendReply).promise_s == TO


# --- rule 8, afterwards ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [recovered_from_master, recovered_from_both])
def test_the_vote_of_the_highest_term_heard_is_spent(how: Any) -> None:
    alone = how(term=8)
    assert (alone.machine.hard.term, alone.machine.hard.voted_for) == (8, SPENT)
    alone.run(TO + 1.0)
    alone.request(S, PreVote(9, END, b"n"), term=8)
    nonce = alone.last_sent(S, PreVoteReply).nonce
    alone.request(S, Vote(END, 1, nonce, None), term=8)
    assert not alone.last_sent(S, VoteReply).ok
    alone.request(S, Vote(END, 1, nonce, None), term=9)
    assert alone.last_sent(S, VoteReply).ok


def test_a_spent_vote_stays_spent_over_a_restart() -> None:
    alone = recovered_from_both(term=8)
    state = HardState.decode(next(each.hard for each in reversed(alone.batches) if each.hard))
    assert (state.term, state.voted_for) == (8, SPENT)


def test_after_b_nothing_is_promised_until_the_longest_timeout_has_passed_since_boot() -> None:
    alone = recovered_from_both(longest_s=120.0, up_s=10.0)
    assert not asked_for_vote(alone)
    alone.append(P, term=6, prev=END)
    assert alone.last_sent(P, AppendReply).promise_s == 0.0  # it acknowledges without promising
    alone.run(109.0)
    assert not asked_for_vote(alone)
    alone.run(1.1)
    assert asked_for_vote(alone)


def test_after_b_an_append_of_a_higher_term_is_promised() -> None:
    alone = recovered_from_both()
    alone.append(S, term=7, prev=END)
    assert alone.last_sent(S, AppendReply).promise_s == TO


def test_after_b_nobody_stands_before_the_wait_is_over() -> None:
    alone = recovered_from_both(S)
    alone.take(T, PreVote)
    alone.run(TO - 1.0)
    assert not alone.take(T, PreVote)
    alone.run(2.0)
    assert alone.take(T, PreVote)


def test_a_restart_inside_the_wait_begins_it_anew() -> None:
    """Kept in memory only, the wait was gone after a restart: a vote while the forgotten promise was in force."""
    alone = recovered_from_both(up_s=10.0)
    alone.run(60.0)
    hard = next(each.hard for each in reversed(alone.batches) if each.hard)
    again = Alone(T, StoredState(hard=hard, entries=settled_state(T).entries))
    again.connect(P, S, last=END)
    again.run(TO - 1.0)
    assert not asked_for_vote(again)
    again.run(2.0)
    assert asked_for_vote(again)
    assert HardState.decode(again.batches[-1].hard).no_promise_s == 0.0


def test_a_restart_inside_the_wait_remembers_the_term_that_is_spent() -> None:
    """In memory only, the term was forgotten, and an Append of that very term was promised to after a restart."""
    alone = recovered_from_both()
    spent = alone.machine.hard.term
    hard = next(each.hard for each in reversed(alone.batches) if each.hard)
    again = Alone(T, StoredState(hard=hard, entries=settled_state(T).entries))
    again.connect(P, S, last=END)
    again.append(S, term=spent, prev=END)
    reply = again.last_sent(S, AppendReply)
    assert reply.ok
    assert reply.promise_s == 0.0
    again.append(S, term=spent + 1, prev=END)
    assert again.last_sent(S, AppendReply).promise_s == TO


def test_after_b_a_promise_of_a_moment_ago_stays() -> None:
    """The wait counts from boot, which may be long ago: a vote of this very boot was forgotten, two masters."""
    alone = Alone(T, settled_state(T))
    alone.run(2 * TO)
    alone.connect(P, last=END)
    alone.append(P, term=6, prev=END)
    alone.connect(S, last=END, seen_of_you=BEFORE)  # it remembers more of us
    assert not alone.machine.hard.member
    alone.run(1.1)
    answer(alone, P, term=7)
    answer(alone, S, term=6)
    copy_from(alone, P)
    assert alone.machine.hard.member
    assert not asked_for_vote(alone)
    alone.run(TO)
    assert asked_for_vote(alone)


def test_after_a_the_server_is_bound_to_that_master() -> None:
    alone = recovered_from_master(longest_s=100.0)
    assert alone.machine.hard.promised_to == alone.end(P)
    assert not asked_for_vote(alone)
    alone.run(99.0)
    assert not asked_for_vote(alone)
    alone.run(1.1)
    assert asked_for_vote(alone)


def test_after_a_a_restart_honours_that_binding() -> None:
    alone = recovered_from_master(longest_s=100.0)
    hard = next(each.hard for each in reversed(alone.batches) if each.hard)
    again = Alone(T, StoredState(hard=hard, entries=settled_state(T).entries))
    again.connect(S, last=END)
    again.run(99.0)
    assert not asked_for_vote(again)


def test_after_a_the_end_of_that_process_frees_at_once() -> None:
    """Only that process can still count on a promise that was lost: see the head of recovery.py."""
    alone = recovered_from_master()
    alone.lose(P)
    alone.refuse(P)
    alone.refuse(P)
    assert asked_for_vote(alone)


# --- rule 8, answering -----------------------------------------------------------------------------------------------


def asked_master() -> tuple[Alone, Append]:
    """The secondary serves in term 6; the tertiary has lost its disk and asks; the round for it is on its way."""
    alone = Alone(S, settled_state(S))
    alone.connect(P, last=END, uptime_s=0.0)
    alone.run(1.5)
    alone.reply(P, PreVoteReply(True, END, b"nonce", 0.0), term=5)
    vote = alone.last_sent(P, Vote)
    alone.reply(P, VoteReply(True, vote.round, b"nonce", TO), term=6)
    append = alone.last_sent(P, Append)
    alone.reply(P, AppendReply(True, append.round, 7, TO, WALL), term=6)
    assert alone.machine.may_serve(alone.now)
    alone.connect(T, boot=Boot(0, b"boot without state"), member=False, has_state=False, committed_triad=b"")
    alone.take(P, Append)
    alone.request(T, Recover(b"question"), term=0, triad_id=b"")
    return alone, alone.last_sent(P, Append)


def test_a_serving_master_answers_when_the_third_has_acknowledged() -> None:
    alone, append = asked_master()
    assert not alone.take(T, RecoverReply)
    alone.reply(P, AppendReply(True, append.round - 1, 7, TO, WALL), term=6)  # of before the question
    assert not alone.take(T, RecoverReply)
    alone.reply(P, AppendReply(True, append.round, 7, TO, WALL), term=6)
    reply = alone.last_sent(T, RecoverReply)
    assert (reply.serving, reply.confirmed, reply.last) == (True, True, Last(6, 7))


def test_a_third_that_stood_above_the_master_confirms_nothing() -> None:
    """The schedule against binding after (a): the lost disk had voted for the third server, in a higher term. But
    then that server does not acknowledge ours after the question: its answer ends the reign that asked."""
    alone, append = asked_master()
    alone.reply(P, AppendReply(False, append.round, 0, 0.0, WALL), term=7)
    assert not alone.machine.may_serve(alone.now)
    assert not [reply for reply in alone.take(T, RecoverReply) if reply.serving or reply.confirmed]


def test_asking_again_does_not_begin_the_confirmation_anew() -> None:
    triad = formed()
    triad.kill(T)
    triad[T].disk.lose()
    triad.hold(S, P)
    triad.start(T)
    triad.run(2.5)
    assert len(triad[P].machine.asks) == 1
    triad.let_go(S, P)
    triad.run(1.0)
    assert triad[T].machine.hard.member


def test_a_lost_disk_comes_back_while_the_others_serve() -> None:
    for lost in (S, T):
        triad = formed()
        triad.propose(P, session(1))
        triad.kill(lost)
        triad[lost].disk.lose()
        triad.run(5.0)
        triad.propose(P, session(2))
        triad.start(lost)
        triad.run(5.0)
        assert triad.members() == {P, S, T}
        triad.run(20.0)
        assert len(triad.logs()) == 1
        assert triad.master is P


def test_the_masters_lost_disk_loses_nothing_that_was_told() -> None:
    triad = formed()
    triad.propose(P, session(1))
    triad.kill(P)
    triad[P].disk.lose()
    triad.run(2.0)
    assert triad.master is S
    triad.start(P)
    triad.run(5.0)
    assert triad.members() == {P, S, T}
    triad.run(20.0)
    assert triad.commands(P) == triad.commands(S)
    assert b"user" in b"".join(triad.commands(P))


def test_one_member_and_a_blank_server_serve_nobody() -> None:
    triad = formed()
    triad.propose(P, session(1))
    triad.kill(P, S)
    triad[S].disk.lose()
    triad.start(S)
    triad.run(2 * TO)
    assert triad.master is None
    assert "recovers" in triad[S].machine.report().reason
    triad.start(P)
    triad.run(2 * TO)
    assert triad.master is not None
    assert triad.members() == {P, S, T}


def test_a_rule_19_change_of_the_own_hostid_joins_as_recovering() -> None:
    """One hostid of three is new: that member's state is of another machine."""
    state = settled_state(T, hostids=(*MEMBERS[:2], "1700dead"))
    alone = Alone(T, state)
    assert not alone.machine.hard.member
    assert alone.notices("recovering")
    assert Endpoint(2, alone.machine.boot) == alone.me
