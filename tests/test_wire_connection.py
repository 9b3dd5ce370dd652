"""Framing: any cut of the bytes gives the same messages; limits; what is left after a failure."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexcore.errors import LocalProtocolError, RemoteProtocolError
from flexcore.identity import Boot, Endpoint
from flexcore.wire.codec import MAX_FRAME_BYTES, encode
from flexcore.wire.connection import BUFFER_BYTES_MAX, SMALL_FRAME_BYTES, Connection
from flexcore.wire.messages import Beat, Checkout, Heartbeat, IdleSeat, Message, PeerFrame, Refusal

SENDER = Endpoint(0, Boot(1, b"b" * 16))
MESSAGE = st.one_of(
    st.builds(
        Heartbeat,
        *[st.integers(0, 9)] * 3,
        st.lists(st.builds(IdleSeat, st.integers(0, 9), st.integers(0, 9).map(float)), max_size=2).map(tuple),
        st.integers(0, 9).map(float),
    ),
    st.builds(Refusal, st.integers(-9, 9), st.text(max_size=30)),
    st.builds(
        Checkout,
        *[st.integers(0, 9)] * 3,
        st.text(max_size=5),
        st.just("1.0"),
        *[st.integers(0, 9)] * 2,
    ),
)


def drain(connection: Connection) -> list[Message | str]:
    """Messages until there is none, or the error's text at the end."""
    found: list[Message | str] = []
    try:
        while (message := connection.next_message()) is not None:
            found.append(message)
    except RemoteProtocolError as error:
        found.append(str(error))
    return found


@given(st.lists(MESSAGE, max_size=6), st.binary(max_size=12), st.data())
def test_byte_at_a_time(messages: list[Message], tail: bytes, data: st.DataObject) -> None:
    """In one piece, byte by byte, or cut anywhere: the same messages, then the same error or
    none."""
    sender = Connection()
    stream = b"".join(map(sender.send, messages)) + tail
    whole, single, cut = Connection(), Connection(), Connection()
    whole.receive_data(stream)
    expected = drain(whole)
    assert expected[: len(messages)] == messages

    found: list[Message | str] = []
    for at in range(len(stream)):
        if not single.failed:
            single.receive_data(stream[at : at + 1])
            found += drain(single)
    assert found == expected

    found = []
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        cut.receive_data(stream[start:end])
        if not cut.failed:
            found += drain(cut)
    assert found == expected
    assert whole.failed == single.failed == cut.failed
    assert whole.unfinished == single.unfinished == cut.unfinished


def test_many_messages_before_one_is_taken() -> None:
    connection = Connection()
    messages = [Heartbeat(number, 0, 0) for number in range(5000)]
    stream = b"".join(map(connection.send, messages))
    connection.receive_data(stream[:-1])
    assert drain(connection) == messages[:-1]
    assert connection.unfinished
    connection.receive_data(stream[-1:])
    assert drain(connection) == messages[-1:]
    assert not connection.unfinished


def test_a_stranger_may_send_small_frames_only() -> None:
    connection = Connection()
    fits = Refusal(1, "x" * (SMALL_FRAME_BYTES - len(encode(Refusal(1, "")))))
    long = Refusal(1, fits.text + "x")
    connection.receive_data(connection.send(fits))
    assert connection.next_message() == fits
    connection.receive_data(struct.pack(">I", SMALL_FRAME_BYTES + 1))
    with pytest.raises(RemoteProtocolError, match="65537 bytes; at most 65536"):
        connection.next_message()

    connection = Connection()
    connection.set_max_frame(MAX_FRAME_BYTES)
    connection.receive_data(connection.send(long))
    assert connection.next_message() == long


def test_the_limit_counts_when_the_frame_is_taken() -> None:
    """Both frames came in one piece; the first made the other side known."""
    connection = Connection()
    known, long = Heartbeat(1, 0, 0), Refusal(1, "x" * (2 * SMALL_FRAME_BYTES))
    connection.receive_data(connection.send(known) + connection.send(long))
    assert connection.next_message() == known
    connection.set_max_frame(MAX_FRAME_BYTES)
    assert connection.next_message() == long


