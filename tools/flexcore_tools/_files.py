"""Reading and writing the small files of the publisher's commands."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import tempfile

from flexcore.errors import ConfigurationError
from flexcore.keys import KEY_TEXT_MAX, SigningKey, VerifyingKey
from flexcore.licensefile import LicenseFile, parse_license
from flexcore.licensefile.lexer import LICENSE_SIZE_MAX

READ_MAX = 2 * LICENSE_SIZE_MAX


def read_bytes(path: str, limit: int = READ_MAX) -> bytes:
    """Return a file's bytes (``-``: standard input). A folder, or too much, is an error."""
    if path == "-":
        data = sys.stdin.buffer.read(limit + 1)
    else:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    if len(data) > limit:
        raise ConfigurationError(f"{path}: more than {limit} bytes")
    return data


def read_license(path: str) -> LicenseFile:
    """Parse the licence file at ``path``."""
    return parse_license(read_bytes(path), name="<stdin>" if path == "-" else path)


def read_verifying_key(path: str) -> VerifyingKey:
    """Return the public key in a ``.pub`` file; errors name the file."""
    return VerifyingKey.from_text(_key_text(path), name=path)


def read_signing_key(path: str) -> SigningKey:
    """Return the secret key in a ``.key`` file; errors name the file."""
    return SigningKey.from_text(_key_text(path), name=path)


def _key_text(path: str) -> str:
    return read_bytes(path, 4 * KEY_TEXT_MAX).decode("utf-8", "replace")


def write_new(path: str, data: bytes, mode: int) -> None:
    """Write a file that must not be there yet. Nothing half-written is left under its name."""
    temporary = _write_beside(path, data, mode)
    try:
        os.link(temporary, path)  # fails where the name is taken, unlike a rename
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already, and is never overwritten") from None
    except OSError:  # a file system without links
        _write_exclusively(path, data, mode)
    finally:
        os.unlink(temporary)
    _sync_folder(path)


def replace(path: str, data: bytes) -> None:
    """Write a file so that its name holds the old content or the new, never half of it."""
    if path == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    real = os.path.realpath(path)  # what a symbolic link points to is replaced, not the link
    try:
        mode = os.stat(real).st_mode & 0o777
    except FileNotFoundError:
        mode = 0o666 & ~_umask()
    else:
        if not os.path.isfile(real):
            with open(real, "wb") as file:  # a pipe or a device holds no half-written content
                file.write(data)
            return
    temporary = _write_beside(real, data, mode)
    try:
        os.replace(temporary, real)
    except OSError:
        os.unlink(temporary)
        raise
    _sync_folder(real)


def _write_beside(path: str, data: bytes, mode: int) -> str:
    folder = os.path.dirname(path) or "."
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".flexcore-", dir=folder)
    except OSError as error:  # tell about the file that was asked for
        raise OSError(error.errno, error.strerror, path) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
    except OSError:
        os.unlink(temporary)
        raise
    return temporary


def _write_exclusively(path: str, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already, and is never overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _sync_folder(path: str) -> None:
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def today() -> datetime.date:
    """Return the date here."""
    return datetime.datetime.now().astimezone().date()
