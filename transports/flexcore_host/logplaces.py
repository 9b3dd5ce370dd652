"""Where a log may go when somebody who can connect says so: lmswitch, lmswitchr, lmnewlog.

Anybody on a server's machine may order it, and what stands in a log is partly what clients call
themselves. So a log goes into the folder of the log that is written, or one below it, and never over
what exists: no order makes the server write into a place that its administrator did not give to logs.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable

from flexcore.errors import FlexcoreError

__all__ = ["create", "fresh_beside", "keep_as", "new_place", "place_beside"]

_FRESH = re.compile(r"\.[0-9a-f]{8}\.new")


def new_place(text: str, log: str) -> str:
    """Return the whole path that *text* means beside the log *log*, where nothing is yet.

    Raises FlexcoreError where that is no place for a new log.
    """
    place = place_beside(text, log)
    if os.path.lexists(place):
        raise FlexcoreError(f"{place} exists already")
    return place


def place_beside(text: str, log: str) -> str:
    """Return the whole path that *text* means beside the log *log*, whether something is there or not.

    Raises FlexcoreError where that is no place for a log.
    """
    if not log:
        raise FlexcoreError("this log goes to standard output, and whoever takes that rotates it")
    base = os.path.realpath(os.path.dirname(os.path.abspath(log)))
    folder, name = os.path.split(os.path.join(base, text))
    folder = os.path.realpath(folder)
    if name in ("", os.curdir, os.pardir):
        raise FlexcoreError(f"{text} names no file")
    place = os.path.join(folder, name)
    if os.path.commonpath([base, folder]) != base:
        raise FlexcoreError(f"{place} is outside of {base}, the folder of the log, which it does not leave")
    return place


def create(path: str, mode: int) -> int:
    """Open a file that does not exist yet, to be appended to; return its descriptor. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags, mode)


def keep_as(place: str, path: str, fill: Callable[[int], None], mode: int) -> int:
    """Let *path* be a new file with what *fill* writes into it, and the old one be *place*. Returns the
    new descriptor. Raises OSError, and everything is as it was then.

    At every instant *path* is a log: a process that is killed here finds one when it starts again.
    """
    fresh = f"{path}.{secrets.token_hex(4)}.new"
    descriptor = create(fresh, mode)
    try:
        fill(descriptor)
        try:
            os.link(path, place, follow_symlinks=False)
        except (NotImplementedError, PermissionError):  # a file system without links
            os.rename(path, place)
        os.replace(fresh, path)
    except BaseException:
        os.close(descriptor)
        os.unlink(fresh)
        raise
    return descriptor


def fresh_beside(path: str) -> list[str]:
    """Return what a process that was killed in :func:`keep_as` of *path* left beside it. Raises OSError."""
    folder, name = os.path.split(os.path.abspath(path))
    return [os.path.join(folder, each) for each in sorted(os.listdir(folder))
            if each.startswith(name) and _FRESH.fullmatch(each, len(name))]  # fmt: skip
