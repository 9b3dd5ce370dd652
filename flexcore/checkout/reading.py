"""From a licence file to rights: only lines that the vendor's key signed count, the rest says why.

Which of the valid lines count, and the order in which they are tried, is the licence file's business
(:mod:`flexcore.licensefile.selection`).
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flexcore.borrowing import signed_hours
from flexcore.licensefile import FeatureLine, rights_digest, verify_license
from flexcore.licensefile.entitlements import (
    SUITE_GROUP,
    TOO_MANY,
    Entitlement,
    read_entitlements,
)
from flexcore.licensefile.selection import COPY, SECOND, SUPERSEDED
from flexcore.licensefile.version import COUNT_MAX

from .rights import Line, Rejected, Rights, make_rights
from .sharing import normal_group

if TYPE_CHECKING:
    from flexcore.keys import VerifyingKey
    from flexcore.licensefile import LicenseFile
    from flexcore.licensefile.lines import SignableLine

POOL_NAME_MAX = 200
WHY_IGNORED = {
    COPY: "it is a copy of a line above it",
    SECOND: "another FEATURE line of this name stands above it",
    SUPERSEDED: "a line that was issued later supersedes it",
    TOO_MANY: "the packages of this file have too many components",
}


def read_rights(license: LicenseFile, keys: Iterable[VerifyingKey], *, vendor: str) -> Rights:
    """Return what *license* lets the clients of *vendor* have, by the publishers' *keys*.

    The digest covers the lines that verify: two servers whose files differ in an unsigned line only
    have the same rights.
    """
    report = verify_license(license, keys)
    own = [line for line in report.valid_lines if line.vendor.lower() == vendor.lower()]
    entitled = read_entitlements(own, license.hostids)
    rejected = [
        _rejected(verdict.line, verdict.message, is_error=True)
        for verdict in report.rejected
        if verdict.line.vendor.lower() == vendor.lower()
    ] + [
        _rejected(each.line, WHY_IGNORED[each.reason], is_error=False) for each in entitled.ignored
    ]
    return make_rights(
        (_line(each) for each in entitled.items), vendor=vendor, rejected=rejected,
        digest=rights_digest(license, report.valid_lines), hostids=license.hostids,
    )  # fmt: skip


def pool_name(key: str) -> str:
    """Return the name under which the ledger knows a pool: its key, cut short if it is long.

    It stands in every entry of a grant, and a VENDOR_STRING may have thousands of characters.
    """
    if len(key) <= POOL_NAME_MAX:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key[: POOL_NAME_MAX - 33]}#{digest[:32]}"


def _rejected(line: SignableLine, why: str, *, is_error: bool) -> Rejected:
    count = line.count if isinstance(line, FeatureLine) else 0
    return Rejected(feature=line.name, version=line.version, count=count, why=why,
                    is_error=is_error)  # fmt: skip


def _line(each: Entitlement) -> Line:
    line = each.line
    return Line(
        feature=line.name, pool=pool_name(each.pool_key), version=line.version, vendor=line.vendor,
        seats=each.seats, expiry_text=line.expiry_text, expiry_day=_day(line.expiry),
        start_day=_day(line.start), vendor_string=line.vendor_string, lock=line.hostid,
        signed_text=each.signed_text,
        package=each.package.name if each.package is not None else "",
        group=normal_group(line.value("DUP_GROUP") or ""),
        suite="" if each.suite is None else pool_name(each.suite.pool_key),
        suite_group="" if each.suite is None else _suite_group(each.suite),
        platforms=tuple((line.value("PLATFORMS") or "").lower().split()),
        named_users=_named(line, "USER_BASED"), named_hosts=_named(line, "HOST_BASED"),
        linger_s=_number(line.value("LINGER")),
        overdraft=each.overdraft,
        borrow_hours=signed_hours(line.value("BORROW")),
    )  # fmt: skip


def _suite_group(suite: FeatureLine) -> str:
    found = suite.value("SUITE_DUP_GROUP") or suite.value("DUP_GROUP")
    return normal_group(SUITE_GROUP if found is None else found)


def _named(line: FeatureLine, key: str) -> int:
    """Return how many users or hosts may be named: the number of the keyword, else of the line."""
    found = line.value(key)
    if found is None:
        return 0
    return _number(found) or line.count or COUNT_MAX


def _number(text: str | None) -> int:
    """Return a number that a keyword gives, 0 where it gives none that makes sense."""
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) <= 9
    return int(text or 0) if is_number else 0


def _day(date: datetime.date | None) -> int | None:
    return None if date is None else date.toordinal()
