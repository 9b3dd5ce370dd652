"""``flexcore format`` (``lmutil lminstall``): write a licence file in another form."""

from __future__ import annotations

import argparse

from flexcore.errors import ConfigurationError
from flexcore.licensefile import decode_license, parse_license
from flexcore.licensefile.formatting import (
    WIDTH_MIN,
    from_decimal,
    is_decimal,
    reformat_license,
    to_decimal,
)

from ._files import read_bytes, replace

HELP = """\
Write a licence file in another form: every feature line on one line (the default), broken at a
column (-maxlen), or in digits that can be read out over a telephone (-odecimal). A file in digits is
read as well as any other, and what comes out verifies as before.

exit status: 0; 157 (-99) if digits are typed incorrectly."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="the licence file (- for stdin)")
    parser.add_argument("-i", dest="input", metavar="FILE", help="the same, as lminstall has it")
    parser.add_argument("-o", dest="output", metavar="OUT", default="-", help="where to write (default: stdout)")
    parser.add_argument("-maxlen", "--maxlen", type=int, default=0, metavar="N", help="break lines at column N")
    parser.add_argument("-odecimal", "--decimal", action="store_true", dest="decimal", help="write digits")
    parser.add_argument("-overfmt", metavar="FORMAT", help="accepted; there is one format")


def run(args: argparse.Namespace) -> int:
    """Run it."""
    name = args.file or args.input
    if name is None or (args.file and args.input):
        raise ConfigurationError("name one licence file")
    if args.maxlen and args.maxlen < WIDTH_MIN:
        raise ConfigurationError(f"-maxlen {args.maxlen}: at least {WIDTH_MIN}")
    text, encoding = decode_license(read_bytes(name))
    if is_decimal(text):
        text, encoding = from_decimal(text), "utf-8"
    license = parse_license(text, name=name)
    written = reformat_license(license, width=args.maxlen)
    if args.decimal:
        written, encoding = to_decimal(reformat_license(license)), "utf-8"
    replace(args.output, written.encode(encoding, "surrogatepass"))
    return 0
