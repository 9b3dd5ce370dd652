"""The archive of ``lmdiag --bundle``: what whoever is to help needs, and no secret.

What may go in is listed here, nothing is collected by pattern; state files, keys and anything that
is not text stay out. Then every text is gone through once more: signatures, keys, and whatever looks
like an id or a secret (32 hexadecimal digits or more) are struck out.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence

from flexcore import __version__
from flexcore.errors import FlexcoreError
from flexcore.options.vocabulary import KEYWORDS
from flexcore.wire.messages import ServerDetails

from ._ask import Survey

FILE_BYTES_MAX = 1024 * 1024
"""Of each file, the end of longer ones."""
STRUCK = "(removed)"
_LINES = frozenset({"FEATURE", "INCREMENT", "PACKAGE", "UPGRADE", "VENDOR", "DAEMON"})

_VARIABLES = re.compile(r"(?:[A-Z0-9_]+_LICENSE_FILE|LM_[A-Z_]+|FLEXLM_[A-Z_]+|TZ|LANG)")
_SIGN = re.compile(r"\b(SIGN2?|AUTH)\s*=\s*(\"[^\"]*\"|\{[^}]*\}|\S+)", re.IGNORECASE)
_OLD_KEY = re.compile(
    r"^(\s*(?:FEATURE|INCREMENT|UPGRADE|PACKAGE)\b[^=\"\n]*?\s|\s+)[0-9A-F]{12,20}(?=\s|$)",
    re.IGNORECASE | re.MULTILINE,
)
"""The key of old files, behind the count or on a line of its own that continues one."""
_KEY = re.compile(r"^.*flexcore-secret-key.*$", re.MULTILINE)
_LONG_HEX = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{32,}(?![0-9A-Za-z])")
_HEX_GROUPS = re.compile(r"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{4}[ \t\\\r\n]+){8,}[0-9A-Fa-f]{4}(?![0-9A-Za-z])")


def write_bundle(
    path: str, survey: Survey, lines: Sequence[str], details: Mapping[int, ServerDetails], *,
    logs: Sequence[str] = (), state_dir: str | None = None,
) -> list[str]:  # fmt: skip
    """Write the archive and return the names in it.

    Raises OSError: it, or a log that was named, cannot be opened.
    """
    parts = {
        "diagnosis.txt": "\n".join(lines),
        "versions.txt": _versions(),
        "environment.txt": _environment(),
        "servers.json": _servers(details),
        "status.json": _status(survey),
        **dict(_files_of(survey, details)),
    }
    for number, log in enumerate(logs):
        with open(log, "rb"):  # a log that was asked for and cannot be read is an error
            parts[f"log-{number}-{os.path.basename(log)}"] = _tail(log)
    if state_dir is not None:
        parts["state-folder.txt"] = _listing(state_dir)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, text in parts.items():
            data = without_secrets(text).encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"flexcore-support/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return list(parts)


def without_secrets(text: str) -> str:
    """Return *text* with what may be a secret struck out.

    >>> without_secrets('FEATURE f1 demo 1.0 permanent 1 SIGN="FC01 0731" SN=1')
    'FEATURE f1 demo 1.0 permanent 1 SIGN=(removed) SN=1'
    """
    text = _KEY.sub(STRUCK, text)
    text = _OLD_KEY.sub(rf"\1{STRUCK}", _SIGN.sub(rf"\1={STRUCK}", text))
    return _LONG_HEX.sub(STRUCK, _HEX_GROUPS.sub(STRUCK, text))


def _servers(details: Mapping[int, ServerDetails]) -> str:
    told = {
        rank: said._asdict() | {"links": [link._asdict() for link in said.links]}
        for rank, said in details.items()
    }
    return json.dumps(told, indent=1)


def _versions() -> str:
    import platform

    return "\n".join([
        f"flexcore {__version__}", f"{platform.python_implementation()} {sys.version}",
        platform.platform(), f"written {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}",
    ])  # fmt: skip


def _environment() -> str:
    return "\n".join(f"{name}={os.environ[name]}" for name in sorted(os.environ) if _VARIABLES.fullmatch(name))


def _status(survey: Survey) -> str:
    from flexcore.report.status_json import status_json

    from .lmdiag import status_of

    try:
        status = status_of(survey)
        return "".join(status_json(status, survey.seats, survey.queue, software=f"flexcore {__version__}"))
    except FlexcoreError as error:
        return f"the status could not be had: {error}"


def _files_of(survey: Survey, details: Mapping[int, ServerDetails]) -> Iterator[tuple[str, str]]:
    """Yield names and texts of the licence and options files of the servers of this machine.

    Where they are is those servers' word, and anybody may have started one: what is no such file stays out,
    or he who writes an archive as root would send the system's own secrets.
    """
    for rank, link in sorted(survey.links.items()):
        if link.is_local:
            yield f"license-{rank}.txt", _if_of(link.report.license_path, _LINES)
            if rank in details and details[rank].options_path:
                yield f"options-{rank}.txt", _if_of(details[rank].options_path, frozenset(KEYWORDS))


def _if_of(path: str, keywords: frozenset[str]) -> str:
    """Return the end of a file one of whose lines begins with one of *keywords*, or why not."""
    text = _tail(path)
    begin = {line.split(None, 1)[0].upper() for line in text.splitlines() if line.strip()}
    if begin & keywords or text.startswith(f"{path} cannot be read: "):
        return text
    return f"{path} is left out: no line is one of such a file"


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - FILE_BYTES_MAX))
            if size > FILE_BYTES_MAX:
                file.readline(FILE_BYTES_MAX)  # half a line could be half a secret, which nothing would know
            return file.read(FILE_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"


def _listing(folder: str) -> str:
    lines = []
    for name in sorted(os.listdir(folder)):
        facts = os.stat(os.path.join(folder, name), follow_symlinks=False)
        lines.append(f"{facts.st_mode:o} {facts.st_uid} {facts.st_size} {facts.st_mtime:.0f} {name}")
    return "\n".join(lines)

