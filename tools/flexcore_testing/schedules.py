"""Scripted schedules: the short stories behind rules that random faults seldom tell.

Each is a function of a fresh triad; it must run without a violation on the real code, and with its rule taken out a
check fails. Delays are a millisecond, disks are instant, so that what happens is what is written here.
"""

from __future__ import annotations

from collections.abc import Callable

from flexcore.identity import Rank
from flexcore.quorum import rounds
from flexcore.quorum.base import Role
from flexcore_testing.bare import BareTriad
from flexcore_testing.checks import BEYOND_ONLY, Violation
from flexcore_testing.schedule_kit import P, S, T, quiet_profile, serves_now, start_all, until
from flexcore_testing.schedules_borrowing import lending_triad, one_clock_leaps
from flexcore_testing.schedules_clones import CLONE_SCHEDULES
from flexcore_testing.schedules_rare import RARE_SCHEDULES
from flexcore_testing.service import ServiceTriad
from flexcore_testing.triad import SimulatedTriad


def voter_restarts(triad: SimulatedTriad) -> None:
    """Rule 1: the only voter of the master restarts, and must not forget what it promised."""
    start_all(triad)
    triad.cut(P, S)
    triad.advance(1.3 * triad.profile.timeout_s)
    triad.cut(P, T)
    triad.kill(T)
    triad.start(T)
    triad.advance(2 * triad.profile.timeout_s)


def two_stand_at_once(triad: SimulatedTriad) -> None:
    """Rule 1: two candidates of one moment deny each other, and must not stay bound to themselves for a timeout."""
    start_all(triad)
    triad.stop(P, "all")
    until(triad, "all have stopped", lambda: not triad.runs(), 10.0)
    triad.start(P)
    triad.start(S)

    def linked() -> bool:
        runs = triad.runs()
        return len(runs) == 2 and all(len(run.quorum.report().peers_up) == 1 for run in runs)

    until(triad, "both are linked", linked, 5.0)
    for run in triad.runs():  # pre-votes and head starts make this rare; the rule is for when it happens all the same
        run.quorum._stand(run.clock.local(triad.world.now))
        run.wake()
    until(triad, "one of two serves, nobody being bound", lambda: triad.master() is not None, 10.0)


def _candidate_dies(triad: SimulatedTriad) -> None:
    """The primary dies, the tertiary votes for the secondary, and that dies before anything comes of it."""
    start_all(triad)
    triad.kill(P)
    term = triad.runs()[0].term

    def voter_has_voted() -> bool:
        run = triad.run_of(T)
        return run is not None and run.term > term

    until(triad, "the tertiary votes", voter_has_voted, 2 * triad.profile.timeout_s)
    triad.kill(S)


def lower_term_candidate(triad: SimulatedTriad) -> None:
    """Rule 1: a voter knows a higher term from a candidate that died; the other has to learn it from a refusal."""
    _candidate_dies(triad)
    triad.start(P)
    until(triad, "the primary serves", serves_now(triad, P), 1.1 * triad.profile.timeout_s + 5.0)


def figure_eight(triad: SimulatedTriad) -> None:
    """Rule 5 (Raft, figure 8): an entry of an old term that two servers hold is not committed by that."""
    kept, rounds.MAX_APPEND_BYTES = rounds.MAX_APPEND_BYTES, 1
    try:
        _figure_eight(triad)
    finally:
        rounds.MAX_APPEND_BYTES = kept


def _figure_eight(triad: SimulatedTriad) -> None:
    start_all(triad)
    timeout = triad.profile.timeout_s
    primary = triad.run_of(P)
    assert primary is not None
    triad.cut(P, S)
    triad.cut(P, T)
    primary.post(("propose",))
    triad.advance(0.1)
    lonely = primary.ledger.last
    triad.power_off(P)
    triad.network.heal_all()

    def secondary_won() -> bool:
        run = triad.run_of(S)
        return run is not None and run.quorum.role is Role.MASTER

    until(triad, "the secondary wins", secondary_won, 2 * timeout)
    triad.cut(S, T)
    triad.advance(0.1)
    triad.power_off(S)
    triad.network.heal_all()
    triad.start(P)

    def tertiary_has_it() -> bool:
        run = triad.run_of(T)
        return run is not None and run.ledger.last == lonely

    until(triad, "the tertiary gets the old entry", tertiary_has_it, 2.5 * timeout)
    triad.cut(P, T, one_way=True)
    triad.advance(0.1)
    triad.power_off(P)
    triad.network.heal_all()
    triad.start(S)
    until(triad, "the secondary serves", serves_now(triad, S), 2.5 * timeout)
    triad.advance(1.0)


