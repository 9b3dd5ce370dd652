"""The fault plan of a seed: drawn before anything runs, so that it does not depend on what the system does."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from flexcore.identity import Rank
from flexcore_testing.profile import Profile
from flexcore_testing.triad import SimulatedTriad

MASTER = -1
"""As a target: whoever serves when the fault strikes (else a drawn rank)."""


@attrs.frozen(kw_only=True)
class Fault:
    """One fault: *kind* strikes *target* (and *other*) at *at* for *for_s*; details come from the number *draw*."""

    at: float
    kind: str
    target: int
    other: int
    for_s: float
    draw: float

    def text(self) -> str:
        """One line for people."""
        who = "master" if self.target == MASTER else "PST"[self.target]
        return f"{self.at:10.3f} {self.kind} {who}/{'PST'[self.other]} for {self.for_s:.3f} ({self.draw:.2f})"


def draw_plan(profile: Profile) -> tuple[Fault, ...]:
    """All faults of the safety phase."""
    rng = random.Random(f"plan {profile.campaign} {profile.seed}")
    timeout = profile.timeout_s
    end = profile.warm_s + profile.safety_timeouts * timeout
    kinds = sorted(profile.faults)
    weights = [profile.faults[kind] for kind in kinds]
    faults: list[Fault] = []
    at = timeout * rng.choice((0.1, 1.0, 2.0)) + (profile.warm_s if rng.random() < 0.7 else 0.0)
    while at < end:
        kind = rng.choices(kinds, weights)[0]
        length = rng.choice((rng.random() * 0.2, rng.random() * 1.2, rng.random() * 1.2, rng.random() * 4)) * timeout
        target = MASTER if rng.random() < 0.5 else rng.randrange(3)
        faults.append(
            Fault(at=at, kind=kind, target=target, other=rng.randrange(3), for_s=length, draw=rng.random())
        )
        if rng.random() < 0.3:
            at += rng.random() * 0.05 * timeout
        else:
            at += rng.expovariate(profile.faults_per_timeout / timeout)
    return tuple(faults)


class Striker:
    """Carries a plan out on a triad, within the assumptions of the campaign."""

    def __init__(self, triad: SimulatedTriad, strike_client: Callable[[Fault], bool] | None = None) -> None:
        self.triad = triad
        self.active = True
        self.struck = 0
        self._strike_client = strike_client

    def schedule(self, plan: tuple[Fault, ...]) -> None:
        """Put the whole plan into the world's heap."""
        for fault in plan:
            self.triad.world.at(fault.at, self._strike, fault)

    def _strike(self, fault: Fault) -> None:
        if not self.active:
            return
        if fault.kind.startswith("client"):
            if self._strike_client is not None and self._strike_client(fault):
                self.struck += 1
            return
        target = self._target(fault)
        handler = _HANDLERS[fault.kind]
        if handler(self, fault, target):
            self.struck += 1
            self.triad.coverage[f"fault {fault.kind}"] += 1

    def _target(self, fault: Fault) -> Rank:
        if fault.target == MASTER:
            master = self.triad.master()
            if master is not None:
                return master.rank
            return Rank(int(fault.draw * 3))
        return Rank(fault.target)

    def _later(self, seconds: float, action: Callable[..., object], *arguments: object) -> None:
        self.triad.world.after(seconds, self._if_active, action, *arguments)

    def _if_active(self, action: Callable[..., object], *arguments: object) -> None:
        if self.active:
            action(*arguments)

    def restart_later(self, rank: Rank, seconds: float) -> None:
        """Start the server again after a while."""
        self._later(seconds, self.triad.start, rank)

    # --- the faults ----------------------------------------------------------------------------------------------

    def kill(self, fault: Fault, target: Rank) -> bool:
        """kill -9, and a restart, perhaps at once."""
        if not self.triad.kill(target):
            return False
        quick = fault.draw < 0.3
        self.restart_later(target, fault.for_s * (0.02 if quick else 1.0))
        return True

    def power(self, fault: Fault, target: Rank) -> bool:
        """Power loss."""
        if not self.triad.power_off(target):
            return False
        self.restart_later(target, fault.for_s)
        return True

    def lose_disk(self, fault: Fault, target: Rank) -> bool:
        """A crash with the disk; only while both others are members with theirs."""
        if not all(self.triad.is_member(rank) for rank in Rank if rank is not target):
            return False
        if not (self.triad.kill(target) if fault.draw < 0.5 else self.triad.power_off(target)):
            return False
        self.triad.lose_disk(target)
        self.restart_later(target, fault.for_s)
        return True

    def lose_two(self, fault: Fault, target: Rank) -> bool:
        """Beyond: any disk at any time."""
        self.triad.kill(target)
        self.triad.lose_disk(target)
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
        """A link that comes and goes."""
        other = self._other(fault, target)
        step = fault.for_s / 6
        for round_number in range(3):
            self._later(2 * round_number * step, self.triad.cut, target, other)
            self._later((2 * round_number + 1) * step, self._heal, target, other, False)
        return True

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
        self._later(1.0 + fault.for_s, self._kill_and_start, target)
        return True

    def _kill_and_start(self, target: Rank) -> None:
        self.triad.kill(target)
        self.triad.start(target)

    def stop_all(self, fault: Fault, target: Rank) -> bool:
        """lmdown, and a restart of all."""
        if not self.triad.stop(target, "all"):
            return False
        for rank in Rank:
            self._later(3.0 + fault.for_s + fault.draw * rank * 0.3, self._kill_and_start, rank)
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
            self._later(begin + 1.0 + fault.for_s * 0.5, self._kill_and_start, rank)
        return True

    def slow_disk(self, fault: Fault, target: Rank) -> bool:
        """Commits take long."""
        host = self.triad.hosts[target]
        host.disk_latency_s = max(1, self.triad.profile.interval_s) * (0.1 + 2.5 * fault.draw**2)
        self._later(fault.for_s, self._fast_disk, target)
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

    def _edit_and_restart(self, rank: Rank, interval_s: int) -> None:
        self.triad.kill(rank)
        self.triad.edit_interval(rank, interval_s)
        self.triad.start(rank)

    def _fast_disk(self, target: Rank) -> None:
        self.triad.hosts[target].disk_latency_s = self.triad.profile.disk_latency_s

    def _other(self, fault: Fault, target: Rank) -> Rank:
        return Rank(fault.other) if fault.other != target else Rank((target + 1 + int(fault.draw * 2)) % 3)

    # --- peace ---------------------------------------------------------------------------------------------------

    def peace(self, absent: Rank | None = None) -> None:
        """The end of the safety phase: everything works again, but *absent* stays away."""
        self.active = False
        triad = self.triad
        triad.network.heal_all()
        triad.network.calm()
        triad.back_at_once = {host.rank for host in triad.hosts if host.rank is not absent}
        for host in triad.hosts:
            host.disk_latency_s = triad.profile.disk_latency_s
            if host.rank is absent:
                triad.kill(host.rank)
                continue
            run = host.run
            if run is not None and (run.stopping or run.quorum.stopping):
                triad.kill(host.rank)
            triad.resume(host.rank)
            triad.start(host.rank)


_HANDLERS: dict[str, Callable[[Striker, Fault, Rank], bool]] = {
    "kill": Striker.kill,
    "power": Striker.power,
    "lose disk": Striker.lose_disk,
    "lose two": Striker.lose_two,
    "cut": Striker.cut,
    "short cut": Striker.short_cut,
    "isolate": Striker.isolate,
    "flap": Striker.flap,
    "reset": Striker.reset,
    "false refusal": Striker.false_refusal,
    "pause": Striker.pause,
    "wall jump": Striker.wall_jump,
    "stop one": Striker.stop_one,
    "stop all": Striker.stop_all,
    "kill all": Striker.kill_all,
    "rolling": Striker.rolling,
    "slow disk": Striker.slow_disk,
    "new interval": Striker.new_interval,
}
