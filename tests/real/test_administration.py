"""lmstat and lmdown against a real triad: every state that an administrator sees, in one life of it."""

from __future__ import annotations

import json
import signal
import sys
import time

import pytest

from flexcore_tools._demo_stage import RANKS, Done, Stage
from flexcore_tools.demo import Demo

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and SIGSTOP"),
]

PATIENCE_S = 60.0


@pytest.fixture
def triad():
    stage = Stage()
    try:
        demo = Demo(stage)
        demo.sign()
        demo.start()
        yield stage
    finally:
        for process in stage.servers.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        stage.end()


def lmstat(stage: Stage, *words: str) -> Done:
    return stage.flexcore("lmstat", *words, "-c", stage.path)


def lmdown(stage: Stage, *words: str) -> Done:
    return stage.flexcore("lmdown", "-q", *words, "-c", stage.path)


def up_line(stage: Stage, rank: str, master: str = "") -> str:
    host = stage.addresses[RANKS.index(rank)].host
    return f"{host:>10}: license server UP{master} v"


def until_master(stage: Stage, rank: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while up_line(stage, rank, " (MASTER)") not in lmstat(stage).output:
        assert time.monotonic() < deadline, f"the {rank} does not become master"


def test_the_states_of_a_triad(triad):
    # All three.
    assert lmstat(triad, "--check").status == 0
    assert up_line(triad, "primary", " (MASTER)") in lmstat(triad, "-a").output

    # The master stops for maintenance: it hands over, and nobody waits for a timeout.
    done = lmdown(triad, "--server", "primary")
    assert (done.status, done.output.count("is stopped")) == (0, 1)
    assert triad.servers.pop("primary").wait(PATIENCE_S) == 0
    assert up_line(triad, "secondary", " (MASTER)") in lmstat(triad).output
    degraded = lmstat(triad, "--check")
    assert degraded.status == 1
    assert '(-15,570:111 "Connection refused")' in degraded.output

    # It comes back; then the master hangs. Until that is noticed nobody is shown as master.
    triad.start_server("primary", first=False)
    deadline = time.monotonic() + PATIENCE_S
    while lmstat(triad, "--check").status != 0:
        assert time.monotonic() < deadline
    triad.servers["secondary"].send_signal(signal.SIGSTOP)
    hanging = lmstat(triad, "-t", "1")
    assert '(-15,570:110 "Connection timed out")' in hanging.output
    until_master(triad, "primary")

    # Two of three are gone: no quorum, and why.
    triad.servers["secondary"].send_signal(signal.SIGCONT)
    for rank in ("tertiary", "secondary"):
        triad.servers[rank].kill()
        triad.servers.pop(rank).wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while (alone := lmstat(triad, "-a")).status != 159:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "demo: The desired vendor daemon is down. (-97,121)" in alone.output
    assert "(MASTER)" not in alone.output
    told = json.loads(lmstat(triad, "--json").output)
    assert (told["state"], told["exit_status"], told["check_status"]) == ("no-quorum", 159, 2)
    assert told["servers"][0]["reason"] != ""

    # lmdown stops what is left and says what was not running.
    done = lmdown(triad)
    assert done.status == 0
    assert (done.output.count("is stopped"), done.output.count("was not running")) == (1, 2)
    assert triad.servers.pop("primary").wait(PATIENCE_S) == 0
    assert lmstat(triad, "-a").status == 241
    assert lmdown(triad).status == 241
