"""What a licence server asks of whoever drives it."""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeAlias

import attrs

from flexcore.identity import Rank
from flexcore.quorum.config import PersistBatch


@attrs.frozen(kw_only=True)
class DialPeer:
    """Try once to connect to *host*:*port*; answer with ``peer_connected`` or ``dial_failed``."""

    peer: Rank
    host: str
    port: int


@attrs.frozen(kw_only=True)
class CloseConnection:
    """Close *conn*: after what was sent to it is flushed, or at once with a reset (*abort*).

    Its end need not be reported.
    """

    conn: int
    abort: bool = False


@attrs.frozen(kw_only=True)
class Persist:
    """Make *batch* durable in one transaction, then call ``persisted(ticket)``."""

    ticket: int
    batch: PersistBatch


@attrs.frozen(kw_only=True)
class ReadLicense:
    """Read the licence file anew, off the event loop: ``judge_license`` there, then ``license_read``
    with this *ticket*. One is outstanding at most."""

    ticket: int


class WriteLog(NamedTuple):
    """A line of the debug log, without its time: *daemon* is ``lmgrd`` or the vendor's name.

    *event*: master or lost_quorum where the system's own event log should have it as well.
    """

    daemon: str
    text: str
    event: str = ""


class WriteReport(NamedTuple):
    """A line of the report log, without its line end (:mod:`flexcore.report.reportlog`)."""

    text: str


@attrs.frozen(kw_only=True)
class UseDebugLog:
    """DEBUGLOG of the options file: the vendor daemon's lines go to *path* from here on, which begins
    anew unless *append*; '' for where lmgrd's go. A relative path counts from the licence file's folder."""

    daemon: str
    path: str
    append: bool


class How(enum.Enum):
    """How a log goes on. A path is the administrator's; a relative one counts from the log's folder."""

    NEW = "new"
    """In a new file, of the path that was given."""
    KEEP = "keep"
    """Under its own name; what was written so far is kept under the path that was given."""
    REOPEN = "reopen"
    """Under its own name, which may be another file by now (log rotation)."""
    HOME = "home"
    """Where it was before it was sent elsewhere, behind what stands there."""


@attrs.frozen(kw_only=True)
class SwitchLog:
    """Let a log go on as *how* says, then call ``log_switched(ticket, ...)``. Lines of before go where they
    went before.

    *first*: the line of the report log that begins the new file; where that cannot be had it is
    written behind the others. Of the debug log '': *daemon*'s lines are meant.
    """

    ticket: int
    daemon: str
    how: How
    path: str
    first: str


@attrs.frozen(kw_only=True)
class Halt:
    """The orderly (0) or disorderly end of this server: close the listener, flush, exit."""

    exit_code: int
    reason: str


ServerAction: TypeAlias = (
    DialPeer | CloseConnection | Persist | ReadLicense | WriteLog | WriteReport | UseDebugLog
    | SwitchLog | Halt
)
