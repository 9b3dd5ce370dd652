"""The checkers, apart from the system: they see what servers do, never why.

Each states one of the invariants I1-I9 (design.md section 5, protocol.md section 4) over true time, which no server
knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flexcore.identity import Last, Rank
from flexcore.ledger import Ledger
from flexcore.ledger.commands import Formed, LingerResumed, Rights, SeatGranted, TermStarted
from flexcore.quorum.base import Role
from flexcore.wire.codec import decode_command
from flexcore.wire.messages import EntryRow, PeerFrame, VoteReply
from flexcore_testing.profile import DISKS, EVIDENCE, HOLDS

if TYPE_CHECKING:
    from flexcore_testing.network import Party
    from flexcore_testing.process import ServerRun
    from flexcore_testing.triad import SimulatedTriad

ROWS_AT_ONCE = 1 << 30

BEYOND_ONLY = HOLDS[EVIDENCE] & HOLDS[DISKS]
"""With two disks lost, or false evidence of death, these hold all the same."""


class Violation(AssertionError):
    """An invariant does not hold; *name* says which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class RunBooks:
    """What the checkers remember of one run of a server."""

    __slots__ = ("commit", "heard", "last", "lease_until", "role", "serving", "tail", "triad_id")

    def __init__(self) -> None:
        self.last: Last | None = None
        self.commit = 0
        self.triad_id = b""
        self.serving = 0
        """The term in which it serves, 0 if it does not."""
        self.lease_until = -1.0
        """In true time, while it serves."""
        self.heard: dict[str, float] = {}
        self.tail: dict[int, EntryRow] = {}
        """What it held beyond its commit: the next turn may commit it and fold it into a snapshot at once."""
        self.role: Role | None = None


