"""The whole of an exploration: three servers, the network between them, two clients, and what may happen next.

A state is a row of small numbers, :data:`LENGTH` of them. Everything that may happen is an :class:`Event`; what
happens by itself (a dial's outcome, a message of an urgent kind that is first in its row) belongs to the event that
caused it.

The network: between two servers there are two connections, as there are in life. What one sends to the other arrives in
the order of sending, whichever of the two it goes on, at any later time or, if the link is cut, never: a cut loses what
is under way and all that is sent until it heals, and no end notices by itself. A dial is answered at once: it connects,
or is refused where no process listens, or times out over a cut.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeAlias

import attrs

from flexcore.identity import Rank
from flexcore.quorum import DialFailed, LinkEnded, PeerConnected, PeerFrameReceived, StopRequested
from flexcore.wire.messages import PeerFrame
from flexcore_testing.explore_checks import Books
from flexcore_testing.explore_clients import SESSIONS, Client, describe
from flexcore_testing.explore_parts import Effect, Numbered, Parts
from flexcore_testing.explore_server import Server, Setting, server_config

State: TypeAlias = tuple[int, ...]

PAIRS = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
"""Sender and receiver, and, for connections, dialler and acceptor."""
PAIR_OF = {pair: index for index, pair in enumerate(PAIRS)}
LINKS = ((0, 1), (0, 2), (1, 2))
"""What a cut cuts, both ways."""

ROW, CONN, CUT, BUDGET, CLIENT, BOOKS = 3, 9, 15, 16, 22, 24
"""Where in a state: rows of messages, connections, cuts, what may still happen, clients, books. Servers come first."""
LENGTH = 25
LONG, SHORT, CRASH, LOSS, CUTS, ASKS = range(6)
"""Budgets, in their order."""

MESSAGES_AT_ONCE_MAX = 200
"""What happens by itself after one event; more would be a storm."""
WARM_UP = 6
"""Steps of time before the exploration begins, of a second each and then of 20."""
FIRST_CLIENT = 1000
"""Number of the first client's connections; links have lower ones."""


class RowFull(Exception):
    """More messages under way than the scope allows: this is not explored."""


class Event(NamedTuple):
    """Something that may happen. *one* and *two* say to whom, by *what*."""

    what: str
    one: int = 0
    two: int = 0
    how: str = ""


@attrs.frozen(kw_only=True)
class Bounds:
    """How often things may happen, and how much may be under way."""

    longs: int = 2
    shorts: int = 1
    crashes: int = 1
    losses: int = 0
    cuts: int = 0
    asks: int = 0
    stops: int = 0
    long_s: float = 40.0
    short_s: float = 1.0
    row: int = 3
    """Messages under way from one server to another."""
    crash_loses: bool = False
    """What a killed server had sent and what is under way is lost with it, as by a reset or a failed machine."""
    crash_ranks: tuple[Rank, ...] = tuple(Rank)
    cut_links: tuple[int, ...] = (0, 1, 2)

    def budget(self) -> tuple[int, ...]:
        """The budgets at the beginning."""
        return (self.longs, self.shorts, self.crashes + 100 * self.stops, self.losses, self.cuts, self.asks)


