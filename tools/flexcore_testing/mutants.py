"""The rules of protocol.md that are taken out, one at a time, and where each is shown to be missed."""

from __future__ import annotations

from typing import Any

from flexcore import timing
from flexcore.checkout.machine import CheckoutMachine
from flexcore.client.session import Session as ClientSession
from flexcore.identity import Rank
from flexcore.quorum.base import Role
from flexcore.quorum.links import Peer
from flexcore.quorum.machine import QuorumMachine
from flexcore.server.desk import ClientDesk
from flexcore.server.leases import SessionLeases
from flexcore.server.replies import HeldReplies
from flexcore_testing.mutation import QUICK, STORMS, Mutation, nothing, returns
from flexcore_testing.profile import BEYOND

# --- replacements ----------------------------------------------------------------------------------------------------


def _bound_for_ever(machine: Any, now: float) -> None:
    machine.promise_until = now + machine.config.timeout_s


def _candidacy_of_a_timeout(machine: Any) -> float:
    return float(machine.now + machine.config.timeout_s)


def _lease_without_rates(machine: Any, sent_at: float, promise_s: float) -> None:
    until = sent_at + min(machine.config.timeout_s, promise_s)
    if until > machine.lease_until:
        machine.lease_until = until
        machine._promise_self(until)


def _lease_of_own_length(machine: Any, sent_at: float, promise_s: float) -> None:
    until = sent_at + timing.shrunk_s(machine.config.timeout_s)
    if until > machine.lease_until:
        machine.lease_until = until
        machine._promise_self(until)


_take_round = QuorumMachine._take_round


def _lease_from_receipt(machine: Any, peer: Peer, number: int) -> float | None:
    sent_at = _take_round(machine, peer, number)
    return None if sent_at is None else float(machine.now)


_fresh_boot = QuorumMachine._fresh_boot


def _match_survives(machine: Any, peer: Peer, boot: Any) -> None:
    match = peer.match
    _fresh_boot(machine, peer, boot)
    peer.match = match


def _released_to_anyone(machine: Any, candidate: Any, release: Any) -> bool:
    return bool(release.to is not None and release.to.rank == candidate.rank)


def _stand_at_any_release(machine: Any, frame: Any, body: Any, now: float) -> None:
    if machine.role is Role.FOLLOWER and machine.hard.member:
        machine._stand(now, body.release)


_post = QuorumMachine._post


def _post_at_once(machine: Any, link: int, to: Any, body: Any, *, gate: int = 0) -> None:
    _post(machine, link, to, body)


def _quorum_of_one(machine: Any) -> int:
    return int(max([machine.durable_index, *(peer.match for peer in machine.peers.values())]))


def _hold_without_round(desk: Any, conn: Any, message: Any, now: float) -> None:
    conn.held += 1
    desk.held.until_commit(desk._quorum.ledger.commit, conn.conn, message)


def _until_nothing(held: Any, index: int, conn: int, message: Any, log: tuple[str, ...] = ()) -> None:
    _until_commit(held, 0, conn, message, log)


_until_commit = HeldReplies.until_commit
_desk_hold = ClientDesk._hold


def _hold_renewing(desk: Any, conn: Any, message: Any, log: tuple[str, ...] = (), *, index: int | None = None) -> None:
    if "renews" in getattr(message, "_fields", ()):
        message = message._replace(renews=True)
    _desk_hold(desk, conn, message, log, index=index)


_connection_ended = ClientDesk.connection_ended


def _every_end_is_death(desk: Any, conn: Any, *, orderly: bool, now: float) -> None:
    _connection_ended(desk, conn, orderly=True, now=now)


def _free_when_heard(leases: Any, session: Any) -> float:
    heard = leases._heard.get(session.session)
    winning = leases._spared_until - leases._timeout_s
    return float((winning if heard is None else heard) + session.lease_s / 2)


_note_answer = ClientSession.note_answer


def _lease_counts_from_answer(session: Any, seq: int, *, renews: bool, now: float) -> float | None:
    if seq in session.asked_at:
        session.asked_at[seq] = now
    return _note_answer(session, seq, renews=renews, now=now)


