"""Seats that are taken away while their clients run: ``lmremove`` by an administrator, and TIMEOUT.

A seat is marked in the ledger (:class:`~flexcore.ledger.commands.SeatRemoved`), so that it stays taken
away after a failover; once that is committed its client is told (SeatsLost), stops believing in it and
gives it back: only that, or the end of the session, frees it (protocol.md, I3: *lmremove frees when the
client confirmed or its lease ended*). Who was not connected is told when the session is resumed
(``tests/test_removals.py::test_a_new_master_tells_the_client``).

*Idle.* The product says when a seat is not used (``seat.idle()`` and ``seat.active()`` of the clients),
and each heartbeat says of every idle seat for how long; so a new master knows it from the next
heartbeat on, and nothing of it is in the ledger.

A server that is not master passes the request of its administrator on, as a reread
(:mod:`flexcore.quorum.rereads`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from flexcore.codes import ErrorCode, text_of
from flexcore.identity import Rank
from flexcore.report.logline import removed_line
from flexcore.report.plain import line_of
from flexcore.wire.messages import AdminReply, Granted, IdleSeat, Remove, RemoveReply, SeatsLost

from .answers import asker_of

if TYPE_CHECKING:
    from flexcore.ledger.state import LedgerState, Seat, Session
    from flexcore.quorum import QuorumMachine
    from flexcore.quorum.events import RemovalWanted
    from flexcore.wire.messages import AdminRequest, ServerMessage

    from .config import ServerConfig
    from .connections import ServerConnection
    from .desk import ClientDesk
    from .outbox import Outbox

ANSWER_S = 10.0
"""How long an administrator waits for the master."""
COMMIT_S = 5.0
"""How long an answer waits until the removal is on two servers."""
WAITERS_MAX = 32
"""Removals that wait for something; further ones are told to come again."""
SEATS_MAX = 1_000
"""Seats that one request takes away."""
LINES_MAX = 100
TEXT_MAX = 256

BY_USER, BY_HANDLE = "user", "handle"
"""First argument of 'remove': then feature, user, host, display; or feature, server's host, port, handle."""

REMOVED, INACTIVE = "REMOVED", "INACTIVE"
"""Words behind IN in the log (observed-formats D3)."""


def lost_seats(session: Session, term: int) -> Iterator[SeatsLost]:
    """Return what a client that has just resumed its session is told of seats taken away from it."""
    for seat in sorted(session.seats.values()):
        if seat.removal is not None:
            yield SeatsLost(term, (seat.handle,), seat.removal.code, seat.removal.text)


def lost_since(state: LedgerState, said: ServerMessage, term: int) -> SeatsLost | None:
    """Return what a client is told behind a grant that is repeated, if it is taken away by now: it did
    not know the seat when that was told first."""
    seat = state.seats.get(said.handle) if type(said) is Granted else None
    if seat is None or seat.removal is None:
        return None
    return SeatsLost(term, (seat.handle,), seat.removal.code, seat.removal.text)


def take_idle(
    desk: ClientDesk, session: Session, idle: tuple[IdleSeat, ...], *, now: float, wall: float
) -> None:
    """Take back what *session* says to have left idle for longer than TIMEOUT (or TIMEOUTALL) lets it."""
    timeouts = desk.checkout.durations.timeout_s
    if not timeouts:
        return
    for handle, idle_s in idle:
        seat = session.seats.get(handle)
        if seat is None or seat.removal is not None:
            continue
        timeout_s = timeouts.get(seat.pool)
        if timeout_s and idle_s >= timeout_s:
            text = f"inactive for {timeout_s} s, after which the options file has it taken back"
            desk.take_away(seat, INACTIVE, text, (), now=now, wall=wall)


@attrs.frozen(kw_only=True)
class Waiting:
    """Where an answer goes: to an administrator here (*conn*, *seq*), or back on *link*."""

    number: int
    deadline: float
    conn: int = 0
    seq: int = 0
    link: int | None = None


