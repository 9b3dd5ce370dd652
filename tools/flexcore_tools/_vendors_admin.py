"""Administrators' commands for one of several vendors of a single server, or for all of them."""

from __future__ import annotations

import time

from flexcore.codes import ErrorCode, exit_status
from flexcore.report.status import Failure
from flexcore.wire.messages import AdminReply

from ._ask import Survey
from ._link import Link, LinkFailed, is_listening, open_link
from ._servers import place

ANSWER_S = 30.0
STOP_S = 60.0
START_S = 10.0
_POLL_S = 0.05
_PROBE_S = 0.5


def vendor_named(survey: Survey, name: str, done: str) -> str | None:
    """Return the vendor as its VENDOR line spells it; None, and a line that says so, if it is not served here."""
    known = list(survey.vendors) or [survey.vendor]
    for vendor in known:
        if vendor.casefold() == name.casefold():
            return vendor
    print(f"{', '.join(known)} is served, not {name}: nothing was {done}")
    return None


def stop_vendors(survey: Survey, names: list[str], *, force: bool) -> int:
    """Stop these vendors, with *force* also while licences are borrowed; with the last one the server ends. Returns the
    exit status."""
    status = 0
    stopped = []
    for name in names:
        link = survey.vendors[name]
        failure = _ask_down(link, force=force) if isinstance(link, Link) else link
        if failure is None:
            stopped.append(name)
        else:
            print(f"{name}: {failure.printed}")
            status = status or exit_status(failure.code)
    everything = len(stopped) == len(survey.vendor_links)
    address = survey.servers[0]
    begun_at = time.monotonic()
    while stopped and time.monotonic() - begun_at < STOP_S:
        if everything and not is_listening(address, _PROBE_S):
            print(f"{place(address)} is stopped", flush=True)
            return 0 if len(names) > 1 else status
        for name in () if everything else list(stopped):
            if why_down(survey, name) is not None:
                print(f"{name} is stopped; the server goes on with the others", flush=True)
                stopped.remove(name)
        time.sleep(_POLL_S)
    for name in stopped:
        print(f"{name} still answers after {STOP_S:g} s")
        status = 1
    return status


def _ask_down(link: Link, *, force: bool) -> Failure | None:
    from flexcore_host import whoami

    try:
        words = ("all", "force") if force else ("all",)
        answer = link.admin("down", words, whoami.user(), whoami.host(), ANSWER_S)
    except LinkFailed as failed:
        # An end without an answer: it may have stopped before the answer left.
        return None if failed.failure.code == ErrorCode.CANNOT_READ else failed.failure
    if not isinstance(answer, AdminReply):
        return Failure(ErrorCode.BAD_DATA_FROM_SERVER)
    return Failure(answer.code, text=answer.text.rstrip(".") or None) if answer.code else None


def why_down(survey: Survey, name: str) -> Failure | None:
    """Greet *name* anew; None if it answers."""
    try:
        open_link(survey.asked, _PROBE_S, vendor=name).close()
    except LinkFailed as failed:
        return failed.failure
    return None


def until_up(survey: Survey, name: str) -> int:
    """Wait a moment for a vendor that is being started; say what came of it. Returns the exit status."""
    begun_at = time.monotonic()
    while (failure := why_down(survey, name)) is not None:
        if time.monotonic() - begun_at > START_S or not failure.printed.count("starting"):
            print(f"{name}: {failure.printed}")
            return exit_status(failure.code)
        time.sleep(_POLL_S)
    print(f"{name} was down, and is served again")
    return 0