class ServerChecks:
    """I1, I2, I4, I5 (by the log), I6, one vote a term, log matching, state machine safety, rounds."""

    def __init__(self, triad: SimulatedTriad, only: frozenset[str] | None = None) -> None:
        self.triad = triad
        self.only = only
        """Names of the invariants that count; None: all."""
        self.books: dict[int, RunBooks] = {}
        self.master_of: dict[tuple[bytes, int], tuple[int, int]] = {}
        self.rows: dict[tuple[bytes, int, int], EntryRow] = {}
        self.committed: dict[bytes, list[EntryRow]] = {}
        self.committed_at: dict[tuple[bytes, int], float] = {}
        """When an entry of this term was first known to be committed."""
        self.votes: dict[tuple[bytes, int, int], int] = {}
        self.handles: dict[tuple[bytes, bytes, int], int] = {}
        self.asked_at: dict[tuple[int, int, int], float] = {}
        """When a server got the question with this number from this client."""
        self.on_commit: Callable[[object], None] | None = None
        """Called with each command when it is first known to be committed."""
        self.elections = 0
        self.grants = 0
        self.said: Counter[type] = Counter()
        """Messages by kind."""

    def fail(self, name: str, text: str) -> None:
        """Report a violation, unless this campaign is outside the invariant's assumptions."""
        if self.only is None or name in self.only:
            raise Violation(name, text)
        self.triad.coverage[f"excused {name}"] += 1

    # --- what the network shows ----------------------------------------------------------------------------------

    def delivered(self, source: Party, target: Party, message: object, sent_at: float) -> None:
        """A message between two parties arrived."""
        if target.is_server:
            if source.is_server:
                heard = self.books_of(target.serial).heard
                if sent_at > heard.get(source.host, -1.0):
                    heard[source.host] = sent_at
            elif not getattr(source, "lies", False):
                seq = getattr(message, "seq", None)
                if seq is not None:
                    self.asked_at[target.serial, source.serial, seq] = self.triad.world.now

    def books_of(self, serial: int) -> RunBooks:
        """The books of the run with this number."""
        books = self.books.get(serial)
        if books is None:
            books = self.books[serial] = RunBooks()
        return books

    def sent(self, source: Party, target: Party, message: object) -> None:
        """A message left: nobody votes twice in a term, and nobody renews what a successor may have given away."""
        self.said[type(message.body if type(message) is PeerFrame else message)] += 1
        if not target.is_server:
            if source.is_server and not getattr(target, "lies", False) and getattr(message, "renews", False):
                self._check_renewal(source, target, message)
            return
        if isinstance(message, PeerFrame) and isinstance(message.body, VoteReply) and message.body.ok:
            key = (message.triad_id, message.term, message.sender.rank)
            given = self.votes.setdefault(key, message.target.rank)
            if given != message.target.rank:
                self.fail(
                    "one vote", f"{source.name} voted for {given} and {message.target.rank} in term {message.term}"
                )
            books = self.books_of(source.serial)
            if books.serving and self.triad.world.now < books.lease_until:
                run = self.triad.run_of(Rank(message.sender.rank))
                if run is not None and run.quorum.released_term < books.serving:
                    self.fail("sticky", f"{source.name} serves in term {books.serving} and votes itself away")

    def _check_renewal(self, source: Party, target: Party, message: Any) -> None:
        """Rule 15: when the question that is renewed by came in, no later term had committed anything."""
        asked_at = self.asked_at.get((source.serial, target.serial, message.seq))
        run = self.triad.run_of(Rank("PST".index(source.host)))
        if asked_at is None or run is None:
            return
        triad_id = run.ledger.state.triad_id
        for (other_triad, term), committed_at in self.committed_at.items():
            if other_triad == triad_id and term > message.term and committed_at < asked_at:
                self.fail(
                    "renewal",
                    f"{source.name} in term {message.term} renews {target.name}'s question of {asked_at:.4f}; "
                    f"term {term} had committed at {committed_at:.4f}",
                )

    # --- what a server did ---------------------------------------------------------------------------------------

    def started_serving(self, run: ServerRun, term: int) -> None:
        """I1: one master a term, never the tertiary."""
        self.elections += 1
        if run.rank is Rank.TERTIARY:
            self.fail("I1", "the tertiary serves")
        key = (run.ledger.state.triad_id, term)
        owner = self.master_of.setdefault(key, (run.rank, run.serial))
        if owner != (run.rank, run.serial):
            self.fail("I1", f"term {term} has two masters: {owner} and {(int(run.rank), run.serial)}")
        self.triad.tell(run.rank.word, f"serves (term {term})")

    def stopped_serving(self, run: ServerRun) -> None:
        """A server says that it serves no longer: its own predicate must agree."""
        if run.serves():
            self.fail("I6", f"{run.name} stopped serving and still thinks that it may")

    def halted(self, run: ServerRun, exit_code: int, reason: str) -> None:
        """A process ended by its own decision and says that something is wrong: only a slow disk may be."""
        self.triad.coverage[f"halt {exit_code}"] += 1
        if "disk" not in reason.lower() and "could not be written" not in reason:
            self.fail("halt", f"{run.name} stops: {reason}")

    def after_turn(self, run: ServerRun) -> None:
        """Called after each turn of each server, while it is alive or in its last breath."""
        books = run.books
        ledger = run.ledger
        role = run.quorum.role
        if role is not books.role:
            if books.role is not None:
                self.triad.coverage[f"role {books.role.value} > {role.value}"] += 1
            books.role = role
        if run.machine_host.unsound and not run.quorum.hard.member:
            run.machine_host.unsound = False  # it has learnt that its state is an older one
        if ledger.last != books.last or ledger.commit != books.commit:
            self._check_log(run, ledger, books)
        serving = run.serves()
        if serving:
            term, before = run.term, books.serving
            books.serving = term
            if before != term:
                self.started_serving(run, term)
            self._check_serving(run, ledger)
            books.lease_until = run.clock.true(run.quorum.lease_until)
        elif books.serving:
            books.serving = 0
            self.triad.tell(run.rank.word, "serves no longer")

    def _check_serving(self, run: ServerRun, ledger: Ledger) -> None:
        now = self.triad.world.now
        for host in self.triad.hosts:
            other = host.run
            if other is not None and other is not run and other.serves():
                self.fail("I2", f"{run.name} and {other.name} serve at the same instant")
        if self.triad.is_triad:
            newest = max(run.books.heard.values(), default=-1.0)
            limit = self.triad.longest_timeout_s / (1.0 - 0.0101) + self.triad.slack_s
            if now - newest > limit:
                self.fail("I6", f"{run.name} serves {now - newest:.3f} s after a peer sent anything that it got")
        known = self.committed.get(ledger.state.triad_id, [])
        if known and ledger.term_at(len(known)) != known[-1].term:
            self.fail(
                "I4",
                f"{run.name} serves with last {ledger.last}, base {ledger.base}; entry {len(known)} of term "
                f"{known[-1].term} was committed and is not there (there: {ledger.term_at(len(known))})",
            )

    def _check_log(self, run: ServerRun, ledger: Ledger, books: RunBooks) -> None:
        triad_id = ledger.state.triad_id
        if ledger.commit < books.commit:
            if self._still_holds(ledger, books.commit):
                self.triad.coverage["commit learnt anew"] += 1  # it recovered once more, and copied the log again
            elif not self._gave_up_unused_triad(run, books):
                self.fail("log", f"{run.name} forgot commit {books.commit}, has {ledger.commit}")
            books.commit = 0
        start = max(ledger.base.index, min(books.commit, ledger.commit)) + 1
        rows = ledger.rows(start, ROWS_AT_ONCE) if ledger.last.index >= start else ()
        for offset, row in enumerate(rows):
            self._check_row(run, triad_id, start + offset, row)
        known = self.committed.setdefault(triad_id, [])
        base = ledger.base
        if base.index > min(books.commit, len(known)):  # or of a triad that was formed anew on this log
            self._take_folded(triad_id, known, base, books)
            if base.index > len(known):
                self.fail("log", f"{run.name} has a snapshot of {base}, beyond all that was committed ({len(known)})")
            elif known[base.index - 1].term != base.term:
                self.fail("log", f"{run.name} has a snapshot of {base}, committed was {known[base.index - 1]}")
        for index in range(start, ledger.commit + 1):
            row = rows[index - start]
            if index <= len(known):
                if known[index - 1] != row:
                    self.fail("log", f"{run.name} committed {row} at {index}, before it was {known[index - 1]}")
            elif index == len(known) + 1:
                known.append(row)
                self._committed(triad_id, index, row)
            else:
                self.fail("log", f"{run.name} commits {index} first, {len(known)} were known")
        books.tail = {start + at: row for at, row in enumerate(rows) if start + at > ledger.commit}
        books.triad_id = triad_id
        books.last = ledger.last
        books.commit = ledger.commit

    def _take_folded(self, triad_id: bytes, known: list[EntryRow], base: Last, books: RunBooks) -> None:
        """Entries that this run held, and in this turn first knew to be committed and folded."""
        if not known:  # a triad that was formed anew on the log of the old one
            for other in self.committed.values():
                if len(other) >= base.index and other[base.index - 1].term == base.term:
                    known.extend(other[: base.index])
                    return
        if books.triad_id not in (triad_id, b""):
            return
        while len(known) < base.index and (row := books.tail.get(len(known) + 1)) is not None:
            known.append(row)
            self._committed(triad_id, len(known), row)

    def _still_holds(self, ledger: Ledger, index: int) -> bool:
        """What was known to be committed is in the log, whether or not that is known now."""
        known = self.committed.get(ledger.state.triad_id, [])
        return 0 < index <= len(known) and ledger.term_at(index) == known[index - 1].term

    def _gave_up_unused_triad(self, run: ServerRun, books: RunBooks) -> bool:
        """A triad under which no client ever had anything may be given up for one that serves (rule 9)."""
        machine, known = run.quorum, self.committed.get(books.triad_id, [])
        used = any(
            not isinstance(decode_command(row.payload), Formed | TermStarted | Rights) for row in known
        )
        self.triad.coverage["unused triad given up"] += 1
        return not (machine.hard.member or machine.hard.triad_id or used)

    def _check_row(self, run: ServerRun, triad_id: bytes, index: int, row: EntryRow) -> None:
        key = (triad_id, index, row.term)
        seen = self.rows.setdefault(key, row)
        if seen != row:
            self.fail("log", f"{run.name} holds another entry {row.term}.{index} than was seen before")
        elif seen is row:
            command = decode_command(row.payload)
            if isinstance(command, TermStarted):
                if command.rank == Rank.TERTIARY:
                    self.fail("I1", f"term {row.term} was started by the tertiary")

    def _committed(self, triad_id: bytes, index: int, row: EntryRow) -> None:
        self.committed_at.setdefault((triad_id, row.term), self.triad.world.now)
        command = decode_command(row.payload)
        if self.on_commit is not None:
            self.on_commit(command)
        if isinstance(command, SeatGranted | LingerResumed):
            self.grants += 1
            key = (triad_id, command.session, command.request)
            handle = self.handles.setdefault(key, command.handle)
            if handle != command.handle:
                self.fail("I5", f"request {command.request} was granted handles {handle} and {command.handle}")

    def check_rounds(self, run: ServerRun, term: int, confirmed: int, rounds: list[tuple[int, float]]) -> None:
        """ReadIndex: a round that is confirmed was asked for before any higher term committed anything."""
        triad_id = run.ledger.state.triad_id
        while rounds and rounds[0][0] <= confirmed:
            _, asked_at = rounds.pop(0)
            self.triad.coverage["round confirmed"] += 1
            for (other_triad, other_term), committed_at in self.committed_at.items():
                if other_triad == triad_id and other_term > term and committed_at < asked_at:
                    self.fail(
                        "rounds",
                        f"{run.name} confirmed in term {term} a round asked at {asked_at:.4f}; "
                        f"term {other_term} had committed at {committed_at:.4f}",
                    )

    def check_replicas(self) -> None:
        """Whoever applied the same prefix has the same state, and it is what the committed log says."""
        for run in self.triad.runs():
            ledger = run.ledger
            known = self.committed.get(ledger.state.triad_id, [])
            if not known or ledger.last.index != ledger.commit or ledger.commit > len(known):
                continue
            reference = Ledger(None, known[: ledger.commit])
            reference.commit_to(ledger.commit)
            if reference.state.fingerprint() != ledger.state.fingerprint():
                self.fail("log", f"{run.name}'s state at {ledger.commit} is not what the committed log says")
