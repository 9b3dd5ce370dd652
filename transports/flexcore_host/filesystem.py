"""Which file systems are no place for a state folder, and who holds a port: what Linux tells in /proc.

On other systems the answers are "not known" (None, empty), never wrong.
"""

from __future__ import annotations

import os
import re
import socket
from typing import NamedTuple

__all__ = ["NetworkMount", "network_mount", "port_holder"]

# SQLite's locking and WAL are not safe on these, and a server must not depend on a fourth machine.
_NETWORK_TYPES = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.curlftpfs",
        "fuse.davfs2", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs",
        "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs",
        "vboxsf", "virtiofs",
    }
)  # fmt: skip
_ESCAPE = re.compile(r"\\([0-7]{3})")
_LISTENING = "0A"


class NetworkMount(NamedTuple):
    """A mount over the network: its kind, where it comes from and where it stands."""

    kind: str
    source: str
    mount_point: str


def network_mount(path: str, mountinfo: str | None = None) -> NetworkMount | None:
    """Return the network mount that holds ``path`` (which need not exist), None for a local disk.

    ``mountinfo`` is the text of ``/proc/self/mountinfo``; read from there when not given.
    """
    text = _read("/proc/self/mountinfo") if mountinfo is None else mountinfo
    wanted = os.path.realpath(path)
    best: NetworkMount | None = None
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if not dash or len(before) < 5 or len(after) < 2:
            continue
        mount = NetworkMount(after[0], _unescape(after[1]), _unescape(before[4]))
        # A later line at the same place is mounted over the earlier one.
        if _holds(mount.mount_point, wanted) and (
            best is None or len(mount.mount_point) >= len(best.mount_point)
        ):
            best = mount
    return best if best is not None and best.kind in _NETWORK_TYPES else None


def port_holder(port: int, address: str = "") -> str:
    """Return ``pid N (name)`` of a process that listens on TCP ``port``, '' where that is not known.

    With an IPv4 ``address`` only those count that listen on it or on all addresses.
    """
    inodes = _listening_inodes(port, address)
    if not inodes:
        return ""
    try:
        processes = sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int)
    except OSError:
        return ""
    for process in processes:
        folder = f"/proc/{process}/fd"
        try:
            for descriptor in os.listdir(folder):
                if os.readlink(f"{folder}/{descriptor}") in inodes:
                    return f"pid {process} ({_read(f'/proc/{process}/comm').strip() or '?'})"
        except OSError:
            continue  # gone meanwhile, or another user's
    return ""


def _listening_inodes(port: int, address: str) -> set[str]:
    found = set()
    try:
        wanted = socket.inet_aton(address)[::-1].hex().upper() if address else ""
    except OSError:
        wanted = ""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(table).splitlines()[1:]:
            columns = line.split()
            if len(columns) < 10 or columns[3] != _LISTENING:
                continue
            where, _, number = columns[1].rpartition(":")
            if int(number, 16) != port:
                continue
            if not wanted or where == wanted or not where.strip("0") or len(where) > len(wanted):
                found.add(f"socket:[{columns[9]}]")
    return found


def _holds(mount_point: str, path: str) -> bool:
    return path == mount_point or path.startswith(mount_point.rstrip("/") + "/")


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
