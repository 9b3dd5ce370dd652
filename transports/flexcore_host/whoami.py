"""User, host, display and project of this process, as they appear in lmstat and in the debug log.

None of the first three is ever empty or holds a blank, since lmstat's line is split at blanks by everybody who
reads it (design.md section 10).
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import sys

__all__ = ["display", "host", "platform", "project", "user"]

_MAX_WORD = 255
# Blanks and everything that is not printable; surrogates stand for undecodable bytes and stay.
_UNFIT = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")

_PROCESSORS = {
    "x8664": "x64", "amd64": "x64", "x86": "i86", "i386": "i86", "i586": "i86", "i686": "i86",
    "aarch64": "arm64",
}  # fmt: skip


def user() -> str:
    """The login name; ``uidN`` where the machine knows no name (a container's number)."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = ""
    return _word(name) or f"uid{_uid()}"


def host() -> str:
    """The short host name."""
    try:
        name = socket.gethostname()
    except OSError:
        name = ""
    return _word(name.split(".", 1)[0]) or "localhost"


def display() -> str:
    """``$DISPLAY``, else the terminal, else the short host name."""
    return _word(os.environ.get("DISPLAY", "")) or _word(_terminal()) or host()


def project() -> str:
    """``$LM_PROJECT``, '' where it is not set: lmstat -proj and usage show it, and options may name it."""
    return _word(os.environ.get("LM_PROJECT", ""))


def platform() -> str:
    """What PLATFORMS= calls this machine: processor and system, as in ``x64_lsb`` (Linux), ``i86_n``
    (Windows), ``arm64_mac``."""
    machine = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    word = re.sub("[^a-z0-9]", "", machine.lower())
    processor = _PROCESSORS.get(word, word or "any")
    system = {"linux": "lsb", "win32": "n", "darwin": "mac"}.get(sys.platform, sys.platform)
    return f"{processor}_{system}"


def _terminal() -> str:
    if not hasattr(os, "ttyname"):
        return ""
    for number in (0, 1, 2):
        try:
            return os.ttyname(number)
        except OSError:
            continue
    return ""


def _uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _word(text: str) -> str:
    return _UNFIT.sub("_", text.strip())[:_MAX_WORD]
