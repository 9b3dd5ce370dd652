"""No false alarm: a healthy triad under full load elects nobody, even with HEARTBEAT_INTERVAL=1.

``python -m flexcore_testing.calm --seconds 600`` starts three real servers on 127.0.0.1, .2 and .3, lets clients check
out and in as fast as they are answered, and counts from the servers' own logs how often one of them began to serve.
:func:`simulated_elections` counts the same in simulation.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from flexcore.errors import CheckoutDenied, FlexcoreError
from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license
from flexcore.override import override
from flexcore_sync import connect
from flexcore_testing.network import NetworkSettings
from flexcore_testing.profile import Profile
from flexcore_testing.service import ServiceTriad

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
BEGAN = "Server started on "
"""What a server logs when it begins to serve (the manual's words)."""
WARM_S = 10.0
START_S = 60.0
END_S = 30.0


# --- in simulation ---------------------------------------------------------------------------------------------------


def simulated_elections(seconds: float, *, seed: int = 1, clients: int = 8, pause_s: float = 0.5) -> tuple[int, int]:
    """Elections and checkouts of a triad without a fault, over *seconds* of simulated time after the first ten.

    Delays vary between 5 and 80 ms, disks take up to 20 ms, loops and timers are late by up to 50 ms.
    """
    network = NetworkSettings()
    network.delay_s, network.jitter_s = 0.005, 0.075
    profile = Profile(
        seed=seed, interval_s=1, network=network, disk_latency_s=0.01, turn_s=0.01, late_timer_s=0.05,
        rates=(0.99, 1.01, 1.0), clients=clients, licensed=4, traffic_s=pause_s,
    )  # fmt: skip
    triad = ServiceTriad(profile)
    for rank in Rank:
        triad.start(rank)
    triad.start_traffic()
    triad.advance(WARM_S)
    elections, checkouts = triad.checks.elections, triad.coverage["checkouts"]
    triad.advance(seconds)
    triad.recorder.check()
    return triad.checks.elections - elections, triad.coverage["checkouts"] - checkouts


# --- real processes --------------------------------------------------------------------------------------------------


@attrs.define(kw_only=True)
class Count:
    """What happened in a calm run."""

    seconds: float
    elections: int = 0
    granted: int = 0
    denied: int = 0
    errors: list[str] = attrs.field(factory=list)

    def table(self) -> str:
        """For people."""
        rows = [
            ("seconds", f"{self.seconds:.0f}"),
            ("elections", str(self.elections)),
            ("checkouts granted", str(self.granted)),
            ("checkouts denied", str(self.denied)),
            ("checkouts a second", f"{self.granted / self.seconds:.0f}"),
            ("errors", "; ".join(self.errors) or "none"),
        ]
        return "\n".join(f"{name:<20} {value}" for name, value in rows)


class _Worker(threading.Thread):
    """Checks out and in, as fast as it is answered."""

    def __init__(self, path: str, key: SigningKey, number: int) -> None:
        super().__init__(name=f"calm {number}", daemon=True)
        self.client = connect(path, keys=[key.verifying_key], user=f"user{number}", timeout_s=START_S)
        self.stop = threading.Event()
        self.granted = self.denied = 0
        self.error = ""

    @override
    def run(self) -> None:
        try:
            while not self.stop.is_set():
                try:
                    with self.client.checkout("f1"):
                        self.granted += 1
                except CheckoutDenied:
                    self.denied += 1
        except FlexcoreError as error:
            self.error = f"{self.name}: {error}"
        self.client.close()


def calm(folder: Path, seconds: float, *, clients: int = 6, licensed: int = 4) -> Count:
    """Run three servers under load for *seconds*, and count.

    Raises:
        RuntimeError: nobody serves, or a server ended.
    """
    key = SigningKey("demo", bytes(range(32)))
    count = Count(seconds=seconds)
    with _servers(folder, key, licensed) as (path, processes):
        workers = [_Worker(path, key, number) for number in range(clients)]
        with workers[0].client.checkout("f1", wait_s=START_S):
            pass
        for worker in workers:
            worker.start()
        time.sleep(WARM_S)
        before, granted = _served(folder), sum(worker.granted for worker in workers)
        time.sleep(seconds)
        count.elections = _served(folder) - before
        count.granted = sum(worker.granted for worker in workers) - granted
        for worker in workers:
            worker.stop.set()
        for worker in workers:
            worker.join(END_S)
        count.denied = sum(worker.denied for worker in workers)
        count.errors = [worker.error for worker in workers if worker.error]
        count.errors += [f"server {at} ended" for at, process in enumerate(processes) if process.poll() is not None]
    return count


def _served(folder: Path) -> int:
    logs = (folder / f"{rank.word}.log" for rank in Rank)
    return sum(log.read_text(encoding="utf-8", errors="replace").count(BEGAN) for log in logs if log.exists())


def _free_port() -> int:
    """A port below those that the kernel hands out by itself, free on all three addresses."""
    for port in range(21000, 32000):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for host in HOSTS:
                stack.enter_context(socket.socket()).bind((host, port))
            return port
    raise RuntimeError("no free port on 127.0.0.1, .2 and .3")


@contextlib.contextmanager
def _servers(folder: Path, key: SigningKey, licensed: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    port = _free_port()
    lines = [f"SERVER {host} ID={101 + at} {port}" for at, host in enumerate(HOSTS)]
    lines[0] += " HEARTBEAT_INTERVAL=1"
    lines += ["VENDOR demo", f"FEATURE f1 demo 1.0 permanent {licensed}"]
    text = format_license(sign_license(parse_license("\n".join(lines) + "\n"), key))
    (folder / "calm.lic").write_text(text, encoding="utf-8")
    (folder / "demo.pub").write_text(f"{key.verifying_key}\n", encoding="utf-8")
    processes = []
    try:
        for rank in Rank:
            command = [
                sys.executable, "-m", "flexcore_tools", "lmgrd", "-c", str(folder / "calm.lic"),
                "--vendor-key", str(folder / "demo.pub"), "--server", rank.word, "--hostid", f"ID={101 + rank}",
                "--state-dir", str(folder / rank.word), "-l", f"+{folder / rank.word}.log", "--first-start",
            ]  # fmt: skip
            processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        yield ",".join(f"{port}@{host}" for host in HOSTS), processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
            process.kill()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the table; 0 if nobody was elected and nothing failed."""
    parser = argparse.ArgumentParser(
        prog="python -m flexcore_testing.calm", description="Count the elections of a healthy triad under full load."
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    parser.add_argument("--clients", type=int, default=6, help="how many clients (default: 6)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="flexcore-calm-") as folder:
        count = calm(Path(folder), options.seconds, clients=options.clients)
    sys.stdout.write(count.table() + "\n")
    return 1 if count.elections or count.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
