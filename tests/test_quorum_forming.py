"""protocol.md rules 9 and 19 (membership): how a triad begins, begins anew, and meets another of itself."""

from __future__ import annotations

from typing import Any

import pytest

from flexcore.identity import NO_LAST, Boot, Last
from flexcore.ledger.commands import Formed, Rights, TermStarted
from flexcore.quorum import HardState
from flexcore.quorum.recovery import LONGEST_TIMEOUT_S
from flexcore.wire.codec import decode_command
from flexcore.wire.messages import FormPropose, FormReply, Hello, PreVote, Seen
from tests.quorum_kit import MEMBERS, TO, Alone, P, S, T, Triad, formed, session, settled_state

END = Last(1, 6)
WAIT = 988.0
"""TO + L for HEARTBEAT_INTERVAL=120, the longest that a file may set."""
NEW_TRIAD = b"new-triad-------"


def nobody(**changes: Any) -> dict[str, Any]:
    """What a server without state says of itself."""
    facts = {"member": False, "has_state": False, "committed_triad": b"", "only_formed": True, "forming_at_s": WAIT}
    return facts | changes


# --- the first start -------------------------------------------------------------------------------------------------


def test_the_wait_is_the_longest_that_any_file_may_set() -> None:
    assert LONGEST_TIMEOUT_S + LONGEST_TIMEOUT_S + 30.0 == WAIT


def test_a_triad_forms_at_once_on_the_administrators_word() -> None:
    triad = Triad(first_start=True)
    triad.start(P, S, T)
    took = triad.run_until(lambda: triad.master is P, at_most=10.0)
    assert took <= 1.0
    assert [type(decode_command(each)) for each in triad.commands(P)] == [Formed, TermStarted, Rights]
    triad.run(2.0)
    assert triad.members() == {P, S, T}
    assert len({triad[rank].machine.hard.triad_id for rank in (P, S, T)}) == 1
    assert triad[P].said("first_start_ignored") == triad[S].said("first_start_ignored") == [], "it was heeded"


def test_without_that_word_a_triad_forms_after_the_wait_from_the_later_boot() -> None:
    triad = Triad()
    triad.start(P, T)
    triad.run(100.0)
    triad.start(S)
    assert "--first-start skips the wait" in triad[S].machine.report().reason
    until = triad[S].machine.report().until_s
    assert until == pytest.approx(WAIT)
    triad.power_off(T)
    triad.run(WAIT - 1.0)
    assert triad.master is None
    assert triad.members() == set()
    triad.run(3.0)
    assert triad.master is P


def test_nothing_is_granted_while_waiting() -> None:
    alone = Alone(S)
    alone.connect(P, **nobody())
    alone.request(P, FormPropose(NEW_TRIAD, NO_LAST, 1, False), term=1, triad_id=NEW_TRIAD)
    assert not alone.last_sent(P, FormReply).ok
    assert alone.machine.hard.promised_to is None


def test_the_word_of_either_server_is_enough() -> None:
    alone = Alone(S)
    alone.connect(P, **nobody(first_start=True))
    alone.request(P, FormPropose(NEW_TRIAD, NO_LAST, 1, True), term=1, triad_id=NEW_TRIAD)
    assert alone.last_sent(P, FormReply).ok


def test_a_lone_server_forms_nothing() -> None:
    triad = Triad(first_start=True)
    triad.start(P)
    triad.run(2 * WAIT)
    assert triad.master is None
    assert triad.members() == set()


def test_the_tertiary_proposes_nothing() -> None:
    alone = Alone(T, first_start=True)
    alone.connect(P, S, **nobody(first_start=True))
    alone.run(100.0)
    assert not alone.take(P, FormPropose)
    assert not alone.take(S, FormPropose)


def test_the_secondary_leaves_the_proposal_to_a_primary_that_is_present() -> None:
    alone = Alone(S, first_start=True)
    alone.connect(P, T, **nobody(first_start=True))
    alone.run(20.0)
    assert not alone.take(T, FormPropose)
    alone.lose(P)
    alone.refuse(P)
    alone.run(3.0)
    assert alone.take(T, FormPropose)