class Removals:
    """lmremove at one server: carried out where it serves, passed on to the master elsewhere."""

    def __init__(self, config: ServerConfig, quorum: QuorumMachine, outbox: Outbox) -> None:
        self._config = config
        self._quorum = quorum
        self._outbox = outbox
        self._number = 0
        self._asks: dict[int, Waiting] = {}
        self._ready: list[tuple[int, Waiting, RemoveReply]] = []

    def ask(
        self, connection: ServerConnection, message: AdminRequest, desk: ClientDesk | None, *, now: float,
        wall: float,
    ) -> None:  # fmt: skip
        """An administrator of this machine asks. *desk*: None where this server decides nothing now."""
        self._number += 1
        waiting = Waiting(number=self._number, deadline=now + ANSWER_S, conn=connection.conn,
                          seq=message.seq)  # fmt: skip
        by = asker_of(message)
        arguments = tuple(text[:TEXT_MAX] for text in message.arguments[:5])
        master = self._quorum.report().master
        if len(self._asks) + len(self._ready) >= WAITERS_MAX:
            self._answer(waiting, _no(ErrorCode.SERVER_BUSY))
        elif desk is not None:
            self._carry_out(waiting, arguments, by, desk, now, wall)
        elif master is None or master == self._config.rank:
            self._answer(waiting, _no(ErrorCode.SERVER_DOWN, "no server is the master now"))
        elif self._quorum.ask_removal(master, self._number, arguments, by, now=now, wall=wall):
            self._asks[self._number] = waiting
        elif software := self._quorum.too_old_for(Remove, master):
            text = f"the master runs flexcore {line_of(software[:32])}, which takes no lmremove from another server"
            self._answer(waiting, _no(ErrorCode.REQUEST_NOT_SUPPORTED, f"{text}: give it there, or upgrade it first"))
        else:
            self._answer(waiting, _no(ErrorCode.CANNOT_CONNECT, "the master is not reached"))

    def ask_for_peer(
        self, wanted: RemovalWanted, desk: ClientDesk | None, *, now: float, wall: float
    ) -> None:
        """Another server passes a request on."""
        waiting = Waiting(number=wanted.number, deadline=now + ANSWER_S, link=wanted.link)
        if len(self._ready) >= WAITERS_MAX:
            self._quorum.answer_removal(wanted.link, _no(ErrorCode.SERVER_BUSY)._replace(number=wanted.number),
                                        now=now, wall=wall)  # fmt: skip
        elif desk is not None:
            self._carry_out(waiting, wanted.arguments, wanted.requested_by, desk, now, wall)
        else:
            no = _no(ErrorCode.SERVER_DOWN, "it is not the master any more")
            self._ready.append((0, waiting, no))

    def peer_answered(self, peer: Rank, reply: RemoveReply) -> None:
        """The master says what came of it."""
        waiting = self._asks.pop(reply.number, None)
        if waiting is not None:
            self._answer(waiting, reply)

    # --- carrying it out --------------------------------------------------------------------------

    def _carry_out(
        self, waiting: Waiting, arguments: tuple[str, ...], by: str, desk: ClientDesk, now: float,
        wall: float,
    ) -> None:  # fmt: skip
        state = self._quorum.ledger.state
        index = 0
        seats, reply = self._found(arguments, desk, state, max(wall, state.stamp))
        for seat in seats:
            if seat.removal is None:
                text = f"taken away by {by} (lmremove)"
                log = (removed_line(*_words(seat, state), by),)
                index = desk.take_away(seat, REMOVED, text, log, now=now, wall=wall)
        ready = attrs.evolve(waiting, deadline=now + COMMIT_S)
        self._ready.append((index, ready, reply))

    def _found(
        self, arguments: tuple[str, ...], desk: ClientDesk, state: LedgerState, wall: float
    ) -> tuple[tuple[Seat, ...], RemoveReply]:
        """Return what is to be taken away, and the answer."""
        if not self._config.lmremove:
            return (), _no(ErrorCode.REQUEST_NOT_SUPPORTED, "lmremove is switched off: lmgrd -x lmremove")
        if len(arguments) != 5 or arguments[0] not in (BY_USER, BY_HANDLE):
            return (), _no(ErrorCode.INVALID_PARAMETER)
        feature = arguments[1]
        held, lingering = (_of_user if arguments[0] == BY_USER else _of_handle)(state, arguments)
        if state.borrows:  # out of reach: its holder could not be told, and would use it on
            lingering = (*lingering, *(seat for seat in held if seat.session in state.borrows))
            held = [seat for seat in held if seat.session not in state.borrows]
        if not held:
            if lingering:
                return (), _no(ErrorCode.LINGER_NOT_REMOVABLE, _lines(lingering, state)[0])
            known = feature in desk.checkout.rights.features
            return (), _no(ErrorCode.NEVER_CHECKED_OUT if known else ErrorCode.NO_SUCH_FEATURE)
        least_s = self._config.lmremove_min_s
        old = tuple(seat for seat in held if wall - seat.started >= least_s)
        if not old:
            wait_s = least_s - (wall - min(seat.started for seat in held))
            return (), _no(ErrorCode.REMOVE_TOO_SOON,
                           f"a checkout stays for {least_s:g} s; try again in {max(1.0, wait_s):.0f} s")  # fmt: skip
        lines = _lines(old, state)
        if len(old) < len(held):
            lines.append(f"{len(held) - len(old)} more are too new: a checkout stays for {least_s:g} s")
        return old[:SEATS_MAX], RemoveReply(0, 0, tuple(lines))

    # --- answering --------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._asks or self._ready)

    def settle(
        self, connections: Mapping[int, ServerConnection], *, now: float, wall: float
    ) -> None:
        """Once a turn: let go of the answers that may."""
        if self._ready:
            ready, self._ready = self._ready, []
            commit = self._quorum.ledger.commit
            for index, waiting, reply in ready:
                if index > commit and waiting.deadline > now:
                    self._ready.append((index, waiting, reply))
                    continue
                said = reply if index <= commit else _no(ErrorCode.NO_ANSWER_IN_TIME, "not on two servers yet")
                if waiting.link is None:
                    self._answer(waiting, said)
                else:
                    self._quorum.answer_removal(waiting.link, said._replace(number=waiting.number),
                                                now=now, wall=wall)  # fmt: skip
        for number, waiting in list(self._asks.items()):
            if waiting.deadline <= now:
                del self._asks[number]
                self._answer(waiting, _no(ErrorCode.NO_ANSWER_IN_TIME, "the master does not answer"))

    def _answer(self, waiting: Waiting, reply: RemoveReply) -> None:
        code = reply.code
        self._outbox.send(waiting.conn, AdminReply(waiting.seq, code, text_of(code) if code else "", reply.lines))

    # --- time, copies -----------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """Return when somebody has waited long enough."""
        if not (self._asks or self._ready):
            return None
        return min([each.deadline for each in self._asks.values()] + [each[1].deadline for each in self._ready])

    def copy(self, quorum: QuorumMachine, outbox: Outbox) -> Removals:
        """Return a twin that works with the twins of its surroundings."""
        twin = Removals(self._config, quorum, outbox)
        twin._number, twin._asks, twin._ready = self._number, dict(self._asks), list(self._ready)
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what decides its future, times relative to *now*."""
        return (
            self._number,
            tuple(attrs.evolve(each, deadline=each.deadline - now) for each in self._asks.values()),
            tuple((index, attrs.evolve(each, deadline=each.deadline - now), reply)
                  for index, each, reply in self._ready),
        )  # fmt: skip


def _no(code: ErrorCode, why: str = "") -> RemoveReply:
    return RemoveReply(0, int(code), (why,) if why else ())


def _of_user(state: LedgerState, arguments: tuple[str, ...]) -> tuple[list[Seat], tuple[Seat, ...]]:
    """Return what a user holds of a feature on a host and display, and what lingers for him there."""
    _, feature, user, host, display = arguments
    held = [
        seat
        for session in state.sessions.values()
        if session.user == user and session.host.casefold() == host.casefold() and session.display == display
        for seat in session.seats.values()
        if seat.feature == feature
    ]
    return sorted(held), state.lingering.of((feature, user, host, display))


def _of_handle(state: LedgerState, arguments: tuple[str, ...]) -> tuple[list[Seat], tuple[Seat, ...]]:
    """The same of a handle. The server that lmstat named beside it may be master no longer: handles stay."""
    feature, handle = arguments[1], arguments[4]
    is_number = handle.isascii() and handle.isdigit() and len(handle) <= 15
    seat = state.seats.get(int(handle)) if is_number else None
    if seat is None or seat.feature != feature:
        return [], ()
    return ([], (seat,)) if seat.linger is not None else ([seat], ())


def _words(seat: Seat, state: LedgerState) -> tuple[str, str, str]:
    who = state.holder_of(seat)
    return seat.feature, who.user, who.host


def _lines(seats: tuple[Seat, ...], state: LedgerState) -> list[str]:
    lines = []
    for seat in seats[:LINES_MAX]:
        who = state.holder_of(seat)
        many = f", {seat.seats} licenses" if seat.seats > 1 else ""
        lines.append(f"{seat.feature}: {who.user} {who.host} {who.display} (handle {seat.handle}){many}")
    more = len(seats) - LINES_MAX
    return [*lines, f"and {more} more"] if more > 0 else lines
