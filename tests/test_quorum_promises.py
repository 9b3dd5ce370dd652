"""protocol.md rules 1, 2, 6, 7 and 12: to whom a server is bound, for how long, and what frees it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from flexcore.identity import Boot, Endpoint, Last, Rank
from flexcore.quorum import HardState, LinkEnded, PeerConnected, PeerFrameReceived, StoredState
from flexcore.quorum.rounds import Rounds
from flexcore.wire.messages import AppendReply, Hello, PreVote, PreVoteReply, Vote, VoteReply
from tests.quorum_kit import TO, Alone, P, S, T, formed, settled_state

END = Last(1, 6)
"""The last entry of ``settled_state``."""


def voter(**stored: Any) -> Alone:
    """The tertiary, with both others connected."""
    alone = Alone(T, settled_state(T, **stored))
    alone.connect(P, S, last=END)
    return alone


def would_vote(alone: Alone, rank: Rank = S, *, term: int = 50) -> bool:
    """Whether a pre-vote of this server would be answered with yes."""
    alone.request(rank, PreVote(term, END, b"n"), term=term - 1)
    return alone.last_sent(rank, PreVoteReply).ok


# --- rule 1: being free ----------------------------------------------------------------------------------------------


def test_an_acknowledgement_binds_for_the_timeout_and_no_longer() -> None:
    alone = voter()
    assert would_vote(alone)
    alone.append(P, term=6, prev=END)
    assert alone.last_sent(P, AppendReply).promise_s == TO
    assert not would_vote(alone)
    assert would_vote(alone, P)  # it is bound to that very process
    alone.run(TO - 0.1)
    assert not would_vote(alone)
    alone.run(0.2)
    assert would_vote(alone)


def test_a_refusal_says_when_the_promise_ends() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    alone.run(10.0)
    alone.request(S, PreVote(7, END, b"n"), term=6)
    assert alone.last_sent(S, PreVoteReply).free_in_s == pytest.approx(TO - 10.0)


def test_a_vote_binds_as_an_acknowledgement_does() -> None:
    alone = voter()
    alone.request(P, PreVote(6, END, b"n"), term=5)
    nonce = alone.last_sent(P, PreVoteReply).nonce
    alone.request(P, Vote(END, 1, nonce, None), term=6)
    reply = alone.last_sent(P, VoteReply)
    assert reply.ok
    assert reply.promise_s == TO
    assert not would_vote(alone)


def test_an_append_of_a_higher_term_replaces_the_promise() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    alone.append(S, term=7, prev=END)
    assert alone.last_sent(S, AppendReply).promise_s == TO
    assert would_vote(alone, S)
    assert not would_vote(alone, P)


def test_a_lower_term_is_answered_with_the_higher_one_and_binds_nobody() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    alone.append(S, term=5, prev=END)
    reply = alone.last_sent(S, AppendReply)
    assert (reply.ok, reply.promise_s) == (False, 0.0)
    assert alone.machine.hard.promised_to == alone.end(P)


def test_a_candidate_votes_for_itself_only_when_it_is_free() -> None:
    alone = Alone(S, settled_state(S))
    alone.connect(P, T, last=END)
    alone.append(P, term=6, prev=END)
    alone.run(1.0)
    alone.lose(P)  # the connection is over, which alone is no evidence
    alone.run(TO - 2.0)
    assert not alone.take(T, PreVote)
    alone.run(2.0)
    assert alone.take(T, PreVote)


def test_a_candidates_promise_to_itself_ends_with_its_candidacy() -> None:
    alone = Alone(S, settled_state(S))
    alone.connect(T, last=END)
    alone.last_sent(T, PreVote)
    alone.reply(T, PreVoteReply(True, END, b"nonce", 0.0), term=5)
    assert alone.machine.hard.promised_to == alone.me
    alone.accepted(P, last=END)
    assert not would_vote(alone, P)
    alone.run(1.1)  # no majority within max(1 s, 5 round trips)
    assert would_vote(alone, P)


def test_votes_that_come_after_the_candidacy_are_ignored() -> None:
    alone = Alone(S, settled_state(S))
    alone.connect(T, last=END)
    alone.reply(T, PreVoteReply(True, END, b"nonce", 0.0), term=5)
    vote, term = alone.last_sent(T, Vote), alone.machine.hard.term
    alone.run(1.1)
    alone.reply(T, VoteReply(True, vote.round, b"nonce", TO), term=term)
    assert alone.machine.report().master is None


def test_a_masters_promise_to_itself_runs_with_its_lease() -> None:
    triad = formed()
    master = triad[P].machine
    assert not master.free_for(Endpoint(1, Boot(9, b"somebody")), triad.now)
    triad.cut_off(P)
    triad.run(2 * TO)
    assert triad[P].machine.free_for(Endpoint(1, Boot(9, b"somebody")), triad.now)


# --- rule 2: the length ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("own_s", "interval", "length_s"), [(3.0, 20, 79.0), (79.0, 1, 3.0)])
def test_the_lease_is_the_shorter_of_both_lengths(own_s: float, interval: float, length_s: float) -> None:
    """The grantor names the length; the clocks' rates are taken off; it counts from the send."""
    alone = Alone(S, settled_state(S), heartbeat_interval_s=1.0 if own_s == 3.0 else 20.0)
    alone.connect(T, last=END)
    alone.reply(T, PreVoteReply(True, END, b"nonce", 0.0), term=5)
    vote, sent_at = alone.last_sent(T, Vote), alone.now
    alone.run(0.5)
    alone.reply(T, VoteReply(True, vote.round, b"nonce", length_s), term=alone.machine.hard.term)
    expected = min(own_s, length_s) * 0.99 / 1.01
    assert alone.machine.lease_until - sent_at == pytest.approx(expected)


