"""The client machine by bytes: what a transport drives."""

from __future__ import annotations

from flexcore.client.node import ClientNode
from flexcore.client.values import (
    Abort,
    ClientAction,
    ClientConfig,
    ClientEvent,
    Close,
    Connect,
    ConnectionEnded,
    ConnectionMade,
    DataReceived,
    MessageReceived,
    SendData,
    SendMessage,
)
from flexcore.errors import RemoteProtocolError
from flexcore.wire.codec import MAX_FRAME_BYTES
from flexcore.wire.connection import Connection
from flexcore.wire.messages import ServerHello


class LicenseClient(ClientNode):
    """A :class:`ClientNode` whose connections carry bytes: DataReceived in, SendData out."""

    __slots__ = ("_wires",)
    NUMBERED = ClientNode.NUMBERED | {"_wires"}

    def __init__(
        self, config: ClientConfig, *, entropy: bytes, now: float, wall: float | None = None
    ) -> None:
        super().__init__(config, entropy=entropy, now=now, wall=wall)
        self._wires: dict[int, Connection] = {}

    def handle_event(self, event: ClientEvent, *, now: float, wall: float | None = None) -> None:
        """Something happened to a connection. Events of connections that are not (any more) known are ignored.

        Bytes that are no message end their connection; nothing is raised for what a server sends.
        """
        if not isinstance(event, DataReceived):
            if not isinstance(event, ConnectionMade):
                self._wires.pop(event.conn, None)
            self.receive_event(event, now=now, wall=wall)
            return
        wire = self._wires.get(event.conn)
        if wire is None:
            return
        wire.receive_data(event.data)
        try:
            while (message := wire.next_message()) is not None:
                if isinstance(message, ServerHello):
                    wire.set_max_frame(MAX_FRAME_BYTES)
                self.receive_event(
                    MessageReceived(conn=event.conn, message=message), now=now, wall=wall
                )
        except RemoteProtocolError as error:
            self._break(event.conn, str(error), now, wall)

    def _break(self, conn: int, error: str, now: float, wall: float | None) -> None:
        """The other end sent garbage: end the connection ourselves, without seeming to die (rule 16)."""
        self._wires.pop(conn, None)
        self._actions.append(Abort(conn=conn))
        self.receive_event(ConnectionEnded(conn=conn, error=error), now=now, wall=wall)

    def next_data_action(self) -> ClientAction | None:
        """What to do next, in order; None when all is done."""
        action = self.next_action()
        if isinstance(action, SendMessage):
            return SendData(conn=action.conn, data=self._wires[action.conn].send(action.message))
        if isinstance(action, Connect):
            self._wires[action.conn] = Connection()
        elif isinstance(action, Abort | Close):
            self._wires.pop(action.conn, None)
        return action
