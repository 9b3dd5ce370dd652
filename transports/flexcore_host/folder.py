"""The state folder: where it is, whose it is, and that one process at a time has it.

A state folder is local, belongs to one SERVER line, and is never restored from a backup
(protocol.md section 1). ``$STATE_DIRECTORY`` (systemd) is used where it is set, else the XDG state
folder, as root ``/var/lib/flexcore``; in it one folder for each vendor, rank and membership, by
eight digits of the membership digest at forming: the folder keeps its name when one hostid of the
three changes later (rule 19).
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Sequence
from typing import Any

from flexcore.errors import StateError, StateLocked

__all__ = [
    "STATE_FILE",
    "StateFolder",
    "default_folder",
    "examine_folder",
    "open_state_folder",
    "owner_of",
]

STATE_FILE = "state.sqlite"
LOCK_FILE = "lmgrd.lock"
_OWN_FILES = (LOCK_FILE, STATE_FILE)
_LOCK_LIMIT = 65536
_LOCK_BYTE = 1 << 30  # Windows locks bytes, and locked ones cannot be read: lock one far outside
_DIGEST_DIGITS = 8


class StateFolder:
    """An open and locked state folder; :meth:`close` gives it back, as does the end of the process."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @property
    def state_file(self) -> str:
        """The path of the one file that holds the state."""
        return os.path.join(self.path, STATE_FILE)

    def close(self) -> None:
        """Unlock. Twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def default_folder(
    *, vendor: str, rank: str, digest: bytes, hostids: Sequence[str],
    environment: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """Return the state folder of one SERVER line. Nothing is made.

    Where the folder of this membership does not exist, and there is exactly one folder of the same
    vendor and rank whose hostids differ in one place of three, it is that one: one server of the
    triad was replaced. ``rank`` is the word ('primary' ...).
    """
    base = _base(os.environ if environment is None else environment)
    prefix = f"{vendor}-{rank}-"
    path = os.path.join(base, prefix + digest.hex()[:_DIGEST_DIGITS])
    if os.path.exists(path) or len(hostids) != 3:
        return path
    try:
        names = sorted(name for name in os.listdir(base) if name.startswith(prefix))
    except OSError:
        return path
    related = []
    for name in names:
        known = _read_lock_file(os.path.join(base, name)).get("hostids")
        if isinstance(known, list) and _common(known, hostids) == 2:
            related.append(name)
    return os.path.join(base, related[0]) if len(related) == 1 else path


def open_state_folder(
    path: str, *, vendor: str = "", rank: str = "", hostids: Sequence[str] = ()
) -> StateFolder:
    """Make (mode 0700), check and lock the state folder ``path``.

    Raises StateLocked when another process has it, StateError when it is somebody else's, is no
    state folder, is another SERVER line's, or cannot be made or locked.
    """
    path = os.path.abspath(path)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        _check_folder(path, tighten=True)
        descriptor = os.open(os.path.join(path, LOCK_FILE), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StateError(_cannot(path, error)) from error
    try:
        if not _lock(descriptor):
            raise StateLocked(_locked_text(path))
        _check_owner_line(path, vendor, rank)
        _write_lock_file(descriptor, vendor, rank, hostids)
    except OSError as error:
        os.close(descriptor)
        raise StateError(_cannot(path, error)) from error
    except BaseException:
        os.close(descriptor)
        raise
    return StateFolder(path, descriptor)


def owner_of(path: str) -> str:
    """Return the vendor that the state folder *path* was made for, '' if it is none, or nobody's."""
    vendor = _read_lock_file(path).get("vendor")
    return vendor if isinstance(vendor, str) else ""


