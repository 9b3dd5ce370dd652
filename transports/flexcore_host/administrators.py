"""Who is at the other end of a connection from this machine, and whether he is an administrator.

``lmgrd -2 -p`` takes orders only of root and of the members of the group ``lmadmin``, and here of the
user whom the server runs as, who can stop it anyhow. Who is asking is not the asker's word: Linux says to
which user each socket of this machine belongs, whether its owner wants it or not, when it is asked for that one
(:mod:`.sockdiag`) or, where the kernel lacks that, in ``/proc/net/tcp``. Other systems do not, and there
``-2 -p`` is refused at start.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import sockdiag

__all__ = ["GROUP", "are_known", "is_administrator", "may_administrate", "user_at"]

GROUP = "lmadmin"
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_OPEN = ("01", "08")
"""ESTABLISHED, and CLOSE_WAIT: this end has said that it is done, the other has not closed yet."""


def are_known() -> bool:
    """Whether this system says whose a connection is."""
    return all(os.access(table, os.R_OK) for table in _TABLES[:1])


def is_administrator(sock: socket.socket) -> bool:
    """Whether the user at the other end of *sock*, a connection from this machine, may give orders."""
    uid = user_at(sock)
    return uid is not None and may_administrate(uid)


def user_at(sock: socket.socket) -> int | None:
    """Return the number of the user at the other end of *sock*, None where that is not known.

    Of a socket that its owner has closed Linux says that it is root's. One that is closed while a row is
    written may be shown so and seem open; so the same open socket must be there in a second look.
    """
    try:
        there, here = sock.getpeername(), sock.getsockname()
    except OSError:
        return None
    found = _look_up(there[:2], here[:2])
    if found is None or found != _look_up(there[:2], here[:2]):
        return None
    return found.uid


class _Owner(NamedTuple):
    uid: int
    inode: int


def _look_up(there: tuple[str, int], here: tuple[str, int]) -> _Owner | None:
    if sockdiag.is_there():
        try:
            entry = sockdiag.look_up(*_as_linux_keeps(there, here))
        except OSError:
            return None
        if entry is None or f"{entry.state:02X}" not in _OPEN or not entry.inode:
            return None
        return _Owner(entry.uid, entry.inode)
    return _look_up_in_tables(there, here)


def _as_linux_keeps(
    there: tuple[str, int], here: tuple[str, int]
) -> tuple[int, tuple[str, int], tuple[str, int]]:
    """Return the family and both ends: IPv4 that came to an IPv6 socket is IPv4."""
    ends = [ipaddress.ip_address(host.partition("%")[0]) for host, _ in (there, here)]
    plain = [getattr(end, "ipv4_mapped", None) or end for end in ends]
    family = socket.AF_INET if plain[0].version == 4 else socket.AF_INET6
    return family, (str(plain[0]), there[1]), (str(plain[1]), here[1])


def _look_up_in_tables(there: tuple[str, int], here: tuple[str, int]) -> _Owner | None:
    for table in _TABLES:
        try:
            text = Path(table).read_text(encoding="ascii")
        except OSError:
            continue
        owner = _owner(text, there, here)
        if owner is not None:
            return owner
    return None


def _owner(table: str, there: tuple[str, int], here: tuple[str, int]) -> _Owner | None:
    """Return whose the socket at *there* is that is connected to *here*, if it is open."""
    wanted = {
        f"{remote} {own}" for remote, own in zip(_spellings(*there), _spellings(*here), strict=True)
    }
    for line in table.splitlines()[1:]:  # "0: local remote state queues timer retransmits uid timeout inode"
        words = line.split()
        if len(words) > 9 and f"{words[1]} {words[2]}" in wanted:
            owner = _Owner(uid=int(words[7]), inode=int(words[9]))
            return owner if words[3] in _OPEN and owner.inode else None
    return None


def _spellings(address: str, port: int) -> Iterator[str]:
    """Yield an address as these tables write it: an IPv4 address may be that of an IPv6 socket."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else parsed
    if mapped is not None:
        assert isinstance(mapped, ipaddress.IPv4Address)
        yield f"{_digits(mapped.packed)}:{port:04X}"
        yield f"{_digits(bytes(10) + bytes((255, 255)) + mapped.packed)}:{port:04X}"
    else:
        yield f"{_digits(parsed.packed)}:{port:04X}"


def _digits(packed: bytes) -> str:
    """Words of four bytes, each as this machine has a number."""
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def may_administrate(uid: int) -> bool:
    """Whether this user is root, the one whom this process runs as, or a member of ``lmadmin``."""
    if uid in (0, os.geteuid()):
        return True
    import grp
    import pwd

    try:
        group, user = grp.getgrnam(GROUP), pwd.getpwuid(uid)
    except KeyError:
        return False
    return user.pw_gid == group.gr_gid or user.pw_name in group.gr_mem
