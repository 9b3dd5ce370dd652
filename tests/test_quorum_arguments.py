"""Schedules found by reading the rules against the code, step by step of the proofs in docs/proofs.rst.

Each test tells one schedule in which a step of an argument did not hold, and stands for the mend.
"""

from __future__ import annotations

import pytest

from flexcore.identity import NO_LAST, Boot, Endpoint, Last
from flexcore.quorum import StoredState
from flexcore.quorum.base import Role
from flexcore.wire.messages import (
    AppendReply,
    FormPropose,
    FormReply,
    PreVote,
    PreVoteReply,
    Pull,
    PullReply,
    Vote,
    VoteReply,
)
from tests.quorum_kit import MEMBERS, TO, Alone, P, S, T, config, settled_state
from tests.test_quorum_forming import NEW_TRIAD, WAIT, nobody

OLD_MACHINE = Boot(7, b"old machine's id")
NEW_MACHINE = Boot(0, b"new machine's id")
BEFORE = ("1700dead", *MEMBERS[1:])


def replaced_primary() -> Alone:
    """The tertiary starts with a file in which the primary's machine is another one."""
    state = settled_state(T, hostids=BEFORE, promised_to=Endpoint(0, OLD_MACHINE), promise_len_s=TO)
    return Alone(T, state)


def prevote(alone: Alone, *, term: int = 6) -> PreVoteReply:
    alone.request(S, PreVote(term, Last(9, 9), b"n"), term=5)
    return alone.last_sent(S, PreVoteReply)


def test_what_the_new_machine_says_voids_no_promise_to_the_old_one() -> None:
    alone = replaced_primary()
    alone.connect(S)
    alone.dialled(P, boot=NEW_MACHINE, member=False, committed_triad=b"", serving=False)
    assert not prevote(alone).ok, "the old machine may serve by this promise still"
    alone.run(TO - 1.0)
    assert not prevote(alone).ok
    alone.run(1.0)
    assert prevote(alone).ok


def test_nor_does_a_refusal_where_the_new_machine_will_be() -> None:
    alone = replaced_primary()
    alone.connect(S)
    alone.refuse(P)
    assert not prevote(alone).ok


def test_the_wait_for_the_old_machine_survives_another_restart() -> None:
    first = replaced_primary()
    stored = StoredState(hard=first.batches[-1].hard, entries=settled_state(T).entries)
    alone = Alone(T, stored)
    alone.connect(S)
    alone.refuse(P)
    alone.run(TO - 1.0)
    assert not prevote(alone).ok


def test_a_wait_for_a_replaced_machine_is_not_called_a_lost_state() -> None:
    """It said "it lost its state" of a server that had lost nothing."""
    alone = replaced_primary()
    alone.connect(S)
    report = alone.machine.report()
    assert "or the machine that it had promised is replaced in the licence file" in report.reason
    assert report.until_s is not None
    assert 0 < report.until_s <= TO


def test_the_greeting_of_the_old_machine_does_not_cut_the_new_one_off() -> None:
    """It has the old file, and dials as ever; one greeting made the new machine a stranger until it greeted again."""
    alone = replaced_primary()
    alone.connect(P, boot=Boot(1, b"new machine's id"))
    alone.accepted(P, boot=OLD_MACHINE, membership_digest=b"x" * 32, hostids=BEFORE)
    assert not alone.machine.peers[P].foreign
    assert alone.machine.peers[P].out is not None


# --- rule 9 beside rule 19: a member with another file still serves ---------------------------------------------------


def test_nothing_forms_anew_beside_a_member_that_has_the_old_file() -> None:
    """P's machine is replaced. S and the new P have the new file; T, forgotten, serves on with the old P."""
    alone = Alone(S, settled_state(S))
    alone.run(WAIT + 1.0)
    alone.connect(T, membership_digest=b"x" * 32, hostids=BEFORE)
    assert alone.machine.peers[T].foreign
    alone.connect(P, **nobody(forming_at_s=0.0))
    alone.request(P, FormPropose(NEW_TRIAD, Last(9, 99), 4, False), term=9, triad_id=NEW_TRIAD)
    assert not alone.last_sent(P, FormReply).ok
    alone.lose(T)
    alone.request(P, FormPropose(NEW_TRIAD, Last(9, 99), 5, False), term=10, triad_id=NEW_TRIAD)
    assert alone.last_sent(P, FormReply).ok


def test_nor_does_the_new_machine_propose_it() -> None:
    alone = Alone(P)
    alone.run(WAIT + 1.0)
    alone.connect(T, membership_digest=b"x" * 32, hostids=BEFORE)
    alone.connect(S, forming_at_s=0.0)
    alone.run(5.0)
    assert not alone.take(S, Pull)
    assert not alone.take(S, FormPropose)


