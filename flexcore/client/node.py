"""The client machine by messages: what a simulator drives."""

from __future__ import annotations

from flexcore.client.machine import ClientMachine
from flexcore.client.values import MessageReceived, NodeAction, NodeEvent
from flexcore.wire.messages import Message


class ClientNode(ClientMachine):
    """The client by messages: MessageReceived in, SendMessage out."""

    __slots__ = ()

    def receive_event(self, event: NodeEvent, *, now: float, wall: float | None = None) -> None:
        """Something happened to a connection. Events of connections that are not (any more) known
        are ignored."""
        self._happened(event, now, wall)

    def receive_message(
        self, conn: int, message: Message, *, now: float, wall: float | None = None
    ) -> None:
        """The same as receive_event(MessageReceived(...))."""
        self._happened(MessageReceived(conn=conn, message=message), now, wall)

    def next_action(self) -> NodeAction | None:
        """What to do next, in order; None when all is done."""
        return self._take_action()
