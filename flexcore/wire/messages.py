"""Everything that is said on a connection: clients, utilities and peers share one port and one
framing.

A message is a NamedTuple; :mod:`flexcore.wire.codec` turns it into bytes by its annotations (bool,
int, float, str, bytes, ``X | None``, ``tuple[X, ...]``, another of these). Fields may be added at
the end with a default: an older reader ignores them, a newer one takes the default. Type numbers
stand in the codec's table and are never used again for something else.

*seq* numbers a client's messages on one session (or connection, for utilities) so that answers find
their question; *request* numbers what must happen exactly once (protocol.md rule 17); *answered*
says up to which request the client has its answers. *term* in an answer is the master's; *renews*
says whether the question renews the client's lease (rule 15).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from flexcore.identity import Boot, Endpoint, Last

PROTOCOL_VERSION = 1

# --- peers ----------------------------------------


class EntryRow(NamedTuple):
    """One entry of the log; its index follows from its place."""

    term: int
    stamp: float
    payload: bytes


class Seen(NamedTuple):
    """What a server remembers that another showed: its boot, and its last entry as that server said
    it durable."""

    boot: Boot
    last: Last


class Release(NamedTuple):
    """The master's word that its lease in *term* is over, for *to* (rule 10), or for nobody in
    particular (rule 22)."""

    term: int
    giver: Endpoint
    to: Endpoint | None


class Hello(NamedTuple):
    """First message on a link, both ways: the dialler's carries a fresh nonce, the answer echoes it
    (rules 6, 7, 8, 19)."""

    nonce: bytes
    echo: bytes
    last: Last
    durable_last: Last
    seen_of_you: Seen | None
    promised_to: Endpoint | None
    member: bool
    has_state: bool
    only_formed: bool
    committed_triad: bytes
    uptime_s: float
    protocol: int
    software: str
    vendor: str
    membership_digest: bytes
    hostids: tuple[str, ...]
    rights_digest: bytes
    committed_rights: bytes
    primary_is_master: bool
    timeout_s: float
    longest_timeout_s: float
    wall: float
    serving: bool
    forming_at_s: float | None = None
    """Seconds until this blank server may form a triad; None: it is not waiting to."""
    first_start: bool = False
    """The administrator said at this server that nothing is held (rule 9)."""
    options_digest: bytes = b""
    """Names the rules of its options file; b"": it does not say."""
    knows: tuple[int, ...] = ()
    """Type numbers of the :data:`LATER_REQUESTS` that it understands."""


class PreVote(NamedTuple):
    """Would you vote for me in the next term? Binds nobody (rule 3; Raft thesis 9.6)."""

    next_term: int
    last: Last
    nonce: bytes


class PreVoteReply(NamedTuple):
    ok: bool
    last: Last
    nonce: bytes
    free_in_s: float


class Pull(NamedTuple):
    """Catch-up: send me what you have from *from_index* on (rule 3); *offset* continues a
    snapshot."""

    from_index: int
    nonce: bytes
    offset: int = 0


class PullReply(NamedTuple):
    """Entries after *prev*, or a piece of the snapshot whose last entry is *prev*."""

    nonce: bytes
    prev: Last
    entries: tuple[EntryRow, ...]
    last: Last
    snapshot: bytes | None = None
    offset: int = 0
    snapshot_size: int = 0
    snapshot_stamp: float = 0.0


class Vote(NamedTuple):
    """Vote for me in this term (rule 4), perhaps with the old master's release (rule 10)."""

    last: Last
    round: int
    nonce: bytes
    release: Release | None


class VoteReply(NamedTuple):
    ok: bool
    round: int
    nonce: bytes
    promise_s: float


class Append(NamedTuple):
    """The master's entries, heartbeat and round in one (rules 5, 12, 15)."""

    round: int
    prev: Last
    entries: tuple[EntryRow, ...]
    commit: int
    durable: int
    wall: float
    last_ack_from_you: int
    pull: bool = False
    """The rows that you lack are in the snapshot by now: pull."""


