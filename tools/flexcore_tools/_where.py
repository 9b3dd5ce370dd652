"""Where the ``lm*`` utilities look: ``-c PATH``, else the environment.

Unlike a product they take a licence file with three SERVER lines (seed, "Configuring the License
Search Path" forbids it to applications only).
"""

from __future__ import annotations

import os

from flexcore.errors import SearchPathError
from flexcore.searchpath import (
    PORTS_WITHOUT_NUMBER,
    AnyPort,
    SearchPath,
    parse_search_path,
    path_from_environment,
    resolve,
)
from flexcore.wire.messages import ServerAddress

from ._ask import ask_all
from ._link import Link

PATH_HELP = (
    "port@host, the three of a triad joined by commas (one is enough), a licence file, or "
    "alternatives of these; default: LM_LICENSE_FILE, then any VENDOR_LICENSE_FILE"
)

_FILE_BYTES_MAX = 16 * 1024 * 1024

Where = tuple[ServerAddress, ...]
"""One alternative of the path: the addresses of one server or triad."""


def find(path: str | None, timeout_s: float) -> tuple[Where, ...]:
    """Return the alternatives of *path* (None: of the environment), in order, each once.

    Of ``@host`` the first port that a server answers on is taken, the first of all if none does.

    Raises:
        SearchPathError: it is empty or wrong, or no file in it can be read.
    """
    text = path if path is not None else path_from_environment(os.environ)
    found: dict[Where, None] = {}
    for alternative in parse_search_path(text).alternatives:
        if isinstance(alternative, AnyPort):
            found[_any_port(alternative.host, timeout_s)] = None
        else:
            found |= dict.fromkeys(_resolved(SearchPath((alternative,)), timeout_s))
    return tuple(found)


def only_one(path: str | None, timeout_s: float) -> Where:
    """Return the one alternative of *path*: a command that changes something acts on no other."""
    found = find(path, timeout_s)
    if len(found) > 1:
        raise SearchPathError(
            f"the search path has {len(found)} alternatives; name the one that is meant with -c"
        )
    return found[0]


def _resolved(path: SearchPath, timeout_s: float) -> tuple[Where, ...]:
    found = resolve(path, _read, triad_files=True)
    if len(found) > 1:  # a file whose SERVER line has no port
        return (_any_port(found[0][0].host, timeout_s),)
    return found


def _any_port(host: str, timeout_s: float) -> Where:
    addresses = [ServerAddress(host, port) for port in PORTS_WITHOUT_NUMBER]
    links = ask_all(addresses, timeout_s)
    chosen = addresses[0]
    for address, link in reversed(list(zip(addresses, links, strict=True))):
        if isinstance(link, Link):
            chosen = address
            link.close()
    return (chosen,)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # lmstat loads no pathlib
        return file.read(_FILE_BYTES_MAX)
