"""What goes into the client machine and what comes out: configuration, events, actions.

Events say what happened and are in the past tense; actions say what to do and are imperative, or tell the
application something.
Connections are numbered by the machine; the transport maps the numbers to its sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from flexcore.override import override
from flexcore.record import Record
from flexcore.wire.messages import Message, ServerAddress

if TYPE_CHECKING:
    from flexcore.keys import VerifyingKey

TRIAD_MAX = 3
"""A comma list names one triad: no more than three addresses (seed, "Configuring the License Search Path")."""

ALTERNATIVES_MAX = 64
"""Alternatives of one search path. Nobody has more; a path made of a whole file by mistake has."""


PATH_ORDER = "path-order"
LEAST_LOADED = "least-loaded"


class ClientConfig(Record, kw_only=True):
    """What a client is and whom it asks.

    *path* holds the alternatives in order, each the addresses of one triad (in the order of the SERVER lines,
    where that is known) or of one server. *keys* are the publisher's public keys: with them every grant is
    verified, without them none is. *trusted_end* says that this client's connections are direct and plain, so
    that an orderly end of stream means that the process is gone (protocol.md rule 16).
    """

    path: tuple[tuple[ServerAddress, ...], ...]
    vendor: str
    user: str
    host: str
    display: str
    project: str = ""
    pid: int = 0
    software: str = "flexcore"
    keys: tuple[VerifyingKey, ...] = ()
    trusted_end: bool = True
    hostids: tuple[str, ...] = ()
    """Of this machine, for node-locked licences; they are sent when a session is opened."""
    platform: str = ""
    """Such as ``x64_lsb``, for licences with PLATFORMS=."""
    prefer: str = PATH_ORDER
    """Which of several alternatives is asked first: ``PATH_ORDER``, or ``LEAST_LOADED``, at the price of a
    question to every server before a checkout."""

    @override
    def _check(self) -> None:
        if self.prefer not in (PATH_ORDER, LEAST_LOADED):
            raise ValueError(f"prefer is {PATH_ORDER!r} or {LEAST_LOADED!r}, not {self.prefer!r}")
        if not self.path:
            raise ValueError("the search path names no server")
        if len(self.path) > ALTERNATIVES_MAX:
            raise ValueError(f"a search path has no more than {ALTERNATIVES_MAX} alternatives")
        for word in (self.vendor, self.user, self.host, self.display, self.project, self.software):
            if not word.isprintable():
                raise ValueError(f"not a printable name: {word!r}")
        for alternative in self.path:
            if not 1 <= len(alternative) <= TRIAD_MAX:
                raise ValueError(f"an alternative has one to {TRIAD_MAX} addresses: {alternative}")


class Seat(NamedTuple):
    """What was granted. *site* is the place in the search path (0 the first) of the server that granted it, below 0 for
    what was borrowed; *handle* is unique there, and there only. *started* is epoch seconds, the same on every server.
    *line* is the signed licence line that was granted from (of a count that takes several INCREMENT lines: those, one
    a line), *hostids* are those that its signature covers."""

    handle: int
    feature: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    started: float
    site: int
    line: str
    hostids: tuple[str, ...] = ()


class Trouble(Record, kw_only=True):
    """Why nobody serves this client at the moment.

    *code* is -15 where no server can be reached, -96 where one is reached and says nothing, -97 where servers
    answer but none serves (no quorum), -9 where a comma list is not one triad. *until_s*: seconds until the
    servers expect to serve, as they say it themselves. *attempts*: a line for each address.
    """

    code: int
    text: str
    until_s: float | None = None
    attempts: tuple[str, ...] = ()


# --- events --------------------------------------------------------------------------------------


class ConnectionMade(Record, kw_only=True):
    """The connection that a :class:`Connect` asked for is there."""

    conn: int


class ConnectFailed(Record, kw_only=True):
    """It is not: *error* in words, with the number of the operating system where there is one."""

    conn: int
    error: str
    refused: bool = False
    errno: int | None = None


class MessageReceived(Record, kw_only=True):
    conn: int
    message: Message


class DataReceived(Record, kw_only=True):
    conn: int
    data: bytes


class ConnectionEnded(Record, kw_only=True):
    """The other side closed (*orderly*), or the connection broke."""

    conn: int
    orderly: bool = False
    error: str = ""


NodeEvent: TypeAlias = ConnectionMade | ConnectFailed | MessageReceived | ConnectionEnded
ClientEvent: TypeAlias = ConnectionMade | ConnectFailed | DataReceived | ConnectionEnded


# --- actions: for the transport -------------------------------------------------------------------


class Connect(Record, kw_only=True):
    """Connect to *host*, all of its addresses; answer with ConnectionMade or ConnectFailed."""

    conn: int
    host: str
    port: int


class SendMessage(Record, kw_only=True):
    conn: int
    message: Message


class SendData(Record, kw_only=True):
    conn: int
    data: bytes


class Abort(Record, kw_only=True):
    """End it with a reset (SO_LINGER 1, 0), whatever is still to be sent: a server must not take this end for
    the death of the process (protocol.md rules 16 and 17). Also gives up a Connect under way. No event follows."""

    conn: int


class Close(Record, kw_only=True):
    """End it in order, after what was sent has gone. No event follows."""

    conn: int


# --- actions: for the application ------------------------------------------------------------------


class CheckoutGranted(Record, kw_only=True):
    request: int
    seat: Seat


class CheckoutDeniedAction(Record, kw_only=True):
    """The answer is no: the manual's code, a minor, the text, and more for a person in *detail*."""

    request: int
    code: int
    minor: int
    text: str
    detail: str = ""


