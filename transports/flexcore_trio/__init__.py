"""The reference licence server and the async client, on trio.

The server has one port for clients and peers, and its state in SQLite: :func:`serve` is the server
as a trio task, :func:`run_server` the whole process (signals and all), :class:`SqliteStore` and
:class:`MemoryStore` hold its state.

The client::

    async with flexcore_trio.open_client("2837@pat,2837@lee,2837@terry") as client:
        async with client.checkout("f1", "1.0") as seat:
            ...

The seat is kept alive in the background, through failovers, and given back at the end; ``on_loss``
is called at once if it is lost. Names that this needs of the core are here as well: the exceptions
and the key.

A product that uses the client alone pays for it alone: the server, and SQLite with it, are loaded when one of their
names is first asked for (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from flexcore.client import StateChanged, Trouble
from flexcore.errors import (
    BorrowError,
    CheckoutDenied,
    FlexcoreError,
    LicenseLost,
    LocalProtocolError,
    NoQuorum,
    NoServerReachable,
    NotOneTriad,
    SearchPathError,
)
from flexcore.keys import VerifyingKey

from .client import Client, open_client
from .client_seat import Checkout, Seat
from .client_waiting import Waiting
from .sockets import open_listeners

if TYPE_CHECKING:
    from .loop import LogSink, Outcome, ServerLoop
    from .serving import run_server, serve
    from .store import MemoryStore, SqliteStore, Store
    from .vendors import VendorService, VendorStart, run_vendors, serve_vendors

__all__ = [
    "BorrowError",
    "CheckoutDenied",
    "Checkout",
    "Client",
    "FlexcoreError",
    "LicenseLost",
    "LocalProtocolError",
    "LogSink",
    "MemoryStore",
    "NoQuorum",
    "NoServerReachable",
    "NotOneTriad",
    "Outcome",
    "SearchPathError",
    "Seat",
    "ServerLoop",
    "SqliteStore",
    "StateChanged",
    "Store",
    "Trouble",
    "VendorService",
    "VendorStart",
    "VerifyingKey",
    "Waiting",
    "open_client",
    "open_listeners",
    "run_server",
    "run_vendors",
    "serve",
    "serve_vendors",
]

_LATER = {
    "LogSink": "loop",
    "Outcome": "loop",
    "ServerLoop": "loop",
    "run_server": "serving",
    "serve": "serving",
    "MemoryStore": "store",
    "SqliteStore": "store",
    "Store": "store",
    "VendorService": "vendors",
    "VendorStart": "vendors",
    "run_vendors": "vendors",
    "serve_vendors": "vendors",
}
"""Names of the server, and the module of each. None of them is the name of a module: importing that would hide it."""

if not TYPE_CHECKING:  # with a __getattr__ every misspelt name would pass the type checker

    def __getattr__(name: str) -> object:
        """Load what belongs to the server when it is first asked for."""
        module = _LATER.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{module}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
