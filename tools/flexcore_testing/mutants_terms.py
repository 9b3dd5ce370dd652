"""Rereads, and what lingers, waits or is taken away: what takes their rules out, and the story that misses them."""

from __future__ import annotations

from typing import Any

from flexcore.ledger.commands import RequestUnqueued
from flexcore.quorum.machine import QuorumMachine
from flexcore.server import admission
from flexcore.server.desk import ClientDesk
from flexcore.server.lingering import LingerClock
from flexcore.server.rereads import Rereads
from flexcore_testing.mutation import Mutation, returns

_clock_start = LingerClock.start
_desk_start = ClientDesk.start
_other_membership = QuorumMachine._other_membership


def _all_is_over(clock: Any, state: Any, now: float) -> None:
    _clock_start(clock, state, now)
    clock._from_s += 1e6


def _knows_nobody_who_waited(desk: Any, term: int, *, now: float) -> None:
    _desk_start(desk, term, now=now)
    quorum = desk._quorum
    for session in list(quorum.ledger.state.sessions.values()):
        for request in list(session.queued):
            quorum.propose(RequestUnqueued(session.session, request, "lost"), now=now, wall=quorum.wall)


def _own_file(rereads: Any) -> Any:
    return rereads._file


def _one_digest(machine: Any, peer: Any, hello: Any) -> Any:
    return _other_membership(machine, peer, hello) or hello.rights_digest != machine.rights_digest


TERMS_RULES: tuple[Mutation, ...] = (
    Mutation(
        name="one_digest_for_all",
        rule="19",
        text="servers whose signed lines differ are no peers: a rolling reread costs the quorum",
        changes=((QuorumMachine, "_other_membership", _one_digest),),
        caught_by=frozenset({"I7"}),
        schedule="reread_costs_nobody_the_quorum",
    ),
    Mutation(
        name="own_file_decides",
        rule="19",
        text="a reread is in force at the server that made it, whatever the ledger says",
        changes=((Rereads, "rights_in_force", _own_file),),
        caught_by=frozenset({"rights"}),
        schedule="reread_at_one_server",
    ),
    Mutation(
        name="linger_is_over_at_failover",
        rule="I9",
        text="a new master counts the linger clock from anew, and all is over",
        changes=((LingerClock, "start", _all_is_over),),
        caught_by=frozenset({"I9"}),
        schedule="lingering_at_a_failover",
    ),
    Mutation(
        name="queue_is_lost_at_failover",
        rule="I9",
        text="a new master knows nobody who waited",
        changes=((ClientDesk, "start", _knows_nobody_who_waited),),
        caught_by=frozenset({"I9"}),
        schedule="queue_at_a_failover",
    ),
    Mutation(
        name="removal_is_lost_at_failover",
        rule="I9",
        text="a new master does not tell what was taken away",
        changes=((admission, "lost_seats", returns(())),),
        caught_by=frozenset({"I9"}),
        schedule="removal_at_a_failover",
    ),
)
"""A row of section 5 about rereads, and what I9 says of the rest."""
