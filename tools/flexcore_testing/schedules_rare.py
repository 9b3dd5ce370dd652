"""Scripted schedules of what random weather seldom or never brings about: lost disks at the wrong moment, silence with
HEARTBEAT_INTERVAL=0, two processes with one SERVER line.

Each must run without a violation on the real code; with its rule taken out a check fails (see
:mod:`flexcore_testing.schedules`).
"""

from __future__ import annotations

from collections.abc import Callable

from flexcore.identity import Rank
from flexcore_testing.bare import BareTriad
from flexcore_testing.checks import Violation
from flexcore_testing.schedule_kit import P, S, T, quiet_profile, serves_now, start_all, until
from flexcore_testing.triad import SimulatedTriad


def _member(triad: SimulatedTriad, rank: Rank) -> Callable[[], bool]:
    return lambda: triad.is_member(rank)


def _linked(triad: SimulatedTriad, rank: Rank, peers: int = 2) -> Callable[[], bool]:
    def linked() -> bool:
        run = triad.run_of(rank)
        return run is not None and len(run.quorum.report().peers_up) == peers

    return linked


def _stand(triad: SimulatedTriad, rank: Rank) -> None:
    """Stand at once: the rules about votes must hold whatever makes a server ask for them."""
    run = triad.run_of(rank)
    assert run is not None
    run.quorum._stand(run.clock.local(triad.world.now))
    run.wake()


def evidence_of_death(triad: SimulatedTriad) -> None:
    """Rule 6: a killed process refuses connections, and nobody waits for the end of the promise to it."""
    start_all(triad)
    triad.kill(P)
    until(triad, "the secondary serves", serves_now(triad, S), 5.0)


def fresh_boot_frees(triad: SimulatedTriad) -> None:
    """Rule 6: the master restarts too quickly for its port to be refused: its new boot shows that the old is gone."""
    start_all(triad)
    triad.kill(P)
    triad.start(P)
    until(triad, "somebody serves", lambda: triad.master() is not None, 5.0)


def blank_server_joins(triad: SimulatedTriad) -> None:
    """Rules 7 and 8: a server with an empty disk is heard although it has no number, and becomes a member again."""
    start_all(triad)
    triad.power_off(T)
    triad.lose_disk(T)
    triad.start(T)
    until(triad, "the tertiary is a member", _member(triad, T), 10.0)


def killed_before_its_own_commit(triad: SimulatedTriad) -> None:
    """Rule 7: a master sends an entry before its own disk has it and is killed: with a good disk it is no less than
    what its peers remember, and need not recover."""
    start_all(triad)
    primary = triad.run_of(P)
    assert primary is not None
    triad.hosts[P].hung_until = triad.world.now + 1.5
    primary.post(("propose",))
    triad.advance(0.3)
    primary.pending = None  # the transaction is gone with the process
    triad.kill(P)
    triad.hosts[P].hung_until = 0.0
    triad.kill(T)
    triad.start(P)
    run = triad.run_of(P)
    assert run is not None
    until(triad, "the primary and the secondary are linked", _linked(triad, P, 1), 5.0)
    triad.advance(0.5)
    if not triad.is_member(P):
        raise Violation("I7", "the primary lost nothing that it had, and is recovering")
    until(triad, "one of two serves", lambda: triad.master() is not None, 1.1 * triad.profile.timeout_s + 5.0)


