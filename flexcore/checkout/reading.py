"""From a licence file to rights: only lines that the vendor's key signed count, the rest says why.

The order in which pools are tried (flexnet-facts a5): by ``sort=`` (default 100), then FEATURE before
INCREMENT, uncounted before counted, the higher version first, the newer issue date first, and else as
the file has it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flexcore.errors import LicenseError
from flexcore.licensefile.version import parse_date
from flexcore.override import override

from .rights import Line, Rejected, Rights, make_rights, version_key

if TYPE_CHECKING:
    from flexcore.licensefile import LicenseFile
    from flexcore.licensefile.lines import FeatureLine

SORT_DEFAULT = 100
SORT_MAX = 255
SECOND_FEATURE = "another FEATURE line of this name stands before it"
COPY = "it is a copy of a line that stands before it"


def rights_of_lines(
    lines: Iterable[tuple[FeatureLine, str]], *, vendor: str, digest: bytes, hostids: tuple[str, ...]
) -> Rights:
    """Make rights of *lines*, each with the reason why it does not count, '' if it does."""
    rejected: list[Rejected] = []
    good: list[tuple[int, FeatureLine]] = []
    feature_names: set[str] = set()
    texts: set[str] = set()
    for number, (line, why) in enumerate(lines):
        if line.vendor.lower() != vendor.lower():
            continue
        is_error = True
        if not why and line.signed_text in texts:
            why, is_error = COPY, False
        elif not why and line.keyword.upper() == "FEATURE" and line.name in feature_names:
            why, is_error = SECOND_FEATURE, False
        if why:
            rejected.append(Rejected(feature=line.name, version=line.version, count=line.count,
                                     why=why, is_error=is_error))  # fmt: skip
            continue
        texts.add(line.signed_text)
        if line.keyword.upper() == "FEATURE":
            feature_names.add(line.name)
        good.append((number, line))
    good.sort(key=_order)
    return make_rights((_line(line) for _, line in good), vendor=vendor, rejected=rejected,
                       digest=digest, hostids=hostids)  # fmt: skip


def _line(line: FeatureLine) -> Line:
    return Line(
        feature=line.name, pool=line.pool_key, version=line.version, vendor=line.vendor,
        seats=line.count, expiry_text=line.expiry_text, expiry_day=_day(line.expiry),
        start_day=_day(line.start), vendor_string=line.vendor_string, lock=line.hostid,
        signed_text=line.signed_text,
    )  # fmt: skip


def _day(date: datetime.date | None) -> int | None:
    return None if date is None else date.toordinal()


def _order(numbered: tuple[int, FeatureLine]) -> tuple[object, ...]:
    number, line = numbered
    sort = line.value("sort") or ""
    place = int(sort) if sort.isascii() and sort.isdigit() and len(sort) <= 3 else SORT_DEFAULT
    version = version_key(line.version)
    whole, fraction = version if version is not None else (0, "")
    return (
        min(place, SORT_MAX),
        line.name,
        line.keyword.upper() != "FEATURE",
        line.count != 0,
        -whole,
        _Descending(fraction),
        -(_issued(line) or 0),
        number,
    )


def _issued(line: FeatureLine) -> int | None:
    for key in ("ISSUED", "START"):
        text = line.value(key)
        if text:
            try:
                return _day(parse_date(text))
            except LicenseError:
                return None
    return None


class _Descending:
    """A text that sorts the other way round."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: _Descending) -> bool:
        return self.text > other.text

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self.text == other.text

    __hash__ = None  # type: ignore[assignment]


def read_rights(license_file: LicenseFile, keys: Sequence[object], *, vendor: str) -> Rights:
    """Return what *license_file* lets *vendor*'s clients have, by the publishers' *keys*."""
    from flexcore.licensefile import rights_digest, verify_license

    report = verify_license(license_file, keys)
    return rights_of_lines(
        ((line, report.why_not(line)) for line in license_file.features),
        vendor=vendor, digest=rights_digest(license_file), hostids=license_file.hostids,
    )  # fmt: skip
