"""The command under ``flexcore run``: started, signalled, waited for.

The process is forked *before* there are any threads, waits in a pipe until the licence is there, and only then becomes
the command: forking a process with threads is where other programs hang. On Linux it asks for SIGTERM on the death of
its parent, so that it does not outlive ``run``, and with it the licence.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from flexcore.record import Record

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""What shells exit with."""

_PR_SET_PDEATHSIG = 1
_GO = b"g"


class CannotStart(Exception):
    """The command could not be executed; ``status`` is the exit status that says so."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status


class Ended(Record):
    """The command is over."""

    status: int
    """As a shell has it: its exit status, or 128 + the signal that ended it."""


class Stopped(Record):
    """The command was stopped, by this signal."""

    signal: int


class Child:
    """A process that becomes *command* at :meth:`start`, in a process group of its own, which gets the terminal if
    this process has it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._go_in, self._go_out = os.pipe()
        self._said_in, self._said_out = os.pipe()
        self._terminal = _own_terminal()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(parent)
        os.close(self._go_in)
        os.close(self._said_out)
        self.started = False
        self.ended: Ended | None = None

    # --- in the child -----------------------------------------------------------------------------

    def _become(self, parent: int) -> NoReturn:
        """Wait for the word, then execute. Never returns, whatever happens."""
        try:
            os.close(self._go_out)
            os.close(self._said_in)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, not by others
                signal.signal(number, signal.SIG_DFL)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            _die_with(parent)
            if os.read(self._go_in, 1) != _GO:
                os._exit(0)
            os.setpgid(0, 0)
            if self._terminal is not None:
                _give_terminal(self._terminal, os.getpgrp())
            os.execvp(self._command[0], self._command)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.write(self._said_out, str(error.errno or errno.EIO).encode())
        finally:
            os._exit(NOT_FOUND)

    # --- in the parent ----------------------------------------------------------------------------

    def start(self) -> None:
        """Let it become the command. Raises :class:`CannotStart`."""
        with contextlib.suppress(BrokenPipeError):  # it died: poll() tells how
            os.write(self._go_out, _GO)
        os.close(self._go_out)
        said = os.read(self._said_in, 16)
        os.close(self._said_in)
        self.started = True
        if said:
            self.wait_end()
            number = int(said)
            name = self._command[0]
            if number == errno.ENOENT:
                raise CannotStart(f"{name}: command not found", NOT_FOUND)
            raise CannotStart(f"{name}: {os.strerror(number)}", NOT_EXECUTABLE)

    def give_up(self) -> None:
        """It never becomes the command, or is killed: no process stays behind."""
        if self.ended is not None:
            return
        if not self.started:
            os.close(self._go_out)
            os.close(self._said_in)
        self.send(signal.SIGKILL, group=True)
        self.wait_end()

    def send(self, number: int, *, group: bool = False) -> None:
        """Signal the command, or everything in its process group. It is not reaped yet, so its number is its own."""
        if self.ended is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if group and self.started:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def poll(self) -> Ended | Stopped | None:
        """What has become of it since the last time; does not wait."""
        if self.ended is not None:
            return self.ended
        pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return None
        return self._judge(status)

    def wait_end(self) -> Ended:
        """Wait until it is over."""
        while self.ended is None:
            self._judge(os.waitpid(self.pid, 0)[1])
        return self.ended

    def _judge(self, status: int) -> Ended | Stopped:
        if os.WIFSTOPPED(status):
            return Stopped(os.WSTOPSIG(status))
        code = os.waitstatus_to_exitcode(status)
        self.ended = Ended(code if code >= 0 else 128 - code)
        if self._terminal is not None:
            _give_terminal(self._terminal, os.getpgrp())
        return self.ended

    def stop_together(self) -> None:
        """The terminal stopped the command (control-Z): stop as well, so that the shell notices; when it continues
        this process, continue the command."""
        if self._terminal is not None:
            _give_terminal(self._terminal, os.getpgrp())
        os.kill(os.getpid(), signal.SIGSTOP)
        if self._terminal is not None and os.tcgetpgrp(self._terminal) == os.getpgrp():
            _give_terminal(self._terminal, self.pid)
        self.send(signal.SIGCONT, group=True)


def _die_with(parent: int) -> None:
    """Linux: get SIGTERM when the parent dies; and if it has died already, do not begin."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None, use_errno=True)
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def _own_terminal() -> int | None:
    """The terminal, if this process is in its foreground."""
    with contextlib.suppress(OSError):
        if os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp():
            return 0
    return None


def _give_terminal(terminal: int, group: int) -> None:
    """Make a process group the foreground one; a process that is not in it would be stopped for that."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(terminal, group)
    finally:
        signal.signal(signal.SIGTTOU, before)