@pytest.mark.parametrize("bad", [0, -1, MAX_FRAME_BYTES + 1])
def test_no_limit_is_no_limit(bad: int) -> None:
    with pytest.raises(LocalProtocolError):
        Connection(max_frame_bytes=bad)


def test_a_failure_is_for_good() -> None:
    connection = Connection()
    good = connection.send(Heartbeat(1, 0, 0))
    connection.receive_data(struct.pack(">I", 3) + b"???" + good)
    with pytest.raises(RemoteProtocolError) as first:
        connection.next_message()
    assert connection.failed
    assert not connection.unfinished
    connection.receive_data(good)
    with pytest.raises(RemoteProtocolError) as second:
        connection.next_message()
    assert second.value is first.value
    assert connection.send(Refusal(-140, "why"))  # the last word still leaves
    assert not connection.closed


def test_an_empty_frame_is_refused() -> None:
    connection = Connection()
    connection.receive_data(bytes(4))
    with pytest.raises(RemoteProtocolError):
        connection.next_message()


def test_closed() -> None:
    connection = Connection()
    connection.receive_data(connection.send(Heartbeat(1, 0, 0)))
    connection.close()
    assert connection.closed
    assert connection.next_message() is None
    connection.receive_data(b"late")
    assert connection.next_message() is None
    with pytest.raises(LocalProtocolError, match="closed"):
        connection.send(Heartbeat(1, 0, 0))


def test_what_nobody_takes_out_is_bounded() -> None:
    connection = Connection()
    frame = connection.send(Refusal(1, "x" * 60_000))
    fits = BUFFER_BYTES_MAX // len(frame)
    for _ in range(fits):
        connection.receive_data(frame)
    with pytest.raises(LocalProtocolError, match="take messages out"):
        connection.receive_data(frame)
    assert len(drain(connection)) == fits
    connection.receive_data(frame)
    assert len(drain(connection)) == 1


# --- batches ---------------------------------------------------------------------------------------------------------


@given(st.lists(MESSAGE, max_size=6), st.binary(max_size=12), st.data())
def test_a_batch_is_what_one_at_a_time_gives(messages: list[Message], tail: bytes, data: st.DataObject) -> None:
    """However the bytes are cut: the same messages, then the same error or none, and the same bytes left over."""
    stream = b"".join(map(Connection().send, messages)) + tail
    single, batch = Connection(), Connection()
    single.receive_data(stream)
    expected = drain(single)
    ends = [*sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4), label="cuts")), len(stream)]
    found: list[Message | str] = []
    for start, end in zip([0, *ends], ends, strict=False):
        found += batch.receive(stream[start:end])
    if batch.error is not None:
        found.append(str(batch.error))
    assert found == expected
    assert batch.failed == single.failed
    assert batch.failed or batch.unfinished == single.unfinished


def test_a_peers_first_frame_ends_its_batch() -> None:
    """What follows it may be longer than a stranger's: the limit is raised in between."""
    frame = PeerFrame(b"", 1, SENDER, SENDER, Beat(5))
    long = Refusal(1, "x" * SMALL_FRAME_BYTES)
    wire = Connection()
    assert wire.receive(Connection().send(frame) + Connection().send(long)) == [frame]
    assert wire.error is None
    wire.set_max_frame(MAX_FRAME_BYTES)
    assert wire.receive(b"") == [long]
    assert wire.receive(Connection().send(frame) * 2) == [frame, frame]


def test_a_batch_is_copied_once_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that comes byte by byte costs its length, not its square."""
    copied: list[int] = []

    def counted(buffer: bytearray) -> memoryview:
        copied.append(len(buffer))
        return memoryview(buffer)

    monkeypatch.setattr("flexcore.wire.connection.memoryview", counted, raising=False)
    stream = Connection().send(Refusal(1, "x" * 5_000))
    wire = Connection()
    found = [message for at in range(len(stream)) for message in wire.receive(stream[at : at + 1])]
    assert len(found) == 1
    assert copied == [len(stream)]


def test_a_closed_connection_takes_nothing_in_a_batch() -> None:
    wire = Connection()
    wire.close()
    assert wire.receive(Connection().send(Refusal(1, ""))) == []
