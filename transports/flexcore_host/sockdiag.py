"""What Linux says of one TCP socket of this machine when it is asked for it alone (sock_diag(7)).

``/proc/net/tcp`` says the same of all sockets together, which takes as long as there are many: somebody who
opens and leaves connections by the thousand makes every look at it cost the server tens of milliseconds.
"""

from __future__ import annotations

import errno
import functools
import socket
import struct
from typing import NamedTuple

__all__ = ["Entry", "is_there", "look_up"]

PATIENCE_S = 0.1
"""The kernel answers before ``send`` returns."""
_SOCK_DIAG_BY_FAMILY, _ERROR = 20, 2
_NETLINK_SOCK_DIAG = 4
_REQUEST = 1
_HEADER = struct.Struct("=IHHII")  # length, kind, flags, sequence, port
_ANSWER = struct.Struct("=BBBB48sIIIII")  # family, state, timer, retransmits, id, expires, queues, uid, inode
_ANSWER_BYTES_MAX = 1 << 13
_ANY = 0xFFFFFFFF


class Entry(NamedTuple):
    """A socket: its state as in /proc/net/tcp, and whose it is."""

    state: int
    uid: int
    inode: int


def look_up(family: int, own: tuple[str, int], remote: tuple[str, int]) -> Entry | None:
    """Return the socket whose ends are *own* and *remote*, None where there is none.

    Raises OSError where the system does not answer such questions.
    """
    ends = struct.pack("!HH", own[1], remote[1]) + _packed(family, own[0]) + _packed(family, remote[0])
    asked = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _ANY) + ends + struct.pack("=III", 0, _ANY, _ANY)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(PATIENCE_S)
        link.send(_HEADER.pack(_HEADER.size + len(asked), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0) + asked)
        data = link.recv(_ANSWER_BYTES_MAX)
    kind = _HEADER.unpack_from(data)[1]
    if kind == _ERROR:
        (code,) = struct.unpack_from("=i", data, _HEADER.size)
        if -code == errno.ENOENT:
            return None
        raise OSError(-code, "the system does not say whose a socket is")
    _, state, _, _, _, _, _, _, uid, inode = _ANSWER.unpack_from(data, _HEADER.size)
    return Entry(state, uid, inode)


@functools.cache
def is_there() -> bool:
    """Whether the system answers: of a socket that is gone and of a kernel without this it says the same."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as client,
        ):
            own: tuple[str, int] = client.getsockname()
            entry = look_up(socket.AF_INET, own, listener.getsockname())
    except (OSError, AttributeError, struct.error):
        return False
    return entry is not None and entry.inode != 0


def _packed(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address).ljust(16, b"\0")
