"""The debug logs of one process: lmgrd's own, and a further one where DEBUGLOG sends a vendor's lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .logfile import LogFile

__all__ = ["DebugLogs"]


class DebugLogs:
    """Writes batches of (daemon, text) lines, each daemon's into its log.

    *printed* makes the lines of a batch, time and all. A relative path of DEBUGLOG counts
    from *folder*. What cannot be opened is said in the main log, and lines stay where they went.
    """

    def __init__(
        self, main: LogFile, printed: Callable[[Sequence[tuple[str, str]]], list[str]], folder: Path
    ) -> None:
        self._main = main
        self._printed = printed
        self._folder = folder
        self._others: dict[str, LogFile] = {}

    def write(self, lines: Sequence[tuple[str, str]]) -> None:
        """Write a batch."""
        if not self._others:
            self._main.write(self._printed(lines))
            return
        for (daemon, _), line in zip(lines, self._printed(lines), strict=True):
            self._others.get(daemon, self._main).write([line])

    def use(self, daemon: str, path: str, *, append: bool) -> None:
        """Send *daemon*'s lines to *path* from here on; '' to the main log. Never raises OSError."""
        place = str(self._folder / path) if path else ""
        if place and place != self._main.path:
            try:
                log = LogFile("+" + place if append else place)
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
