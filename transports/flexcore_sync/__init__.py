"""The blocking client, on the standard library's sockets: it needs the core and nothing else.

::

    import flexcore_sync

    with flexcore_sync.connect("2837@pat,2837@lee,2837@terry") as client:
        with client.checkout("f1", "1.0") as seat:
            ...

The seat is kept alive by a thread, through failovers, and given back at the end; ``on_loss`` is called at once if it is
lost. Names that this needs of the core are here as well: the exceptions and the key.
"""

from __future__ import annotations

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
from flexcore_sync.client import Client, connect
from flexcore_sync.seat import Seat
from flexcore_sync.waiting import Waiting

__all__ = [
    "BorrowError",
    "CheckoutDenied",
    "Client",
    "FlexcoreError",
    "LicenseLost",
    "LocalProtocolError",
    "NoQuorum",
    "NoServerReachable",
    "NotOneTriad",
    "SearchPathError",
    "Seat",
    "StateChanged",
    "Trouble",
    "VerifyingKey",
    "Waiting",
    "connect",
]
