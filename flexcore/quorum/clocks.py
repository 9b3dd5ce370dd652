"""What time it is, by more than one clock (protocol.md rule 18, second half).

A borrowed licence comes back at an instant of the calendar, and calendars are set by people. One
clock that jumps must neither free what is out in the world nor keep it for ever: the master takes the
**middle** of the servers' wall clocks, **of two the earlier**, as they come with acknowledgements. A
master that has heard nobody in this reign knows no time, and ends nothing; a single server has its
own clock only (``tests/test_borrow_simulated.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexcore.quorum.machine import QuorumMachine


def middle_clock_gap(quorum: QuorumMachine) -> float | None:
    """Return the agreed wall clock less this server's monotonic one, None where no time is known."""
    if not quorum.config.triad:
        return quorum.clock_gap
    since = quorum.now - quorum.config.timeout_s
    gaps = [
        peer.clock_gap
        for peer in quorum.peers.values()
        if peer.acked_at is not None and peer.acked_at >= since
    ]
    if not gaps:
        return None
    gaps.append(quorum.clock_gap)
    gaps.sort()
    return gaps[1] if len(gaps) == 3 else gaps[0]


def middle_wall(quorum: QuorumMachine) -> float | None:
    """Return the time of day that the servers agree on (epoch seconds), None where none is known."""
    gap = middle_clock_gap(quorum)
    return None if gap is None else quorum.now + gap
