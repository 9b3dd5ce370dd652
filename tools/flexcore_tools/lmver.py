"""``flexcore lmver``: which flexcore this is, or which one a file holds."""

from __future__ import annotations

import re

from ._common import print_anything

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Print the version of flexcore, of its protocol and of Python; with FILE (a wheel, a log, a
program) every version of flexcore that it names.

exit status: 0; 1 if FILE names none."""

READ_MAX = 64 * 1024 * 1024
_MARK = re.compile(rb"flexcore[ =-](?:v|licensing v)?([0-9]+(?:\.[0-9]+)+[a-z0-9.]*)", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmver's argument."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="what to look into")


def run(args: argparse.Namespace) -> int:
    """Print what is known."""
    print_anything()
    if args.file is None:
        import platform

        from flexcore import __version__
        from flexcore.wire.messages import PROTOCOL_VERSION

        print(f"flexcore {__version__}, protocol {PROTOCOL_VERSION}")
        print(f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}")
        return 0
    with open(args.file, "rb") as file:
        data = file.read(READ_MAX)
    found = sorted({match.decode("ascii") for match in _MARK.findall(data)})
    for version in found:
        print(f"{args.file}: flexcore {version}")
    if not found:
        print(f"{args.file}: no version of flexcore")
    return 0 if found else 1
