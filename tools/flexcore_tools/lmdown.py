"""``flexcore lmdown``: stop all three servers with one command, or one of them after a hand-over.

A server takes this command from its own machine only and passes it on to its peers (design.md
section 7), so whichever servers can be reached are asked, those of this machine first. The command
returns when the ports are closed, and names every server that it did not reach (protocol.md rule
22). Everything goes to stdout.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable

from flexcore.codes import ErrorCode, exit_status
from flexcore.report.status import SERVING, Failure

from ._ask import DEFAULT_TIMEOUT_S, Survey
from ._common import print_anything
from ._link import Link, is_listening
from ._orders import in_order, order, print_refusal, refusal_of, worse
from ._servers import chosen_server, failure_of, not_reached, place
from ._vendors_admin import stop_vendors, vendor_named
from ._where import PATH_HELP, only_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Stop the licence servers: all of a triad with one command, or with --server one
of them, whose licences another then serves. Works on a server's own machine.
Returns when the ports are closed. Asks first on a terminal. Where a single
server has several vendors, -vendor stops one of them; without it all end.

exit status: 0; 241 if a server was not reached; 137 (-119) from another machine."""

ANSWER_S = 30.0
"""How long a server may take to say that it stops: a hand-over comes first."""

STOP_S = 60.0
"""How long the ports may take to close."""

STRAGGLER_S = 5.0
"""A server that still listens after this is told itself: its peers did not reach it."""

_POLL_S = 0.05
_PROBE_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmdown's flags."""
    parser.add_argument("-c", metavar="PATH", dest="path", help=PATH_HELP)
    parser.add_argument("-all", "--all", action="store_true", help="all servers, as without it")
    parser.add_argument("-force", "--force", action="store_true",
                        help="also while licenses are borrowed, which is refused otherwise (-120)")  # fmt: skip
    parser.add_argument("-q", action="store_true", dest="quiet", help="do not ask")
    parser.add_argument(
        "-vendor", "--vendor", metavar="NAME",
        help="stop only this vendor, where a single server has several; lmreread starts it again",
    )  # fmt: skip
    parser.add_argument(
        "--server", metavar="NAME",
        help="stop only this one: its host, or primary, secondary or tertiary",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Stop what the path names."""
    print_anything()
    where = only_one(args.path, DEFAULT_TIMEOUT_S)
    with Survey(where, DEFAULT_TIMEOUT_S) as survey:
        if not survey.links:
            return not_reached(survey, list(range(len(survey.servers))))
        vendors = list(survey.vendors)
        if args.vendor:
            chosen_vendor = vendor_named(survey, args.vendor, "stopped")
            if chosen_vendor is None:
                return exit_status(ErrorCode.VENDOR_DOWN)
            vendors = [chosen_vendor] if vendors else []
        if args.server is not None:
            chosen = chosen_server(survey, args.server)
            if chosen not in survey.links:
                return not_reached(survey, [chosen])
            targets = [chosen]
        else:
            targets = sorted(survey.links)
        if not args.quiet and not _agreed(survey, targets):
            print("nothing was stopped")
            return 1
        if vendors:
            return stop_vendors(survey, vendors, force=args.force)
        return _stop(survey, targets, one=args.server is not None, force=args.force)


# --- what is to be stopped -----------------------------------------------------------------------


def _agreed(survey: Survey, targets: list[int]) -> bool:
    """Ask, where there is a terminal to ask on."""
    if not sys.stdin.isatty():
        return True
    print("license servers to be stopped:")
    for index in targets:
        master = " (MASTER)" if survey.links[index].report.state == SERVING else ""
        print(f"    {place(survey.servers[index])}{master}  {survey.vendor}")
    for _ in range(3):
        print("Are you sure (y/n)? ", end="", flush=True)
        answer = sys.stdin.readline().strip().casefold()
        if answer in {"y", "yes"}:
            return True
        if answer in {"n", "no", ""}:
            return False
    return False


# --- stopping it ------------------------------------------------------------------------------------


def _stop(survey: Survey, targets: list[int], *, one: bool, force: bool) -> int:
    words = ("one" if one else "all", *(["force"] if force else []))
    refused = _tell(survey, targets, words)
    if refused is not None:
        print_refusal(survey, refused)
        return exit_status(refused.code)
    again = None if one else lambda index: _tell_straggler(survey, index, words)
    listening = _wait_closed(survey, targets, again)
    status = 0
    for index in listening:
        print(f"{place(survey.servers[index])} still answers after {STOP_S:g} s")
        status = 1
    if one:
        return status
    for index, address in enumerate(survey.servers):
        if index in survey.links:
            continue
        failure = failure_of(survey, index)
        if failure.sys_errno == errno.ECONNREFUSED:
            print(f"{place(address)} was not running")
        else:
            print(f"{place(address)} was not reached and was not told to stop: {failure.printed}")
            status = status or exit_status(failure.code)
    return status


def _tell(survey: Survey, targets: list[int], words: tuple[str, ...]) -> Failure | None:
    """Ask the servers in turn until one takes the command; return the refusal if none does."""
    refused: Failure | None = None
    for index in in_order(survey, targets):
        failure = _ask_down(survey.links[index], words)
        if failure is None:
            return None
        refused = worse(refused, failure)
    return refused


def _ask_down(link: Link, words: tuple[str, ...]) -> Failure | None:
    """Send the command on one link; None if it was taken."""
    answer = order(link, "down", words, ANSWER_S)
    if isinstance(answer, Failure):
        # An end without an answer: it may have stopped before the answer left. The port will tell.
        return None if answer.code == ErrorCode.CANNOT_READ else answer
    if answer.code:
        return refusal_of(answer)
    for line in answer.lines:
        print(line)
    return None


def _wait_closed(
    survey: Survey, targets: list[int], again: Callable[[int], None] | None
) -> list[int]:
    """Wait until nothing listens at the *targets*; return those that still do after STOP_S.

    *again* is called once for each that listens after STRAGGLER_S.
    """
    started = time.monotonic()
    left = list(targets)
    while left and time.monotonic() - started < STOP_S:
        for index in list(left):
            if not is_listening(survey.servers[index], _PROBE_S):
                print(f"{place(survey.servers[index])} is stopped", flush=True)
                left.remove(index)
        if left and again is not None and time.monotonic() - started > STRAGGLER_S:
            for index in left:
                again(index)
            again = None
        if left:
            time.sleep(_POLL_S)
    return left


def _tell_straggler(survey: Survey, index: int, words: tuple[str, ...]) -> None:
    failure = _ask_down(survey.links[index], words)
    if failure is not None:
        print(f"{place(survey.servers[index])}: {failure.printed}")
