"""Trouble in the middle of a scenario on real servers: a failover, a restart of all, a reread (I9)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flexcore.identity import Rank
from flexcore_testing.scenario import Stage, parse_scenario
from flexcore_testing.scenario_disturbed import KINDS, Disturber
from tests.real.scenario_stage import RealStage
from tests.real.triad import until

EVERY = 3
"""Behind which steps, so that each kind strikes once or twice in a scenario."""


def run_disturbed_scenario(text: str, folder: Path) -> int:
    """Run the scenario simulated and real, with the same trouble behind every third step; returns how often."""
    simulated, real = Stage(), RealStage(folder)
    real.disturbed = True
    disturber = Disturber(simulated)
    kinds = tuple(KINDS)
    steps = struck = 0
    try:
        for block in parse_scenario(text):
            for command in block.commands:
                real.carry_out(command, simulated.run((command,)), simulated)
                if command.split()[0] != "run" or not disturber.may_strike:
                    continue
                steps += 1
                if steps % EVERY == 0:
                    strike(kinds[struck % len(kinds)], disturber, real)
                    struck += 1
    finally:
        real.close()
    return struck


def strike(kind: str, disturber: Disturber, real: RealStage) -> None:
    """The same on both stages; what is held here has the same handles and starting times behind it."""
    simulated = disturber.stage
    before = held(real)
    with simulated.listening() as lines:
        disturber.strike(kind)
    real.expect(lines)
    REAL_KINDS[kind](real)
    real.settle(simulated)
    after = held(real)
    assert after == before, f"a {kind} changes {before} to {after}"


def held(real: RealStage) -> list[tuple[Any, ...]]:
    """Who holds what since when, as the master tells."""
    return sorted((row.handle, row.feature, row.count, row.user, row.started) for row in real.triad.seats())


def failover(real: RealStage) -> None:
    """kill -9 of the master; where two others run, another serves before it comes back."""
    triad = real.triad
    master = triad.until_master()
    triad.kill(master)
    if len(set(triad.processes) - real.frozen) > 1 and not real.differ:
        triad.until_master()
    triad.start(master)


def restart(real: RealStage) -> None:
    """kill -9 of all that run, and a new start."""
    triad = real.triad
    ranks = sorted(set(triad.processes) - real.frozen)
    for rank in ranks:
        triad.kill(rank)
    for rank in ranks:
        triad.start(rank)
    until("somebody serves", lambda: triad.master() is not None)


def reread(real: RealStage) -> None:
    """All files change in what concerns nobody, and are read anew, one server after the other."""
    for rank in Rank:
        real.spare_on ^= {rank}
        real.write(rank)
        if rank in real.triad.processes and rank not in real.frozen:
            real.read_anew(rank)


REAL_KINDS: dict[str, Callable[[RealStage], None]] = {"failover": failover, "restart": restart, "reread": reread}
