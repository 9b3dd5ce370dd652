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
    parser.add_argument("-utf8", action="store_true", help="accepted: what is printed is UTF-8")
    parser.add_argument("-ptype", metavar="PLATFORM", choices=("PHY", "VM"), type=str.upper,
                        help="PHY: as without it; VM: the UUID of a virtual machine")  # fmt: skip
    parser.add_argument("-dtype", metavar="TYPE", help="accepted beside -flexid, which is not supported")
    parser.add_argument("type", metavar="TYPE", nargs="?", help="which hostid")
    for name in TYPES:  # as lmutil has it: lmhostid -ether
        parser.add_argument(
            f"-{name}", dest="dashed", action="store_const", const=name, help=argparse.SUPPRESS
        )


def run(args: argparse.Namespace) -> int:
    """Run it."""
    usual = "vm_uuid" if args.ptype == "VM" else DEFAULT_TYPE
    words = [str(hostid) for hostid in hostids_of_type(args.type or args.dashed or usual)]
    value = words[0] if len(words) == 1 else f'"{" ".join(words)}"'
    if args.n:
        print(value)
        return 0
    shown = f'"{words[0]}"' if len(words) == 1 else f'"{value}"'
    print(f"The flexcore host ID of this machine is {shown}")
    if len(words) > 1:
        print("Only use ONE from the list of hostids.")
    return 0
