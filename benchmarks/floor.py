"""The floor: what trio itself does over loopback, with nothing of ours in it.

A trio server that sends back what it gets, and clients on stdlib sockets that wait for each answer: the least that any
checkout over a connection of its own can cost on this machine. **B** is the figure of one client, one frame at a time.
"""

from __future__ import annotations

import select
import socket
import statistics
import time

from .load import Figure
from .machine import cpu_s, python

ECHO_SERVER = """
import sys, trio
async def echo(stream):
    async for data in stream:
        await stream.send_all(data)
async def main():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(echo, listeners)
trio.run(main)
"""
FRAME = b"x" * 64
"""About the size of a checkout's frame."""


def echo(seconds: float, clients: int = 1, depth: int = 1) -> Figure:
    """Frames a second through a freshly launched trio echo server; one op is a frame there and back."""
    with python(ECHO_SERVER) as (process, port):
        socks = [socket.create_connection(("127.0.0.1", int(port)), 30.0) for _ in range(clients)]
        for sock in socks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            _bounce(socks, depth, seconds / 4)
            used = cpu_s([process.pid])
            ops, took, waits_us = _bounce(socks, depth, seconds)
            used = cpu_s([process.pid]) - used
        finally:
            for sock in socks:
                sock.close()
    cuts = statistics.quantiles(waits_us, n=100) if len(waits_us) > 1 else [0.0] * 99
    return Figure(ops_s=ops / took, p50_us=cuts[49], p99_us=cuts[98], cpu_us=used / ops * 1e6)


def _bounce(socks: list[socket.socket], depth: int, seconds: float) -> tuple[int, float, list[float]]:
    """Frames, seconds, and microseconds of each round trip; everything has come back at the end."""
    data, now = FRAME * depth, time.perf_counter
    with select.epoll() as epoll:
        places = {sock.fileno(): sock for sock in socks}
        for fileno in places:
            epoll.register(fileno, select.EPOLLIN)
        missing = dict.fromkeys(places, len(data))
        sent_at = dict.fromkeys(places, now())
        for sock in socks:
            sock.sendall(data)
        rounds, waits_us, started = 0, [], now()
        busy = len(socks)
        while busy:
            for fileno, _ in epoll.poll(5.0):
                missing[fileno] -= len(places[fileno].recv(1 << 18))
                if missing[fileno]:
                    continue
                at = now()
                rounds += 1
                waits_us.append((at - sent_at[fileno]) * 1e6)
                if at - started >= seconds:
                    busy -= 1
                    continue
                missing[fileno] = len(data)
                sent_at[fileno] = at
                places[fileno].sendall(data)
        return rounds * depth, now() - started, waits_us
