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
"""

from __future__ import annotations

from flexcore.client import StateChanged, Trouble
from flexcore.errors import (
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
from .loop import LogSink, Outcome, ServerLoop
from .serve import run_server, serve
from .sockets import open_listeners
from .store import MemoryStore, SqliteStore, Store

__all__ = [
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
    "VerifyingKey",
    "open_client",
    "open_listeners",
    "run_server",
    "serve",
]
