"""Files of report logs in any order: which belong together, and in which order they do.

A server's log is in several files where it was rotated, or sent elsewhere (lmnewlog, lmswitchr). Each
holds lines that follow each other, and begins with a record that names the server and the hash of the
line before; so a look at the first and last line of each file is enough. What log rotation has compressed by
gzip is read as it is.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from typing import NamedTuple

from flexcore.report.reportlog import Record, read_report
from flexcore_host import packed


class _File(NamedTuple):
    name: str
    server: tuple[str, ...]
    first: int
    prev: str
    last: int
    hash: str


def arranged(given: Iterable[str]) -> list[list[str]]:
    """Return the files of *given* as logs: a list of files each, oldest first.

    What has commas in it is one log by its giver's word. Raises OSError where a file cannot be read, and
    FlexcoreError where it is compressed otherwise.
    """
    logs: list[list[str]] = []
    files: list[_File] = []
    for text in given:
        parts = text.split(",")
        names = [name for part in parts for name in (sorted(glob.glob(part)) or [part])]
        if len(parts) > 1:
            logs.append(names)
            continue
        for name in names:
            file = _look(name)
            if file is None:
                logs.append([name])
            else:
                files.append(file)
    chains: list[list[_File]] = []
    for file in sorted(files, key=lambda each: each.first):
        chain = _chain_of(file, chains)
        if chain is None:
            chains.append([file])
        else:
            chain.append(file)
    return [[file.name for file in chain] for chain in chains] + logs


def first_line(name: str) -> int:
    """Return the number of a file's first line in its server's log; 0 if there is none."""
    file = _look(name)
    return 0 if file is None else file.first


def _chain_of(file: _File, chains: list[list[_File]]) -> list[_File] | None:
    """The log that *file* goes on with: where it names the last line, else, where a file between them is
    missing or was changed, the one that comes nearest."""
    if file.first == 1:
        return None
    before = [chain for chain in chains
              if chain[-1].server == file.server and chain[-1].last < file.first]  # fmt: skip
    for chain in before:
        if chain[-1].hash == file.prev:
            return chain
    return max(before, key=lambda chain: chain[-1].last, default=None)


def _look(name: str) -> _File | None:
    """Return what the ends of a file say; None if it begins with no start, as no server writes it."""
    begin, end = packed.ends(name)
    first, tail = _record(name, begin), end.splitlines()
    if first is None or first["kind"] != "start":
        return None
    last = next((record for line in reversed(tail) if (record := _record(name, line)) is not None), first)
    server = tuple(str(first.get(word, "")) for word in ("server", "host", "vendor"))
    return _File(name, server, first["n"], str(first.get("prev", "")), last["n"], last["hash"])


def _record(name: str, line: bytes) -> Record | None:
    records = read_report([(name, [line.decode("utf-8", "replace")])]).records
    return records[0] if records else None
