"""What is wrong with a triad, in words: what its servers say of themselves, compared.

Nothing here asks anything: ``lmdiag`` does, and hands the answers over. Each finding says what is
seen and, where something is to be done, what.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

from flexcore.codes import ErrorCode
from flexcore.identity import Rank
from flexcore.wire.messages import CheckoutAnswer, ServerDetails

from .plain import line_of
from .status import Failure, ServerStatus, Status

OK, NOTE, FAIL = "ok", "note", "FAIL"

CLOCK_NOTE_S = 2.0
"""Clocks that differ by more are told of: logs are read side by side."""
CLOCK_FAIL_S = 3600.0
"""... and by more than this, licences begin and end at another time on each."""
DISK_NOTE_S = 1.0
LAG_NOTE_ENTRIES = 1000
ROUND_TRIP_PART = 20
"""A round trip is to be no longer than this part of the timeout (docs/forecast.rst)."""


class Finding(NamedTuple):
    """*word* is one of OK, NOTE and FAIL."""

    word: str
    text: str

    def printed(self) -> str:
        """Return it on one line."""
        return f"{self.word:<5} {line_of(self.text)}"


class Measured(NamedTuple):
    """What the reader measured itself: how long an answer took, how far the server's clock is ahead."""

    answer_s: float
    clock_s: float


def findings(
    status: Status, details: Mapping[int, ServerDetails], measured: Mapping[int, Measured]
) -> Iterator[Finding]:
    """Yield what there is to say of the servers; *details* and *measured* are by rank."""
    yield from _service(status)
    for rank, server in enumerate(status.servers):
        yield from _server(rank, server, details.get(rank), measured.get(rank))
    yield from _sameness(details, status)
    yield from _links(status, details)
    yield from _clocks(details, measured)


def worst(found: list[Finding]) -> str:
    """Return the worst word of all."""
    words = {finding.word for finding in found}
    return FAIL if FAIL in words else NOTE if NOTE in words else OK


def _service(status: Status) -> Iterator[Finding]:
    if not status.up:
        yield Finding(FAIL, "no server answers: nothing can be checked out")
    elif not status.is_serving:
        until = "" if status.until_s is None else f", for {status.until_s:.0f} s more at most"
        yield Finding(FAIL, f"servers answer, and none serves{until}: see why below")
    elif status.is_degraded:
        yield Finding(NOTE, "licences are served by two of three servers: one more failure ends that")
    else:
        yield Finding(OK, "licences are served")


def _server(
    rank: int, server: ServerStatus, said: ServerDetails | None, measured: Measured | None
) -> Iterator[Finding]:
    name = f"{_name(rank)} {server.address.port}@{server.address.host}"
    report = server.report
    if report is None:
        failure = server.failure if server.failure is not None else Failure(-15)
        yield Finding(FAIL, f"{name}: {failure.printed} {remedy(failure)}")
        return
    text = f"{name}: {report.state}, up for {report.uptime_s:.0f} s, {report.software}"
    if measured is not None:
        text += f", answers in {measured.answer_s * 1000:.1f} ms"
    yield Finding(OK if report.state in ("serving", "follower") else FAIL, text)
    if report.reason and report.state not in ("serving", "follower"):
        until = "" if report.until_s is None else f" ({report.until_s:.0f} s more)"
        yield Finding(NOTE, f"{name}: {report.reason}{until}")
    for note in report.notes:
        yield Finding(NOTE, f"{name}: {note}")
    if said is None:
        yield Finding(NOTE, f"{name}: it is too old to say more")
        return
    yield Finding(OK, f"{name}: {_standing(said)}")
    if said.disk_s is not None and said.disk_s > DISK_NOTE_S:
        yield Finding(NOTE, f"{name}: its disk has been writing for {said.disk_s:.1f} s: it is slow or full")
    if said.commit - said.durable_index > LAG_NOTE_ENTRIES:
        yield Finding(NOTE, f"{name}: its disk is {said.commit - said.durable_index} entries behind")
    if said.rights != said.rights_in_force and said.rights_in_force:
        yield Finding(NOTE, f"{name}: its licence file has other signed lines than those in force: "
                            "put the same file on all servers, then lmreread")  # fmt: skip


def _standing(said: ServerDetails) -> str:
    promised = "nobody"
    if said.promise_s is not None and said.promised_to >= 0:
        promised = f"the {_name(said.promised_to)}, for {said.promise_s:.1f} s more"
    state = "a member" if said.member else "with state" if said.has_state else "without state"
    return (
        f"term {said.term}, started {said.boot} times, {state}, promised to {promised}; entries"
        f" {said.last_index} ({said.commit} committed, {said.durable_index} on its disk);"
        f" {said.seats} licences out to {said.sessions} sessions"
    )