def test_the_length_is_durable_before_a_longer_promise_leaves() -> None:
    stored = settled_state(T, promised_to=Endpoint(0, Boot(1, b"boot of primary")), promise_len_s=3.0)
    alone = Alone(T, stored)
    alone.connect(P, last=END)
    alone.disk_waits = True
    alone.append(P, term=5, prev=END)
    assert not alone.take(P, AppendReply)
    assert alone.pending is not None
    assert alone.pending.batch.hard is not None
    assert HardState.decode(alone.pending.batch.hard).promise_len_s == TO
    alone.write()
    assert alone.last_sent(P, AppendReply).promise_s == TO


# --- rule 6: void ----------------------------------------------------------------------------------------------------


def test_a_refusal_voids_a_promise() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    alone.lose(P)
    alone.refuse(P)  # begun when one of the two connections had ended: too early
    assert not would_vote(alone)
    alone.refuse(P)
    assert would_vote(alone)


def test_a_dial_that_times_out_is_no_evidence() -> None:
    triad = formed()
    triad.power_off(P)
    triad.run(10.0)
    triad.break_links(P, T)
    triad.run(5.0)
    assert triad.master is None
    assert triad.run_until(lambda: triad.master is not None, at_most=TO) > TO - 40.0


def test_a_refusal_beside_a_living_connection_is_no_evidence() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    alone.machine._link_ended(alone.outs.pop(P), alone.now)
    alone.run(0.0)
    alone.refuse(P)
    assert not would_vote(alone)


def test_an_attempt_begun_before_the_end_is_no_evidence() -> None:
    """Seed of the simulation: an earlier refusal counted although the process had come back meanwhile."""
    alone = Alone(T, settled_state(T))
    alone.refuse(P)
    alone.connect(S, last=END)
    alone.accepted(P, last=END)  # it starts and dials us, before our next attempt
    alone.append(P, term=6, prev=END)
    alone.dialled(P, last=END)
    alone.append(P, term=6, prev=END)
    alone.lose(P)
    assert not would_vote(alone)
    alone.refuse(P)  # of the attempt that was under way
    assert not would_vote(alone)
    alone.refuse(P)
    assert would_vote(alone)


def test_a_refusal_where_it_never_answered_is_no_evidence() -> None:
    """It dialled us and we promised, but our own dial never reached it: what refuses there may be another machine."""
    alone = Alone(T, settled_state(T))
    alone.connect(S, last=END)
    alone.accepted(P, last=END)
    alone.append(P, term=6, prev=END)
    alone.lose(P)
    alone.refuse(P)
    alone.refuse(P)
    assert not would_vote(alone)


