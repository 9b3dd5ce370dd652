"""``flexcore lmutil NAME ...``: the utilities as existing scripts spell them.

What names a utility never comes here (cli.py runs it); this is the answer to anything else.
"""

from __future__ import annotations

from ._common import version_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Run one of the lm* utilities: flexcore lmutil lmstat -a is flexcore lmstat -a. A link to flexcore
that is named lmutil, or as one of the utilities, does the same, so that monitoring and scripts run
unchanged:

  ln -s "$(command -v flexcore)" /usr/local/bin/lmutil

exit status: that of the utility; 2 if there is none of that name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is left where no utility was named."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="the utility")
    parser.add_argument("-v", action="store_true", dest="version", help="print the version")
    parser.add_argument("-help", action="store_true", dest="help_wanted", help="list the utilities")


def run(args: argparse.Namespace) -> int:
    """List the utilities."""
    from .cli import COMMANDS, utilities

    if args.version:
        print("\n".join(version_lines("lmutil")))
        return 0
    if args.name is not None:
        print(f"lmutil: there is no utility {args.name!r}")
    print("usage: lmutil NAME [arguments]")
    print()
    for name in utilities():
        print(f"  {name:<10}{COMMANDS.get(name, 'write a licence file in another form')}")
    return 0 if args.help_wanted else 2
