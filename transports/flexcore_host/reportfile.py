"""The report log on disk: gone on with after a restart, and never the reason for a server to stop.

``+PATH`` goes on where PATH ends; a bare PATH begins a new file, and what stood there is kept as PATH.1,
PATH.2 ... since it may be what somebody is to be billed by. A new file goes on with the chain of the old one,
however it came to be: by a start, by lmswitchr or lmnewlog, or by a log rotation that moved the old one away.
So each file holds lines that follow each other, and their numbers say in which order files belong.

One process writes a report log at a time. Lines that the disk does not take wait; beyond
``WAITING_BYTES_MAX`` they are lost, which ``flexcore reportlog verify`` finds, and the other servers' logs
have them.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterable

from flexcore.errors import FlexcoreError
from flexcore.report.reportlog import LINE_CHARS_MAX, Position, Record, position_of, read_report
from flexcore.server import How

from . import logplaces, packed

__all__ = ["ReportFile"]

WAITING_BYTES_MAX = 64 * 1024 * 1024
KEPT_MAX = 10_000
"""So many older logs are kept beside the one that is written."""
_MODE = 0o640
_HOPS_MAX = 100
_BEGIN = b'{"n":1,'
_ROTATED = re.compile(r"[.-]\d[\d.-]*(\.gz)?")


class ReportFile:
    """A report log that this process writes. ``position`` says where it ends.

    Raises OSError when the file cannot be opened, FlexcoreError when another process writes it, or it is
    something else: a mistyped path must not cost anybody's file its last line, or its name.
    """

    def __init__(self, target: str) -> None:
        append = target.startswith("+")
        self.path = target[1:] if append else target
        self._home = self.path
        self._waiting = b""
        self._failed = False
        self.lost_bytes = 0
        _check_may_be_ours(self.path)
        self._finish_keeping(self.path)
        place, end = _end_of(self.path)
        if place != self.path and self._finish_keeping(place):
            place, end = _end_of(self.path)
        if place != self.path:  # lmswitchr had sent it elsewhere, and it ends there
            self._claim(place)
        if not append or place != self.path:
            self._claim(self.path, put_aside=True)
        self._descriptor = self._open(self.path)
        try:
            self._lock(self._descriptor)
            _cut_off(self._descriptor)
            self.position = end if end is not None else self._end_of_predecessor()
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, lines: Iterable[str]) -> None:
        """Write whole lines; what the disk does not take is tried again with the next ones."""
        self._waiting += "".join(f"{line}\n" for line in lines).encode("ascii", "replace")
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._descriptor, self._waiting) :]
            self._failed = False
        except OSError as error:
            self._complain(error)
            if len(self._waiting) > WAITING_BYTES_MAX:
                self.lost_bytes += len(self._waiting)
                self._waiting = b"\n"  # what the disk took last may be half a line

    def close(self) -> None:
        """Write what waits if the disk takes it, and close the file."""
        self.write(())
        os.close(self._descriptor)

    def switch(self, how: How, path: str, first: str) -> str:
        """Let the log go on as *how* says, in a file that *first* begins. Returns what to tell the
        administrator.

        Raises FlexcoreError or OSError where that cannot be done; the log goes on where it was then,
        *first* behind the others.
        """
        try:
            self.write(())
            if self._waiting:
                raise FlexcoreError(f"the report log {self.path} waits for room on its disk")
            return self._switch(how, path, f"{first}\n".encode("ascii", "replace"))
        except (FlexcoreError, OSError):
            self.write([first])
            raise

    def _switch(self, how: How, path: str, first: bytes) -> str:
        if how in (How.REOPEN, How.HOME):
            path = self._home if how is How.HOME else self.path
            if path != self.path:
                self._claim(path, put_aside=True)
            descriptor = self._open(path)
            if os.path.sameopenfile(descriptor, self._descriptor):
                os.close(descriptor)
                _write_all(self._descriptor, first)
            else:
                self._use(descriptor, first)
            self.path = path
            return f"the report log goes on in {self.path}"
        place = logplaces.new_place(path, self.path)
        if how is How.KEEP:
            descriptor = logplaces.keep_as(place, self.path, lambda into: _write_all(into, first), _MODE)
            self._use(descriptor, b"")
            return f"the report log goes on in {self.path}; what was written so far is in {place}"
        self._use(logplaces.create(place, _MODE), first)
        self.path = place
        return f"the report log goes on in {place}"

    def _use(self, descriptor: int, first: bytes) -> None:
        try:
            self._lock(descriptor)
            _write_all(descriptor, first)
        except BaseException:
            os.close(descriptor)
            raise
        old, self._descriptor = self._descriptor, descriptor
        os.close(old)

    def _open(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, _MODE)

    def _claim(self, path: str, *, put_aside: bool = False) -> None:
        """See that no other process writes *path*, and cut off what a crash left of a line there; keep what
        stands in it under another name if *put_aside*."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return
        try:
            self._lock(descriptor)
            _cut_off(descriptor)
            if put_aside and os.fstat(descriptor).st_size:
                free = (f"{path}.{number}" for number in range(1, KEPT_MAX))
                os.rename(path, next(place for place in free if not os.path.exists(place)))
        finally:
            os.close(descriptor)

    def _finish_keeping(self, path: str) -> bool:
        """The server was killed while lmnewlog kept the log *path*, and the new one lies beside it. Where both
        names are one file by then, it takes its place now, or what is written would go into what was kept, too;
        else nothing was kept, and it goes. Returns whether it took its place."""
        if not os.path.isfile(path):
            return False
        fresh = logplaces.fresh_beside(path)
        last = _last_record(path) if fresh else None
        for other in fresh:
            first = _first_record(other)
            if first is None or last is None or first.get("prev") != last["hash"]:
                continue
            self._claim(path)  # raises where the server that keeps it runs
            if os.stat(path).st_nlink > 1:
                os.replace(other, path)
                return True
            os.unlink(other)
        return False

    def _end_of_predecessor(self) -> Position:
        """The file is new. Log rotation may have moved its predecessor away, and the server was killed before
        it was told: the newest file beside it that has its name and a number or date is gone on with."""
        folder, name = os.path.split(os.path.abspath(self.path))
        found: list[tuple[float, str]] = []
        for other in os.listdir(folder):
            if other.startswith(name) and _ROTATED.fullmatch(other, len(name)):
                place = os.path.join(folder, other)
                with contextlib.suppress(OSError):
                    if os.path.isfile(place):  # a pipe would be waited for
                        found.append((os.stat(place).st_mtime, place))
        for _, place in sorted(found, reverse=True)[:_HOPS_MAX]:
            with contextlib.suppress(OSError):
                end = _end_of_packed(place) if packed.is_gzip(place) else _end_of(place)[1]
                if end is not None:
                    return end
        return Position()

    def _lock(self, descriptor: int) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: two servers of one machine need two paths
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FlexcoreError(f"the report log {self.path} is written by another server") from error

    def _complain(self, error: OSError) -> None:
        if self._failed:
            return
        self._failed = True
        _warn(f"the report log {self.path} cannot be written: {error.strerror}; the server goes on, and tries again")


