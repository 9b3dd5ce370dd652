"""Where the ``lm*`` utilities look: ``-c PATH``, else the environment."""

from __future__ import annotations

import os
import re

import attrs

from flexcore.errors import SearchPathError
from flexcore.wire.messages import ServerAddress

PATH_HELP = (
    "port@host, the three of a triad joined by commas (one is enough), a licence file, or "
    "alternatives of these; default: LM_LICENSE_FILE, then any VENDOR_LICENSE_FILE"
)

_PLACE = re.compile(r"^(\d{1,5})@(.+)$")


@attrs.frozen
class Where:
    """One alternative of the path: the addresses of one server or triad."""

    addresses: tuple[ServerAddress, ...]


def find(path: str | None) -> tuple[Where, ...]:
    """Return the alternatives of *path* (None: of the environment), in order."""
    text = path if path is not None else _from_environment()
    return tuple(
        Where(tuple(_address(each) for each in part.split(","))) for part in text.split(":")
    )


def only_one(path: str | None) -> Where:
    """Return the one alternative of *path*: a command that changes something acts on no other."""
    found = find(path)
    if len(found) > 1:
        raise SearchPathError(
            f"the search path has {len(found)} alternatives; name the one that is meant with -c"
        )
    return found[0]


def _from_environment() -> str:
    return os.environ.get("LM_LICENSE_FILE", "")


def _address(text: str) -> ServerAddress:
    match = _PLACE.match(text)
    if match is None:
        raise SearchPathError(f"{text!r} is no port@host")
    return ServerAddress(match[2], int(match[1]))
