"""Faults of disks: lost, older than they were, torn, full, hanging, slow; and a triad that is formed anew."""

from __future__ import annotations

from flexcore.identity import Rank
from flexcore.quorum.config import HardState, StateError
from flexcore_testing.disk import Disk
from flexcore_testing.plan import Fault
from flexcore_testing.striking import Striking

NO_SPACE = "[Errno 28] No space left on device"


class DiskFaults(Striking):
    """What can happen to a state folder."""

    def lose_disk(self, fault: Fault, target: Rank) -> bool:
        """A crash with the disk; only while both others are members with theirs."""
        if not self._others_sound(target) or not self._crash(fault, target):
            return False
        self.triad.lose_disk(target)
        self.restart_later(target, fault.for_s)
        return True

    def _crash(self, fault: Fault, target: Rank) -> bool:
        if fault.draw < 0.5:
            return self.triad.kill(target)
        return self.triad.power_off(target)

    def lose_two(self, fault: Fault, target: Rank) -> bool:
        """Beyond: any disk at any time."""
        if target is self.away:
            return False
        self.triad.first_start = False  # nobody may say any more that nothing is held
        self.triad.kill(target)
        self.triad.lose_disk(target)
        self.restart_later(target, fault.for_s)
        return True

    def form_anew(self, fault: Fault, target: Rank) -> bool:
        """Beyond: one server is gone for long, and the two others lose their disks: after the wait they form the triad
        anew, and the third comes back with the record of the old one."""
        if self.away is not None:
            return False
        self.triad.first_start = False
        self.away = target
        self.triad.kill(target)
        for rank in Rank:
            if rank is not target:
                self.triad.kill(rank)
                self.triad.lose_disk(rank)
                self.restart_later(rank, fault.for_s * 0.2 * (1 + fault.draw * rank))
        return True

    # --- older states ------------------------------------------------------------------------------

    def stale_disk(self, fault: Fault, target: Rank) -> bool:
        """Somebody restores a copy of the state folder, made now, later; only where both others remember more."""
        copy = self.triad.hosts[target].disk.copy()
        if copy.blank:
            return False
        self._later(fault.for_s, self._restore_if_remembered, fault, target, copy)
        return True

    def _restore_if_remembered(self, fault: Fault, target: Rank, copy: Disk) -> None:
        remembered = [self._remembered(rank, target, copy) for rank in Rank if rank is not target]
        if not all(remembered) or not self._others_sound(target) or not self._crash(fault, target):
            return
        host = self.triad.hosts[target]
        host.unsound = True
        self._restore(target, copy, fault)
        self.triad.coverage["stale disk remembered"] += 1

    def _remembered(self, rank: Rank, target: Rank, copy: Disk) -> bool:
        """Whether what the disk of *rank* remembers of *target* shows that *copy* is older."""
        remembering, older = _hard_of(self.triad.hosts[rank].disk), _hard_of(copy)
        seen = remembering and remembering.peer_seen.get(int(target))
        if not seen or older is None:
            return False
        return seen.boot.counter > older.counter or seen.last > copy.last

    def restored_disk(self, fault: Fault, target: Rank) -> bool:
        """Beyond: the same, whether or not anybody remembers."""
        copy = self.triad.hosts[target].disk.copy()
        if copy.blank:
            return False
        self._later(fault.for_s, self._restore_anyway, fault, target, copy)
        return True

    def _restore_anyway(self, fault: Fault, target: Rank, copy: Disk) -> None:
        if self._crash(fault, target):
            self._restore(target, copy, fault)

    def _restore(self, target: Rank, copy: Disk, fault: Fault) -> None:
        host = self.triad.hosts[target]
        host.disk = copy
        self.triad.note(host.name, f"an older state is put back (last entry {copy.last.term}.{copy.last.index})")
        self.restart_later(target, fault.for_s * 0.3)

    # --- damage ------------------------------------------------------------------------------------

    def torn_disk(self, fault: Fault, target: Rank) -> bool:
        """The state is cut in the middle: the server must refuse it, and say so; the folder is then deleted."""
        triad = self.triad
        if triad.hosts[target].disk.blank or not self._others_sound(target) or not self._crash(fault, target):
            return False
        what = triad.hosts[target].disk.tear(fault.draw)
        triad.hosts[target].torn = what
        triad.note(triad.hosts[target].name, f"its state is cut: {what}")
        self.restart_later(target, fault.for_s * 0.3)
        return True

    def refused_state(self, rank: Rank) -> None:
        """An administrator reads the error, deletes the folder and starts the server again."""
        self.triad.lose_disk(rank)
        self.triad.world.after(1.0, self.start, rank)

    def full_disk(self, fault: Fault, target: Rank) -> bool:
        """Nothing can be written for a while: the server stops at its first write, and at each start."""
        self.triad.hosts[target].write_error = NO_SPACE
        self.triad.note(self.triad.hosts[target].name, "its disk is full")
        self._later(fault.for_s, self._writable, target)
        return True

    def _writable(self, target: Rank) -> None:
        self.triad.hosts[target].write_error = ""

    def hung_disk(self, fault: Fault, target: Rank) -> bool:
        """The disk answers nothing for a while; perhaps for longer than a server waits for it (rule 20)."""
        host = self.triad.hosts[target]
        host.hung_until = max(host.hung_until, self.triad.world.now + 2 * fault.for_s)
        self.triad.note(host.name, f"its disk hangs for {2 * fault.for_s:.1f} s")
        return True

    def slow_disk(self, fault: Fault, target: Rank) -> bool:
        """Commits take long."""
        host = self.triad.hosts[target]
        host.disk_latency_s = max(1, self.triad.profile.interval_s) * (0.1 + 2.5 * fault.draw**2)
        self._later(fault.for_s, self._fast_disk, target)
        return True

    def _fast_disk(self, target: Rank) -> None:
        self.triad.hosts[target].disk_latency_s = self.triad.profile.disk_latency_s

    def disks_work(self) -> None:
        """Peace: every disk answers and has room."""
        for host in self.triad.hosts:
            host.disk_latency_s = self.triad.profile.disk_latency_s
            host.write_error = ""
            host.hung_until = 0.0
            if host.run is not None:
                host.run.disk_answers()


def _hard_of(disk: Disk) -> HardState | None:
    """What stands on that disk; None where nothing does, or it was cut (another fault) and remembers nothing."""
    try:
        return None if disk.hard is None else HardState.decode(disk.hard)
    except StateError:
        return None
