"""Stories of licence terms that no failover, restart or reread may change: mutations of them are hunted with these.

Each runs without a violation on the real code. Most are the text of a scenario, disturbed or compared with what is
expected of it.
"""

from __future__ import annotations

from collections.abc import Callable

from flexcore_testing.checks import Violation
from flexcore_testing.scenario import Stage
from flexcore_testing.scenario_disturbed import run_disturbed

LINGERS = """\
licence FEATURE f1 demo 1.0 permanent 1
option LINGER f1 200
triad interval=5
start primary secondary tertiary
run 10
ann checkout f1
run 1
ann checkin
run 10
----
"""

WAIT = """\
triad interval=5 f1=2
start primary secondary tertiary
run 10
ann checkout f1 2
run 1
bob queue f1 2
run 1
cem queue f1
run 1
ann closes
run 3
----
"""


def lingering_at_a_failover() -> None:
    """What lingers does so at the next master, too."""
    run_disturbed(LINGERS, ("failover",))


def queue_at_a_failover() -> None:
    """Who waits keeps the place at the next master."""
    run_disturbed(WAIT, ("failover",))


def removal_at_a_failover() -> None:
    """A seat is taken away while its user cannot be reached, and the master's power fails, and with it what was under
    way: the next one tells it."""
    stage = Stage()
    stage.run(["triad interval=5 f1=1", "start primary secondary tertiary", "run 10", "ann checkout f1", "run 130"])
    triad = stage.triad
    for server in "PST":
        triad.network.cut(server, "ann")
    stage.run(["lmremove f1 ann ann-host /dev/tty", "poweroff primary", "run 1"])
    triad.network.heal_all()
    stage.run(["run 30"])
    if triad.clients["ann"].held():
        raise Violation("I9", "a seat was taken away, and after a failover its user still believes in it")


def reread_at_one_server() -> None:
    """One server of three has read a larger file when the master dies: what is licensed is what two agree on."""
    stage = Stage()
    stage.run(["triad interval=5 f1=1", "start primary secondary tertiary", "run 10", "ann checkout f1", "run 1"])
    stage.run(["licence FEATURE f2 demo 1.0 permanent 1", "reread secondary", "kill primary", "run 5"])
    told = stage.run(["bob checkout f2", "run 1"])
    if any(" holds " in line for line in told):
        raise Violation("rights", f"one of three servers decides what is licensed: {told}")


def reread_costs_nobody_the_quorum() -> None:
    """Servers whose signed lines differ during a rolling reread are peers all the same."""
    stage = Stage()
    stage.run(["triad interval=5 f1=1", "start primary secondary tertiary", "run 10", "kill tertiary"])
    stage.run(["licence FEATURE f2 demo 1.0 permanent 1", "reread secondary", "kill secondary", "start secondary"])
    stage.run(["run 100"])
    if stage.triad.master() is None:
        raise Violation("I7", "two servers whose lines differ in the middle of a reread serve nobody")


STORIES: dict[str, Callable[[], None]] = {
    "lingering_at_a_failover": lingering_at_a_failover,
    "queue_at_a_failover": queue_at_a_failover,
    "removal_at_a_failover": removal_at_a_failover,
    "reread_at_one_server": reread_at_one_server,
    "reread_costs_nobody_the_quorum": reread_costs_nobody_the_quorum,
}
"""By name: each raises a Violation if what it tells of is not so."""
