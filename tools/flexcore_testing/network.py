"""A simulated network: hosts, listeners, dials, and links that are ordered streams of messages.

A *link* is what TCP gives: messages arrive in order after a delay, or not at all. A *cut* of a direction stalls what
is sent across it; when it heals, everything that waited arrives after a retransmission, unless a keepalive ended
the link before. A process that dies ends its links (the kernel says so); a host that loses power says nothing. The
*unordered* mode loses, doubles and reorders single messages within a link between servers, since protocol.md claims to
stand that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from flexcore_testing.clockwork import World
from flexcore_testing.journal import Journal


class Party(Protocol):
    """One run of a process as the network sees it."""

    serial: int
    name: str
    host: str
    alive: bool
    is_server: bool

    def take_conn(self) -> int:
        """A fresh number for a connection that this process accepts."""

    def accepted(self, conn: int, remote: str) -> None:
        """Somebody's dial reached this process."""

    def arrived(self, conn: int, message: Any) -> None:
        """A message came in."""

    def ended(self, conn: int, orderly: bool) -> None:
        """The other side closed (orderly), or the connection broke."""


class NetworkSettings:
    """How this network behaves; drawn per seed."""

    def __init__(self) -> None:
        self.delay_s = 0.001
        self.jitter_s = 0.001
        self.slow_chance = 0.0
        self.slow_s = 0.0
        self.tail_alpha = 0.0
        """Not 0: the jitter has a heavy tail (Pareto) with this exponent, cut off at ``tail_max_s``."""
        self.tail_max_s = 0.0
        self.dial_timeout_s = 3.0
        self.reset_at_death = 0.3
        """How often the kernel of a process that dies resets its connections instead of closing them in order."""
        self.flush_max_s = 1.0
        """The longest that a retransmission waits after a cut healed."""
        self.keepalive_min_s = 20.0
        self.keepalive_max_s = 100.0
        self.loss = 0.0
        self.double = 0.0
        self.reorder_s = 0.0
        """All three 0: links between servers are ordered streams."""

    @property
    def unordered(self) -> bool:
        """Whether single messages between servers may be lost, doubled or overtaken."""
        return self.loss > 0 or self.double > 0 or self.reorder_s > 0


class Link:
    """One connection; side 0 dialled, side 1 accepted."""

    __slots__ = ("broken", "conns", "flushing", "last_at", "opened", "parties", "stalled")

    def __init__(self, parties: tuple[Party, Party], conns: tuple[int, int]) -> None:
        self.parties = parties
        self.conns = conns
        self.opened = [True, True]
        self.last_at = [0.0, 0.0]
        self.stalled: tuple[list[Any], list[Any]] = ([], [])
        self.flushing = [False, False]
        self.broken = False


_END_ORDERLY = object()
_END_RESET = object()


Made: TypeAlias = Callable[[int], None]
Failed: TypeAlias = Callable[[int, bool, str], None]