def _warn(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"flexcore: {text}\n")
        sys.stderr.flush()


def _check_may_be_ours(path: str) -> None:
    """Raise FlexcoreError where *path* holds what no server has written: no record at either end, nor the
    beginning of the very first."""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            begin = file.read(len(_BEGIN))
        if not _BEGIN.startswith(begin) and _first_record(path) is None and _last_record(path) is None:
            raise FlexcoreError(f"{path} is something else than a report log: it is left alone; name another file")
    elif os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
        raise FlexcoreError(f"{path} is a pipe, and a report log is read at the next start: name a file")


def _cut_off(descriptor: int) -> None:
    """Cut off what a crash left of a line that was being written."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - LINE_CHARS_MAX)
    tail = os.pread(descriptor, size - start, start)
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail):
        os.ftruncate(descriptor, start + whole)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _end_of(path: str) -> tuple[str, Position | None]:
    """Return in which file the log ends that *path* is of, that one or where lmswitchr sent it from there, and
    how; None: there is no record.

    An order is written down before it is carried out. So a last line that names a file where the log does not go
    on is that of a server that was killed in between: the log ends there.
    """
    place, end = path, None
    record = _last_record(path) if os.path.isfile(path) else None
    for _ in range(_HOPS_MAX):
        if record is None or (end is not None and record["n"] <= end.n):
            break
        place, end = path, position_of(record)
        beyond = record.get("next") if record["kind"] == "stop" else None
        if not beyond or not isinstance(beyond, str):
            break
        try:
            path = logplaces.place_beside(beyond, path)
            _check_goes_on(place, end, path)
        except (FlexcoreError, ValueError) as error:  # ValueError: what is no path at all
            _warn(f"the report log {place} goes on where it is, not in {beyond!r}: {error}")
            break
        record = _last_record(path) if os.path.isfile(path) else None
    return place, end


def _end_of_packed(path: str) -> Position | None:
    """Return how a log ends that log rotation has compressed; None: there is no record."""
    for line in reversed(packed.ends(path)[1].decode("utf-8", "replace").splitlines()):
        reading = read_report([(path, [line])])
        if reading.records:
            return position_of(reading.records[-1])
    return None


def _check_goes_on(log: str, end: Position, path: str) -> None:
    """Raise FlexcoreError if *path* is a file, and none that goes on with *log*, which ends at *end*.

    It may have been cut in pieces since, by lmnewlog or log rotation, and the first of them be anywhere: its
    first line is the next one of the log, or a later one of the same server.
    """
    if not os.path.lexists(path):
        return
    if os.path.islink(path) or not os.path.isfile(path):
        raise FlexcoreError("that is no plain file")
    ours, theirs = _first_record(log), _first_record(path)
    if theirs is None or theirs["kind"] != "start":
        raise FlexcoreError("that is no report log")
    if theirs["n"] == end.n + 1:
        follows = theirs.get("prev") == end.hash
    else:
        same = ours is not None and all(ours.get(key) == theirs.get(key) for key in ("vendor", "server"))
        follows = same and theirs["n"] > end.n
    if not follows:
        raise FlexcoreError(f"that report log does not go on with line {end.n} of this one")


def _first_record(path: str) -> Record | None:
    with open(path, "rb") as file:
        line = file.readline(LINE_CHARS_MAX).decode("utf-8", "replace")
    records = read_report([(path, [line.rstrip("\n")])]).records
    return records[0] if records else None


def _last_record(path: str) -> Record | None:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LINE_CHARS_MAX))
        tail = file.read()
    for line in reversed(tail[: tail.rfind(b"\n") + 1].decode("utf-8", "replace").splitlines()):
        reading = read_report([(path, [line])])
        if reading.records:
            return reading.records[-1]
    return None
