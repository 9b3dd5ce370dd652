"""Who waits for what: the queued requests, in the order in which they came (invariant I9).

A request that waits is an entry (:class:`~flexcore.ledger.commands.RequestQueued`), and its *place*
is that entry's index: places rise, are never used twice, and are the same on every server and after
a failover, a restart and a snapshot (``tests/test_queue_ledger.py``). It leaves the queue

* by the :class:`~flexcore.ledger.commands.SeatGranted` of its session and number;
* by :class:`~flexcore.ledger.commands.RequestUnqueued`: the master says that it can never be served;
* by the client's :class:`~flexcore.ledger.commands.RequestWithdrawn`;
* with its session.

*Numbers*: the answer to a request that is queued is that it is queued, and a client that knows it
may say so (``answered``); otherwise one wait would hold up all that it asks later. What comes of the
wait is therefore not kept in ``Session.results``: a granted seat knows its request
(:meth:`~flexcore.ledger.sessions.Session.seat_of`), so that a repeat after a failover finds it for as
long as it is held (``test_a_repeat_finds_the_seat_of_the_wait``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flexcore.ledger.sessions import LedgerCorrupt, Queued

if TYPE_CHECKING:
    from flexcore.ledger.commands import RequestQueued, RequestUnqueued
    from flexcore.ledger.state import LedgerState


class Queues:
    """The waiting requests by feature, each queue by rising place."""

    __slots__ = ("_by_feature",)

    def __init__(self) -> None:
        self._by_feature: dict[str, dict[int, Queued]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_feature)

    def __contains__(self, feature: object) -> bool:
        return feature in self._by_feature

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._by_feature.values())

    @property
    def features(self) -> tuple[str, ...]:
        """The features that somebody waits for, by name."""
        return tuple(sorted(self._by_feature))

    def of(self, feature: str) -> Iterator[Queued]:
        """Who waits for *feature*, first come first. Change nothing while it runs."""
        return iter(self._by_feature.get(feature, {}).values())

    def length(self, feature: str) -> int:
        """How many requests wait for *feature*."""
        return len(self._by_feature.get(feature, ()))

    def add(self, queued: Queued) -> None:
        """*queued* comes last."""
        self._by_feature.setdefault(queued.feature, {})[queued.place] = queued

    def remove(self, queued: Queued) -> None:
        """It waits no more."""
        queue = self._by_feature[queued.feature]
        del queue[queued.place]
        if not queue:
            del self._by_feature[queued.feature]

    def restore(self, queued: Queued) -> None:
        """Undo :meth:`remove`: it has its place again."""
        queue = self._by_feature.setdefault(queued.feature, {})
        is_last = not queue or next(reversed(queue)) < queued.place
        queue[queued.place] = queued
        if not is_last:
            self._by_feature[queued.feature] = dict(sorted(queue.items()))

    def copy(self) -> Queues:
        """One that shares nothing that changes."""
        twin = Queues()
        twin._by_feature = {feature: dict(queue) for feature, queue in self._by_feature.items()}
        return twin


# --- entries ----------------------------------------


def queue_request(
    state: LedgerState, index: int, term: int, stamp: float, command: RequestQueued
) -> tuple[Any, ...]:
    """Carry out a RequestQueued; returns its undo."""
    session = state._known(index, command.session)
    state._check_open(index, session, command.request, command.answered)
    if command.count <= 0:
        raise LedgerCorrupt(f"entry {index} queues a request for {command.count} seats")
    queued = Queued(index, command.session, command.request, command.feature, command.version,
                    command.count, stamp)  # fmt: skip
    undo = (_undo_queued, state.index, state.stamp, queued, session.answered,
            state._advance(session, command.answered))  # fmt: skip
    session.queued[queued.request] = queued
    state.queue.add(queued)
    return undo


def _undo_queued(state: LedgerState, undo: tuple[Any, ...]) -> None:
    queued, answered, dropped = undo[3:]
    session = state.sessions[queued.session]
    del session.queued[queued.request]
    state.queue.remove(queued)
    state._retreat(session, answered, dropped)


def unqueue_request(
    state: LedgerState, index: int, term: int, stamp: float, command: RequestUnqueued
) -> tuple[Any, ...]:
    """Carry out a RequestUnqueued; returns its undo."""
    session = state._known(index, command.session)
    queued = session.queued.get(command.request)
    if queued is None:
        raise LedgerCorrupt(
            f"entry {index} unqueues request {command.request} of session"
            f" {command.session.hex()}, which does not wait"
        )
    leave(state, queued)
    return _undo_unqueued, state.index, state.stamp, queued


def _undo_unqueued(state: LedgerState, undo: tuple[Any, ...]) -> None:
    come_back(state, undo[3])


def leave(state: LedgerState, queued: Queued) -> None:
    """*queued* waits no more."""
    del state.sessions[queued.session].queued[queued.request]
    state.queue.remove(queued)


def come_back(state: LedgerState, queued: Queued) -> None:
    """Undo :func:`leave`."""
    state.sessions[queued.session].queued[queued.request] = queued
    state.queue.restore(queued)