class AppendReply(NamedTuple):
    """ok: *match* is durable here up to that index. promise_s is 0 where nothing is promised (rule
    12)."""

    ok: bool
    round: int
    match: int
    promise_s: float
    wall: float


class Beat(NamedTuple):
    """The plain heartbeat of a server that is not master: it promises nothing (protocol.md section
    2)."""

    sent: int


class BeatReply(NamedTuple):
    sent: int


class TimeoutNow(NamedTuple):
    """Leadership transfer: stand now, without pre-vote (rule 10; Raft thesis 3.10)."""

    release: Release


class Recover(NamedTuple):
    nonce: bytes


class RecoverReply(NamedTuple):
    nonce: bytes
    last: Last
    serving: bool
    confirmed: bool
    longest_timeout_s: float
    seen_of_you: Seen | None
    member: bool
    committed_triad: bytes


class FormPropose(NamedTuple):
    """Form a triad with me, and vote for me in its first term (rule 9)."""

    triad_id: bytes
    last: Last
    round: int
    first_start: bool


class FormReply(NamedTuple):
    """wait_s: seconds until this server would agree; promise_s as in VoteReply."""

    ok: bool
    triad_id: bytes
    round: int
    promise_s: float
    wait_s: float


class StopRelease(NamedTuple):
    """Stop of all three (rule 22): the master's lease is over; store this, then exit."""

    release: Release | None
    requested_by: str


class StopReleaseReply(NamedTuple):
    stored: bool


class StopAll(NamedTuple):
    """To the master from a peer that lmdown asked: stop all three."""

    requested_by: str


class Reread(NamedTuple):
    """An administrator wants the licence file to be read anew (rule 19). *number* comes back with
    the answer."""

    number: int
    requested_by: str


class RereadReply(NamedTuple):
    """What came of a reread at one server. *code*: 0, or why it keeps what it has (*text*).

    *digest* names the signed lines of its file as it knows them now, *in_force* those that its ledger
    has in force. *changes* are what was added,
    removed and changed, a sentence each; *remarks* what takes effect only at its next start.
    """

    number: int
    code: int
    text: str
    digest: bytes
    in_force: bytes
    changes: tuple[str, ...]
    remarks: tuple[str, ...]


class Remove(NamedTuple):
    """To the master: an administrator wants seats to be taken away (lmremove). *arguments* as in
    AdminRequest; *number* comes back with the answer."""

    number: int
    arguments: tuple[str, ...]
    requested_by: str


class RemoveReply(NamedTuple):
    """*code*: 0, or why nothing was taken away; *lines* are for the administrator."""

    number: int
    code: int
    lines: tuple[str, ...]


class Switch(NamedTuple):
    """An administrator wants the logs of all servers to go on elsewhere (lmswitch, lmswitchr, lmnewlog).
    *verb* and *arguments* as in AdminRequest; *number* comes back with the answer."""

    number: int
    verb: str
    arguments: tuple[str, ...]
    requested_by: str


class SwitchReply(NamedTuple):
    """*code*: 0, or why the log goes on where it was (*text*)."""

    number: int
    code: int
    text: str


LATER_REQUESTS: Mapping[type, int] = {Remove: 58, Switch: 90}
"""Requests of one server to another that came after the first, with their type numbers. One is sent only to a
server whose Hello names it: another is of an older version, and a number that it does not know ends the link."""

PeerBody: TypeAlias = (
    Hello
    | PreVote
    | PreVoteReply
    | Pull
    | PullReply
    | Vote
    | VoteReply
    | Append
    | AppendReply
    | Beat
    | BeatReply
    | TimeoutNow
    | Recover
    | RecoverReply
    | FormPropose
    | FormReply
    | StopRelease
    | StopReleaseReply
    | StopAll
    | Reread
    | RereadReply
    | Remove
    | RemoveReply
    | Switch
    | SwitchReply
)


class PeerFrame(NamedTuple):
    """Envelope of everything between servers (protocol.md section 2). *target.boot* is (0, b"")
    where it is not known."""

    triad_id: bytes
    term: int
    sender: Endpoint
    target: Endpoint
    body: PeerBody


# --- clients ----------------------------------------


class ServerAddress(NamedTuple):
    host: str
    port: int


