"""``flexcore verify``: check the signatures of a licence file."""

from __future__ import annotations

import argparse

from flexcore.licensefile import verify_license

from ._files import read_license, read_verifying_key, today

HELP = """\
Check every feature line against the vendor's public key and say what differs where one was changed.
Host names, ports, PRIMARY_IS_MASTER and HEARTBEAT_INTERVAL may differ from what was signed. The exit
status is 0 only if there is a feature line and every one verifies."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("file", metavar="FILE", help="the licence file (- for stdin)")
    parser.add_argument(
        "--key", metavar="VENDOR.pub", required=True, action="append",
        help="the vendor's public key; again for each further vendor",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run it."""
    keys = [read_verifying_key(path) for path in args.key]
    license = read_license(args.file)
    report = verify_license(license, keys, today())
    for problem in license.errors:
        print(f"{license.name}:{problem}")
    for verdict in report.verdicts:
        line = verdict.line
        print(
            f"{license.name}:{line.line}: {line.keyword} {line.name} {line.version}: {verdict.message}"
        )
    if not report.verdicts:
        print(f"{license.name}: no feature line")
    return 0 if report.is_valid and not license.errors else 1
