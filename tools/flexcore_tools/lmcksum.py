"""``flexcore lmcksum``: a number for each feature line, to compare two copies of a licence file."""

from __future__ import annotations

from flexcore.errors import SearchPathError
from flexcore.licensefile import parse_license
from flexcore.licensefile.formatting import checksum

from ._common import LICENSE_BYTES_MAX, license_files, print_anything

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Print a checksum of each feature line of the licence files that the path names: equal where the
content is equal, however the line is broken and whatever an administrator may change. The numbers
are flexcore's own; whether the publisher signed a line is what flexcore verify says.

exit status: 0; 255 (-1) if the path names no file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmcksum's flags."""
    parser.add_argument("feature", nargs="?", metavar="FEATURE", help="only this feature's lines")
    parser.add_argument("-c", metavar="PATH", dest="path", help="licence files, joined by colons")


def run(args: argparse.Namespace) -> int:
    """Print the numbers."""
    print_anything()
    files = license_files(args.path)
    if not files:
        raise SearchPathError("the search path names no license file")
    for name in files:
        with open(name, "rb") as file:
            license = parse_license(file.read(LICENSE_BYTES_MAX), name=name)
        print(f"lmcksum: using license file {name}")
        for line in license.signable_lines:
            if args.feature in (None, line.name):
                number = checksum(line, license.hostids)
                print(f"{number:5d}: {line.keyword} {line.name} {line.vendor} {line.version}")
    return 0
