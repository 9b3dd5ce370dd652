"""SIGN: what exactly is signed, what the value looks like, and making it.

**The signed text.** For a FEATURE, INCREMENT, PACKAGE or UPGRADE line it is UTF-8 text of lines that
end with a line feed::

    flexcore license line 1
    checks FC01...           the value's own groups before the signature, upper case, no blanks
    line FEATURE             the line keyword in capitals
    name f1                  the positional fields as written: name, vendor, version, expiry, count
    vendor demo                (PACKAGE: name, vendor, version; UPGRADE: name, vendor, from version,
    version 1.0                version, expiry, count)
    expiry 1-jan-2018
    count 10
    hostid 17003456          one for each SERVER line of the file, in order, case-folded
    hostid 17004355
    hostid 17007ea8
    keyword SN=7             the publisher's attributes, sorted by key (equal keys stay in order)
    keyword TS_OK

Runs of blanks in a value are one blank, quotes round a value are not part of it. Not in it: SIGN=,
SIGN2=, AUTH= and a positional key; attributes whose key is wholly in lower case; host names, ports
and keywords of the SERVER lines; the VENDOR lines. A bare word in quotes is ``text WORD``.

**The value** is groups of four hex digits::

    FC01                     the form of the value
    kkkk kkkk                the key's id: SHA-256("flexcore key id 1\\n" + public key), 4 bytes
    hfww                     h: number of hostids, f: of fields with the line keyword, ww: of attributes
    cccc ...                 a check of the line keyword and of each field, in order
    cccc ...                 a check of each hostid
    nnnn cccc ...            for each attribute a check of its key and one of the whole
    ssss ... (32 groups)     the Ed25519 signature of the text above, 64 bytes

A check is the first two bytes of SHA-256("flexcore check 1\\n" + role + "\\n" + value). The checks
are there so that a refusal can name the field that differs; they are signed with the rest, and no
decision rests on them: only the signature over the whole text makes a line valid.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

import attrs

from flexcore.keys import KEY_ID_SIZE, SIGNATURE_SIZE

from .lines import LicenseFile, SignableLine

FORM = b"\xfc\x01"
"""The first group of every value that flexcore makes."""

SERVERS_MAX = 15

SignableT = TypeVar("SignableT", bound=SignableLine)

_TAG = "flexcore license line 1\n"
_CHECK_SIZE = 2
_HEAD_SIZE = len(FORM) + KEY_ID_SIZE + 2


@attrs.frozen
class SignValue:
    """A SIGN value, taken apart."""

    head: bytes
    """Everything before the signature."""
    key_id: bytes
    fields: tuple[bytes, ...]
    """Checks of the line keyword and the positional fields."""
    hostids: tuple[bytes, ...]
    attributes: tuple[tuple[bytes, bytes], ...]
    """For each attribute the checks of its key and of the whole."""
    signature: bytes


def signed_attributes(line: SignableLine) -> list[tuple[str, str]]:
    """Return key and text of the attributes that SIGN covers, in the order of the signed text."""
    found = []
    for attribute in line.attributes:
        if attribute.is_signed:
            if attribute.value is not None:
                found.append((attribute.key, f"keyword {attribute.key}={attribute.value}"))
            else:
                kind = "text" if attribute.quoted else "keyword"
                found.append((attribute.key, f"{kind} {attribute.key}"))
    found.sort(key=lambda pair: pair[0])
    return found


def content_text(line: SignableLine, hostids: Sequence[str]) -> str:
    """Return the signed text without its first two lines: what the line grants, to whom."""
    parts = [f"line {line.keyword}\n"]
    parts += [f"{role} {value}\n" for role, value in line.fields]
    parts += [f"hostid {hostid.casefold()}\n" for hostid in hostids]
    parts += [f"{text}\n" for _, text in signed_attributes(line)]
    return "".join(parts)


def canonical_bytes(line: SignableLine, hostids: Sequence[str], head: bytes) -> bytes:
    """Return exactly the bytes that the signature covers."""
    text = f"{_TAG}checks {head.hex().upper()}\n{content_text(line, hostids)}"
    return text.encode("utf-8", "surrogatepass")


def make_head(line: SignableLine, hostids: Sequence[str], key_id: bytes) -> bytes:
    """Return the groups of a value before its signature, as bytes."""
    named = signed_attributes(line)
    fields = [("line", line.keyword), *line.fields]
    assert len(hostids) <= SERVERS_MAX
    assert len(fields) <= SERVERS_MAX
    assert len(named) <= 255
    head = bytearray(FORM + key_id)
    head.append(len(hostids) << 4 | len(fields))
    head.append(len(named))
    for role, value in fields:
        head += check(role, value)
    for hostid in hostids:
        head += check("hostid", hostid.casefold())
    for key, text in named:
        head += check("key", key) + check("attribute", text)
    return bytes(head)


@functools.lru_cache(maxsize=4096)
def check(role: str, value: str) -> bytes:
    """Return the two bytes by which a value tells what it was made for."""
    data = f"flexcore check 1\n{role}\n{value}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).digest()[:_CHECK_SIZE]


def format_value(data: bytes) -> str:
    """Return bytes as groups of four hex digits, blanks between."""
    digits = data.hex().upper()
    return " ".join([digits[at : at + 4] for at in range(0, len(digits), 4)])


def parse_value(text: str) -> SignValue | None:
    """Take a SIGN value apart, or return None for one that flexcore did not make."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    if len(data) < _HEAD_SIZE + SIGNATURE_SIZE or not data.startswith(FORM):
        return None
    numbers = data[_HEAD_SIZE - 2]
    n_hostids, n_fields, n_attributes = numbers >> 4, numbers & 15, data[_HEAD_SIZE - 1]
    size = _HEAD_SIZE + _CHECK_SIZE * (n_hostids + n_fields + 2 * n_attributes)
    if len(data) != size + SIGNATURE_SIZE:
        return None
    checks = [data[at : at + _CHECK_SIZE] for at in range(_HEAD_SIZE, size, _CHECK_SIZE)]
    rest = checks[n_fields + n_hostids :]
    return SignValue(
        head=data[:size],
        key_id=data[len(FORM) : len(FORM) + KEY_ID_SIZE],
        fields=tuple(checks[:n_fields]),
        hostids=tuple(checks[n_fields : n_fields + n_hostids]),
        attributes=tuple(zip(rest[::2], rest[1::2], strict=True)),
        signature=data[size:],
    )


