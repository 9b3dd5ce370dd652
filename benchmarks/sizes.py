"""What things cost a real server in memory, and what idle clients cost it in CPU."""

from __future__ import annotations

import contextlib
import sys
import time

from flexcore import timing
from flexcore.wire.messages import Heartbeat

from .frames import GRANTED, Asking, Replies, frame_of
from .load import FREE, READ_BYTES, VENDOR, Talker, WrongReply, opened
from .machine import cpu_s, resident_bytes, wall_s
from .servers import HOST, default_features, house

SESSION_SEATS = 5_000
WARM = 50
"""Connections before the first look at the memory: what the first ones cost is the allocator's."""


class Crowd:
    """Connections that have a session each, and nothing else."""

    def __init__(self, port: int, clients: int) -> None:
        self.socks = opened(HOST, port, clients)

    def close(self) -> None:
        """End them."""
        for sock in self.socks:
            sock.close()


def connection_bytes(clients: int) -> float:
    """Resident bytes of an idle connection with its session."""
    with house() as servers:
        port = servers.serving()
        warm = Crowd(port, WARM)
        before = resident_bytes(servers.pids[0])
        crowd = Crowd(port, clients)
        grown = resident_bytes(servers.pids[0]) - before
        crowd.close()
        warm.close()
    return grown / clients


def seat_bytes(seats: int) -> float:
    """Resident bytes of a checkout; of its session's, which holds up to 5,000, a share."""
    with house() as servers, contextlib.ExitStack() as talkers:
        port = servers.serving()
        _hold(port, 2_000, talkers)
        before = resident_bytes(servers.pids[0])
        _hold(port, seats, talkers)
        return (resident_bytes(servers.pids[0]) - before) / seats


def _hold(port: int, seats: int, talkers: contextlib.ExitStack) -> None:
    """Check out *seats*, by sessions of up to 5,000 each, which stay as long as *talkers*."""
    for start in range(0, seats, SESSION_SEATS):
        talker = Talker(HOST, port)
        talkers.callback(talker.close)
        talker.open_session()
        _take(talker, min(SESSION_SEATS, seats - start), 0)


def _take(talker: Talker, count: int, request: int) -> int:
    """Check out *count* seats by hundreds; returns the last request's number."""
    asking, replies = Asking(FREE), Replies()
    for start in range(0, count, 100):
        some = min(100, count - start)
        talker.sock.sendall(b"".join(asking.checkout(request + n + 1) for n in range(some)))
        request += some
        while some:
            for kind, _, _ in replies.take(talker.sock.recv(READ_BYTES)):
                if kind != GRANTED:
                    raise WrongReply(kind)
                some -= 1
    return request


def feature_bytes(features: int) -> float:
    """Resident bytes of a feature of the licence file, beside a file with one."""
    sizes = []
    for count in (0, features):
        more = [f"FEATURE x{n} {VENDOR} 1.0 permanent 5" for n in range(count)]
        with house(features=[*default_features(), *more]) as servers:
            servers.serving()
            sizes.append(resident_bytes(servers.pids[0]))
    return (sizes[1] - sizes[0]) / features


def heartbeats_cpu_share(seconds: float, connected: int = 1000, clients: int = 10_000) -> float:
    """The share of one CPU that *clients* use who do nothing but heartbeat at the default interval, in per cent.

    Measured with *connected* of them, who beat faster than they would, and scaled by the number of heartbeats.
    """
    with house() as servers:
        crowd = Crowd(servers.serving(), connected)
        beat_s = timing.client_heartbeat_s(timing.client_lease_s(timing.timeout_s(timing.DEFAULT_INTERVAL_S)))
        beats, seq = 0, 1
        used = cpu_s(servers.pids)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            seq += 1
            beat = frame_of(Heartbeat(seq, 0, 0))
            for sock in crowd.socks:
                sock.sendall(beat)
            for sock in crowd.socks:
                if not sock.recv(4096):
                    raise ConnectionResetError("the server closed a connection")
            beats += connected
        used = cpu_s(servers.pids) - used
        crowd.close()
    return used / beats * clients / beat_s * 100


def seats_listed_s(seats: int) -> float:
    """Seconds that ``lmstat -a`` takes where so many seats are held."""
    with house() as servers, contextlib.ExitStack() as talkers:
        port = servers.serving()
        _hold(port, seats, talkers)
        return wall_s([sys.executable, "-m", "flexcore_tools", "lmstat", "-a", "-c", f"{port}@{HOST}"])
