"""The search path of an application: given, or from the environment; licence files in it are read here."""

from __future__ import annotations

import os
from collections.abc import Mapping

from flexcore.errors import SearchPathError
from flexcore.searchpath import parse_search_path, path_from_environment, resolve
from flexcore.wire.messages import ServerAddress

FILE_BYTES_MAX = 16 << 20
"""More of a file is not read: the parser says that it is too large."""


def find_servers(
    path: str | None, vendor: str, environment: Mapping[str, str] | None = None
) -> tuple[tuple[ServerAddress, ...], ...]:
    """Return the alternatives of *path*, or of ``<VENDOR>_LICENSE_FILE`` and ``LM_LICENSE_FILE``.

    Raises:
        SearchPathError: there is none, it cannot be read, or it names a triad by its file.
    """
    text = path
    if text is None:
        text = path_from_environment(
            os.environ if environment is None else environment, vendor, separator=os.pathsep
        )
        if not text:
            variable = f"{vendor.upper()}_LICENSE_FILE or " if vendor else ""
            raise SearchPathError(
                f"no licence servers are named: set {variable}LM_LICENSE_FILE to port@host"
            )
    return resolve(parse_search_path(text), _read)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(FILE_BYTES_MAX)
