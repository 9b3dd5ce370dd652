"""Type numbers of everything that travels or is stored, and the functions that turn it into bytes
and back.

A message is ``u16 type number, record``; :mod:`flexcore.wire.records` says what a record is and why
it may grow. The tables below are **append-only**: a number is never used again for another class,
and none is ever changed (tests/test_wire_codec.py, ``test_numbers_are_for_ever``).

There is one oracle: :func:`decode` and :func:`decode_command` of *any* bytes give a value or raise
:class:`~flexcore.errors.RemoteProtocolError`, in time and memory bounded by the length of the bytes
(tests/test_wire_codec.py, ``test_any_bytes``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from flexcore.errors import LocalProtocolError, RemoteProtocolError
from flexcore.ledger import commands as c
from flexcore.wire import messages as m
from flexcore.wire.records import Compiler, Decoder, Encoder

MAX_FRAME_BYTES = (1 << 20) + (1 << 16)
"""No message is longer: a mebibyte of entries or of snapshot, and the envelope around it."""

MAX_COMMAND_BYTES = 1 << 16
"""No ledger command is longer, so that a row always fits a message."""

MESSAGES: Mapping[int, type] = {
    1: m.PeerFrame,
    # clients
    32: m.ClientHello,
    33: m.ServerHello,
    34: m.OpenSession,
    35: m.ResumeSession,
    36: m.SessionReply,
    37: m.Checkout,
    38: m.Granted,
    39: m.Denied,
    40: m.Checkin,
    41: m.CheckedIn,
    42: m.Withdraw,
    43: m.Withdrawn,
    44: m.Heartbeat,
    45: m.HeartbeatReply,
    46: m.Goodbye,
    47: m.GoodbyeReply,
    48: m.SeatsLost,
    49: m.NotServing,
    50: m.Queued,
    54: m.Borrow,
    55: m.Borrowed,
    56: m.ReturnBorrow,
    57: m.BorrowReturned,
    # status and administration
    64: m.StatusRequest,
    65: m.StatusPage,
    66: m.StatusReport,
    67: m.AdminRequest,
    68: m.AdminReply,
    69: m.Refusal,
    77: m.CanCheckOut,
    78: m.CheckoutAnswers,
    79: m.ServerDetails,
}
"""What may stand in a frame of its own."""

PEER_BODIES: Mapping[int, type] = {
    2: m.Hello,
    3: m.PreVote,
    4: m.PreVoteReply,
    5: m.Pull,
    6: m.PullReply,
    7: m.Vote,
    8: m.VoteReply,
    9: m.Append,
    10: m.AppendReply,
    11: m.Beat,
    12: m.BeatReply,
    13: m.TimeoutNow,
    14: m.Recover,
    15: m.RecoverReply,
    16: m.FormPropose,
    17: m.FormReply,
    18: m.StopRelease,
    19: m.StopReleaseReply,
    20: m.StopAll,
    21: m.Reread,
    22: m.RereadReply,
    58: m.Remove,
    59: m.RemoveReply,
    90: m.Switch,
    91: m.SwitchReply,
}
"""What may stand in a :class:`~flexcore.wire.messages.PeerFrame`."""

COMMANDS: Mapping[int, type] = {
    1: c.TermStarted,
    2: c.Formed,
    3: c.Rights,
    4: c.SessionOpened,
    5: c.SessionEnded,
    6: c.SeatGranted,
    7: c.SeatReturned,
    8: c.RequestWithdrawn,
    9: c.RequestQueued,
    10: c.RequestUnqueued,
    17: c.SeatLingers,
    18: c.LingerPassed,
    19: c.LingerResumed,
    20: c.SeatRemoved,
    13: c.SeatBorrowed,
    14: c.BorrowEnded,
}
"""What may stand in the ledger."""

_NUMBER = struct.Struct("<H")
_NUMBER_BYTES = _NUMBER.size
_FRAME_HEAD = struct.Struct(">I2s")
"""A frame's length, big-endian, and the type number, which is packed already."""


