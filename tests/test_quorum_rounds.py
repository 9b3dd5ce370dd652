"""protocol.md rules 5, 12, 14, 15, 20 and 23 at the master: commit, lease, rounds, and what is sent before what."""

from __future__ import annotations

import pytest

from flexcore.identity import NO_LAST, Boot, Last
from flexcore.quorum import Persist, SendFrame, StartServing
from flexcore.wire.messages import Append, AppendReply, EntryRow, PreVoteReply, Vote, VoteReply
from tests.quorum_kit import TO, WALL, Alone, P, S, T, formed, row, session, settled_state

END = Last(1, 6)


def master() -> Alone:
    """The secondary, elected by the tertiary's vote in term 6; nothing of that term is acknowledged yet."""
    alone = Alone(S, settled_state(S))
    alone.connect(T, last=END)
    alone.reply(T, PreVoteReply(True, END, b"nonce", 0.0), term=5)
    vote = alone.last_sent(T, Vote)
    alone.reply(T, VoteReply(True, vote.round, b"nonce", TO), term=6)
    return alone


def acknowledge(alone: Alone, match: int, *, promise_s: float = TO, ok: bool = True) -> Append:
    """The tertiary answers the last Append."""
    append = alone.last_sent(T, Append)
    alone.reply(T, AppendReply(ok, append.round, match, promise_s, WALL), term=alone.machine.hard.term)
    return append


# --- rule 5 ----------------------------------------------------------------------------------------------------------


def test_nobody_is_served_before_the_own_terms_entry_is_committed() -> None:
    alone = master()
    assert not alone.machine.may_serve(alone.now)
    acknowledge(alone, 6)  # everything of the older terms is held by two: not enough (Raft, figure 8)
    assert alone.machine.ledger.commit == 0
    assert not alone.machine.may_serve(alone.now)
    alone.run(20.0)
    acknowledge(alone, 7)
    assert alone.machine.ledger.commit == 7
    assert alone.machine.may_serve(alone.now)
    assert [each.term for each in alone.actions if isinstance(each, StartServing)] == [6]


def test_committed_means_durable_at_two() -> None:
    alone = master()
    acknowledge(alone, 7)
    alone.disk_waits = True
    index = alone.machine.propose(session(1), now=alone.now, wall=alone.wall)
    alone.turn()
    acknowledge(alone, index)  # durable there; our own disk has not answered
    assert alone.machine.ledger.commit == 7
    alone.write()
    assert alone.machine.ledger.commit == index


def test_an_answer_without_promise_counts_for_everything_but_the_lease() -> None:
    alone = master()
    acknowledge(alone, 7)
    before = alone.machine.lease_until
    alone.run(1.0)
    index = alone.machine.propose(session(1), now=alone.now, wall=alone.wall)
    number = alone.machine.request_round(alone.now)
    alone.turn()
    acknowledge(alone, index, promise_s=0.0)
    assert alone.machine.lease_until == before
    assert alone.machine.ledger.commit == index
    assert alone.machine.confirmed_round >= number


def test_match_is_forgotten_when_another_boot_shows() -> None:
    alone = master()
    acknowledge(alone, 7)
    alone.disk_waits = True
    index = alone.machine.propose(session(1), now=alone.now, wall=alone.wall)
    alone.turn()
    acknowledge(alone, index)
    alone.lose(T)
    alone.run(0.0)
    alone.dialled(T, boot=Boot(2, b"second boot-----"), last=END)
    alone.write()
    assert alone.machine.ledger.commit == 7  # the boot that held the entry is gone, perhaps with its disk


def test_nothing_at_or_below_commit_is_overwritten() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    alone.append(P, term=6, prev=END, rows=(row(6, session(7)),), commit=7)
    assert alone.machine.ledger.commit == 7
    alone.append(S, term=7, prev=END, rows=(row(7, session(8)),))
    assert alone.halt is not None
    assert "is committed" in alone.halt.reason
    assert alone.machine.ledger.term_at(7) == 6


def test_a_master_without_what_is_committed_here_stops_this_process() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    alone.append(P, term=6, prev=END, rows=(row(6, session(7)),), commit=7)
    alone.append(S, term=8, prev=Last(7, 7))
    assert alone.halt is not None


def test_a_follower_commits_no_more_than_it_agreed_on() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, last=END)
    alone.append(P, term=6, prev=Last(1, 4), commit=6)
    assert alone.machine.ledger.commit == 4


