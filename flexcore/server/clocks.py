"""Clocks that cannot be right: the server's own set back (-88), and those of the others in the triad.

Every entry of the ledger has a stamp, and stamps never fall, on whichever server (protocol.md rule
18). So a wall clock far behind the last stamp was set back, and a line that expires would go on being
given out: **nothing is granted from lines with an expiry** while the clock is more than
:data:`CLOCK_BACK_S` behind; permanent lines go on, and whoever holds a licence keeps it. A smaller
step back is an administrator's correction, and changes nothing (``tests/test_server_clocks.py``).

The other way round a clock that ran ahead leaves its stamps in the ledger: after it was put right,
-88 is the answer until time has caught up, or the triad is formed anew. That is why servers tell each
other how late it is, and say so when they differ by more than :data:`CLOCKS_DIFFER_S`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.checkout.machine import CheckoutMachine, Denial
from flexcore.codes import ErrorCode
from flexcore.timing import CLOCKS_DIFFER_S as CLOCKS_DIFFER_S

if TYPE_CHECKING:
    from flexcore.ledger.commands import LingerResumed, SeatGranted

CLOCK_BACK_S = 86_400.0
"""A day: more than any correction, and no more than a licence can gain by it."""


def clock_refusal(
    checkout: CheckoutMachine, grant: SeatGranted | LingerResumed, *, behind_s: float, day: int
) -> Denial | None:
    """Return why *grant* is not given while the clock is *behind_s* seconds behind the ledger, or None."""
    for offer in checkout.offers(day).get(grant.feature, ()):
        if offer.pool == grant.pool and offer.line.expiry_day is not None:
            return Denial(
                ErrorCode.CLOCK_SET_BACK,
                f"the server's clock is {behind_s / 3600.0:.0f} hours behind the last thing that this"
                f" triad recorded, and {grant.feature} expires on {offer.line.expiry_text}: set the clock right",
            )
    return None
