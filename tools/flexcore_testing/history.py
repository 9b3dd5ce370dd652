"""Histories: what clients asked, what they were told, and when; for :mod:`flexcore_testing.linearize` to judge.

A history is a sequence of *events*, each seen by a client (or by whoever killed it). In a file each is one line, a JSON
object; several files of one machine may be read together. Every event has ``event`` and ``at``, the seconds of a clock
that all writers share (``flexcore_host.clock.now()``). Names of clients stand for one process: who is started again
gets a new name. ``op`` is a number that is used once by that client.

=============  ======================================  ==============================================================
event          further fields                          meaning
=============  ======================================  ==============================================================
``pool``       ``feature`` ``count``                   what is licensed; *at* does not matter
``checkout``   ``client`` ``op`` ``feature`` ``count``  asked; written before the client is called
``granted``    ``client`` ``op`` ``handle``            the answer; written after the client was told
``denied``     ``client`` ``op`` ``code``              the answer (a negative code)
``gave up``    ``client`` ``op``                       the application waits no longer: it may be granted all the same,
                                                       and is then given back, some time
``checkin``    ``client`` ``op`` ``handle`` [#u]_      written before the client is called
``returned``   ``client`` ``op``                       a server has said that it has the seat back
``lost``       ``client`` ``handle`` [#u]_             the client was told that it holds this seat no longer
``anew``       ``client``                              the client's session was ended; what is open is asked in another
``died``       ``client`` [#u]_                        crashed, or said goodbye: what it holds is freed some time later
``settled``    ``client``                              whatever this client left open has happened, or never will
=============  ======================================  ==============================================================

.. [#u] and ``until``, if the client's belief in what it held ended before *at* (it slept beyond its lease).

An operation without an answer may have happened at any time since, or may never happen.

A test of real processes writes with :class:`HistoryWriter` (one file a process; threads may share it), and wraps its
clients into :class:`RecordedClient`, which writes what is needed::

    writer = HistoryWriter(folder / "history-1.jsonl", pools={"f1": 4})
    client = RecordedClient(connect(path), writer, "user1")
    seat = client.checkout("f1")
    seat.checkin()

and judges all files of a run with ``python -m flexcore_testing.linearize history-*.jsonl``.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import attrs

from flexcore.errors import CheckoutDenied, FlexcoreError

EVENTS = frozenset(
    {
        "pool", "checkout", "granted", "denied", "gave up", "checkin", "returned", "lost", "anew", "died", "settled",
    }
)  # fmt: skip
NEVER = math.inf
LINE_BYTES_MAX = 4096


class HistoryError(ValueError):
    """Not a history: a line that is none, or events that no client can see in this order."""


class Event(NamedTuple):
    """One line of a history; fields that an event does not have keep their default."""

    at: float
    event: str
    client: str = ""
    op: int = 0
    feature: str = ""
    count: int = 1  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    handle: int = 0
    code: int = 0
    until: float = NEVER

    def line(self) -> str:
        """The event as JSON, without a line end."""
        fields = {name: value for name, value in self._asdict().items() if value != Event._field_defaults.get(name)}
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_line(cls, text: str) -> Event:
        """Read a line.

        Raises:
            HistoryError: it is not an event.
        """
        try:
            found = json.loads(text)
            event = cls(**found)
        except (ValueError, TypeError) as error:
            raise HistoryError(f"not an event of a history: {text[:120]!r}: {error}") from None
        kinds = (float | int, str, str, int, str, int, int, int, float | int)
        if event.event not in EVENTS or not all(map(isinstance, event, kinds)) or event.count < 1:
            raise HistoryError(f"not an event of a history: {text[:120]!r}")
        return event


Kind = Literal["checkout", "checkin", "lost"]


@attrs.define(kw_only=True)
class Operation:
    """Something that took effect (or may have taken) once between *began_at* and *ended_at*.

    A *lost* seat is an operation too: it is freed at an instant after its client ceased to believe in it.
    """

    kind: Kind
    client: str
    feature: str
    count: int
    began_at: float
    ended_at: float = NEVER
    """When the client was told; NEVER: it was not."""
    result: Literal["granted", "denied", "returned", "unknown", "freed"] = "unknown"
    handle: int = 0
    code: int = 0
    settled_at: float = NEVER
    """An operation of unknown result: it happened, and is undone, before this; or it never happens."""
    anew: bool = False
    """It was asked in more than one session: the earlier ones may have been granted something, too."""

    def text(self) -> str:
        """One line for people."""
        end = "       ..." if self.ended_at == NEVER else f"{self.ended_at:10.4f}"
        what = f"{self.kind} {self.feature} x{self.count}"
        if self.kind != "checkout":
            what = f"{self.kind} handle {self.handle} {self.feature} x{self.count}"
        told: str = self.result
        if told == "granted":
            told += f", handle {self.handle}"
        elif told == "denied":
            told += f" {self.code}"
        return f"{self.began_at:10.4f} .. {end}  {self.client:<12} {what:<28} {told}"


class History:
    """The operations of a run, and how many of each feature are licensed."""

    def __init__(self, pools: Mapping[str, int], operations: Iterable[Operation]) -> None:
        self.pools = dict(pools)
        self.operations = tuple(operations)

    @classmethod
    def of(cls, events: Iterable[Event], pools: Mapping[str, int] | None = None) -> History:
        """Put events, of one or several writers, together.

        Raises:
            HistoryError: no client can see these events in this order.
        """
        builder = _Builder(pools or {})
        for event in sorted(events, key=lambda event: event.at):  # stable: each writer's own order stays
            builder.take(event)
        return cls(builder.pools, builder.operations)

    @classmethod
    def read(cls, *paths: Path) -> History:
        """Read the files of a run. A last line that was cut by a crash of its writer is left out.

        Raises:
            HistoryError: a file is not a history. OSError: it cannot be read.
        """
        events: list[Event] = []
        for path in paths:
            lines = path.read_text(encoding="utf-8").split("\n")
            events += [Event.from_line(line) for line in lines[:-1] if line]
        return cls.of(events)


class _Builder:
    """Turns events into operations."""

    def __init__(self, pools: Mapping[str, int]) -> None:
        self.pools = dict(pools)
        self.operations: list[Operation] = []
        self._asked: dict[tuple[str, int], Operation] = {}
        self._held: dict[tuple[str, int], Operation] = {}
        self._lost_early: dict[tuple[str, int], Event] = {}
        self._gone: set[tuple[str, int]] = set()
        self._dead: set[str] = set()
        self._open: dict[str, list[Operation]] = {}

    def take(self, event: Event) -> None:
        if event.client in self._dead and event.event != "settled":
            return  # told to somebody who listens no longer
        handler: Callable[[Event], None] = getattr(self, "_" + event.event.replace(" ", "_"))
        handler(event)

    def _begin(self, event: Event, kind: Kind, feature: str, count: int, at: float) -> Operation:
        operation = Operation(
            kind=kind, client=event.client, feature=feature, count=count, began_at=at, handle=event.handle
        )
        self.operations.append(operation)
        self._open.setdefault(event.client, []).append(operation)
        return operation

    def _answer(self, event: Event, kind: Kind) -> Operation:
        operation = self._asked.pop((event.client, event.op), None)
        if operation is None or operation.kind != kind:
            raise HistoryError(f"{event.client} is told {event.event!r} without a question: {event.line()}")
        operation.ended_at = event.at
        return operation

    def _ask(self, event: Event, operation: Operation) -> None:
        if (event.client, event.op) in self._asked:
            raise HistoryError(f"{event.client} uses the number {event.op} twice: {event.line()}")
        self._asked[event.client, event.op] = operation

    def _pool(self, event: Event) -> None:
        if self.pools.setdefault(event.feature, event.count) != event.count:
            raise HistoryError(f"two counts of {event.feature}: {self.pools[event.feature]} and {event.count}")

    def _checkout(self, event: Event) -> None:
        self._ask(event, self._begin(event, "checkout", event.feature, event.count, event.at))

    def _granted(self, event: Event) -> None:
        operation = self._answer(event, "checkout")
        operation.result, operation.handle = "granted", event.handle
        self._close(operation)
        key = event.client, event.handle
        self._held[key] = operation
        lost = self._lost_early.pop(key, None)
        if lost is not None:
            self._lost(lost)

    def _denied(self, event: Event) -> None:
        operation = self._answer(event, "checkout")
        operation.result, operation.code = "denied", event.code
        self._close(operation)

    def _gave_up(self, event: Event) -> None:
        self._answer(event, "checkout").ended_at = NEVER

    def _checkin(self, event: Event) -> None:
        key = event.client, event.handle
        granted = self._held.pop(key, None)
        if granted is not None:
            self._ask(event, self._free("checkin", event, granted))
        elif key not in self._gone:
            raise HistoryError(f"{event.client} never held handle {event.handle}: {event.line()}")
        else:  # given back in the instant in which it was lost
            self._ask(event, Operation(kind="checkin", client=event.client, feature="", count=1, began_at=event.at))

    def _returned(self, event: Event) -> None:
        operation = self._answer(event, "checkin")
        operation.result = "returned"
        if operation.feature:
            self._close(operation)

    def _lost(self, event: Event) -> None:
        """Threads write: it may be told before its grant was written, or after its checkin was."""
        key = event.client, event.handle
        granted = self._held.pop(key, None)
        if granted is not None:
            self._gone.add(key)
            self._free("lost", event, granted)
        else:
            self._lost_early[key] = event

    def _died(self, event: Event) -> None:
        for client, handle in [key for key in self._held if key[0] == event.client]:
            self._free("lost", event._replace(handle=handle), self._held.pop((client, handle)))
        for client, op in [key for key in self._asked if key[0] == event.client]:
            del self._asked[client, op]
        self._dead.add(event.client)

    def _anew(self, event: Event) -> None:
        for operation in self._open.get(event.client, ()):
            operation.anew = True

    def _settled(self, event: Event) -> None:
        answered = set(map(id, self._asked.values()))
        still: list[Operation] = []
        for operation in self._open.pop(event.client, ()):
            if id(operation) in answered:
                still.append(operation)
                continue
            operation.settled_at = event.at
            if operation.kind != "checkout" and operation.result == "unknown":
                operation.ended_at, operation.result = event.at, "freed"
        if still:
            self._open[event.client] = still

    def _free(self, kind: Kind, event: Event, granted: Operation) -> Operation:
        at = max(min(event.at, event.until), granted.began_at)
        return self._begin(event, kind, granted.feature, granted.count, at)

    def _close(self, operation: Operation) -> None:
        if not operation.anew:
            self._open[operation.client].remove(operation)


# --- writing ---------------------------------------------------------------------------------------------------------


class HistoryWriter:
    """Appends events to a file, each whole and at once: what was written survives a kill -9 of its writer.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, *, pools: Mapping[str, int] | None = None) -> None:
        from flexcore_host import clock

        self._now = clock.now
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)
        self._ops = 0
        for feature, count in sorted((pools or {}).items()):
            self.write("pool", feature=feature, count=count)

    def write(self, event: str, **fields: Any) -> None:
        """Write one event that happens now."""
        with self._lock:
            self._file.write(Event(self._now(), event, **fields).line().encode() + b"\n")

    def next_op(self) -> int:
        """A number for an operation."""
        with self._lock:
            self._ops += 1
            return self._ops

    def close(self) -> None:
        """Nothing follows."""
        self._file.close()


