"""Events (past tense) that a quorum machine consumes, and actions (imperative) that it emits."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from flexcore.identity import Rank
from flexcore.quorum.config import PersistBatch
from flexcore.wire.messages import PeerFrame, RemoveReply, RereadReply, SwitchReply


@attrs.frozen(kw_only=True)
class PeerConnected:
    """The dial that :class:`DialPeer` asked for succeeded; *link* is the adapter's number for the
    connection."""

    link: int
    peer: Rank


@attrs.frozen(kw_only=True)
class DialFailed:
    """The dial failed. *refused*: nobody listens there (evidence of rule 6); else it timed out or
    found no route."""

    peer: Rank
    refused: bool
    error: str = ""


@attrs.frozen(kw_only=True)
class PeerFrameReceived:
    """A frame from a peer, on a link that this server dialled or accepted."""

    link: int
    frame: PeerFrame


@attrs.frozen(kw_only=True)
class LinkEnded:
    """A link is over, for whatever reason."""

    link: int


@attrs.frozen(kw_only=True)
class Persisted:
    """Everything up to and including *ticket* is durable."""

    ticket: int


@attrs.frozen(kw_only=True)
class PersistFailed:
    """The store could not write; the process ends (rule 20)."""

    ticket: int
    error: str


@attrs.frozen(kw_only=True)
class StopRequested:
    """Stop this server in order ('one': after a hand-over, rule 10), or the triad ('all': rule
    22)."""

    scope: str
    requested_by: str = ""


QuorumEvent: TypeAlias = (
    PeerConnected
    | DialFailed
    | PeerFrameReceived
    | LinkEnded
    | Persisted
    | PersistFailed
    | StopRequested
)


@attrs.frozen(kw_only=True)
class DialPeer:
    """Try once to connect to *peer*; answer with PeerConnected or DialFailed."""

    peer: Rank


@attrs.frozen(kw_only=True)
class SendFrame:
    """Send at once: whatever had to be durable first is."""

    link: int
    frame: PeerFrame


@attrs.frozen(kw_only=True)
class CloseLink:
    """Close the connection; LinkEnded need not be reported for it."""

    link: int


@attrs.frozen(kw_only=True)
class Persist:
    """Make *batch* durable in one transaction, then report Persisted(ticket). At most one is
    outstanding."""

    ticket: int
    batch: PersistBatch


@attrs.frozen(kw_only=True)
class StartServing:
    """This server is master and its ledger is complete: from here on it answers clients (rules 5
    and 14)."""

    term: int


@attrs.frozen(kw_only=True)
class StopServing:
    """Nothing more may be answered to clients in this term (rules 12, 13, 10)."""

    reason: str
    successor: Rank | None = None


@attrs.frozen(kw_only=True)
class Notice:
    """Something for the debug log. *kind* is one of the words below, *peer* a rank where one is
    meant.

    connected, lost, master (peer is the master now), lost_quorum, twice, rights, membership,
    recovering, recovered, forming, formed, first_start_ignored, handover, primary_wait, disk,
    detector_off, stopping, warning.
    """

    kind: str
    text: str
    peer: Rank | None = None


@attrs.frozen(kw_only=True)
class RereadWanted:
    """Another server passes on that the licence file is to be read anew; answer with
    ``answer_reread(link, ...)``."""

    link: int
    number: int
    requested_by: str


@attrs.frozen(kw_only=True)
class RereadAnswered:
    """*peer* says what came of a reread that ``ask_reread`` passed on."""

    peer: Rank
    reply: RereadReply


@attrs.frozen(kw_only=True)
class RemovalWanted:
    """Another server passes on that seats are to be taken away; answer with
    ``answer_removal(link, ...)``."""

    link: int
    number: int
    arguments: tuple[str, ...]
    requested_by: str


@attrs.frozen(kw_only=True)
class RemovalAnswered:
    """*peer* says what came of what ``ask_removal`` passed on."""

    peer: Rank
    reply: RemoveReply


@attrs.frozen(kw_only=True)
class SwitchWanted:
    """Another server passes on that a log is to go on elsewhere; answer with ``answer_switch(link, ...)``."""

    link: int
    number: int
    verb: str
    arguments: tuple[str, ...]
    requested_by: str


@attrs.frozen(kw_only=True)
class SwitchAnswered:
    """*peer* says what came of what ``ask_switch`` passed on."""

    peer: Rank
    reply: SwitchReply


@attrs.frozen(kw_only=True)
class Halt:
    """The end of this process: close the listener, flush what is queued, exit with *exit_code*."""

    exit_code: int
    reason: str


PassedOn: TypeAlias = (
    RereadWanted | RereadAnswered | RemovalWanted | RemovalAnswered | SwitchWanted | SwitchAnswered
)
"""What an administrator asked of one server and another carries out, and the answers to it."""

QuorumAction: TypeAlias = (
    DialPeer
    | SendFrame
    | CloseLink
    | Persist
    | StartServing
    | StopServing
    | Notice
    | PassedOn
    | Halt
)


@attrs.frozen(kw_only=True)
class QuorumReport:
    """Where the machine stands, for lmstat and the logs. *until_s*: seconds until what it waits
    for, None if unknown."""

    state: str
    term: int
    master: Rank | None
    reason: str
    until_s: float | None
    peers_up: tuple[Rank, ...]
    notes: tuple[str, ...]