class ServerReport(NamedTuple):
    """What a server says of itself to anyone: the raw material of lmstat, JSON and metrics.

    state: 'serving', 'follower', 'candidate', 'waiting' (no quorum), 'recovering', 'forming',
    'stopping'. reason: one sentence why it does not serve, empty when it does. until_s: seconds
    until that ends, None if unknown.
    """

    name: str
    rank: int
    state: str
    term: int
    master_rank: int
    reason: str
    until_s: float | None
    uptime_s: float
    software: str
    license_path: str
    peers_up: tuple[int, ...]
    notes: tuple[str, ...]
    commit: int
    vendor_up: bool


class ClientHello(NamedTuple):
    """First message of a client or utility. *vendor* may be empty for a utility; it names one where a
    server has several."""

    protocol: int
    software: str
    vendor: str
    term_seen: int
    utility: bool = False
    wall: float = 0.0
    """The client's calendar clock, epoch seconds (-34); 0: it does not say."""


class ServerHello(NamedTuple):
    protocol: int
    software: str
    nonce: bytes
    vendor: str
    servers: tuple[ServerAddress, ...]
    report: ServerReport
    lease_s: float
    wall: float
    membership_digest: bytes = b""
    vendors: tuple[str, ...] = ()
    """All vendors behind this port where there are several, the one that answers among them."""


class OpenSession(NamedTuple):
    seq: int
    session: bytes
    secret: bytes
    user: str
    host: str
    display: str
    project: str
    pid: int
    trusted_end: bool
    term_seen: int
    hostids: tuple[str, ...] = ()
    """What the client's machine shows, for node-locked lines; its own word, as *user* is."""
    platform: str = ""
    """Such as ``x64_lsb``, for PLATFORMS=."""


class ResumeSession(NamedTuple):
    """*proof* = session_proof(secret, ServerHello.nonce, session): the secret itself never travels
    again."""

    seq: int
    session: bytes
    proof: bytes
    term_seen: int


class HeldSeat(NamedTuple):
    handle: int
    feature: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    started: float


SESSION_OPEN = "open"
SESSION_ENDED = "ended"
SESSION_UNKNOWN = "unknown"
SESSION_REFUSED = "refused"


class SessionReply(NamedTuple):
    """To OpenSession and ResumeSession; *state* is one of the SESSION_* words."""

    seq: int
    term: int
    renews: bool
    state: str
    lease_s: float
    held: tuple[HeldSeat, ...]
    text: str = ""


class Checkout(NamedTuple):
    """version '' = the highest on offer (design.md section 10). *queue*: wait for it if it is not
    free. The same request again, also after a failover, asks how it stands."""

    seq: int
    request: int
    answered: int
    feature: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    term_seen: int
    queue: bool = False


class Granted(NamedTuple):
    """*line* is the signed feature line, or as many of them as the count takes, one a line;
    *hostids* are those of the SERVER lines in order: enough to verify the signatures."""

    seq: int
    request: int
    term: int
    renews: bool
    handle: int
    feature: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    started: float
    line: str
    hostids: tuple[str, ...]


class Queued(NamedTuple):
    """To a Checkout that may wait: it has *place* (rises with time, stays the same while it waits),
    *ahead* requests are before it, *text* says what is in use and by whom. Granted or Denied follow
    unasked, with seq 0; *request* counts as answered from here on."""

    seq: int
    request: int
    term: int
    renews: bool
    place: int
    ahead: int
    text: str


class Denied(NamedTuple):
    """A request was refused: the manual's code, a minor, the text, and what a person needs to know
    in *detail*."""

    seq: int
    request: int
    term: int
    renews: bool
    code: int
    minor: int
    text: str
    detail: str


class Checkin(NamedTuple):
    seq: int
    request: int
    answered: int
    handle: int
    term_seen: int


class CheckedIn(NamedTuple):
    seq: int
    request: int
    term: int
    renews: bool
    handle: int


class Withdraw(NamedTuple):
    seq: int
    request: int
    answered: int
    target: int
    term_seen: int


class Withdrawn(NamedTuple):
    seq: int
    request: int
    term: int
    renews: bool
    target: int


