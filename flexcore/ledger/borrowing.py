"""Licences that went home with somebody: seats that no session holds any more (invariant I9).

A seat that is borrowed leaves the session that checked it out and becomes a *borrow*'s: an entry in
``LedgerState.sessions`` like any session, under an id of its own, with the same user, host and
display, so that whoever asks who holds a seat is told; but it has no lease and no connection, and
holds this one seat until :class:`~flexcore.ledger.commands.BorrowEnded`. The session may end as it
likes. ``LedgerState.borrows`` says until when each lasts: the instant stands in the entry, and that
it has passed is decided by the master and recorded by another entry (protocol.md rule 18): nothing
ends here by itself (``tests/test_borrow_ledger.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcore.ledger.sessions import LedgerCorrupt, Outcome, Session

if TYPE_CHECKING:
    from flexcore.ledger.commands import BorrowEnded, SeatBorrowed
    from flexcore.ledger.state import LedgerState


def borrow_seat(
    state: LedgerState, index: int, term: int, stamp: float, command: SeatBorrowed
) -> tuple[Any, ...]:
    """Carry out a SeatBorrowed; returns its undo."""
    key, request, answered, handle, borrow, secret, until, hostids = command
    session = state._known(index, key)
    state._check_open(index, session, request, answered)
    seat = session.seats.get(handle)
    if seat is None or session.borrowed_until:
        raise LedgerCorrupt(
            f"entry {index} lends handle {handle}, which session {key.hex()} does not hold"
        )
    if borrow in state.sessions or state.ended.get(borrow, -1.0) >= stamp or until <= 0.0:
        raise LedgerCorrupt(f"entry {index} begins borrow {borrow.hex()}, which makes no sense")
    lent = seat._replace(session=borrow, request=0)
    del session.seats[handle]
    state.seats[handle] = lent
    state.sessions[borrow] = Session(
        session=borrow, secret=secret, user=session.user, host=session.host,
        display=session.display, project=session.project, pid=0, lease_s=0.0, trusted_end=False,
        opened=stamp, opened_index=index, hostids=hostids, platform=session.platform,
        address=session.address, borrowed_until=until, seats={handle: lent},
    )  # fmt: skip
    state.borrows[borrow] = until
    state.borrow_changes += 1
    before = session.answered
    dropped = state._advance(session, answered)
    session.results[request] = Outcome(index, stamp, command)
    return _undo_borrowed, state.index, state.stamp, command, seat, before, dropped


def _undo_borrowed(state: LedgerState, undo: tuple[Any, ...]) -> None:
    command: SeatBorrowed
    command, seat, answered, dropped = undo[3:]
    session = state.sessions[command.session]
    del session.results[command.request]
    state._retreat(session, answered, dropped)
    del state.sessions[command.borrow], state.borrows[command.borrow]
    state.borrow_changes += 1
    session.seats[seat.handle] = state.seats[seat.handle] = seat


def end_borrow(
    state: LedgerState, index: int, term: int, stamp: float, command: BorrowEnded
) -> tuple[Any, ...]:
    """Carry out a BorrowEnded: the seat is free; returns its undo."""
    borrow = state._known(index, command.borrow)
    if not borrow.borrowed_until:
        raise LedgerCorrupt(f"entry {index} ends borrow {command.borrow.hex()}, which is none")
    for seat in borrow.seats.values():
        state._drop_seat(seat, index)
    del state.sessions[command.borrow], state.borrows[command.borrow]
    state.borrow_changes += 1
    return _undo_ended, state.index, state.stamp, borrow


def _undo_ended(state: LedgerState, undo: tuple[Any, ...]) -> None:
    borrow: Session = undo[3].copy()  # the undo itself must never change
    state.sessions[borrow.session] = borrow
    state.borrows[borrow.session] = borrow.borrowed_until
    state.borrow_changes += 1
    for seat in reversed(borrow.seats.values()):
        state._restore_seat(seat)
