"""What licence and options files say, used at random among faults: LINGER, TIMEOUT, MAX, RESERVE, lmremove, rereads.

By focus only (:data:`TERMS`, ``python -m flexcore_testing.simulate --focus terms``): no seed draws it of itself, so
that each stays what it was.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flexcore.identity import Rank
from flexcore.ledger.commands import (
    Formed,
    LingerPassed,
    LingerResumed,
    SeatBorrowed,
    SeatLingers,
    SeatRemoved,
    SeatReturned,
    SessionEnded,
)
from flexcore.options import OptionsFile, parse_options
from flexcore_testing.scenario_remove import Remover

if TYPE_CHECKING:
    from flexcore_testing.client_run import ClientRun
    from flexcore_testing.service import ServiceTriad

OPTIONS = (
    "LINGER f1 12\nTIMEOUT f1 900\n",
    "LINGER f1 45\nTIMEOUTALL 1500\n",
    "TIMEOUTALL 900\n",
    "LINGER f1 6\nMAX 2 f1 USER c0\nRESERVE 1 f1 USER c1\n",
    "MAX 1 f1 USER c1\nTIMEOUT f1 900\n",
    "",
)
"""What an administrator's options file says at one time or another."""
BY_RULES = (3, 4)
"""Those that hold some users up and let others pass in the queue: nobody counts who overtakes whom."""
LINGER_MAX_S = 45.0
TICK_S = 60.0
"""What lingers may do so for a minute more after each failover: the clock is written down once a minute."""

IDLE_S = (0.0, 400.0, 1000.0, 2000.0)
"""For how long a program says that it has not been used."""
REFUSED_BY_RULES = frozenset({-87, -101})

TERMS: Mapping[str, Any] = {
    "terms": 0.4,
    "queueing": 0.5,
    "interval_s": 1,
    "first_start": True,
    "liars": 0,
    "faults_per_timeout": 1.0,
    "traffic_s": 0.6,
    "faults": {
        "kill": 2.0, "power": 1.0, "stop one": 1.0, "kill all": 0.4, "cut": 1.0, "isolate": 1.0, "pause": 1.0,
        "client kill": 1.5, "client reset": 1.0, "client pause": 0.6, "client cut": 0.6,
        "reread": 1.0, "reread options": 2.5, "new licence": 0.5, "lmremove": 3.0,
    },
}  # fmt: skip
"""The focus: who waits, lingers, idles and is removed while servers die and read their files anew."""


def options_numbered(number: int) -> OptionsFile:
    """One of :data:`OPTIONS`, as a server reads it."""
    return parse_options(OPTIONS[number], name="demo.opt")


class Habits:
    """What a user of a seed with *terms* does besides checking out and in; draws of its own."""

    def __init__(self, triad: ServiceTriad, name: str) -> None:
        self._rng = random.Random(f"terms {triad.profile.seed} {name}")
        self._share = triad.profile.terms

    def act(self, run: ClientRun) -> None:
        """Say of a seat that it is idle, for long already, or that it is used again."""
        rng = self._rng
        if run.seats and rng.random() < self._share:
            handle = rng.choice(sorted(run.seats))
            idle = rng.random() < 0.7
            run.set_idle(handle, idle, for_s=rng.choice(IDLE_S))
            run.triad.coverage["said to be idle" if idle else "said to be used again"] += 1


def remove_somebodys(triad: ServiceTriad, target: Rank, draw: float) -> bool:
    """lmremove on the machine of *target*, of some seat that the master knows; False if there is none."""
    master, server = triad.master(), triad.run_of(target)
    if master is None or server is None:
        return False
    state = master.ledger.state
    handles = sorted(state.seats)
    if not handles:
        return False
    seat = state.seats[handles[int(draw * len(handles))]]
    lingers = " of what lingers" if seat.linger is not None else ""
    triad.coverage[f"lmremove{lingers}"] += 1
    words = ["-h", seat.feature, "pat", "2837", str(seat.handle)]
    triad.note(server, f"lmremove {' '.join(words)}")
    Remover(triad, words, server=server)
    return True


class TermsChecks:
    """Hears every committed entry once: what lingers is not freed before its time, and not by anybody's word; what was
    taken away does not linger; the linger clock neither jumps nor goes back."""

    def __init__(self, fail: Callable[[str, str], None], now: Callable[[], float]) -> None:
        self._fail, self._now = fail, now
        self._ends: dict[int, float] = {}
        self._removed: set[int] = set()
        self._clock_s = 0.0
        self.lingered = self.resumed = self.removed = 0

    def count_in(self, coverage: Counter[str]) -> None:
        """Add what was seen, where there was any."""
        for name in ("lingered", "resumed", "removed"):
            if getattr(self, name):
                coverage[name] += getattr(self, name)

    def committed(self, command: object) -> None:
        """An entry is committed."""
        match command:
            case SeatLingers(handle=handle, total_s=total_s, ends_s=ends_s):
                self.lingered += 1
                self._advance(ends_s - total_s)
                self._ends[handle] = ends_s
                if handle in self._removed:
                    self._fail("I9", f"handle {handle} was taken away and lingers")
            case LingerPassed(clock_s=clock_s, ended=ended):
                self._advance(clock_s)
                for handle in ended:
                    ends_s = self._ends.pop(handle, 0.0)
                    if ends_s > clock_s + 1e-3:
                        self._fail("I9", f"handle {handle} lingers until {ends_s}, and is free at {clock_s}")
            case LingerResumed(ended=ended):
                self.resumed += 1
                for handle in ended:
                    if self._ends.pop(handle, None) is None:
                        self._fail("I9", f"handle {handle} is resumed and does not linger")
            case SeatRemoved(handle=handle):
                self.removed += 1
                self._removed.add(handle)
                if handle in self._ends:
                    self._fail("I9", f"handle {handle} lingers and is taken away")
            case SeatReturned(handle=handle) | SeatBorrowed(handle=handle):
                if handle in self._ends:
                    self._fail("I9", f"handle {handle} lingers and is given back")
            case Formed():
                self._ends.clear()
                self._clock_s = 0.0
            case SessionEnded():
                pass  # what lingers is out of its session
            case _:
                pass

    def _advance(self, clock_s: float) -> None:
        if clock_s < self._clock_s - 1e-3:
            self._fail("I9", f"the linger clock goes back from {self._clock_s} to {clock_s}")
        if clock_s > 1.05 * self._now() + 1.0:
            self._fail("I9", f"the linger clock shows {clock_s} after {self._now()} s")
        self._clock_s = max(self._clock_s, clock_s)
