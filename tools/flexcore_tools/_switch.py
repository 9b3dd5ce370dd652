"""What lmswitch, lmswitchr and lmnewlog have in common: whom to ask, and what to print."""

from __future__ import annotations

from flexcore.codes import ErrorCode, exit_status
from flexcore.wire.messages import AdminReply

from ._ask import DEFAULT_TIMEOUT_S, Survey
from ._common import print_anything
from ._orders import order, order_one_of, refusal_of
from ._servers import chosen_server, not_reached
from ._where import PATH_HELP, only_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

ANSWER_S = 20.0
"""How long the answer may take: a server waits ten seconds for the others."""

HOW_IT_ENDS = """\
On all three servers of a triad, or with --server on one of them; each has its
own files. A relative NEW_LOG counts from the folder of the log. It must be in
that folder or below it, and must not exist: anybody who may log in to a
server's machine can order this.

exit status: 0 if it was done everywhere; 159 (-97) or 251 (-5) if that vendor
or feature is not served; 171 (-85) if there is no such log; 214 (-42) if NEW_LOG
is no place for it; 241 (-15) if a server was not reached; 137 (-119) from
another machine."""


def add_arguments(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    """Declare the flags; *what* says what may stand for a vendor."""
    parser.add_argument("-c", metavar="PATH", dest="path", help=PATH_HELP)
    parser.add_argument(
        "--server", metavar="NAME",
        help="only this one: its host, or primary, secondary or tertiary",
    )  # fmt: skip
    parser.add_argument("name", metavar=name, help=what)
    parser.add_argument("new_log", metavar="NEW_LOG", help="the path of the other file")


def run(args: argparse.Namespace, verb: str, *flags: str) -> int:
    """Have what the path names let its log go on elsewhere."""
    print_anything()
    where = only_one(args.path, DEFAULT_TIMEOUT_S)
    with Survey(where, DEFAULT_TIMEOUT_S) as survey:
        if not survey.links:
            return not_reached(survey, list(range(len(survey.servers))))
        if survey.vendors:
            return _of_several(survey, args, verb, flags)
        scope, indexes = "all", list(survey.links)
        if args.server is not None:
            scope, indexes = "one", [chosen_server(survey, args.server)]
            if indexes[0] not in survey.links:
                return not_reached(survey, indexes)
        words = (scope, args.name, args.new_log, *flags)
        return order_one_of(survey, indexes, lambda link: order(link, verb, words, ANSWER_S), _print_answer)


def _of_several(survey: Survey, args: argparse.Namespace, verb: str, flags: tuple[str, ...]) -> int:
    """One of several vendors of a single server: they share the port, and each has lines of its own."""
    up = survey.vendor_links
    named = [name for name in up if name.casefold() == args.name.casefold()]
    if not named:
        print(f"{', '.join(survey.vendors)} is served, not {args.name}: nothing was switched")
        return exit_status(ErrorCode.VENDOR_DOWN)
    answer = order(up[named[0]], verb, ("one", args.name, args.new_log, *flags), ANSWER_S)
    if isinstance(answer, AdminReply):
        return _print_answer(answer)
    print(answer.printed)
    return exit_status(answer.code)


def _print_answer(answer: AdminReply) -> int:
    for line in answer.lines:
        print(line)
    if not answer.code:
        return 0
    print(refusal_of(answer).printed)
    return exit_status(answer.code)
