"""Attacks on disks: full, read-only, slow, hung, cut in the middle, somebody else's."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from pathlib import Path

from flexcore.identity import Rank
from flexcore_testing import namespaces

from .attacks import Skipped, Stage, any_rank, attack
from .servers import ChaosFailed, until

_KIB = 1024
"""The file system that is filled: at least so large ..."""
_ROOM_TO_COPY = 3
"""... and so many times what the fullest state folder takes: all of it is copied there first."""


def _state_file(stage: Stage, rank: Rank) -> Path:
    found = [
        path
        for path in sorted(stage.servers.state_dir(rank).iterdir())
        if path.read_bytes()[:15] == b"SQLite format 3"
    ]
    if not found:
        raise ChaosFailed(f"no state file in {stage.servers.state_dir(rank)}")
    return found[0]


def _forget(stage: Stage, rank: Rank) -> None:
    shutil.rmtree(stage.servers.state_dir(rank), ignore_errors=True)


@attack("state file cut in the middle", weight=3)
def cut_state_file(stage: Stage) -> None:
    """The file or its journal. Either the server says which folder to delete, or what is left reads
    well and is merely old: then it finds out from its peers that it has forgotten something."""
    rank = any_rank(stage)
    servers = stage.servers
    servers.kill(rank)
    path = _state_file(stage, rank)
    journals = [each for each in path.parent.glob(f"{path.name}-wal") if each.stat().st_size]
    victim = journals[0] if journals and stage.draw.random() < 0.5 else path
    size = victim.stat().st_size
    left = stage.draw.randrange(size // 8, size - size // 8)
    stage.note(f"{rank.word}: {victim.name} cut from {size} to {left} bytes")
    os.truncate(victim, left)
    servers.start(rank, wait=False)
    until("it is damaged, or up", lambda: _ended_or_answers(stage, rank))
    if servers.processes[rank].poll() is not None:
        servers.await_exit(rank, "damaged", "delete the folder")
        _forget(stage, rank)
        servers.start(rank)


def _ended_or_answers(stage: Stage, rank: Rank) -> bool:
    return stage.servers.processes[rank].poll() is not None or stage.servers.report(rank) is not None


@attack("state file of another server", weight=2)
def foreign_state_file(stage: Stage) -> None:
    """Its promises and votes are not this server's: it must not be taken."""
    rank = any_rank(stage)
    other = stage.draw.choice([each for each in Rank if each is not rank])
    servers = stage.servers
    stage.note(f"give the {rank.word} the state file of the {other.word}")
    servers.kill(rank)
    path, theirs = _state_file(stage, rank), _state_file(stage, other)
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    for part in theirs.parent.glob(f"{theirs.name}*"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(part, path.parent / part.name)
    servers.start(rank, wait=False)
    servers.await_exit(rank, "delete the folder", str(servers.state_dir(rank)))
    _forget(stage, rank)
    servers.start(rank)


@attack("state folder that cannot be written", weight=2)
def unwritable_folder(stage: Stage) -> None:
    """It does not start, and says why; with its rights back it serves."""
    rank = any_rank(stage)
    servers, folder = stage.servers, stage.servers.state_dir(rank)
    stage.note(f"state folder of {rank.word} read-only")
    before: list[str] = []
    if os.geteuid() == 0:
        before = _in_mounts("mount --bind {0} {0} && mount -o remount,ro,bind {0}", folder)
    servers.kill(rank)
    folder.chmod(0o500)
    try:
        servers.start(rank, before=before, wait=False)
        servers.await_exit(rank, str(folder))
    finally:
        folder.chmod(0o700)
    servers.start(rank)


def _in_mounts(script: str, folder: Path) -> list[str]:
    """What runs *script* in mounts of its own, and becomes the command behind it."""
    why = namespaces.why_not()
    if why:
        raise Skipped(why)
    words = script.format(shlex.quote(str(folder)))
    return [
        "unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", f'{words} && exec "$@"', "sh",
    ]  # fmt: skip


@attack("disk full: a file may not grow", weight=3)
def file_size_limit(stage: Stage) -> None:
    """The write fails at a random instant: it ends with the reason, the others serve."""
    if sys.platform != "linux":
        raise Skipped("needs prlimit")
    import resource

    rank = any_rank(stage)
    servers = stage.servers
    stage.note(f"no file of {rank.word} may grow any more")
    largest = max(path.stat().st_size for path in servers.state_dir(rank).iterdir())
    bound = largest + 4096 * stage.draw.randrange(1, 8)
    bound = max(bound, servers.log_file(rank).stat().st_size + 65536)
    resource.prlimit(servers.processes[rank].pid, resource.RLIMIT_FSIZE, (bound, bound))
    # Its write-ahead log is used again and again and may never grow so far: then nothing may be written
    # any more, not even why.
    words = ["cannot be written"]
    deadline = time.monotonic() + 2.0
    while servers.processes[rank].poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if servers.processes[rank].poll() is None:
        resource.prlimit(servers.processes[rank].pid, resource.RLIMIT_FSIZE, (1, 1))
        words = []
    servers.await_exit(rank, *words)
    stage.load.await_work("a full disk")
    servers.start(rank)


def _room_taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


@attack("disk full: a file system without space", weight=2)
def full_file_system(stage: Stage) -> None:
    """A small tmpfs, filled by somebody else while the server writes."""
    rank = any_rank(stage)
    servers, folder = stage.servers, stage.servers.state_dir(rank)
    size = _KIB + max(_room_taken(servers.state_dir(each)) for each in Rank) * _ROOM_TO_COPY // 1024
    before = _in_mounts(f"mount -t tmpfs -o size={size}k none {{0}} && chmod 700 {{0}}", folder)
    stage.note(f"{rank.word} on a file system of {size} KiB, which is then filled")
    servers.kill(rank)
    _forget(stage, rank)
    folder.mkdir(mode=0o700)
    servers.start(rank, before=before)
    servers.await_peace("a new disk")
    process = servers.processes[rank]
    filler = Path(f"/proc/{process.pid}/root{folder}/filler")
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
    except PermissionError as error:
        raise Skipped(f"cannot see into the mounts of another process: {error}") from error
    servers.await_exit(rank, "cannot be written", "full")
    stage.load.await_work("a full file system")
    servers.start(rank)


@attack("disk that fails", weight=1)
def failing_disk(stage: Stage) -> None:
    """The next write fails (injected): fatal for that process, for nothing else."""
    rank = any_rank(stage)
    stage.note(f"the disk of {rank.word} fails")
    stage.servers.controls[rank].disk_fails = True
    stage.servers.await_exit(rank, "cannot be written")
    stage.load.await_work("a failed disk")
    stage.servers.start(rank)


@attack("slow disk", weight=3)
def slow_disk(stage: Stage) -> None:
    """Each write takes seconds: a master hands over, nobody waits for that disk."""
    rank = any_rank(stage)
    seconds = stage.draw.uniform(0.1, 4.0)
    stage.note(f"each write of {rank.word} takes {seconds:.2f} s")
    stage.servers.controls[rank].disk_delay_s = seconds
    time.sleep(stage.draw.uniform(1.0, 5.0))
    stage.load.await_work("a slow disk")
    stage.servers.controls[rank].heal()


@attack("hung disk", weight=1)
def hung_disk(stage: Stage) -> None:
    """A write that never comes back ends the process after the timeout and ten seconds (rule 20)."""
    rank = any_rank(stage)
    stage.note(f"the disk of {rank.word} hangs")
    stage.servers.controls[rank].disk_delay_s = 1e9
    stage.load.await_work("a hung disk")
    stage.servers.await_exit(rank, "disk")
    stage.servers.start(rank)