def test_a_grant_is_a_vote_and_a_promise_and_durable_first() -> None:
    alone = Alone(S)
    alone.connect(P, **nobody(first_start=True))
    alone.disk_waits = True
    alone.request(P, FormPropose(NEW_TRIAD, NO_LAST, 1, True), term=1, triad_id=NEW_TRIAD)
    assert not alone.take(P, FormReply)
    assert alone.pending is not None
    assert alone.pending.batch.hard is not None
    hard = HardState.decode(alone.pending.batch.hard)
    assert (hard.term, hard.voted_for, hard.promised_to) == (1, 0, alone.end(P))
    assert (hard.pending_triad, hard.triad_id, hard.member) == (NEW_TRIAD, b"", False)
    alone.write()
    assert alone.last_sent(P, FormReply).promise_s == TO
    alone.request(T if T in alone.ins else P, FormPropose(b"x" * 16, NO_LAST, 2, True), term=1, triad_id=b"x" * 16)
    assert not alone.last_sent(P, FormReply).ok  # one vote a term


def test_first_start_waits_until_the_third_had_a_chance() -> None:
    """The third one is a member with its state; it answers half a second later than the blank one."""
    alone = Alone(P, first_start=True)
    alone.connect(S, **nobody(first_start=True))
    alone.run(0.5)
    assert not alone.take(S, FormPropose)
    alone.connect(T, last=END)
    alone.run(30.0)
    assert not alone.take(S, FormPropose)
    assert alone.notices("first_start_ignored")
    alone.lose(T)
    alone.run(10.0)
    assert not alone.take(S, FormPropose)  # and it stays ignored


def test_first_start_does_not_wait_for_a_third_that_is_not_there() -> None:
    alone = Alone(P, first_start=True)
    alone.refuse(T)
    alone.connect(S, **nobody(first_start=True))
    alone.run(0.5)
    assert alone.take(S, FormPropose)
    alone = Alone(P, first_start=True)
    alone.connect(S, **nobody(first_start=True))  # the third one's dial neither succeeds nor fails
    alone.run(1.1)
    assert alone.take(S, FormPropose)


def test_first_start_is_ignored_with_state() -> None:
    alone = Alone(S, settled_state(S), first_start=True)
    assert alone.notices("first_start_ignored")
    assert not alone.machine.first_start


def test_a_refused_proposal_teaches_the_term() -> None:
    """The other one had proposed in vain a thousand times: its term was out of reach."""
    alone = Alone(P, first_start=True)
    alone.refuse(T)
    alone.connect(S, **nobody(first_start=True))
    alone.run(0.5)
    body = alone.last_sent(S, FormPropose)
    alone.reply(S, FormReply(False, body.triad_id, body.round, 0.0, 0.0), term=50)
    alone.run(2.0)
    terms = [frame.term for to, frame in alone.sent if to is S and isinstance(frame.body, FormPropose)]
    assert terms[0] == 51


# --- what came to nothing --------------------------------------------------------------------------------------------


def test_an_uncommitted_forming_counts_as_blank() -> None:
    """The proposer died between its proposal and the commit; the other two form."""
    triad = Triad(first_start=True)
    triad.hold(S, P)
    triad.start(P, S)
    triad.run(2.0)
    triad.let_go(S, P)
    triad.hold(S, P)
    triad.kill(P)
    triad.held.clear()
    triad.start(T)
    triad.run(TO + 20.0)
    assert triad.master is S
    triad.start(P)
    triad.run(10.0)
    assert triad.members() == {P, S, T}
    assert len({triad[rank].machine.hard.triad_id for rank in (P, S, T)}) == 1


def founder_in_the_dark() -> Triad:
    """The proposer committed Formed and died before its next Append: the other holds it and does not know."""
    triad = Triad(first_start=True)
    triad.filter = lambda sender, _to, _frame: sender is S or not triad[P].machine.hard.member
    triad.start(P, S)
    triad.run_until(lambda: P in triad.members(), at_most=5.0)
    triad.kill(P)
    triad.filter = lambda _from, _to, _frame: True
    assert triad.members() == set()
    assert triad[S].machine.ledger.state.triad_id == triad[P].machine.hard.triad_id
    return triad


def test_a_founder_that_holds_formed_learns_from_a_member_that_it_is_committed() -> None:
    """Beside its proposer, back as a member, it waited for 988 s."""
    triad = founder_in_the_dark()
    triad.start(P)
    triad.run_until(lambda: triad.members() == {P, S}, at_most=10.0)
    triad.run_until(lambda: triad.master is not None, at_most=TO + 20.0)