def test_a_refusal_at_a_changed_port_is_no_evidence() -> None:
    """S and T are started again within a second, with a file in which P has another port; P serves on at the old one,
    refuses at the new one, and would have had a second master beside it for what was left of its lease."""
    triad = formed()
    assert triad.master is P
    moved = ("p:27010", "s:27000", "t:27000")
    triad.kill(S, T)
    for rank in (S, T):
        triad.changes[rank]["addresses"] = moved
    triad.cut(P, S)  # P's own dials are late; a refusal is what S and T see first
    triad.cut(P, T)
    triad.moved = {P}
    triad.start(S, T)
    triad.run(5.0)
    assert triad.master is P
    triad.heal()
    triad.run(TO)
    assert triad.master is P
    triad.kill(P)  # the price: it is waited for
    assert triad.run_until(lambda: triad.master is not None, at_most=TO + 20.0) > TO / 2


def test_the_address_where_it_answered_is_remembered() -> None:
    """The same without a change: what S has promised is void at once, also when S itself was started again."""
    triad = formed()
    triad.kill(P, S)
    triad.start(S)
    assert triad.run_until(lambda: triad.master is not None, at_most=TO) < 5.0


def test_another_boot_with_a_fresh_nonce_voids_a_promise() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    alone.lose(P)
    alone.accepted(P, boot=Boot(2, b"second boot-----"), last=END)  # its word alone: no nonce of ours came back
    assert not would_vote(alone)
    alone.dialled(P, boot=Boot(2, b"second boot-----"), last=END)
    assert would_vote(alone)


def test_another_boot_voids_nothing_while_the_old_one_is_connected() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    old = alone.ins[P]
    alone.machine._link_ended(alone.outs.pop(P), alone.now)
    alone.run(0.0)
    alone.dialled(P, boot=Boot(2, b"second boot-----"), last=END)
    assert not would_vote(alone)
    alone.ins[P] = old
    del alone.outs[P]
    alone.lose(P)
    assert would_vote(alone)


def test_a_stale_hello_voids_nothing() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    alone.lose(P)
    alone.run(0.0)
    link = alone.dialled(P, boot=Boot(2, b"second boot-----"), last=END)
    assert link
    fresh = voter()
    fresh.append(P, term=6, prev=END)
    fresh.lose(P)
    fresh.dials.remove(P)
    fresh._link += 1
    fresh.outs[P] = fresh._link
    fresh.event(PeerConnected(link=fresh._link, peer=P))
    fresh.boots[P] = Boot(2, b"second boot-----")
    fresh.reply(P, fresh.hello(P, echo=b"a nonce of another time"), term=0, triad_id=b"")
    assert not would_vote(fresh)


def test_each_server_voids_its_own_promise_only() -> None:
    triad = formed()
    triad.closed |= {P, S}
    triad.break_links(P, S)  # S sees a refusal, T is still connected
    triad.run(1.0)
    assert triad[S].machine.report().master is None
    assert triad.master is P
    triad.run(5.0)
    assert triad.master is P


def test_a_voter_binds_itself_again_after_false_evidence() -> None:
    """The promise stayed void for ever: the master lived, was acknowledged, and another was voted for beside it."""
    alone = voter()
    alone.append(P, term=6, prev=END)
    alone.lose(P)
    alone.refuse(P)
    alone.refuse(P)  # false: the master lives
    assert would_vote(alone)
    alone.run(1.0)
    alone.connect(P, last=END)
    alone.append(P, term=6, round=2, prev=END)
    assert alone.last_sent(P, AppendReply).promise_s == TO
    assert not would_vote(alone)


def test_a_word_on_a_link_that_was_closed_is_no_sign_of_life() -> None:
    """The greeting was answered as we gave it up: the closed link stayed for ever, and no refusal was evidence."""
    alone = Alone(T, settled_state(T))
    alone.dials.remove(P)
    alone._link += 1
    link = alone.outs[P] = alone._link
    alone.boots[P] = Boot(1, b"boot of primary")
    alone.event(PeerConnected(link=link, peer=P))
    alone.run(TO + 1.0)
    assert link not in alone.machine.links
    frame = alone.frame(P, alone.hello(P, echo=b"late"), 0, b"")
    alone.event(PeerFrameReceived(link=link, frame=frame))
    assert link not in alone.machine.links


