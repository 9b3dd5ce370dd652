"""One connection of the client, from Connect to its end, and how long it is waited for.

A server that says nothing is given up after max(5 s, 5 round trips), each time twice as long until it has answered
once, and in no case so long that a lease could end over it. The numbers:

* **5 round trips** for a hello, a poll, the opening of a session. TCP on a fresh connection sends a lost segment again
  after three round trips (RFC 6298: the first sample R makes a timeout of R + 4*R/2), so its answer comes after four;
  the fifth is for the spread. Giving up before that throws away a connection that works, and the next begins from
  nothing: at 1.5 s each way and a loss of 10 % the lease ran out although the master served.
* **2 round trips** for connecting: a lost SYN is sent again after 1 s and 3 s whatever the round trip, so one answer
  and as much again; never more than 10 s, for a machine that is switched on again answers a new SYN sooner.
* **How the round trip is known** before anything was answered: from the connecting itself (one round trip, or more).
  Where that says nothing (a tunnel's near end answers for the far one), a wait that was too short is doubled the next
  time, until the first answer: there is no sample, but the round trip is no shorter than the wait was.
* **What the lease allows.** L = TO + 30 s: when the slowest successor begins to serve, 30 s less a heartbeat (10 s)
  are left, 20 s. Waiting for a connection that is dead may have half of that, 10 s; the other half is for connecting,
  hello and resuming anew, which is enough while a round trip takes no more than 3.3 s. While more than 40 s are left,
  a quarter of what is left: three quarters are there for the rest. A *hung* server is not what this bounds, since only
  its own address waits: the others are asked beside it, and one of them that serves is moved to, from the moment of
  suspicion on (:meth:`~flexcore.client.pursuit.Pursuit.suspect_at`).

``tests/test_client_slow.py`` has the schedules.
"""

from __future__ import annotations

import enum

from flexcore import timing
from flexcore.client.state import State
from flexcore.wire.messages import ServerAddress, ServerHello, ServerReport

LINK_WAIT_S = 5.0
"""How long connecting, the server's hello, the answer to a poll or to opening a session may take at least, each."""

LINK_WAIT_ROUND_TRIPS = 5
CONNECT_WAIT_ROUND_TRIPS = 2

CONNECT_WAIT_MAX_S = 10.0

LINK_WAIT_MAX_S = 60.0
"""The longest wait where no lease is at stake."""

LEASE_WAIT_S = 10.0
LEASE_WAIT_SHARE = 0.25
"""Where one is: max(10 s, a quarter of what is left of it)."""


def link_wait_s(round_trip_s: float, silences: int, lease_left_s: float | None) -> float:
    """Return how long an answer on a connection is waited for; see the head of this file.

    *silences*: how many waits for this address were in vain since it last answered. *lease_left_s*: None where nothing
    is held.
    """
    wait = max(LINK_WAIT_S, LINK_WAIT_ROUND_TRIPS * round_trip_s)
    most = LINK_WAIT_MAX_S
    if lease_left_s is not None:
        most = max(LEASE_WAIT_S, LEASE_WAIT_SHARE * lease_left_s)
    return min(wait * 2.0**silences, most)


def connect_wait_s(round_trip_s: float, silences: int) -> float:
    """Return how long connecting may take."""
    wait = max(LINK_WAIT_S, CONNECT_WAIT_ROUND_TRIPS * round_trip_s)
    return min(wait * 2.0**silences, CONNECT_WAIT_MAX_S)


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

    def __init__(self, conn: int, address: ServerAddress, now: float, wait_s: float) -> None:
        self.conn = conn
        self.address = address
        self.stage = Stage.CONNECTING
        self.deadline_at: float | None = now + wait_s
        self.hello_at = now  # when ours was sent; before that, when connecting began
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
