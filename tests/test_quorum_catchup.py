"""Catching up by entries and by snapshot (protocol.md rules 3 and 8; flexcore/quorum/catchup.py)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from flexcore.identity import NO_LAST, Last
from flexcore.ledger import Ledger, Snapshot
from flexcore.quorum import catchup, rounds
from flexcore.wire.messages import (
    Append,
    AppendReply,
    EntryRow,
    PreVoteReply,
    Pull,
    PullReply,
    Recover,
    RecoverReply,
)
from tests.quorum_kit import TO, Alone, P, S, T, formed, row, session, settled_state

END = Last(1, 6)


def snapshot_of(count: int, *, term: int = 1) -> tuple[Snapshot, tuple[EntryRow, ...]]:
    """A snapshot of so many entries, and those entries."""
    rows = settled_state(S, rows=count - 3).entries
    ledger = Ledger(None, rows)
    ledger.commit_to(count)
    return ledger.make_snapshot(), rows


def piece(nonce: bytes, snapshot: Snapshot, offset: int, size: int, *, last: Last | None = None) -> PullReply:
    return PullReply(
        nonce, snapshot.last, (), last or snapshot.last, snapshot.state[offset : offset + size], offset,
        len(snapshot.state), snapshot.stamp,
    )  # fmt: skip


def recovering() -> Alone:
    """It has been told by the serving primary to copy ten entries."""
    alone = Alone(T)
    alone.connect(P, S, last=Last(1, 10))
    asked = alone.last_sent(P, Recover)
    answer = RecoverReply(asked.nonce, Last(1, 10), True, True, TO, None, True, alone.triad_id)
    alone.reply(P, answer, term=6)
    return alone


@pytest.fixture
def short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "SNAPSHOT_ENTRIES", 8)
    monkeypatch.setattr(catchup, "PULL_BYTES", 200)


# --- whole triads ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_logs")
def test_a_lagging_follower_gets_the_snapshot() -> None:
    triad = formed()
    triad.kill(T)
    for number in range(40):
        triad.propose(P, session(number))
    triad.run(1.0)
    assert triad[P].machine.ledger.base.index > 8
    triad.start(T)
    triad.run(25.0)
    assert len(triad.logs()) == 1
    assert triad[T].machine.ledger.commit == triad[P].machine.ledger.last.index
    assert triad[T].machine.ledger.state.sessions.keys() == triad[P].machine.ledger.state.sessions.keys()


@pytest.mark.usefixtures("short_logs")
def test_who_has_to_pull_is_told_by_heartbeats_not_with_every_turn() -> None:
    """Seed 89: a peer that did not pull was sent an Append with every turn of the master, a million of them."""
    triad = formed()
    triad.kill(T)
    for number in range(40):
        triad.propose(P, session(number))
    triad.run(1.0)
    triad.filter = lambda sender, _to, frame: not (sender is T and isinstance(frame.body, Pull))
    triad.start(T)
    triad.run(25.0)
    triad.sent.clear()
    for number in range(40, 140):
        triad.propose(P, session(number))
    told = [frame for sender, to, frame in triad.sent if sender is P and to is T and isinstance(frame.body, Append)]
    assert len(told) < 10
    triad.filter = lambda _from, _to, _frame: True
    triad.run(60.0)
    assert len(triad.logs()) == 1


@pytest.mark.usefixtures("short_logs")
def test_the_follower_of_a_busy_master_catches_up() -> None:
    """Seed 873: between two heartbeats the master folded more into its snapshot than the follower had pulled, so that
    it had to pull again with each heartbeat, for ever, and the primary never became master."""
    triad = formed()
    triad.kill(T)
    for number in range(40):
        triad.propose(P, session(number))
    triad.run(1.0)
    triad.start(T)
    for number in range(40, 400):
        triad.propose(P, session(number))
        triad.run(0.25)
    assert triad[P].machine.ledger.last.index - triad[P].machine.peers[T].match < 8


@pytest.mark.usefixtures("short_logs")
def test_a_server_without_state_recovers_by_snapshot() -> None:
    triad = formed()
    for number in range(40):
        triad.propose(P, session(number))
    triad.kill(T)
    triad[T].disk.lose()
    triad.start(T)
    triad.run(10.0)
    assert triad.members() == {P, S, T}
    triad.run(20.0)
    assert len(triad[T].machine.ledger.state.sessions) == 40
    triad.kill(P, S)  # what it stored is whole: snapshot and rows
    triad.kill(T)
    triad.start(T)
    assert len(triad[T].machine.ledger.state.sessions) == 40


@pytest.mark.usefixtures("short_logs")
def test_a_candidate_catches_up_by_snapshot() -> None:
    triad = formed()
    triad.cut(P, S)
    triad.break_links(P, S)
    for number in range(40):
        triad.propose(P, session(number))
    triad.run(25.0)
    triad.kill(P)
    triad.heal()
    assert triad[T].machine.ledger.base.index > triad[S].machine.ledger.last.index
    triad.run(TO + 10.0)
    assert triad.master is S
    assert len(triad[S].machine.ledger.state.sessions) == 40


@pytest.mark.usefixtures("short_logs")
def test_a_folded_log_survives_a_restart_of_all() -> None:
    triad = formed()
    for number in range(40):
        triad.propose(P, session(number))
    triad.run(21.0)
    sessions = triad[P].machine.ledger.state.sessions.keys()
    assert len(sessions) == 40
    triad.kill(P, S, T)
    triad.start(P, S, T)
    for rank in (P, S, T):
        assert triad[rank].machine.ledger.state.sessions.keys() == sessions
        assert triad[rank].machine.ledger.base.index > 8


@pytest.mark.usefixtures("short_logs")
def test_the_log_is_kept_while_a_connected_peer_lags() -> None:
    triad = formed()
    triad.hold(T, P)  # T's acknowledgements are late
    for number in range(40):
        triad.propose(P, session(number))
    assert triad[P].machine.ledger.base.index == 0
    for number in range(40, 80):
        triad.propose(P, session(number))
    assert triad[P].machine.ledger.base.index > 0  # but not for ever


# --- pieces of a snapshot --------------------------------------------------------------------------------------------


def test_a_snapshot_comes_in_pieces() -> None:
    snapshot, _ = snapshot_of(10)
    alone = recovering()
    offset = 0
    while offset < len(snapshot.state):
        pull = alone.last_sent(P, Pull)
        assert pull.offset == offset
        alone.reply(P, piece(pull.nonce, snapshot, offset, 100), term=6)
        offset += 100
    assert alone.machine.hard.member
    assert alone.machine.ledger.last == Last(1, 10)
    batch = next(each for each in reversed(alone.batches) if each.snapshot)
    assert batch.replace_log


def test_pieces_of_two_snapshots_are_not_glued() -> None:
    older, _ = snapshot_of(8)
    newer, _ = snapshot_of(10)
    alone = recovering()
    pull = alone.last_sent(P, Pull)
    alone.reply(P, piece(pull.nonce, older, 0, 100), term=6)
    pull = alone.last_sent(P, Pull)
    alone.reply(P, piece(pull.nonce, newer, 100, 100), term=6)  # the master made another meanwhile
    assert alone.machine.pull is None
    assert not alone.machine.hard.member


def test_a_new_snapshot_from_its_beginning_replaces_the_pieces() -> None:
    older, _ = snapshot_of(8)
    newer, _ = snapshot_of(10)
    alone = recovering()
    pull = alone.last_sent(P, Pull)
    alone.reply(P, piece(pull.nonce, older, 0, 100), term=6)
    pull = alone.last_sent(P, Pull)
    alone.reply(P, piece(pull.nonce, newer, 0, 1 << 20), term=6)
    assert alone.machine.hard.member
    assert alone.machine.ledger.last == Last(1, 10)


def test_a_repeated_piece_counts_once() -> None:
    snapshot, _ = snapshot_of(10)
    alone = recovering()
    pull = alone.last_sent(P, Pull)
    alone.reply(P, piece(pull.nonce, snapshot, 0, 100), term=6)
    alone.reply(P, piece(pull.nonce, snapshot, 0, 100), term=6)
    assert alone.last_sent(P, Pull).offset == 100
    alone.reply(P, piece(pull.nonce, snapshot, 100, 1 << 20), term=6)
    assert alone.machine.hard.member


@pytest.mark.parametrize("size", [0, -1, catchup.MAX_SNAPSHOT_BYTES + 1])
def test_a_snapshot_of_an_impossible_size_is_refused(size: int) -> None:
    snapshot, _ = snapshot_of(10)
    alone = recovering()
    pull = alone.last_sent(P, Pull)
    alone.reply(P, piece(pull.nonce, snapshot, 0, 100)._replace(snapshot_size=size), term=6)
    assert alone.machine.pull is None


def test_a_damaged_snapshot_stops_the_process_in_words() -> None:
    snapshot, _ = snapshot_of(10)
    broken = snapshot._replace(state=snapshot.state[:-1] + bytes([snapshot.state[-1] ^ 1]))
    alone = recovering()
    pull = alone.last_sent(P, Pull)
    alone.reply(P, piece(pull.nonce, broken, 0, 1 << 20), term=6)
    assert alone.halt is not None
    assert not alone.machine.hard.member


def test_rows_follow_the_snapshot() -> None:
    snapshot, rows = snapshot_of(8)
    alone = recovering()
    pull = alone.last_sent(P, Pull)
    alone.reply(P, piece(pull.nonce, snapshot, 0, 1 << 20, last=Last(1, 10)), term=6)
    pull = alone.last_sent(P, Pull)
    assert pull.from_index == 9
    more = (row(1, session(70)), row(1, session(71)))
    alone.reply(P, PullReply(pull.nonce, snapshot.last, more, Last(1, 10)), term=6)
    assert alone.machine.hard.member
    assert alone.machine.ledger.base == Last(1, 8)
    assert alone.machine.ledger.last == Last(1, 10)
    assert len(rows) == 8


# --- entries ---------------------------------------------------------------------------------------------------------


def test_a_repeated_answer_moves_nothing() -> None:
    alone = recovering()
    rows = settled_state(S, rows=7).entries
    pull = alone.last_sent(P, Pull)
    first = PullReply(pull.nonce, NO_LAST, rows[:4], Last(1, 10))
    alone.reply(P, first, term=6)
    asked = alone.take(P, Pull)
    alone.reply(P, first, term=6)
    assert not alone.take(P, Pull)  # no second question: two chains would double for ever
    assert [each.from_index for each in asked] == [5]
    alone.reply(P, PullReply(pull.nonce, Last(1, 4), rows[4:], Last(1, 10)), term=6)
    assert alone.machine.hard.member
    assert alone.machine.ledger.last == Last(1, 10)


def test_an_answer_without_entries_where_there_should_be_some_ends_the_catch_up() -> None:
    alone = recovering()
    pull = alone.last_sent(P, Pull)
    alone.reply(P, PullReply(pull.nonce, NO_LAST, (), Last(1, 10)), term=6)
    assert alone.machine.pull is None


def test_a_catch_up_without_answers_is_given_up() -> None:
    alone = recovering()
    alone.run(catchup.FORGET_PULL_S + 0.1)
    assert alone.machine.pull is None


def test_two_logs_are_not_glued_for_a_candidate_either() -> None:
    stored = settled_state(S)
    alone = Alone(S, stored)
    alone.connect(T, last=Last(4, 9))
    alone.reply(T, PreVoteReply(False, Last(4, 9), b"nonce", 0.0), term=5)
    pull = alone.last_sent(T, Pull)
    alone.reply(T, PullReply(pull.nonce, END, (row(3, session(70)),), Last(3, 9)), term=5)
    pull = alone.last_sent(T, Pull)
    alone.reply(T, PullReply(pull.nonce, Last(4, 7), (row(4, session(71)),), Last(4, 8)), term=5)
    assert alone.machine.ledger.last == END


def follower(rank: Any = T, **changes: Any) -> Alone:
    alone = Alone(rank, attrs.evolve(settled_state(rank), **changes))
    alone.connect(P, last=END)
    return alone


def test_a_follower_pulls_what_the_master_has_folded() -> None:
    alone = follower()
    alone.append(P, term=6, prev=Last(1, 40), pull=True, commit=40)
    reply = alone.last_sent(P, AppendReply)
    assert not reply.ok
    pull = alone.last_sent(P, Pull)
    snapshot, _ = snapshot_of(40)
    alone.reply(P, piece(pull.nonce, snapshot, 0, 1 << 20), term=6)
    assert alone.machine.ledger.last == Last(1, 40)
    assert alone.machine.ledger.commit == 40
    said = alone.last_sent(P, AppendReply)  # unasked: the master goes on from there, now and not at its next heartbeat
    assert (said.ok, said.round, said.match, said.promise_s) == (True, 0, 40, 0.0)
    alone.append(P, term=6, round=2, prev=Last(1, 40), commit=40)
    assert alone.last_sent(P, AppendReply).match == 40


def test_what_was_acknowledged_meanwhile_is_not_lost_by_a_snapshot() -> None:
    """The snapshot was asked for, then the entries came after all; the answer of a moment before must not shorten."""
    alone = follower()
    alone.append(P, term=6, prev=Last(6, 9), pull=True)
    pull = alone.last_sent(P, Pull)
    rows = (row(6, session(70)), row(6, session(71)), row(6, session(72)))
    alone.append(P, term=6, round=2, prev=END, rows=rows)
    assert alone.last_sent(P, AppendReply).match == 9
    ledger = Ledger(None, (*settled_state(T).entries, rows[0]))
    ledger.commit_to(7)
    alone.reply(P, piece(pull.nonce, ledger.make_snapshot(), 0, 1 << 20), term=6)
    assert alone.machine.ledger.last == Last(6, 9)


def test_a_catch_up_of_an_older_term_is_dropped() -> None:
    alone = follower()
    alone.append(P, term=6, prev=Last(1, 40), pull=True)
    pull = alone.last_sent(P, Pull)
    alone.append(P, term=7, round=2, prev=END)
    snapshot, _ = snapshot_of(40)
    alone.reply(P, piece(pull.nonce, snapshot, 0, 1 << 20), term=6)
    assert alone.machine.ledger.last == END


# --- answering -------------------------------------------------------------------------------------------------------


def test_anybody_asked_answers_from_its_log() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, last=END)
    alone.request(P, Pull(3, b"q"), term=0)
    reply = alone.last_sent(P, PullReply)
    assert (reply.prev, len(reply.entries), reply.last) == (Last(1, 2), 4, END)
    alone.request(P, Pull(100, b"q"), term=0)
    reply = alone.last_sent(P, PullReply)
    assert (reply.prev, reply.entries) == (END, ())
    alone.request(P, Pull(-5, b"q"), term=0)
    assert len(alone.last_sent(P, PullReply).entries) == 6


def test_a_snapshot_is_answered_from_any_offset() -> None:
    snapshot, rows = snapshot_of(10)
    stored = attrs.evolve(settled_state(T), snapshot=snapshot, entries=(row(1, session(70)),))
    alone = Alone(T, stored)
    alone.connect(P, last=Last(1, 11))
    for offset, expected in ((0, 0), (50, 50), (1 << 30, 0), (-3, 0)):
        alone.request(P, Pull(2, b"q", offset), term=0)
        reply = alone.last_sent(P, PullReply)
        assert reply.offset == expected
        assert reply.snapshot == snapshot.state[expected : expected + catchup.PULL_BYTES]
    alone.request(P, Pull(11, b"q"), term=0)
    assert len(alone.last_sent(P, PullReply).entries) == 1
    assert len(rows) == 10


def test_a_master_says_pull_where_its_log_does_not_reach_back() -> None:
    triad = formed()
    machine = triad[P].machine
    for number in range(20):
        triad.propose(P, session(number))
    triad.run(1.0)
    machine.snapshot = machine.ledger.make_snapshot()
    machine.ledger.compact(machine.snapshot.last.index)
    machine.peers[T].next = 2
    machine.request_round(triad.now)
    triad.end_turn(P)
    append = [frame.body for one, to, frame in triad.sent if (one, to) == (P, T) and isinstance(frame.body, Append)][-1]
    assert append.pull
    assert not append.entries
