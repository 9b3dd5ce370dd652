"""Attacks on processes and their clocks: killed, frozen, started twice, sent through time."""

from __future__ import annotations

import shutil
import subprocess
import time

from flexcore.identity import Rank

from .attacks import Stage, any_rank, attack
from .ground import free_port
from .servers import PATIENCE_S, ChaosFailed, until

DAY_S = 86_400.0


_TWICE = " runs twice: "
"""What the others' logs say of a server that runs twice."""


@attack("kill -9 of a server", weight=8)
def kill(stage: Stage) -> None:
    """The other two go on; it comes back with its disk."""
    rank = any_rank(stage)
    stage.note(f"kill -9 {rank.word}")
    stage.servers.kill(rank)
    stage.servers.await_master()
    stage.load.await_work("kill")
    time.sleep(stage.draw.uniform(0.0, 2.0))
    stage.servers.start(rank)


@attack("kill -9 of a server, restarted at once", weight=4)
def kill_and_restart(stage: Stage) -> None:
    """It is back before anybody has decided anything."""
    rank = any_rank(stage)
    stage.note(f"kill -9 and restart {rank.word}")
    for _ in range(stage.draw.choice((1, 1, 2, 3))):
        stage.servers.kill(rank)
        stage.servers.start(rank)
        time.sleep(stage.draw.uniform(0.0, 0.5))


@attack("server stopped in order", weight=3)
def stop(stage: Stage) -> None:
    """SIGTERM: a hand-over, exit status 0."""
    rank = any_rank(stage)
    stage.note(f"SIGTERM {rank.word}")
    stage.servers.stop(rank)
    stage.load.await_work("an orderly stop")
    stage.servers.start(rank)


@attack("server frozen (SIGSTOP, SIGCONT)", weight=8)
def freeze(stage: Stage) -> None:
    """Shorter and longer than the timeout."""
    rank = any_rank(stage)
    seconds = stage.draw.uniform(0.0, 2.0 * stage.servers.timeout_s)
    stage.note(f"freeze {rank.word} for {seconds:.2f} s")
    stage.servers.freeze(rank)
    time.sleep(seconds)
    stage.servers.thaw(rank)


@attack("old master thawed after a successor served", weight=3)
def thaw_old_master(stage: Stage) -> None:
    """It must not grant a thing by what was true before."""
    old = stage.servers.await_master()
    stage.note(f"freeze the master {old.word} until another has granted")
    stage.servers.freeze(old)
    until("a successor serves", lambda: _other_serves(stage, old))
    stage.load.await_work("the master hangs")
    stage.servers.thaw(old)


def _other_serves(stage: Stage, old: Rank) -> bool:
    for rank in Rank:
        if rank is not old:
            report = stage.servers.report(rank)
            if report is not None and report.state == "serving":
                return True
    return False


@attack("kill -9 of all three", weight=2)
def kill_all(stage: Stage) -> None:
    """A power cut: all come back with their disks."""
    stage.note("kill -9 of all three")
    for rank in Rank:
        stage.servers.kill(rank)
    time.sleep(stage.draw.uniform(0.0, 1.0))
    order = list(Rank)
    stage.draw.shuffle(order)
    for rank in order:
        stage.servers.start(rank)


@attack("rolling restart", weight=1)
def rolling_restart(stage: Stage) -> None:
    """One after the other, as for an update."""
    stage.note("rolling restart")
    for rank in Rank:
        stage.servers.stop(rank)
        stage.servers.start(rank)
        stage.servers.await_peace(f"restart of the {rank.word}")


@attack("server restarted with an empty state folder", weight=3)
def lose_disk(stage: Stage) -> None:
    """It recovers from the other two."""
    rank = any_rank(stage)
    stage.note(f"kill -9 {rank.word} and delete its state folder")
    stage.servers.kill(rank)
    shutil.rmtree(stage.servers.state_dir(rank))
    stage.servers.start(rank)


@attack("two servers with the same SERVER line", weight=2)
def start_twice(stage: Stage) -> None:
    """On the same port and folder it does not start; with others of its own it is found out."""
    servers = stage.servers
    rank = any_rank(stage)
    stage.note(f"start the {rank.word} twice")
    _refused_to_start(stage, rank)
    twin = stage.folder / "twin"
    twin.mkdir()
    port = free_port(["127.0.0.1"])
    (twin / "license.lic").write_text(servers.license_text(rank, own_port=port))
    process = servers.spawn(rank, servers.command(rank, own=twin))
    servers.others.append(process)
    peers = [each for each in Rank if each is not rank]
    told = sum(servers.said(each).count(_TWICE) for each in peers)
    try:
        until(
            f"somebody says that the {rank.word} runs twice",
            lambda: sum(servers.said(each).count(_TWICE) for each in peers) > told,
        )
        time.sleep(stage.draw.uniform(0.0, servers.timeout_s))
    except ChaosFailed as failed:
        words = f"{failed}; the second one ended with {process.poll()}"
        raise ChaosFailed(f"{words}:\n{servers.last_words(rank)}") from None
    finally:
        process.kill()
        process.wait()
        servers.others.remove(process)
        shutil.rmtree(twin)


def _refused_to_start(stage: Stage, rank: Rank) -> None:
    """The state folder's lock, or the port, keeps a second process away."""
    done = subprocess.run(
        [*stage.ground.prefix(rank), *stage.servers.command(rank)], check=False, capture_output=True,
        text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode != 1 or "in use" not in done.stderr:
        raise ChaosFailed(f"a second {rank.word} on the same folder: {done.returncode}\n{done.stderr}")


@attack("wall clock changed by days", weight=3)
def wall_clock(stage: Stage) -> None:
    """On one server or on all, forward or back; no failover, nothing lost."""
    days = stage.draw.choice((-400.0, -3.0, 2.0, 30.0, 400.0))
    ranks = list(Rank) if stage.draw.random() < 0.3 else [any_rank(stage)]
    stage.note(f"wall clock {days:+g} days on {', '.join(rank.word for rank in ranks)}")
    for rank in ranks:
        stage.servers.controls[rank].wall_offset_s += days * DAY_S
    stage.load.await_work("a change of the calendar")
    time.sleep(stage.draw.uniform(0.0, 1.5))
    for rank in ranks:
        stage.servers.controls[rank].wall_offset_s -= days * DAY_S


@attack("machine suspended, its clock stands still", weight=3)
def suspended_clock(stage: Stage) -> None:
    """What rule 23 is for: the monotonic clock does not count the sleep, the calendar does."""
    rank = any_rank(stage)
    seconds = stage.draw.uniform(1.5, 2.0 * stage.servers.timeout_s)
    stage.note(f"suspend {rank.word} for {seconds:.2f} s, uncounted")
    stage.servers.freeze(rank)
    time.sleep(seconds)
    stage.servers.controls[rank].now_offset_s -= seconds
    stage.servers.thaw(rank)


@attack("kill -9 of a client", weight=3)
def kill_client(stage: Stage) -> None:
    """Its seats become free, nobody else's do."""
    stage.note(f"kill -9 {stage.load.kill_one()}")
    time.sleep(stage.draw.uniform(0.0, 0.5))


@attack("client frozen (SIGSTOP, SIGCONT)", weight=2)
def freeze_client(stage: Stage) -> None:
    """Shorter than its lease: it loses nothing."""
    seconds = stage.draw.uniform(0.0, 3.0)
    stage.note(f"froze {stage.load.freeze_one(seconds)} for {seconds:.2f} s")
