"""LicenseServer: :class:`~flexcore.server.node.ServerNode` with bytes around it. Transports drive this.

It owns one wire connection for each connection and nothing else: every decision is the node's.
Garbage on a connection closes that connection and nothing more
(``tests/test_license_server.py::test_garbage_closes_only_its_connection``), and how the bytes are
cut into pieces makes no difference (``test_byte_at_a_time``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.checkout.rights import Rights
from flexcore.codes import ErrorCode
from flexcore.identity import Rank
from flexcore.wire.codec import MAX_FRAME_BYTES, encode_frame
from flexcore.wire.connection import Connection
from flexcore.wire.messages import PeerFrame, ServerReport

from .actions import CloseConnection, ServerAction
from .config import ServerConfig
from .judgement import LicenseRead, LicenseRefused
from .node import ServerNode

if TYPE_CHECKING:
    from flexcore.quorum import QuorumMachine, StoredState


class LicenseServer:
    """One licence server: bytes and facts in, bytes and actions out; see :class:`ServerNode`.

    Numbers of connections are the transport's, accepted and dialled out of one row. A turn: report
    what happened, ``handle_timeout`` if due, ``end_turn`` once, ``data_to_send``, then every
    ``next_action``. A transport stops reading a connection whose unsent bytes pile up, and aborts
    it beyond :data:`~flexcore.server.config.OUTGOING_BYTES_MAX`.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        stored: StoredState | None = None,
        boot_id: bytes,
        triad_id: bytes,
        now: float,
        wall: float,
        rights: Rights | None = None,
        quorum: QuorumMachine | None = None,
    ) -> None:
        self._node = ServerNode(
            config, stored=stored, boot_id=boot_id, triad_id=triad_id, now=now, wall=wall,
            rights=rights, quorum=quorum,
        )  # fmt: skip
        self._wires: dict[int, Connection] = {}

    @property
    def node(self) -> ServerNode:
        """The machine inside: to look at, not to drive."""
        return self._node

    def report(self) -> ServerReport:
        """Return what this server says of itself to anyone."""
        return self._node.report()

    def connection_opened(
        self, conn: int, *, nonce: bytes, local: bool, remote: str, now: float, wall: float,
        administrator: bool = True,
    ) -> None:  # fmt: skip
        """A connection was accepted. *nonce*: 16 fresh random bytes; *local*: from this machine.

        *administrator*: whether its user may give orders; asked only where
        ``ServerConfig.administrators_only`` says so (lmgrd -2 -p).
        """
        self._wires[conn] = Connection()
        self._node.connection_opened(
            conn, nonce=nonce, local=local, remote=remote, now=now, wall=wall, administrator=administrator
        )

    def peer_connected(self, conn: int, peer: Rank, *, nonce: bytes, now: float, wall: float) -> None:
        """A dial that DialPeer asked for succeeded."""
        self._wires[conn] = Connection(max_frame_bytes=MAX_FRAME_BYTES)
        self._node.peer_connected(conn, peer, nonce=nonce, now=now, wall=wall)

    def dial_failed(
        self, peer: Rank, *, refused: bool, error: str, now: float, wall: float
    ) -> None:
        """A dial failed; *refused*: the other machine answered that nobody listens."""
        self._node.dial_failed(peer, refused=refused, error=error, now=now, wall=wall)

    def receive_data(self, conn: int, data: bytes, *, now: float, wall: float) -> None:
        """*data* was read from *conn*. Data of a connection that is closed here is dropped.

        Raises nothing for what the other side sent, whatever it is.
        """
        wire = self._wires.get(conn)
        if wire is None:
            return
        node = self._node
        messages = wire.receive(data)
        while messages:
            node.receive_messages(conn, messages, now=now, wall=wall)
            if type(messages[-1]) is not PeerFrame or not node.has_connection(conn):
                break
            wire.set_max_frame(MAX_FRAME_BYTES)
            messages = wire.receive(b"")
        if wire.error is not None:
            node.refuse(conn, ErrorCode.BAD_DATA_FROM_SERVER, str(wire.error))

    def connection_ended(self, conn: int, *, orderly: bool, now: float, wall: float) -> None:
        """*conn* is over: *orderly* is an end of stream, else a reset or a timeout."""
        if self._wires.pop(conn, None) is None:
            return
        self._node.connection_ended(conn, orderly=orderly, now=now, wall=wall)

    def persisted(self, ticket: int, *, now: float, wall: float) -> None:
        """The Persist *ticket* is durable."""
        self._node.persisted(ticket, now=now, wall=wall)

    def persist_failed(self, ticket: int, error: str, *, now: float, wall: float) -> None:
        """The Persist *ticket* failed: fatal for this server (rule 20)."""
        self._node.persist_failed(ticket, error, now=now, wall=wall)

    def license_read(
        self, ticket: int, outcome: LicenseRead | LicenseRefused, *, now: float, wall: float
    ) -> None:
        """What ReadLicense *ticket* asked for was read and judged."""
        self._node.license_read(ticket, outcome, now=now, wall=wall)

    def log_switched(self, ticket: int, code: int, text: str, *, now: float, wall: float) -> None:
        """SwitchLog *ticket* was carried out (code 0), or why not."""
        self._node.log_switched(ticket, code, text, now=now, wall=wall)

    def reopen_logs(self, reason: str, *, now: float, wall: float) -> None:
        """Let the report log go on in the file that has its name now (log rotation)."""
        self._node.reopen_logs(reason, now=now, wall=wall)

    def stop(self, scope: str, requested_by: str, *, now: float, wall: float) -> None:
        """Stop this server ('one', after a hand-over) or all three ('all'); ends with Halt."""
        self._node.stop(scope, requested_by, now=now, wall=wall)

    def next_timeout(self) -> float | None:
        """Return when ``handle_timeout`` is due."""
        return self._node.next_timeout()

    def handle_timeout(self, *, now: float, wall: float) -> None:
        """Time has passed. Early, late or twice is harmless."""
        self._node.handle_timeout(now=now, wall=wall)

    def end_turn(self, *, now: float, wall: float) -> None:
        """Close the turn: replicate, persist, and let the answers go that may."""
        self._node.end_turn(now=now, wall=wall)

    def data_to_send(self) -> list[tuple[int, bytes]]:
        """Take what is to be written: one piece for each connection that has something."""
        pieces: dict[int, list[bytes]] = {}
        wires = self._wires
        for conn, message in self._node.messages_to_send():
            if conn in wires:
                data = encode_frame(message)
                if conn in pieces:
                    pieces[conn].append(data)
                else:
                    pieces[conn] = [data]
        return [
            (conn, some[0] if len(some) == 1 else b"".join(some)) for conn, some in pieces.items()
        ]

    def next_action(self) -> ServerAction | None:
        """Take the next action, None if there is none. Take ``data_to_send`` first."""
        action = self._node.next_action()
        if type(action) is CloseConnection:
            self._wires.pop(action.conn, None)
        return action