def examine_folder(path: str, *, vendor: str = "", rank: str = "") -> bool:
    """Say whether ``path`` holds state; makes, changes and keeps nothing.

    Raises what :func:`open_state_folder` would, as far as that shows without making anything.
    """
    path = os.path.abspath(path)
    if not os.path.lexists(path):
        parent = os.path.dirname(path)
        while not os.path.exists(parent):
            parent = os.path.dirname(parent)
        if not os.access(parent, os.W_OK | os.X_OK):
            raise StateError(
                f"the state folder {path} cannot be made: {parent} is not ours to write;"
                " name another with --state-dir"
            )
        return False
    try:
        _check_folder(path, tighten=False)
        _check_owner_line(path, vendor, rank)
        lock_file = os.path.join(path, LOCK_FILE)
        if os.path.exists(lock_file):
            descriptor = os.open(lock_file, os.O_RDWR)
            try:
                if not _lock(descriptor):
                    raise StateLocked(_locked_text(path))
            finally:
                os.close(descriptor)
    except OSError as error:
        raise StateError(_cannot(path, error)) from error
    return os.path.exists(os.path.join(path, STATE_FILE))


def _base(environment: Any) -> str:
    # systemd gives a list where the unit names several folders: the first is ours.
    given = str(environment.get("STATE_DIRECTORY", "")).split(":" if os.name != "nt" else ";")[0]
    if given:
        return given
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return "/var/lib/flexcore"
    if sys.platform == "win32":
        root = environment.get("LOCALAPPDATA") or os.path.expanduser("~")
    else:
        root = environment.get("XDG_STATE_HOME", "")
        if not os.path.isabs(root):  # the XDG rules say: ignore a relative one
            root = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(root, "flexcore")


def _check_folder(path: str, *, tighten: bool) -> None:
    """It is a folder of ours alone; a loose mode is tightened where no foreign file is in it."""
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise StateError(f"{path} is not a folder; name another with --state-dir")
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid != os.geteuid():
        raise StateError(
            f"the state folder {path} belongs to uid {status.st_uid}, this process is uid"
            f" {os.geteuid()}: start the server as its owner, or name another with --state-dir"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        foreign = sorted(name for name in os.listdir(path) if not name.startswith(_OWN_FILES))
        if foreign:
            raise StateError(
                f"the state folder {path} can be read by others and holds {foreign[0]}, which is"
                " not flexcore's: name an empty folder with --state-dir"
            )
        if tighten:
            os.chmod(path, 0o700)


def _check_owner_line(path: str, vendor: str, rank: str) -> None:
    """A folder belongs to one SERVER line: P's promises must not become S's."""
    known = _read_lock_file(path)
    for word, mine in (("vendor", vendor), ("rank", rank)):
        theirs = known.get(word)
        if mine and isinstance(theirs, str) and theirs and theirs != mine:
            raise StateError(
                f"the state folder {path} was made for {word} {theirs}, this server is {mine}:"
                " each SERVER line needs a folder of its own (--state-dir)"
            )


def _locked_text(path: str) -> str:
    pid = _read_lock_file(path).get("pid")
    who = f" (pid {pid})" if isinstance(pid, int) else ""
    return (
        f"the state folder {path} is in use by another process{who}: one SERVER line is one process;"
        " stop that one, or name another folder with --state-dir"
    )


def _cannot(path: str, error: OSError) -> str:
    return (
        f"the state folder {path} cannot be used: {error.strerror or error}:"
        " name another with --state-dir"
    )


def _common(one: Sequence[object], other: Sequence[str]) -> int:
    return sum(1 for a, b in zip(one, other, strict=False) if isinstance(a, str) and a == b)


def _read_lock_file(path: str) -> dict[str, Any]:
    try:
        with open(os.path.join(path, LOCK_FILE), encoding="utf-8") as file:
            value = json.loads(file.read(_LOCK_LIMIT))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_lock_file(descriptor: int, vendor: str, rank: str, hostids: Sequence[str]) -> None:
    text = json.dumps(
        {
            "pid": os.getpid(),
            "vendor": vendor,
            "rank": rank,
            "hostids": list(hostids),
            "note": "never restore this folder from a backup: delete it instead",
        },
        indent=1,
    )
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.truncate(descriptor, 0)
    os.write(descriptor, text.encode() + b"\n")


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCK_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
