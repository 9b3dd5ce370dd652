"""Clocks that cannot be right: the server's own set back (-88), a client's far off (-34), and those of
the others in the triad.

Every entry of the ledger has a stamp, and stamps never fall, on whichever server (protocol.md rule
18). So a wall clock far behind the last stamp was set back, and a line that expires would go on being
given out: **nothing is granted from lines with an expiry** while the clock is more than
:data:`CLOCK_BACK_S` behind; permanent lines go on, and whoever holds a licence keeps it. A smaller
step back is an administrator's correction, and changes nothing (``tests/test_server_clocks.py``).

The other way round a clock that ran ahead leaves its stamps in the ledger: after it was put right,
-88 is the answer until time has caught up, or the triad is formed anew. That is why servers tell each
other how late it is, and say so when they differ by more than :data:`CLOCKS_DIFFER_S`.

*A client's clock.* Each hello and heartbeat of a client has its calendar time. Where that is more than
:data:`CLIENT_CLOCK_S` from this server's clock *and* from the middle of the servers' clocks, the client gets
nothing from lines that expire (-34): the manuals' bound. Permanent lines and what it holds are not touched, and it
is served again with the first heartbeat after its clock was set right.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from flexcore.checkout.machine import CheckoutMachine, Denial
from flexcore.codes import ErrorCode
from flexcore.quorum.clocks import middle_clock_gap
from flexcore.timing import CLOCKS_DIFFER_S as CLOCKS_DIFFER_S

if TYPE_CHECKING:
    from flexcore.checkout.rights import Line
    from flexcore.ledger.commands import LingerResumed, SeatGranted
    from flexcore.ledger.sessions import Session
    from flexcore.quorum import QuorumMachine

CLOCK_BACK_S = 86_400.0
"""A day: more than any correction, and no more than a licence can gain by it."""

CLIENT_CLOCK_S = 86_400.0
"""How far a client's clock may be off: the manuals list "clock difference > 24 h" among the reasons of a denial."""


def clock_refusal(
    checkout: CheckoutMachine, grant: SeatGranted | LingerResumed, *, behind_s: float, day: int
) -> Denial | None:
    """Return why *grant* is not given while the clock is *behind_s* seconds behind the ledger, or None."""
    line = _expiring_line(checkout, grant, day)
    if line is None:
        return None
    return Denial(
        ErrorCode.CLOCK_SET_BACK,
        f"the server's clock is {behind_s / 3600.0:.0f} hours behind the last thing that this"
        f" triad recorded, and {grant.feature} expires on {line.expiry_text}: set the clock right",
    )


def _expiring_line(
    checkout: CheckoutMachine, grant: SeatGranted | LingerResumed, day: int
) -> Line | None:
    for offer in checkout.offers(day).get(grant.feature, ()):
        if offer.pool == grant.pool and offer.line.expiry_day is not None:
            return offer.line
    return None


class ClientClocks:
    """The sessions of one reign whose clocks are too far off; there are none as a rule."""

    def __init__(self) -> None:
        self.off: dict[bytes, float] = {}
        """By how much, by session; looked at before each grant."""

    def hear(self, session: Session, ahead_s: float, quorum: QuorumMachine) -> str:
        """The clock of *session* is *ahead_s* ahead of this server's: return the line that this is worth in the
        log, '' if it is the same as before."""
        name = session.session
        off_s = 0.0
        if not -CLIENT_CLOCK_S <= ahead_s <= CLIENT_CLOCK_S:
            gap = middle_clock_gap(quorum)
            off_s = ahead_s if gap is None else ahead_s - (gap - quorum.clock_gap)
        was_off = self.off.pop(name, None) is not None
        if -CLIENT_CLOCK_S <= off_s <= CLIENT_CLOCK_S:
            return f"The clock of {session.host} agrees with the license servers' again" if was_off else ""
        self.off[name] = off_s
        if was_off:
            return ""
        return f"{_off_words(session, off_s)}: checkouts of what expires are denied until it is set right"

    def forget(self, session: bytes) -> None:
        """*session* is over."""
        self.off.pop(session, None)

    def clear(self) -> None:
        """A reign begins: everybody says anew how late it is."""
        self.off.clear()

    def refusal(
        self, checkout: CheckoutMachine, session: Session, grant: SeatGranted | LingerResumed, day: int
    ) -> Denial | None:
        """Return why *grant* is not given to *session*, or None."""
        off_s = self.off.get(session.session)
        line = None if off_s is None else _expiring_line(checkout, grant, day)
        if off_s is None or line is None:
            return None
        return Denial(
            ErrorCode.CLOCK_DIFFERENCE,
            f"{_off_words(session, off_s)}, and {grant.feature} expires on {line.expiry_text}: set the clock right",
        )

    def copy(self) -> ClientClocks:
        """Return a twin."""
        twin = ClientClocks()
        twin.off = dict(self.off)
        return twin

    def fingerprint(self) -> Hashable:
        """Return what decides its future."""
        return tuple(sorted(self.off))


def _off_words(session: Session, off_s: float) -> str:
    direction = "behind" if off_s < 0 else "ahead of"
    return f"The clock of {session.host} is {abs(off_s) / 3600.0:.0f} hours {direction} the license servers'"
