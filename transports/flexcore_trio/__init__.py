"""The reference licence server on trio: one port for clients and peers, state in SQLite.

:func:`serve` is the server as a trio task, :func:`run_server` the whole process (signals and all),
:class:`SqliteStore` and :class:`MemoryStore` hold its state.
"""

from __future__ import annotations

from .loop import LogSink, Outcome, ServerLoop
from .serve import run_server, serve
from .sockets import open_listeners
from .store import MemoryStore, SqliteStore, Store

__all__ = [
    "LogSink",
    "MemoryStore",
    "Outcome",
    "ServerLoop",
    "SqliteStore",
    "Store",
    "open_listeners",
    "run_server",
    "serve",
]
