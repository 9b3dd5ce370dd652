"""Other ways to write the same licence file: one line each, wrapped, or in digits for a telephone.

What is signed is a line's fields and attributes, not its text, so every form verifies as before
(``tests/test_lmutil.py::test_every_form_still_verifies``). The field's own decimal format is not
published; this one is flexcore's: a licence line is written in rows ::

    DECIMAL 3.2 25701-30068-21061-08262-12589-12345-23456-34567-05512

the second row of line 3, its bytes by twos as five digits each, and as the last five digits a check
of the row, so that a slip of the finger is found in the row where it is (-99).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator

from flexcore.codes import ErrorCode
from flexcore.errors import LicenseError

from .lines import FeatureLine, LicenseFile, PackageLine, UpgradeLine, print_line
from .signing import comments_of, wrapped

WIDTH_MIN = 40
GROUPS_A_ROW = 8
ROWS_MAX = 200_000
_ROW = re.compile(r"DECIMAL +([0-9]{1,6})\.([0-9]{1,6}) +([0-9]{5}(?:-[0-9]{5})+) *")


class DecimalError(LicenseError):
    """A line in digits is typed incorrectly (-99), or a line cannot be written so (-98)."""

    code = ErrorCode.BAD_DECIMAL


def reformat_license(license: LicenseFile, *, width: int = 0) -> str:
    """Return the text of *license* with each feature line on one physical line, or, with a *width*,
    broken at it where it has a blank. Everything else stays as it was read."""
    eol = "\r\n" if any(line.text.endswith("\r\n") for line in license.lines) else "\n"
    texts = []
    for line in license.lines:
        if not isinstance(line, FeatureLine | PackageLine | UpgradeLine):
            texts.append(line.text)
            continue
        printed = print_line(line)
        if width:
            printed = wrapped(printed, eol, max(width, WIDTH_MIN))
        mark = "\ufeff" if line.text.startswith("\ufeff") else ""
        ending = line.text[len(line.text.rstrip("\r\n")) :]
        comments = "".join(f"{comment}{eol}" for comment in comments_of(line.text))
        texts.append(mark + comments + printed + ending)
    return "".join(texts)


def to_decimal(text: str) -> str:
    """Return a licence file's lines in digits; comments and empty lines are left out.

    >>> print(to_decimal("USE_SERVER"), end="")
    DECIMAL 1.1 21843-17759-21317-21078-17746-32582
    """
    rows: list[str] = []
    number = 0
    for line in text.removeprefix("\ufeff").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        number += 1
        data = line.encode("utf-8", "surrogatepass")
        data += b" " * (len(data) % 2)
        groups = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
        for row, start in enumerate(range(0, len(groups), GROUPS_A_ROW), 1):
            some = groups[start : start + GROUPS_A_ROW]
            digits = "-".join(f"{group:05d}" for group in [*some, _check(number, row, some)])
            rows.append(f"DECIMAL {number}.{row} {digits}\n")
    return "".join(rows)


def is_decimal(text: str) -> bool:
    """Say whether *text* is a licence file in digits."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return first.lstrip().startswith("DECIMAL ")


def from_decimal(text: str) -> str:
    """Return the lines that *text* holds in digits.

    Raises:
        DecimalError: a row is not there, stands twice or is typed incorrectly; the text says which.
    """
    lines: dict[int, bytearray] = {}
    expected = (1, 1)
    for number, row, groups in _rows(text.splitlines()):
        if (number, row) not in (expected, (expected[0] + 1, 1)) or (number, row) == (expected[0] + 1, 2):
            raise DecimalError(f"row {number}.{row} stands where {expected[0]}.{expected[1]} was expected")
        expected = (number, row + 1)
        data = lines.setdefault(number, bytearray())
        for group in groups:
            data += group.to_bytes(2, "big")
    try:
        return "".join(f"{bytes(line).decode('utf-8', 'surrogatepass').rstrip()}\n" for line in lines.values())
    except UnicodeDecodeError:
        raise DecimalError("the digits are no text") from None


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, int, list[int]]]:
    for count, line in enumerate(lines):
        if count > ROWS_MAX:
            raise DecimalError(f"more than {ROWS_MAX} rows")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _ROW.fullmatch(line.strip())
        if found is None:
            raise DecimalError(f"row {count + 1} of the file is no row of digits: {line.strip()[:40]}")
        number, row = int(found[1]), int(found[2])
        *groups, check = [int(group) for group in found[3].split("-")]
        if any(group > 0xFFFF for group in groups) or check != _check(number, row, groups):
            raise DecimalError(f"row {number}.{row} is typed incorrectly")
        yield number, row, groups


def _check(number: int, row: int, groups: list[int]) -> int:
    text = f"{number}.{row} " + " ".join(str(group) for group in groups)
    return zlib.crc32(text.encode("ascii")) % 100_000


def checksum(line: FeatureLine | PackageLine | UpgradeLine, hostids: tuple[str, ...]) -> int:
    """Return lmcksum's number of a line: equal for equal content, however it is written."""
    from .signature import content_text

    return zlib.crc32(content_text(line, hostids).encode("utf-8", "surrogatepass")) & 0xFFFF
