"""Status pages: what is licensed and who holds it, at most some hundreds of rows at a time.

A cursor is an opaque text to the reader; here it is the last row's place (a pool's number, a seat's
handle), so that no page needs anything to be remembered between two requests, and a seat that is
held through all pages is in exactly one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.checkout.machine import CheckoutMachine
from flexcore.checkout.rights import Offer
from flexcore.identity import NOBODY
from flexcore.quorum.events import QuorumReport
from flexcore.wire.messages import (
    FeatureRow,
    ReservationRow,
    SeatRow,
    ServerReport,
    StatusPage,
    StatusRequest,
)

from .config import STATUS_BYTES_MAX, STATUS_ROWS_MAX, ServerConfig
from .status_queue import queue_rows, with_queued

if TYPE_CHECKING:
    from flexcore.ledger.state import LedgerState, Seat

FEATURES, SEATS, QUEUE, REPORT = "features", "seats", "queue", "report"
"""What may be asked for (StatusRequest.what)."""

NOT_IN_FILE = "not in the license file"
NOTES_MAX = 32


def make_report(
    config: ServerConfig, said: QuorumReport, *, commit: int, notes: tuple[str, ...],
    uptime_s: float,
) -> ServerReport:  # fmt: skip
    """Return what a server says of itself, from what its quorum machine says."""
    return ServerReport(
        name=config.host, rank=int(config.rank), state=said.state, term=said.term,
        master_rank=NOBODY if said.master is None else int(said.master),
        reason=said.reason, until_s=said.until_s, uptime_s=uptime_s,
        software=config.software, license_path=config.license_path,
        peers_up=tuple(int(rank) for rank in said.peers_up),
        notes=(*said.notes, *notes)[:NOTES_MAX], commit=commit,
        vendor_up=said.master is not None and said.state in ("serving", "follower"),
    )  # fmt: skip


def status_page(
    request: StatusRequest, machine: CheckoutMachine, state: LedgerState,
    *, term: int, rank: int, day: int, wall: float = 0.0,
) -> StatusPage | None:  # fmt: skip
    """Return the page that *request* asks for, None if it asks for nothing that exists."""
    cursor = _place(request.cursor)
    if cursor is None:
        return None
    place, handle = cursor
    if request.what == FEATURES:
        features, more = _feature_rows(request.feature, machine, state, place, day)
        kept = _reservation_rows(features, machine, state, day)
        rows = with_queued(features, machine, state, day)
        return StatusPage(request.seq, term, rank, rows, (), more, reservations=kept)
    if request.what == SEATS:
        seats, more = _seat_rows(request.feature, machine, state, place, handle, wall)
        return StatusPage(request.seq, term, rank, (), tuple(seats), more)
    if request.what == QUEUE:
        waiting, more = queue_rows(request.feature, machine, state, handle, day, STATUS_ROWS_MAX)
        return StatusPage(request.seq, term, rank, (), (), more, waiting)
    return None


def _place(cursor: str) -> tuple[int, int] | None:
    """Return (place in the list of pools, handle) of a cursor, None if it is none of ours."""
    if not cursor:
        return 0, 0
    place, _, handle = cursor.partition(".")
    if len(cursor) > 40 or not cursor.isascii() or not (place.isdigit() and handle.isdigit()):
        return None
    return int(place), int(handle)


def _size(row: SeatRow | FeatureRow) -> int:
    return 64 + sum(4 * len(field) for field in row if isinstance(field, str))


def _pools(machine: CheckoutMachine, state: LedgerState) -> list[str]:
    """The pools of the file in its order, then those that are no longer in it but have holders."""
    known = [pool.key for pool in machine.rights.pools]
    in_file = set(known)
    return known + sorted(key for key in state.pools if key not in in_file)


def _seat_rows(
    feature: str, machine: CheckoutMachine, state: LedgerState, place: int, after: int,
    wall: float,
) -> tuple[list[SeatRow], str]:
    pools = _pools(machine, state)
    known = {pool.key: pool.feature for pool in machine.rights.pools}
    rows: list[SeatRow] = []
    size = 0
    for number in range(place, len(pools)):
        first = state.seats_page(pools[number], 0, 1) if feature else ()
        if first and known.get(pools[number], first[0].feature) != feature:
            continue
        wanted = STATUS_ROWS_MAX - len(rows)
        seats = state.seats_page(pools[number], after if number == place else 0, wanted)
        for seat in seats:
            row = _seat_row(seat, state, wall)
            if seat.pool != pools[number]:  # a component's seat, as its suite's pool has it
                row = row._replace(pool=pools[number], feature=known.get(pools[number], row.feature))
            rows.append(row)
            size += _size(row)
            if len(rows) == STATUS_ROWS_MAX or size >= STATUS_BYTES_MAX:
                return rows, f"{number}.{seat.handle}"
    return rows, ""


def _seat_row(seat: Seat, state: LedgerState, wall: float) -> SeatRow:
    session = state.holder_of(seat)
    row = SeatRow(seat.pool, seat.feature, session.user, session.host, session.display,
                   seat.version, seat.handle, seat.started, seat.seats, session.pid,
                   project=session.project)  # fmt: skip
    if not state.borrows or seat.session not in state.borrows:
        return row
    until, since = state.borrows[seat.session], state.sessions[seat.session].opened
    return row._replace(linger_left_s=max(0.0, until - wall), linger_s=until - since, borrowed=True)


def _feature_rows(
    feature: str, machine: CheckoutMachine, state: LedgerState, after: int, day: int
) -> tuple[list[FeatureRow], str]:
    """Pools of the file in its order, then pools that still have holders, then bad lines."""
    by_key = {offer.pool: offer for offers in machine.offers(day).values() for offer in offers}
    places: list[FeatureRow | str] = [*_pools(machine, state)]
    places += [
        FeatureRow(bad.feature, "", bad.version, machine.rights.vendor, "", None, "", bad.count, 0,
                   "", bad.why)
        for bad in machine.rights.rejected if bad.is_error
    ]  # fmt: skip
    rows: list[FeatureRow] = []
    size = 0
    for place in range(after, len(places)):
        what = places[place]
        if isinstance(what, FeatureRow):
            row = what
        elif what in by_key:
            row = _pool_row(by_key[what], state.in_use[what], day)
        else:
            row = _orphan_row(what, machine, state)
        if feature and row.feature != feature:
            continue
        rows.append(row)
        size += _size(row)
        if len(rows) == STATUS_ROWS_MAX or size >= STATUS_BYTES_MAX:
            return rows, f"{place + 1}.0"
    return rows, ""


def _reservation_rows(
    features: list[FeatureRow], machine: CheckoutMachine, state: LedgerState, day: int
) -> tuple[ReservationRow, ...]:
    """What RESERVE still keeps of the pools of this page: as many rows as the options file has."""
    rules = machine.regulations
    if rules is None:
        return ()
    offers = {offer.pool: offer for some in machine.offers(day).values() for offer in some}
    return tuple(
        ReservationRow(row.pool, row.feature, left, rule.subject.type.value, rule.subject.name)
        for row in features if row.pool in offers
        for rule, left in rules.reservations(state, offers[row.pool])
    )[:STATUS_ROWS_MAX]  # fmt: skip


def _pool_row(offer: Offer, in_use: int, day: int) -> FeatureRow:
    line = offer.line
    days = None if line.expiry_day is None else line.expiry_day - day
    count = offer.seats or line.seats
    return FeatureRow(
        offer.feature, offer.pool, offer.version, line.vendor, line.expiry_text, days,
        line.vendor_string, 0 if offer.uncounted else count, in_use, offer.lock,
    )  # fmt: skip


def _orphan_row(pool: str, machine: CheckoutMachine, state: LedgerState) -> FeatureRow:
    """A pool that the file no longer has, whose holders keep their seats (rule 19)."""
    seat = state.seats_page(pool, 0, 1)[0]
    used = state.in_use[pool]
    return FeatureRow(seat.feature, pool, seat.version, machine.rights.vendor, "", None, "", used,
                      used, "", NOT_IN_FILE)  # fmt: skip
