"""``flexcore sign``: sign a licence file."""

from __future__ import annotations

import argparse

from flexcore.errors import LicenseError
from flexcore.licensefile import license_bytes, lint_license, sign_license
from flexcore.licensefile.lines import only_errors
from flexcore.licensefile.lint import format_problems

from ._files import read_license, read_signing_key, replace

HELP = """\
Fill in or replace SIGN= on every feature line of the key's vendor, each line on one physical line.
Everything else stays as it is, byte for byte. A file with errors is not signed, nor one in which two
lines say the same (SN= or ISSUED= tell them apart)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "file", metavar="FILE", help="the licence file (- for stdin, then to stdout)"
    )
    parser.add_argument(
        "--key", metavar="VENDOR.key", required=True, help="the vendor's secret key"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="write here instead of to FILE (- for stdout)"
    )
    parser.add_argument("--wrap", action="store_true", help="break long lines, with backslashes")


def run(args: argparse.Namespace) -> int:
    """Run it."""
    key = read_signing_key(args.key)
    license = read_license(args.file)
    errors = only_errors(lint_license(license))
    if errors:
        listed = format_problems(errors, license.name).rstrip()
        raise LicenseError(f"a file with errors is not signed:\n{listed}")
    signed = sign_license(license, key, wrap=args.wrap)
    output = args.output or args.file
    replace(output, license_bytes(signed))
    if output != "-":
        number = sum(line.vendor == key.vendor for line in signed.signable_lines)
        others = sum(line.vendor != key.vendor for line in signed.signable_lines)
        print(f"{output}: {number} line{'s' * (number != 1)} signed for vendor {key.vendor}")
        if others:
            print(f"{output}: {others} of other vendors left as they were")
    return 0