def test_rows_that_make_no_sense_stop_the_process() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, last=END)
    alone.append(P, term=6, prev=END, rows=(EntryRow(6, WALL, b"\xff\xff\xff"),))
    assert alone.halt is not None
    assert alone.halt.exit_code == 1


def test_a_lagging_follower_is_brought_up_in_order() -> None:
    triad = formed()
    triad.kill(T)
    for number in range(20):
        triad.propose(P, session(number))
    triad.start(T)
    triad.run(25.0)
    assert triad.commands(T) == triad.commands(P)
    assert triad[T].machine.ledger.commit == triad[P].machine.ledger.last.index


def test_a_long_tail_of_one_term_is_skipped_in_one_step() -> None:
    """An overruled master with thousands of entries needed as many round trips."""
    stored = settled_state(T)
    tail = tuple(row(2, session(100 + number)) for number in range(50))
    stored = type(stored)(hard=stored.hard, entries=(*stored.entries, *tail))
    alone = Alone(T, stored)
    alone.connect(P, last=END)
    alone.append(P, term=6, prev=Last(5, 56))
    reply = alone.last_sent(P, AppendReply)
    assert (reply.ok, reply.match) == (False, 6)
    alone.append(P, term=6, prev=END, rows=(row(6, session(7)),))
    assert alone.last_sent(P, AppendReply).match == 7
    assert alone.machine.ledger.last == Last(6, 7)


def test_an_entry_that_was_overruled_while_the_disk_wrote_it_is_not_thought_durable() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    alone.disk_waits = True
    alone.append(P, term=6, prev=END)
    alone.write()
    alone.append(P, term=6, round=2, prev=END, rows=(row(6, session(7)), row(6, session(8))))
    assert alone.pending is not None
    alone.append(S, term=7, prev=END, rows=(row(7, session(9)),))
    alone.write()  # rows 7 and 8 of term 6
    assert alone.machine.durable_index == 6
    assert not alone.take(S, AppendReply)
    assert alone.pending is not None
    assert alone.pending.batch.truncate_from == 7
    alone.write()
    assert alone.machine.durable_index == 7
    assert alone.last_sent(S, AppendReply).match == 7


# --- rules 2 and 14: the lease ---------------------------------------------------------------------------------------


def test_the_lease_counts_from_the_send_of_what_is_answered() -> None:
    alone = master()
    append = alone.last_sent(T, Append)
    sent_at = alone.now
    alone.run(15.0)
    alone.reply(T, AppendReply(True, append.round, 7, TO, WALL), term=6)
    assert alone.machine.lease_until == pytest.approx(sent_at + TO * 0.99 / 1.01)


def test_a_duplicated_answer_extends_nothing() -> None:
    alone = master()
    append = alone.last_sent(T, Append)
    alone.reply(T, AppendReply(True, append.round, 7, TO, WALL), term=6)
    until = alone.machine.lease_until
    alone.run(30.0)
    alone.reply(T, AppendReply(True, append.round, 7, TO, WALL), term=6)
    assert alone.machine.lease_until == until


def test_an_answer_of_an_earlier_term_extends_nothing() -> None:
    alone = master()
    append = alone.last_sent(T, Append)
    alone.reply(T, AppendReply(True, append.round, 7, TO, WALL), term=5)
    assert alone.machine.ledger.commit == 0
    assert alone.machine.confirmed_round == 0


def test_without_answers_service_ends_with_the_lease() -> None:
    alone = master()
    acknowledge(alone, 7)
    until = alone.machine.lease_until
    alone.run(until - alone.now - 0.01)
    assert alone.machine.may_serve(alone.now)
    alone.run(0.02)
    assert not alone.machine.may_serve(alone.now)
    assert alone.notices("lost_quorum")


def test_a_lease_that_is_over_serves_nobody_before_the_timer_fires() -> None:
    alone = master()
    acknowledge(alone, 7)
    assert not alone.machine.may_serve(alone.machine.lease_until)
    assert not alone.machine.may_answer(alone.machine.lease_until + 5.0)


# --- rule 15: rounds -------------------------------------------------------------------------------------------------


