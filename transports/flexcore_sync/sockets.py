"""One connection of the client on non-blocking sockets: dialling all addresses of a name, sending, ending."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from flexcore import timing
from flexcore_host.application import READ_BYTES
from flexcore_host.resolver import Address

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds: close() sends a reset and not an orderly end."""

_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, errno.EALREADY)


class Dial:
    """An attempt at all addresses of one host: the next begins a quarter of a second after the last, or when that has
    failed; whichever connects first wins (RFC 8305's way)."""

    def __init__(self, conn: int, host: str, port: int) -> None:
        self.conn = conn
        self.host = host
        self.port = port
        self.addresses: list[Address] | None = None  # not looked up yet
        self.sockets: list[socket.socket] = []
        self.next_at = 0.0
        self.error: OSError | None = None

    def start(self, addresses: tuple[Address, ...]) -> None:
        self.addresses = list(addresses)

    def begin_next(self, now: float) -> tuple[socket.socket | None, bool]:
        """Begin the next attempt if it is due; returns its socket, and whether that is connected already."""
        while self.addresses and (now >= self.next_at or not self.sockets):
            address = self.addresses.pop(0)
            self.next_at = now + timing.CLIENT_STAGGER_S
            try:
                sock = socket.socket(address.family, socket.SOCK_STREAM)
            except OSError as error:
                self.error = error
                continue
            sock.setblocking(False)
            code = self._connect(sock, address)
            if code == 0 or code in _UNDER_WAY:
                self.sockets.append(sock)
                return sock, code == 0
            self.fail(sock, code)
        return None, False

    def _connect(self, sock: socket.socket, address: Address) -> int:
        try:
            return sock.connect_ex(address.sockaddr)
        except OSError as error:
            return error.errno or errno.EINVAL

    def finished(self, sock: socket.socket) -> bool:
        """An attempt came to its end; returns whether it is connected."""
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0 and not _is_itself(sock):
            return True
        self.fail(sock, code or errno.ECONNREFUSED)
        return False

    def fail(self, sock: socket.socket, code: int) -> None:
        self.error = OSError(code, os.strerror(code))
        if sock in self.sockets:
            self.sockets.remove(sock)
        sock.close()

    @property
    def is_over(self) -> bool:
        """Every address has failed."""
        return not self.addresses and not self.sockets and self.addresses is not None

    @property
    def wake_at(self) -> float | None:
        return self.next_at if self.addresses and self.sockets else None


class Stream:
    """A connected socket with what is still to be sent."""

    def __init__(self, conn: int, sock: socket.socket) -> None:
        self.conn = conn
        self.sock = sock
        self.unsent = bytearray()
        self.close_by: float | None = None  # ends in order once everything is sent, or then at the latest
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def flush(self) -> None:
        """Send what goes. Raises OSError if the connection is broken."""
        while self.unsent:
            try:
                sent = self.sock.send(self.unsent)
            except (BlockingIOError, InterruptedError):
                return
            del self.unsent[:sent]

    def read(self) -> bytes | None:
        """What has come: None nothing, b"" the orderly end. Raises OSError if the connection is broken."""
        try:
            return self.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return None


def reset(sock: socket.socket) -> None:
    """End a connection with a reset, so that nobody takes it for the death of this process."""
    with contextlib.suppress(OSError):  # it is not connected (any more)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def _is_itself(sock: socket.socket) -> bool:
    """A loopback port in the ephemeral range can connect to itself when nobody listens on it."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return True
