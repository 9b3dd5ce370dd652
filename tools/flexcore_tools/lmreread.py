"""``flexcore lmreread``: have the licence files read anew on all three servers, while everything runs.

One server of this machine takes the command, reads its own file and passes the word on to the other
two, each of which reads its own (protocol.md rule 19). The answer names each server and what came of
it there; whoever does not take its file keeps what it has. Everything goes to stdout.
"""

from __future__ import annotations

from flexcore.codes import ErrorCode, exit_status
from flexcore.report.status import Failure
from flexcore.wire.messages import AdminReply

from ._ask import DEFAULT_TIMEOUT_S, Survey
from ._common import print_anything
from ._link import Link
from ._orders import NOT_YOU, order, order_one_of, refusal_of
from ._servers import chosen_server, not_reached
from ._vendors_admin import until_up, vendor_named
from ._where import PATH_HELP, only_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Have the licence files read anew: on all three servers of a triad, or with
--server on one of them. Works on a server's own machine, and while everything
runs: nobody loses a licence, and the master stays master.

Each server reads its own file and verifies it. What was added, removed or
changed is said; a file that differs from the others', does not verify or names
other hostids is named, and its server keeps what it has. Holders keep what they
hold, also above a count that became smaller.

Where a single server has several vendors each reads its own lines, with -vendor
only that one; vendors that are down are started.

exit status: 0 if all servers have the same lines; 1 if they do not; 241 (-15)
if a server was not reached; 137 (-119) from another machine; else 256 + the
error code of the first server that does not take its file."""

ANSWER_S = 30.0
"""How long the answer may take: a server waits ten seconds for the slowest file, then answers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmreread's flags."""
    parser.add_argument("-c", metavar="PATH", dest="path", help=PATH_HELP)
    parser.add_argument(
        "-vendor", "--vendor", metavar="NAME",
        help="only this one of several vendors, and only if it is served here",
    )
    parser.add_argument("-all", "--all", action="store_true", help="all servers, as without it")
    parser.add_argument(
        "--server", metavar="NAME",
        help="only this one: its host, or primary, secondary or tertiary",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Have what the path names read its files anew."""
    print_anything()
    where = only_one(args.path, DEFAULT_TIMEOUT_S)
    with Survey(where, DEFAULT_TIMEOUT_S) as survey:
        if not survey.links:
            return not_reached(survey, list(range(len(survey.servers))))
        chosen_vendor = ""
        if args.vendor:
            chosen_vendor = vendor_named(survey, args.vendor, "read anew") or ""
            if not chosen_vendor:
                return exit_status(ErrorCode.VENDOR_DOWN)
        if survey.vendors:
            return _reread_vendors(survey, [chosen_vendor] if chosen_vendor else list(survey.vendors))
        if args.server is None:
            return order_one_of(survey, survey.links, lambda link: _ask(link, "all"), _print_answer)
        chosen = chosen_server(survey, args.server)
        if chosen not in survey.links:
            return not_reached(survey, [chosen])
        return order_one_of(survey, [chosen], lambda link: _ask(link, "one"), _print_answer)


def _reread_vendors(survey: Survey, names: list[str]) -> int:
    """Have each of several vendors read its lines anew; those that are down are started by it."""
    up = survey.vendor_links
    status = 0
    for name in [name for name in names if name in up] or list(up)[:1]:
        print(f"{name}:")
        answer = _ask(up[name], "all")
        if isinstance(answer, AdminReply) and answer.code not in NOT_YOU:
            status = status or _print_answer(answer)
            continue
        failure = refusal_of(answer) if isinstance(answer, AdminReply) else answer
        print(failure.printed)
        status = status or exit_status(failure.code)
    if status in map(exit_status, NOT_YOU):
        return status
    for name in names:
        if name not in up:
            status = until_up(survey, name) or status
    return status


def _ask(link: Link, scope: str) -> AdminReply | Failure:
    return order(link, "reread", (scope,), ANSWER_S)


def _print_answer(answer: AdminReply) -> int:
    for line in answer.lines:
        print(line)
    if not answer.code:
        return 0
    if not answer.lines:
        print(refusal_of(answer).printed)
    return exit_status(answer.code)
