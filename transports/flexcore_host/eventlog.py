"""``lmgrd --event-log``: what a system's own watchers should see, in syslog or in the event log of Windows.

Start, stop, master, lost quorum, fatal: a handful of lines in a server's life, beside its debug log. The
standard library's handlers send them, in a thread of their own: a syslog that takes nothing must not hold
up a server, and one that is not there is said once.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import sys
import threading

__all__ = ["EventLog"]

NAME = "flexcore-lmgrd"
WAITING_MAX = 100
"""Events that wait for a syslog that takes none; further ones are lost."""
CLOSE_PATIENCE_S = 1.0
_SOCKETS = ("/dev/log", "/var/run/syslog")
_PORT = 514
_LEVELS = {"lost_quorum": logging.WARNING, "fatal": logging.CRITICAL}


class EventLog:
    """Sends events; *address*: a socket's path, or HOST[:PORT] for syslog by UDP; '' for the system's own.

    A syslog that is not there yet is tried again with each event. Raises OSError for a host that is unknown,
    and ValueError for a port that is none.
    """

    def __init__(self, address: str = "") -> None:
        self._handler = _handler_for(address)
        self._handler.handleError = self._complain  # type: ignore[method-assign]
        self._failed = False
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(WAITING_MAX)
        self._thread = threading.Thread(target=self._send, name="event log", daemon=True)
        self._thread.start()

    def tell(self, event: str, text: str) -> None:
        """Send *text*; *event* is start, stop, master, lost_quorum or fatal."""
        level = _LEVELS.get(event, logging.INFO)
        record = logging.LogRecord(NAME, level, "", 0, text, None, None)
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(record)

    def close(self) -> None:
        """Send what waits, if that is taken at once. Twice is harmless."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(CLOSE_PATIENCE_S)

    def _send(self) -> None:
        while (record := self._queue.get()) is not None:
            self._handler.handle(record)
        self._handler.close()

    def _complain(self, record: logging.LogRecord) -> None:
        if not self._failed:
            self._failed = True
            with contextlib.suppress(OSError, ValueError):  # nobody may be left to tell
                sys.stderr.write(f"flexcore: the event log takes nothing: {sys.exc_info()[1]}\n")
                sys.stderr.flush()


def _handler_for(address: str) -> logging.Handler:
    if sys.platform == "win32" and not address:
        return logging.handlers.NTEventLogHandler(NAME)  # says itself that it needs pywin32
    place: str | tuple[str, int]
    if address.startswith("/"):
        place = address
    elif address:
        host, _, port = address.rpartition(":") if address.count(":") == 1 else (address, "", "")
        place = (host, int(port or _PORT))
    else:
        place = next((path for path in _SOCKETS if os.path.exists(path)), ("localhost", _PORT))
    handler = logging.handlers.SysLogHandler(place, logging.handlers.SysLogHandler.LOG_DAEMON)
    handler.ident = f"{NAME}[{os.getpid()}]: "
    handler.append_nul = False
    return handler
