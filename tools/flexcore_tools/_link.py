"""One blocking connection of a utility to one server: hello, then questions and answers.

Whatever goes wrong becomes a :class:`~flexcore.report.status.Failure` inside :class:`LinkFailed`,
ready to be printed as lmstat does.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import time

import flexcore
from flexcore.codes import ErrorCode
from flexcore.errors import FlexcoreError, RemoteProtocolError
from flexcore.report.status import Failure
from flexcore.wire.codec import MAX_FRAME_BYTES
from flexcore.wire.connection import Connection
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    AdminReply,
    AdminRequest,
    BorrowReturned,
    CanCheckOut,
    CheckoutAnswers,
    ClientHello,
    Message,
    NotServing,
    Refusal,
    ReturnBorrow,
    ServerAddress,
    ServerDetails,
    ServerHello,
    StatusPage,
    StatusReport,
    StatusRequest,
)
from flexcore.wire.proof import session_proof

READ_BYTES = 1 << 16
SKIPPED_MAX = 1000
"""Messages that are no answer to the question: so many, and the server is taken for a babbler."""

Answer = StatusPage | StatusReport | ServerDetails | CheckoutAnswers | AdminReply | BorrowReturned | NotServing


class LinkFailed(FlexcoreError):
    """The server could not be asked, or did not answer; ``failure`` is how lmstat prints it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.printed)
        self.failure = failure
        self.code = failure.code


class Link:
    """A connection over which the server has said hello (:func:`open_link`)."""

    def __init__(self, sock: socket.socket, wire: Connection, hello: ServerHello) -> None:
        self._sock = sock
        self._wire = wire
        self._seq = itertools.count(1)
        self.hello = hello
        self.report = hello.report

    @property
    def is_local(self) -> bool:
        """The server is on this machine: both ends of the connection have one address, or both are
        loopback ones."""
        try:
            own, other = self._sock.getsockname()[0], self._sock.getpeername()[0]
        except OSError:
            return False
        return bool(own == other) or (_is_loopback(str(own)) and _is_loopback(str(other)))

    def status(self, what: str, feature: str, cursor: str, timeout_s: float) -> Answer:
        """Ask a StatusRequest and return its answer. Raises :class:`LinkFailed`."""
        seq = next(self._seq)
        return self._ask(StatusRequest(seq, what, feature, cursor), seq, timeout_s)

    def can_check_out(self, question: CanCheckOut, timeout_s: float) -> Answer:
        """Ask what could be checked out; its *seq* is given here. Raises :class:`LinkFailed`."""
        seq = next(self._seq)
        return self._ask(question._replace(seq=seq), seq, timeout_s)

    def refresh(self, timeout_s: float) -> None:
        """Ask the server again what it is, into ``report``. Raises :class:`LinkFailed`."""
        answer = self.status("report", "", "", timeout_s)
        if isinstance(answer, StatusReport):
            self.report = answer.report

    def admin(
        self, verb: str, arguments: tuple[str, ...], user: str, host: str, timeout_s: float
    ) -> Answer:
        """Ask an AdminRequest and return its answer. Raises :class:`LinkFailed`."""
        seq = next(self._seq)
        return self._ask(AdminRequest(seq, verb, arguments, user, host), seq, timeout_s)

    def give_back(self, borrow: bytes, secret: bytes, timeout_s: float) -> Answer:
        """Return what was borrowed early, and prove it by its secret. Raises :class:`LinkFailed`: it may be back."""
        seq = next(self._seq)
        proof = session_proof(secret, self.hello.nonce, borrow)
        return self._ask(ReturnBorrow(seq, borrow, proof, self.report.term), seq, timeout_s)

    def close(self) -> None:
        """End the connection; once more is harmless."""
        self._wire.close()
        self._sock.close()

    def _ask(self, message: Message, seq: int, timeout_s: float) -> Answer:
        deadline = time.monotonic() + timeout_s
        try:
            self._sock.settimeout(max(timeout_s, 0.001))
            self._sock.sendall(self._wire.send(message))
        except OSError as error:
            raise LinkFailed(failure_of(error, ErrorCode.CANNOT_WRITE)) from None
        for _ in range(SKIPPED_MAX):
            answer = _next(self._sock, self._wire, deadline)
            if isinstance(answer, Answer) and answer.seq == seq:
                return answer
        raise LinkFailed(Failure(ErrorCode.BAD_DATA_FROM_SERVER))


