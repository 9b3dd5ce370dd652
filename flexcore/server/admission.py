"""Sessions at the desk: who speaks on which connection, and how a session is opened and resumed.

Protocol.md rule 17: a session is opened by an entry and never implicitly; a connection carries one
session, which proved itself on it; that a session is unknown or ended is told only after a round
(``tests/test_server_sessions.py::test_unknown_session_is_told_after_a_round``): a master that was
replaced without knowing it must not tell a client that its seats are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.ledger.commands import SeatRemoved
from flexcore.wire.messages import (
    SESSION_ENDED,
    SESSION_OPEN,
    SESSION_REFUSED,
    SESSION_UNKNOWN,
    HeldSeat,
    OpenSession,
    ResumeSession,
    SeatsLost,
    ServerMessage,
    SessionReply,
)
from flexcore.wire.proof import proofs_equal, session_proof

from .answers import ProtocolMistake as ProtocolMistake
from .answers import check_crowd, is_well_formed, opening_entry
from .clocks import ClientClocks
from .leases import SessionLeases
from .removals import lost_seats
from .replies import HeldReplies

if TYPE_CHECKING:
    from flexcore.ledger.state import LedgerState, Seat, Session
    from flexcore.quorum import QuorumMachine

    from .config import ServerConfig
    from .connections import ServerConnection
    from .outbox import Outbox


class SessionDesk:
    """What a desk knows of sessions and of answers that wait; the requests are the ClientDesk's."""

    def __init__(
        self, config: ServerConfig, quorum: QuorumMachine, outbox: Outbox,
        connections: dict[int, ServerConnection],
    ) -> None:  # fmt: skip
        self._config = config
        self._quorum = quorum
        self._outbox = outbox
        self._connections = connections
        self._lease_s = config.client_lease_s
        self.term = 0
        self.leases = SessionLeases()
        self.held = HeldReplies()
        self._speaks_on: dict[bytes, int] = {}
        self._clocks = ClientClocks()
        self.options = config.options
        """The options file in effect, for what is about sessions."""

    @property
    def _state(self) -> LedgerState:
        return self._quorum.ledger.state

    # --- answers that wait ------------------------------------------------------------------------

    def _hold(
        self, conn: ServerConnection, message: ServerMessage, log: tuple[str, ...] = (),
        *, index: int | None = None,
    ) -> None:  # fmt: skip
        conn.held += 1
        if index is None:
            index = self._quorum.ledger.last.index
        self.held.until_commit(index, conn.conn, message, log)

    def _hold_for_session(
        self, session: bytes, message: ServerMessage, log: tuple[str, ...], index: int
    ) -> None:
        """Hold what is told unasked, wherever *session* speaks when it is decided."""
        conn = self._connections.get(self._speaks_on.get(session, 0))
        if conn is None:
            self.held.until_commit(index, 0, None, log)
        else:
            self._hold(conn, message, log, index=index)

    def take_away(
        self, seat: Seat, reason: str, text: str, log: tuple[str, ...], *, now: float, wall: float
    ) -> int:
        """Mark *seat* as taken away, and tell its client once that is committed; return the entry's
        index. *reason*: a word for the log when it is free."""
        command = SeatRemoved(seat.session, seat.handle, 0, reason, text)
        index = self._quorum.propose(command, now=now, wall=wall)
        lost = SeatsLost(self.term, (seat.handle,), 0, text)
        self._hold_for_session(seat.session, lost, log, index)
        return index

    def _hold_for_round(self, conn: ServerConnection, message: ServerMessage, now: float) -> None:
        conn.held += 1
        round_ = self._quorum.request_round(now)
        self.held.until_round(round_, self._quorum.ledger.last.index, conn.conn, message)

    def _session_of(
        self, conn: ServerConnection, seq: int, at: float, now: float
    ) -> Session | None:
        """Return the living session of *conn*, or answer that it is over and return None."""
        assert conn.session is not None
        session = self._state.sessions.get(conn.session)
        if session is None:
            said = SessionReply(seq, self.term, False, SESSION_ENDED, self._lease_s, (),
                                "this session is over")  # fmt: skip
            self._hold_for_round(conn, said, now)
            return None
        self.leases.hear(conn.session, at)
        return session

    # --- sessions (rule 17) -----------------------------------------------------------------------

    def _bind(self, conn: ServerConnection, session: bytes) -> None:
        """*conn* speaks for *session* from now on; an older connection that did is cut."""
        older = self._speaks_on.get(session)
        if older is not None and older != conn.conn:
            other = self._connections.pop(older, None)
            if other is not None:
                self._outbox.close(older, abort=True)
        conn.session = session
        self._speaks_on[session] = conn.conn
        self._hear_clock(conn, self._state.sessions[session])

    def _hear_clock(self, conn: ServerConnection, session: Session) -> None:
        said = self._clocks.hear(session, conn.ahead_s, self._quorum)
        if said:
            self._outbox.log(self._config.served_vendor, said)

    def _check_binding(self, conn: ServerConnection, session: bytes) -> None:
        """A connection carries one session; another may follow on it only when that is over."""
        bound = conn.session
        if bound is not None and bound != session and bound in self._state.sessions:
            raise ProtocolMistake("a connection carries one session")

    def _open(
        self, conn: ServerConnection, message: OpenSession, at: float, now: float, wall: float
    ) -> None:
        self._check_binding(conn, message.session)
        state, name = self._state, message.session
        if not is_well_formed(message):
            raise ProtocolMistake("a session has an id of 16 bytes and a secret of 16 to 64")
        session = state.sessions.get(name)
        if session is not None:
            if session.borrowed_until or not proofs_equal(session.secret, message.secret):
                self._refuse_session(conn, message.seq, "this session belongs to somebody else")
            else:
                self._welcome_back(conn, session, message.seq, at, now)
            return
        if state.was_ended(name):
            said = SessionReply(message.seq, self.term, False, SESSION_ENDED, self._lease_s, (),
                                "this session is over; a session is never opened again")  # fmt: skip
            self._hold_for_round(conn, said, now)
            return
        if len(state.sessions) >= self._config.limits.sessions:
            self._refuse_session(conn, message.seq, "too many sessions")
            return
        check_crowd(self.options, state)
        command = opening_entry(message, self._config, conn.remote)
        index = self._quorum.propose(command, now=now, wall=wall)
        self._bind(conn, name)
        self.leases.add(state.sessions[name], at)
        self._hold(conn, SessionReply(message.seq, self.term, True, SESSION_OPEN, self._lease_s, ()),
                   index=index)  # fmt: skip

    def _resume(
        self, conn: ServerConnection, message: ResumeSession, at: float, now: float, wall: float
    ) -> None:
        self._check_binding(conn, message.session)
        session = self._state.sessions.get(message.session)
        if session is None or session.borrowed_until:
            said = SessionReply(message.seq, self.term, False, SESSION_UNKNOWN, self._lease_s, (),
                                "no such session: it is over, or was never opened here")  # fmt: skip
            self._hold_for_round(conn, said, now)
            return
        proof = session_proof(session.secret, conn.nonce, message.session)
        if not proofs_equal(proof, message.proof):
            self._refuse_session(conn, message.seq, "the proof of the session is wrong")
            return
        self._welcome_back(conn, session, message.seq, at, now)

    def _welcome_back(
        self, conn: ServerConnection, session: Session, seq: int, at: float, now: float
    ) -> None:
        self._bind(conn, session.session)
        self.leases.hear(session.session, at)
        held = tuple(
            HeldSeat(seat.handle, seat.feature, seat.version, seat.seats, seat.started)
            for seat in self._state.seats_of(session.session)
        )
        said = SessionReply(seq, self.term, True, SESSION_OPEN, session.lease_s, held)
        self._hold_for_round(conn, said, now)
        for lost in lost_seats(session, self.term):
            self._hold_for_round(conn, lost, now)

    def _refuse_session(self, conn: ServerConnection, seq: int, why: str) -> None:
        self._hold(conn, SessionReply(seq, self.term, False, SESSION_REFUSED, self._lease_s, (), why))