def test_a_founder_in_the_dark_forms_no_other_triad_by_the_administrators_word() -> None:
    """Its proposer may have served: with a blank third one it formed anew at once, and the proposer came back to
    a triad that had been formed without it (seed 5139 of the soak)."""
    triad = founder_in_the_dark()
    triad.start(T)
    triad.run(TO + 60.0)
    assert triad.master is None
    assert "primary, which may be in force" in triad[S].machine.report().reason
    triad.start(P)
    triad.run(TO + 20.0)
    assert triad.members() == {P, S, T}
    assert triad.master is not None
    assert not any(triad[rank].halt for rank in (P, S, T))


def test_the_wait_counts_from_the_last_word_of_a_founder() -> None:
    """All had been up for longer than the wait when the founder was cut off, and no word was given (seed 5575)."""
    triad = Triad()
    triad.filter = lambda sender, _to, _frame: sender is not P or not triad[P].machine.hard.member
    triad.start(P, S, T)
    triad.run_until(lambda: P in triad.members(), at_most=WAIT + 10.0)
    triad.cut_off(P)
    triad.filter = lambda _from, _to, _frame: True
    triad.run(TO + 100.0)
    assert triad.members() == {P}
    assert triad.master is None
    triad.heal()
    triad.run(TO + 60.0)
    assert triad.members() == {P, S, T}
    assert triad.master is not None
    assert not any(triad[rank].halt for rank in (P, S, T))


def test_a_founder_in_the_dark_whose_proposer_is_gone_for_good_waits() -> None:
    triad = founder_in_the_dark()
    triad.start(T)
    triad.run(WAIT + 20.0)
    assert triad.master is S
    assert triad.members() == {S, T}


def test_a_founder_in_the_dark_may_be_believed_where_all_three_are_there() -> None:
    """The proposer has lost its disk: what it served is known to one of the others, and neither is a member."""
    triad = founder_in_the_dark()
    triad[P].disk = type(triad[P].disk)()
    triad.start(P, T)
    triad.run(TO + 20.0)
    assert triad.master is not None
    assert triad.members() == {P, S, T}


def test_a_silent_founder_is_not_taken_for_the_blank_server_that_it_was_when_it_greeted() -> None:
    """It serves and is suspended; all three are there, and none has said that it is a member (seed 11011)."""
    triad = Triad(first_start=True)
    triad.filter = lambda sender, _to, _frame: sender is not P or not triad[P].machine.hard.member
    triad.start(P, T)
    triad.run_until(lambda: P in triad.members(), at_most=5.0)
    tertiary = triad[T].machine
    assert tertiary.ledger.state.triad_id == triad[P].machine.hard.triad_id
    triad.cut(S, P)
    triad.start(S)
    triad.run(2.0)
    assert tertiary._all_present()
    assert not tertiary._form_allowed(tertiary.peers[S], triad.now)
    triad.heal()
    triad.filter = lambda _from, _to, _frame: True
    triad.run(TO + 60.0)
    assert triad.members() == {P, S, T}
    assert not any(triad[rank].halt for rank in (P, S, T))


def test_a_founder_that_shows_less_than_is_remembered_has_to_recover() -> None:
    """Rule 7 before that: what it forgot it may have acknowledged."""
    triad = founder_in_the_dark()
    stored = triad[P].disk.hard
    assert stored is not None
    hard = HardState.decode(stored)
    seen = hard.peer_seen[S]
    hard.peer_seen[S] = Seen(seen.boot, Last(seen.last.term, seen.last.index + 5))
    triad[P].disk.hard = hard.encode()
    triad.kill(S)
    triad.start(P, S)
    triad.run(20.0)
    assert triad.members() == {P}
    assert not [each for each in triad[S].notices if each.kind == "formed"], "it was a member for a moment"


def test_a_member_gives_up_a_forming_that_came_to_nothing() -> None:
    """It spoke under the pending id for ever after, and the member that came back did not listen."""
    alone = Alone(S, settled_state(S))
    alone.run(WAIT + 1.0)
    alone.connect(P, **nobody(forming_at_s=0.0))
    alone.request(P, FormPropose(NEW_TRIAD, END, 4, False), term=9, triad_id=NEW_TRIAD)
    assert alone.last_sent(P, FormReply).ok
    alone.lose(P)
    alone.refuse(P)
    alone.refuse(P)
    alone.connect(T, last=END)
    alone.run(1.0)
    frames = [frame for to, frame in alone.sent if to is T and isinstance(frame.body, PreVote)]
    assert frames
    assert {frame.triad_id for frame in frames} == {alone.triad_id}