def test_nobody_renews_a_server_that_runs_twice() -> None:
    alone = voter()
    alone.append(P, term=6, prev=END)
    assert alone.last_sent(P, AppendReply).promise_s == TO
    first = alone.ins[P]
    alone.accepted(P, boot=Boot(1, b"a copied folder-"), last=END)  # same counter, another id, both alive
    assert alone.notices("twice")
    assert "runs twice" in " ".join(alone.machine.report().notes)
    alone.boots[P] = Boot(1, b"boot of primary")
    twin, alone.ins[P] = alone.ins[P], first
    alone.append(P, term=6, round=2, prev=END)
    assert alone.last_sent(P, AppendReply).promise_s == 0.0
    alone.ins[P] = twin
    alone.event(LinkEnded(link=twin))
    alone.ins[P] = first
    alone.append(P, term=6, round=3, prev=END)
    assert alone.last_sent(P, AppendReply).promise_s == TO


def test_a_twin_with_a_folder_of_its_own_is_found_out() -> None:
    """P is started on a second machine with an empty folder; recovered, it has the higher counter, as after a restart.
    The one that we dialled answers a nonce that left after its twin had spoken: both are alive."""
    alone = voter()
    alone.append(P, term=6, prev=END)
    assert alone.last_sent(P, AppendReply).promise_s == TO
    first, real = alone.ins[P], alone.boots[P]
    alone.take(P, Hello)
    alone.accepted(P, boot=Boot(2, b"an empty folder-"), last=END)
    asked = alone.take(P, Hello)[0]
    twin, alone.ins[P], alone.boots[P] = alone.ins[P], first, real
    alone.reply(P, alone.hello(P, echo=b"of another time"), term=6)
    assert not alone.notices("twice")
    alone.reply(P, alone.hello(P, echo=asked.nonce), term=6)
    assert alone.notices("twice")
    alone.append(P, term=6, round=2, prev=END)
    assert alone.last_sent(P, AppendReply).promise_s == 0.0
    alone.event(LinkEnded(link=twin))
    alone.append(P, term=6, round=3, prev=END)
    assert alone.last_sent(P, AppendReply).promise_s == TO


def test_a_server_that_was_started_again_is_no_twin() -> None:
    """The connection with the old process ends a moment after the new one has spoken, and it answers nothing more."""
    alone = voter()
    alone.append(P, term=6, prev=END)
    old = alone.ins[P]
    alone.accepted(P, boot=Boot(2, b"started again---"), last=END)
    alone.event(LinkEnded(link=old))
    alone.event(LinkEnded(link=alone.outs.pop(P)))
    alone.run(0.0)
    alone.dialled(P, last=END)
    alone.append(P, term=6, round=2, prev=END)
    assert not alone.notices("twice")
    assert alone.last_sent(P, AppendReply).promise_s == TO


def test_an_older_boot_is_not_heard() -> None:
    alone = voter()
    old = alone.accepted(P, boot=Boot(1, b"boot of primary"), last=END)
    alone.lose(S)
    alone.machine._link_ended(alone.outs.pop(P), alone.now)
    alone.run(0.0)
    alone.dialled(P, boot=Boot(2, b"second boot-----"), last=END)
    alone.boots[P] = Boot(1, b"boot of primary")
    alone.ins[P] = old
    alone.append(P, term=6, prev=END)
    assert not alone.take(P, AppendReply)


# --- rule 7: restart -------------------------------------------------------------------------------------------------


def test_a_restart_honours_the_promise_for_its_full_length() -> None:
    stored = settled_state(T, promised_to=Endpoint(0, Boot(1, b"boot of primary")), promise_len_s=30.0)
    alone = Alone(T, stored)
    alone.connect(S, last=END)
    alone.run(29.9)
    assert not would_vote(alone)
    alone.run(0.2)
    assert would_vote(alone)


