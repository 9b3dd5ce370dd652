"""Putting SIGN on lines: the publisher's side of :mod:`flexcore.licensefile.signature`."""

from __future__ import annotations

import attrs

from flexcore.errors import LicenseError
from flexcore.keys import SigningKey

from .lexer import LINE_KEYWORDS, keyword_of, read_statement, split_physical
from .lines import (
    AnyLine,
    FeatureLine,
    LicenseFile,
    PackageLine,
    SignableLine,
    UpgradeLine,
    print_line,
)
from .reader import parse_license
from .signature import canonical_bytes, content_digest, format_value, make_head
from .verification import verify_license

WRAP_COLUMN = 76
"""Where ``wrap`` breaks lines."""

_ERRORS_SHOWN_MAX = 5


def sign_value(line: SignableLine, hostids: tuple[str, ...], key: SigningKey) -> str:
    """Return the value of ``SIGN=`` for a line."""
    head = make_head(line, hostids, key.verifying_key.key_id)
    return format_value(head + key.sign(canonical_bytes(line, hostids, head)))


def sign_license(license: LicenseFile, key: SigningKey, *, wrap: bool = False) -> LicenseFile:
    """Return the file with ``SIGN=`` filled in or replaced on every line of the key's vendor.

    Each signed line is printed on one physical line, or with ``wrap`` broken at column 76; comments
    that stood inside it move above it. All other text stays as it is. Signing the same file with
    the same key gives the same text.

    Raises:
        LicenseError: the file has errors; two lines are equal; nothing is of the key's vendor.
    """
    if license.errors:
        shown = [f"  {problem}" for problem in license.errors[:_ERRORS_SHOWN_MAX]]
        more = len(license.errors) - len(shown)
        shown += [f"  and {more} more"] if more > 0 else []
        raise LicenseError("a file with errors is not signed:\n" + "\n".join(shown))
    chosen = [line for line in license.signable_lines if line.vendor == key.vendor]
    if not chosen:
        raise LicenseError(f"no line is of vendor {key.vendor}, whose key this is")
    _refuse_equal(chosen, license.hostids)
    eol = "\r\n" if any(line.text.endswith("\r\n") for line in license.lines) else "\n"
    texts = [_signed(line, license.hostids, key, eol=eol, wrap=wrap) for line in license.lines]
    read_back = parse_license("".join(texts), name=license.name)
    signed = attrs.evolve(read_back, encoding=license.encoding)
    report = verify_license(signed, (key.verifying_key,))
    own = [verdict for verdict in report.verdicts if verdict.line.vendor == key.vendor]
    for verdict in own:  # an odd line may not read back as it was printed
        if not verdict.is_valid:
            raise LicenseError(f"line {verdict.line.line} cannot be signed: {verdict.message}")
    if len(own) != len(chosen):
        raise LicenseError("a line cannot be signed: printed, it reads as something else")
    return signed


def _refuse_equal(lines: list[SignableLine], hostids: tuple[str, ...]) -> None:
    seen: dict[bytes, SignableLine] = {}
    for line in lines:
        first = seen.setdefault(content_digest(line, hostids), line)
        if first is not line:
            raise LicenseError(
                f"lines {first.line} and {line.line} say the same, and would count once; "
                "tell them apart by SN= or ISSUED=, or take one out"
            )


def _signed(
    line: AnyLine, hostids: tuple[str, ...], key: SigningKey, *, eol: str, wrap: bool
) -> str:
    if not isinstance(line, FeatureLine | PackageLine | UpgradeLine) or line.vendor != key.vendor:
        return line.text
    printed = print_line(line, sign=sign_value(line, hostids, key))
    if wrap:
        printed = wrapped(printed, eol)
    ending = line.text[len(line.text.rstrip("\r\n")) :]
    mark = "\ufeff" if line.text.startswith("\ufeff") else ""
    return mark + "".join(f"{comment}{eol}" for comment in comments_of(line.text)) + printed + ending


def comments_of(text: str) -> tuple[str, ...]:
    """Return the comments inside a statement."""
    body = text.removeprefix("\ufeff")
    return read_statement(body, split_physical(body), 0, keyword_of(body.split("\n")[0])).comments


def wrapped(printed: str, eol: str, width: int = WRAP_COLUMN) -> str:
    """Return a line broken at *width* where it has a blank; a word longer than that stays whole."""
    lines = [""]
    for word in printed.split(" "):
        too_long = len(lines[-1]) + 1 + len(word) > width
        if lines[-1] and too_long and word.upper() not in LINE_KEYWORDS:
            lines.append(f"\t{word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return f" \\{eol}".join(lines)
