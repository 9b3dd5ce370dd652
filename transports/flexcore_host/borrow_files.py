"""The borrow folder: one file for each licence that was taken home, and the wish to borrow (LM_BORROW's file form).

It is ``$FLEXCORE_BORROW_DIR``, else ``~/.flexcore/borrow``; ours alone (0700, files 0600), since whoever can read a
file can give its licence back. A file appears and changes as a whole (written beside, flushed, renamed), whatever dies
when. Three locks: the folder's, while a file is written anew from what it held; one for each borrowing, held as long as
a process uses it, and given up by the system when that process dies; both are of files that hold nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from flexcore.borrowing import (
    RECORD_BYTES_MAX,
    BorrowRecord,
    BorrowWish,
    dump_record,
    format_wish,
    load_record,
    parse_wish,
)
from flexcore.codes import ErrorCode
from flexcore.errors import BorrowError

from .hostids import shown_hostids

__all__ = ["BorrowFolder", "Found", "Use", "default_borrow_dir", "machine_marks"]

SUFFIX = ".borrow"
WISH = "LM_BORROW"
FILES_MAX = 1000
"""More files of one user are not read."""

_LOCK = ".lock"


class Found(NamedTuple):
    """A file of the folder: a record, or why it holds none."""

    path: str
    record: BorrowRecord | None
    error: BorrowError | None


class Use:
    """A lock; :meth:`close` gives it up, as does the end of the process. *record* is what the file held once it was
    locked: what was read before may have been given back meanwhile."""

    def __init__(self, descriptor: int, record: BorrowRecord) -> None:
        self._descriptor = descriptor
        self.record = record

    def close(self) -> None:
        """Give it up. Once more is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            _unlock(descriptor)
            os.close(descriptor)

    def forget(self) -> None:
        """In a forked child: the parent has it still."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def default_borrow_dir(environ: Mapping[str, str] | None = None) -> str:
    """Return where this user's borrow files are."""
    given = (os.environ if environ is None else environ).get("FLEXCORE_BORROW_DIR", "")
    return os.path.abspath(given) if given else os.path.join(os.path.expanduser("~"), ".flexcore", "borrow")


def machine_marks() -> tuple[str, ...]:
    """Return the hostids that a borrowing is bound to: what a licence server is shown, and the host name."""
    return (f"HOSTNAME={socket.gethostname().casefold()}", *shown_hostids())


