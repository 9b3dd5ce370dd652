"""What lmstat asks one server, and what it makes of three answers: messages in, messages out, whatever carries them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from flexcore.codes import ErrorCode
from flexcore.report.lmstat import header_lines, lmstat_text
from flexcore.report.status import SERVING, Failure, ServerStatus, Status, seats_from
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    ClientHello,
    FeatureRow,
    Message,
    QueueRow,
    ReservationRow,
    SeatRow,
    ServerAddress,
    ServerHello,
    StatusPage,
    StatusRequest,
)

TIMEOUT_S = 3.0
"""How long a server's answer is waited for, as ``flexcore lmstat`` does."""

PAGES_MAX = 10_000
"""More pages than this are no honest answer."""

SOFTWARE = "flexcore 0.1"
"""What servers and askers of a test call themselves: the same in every version, so that a test may compare texts."""


class Inquiry:
    """One conversation: the hello, and of a server that serves its features and seats, if *usage* asks for them."""

    def __init__(self, *, usage: bool) -> None:
        self.hello: ServerHello | None = None
        self.failure: Failure | None = None
        self.features: list[FeatureRow] = []
        self.seats: list[SeatRow] = []
        self.queue: list[QueueRow] = []
        self.reservations: list[ReservationRow] = []
        self._wanted = ["seats", "features"] if usage else []
        self._seq = 0

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.failure is not None or (self.hello is not None and not self._wanted)

    @property
    def is_serving(self) -> bool:
        """Whether the server says that it serves."""
        return self.hello is not None and self.hello.report.state == SERVING

    def begin(self) -> Message:
        """The first message to the server."""
        return ClientHello(PROTOCOL_VERSION, SOFTWARE, "", 0)

    def answered(self, message: Message) -> Message | None:
        """Take an answer in; returns the next question, if there is one."""
        if isinstance(message, ServerHello):
            self.hello = message
            if not self.is_serving:
                self._wanted.clear()
            return self._ask("")
        if not isinstance(message, StatusPage) or message.seq != self._seq or not self._wanted:
            return None
        self.features += message.features
        self.seats += message.seats
        self.queue += message.queue
        self.reservations += message.reservations
        if message.cursor and self._seq < PAGES_MAX:
            return self._ask(message.cursor)
        if self._wanted.pop() == "features" and any(row.queued for row in self.features):
            self._wanted.insert(0, "queue")
        return self._ask("")

    def failed(self, number: int) -> None:
        """The conversation ended, with this number of the operating system, before it was over."""
        if not self.is_over:
            self.failure = Failure(ErrorCode.CANNOT_CONNECT, number, os.strerror(number))

    def refused(self) -> None:
        """Nobody listens."""
        self.failed(errno.ECONNREFUSED)

    def timed_out(self) -> None:
        """Nobody answers."""
        self.failed(errno.ETIMEDOUT)

    def _ask(self, cursor: str) -> Message | None:
        if not self._wanted:
            return None
        self._seq += 1
        return StatusRequest(self._seq, self._wanted[-1], "", cursor)


def master_of(inquiries: Sequence[Inquiry]) -> int | None:
    """Return the place of the server that serves: of two that say so, of the one with the higher term."""
    best: int | None = None
    best_term = -1
    for place, inquiry in enumerate(inquiries):
        if inquiry.is_serving and inquiry.hello is not None and inquiry.hello.report.term > best_term:
            best, best_term = place, inquiry.hello.report.term
    return best


def lmstat_of(
    inquiries: Sequence[Inquiry], addresses: Sequence[ServerAddress], *, vendor: str, wall: float, usage: bool
) -> str:
    """Return what ``flexcore lmstat -a`` prints, in UTC; without *usage* what it prints without ``-a``."""
    master = master_of(inquiries)
    seats = () if master is None else inquiries[master].seats
    queue = () if master is None else inquiries[master].queue
    status = Status(
        wall=wall,
        servers=tuple(
            ServerStatus(address=address, report=None if inquiry.hello is None else inquiry.hello.report,
                         failure=inquiry.failure if inquiry.hello is None else None)
            for address, inquiry in zip(addresses, inquiries, strict=True)
        ),
        vendor=vendor,
        features=() if master is None else tuple(inquiries[master].features),
        reservations=() if master is None else tuple(inquiries[master].reservations),
        failure=None if master is None else inquiries[master].failure,
    )  # fmt: skip
    lines = [
        *header_lines(wall, 0.0),
        *lmstat_text(
            status, seats_from(seats), lambda name: (row for row in queue if row.feature == name),
            utc_offset_s=0.0, usage=usage,
        ),
    ]
    return "\n".join(lines) + "\n"