class Network:
    """All hosts and links of one simulation."""

    def __init__(self, world: World, rng: random.Random, settings: NetworkSettings, journal: Journal) -> None:
        self.world = world
        self.rng = rng
        self.settings = settings
        self.journal = journal
        self.listeners: dict[str, Party | None] = {}
        self.powered: dict[str, bool] = {}
        self.cuts: dict[tuple[str, str], int] = {}
        self.refusing: set[tuple[str, str]] = set()
        """Dials from the first to the second are refused though the process is there: beyond the assumptions."""
        self.messages = 0
        self.dials = 0
        self._links: dict[tuple[int, int], tuple[Link, int]] = {}
        self.on_delivery: Callable[[Party, Party, Any, float], None] | None = None
        self.on_send: Callable[[Party, Party, Any], None] | None = None

    # --- hosts ---------------------------------------------------------------------------------------------------

    def add_host(self, host: str) -> None:
        """A machine, switched on, nobody listening."""
        self.listeners[host] = None
        self.powered[host] = True

    def listen(self, party: Party) -> None:
        """The process accepts connections on its host from now on."""
        self.listeners[party.host] = party

    def stop_listening(self, party: Party) -> None:
        """Dials to the host are refused from now on."""
        if self.listeners.get(party.host) is party:
            self.listeners[party.host] = None

    def links_of(self, party: Party) -> list[tuple[Link, int]]:
        """The links on which *party* still has an open end, in a fixed order."""
        number = party.serial
        return [pair for key, pair in self._links.items() if key[0] == number and pair[0].opened[pair[1]]]

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing passes from *source* to *target* now."""
        return (source, target) in self.cuts or not (self.powered[source] and self.powered[target])

    def cut(self, source: str, target: str) -> None:
        """Stall everything from *source* to *target* (one way; cuts nest)."""
        self.cuts[source, target] = self.cuts.get((source, target), 0) + 1
        self._watch_keepalives({source, target})

    def heal(self, source: str, target: str) -> None:
        """Undo one cut."""
        left = self.cuts.get((source, target), 0) - 1
        if left > 0:
            self.cuts[source, target] = left
            return
        self.cuts.pop((source, target), None)
        self._flush_between({(source, target)})

    def heal_all(self) -> None:
        """Undo every cut and every false refusal."""
        healed = set(self.cuts)
        self.cuts.clear()
        self.refusing.clear()
        self._flush_between(healed)

    def calm(self) -> None:
        """From now on nothing is lost, doubled, overtaken or late; what is under way stays as it is."""
        settings = self.settings
        settings.loss = settings.double = settings.reorder_s = settings.slow_chance = settings.tail_alpha = 0.0

    def power_off(self, host: str) -> None:
        """The machine is gone without a word."""
        self.powered[host] = False
        self.listeners[host] = None
        self._watch_keepalives({host})

    def power_on(self, host: str) -> None:
        """The machine is back; it knows none of its old connections."""
        self.powered[host] = True
        pairs = {(host, other) for other in self.powered} | {(other, host) for other in self.powered}
        self._flush_between(pairs)

    # --- dialling ------------------------------------------------------------------------------------------------

    def dial(self, party: Party, target: str, conn: int, made: Made, failed: Failed) -> None:
        """Open a connection to whoever listens on *target*; *conn* is the number that the dialler gives it."""
        self.dials += 1
        self.world.after(self.delay(), self._knock, party, target, conn, made, failed)

    def _knock(self, party: Party, target: str, conn: int, made: Made, failed: Failed) -> None:
        if not party.alive:
            return
        refused = (party.host, target) in self.refusing
        if not refused and (self.is_cut(party.host, target) or self.is_cut(target, party.host)):
            spread = 0.5 if self.settings.jitter_s else 0.0
            wait = self.settings.dial_timeout_s * (1.0 - spread * self.rng.random())
            self.world.after(wait, self._report_failure, party, failed, conn, False, "Connection timed out")
            return
        listener = self.listeners[target]
        if listener is None or refused:
            self.world.after(self.delay(), self._report_failure, party, failed, conn, True, "Connection refused")
            return
        link = Link((party, listener), (conn, listener.take_conn()))
        link.last_at[1] = self.world.now + self.delay()
        self._links[party.serial, conn] = (link, 0)
        self._links[listener.serial, link.conns[1]] = (link, 1)
        listener.accepted(link.conns[1], party.host)
        self.world.at(link.last_at[1], self._report_made, link, made, failed)

    def _report_made(self, link: Link, made: Made, failed: Failed) -> None:
        if link.opened[0]:
            if link.parties[0].alive:
                made(link.conns[0])
        else:  # whoever accepted it was gone before the dialler knew
            self._report_failure(link.parties[0], failed, link.conns[0], False, "Connection reset by peer")

    def _report_failure(self, party: Party, failed: Failed, conn: int, refused: bool, error: str) -> None:
        if party.alive:
            failed(conn, refused, error)

    # --- messages ------------------------------------------------------------------------------------------------

    def delay(self) -> float:
        """How long one message takes, in true seconds."""
        settings = self.settings
        if settings.tail_alpha:
            tail = settings.jitter_s * (self.rng.paretovariate(settings.tail_alpha) - 1.0)
            delay = settings.delay_s + min(tail, settings.tail_max_s)
        else:
            delay = settings.delay_s + self.rng.random() * settings.jitter_s
        if settings.slow_chance and self.rng.random() < settings.slow_chance:
            delay += self.rng.random() ** 3 * settings.slow_s
        return delay

    def send(self, party: Party, conn: int, message: Any) -> None:
        """Put *message* on a connection; nothing happens if it is closed on this side."""
        found = self._links.get((party.serial, conn))
        if found is None:
            return
        link, side = found
        if not link.opened[side]:
            return
        self.messages += 1
        other = link.parties[1 - side]
        if self.on_send is not None:
            self.on_send(party, other, message)
        if not link.opened[1 - side] or link.broken:
            self._bounce(link, side)
            return
        if party.is_server and other.is_server and self.settings.unordered:
            self._send_unordered(link, side, message)
            return
        due = self.world.now + self.delay()
        if due < link.last_at[side]:
            due = link.last_at[side]
        link.last_at[side] = due
        self.world.at(due, self._deliver, link, side, message, self.world.now)

    def _send_unordered(self, link: Link, side: int, message: Any) -> None:
        settings, rng = self.settings, self.rng
        if rng.random() < settings.loss:
            self.journal.lost(self.world.now, link.parties[side].name, link.parties[1 - side].name, message)
            return
        copies = 2 if rng.random() < settings.double else 1
        for _ in range(copies):
            due = self.world.now + self.delay() + rng.random() ** 2 * settings.reorder_s
            self.world.at(due, self._deliver, link, side, message, self.world.now)

    def _deliver(self, link: Link, side: int, message: Any, sent_at: float) -> None:
        source, target = link.parties[side], link.parties[1 - side]
        stalled = link.stalled[side]
        if stalled or (source.host, target.host) in self.cuts or not self.powered[target.host]:
            stalled.append((message, sent_at))
            return
        self._hand_over(link, side, message, sent_at)

    def _hand_over(self, link: Link, side: int, message: Any, sent_at: float) -> None:
        source, target = link.parties[side], link.parties[1 - side]
        if not link.opened[1 - side]:
            return
        conn = link.conns[1 - side]
        if message is _END_ORDERLY or message is _END_RESET:
            self._end(link, 1 - side, message is _END_ORDERLY)
            return
        if link.broken:
            return
        self.journal.arrived(self.world.now, source.name, target.name, message)
        if self.on_delivery is not None:
            self.on_delivery(source, target, message, sent_at)
        target.arrived(conn, message)

    def _flush_between(self, pairs: set[tuple[str, str]]) -> None:
        seen: set[int] = set()
        for link, _ in list(self._links.values()):
            if id(link) in seen:
                continue
            seen.add(id(link))
            for side in (0, 1):
                pair = (link.parties[side].host, link.parties[1 - side].host)
                if pair in pairs and link.stalled[side] and not link.flushing[side]:
                    link.flushing[side] = True
                    self.world.after(self.rng.random() * self.settings.flush_max_s, self._flush, link, side)

    def _flush(self, link: Link, side: int) -> None:
        link.flushing[side] = False
        source, target = link.parties[side], link.parties[1 - side]
        if self.is_cut(source.host, target.host):
            return
        waiting = list(link.stalled[side])
        link.stalled[side].clear()
        if not link.opened[1 - side] or link.broken:
            self._bounce(link, side)
            return
        for message, sent_at in waiting:
            self._hand_over(link, side, message, sent_at)

    # --- ends ----------------------------------------------------------------------------------------------------

    def close(self, party: Party, conn: int, *, abort: bool = False) -> None:
        """This side closes: in order after what it sent, or with a reset."""
        found = self._links.get((party.serial, conn))
        if found is not None:
            self._close(*found, abort=abort)

    def _close(self, link: Link, side: int, *, abort: bool) -> None:
        if not link.opened[side]:
            return
        link.opened[side] = False
        self._forget(link, side)
        if not link.opened[1 - side]:
            return
        if abort:
            link.broken = True
            self.world.after(self.delay(), self._deliver, link, side, _END_RESET, self.world.now)
        else:
            link.last_at[side] = max(link.last_at[side], self.world.now + self.delay())
            self.world.at(link.last_at[side], self._deliver, link, side, _END_ORDERLY, self.world.now)

    def die(self, party: Party, *, says_so: bool) -> None:
        """The process is gone; *says_so*: its kernel lives and ends the connections."""
        self.stop_listening(party)
        for link, side in self.links_of(party):
            if says_so:
                self._close(link, side, abort=self.rng.random() < self.settings.reset_at_death)
            else:
                link.opened[side] = False
                link.stalled[side].clear()  # what the machine would have sent again is gone with it
                self._forget(link, side)

    def reset_between(self, first: str, second: str, *, half_open: bool) -> int:
        """Break every link between two hosts; *half_open*: one side does not learn of it until it sends."""
        count = 0
        for link, side in list(self._links.values()):
            hosts = {link.parties[0].host, link.parties[1].host}
            if side != 0 or hosts != {first, second} or link.broken or not all(link.opened):
                continue
            count += 1
            link.broken = True
            deaf = self.rng.randrange(2) if half_open else None
            if deaf is not None:
                wait = self.rng.uniform(self.settings.keepalive_min_s, self.settings.keepalive_max_s)
                self.world.after(wait, self._keepalive, link, deaf)
            for end in (0, 1):
                if end != deaf:
                    self.world.after(self.delay(), self._end, link, end, False)
        return count

    def _bounce(self, link: Link, side: int) -> None:
        """What was sent reached a socket that does not exist any more: a reset comes back, if it can."""
        here, there = link.parties[side].host, link.parties[1 - side].host
        if not self.is_cut(here, there) and not self.is_cut(there, here):
            self.world.after(2 * self.delay(), self._end, link, side, False)

    def _end(self, link: Link, side: int, orderly: bool) -> None:
        if not link.opened[side]:
            return
        link.opened[side] = False
        party = link.parties[side]
        self._forget(link, side)
        if party.alive:
            self.journal.note(self.world.now, party.name, f"link to {link.parties[1 - side].name} ended")
            party.ended(link.conns[side], orderly)
        if link.opened[1 - side] and not link.broken:
            # Both our adapters close when the other side closed; its end learns of it in its turn.
            self.world.after(self.delay(), self._deliver, link, side, _END_ORDERLY, self.world.now)

    def _forget(self, link: Link, side: int) -> None:
        self._links.pop((link.parties[side].serial, link.conns[side]), None)

    def _watch_keepalives(self, hosts: Iterable[str]) -> None:
        touched = set(hosts)
        settings = self.settings
        for link, side in list(self._links.values()):
            if link.parties[side].host in touched or link.parties[1 - side].host in touched:
                wait = self.rng.uniform(settings.keepalive_min_s, settings.keepalive_max_s)
                self.world.after(wait, self._keepalive, link, side)

    def _keepalive(self, link: Link, side: int) -> None:
        if not link.opened[side]:
            return
        here, there = link.parties[side].host, link.parties[1 - side].host
        if self.is_cut(here, there) or self.is_cut(there, here):
            link.broken = True
            self._end(link, side, False)
        elif not link.opened[1 - side]:
            self._bounce(link, side)
