"""The parts of an exploration's states, each known by a small number: servers, messages, rows of messages.

Equal parts have equal numbers, so that a state of the whole is a row of numbers, and what one event makes of one server
is found out once and looked up from then on, whatever the others are doing meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from flexcore.identity import Rank
from flexcore.ledger import LedgerCorrupt
from flexcore.quorum import HardState
from flexcore.wire.messages import Beat, BeatReply, EntryRow, Message, PeerFrame
from flexcore_testing.checks import Violation
from flexcore_testing.explore_server import Server, Setting, Wanted, rows_of, step

ValueT = TypeVar("ValueT", bound=Hashable)

STOPPED = "stopped"
"""Why a server halts that was asked to: anything else is a finding."""


class Numbered(Generic[ValueT]):
    """Values and their numbers, from 0 in the order of their first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[ValueT, int] = {}
        self.values: list[ValueT] = []

    def __len__(self) -> int:
        return len(self.values)

    def number(self, value: ValueT) -> int:
        """The number of *value*, a new one if it was never seen."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


class Item(NamedTuple):
    """What travels on a link: a frame; None: the other side's end is closed."""

    link: int
    frame: PeerFrame | None


class SeatHeld(NamedTuple):
    """A seat as one server's ledger has it, everything appended being counted."""

    handle: int
    session: bytes
    started: float


class Facts(NamedTuple):
    """What the outside looks at, of one server."""

    up: bool
    serves: int
    """The term in which it may answer clients at this instant, 0 if it may not."""
    attends: bool
    member: bool
    boot_id: bytes
    bound_to: bytes
    """The boot id of the process to which it is bound by a promise that runs; its own promise does not count."""
    log: tuple[EntryRow, ...]
    commit: int
    seats: tuple[SeatHeld, ...]
    due_in_s: float | None
    writing: bool
    blank: bool


class Effect(NamedTuple):
    """What one event makes of one server."""

    server: int
    wanted: tuple[tuple[str, int, int], ...]
    """(send, link, item), (close, link, 0), (dial, rank, 0), (told, client, message)."""


class Parts:
    """All numbered parts, and the effects of events on servers."""

    def __init__(self, setting: Setting, *, urgent: tuple[type, ...] = ()) -> None:
        self.setting = setting
        self._urgent_kinds = urgent
        self._digests: dict[bytes, int] = {}
        self.servers: list[Server] = []
        self.facts: list[Facts] = []
        self._logs: Numbered[tuple[EntryRow, ...]] = Numbered()
        self.items: Numbered[Item] = Numbered()
        self.urgent: list[bool] = []
        """By item: it is delivered as soon as it is first in its row."""
        self.overtakes: list[bool] = []
        """By item: a plain heartbeat or its answer, which arrives at once: it only tells who lives."""
        self.messages: Numbered[Message] = Numbered()
        self.rows: Numbered[tuple[int, ...]] = Numbered()
        self._effects: dict[tuple[int, Hashable], Effect] = {}
        self.looked_up = 0

    def item(self, link: int, frame: PeerFrame | None) -> int:
        """The number of a message under way."""
        number = self.items.number(Item(link, frame))
        if number == len(self.urgent):
            self.urgent.append(frame is not None and isinstance(frame.body, self._urgent_kinds))
            self.overtakes.append(frame is not None and isinstance(frame.body, Beat | BeatReply))
        return number

    def server(self, server: Server) -> int:
        """The number of *server*, which is not to be changed any more."""
        number = self._digests.setdefault(server.digest(), len(self.servers))
        if number == len(self.servers):
            self.servers.append(server)
            self.facts.append(self._facts_of(server))
        return number

    def effect(self, server: int, key: Hashable, event: Callable[[Server], None]) -> Effect:
        """What *event*, which is known by *key*, makes of the server with this number.

        Raises:
            Violation: the machine broke one of its own rules.
        """
        known = self._effects.get((server, key))
        if known is None:
            known = self._effects[server, key] = self._carry_out(self.servers[server], event)
        return known

    def _carry_out(self, before: Server, event: Callable[[Server], None]) -> Effect:
        try:
            after, wanted = step(before, event)
        except (AssertionError, LedgerCorrupt) as error:
            raise Violation("AssertionError", f"{before.rank.word}: {error!r}") from error
        _check_step(before, after)
        return Effect(self.server(after), tuple([self._wish(each) for each in wanted]))

    def _wish(self, wanted: Wanted) -> tuple[str, int, int]:
        number = 0
        if wanted.what == "send":
            assert isinstance(wanted.message, PeerFrame)
            number = self.item(wanted.link, wanted.message)
        elif wanted.what == "told":
            assert wanted.message is not None
            number = self.messages.number(wanted.message)
        return wanted.what, wanted.link, number

    @property
    def effects(self) -> int:
        """How many events of single servers were really carried out."""
        return len(self._effects)

    def _facts_of(self, server: Server) -> Facts:
        log = self._logs.values[self._logs.number(rows_of(server))]
        machine = server.machine
        hard = machine.hard if machine is not None else HardState.decode(server.disk.hard) if server.disk.hard else None
        promised = hard.promised_to if hard is not None else None
        bound_to = promised.boot.boot_id if promised is not None and promised.rank != server.rank else b""
        member = hard is not None and hard.member
        if machine is None:
            return Facts(False, 0, False, member, b"", bound_to, log, 0, (), None, False, server.disk.blank)
        now = machine.now
        if now >= machine.promise_until or machine.promise_void:
            bound_to = b""
        due = machine.next_timeout()
        return Facts(
            up=True,
            serves=machine.hard.term if machine.may_serve(now) else 0,
            attends=server.attends(),
            member=member,
            boot_id=machine.boot_id,
            bound_to=bound_to,
            log=log,
            commit=machine.ledger.commit,
            seats=tuple([SeatHeld(h, seat.session, seat.started) for h, seat in machine.ledger.state.seats.items()]),
            due_in_s=None if due is None else due - now,
            writing=server.pending is not None,
            blank=server.disk.blank,
        )


def _check_step(before: Server, after: Server) -> None:
    """What must hold from one moment of a process to the next: votes and terms are kept, nobody fails."""
    if after.halted and not before.halted and not after.halted.startswith(STOPPED):
        raise Violation("halt", f"the {after.rank.word} stops: {after.halted}")
    if before.machine is None or after.machine is None:
        return
    old, new = before.machine.hard, after.machine.hard
    if new.term < old.term:
        raise Violation("one vote", f"the {after.rank.word} goes back from term {old.term} to {new.term}")
    if new.term == old.term and old.voted_for >= 0 and new.voted_for >= 0 and new.voted_for != old.voted_for:
        names = Rank(old.voted_for).word, Rank(new.voted_for).word
        raise Violation("one vote", f"the {after.rank.word} votes for {names[0]} and {names[1]} in term {new.term}")
