"""``flexcore lmnewlog``: put the report log aside and go on under its name. All to stdout."""

from __future__ import annotations

from . import _switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = f"""\
Keep what was written of the report log so far as NEW_LOG; the log goes on under
its own name, with the chain of before: "flexcore reportlog verify" and "merge"
take both.

{_switch.HOW_IT_ENDS}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmnewlog's flags."""
    _switch.add_arguments(parser, "VENDOR|FEATURE", "the vendor, or a feature of it")


def run(args: argparse.Namespace) -> int:
    """Put the report log aside."""
    return _switch.run(args, "newlog")
