"""``flexcore lmswitchr``: have the report log go on in another file, while everything runs. All to stdout."""

from __future__ import annotations

from . import _switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = f"""\
Have the report log go on in NEW_LOG from here on. The file of before is closed,
and NEW_LOG goes on with its chain: "flexcore reportlog verify" and "merge" take
both.

It lasts until the server starts again or the options file is read anew
(lmreread); then the log goes on where it was before.

{_switch.HOW_IT_ENDS}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmswitchr's flags."""
    _switch.add_arguments(parser, "VENDOR|FEATURE", "the vendor, or a feature of it")


def run(args: argparse.Namespace) -> int:
    """Have the report log go on elsewhere."""
    return _switch.run(args, "switchr")