class CheckoutQueued(Record, kw_only=True):
    """The checkout waits in the queue of *site*: *ahead* requests are before it, *text* says what is in use and by
    whom. Told again when that has changed. CheckoutGranted or CheckoutDeniedAction follow, some time."""

    request: int
    site: int
    place: int
    ahead: int
    text: str = ""


class CheckedIn(Record, kw_only=True):
    """A server has taken the seat back, or said that it was free already; or none could be asked for so long that the
    session was given up, and the seat becomes free with its lease."""

    request: int
    handle: int
    site: int = 0


class SeatLost(Record, kw_only=True):
    """This seat is not held any more, and never will be again; told at once, once."""

    handle: int
    seat: Seat
    reason: str
    code: int = 0


class StateChanged(Record, kw_only=True):
    """A master serves this alternative's session now (*ready*), or has ceased to, and why. No seat is lost by it."""

    site: int
    ready: bool
    server: ServerAddress | None
    reason: str = ""


class SeatBorrowed(Record, kw_only=True):
    """This seat is this machine's until *until* (epoch seconds by the servers' clocks, which show *wall* now): it is no
    session's any more, and whoever has *borrow* and its secret uses it without a server."""

    request: int
    seat: Seat
    borrow: bytes
    until: float
    wall: float


class BorrowRefused(Record, kw_only=True):
    """This seat is not borrowed; it is held as before, unless a SeatLost says otherwise. *certain*: a server said so;
    else nobody answered in time, and it may have been lent all the same."""

    request: int
    handle: int
    site: int
    code: int
    minor: int
    text: str
    detail: str = ""
    certain: bool = False


class BorrowKnown(Record, kw_only=True):
    """What was asked for as *borrow*, by a run that never heard the answer, is this machine's until *until* (epoch
    seconds by the servers' clocks, which show *wall* now)."""

    request: int
    borrow: bytes
    until: float
    wall: float


class ServerReached(Record, kw_only=True):
    """The server that serves at *site* has answered since an errand began there."""

    site: int


class BorrowGivenBack(Record, kw_only=True):
    """The answer to an early return: *code* 0 where it is back, else one of the manual's with its text. *has_lent*: by
    one of the servers that lent it; that others know nothing of it says nothing."""

    request: int
    code: int
    text: str
    detail: str
    has_lent: bool


class BorrowNoted(Record, kw_only=True):
    """*seen* (epoch seconds) is the latest time at which what was borrowed as *borrow* was in use: write it down, so
    that a clock that is set back is found."""

    borrow: bytes
    seen: float


class Closed(Record, kw_only=True):
    """Everything that :meth:`ClientNode.close` began is done; no action follows."""


TransportAction: TypeAlias = Connect | Abort | Close
ApplicationAction: TypeAlias = (
    CheckoutGranted
    | CheckoutDeniedAction
    | CheckoutQueued
    | CheckedIn
    | SeatLost
    | StateChanged
    | Closed
    | SeatBorrowed
    | BorrowRefused
    | BorrowNoted
    | BorrowKnown
    | BorrowGivenBack
    | ServerReached
)
NodeAction: TypeAlias = TransportAction | SendMessage | ApplicationAction
ClientAction: TypeAlias = TransportAction | SendData | ApplicationAction
