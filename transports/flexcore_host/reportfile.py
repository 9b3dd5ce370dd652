"""The report log on disk: gone on with after a restart, and never the reason for a server to stop.

``+PATH`` goes on where PATH ends; a bare PATH begins anew, and what stood there is kept as PATH.1, PATH.2
... since it may be what somebody is to be billed by. One process writes a report log at a time. Lines
that the disk does not take wait; beyond ``WAITING_BYTES_MAX`` they are lost, which ``flexcore reportlog
verify`` finds, and the other servers' logs have them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable

from flexcore.errors import FlexcoreError
from flexcore.report.reportlog import LINE_CHARS_MAX, Position, read_report

__all__ = ["ReportFile"]

WAITING_BYTES_MAX = 64 * 1024 * 1024
KEPT_MAX = 10_000
"""So many older logs are kept beside the one that is written."""
_MODE = 0o640


class ReportFile:
    """A report log that this process writes. ``position`` says where it ends.

    Raises OSError when the file cannot be opened, FlexcoreError when another process writes it.
    """

    def __init__(self, target: str) -> None:
        append = target.startswith("+")
        self.path = target[1:] if append else target
        self._waiting = b""
        self._failed = False
        self.lost_bytes = 0
        if not append:
            self._put_aside()
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, _MODE)
        try:
            self._lock()
            self.position = self._end()
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, lines: Iterable[str]) -> None:
        """Write whole lines; what the disk does not take is tried again with the next ones."""
        self._waiting += "".join(f"{line}\n" for line in lines).encode("ascii", "replace")
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._descriptor, self._waiting) :]
            self._failed = False
        except OSError as error:
            self._complain(error)
            if len(self._waiting) > WAITING_BYTES_MAX:
                self.lost_bytes += len(self._waiting)
                self._waiting = b"\n"  # what the disk took last may be half a line

    def close(self) -> None:
        """Write what waits if the disk takes it, and close the file."""
        self.write(())
        os.close(self._descriptor)

    def _put_aside(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(self.path):
                for number in range(1, KEPT_MAX):
                    if not os.path.exists(f"{self.path}.{number}"):
                        os.rename(self.path, f"{self.path}.{number}")
                        return

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: two servers of one machine need two paths
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FlexcoreError(f"the report log {self.path} is written by another server") from error

    def _end(self) -> Position:
        """Cut off what a crash left of a line that was being written, and say where the log ends."""
        size = os.fstat(self._descriptor).st_size
        start = max(0, size - LINE_CHARS_MAX)
        tail = os.pread(self._descriptor, size - start, start)
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail):
            os.ftruncate(self._descriptor, start + whole)
        for line in reversed(tail[:whole].decode("utf-8", "replace").splitlines()):
            reading = read_report([(self.path, [line])])
            if reading.records:
                return reading.end
        return Position()

    def _complain(self, error: OSError) -> None:
        if self._failed:
            return
        self._failed = True
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"flexcore: the report log {self.path} cannot be written: {error.strerror};"
                             " the server goes on, and tries again\n")  # fmt: skip
            sys.stderr.flush()
