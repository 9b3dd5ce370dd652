"""May a seat go home with its holder, and for how long?

A line with BORROW allows it, for its hours; the options file may shorten that (MAX_BORROW_HOURS), keep
some licences in the house (BORROW_LOWWATER) and say who may (INCLUDE_BORROW, EXCLUDE_BORROW). Nobody
borrows beyond a licence's last day. ``tests/test_borrow_server.py::test_who_may_and_for_how_long``.

The time that counts is the servers' (:mod:`flexcore.quorum.clocks`), not the client's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.borrowing import HOUR_S, ROUNDING_S
from flexcore.codes import ErrorCode

from .tallies import requester_of

if TYPE_CHECKING:
    from flexcore.ledger.state import LedgerState, Seat, Session
    from flexcore.options.policy import Policy

    from .machine import CheckoutMachine
    from .rights import Offer

def borrow_refusal(
    machine: CheckoutMachine, state: LedgerState, session: Session, seat: Seat, until: float,
    *, wall: float, day: int, day_start: float,
) -> tuple[int, str] | None:  # fmt: skip
    """Return why *session* may not borrow *seat* until *until*, as code and detail, or None.

    *wall* is the time that the servers agree on; *day* the calendar day here, which began at
    *day_start* (epoch seconds).
    """
    offers = machine.offers(day).get(seat.feature, ())
    offer = next((each for each in offers if each.pool == seat.pool), None)
    if offer is None or offer.refusal:
        return ErrorCode.NO_SUCH_FEATURE, "its line is no longer in force"
    if seat.removal is not None:
        return ErrorCode.BORROW_FAILED, "it is being taken away"
    hours = offer.line.borrow_hours
    if not hours:
        return ErrorCode.NO_BORROW, f"the line of {seat.feature} has no BORROW"
    if not session.hostids:
        return ErrorCode.BORROW_FAILED, "the client shows no hostid that a borrowing is bound to"
    policy = machine.policy
    if policy is not None:
        refused = policy.borrow_refusal(offer.pool, requester_of(session))
        if refused is not None:
            return refused.code, refused.detail
        hours = policy.borrow_hours_max(offer.pool, hours)
    if until <= wall:
        return ErrorCode.BORROW_FAILED, "the end lies in the past by the license servers' clocks"
    if until > wall + hours * HOUR_S + ROUNDING_S:
        return ErrorCode.CANNOT_BORROW_THAT_LONG, f"at most {hours} hours"
    last = offer.line.expiry_day
    if last is not None and until > day_start + (last + 1 - day) * 24 * HOUR_S:
        return ErrorCode.CANNOT_BORROW_THAT_LONG, f"the license expires on {offer.line.expiry_text}"
    return _low_water(policy, state, offer, seat)


def _low_water(
    policy: Policy | None, state: LedgerState, offer: Offer, seat: Seat
) -> tuple[int, str] | None:
    kept = 0 if policy is None else policy.borrow_low_water(offer.pool)
    if not kept or offer.uncounted:
        return None
    out = borrowed_of(state, offer.pool)
    if out + seat.seats <= offer.seats - kept:
        return None
    return ErrorCode.NO_LICENSES_TO_BORROW, (
        f"{out} of {offer.seats} are borrowed, and {kept} stay here (BORROW_LOWWATER)"
    )


def borrowed_of(state: LedgerState, pool: str) -> int:
    """Return how many seats of *pool* are borrowed."""
    return sum(
        seat.seats
        for borrow in state.borrows
        for seat in state.sessions[borrow].seats.values()
        if seat.pool == pool
    )
