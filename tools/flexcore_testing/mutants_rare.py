"""Rules that random weather seldom asks for: what takes them out, and the scripted schedule that misses them."""

from __future__ import annotations

from typing import Any

from flexcore.checkout.machine import CheckoutMachine
from flexcore.identity import NOBODY
from flexcore.ledger import LedgerState
from flexcore.ledger.commands import SeatGranted
from flexcore.quorum.machine import QuorumMachine
from flexcore.server import borrowing
from flexcore_testing.mutation import QUICK, STORMS, Mutation, nothing, returns

_heard = QuorumMachine._heard


def _blank_is_not_heard(machine: Any, link: Any, frame: Any, now: float) -> Any:
    return None if frame.sender.boot.counter == 0 else _heard(machine, link, frame, now)


def _what_was_sent(machine: Any, body: Any, match: int) -> Any:
    return machine.ledger.last


def _not_spent(machine: Any, term: int) -> None:
    machine.hard.term = term
    machine.hard.voted_for = NOBODY
    machine._touch_hard()


def _own_lines_only(machine: Any) -> bool:
    committed = machine.ledger.state.rights
    return not committed or committed == machine.rights_digest


def _release_not_stored(machine: Any, link: Any, frame: Any, body: Any, now: float) -> None:
    _on_stop_release(machine, link, frame, body._replace(release=None), now)


_on_stop_release = QuorumMachine._on_stop_release


_promise_expired = QuorumMachine._promise_expired


def _no_end(machine: Any, now: float) -> bool:
    return _promise_expired(machine, now) and not machine.config.detector_off


_apply = LedgerState.apply


def _applies_again(state: Any, index: int, term: int, stamp: float, command: Any) -> Any:
    session = state.sessions.get(getattr(command, "session", b""))
    if type(command) is SeatGranted and session is not None:
        session.results.pop(command.request, None)
    return _apply(state, index, term, stamp, command)


RARE_RULES: tuple[Mutation, ...] = (
    Mutation(
        name="retry_granted_again",
        rule="17",
        text="the same, and the ledger does not notice",
        changes=((CheckoutMachine, "_seen_before", returns(None)), (LedgerState, "apply", _applies_again)),
        caught_by=frozenset({"I3", "I4", "I5", "I9", "history", "returned"}),
        level="full",
        focus={**QUICK, "licensed": 3, "clients": 5, "traffic_s": 0.4, "faults": {**STORMS, "client reset": 3.0}},
        costly=True,
    ),
    Mutation(
        name="evidence_is_ignored",
        rule="6",
        text="a refused connection frees nobody",
        changes=((QuorumMachine, "_process_gone", returns(False)),),
        caught_by=frozenset({"I7"}),
        schedule="evidence_of_death",
    ),
    Mutation(
        name="twins_are_not_noticed",
        rule="6",
        text="two processes with one SERVER line pass for one",
        changes=((QuorumMachine, "_runs_twice", nothing),),
        caught_by=frozenset({"I7"}),
        schedule="twin_of_the_master",
    ),
    Mutation(
        name="blank_is_not_heard",
        rule="7",
        text="what a server without a number says is dropped",
        changes=((QuorumMachine, "_heard", _blank_is_not_heard),),
        caught_by=frozenset({"I7"}),
        schedule="blank_server_joins",
    ),
    Mutation(
        name="remembers_what_was_sent",
        rule="7",
        text="a peer remembers what the master sent as if the master had it on disk",
        changes=((QuorumMachine, "_peer_durable", _what_was_sent),),
        caught_by=frozenset({"I7"}),
        schedule="killed_before_its_own_commit",
    ),
    Mutation(
        name="vote_not_spent",
        rule="8",
        text="a recovered server votes in a term in which the lost disk may have voted",
        changes=((QuorumMachine, "_spend_vote", _not_spent),),
        caught_by=frozenset({"one vote"}),
        schedule="vote_of_a_lost_disk",
    ),
    Mutation(
        name="unused_triad_is_kept",
        rule="9",
        text="a triad that nobody ever used is held on to",
        changes=((QuorumMachine, "_never_served", returns(False)),),
        caught_by=frozenset({"I7", "halt"}),
        schedule="unused_triad_is_given_up",
    ),
    Mutation(
        name="deaf_master_binds",
        rule="12",
        text="a voter renews a master that does not hear it",
        changes=((QuorumMachine, "_deaf", returns(False)),),
        caught_by=frozenset({"I7"}),
        schedule="one_way_cut",
    ),
    Mutation(
        name="one_clock_decides",
        rule="18",
        text="what is lent ends by the clock of whoever is master",
        changes=(
            (borrowing, "middle_clock_gap", lambda quorum: quorum.clock_gap),
            (borrowing, "middle_wall", lambda quorum: quorum.wall),
        ),
        caught_by=frozenset({"I9"}),
        schedule="one_clock_leaps",
    ),
    Mutation(
        name="own_lines_only",
        rule="19",
        text="only whose own file says what is in force may stand, whatever a majority shows",
        changes=((QuorumMachine, "_has_rights", _own_lines_only),),
        caught_by=frozenset({"I7"}),
        schedule="new_rights_on_all",
    ),
    Mutation(
        name="any_lines_will_do",
        rule="19",
        text="a server stands with lines that nobody else has",
        changes=((QuorumMachine, "_has_rights", returns(True)),),
        caught_by=frozenset({"rights"}),
        schedule="new_rights_on_one",
    ),
    Mutation(
        name="other_file_is_a_peer",
        rule="19",
        text="servers whose files name different machines are peers",
        changes=((QuorumMachine, "_other_membership", returns(False)),),
        caught_by=frozenset({"membership"}),
        schedule="file_on_one_only",
    ),
    Mutation(
        name="new_machine_has_the_old_state",
        rule="19",
        text="a machine with a new hostid goes by the state of the one that it replaces",
        changes=((QuorumMachine, "_check_membership", nothing),),
        caught_by=frozenset({"membership"}),
        schedule="replaced_voter",
    ),
    Mutation(
        name="slow_disk_stays_master",
        rule="20",
        text="a master whose disk hangs goes on with heartbeats and serves nobody",
        changes=((QuorumMachine, "_begin_disk_handover", nothing),),
        caught_by=frozenset({"I7"}),
        schedule="hung_disk_of_the_master",
    ),
    Mutation(
        name="dead_disk_is_endured",
        rule="20",
        text="a disk that answers no more does not end the process",
        changes=((QuorumMachine, "_disk_dead", nothing),),
        caught_by=frozenset({"I7"}),
        schedule="dead_disk",
    ),
    Mutation(
        name="silence_counts",
        rule="21",
        text="silence starts an election although HEARTBEAT_INTERVAL is 0",
        changes=((QuorumMachine, "_detector_holds", returns(False)),),
        caught_by=frozenset({"I7"}),
        schedule="detector_off",
    ),
    Mutation(
        name="no_detector_no_end",
        rule="21",
        text="with HEARTBEAT_INTERVAL=0 a promise has no end",
        changes=((QuorumMachine, "_promise_expired", _no_end),),
        caught_by=frozenset({"I7"}),
        schedule="power_off_with_detector_off",
    ),
    Mutation(
        name="release_is_not_stored",
        rule="22",
        text="a server that stops with all three keeps its promise",
        changes=((QuorumMachine, "_on_stop_release", _release_not_stored),),
        caught_by=frozenset({"I7"}),
        schedule="cold_start_after_lmdown",
    ),
)
"""Rows of section 5 that were shown by tests of one machine only."""
