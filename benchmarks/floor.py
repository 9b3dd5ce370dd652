"""The floor: what trio itself does over loopback, with nothing of ours in it.

A trio server that sends back what it gets, and a client on a stdlib socket that waits for each answer: the least that
any checkout over a connection of its own can cost on this machine. Both run on one CPU, since a wake-up across virtual
CPUs costs several times what is measured.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

ECHO_SERVER = """
import sys, trio
async def echo(stream):
    async for data in stream:
        await stream.send_all(data)
async def main():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(echo, listeners)
trio.run(main)
"""
FRAME = b"x" * 64
"""About the size of a checkout's frame."""


def pin_to_one_cpu() -> str:
    """Keep this process and its children on one CPU, where the system allows it; say what was done."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned"
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    return f"pinned to CPU {cpu}"


@contextlib.contextmanager
def child(code: str, *arguments: str) -> Iterator[str]:
    """A fresh Python that runs *code*; yields the first line that it prints."""
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def echo_per_second(seconds: float) -> float:
    """Round trips a second with a freshly launched trio echo server, one connection, one at a time."""
    with child(ECHO_SERVER) as port, socket.create_connection(("127.0.0.1", int(port))) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def turn() -> None:
            client.sendall(FRAME)
            got = len(client.recv(4096))
            while got < len(FRAME):
                got += len(client.recv(4096))

        return rate(turn, seconds)


def rate(turn: object, seconds: float, per_turn: int = 1) -> float:
    """How often *turn* runs a second, times *per_turn*, after a tenth of the time to warm up."""
    assert callable(turn)
    warm_until = time.perf_counter() + seconds / 10
    while time.perf_counter() < warm_until:
        turn()
    turns = 0
    started = time.perf_counter()
    until = started + seconds
    while (now := time.perf_counter()) < until:
        turn()
        turns += 1
    return turns * per_turn / (now - started)
