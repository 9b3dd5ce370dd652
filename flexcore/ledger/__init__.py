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
    "LedgerCorrupt": "state",
    "LedgerState": "state",
    "Outcome": "state",
    "RESULTS_MAX": "state",
    "Seat": "state",
    "Session": "state",
    "Snapshot": "snapshot",
}

if TYPE_CHECKING:
    from .log import Ledger as Ledger
    from .snapshot import Snapshot as Snapshot
    from .state import RESULTS_MAX as RESULTS_MAX
    from .state import LedgerCorrupt as LedgerCorrupt
    from .state import LedgerState as LedgerState
    from .state import Outcome as Outcome
    from .state import Seat as Seat
    from .state import Session as Session

__all__ = [*_PUBLIC]  # noqa: PLE0604 - the table is the one list of names


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'flexcore.ledger' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"flexcore.ledger.{module}"), name)
    globals()[name] = value
    return value
