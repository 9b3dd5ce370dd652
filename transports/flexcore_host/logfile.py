"""The debug log on disk: whole lines, never the reason for a server to stop.

``-l LOG`` begins the file anew, ``-l +LOG`` appends to it. It begins anew only with :meth:`begin`,
when the server has its folder and its port: one that may not start must not wipe the log of the one
that runs. Texts in a line may come from anybody
who can connect, so control characters in them are made harmless; bytes that are no UTF-8 pass
through as they came. When the disk is full, that is said once on standard error, lines are counted
as lost, and the first line that fits again says how many.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterable

__all__ = ["LogFile"]

# All control characters but the tab, which the manual's own lines hold, and line separators.
_UNFIT = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class LogFile:
    """Where the lines go: the file that ``-l`` names, or standard output where it names none.

    Raises OSError when the file cannot be opened; later failures are survived.
    """

    def __init__(self, target: str = "", *, fallback: int = 1) -> None:
        self._append = target.startswith("+")
        self.path = target[1:] if self._append else target
        self._fallback = fallback
        self._descriptor = self._open()
        self._failed = False
        self._lost = 0
        self._partial = False

    def begin(self) -> None:
        """Empty the log, unless it is to be appended to. Never raises for a failing disk."""
        if self._append or not self.path:
            return
        try:
            os.truncate(self._descriptor, 0)
        except OSError as error:  # a pipe or a terminal
            if error.errno != errno.EINVAL:
                self._complain(error)

    def write(self, lines: Iterable[str]) -> None:
        """Write each text as one line. Never raises for a full or failing disk."""
        texts = [_UNFIT.sub("?", line) for line in lines]
        if not texts:
            return
        if self._lost and self._put([f"({self._lost} lines were lost: the log could not be written)"]):
            self._lost = 0
            self._failed = False
        if not self._put(texts):
            self._lost += len(texts)

    def reopen(self) -> None:
        """Open the path again (after log rotation). The old file stays in use if that fails."""
        if not self.path:
            return
        try:
            descriptor = self._open()
        except OSError as error:
            self._complain(error)
            return
        old, self._descriptor = self._descriptor, descriptor
        self._partial = False
        os.close(old)

    def close(self) -> None:
        """Close the file; standard output stays open. Twice is harmless."""
        if self.path and self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> int:
        if not self.path:
            return self._fallback
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _put(self, texts: list[str]) -> bool:
        data = "".join(f"{text}\n" for text in texts).encode("utf-8", "surrogateescape")
        if self._partial:
            data = b"\n" + data  # what a full disk cut short stays a line of its own
        try:
            while data:
                done = os.write(self._descriptor, data)
                self._partial = done < len(data)
                data = data[done:]
        except (OSError, ValueError) as error:
            self._complain(error)
            return False
        return True

    def _complain(self, error: Exception) -> None:
        if self._failed:
            return
        self._failed = True
        words = getattr(error, "strerror", None) or str(error)
        with contextlib.suppress(OSError, ValueError):  # nobody may be left to tell
            sys.stderr.write(
                f"flexcore: the log {self.path or '(standard output)'} cannot be written: {words};"
                " the server goes on without it\n"
            )
            sys.stderr.flush()