class IdleSeat(NamedTuple):
    """The product has not used the seat *handle* for *idle_s* seconds."""

    handle: int
    idle_s: float


class Heartbeat(NamedTuple):
    """*idle*: the seats that are not used now, the longest first (TIMEOUT of the options file)."""

    seq: int
    answered: int
    term_seen: int
    idle: tuple[IdleSeat, ...] = ()
    wall: float = 0.0
    """As in ClientHello."""


class HeartbeatReply(NamedTuple):
    seq: int
    term: int
    renews: bool


class Goodbye(NamedTuple):
    """Authenticated by the connection, which proved the session's secret: frees at once (rule
    16)."""

    seq: int
    term_seen: int


class GoodbyeReply(NamedTuple):
    seq: int
    term: int


class Borrow(NamedTuple):
    """Lend me the seat *handle*, which I hold, until *until* (epoch seconds): my session gives it up,
    and my machine uses it without a server. Id (16 bytes) and secret of the borrow are drawn by the
    client. Answered by Borrowed or Denied."""

    seq: int
    request: int
    answered: int
    handle: int
    until: float
    borrow: bytes
    secret: bytes
    term_seen: int
    wall: float = 0.0
    """What the client's own clock shows (0: not told): one that is far off could not tell the end."""


class Borrowed(NamedTuple):
    """*wall* is the middle of the servers' clocks (rule 18), by which *until* is meant."""

    seq: int
    request: int
    term: int
    renews: bool
    handle: int
    borrow: bytes
    until: float
    wall: float


class ReturnBorrow(NamedTuple):
    """Early return; needs no session. *proof* = session_proof(secret, ServerHello.nonce, borrow)."""

    seq: int
    borrow: bytes
    proof: bytes
    term_seen: int


class BorrowReturned(NamedTuple):
    """code 0: the seat is back. Else one of the manual's, with its text."""

    seq: int
    term: int
    code: int
    text: str
    detail: str


class SeatsLost(NamedTuple):
    """Unasked: these seats were taken (lmremove, TIMEOUT), with the reason; the client gives them back."""

    term: int
    handles: tuple[int, ...]
    code: int
    text: str


class NotServing(NamedTuple):
    """The answer to any session message at a server that does not serve; also pushed when serving
    ends."""

    seq: int
    term: int
    reason: str
    until_s: float | None
    master: ServerAddress | None


# --- status and administration ----------------------------------------


class StatusRequest(NamedTuple):
    """*what*: 'report' or 'details' (any server), 'features', 'seats' or 'queue' (the master).
    *feature* '' = all.
    *cursor* '' = from the start."""

    seq: int
    what: str
    feature: str
    cursor: str


class QueueRow(NamedTuple):
    """A request that waits for *feature*, as it would get it out of *pool*. *handle* is its place;
    *version* what was asked for, the pool's where any will do; *since* epoch seconds."""

    pool: str
    feature: str
    user: str
    host: str
    display: str
    version: str
    handle: int
    since: float
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    pid: int


class FeatureRow(NamedTuple):
    """One pool. count 0 = uncounted. expiry as in the file ('permanent' or d-mmm-yyyy); lock '' or
    its hostid text. *queued*: how many requests wait for it."""

    feature: str
    pool: str
    version: str
    vendor: str
    expiry: str
    expires_in_days: int | None
    vendor_string: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    in_use: int
    lock: str
    error: str = ""
    queued: int = 0


class SeatRow(NamedTuple):
    pool: str
    feature: str
    user: str
    host: str
    display: str
    version: str
    handle: int
    started: float
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    pid: int
    linger_left_s: float | None = None
    linger_s: float | None = None
    borrowed: bool = False
    project: str = ""


class ReservationRow(NamedTuple):
    """Seats of a pool that a RESERVE line still keeps: *kind* as in the options file (GROUP, HOST,
    USER ...), *name* for whom."""

    pool: str
    feature: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    kind: str
    name: str


