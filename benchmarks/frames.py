"""Frames of the load generator: made and read at a few fixed places, since on one CPU its work is measured too.

Where those places are is not written down here a second time: it is found in what the codec makes of a sample, and an
assertion at import says so if the wire format has moved.
"""

from __future__ import annotations

import struct

from flexcore.wire.connection import Connection
from flexcore.wire.messages import CheckedIn, Checkin, Checkout, Denied, Granted, Message

LENGTH = struct.Struct(">I")
KIND = struct.Struct("<H")
AHEAD = LENGTH.size
REPLY = struct.Struct("<QQQ?Q")
"""seq, request, term, renews, and of Granted and CheckedIn the handle."""
_MARKS = (0x1112131415161718, 0x2122232425262728, 0x3132333435363738, 0x4142434445464748)


def frame_of(message: Message) -> bytes:
    """What goes over the wire."""
    return Connection().send(message)


def _around(message: Message, marks: int) -> tuple[bytes, bytes]:
    """What stands before and behind the numbers of a frame, which follow each other."""
    numbers = struct.pack(f"<{marks}Q", *_MARKS[:marks])
    before, found, after = frame_of(message).partition(numbers)
    assert found, f"the numbers of {type(message).__name__} do not stand together any more"
    return before, after


class Asking:
    """Makes the frames of checkouts of one feature, and of checkins."""

    def __init__(self, feature: str, version: str = "1.0") -> None:
        self._before, self._after = _around(Checkout(*_MARKS[:3], feature, version, 1, 0), 3)
        self._back_before, self._back_after = _around(Checkin(*_MARKS, 0), 4)
        self._three = struct.Struct("<3Q").pack
        self._four = struct.Struct("<4Q").pack

    def checkout(self, request: int) -> bytes:
        """Checkout number *request* of its session; what came before is answered."""
        return self._before + self._three(request + 1, request, request - 1) + self._after

    def checkin(self, request: int, handle: int) -> bytes:
        """Give *handle* back."""
        return self._back_before + self._four(request + 1, request, request - 1, handle) + self._back_after


def _kind_and_place(message: Granted | CheckedIn | Denied) -> tuple[int, int]:
    frame = frame_of(message)
    place = frame.index(struct.pack("<QQ", *_MARKS[:2]))
    assert REPLY.unpack_from(frame + bytes(REPLY.size), place)[:3] == (*_MARKS[:2], 7)
    return KIND.unpack_from(frame, AHEAD)[0], place


GRANTED, PLACE = _kind_and_place(Granted(*_MARKS[:2], 7, True, 9, "f", "1", 1, 0.0, "", ()))
CHECKED_IN, _place_in = _kind_and_place(CheckedIn(*_MARKS[:2], 7, True, 9))
DENIED, _place_no = _kind_and_place(Denied(*_MARKS[:2], 7, True, -4, 342, "", ""))
assert PLACE == _place_in == _place_no


class Replies:
    """Takes the bytes of one connection apart."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> list[tuple[int, int, int]]:
        """(kind, request, handle) of each reply that has arrived whole."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        found = []
        while end - at >= AHEAD:
            behind = at + AHEAD + LENGTH.unpack_from(data, at)[0]
            if behind > end:
                break
            kind = KIND.unpack_from(data, at + AHEAD)[0]
            if kind == DENIED:
                found.append((kind, int.from_bytes(data[at + PLACE + 8 : at + PLACE + 16], "little"), 0))
            else:
                _, request, _, _, handle = REPLY.unpack_from(data, at + PLACE)
                found.append((kind, request, handle))
            at = behind
        self._rest = data[at:]
        return found