def open_link(address: ServerAddress, timeout_s: float, *, vendor: str = "") -> Link:
    """Connect to *address*, exchange hellos, all within *timeout_s*. Blocks.

    Raises:
        LinkFailed: -14 for a name that nobody knows, -15 where nothing listens or answers in time,
            -16 for a connection that ends, -12 for what is no flexcore server, or the server's own
            refusal.
    """
    deadline = time.monotonic() + timeout_s
    sock = _connect(address, deadline)
    try:
        wire = Connection()
        hello = ClientHello(PROTOCOL_VERSION, f"flexcore {flexcore.__version__}", vendor, 0, True)
        sock.sendall(wire.send(hello))
        answer = _next(sock, wire, deadline)
        if not isinstance(answer, ServerHello):
            raise LinkFailed(Failure(ErrorCode.BAD_DATA_FROM_SERVER))
        wire.set_max_frame(MAX_FRAME_BYTES)
        return Link(sock, wire, answer)
    except OSError as error:
        sock.close()
        raise LinkFailed(failure_of(error, ErrorCode.CANNOT_READ)) from None
    except BaseException:
        sock.close()
        raise


def is_listening(address: ServerAddress, timeout_s: float) -> bool:
    """True unless a connection to *address* is refused, or its name is not known (any more)."""
    try:
        _connect(address, time.monotonic() + timeout_s).close()
    except LinkFailed as failed:
        timed_out = failed.failure.sys_errno == errno.ETIMEDOUT
        return timed_out and failed.failure.code == ErrorCode.CANNOT_CONNECT
    return True


def failure_of(error: OSError, code: int) -> Failure:
    """Return how lmstat prints *error* with the code of what was tried; a time-out is always -15,
    since nothing is known of the server then (design.md section 10)."""
    if isinstance(error, TimeoutError) and error.errno is None:
        number = errno.ETIMEDOUT
        return Failure(ErrorCode.CANNOT_CONNECT, number, os.strerror(number))
    if isinstance(error, socket.gaierror):
        return Failure(ErrorCode.UNKNOWN_HOST_NAME)
    if error.errno is None:
        return Failure(code, 0, str(error))
    return Failure(code, error.errno, error.strerror or os.strerror(error.errno))


def _connect(address: ServerAddress, deadline: float) -> socket.socket:
    """Try the name's addresses one after the other, each with its share of the time."""
    from flexcore_host.resolver import addresses_of

    try:
        found = addresses_of(address.host, address.port)
    except (OSError, UnicodeError, OverflowError) as error:
        if isinstance(error, OSError):
            raise LinkFailed(failure_of(error, ErrorCode.UNKNOWN_HOST_NAME)) from None
        raise LinkFailed(Failure(ErrorCode.UNKNOWN_HOST_NAME)) from None
    failure = Failure(ErrorCode.UNKNOWN_HOST_NAME)
    for number, each in enumerate(found):
        left = deadline - time.monotonic()
        sock: socket.socket | None = None
        try:
            sock = socket.socket(each.family, socket.SOCK_STREAM)
            sock.settimeout(max(left / (len(found) - number), 0.001))
            sock.connect(each.sockaddr)
            _refuse_self_connection(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            failure = failure_of(error, ErrorCode.CANNOT_CONNECT)
            if sock is not None:
                sock.close()
        else:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            return sock
    raise LinkFailed(failure)


def _refuse_self_connection(sock: socket.socket) -> None:
    """Linux connects a socket to itself when its own ephemeral port is the one that it dials."""
    if sock.getsockname() == sock.getpeername():
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _next(sock: socket.socket, wire: Connection, deadline: float) -> Message:
    try:
        while True:
            message = wire.next_message()
            if isinstance(message, Refusal):
                text = message.text.rstrip(".") or None
                raise LinkFailed(Failure(message.code, text=text))
            if message is not None:
                return message
            _receive(sock, wire, deadline)
    except RemoteProtocolError:
        raise LinkFailed(Failure(ErrorCode.BAD_DATA_FROM_SERVER)) from None


def _receive(sock: socket.socket, wire: Connection, deadline: float) -> None:
    left = deadline - time.monotonic()
    try:
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        data = sock.recv(READ_BYTES)
    except OSError as error:
        raise LinkFailed(failure_of(error, ErrorCode.CANNOT_READ)) from None
    if not data:
        raise LinkFailed(Failure(ErrorCode.CANNOT_READ))
    wire.receive_data(data)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in {"::1", "::ffff:127.0.0.1"}
