"""One value for all forms of status: the servers as asked, the pools, who holds what.

:class:`Status` is small: servers and pools, as many as a licence file has lines. Seats may be
100,000, so they come beside it, feature by feature, from a function that the caller gives
(:data:`SeatSource`): a page at a time from the master, or out of a tuple (:func:`seats_from`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from flexcore.codes import ErrorCode, describe, exit_status, minor_of
from flexcore.errors import FlexcoreError
from flexcore.record import Record
from flexcore.wire.messages import (
    FeatureRow,
    QueueRow,
    ReservationRow,
    SeatRow,
    ServerAddress,
    ServerReport,
)

SERVING = "serving"
_UNSETTLED = frozenset({"waiting", "recovering", "forming", "stopping"})

CHECK_OK, CHECK_DEGRADED, CHECK_DOWN = 0, 1, 2

SeatSource = Callable[[str], Iterable[SeatRow]]
"""Called with a feature's name, gives its seats in the order they are to be shown. May raise
:class:`StatusLost` in the middle, when the server that was asked has gone."""

QueueSource = Callable[[str], Iterable[QueueRow]]
"""The same of requests that wait, in the order of the queue."""


class Failure(Record):
    """Why something could not be had: a code of :mod:`flexcore.codes`, perhaps the system's."""

    code: int
    sys_errno: int | None = None
    sys_text: str = ""
    text: str | None = None
    minor: int | None = None

    @property
    def shown_minor(self) -> int:
        """The minor number: the server's own, else the table's."""
        return self.minor if self.minor is not None else minor_of(self.code)

    @property
    def printed(self) -> str:
        """``TEXT. (-MAJOR,MINOR:ERRNO "SYSTEM TEXT")``.

        >>> Failure(-15, 111, "Connection refused").printed
        'Cannot connect to license server system. (-15,570:111 "Connection refused")'
        """
        return describe(
            self.code,
            minor=self.minor,
            text=self.text,
            sys_errno=self.sys_errno,
            sys_text=self.sys_text,
        )


