"""Who reads from the connections: one task on a private epoll, or, where there is none, a task for each.

Trio wakes a task for every socket it waits for; one wake-up costs more than reading and answering. So on Linux
**one** task waits until a private epoll has something, reads from every socket that is ready, hands all of it on
and runs the turn itself (``one server, 100 clients`` of ``python -m benchmarks`` is what pays for it). Elsewhere
each connection has a reader task, as trio means it; both are the same to the loop, and :data:`POLLER` alone says
which it is.

Why the one task is right:

*Readiness is a hint.* The epoll is level-triggered, every read is non-blocking, and which connection a number means
is looked up when it is read. An event of a socket that was closed meanwhile finds nothing; one of a number that was
given anew to another connection finds that one, and nothing to read there. What was not read is reported again.

*Nothing is read after closing.* A connection leaves the epoll and the table before its socket is closed, by the
link itself: not only by the close, since a child process that is being started holds the same socket for a moment.

*The clock is read after the bytes.* A batch is read whole before the loop takes the time for it, once: so no byte of it
left its sender later than *now*, and a promise or lease that is counted from its receipt is never too short
(protocol.md rule 12). A turn, which takes the time anew, follows at once.

*Fair.* A connection is read once a round, READ_BYTES at most, and a round ends after ROUND_BYTES; what was ready and
had no turn goes first in the next. So a sender that never stops delays the others by one round, and the batch that is
decided by one *now* is bounded. Between rounds the other tasks run.

*Back-pressure.* A connection that does not take its answers is taken out of the epoll (with no event asked for it
would still report its reset, again and again) and comes back when there is room; when it is being closed, as soon as
it takes anything: a close with unread input is a reset. Until then it is the sending that finds a connection gone.

*Sending* is not here: what a socket does not take at once is rare, and a task waits for it in both cases
(:meth:`~.link.Link.drain`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import trio

from .link import READ_BYTES, Link

if sys.platform == "linux":
    import select

__all__ = ["Arrival", "EpollReaders", "Readers", "TaskReaders", "choose"]

POLLER = "epoll" if sys.platform == "linux" else "tasks"
"""What :func:`choose` chooses; a test puts the other one here."""
ROUND_EVENTS = 1024
"""Connections that are read in one round."""
ROUND_BYTES = 256 * 1024
"""Bytes after which a round ends: some thousand requests."""

Arrival: TypeAlias = tuple[Link, bytes | None]
"""What was read from a link: bytes, b'' for an orderly end of stream, None for any other end."""

Deliver: TypeAlias = Callable[[Sequence[Arrival]], None]


class Readers(Protocol):
    """What the loop asks of either."""

    def open(self, nursery: trio.Nursery) -> None:
        """Begin, with tasks in *nursery*."""

    def add(self, link: Link) -> None:
        """Read from *link* until it is over. Raises OSError where the system cannot watch it."""

    def close(self) -> None:
        """Give back what :meth:`open` took; all links are closed."""


def choose(*, deliver: Deliver, serve: Deliver) -> Readers:
    """Return what reads on this system.

    *deliver* is told what was read, and a turn has to follow by and by; *serve* runs the turn as well.
    """
    if sys.platform == "linux" and POLLER == "epoll":
        return EpollReaders(serve)
    return TaskReaders(deliver)


class TaskReaders:
    """A reader task for each connection: what runs everywhere."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._nursery: trio.Nursery | None = None

    def open(self, nursery: trio.Nursery) -> None:
        """Take the nursery for the tasks."""
        self._nursery = nursery

    def add(self, link: Link) -> None:
        """Start the task."""
        assert self._nursery is not None
        self._nursery.start_soon(self._read, link)

    def close(self) -> None:
        """Do nothing: the nursery ends the tasks."""

    async def _read(self, link: Link) -> None:
        data: bytes | None
        while True:
            try:
                data = await link.receive()
            except OSError:
                data = None
            except trio.ClosedResourceError:
                return  # we closed it
            self._deliver(((link, data),))
            if not data:
                return


if sys.platform == "linux":

    class EpollReaders:
        """One task for all connections."""

        def __init__(self, serve: Deliver) -> None:
            self._serve = serve
            self._epoll: select.epoll | None = None
            self._links: dict[int, Link] = {}
            self._left: list[tuple[int, int]] = []  # ready, and not read in the round before

        def open(self, nursery: trio.Nursery) -> None:
            """Make the epoll, and start the task."""
            self._epoll = select.epoll()
            nursery.start_soon(self._run, self._epoll)

        def add(self, link: Link) -> None:
            """Watch the socket. Twice is harmless."""
            assert self._epoll is not None
            number = link.sock.fileno()
            if number in self._links:
                return
            self._epoll.register(number, select.EPOLLIN)
            self._links[number] = link
            link.watcher = self

        def forget(self, link: Link) -> None:
            """Watch the socket no longer; it is still open."""
            assert self._epoll is not None
            number = link.sock.fileno()
            if self._links.pop(number, None) is not None:
                self._epoll.unregister(number)

        def close(self) -> None:
            """Close the epoll."""
            self._links.clear()
            if self._epoll is not None:
                self._epoll.close()

        async def _run(self, epoll: select.epoll) -> None:
            while True:
                await trio.lowlevel.wait_readable(epoll.fileno())
                if batch := self._gather(epoll):
                    self._serve(batch)

        def _gather(self, epoll: select.epoll) -> list[Arrival]:
            """Read from what is ready."""
            batch: list[Arrival] = []
            links = self._links
            room = ROUND_BYTES
            ready, self._left = self._left or epoll.poll(0, ROUND_EVENTS), []
            for place, (number, _) in enumerate(ready, 1):
                link = links.get(number)
                if link is None:
                    continue
                if link.unsent and link.is_full:
                    self.forget(link)  # until there is room: add()
                    continue
                try:
                    data = link.sock.recv(READ_BYTES)
                except (BlockingIOError, InterruptedError):
                    continue
                except OSError:
                    batch.append((link, None))
                    continue
                batch.append((link, data))
                room -= len(data)
                if room <= 0:
                    self._left = ready[place:]
                    break
            return batch
