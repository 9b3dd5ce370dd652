"""A request that its client gives up (protocol.md rule 17): what it was granted is free, it waits no
more, and it is never granted later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcore.ledger.commands import RequestWithdrawn, SeatGranted
from flexcore.ledger.queue import come_back, leave
from flexcore.ledger.sessions import Outcome

if TYPE_CHECKING:
    from flexcore.ledger.sessions import Seat
    from flexcore.ledger.state import LedgerState


def withdraw_request(
    state: LedgerState, index: int, term: int, stamp: float, command: RequestWithdrawn
) -> tuple[Any, ...]:
    """Carry out a RequestWithdrawn; returns its undo."""
    key, request, answered, target = command
    session = state._known(index, key)
    state._check_open(index, session, request, answered)
    grant = session.results.get(target)
    seat: Seat | None = None
    if grant is not None and isinstance(grant.command, SeatGranted):
        seat = session.seats.pop(grant.command.handle, None)
        if seat is not None:
            state._drop_seat(seat, index)
        del session.results[target]
    else:
        grant = None
    queued = session.queued.get(target)
    if queued is not None:
        leave(state, queued)
    elif grant is None and (seat := session.seat_of(target)) is not None:  # had waited for it
        del session.seats[seat.handle]
        state._drop_seat(seat, index)
    marked = target > session.answered and target not in session.withdrawn
    if marked:
        session.withdrawn.add(target)
    before = session.answered
    dropped = state._advance(session, answered)
    session.results[request] = Outcome(index, stamp, command)
    return (
        _undo_withdrawn,
        state.index,
        state.stamp,
        command,
        grant,
        seat,
        marked,
        before,
        dropped,
        queued,
    )


def _undo_withdrawn(state: LedgerState, undo: tuple[Any, ...]) -> None:
    command: RequestWithdrawn
    command, grant, seat, marked, answered, dropped, queued = undo[3:]
    session = state.sessions[command.session]
    del session.results[command.request]
    state._retreat(session, answered, dropped)
    if marked:
        session.withdrawn.discard(command.target)
    if queued is not None:
        come_back(state, queued)
    if grant is not None:
        session.results[command.target] = grant
    if seat is not None:
        session.seats[seat.handle] = seat
        state._restore_seat(seat)