# --- forming anew ----------------------------------------------------------------------------------------------------


def test_a_member_beside_a_blank_server_asks_it_for_no_vote() -> None:
    """It asked without end, and so was never free to agree to the proposal of a blank primary."""
    alone = Alone(S, settled_state(S))
    alone.connect(P, **nobody())
    alone.run(5.0)
    assert not alone.take(P, PreVote)


def test_a_member_left_alone_forms_anew_on_its_own_log_after_the_wait() -> None:
    triad = formed()
    triad.propose(P, session(1))
    triad.run(25.0)
    triad.kill(P, S, T)
    triad[S].disk.lose()
    triad.start(P, S)  # T does not come back
    triad.run(WAIT - 2.0)
    assert triad.master is None
    old = triad[P].machine.hard.triad_id
    triad.run(10.0)
    assert triad.master is P
    assert triad.members() == {P, S}
    assert triad[P].machine.hard.triad_id != old
    assert b"user" in b"".join(triad.commands(S))


def test_a_member_forms_nothing_anew_while_another_is_only_being_restarted() -> None:
    """Found by simulation (seed 4273): the primary came back after a minute, and had been formed away."""
    alone = Alone(S, settled_state(S))
    alone.run(WAIT + 1.0)
    alone.connect(P)
    alone.connect(T, **nobody(forming_at_s=0.0))
    alone.run(1.0)
    alone.lose(P)
    alone.refuse(P)
    alone.run(WAIT - 5.0)
    assert not alone.take(T, FormPropose)
    alone.run(10.0)
    assert alone.take(T, FormPropose)


def test_a_member_does_not_stop_before_the_triad_that_it_formed_itself() -> None:
    """The proposer's greeting, as member and master of the new triad, overtook the Append that says so."""
    alone = Alone(T, settled_state(T))
    alone.run(WAIT + 1.0)
    alone.connect(P, **nobody(forming_at_s=0.0))
    alone.request(P, FormPropose(NEW_TRIAD, END, 4, False), term=9, triad_id=NEW_TRIAD)
    assert alone.last_sent(P, FormReply).ok
    alone.accepted(P, member=True, committed_triad=NEW_TRIAD, serving=True)
    assert alone.machine.halted is None
    assert not alone.notices("membership")


def test_a_blank_primary_copies_the_member_before_it_proposes() -> None:
    triad = formed()
    triad.propose(P, session(1))
    triad.run(25.0)
    triad.kill(P, S, T)
    triad[P].disk.lose()
    triad.start(P, S)
    triad.run(WAIT + 10.0)
    assert triad.master is P
    assert b"user" in b"".join(triad.commands(P))


def test_a_tertiary_left_alone_with_a_blank_one_keeps_its_log_too() -> None:
    triad = formed()
    triad.propose(P, session(1))
    triad.run(25.0)
    triad.kill(P, S, T)
    triad[S].disk.lose()
    triad.start(S, T)
    triad.run(WAIT + 10.0)
    assert triad.master is S
    assert b"user" in b"".join(triad.commands(S))


def test_nothing_forms_anew_while_a_third_member_is_in_sight() -> None:
    alone = Alone(P)
    alone.run(WAIT + 1.0)
    alone.connect(S, T, last=END, forming_at_s=0.0)
    alone.run(20.0)
    assert not alone.take(S, FormPropose)
    assert not alone.take(T, FormPropose)


def test_forming_by_waiting_where_borrowing_is_allowed_needs_all_three() -> None:
    alone = Alone(P, borrow_allowed=True)
    alone.run(WAIT + 1.0)
    alone.connect(S, **nobody(forming_at_s=0.0))
    alone.refuse(T)
    alone.run(5.0)
    assert not alone.take(S, FormPropose)
    alone.connect(T, **nobody(forming_at_s=0.0))
    alone.run(3.0)
    assert alone.take(S, FormPropose)


def test_where_borrowing_is_allowed_a_member_and_a_blank_server_wait_for_the_third() -> None:
    """The member's log does not tell what the others have lent while it was cut off."""
    triad = formed(borrow_allowed=True)
    triad.propose(P, session(1))
    triad.run(25.0)
    triad.kill(P, S, T)
    triad[S].disk.lose()
    triad.start(P, S)
    triad.run(2 * WAIT)
    assert triad.master is None
    triad[T].disk.lose()
    triad.start(T)  # a new machine in its place will do: nobody is missing any more
    triad.run(WAIT + 10.0)
    assert triad.master is P
    assert triad.members() == {P, S, T}
    assert b"user" in b"".join(triad.commands(S))