# --- rule 9: a forming that came to nothing --------------------------------------------------------------------------


def test_a_tertiary_gives_up_a_forming_that_came_to_nothing_when_a_member_asks() -> None:
    """P is blank, T a member left alone; T grants P's proposal and P dies. S, a member, comes back: T answered it
    under the id of the forming for ever, also after a restart, and S did not listen."""
    alone = Alone(T, settled_state(T))
    alone.run(WAIT + 1.0)
    alone.connect(P, **nobody(forming_at_s=0.0))
    alone.request(P, FormPropose(NEW_TRIAD, Last(9, 99), 4, False), term=9, triad_id=NEW_TRIAD)
    assert alone.last_sent(P, FormReply).ok
    alone.connect(S)
    alone.request(S, PreVote(10, Last(9, 99), b"n"), term=9)
    assert alone.sent[-1][1].triad_id == NEW_TRIAD, "P may serve under that id"
    alone.run(TO)
    alone.request(S, PreVote(10, Last(9, 99), b"n"), term=9)
    to, frame = alone.sent[-1]
    assert (to, frame.triad_id) == (S, alone.triad_id)
    assert isinstance(frame.body, PreVoteReply)
    assert frame.body.ok


def test_a_blank_proposer_copies_again_when_its_copy_is_too_old() -> None:
    """P copied S's log in order to form, was refused because the log had grown, and proposed the old copy for ever."""
    alone = Alone(P)
    alone.run(WAIT + 1.0)
    alone.connect(S, forming_at_s=0.0, last=Last(1, 4))
    alone.run(1.0)
    pull = alone.last_sent(S, Pull)
    state = settled_state(S)
    rows = state.entries
    alone.reply(S, PullReply(pull.nonce, NO_LAST, rows[:4], Last(1, 4)), term=5)
    alone.run(1.0)
    proposal = alone.last_sent(S, FormPropose)
    assert proposal.last == Last(1, 4)
    alone.reply(S, FormReply(False, proposal.triad_id, proposal.round, 0.0, 0.0), term=5)
    alone.run(1.0)
    assert alone.take(S, Pull), "it copies what it lacks before it proposes again"


def test_a_late_append_of_the_old_triad_does_not_free_a_founder_from_its_proposer() -> None:
    """S was master of a term that T never heard of, long ago; its last Append arrives while T, bound to P, waits to
    hear that the new triad is committed. T let go of P for it, and could vote for S while P serves by T's promise."""
    alone = Alone(T, settled_state(T))
    alone.run(WAIT + 1.0)
    alone.connect(P, **nobody(forming_at_s=0.0))
    alone.request(P, FormPropose(NEW_TRIAD, Last(9, 99), 4, False), term=9, triad_id=NEW_TRIAD)
    assert alone.last_sent(P, FormReply).ok
    alone.connect(S)
    alone.append(S, term=10, round=7)
    promised = alone.machine.hard.promised_to
    assert promised is not None
    assert promised.rank == P
    alone.run(TO)
    alone.append(S, term=10, round=8)
    _, frame = alone.sent[-1]
    assert isinstance(frame.body, AppendReply)
    assert frame.triad_id == alone.triad_id, "the forming came to nothing: T follows S"


# --- rule 1: a candidate's promise to itself -------------------------------------------------------------------------


def test_a_candidate_that_steps_down_is_bound_to_itself_no_longer() -> None:
    """It was free for nobody else until its candidacy would have ended: up to a quarter of the timeout."""
    alone = Alone(S, settled_state(S))
    alone.connect(T)
    alone.reply(T, PreVoteReply(True, NO_LAST, b"n", 0.0), term=5)
    vote = alone.last_sent(T, Vote)
    alone.connect(P)
    alone.reply(T, VoteReply(False, vote.round, b"n", 0.0), term=10)
    assert alone.machine.role is not Role.CANDIDATE
    alone.request(P, PreVote(20, Last(19, 99), b"n"), term=19)
    assert alone.last_sent(P, PreVoteReply).ok


# --- rule 9: the longest interval ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval_s", [-1.0, 120.5, 1000.0])
def test_no_server_uses_an_interval_that_the_wait_of_forming_does_not_know(interval_s: float) -> None:
    """With 1000 a client believes for 4029 s; two servers without state would form after 988, and grant all again."""
    with pytest.raises(ValueError, match="heartbeat_interval_s"):
        config(P, heartbeat_interval_s=interval_s)
