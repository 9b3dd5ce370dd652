"""Clients of an exploration: what two applications asked, were told and believe, in a few words each.

A client has one question open at a time. Its questions and the answers take no time; what takes time is the server's
commit or round. It believes in its seat for L from the sending of the last question that was answered with ``renews``
(protocol.md rule 15), asks again with the same number where it got no answer (rule 17), and stops believing before it
says that it gives the seat back.
"""

from __future__ import annotations

from typing import NamedTuple

from flexcore.identity import Rank
from flexcore.wire.messages import (
    CheckedIn,
    Checkin,
    Checkout,
    Denied,
    Granted,
    Heartbeat,
    HeartbeatReply,
    Message,
)

SESSIONS = (b"session-of-one--", b"session-of-two--")
IDLE, ASKING, DOUBTFUL, HOLDING, RETURNING, OVER = "idle", "asking", "doubtful", "holding", "returning", "over"


class Client(NamedTuple):
    """One application. *request* numbers its requests, *seq* its questions."""

    phase: str = IDLE
    request: int = 0
    answered: int = 0
    seq: int = 0
    open: bool = False
    """A question waits for its answer."""
    asked_s: float = 0.0
    """How long ago that was sent."""
    handle: int = 0
    started: float = 0.0
    left_s: float = 0.0
    """How long it believes in its lease."""

    @property
    def believes(self) -> bool:
        """Whether the application uses a licence at this instant."""
        return self.phase == HOLDING and self.left_s > 0.0

    def later(self, seconds: float) -> Client:
        """The client after a time."""
        left_s = max(self.left_s - seconds, 0.0)
        if self.phase == HOLDING and left_s <= 0.0:
            return Client(phase=OVER)  # the application was told that its licence is lost
        asked_s = self.asked_s + seconds if self.open else 0.0
        return self._replace(left_s=left_s, asked_s=asked_s)

    # --- what it may do ----------------------------------------------------------------------------------------------

    def wishes(self) -> tuple[str, ...]:
        """What it may say now: checkout (or that again), checkin (or that again), heartbeat."""
        if self.phase in (IDLE, ASKING):
            return ("checkout",)
        if self.phase == HOLDING:
            return ("checkin", "heartbeat")
        if self.phase == RETURNING:
            return ("checkin",)
        return ("heartbeat",) if self.phase == DOUBTFUL else ()

    def says(self, what: str) -> tuple[Client, Checkout | Checkin | Heartbeat]:
        """The client after it has sent this, and the message."""
        seq = self.seq + 1
        asking = self._replace(seq=seq, open=True, asked_s=0.0)
        if what == "heartbeat":
            return asking, Heartbeat(seq, self.answered, 0)
        request = self.request + (self.phase in (IDLE, HOLDING))
        if what == "checkout":
            message = Checkout(seq, request, self.answered, "f1", "1.0", 1, 0)
            return asking._replace(phase=ASKING, request=request), message
        asking = asking._replace(phase=RETURNING, request=request, left_s=0.0)
        return asking, Checkin(seq, request, self.answered, self.handle, 0)

    # --- what it is told ---------------------------------------------------------------------------------------------

    def told(self, message: Message, lease_s: float) -> Client:
        """The client after an answer; one to an older question is of a connection that it has aborted."""
        if not self.open or getattr(message, "seq", 0) != self.seq:
            return self
        renews = getattr(message, "renews", False)
        left_s = max(self.left_s, lease_s - self.asked_s) if renews else self.left_s
        done = self._replace(open=False, asked_s=0.0, left_s=max(left_s, 0.0))
        if isinstance(message, Granted):
            done = done._replace(answered=self.request, handle=message.handle, started=message.started)
            return done._replace(phase=HOLDING if done.left_s > 0 else DOUBTFUL)
        if isinstance(message, HeartbeatReply):
            return done._replace(phase=HOLDING) if done.phase == DOUBTFUL and done.left_s > 0 else done
        if isinstance(message, Denied | CheckedIn):
            return Client(request=self.request, answered=self.request, seq=self.seq)
        return Client(phase=OVER)  # the session is over


def describe(client: Client, number: int, what: str, rank: Rank) -> str:
    """A client's question, for a person."""
    return f"client {number + 1} asks the {rank.word}: {what} (request {client.request})"