def test_ones_own_promise_is_dropped_at_boot() -> None:
    stored = settled_state(S, promised_to=Endpoint(1, Boot(3, b"an earlier boot-")), promise_len_s=79.0)
    alone = Alone(S, stored)
    alone.connect(T, last=END)
    assert alone.machine.hard.promised_to is None
    assert alone.take(T, PreVote)  # it stands at once


def test_the_counter_is_durable_before_the_first_message() -> None:
    alone = Alone(T, settled_state(T), disk_waits=True)
    assert alone.machine.boot.counter == 4
    alone.dials.remove(P)
    alone.outs[P] = 1
    alone.event(PeerConnected(link=1, peer=P))
    assert not alone.take(P, Hello)
    alone.write()
    assert alone.take(P, Hello)


def test_role_and_term_are_not_resumed() -> None:
    triad = formed()
    term = triad[P].machine.hard.term
    triad.kill(P, S, T)
    triad.start(P)
    assert triad[P].machine.report().master is None
    assert triad[P].machine.hard.term == term


def test_a_master_that_restarts_is_elected_in_a_new_term() -> None:
    triad = formed()
    term = triad[P].machine.hard.term
    triad.kill(P)
    triad.start(P)
    triad.run(5.0)
    assert triad.master is not None
    assert triad[triad.master].machine.hard.term > term


# --- rule 12: one-way cuts -------------------------------------------------------------------------------------------


def test_a_voter_that_is_not_heard_does_not_bind_itself() -> None:
    alone = voter()
    alone.append(P, term=6, round=1, prev=END, heard=0)
    assert alone.last_sent(P, AppendReply).promise_s == TO
    alone.run(20.0)
    alone.append(P, term=6, round=2, prev=END, heard=0)
    assert alone.last_sent(P, AppendReply).promise_s == TO
    alone.run(20.0)
    alone.append(P, term=6, round=3, prev=END, heard=0)  # the first acknowledgement is 40 s old and not covered
    assert alone.last_sent(P, AppendReply).promise_s == 0.0
    alone.append(P, term=6, round=4, prev=END, heard=3)  # by order: one lost answer unbinds nobody for ever
    assert alone.last_sent(P, AppendReply).promise_s == TO


def test_answers_of_one_term_are_not_held_against_the_next() -> None:
    alone = voter()
    alone.append(P, term=6, round=1, prev=END)
    alone.run(41.0)
    alone.append(S, term=7, round=1, prev=END)
    assert alone.last_sent(S, AppendReply).promise_s == TO


def test_a_master_answers_an_answer_without_promise_at_once() -> None:
    triad = formed()
    round_before = triad[P].machine.round
    peer = triad[P].machine.peers[T]
    triad[P].machine._on_append_reply(
        peer,
        triad[T].machine._frame(triad[P].machine.me, AppendReply(True, round_before, 3, 0.0, 0.0)),
        AppendReply(True, round_before, 3, 0.0, 0.0),
        triad.now,
    )
    triad.end_turn(P)
    assert triad[P].machine.round == round_before + 1


def test_a_one_way_cut_costs_one_promise_and_not_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others hear the master, it hears nobody: they are bound for one heartbeat beyond the last that was heard."""

    def failover_s() -> float:
        triad = formed()
        triad.silent |= {(T, P), (S, P)}
        return triad.run_until(lambda: triad.master is S, at_most=3 * TO)

    assert failover_s() < TO + 40.0
    monkeypatch.setattr(Rounds, "_deaf", lambda *_: False)
    assert failover_s() > TO + 40.0


def test_a_lost_lease_ends_service_and_claim() -> None:
    triad = formed()
    triad.cut_off(P)
    triad.run_until(lambda: not triad[P].serves(), at_most=TO)
    assert triad[P].serving is None
    assert triad[P].machine.report().master is None
    assert triad[P].stopped[-1].reason


def test_the_promise_state_survives_encoding() -> None:
    hard = HardState(
        triad_id=b"t" * 16, member=True, counter=7, term=9, voted_for=1,
        promised_to=Endpoint(1, Boot(3, b"b" * 16)), promise_len_s=79.0,
    )  # fmt: skip
    assert HardState.decode(hard.encode()) == hard
    assert attrs.evolve(hard, term=10) != hard
    assert StoredState(hard=hard.encode()).hard
