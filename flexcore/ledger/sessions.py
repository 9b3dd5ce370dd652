"""What the ledger's state is made of: sessions, the seats that they hold, and what came of their
requests."""

from __future__ import annotations

from typing import NamedTuple

import attrs

from flexcore.errors import StateDamaged
from flexcore.ledger.commands import (
    RequestWithdrawn,
    SeatBorrowed,
    SeatGranted,
    SeatReturned,
    Share,
)

RESULTS_MAX = 256
"""How many requests of one session may be open (not yet answered): the checkout refuses more, see
Session.outstanding."""


class LedgerCorrupt(StateDamaged):
    """A log or a snapshot makes no sense: entries that contradict each other, or damaged bytes. The
    server stops."""


class Removal(NamedTuple):
    """A seat is taken away (lmremove, TIMEOUT): what its client is told, and *reason*, a word for the
    log."""

    code: int
    reason: str
    text: str


class Linger(NamedTuple):
    """Whose a lingering seat is (:mod:`flexcore.ledger.lingering`). *ends_s*: at which reading of the
    ledger's linger clock it is over; *total_s*: for how long it lingers in all."""

    user: str
    host: str
    display: str
    project: str
    address: str
    pid: int
    ends_s: float
    total_s: float


class Seat(NamedTuple):
    """A grant that is held: *count* seats of *feature* out of *pool*. *started*, *entry*: stamp and
    index of the grant."""

    handle: int
    session: bytes
    request: int
    feature: str
    pool: str
    version: str
    seats: int
    started: float
    entry: int
    shares: tuple[Share, ...] = ()
    """Of which pools it takes what (see SeatGranted)."""
    removal: Removal | None = None
    linger: Linger | None = None
    """It was given back and lingers: *session* is b"" then."""


class Queued(NamedTuple):
    """A request that waits (:mod:`flexcore.ledger.queue`). *place*: the index of its entry; *since*:
    the stamp of that."""

    place: int
    session: bytes
    request: int
    feature: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    since: float


class Outcome(NamedTuple):
    """What came of a request: its entry's index and stamp, and the command itself. Tell the client
    once index is committed."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    stamp: float
    command: SeatGranted | SeatReturned | RequestWithdrawn | SeatBorrowed


@attrs.define
class Session:
    """A client's session (rule 17)."""

    session: bytes
    secret: bytes = attrs.field(repr=False)
    user: str
    host: str
    display: str
    project: str
    pid: int
    lease_s: float
    trusted_end: bool
    opened: float
    """Stamp of its entry."""
    opened_index: int
    answered: int = 0
    """The client has its answers up to this request; these numbers are over."""
    results: dict[int, Outcome] = attrs.field(factory=dict)
    withdrawn: set[int] = attrs.field(factory=set)
    """Requests that were given up: never granted from now on."""
    seats: dict[int, Seat] = attrs.field(factory=dict)
    """What it holds, by handle; not in any particular order (LedgerState.seats_of)."""
    hostids: tuple[str, ...] = ()
    platform: str = ""
    address: str = ""
    queued: dict[int, Queued] = attrs.field(factory=dict)
    """Its requests that wait, by number."""
    borrowed_until: float = 0.0
    """Not 0: this is no session but a borrow, which ends by an entry after this instant (epoch
    seconds; :mod:`flexcore.ledger.borrowing`)."""

    @property
    def outstanding(self) -> int:
        """How many requests the ledger remembers for it: at most RESULTS_MAX, by the checkout's
        care."""
        return len(self.results) + len(self.withdrawn)

    def is_over(self, request: int, answered: int = 0) -> bool:
        """Whether *request* must be refused: answered already (also by what comes with it), or
        withdrawn."""
        return request <= self.answered or request <= answered or request in self.withdrawn

    def seat_of(self, request: int) -> Seat | None:
        """What *request* was granted, if it is still held."""
        return next((seat for seat in self.seats.values() if seat.request == request), None)

    def copy(self) -> Session:
        """One that shares nothing that changes."""
        return attrs.evolve(
            self, results=dict(self.results), withdrawn=set(self.withdrawn),
            seats=dict(self.seats), queued=dict(self.queued),
        )  # fmt: skip
