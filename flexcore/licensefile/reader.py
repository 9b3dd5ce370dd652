"""Bytes or text to a :class:`~flexcore.licensefile.LicenseFile`, and back."""

from __future__ import annotations

from flexcore.errors import LicenseTooLarge

from .lexer import LICENSE_SIZE_MAX
from .lines import (
    FeatureLine,
    LicenseFile,
    PackageLine,
    ServerLine,
    UpgradeLine,
    UseServerLine,
    VendorLine,
)
from .parser import Parser
from .structure import check_structure

_BOM_UTF8 = b"\xef\xbb\xbf"
_BOMS_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def parse_license(text: str | bytes, *, name: str = "") -> LicenseFile:
    """Read a licence file. Every problem is collected; none stops the reading.

    Args:
        text: the file's text, or its bytes: UTF-8, or else Latin-1 (which every byte is).
        name: what messages call the file.

    Raises:
        LicenseTooLarge: the text exceeds ``LICENSE_SIZE_MAX``.
    """
    encoding = "utf-8"
    if isinstance(text, bytes):
        if len(text) > 2 * LICENSE_SIZE_MAX:
            raise LicenseTooLarge(f"{name or 'the licence file'} has {len(text)} bytes")
        text, encoding = decode_license(text)
    lines, problems = Parser(text, name).parse()
    problems.extend(check_structure(lines))
    problems.sort(key=lambda problem: (problem.line, problem.column))
    return LicenseFile(
        name=name,
        encoding=encoding,
        lines=tuple(lines),
        problems=tuple(problems),
        servers=tuple([line for line in lines if isinstance(line, ServerLine)]),
        vendors=tuple([line for line in lines if isinstance(line, VendorLine)]),
        use_server=any(isinstance(line, UseServerLine) for line in lines),
        features=tuple([line for line in lines if isinstance(line, FeatureLine)]),
        packages=tuple([line for line in lines if isinstance(line, PackageLine)]),
        upgrades=tuple([line for line in lines if isinstance(line, UpgradeLine)]),
    )


def decode_license(data: bytes) -> tuple[str, str]:
    """Return the text of a licence file's bytes, and the encoding that gives the bytes back.

    A byte order mark stays in the text as U+FEFF, so that nothing is lost.
    """
    if data.startswith(_BOMS_UTF16) and len(data) % 2 == 0:
        encoding = "utf-16-le" if data.startswith(_BOMS_UTF16[0]) else "utf-16-be"
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            pass
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def format_license(license: LicenseFile) -> str:
    """Return the text of a licence file; what was not changed is as it was read."""
    return "".join([line.text for line in license.lines])


def license_bytes(license: LicenseFile) -> bytes:
    """Return the bytes to write, in the encoding that the file was read in."""
    text = format_license(license)
    try:
        return text.encode(license.encoding)
    except UnicodeEncodeError:  # text came in that the old encoding lacks
        return text.encode("utf-8", "surrogatepass")
