"""Ports for tests that start servers of their own."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
FIRST_PORT, LAST_PORT = 20000, 32000
"""Below the ports that the kernel hands out by itself: no outgoing connection is given one of these."""


def free_port() -> int:
    """A port that nobody has on any of the three addresses, not even a connection that is ending."""
    width = LAST_PORT - FIRST_PORT
    start = int.from_bytes(os.urandom(4), "big") % width
    for step in range(width):
        port = FIRST_PORT + (start + step) % width
        with contextlib.ExitStack() as stack:
            try:
                for host in HOSTS:
                    probe = stack.enter_context(socket.socket())
                    probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return port
    raise RuntimeError("no free port")
