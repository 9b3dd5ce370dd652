"""How long a client waits for its next checkout when the master dies, or stands still."""

from __future__ import annotations

import signal
import threading
import time

import flexcore_sync

from .load import FREE, VENDOR
from .servers import HOST, KEY, House, house

SETTLED_S = 0.3
"""Between the first checkout and the kill: the client stands in its ordinary state, not in its first second."""


def wait_s(*, durable: bool, frozen: bool = False, interval_s: int = 20) -> float:
    """Seconds from the blow to the next checkout that a client of before is granted, on two of three servers."""
    with house(3, durable=durable, interval_s=interval_s) as servers:
        servers.serving()
        path = ",".join(f"{port}@{HOST}" for port in servers.ports)
        with flexcore_sync.connect(path, vendor=VENDOR, keys=[KEY.verifying_key]) as client:
            client.checkout(FREE, "1.0").checkin()
            time.sleep(SETTLED_S)
            waited = _strike(servers, client, frozen=frozen)
        for process in servers.processes:
            process.send_signal(signal.SIGCONT)
        return waited


def _strike(servers: House, client: flexcore_sync.Client, *, frozen: bool) -> float:
    number = servers.master()
    assert number is not None
    master = servers.processes[number]
    struck = threading.Event()
    granted_at: list[float] = []

    def ask() -> None:
        struck.wait()
        client.checkout(FREE, "1.0", wait_s=120.0).checkin()
        granted_at.append(time.perf_counter())

    asking = threading.Thread(target=ask)
    asking.start()
    at = time.perf_counter()
    master.send_signal(signal.SIGSTOP if frozen else signal.SIGKILL)
    struck.set()
    asking.join()
    return granted_at[0] - at
