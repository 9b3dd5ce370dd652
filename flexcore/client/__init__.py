"""The other end: a client that finds the master, holds seats and resumes (protocol.md rules 15-17 and 23).

:class:`LicenseClient` speaks bytes and is what transports drive; :class:`ClientNode` is the same machine by messages.
Read :mod:`~flexcore.client.values` first, then ``session`` (what is believed), ``search`` and ``pursuit`` (who is
master), ``site`` (both together, and time), ``machine`` (the path).
"""

from __future__ import annotations

from flexcore.client.client import LicenseClient
from flexcore.client.machine import ALTERNATIVE_WAIT_S, ENTROPY_BYTES, REQUESTS_MAX
from flexcore.client.node import ClientNode
from flexcore.client.values import (
    LEAST_LOADED,
    PATH_ORDER,
    Abort,
    ApplicationAction,
    BorrowGivenBack,
    BorrowKnown,
    BorrowNoted,
    BorrowRefused,
    CheckedIn,
    CheckoutDeniedAction,
    CheckoutGranted,
    CheckoutQueued,
    ClientAction,
    ClientConfig,
    ClientEvent,
    Close,
    Closed,
    Connect,
    ConnectFailed,
    ConnectionEnded,
    ConnectionMade,
    DataReceived,
    MessageReceived,
    NodeAction,
    NodeEvent,
    Seat,
    SeatBorrowed,
    SeatLost,
    SendData,
    SendMessage,
    ServerReached,
    StateChanged,
    Trouble,
)

__all__ = [
    "ALTERNATIVE_WAIT_S",
    "ENTROPY_BYTES",
    "LEAST_LOADED",
    "PATH_ORDER",
    "REQUESTS_MAX",
    "Abort",
    "ApplicationAction",
    "BorrowGivenBack",
    "BorrowKnown",
    "BorrowNoted",
    "BorrowRefused",
    "CheckedIn",
    "CheckoutDeniedAction",
    "CheckoutGranted",
    "CheckoutQueued",
    "ClientAction",
    "ClientConfig",
    "ClientEvent",
    "ClientNode",
    "Close",
    "Closed",
    "Connect",
    "ConnectFailed",
    "ConnectionEnded",
    "ConnectionMade",
    "DataReceived",
    "LicenseClient",
    "MessageReceived",
    "NodeAction",
    "NodeEvent",
    "Seat",
    "SeatBorrowed",
    "SeatLost",
    "SendData",
    "SendMessage",
    "ServerReached",
    "StateChanged",
    "Trouble",
]
