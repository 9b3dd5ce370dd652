"""What simulated applications do all day: check out, hold, check in, give up, crash, come back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from flexcore_testing.client_run import ClientRun
from flexcore_testing.terms import Habits

if TYPE_CHECKING:
    from flexcore_testing.plan import Fault
    from flexcore_testing.service import ServiceTriad

SEATS_MAX = 3


class Application:
    """A user's seat at a terminal: one client process at a time, started again when it is gone."""

    def __init__(self, triad: ServiceTriad, name: str, number: int) -> None:
        self.triad = triad
        self.name = name
        self.rng = triad.client_rng
        self.queue_rng = random.Random(f"queue {triad.profile.seed} {name}")
        self.habits = Habits(triad, name) if triad.profile.terms else None
        self.pace_s = triad.profile.traffic_s
        error = triad.profile.rate_error
        self.rate = self.rng.choice((1.0, 1.0 - error, 1.0 + error))
        self.first = number % 3
        self.run: ClientRun | None = None
        self.active = True

    def begin(self) -> None:
        """Start the process and its habits."""
        self._start()
        self._next()

    def _start(self) -> None:
        self.run = self.triad.client(self.name, rate=self.rate, first=self.first)

    def _next(self) -> None:
        self.triad.world.after(self.rng.expovariate(1.0 / self.pace_s), self._act)

    def _act(self) -> None:
        if not self.active:
            return
        self._next()
        run = self.run
        if run is None or not run.alive:
            self._start()
            return
        if run.paused:
            return
        if self.habits is not None:
            self.habits.act(run)
        rng = self.rng
        choice = rng.random()
        if run.pending:
            if choice < 0.1:
                run.withdraw(rng.choice(sorted(run.pending)))
        elif len(run.seats) < SEATS_MAX and (not run.seats or choice < 0.35):
            self.triad.coverage["asked"] += 1
            count = min(rng.choice((1, 1, 1, 2)), self.triad.profile.licensed)
            run.checkout("f1", count, queue=self.queue_rng.random() < self.triad.profile.queueing)
        elif run.seats and choice < 0.75:
            run.checkin(rng.choice(sorted(run.seats)))
        elif choice < 0.8:
            run.close()
            self.run = None

    # --- faults --------------------------------------------------------------------------------------------------

    def strike(self, fault: Fault) -> bool:
        """A fault that is about this client."""
        run = self.run
        if run is None or not run.alive:
            return False
        triad = self.triad
        if fault.kind == "client kill":
            triad.kill_client(self.name, says_so=fault.for_s < triad.profile.timeout_s)
            self.run = None
        elif fault.kind == "client switch":
            triad.kill_client(self.name, says_so=fault.draw < 0.5)
            self.first = (self.first + 1) % 3
            self._start()
        elif fault.kind == "client pause":
            if run.paused:
                return False
            triad.note(run, "paused")
            run.pause()
            triad.world.after(fault.for_s * 2, run.resume)
        elif fault.kind == "client cut":
            self._cut(run, fault)
        elif fault.kind == "client wall jump":
            run.wall_error_s += (fault.draw - 0.5) * (10 if fault.for_s < 5 else 200_000)
            triad.note(run, f"its wall clock is wrong by {run.wall_error_s:.1f} s")
        else:
            self.reset(half_open=fault.draw < 0.5)
        triad.coverage[f"fault {fault.kind}"] += 1
        return True

    def _cut(self, run: ClientRun, fault: Fault) -> None:
        network = self.triad.network
        pairs = [(self.name, server) for server in "PST" if server == "PST"[fault.other] or fault.for_s % 1 < 0.5]
        if fault.draw < 0.7:
            pairs += [(server, client) for client, server in pairs]
        self.triad.note(run, f"cut {pairs}")
        for source, target in pairs:
            network.cut(source, target)
            self.triad.world.after(fault.for_s * 2, network.heal, source, target)

    def reset(self, *, half_open: bool) -> None:
        """All its connections break."""
        run = self.run
        if run is None or not run.alive:
            return
        for server in "PST":
            self.triad.network.reset_between(self.name, server, half_open=half_open)
        self.triad.note(run, "its connections are reset")

    # --- the end -------------------------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """Peace: a paused process goes on."""
        if self.run is not None:
            self.run.resume()

    def rest(self) -> None:
        """Be gone for a while: nobody serves, and nothing is believed any more."""
        self.active = False
        self.triad.kill_client(self.name)
        self.run = None

    def go_on(self) -> None:
        """Be back."""
        if not self.active:
            self.active = True
            self.begin()

    def finish(self) -> None:
        """Leave: in order, or by dying."""
        self.active = False
        run = self.run
        if run is None or not run.alive:
            return
        if self.rng.random() < 0.6:
            run.close()
        else:
            self.triad.kill_client(self.name, says_so=self.rng.random() < 0.7)