class RecordedClient:
    """A :class:`flexcore_sync.Client` whose checkouts and checkins are written down. Usable from any thread."""

    def __init__(self, client: Any, writer: HistoryWriter, name: str) -> None:
        self.client = client
        self.writer = writer
        self.name = name
        self._returning: dict[int, int] = {}
        self._tell = client._engine._tell
        client._engine._tell = self._listen  # the one place where it is told that a seat is back

    def checkout(self, feature: str, version: str = "", *, count: int = 1, wait_s: float | None = None) -> RecordedSeat:
        """As the client's own.

        Raises:
            FlexcoreError: as the client's own.
        """
        op = self.writer.next_op()
        self.writer.write("checkout", client=self.name, op=op, feature=feature, count=count)
        try:
            seat = self.client.checkout(feature, version, count=count, wait_s=wait_s)
        except CheckoutDenied as denied:
            self.writer.write("denied", client=self.name, op=op, code=denied.code)
            raise
        except FlexcoreError:
            self.writer.write("gave up", client=self.name, op=op)
            raise
        self.writer.write("granted", client=self.name, op=op, handle=seat.handle)
        return RecordedSeat(self, seat)

    def close(self) -> None:
        """Give everything back and end."""
        self.writer.write("died", client=self.name)
        self.client.close()

    def _check_in(self, seat: Any) -> None:
        if seat.lost is not None:
            return
        op = self.writer.next_op()
        self._returning[seat.handle] = op
        fields = {} if seat.held else {"until": 0.0}  # nobody knows since when
        self.writer.write("checkin", client=self.name, op=op, handle=seat.handle, **fields)
        seat.checkin()

    def _listen(self, action: Any) -> None:
        kind = type(action).__name__
        if kind == "CheckedIn" and action.handle in self._returning:
            self.writer.write("returned", client=self.name, op=self._returning.pop(action.handle))
        self._tell(action)
        if kind == "SeatLost":
            self.writer.write("lost", client=self.name, handle=action.handle, until=0.0)


class RecordedSeat:
    """A :class:`flexcore_sync.Seat` whose checkin is written down."""

    def __init__(self, client: RecordedClient, seat: Any) -> None:
        self._client = client
        self.seat = seat

    @property
    def handle(self) -> int:
        """The handle that lmstat shows."""
        return int(self.seat.handle)

    @property
    def held(self) -> bool:
        """Whether it is held at this very moment."""
        return bool(self.seat.held)

    def checkin(self) -> None:
        """Give it back."""
        self._client._check_in(self.seat)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.checkin()