# --- digests ----------------------------------------------------------------------------------------


def content_digest(line: SignableLine, hostids: Sequence[str]) -> bytes:
    """Return 32 bytes that are equal for lines with the same signed content, whoever signed them."""
    text = content_text(line, hostids)
    return hashlib.sha256(f"{_TAG}{text}".encode("utf-8", "surrogatepass")).digest()


def membership_digest(license: LicenseFile, vendor: str = "") -> bytes:
    """Return 32 bytes that name who serves together: the vendor and the hostids in order.

    Two servers with different ones are no peers (protocol.md rule 19). ``vendor``: whose, where the
    file of a single server has several; the first VENDOR line's otherwise.
    """
    name = vendor or (license.vendors[0].name if license.vendors else "")
    return membership_digest_of(name, license.hostids)


def membership_digest_of(vendor: str, hostids: Iterable[str]) -> bytes:
    """Return the same for a vendor and hostids that are known otherwise."""
    text = f"flexcore membership 1\nvendor {vendor}\n"
    text += "".join(f"hostid {hostid}\n" for hostid in hostids)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def rights_digest(license: LicenseFile, lines: Iterable[SignableLine] | None = None) -> bytes:
    """Return 32 bytes that name what may be granted: the signed content of all lines.

    Their order does not matter, nor how often one stands there, nor who signed them (protocol.md
    rule 19). ``lines``: those that are in effect; all signable ones otherwise.
    """
    chosen = license.signable_lines if lines is None else lines
    digests = sorted({content_digest(line, license.hostids) for line in chosen})
    return hashlib.sha256(b"flexcore rights 1\n" + b"".join(digests)).digest()


def first_copies(
    lines: Iterable[SignableT], hostids: Sequence[str]
) -> tuple[list[SignableT], list[tuple[SignableT, SignableT]]]:
    """Part lines into the first of each signed content, and the copies, each with its first."""
    seen: dict[bytes, SignableT] = {}
    copies: list[tuple[SignableT, SignableT]] = []
    for line in lines:
        first = seen.setdefault(content_digest(line, hostids), line)
        if first is not line:
            copies.append((line, first))
    return list(seen.values()), copies
