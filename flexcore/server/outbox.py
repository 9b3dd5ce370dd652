"""What a server has to say and to have done, in order, until its driver takes it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from flexcore.wire.messages import Message

from .actions import CloseConnection, ServerAction, WriteLog

if TYPE_CHECKING:
    from .registrar import Refused

_new = tuple.__new__  # a third of the time of a NamedTuple's own constructor


class Outbox:
    """Messages by connection and actions; both in the order in which they arose."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, Message]] = []
        self.actions: deque[ServerAction] = deque()
        self.unlogged: tuple[str, ...] = ()
        """How lines begin that NOLOG leaves out: ``OUT: `` ..."""
        self.refusals: list[Refused] = []
        """Denials that were told in this turn, for the report log."""

    def send(self, conn: int, message: Message) -> None:
        """*message* goes out on *conn*."""
        self.messages.append((conn, message))

    def close(self, conn: int, *, abort: bool = False) -> None:
        """*conn* is to be closed, after what was sent to it unless *abort*."""
        self.actions.append(CloseConnection(conn=conn, abort=abort))

    def log(self, daemon: str, text: str, event: str = "") -> None:
        """A line for the debug log, and where *event* says one for the system's event log."""
        if not self.unlogged or not text.startswith(self.unlogged):
            self.actions.append(_new(WriteLog, (daemon, text, event)))

    def take_messages(self) -> list[tuple[int, Message]]:
        """Take the messages, in order."""
        messages, self.messages = self.messages, []
        return messages

    def take_action(self) -> ServerAction | None:
        """Take the next action, None if there is none."""
        return self.actions.popleft() if self.actions else None

    def copy(self) -> Outbox:
        """Return a twin."""
        twin = Outbox()
        twin.messages, twin.actions = list(self.messages), self.actions.copy()
        twin.unlogged = self.unlogged
        twin.refusals = list(self.refusals)
        return twin