class BorrowFolder:
    """The borrow files of one user. Nothing is made before something is written."""

    def __init__(self, path: str) -> None:
        self.path = path

    # --- files ------------------------------------------------------------------------------------

    def files(self) -> list[Found]:
        """Read every borrow file; one that cannot be read is told with its reason, and hides no other."""
        try:
            names = sorted(name for name in os.listdir(self.path) if name.endswith(SUFFIX))[:FILES_MAX]
        except OSError:
            return []
        return [found for name in names if (found := self._read(os.path.join(self.path, name))) is not None]

    def write(self, record: BorrowRecord) -> None:
        """Write a record, durably, in place of what there was of the same borrowing.

        Raises:
            BorrowError: -117: it cannot be written, or others could read the folder.
        """
        try:
            self._make()
            self._put(self._path_of(record.borrow), dump_record(record))
        except OSError as error:
            raise BorrowError(
                f"the borrow file of {record.feature} cannot be written in {self.path}: {error.strerror or error};"
                " set FLEXCORE_BORROW_DIR to a folder of yours",
                ErrorCode.BORROW_FAILED,
            ) from error

    def change(self, borrow: bytes, change: Callable[[BorrowRecord], BorrowRecord]) -> None:
        """Write a record anew from what it is now; one that is gone stays gone.

        Raises: as :meth:`write`.
        """
        with self._locked():
            found = self._read(self._path_of(borrow))
            if found is not None and found.record is not None:
                self.write(change(found.record))

    def note_seen(self, borrow: bytes, seen: float) -> None:
        """Write down when it was used last."""
        self.change(borrow, lambda record: record.used_at(seen))

    def delete(self, borrow: bytes) -> None:
        """Remove a record.

        Raises:
            BorrowError: -122: it cannot be removed.
        """
        path = self._path_of(borrow)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BorrowError(
                f"{path} cannot be removed: {error.strerror or error}; it grants nothing any more: remove it by hand",
                ErrorCode.BORROW_NOT_DELETED,
            ) from error
        with contextlib.suppress(OSError):
            os.unlink(path + _LOCK)

    def use(self, borrow: bytes, *, shared: bool = False) -> Use | None:
        """Lock a borrowing as long as it is in use; None if another process uses it (*shared*: if not so itself).

        Raises:
            BorrowError: -41: its file is gone (it was returned meanwhile); -8, -30: it cannot be read any more;
                -117: nothing can be locked here, so nobody knows who uses it.
        """
        path = self._path_of(borrow) + _LOCK
        with self._telling_locks():
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                is_ours = _lock(descriptor, shared=shared, waits=False)
            except BaseException:
                os.close(descriptor)
                raise
        if is_ours:
            # Whoever held it until now may have given it back: then this is the lock of a file that is no more.
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return self._locked_use(descriptor, borrow)
        os.close(descriptor)
        return None

    def _locked_use(self, descriptor: int, borrow: bytes) -> Use:
        path = self._path_of(borrow)
        found = self._read(path)
        if found is not None and found.record is not None:
            return Use(descriptor, found.record)
        if found is None:
            with contextlib.suppress(OSError):
                os.unlink(path + _LOCK)  # just made, for nothing
        os.close(descriptor)
        gone = BorrowError(f"{path} is gone: its licence was returned meanwhile", ErrorCode.NEVER_CHECKED_OUT)
        raise gone if found is None or found.error is None else found.error

    # --- the wish ---------------------------------------------------------------------------------

    def wish(self, vendor: str, wall: float, environ: Mapping[str, str] | None = None) -> float | None:
        """Return until when (epoch seconds) checkouts of *vendor*'s licences are to be borrowed now, None if they are
        not, or not any more.

        Raises:
            BorrowError: LM_BORROW cannot be read.
        """
        found = self.read_wish(wall, environ)
        today = time.localtime(wall)[:3]
        if found is None or (found.day.year, found.day.month, found.day.day) != today:
            return None
        until = epoch_of(found)
        return until if found.is_for(vendor, found.day) and until > wall else None

    def read_wish(self, wall: float, environ: Mapping[str, str] | None = None) -> BorrowWish | None:
        """Return what LM_BORROW says, of the environment or else of the folder; also that of another day.

        Raises:
            BorrowError: it cannot be read.
        """
        import datetime

        text = (os.environ if environ is None else environ).get("LM_BORROW", "")
        text = text or self._text(os.path.join(self.path, WISH))
        return parse_wish(text, datetime.date(*time.localtime(wall)[:3])) if text.strip() else None

    def write_wish(self, wish: BorrowWish) -> None:
        """Write LM_BORROW's file form.

        Raises:
            BorrowError: -117: it cannot be written.
        """
        try:
            self._make()
            self._put(os.path.join(self.path, WISH), format_wish(wish) + "\n")
        except OSError as error:
            raise BorrowError(f"{self.path}: {error.strerror or error}", ErrorCode.BORROW_FAILED) from error

    def clear_wish(self) -> bool:
        """Remove it; returns whether there was one.

        Raises:
            BorrowError: -122: it cannot be removed.
        """
        path = os.path.join(self.path, WISH)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise BorrowError(f"{path}: {error.strerror or error}", ErrorCode.BORROW_NOT_DELETED) from error
        return True

    # --- inside -----------------------------------------------------------------------------------

    def _path_of(self, borrow: bytes) -> str:
        return os.path.join(self.path, borrow.hex() + SUFFIX)

    def _read(self, path: str) -> Found | None:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(RECORD_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            return Found(path, None, BorrowError(f"{path}: {error.strerror or error}", ErrorCode.CANNOT_READ_FILE))
        try:
            record = load_record(text, path)
        except BorrowError as error:
            return Found(path, None, error)
        if path != self._path_of(record.borrow):
            what = f"{path} is a copy of another borrow file, and grants nothing"
            return Found(path, None, BorrowError(what, ErrorCode.BAD_SIGNATURE))
        return Found(path, record, None)

    def _text(self, path: str) -> str:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read(1024)
        except OSError:
            return ""

    def _make(self) -> None:
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        if hasattr(os, "geteuid"):
            status = os.stat(self.path)
            if status.st_uid != os.geteuid():
                raise PermissionError(f"the folder belongs to uid {status.st_uid}")
            if stat.S_IMODE(status.st_mode) & 0o077:
                os.chmod(self.path, 0o700)

    def _put(self, path: str, text: str) -> None:
        beside = f"{path}.{os.getpid()}.new"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        if sys.platform != "win32":
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The folder's lock: held for the length of a write, so waiting is short."""
        with self._telling_locks():
            descriptor = os.open(os.path.join(self.path, _LOCK), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with self._telling_locks():
                _lock(descriptor, shared=False, waits=True)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _telling_locks(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BorrowError(
                f"nothing can be locked in {self.path}: {error.strerror or error};"
                " set FLEXCORE_BORROW_DIR to a folder on a disk of this machine",
                ErrorCode.BORROW_FAILED,
            ) from error


def epoch_of(wish: BorrowWish) -> float:
    """Return the end of a wish as epoch seconds, by this machine's zone."""
    return time.mktime(wish.end.timetuple())


_BUSY = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})
"""Somebody else has the lock; any other error (ENOLCK, ENOSYS, EOPNOTSUPP) says that there are none here."""

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, shared: bool, waits: bool) -> bool:
        """Windows has no shared locks for this: one process at a time."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if waits else msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno not in _BUSY:
                raise
            return False
        return True

    def _unlock(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool, waits: bool) -> bool:
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB)
        try:
            fcntl.flock(descriptor, how)
        except OSError as error:
            if error.errno not in _BUSY:
                raise
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
