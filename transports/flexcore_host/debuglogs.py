"""The debug logs of one process: lmgrd's own, and a further one where DEBUGLOG sends a vendor's lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from flexcore.server import How

from . import logplaces
from .logfile import KEPT, MODE, LogFile

__all__ = ["DebugLogs"]


class DebugLogs:
    """Writes batches of (daemon, text) lines, each daemon's into its log.

    *printed* makes the lines of a batch, time and all. A relative path of DEBUGLOG counts
    from *folder*. What cannot be opened is said in the main log, and lines stay where they went. *max_bytes*,
    *kept*: as of the main log; *dated* makes the line that says the date, which begins a file that
    takes the place of another.
    """

    def __init__(
        self, main: LogFile, printed: Callable[[Sequence[tuple[str, str]]], list[str]], folder: Path, *,
        max_bytes: int = 0, kept: int = KEPT, dated: Callable[[], str] | None = None,
    ) -> None:  # fmt: skip
        self._max_bytes, self._kept, self._dated = max_bytes, kept, dated
        self._main = main
        self._printed = printed
        self._folder = folder
        self._others: dict[str, LogFile] = {}

    def write(self, lines: Sequence[tuple[str, str]]) -> None:
        """Write a batch."""
        if not self._others:
            self._main.write(self._printed(lines))
            return
        shares: dict[LogFile, list[str]] = {}
        for (daemon, _), line in zip(lines, self._printed(lines), strict=True):
            shares.setdefault(self._others.get(daemon, self._main), []).append(line)
        for log, share in shares.items():
            log.write(share)

    def use(self, daemon: str, path: str, *, append: bool) -> None:
        """Send *daemon*'s lines to *path* from here on; '' to the main log. Never raises OSError."""
        place = str(self._folder / path) if path else ""
        if place and place != self._main.path:
            try:
                log = self._file("+" + place if append else place, daemon)
            except OSError as error:
                self._say(daemon, f"WARNING: DEBUGLOG {place} cannot be opened: {error.strerror}")
                return
            log.begin()
            self._say(daemon, f"The lines of {daemon} go to {place} from here on (DEBUGLOG)")
            old = self._others.get(daemon)
            self._others[daemon] = log
        else:
            old = self._others.pop(daemon, None)
        if old is not None:
            old.close()

    def switch(self, daemon: str, how: How, path: str) -> str:
        """lmswitch: *daemon*'s lines go to *path* from here on; or what was written so far is kept there,
        and the log goes on under its own name. Returns what to tell the administrator.

        Raises FlexcoreError or OSError where *path* is no place for a log; lines stay where they went.
        """
        log = self._others.get(daemon, self._main)
        place = logplaces.new_place(path, log.path)
        if how is How.KEEP:
            log.keep_as(place)
            return f"the debug log goes on in {log.path}; what was written so far is in {place}"
        os.close(logplaces.create(place, MODE))
        new = self._file("+" + place, daemon)
        self._say(daemon, f"The lines of {daemon} go to {place} from here on (lmswitch)")
        new.write(self._head(daemon))
        old = self._others.pop(daemon, None)
        self._others[daemon] = new
        if old is not None:
            old.close()
        return f"the debug log of {daemon} goes on in {place}"

    def _file(self, target: str, daemon: str) -> LogFile:
        return LogFile(target, max_bytes=self._max_bytes, kept=self._kept, head=lambda: self._head(daemon))

    def _head(self, daemon: str) -> list[str]:
        return [] if self._dated is None else self._printed([(daemon, self._dated())])

    def reopen(self) -> None:
        """Open all of them again (after log rotation)."""
        for log in (self._main, *self._others.values()):
            log.reopen()

    def close(self) -> None:
        """Close all of them. Twice is harmless."""
        for log in (self._main, *self._others.values()):
            log.close()

    def _say(self, daemon: str, text: str) -> None:
        self._others.get(daemon, self._main).write(self._printed([(daemon, text)]))
