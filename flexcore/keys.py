"""Ed25519 keys of a vendor: text forms, signing, verifying. The only importer of cryptography.

Both forms are one line of words, so that the public one can stand in a product's source::

    flexcore-public-key demo ed25519 7a0f...   (64 hex digits)
    flexcore-secret-key demo ed25519 91bc...   (64 hex digits: the seed of RFC 8032)

Lines that begin with ``#`` and blank lines around it are skipped. cryptography is imported when a
key is first used: only commands and clients that sign or verify pay for it.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from .errors import KeyFormatError
from .override import override
from .record import Record

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SEED_SIZE = 32
PUBLIC_SIZE = 32
SIGNATURE_SIZE = 64
KEY_ID_SIZE = 4
VENDOR_LENGTH_MAX = 32
KEY_TEXT_MAX = 4096
"""Characters of a key file; a longer one is something else."""

_VENDOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PUBLIC_WORD = "flexcore-public-key"
_SECRET_WORD = "flexcore-secret-key"


def is_vendor_name(text: str) -> bool:
    """Say whether ``text`` can name a vendor: letters, digits, ``_`` and ``-``, at most 32."""
    return len(text) <= VENDOR_LENGTH_MAX and _VENDOR.fullmatch(text) is not None


def _check_vendor(value: str) -> None:
    if not is_vendor_name(value):
        raise KeyFormatError(
            f"{value[:40]!r} is no vendor name: letters, digits, _ and - are, "
            f"at most {VENDOR_LENGTH_MAX}"
        )


def _check_32(value: bytes) -> None:
    if len(value) != SEED_SIZE:
        raise KeyFormatError(f"an Ed25519 key has {SEED_SIZE} bytes, not {len(value)}")


class VerifyingKey(Record):
    """A vendor's public key. Products embed ``str(key)``."""

    vendor: str
    public: bytes

    @override
    def _check(self) -> None:
        _check_vendor(self.vendor)
        _check_32(self.public)

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys apart in a SIGN value; no security rests on them."""
        return _key_id(self.public)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Say whether ``signature`` over ``data`` was made with the secret key of this one."""
        if len(signature) != SIGNATURE_SIZE:
            return False
        from cryptography.exceptions import InvalidSignature

        try:
            _public_key(self.public).verify(signature, data)
        except InvalidSignature:
            return False
        return True

    @override
    def __str__(self) -> str:
        return f"{_PUBLIC_WORD} {self.vendor} ed25519 {self.public.hex()}"

    @classmethod
    def from_text(cls, text: str, *, name: str = "") -> VerifyingKey:
        """Return the key of a ``.pub`` file or of its one line; ``name`` is for messages.

        Raises :class:`~flexcore.errors.KeyFormatError`.
        """
        return cls(*_parse(text, _PUBLIC_WORD, name))


class SigningKey(Record, secret=("seed",)):
    """A vendor's secret key."""

    vendor: str
    seed: bytes
    """32 bytes, drawn by the caller from the operating system's randomness."""

    @override
    def _check(self) -> None:
        _check_vendor(self.vendor)
        _check_32(self.seed)

    @property
    def verifying_key(self) -> VerifyingKey:
        """The public half."""
        return VerifyingKey(self.vendor, _secret_key(self.seed).public_key().public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the (deterministic) signature over ``data``."""
        return _secret_key(self.seed).sign(data)

    def secret_text(self) -> str:
        """Return the line of a ``.key`` file. ``str(key)`` does not give the secret away."""
        return f"{_SECRET_WORD} {self.vendor} ed25519 {self.seed.hex()}"

    @classmethod
    def from_text(cls, text: str, *, name: str = "") -> SigningKey:
        """Return the key of a ``.key`` file. Raises :class:`~flexcore.errors.KeyFormatError`."""
        return cls(*_parse(text, _SECRET_WORD, name))


def _parse(text: str, word: str, name: str) -> tuple[str, bytes]:
    where = f"{name}: " if name else ""
    if len(text) > KEY_TEXT_MAX:
        raise KeyFormatError(f"{where}a key file has at most {KEY_TEXT_MAX} characters")
    lines = [line.split() for line in text.lstrip("\ufeff").splitlines()]
    lines = [words for words in lines if words and not words[0].startswith("#")]
    if len(lines) != 1 or len(lines[0]) != 4:
        raise KeyFormatError(f"{where}a key is one line: {word} VENDOR ed25519 64-HEX-DIGITS")
    kind, vendor, algorithm, digits = lines[0]
    if kind != word:
        other = _SECRET_WORD if word == _PUBLIC_WORD else _PUBLIC_WORD
        hint = f"this is a {other.split('-')[1]} key, " if kind == other else ""
        raise KeyFormatError(f"{where}{hint}the key that is needed begins with {word}")
    if algorithm != "ed25519":
        raise KeyFormatError(f"{where}keys are of the kind ed25519, not {algorithm[:40]!r}")
    if re.fullmatch(r"[0-9A-Fa-f]{64}", digits) is None:
        raise KeyFormatError(f"{where}the key itself is 64 hex digits")
    return vendor, bytes.fromhex(digits)


@functools.lru_cache(maxsize=64)
def _key_id(public: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(b"flexcore key id 1\n" + public).digest()[:KEY_ID_SIZE]


@functools.lru_cache(maxsize=64)
def _public_key(public: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(public)


@functools.lru_cache(maxsize=4)
def _secret_key(seed: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed)
