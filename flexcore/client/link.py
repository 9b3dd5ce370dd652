"""One connection of the client, from Connect to its end."""

from __future__ import annotations

import enum

from flexcore import timing
from flexcore.client.state import State
from flexcore.wire.messages import ServerAddress, ServerHello, ServerReport

LINK_WAIT_S = 5.0
"""How long connecting, the server's hello, the answer to a poll or to opening a session may take, each."""


class Stage(enum.IntEnum):
    """How far a connection has come."""

    CONNECTING = 0
    GREETING = 1  # connected, hello sent
    PARKED = 2  # greeted; this server does not serve, or is not asked to: it is polled
    OPENING = 3  # OpenSession or ResumeSession sent
    READY = 4  # the session lives here
    LEAVING = 5  # goodbye sent


class Link(State):
    __slots__ = (
        "address",
        "conn",
        "deadline_at",
        "hello",
        "hello_at",
        "poll_at",
        "poll_delay_s",
        "poll_seq",
        "report",
        "report_at",
        "stage",
        "touched",
    )
    NUMBERING = frozenset({"conn", "poll_seq"})

    def __init__(self, conn: int, address: ServerAddress, now: float) -> None:
        self.conn = conn
        self.address = address
        self.stage = Stage.CONNECTING
        self.deadline_at: float | None = now + LINK_WAIT_S
        self.hello_at = now  # when ours was sent
        self.hello: ServerHello | None = None
        self.report: ServerReport | None = None
        self.report_at = now
        self.poll_at = now
        self.poll_delay_s = timing.CLIENT_RETRY_MIN_S
        self.poll_seq = 0
        self.touched = False  # it has carried a message of the session: never to be closed in order (rule 16)

    @property
    def is_home(self) -> bool:
        """Whether the session is here, or about to be."""
        return self.stage is Stage.READY or self.stage is Stage.OPENING

    @property
    def serves(self) -> bool:
        """Whether the server said, last, that it is master and serves."""
        return self.report is not None and self.report.state == "serving"

    def learn(self, report: ServerReport, now: float) -> None:
        self.report = report
        self.report_at = now

    def park(self, now: float, most_s: float) -> None:
        """Ask again later: 0.1 s doubled up to *most_s*, or when the server itself expects to serve."""
        self.stage = Stage.PARKED
        self.deadline_at = None
        wait = min(self.poll_delay_s, most_s)
        if self.report is not None and self.report.until_s is not None:
            until = self.report.until_s + timing.CLIENT_RETRY_MIN_S
            if 0.0 < until < wait:
                wait = until
        self.poll_at = now + wait
        self.poll_delay_s = min(2.0 * self.poll_delay_s, timing.CLIENT_RETRY_MAX_S)

    def hurry(self, now: float) -> None:
        """Somebody says that this server is master now: ask it soon."""
        self.poll_at = min(self.poll_at, now + timing.CLIENT_RETRY_MIN_S)
