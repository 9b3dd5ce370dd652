"""The wire form: round trips, hostile bytes, neighbouring versions, numbers that never change."""

from __future__ import annotations

import math
import struct
import types
import typing
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.errors import LocalProtocolError, RemoteProtocolError
from flexcore.identity import NO_LAST, Boot, Endpoint, Last, Rank
from flexcore.ledger.commands import Command, SeatGranted, SessionOpened
from flexcore.wire import messages as m
from flexcore.wire.codec import (
    COMMANDS,
    MAX_COMMAND_BYTES,
    MAX_FRAME_BYTES,
    MESSAGES,
    PEER_BODIES,
    decode,
    decode_command,
    decode_from,
    encode,
    encode_command,
)
from flexcore.wire.records import Compiler, Malformed, fixed_size
from tests.budget import examples

# --- values of every class, from its annotations ----------------------------------------

INT = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=12)
BYTES = st.binary(max_size=12)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    plain = {
        int: INT,
        float: FLOAT,
        str: TEXT,
        bytes: BYTES,
        bool: st.booleans(),
        types.NoneType: st.none(),
    }
    if hint in plain:
        return plain[hint]
    if typing.get_origin(hint) is tuple:
        return st.lists(values_of(typing.get_args(hint)[0]), max_size=3).map(tuple)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return st.one_of(*map(values_of, typing.get_args(hint)))
    return st.tuples(*map(values_of, typing.get_type_hints(hint).values())).map(
        lambda row: hint(*row)
    )


A_MESSAGE = st.sampled_from(list(MESSAGES.values())).flatmap(values_of)
A_COMMAND = st.sampled_from(list(COMMANDS.values())).flatmap(values_of)