class World:
    """Successors of states."""

    def __init__(
        self, setting: Setting, bounds: Bounds, *, urgent: tuple[type, ...], first_master: Rank = Rank.PRIMARY
    ) -> None:
        self.parts = Parts(setting, urgent=urgent)
        self.bounds = bounds
        self.first_master = first_master
        self.clients: Numbered[Client] = Numbered()
        self.books = Books(self.parts)
        self.pruned = 0
        """Events that were not explored because too much was under way."""
        self._client_lease_s = server_config(setting, Rank.PRIMARY).client_lease_s

    # --- what may happen ---------------------------------------------------------------------------------------------

    def events(self, state: State) -> list[Event]:
        """Everything that may happen now, in a fixed order."""
        found = [Event("deliver", index) for index in range(6) if state[ROW + index]]
        facts = [self.parts.facts[state[rank]] for rank in range(3)]
        found += [Event("written", rank) for rank in range(3) if facts[rank].writing]
        if state[BUDGET + ASKS]:
            found += self._asks(state)
        if state[BUDGET + LONG]:
            found.append(Event("long"))
        if state[BUDGET + SHORT] and any(
            each.due_in_s is not None and each.due_in_s <= self.bounds.short_s for each in facts
        ):
            found.append(Event("short"))
        crashes, stops = state[BUDGET + CRASH] % 100, state[BUDGET + CRASH] // 100
        for rank in self.bounds.crash_ranks:
            if not facts[rank].up:
                found.append(Event("start", rank))
                if state[BUDGET + LOSS] and not facts[rank].blank:
                    found.append(Event("lose", rank))
            elif crashes:
                found.append(Event("crash", rank))
        if stops:
            found += [Event("stop", rank) for rank in range(3) if facts[rank].up]
        for link in self.bounds.cut_links:
            if state[CUT] >> link & 1:
                found.append(Event("heal", link))
            elif state[BUDGET + CUTS]:
                found.append(Event("cut", link))
        return found

    def _asks(self, state: State) -> list[Event]:
        found = []
        for number in range(2):
            if number == 1 and not self.clients.values[state[CLIENT]].seq:
                break  # the two are alike: whoever asks first is called the first
            for what in self.clients.values[state[CLIENT + number]].wishes():
                found += [
                    Event("ask", number, rank, what) for rank in range(3) if self.parts.facts[state[rank]].attends
                ]
        return found

    def describe(self, state: State, event: Event) -> str:
        """The event, for a person."""
        one = Rank(event.one).word if event.one < 3 else ""
        if event.what == "deliver":
            item = self.parts.items.values[self.parts.rows.values[state[ROW + event.one]][0]]
            sender, receiver = (Rank(rank).word for rank in PAIRS[event.one])
            if item.frame is None:
                return f"the {receiver} sees that its connections with the {sender} have ended"
            body = item.frame.body
            return f"the {receiver} gets {type(body).__name__} of the {sender} (term {item.frame.term})"
        if event.what == "ask":
            return describe(self.clients.values[state[CLIENT + event.one]], event.one, event.how, Rank(event.two))
        if event.what in ("cut", "heal"):
            names = " and ".join(Rank(rank).word for rank in LINKS[event.one])
            return f"the link of {names} {'is cut' if event.what == 'cut' else 'works again'}"
        return {
            "written": f"the {one}'s disk has written",
            "long": f"{self.bounds.long_s:g} s pass",
            "short": f"{self.bounds.short_s:g} s passes",
            "crash": f"the {one} is killed",
            "lose": f"the {one}'s disk is lost",
            "start": f"the {one} starts",
            "stop": f"the {one} is asked to stop",
        }[event.what]

    # --- what it makes of a state ------------------------------------------------------------------------------------

    def after(self, state: State, event: Event) -> State:
        """The state after *event*, checked.

        Raises:
            RowFull: this is not explored.
            Violation: an invariant does not hold.
        """
        move = Move(self, state)
        move.make(event)
        return self._checked(move.finish())

    def _checked(self, state: State) -> State:
        values = self.clients.values
        book = self.books.check(state[:3], (values[state[CLIENT]], values[state[CLIENT + 1]]), state[BOOKS])
        return state if book == state[BOOKS] else (*state[:BOOKS], book)

    # --- where it begins ---------------------------------------------------------------------------------------------

    def first_state(self) -> State:
        """Three members that have run for a while, one of them master; both clients have opened their sessions.

        Everything on the way there arrives at once.
        """
        setting = self.parts.setting
        servers = [self.parts.server(Server(setting, rank)) for rank in Rank]
        no_row, idle = self.parts.rows.number(()), self.clients.number(Client())
        state: State = (*servers, *[no_row] * 6, *[0] * 6, 0, *self.bounds.budget(), idle, idle, 0)
        order = (Rank.SECONDARY, Rank.TERTIARY, Rank.PRIMARY) if self.first_master else tuple(Rank)
        for rank in order:
            state = self._at_once(state, functools.partial(Move.begin, rank=rank))
        for _ in range(WARM_UP):
            state = self._at_once(state, lambda move: move.pass_time(1.0))
        for number, session in enumerate(SESSIONS):
            state = self._at_once(state, functools.partial(Move.open_session, number=number, session=session))
        for _ in range(WARM_UP):
            state = self._at_once(state, lambda move: move.pass_time(20.0))
        master = self.parts.facts[state[self.first_master]]
        if not master.serves or not all(self.parts.facts[state[rank]].member for rank in range(3)):
            raise RuntimeError("the triad did not form")
        return state

    def _at_once(self, state: State, change: Callable[[Move], None]) -> State:
        """*change*, and everything that is under way then is delivered."""
        move = Move(self, state, bounded=False)
        change(move)
        state = move.finish()
        for _ in range(MESSAGES_AT_ONCE_MAX):
            events = [each for each in self.events(state) if each.what in ("deliver", "written")]
            if not events:
                return self._checked(state)
            move = Move(self, state, bounded=False)
            move.make(events[0])
            state = move.finish()
        raise RuntimeError("messages go round for ever")


