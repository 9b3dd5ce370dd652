"""What the ledger records: outcomes, not requests (protocol.md rule 18).

Each command is a value whose meaning is fixed for ever; ``apply`` needs nothing but the log to
carry it out: no clock, no options, no calendar. They are encoded by :mod:`flexcore.wire.codec` like
messages, with type numbers of their own; a number is never used again for something else. Fields
may be added at the end with a default.

An entry's *stamp* is the master's wall clock at append (never decreasing along the log); the start
time of a seat is the stamp of the entry that granted it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class TermStarted(NamedTuple):
    """First entry of a term (rule 5), by the master of that term; names TO and L (rule 2)."""

    rank: int
    timeout_s: float
    lease_s: float


class Formed(NamedTuple):
    """The first entry of a triad's life (rule 9)."""

    triad_id: bytes
    rank: int
    membership_digest: bytes


class Rights(NamedTuple):
    """The signed lines in force from here on, by digest (rule 19)."""

    digest: bytes


class SessionOpened(NamedTuple):
    """A client's session (rule 17). Its id and secret come from the client."""

    session: bytes
    secret: bytes
    user: str
    host: str
    display: str
    project: str
    pid: int
    lease_s: float
    trusted_end: bool
    hostids: tuple[str, ...] = ()
    """Of the client's machine, by its own word: what node-locked lines are compared with."""
    platform: str = ""
    address: str = ""
    """From where it was opened, as the server saw it: what INTERNET rules are compared with."""


class SessionEnded(NamedTuple):
    """A session is over and everything that it held is free: goodbye, or its lease ran out (rule
    17)."""

    session: bytes
    reason: str


class Share(NamedTuple):
    """What a seat takes of *pool*: its count together with all seats of the same *group* there, the
    largest of them once; all of its count where *group* is ''."""

    pool: str
    group: str


class SeatGranted(NamedTuple):
    """*count* seats of *feature* to *session*, out of pool *pool*, as *handle*; the result of
    *request* (rules 17, 18).

    *shares* is () for a seat that takes *count* of *pool* and nothing else. Otherwise it says what
    the seat takes, of *pool* first: shared with a duplicate group, and of a suite's pool."""

    session: bytes
    request: int
    answered: int
    handle: int
    feature: str
    pool: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    shares: tuple[Share, ...] = ()


class SeatReturned(NamedTuple):
    """Handle *handle* was given back by its session (request > 0) or taken from it (request 0, with
    a reason)."""

    session: bytes
    request: int
    answered: int
    handle: int
    reason: str


class RequestWithdrawn(NamedTuple):
    """The client gave up request *target*: if it was granted its seats are free; it is refused from
    now on (rule 17)."""

    session: bytes
    request: int
    answered: int
    target: int


class RequestQueued(NamedTuple):
    """Request *request* waits for *count* seats of *feature* (*version* as it was asked for, '' for
    any); its place in the queue is the index of this entry (:mod:`flexcore.ledger.queue`)."""

    session: bytes
    request: int
    answered: int
    feature: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls


class RequestUnqueued(NamedTuple):
    """A request that waited is refused after all: it can never be served, for *reason*."""

    session: bytes
    request: int
    reason: str


class SeatBorrowed(NamedTuple):
    """*handle* leaves *session* and is lent until *until* (epoch seconds), as *borrow*, whose id and
    secret come from the client; *hostids* are of the machine that may use it without a server
    (:mod:`flexcore.ledger.borrowing`). The result of *request*."""
    session: bytes
    request: int
    answered: int
    handle: int
    borrow: bytes
    secret: bytes
    until: float
    hostids: tuple[str, ...]


class BorrowEnded(NamedTuple):
    """A borrow is over and its seat is free: it was returned, or its time has passed by the middle of
    the servers' clocks (rule 18)."""

    borrow: bytes
    reason: str


class SeatLingers(NamedTuple):
    """Handle *handle* was given back (request > 0) or its session is about to end (request 0), and
    stays with its user for *total_s* seconds: until the linger clock shows *ends_s*
    (:mod:`flexcore.ledger.lingering`)."""

    session: bytes
    request: int
    answered: int
    handle: int
    total_s: float
    ends_s: float


class LingerPassed(NamedTuple):
    """The linger clock shows *clock_s*, and these lingering handles are free."""

    clock_s: float
    ended: tuple[int, ...] = ()


class LingerResumed(NamedTuple):
    """A SeatGranted to whom the handles *ended* linger for: it takes them over."""

    session: bytes
    request: int
    answered: int
    handle: int
    feature: str
    pool: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    shares: tuple[Share, ...]
    ended: tuple[int, ...]


class SeatRemoved(NamedTuple):
    """Handle *handle* of *session* is taken away: it is free once the client has given it back, or its
    session is over. *reason* is a word for the log, *text* what the client is told."""

    session: bytes
    handle: int
    code: int
    reason: str
    text: str


Command: TypeAlias = (
    TermStarted
    | Formed
    | Rights
    | SessionOpened
    | SessionEnded
    | SeatGranted
    | SeatReturned
    | RequestWithdrawn
    | RequestQueued
    | RequestUnqueued
    | SeatLingers
    | LingerPassed
    | LingerResumed
    | SeatRemoved
    | SeatBorrowed
    | BorrowEnded
)
