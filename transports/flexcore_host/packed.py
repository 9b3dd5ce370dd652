"""Report logs as log rotation leaves them: plain, or compressed by gzip, told by their first bytes.

A compressed file is read as it is unpacked, so that neither a long log nor a file made to grow without end
takes more memory than a line.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from flexcore.errors import FlexcoreError
from flexcore.report.reportlog import LINE_CHARS_MAX

__all__ = ["ends", "is_gzip", "lines", "open_plain"]

PIECE_BYTES = 1 << 16
_HEAD_BYTES = 6
_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"BZh": "bunzip2", b"\xfd7zXZ\x00": "unxz", b"\x28\xb5\x2f\xfd": "unzstd", b"\x1f\x9d": "uncompress",
    b"\x04\x22\x4d\x18": "unlz4", b"PK\x03\x04": "unzip",
}  # fmt: skip
"""First bytes of what is not read here, and the command that unpacks it."""


def is_gzip(path: str) -> bool:
    """Return whether *path* is compressed by gzip. Raises OSError."""
    return _head(path).startswith(_GZIP)


def open_plain(path: str) -> BinaryIO | gzip.GzipFile:
    """Open *path* to read the bytes that it held before it was compressed.

    Raises OSError, and FlexcoreError where it is compressed in a way that is not read here, or no file: a log is
    read more than once. What is read later raises what :func:`lines` makes a FlexcoreError of.
    """
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise FlexcoreError(f"{path}: a pipe or a device, and a log is read more than once: write it into a file first")
    head = _head(path)
    for magic, command in _OTHERS.items():
        if head.startswith(magic):
            raise FlexcoreError(f"{path}: compressed, and only gzip is read here: {command} it first")
    return gzip.open(path, "rb") if head.startswith(_GZIP) else open(path, "rb")


def lines(path: str) -> Iterator[str]:
    """Yield the lines of *path*, their ends with them, unpacked.

    A line that no report log has because of its length comes as its beginning only, still too long for a
    record. Raises as :func:`open_plain`, and FlexcoreError where the compressed data is damaged or cut off.
    """
    limit = LINE_CHARS_MAX + 2
    with open_plain(path) as file:
        while line := _read(file.readline, limit):
            yield line.decode("utf-8", "replace")
            while len(line) == limit and not line.endswith(b"\n"):
                line = _read(file.readline, limit)


def ends(path: str) -> tuple[bytes, bytes]:
    """Return the first line of *path* and its end, which holds the last line, unpacked; of damaged data what
    comes before the damage. Raises as :func:`open_plain`."""
    first, tail = b"", bytearray()
    with open_plain(path) as file:
        if not is_gzip(path):
            first = file.readline(LINE_CHARS_MAX)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LINE_CHARS_MAX))
            return first, file.read(LINE_CHARS_MAX)
        try:
            first = _read(file.readline, LINE_CHARS_MAX)
            tail += first
            while piece := _read(file.read, PIECE_BYTES):
                tail += piece
                if len(tail) > 2 * LINE_CHARS_MAX:
                    del tail[:-LINE_CHARS_MAX]
        except FlexcoreError:
            pass  # whoever reads the lines is told
    return first, bytes(tail[-LINE_CHARS_MAX:])


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD_BYTES)


def _read(read: Callable[[int], bytes], size: int) -> bytes:
    """Return what *read* gives; every way in which packed data can be damaged is a FlexcoreError."""
    try:
        return read(size)
    except EOFError:
        raise FlexcoreError("the compressed file was cut off here") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise FlexcoreError(f"the compressed file is damaged here: {error}") from None