def remedy(failure: Failure) -> str:
    """Return what to do about a server that could not be asked."""
    if failure.code == ErrorCode.UNKNOWN_HOST_NAME:
        return "Correct the name, or the name service of this machine."
    if failure.code == ErrorCode.VENDOR_DOWN:
        return "Another vendor's server listens there: is the port right?"
    if failure.sys_errno == errno.ECONNREFUSED:
        return "The machine is up and no server listens: start it (its log says why it ended)."
    if failure.sys_errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
        return "Is the machine up, and does a firewall let the port through?"
    return "Its log says more."


def _sameness(details: Mapping[int, ServerDetails], status: Status) -> Iterator[Finding]:
    if len(details) < 2:
        return
    software = {rank: server.report.software for rank, server in enumerate(status.servers)
                if server.report is not None}  # fmt: skip
    for what, values, todo in (
        ("machines in their licence files", {r: d.membership for r, d in details.items()},
         "put the same file on all servers and restart them"),
        ("signed lines", {r: d.rights for r, d in details.items()},
         "put the same file on all servers, then lmreread"),
        ("options", {r: d.options for r, d in details.items()},
         "put the same options file on all servers, then lmreread: after a failover others would apply"),
        ("triads", {r: d.triad for r, d in details.items() if d.triad},
         "one of them was formed apart: delete the state folder of the one that is wrong"),
        ("versions of flexcore", software, "finish the upgrade, one server after the other"),
        ("terms", {r: str(d.term) for r, d in details.items()},
         "whoever is behind learns it as soon as it hears the others"),
    ):  # fmt: skip
        if len(set(values.values())) > 1:
            said = ", ".join(f"{_name(rank)} {value or 'none'}" for rank, value in sorted(values.items()))
            yield Finding(NOTE, f"they have different {what} ({said}): {todo}")
        elif values:
            yield Finding(OK, f"same {what}: {next(iter(values.values())) or 'none'}")


def _links(status: Status, details: Mapping[int, ServerDetails]) -> Iterator[Finding]:
    for rank, said in sorted(details.items()):
        for link in said.links:
            name = f"{_name(rank)} to {_name(link.rank)}"
            if link.note:
                yield Finding(FAIL, f"{name}: {link.note}")
            if link.up:
                trip = "" if link.round_trip_s is None else f", round trip {link.round_trip_s * 1000:.1f} ms"
                heard = "" if link.heard_s is None else f", heard {link.heard_s:.1f} s ago"
                slow = (link.round_trip_s or 0.0) > said.timeout_s / ROUND_TRIP_PART
                advice = ": slow for this HEARTBEAT_INTERVAL (flexcore simulate)" if slow else ""
                yield Finding(NOTE if slow else OK, f"{name}: connected{trip}{heard}{advice}")
            elif 0 <= link.rank < len(status.servers) and status.servers[link.rank].is_up:
                yield Finding(FAIL, f"{name}: not connected, though both answer here: does a firewall "
                                    "between the two let the port through, and do both resolve the "
                                    "other's name?")  # fmt: skip
            else:
                yield Finding(NOTE, f"{name}: not connected")


def _clocks(
    details: Mapping[int, ServerDetails], measured: Mapping[int, Measured]
) -> Iterator[Finding]:
    for rank, each in sorted(measured.items()):
        yield from _clock(f"the clock of the {_name(rank)} and that of this machine", each.clock_s)
    for one, other in combinations(sorted(measured), 2):
        yield from _clock(f"the clocks of {_name(one)} and {_name(other)}",
                          measured[other].clock_s - measured[one].clock_s)  # fmt: skip


def _clock(whose: str, differ_s: float) -> Iterator[Finding]:
    if abs(differ_s) > CLOCK_NOTE_S:
        word = FAIL if abs(differ_s) > CLOCK_FAIL_S else NOTE
        yield Finding(word, f"{whose} differ by {abs(differ_s):.1f} s: keep time with NTP")


def answer_lines(answer: CheckoutAnswer) -> Iterator[str]:
    """Yield what lmdiag says of one feature, as readers of its output expect it."""
    version = f" v{answer.version}" if answer.version else ""
    yield f'"{line_of(answer.feature)}"{line_of(version)}'
    if not answer.code:
        yield "  This license can be checked out"
        yield f"  expiry: {line_of(answer.expiry)}"
        return
    yield "  This license cannot be checked out because:"
    yield f"  {Failure(answer.code, text=answer.text or None, minor=answer.minor).printed}"
    if answer.detail:
        yield f"  {line_of(answer.detail)}"


def _name(rank: int) -> str:
    return Rank(rank).word if rank in (0, 1, 2) else f"server {rank}"