class TypeTable:
    """Classes by number: the outermost layer of a codec."""

    def __init__(
        self,
        what: str,
        top: Mapping[int, type],
        inner: Mapping[int, type] | None = None,
        *,
        max_bytes: int,
    ) -> None:
        self._what = what
        self._max_bytes = max_bytes
        self._top = top
        self._head = {cls: _NUMBER.pack(number) for number, cls in top.items()}
        self._compiler = Compiler({cls: number for number, cls in (inner or {}).items()})
        self._writers: dict[type, tuple[bytes, Encoder]] = {}
        self._readers: dict[int, Decoder] = {}

    def encode(self, value: Any) -> bytes:
        """Bytes of *value*.

        Raises: LocalProtocolError: not a class of this table, a number beyond 64 bits, a float that
            is not finite, a text that is not Unicode, or longer than the limit.
        """
        head, record = self._record(value)
        return head + record

    def encode_frame(self, value: Any) -> bytes:
        """The same behind its length, as a stream carries it: u32 big-endian. Raises as :meth:`encode` does."""
        head, record = self._record(value)
        return _FRAME_HEAD.pack(len(record) + _NUMBER_BYTES, head) + record

    def _record(self, value: Any) -> tuple[bytes, bytes]:
        cls = type(value)
        head, encoder = self._writers.get(cls) or self._writer(cls)
        try:
            record = encoder(value)
        except (struct.error, UnicodeEncodeError) as error:
            raise LocalProtocolError(f"{cls.__name__} cannot be encoded: {error}") from error
        if len(record) + _NUMBER_BYTES > self._max_bytes:
            raise LocalProtocolError(
                f"{cls.__name__} of {len(record) + _NUMBER_BYTES} bytes; at most {self._max_bytes}"
            )
        return head, record

    def decode(self, data: bytes) -> Any:
        """The value that *data* holds.

        Raises:
            RemoteProtocolError: *data* holds none.
        """
        data = bytes(data)  # of a bytearray, fields of type bytes would be bytearrays; else free
        return self.decode_from(data, 0, len(data))

    def decode_from(self, data: bytes, at: int, limit: int) -> Any:
        """The value that the bytes from *at* to *limit* of *data* hold, a copy of which is not made.

        Raises:
            RemoteProtocolError: they hold none.
        """
        if limit - at > self._max_bytes:
            raise RemoteProtocolError(
                f"a {self._what} of {limit - at} bytes; at most {self._max_bytes}"
            )
        try:
            if limit - at < _NUMBER_BYTES:
                raise struct.error("its type number is cut")
            (number,) = _NUMBER.unpack_from(data, at)
            decoder = self._readers.get(number) or self._reader(number)
            value, end = decoder(data, at + _NUMBER_BYTES, limit)
        except (struct.error, UnicodeDecodeError) as error:
            raise RemoteProtocolError(f"malformed {self._what}: {error}") from error
        if end != limit:
            raise RemoteProtocolError(f"{limit - end} bytes after the end of a {self._what}")
        return value

    def _writer(self, cls: type) -> tuple[bytes, Encoder]:
        """What writes a *cls*, compiled when it is needed first."""
        head = self._head.get(cls)
        if head is None:
            raise LocalProtocolError(f"{cls.__name__} is no {self._what}")
        found = self._writers[cls] = (head, self._compiler.encoder(cls))
        return found

    def _reader(self, number: int) -> Decoder:
        cls = self._top.get(number)
        if cls is None:
            raise RemoteProtocolError(f"type number {number} is no {self._what}")
        found = self._readers[number] = self._compiler.decoder(cls)
        return found


_messages = TypeTable("message", MESSAGES, PEER_BODIES, max_bytes=MAX_FRAME_BYTES)
_commands = TypeTable("ledger command", COMMANDS, max_bytes=MAX_COMMAND_BYTES)


def encode(message: m.Message) -> bytes:
    """The bytes of a message: type number and body, without the frame's length.

    Raises:
        LocalProtocolError: see :meth:`TypeTable.encode`; longer than :data:`MAX_FRAME_BYTES`.
    """
    return _messages.encode(message)


def encode_frame(message: m.Message) -> bytes:
    """The bytes of a message as a stream carries them, its length in front. Raises as :func:`encode` does."""
    return _messages.encode_frame(message)


def decode_from(data: bytes, at: int, limit: int) -> m.Message:
    """The message that the bytes from *at* to *limit* of *data* hold.

    Raises:
        RemoteProtocolError: they are no message.
    """
    message: m.Message = _messages.decode_from(data, at, limit)
    return message


def decode(data: bytes) -> m.Message:
    """The message that *data* (one whole frame, without its length) holds.

    Raises:
        RemoteProtocolError: *data* is no message.
    """
    message: m.Message = _messages.decode(data)
    return message


def encode_command(command: c.Command) -> bytes:
    """The payload of a ledger entry.

    Raises:
        LocalProtocolError: see :meth:`TypeTable.encode`; longer than :data:`MAX_COMMAND_BYTES`.
    """
    return _commands.encode(command)


def decode_command(payload: bytes) -> c.Command:
    """The command in the payload of a ledger entry.

    Raises:
        RemoteProtocolError: *payload* is no command, or one of a newer version.
    """
    command: c.Command = _commands.decode(payload)
    return command