def vote_of_a_lost_disk(triad: SimulatedTriad) -> None:
    """Rule 8: a disk is lost with the vote of a term on it; that vote stays spent."""
    start_all(triad)
    timeout = triad.profile.timeout_s
    triad.cut(P, S)
    triad.cut(P, T)
    term = 0 if (run := triad.run_of(T)) is None else run.term

    def voted() -> bool:
        run = triad.run_of(T)
        return run is not None and run.term > term

    until(triad, "the tertiary votes for the secondary", voted, 3 * timeout)
    triad.kill(S)
    triad.power_off(T)
    triad.lose_disk(T)
    triad.heal(P, T)
    triad.start(S)
    triad.cut(S, T)
    triad.heal(S, T)
    triad.start(T)
    until(triad, "the tertiary is a member again", _member(triad, T), 2 * timeout)
    triad.kill(S)
    tertiary = triad.run_of(T)
    assert tertiary is not None
    tertiary.quorum.no_promise_before = 0.0  # the wait would forbid the vote as well: this is about the vote
    primary = triad.run_of(P)
    assert primary is not None
    until(triad, "the primary is linked", _linked(triad, P, 1), 5.0)
    primary.quorum.hard.term = term
    _stand(triad, P)
    triad.advance(1.0)


def detector_off(triad: SimulatedTriad) -> None:
    """Rule 21: HEARTBEAT_INTERVAL=0, and the master is silent for longer than every promise, on connections that
    stay open: nobody stands, and when it speaks again it is master as if nothing had been."""
    start_all(triad)
    triad.pause(P)
    elections = triad.checks.elections
    triad.advance(2.5 * triad.profile.timeout_s)
    if triad.master() is not None or triad.checks.elections != elections:
        raise Violation("I7", "silence on an open connection started an election")
    triad.resume(P)
    until(triad, "somebody serves again", lambda: triad.master() is not None, 10.0)


def power_off_with_detector_off(triad: SimulatedTriad) -> None:
    """Rule 21: HEARTBEAT_INTERVAL=0 and the master's machine is without power: promises end all the same."""
    start_all(triad)
    triad.network.settings.keepalive_min_s = triad.network.settings.keepalive_max_s = triad.profile.timeout_s / 4
    triad.power_off(P)
    until(triad, "the secondary serves", serves_now(triad, S), 1.4 * triad.profile.timeout_s + 10.0)


def one_way_cut(triad: SimulatedTriad) -> None:
    """Rule 12: the master is heard and hears nothing: its Appends must not bind those whom it cannot hear."""
    start_all(triad)
    interval = triad.profile.interval_s
    triad.cut(S, P, one_way=True)
    triad.cut(T, P, one_way=True)
    until(triad, "the secondary serves", serves_now(triad, S), triad.profile.timeout_s + 2.0 * interval)


def cold_start_after_lmdown(triad: SimulatedTriad) -> None:
    """Rule 22: all three stop in order, and the next start waits for no promise."""
    start_all(triad)
    triad.stop(P, "all")
    until(triad, "all have stopped", lambda: not triad.runs(), 10.0)
    triad.power_off(P)  # or its refusals would free the others (rule 6)
    triad.start(S)
    triad.start(T)
    until(triad, "the secondary serves", serves_now(triad, S), 5.0)


def hung_disk_of_the_master(triad: SimulatedTriad) -> None:
    """Rule 20: the master's disk answers no more: it hands over, and does not go on with heartbeats alone."""
    start_all(triad)
    primary = triad.run_of(P)
    assert primary is not None
    triad.hosts[P].hung_until = triad.world.now + 1000.0
    primary.post(("propose",))
    until(triad, "the secondary serves", serves_now(triad, S), 3.0 * triad.profile.interval_s)


def dead_disk(triad: SimulatedTriad) -> None:
    """Rule 20: a disk that does not answer for TO + 10 s ends the process."""
    start_all(triad)
    tertiary = triad.run_of(T)
    primary = triad.run_of(P)
    assert tertiary is not None
    assert primary is not None
    triad.hosts[T].hung_until = triad.world.now + 1000.0
    primary.post(("propose",))
    until(triad, "the tertiary ends", lambda: triad.run_of(T) is None, triad.profile.timeout_s + 20.0)


