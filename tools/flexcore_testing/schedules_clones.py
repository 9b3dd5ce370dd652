"""Scripted schedules: two processes with one SERVER line (protocol.md sections 1, 6 and 7), and a machine that is
replaced by one with another hostid (rule 19).

The twin runs on a machine of its own, with a copy of the state folder or with an empty one, and dials the others as the
original does; the others dial the address that the licence file names, which is the original's. That they can see each
other's peers is inside the assumptions: the double is found out, nothing is promised to either, nobody serves twice.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from flexcore.identity import Rank
from flexcore.override import override
from flexcore.quorum import QuorumConfig
from flexcore_testing.bare import BareTriad
from flexcore_testing.checks import Violation
from flexcore_testing.disk import Disk
from flexcore_testing.process import ServerHost, ServerRun
from flexcore_testing.schedule_kit import P, S, T, quiet_profile, serves_now, start_all, until
from flexcore_testing.triad import SimulatedTriad


class ClonedTriad(BareTriad):
    """A triad one of whose servers may get a twin."""

    twin: ServerRun | None = None

    def start_twin(self, rank: Rank, disk: Disk) -> ServerRun:
        """Start a second process of this server, on another machine that nobody dials."""
        host = ServerHost(rank, 1.0, self.hosts[rank].wall)
        host.name = "p"
        host.disk = disk
        if host.name not in self.network.powered:
            self.network.add_host(host.name)
        self.serial += 1
        self.note(host.name, f"a twin of {rank.word} starts ({'blank' if disk.blank else 'with state'})")
        run = host.run = self.make_run(host, self.serial)
        self.twin = run
        run.wake()
        return run

    def stop_twin(self) -> None:
        """The twin is killed."""
        run, self.twin = self.twin, None
        if run is not None and run.alive:
            run.die()
            self.network.die(run, says_so=True)
            run.machine_host.run = None

    @override
    def after_turn(self, run: ServerRun) -> None:
        """I2 counts the twin as well: an original and its twin must not serve at once."""
        super().after_turn(run)
        twin = self.twin
        if twin is not None and twin.alive and twin.serves():
            for other in self.runs():
                if other.serves():
                    self.checks.fail("I2", f"{other.name} and the twin of {twin.rank.word} serve at the same instant")


def _cloned(triad: SimulatedTriad) -> ClonedTriad:
    assert isinstance(triad, ClonedTriad)
    return triad


def _found_out(triad: SimulatedTriad, rank: Rank, by: tuple[Rank, ...]) -> Callable[[], bool]:
    def found_out() -> bool:
        runs = [triad.run_of(other) for other in by]
        return any(run is not None and run.quorum.peers[rank].twice for run in runs)

    return found_out


def twin_of_the_master(triad: SimulatedTriad) -> None:
    """Both run from one state folder: the others find out, the master loses its lease and nobody serves in its name;
    once both are stopped and one is started, all is well."""
    cloned = _cloned(triad)
    start_all(triad)
    copy = cloned.hosts[P].disk.copy()
    triad.kill(P)
    triad.start(P)
    until(triad, "the primary serves again", serves_now(triad, P), 10 * triad.profile.timeout_s)
    triad.advance(triad.profile.timeout_s)
    cloned.start_twin(P, copy)
    until(triad, "the double is found out", _found_out(triad, P, (S, T)), triad.profile.timeout_s)
    triad.advance(3 * triad.profile.timeout_s)
    cloned.stop_twin()
    triad.kill(P)
    triad.start(P)
    until(triad, "one triad again", lambda: triad.master() is not None, 2 * triad.profile.timeout_s)
    triad.advance(2 * triad.profile.timeout_s)
    triad.checks.check_replicas()


def blank_twin(triad: SimulatedTriad) -> None:
    """The SERVER line is started on a second machine with an empty folder, while the original serves."""
    cloned = _cloned(triad)
    start_all(triad)
    cloned.start_twin(P, Disk())
    triad.advance(4 * triad.profile.timeout_s)
    if cloned.twin is not None and cloned.twin.alive and cloned.twin.quorum.hard.member:
        if not _found_out(triad, P, (S, T))():
            raise Violation("twin", "an empty twin has become a member beside its original, and nobody says so")
    cloned.stop_twin()
    triad.kill(P)
    triad.start(P)
    until(triad, "one triad again", lambda: triad.master() is not None, 3 * triad.profile.timeout_s)
    triad.checks.check_replicas()


def twin_after_a_pause(triad: SimulatedTriad) -> None:
    """The original is suspended; its folder is copied and started elsewhere; then the original wakes up."""
    cloned = _cloned(triad)
    start_all(triad)
    triad.pause(P)
    cloned.start_twin(P, cloned.hosts[P].disk.copy())
    triad.advance(3 * triad.profile.timeout_s)
    triad.resume(P)
    until(triad, "the double is found out", _found_out(triad, P, (S, T)), triad.profile.timeout_s)
    triad.advance(4 * triad.profile.timeout_s)
    cloned.stop_twin()
    triad.kill(P)
    triad.start(P)
    until(triad, "one triad again", lambda: triad.master() is not None, 3 * triad.profile.timeout_s)
    triad.checks.check_replicas()


def twin_of_the_voter(triad: SimulatedTriad) -> None:
    """A twin of the tertiary, from the same folder: the primary is cut off, and must not be replaced by a vote that its
    own voter's double gave."""
    cloned = _cloned(triad)
    start_all(triad)
    cloned.start_twin(T, cloned.hosts[T].disk.copy())
    triad.advance(triad.profile.timeout_s)
    triad.cut(P, S)
    triad.advance(2 * triad.profile.timeout_s)
    triad.heal(P, S)
    cloned.stop_twin()
    triad.advance(2 * triad.profile.timeout_s)
    until(triad, "somebody serves", lambda: triad.master() is not None, 3 * triad.profile.timeout_s)
    triad.checks.check_replicas()


