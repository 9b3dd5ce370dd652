"""Deliberate mistakes: each takes one rule of protocol.md section 5 out of the real machines, and must be caught.

A checker that has never failed proves nothing. A mutation replaces small methods of the running code, never its files;
:func:`hunt` then runs seeds until some check fails. *focus* bends the drawn profiles towards the faults that the rule is
about, so that a handful of seeds suffices; what is hunted is the real code with one rule less.

``python -m flexcore_testing.mutations`` prints the table of mutation, check that caught it, and seeds needed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from flexcore import timing
from flexcore.client.session import Session as ClientSession
from flexcore.identity import NOBODY, Rank
from flexcore.quorum.base import Base
from flexcore.quorum.elections import Elections
from flexcore.quorum.handover import Handover
from flexcore.quorum.links import Links, Peer
from flexcore.quorum.machine import QuorumMachine
from flexcore.quorum.promises import Promises
from flexcore.quorum.recovery import Recovery
from flexcore.quorum.rounds import Rounds
from flexcore.server.desk import ClientDesk
from flexcore.server.leases import SessionLeases
from flexcore.server.replies import HeldReplies
from flexcore_testing.campaign import Outcome, run_seed
from flexcore_testing.profile import BEYOND, WITHIN

Change = tuple[Any, str, Any]
"""Owner, attribute, replacement."""

SEEDS_MAX = 60


@attrs.frozen(kw_only=True)
class Mutation:
    """One rule taken out. *caught_by*: names of the checks that may catch it."""

    name: str
    rule: str
    text: str
    changes: tuple[Change, ...]
    caught_by: frozenset[str]
    level: str = "quorum"
    campaign: str = WITHIN
    focus: Mapping[str, Any] = attrs.field(factory=dict)
    seeds_max: int = SEEDS_MAX

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The machines without the rule, while the context lasts."""
        kept = [(owner, name, owner.__dict__[name]) for owner, name, _ in self.changes]
        for owner, name, replacement in self.changes:
            setattr(owner, name, replacement)
        try:
            yield
        finally:
            for owner, name, original in kept:
                setattr(owner, name, original)


@attrs.frozen(kw_only=True)
class Catch:
    """A mutation and what caught it; *outcome* is None if nothing did."""

    mutation: Mutation
    seeds: int
    outcome: Outcome | None
    spent_s: float


def hunt(mutation: Mutation, first: int = 1) -> Catch:
    """Run seeds until one fails by a check that may catch this mutation."""
    began = time.perf_counter()
    with mutation.applied():
        for seed in range(first, first + mutation.seeds_max):
            outcome = run_seed(seed, mutation.campaign, level=mutation.level, focus=mutation.focus)
            if outcome.failure and (outcome.failure in mutation.caught_by or not mutation.caught_by):
                return Catch(
                    mutation=mutation, seeds=seed - first + 1, outcome=outcome, spent_s=time.perf_counter() - began
                )
    return Catch(mutation=mutation, seeds=mutation.seeds_max, outcome=None, spent_s=time.perf_counter() - began)


def table(catches: Sequence[Catch]) -> str:
    """Mutation, rule, the check that caught it, and after how many seeds."""
    rows = [f"{'mutation':<34} {'rule':<5} {'caught by':<12} {'seeds':>5}  what is missing"]
    for catch in catches:
        mutation = catch.mutation
        by = catch.outcome.failure if catch.outcome is not None else "NOTHING"
        rows.append(f"{mutation.name:<34} {mutation.rule:<5} {by:<12} {catch.seeds:>5}  {mutation.text}")
    return "\n".join(rows)


# --- replacements ----------------------------------------------------------------------------------------------------