def new_rights_on_all(triad: SimulatedTriad) -> None:
    """Rule 19: all three stop, a new licence file is put on each, all start: somebody may stand."""
    start_all(triad)
    triad.stop(P, "all")
    until(triad, "all have stopped", lambda: not triad.runs(), 10.0)
    for rank in Rank:
        triad.edit_licence(rank, triad.profile.licensed + 1)
        triad.start(rank)
    until(triad, "somebody serves by the new file", lambda: triad.master() is not None, 10.0)


def new_rights_on_one(triad: SimulatedTriad) -> None:
    """Rule 19: a server whose file says otherwise than what is in force, and than the other's, may not stand."""
    start_all(triad)
    triad.kill(S)
    triad.edit_licence(S, triad.profile.licensed + 1)
    triad.start(S)
    triad.advance(triad.profile.timeout_s)
    triad.kill(P)
    triad.advance(2 * triad.profile.timeout_s)
    if triad.master() is not None:
        raise Violation("rights", "a server serves by lines that neither the log nor a majority knows")
    triad.start(P)
    until(triad, "the primary serves", serves_now(triad, P), 10.0)


def log_of_the_member_left(triad: SimulatedTriad) -> None:
    """Rule 9: two disks are lost; the blank ones wait, and form anew on the log of the member that is left."""
    start_all(triad)
    primary = triad.run_of(P)
    assert primary is not None
    primary.post(("propose",))
    triad.advance(1.0)
    triad.first_start = False
    for rank in (P, S):
        triad.power_off(rank)
        triad.lose_disk(rank)
        triad.start(rank)
    until(triad, "a triad is formed anew", lambda: triad.master() is not None, 1200.0)
    until(triad, "all three are members", lambda: all(map(triad.is_member, Rank)), 30.0)


def unused_triad_is_given_up(triad: SimulatedTriad) -> None:
    """Rule 9: the primary dies when its new triad is committed and nobody else knows; the others form another one, and
    the primary gives up what nobody ever used."""
    triad.start(S)
    triad.start(P)

    def committed_alone() -> bool:
        run = triad.run_of(P)
        return run is not None and run.ledger.commit > 0

    until(triad, "the primary has formed a triad", committed_alone, 60.0)
    triad.kill(P)
    triad.advance(2.0)
    triad.start(T)
    until(triad, "the secondary serves another triad", serves_now(triad, S), 1200.0)
    triad.start(P)

    def one_triad() -> bool:
        ids = {run.ledger.state.triad_id for run in triad.runs()}
        return len(ids) == 1 and all(map(triad.is_member, Rank))

    until(triad, "all three are members of one triad", one_triad, 60.0)


def _quiet(interval_s: int = 5) -> Callable[[], SimulatedTriad]:
    return lambda: BareTriad(quiet_profile(interval_s=interval_s))


RARE_SCHEDULES: dict[str, tuple[Callable[[SimulatedTriad], None], Callable[[], SimulatedTriad]]] = {
    "evidence_of_death": (evidence_of_death, _quiet()),
    "fresh_boot_frees": (fresh_boot_frees, _quiet()),
    "blank_server_joins": (blank_server_joins, _quiet()),
    "killed_before_its_own_commit": (killed_before_its_own_commit, _quiet()),
    "vote_of_a_lost_disk": (vote_of_a_lost_disk, _quiet()),
    "detector_off": (detector_off, _quiet(0)),
    "power_off_with_detector_off": (power_off_with_detector_off, _quiet(0)),
    "one_way_cut": (one_way_cut, _quiet()),
    "cold_start_after_lmdown": (cold_start_after_lmdown, _quiet()),
    "hung_disk_of_the_master": (hung_disk_of_the_master, _quiet()),
    "dead_disk": (dead_disk, _quiet(1)),
    "new_rights_on_all": (new_rights_on_all, _quiet()),
    "new_rights_on_one": (new_rights_on_one, _quiet()),
    "unused_triad_is_given_up": (unused_triad_is_given_up, _quiet(2)),
    "log_of_the_member_left": (log_of_the_member_left, _quiet(2)),
}
"""Name: the schedule, and a fresh triad to run it on."""
