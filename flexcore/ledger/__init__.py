"""The replicated record of who holds what (protocol.md rules 5, 14, 17 and 18).

:mod:`~flexcore.ledger.commands` are the entries, :mod:`~flexcore.ledger.state` carries them out,
:mod:`~flexcore.ledger.log` keeps them, :mod:`~flexcore.ledger.snapshot` replaces their beginning.

The names are loaded when first used: the wire's codec knows the commands, and a client that needs
the codec need not load a ledger for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_PUBLIC: dict[str, str] = {
    "Ledger": "log",
    "LedgerCorrupt": "sessions",
    "LedgerState": "state",
    "Outcome": "sessions",
    "Queued": "sessions",
    "RESULTS_MAX": "sessions",
    "Seat": "sessions",
    "Session": "sessions",
    "Snapshot": "snapshot",
}

if TYPE_CHECKING:
    from .log import Ledger as Ledger
    from .sessions import RESULTS_MAX as RESULTS_MAX
    from .sessions import LedgerCorrupt as LedgerCorrupt
    from .sessions import Outcome as Outcome
    from .sessions import Queued as Queued
    from .sessions import Seat as Seat
    from .sessions import Session as Session
    from .snapshot import Snapshot as Snapshot
    from .state import LedgerState as LedgerState

__all__ = [*_PUBLIC]  # noqa: PLE0604 - the table is the one list of names


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'flexcore.ledger' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"flexcore.ledger.{module}"), name)
    globals()[name] = value
    return value
