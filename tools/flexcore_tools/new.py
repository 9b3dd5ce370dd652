"""``flexcore new``: make an unsigned licence file."""

from __future__ import annotations

import argparse

from flexcore.errors import ConfigurationError, LicenseError
from flexcore.keys import is_vendor_name
from flexcore.licensefile import lint_license, parse_license
from flexcore.licensefile.lines import only_errors
from flexcore.licensefile.lint import format_problems

from ._files import replace

HELP = """\
Make an unsigned licence file. One --server makes a single server, three make a triad (primary,
secondary, tertiary, in this order), none is for uncounted features. --feature may go on with keywords:
  --feature "f1 1.0 31-dec-2030 10 VENDOR_STRING=pro"
The second --feature of one name becomes an INCREMENT line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("vendor", metavar="VENDOR", help="the vendor's name")
    parser.add_argument(
        "--server", action="append", default=[], metavar='"HOST HOSTID PORT"',
        help="a SERVER line; once, or three times",
    )  # fmt: skip
    parser.add_argument(
        "--feature", action="append", default=[], metavar='"NAME VERSION EXPIRY COUNT"', required=True,
        help="a feature line; as often as needed",
    )  # fmt: skip
    parser.add_argument(
        "--primary-is-master", action="store_true", help="the keyword on the first SERVER line"
    )
    parser.add_argument(
        "--heartbeat-interval", type=int, metavar="SECONDS", help="the keyword, 0 to 120"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", default="-", help="where to write (default: stdout)"
    )


def run(args: argparse.Namespace) -> int:
    """Run it."""
    if not is_vendor_name(args.vendor):
        raise ConfigurationError(f"{args.vendor!r} is no vendor name: letters, digits, _ and - are")
    text = "".join(f"{line}\n" for line in _lines(args))
    license = parse_license(text, name="the new file")
    errors = only_errors(lint_license(license))
    if errors:
        raise LicenseError("no file is written:\n" + format_problems(errors, "new").rstrip())
    replace(args.output, text.encode("utf-8"))
    if args.output != "-":
        number = len(license.features)
        print(
            f"{args.output}: {number} feature line{'s' * (number != 1)}, not signed yet (flexcore sign)"
        )
    return 0


def _lines(args: argparse.Namespace) -> list[str]:
    for text in [*args.server, *args.feature]:
        if "\n" in text or "\r" in text:
            raise ConfigurationError(f"{text!r}: one line an argument")
    lines = [f"SERVER {' '.join(text.split())}" for text in args.server]
    if args.primary_is_master or args.heartbeat_interval is not None:
        if not lines:
            raise ConfigurationError(
                "a keyword for the first SERVER line, and there is no --server"
            )
        lines[0] += " PRIMARY_IS_MASTER" if args.primary_is_master else ""
        if args.heartbeat_interval is not None:
            lines[0] += f" HEARTBEAT_INTERVAL={args.heartbeat_interval}"
    if lines:
        lines.append(f"VENDOR {args.vendor}")
    names: set[str] = set()
    for text in args.feature:
        name, _, rest = text.strip().partition(" ")
        keyword = "INCREMENT" if name in names else "FEATURE"
        names.add(name)
        lines.append(f"{keyword} {name} {args.vendor} {rest.strip()}")
    return lines