class StatusPage(NamedTuple):
    """*cursor* '' = this was the last page. *served_by*: rank of the master that answered."""

    seq: int
    term: int
    served_by: int
    features: tuple[FeatureRow, ...]
    seats: tuple[SeatRow, ...]
    cursor: str
    queue: tuple[QueueRow, ...] = ()
    reservations: tuple[ReservationRow, ...] = ()
    """Of the pools of ``features``."""


class StatusReport(NamedTuple):
    seq: int
    report: ServerReport


class CanCheckOut(NamedTuple):
    """Could this be checked out now? Nothing is: no session, no entry, no seat (lmdiag).

    *feature* '' = every one that the licence file has; *version* '' = the highest on offer. *cursor*
    as in StatusRequest. The rest is what OpenSession says of who asks.
    """

    seq: int
    feature: str
    version: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    user: str
    host: str
    display: str
    project: str
    hostids: tuple[str, ...] = ()
    platform: str = ""
    cursor: str = ""


class CheckoutAnswer(NamedTuple):
    """Of one feature: *code* 0 = it could be checked out, with *version* out of the pool that
    *expiry* is of; else as in Denied."""

    feature: str
    version: str
    code: int
    minor: int
    text: str
    detail: str
    expiry: str = ""


class CheckoutAnswers(NamedTuple):
    seq: int
    term: int
    served_by: int
    answers: tuple[CheckoutAnswer, ...]
    cursor: str


class LinkDetails(NamedTuple):
    """What a server knows of its link to another. None: not known.

    *heard_s*: seconds since it was heard last; *clock_s*: how far the other's clock is ahead, by its
    last greeting; *boot*: how often it was started; *rights*: digest of its file's signed lines.
    """

    rank: int
    up: bool
    heard_s: float | None
    round_trip_s: float | None
    clock_s: float | None
    boot: int
    software: str
    rights: str
    note: str


class ServerDetails(NamedTuple):
    """To StatusRequest 'details', of any server: what lmdiag compares. Digests are the first 16
    hexadecimal digits; ranks are -1 for nobody.

    *promise_s*: seconds that the promise still binds, None where nothing is promised. *disk_s*: how
    long the disk has been writing, None where it is idle. *options*: digest of the rules in effect,
    '' without an options file.
    """

    seq: int
    rank: int
    state: str
    term: int
    voted_for: int
    promised_to: int
    promise_s: float | None
    boot: int
    member: bool
    has_state: bool
    triad: str
    membership: str
    rights: str
    rights_in_force: str
    options: str
    options_path: str
    last_term: int
    last_index: int
    durable_index: int
    commit: int
    disk_s: float | None
    timeout_s: float
    primary_is_master: bool
    wall: float
    sessions: int
    seats: int
    links: tuple[LinkDetails, ...]


class AdminRequest(NamedTuple):
    """*verb*: 'down' or 'reread', with arguments ('all',) or ('one',). Later: remove, switch ..."""

    seq: int
    verb: str
    arguments: tuple[str, ...]
    user: str
    host: str


class AdminReply(NamedTuple):
    """code 0, or one of the manual's (-119: log in to one of the servers' machines); 1 after a
    reread that left the servers with different files."""

    seq: int
    code: int
    text: str
    lines: tuple[str, ...] = ()


class Refusal(NamedTuple):
    """The last message before the server closes: a protocol error, too many connections, wrong
    vendor ... and why."""

    code: int
    text: str


ClientMessage: TypeAlias = (
    ClientHello
    | OpenSession
    | ResumeSession
    | Checkout
    | Checkin
    | Withdraw
    | Borrow
    | ReturnBorrow
    | Heartbeat
    | Goodbye
    | StatusRequest
    | CanCheckOut
    | AdminRequest
)
ServerMessage: TypeAlias = (
    ServerHello
    | SessionReply
    | Granted
    | Queued
    | Denied
    | CheckedIn
    | Withdrawn
    | Borrowed
    | BorrowReturned
    | HeartbeatReply
    | GoodbyeReply
    | SeatsLost
    | NotServing
    | StatusPage
    | StatusReport
    | CheckoutAnswers
    | ServerDetails
    | AdminReply
    | Refusal
)
Message: TypeAlias = PeerFrame | ClientMessage | ServerMessage
