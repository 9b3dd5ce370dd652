"""ServerNode: one licence server, driven by messages. It wires who serves, what is recorded and what is given out.

A turn: report everything that happened (``receive_messages``, ``connection_opened`` ...), call
``handle_timeout`` if its time has come and ``end_turn`` *once*, take ``messages_to_send`` and every
``next_action``. One replication message a peer and one ``Persist`` carry the whole turn.

The rules that live here:

* Rule 5: before the term's first entry is committed and applied, and after the lease is lost, no
  client is answered at all. What comes meanwhile is kept for a moment where this server is about to
  serve or a new master is about to appear, and answered with NotServing otherwise, so that the
  client goes where it is served (``tests/test_server_serving.py::test_nothing_is_answered_before_serving``).
* Rule 10: what comes during a hand-over waits or is redirected (``test_requests_during_a_hand_over_are_kept``).
* Rule 15: a client that shows a higher term makes a master doubt (``test_a_higher_term_silences_until_a_round``).

:class:`LicenseServer` puts bytes around this machine.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import assert_never

from flexcore.checkout.machine import CheckoutMachine
from flexcore.checkout.rights import Rights
from flexcore.codes import ErrorCode
from flexcore.errors import LocalProtocolError
from flexcore.identity import Rank
from flexcore.quorum import QuorumMachine, StoredState
from flexcore.quorum import events as q
from flexcore.wire.messages import (
    AdminRequest,
    ClientHello,
    Message,
    PeerFrame,
    Refusal,
    ServerReport,
    StatusRequest,
)

from .actions import DialPeer, Halt, How, Persist, ServerAction
from .administration import answer_admin
from .answers import asker_of
from .config import ServerConfig
from .connections import CLIENT, NEW, PEER, ServerConnection
from .desk import ClientDesk, DeskMessage, ProtocolMistake
from .details import AT_ONCE, said_at_once
from .guard import closes_on_error
from .hello import hello_of, hello_refusal
from .journal import Journal
from .judgement import LicenseRead, LicenseRefused
from .kinds import ASKS, DECIDES, NEEDS_SESSION, SHOWS_TERM
from .outbox import Outbox
from .rereads import Rereads
from .setup import make_checkout, make_quorum, make_server_rights
from .status import make_report
from .waiting import SilenceWatch, WaitingRoom


class ServerNode:
    """One licence server without bytes: messages in, messages and actions out.

    *stored* is what the store read back (None: no state), *boot_id* and *triad_id* 16 fresh random
    bytes each. *now* is the clock that counts suspended time, *wall* epoch seconds.
    """

    def __init__(
        self, config: ServerConfig, *, stored: StoredState | None = None, boot_id: bytes, triad_id: bytes, now: float,
        wall: float, rights: Rights | None = None, quorum: QuorumMachine | None = None,
    ) -> None:  # fmt: skip
        """*rights* and *quorum* replace what would be made of the licence file."""
        rights = rights or make_server_rights(config)
        quorum = quorum or make_quorum(
            config, rights, stored=stored, boot_id=boot_id, triad_id=triad_id, now=now, wall=wall
        )
        self._config, self._quorum = config, quorum
        self._closed = self._serving = False
        self._now, self._wall, self._started_at = now, wall, now
        self._connections: dict[int, ServerConnection] = {}
        self._outbox, self._silence = Outbox(), SilenceWatch(config.limits)
        self._checkout: CheckoutMachine = make_checkout(rights, config.options)
        self._desk = ClientDesk(config, self._quorum, self._checkout, self._outbox, self._connections)
        self._waiting = WaitingRoom(config, quorum, self._outbox, self._connections)
        self._journal = Journal(config, rights, self._outbox, quorum, now, wall)
        self._rereads = Rereads(config, rights, quorum, self._outbox, self._journal)
        self._rights_named: bytes | None = None  # by the ledger, at the last look: compared after each event
        self._pump()

    # --- what it is -------------------------------------------------------------------------------

    @property
    def config(self) -> ServerConfig:
        """What it was made with."""
        return self._config

    @property
    def quorum(self) -> QuorumMachine:
        """Its quorum machine: to look at, not to drive."""
        return self._quorum

    @property
    def serving(self) -> bool:
        """Whether clients are answered (whether at this instant: ``quorum.may_answer(now)``)."""
        return self._serving

    @property
    def term(self) -> int:
        """The term in which it serves or served last."""
        return self._desk.term

    def has_connection(self, conn: int) -> bool:
        """Whether *conn* is open as far as this server is concerned."""
        return conn in self._connections

    def report(self) -> ServerReport:
        """Return what this server says of itself to anyone."""
        return make_report(self._config, self._quorum.report(), commit=self._quorum.ledger.commit,
                           notes=self._journal.notes, uptime_s=self._now - self._started_at)  # fmt: skip

    # --- connections ------------------------------------------------------------------------------

    @closes_on_error
    def connection_opened(
        self, conn: int, *, nonce: bytes, local: bool, remote: str, now: float, wall: float, administrator: bool = True
    ) -> None:
        """See :meth:`LicenseServer.connection_opened`."""
        self._enter(now, wall)
        assert conn not in self._connections
        self._connections[conn] = ServerConnection(
            conn, NEW, nonce=nonce, local=local, remote=remote, now=now, administrator=administrator)  # fmt: skip
        self._silence.accepted(conn, now)
        if self._silence.strangers > self._config.limits.unknown_connections:
            self._turn_away(conn, ErrorCode.OUT_OF_CONNECTIONS, "too many connections that say nothing")

    @closes_on_error
    def peer_connected(self, conn: int, peer: Rank, *, nonce: bytes, now: float, wall: float) -> None:
        """A dial that DialPeer asked for succeeded."""
        self._enter(now, wall)
        assert conn not in self._connections
        self._connections[conn] = ServerConnection(conn, PEER, nonce=nonce, local=False, remote="", now=now)
        self._tell(q.PeerConnected(link=conn, peer=peer))

    @closes_on_error
    def dial_failed(self, peer: Rank, *, refused: bool, error: str, now: float, wall: float) -> None:
        """A dial failed; *refused*: the other machine answered that nobody listens (rule 6)."""
        self._enter(now, wall)
        self._tell(q.DialFailed(peer=peer, refused=refused, error=error))

    @closes_on_error
    def connection_ended(self, conn: int, *, orderly: bool, now: float, wall: float) -> None:
        """*conn* is over: *orderly* is an end of stream, else a reset or a timeout. One that this server closed
        itself needs no report, and gets no attention."""
        self._enter(now, wall)
        if (connection := self._connections.pop(conn, None)) is None:
            return
        if connection.kind == NEW:
            self._silence.strangers -= 1
        elif connection.kind == PEER:
            self._tell(q.LinkEnded(link=conn))
        elif self._serving:
            self._desk.connection_ended(connection, orderly=orderly, now=now)

    def refuse(self, conn: int, code: int, text: str) -> None:
        """Say why on *conn* and close it: the other side broke the protocol."""
        if (connection := self._connections.get(conn)) is None:
            return
        if connection.kind == PEER:
            self._drop(conn)
            self._tell(q.LinkEnded(link=conn))
        else:
            self._turn_away(conn, code, text)

    def _turn_away(self, conn: int, code: int, text: str) -> None:
        self._outbox.send(conn, Refusal(int(code), text))
        self._drop(conn)

    def _drop(self, conn: int, *, abort: bool = False) -> None:
        if (connection := self._connections.pop(conn, None)) is None:
            return
        if connection.kind == NEW:
            self._silence.strangers -= 1
        elif connection.kind == CLIENT and self._serving:
            # A close by the server waits for the lease (rule 16): never orderly.
            self._desk.connection_ended(connection, orderly=False, now=self._now)
        self._outbox.close(conn, abort=abort)

    # --- messages ---------------------------------------------------------------------------------

    def receive_message(self, conn: int, message: Message, *, now: float, wall: float) -> None:
        """*message* arrived on *conn*; one of a connection that is closed here is ignored."""
        self.receive_messages(conn, (message,), now=now, wall=wall)

    @closes_on_error
    def receive_messages(self, conn: int, messages: Sequence[Message], *, now: float, wall: float) -> None:
        """Some that arrived together, in order."""
        self._enter(now, wall)
        for message in messages:
            if (connection := self._connections.get(conn)) is None:
                return
            connection.quiet_since = now
            if connection.kind == CLIENT:
                self._client(connection, type(message), message)
            else:
                self._stranger_or_peer(connection, message)

    def _stranger_or_peer(self, connection: ServerConnection, message: Message) -> None:
        conn, was_new = connection.conn, connection.kind == NEW
        if type(message) is PeerFrame:
            if was_new:
                connection.kind = PEER
                self._silence.strangers -= 1
            self._tell(q.PeerFrameReceived(link=conn, frame=message))
            if was_new and conn not in self._quorum.links:
                self._drop(conn)  # no peer of ours: it shall not stay for ever
        elif was_new and type(message) is ClientHello:
            self._client_hello(connection, message)
        else:
            self.refuse(conn, ErrorCode.BAD_DATA_FROM_SERVER, "say hello first")

    def _client_hello(self, connection: ServerConnection, message: ClientHello) -> None:
        if (refusal := hello_refusal(self._config, message, len(self._connections))) is not None:
            self._turn_away(connection.conn, *refusal)
            return
        connection.greeted(message.wall, self._wall)
        self._silence.strangers -= 1
        self._silence.is_client(connection.conn, self._now)
        self._note_term(connection, message.term_seen)
        said = hello_of(self._config, connection, self.report(), self._wall, self._quorum.config.membership_digest)
        self._outbox.send(connection.conn, said)

    def _note_term(self, connection: ServerConnection, term: int) -> None:
        """Doubt once for each connection and term: a client of a triad that was formed anew, whose terms began
        again, shows its higher one with every message, and must not silence the master for ever."""
        if self._serving and term > max(self._desk.term, connection.shown_term):
            connection.shown_term = term
            self._quorum.note_term_seen(term, self._now)

    def _client(self, connection: ServerConnection, kind: type, message: Message) -> None:
        if kind in SHOWS_TERM:
            if message.term_seen > self._desk.term:  # type: ignore[union-attr]
                self._note_term(connection, message.term_seen)  # type: ignore[union-attr]
        elif kind is StatusRequest and message.what in AT_ONCE:  # type: ignore[union-attr]
            self._outbox.send(connection.conn, said_at_once(message, self.report(), self._quorum, self._rereads))  # type: ignore[arg-type]
            return
        elif kind is AdminRequest:
            self._admin(connection, message)  # type: ignore[arg-type]
            return
        elif kind not in ASKS:
            self.refuse(connection.conn, ErrorCode.BAD_DATA_FROM_SERVER, "not a message of a client")
            return
        if connection.held >= self._config.limits.held_per_connection:
            self.refuse(connection.conn, ErrorCode.BAD_DATA_FROM_SERVER, "too many questions at once")
        elif self._must_wait(connection, kind):
            self._waiting.keep_or_redirect(connection, message, self._now)  # type: ignore[arg-type]
        else:
            self._attend(connection, kind, message, self._now)  # type: ignore[arg-type]

    def _may_decide(self) -> bool:
        """Whether leases may be ended: not in doubt, not while handing over (what ends that wakes us)."""
        quorum = self._quorum
        return self._serving and quorum.accepting and quorum.may_answer(self._now)

    def _must_wait(self, connection: ServerConnection, kind: type) -> bool:
        """Whether a message cannot be attended to now (rules 5, 10 and 14); order is kept."""
        quorum = self._quorum
        return (not self._serving or not quorum.may_serve(self._now) or connection.kept > 0
                or (kind in DECIDES and not quorum.accepting))  # fmt: skip

    def _attend(self, connection: ServerConnection, kind: type, message: DeskMessage, at: float) -> None:
        if connection.session is None and kind in NEEDS_SESSION:
            # Its session was resumed in another reign, or never: it has to prove it in this one.
            self._waiting.redirect(connection.conn, message.seq, "resume the session first")
            return
        try:
            self._desk.handle(connection, message, at=at, now=self._now, wall=self._wall)
        except ProtocolMistake as mistake:
            self.refuse(connection.conn, mistake.code, str(mistake))

    # --- while this server does not serve (rules 5 and 10) ----------------------------------------

    def _settle_kept(self) -> None:
        """Once a turn: what waits is attended to, or goes where somebody else serves by now."""
        if not self._serving:
            self._waiting.redirect_if_elsewhere(self._now)
        elif self._quorum.accepting and self._quorum.may_serve(self._now):
            for at, connection, message in self._waiting.take(self._now):
                if connection.conn in self._connections:
                    self._attend(connection, type(message), message, at)

    def _start_serving(self, term: int) -> None:
        self._serving = True
        self._use_rights_in_force()
        self._desk.start(term, now=self._now)
        self._journal.serving(self._quorum.ledger.state.rights, self._desk.day(self._wall), self._rereads.own_digest)

    def _stop_serving(self, successor: Rank | None = None) -> None:
        if not self._serving:
            return
        self._serving = False
        self._desk.stop()
        for connection in self._connections.values():
            connection.held = connection.shown_term = 0
            if connection.session is not None:
                connection.session = None
                self._waiting.redirect(connection.conn, 0, successor=successor)

    # --- administration ---------------------------------------------------------------------------

    def _admin(self, connection: ServerConnection, message: AdminRequest) -> None:
        reply, scope = answer_admin(self._config, connection, message, borrowed=len(self._quorum.ledger.state.borrows))
        if reply is None:
            desk = self._desk if self._may_decide() else None
            self._rereads.ask(connection, message, desk=desk, now=self._now, wall=self._wall)
            return
        self._outbox.send(connection.conn, reply)
        if scope:
            self.stop(scope, asker_of(message), remote=connection.remote, now=self._now, wall=self._wall)

    @closes_on_error
    def stop(self, scope: str, requested_by: str, *, now: float, wall: float, remote: str = "") -> None:
        """Stop this server ('one', after a hand-over) or all three ('all'); ends with Halt."""
        self._enter(now, wall)
        self._journal.stop_requested(requested_by, remote)
        self._tell(q.StopRequested(scope=scope, requested_by=requested_by))

    @closes_on_error
    def license_read(self, ticket: int, outcome: LicenseRead | LicenseRefused, *, now: float, wall: float) -> None:
        """What ReadLicense *ticket* asked for was read and judged (protocol.md rule 19)."""
        self._enter(now, wall)
        self._rereads.read(ticket, outcome, now=now, wall=wall)
        self._rights_named = None  # what the ledger names may be known by now
        self._pump()
        if self._rereads.options_to_use():
            self._decide_by(self._checkout.rights)

    @closes_on_error
    def log_switched(self, ticket: int, code: int, text: str, *, now: float, wall: float) -> None:
        """SwitchLog *ticket* was carried out (code 0), or why not; *text* is for the administrator."""
        self._enter(now, wall)
        self._rereads.switches.done(ticket, code, text, now=now, wall=wall)

    @closes_on_error
    def reopen_logs(self, reason: str, *, now: float, wall: float) -> None:
        """Let the report log go on in the file that has its name now: log rotation has moved the other."""
        self._enter(now, wall)
        self._journal.registrar.switch(0, How.REOPEN, "", reason, wall)

    def _use_rights_in_force(self) -> None:
        """Decide by the signed lines that the ledger names from here on, as far as they are known."""
        self._rights_named = self._quorum.ledger.state.rights
        in_force = self._rereads.rights_in_force()
        if in_force is not self._checkout.rights:
            self._decide_by(in_force)
            self._journal.use(in_force)

    def _decide_by(self, rights: Rights) -> None:
        self._checkout = make_checkout(rights, self._rereads.options, self._rereads.newest)
        self._desk.use(self._checkout, self._rereads.options)

    # --- disk, time, turn -------------------------------------------------------------------------

    @closes_on_error
    def persisted(self, ticket: int, *, now: float, wall: float) -> None:
        """The Persist *ticket* is durable."""
        self._enter(now, wall)
        self._tell(q.Persisted(ticket=ticket))

    @closes_on_error
    def persist_failed(self, ticket: int, error: str, *, now: float, wall: float) -> None:
        """The Persist *ticket* failed: fatal for this server (rule 20)."""
        self._enter(now, wall)
        self._tell(q.PersistFailed(ticket=ticket, error=error))

    def next_timeout(self) -> float | None:
        """Return when ``handle_timeout`` is due; None if nothing but an event can change anything."""
        if self._closed:
            return None
        due = self._journal.next_timeout()
        for at in (  # asked for after every turn: no list, no generator
            self._quorum.next_timeout(), self._silence.next_timeout(), self._waiting.next_timeout(),
            self._rereads.next_timeout(), self._desk.next_timeout() if self._may_decide() else None,
        ):  # fmt: skip
            if at is not None and at < due:
                due = at
        return due

    @closes_on_error
    def handle_timeout(self, *, now: float, wall: float) -> None:
        """Time has passed. Early, late or twice is harmless."""
        self._enter(now, wall)
        self._quorum.handle_timeout(now=now, wall=wall)
        self._pump()
        for silent, text in self._silence.pop_silent(self._connections, now):
            self._turn_away(silent, ErrorCode.CANNOT_READ, text)
        self._waiting.redirect_late(now)
        if self._may_decide():
            self._desk.end_due_leases(now=now, wall=wall)
        self._journal.handle_timeout(now, wall)

    @closes_on_error
    def end_turn(self, *, now: float, wall: float) -> None:
        """Close the turn: replicate, persist, and let the answers go that may."""
        self._enter(now, wall)
        if not self._waiting.is_empty:
            self._settle_kept()
        if self._desk.queueing.has_work and self._may_decide():
            self._desk.queueing.serve(now, wall)
        self._rereads.settle(self._connections, now=now, wall=wall)
        self._quorum.end_turn(now=now, wall=wall)
        self._pump()
        if self._serving and self._quorum.may_answer(now):
            self._desk.release()
        self._journal.registrar.end_turn(wall)

    def messages_to_send(self) -> list[tuple[int, Message]]:
        """Take the messages of this turn, in order."""
        return self._outbox.take_messages()

    def next_action(self) -> ServerAction | None:
        """Take the next action, None if there is none. Send the turn's messages first."""
        return self._outbox.take_action()

    # --- inside -----------------------------------------------------------------------------------

    def _enter(self, now: float, wall: float) -> None:
        if self._closed:
            raise LocalProtocolError("this server is closed: it raised before")
        assert now >= self._now, "time runs forwards"
        self._now, self._wall = now, wall

    def _tell(self, event: q.QuorumEvent) -> None:
        self._quorum.receive_event(event, now=self._now, wall=self._wall)
        self._pump()

    def _pump(self) -> None:
        """Do what the quorum machine asks for, as far as it is ours; pass the rest on."""
        while (action := self._quorum.next_action()) is not None:
            self._do(action)
        if self._serving and self._quorum.ledger.state.rights is not self._rights_named:
            self._use_rights_in_force()

    def _do(self, action: q.QuorumAction) -> None:
        match action:
            case q.SendFrame(link=link, frame=frame):
                self._outbox.send(link, frame)
            case q.Persist(ticket=ticket, batch=batch):
                self._outbox.actions.append(Persist(ticket=ticket, batch=batch))
            case q.DialPeer(peer=peer):
                host, port = self._config.servers[peer]
                self._outbox.actions.append(DialPeer(peer=peer, host=host, port=port))
            case q.CloseLink(link=link):
                if self._connections.pop(link, None) is not None:
                    self._outbox.close(link)
            case q.StartServing(term=term):
                self._start_serving(term)
            case q.StopServing():
                self._journal.stopped_serving(action.reason)
                self._stop_serving(action.successor)
            case q.Notice():
                self._journal.notice(action)
            case (q.RereadWanted() | q.RereadAnswered() | q.RemovalWanted() | q.RemovalAnswered() | q.SwitchWanted()
                  | q.SwitchAnswered()):  # fmt: skip
                desk = self._desk if self._may_decide() else None
                self._rereads.passed_on(action, desk=desk, now=self._now, wall=self._wall)
            case q.Halt(exit_code=exit_code, reason=reason):
                self._stop_serving()
                self._journal.halted(exit_code, reason, self._wall)
                self._outbox.actions.append(Halt(exit_code=exit_code, reason=reason))
            case _:
                assert_never(action)

    # --- copies -----------------------------------------------------------------------------------

    def copy(self) -> ServerNode:
        """Return a twin that shares nothing that changes."""
        twin = object.__new__(ServerNode)
        twin.__dict__.update(self.__dict__)
        twin._outbox = self._outbox.copy()
        twin._connections = {conn: each.copy() for conn, each in self._connections.items()}
        twin._silence = self._silence.copy()
        twin._quorum = self._quorum.copy()
        twin._desk = self._desk.copy(twin._quorum, twin._outbox, twin._connections)
        twin._waiting = self._waiting.copy(twin._quorum, twin._outbox, twin._connections)
        twin._checkout = twin._desk.checkout
        twin._journal = self._journal.copy(twin._quorum, twin._outbox)
        twin._rereads = self._rereads.copy(twin._quorum, twin._outbox, twin._journal)
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return a value that is equal for two servers with the same future, relative to *now*."""
        return (
            (self._serving, self._closed), self._quorum.fingerprint(now), self._desk.fingerprint(now),
            tuple(each.fingerprint(now) for _, each in sorted(self._connections.items())),
            self._waiting.fingerprint(now), self._silence.fingerprint(now), self._rereads.fingerprint(now),
            (tuple(self._outbox.messages), tuple(self._outbox.actions)),
        )  # fmt: skip
