"""``flexcore lmremove``: take licences away from a user, for instance of a program that hangs.

It is asked of a server of this machine, which passes it on to the master (protocol.md: a licence is
free once its client has answered, or its lease is over). The values are those that ``lmstat -a``
prints. Everything goes to stdout.
"""

from __future__ import annotations

from flexcore.codes import exit_status
from flexcore.wire.messages import AdminReply

from ._ask import DEFAULT_TIMEOUT_S, Survey
from ._common import print_anything
from ._orders import order, order_one_of, refusal_of
from ._servers import not_reached
from ._where import PATH_HELP, only_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Take licences away from a user. The values are those that lmstat -a prints:

  lmremove feature user user_host display
      all licences of that feature which the user holds on that host and display
  lmremove -h feature server_host port handle
      one checkout; where the master has changed since, the handle is still right

The program is told at once, and its licence is free as soon as it has answered,
or when its lease is over if it does not answer any more. Works on the servers'
own machines. Checkouts younger than two minutes stay (-64), and so does what
lingers (-100).

exit status: 0 if something was taken away; 215 (-41) if nothing like that is
checked out; 251 (-5) if there is no such feature; 192 (-64), 156 (-100) as said;
137 (-119) from another machine; 241 (-15) if no server was reached."""

ANSWER_S = 15.0
"""How long the answer may take: a server waits ten seconds for the master."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmremove's flags."""
    parser.add_argument("-c", metavar="PATH", dest="path", help=PATH_HELP)
    parser.add_argument(
        "-h", dest="by_handle", action="store_true",
        help="the words are: feature server_host port handle",
    )  # fmt: skip
    parser.add_argument("words", nargs=4, metavar="WORD", help="see above")


def run(args: argparse.Namespace) -> int:
    """Take away what the words name."""
    print_anything()
    arguments = ("handle" if args.by_handle else "user", *args.words)
    where = only_one(args.path, DEFAULT_TIMEOUT_S)
    with Survey(where, DEFAULT_TIMEOUT_S) as survey:
        if not survey.links:
            return not_reached(survey, list(range(len(survey.servers))))
        return order_one_of(
            survey, survey.links, lambda link: order(link, "remove", arguments, ANSWER_S), _print_answer
        )


def _print_answer(answer: AdminReply) -> int:
    if answer.code:
        print(refusal_of(answer).printed)
        for line in answer.lines:
            print(line)
        return exit_status(answer.code)
    for line in answer.lines:
        print(f"taken away: {line}")
    return 0
