"""Bytes to messages and back on one stream: u32 big-endian length, then
:func:`flexcore.wire.codec.encode`'s bytes.

One class for clients, utilities and peers, at both ends. It knows framing and nothing of what
messages mean.

A frame's announced length is checked before anything of it is kept, against a small limit until the
other side is known and :data:`~flexcore.wire.codec.MAX_FRAME_BYTES` after
(:meth:`Connection.set_max_frame`). How the bytes are cut into pieces makes no difference
(tests/test_wire_connection.py, ``test_byte_at_a_time``), and costs no more than linear time.
"""

from __future__ import annotations

import struct

from flexcore.errors import LocalProtocolError, RemoteProtocolError
from flexcore.wire.codec import MAX_FRAME_BYTES, decode_from, encode_frame
from flexcore.wire.messages import Message, PeerFrame

SMALL_FRAME_BYTES = 1 << 16
"""The longest frame that is taken from a stranger."""

BUFFER_BYTES_MAX = 4 * MAX_FRAME_BYTES
"""What may wait in a connection whose messages nobody takes out."""

_unpack_length = struct.Struct(">I").unpack_from
_LENGTH_BYTES = 4
_KEEP_BYTES = 1 << 16


class Connection:
    """One stream's state. ``receive_data`` and then ``next_message`` until it gives None; or
    :meth:`receive`, which does both for a batch.

    After a :class:`~flexcore.errors.RemoteProtocolError` it is *failed* for good: it takes no more
    data, and ``next_message`` raises the same error again. ``send`` still works, for the refusal
    that tells the other side why. After :meth:`close` it is *closed*: nothing works any more.
    """

    def __init__(self, *, max_frame_bytes: int = SMALL_FRAME_BYTES) -> None:
        self._max_frame_bytes = 0
        self._buffer = bytearray()
        self._at = 0
        self._error: RemoteProtocolError | None = None
        self._closed = False
        self.set_max_frame(max_frame_bytes)

    @property
    def failed(self) -> bool:
        """The other side broke the protocol."""
        return self._error is not None

    @property
    def closed(self) -> bool:
        """:meth:`close` was called."""
        return self._closed

    @property
    def unfinished(self) -> bool:
        """Bytes have arrived that no message was made of yet: at the end of a stream, it was
        cut."""
        return len(self._buffer) > self._at

    def set_max_frame(self, max_frame_bytes: int) -> None:
        """Take frames of up to *max_frame_bytes* from now on: the other side is known now."""
        if not 0 < max_frame_bytes <= MAX_FRAME_BYTES:
            raise LocalProtocolError(f"no limit for a frame: {max_frame_bytes}")
        self._max_frame_bytes = max_frame_bytes

    def close(self) -> None:
        """Forget what is buffered; take and send nothing any more."""
        self._closed = True
        self._buffer.clear()
        self._at = 0

    def send(self, message: Message) -> bytes:
        """The bytes to write for *message*.

        Raises: LocalProtocolError: the connection is closed, or *message* cannot be encoded
            (codec.encode).
        """
        if self._closed:
            raise LocalProtocolError("this connection is closed")
        return encode_frame(message)

    def receive(self, data: bytes) -> list[Message]:
        """Take what was read; the messages that have arrived whole, in order.

        A frame of a peer is the last of its batch while the limit is small: who it is decides on the limit for what
        follows, and ``receive(b"")`` goes on. Ask :attr:`error` afterwards: what stands before a broken frame is good.

        Raises: LocalProtocolError: see :meth:`receive_data`.
        """
        if self._buffer:
            self.receive_data(data)
            if not self._has_frame():
                return []
            data = bytes(memoryview(self._buffer)[self._at :])
            self._buffer.clear()
            self._at = 0
        if self._closed or self._error is not None:
            return []
        messages: list[Message] = []
        at, end, most = 0, len(data), self._max_frame_bytes
        while end - at >= _LENGTH_BYTES:
            (size,) = _unpack_length(data, at)
            if size > most:
                self._fail(self._too_long(size))
                return messages
            start = at + _LENGTH_BYTES
            if start + size > end:
                break
            at = start + size
            try:
                message = decode_from(data, start, at)
            except RemoteProtocolError as error:
                self._fail(error)
                return messages
            messages.append(message)
            if type(message) is PeerFrame and most < MAX_FRAME_BYTES:
                break
        if at < end:
            self._buffer += data[at:] if at else data
        return messages

    @property
    def error(self) -> RemoteProtocolError | None:
        """How the other side broke the protocol; None: it did not."""
        return self._error

    def _has_frame(self) -> bool:
        """Whether the first frame has arrived whole, or is too long to wait for: no copy is made before."""
        waiting = len(self._buffer) - self._at
        if waiting < _LENGTH_BYTES:
            return False
        (size,) = _unpack_length(self._buffer, self._at)
        return bool(size > self._max_frame_bytes or waiting >= size + _LENGTH_BYTES)

    def _too_long(self, size: int) -> RemoteProtocolError:
        return RemoteProtocolError(f"a frame of {size} bytes; at most {self._max_frame_bytes} here")

    def receive_data(self, data: bytes) -> None:
        """Take what was read. Data for a failed or closed connection is dropped.

        Raises: LocalProtocolError: more than :data:`BUFFER_BYTES_MAX` would wait; call
            ``next_message`` in between.
        """
        if self._closed or self._error is not None:
            return
        if len(self._buffer) - self._at + len(data) > BUFFER_BYTES_MAX:
            raise LocalProtocolError("too much data is waiting: take messages out first")
        self._buffer += data

    def next_message(self) -> Message | None:
        """The next message that has arrived whole, or None.

        Raises:
            RemoteProtocolError: a frame is too long or no message. The connection is failed.
        """
        if self._error is not None:
            raise self._error
        buffer, at = self._buffer, self._at
        if len(buffer) - at < _LENGTH_BYTES:
            self._forget()
            return None
        (size,) = _unpack_length(buffer, at)
        if size > self._max_frame_bytes:
            raise self._fail(self._too_long(size))
        start = at + _LENGTH_BYTES
        end = start + size
        if len(buffer) < end:
            self._forget()
            return None
        self._at = end
        try:
            return decode_from(bytes(buffer[start:end]), 0, size)
        except RemoteProtocolError as error:
            raise self._fail(error) from None

    def _forget(self) -> None:
        """Drop what was taken out: always if that is everything, else when it is most of a large
        buffer."""
        if self._at == len(self._buffer):
            self._buffer.clear()
            self._at = 0
        elif self._at > _KEEP_BYTES and 2 * self._at > len(self._buffer):
            del self._buffer[: self._at]
            self._at = 0

    def _fail(self, error: RemoteProtocolError) -> RemoteProtocolError:
        self._error = error
        self._buffer.clear()
        self._at = 0
        return error