class StatusLost(FlexcoreError):
    """The server that gave the status stopped doing so before the end; ``failure`` says how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.printed)
        self.failure = failure
        self.code = failure.code


class ServerStatus(Record, kw_only=True):
    """One SERVER line: what the server said of itself, or why it could not be asked."""

    address: ServerAddress
    report: ServerReport | None = None
    failure: Failure | None = None

    @property
    def is_up(self) -> bool:
        """It answered."""
        return self.report is not None


class VendorStatus(Record, kw_only=True):
    """One of several vendors behind the port of a single server: what it said, or why it could not
    be asked."""

    name: str
    report: ServerReport | None = None
    failure: Failure | None = None

    @property
    def is_up(self) -> bool:
        """Its features are served."""
        return self.report is not None and self.report.vendor_up and self.report.state == SERVING


class Status(Record, kw_only=True):
    """What a reader on one machine saw of a server or of a triad.

    *wall* is the reader's clock when it asked. *servers* are in the order of the SERVER lines.
    *features* are the master's pools in file order, empty when nobody serves or nobody asked;
    *wanted* is the one feature that was asked for, '' for all. *failure* is what went wrong with
    the question itself (the servers are not one triad, the master went away). *vendors* is empty
    unless a single server has several VENDOR lines; then *features* are those of all of them.
    *elsewhere*: *servers* is one of a triad only, and it follows another one that serves.
    """

    wall: float
    servers: tuple[ServerStatus, ...]
    vendor: str = ""
    features: tuple[FeatureRow, ...] = ()
    wanted: str = ""
    failure: Failure | None = None
    reservations: tuple[ReservationRow, ...] = ()
    vendors: tuple[VendorStatus, ...] = ()
    elsewhere: bool = False

    @property
    def is_triad(self) -> bool:
        """Three servers serve this licence file together."""
        return len(self.servers) > 1

    @property
    def up(self) -> tuple[ServerStatus, ...]:
        """The servers that answered."""
        return tuple(server for server in self.servers if server.is_up)

    @property
    def master(self) -> ServerStatus | None:
        """The server that serves: of two that say so, the one with the higher term."""
        best: ServerStatus | None = None
        best_term = -1
        for server in self.servers:
            report = server.report
            if report is not None and report.state == SERVING and report.term > best_term:
                best, best_term = server, report.term
        return best

    @property
    def is_serving(self) -> bool:
        """Somebody serves, and its vendor daemon is up: of several vendors at least one."""
        if self.vendors:
            return any(vendor.is_up for vendor in self.vendors)
        master = self.master
        return master is not None and master.report is not None and master.report.vendor_up

    @property
    def is_served(self) -> bool:
        """Licences are served, by one of *servers* or by the one that it follows."""
        return self.is_serving or self.elsewhere

    @property
    def is_degraded(self) -> bool:
        """It serves, but one more failure would end that: two of three.

        A server is missing if it does not answer here, if the master does not hear it, or if it
        says itself that it does not take part yet. Where several vendors are served, one that is
        down.
        """
        if self.vendors and self.is_serving:
            return not all(vendor.is_up for vendor in self.vendors)
        master = self.master
        if not self.is_triad or master is None or master.report is None:
            return False
        if len(master.report.peers_up) < len(self.servers) - 1:
            return True
        return any(
            server.report is None or server.report.state in _UNSETTLED for server in self.servers
        )

    @property
    def failing(self) -> Failure | None:
        """The reason for a non-zero exit status, None if there is none."""
        if self.failure is not None:
            return self.failure
        if not self.up:
            return next(
                (server.failure for server in self.servers if server.failure is not None),
                Failure(ErrorCode.CANNOT_CONNECT),
            )
        if not self.is_served:
            return Failure(ErrorCode.VENDOR_DOWN)
        if self.wanted and not self.features:
            return Failure(ErrorCode.NO_SUCH_FEATURE)
        return None

    @property
    def exit_status(self) -> int:
        """lmstat's: 0, 241 (nobody answers), 159 (nobody serves), 251 (no such feature)."""
        failing = self.failing
        return 0 if failing is None else exit_status(failing.code)

    @property
    def check_status(self) -> int:
        """For monitoring: 0 all well, 1 degraded (two of three), 2 down."""
        if not self.is_served:
            return CHECK_DOWN
        return CHECK_DEGRADED if self.is_degraded else CHECK_OK

    @property
    def until_s(self) -> float | None:
        """Seconds until a server that waits has waited enough, as far as one of them knows."""
        known = [
            server.report.until_s
            for server in self.servers
            if server.report is not None and server.report.until_s is not None
        ]
        return min(known, default=None)


def seats_from(rows: Iterable[SeatRow]) -> SeatSource:
    """Return a :data:`SeatSource` over rows that are all there."""
    by_feature: dict[str, list[SeatRow]] = {}
    for row in rows:
        by_feature.setdefault(row.feature, []).append(row)
    return lambda feature: by_feature.get(feature, ())


def no_seats(feature: str) -> Iterable[SeatRow]:
    """A :data:`SeatSource` for whoever did not ask about seats."""
    return ()


def no_queue(feature: str) -> Iterable[QueueRow]:
    """A :data:`QueueSource` where nobody waits."""
    return ()


def by_feature(rows: Iterable[FeatureRow]) -> dict[str, list[FeatureRow]]:
    """Return pools by the name of their feature, both in the order given."""
    grouped: dict[str, list[FeatureRow]] = {}
    for row in rows:
        grouped.setdefault(row.feature, []).append(row)
    return grouped


def version_of(software: str) -> str:
    """Return the dotted number in what a program calls itself; readers of lmstat need one dot.

    >>> version_of("flexcore 0.1.0.dev0"), version_of("flexcore 2"), version_of("")
    ('0.1.0', '2.0', '0.0')
    """
    found = re.search(r"\d+(?:\.\d+)*", software)
    version = found.group() if found is not None else "0"
    return version if "." in version else f"{version}.0"