def _returns(value: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: value


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    return None


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


_take_round = Rounds._take_round


def _lease_from_receipt(machine: Any, peer: Peer, number: int) -> float | None:
    sent_at = _take_round(machine, peer, number)
    return None if sent_at is None else float(machine.now)


_fresh_boot = Links._fresh_boot


def _match_survives(machine: Any, peer: Peer, boot: Any) -> None:
    match = peer.match
    _fresh_boot(machine, peer, boot)
    peer.match = match


def _vote_not_spent(machine: Any, term: int) -> None:
    machine.hard.term = term
    machine.hard.voted_for = NOBODY
    machine._touch_hard()


def _no_binding(machine: Any, master: Any, now: float) -> None:
    machine.hard.promised_to = None
    machine._touch_hard()


def _released_to_anyone(machine: Any, candidate: Any, release: Any) -> bool:
    return bool(release.to is not None and release.to.rank == candidate.rank)


_post = Base._post


def _post_at_once(machine: Any, link: int, to: Any, body: Any, *, gate: int = 0) -> None:
    _post(machine, link, to, body)


def _refusal_at_any_time(machine: Any, rank: Rank, refused: bool, now: float) -> None:
    peer = machine.peers[rank]
    peer.dialling = False
    peer.redial_at = now + timing.redial_s(machine.config.heartbeat_interval_s)
    if refused:
        peer.gone = True


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


# --- the table -------------------------------------------------------------------------------------------------------

STORMS = {"kill": 2.0, "isolate": 2.0, "cut": 2.0, "pause": 1.0, "reset": 1.0, "power": 1.0, "kill all": 0.3}
QUICK = {"interval_s": 1, "first_start": True, "faults_per_timeout": 1.0, "primary_is_master": False}

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        name="restart_forgets_promise",
        rule="1",
        text="a restarted voter is free at once",
        changes=((Promises, "_promise_after_restart", _returns(0.0)),),
        caught_by=frozenset({"I2"}),
        focus={**QUICK, "faults": {"kill": 3.0, "isolate": 3.0, "power": 2.0}},
    ),
    Mutation(
        name="vote_for_self_without_being_free",
        rule="1",
        text="a candidate votes for itself while it is bound to the master",
        changes=((Promises, "free_for_self", _returns(True)),),
        caught_by=frozenset({"I2", "sticky", "I7"}),
        focus={**QUICK, "faults": STORMS},
    ),
    Mutation(
        name="candidate_bound_for_ever",
        rule="1",
        text="a candidate's promise to itself does not end with its candidacy",
        changes=(
            (Elections, "_end_candidacy_promise", _bound_for_ever),
            (Elections, "_own_candidacy_until", _candidacy_of_a_timeout),
        ),
        caught_by=frozenset({"I7"}),
        focus={**QUICK, "faults": STORMS},
    ),
    Mutation(
        name="master_not_bound_to_itself",
        rule="1",
        text="a master's promise to itself does not run with its lease",
        changes=((Promises, "_own_promise_until", _returns(float("-inf"))),),
        caught_by=frozenset({"sticky", "I2"}),
        focus={**QUICK, "faults": {"cut": 3.0, "short cut": 1.0, "pause": 2.0, "reset": 1.0}},
    ),
    Mutation(
        name="reply_teaches_nothing",
        rule="1",
        text="a higher term in a reply raises nobody's",
        changes=((QuorumMachine, "_reply_teaches", _returns(False)),),
        caught_by=frozenset({"I7"}),
        focus={**QUICK, "faults": STORMS},
    ),
    Mutation(
        name="lease_without_clock_rates",
        rule="2",
        text="the lease is as long as the promise, whatever the clocks' rates",
        changes=((Rounds, "_extend_lease", _lease_without_rates),),
        caught_by=frozenset({"I2"}),
        focus={**QUICK, "rates": (0.99, 1.01, 1.01), "faults": {"isolate": 3.0, "pause": 2.0, "cut": 1.0}},
    ),
    Mutation(
        name="lease_from_receipt",
        rule="2",
        text="the lease is counted from the answer, not from the send",
        changes=((Rounds, "_take_round", _lease_from_receipt),),
        caught_by=frozenset({"I2"}),
        focus={**QUICK, "faults": {"isolate": 2.0, "cut": 3.0, "pause": 3.0}},
    ),
    Mutation(
        name="lease_longer_than_promise",
        rule="2",
        text="the master uses its own TO where the voter promised less",
        changes=((Rounds, "_extend_lease", _lease_of_own_length),),
        caught_by=frozenset({"I2"}),
        focus={**QUICK, "faults": {"new interval": 2.0, "isolate": 3.0, "pause": 2.0}},
    ),
    Mutation(
        name="no_pull",
        rule="3",
        text="a candidate does not fetch a newer log before it asks again",
        changes=((Elections, "_can_pull_to_stand", _returns(False)),),
        caught_by=frozenset({"I7"}),
        focus={**QUICK, "traffic_s": 0.1, "faults": {"cut": 3.0, "isolate": 2.0, "kill": 2.0, "pause": 1.0}},
    ),
    Mutation(
        name="no_log_check",
        rule="4",
        text="a vote does not ask how new the candidate's log is",
        changes=((Elections, "_log_new_enough", _returns(True)),),
        caught_by=frozenset({"I4", "log", "AssertionError"}),
        focus={**QUICK, "traffic_s": 0.2, "faults": STORMS},
    ),
    Mutation(
        name="two_votes_a_term",
        rule="4",
        text="a server votes twice in a term",
        changes=((Elections, "_vote_is_free", _returns(True)),),
        caught_by=frozenset({"one vote", "I1", "I2", "halt", "AssertionError"}),
        focus={**QUICK, "faults": {"kill all": 2.0, "kill": 2.0, "short cut": 1.0, "stop all": 1.0}},
    ),
    Mutation(
        name="vote_before_durable",
        rule="4",
        text="votes, promises and acknowledgements leave before they are durable",
        changes=((Base, "_post", _post_at_once),),
        caught_by=frozenset({"one vote", "I1", "I2", "I4", "log"}),
        focus={**QUICK, "disk_latency_s": 0.3, "traffic_s": 0.3, "faults": {"kill": 3.0, "kill all": 2.0, "power": 1.0}},
    ),
    Mutation(
        name="no_own_term_entry",
        rule="5",
        text="the master serves before an entry of its own term is committed",
        changes=((Rounds, "_commit_floor", _returns(0)), (Rounds, "_own_term_committed", _returns(True))),
        caught_by=frozenset({"I4", "log"}),
        focus={**QUICK, "traffic_s": 0.3, "faults": STORMS},
    ),
    Mutation(
        name="quorum_of_one",
        rule="5",
        text="what one server holds counts as committed",
        changes=((Rounds, "_held_by_quorum", _quorum_of_one),),
        caught_by=frozenset({"I4", "log", "AssertionError"}),
        focus={**QUICK, "traffic_s": 0.3, "faults": STORMS},
    ),
    Mutation(
        name="match_survives_boot",
        rule="5",
        text="what an earlier boot of a peer held counts for the new one",
        changes=((Links, "_fresh_boot", _match_survives),),
        caught_by=frozenset({"I4", "log", "I7", "AssertionError"}),
        focus={**QUICK, "traffic_s": 0.2, "faults": {"lose disk": 3.0, "kill": 1.0, "isolate": 1.0}},
    ),
    Mutation(
        name="refusal_at_any_time",
        rule="6",
        text="a refused dial is evidence of death although connections were open after it began",
        changes=((Links, "_dial_failed", _refusal_at_any_time),),
        caught_by=frozenset({"I2"}),
        focus={**QUICK, "faults": {"kill": 3.0, "reset": 3.0, "isolate": 2.0, "cut": 2.0}},
    ),
    Mutation(
        name="recovery_without_wait",
        rule="8",
        text="a server that lost its disk is free at once",
        changes=((Recovery, "_bind_after_recovery", _no_binding),),
        caught_by=frozenset({"I2"}),
        focus={**QUICK, "faults": {"lose disk": 3.0, "isolate": 3.0, "cut": 2.0, "pause": 1.0}},
    ),
    Mutation(
        name="vote_not_spent",
        rule="8",
        text="a server that lost its disk votes again in the highest term",
        changes=((Recovery, "_spend_vote", _vote_not_spent),),
        caught_by=frozenset({"one vote", "I1", "I2"}),
        focus={**QUICK, "faults": {"lose disk": 4.0, "isolate": 2.0, "cut": 2.0, "kill": 1.0}},
    ),
    Mutation(
        name="forming_waits_for_nothing",
        rule="9",
        text="blank servers form while clients of the forgotten triad still believe",
        changes=((Recovery, "_forming_wait_s", _returns(1.0)),),
        caught_by=frozenset({"I3"}),
        level="full",
        campaign=BEYOND,
        focus={
            **QUICK, "licensed": 1, "clients": 4, "traffic_s": 0.5,
            "faults": {"lose two": 5.0, "isolate": 0.5},
        },
    ),  # fmt: skip
    Mutation(
        name="serve_after_release",
        rule="10",
        text="the old master goes on serving after it has released its voters",
        changes=((Handover, "_end_reign", _nothing),),
        caught_by=frozenset({"I2", "AssertionError"}),
        focus={**QUICK, "faults": {"stop one": 3.0, "slow disk": 1.0}},
    ),
    Mutation(
        name="release_of_any_term",
        rule="10",
        text="a release counts in every term, whoever gave it",
        changes=((Promises, "_released_to", _released_to_anyone),),
        caught_by=frozenset({"I2", "sticky"}),
        focus={**QUICK, "primary_is_master": True, "faults": {"stop one": 3.0, "kill": 1.0, "cut": 1.0, "rolling": 1.0}},
    ),
    Mutation(
        name="renew_without_round",
        rule="15",
        text="heartbeats renew without a round: a replaced master goes on renewing",
        changes=((ClientDesk, "_hold_for_round", _hold_without_round),),
        caught_by=frozenset({"I3"}),
        level="full",
        campaign=BEYOND,
        focus={
            **QUICK, "licensed": 1, "clients": 4, "traffic_s": 0.8,
            "faults": {"false refusal": 5.0, "isolate": 1.0},
        },
    ),  # fmt: skip
    Mutation(
        name="denials_renew",
        rule="15",
        text="denials and repeats renew",
        changes=((ClientDesk, "_hold", _hold_renewing),),
        caught_by=frozenset({"I3"}),
        level="full",
        campaign=BEYOND,
        focus={
            **QUICK, "licensed": 1, "clients": 5, "traffic_s": 0.5,
            "faults": {"false refusal": 5.0, "isolate": 1.0},
        },
    ),  # fmt: skip
    Mutation(
        name="freed_before_the_lease",
        rule="15",
        text="a session is freed before its client has ceased to believe",
        changes=((SessionLeases, "_free_at", _free_when_heard),),
        caught_by=frozenset({"I3", "I4"}),
        level="full",
        focus={**QUICK, "licensed": 1, "clients": 4, "faults": {"client cut": 3.0, "client pause": 2.0, "isolate": 1.0}},
    ),
    Mutation(
        name="lease_from_answer",
        rule="15",
        text="the client counts its lease from the answer, not from the question",
        changes=((ClientSession, "note_answer", _lease_counts_from_answer),),
        caught_by=frozenset({"I3", "I4"}),
        level="full",
        focus={**QUICK, "licensed": 1, "clients": 4, "faults": {"client cut": 4.0, "client pause": 3.0}},
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
        caught_by=frozenset({"I3", "I4", "I9"}),
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
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt all mutations, or those named; 0 if each was caught."""
    parser = argparse.ArgumentParser(prog="python -m flexcore_testing.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", help="which mutations (default: all)")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    options = parser.parse_args(arguments)
    catches = []
    for mutation in MUTATIONS:
        if options.names and mutation.name not in options.names:
            continue
        catch = hunt(mutation, options.first)
        catches.append(catch)
        by = catch.outcome.failure if catch.outcome is not None else "NOTHING"
        sys.stderr.write(f"{mutation.name}: {by} after {catch.seeds} seeds, {catch.spent_s:.1f} s\n")
    sys.stdout.write(table(catches) + "\n")
    return 0 if all(catch.outcome is not None for catch in catches) else 1


if __name__ == "__main__":
    raise SystemExit(main())