class HostidTriad(BareTriad):
    """A triad whose licence file may name another machine."""

    new_hostid: Rank | None = None

    @override
    def config(self, rank: Rank) -> QuorumConfig:
        config = super().config(rank)
        if self.new_hostid is None:
            return config
        hostids = list(config.hostids)
        hostids[self.new_hostid] = "17009999"
        return attrs.evolve(config, hostids=tuple(hostids), membership_digest=b"n" * 32)


def _replaced(triad: SimulatedTriad, lost: Rank) -> None:
    assert isinstance(triad, HostidTriad)
    start_all(triad)
    primary = triad.run_of(P)
    assert primary is not None
    primary.post(("propose",))
    triad.advance(0.5)
    triad.power_off(lost)
    if lost is P:  # else the folder was copied to the new machine
        triad.lose_disk(lost)
    triad.new_hostid = lost
    for rank in Rank:
        if rank is not lost:
            triad.kill(rank)
            triad.start(rank)
            triad.advance(1.0)
    until(triad, "the other two serve", lambda: triad.master() is not None, 3 * triad.profile.timeout_s)
    triad.start(lost)
    if triad.is_member(lost):
        raise Violation("membership", "a new machine goes by the state of the one that it replaces")

    def all_members() -> bool:
        return triad.master() is not None and all(map(triad.is_member, Rank))

    until(triad, "the new machine is a member", all_members, 3 * triad.profile.timeout_s)
    triad.advance(2 * triad.profile.timeout_s)
    triad.checks.check_replicas()


def replaced_master(triad: SimulatedTriad) -> None:
    """Rule 19: the master's machine is replaced: the two with the new file keep the state, the new machine joins."""
    _replaced(triad, P)


def replaced_voter(triad: SimulatedTriad) -> None:
    """Rule 19: the same, of the tertiary."""
    _replaced(triad, T)


def file_on_one_only(triad: SimulatedTriad) -> None:
    """Rule 19: a file with another hostid for the tertiary is on the secondary alone: no peer of the others until they
    agree; the master and the tertiary go on."""
    assert isinstance(triad, HostidTriad)
    start_all(triad)
    triad.kill(S)
    triad.new_hostid = T
    triad.start(S)
    triad.advance(4 * triad.profile.timeout_s)
    until(triad, "the primary serves", serves_now(triad, P), 1.0)
    secondary = triad.run_of(S)
    if secondary is None or secondary.quorum.report().peers_up:
        raise Violation("membership", "servers whose files name different machines are peers")
    for rank in (T, P):
        triad.kill(rank)
        triad.start(rank)
    until(
        triad, "all agree and somebody serves",
        lambda: triad.master() is not None and all(map(triad.is_member, Rank)), 4 * triad.profile.timeout_s,
    )
    triad.checks.check_replicas()


def _hostids() -> SimulatedTriad:
    return HostidTriad(quiet_profile(interval_s=2))


def _quiet() -> SimulatedTriad:
    return ClonedTriad(quiet_profile(interval_s=2))


def _primary_again() -> SimulatedTriad:
    return ClonedTriad(quiet_profile(interval_s=2, primary_is_master=True))


CLONE_SCHEDULES: dict[str, tuple[Callable[[SimulatedTriad], None], Callable[[], SimulatedTriad]]] = {
    "twin_of_the_master": (twin_of_the_master, _primary_again),
    "blank_twin": (blank_twin, _quiet),
    "twin_after_a_pause": (twin_after_a_pause, _quiet),
    "twin_of_the_voter": (twin_of_the_voter, _quiet),
    "replaced_master": (replaced_master, _hostids),
    "replaced_voter": (replaced_voter, _hostids),
    "file_on_one_only": (file_on_one_only, _hostids),
}
"""Name: the schedule, and a fresh triad to run it on."""
