"""Plain sockets as the server needs them: listening, tuning, connecting, aborting.

All sockets are non-blocking ones of the standard library, waited for with ``trio.lowlevel``: that
skips a layer on the hot path, and lets one task read from all of them (:mod:`.readers`).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence

import trio

from flexcore.errors import ConfigurationError
from flexcore_host import filesystem, resolver

__all__ = [
    "DialResult",
    "abort",
    "connect_any",
    "connect_one",
    "is_local",
    "open_listeners",
    "tune",
]

BACKLOG = 1024
BIND_RETRY_S = 3.0
"""How long a port in use is tried again: the process before this one may be closing."""
BIND_PAUSE_S = 0.1
KEEPALIVE_PROBES = 3
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds: close() sends a reset and not an orderly end."""
_KEEPALIVE_MAX_S = 32767  # what Linux takes
_FAMILY_MISSING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class DialResult:
    """What came of a dial: a socket, or why not. *refused*: nobody listens where the peer was last
    reached (everywhere, if it never was)."""

    __slots__ = ("address", "error", "refused", "sock")

    def __init__(
        self, sock: socket.socket | None, address: resolver.Address | None = None,
        error: str = "", *, refused: bool = False,
    ) -> None:  # fmt: skip
        self.sock = sock
        self.address = address
        self.error = error
        self.refused = refused


def open_listeners(
    addresses: Sequence[str], port: int, *, retry_s: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[socket.socket]:  # fmt: skip
    """Listen on every address (literal ones).

    A port in use is tried for ``retry_s`` seconds, BIND_RETRY_S where not given.

    Raises ConfigurationError that says which address, why, and who holds the port where the system
    tells. With several addresses, those of a family that the machine lacks are left out.
    """
    listeners: list[socket.socket] = []
    patience_s = BIND_RETRY_S if retry_s is None else retry_s
    tries = max(1, round(patience_s / BIND_PAUSE_S) + 1)
    try:
        for address in addresses:
            for attempt in range(tries):
                try:
                    listeners.append(_listen(address, port))
                    break
                except OSError as error:
                    if error.errno in _FAMILY_MISSING and len(addresses) > 1:
                        break
                    if error.errno != errno.EADDRINUSE or attempt == tries - 1:
                        raise _cannot_listen(address, port, error) from error
                    sleep(BIND_PAUSE_S)
        if not listeners:
            raise ConfigurationError(f"none of {', '.join(addresses)} is an address of this machine")
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there the option would let two processes share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _cannot_listen(address: str, port: int, error: OSError) -> ConfigurationError:
    where = f"{address} port {port}"
    if error.errno == errno.EADDRINUSE:
        holder = filesystem.port_holder(port, address)
        return ConfigurationError(
            f"cannot listen on {where}: the port is in use"
            f"{f' by {holder}' if holder else ''}; stop that process,"
            " or change the port on the SERVER line (it is not signed)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigurationError(
            f"cannot listen on {where}: this machine has no such address;"
            " correct the SERVER line, or name an address with --listen"
        )
    return ConfigurationError(f"cannot listen on {where}: {error.strerror or error}")


def tune(sock: socket.socket, timeout_s: float, *, peer: bool) -> None:
    """No delay, and keepalives at most ``timeout_s``/4 apart (protocol.md rule 21).

    On links that this server dialled, unacknowledged data ends the connection after as long: TCP's
    own patience grows to minutes, and a healed network would wait for it (invariant I7).
    """
    interval_s = min(_KEEPALIVE_MAX_S, max(1, int(timeout_s / 4)))
    options = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", interval_s),
        (socket.IPPROTO_TCP, "TCP_KEEPALIVE", interval_s),  # macOS's name for it
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", interval_s),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_PROBES),
    ]
    if peer:
        options.append((socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", interval_s * 1000))
    for level, name, value in options:
        number = getattr(socket, name, None)
        if number is not None:
            with contextlib.suppress(OSError):  # a platform without it still works
                sock.setsockopt(level, number, value)


def abort(sock: socket.socket) -> None:
    """Close with a reset, never an orderly end of stream (protocol.md rule 17)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def is_local(sock: socket.socket) -> tuple[bool, str]:
    """Return whether the other end is on this machine, and its address in digits.

    Local: a loopback address, or the same address as this end's.
    """
    try:
        remote, own = str(sock.getpeername()[0]), str(sock.getsockname()[0])
    except OSError:
        return False, "?"
    return remote == own or ipaddress.ip_address(remote.split("%")[0]).is_loopback, remote


async def connect_any(
    addresses: Sequence[resolver.Address], timeout_s: float, known: resolver.Address | None
) -> DialResult:
    """Try the addresses one after the other, ``known`` (where the peer was last reached) first."""
    order = sorted(addresses, key=lambda address: address != known)
    share_s = timeout_s / max(1, len(order))
    refused: list[resolver.Address] = []
    errors: list[str] = []
    for address in order:
        try:
            with trio.fail_after(share_s):
                return DialResult(await connect_one(address), address)
        except trio.TooSlowError:
            errors.append(f"{address.sockaddr[0]}: no answer within {share_s:g} s")
        except ConnectionRefusedError:
            refused.append(address)
            errors.append(f"{address.sockaddr[0]}: connection refused")
        except OSError as error:
            errors.append(f"{address.sockaddr[0]}: {error.strerror or error}")
    gone = known in refused if known in order else len(refused) == len(order) > 0
    return DialResult(None, error="; ".join(errors) or "no address", refused=gone)


async def connect_one(
    address: resolver.Address, under_way: set[socket.socket] | None = None
) -> socket.socket:
    """Return a socket that is connected to ``address``, or raise OSError. It is in ``under_way`` meanwhile."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    if under_way is None:
        under_way = set()
    under_way.add(sock)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address.sockaddr)
        if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)):
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        else:
            await trio.lowlevel.checkpoint()
        if code:
            raise OSError(code, os.strerror(code))
        if sock.getsockname() == sock.getpeername():
            # TCP connects a loopback socket to itself when it happens to draw the port as its own.
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    except BaseException:
        abort(sock)
        raise
    finally:
        under_way.discard(sock)
    return sock
