"""protocol.md rules 10, 11, 20 and 22: giving mastership away, slow and dead disks, orderly ends."""

from __future__ import annotations

import pytest

from flexcore import timing
from flexcore.identity import Boot, Endpoint, Last
from flexcore.quorum import Halt, StopRequested
from flexcore.quorum.base import Role
from flexcore.wire.messages import (
    AppendReply,
    PreVote,
    PreVoteReply,
    Release,
    StopRelease,
    StopReleaseReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from tests.quorum_kit import TO, WALL, Alone, P, S, T, Triad, formed, session, settled_state

END = Last(1, 6)


def follower(rank: int = S) -> Alone:
    """It follows the primary, master of term 6."""
    alone = Alone(S if rank == S else T, settled_state(S if rank == S else T))
    alone.connect(P, T if rank == S else S, last=END)
    alone.append(P, term=6, prev=END)
    return alone


def release(alone: Alone, *, term: int = 6, giver: Endpoint | None = None, to: Endpoint | None = None) -> Release:
    return Release(term, giver or alone.end(P), to or alone.me)


# --- rule 10 ---------------------------------------------------------------------------------------------------------


def test_the_target_of_a_release_stands_at_once_without_a_pre_vote() -> None:
    alone = follower()
    given = release(alone)
    alone.request(P, TimeoutNow(given), term=6)
    assert not alone.take(T, PreVote)
    assert alone.last_sent(T, Vote).release == given
    assert alone.machine.hard.term == 7


@pytest.mark.parametrize(
    "change",
    [
        {"term": 5},
        {"term": 7},
        {"giver": Endpoint(0, Boot(1, b"an earlier boot-"))},
        {"giver": Endpoint(2, Boot(1, b"boot of tertiary"))},
        {"to": Endpoint(1, Boot(1, b"an earlier boot-"))},
        {"to": Endpoint(2, Boot(1, b"boot of tertiary"))},
    ],
)
def test_a_release_is_bound_to_its_term_giver_and_target(change: dict[str, object]) -> None:
    alone = follower()
    alone.request(P, TimeoutNow(release(alone, **change)), term=6)  # type: ignore[arg-type]
    assert not alone.take(T, Vote)
    assert alone.machine.hard.term == 6


def vote_with(alone: Alone, given: Release | None, *, term: int = 7) -> VoteReply:
    """The secondary asks the tertiary for its vote, showing *given*."""
    alone.request(S, PreVote(term, END, b"n"), term=term - 1)
    nonce = alone.last_sent(S, PreVoteReply).nonce
    alone.request(S, Vote(END, 1, nonce, given), term=term)
    return alone.last_sent(S, VoteReply)


def test_a_voter_is_freed_by_the_release() -> None:
    alone = follower(T)
    assert not vote_with(alone, None).ok
    assert vote_with(alone, Release(6, alone.end(P), alone.end(S))).ok


def test_a_release_of_an_older_term_frees_nobody() -> None:
    """The old master was elected again meanwhile: five and seven steps to two masters in the exploration."""
    alone = follower(T)
    given = Release(6, alone.end(P), alone.end(S))
    alone.append(P, term=7, prev=END)  # it stood again, above
    assert not vote_with(alone, given, term=8).ok


def test_a_release_for_another_frees_nobody() -> None:
    alone = follower(T)
    assert not vote_with(alone, Release(6, alone.end(P), alone.end(P))).ok
    assert not vote_with(alone, Release(6, alone.end(S), alone.end(S))).ok


def test_a_stale_timeout_now_moves_nobody() -> None:
    alone = follower()
    given = release(alone)
    alone.request(P, TimeoutNow(given), term=6)
    alone.run(1.1)  # its candidacy failed: it is in term 7 now
    alone.take(T, Vote)
    alone.request(P, TimeoutNow(given), term=6)
    assert not alone.take(T, Vote)


def test_an_orderly_stop_of_the_master_hands_over() -> None:
    triad = formed()
    triad.propose(P, session(1))
    term = triad[P].machine.hard.term
    triad.stop(P)
    triad.run(0.5)
    assert triad.master is S
    assert triad[S].machine.hard.term == term + 1
    assert triad[P].halt == Halt(exit_code=0, reason="stopped by test")
    assert triad[P].stopped[-1].successor is S
    assert b"user" in b"".join(triad.commands(S))


def test_a_released_term_is_never_served_again() -> None:
    triad = formed()
    term = triad[P].machine.hard.term
    triad.filter = lambda _one, _other, frame: not isinstance(frame.body, TimeoutNow)  # the release is lost
    triad.stop(P)
    assert not triad[P].machine.accepting
    assert not triad[P].serves()
    assert triad[P].machine.released_term == term
    assert triad[P].machine.lease_until < triad.now


def test_a_late_answer_does_not_revive_a_released_lease() -> None:
    triad = formed()
    triad.hold(T, P)
    triad[P].machine.request_round(triad.now)
    triad.end_turn(P)
    triad.stop(P)
    triad.let_go(T, P)
    assert not triad[P].serves()


def test_if_nobody_appears_the_old_master_stands_in_a_new_term() -> None:
    triad = formed(primary_is_master=True)
    triad.kill(P)
    triad.run(1.0)
    assert triad.master is S
    triad.start(P)
    triad.filter = lambda one, _other, frame: not (one is P and isinstance(frame.body, Vote))
    triad.run_until(lambda: triad.master is not S, at_most=3 * TO)
    term = triad[S].machine.hard.term
    triad.run(10.0)
    assert triad.master is S
    assert triad[S].machine.hard.term > term


def test_a_target_that_lags_gets_no_release() -> None:
    triad = formed()
    triad.hold(P, S)
    triad.propose(P, session(1))
    triad.stop(P)
    triad.run(1.0)
    assert not [frame for one, _, frame in triad.sent if one is P and isinstance(frame.body, TimeoutNow)]
    triad.let_go(P, S)
    triad.run(5.0)
    assert triad.master is S  # by the release to nobody in particular, or as the process is gone
    assert len(triad.commands(S)) > 4


def test_a_master_that_hands_over_takes_no_decisions() -> None:
    triad = formed()
    triad.hold(P, S)
    triad.propose(P, session(1))
    assert triad[P].machine.accepting
    triad.stop(P)
    assert not triad[P].machine.accepting


def test_without_a_successor_the_stop_frees_the_voters() -> None:
    triad = formed()
    triad.kill(S)
    triad.stop(P)
    triad.run(1.0)
    assert triad[P].halt is not None
    assert triad[T].machine.hard.promised_to is None
    triad.start(S)
    assert triad.run_until(lambda: triad.master is S, at_most=10.0) < 2.0


def test_a_server_that_stops_does_not_stand() -> None:
    alone = Alone(S, settled_state(S), disk_waits=True)
    alone.write()
    alone.connect(T, last=END)
    assert alone.take(T, PreVote)
    alone.machine._touch_hard()
    alone.turn()  # something that has to be stored first
    alone.event(StopRequested(scope="one", requested_by="test"))
    alone.reply(T, PreVoteReply(True, END, b"nonce", 0.0), term=5)
    alone.write()
    assert not alone.take(T, Vote)
    assert alone.halt is not None


def test_a_follower_stops_at_once() -> None:
    triad = formed()
    triad.stop(T)
    assert triad[T].halt == Halt(exit_code=0, reason="stopped by test")
    assert triad.master is P


# --- rule 11 ---------------------------------------------------------------------------------------------------------


def returned() -> Triad:
    """The secondary serves, and the primary has just come back."""
    triad = formed(primary_is_master=True)
    triad.kill(P)
    triad.run(2.0)
    assert triad.master is S
    triad.start(P)
    return triad


def test_the_primary_takes_over_after_a_timeout_without_a_break() -> None:
    triad = returned()
    took = triad.run_until(lambda: triad.master is P, at_most=3 * TO)
    assert took == pytest.approx(2 * TO, abs=3.0)  # its last reign ended in failure: doubled once
    assert any("takes over in" in text for text in triad[S].said("primary_wait"))


def test_the_wait_doubles_up_to_an_hour() -> None:
    triad = returned()
    machine = triad[S].machine
    waits = []
    for _ in range(8):
        waits.append(machine._primary_wait_s())
        triad.run_until(lambda: triad.master is P, at_most=4000.0)
        triad.run(100.0)
        triad.kill(P)
        triad.run(2.0)
        assert triad.master is S
        triad.start(P)
    assert waits[:4] == [2 * TO, 4 * TO, 8 * TO, 16 * TO]
    assert waits[-1] == timing.PRIMARY_WAIT_MAX_S


def test_an_hour_of_good_reign_forgets() -> None:
    triad = returned()
    triad.run_until(lambda: triad.master is P, at_most=3 * TO)
    triad.run(3601.0)
    triad.kill(P)
    triad.run(2.0)
    assert triad[S].machine._primary_wait_s() == 2 * TO  # of this failure alone


def test_a_break_begins_the_wait_anew() -> None:
    triad = returned()
    triad.run(100.0)
    triad.break_links(P, S)
    broken_at = triad.now
    triad.run_until(lambda: triad.master is P, at_most=4 * TO)
    assert triad.now - broken_at > 2 * TO - 1.0


def test_a_reign_that_ended_in_order_doubles_nothing() -> None:
    triad = formed(primary_is_master=True)
    triad.stop(P)
    triad.run(1.0)
    assert triad.master is S
    assert triad[S].machine._primary_wait_s() == TO


def test_mastership_is_sticky_without_the_keyword() -> None:
    triad = formed()
    triad.kill(P)
    triad.run(2.0)
    triad.start(P)
    triad.run(3 * TO)
    assert triad.master is S


def test_the_primarys_own_file_decides() -> None:
    triad = formed()
    triad.changes[S]["primary_is_master"] = True
    triad.kill(S)
    triad.start(S)
    triad.run(2 * TO)
    triad.kill(P)
    triad.run(2.0)
    triad.start(P)
    triad.run(4 * TO)
    assert triad.master is S


# --- rule 20 ---------------------------------------------------------------------------------------------------------


def test_a_master_with_a_slow_disk_hands_over() -> None:
    triad = formed()
    triad[P].disk_waits = True
    triad.propose(P, session(1))
    triad.run(19.0)
    assert triad.master is P  # served by the two other disks
    triad.run(3.0)
    assert triad.master is S
    assert triad[P].said("disk")
    assert b"user" in b"".join(triad.commands(S))


def test_a_voter_with_a_slow_disk_renews_nobody() -> None:
    alone = follower(T)
    alone.disk_waits = True
    alone.request(S, PreVote(7, END, b"n"), term=6)
    alone.append(P, term=7, round=2, prev=END)
    alone.run(21.0)
    alone.take(P, AppendReply)
    alone.append(P, term=7, round=3, prev=END)
    alone.write()
    assert [reply.promise_s for reply in alone.take(P, AppendReply)] == [TO, 0.0]


def test_a_voter_with_a_slow_disk_does_not_vote() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    alone.disk_waits = True
    alone.machine._touch_hard()
    alone.turn()
    alone.run(21.0)
    alone.request(S, PreVote(7, END, b"n"), term=6)
    alone.write()
    assert [reply.ok for reply in alone.take(S, PreVoteReply)] == [False, True]  # and says when it is well again


def test_a_dead_disk_ends_the_process() -> None:
    triad = formed()
    triad[P].disk_waits = True
    triad.propose(P, session(1))
    triad.run(TO + 10.0 + 1.0)
    halt = triad[P].halt
    assert halt is not None
    assert halt.exit_code == 1
    assert triad[P].serving is None
    assert triad.master is S


def test_a_disk_that_fails_ends_the_process_at_once() -> None:
    alone = follower(T)
    alone.take(P, AppendReply)
    alone.disk_waits = True
    alone.append(P, term=7, round=2, prev=END)
    alone.fail_disk()
    assert alone.halt is not None
    assert "no space left" in alone.halt.reason
    alone.run(10 * TO)
    assert not alone.take(P, AppendReply)  # what waited never leaves
    assert alone.machine.next_timeout() is None


def test_service_ends_before_the_process_does() -> None:
    triad = formed()
    triad[P].disk_waits = True
    triad.cut(P, S)
    triad.propose(P, session(1))
    triad.run(TO + 12.0)
    kinds = [type(each).__name__ for each in triad[P].actions if type(each).__name__ in ("StopServing", "Halt")]
    assert kinds[-2:] == ["StopServing", "Halt"]


# --- rule 22 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [P, S, T])
def test_a_stop_of_all_three_leaves_no_promise(asked: int) -> None:
    triad = formed()
    triad.stop([P, S, T][asked], "all")
    triad.run(3.0)
    assert all(triad[rank].halt == Halt(exit_code=0, reason="stopped by test") for rank in (P, S, T))
    triad.start(S, T)
    assert triad.run_until(lambda: triad.master is S, at_most=10.0) < 2.0  # the next start waits for nothing


def test_the_release_is_durable_before_it_is_answered() -> None:
    alone = follower(T)
    alone.disk_waits = True
    alone.request(P, StopRelease(Release(6, alone.end(P), None), "admin"), term=6)
    assert not alone.take(P, StopReleaseReply)
    assert alone.halt is None
    alone.write()
    assert alone.take(P, StopReleaseReply)
    assert alone.halt is not None
    assert alone.machine.hard.promised_to is None


def test_a_release_of_another_term_or_giver_is_not_taken() -> None:
    primary, secondary = (Endpoint(rank, Boot(1, b"boot of primary")) for rank in (0, 1))
    for given in (Release(5, primary, None), Release(6, secondary._replace(boot=Boot(1, b"x")), None)):
        alone = follower(T)
        alone.request(P, StopRelease(given, ""), term=6)
        assert alone.machine.hard.promised_to == alone.end(P)


def test_without_the_master_the_promise_stays() -> None:
    triad = formed()
    triad.cut_off(P)
    triad.break_links(P, S)
    triad.break_links(P, T)
    triad.stop(T, "all")
    triad.run(3.0)
    assert triad[T].halt is not None
    assert triad[S].halt is not None
    assert triad.servers[P].alive
    assert triad.master is P or not triad[P].serves()
    triad.start(S, T)
    triad.run(10.0)
    assert triad[S].machine.role is not Role.MASTER  # the promise to the master that was not reached is honoured


def test_stopping_is_final() -> None:
    triad = formed()
    triad.stop(S, "all")
    triad.stop(S, "one")
    triad.run(3.0)
    assert triad[S].halt is not None
    assert WALL > 0
