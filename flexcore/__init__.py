"""flexcore: floating licences that three servers serve together. This is the sans-IO core.

No module in here opens a socket or a file, reads a clock or draws a random number; adapters
(``flexcore_trio``, ``flexcore_sync``) do that. The names below are loaded when first used.

To understand the whole, read in this order:

1. :mod:`flexcore.timing`       every time constant and formula: timeout, promise, lease, grace
2. :mod:`flexcore.quorum`       promises and elections: who may be master
3. :mod:`flexcore.ledger`       rounds, entries, commit, snapshots: what was decided
4. :mod:`flexcore.checkout`     pools, grants, denials, clients' leases
5. :mod:`flexcore.server`       one turn of the loop: how the three are wired
6. :mod:`flexcore.client`       the other end
7. :mod:`flexcore.licensefile`  licence files: parsing, signing, verifying
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

# Public name -> module that defines it. To publish a name: one line here, one import below.
_PUBLIC: dict[str, str] = {
    "CheckoutDenied": "errors",
    "ConfigurationError": "errors",
    "ErrorCode": "codes",
    "FlexcoreError": "errors",
    "HostidError": "errors",
    "KeyFormatError": "errors",
    "LicenseError": "errors",
    "LicenseLost": "errors",
    "LicenseSyntaxError": "errors",
    "LocalProtocolError": "errors",
    "NoQuorum": "errors",
    "NoServerReachable": "errors",
    "NotOneTriad": "errors",
    "ProtocolError": "errors",
    "RemoteProtocolError": "errors",
    "SearchPathError": "errors",
    "ServerError": "errors",
    "SignatureError": "errors",
    "StateError": "errors",
    "exit_status": "codes",
}

if TYPE_CHECKING:
    from .codes import ErrorCode as ErrorCode
    from .codes import exit_status as exit_status
    from .errors import CheckoutDenied as CheckoutDenied
    from .errors import ConfigurationError as ConfigurationError
    from .errors import FlexcoreError as FlexcoreError
    from .errors import HostidError as HostidError
    from .errors import KeyFormatError as KeyFormatError
    from .errors import LicenseError as LicenseError
    from .errors import LicenseLost as LicenseLost
    from .errors import LicenseSyntaxError as LicenseSyntaxError
    from .errors import LocalProtocolError as LocalProtocolError
    from .errors import NoQuorum as NoQuorum
    from .errors import NoServerReachable as NoServerReachable
    from .errors import NotOneTriad as NotOneTriad
    from .errors import ProtocolError as ProtocolError
    from .errors import RemoteProtocolError as RemoteProtocolError
    from .errors import SearchPathError as SearchPathError
    from .errors import ServerError as ServerError
    from .errors import SignatureError as SignatureError
    from .errors import StateError as StateError

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - the table is the one list of names


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'flexcore' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"flexcore.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
