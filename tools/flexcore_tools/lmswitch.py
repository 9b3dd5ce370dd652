"""``flexcore lmswitch``: have the debug log go on in another file, while everything runs. All to stdout."""

from __future__ import annotations

from . import _switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = f"""\
Have the lines of a vendor's daemon in the debug log go to NEW_LOG from here on.
With -rollover what was written so far is kept as NEW_LOG instead, and the debug
log goes on under its own name.

It lasts until the server starts again, or DEBUGLOG of the options file names
another file.

{_switch.HOW_IT_ENDS}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmswitch's flags."""
    _switch.add_arguments(parser, "VENDOR", "the vendor, as its VENDOR line spells it")
    parser.add_argument("-rollover", "--rollover", action="store_true", help="keep the old one as NEW_LOG")


def run(args: argparse.Namespace) -> int:
    """Have the debug log go on elsewhere."""
    return _switch.run(args, "switch", *(["rollover"] if args.rollover else []))
