"""Licence files: reading, printing, checking, signing, verifying.

Read ``lines`` (the values), ``lexer`` and ``parser`` (text to values), ``structure`` and ``lint``
(what is wrong with a file), ``signature`` and ``verification`` (SIGN). The caller reads and writes
the files themselves. The names below are loaded when first used: a client that is given addresses
never pays for the parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Public name -> module that defines it.
_PUBLIC: dict[str, str] = {
    "Attribute": "lines",
    "canonical_bytes": "signature",
    "compare_versions": "version",
    "Component": "lines",
    "content_digest": "signature",
    "decode_license": "reader",
    "FeatureLine": "lines",
    "first_copies": "signature",
    "format_date": "version",
    "format_license": "reader",
    "license_bytes": "reader",
    "LicenseFile": "lines",
    "LineVerdict": "verification",
    "lint_license": "lint",
    "membership_digest": "signature",
    "PackageLine": "lines",
    "parse_count": "version",
    "parse_date": "version",
    "parse_license": "reader",
    "parse_version": "version",
    "Problem": "lines",
    "rights_digest": "signature",
    "select_features": "selection",
    "Selection": "selection",
    "ServerLine": "lines",
    "Severity": "lines",
    "sign_license": "signing",
    "UpgradeLine": "lines",
    "VendorLine": "lines",
    "Verdict": "verification",
    "VerificationReport": "verification",
    "verify_license": "verification",
    "verify_line": "verification",
    "Version": "version",
}

if TYPE_CHECKING:
    from .lines import Attribute as Attribute
    from .lines import Component as Component
    from .lines import FeatureLine as FeatureLine
    from .lines import LicenseFile as LicenseFile
    from .lines import PackageLine as PackageLine
    from .lines import Problem as Problem
    from .lines import ServerLine as ServerLine
    from .lines import Severity as Severity
    from .lines import UpgradeLine as UpgradeLine
    from .lines import VendorLine as VendorLine
    from .lint import lint_license as lint_license
    from .reader import decode_license as decode_license
    from .reader import format_license as format_license
    from .reader import license_bytes as license_bytes
    from .reader import parse_license as parse_license
    from .selection import Selection as Selection
    from .selection import select_features as select_features
    from .signature import canonical_bytes as canonical_bytes
    from .signature import content_digest as content_digest
    from .signature import first_copies as first_copies
    from .signature import membership_digest as membership_digest
    from .signature import rights_digest as rights_digest
    from .signing import sign_license as sign_license
    from .verification import LineVerdict as LineVerdict
    from .verification import Verdict as Verdict
    from .verification import VerificationReport as VerificationReport
    from .verification import verify_license as verify_license
    from .verification import verify_line as verify_line
    from .version import Version as Version
    from .version import compare_versions as compare_versions
    from .version import format_date as format_date
    from .version import parse_count as parse_count
    from .version import parse_date as parse_date
    from .version import parse_version as parse_version

__all__ = [*_PUBLIC]  # noqa: PLE0604 - the table is the one list of names


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'flexcore.licensefile' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"flexcore.licensefile.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
