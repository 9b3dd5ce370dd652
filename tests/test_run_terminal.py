"""``flexcore run`` on a terminal: the command has the foreground, control-C and control-Z reach it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.socket_triad import SocketTriad

if sys.platform != "linux":
    pytest.skip("terminals are tried on Linux", allow_module_level=True)

PATIENCE_S = 30.0
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "flexcore_tools", *sys.argv[1:]])
"""
COMMAND = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler may be late for an input()
print("foreground", os.tcgetpgrp(0) == os.getpgrp(), flush=True)
while True:
    print("read", input(), flush=True)
"""


class Terminal:
    """A terminal with ``flexcore run`` as its session's leader."""

    def __init__(self, path: str) -> None:
        self.fd, end = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, "run", "-c", path, "-f", "f1", "--",
             sys.executable, "-c", COMMAND],
            stdin=end, stdout=end, stderr=end, start_new_session=True,
        )  # fmt: skip
        os.close(end)
        self.shown = b""

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def until(self, words: bytes) -> None:
        """Wait for *words* on the screen, and forget what was before."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.shown:
            ready, _, _ = select.select([self.fd], [], [], deadline - time.monotonic())
            assert ready, self.shown
            self.shown += os.read(self.fd, 4096)
        self.shown = self.shown.partition(words)[2]

    def until_stopped(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            pid, status = os.waitpid(self.process.pid, os.WNOHANG | os.WUNTRACED)
            if pid:
                assert os.WIFSTOPPED(status)
                return
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with SocketTriad() as triad:
        terminal = Terminal(triad.path)
        try:
            yield terminal
        finally:
            terminal.process.kill()
            terminal.process.wait()
            os.close(terminal.fd)


def test_control_c_ends_the_command(terminal):
    terminal.until(b"foreground True")
    terminal.type(b"hello\n")
    terminal.until(b"read hello")
    terminal.type(b"\x03")
    assert terminal.process.wait(PATIENCE_S) == 128 + signal.SIGINT


def test_control_z_stops_both_and_a_shell_continues_them(terminal):
    terminal.until(b"foreground True")
    terminal.type(b"\x1a")
    terminal.until_stopped()
    terminal.process.send_signal(signal.SIGCONT)
    terminal.type(b"again\n")
    terminal.until(b"read again")
    terminal.type(b"\x03")
    assert terminal.process.wait(PATIENCE_S) == 128 + signal.SIGINT