def late_release(triad: SimulatedTriad) -> None:
    """Rule 10: a release that was under way for long frees nobody: its giver serves in a new term."""
    timeout = triad.profile.timeout_s
    triad.start(S)
    triad.start(T)
    until(triad, "the secondary serves", serves_now(triad, S), 10)
    triad.start(P)

    def released() -> bool:
        run = triad.run_of(S)
        return run is not None and run.quorum.released_term > 0

    until(triad, "the secondary releases", released, 6 * timeout)
    triad.cut(S, P, one_way=True)
    until(triad, "the secondary serves again", serves_now(triad, S), 2 * timeout)
    triad.advance(1.5 * timeout)
    triad.cut(P, S, one_way=True)
    triad.heal(S, P, one_way=True)
    triad.advance(timeout / 2)


def slow_answer(triad: SimulatedTriad) -> None:
    """Rule 15: a lease counts from the question: an answer that was under way for long does not lengthen it."""
    assert isinstance(triad, ServiceTriad)
    start_all(triad)
    client = triad.client("user1")
    request = client.checkout("f1")
    until(triad, "user1 holds a seat", lambda: request in client.granted, 10)
    lease = triad.profile.lease_s
    triad.advance(2.2 * lease)  # the wait for whoever the last master knew is over
    asked: list[float] = []
    on_send = triad.network.on_send

    def watch(source: object, target: object, message: object) -> None:
        if source is client and type(message).__name__ == "Heartbeat":
            asked.append(triad.world.now)
        assert on_send is not None
        on_send(source, target, message)  # type: ignore[arg-type]

    triad.network.on_send = watch
    until(triad, "user1 heartbeats", lambda: bool(asked), lease)
    triad.network.cut("P", "user1")
    triad.advance(1.5)
    triad.network.heal("P", "user1")
    triad.advance(0.05)
    for server in "PST":
        triad.network.cut(server, "user1")
        triad.network.cut("user1", server)
    triad.advance(1.5 * lease)


def shorter_promise(triad: SimulatedTriad) -> None:
    """Rule 2: the voter's file names a shorter timeout: its promise ends before the master's own timeout would."""
    triad.intervals_s[P] = triad.profile.interval_s * 4
    triad.longest_timeout_s = 4 * triad.profile.timeout_s + 3.0
    start_all(triad)
    triad.cut(P, S)
    triad.cut(P, T)
    triad.advance(2 * triad.longest_timeout_s)


def longer_interval(triad: SimulatedTriad) -> None:
    """Rule 19: the master's file names a longer HEARTBEAT_INTERVAL than the others': a warning, and no flapping."""
    triad.edit_interval(P, 3 * triad.profile.interval_s)
    start_all(triad)
    triad.kill(S)
    elections = triad.checks.elections
    triad.advance(20 * triad.profile.timeout_s)
    if triad.checks.elections != elections or not serves_now(triad, P)():
        raise Violation("I7", f"{triad.checks.elections - elections} elections among healthy servers")


def unused_triad_returns(triad: SimulatedTriad) -> None:
    """Rule 9: the primary dies in the instant in which it has formed a triad, before anybody knows, and comes back: one
    triad of all three, at the latest when nothing of an earlier one can be in force."""
    for rank in (S, T, P):
        triad.start(rank)
        triad.advance(0.05)
    until(triad, "somebody serves", lambda: triad.master() is not None, 10)
    triad.kill(P)
    triad.advance(0.4)
    triad.start(P)
    triad.advance(1100.0)
    if triad.master() is None or not all(triad.is_member(rank) for rank in Rank):
        raise Violation("I7", "; ".join(f"{run.name}: {triad.describe(run)}" for run in triad.runs()))


def older_log(triad: SimulatedTriad) -> None:
    """Rule 4: who lacks an acknowledged entry gets no vote from who has it, even if it does not know."""
    start_all(triad)
    timeout = triad.profile.timeout_s
    primary = triad.run_of(P)
    assert primary is not None
    triad.cut(P, S)
    triad.advance(0.1)
    primary.post(("propose",))
    triad.advance(0.5)  # the tertiary holds it, the secondary does not
    triad.cut(S, T)
    triad.kill(P)
    triad.advance(0.5)
    triad.network.heal_all()
    secondary = triad.run_of(S)
    assert secondary is not None
    secondary.quorum._stand(secondary.clock.local(triad.world.now))  # a vote does not rely on the pre-vote
    secondary.wake()
    until(triad, "the secondary serves", serves_now(triad, S), 2.5 * timeout)
    triad.advance(1.0)


