"""What a licence server is told when it starts, and the bounds that it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from flexcore import timing
from flexcore.identity import Rank
from flexcore.report.reportlog import Position
from flexcore.wire.messages import ServerAddress

if TYPE_CHECKING:
    from flexcore.keys import VerifyingKey
    from flexcore.licensefile import LicenseFile
    from flexcore.options import OptionsFile

OUTGOING_BYTES_MAX = 4 * 1024 * 1024
"""A connection whose unsent bytes grow beyond this is a reader too slow: the adapter aborts it."""

STATUS_ROWS_MAX = 500
"""Rows of one status page (design.md section 4: no call makes 100,000 of anything)."""

STATUS_BYTES_MAX = 512 * 1024
"""... and so many bytes at most: names and vendor strings may be long, and a page is one frame."""

LEASES_ENDED_PER_TURN_MAX = 500
"""Sessions that one timeout ends; the next timeout is due at once if there are more."""

TIMESTAMP_EVERY_S = 6 * 3600.0
"""A TIMESTAMP line is logged so often (observed-formats D5)."""


@attrs.frozen(kw_only=True)
class Limits:
    """How much a server lets in. The defaults serve 10,000 clients with room to spare."""

    connections: int = 20_000
    """Beyond that a client is refused with -106; peers always get in."""
    unknown_connections: int = 2_000
    """Connections that have not said yet what they are."""
    hello_s: float = 10.0
    """How long a connection may take to say what it is."""
    idle_s: float = 60.0
    """How long a client without a session may be silent."""
    sessions: int = 200_000
    held_per_connection: int = 1024
    """Answers that one connection may have under way; a client that asks more is cut off."""
    kept_per_connection: int = 64
    kept: int = 10_000
    """Messages that wait for this server to begin to serve (rule 5), or for a new master."""
    kept_s: float = 1.0
    """How long they wait before they are answered with NotServing."""


@attrs.frozen(kw_only=True)
class ServerConfig:
    """One server of a triad, or a single server.

    *rank* says which SERVER line this server is; *keys* are the publishers' keys, of which the one
    of the served vendor counts; *vendor* '' serves the first VENDOR line. *addresses* replace the
    SERVER lines' hosts and ports for dialling (a demo on one machine). *utc_offset_s* says where the
    calendar day of START and expiry begins. *trusted_end* is False behind proxies (rule 16).
    """

    license: LicenseFile
    keys: tuple[VerifyingKey, ...]
    rank: Rank = Rank.PRIMARY
    license_path: str = ""
    software: str = "0.1"
    first_start: bool = False
    in_memory: bool = False
    """Nothing is kept for the next start (lmgrd --state-dir none): there is no Persist to wait for."""
    trusted_end: bool = True
    vendor: str = ""
    addresses: tuple[ServerAddress, ...] = ()
    utc_offset_s: float = 0.0
    limits: Limits = attrs.field(factory=Limits)
    vendors: tuple[str, ...] = ()
    """All vendors behind this server's port, where there are several (a single server's)."""
    notes: tuple[str, ...] = ()
    """What whoever starts it has found, to be shown with its status: files on a network, names that
    others cannot reach."""
    lmdown: bool = True
    lmremove: bool = True
    """Whether these commands are taken (lmgrd -x); signals stop a server all the same."""
    lmremove_min_s: float = timing.LMREMOVE_MIN_S
    administrators_only: bool = False
    """Whether orders (lmdown, lmreread, lmremove ...) are taken from administrators only (lmgrd -2 -p)."""
    options: OptionsFile | None = None
    """What the administrator's options file says; None: there is none."""
    pid: int = 0
    """The process, for the debug log."""
    report: Position | None = None
    """Where the report log ends that is gone on with; None: none is written."""

    @property
    def served_vendor(self) -> str:
        """The vendor whose lines are served."""
        if self.vendor:
            return self.vendor
        vendors = self.license.vendors
        return vendors[0].name if vendors else ""

    @property
    def servers(self) -> tuple[ServerAddress, ...]:
        """Where the servers of the file can be reached, in its order."""
        if self.addresses:
            return self.addresses
        return tuple(ServerAddress(line.host, line.port or 0) for line in self.license.servers)

    @property
    def timeout_s(self) -> float:
        """TO, from HEARTBEAT_INTERVAL."""
        return timing.timeout_s(self.license.heartbeat_interval_s)

    @property
    def client_lease_s(self) -> float:
        """L, which stands in each session's entry."""
        return timing.client_lease_s(self.timeout_s)

    @property
    def host(self) -> str:
        """This server's host as its SERVER line spells it."""
        servers = self.license.servers
        return servers[self.rank].host if self.rank < len(servers) else ""
