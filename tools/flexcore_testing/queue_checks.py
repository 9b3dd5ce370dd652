"""First come, first served: what is granted against who waited, entry by entry as they are committed.

The pools of the simulation's licences are plain (one a feature, no options), so the rule is: while
anybody waits for a feature nobody else is granted any of it than who has waited longest.
"""

from __future__ import annotations

from collections.abc import Callable

from flexcore.ledger.commands import (
    Formed,
    RequestQueued,
    RequestUnqueued,
    RequestWithdrawn,
    SeatGranted,
    SessionEnded,
)


class QueueChecks:
    """Hears every command once, in the order of the log; *fail* is told of whoever is overtaken."""

    def __init__(self, fail: Callable[[str, str], None]) -> None:
        self._fail = fail
        self._queues: dict[str, list[tuple[bytes, int]]] = {}
        self.granted = 0
        """How many waited and were granted."""

    def committed(self, command: object) -> None:
        """An entry is committed."""
        match command:
            case RequestQueued(session=session, request=request, feature=feature):
                self._queues.setdefault(feature, []).append((session, request))
            case SeatGranted(session=session, request=request, feature=feature):
                queue = self._queues.get(feature)
                if queue:
                    if queue[0] != (session, request):
                        self._fail("I9", f"request {request} of {session.hex()[:6]} for {feature} overtakes {queue[0]}")
                    self.granted += (session, request) in queue
                    self._leave(lambda each: each == (session, request))
            case RequestUnqueued(session=session, request=request):
                self._leave(lambda each: each == (session, request))
            case RequestWithdrawn(session=session, target=target):
                self._leave(lambda each: each == (session, target))
            case SessionEnded(session=session):
                self._leave(lambda each: each[0] == session)
            case Formed():
                self._queues.clear()
            case _:
                pass

    def _leave(self, is_gone: Callable[[tuple[bytes, int]], bool]) -> None:
        for feature, queue in self._queues.items():
            self._queues[feature] = [each for each in queue if not is_gone(each)]