def test_who_waits_for_the_third_because_of_borrowing_says_so() -> None:
    alone = Alone(P, borrow_allowed=True)
    alone.connect(S, **nobody(forming_at_s=0.0))
    assert "borrowing" in alone.machine.report().reason
    assert alone.machine.report().until_s is None
    alone.connect(T, **nobody(forming_at_s=0.0))
    assert "borrowing" not in alone.machine.report().reason
    assert alone.machine.report().until_s is not None


# --- another triad ---------------------------------------------------------------------------------------------------

ANOTHER = b"another---------"


def test_another_id_from_a_serving_master_stops_this_server() -> None:
    alone = Alone(S, settled_state(S))
    alone.connect(P, committed_triad=ANOTHER, serving=True)
    assert alone.halt is not None
    assert alone.halt.exit_code == 1
    assert "delete its state folder" in alone.halt.reason
    assert any("another forming" in text for text in alone.notices("membership"))


def test_another_id_from_both_others_stops_this_server() -> None:
    alone = Alone(S, settled_state(S))
    alone.connect(P, committed_triad=ANOTHER)
    assert alone.halt is None
    alone.connect(T, committed_triad=ANOTHER)
    assert alone.halt is not None


def test_two_that_differ_and_hear_no_third_serve_nobody_and_say_so() -> None:
    alone = Alone(S, settled_state(S))
    alone.connect(P, committed_triad=ANOTHER)
    alone.run(2 * TO)
    assert alone.halt is None
    assert not alone.take(P, PreVote)
    assert "primary is not of this triad" in alone.machine.report().notes


def test_a_triad_under_which_nobody_was_served_is_given_up() -> None:
    alone = Alone(S, settled_state(S, rows=0))
    alone.connect(P, committed_triad=ANOTHER, serving=True, last=END)
    assert alone.halt is None
    assert not alone.machine.hard.member
    assert alone.machine.ledger.last == NO_LAST


def test_a_peer_that_gave_up_its_triad_is_spoken_to() -> None:
    """It greets on the old connection: what was no peer is one from then on."""
    alone = Alone(P, settled_state(P))
    alone.connect(S, T, last=END)
    alone.accepted(S, committed_triad=ANOTHER)
    alone.run(1.0)
    alone.sent.clear()
    alone.accepted(S, **nobody())
    alone.run(21.0)
    assert [frame for to, frame in alone.sent if to is S and not isinstance(frame.body, Hello)]


# --- rule 19: membership ---------------------------------------------------------------------------------------------


def test_other_hostids_are_no_peer_and_the_log_names_them() -> None:
    alone = Alone(S, settled_state(S))
    alone.connect(P, membership_digest=b"x" * 32, hostids=("17003456", "17004355", "17000000"))
    assert "tertiary" in " ".join(alone.notices("membership"))
    alone.run(1.0)
    assert not alone.take(P, PreVote)


def test_another_vendor_is_no_peer() -> None:
    alone = Alone(S, settled_state(S))
    alone.connect(P, vendor="other")
    assert "other" in " ".join(alone.notices("membership"))
    assert alone.machine.peers[P].foreign


def test_one_changed_hostid_of_another_is_a_new_member() -> None:
    state = settled_state(S, hostids=(*MEMBERS[:2], "1700dead"), peer_seen={})
    alone = Alone(S, state)
    assert alone.halt is None
    assert alone.machine.hard.member
    assert alone.machine.hard.hostids == MEMBERS


def test_the_state_of_a_replaced_member_is_not_remembered() -> None:
    state = settled_state(
        S, hostids=(*MEMBERS[:2], "1700dead"), peer_seen={2: Seen(Boot(7, b"old machine-----"), END)}
    )
    alone = Alone(S, state)
    alone.dialled(T, **nobody())
    alone.accepted(T, **nobody())
    assert alone.last_sent(T, Hello).seen_of_you is None


def test_two_changed_hostids_are_refused_with_both_lists() -> None:
    alone = Alone(S, settled_state(S, hostids=("1700beef", MEMBERS[1], "1700dead")))
    assert alone.halt is not None
    assert "1700beef" in alone.halt.reason
    assert MEMBERS[0] in alone.halt.reason