def test_a_round_is_sent_after_it_was_asked_for() -> None:
    alone = master()
    append = acknowledge(alone, 7)
    alone.run(1.0)
    number = alone.machine.request_round(alone.now)
    assert number > append.round
    assert alone.machine.confirmed_round < number
    alone.turn()
    again = alone.last_sent(T, Append)
    assert again.round == number
    alone.reply(T, AppendReply(True, append.round, 7, TO, WALL), term=6)  # of the round before
    assert alone.machine.confirmed_round < number
    alone.reply(T, AppendReply(True, again.round, 7, TO, WALL), term=6)
    assert alone.machine.confirmed_round == number


def test_one_round_serves_all_who_wait() -> None:
    alone = master()
    acknowledge(alone, 7)
    numbers = {alone.machine.request_round(alone.now) for _ in range(50)}
    alone.turn()
    assert len(numbers) == 1
    assert len(alone.take(T, Append)) == 1


def test_a_higher_term_shown_by_a_client_silences_until_a_round_confirms() -> None:
    alone = master()
    acknowledge(alone, 7)
    alone.machine.note_term_seen(6, alone.now)
    assert alone.machine.may_answer(alone.now)
    alone.machine.note_term_seen(7, alone.now)
    assert not alone.machine.may_answer(alone.now)
    alone.turn()
    acknowledge(alone, 7)
    assert alone.machine.may_answer(alone.now)


# --- rule 20: what leaves before what --------------------------------------------------------------------------------


def test_an_entry_goes_to_the_peers_before_the_own_disk() -> None:
    alone = master()
    acknowledge(alone, 7)
    alone.actions.clear()
    alone.machine.propose(session(1), now=alone.now, wall=alone.wall)
    alone.turn()
    kinds = [type(each) for each in alone.actions if isinstance(each, SendFrame | Persist)]
    assert kinds == [SendFrame, Persist]


def test_a_turn_of_many_decisions_is_one_append_and_one_persist() -> None:
    alone = master()
    acknowledge(alone, 7)
    alone.actions.clear()
    for number in range(64):
        alone.machine.propose(session(number), now=alone.now, wall=alone.wall)
    alone.turn()
    (append,) = alone.take(T, Append)
    assert len(append.entries) == 64
    assert sum(isinstance(each, Persist) for each in alone.actions) == 1


def test_at_most_one_persist_is_outstanding() -> None:
    alone = master()
    acknowledge(alone, 7)
    alone.disk_waits = True
    for number in range(3):
        alone.machine.propose(session(number), now=alone.now, wall=alone.wall)
        alone.turn()
    assert sum(isinstance(each, Persist) for each in alone.actions[-3:]) <= 1
    alone.write()
    assert alone.pending is not None
    assert len(alone.pending.batch.entries) == 2  # group commit
    alone.write()
    assert alone.machine.durable_index == 10


def test_an_acknowledgement_of_entries_waits_for_the_disk_and_a_heartbeats_does_not() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, last=END)
    alone.append(P, term=6, prev=END)
    alone.take(P, AppendReply)
    alone.disk_waits = True
    alone.append(P, term=6, round=2, prev=END, rows=(row(6, session(7)),))
    assert not alone.take(P, AppendReply)
    alone.append(P, term=6, round=3, prev=Last(6, 7))
    assert alone.last_sent(P, AppendReply).match == 6  # what is durable, not what is held
    alone.write()
    assert alone.last_sent(P, AppendReply).match == 7


# --- rule 23 ---------------------------------------------------------------------------------------------------------


def test_after_a_suspension_one_round_trip_is_needed() -> None:
    alone = master()
    acknowledge(alone, 7)
    alone.wall_ahead += 15.0  # less than a heartbeat: a wall clock that was set
    alone.run(0.0)
    assert alone.machine.may_answer(alone.now)
    alone.wall_ahead += 21.0
    alone.run(0.0)
    assert not alone.machine.may_answer(alone.now)
    assert alone.machine.may_serve(alone.now)  # no failover: the lease is doubted, not lost
    acknowledge(alone, 7)
    assert alone.machine.may_answer(alone.now)


def test_a_wall_clock_set_back_doubts_nothing() -> None:
    alone = master()
    acknowledge(alone, 7)
    alone.wall_ahead -= 100_000.0
    alone.run(0.0)
    assert alone.machine.may_answer(alone.now)


def test_stamps_never_fall() -> None:
    triad = formed()
    triad.propose(P, session(1))
    triad.wall_ahead -= 5000.0
    triad.propose(P, session(2))
    stamps = [each.stamp for each in triad[P].machine.ledger.rows(1, 1 << 30)]
    assert stamps == sorted(stamps)
    assert triad[P].machine.ledger.last > NO_LAST