class Move:
    """One event being carried out on a copy of a state."""

    def __init__(self, world: World, state: State, *, bounded: bool = True) -> None:
        self._bounded = bounded
        self._overtaking: list[tuple[int, int]] = []
        self._world = world
        self._parts = world.parts
        self._bounds = world.bounds
        self._state = list(state)
        self._rows: list[tuple[int, ...]] = [world.parts.rows.values[state[ROW + index]] for index in range(6)]
        self._spent = 0

    def finish(self) -> State:
        """Deliver what is urgent, and give the state."""
        while self._deliver_urgent():
            pass
        number = self._parts.rows.number
        for index, row in enumerate(self._rows):
            self._state[ROW + index] = number(row)
        return tuple(self._state)

    def _deliver_urgent(self) -> bool:
        if self._overtaking:
            receiver, item = self._overtaking.pop(0)
            if self._parts.facts[self._state[receiver]].up:
                self._receive(receiver, item)
            return True
        for index, row in enumerate(self._rows):
            if row and self._parts.urgent[row[0]]:
                self._deliver(index)
                return True
        return False

    def make(self, event: Event) -> None:
        """Carry out *event*."""
        getattr(self, "_" + event.what)(*event[1:])

    # --- servers -----------------------------------------------------------------------------------------------------

    def _tell(self, rank: int, key: Hashable, event: Callable[[Server], None]) -> None:
        self._spent += 1
        if self._spent > MESSAGES_AT_ONCE_MAX:
            raise RuntimeError("messages go round for ever")
        effect = self._parts.effect(self._state[rank], key, event)
        self._take(rank, effect)

    def _take(self, rank: int, effect: Effect) -> None:
        was_up = self._parts.facts[self._state[rank]].up
        self._state[rank] = effect.server
        for what, link, number in effect.wanted:
            if what == "send":
                self._send(rank, link, number)
            elif what == "dial":
                self._dial(rank, link)
            elif what == "close":
                self._close(rank, link)
            else:
                self._told(link - FIRST_CLIENT, number)
        if was_up and not self._parts.facts[self._state[rank]].up:
            self._process_ends(rank)

    # --- network -----------------------------------------------------------------------------------------------------

    def _is_cut(self, one: int, two: int) -> bool:
        return bool(self._state[CUT] >> LINKS.index((min(one, two), max(one, two))) & 1)

    def _send(self, rank: int, link: int, item: int) -> None:
        pair, number = link % 6, self._state[CONN + link % 6]
        dialler, acceptor = PAIRS[pair]
        other = acceptor if rank == dialler else dialler
        far_open = number & (1 if other == acceptor else 2)
        if number >> 2 != link // 6 or not far_open or self._is_cut(rank, other):
            return
        if self._parts.overtakes[item]:
            self._overtaking.append((other, item))
            return
        index = PAIR_OF[rank, other]
        row = self._rows[index]
        if self._bounded and len(row) >= self._bounds.row and not self._parts.urgent[item]:
            raise RowFull
        self._rows[index] = (*row, item)

    def _dial(self, rank: int, other: int) -> None:
        if not self._parts.facts[self._state[rank]].up:
            return  # its process ended in the turn in which it dialled
        if self._is_cut(rank, other) or not self._parts.facts[self._state[other]].up:
            refused = not self._is_cut(rank, other)
            failed = DialFailed(peer=Rank(other), refused=refused)
            self._tell(rank, ("failed", other, refused), lambda server: server.tell(failed))
            return
        pair = PAIR_OF[rank, other]
        count = (self._state[CONN + pair] >> 2) + 1
        self._state[CONN + pair] = count << 2 | 3
        link = count * 6 + pair
        connected = PeerConnected(link=link, peer=Rank(other))
        self._tell(rank, ("connected", link), lambda server: server.tell(connected))

    def _close(self, rank: int, link: int) -> None:
        """One side closes: the other sees it, unless the link is cut."""
        pair, number = link % 6, self._state[CONN + link % 6]
        if number >> 2 != link // 6:
            return
        dialler, acceptor = PAIRS[pair]
        self._state[CONN + pair] = number & ~(2 if rank == dialler else 1)
        other = acceptor if rank == dialler else dialler
        self._forget(PAIR_OF[other, rank], link)
        self._tell_end(rank, other, pair)

    def _tell_end(self, rank: int, other: int, pair: int) -> None:
        """*rank* has closed its end of the connection: *other*, if its end is open, is to see that."""
        number = self._state[CONN + pair]
        if number & (2 if other == PAIRS[pair][0] else 1) and not self._is_cut(rank, other):
            link = (number >> 2) * 6 + pair
            self._rows[PAIR_OF[rank, other]] += (self._parts.item(link, None),)

    def _forget(self, index: int, link: int | None) -> None:
        """What is under way in this row, on *link* or on any, does not arrive."""
        if link is None:
            self._rows[index] = ()
        else:
            values = self._parts.items.values
            self._rows[index] = tuple([each for each in self._rows[index] if values[each].link != link])

    def _deliver(self, index: int, _two: int = 0, _how: str = "") -> None:
        receiver = PAIRS[index][1]
        row = self._rows[index]
        link, frame = self._parts.items.values[row[0]]
        self._rows[index] = row[1:]
        if frame is None:
            self._end(receiver, link)
            while self._rows[index] and self._parts.items.values[self._rows[index][0]].frame is None:
                link = self._parts.items.values[self._rows[index][0]].link
                self._rows[index] = self._rows[index][1:]
                self._end(receiver, link)
            return
        self._receive(receiver, row[0])

    def _receive(self, receiver: int, item: int) -> None:
        link, frame = self._parts.items.values[item]
        assert frame is not None
        received = PeerFrameReceived(link=link, frame=frame)
        self._tell(receiver, item, lambda server: server.tell(received))

    def _end(self, receiver: int, link: int) -> None:
        pair, number = link % 6, self._state[CONN + link % 6]
        if number >> 2 == link // 6:
            self._state[CONN + pair] = number & ~(2 if receiver == PAIRS[pair][0] else 1)
        ended = LinkEnded(link=link)
        self._tell(receiver, ("ended", link), lambda server: server.tell(ended))

    def _cut(self, link: int, _two: int, _how: str) -> None:
        self._state[BUDGET + CUTS] -= 1
        self._state[CUT] |= 1 << link
        one, two = LINKS[link]
        self._forget(PAIR_OF[one, two], None)
        self._forget(PAIR_OF[two, one], None)

    def _heal(self, link: int, _two: int, _how: str) -> None:
        self._state[CUT] &= ~(1 << link)
        for dialler, acceptor in (LINKS[link], LINKS[link][::-1]):
            pair = PAIR_OF[dialler, acceptor]
            ends = self._state[CONN + pair] & 3
            if ends == 1:
                self._tell_end(dialler, acceptor, pair)
            elif ends == 2:
                self._tell_end(acceptor, dialler, pair)

    # --- processes ---------------------------------------------------------------------------------------------------

    def _process_ends(self, rank: int) -> None:
        """All its connections end; what is under way from it arrives all the same, unless a crash loses it."""
        for other in range(3):
            if other == rank:
                continue
            self._forget(PAIR_OF[other, rank], None)
            if self._bounds.crash_loses:
                self._forget(PAIR_OF[rank, other], None)
            for pair in (PAIR_OF[rank, other], PAIR_OF[other, rank]):
                self._state[CONN + pair] &= ~(2 if rank == PAIRS[pair][0] else 1)
                self._tell_end(rank, other, pair)

    def _crash(self, rank: int, _two: int, _how: str) -> None:
        self._state[BUDGET + CRASH] -= 1
        self._tell(rank, "crash", Server.crash)

    def _lose(self, rank: int, _two: int, _how: str) -> None:
        self._state[BUDGET + LOSS] -= 1
        self._tell(rank, "lose", Server.lose_disk)

    def _start(self, rank: int, _two: int, _how: str) -> None:
        self._tell(rank, "start", Server.start)

    def begin(self, rank: Rank) -> None:
        """The first start of a server, with the administrator's word that nothing is held."""
        self._tell(rank, "begin", lambda server: server.start(first_start=True))

    def open_session(self, number: int, session: bytes) -> None:
        """A client's session is opened at whoever serves."""
        rank = next(rank for rank in range(3) if self._parts.facts[self._state[rank]].attends)
        self._tell(rank, ("open", number), lambda server: server.open_session(FIRST_CLIENT + number, session))

    def _stop(self, rank: int, _two: int, _how: str) -> None:
        self._state[BUDGET + CRASH] -= 100
        stop = StopRequested(scope="one", requested_by="")
        self._tell(rank, "stop", lambda server: server.tell(stop))

    def _written(self, rank: int, _two: int, _how: str) -> None:
        self._tell(rank, "written", Server.write)

    # --- time --------------------------------------------------------------------------------------------------------

    def _long(self, _one: int, _two: int, _how: str) -> None:
        self._state[BUDGET + LONG] -= 1
        self.pass_time(self._bounds.long_s)

    def _short(self, _one: int, _two: int, _how: str) -> None:
        self._state[BUDGET + SHORT] -= 1
        self.pass_time(self._bounds.short_s)

    def pass_time(self, seconds: float) -> None:
        """Everybody's clock moves by this; every process then does what is due."""
        clients = self._world.clients
        for at in (CLIENT, CLIENT + 1):
            self._state[at] = clients.number(clients.values[self._state[at]].later(seconds))
        up = [rank for rank in range(3) if self._parts.facts[self._state[rank]].up]
        effects = [
            self._parts.effect(self._state[rank], ("time", seconds), lambda server: server.pass_time(seconds))
            for rank in up
        ]
        for rank, effect in zip(up, effects, strict=True):
            self._take(rank, effect)

    # --- clients -----------------------------------------------------------------------------------------------------

    def _ask(self, number: int, rank: int, what: str) -> None:
        self._state[BUDGET + ASKS] -= 1
        clients = self._world.clients
        client, message = clients.values[self._state[CLIENT + number]].says(what)
        self._state[CLIENT + number] = clients.number(client)
        conn = FIRST_CLIENT + number
        self._tell(rank, (conn, message), lambda server: server.request(conn, SESSIONS[number], message))

    def _told(self, number: int, message: int) -> None:
        clients = self._world.clients
        at = CLIENT + number
        said = self._parts.messages.values[message]
        assert not isinstance(said, PeerFrame)
        self._state[at] = clients.number(clients.values[self._state[at]].told(said, self._world._client_lease_s))
