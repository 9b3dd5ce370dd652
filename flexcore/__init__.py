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
    "BorrowError": "errors",
    "CheckoutDenied": "errors",
    "CheckoutMachine": "checkout",
    "ClientConfig": "client",
    "compare_versions": "licensefile",
    "ConfigurationError": "errors",
    "describe": "codes",
    "ErrorCode": "codes",
    "exit_status": "codes",
    "FeatureLine": "licensefile",
    "FlexcoreError": "errors",
    "format_license": "licensefile",
    "Hostid": "hostid",
    "HostidError": "errors",
    "HostidUnavailable": "errors",
    "KeyFormatError": "errors",
    "Ledger": "ledger",
    "license_bytes": "licensefile",
    "LicenseClient": "client",
    "LicenseError": "errors",
    "LicenseFile": "licensefile",
    "LicenseLost": "errors",
    "LicenseServer": "server",
    "LicenseSyntaxError": "errors",
    "LicenseTooLarge": "errors",
    "LineVerdict": "licensefile",
    "lint_license": "licensefile",
    "LocalProtocolError": "errors",
    "membership_digest": "licensefile",
    "NoQuorum": "errors",
    "NoServerReachable": "errors",
    "NotOneTriad": "errors",
    "parse_hostid": "hostid",
    "parse_hostids": "hostid",
    "parse_license": "licensefile",
    "parse_search_path": "searchpath",
    "parse_version": "licensefile",
    "path_from_environment": "searchpath",
    "Problem": "licensefile",
    "ProtocolError": "errors",
    "QuorumConfig": "quorum",
    "QuorumMachine": "quorum",
    "Rank": "identity",
    "RemoteProtocolError": "errors",
    "resolve": "searchpath",
    "rights_digest": "licensefile",
    "SearchPath": "searchpath",
    "SearchPathError": "errors",
    "select_features": "licensefile",
    "ServerConfig": "server",
    "ServerError": "errors",
    "ServerLine": "licensefile",
    "Severity": "licensefile",
    "sign_license": "licensefile",
    "SignatureError": "errors",
    "SigningKey": "keys",
    "StateDamaged": "errors",
    "StateError": "errors",
    "StateLocked": "errors",
    "VendorLine": "licensefile",
    "Verdict": "licensefile",
    "VerificationReport": "licensefile",
    "verify_license": "licensefile",
    "verify_line": "licensefile",
    "VerifyingKey": "keys",
    "Version": "licensefile",
}

if TYPE_CHECKING:
    from .checkout import CheckoutMachine as CheckoutMachine
    from .client import ClientConfig as ClientConfig
    from .client import LicenseClient as LicenseClient
    from .codes import ErrorCode as ErrorCode
    from .codes import describe as describe
    from .codes import exit_status as exit_status
    from .errors import BorrowError as BorrowError
    from .errors import CheckoutDenied as CheckoutDenied
    from .errors import ConfigurationError as ConfigurationError
    from .errors import FlexcoreError as FlexcoreError
    from .errors import HostidError as HostidError
    from .errors import HostidUnavailable as HostidUnavailable
    from .errors import KeyFormatError as KeyFormatError
    from .errors import LicenseError as LicenseError
    from .errors import LicenseLost as LicenseLost
    from .errors import LicenseSyntaxError as LicenseSyntaxError
    from .errors import LicenseTooLarge as LicenseTooLarge
    from .errors import LocalProtocolError as LocalProtocolError
    from .errors import NoQuorum as NoQuorum
    from .errors import NoServerReachable as NoServerReachable
    from .errors import NotOneTriad as NotOneTriad
    from .errors import ProtocolError as ProtocolError
    from .errors import RemoteProtocolError as RemoteProtocolError
    from .errors import SearchPathError as SearchPathError
    from .errors import ServerError as ServerError
    from .errors import SignatureError as SignatureError
    from .errors import StateDamaged as StateDamaged
    from .errors import StateError as StateError
    from .errors import StateLocked as StateLocked
    from .hostid import Hostid as Hostid
    from .hostid import parse_hostid as parse_hostid
    from .hostid import parse_hostids as parse_hostids
    from .identity import Rank as Rank
    from .keys import SigningKey as SigningKey
    from .keys import VerifyingKey as VerifyingKey
    from .ledger import Ledger as Ledger
    from .licensefile import FeatureLine as FeatureLine
    from .licensefile import LicenseFile as LicenseFile
    from .licensefile import LineVerdict as LineVerdict
    from .licensefile import Problem as Problem
    from .licensefile import ServerLine as ServerLine
    from .licensefile import Severity as Severity
    from .licensefile import VendorLine as VendorLine
    from .licensefile import Verdict as Verdict
    from .licensefile import VerificationReport as VerificationReport
    from .licensefile import Version as Version
    from .licensefile import compare_versions as compare_versions
    from .licensefile import format_license as format_license
    from .licensefile import license_bytes as license_bytes
    from .licensefile import lint_license as lint_license
    from .licensefile import membership_digest as membership_digest
    from .licensefile import parse_license as parse_license
    from .licensefile import parse_version as parse_version
    from .licensefile import rights_digest as rights_digest
    from .licensefile import select_features as select_features
    from .licensefile import sign_license as sign_license
    from .licensefile import verify_license as verify_license
    from .licensefile import verify_line as verify_line
    from .quorum import QuorumConfig as QuorumConfig
    from .quorum import QuorumMachine as QuorumMachine
    from .searchpath import SearchPath as SearchPath
    from .searchpath import parse_search_path as parse_search_path
    from .searchpath import path_from_environment as path_from_environment
    from .searchpath import resolve as resolve
    from .server import LicenseServer as LicenseServer
    from .server import ServerConfig as ServerConfig

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
