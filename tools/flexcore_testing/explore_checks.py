"""What must hold in each state of an exploration: the safety invariants I1-I6 and I9 of design.md section 5.

Two things have to be remembered to say so, and are part of the state: everything that was ever known to be committed,
and who served in which term.

I1, I2, I3, I5 as they stand there. I4: whoever serves holds everything that was ever committed. I6 in the form that
makes I2 true: whoever serves, one other server is bound to that very process at this instant (unless a disk was lost:
what was on it bound nobody but by argument). I9: a seat in which an application believes stands in the ledger of
whoever serves, with its handle and start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flexcore.identity import Rank
from flexcore.ledger.commands import SeatGranted
from flexcore.wire.codec import decode_command
from flexcore.wire.messages import EntryRow
from flexcore_testing.checks import Violation
from flexcore_testing.explore_clients import SESSIONS, Client
from flexcore_testing.explore_parts import Facts, Numbered, Parts, SeatHeld

LICENSED = 1


class Book(NamedTuple):
    """What the checks remember."""

    committed: tuple[EntryRow, ...] = ()
    masters: tuple[tuple[int, int, bytes], ...] = ()
    """Term, rank and boot id of whoever served."""


class Books:
    """All books, and the checks."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._books: Numbered[Book] = Numbered()
        self._books.number(Book())
        self._noted: dict[tuple[int, int], int] = {}
        self._sound: set[tuple[int, int, int]] = set()
        self.counted: dict[str, int] = {"serving": 0, "elections": 0, "commits": 0}

    def check(self, servers: Sequence[int], clients: Sequence[Client], book: int) -> int:
        """Check one state; gives the book after it.

        Raises:
            Violation: an invariant does not hold.
        """
        noted = self._noted
        before = -1
        while before != book:
            before = book
            for server in servers:
                known = noted.get((book, server))
                if known is None:
                    known = noted[book, server] = self._note(book, server)
                book = known
        three = servers[0], servers[1], servers[2]
        if three not in self._sound:
            self._check_servers([self._parts.facts[server] for server in three])
            self._sound.add(three)
        if clients[0].believes or clients[1].believes:
            self._check_clients([self._parts.facts[server] for server in three], clients)
        return book

    # --- one server against what is remembered -----------------------------------------------------------------------

    def _note(self, number: int, server: int) -> int:
        book, facts = self._books.values[number], self._parts.facts[server]
        rank = self._parts.servers[server].rank
        known, mine = book.committed, facts.log[: facts.commit]
        common = min(len(known), len(mine))
        if known[:common] != mine[:common]:
            raise Violation("log", f"the {rank.word} has committed other entries than were committed before")
        if len(mine) > len(known):
            book = book._replace(committed=mine)
            self._check_requests(mine)
            self.counted["commits"] += 1
        if facts.serves:
            self.counted["serving"] += 1
            book = self._check_serving(book, facts, rank)
        return self._books.number(book)

    def _check_serving(self, book: Book, facts: Facts, rank: Rank) -> Book:
        if rank is Rank.TERTIARY:
            raise Violation("I1", "the tertiary serves")
        if facts.log[: len(book.committed)] != book.committed:
            raise Violation("I4", f"the {rank.word} serves without an entry that was committed")
        me = (facts.serves, int(rank), facts.boot_id)
        if me in book.masters:
            return book
        for term, other, _ in book.masters:
            if term == facts.serves:
                raise Violation("I1", f"term {term} has two masters: the {Rank(other).word} and the {rank.word}")
        self.counted["elections"] += 1
        return book._replace(masters=tuple(sorted((*book.masters, me))))

    def _check_requests(self, rows: Sequence[EntryRow]) -> None:
        granted: dict[tuple[bytes, int], int] = {}
        for row in rows:
            command = decode_command(row.payload)
            if isinstance(command, SeatGranted):
                handle = granted.setdefault((command.session, command.request), command.handle)
                if handle != command.handle:
                    raise Violation("I5", f"a request was granted twice, as {handle} and as {command.handle}")

    # --- the servers among each other --------------------------------------------------------------------------------

    def _check_servers(self, facts: Sequence[Facts]) -> None:
        serving = [each for each in facts if each.serves]
        if len(serving) > 1:
            terms = " and ".join(str(each.serves) for each in serving)
            raise Violation("I2", f"two servers serve at the same instant, in terms {terms}")
        for each in serving:
            others = [other for other in facts if other is not each]
            if all(other.member for other in others) and not any(other.bound_to == each.boot_id for other in others):
                raise Violation("I6", f"the master of term {each.serves} serves, and nobody is bound to it")

    # --- the clients -------------------------------------------------------------------------------------------------

    def _check_clients(self, facts: Sequence[Facts], clients: Sequence[Client]) -> None:
        believing = [(session, each) for session, each in zip(SESSIONS, clients, strict=True) if each.believes]
        if len(believing) > LICENSED:
            raise Violation("I3", f"{len(believing)} applications use {LICENSED} licence")
        for session, client in believing:
            seat = SeatHeld(client.handle, session, client.started)
            for each in facts:
                if each.serves and seat not in each.seats:
                    raise Violation("I9", f"the master of term {each.serves} does not hold seat {client.handle}")