def same(a: object, b: object) -> bool:
    """Equal, and of the same classes all the way down (tuples of different classes compare
    equal)."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


# --- round trips ------------------------------------------------------------------------


@given(A_MESSAGE)
def test_messages_come_back(message: m.Message) -> None:
    assert same(decode(encode(message)), message)


@given(A_COMMAND)
def test_commands_come_back(command: Command) -> None:
    assert same(decode_command(encode_command(command)), command)


def test_every_class_comes_back() -> None:
    """Each class once, so that none depends on luck."""
    for cls in [*MESSAGES.values(), *COMMANDS.values()]:
        row = tuple(_least(hint) for hint in typing.get_type_hints(cls).values())
        value = cls(*row)
        table = (encode_command, decode_command) if cls in COMMANDS.values() else (encode, decode)
        assert same(table[1](table[0](value)), value), cls
    for cls in PEER_BODIES.values():
        here = Endpoint(0, Boot(0, b""))
        value = m.PeerFrame(
            b"", 0, here, here, cls(*map(_least, typing.get_type_hints(cls).values()))
        )
        assert same(decode(encode(value)), value), cls


def _least(hint: Any) -> Any:
    if hint in (int, float, str, bytes, bool):
        return hint()
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return (_least(inner), _least(inner))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _least(typing.get_args(hint)[0])
    return hint(*map(_least, typing.get_type_hints(hint).values()))


def test_whatever_kind_of_bytes_is_read() -> None:
    message = m.ResumeSession(1, b"session", b"proof", 2)
    kinds: tuple[Any, ...] = (bytes, bytearray, memoryview)
    for kind in kinds:
        assert same(decode(kind(encode(message))), message)


def test_a_rank_arrives_as_a_number() -> None:
    address = Endpoint(Rank.SECONDARY, Boot(1, b"boot"))
    frame = m.PeerFrame(b"t", 1, address, address, m.Beat(1))
    back = decode(encode(frame))
    assert isinstance(back, m.PeerFrame)
    assert type(back.sender.rank) is int
    assert back == frame


def test_a_checkout_is_short_and_stays_as_it_is() -> None:
    """Golden bytes: stored logs and running neighbours have them."""
    # type number, size, fixed size; the numbers and the lengths of texts; the texts
    assert encode(m.Checkout(1, 2, 1, "f1", "1.0", 3, 9)) == bytes.fromhex(
        "2500 38000000 3100"
        " 0100000000000000 0200000000000000 0100000000000000 02000000 03000000"
        " 0300000000000000 0900000000000000 00 6631 312e30"
    )
    before_queueing = bytes.fromhex(
        "2500 37000000 3000"
        " 0100000000000000 0200000000000000 0100000000000000 02000000 03000000"
        " 0300000000000000 0900000000000000 6631 312e30"
    )
    assert decode(before_queueing) == m.Checkout(1, 2, 1, "f1", "1.0", 3, 9, queue=False)
    assert encode_command(SeatGranted(b"s", 1, 0, 7, "f", "p", "1", 2)) == bytes.fromhex(
        "0600 3a000000 3400"
        " 01000000 0100000000000000 0000000000000000 0700000000000000 01000000 01000000 01000000"
        " 0200000000000000 00000000 73 66 70 31"
    )


# --- numbers ----------------------------------------------------------------------------


def test_numbers_are_for_ever() -> None:
    """Append to these lists; change nothing in them. Stored logs and running neighbours know the
    numbers."""
    assert {number: cls.__name__ for number, cls in MESSAGES.items()} == {
        1: "PeerFrame",
        32: "ClientHello", 33: "ServerHello", 34: "OpenSession", 35: "ResumeSession", 36: "SessionReply",
        37: "Checkout", 38: "Granted", 39: "Denied", 40: "Checkin", 41: "CheckedIn", 42: "Withdraw",
        43: "Withdrawn", 44: "Heartbeat", 45: "HeartbeatReply", 46: "Goodbye", 47: "GoodbyeReply",
        48: "SeatsLost", 49: "NotServing", 50: "Queued",
        54: "Borrow", 55: "Borrowed", 56: "ReturnBorrow", 57: "BorrowReturned",
        64: "StatusRequest", 65: "StatusPage", 66: "StatusReport", 67: "AdminRequest", 68: "AdminReply",
        69: "Refusal",
        77: "CanCheckOut", 78: "CheckoutAnswers", 79: "ServerDetails",
    }  # fmt: skip
    assert {number: cls.__name__ for number, cls in PEER_BODIES.items()} == {
        2: "Hello", 3: "PreVote", 4: "PreVoteReply", 5: "Pull", 6: "PullReply", 7: "Vote", 8: "VoteReply",
        9: "Append", 10: "AppendReply", 11: "Beat", 12: "BeatReply", 13: "TimeoutNow", 14: "Recover",
        15: "RecoverReply", 16: "FormPropose", 17: "FormReply", 18: "StopRelease", 19: "StopReleaseReply",
        20: "StopAll", 21: "Reread", 22: "RereadReply", 58: "Remove", 59: "RemoveReply",
        90: "Switch", 91: "SwitchReply",
    }  # fmt: skip
    assert {number: cls.__name__ for number, cls in COMMANDS.items()} == {
        1: "TermStarted", 2: "Formed", 3: "Rights", 4: "SessionOpened", 5: "SessionEnded", 6: "SeatGranted",
        7: "SeatReturned", 8: "RequestWithdrawn", 9: "RequestQueued", 10: "RequestUnqueued",
        17: "SeatLingers", 18: "LingerPassed", 19: "LingerResumed", 20: "SeatRemoved",
        13: "SeatBorrowed", 14: "BorrowEnded",
    }  # fmt: skip


def test_a_request_that_came_later_is_announced() -> None:
    """The first version knew the numbers up to 22. Whoever adds a message between servers decides here how a
    server that lacks it is spared: a request is one of LATER_REQUESTS, an answer goes to who asked."""
    answers = {59, 91}
    assert {cls: number for number, cls in PEER_BODIES.items() if number > 22 and number not in answers} \
        == m.LATER_REQUESTS  # fmt: skip


def test_every_class_has_a_number() -> None:
    assert set(MESSAGES.values()) == set(typing.get_args(m.Message))
    assert set(PEER_BODIES.values()) == set(typing.get_args(m.PeerBody))
    assert set(COMMANDS.values()) == set(typing.get_args(Command))
    assert not set(MESSAGES) & set(PEER_BODIES)


# --- hostile bytes ----------------------------------------------------------------------


def read(data: bytes) -> None:
    """The oracle: a value of a class of the table, or RemoteProtocolError; anything else is a
    bug."""
    for one, table in ((decode, MESSAGES), (decode_command, COMMANDS)):
        try:
            found = one(data)
        except RemoteProtocolError:
            continue
        assert type(found) in table.values()
    assert in_the_middle(data) == on_its_own(data)


def on_its_own(data: bytes) -> object:
    """The message, or None where there is none."""
    try:
        return repr(decode(data))
    except RemoteProtocolError:
        return None


def in_the_middle(data: bytes) -> object:
    """The same where other bytes stand before and behind: none of them counts."""
    try:
        return repr(decode_from(b"\x01\x00\xff" + data + data + b"\x00" * 300, 3, 3 + len(data)))
    except RemoteProtocolError:
        return None


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    read(data)


@given(st.sampled_from([*MESSAGES, *COMMANDS]), st.binary(max_size=200))
def test_any_bytes_behind_a_known_number(number: int, data: bytes) -> None:
    read(struct.pack("<H", number) + data)


@settings(max_examples=examples(300))
@given(A_MESSAGE | A_COMMAND, st.data())
def test_damaged_messages(value: Any, data: st.DataObject) -> None:
    coded = bytearray(encode_command(value) if type(value) in COMMANDS.values() else encode(value))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(coded) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "add", "big"])):
            case "flip":
                coded[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del coded[at : at + data.draw(st.integers(1, 8))]
            case "add":
                coded[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case _:
                coded[at : at + 4] = b"\xff\xff\xff\x7f"
        if not coded:
            return
    read(bytes(coded))


@given(A_MESSAGE)
def test_every_prefix_is_refused(message: m.Message) -> None:
    data = encode(message)
    for end in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            decode(data[:end])
    with pytest.raises(RemoteProtocolError, match="after the end"):
        decode(data + b"\0")


def test_counts_are_checked_before_anything_is_allotted() -> None:
    """A small frame that announces four thousand million items is refused at once."""
    data = bytearray(encode(m.SeatsLost(1, (7,), -5, "gone")))
    at = data.index(struct.pack("<I", 1), 2 + 6 + 8)
    data[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(RemoteProtocolError, match="more items than bytes"):
        decode(bytes(data))


def test_long_texts_in_many_items_cost_linear_time() -> None:
    """A quarter of a million texts, each announced as long as the frame: only the first is looked
    at."""
    texts = 4 * ((MAX_FRAME_BYTES - 4096) // 4) // 4
    reply = encode(m.AdminReply(1, 0, "", ("",) * texts))
    start = len(reply) - 4 * texts
    bomb = reply[:start] + struct.pack("<I", 4 * texts - 8) * texts
    with pytest.raises(RemoteProtocolError, match="longer than what holds it"):
        decode(bomb)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_floats_are_finite_both_ways(bad: float) -> None:
    with pytest.raises(LocalProtocolError, match="finite"):
        encode(m.NotServing(1, 1, "", bad, None))
    data = encode(m.NotServing(1, 1, "", 2.5, None)).replace(
        struct.pack("<d", 2.5), struct.pack("<d", bad)
    )
    with pytest.raises(RemoteProtocolError, match="finite"):
        decode(data)


def test_text_is_utf8_both_ways() -> None:
    with pytest.raises(LocalProtocolError):
        encode(m.Refusal(1, "\ud800"))
    with pytest.raises(RemoteProtocolError):
        decode(encode(m.Refusal(1, "abcd")).replace(b"abcd", b"a\xff\xfed"))


def test_what_cannot_be_said() -> None:
    here = Endpoint(0, Boot(0, b""))
    with pytest.raises(LocalProtocolError, match="SeatRow is no message"):
        encode(typing.cast("m.Message", m.SeatRow("p", "f", "u", "h", "d", "v", 1, 1.0, 1, 1)))
    with pytest.raises(LocalProtocolError, match="is no message"):
        encode(typing.cast("m.Message", m.Beat(1)))
    with pytest.raises(LocalProtocolError, match="does not belong here"):
        encode(m.PeerFrame(b"", 1, here, here, typing.cast("m.PeerBody", m.Heartbeat(1, 1, 1))))
    with pytest.raises(LocalProtocolError, match="cannot be encoded"):
        encode(m.Heartbeat(2**63, 0, 0))


def test_a_body_of_another_kind_is_refused() -> None:
    """A client's message may not come in a peer's envelope, nor a number of nothing."""
    here = Endpoint(0, Boot(0, b""))
    data = encode(m.PeerFrame(b"", 1, here, here, m.Beat(1)))
    at = data.index(struct.pack("<H", 11), 8)
    for number in (44, 1, 0, 999):
        with pytest.raises(RemoteProtocolError, match="unknown here"):
            decode(data[:at] + struct.pack("<H", number) + data[at + 2 :])


def test_too_long() -> None:
    with pytest.raises(LocalProtocolError, match="at most"):
        encode(m.Refusal(1, "x" * MAX_FRAME_BYTES))
    with pytest.raises(RemoteProtocolError, match="at most"):
        decode(bytes(MAX_FRAME_BYTES + 1))
    opened = SessionOpened(b"s", b"x" * MAX_COMMAND_BYTES, "u", "h", "d", "p", 1, 1.0, True)
    with pytest.raises(LocalProtocolError, match="at most"):
        encode_command(opened)


def test_a_full_append_fits_a_frame() -> None:
    """MAX_FRAME_BYTES leaves room for the longest row around its envelope."""
    here = Endpoint(0, Boot(1, bytes(16)))
    rows = (m.EntryRow(1, 1.0, bytes(MAX_COMMAND_BYTES)),) * 15
    frame = m.PeerFrame(bytes(16), 1, here, here, m.Append(1, NO_LAST, rows, 0, 0, 1.0, 0))
    assert decode(encode(frame)) == frame


# --- neighbouring versions --------------------------------------------------------------


class Pair(NamedTuple):
    a: int
    b: str


class PairAndMore(NamedTuple):
    a: int
    b: str
    c: float = 1.5
    d: tuple[str, ...] = ("x",)
    e: Last | None = Last(3, 4)
    f: str | None = None


class Holder(NamedTuple):
    first: Pair
    rest: tuple[Pair, ...]
    maybe: Pair | None
    name: str


class HolderOfMore(NamedTuple):
    first: PairAndMore
    rest: tuple[PairAndMore, ...]
    maybe: PairAndMore | None
    name: str
    flag: bool = True


MORE = st.builds(
    PairAndMore, INT, TEXT, FLOAT, st.lists(TEXT, max_size=2).map(tuple),
    st.none() | st.builds(Last, INT, INT), st.none() | TEXT,
)  # fmt: skip


def convert(value: Any, to: type) -> Any:
    """Written as one class, read as another."""
    compiler = Compiler({})
    data = compiler.encoder(type(value))(value)
    back, end = compiler.decoder(to)(data, 0, len(data))
    assert end == len(data)
    return back


@given(MORE, st.lists(MORE, max_size=2), st.none() | MORE, TEXT)
def test_older_and_newer_readers(
    first: PairAndMore, rest: list[PairAndMore], maybe: Any, name: str
) -> None:
    """Fields at the end are skipped by who does not know them and defaulted by who misses them,
    nested too."""
    new = HolderOfMore(first, tuple(rest), maybe, name, False)
    old = convert(new, Holder)
    assert same(old, Holder(
        Pair(*first[:2]), tuple(Pair(*each[:2]) for each in rest),
        None if maybe is None else Pair(*maybe[:2]), name,
    ))  # fmt: skip
    assert same(convert(old, HolderOfMore), HolderOfMore(
        PairAndMore(*first[:2]), tuple(PairAndMore(*each[:2]) for each in rest),
        None if maybe is None else PairAndMore(*maybe[:2]), name,
    ))  # fmt: skip


def test_each_step_of_growth_is_known() -> None:
    """A writer of any version in between: the fixed part's size tells how many fields it had."""
    sizes = [fixed_size(PairAndMore, fields) for fields in range(7)]
    assert sizes == sorted(set(sizes))
    for fields in range(2, 6):
        hints = dict(list(typing.get_type_hints(PairAndMore).items())[:fields])
        between = NamedTuple("between", list(hints.items()))  # type: ignore[misc]
        whole: Any = PairAndMore(1, "b", 2.5, ("y",), None, "f")
        assert convert(between(*whole[:fields]), PairAndMore) == PairAndMore(*whole[:fields])


def test_fields_without_a_default_are_not_made_up() -> None:
    class Less(NamedTuple):
        a: int

    with pytest.raises(Malformed, match="cut inside its fields"):
        convert(Less(1), Pair)


def test_a_record_cut_in_its_numbers_at_the_end_of_the_data() -> None:
    compiler = Compiler({})
    data = compiler.encoder(Pair)(Pair(1, ""))
    for end in range(len(data)):
        with pytest.raises((Malformed, struct.error)):
            compiler.decoder(Pair)(data[:end], 0, end)


def test_what_has_no_wire_form() -> None:
    class Odd(NamedTuple):
        a: dict[str, int]

    class Nested(NamedTuple):
        a: tuple[tuple[int, ...], ...]

    class Pairs(NamedTuple):
        a: int | str

    for cls in (Odd, Nested, Pairs):
        with pytest.raises(TypeError, match="no wire form"):
            Compiler({}).encoder(cls)
