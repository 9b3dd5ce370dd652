"""Status of the queue: who waits, page by page, and how many for each pool."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING

from flexcore.checkout.rights import version_key
from flexcore.wire.messages import FeatureRow, QueueRow

if TYPE_CHECKING:
    from flexcore.checkout.machine import CheckoutMachine
    from flexcore.checkout.rights import Offer
    from flexcore.ledger.sessions import Queued
    from flexcore.ledger.state import LedgerState


def queue_rows(
    feature: str, machine: CheckoutMachine, state: LedgerState, after: int, day: int, limit: int
) -> tuple[tuple[QueueRow, ...], str]:
    """Return up to *limit* of those that wait for *feature* ('': for any), by their places above
    *after*, and the cursor of the rest."""
    lines = [feature] if feature else state.queue.features
    waiting = (each for each in heapq.merge(*map(state.queue.of, lines)) if each.place > after)
    rows = []
    for queued in islice(waiting, limit):
        session = state.sessions[queued.session]
        offer = _offer_for(queued, machine, day)
        version = queued.version or ("" if offer is None else offer.version)
        rows.append(QueueRow(
            "" if offer is None else offer.pool, queued.feature, session.user, session.host,
            session.display, version, queued.place, queued.since, queued.count, session.pid,
        ))  # fmt: skip
    return tuple(rows), f"0.{rows[-1].handle}" if len(rows) == limit else ""


def with_queued(
    rows: list[FeatureRow], machine: CheckoutMachine, state: LedgerState, day: int
) -> tuple[FeatureRow, ...]:
    """Return *rows* with the number of those that wait for each pool."""
    if not state.queue:
        return tuple(rows)
    counts: dict[str, int] = {}
    for feature in {row.feature for row in rows}:
        for queued in state.queue.of(feature):
            offer = _offer_for(queued, machine, day)
            if offer is not None:
                counts[offer.pool] = counts.get(offer.pool, 0) + 1
    return tuple(row._replace(queued=counts.get(row.pool, 0)) for row in rows)


def _offer_for(queued: Queued, machine: CheckoutMachine, day: int) -> Offer | None:
    """Return the first offer that is good enough, the first of all where none is (any more)."""
    offers = machine.offers(day).get(queued.feature, ())
    key = version_key(queued.version) if queued.version else None
    good = (
        offer for offer in offers
        if not offer.refusal and (key is None or key <= offer.version_key)
    )  # fmt: skip
    return next(good, offers[0] if offers else None)
