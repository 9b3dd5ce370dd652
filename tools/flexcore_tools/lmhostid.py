"""``flexcore lmhostid``: print this machine's hostids."""

from __future__ import annotations

import argparse

from flexcore_host.hostids import DEFAULT_TYPE, TYPES, hostids_of_type

HELP = f"""\
Print the hostids of this machine. TYPE is one of {", ".join(TYPES)} (with a dash in front or
without; default {DEFAULT_TYPE}). With -n only the value, fit for HOSTID= and for a SERVER line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("-n", action="store_true", help="only the value")
    parser.add_argument("type", metavar="TYPE", nargs="?", help="which hostid")
    for name in TYPES:  # as lmutil has it: lmhostid -ether
        parser.add_argument(
            f"-{name}", dest="dashed", action="store_const", const=name, help=argparse.SUPPRESS
        )


def run(args: argparse.Namespace) -> int:
    """Run it."""
    words = [str(hostid) for hostid in hostids_of_type(args.type or args.dashed or DEFAULT_TYPE)]
    value = words[0] if len(words) == 1 else f'"{" ".join(words)}"'
    if args.n:
        print(value)
        return 0
    shown = f'"{words[0]}"' if len(words) == 1 else f'"{value}"'
    print(f"The flexcore host ID of this machine is {shown}")
    if len(words) > 1:
        print("Only use ONE from the list of hostids.")
    return 0