def ghost_master(triad: SimulatedTriad) -> None:
    """Rule 15: two servers think falsely that the master is dead, and elect another; the ghost renews nobody."""
    assert isinstance(triad, ServiceTriad)
    start_all(triad)
    client = triad.client("user1")
    request = client.checkout("f1")
    until(triad, "user1 holds a seat", lambda: request in client.granted, 10)
    for server in "ST":
        triad.network.cut(server, "user1")
        triad.network.cut("user1", server)
    triad.refuse(S, P)
    triad.refuse(T, P)
    triad.network.cuts["P", "S"] = triad.network.cuts["P", "T"] = 1  # its own dials do not come through either
    triad.advance(triad.profile.timeout_s)
    triad.advance(triad.profile.lease_s)


def second_candidate_of_a_term(triad: SimulatedTriad) -> None:
    """Rule 4: the voter of a candidate that died is free again by evidence, but not in the term of its vote."""
    _candidate_dies(triad)
    triad.advance(2.0)  # the tertiary has seen that the secondary is gone
    triad.start(P)

    def linked() -> bool:
        run = triad.run_of(P)
        return run is not None and T in run.quorum.report().peers_up

    until(triad, "the primary is linked", linked, 5.0)
    primary = triad.run_of(P)
    assert primary is not None
    primary.quorum._stand(primary.clock.local(triad.world.now))  # a vote does not rely on the pre-vote
    primary.wake()
    triad.advance(1.0)


def acknowledged_by_a_lost_disk(triad: SimulatedTriad) -> None:
    """Rule 5: what a peer's earlier boot held counts no more: its disk may be gone, and then only the master has it."""
    start_all(triad)
    primary = triad.run_of(P)
    assert primary is not None
    triad.cut(P, S)
    triad.hosts[P].disk_latency_s = 1.0  # not so slow that it hands over
    primary.post(("propose",))
    triad.advance(0.2)
    index = primary.ledger.last.index
    if primary.ledger.commit >= index:
        raise Violation("I4", f"entry {index} is committed and on one disk only")
    triad.power_off(T)
    triad.lose_disk(T)
    triad.start(T)
    triad.advance(0.6 + triad.hosts[P].disk_latency_s)
    if primary.ledger.commit >= index:
        raise Violation("I4", f"entry {index} is committed and on one disk only: the other was lost before")


SCHEDULES: dict[str, tuple[Callable[[SimulatedTriad], None], Callable[[], SimulatedTriad]]] = {
    "voter_restarts": (voter_restarts, lambda: BareTriad(quiet_profile())),
    "two_stand_at_once": (two_stand_at_once, lambda: BareTriad(quiet_profile(interval_s=20))),
    "lower_term_candidate": (lower_term_candidate, lambda: BareTriad(quiet_profile())),
    "figure_eight": (figure_eight, lambda: BareTriad(quiet_profile())),
    "late_release": (late_release, lambda: BareTriad(quiet_profile(interval_s=2, primary_is_master=True))),
    "shorter_promise": (shorter_promise, lambda: BareTriad(quiet_profile(interval_s=1))),
    "longer_interval": (longer_interval, lambda: BareTriad(quiet_profile(interval_s=1))),
    "unused_triad_returns": (unused_triad_returns, lambda: BareTriad(quiet_profile(interval_s=2))),
    "second_candidate_of_a_term": (second_candidate_of_a_term, lambda: BareTriad(quiet_profile())),
    "acknowledged_by_a_lost_disk": (acknowledged_by_a_lost_disk, lambda: BareTriad(quiet_profile())),
    "older_log": (older_log, lambda: BareTriad(quiet_profile())),
    "ghost_master": (ghost_master, lambda: ServiceTriad(quiet_profile(interval_s=20), only=BEYOND_ONLY)),
    "one_clock_leaps": (one_clock_leaps, lending_triad),
    "slow_answer": (slow_answer, lambda: ServiceTriad(quiet_profile(interval_s=1))),
    **RARE_SCHEDULES,
    **CLONE_SCHEDULES,
}
"""Name: the schedule, and a fresh triad to run it on."""


def run_schedule(name: str) -> None:
    """Run one schedule on a fresh triad.

    Raises:
        Violation: a check failed.
    """
    schedule, make = SCHEDULES[name]
    schedule(make())