_stand = QuorumMachine._stand


def _win_alone(machine: Any, now: float, release: Any = None) -> None:
    _stand(machine, now, release)
    machine._win(machine.config.timeout_s, now)


_leases_start = SessionLeases.start


def _start_long_ago(leases: Any, sessions: Any, *, won_at: float, timeout_s: float) -> None:
    _leases_start(leases, sessions, won_at=won_at - timeout_s - 40.0, timeout_s=timeout_s)


# --- the table -------------------------------------------------------------------------------------------------------

RULES: tuple[Mutation, ...] = (
    Mutation(
        name="restart_forgets_promise",
        rule="1",
        text="a restarted voter is free at once",
        changes=((QuorumMachine, "_promise_after_restart", returns(0.0)),),
        caught_by=frozenset({"I2"}),
        schedule="voter_restarts",
    ),
    Mutation(
        name="vote_for_self_without_being_free",
        rule="1",
        text="a candidate votes for itself while it is bound to the master",
        changes=((QuorumMachine, "free_for_self", returns(True)),),
        caught_by=frozenset({"I2", "sticky", "I7"}),
        focus={**QUICK, "faults": STORMS},
    ),
    Mutation(
        name="candidate_bound_for_ever",
        rule="1",
        text="a candidate's promise to itself does not end with its candidacy",
        changes=(
            (QuorumMachine, "_end_candidacy_promise", _bound_for_ever),
            (QuorumMachine, "_own_candidacy_until", _candidacy_of_a_timeout),
        ),
        caught_by=frozenset({"I7"}),
        schedule="two_stand_at_once",
    ),
    Mutation(
        name="master_not_bound_to_itself",
        rule="1",
        text="a master's promise to itself does not run with its lease",
        changes=((QuorumMachine, "_own_promise_until", returns(float("-inf"))),),
        caught_by=frozenset({"sticky", "I2"}),
        focus={**QUICK, "faults": {"cut": 3.0, "short cut": 1.0, "pause": 2.0, "reset": 1.0}},
    ),
    Mutation(
        name="reply_teaches_nothing",
        rule="1",
        text="a higher term in a reply raises nobody's",
        changes=((QuorumMachine, "_reply_teaches", returns(False)),),
        caught_by=frozenset({"I7"}),
        schedule="lower_term_candidate",
    ),
    Mutation(
        name="lease_without_clock_rates",
        rule="2",
        text="the lease is as long as the promise, whatever the clocks' rates",
        changes=((QuorumMachine, "_extend_lease", _lease_without_rates),),
        caught_by=frozenset({"I2"}),
        focus={**QUICK, "rates": (0.99, 1.01, 1.01), "faults": {"isolate": 3.0, "pause": 2.0, "cut": 1.0}},
    ),
    Mutation(
        name="lease_from_receipt",
        rule="2",
        text="the lease is counted from the answer, not from the send",
        changes=((QuorumMachine, "_take_round", _lease_from_receipt),),
        caught_by=frozenset({"I2"}),
        focus={**QUICK, "faults": {"isolate": 2.0, "cut": 3.0, "pause": 3.0}},
    ),
    Mutation(
        name="lease_longer_than_promise",
        rule="2",
        text="the master uses its own TO where the voter promised less",
        changes=((QuorumMachine, "_extend_lease", _lease_of_own_length),),
        caught_by=frozenset({"I2"}),
        schedule="shorter_promise",
    ),
    Mutation(
        name="no_pull",
        rule="3",
        text="a candidate does not fetch a newer log before it asks again",
        changes=((QuorumMachine, "_can_pull_to_stand", returns(False)),),
        caught_by=frozenset({"I7"}),
        focus={**QUICK, "traffic_s": 0.1, "faults": {"cut": 3.0, "isolate": 2.0, "kill": 2.0, "pause": 1.0}},
    ),
    Mutation(
        name="no_log_check",
        rule="4",
        text="a vote does not ask how new the candidate's log is",
        changes=((QuorumMachine, "_log_new_enough", returns(True)),),
        caught_by=frozenset({"I4", "log"}),
        schedule="older_log",
    ),
    Mutation(
        name="two_votes_a_term",
        rule="4",
        text="a server votes twice in a term",
        changes=((QuorumMachine, "_vote_is_free", returns(True)),),
        caught_by=frozenset({"one vote"}),
        schedule="second_candidate_of_a_term",
    ),
    Mutation(
        name="vote_before_durable",
        rule="4",
        text="votes, promises and acknowledgements leave before they are durable",
        changes=((QuorumMachine, "_post", _post_at_once),),
        caught_by=frozenset({"one vote", "I1", "I2", "I4", "log"}),
        focus={**QUICK, "disk_latency_s": 0.3, "traffic_s": 0.3, "faults": {"kill": 3.0, "kill all": 2.0}},
    ),
    Mutation(
        name="no_own_term_entry",
        rule="5",
        text="the master serves before an entry of its own term is committed",
        changes=((QuorumMachine, "_commit_floor", returns(0)), (QuorumMachine, "_own_term_committed", returns(True))),
        caught_by=frozenset({"I4", "log"}),
        schedule="figure_eight",
    ),
    Mutation(
        name="quorum_of_one",
        rule="5",
        text="what one server holds counts as committed",
        changes=((QuorumMachine, "_held_by_quorum", _quorum_of_one),),
        caught_by=frozenset({"I4", "log", "AssertionError"}),
        focus={**QUICK, "traffic_s": 0.3, "faults": STORMS},
    ),
    Mutation(
        name="match_survives_boot",
        rule="5",
        text="what an earlier boot of a peer held counts for the new one",
        changes=((QuorumMachine, "_fresh_boot", _match_survives),),
        caught_by=frozenset({"I4"}),
        schedule="acknowledged_by_a_lost_disk",
    ),
    Mutation(
        name="forming_waits_for_nothing",
        rule="9",
        text="blank servers form while clients of the forgotten triad still believe",
        changes=((QuorumMachine, "_forming_wait_s", returns(1.0)),),
        caught_by=frozenset({"I3"}),
        level="full",
        campaign=BEYOND,
        focus={
            **QUICK, "licensed": 1, "clients": 4, "traffic_s": 0.5,
            "faults": {"lose two": 5.0, "isolate": 0.5},
        },
    ),
    Mutation(
        name="serve_after_release",
        rule="10",
        text="the old master goes on serving after it has released its voters",
        changes=((QuorumMachine, "_end_reign", nothing),),
        caught_by=frozenset({"I2", "AssertionError"}),
        focus={**QUICK, "faults": {"stop one": 3.0, "slow disk": 1.0}},
    ),
    Mutation(
        name="release_of_any_term",
        rule="10",
        text="a release counts in every term, whoever gave it",
        changes=(
            (QuorumMachine, "_released_to", _released_to_anyone),
            (QuorumMachine, "_on_timeout_now", _stand_at_any_release),
        ),
        caught_by=frozenset({"I2", "sticky"}),
        schedule="late_release",
    ),
    Mutation(
        name="renew_without_round",
        rule="15",
        text="heartbeats renew without a round: a replaced master goes on renewing",
        changes=((ClientDesk, "_hold_for_round", _hold_without_round),),
        caught_by=frozenset({"I3", "renewal"}),
        schedule="ghost_master",
    ),
    Mutation(
        name="denials_renew",
        rule="15",
        text="denials and repeats renew",
        changes=((ClientDesk, "_hold", _hold_renewing),),
        caught_by=frozenset({"I3", "renewal"}),
        level="full",
        campaign=BEYOND,
        focus={
            **QUICK, "licensed": 1, "clients": 5, "traffic_s": 0.5,
            "faults": {"false refusal": 5.0, "isolate": 1.0},
        },
    ),
    Mutation(
        name="freed_before_the_lease",
        rule="15",
        text="a session is freed before its client has ceased to believe",
        changes=((SessionLeases, "_free_at", _free_when_heard),),
        caught_by=frozenset({"I3", "I4"}),
        level="full",
        focus={**QUICK, "licensed": 1, "clients": 4, "faults": {"client cut": 3.0, "client pause": 2.0}},
    ),
    Mutation(
        name="lease_from_answer",
        rule="15",
        text="the client counts its lease from the answer, not from the question",
        changes=((ClientSession, "note_answer", _lease_counts_from_answer),),
        caught_by=frozenset({"I3", "I4"}),
        schedule="slow_answer",
    ),
    Mutation(
        name="every_end_is_death",
        rule="16",
        text="a reset connection counts as the death of the client",
        changes=((ClientDesk, "connection_ended", _every_end_is_death),),
        caught_by=frozenset({"I3", "I4"}),
        level="full",
        focus={**QUICK, "licensed": 1, "clients": 4, "faults": {"client reset": 3.0, "client cut": 3.0}},
    ),
    Mutation(
        name="grant_before_commit",
        rule="14",
        text="answers leave before their entries are committed",
        changes=((HeldReplies, "until_commit", _until_nothing),),
        caught_by=frozenset({"I3", "I4", "I9", "history"}),
        level="full",
        focus={**QUICK, "licensed": 2, "clients": 5, "traffic_s": 0.4, "faults": STORMS},
    ),
    Mutation(
        name="tertiary_electable",
        rule="I1",
        text="the tertiary may be master",
        changes=((Rank, "may_be_master", property(lambda _rank: True)),),
        caught_by=frozenset({"I1", "AssertionError"}),
        focus={**QUICK, "faults": {"isolate": 3.0, "kill": 3.0}},
    ),
    Mutation(
        name="wins_alone",
        rule="4",
        text="a candidate's own vote is enough: a quorum of the wrong size",
        changes=((QuorumMachine, "_stand", _win_alone),),
        caught_by=frozenset({"log", "I1", "I2", "I4"}),
        focus={**QUICK, "faults": STORMS},
    ),
    Mutation(
        name="lease_without_end",
        rule="14",
        text="a master serves on when its lease is over: stale answers of an old master",
        changes=((QuorumMachine, "_lease_in_force", returns(True)),),
        caught_by=frozenset({"I2", "I6"}),
        focus={**QUICK, "faults": {"isolate": 3.0, "pause": 2.0}},
    ),
    Mutation(
        name="retry_counted_twice",
        rule="17",
        text="a request that comes again is decided again",
        changes=((CheckoutMachine, "_seen_before", returns(None)),),
        caught_by=frozenset({"I5", "LedgerCorrupt"}),
        level="full",
        focus={**QUICK, "licensed": 3, "clients": 5, "traffic_s": 0.4, "faults": {**STORMS, "client reset": 3.0}},
    ),
    Mutation(
        name="new_master_spares_nobody",
        rule="15",
        text="a new master counts leases as if it had won long ago",
        changes=((SessionLeases, "start", _start_long_ago),),
        caught_by=frozenset({"I3", "I4"}),
        level="full",
        focus={
            **QUICK, "licensed": 1, "clients": 4,
            "faults": {**STORMS, "client pause": 2.0, "client cut": 2.0},
        },
    ),
    Mutation(
        name="release_is_ignored",
        rule="10",
        text="a voter does not know that the master has released it",
        changes=((QuorumMachine, "_released_to", returns(False)),),
        caught_by=frozenset({"I7"}),
        focus={**QUICK, "primary_is_master": True, "faults": {"stop one": 3.0}},
    ),
    Mutation(
        name="release_is_not_final",
        rule="10",
        text="a master that has released its voters claims and renews on",
        changes=((QuorumMachine, "_released", returns(False)), (QuorumMachine, "_end_reign", nothing)),
        caught_by=frozenset({"I2", "sticky"}),
        focus={**QUICK, "faults": {"stop one": 3.0}},
    ),
    Mutation(
        name="not_primary_again",
        rule="11",
        text="nothing is handed to the primary, whatever the licence file says",
        changes=((QuorumMachine, "_consider_primary", nothing),),
        caught_by=frozenset({"I8"}),
        level="full",
        focus={**QUICK, "primary_is_master": True, "faults": {"kill": 3.0}},
    ),
)
"""Rows of section 5 that no weather shows are in tests of their own: docs/mutations.rst."""
