"""A scripted schedule about what is lent: clocks that leap (protocol.md rule 18)."""

from __future__ import annotations

import attrs

from flexcore.options import parse_options
from flexcore_testing.checks import Violation
from flexcore_testing.licences import signed, triad_text
from flexcore_testing.scenario_borrowing import HOUR_S, borrow
from flexcore_testing.scenario_files import ScenarioTriad, machine_of_words
from flexcore_testing.schedule_kit import P, T, quiet_profile, start_all, until
from flexcore_testing.triad import SimulatedTriad

LEAP_S = 7 * 24 * HOUR_S


def lending_triad() -> ScenarioTriad:
    """A triad whose one licence may be borrowed."""
    profile = attrs.evolve(quiet_profile(interval_s=1), clients=0)
    text = triad_text({}, interval_s=1, primary_is_master=False)
    triad = ScenarioTriad(
        profile, signed(f"{text}FEATURE f1 demo 1.0 permanent 1 BORROW=48 SIGN=0\n"), parse_options("", name="demo.opt")
    )
    triad.machines = {"elm": machine_of_words(["00163e111111"])}
    return triad


def one_clock_leaps(triad: SimulatedTriad) -> None:
    """Rule 18: the master's clock leaps ahead by a week; then it and one other are left. Nothing that is lent is
    freed."""
    assert isinstance(triad, ScenarioTriad)
    start_all(triad)
    client = triad.client("ann@elm")
    client.checkout("f1")
    until(triad, "ann holds it", lambda: bool(client.seats), 10.0)
    (loan,) = borrow(client, 2.0)
    until(triad, "it is lent", lambda: loan.request in client.lent, 10.0)
    client.close()
    triad.jump_wall(P, LEAP_S)
    _still_lent(triad, "one clock of three")
    triad.power_off(T)
    _still_lent(triad, "one clock of two")


def _still_lent(triad: ScenarioTriad, whose: str) -> None:
    triad.advance(60.0)
    master = triad.master()
    if master is None or not master.ledger.state.borrows:
        raise Violation("I9", f"{whose} has freed what is lent")
