"""What every fault stands on: whom it strikes, what follows later, and whose disks may still be lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flexcore.identity import Rank
from flexcore_testing.plan import MASTER, Fault
from flexcore_testing.process import ServerHost, ServerRun
from flexcore_testing.triad import SimulatedTriad


class Striking:
    """Carries a plan out on a triad; :class:`flexcore_testing.striker.Striker` adds the faults."""

    def __init__(
        self, triad: SimulatedTriad, strike_client: Callable[[Fault], bool] | None = None
    ) -> None:
        self.triad = triad
        self.active = True
        self.struck = 0
        self.away: Rank | None = None
        """A server that no restart brings back until :meth:`bring_back`."""
        self._strike_client = strike_client

    def schedule(self, plan: Sequence[Fault]) -> None:
        """Put the whole plan into the world's heap."""
        for fault in plan:
            self.triad.world.at(fault.at, self._strike, fault)

    def handler_of(self, kind: str) -> Callable[[Fault, Rank], bool]:
        """The method that carries out faults of this kind; it says whether the fault could strike.

        Raises:
            ValueError: there is no such fault.
        """
        raise NotImplementedError

    def _strike(self, fault: Fault) -> None:
        if not self.active:
            return
        if fault.kind.startswith("client"):
            if self._strike_client is not None and self._strike_client(fault):
                self.struck += 1
            return
        if self.handler_of(fault.kind)(fault, self._target(fault)):
            self.struck += 1
            self.triad.coverage[f"fault {fault.kind}"] += 1

    def _target(self, fault: Fault) -> Rank:
        if fault.target == MASTER:
            master = self.triad.master()
            if master is not None:
                return master.rank
            return Rank(int(fault.draw * 3))
        return Rank(fault.target)

    def _other(self, fault: Fault, target: Rank) -> Rank:
        if fault.other != target:
            return Rank(fault.other)
        return Rank((target + 1 + int(fault.draw * 2)) % 3)

    # --- later -----------------------------------------------------------------------------------

    def _later(self, seconds: float, action: Callable[..., object], *arguments: object) -> None:
        self.triad.world.after(seconds, self._if_active, action, *arguments)

    def _if_active(self, action: Callable[..., object], *arguments: object) -> None:
        if self.active:
            action(*arguments)

    def start(self, rank: Rank) -> None:
        """Start the server, unless it is away."""
        if rank is not self.away:
            self.triad.start(rank)

    def restart_later(self, rank: Rank, seconds: float) -> None:
        """Start the server again after a while."""
        self._later(seconds, self.start, rank)

    def restart_after_exit(self, run: ServerRun) -> None:
        """A process ended and said that something is wrong: whoever watches over it starts it again, less often while
        its disk is full."""
        full = bool(run.machine_host.write_error)
        self.restart_later(run.rank, max(2.0, self.triad.profile.timeout_s) if full else 2.0)

    def kill_and_start(self, rank: Rank) -> None:
        """End whatever is left of the process, and start it."""
        self.triad.kill(rank)
        self.start(rank)

    def bring_back(self) -> None:
        """Whoever was away comes back, with its disk."""
        rank, self.away = self.away, None
        if rank is not None:
            self.triad.start(rank)

    # --- disks -----------------------------------------------------------------------------------

    def sound(self, rank: Rank) -> bool:
        """Whether this server is a member with its disk, so that another's may be lost (protocol.md: one at a time)."""
        host: ServerHost = self.triad.hosts[rank]
        run = host.run
        if run is None or rank is self.away:
            return False
        return self.triad.is_member(rank) and not host.unsound

    def _others_sound(self, target: Rank) -> bool:
        return all(self.sound(rank) for rank in Rank if rank is not target)
