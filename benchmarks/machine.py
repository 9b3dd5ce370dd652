"""What a benchmark needs to know of the machine and of the processes that it measures."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROC = Path("/proc")
FILES_WANTED = 65_536


class Missing(Exception):
    """A row cannot be measured here; the text says what is missing. It is said loudly, and the table has a gap."""


def pin_to_one_cpu() -> str:
    """Keep this process and its children on one CPU, where the system allows it; say what was done.

    A wake-up across virtual CPUs costs several times what is measured.
    """
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned"
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    return f"pinned to CPU {cpu}"


def allow_files(count: int = FILES_WANTED) -> int:
    """Raise the limit of open files as far as it goes, for this process and its children; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def describe() -> str:
    """The machine in a line."""
    model = "unknown CPU"
    with contextlib.suppress(OSError):
        for line in (PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}, CPython {platform.python_version()}"


def cpu_s(pids: Sequence[int]) -> float:
    """Seconds of CPU that these processes have used, all threads, to the nanosecond where Linux tells.

    Threads that have ended are not in it: the servers' threads live as long as they do.
    """
    total = 0
    for pid in pids:
        for task in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    fields = (PROC / str(pid) / "statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


@contextlib.contextmanager
def child(arguments: Sequence[str], *, output: bool = False, env: dict[str, str] | None = None) -> Iterator[
    subprocess.Popen[str]
]:
    """A process that is killed at the end of the block; *output*: its standard output is read here."""
    process = subprocess.Popen(
        list(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if output else subprocess.DEVNULL,
        stderr=None if output else subprocess.DEVNULL, text=True, env=env,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def python(code: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A fresh Python that runs *code*: the process, and the first line that it prints."""
    with child([sys.executable, "-c", code, *arguments], output=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


def until(what: str, condition: Callable[[], bool], patience_s: float = 30.0) -> float:
    """Wait until *condition* holds; returns how long that took. Raises TimeoutError."""
    begun = time.perf_counter()
    while not condition():
        if time.perf_counter() - begun > patience_s:
            raise TimeoutError(f"after {patience_s:g} s still not: {what}")
        time.sleep(0.002)
    return time.perf_counter() - begun


def wall_s(arguments: Sequence[str], env: dict[str, str] | None = None) -> float:
    """Seconds from fork to the end of a command. Raises CalledProcessError where it fails."""
    begun = time.perf_counter()
    subprocess.run(list(arguments), check=True, stdin=subprocess.DEVNULL, capture_output=True, env=env)
    return time.perf_counter() - begun


def command(name: str, package: str) -> str:
    """The path of a program. Raises Missing."""
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def module(name: str, package: str = "") -> None:
    """Raise Missing unless the module is there, which *package* brings (one of its name, where not given)."""
    if importlib.util.find_spec(name) is None:
        raise Missing(f"the Python package {package or name} is not installed (make bench installs it)")
