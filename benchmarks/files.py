"""Licence files of any length: parsed, signed, verified; and a log of a million entries, for a snapshot of it."""

from __future__ import annotations

import functools
import time

from flexcore.ledger import Ledger
from flexcore.ledger.commands import SessionOpened, TermStarted
from flexcore.licensefile import (
    LicenseFile,
    format_license,
    parse_license,
    sign_license,
    verify_license,
)
from flexcore.licensefile.signature import canonical_bytes, make_head
from flexcore.wire.codec import encode_command

from .load import VENDOR
from .servers import KEY


@functools.cache
def text_of(lines: int) -> str:
    """A licence file of so many features, not signed."""
    body = "".join(
        f"FEATURE feature_{n} {VENDOR} 2026.1124 30-jun-2031 {n % 40 + 1} ISSUED=1-jan-2026 SN=S-{n}\n"
        for n in range(lines)
    )
    return f"SERVER pat 17003456 2837\nSERVER lee 17004355 2837\nSERVER terry 17007ea8 2837\nVENDOR {VENDOR}\n{body}"


@functools.cache
def signed(lines: int) -> LicenseFile:
    """The same, signed."""
    return sign_license(parse_license(text_of(lines)), KEY)


def parse_lines_s(lines: int) -> float:
    """Lines parsed a second, of a signed file."""
    text = format_license(signed(lines))
    started = time.perf_counter()
    parse_license(text)
    return lines / (time.perf_counter() - started)


def verify_lines_s(lines: int) -> float:
    """Lines verified a second."""
    file = signed(lines)
    started = time.perf_counter()
    report = verify_license(file, (KEY.verifying_key,))
    took = time.perf_counter() - started
    assert report.is_valid
    return lines / took


def bare_ed25519_s(lines: int) -> float:
    """Signatures checked a second by cryptography alone, over the very bytes of the same lines."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    file = signed(lines)
    texts = []
    for line in file.signable_lines:
        head = make_head(line, file.hostids, KEY.verifying_key.key_id)
        data = canonical_bytes(line, file.hostids, head)
        texts.append((KEY.sign(data), data))
    key = Ed25519PublicKey.from_public_bytes(KEY.verifying_key.public)
    started = time.perf_counter()
    for signature, data in texts:
        key.verify(signature, data)
    return lines / (time.perf_counter() - started)


def sign_lines_s(lines: int) -> float:
    """Lines signed a second, which includes reading the result back."""
    file = parse_license(text_of(lines))
    started = time.perf_counter()
    sign_license(file, KEY)
    return lines / (time.perf_counter() - started)


@functools.cache
def long_ledger(entries: int) -> Ledger:
    """A ledger of so many entries, each of which is held."""
    ledger = Ledger()
    ledger.commit_to(ledger.append(1, 1.0, encode_command(TermStarted(0, 79.0, 33.0))))
    for number in range(entries - 1):
        name = number.to_bytes(16, "big")
        opened = SessionOpened(name, b"s" * 32, f"u{number}", "h", "", "", 1, 33.0, True)
        ledger.append(1, 1.0, encode_command(opened), opened)
    ledger.commit_to(ledger.last.index)
    return ledger


def snapshot_s(entries: int) -> float:
    """Seconds to make a snapshot of so many sessions."""
    ledger = long_ledger(entries)
    started = time.perf_counter()
    ledger.make_snapshot()
    return time.perf_counter() - started


def catch_up_s(entries: int) -> float:
    """Seconds to take that snapshot in at a server that has nothing."""
    snapshot = long_ledger(entries).make_snapshot()
    started = time.perf_counter()
    taken = Ledger(snapshot)
    took = time.perf_counter() - started
    assert taken.last.index == entries
    return took
