"""The faults of servers and of the network, and the peace after them."""

from __future__ import annotations

from collections.abc import Callable

from flexcore.identity import Rank
from flexcore.override import override
from flexcore_testing.disk_faults import DiskFaults
from flexcore_testing.plan import Fault

STORM_KILLS_MAX = 6


class Striker(DiskFaults):
    """Carries a plan out on a triad, within the assumptions of the campaign."""

    @override
    def handler_of(self, kind: str) -> Callable[[Fault, Rank], bool]:
        method = _HANDLERS.get(kind) or _BY_CHOICE.get(kind)
        if method is None:
            raise ValueError(f"there is no fault {kind!r}")
        return getattr(self, method)  # type: ignore[no-any-return]

    # --- the faults ----------------------------------------------------------------------------------------------

    def kill(self, fault: Fault, target: Rank) -> bool:
        """kill -9, and a restart, perhaps at once."""
        if not self.triad.kill(target):
            return False
        quick = fault.draw < 0.3
        self.restart_later(target, fault.for_s * (0.02 if quick else 1.0))
        return True

    def storm(self, fault: Fault, target: Rank) -> bool:
        """A server that crashes again and again, each time a little after its start."""
        kills = 2 + int(fault.draw * (STORM_KILLS_MAX - 1))
        step = fault.for_s / kills
        for number in range(kills):
            self._later(number * step, self._bounce, target, step * 0.3 * fault.draw)
        return True

    def _bounce(self, target: Rank, down_s: float) -> None:
        self.triad.kill(target)
        self.restart_later(target, down_s)

    def power(self, fault: Fault, target: Rank) -> bool:
        """Power loss."""
        if not self.triad.power_off(target):
            return False
        self.restart_later(target, fault.for_s)
        return True

    def cut(self, fault: Fault, target: Rank) -> bool:
        """One pair, one way or both."""
        other = self._other(fault, target)
        one_way = fault.draw < 0.4
        ends = (target, other) if fault.draw < 0.2 or fault.draw > 0.7 else (other, target)
        self.triad.cut(*ends, one_way=one_way)
        self._later(fault.for_s, self._heal, *ends, one_way)
        return True

    def short_cut(self, fault: Fault, target: Rank) -> bool:
        """A glitch."""
        other = self._other(fault, target)
        self.triad.cut(target, other)
        self._later(fault.for_s * 0.05, self._heal, target, other, False)
        return True

    def isolate(self, fault: Fault, target: Rank) -> bool:
        """One server against both others; one way in or out, or both."""
        for other in Rank:
            if other is target:
                continue
            if fault.draw < 0.2:
                ends, one_way = (target, other), True
            elif fault.draw < 0.4:
                ends, one_way = (other, target), True
            else:
                ends, one_way = (target, other), False
            self.triad.cut(*ends, one_way=one_way)
            self._later(fault.for_s, self._heal, *ends, one_way)
        return True

    def flap(self, fault: Fault, target: Rank) -> bool:
        """A link that comes and goes; perhaps in one direction only."""
        other = self._other(fault, target)
        one_way = fault.draw > 0.8
        step = fault.for_s / 6
        for round_number in range(3):
            self._later(2 * round_number * step, self._cut, target, other, one_way)
            self._later((2 * round_number + 1) * step, self._heal, target, other, one_way)
        return True

    def _cut(self, first: Rank, second: Rank, one_way: bool) -> None:
        self.triad.cut(first, second, one_way=one_way)

    def _heal(self, first: Rank, second: Rank, one_way: bool) -> None:
        self.triad.heal(first, second, one_way=one_way)

    def reset(self, fault: Fault, target: Rank) -> bool:
        """Connections break."""
        self.triad.reset(target, self._other(fault, target), half_open=fault.draw < 0.4)
        return True

    def false_refusal(self, fault: Fault, target: Rank) -> bool:
        """Beyond: connections break and dials are refused though the process lives."""
        for other in Rank:
            if other is not target and (other == fault.other or fault.draw < 0.6):
                self.triad.refuse(other, target)
                self._later(fault.for_s, self.triad.network.refusing.discard, ("PST"[other], "PST"[target]))
        return True

    def pause(self, fault: Fault, target: Rank) -> bool:
        """SIGSTOP and SIGCONT."""
        if not self.triad.pause(target):
            return False
        self._later(fault.for_s * 0.7, self.triad.resume, target)
        return True

    def wall_jump(self, fault: Fault, target: Rank) -> bool:
        """The wall clock is set."""
        self.triad.jump_wall(target, (fault.draw - 0.5) * (10 if fault.for_s < 5 else 200_000))
        return True

    def stop_one(self, fault: Fault, target: Rank) -> bool:
        """SIGTERM, and a restart some time after the process ended."""
        if not self.triad.stop(target, "one"):
            return False
        self._later(1.0 + fault.for_s, self.kill_and_start, target)
        return True

    def stop_all(self, fault: Fault, target: Rank) -> bool:
        """lmdown, and a restart of all."""
        if not self.triad.stop(target, "all"):
            return False
        for rank in Rank:
            self._later(3.0 + fault.for_s + fault.draw * rank * 0.3, self.kill_and_start, rank)
        return True

    def kill_all(self, fault: Fault, target: Rank) -> bool:
        """The power of the building fails: all three restart with their disks."""
        for rank in Rank:
            self.triad.kill(rank)
            self.restart_later(rank, fault.for_s * 0.3 * (1 + fault.draw * rank))
        return True

    def rolling(self, fault: Fault, target: Rank) -> bool:
        """One after the other is stopped in order and started again."""
        for step, rank in enumerate((target, Rank((target + 1) % 3), Rank((target + 2) % 3))):
            begin = step * (2.0 + fault.for_s)
            self._later(begin, self.triad.stop, rank, "one")
            self._later(begin + 1.0 + fault.for_s * 0.5, self.kill_and_start, rank)
        return True

    def new_interval(self, fault: Fault, target: Rank) -> bool:
        """An administrator changes HEARTBEAT_INTERVAL on one server and restarts it, then on the others."""
        triad = self.triad
        if triad.profile.interval_s not in (1, 2):
            return False
        interval = triad.profile.interval_s * (1, 2, 3)[int(fault.draw * 3)]
        for step, rank in enumerate((target, Rank((target + 1) % 3), Rank((target + 2) % 3))):
            self._later(step * fault.for_s, self._edit_and_restart, rank, interval)
        return True

    def new_licence(self, fault: Fault, target: Rank) -> bool:
        """A licence file with another count is put on one server after the other, by restart (rule 19)."""
        triad = self.triad
        if len(set(triad.licensed_on)) > 1:
            return False
        licensed = max(1, triad.licensed_on[target] + (-1 if fault.draw < 0.3 else 1))
        for step, rank in enumerate((target, Rank((target + 1) % 3), Rank((target + 2) % 3))):
            self._later(step * fault.for_s * 0.5, self._replace_licence, rank, licensed)
        return True

    def reread(self, fault: Fault, target: Rank) -> bool:
        """A licence file with another count is put on one server after the other and read anew while it runs."""
        triad = self.triad
        if len(set(triad.licensed_on)) > 1:
            return False
        licensed = max(1, triad.licensed_on[target] + (-1 if fault.draw < 0.4 else 1))
        second = Rank((target + (1 if fault.other % 2 else 2)) % 3)
        for step, rank in enumerate((target, second, Rank(3 - target - second))):
            self._later(step * fault.for_s * 0.5, triad.reread, rank, licensed)
        return True

    def reread_options(self, fault: Fault, target: Rank) -> bool:
        """Another options file is put on one server after the other, perhaps not on all, and read anew."""
        triad = self.triad
        number = int(fault.draw * 1000)
        for step, rank in enumerate((target, Rank((target + 1) % 3), Rank((target + 2) % 3))[: 1 + number % 4]):
            self._later(step * fault.for_s * 0.5, triad.reread_options, rank, number)
        return True

    def lmremove(self, fault: Fault, target: Rank) -> bool:
        """An administrator takes a seat away."""
        return self.triad.remove_seat(target, fault.draw)

    def _replace_licence(self, rank: Rank, licensed: int) -> None:
        self.triad.kill(rank)
        self.triad.edit_licence(rank, licensed)
        self.start(rank)

    def _edit_and_restart(self, rank: Rank, interval_s: int) -> None:
        self.triad.kill(rank)
        self.triad.edit_interval(rank, interval_s)
        self.start(rank)

    # --- peace ---------------------------------------------------------------------------------------------------

    def peace(self, absent: Rank | None = None) -> None:
        """The end of the safety phase: everything works again, but *absent* stays away."""
        self.active = False
        triad = self.triad
        triad.network.heal_all()
        triad.network.calm()
        self.disks_work()
        self._finish_licence()
        triad.back_at_once = {host.rank for host in triad.hosts if host.rank not in (absent, self.away)}
        for host in triad.hosts:
            if host.rank is absent:
                triad.kill(host.rank)
                continue
            run = host.run
            if run is not None and (run.stopping or run.quorum.stopping):
                triad.kill(host.rank)
            triad.resume(host.rank)
            self.start(host.rank)

    def _finish_licence(self) -> None:
        """A licence file that was put on some servers is put on the others too."""
        triad = self.triad
        newest = max(triad.licensed_on)
        if min(triad.licensed_on) == newest:
            return
        for rank in Rank:
            if triad.licensed_on[rank] != newest:
                triad.kill(rank)
                triad.edit_licence(rank, newest)


_HANDLERS = {
    "kill": "kill",
    "storm": "storm",
    "power": "power",
    "lose disk": "lose_disk",
    "lose two": "lose_two",
    "form anew": "form_anew",
    "stale disk": "stale_disk",
    "restored disk": "restored_disk",
    "torn disk": "torn_disk",
    "full disk": "full_disk",
    "hung disk": "hung_disk",
    "slow disk": "slow_disk",
    "cut": "cut",
    "short cut": "short_cut",
    "isolate": "isolate",
    "flap": "flap",
    "reset": "reset",
    "false refusal": "false_refusal",
    "pause": "pause",
    "wall jump": "wall_jump",
    "stop one": "stop_one",
    "stop all": "stop_all",
    "kill all": "kill_all",
    "rolling": "rolling",
    "new interval": "new_interval",
    "new licence": "new_licence",
}

_BY_CHOICE = {"reread": "reread", "reread options": "reread_options", "lmremove": "lmremove"}
"""No seed draws these of itself; a case or a focus names them."""
