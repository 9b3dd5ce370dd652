"""The client machine by bytes: what a transport drives."""

from __future__ import annotations

from copy import deepcopy
from typing import Self

from flexcore.client.machine import ClientMachine
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
from flexcore.override import override
from flexcore.wire.codec import MAX_FRAME_BYTES
from flexcore.wire.connection import Connection
from flexcore.wire.messages import ServerHello


class LicenseClient(ClientMachine):
    """The client by bytes: DataReceived in, SendData out."""

    __slots__ = ("_wires",)
    # Half a message in a buffer is not part of a fingerprint: explore ClientNode instead.
    NUMBERING = ClientMachine.NUMBERING | {"_wires"}

    def __init__(
        self, config: ClientConfig, *, entropy: bytes, now: float, wall: float | None = None
    ) -> None:
        super().__init__(config, entropy=entropy, now=now, wall=wall)
        self._wires: dict[int, Connection] = {}

    @override
    def copy(self) -> Self:
        """Return an independent machine in the same state."""
        twin = super().copy()
        twin._wires = deepcopy(self._wires)
        return twin

    def receive_event(self, event: ClientEvent, *, now: float, wall: float | None = None) -> None:
        """Something happened to a connection. Events of connections that are not (any more) known
        are ignored.

        Bytes that are no message end their connection; nothing is raised for what a server sends.
        """
        if isinstance(event, DataReceived):
            self._receive_data(event.conn, event.data, now, wall)
            return
        if not isinstance(event, ConnectionMade):
            self._wires.pop(event.conn, None)
        self._happened(event, now, wall)

    def _receive_data(self, conn: int, data: bytes, now: float, wall: float | None) -> None:
        wire = self._wires.get(conn)
        if wire is None:
            return
        wire.receive_data(data)
        try:
            while (message := wire.next_message()) is not None:
                if isinstance(message, ServerHello):
                    wire.set_max_frame(MAX_FRAME_BYTES)
                self._happened(MessageReceived(conn=conn, message=message), now, wall)
        except RemoteProtocolError as error:
            # Not by an orderly end: that would look like the death of this process (rule 16).
            self._wires.pop(conn, None)
            self._actions.append(Abort(conn=conn))
            self._happened(ConnectionEnded(conn=conn, error=str(error)), now, wall)

    def next_action(self) -> ClientAction | None:
        """What to do next, in order; None when all is done."""
        action = self._take_action()
        while isinstance(action, SendMessage):
            wire = self._wires.get(action.conn)
            if wire is not None:
                return SendData(conn=action.conn, data=wire.send(action.message))
            action = self._take_action()  # the connection has broken meanwhile
        if isinstance(action, Connect):
            self._wires[action.conn] = Connection()
        elif isinstance(action, Abort | Close):
            self._wires.pop(action.conn, None)
        return action
