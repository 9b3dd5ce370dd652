"""``flexcore lmpath``: where the utilities and applications of this user look for licences."""

from __future__ import annotations

import os

from flexcore.errors import ConfigurationError
from flexcore.searchpath import parse_search_path

from ._common import print_anything

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

HELP = """\
Show the licence search path of this user, entry by entry, in the order in which it is tried.

flexcore keeps no path of its own beside the environment, so that there is one place to look: for
-add and -override it prints the line to put into a profile, and changes nothing.

exit status: 0; 255 (-1) if there is no path."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmpath's flags."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-status", action="store_true", help="show the path (the default)")
    which.add_argument("-add", nargs=2, metavar=("NAME", "PATH"), help="NAME is a vendor, or all")
    which.add_argument("-override", nargs=2, metavar=("NAME", "PATH"), help="NAME is a vendor, or all")


def run(args: argparse.Namespace) -> int:
    """Show the path, or say how to change it."""
    print_anything()
    if args.add or args.override:
        name, path = args.add or args.override
        parse_search_path(path)  # refuses what nobody could use
        print(_assignment(name, path, os.environ, add=args.add is not None))
        return 0
    known = _variables(os.environ)
    for variable, value in known:
        print(f"{variable}:")
        for alternative in parse_search_path(value).alternatives:
            print(f"    {alternative}")
    if not known:
        print("neither LM_LICENSE_FILE nor any VENDOR_LICENSE_FILE is set")
        return 255
    return 0


def _variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    names = sorted(name for name in environ if name.endswith("_LICENSE_FILE") and environ[name])
    first = [name for name in names if name == "LM_LICENSE_FILE"]
    return [(name, environ[name]) for name in first + [each for each in names if each not in first]]


def _assignment(name: str, path: str, environ: Mapping[str, str], *, add: bool) -> str:
    if not name.replace("-", "_").isidentifier():
        raise ConfigurationError(f"{name!r} is no vendor name")
    variable = "LM_LICENSE_FILE" if name == "all" else f"{name.upper()}_LICENSE_FILE"
    before = environ.get(variable, "") if add else ""
    value = f"{path}{os.pathsep}{before}" if before else path
    if os.name == "nt":
        return f"setx {variable} \"{value}\""
    import shlex

    return f"export {variable}={shlex.quote(value)}"
