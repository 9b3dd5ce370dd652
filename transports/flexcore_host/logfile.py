"""The debug log on disk: whole lines, never the reason for a server to stop.

``-l LOG`` begins the file anew, ``-l +LOG`` appends to it. It begins anew only with :meth:`begin`,
when the server has its folder and its port: one that may not start must not wipe the log of the one
that runs. A log that has grown beyond ``max_bytes`` is kept as LOG.1, the one before as LOG.2 and so on,
up to ``kept``. Texts in a line may come from anybody
who can connect, so control characters in them are made harmless; bytes that are no UTF-8 pass
through as they came. When the disk is full, that is said once on standard error, lines are counted
as lost, and the first line that fits again says how many.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable

from . import logplaces

__all__ = ["LogFile"]

WAITING_LINES_MAX = 10_000
"""So many lines wait for a pipe or terminal that takes none."""
PIECE_BYTES = 4096
"""What a pipe that is ready takes whole (PIPE_BUF, and no less room than a page)."""
CLOSE_PATIENCE_S = 0.2
KEPT = 9
"""So many older logs are kept."""
MODE = 0o644

# All control characters but the tab, which the manual's own lines hold, and line separators.
_UNFIT = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class LogFile:
    """Where the lines go: the file that ``-l`` names, or standard output where it names none.

    Raises OSError when the file cannot be opened; later failures are survived. A pipe or terminal
    that takes nothing for a while (``^S``) does not hold up the server: lines wait, up to
    ``WAITING_LINES_MAX``, and the oldest are then lost and counted.

    *max_bytes*: beyond this the file is rotated; 0 for never. *head* makes the lines that begin a
    file which takes the place of another: a log whose lines have no date needs one.
    """

    def __init__(
        self, target: str = "", *, fallback: int = 1, max_bytes: int = 0, kept: int = KEPT,
        head: Callable[[], list[str]] = list,
    ) -> None:  # fmt: skip
        self._append = target.startswith("+")
        self.path = target[1:] if self._append else target
        self._fallback = fallback
        self._max_bytes, self._kept, self._head = max_bytes, kept, head
        self._failed = False
        self._lost = 0
        self._partial = False
        self._room_bytes = 0
        """So much may still be written before it has to be asked how long the file is."""
        self._waiting: deque[bytes] = deque()
        self._rest = b""  # of the line that is being written
        self._descriptor = self._open()
        self._may_block = _may_block(self._descriptor)

    def begin(self) -> None:
        """Empty the log, unless it is to be appended to. Never raises for a failing disk."""
        if not self.path or self._may_block:
            return
        try:
            self._finish_keeping()
            if not self._append:
                os.truncate(self._descriptor, 0)
        except OSError as error:
            self._complain(error)

    def _finish_keeping(self) -> None:
        """The server was killed in :meth:`keep_as`: where what was kept and the log are one file by then, the new
        one takes the log's place now, or lines would go into what was kept, too, or it be emptied."""
        for fresh in logplaces.fresh_beside(self.path):
            if os.stat(self.path).st_nlink > 1:
                os.replace(fresh, self.path)
                self._use(self._open())
            else:
                os.unlink(fresh)

    def write(self, lines: Iterable[str]) -> None:
        """Write each text as one line. Never raises for a full or failing disk."""
        texts = [line if line.isprintable() else _UNFIT.sub("?", line) for line in lines]
        if not texts:
            return
        if self._may_block:
            self._wait_with([text.encode("utf-8", "surrogateescape") + b"\n" for text in texts])
            return
        data = ("\n".join(texts) + "\n").encode("utf-8", "surrogateescape")
        if self._lost and self._put(_lost_line(self._lost)):
            self._lost = 0
            self._failed = False
        if not self._put(data):
            self._lost += len(texts)
        if self._max_bytes and self.path and self._is_beyond():
            self._rotate()

    def _is_beyond(self) -> bool:
        """Whether the file has grown beyond its limit. The system is asked only where it may be so: what only
        this process writes has room for as much as it had room for when that was asked."""
        if self._room_bytes >= 0:
            return False
        self._room_bytes = self._max_bytes - os.fstat(self._descriptor).st_size
        return self._room_bytes < 0

    def reopen(self) -> None:
        """Open the path again (after log rotation). The old file stays in use if that fails."""
        if not self.path:
            return
        try:
            descriptor = self._open()
        except OSError as error:
            self._complain(error)
            return
        is_new = not os.fstat(descriptor).st_size
        self._use(descriptor)
        if is_new and not self._may_block:
            self._put(self._head_bytes())

    def keep_as(self, place: str) -> None:
        """Let what was written so far be *place*, and begin the log anew. Raises OSError."""
        head = self._head_bytes()
        self._use(logplaces.keep_as(place, self.path, lambda into: _fill(into, head), MODE))

    def _use(self, descriptor: int) -> None:
        old, self._descriptor = self._descriptor, descriptor
        self._may_block = _may_block(descriptor)
        self._partial = False
        self._room_bytes = 0
        os.close(old)

    def _head_bytes(self) -> bytes:
        return b"".join(line.encode("utf-8", "surrogateescape") + b"\n" for line in self._head())

    def _rotate(self) -> None:
        """Keep what was written as LOG.1. Where that fails the log goes on as it is, and is said once."""
        try:
            for number in range(self._kept - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            os.replace(self.path, f"{self.path}.1")
        except OSError as error:
            self._complain(error)
            return
        self.reopen()

    def close(self) -> None:
        """Close the file; standard output stays open. Twice is harmless."""
        if self._waiting or self._rest:
            self._wait_with([], patience_s=CLOSE_PATIENCE_S)
        if self.path and self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
        self._may_block = False

    def _open(self) -> int:
        if not self.path:
            return self._fallback
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, MODE)

    def _wait_with(self, added: list[bytes], *, patience_s: float = 0.0) -> None:
        """Write what a pipe or terminal takes now, in pieces that it takes whole; keep the rest."""
        waiting = self._waiting
        waiting.extend(added)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while (self._rest or waiting) and poll.poll(patience_s * 1000):
            if not self._rest and self._lost:
                self._rest, self._lost = _lost_line(self._lost), 0
            line = self._rest or waiting.popleft()
            self._rest = line[PIECE_BYTES:]
            if not self._put(line[:PIECE_BYTES]):
                self._rest = b""
                self._lost += 1
                return
        while len(waiting) > WAITING_LINES_MAX:
            waiting.popleft()
            self._lost += 1

    def _put(self, data: bytes) -> bool:
        if self._partial:
            data = b"\n" + data  # what a full disk cut short stays a line of its own
        self._room_bytes -= len(data)
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


def _fill(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _lost_line(number: int) -> bytes:
    return b"(%d lines were lost: the log could not be written)\n" % number


def _may_block(descriptor: int) -> bool:
    """True for a pipe, terminal or socket where the system lets us ask whether it takes bytes."""
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False
    return hasattr(select, "poll") and not regular
