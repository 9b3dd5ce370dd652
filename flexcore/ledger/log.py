"""The replicated log and the state that it amounts to.

Entries are applied when they are **appended**, so that decisions see everything that this master
has already decided (protocol.md rule 14), and each keeps its undo until it is **committed**: a tail
that another master overrules is taken back entry by entry. What is committed is never taken back
(rule 5): :meth:`Ledger.truncate` refuses it.

The log's beginning may be gone: *base* is the last entry that only the snapshot holds. Its term is
still known, so that a follower which has exactly that much can be served from the log.

The same log gives the same ledger, whichever way it came: by appends, by truncation and other
appends, by snapshot and the rest (tests/test_ledger_machine.py).
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from flexcore.errors import LocalProtocolError, RemoteProtocolError
from flexcore.identity import NO_LAST, Last
from flexcore.ledger.commands import Command, SessionEnded
from flexcore.ledger.sessions import LedgerCorrupt, Session
from flexcore.ledger.snapshot import Snapshot, decode_state, encode_state
from flexcore.ledger.state import LedgerState, Undo
from flexcore.wire.codec import decode_command
from flexcore.wire.messages import EntryRow

ROW_OVERHEAD_BYTES = 26
"""What a row takes in a message besides its payload."""

_new = tuple.__new__  # half the time of a NamedTuple's own constructor

_FACTS = struct.Struct("<qqqqq")


class Committed(NamedTuple):
    """An entry that is committed now, and what its apply gave: what it freed stands there."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    term: int
    stamp: float
    command: Command
    undo: Undo


class Ledger:
    """Log and state of one server. Indices count from 1; index 0 is before everything."""

    def __init__(self, snapshot: Snapshot | None = None, entries: Iterable[EntryRow] = ()) -> None:
        """Start from what was stored. Entries that were loaded count as uncommitted.

        Raises:
            LedgerCorrupt: they make no sense.
        """
        self.state = LedgerState()
        self.base = NO_LAST
        """The last entry inside the snapshot; NO_LAST: there is none."""
        self.last = NO_LAST
        self.commit = 0
        self._rows: list[EntryRow] = []
        self._undos: deque[Undo] = deque()
        """Of the entries after commit."""
        self._commands: deque[Command] = deque()
        """The same."""
        self.feed: list[Committed] | None = None
        """What was committed since whoever reports took it; None: nobody does. Taken once a turn."""
        if snapshot is not None:
            self._take(snapshot)
        for row in entries:
            self.append(*row)

    @property
    def last_stamp(self) -> float:
        """Stamp of the last entry; the next may not be lower."""
        return self.state.stamp

    # --- reading ----------------------------------------

    def term_at(self, index: int) -> int | None:
        """The term of entry *index*; None if it is not held: below base or beyond the last."""
        at = index - self.base.index
        if at == 0:
            return self.base.term
        return self._rows[at - 1].term if 0 < at <= len(self._rows) else None

    def prev_of(self, index: int) -> Last | None:
        """The entry before *index*; None if its term is not known."""
        term = self.term_at(index - 1)
        return None if term is None else Last(term, index - 1)

    def rows(self, from_index: int, max_bytes: int) -> tuple[EntryRow, ...]:
        """Entries from *from_index* on, as many as fit into *max_bytes* of a message, at least one
        if there is any.

        Raises:
            LocalProtocolError: *from_index* is inside the snapshot (``prev_of`` gives None there).
        """
        start = from_index - self.base.index - 1
        if start < 0:
            raise LocalProtocolError(
                f"entry {from_index} is inside the snapshot, which ends at {self.base.index}"
            )
        rows = self._rows
        end = start
        left = max_bytes
        while end < len(rows):
            left -= ROW_OVERHEAD_BYTES + len(rows[end].payload)
            if left < 0 and end > start:
                break
            end += 1
        return tuple(rows[start:end])

    # --- writing ----------------------------------------

    def append(
        self, term: int, stamp: float, payload: bytes, command: Command | None = None
    ) -> int:
        """Add one entry and apply it; gives its index. *command*: what *payload* holds, where the
        caller has it.

        Raises: LedgerCorrupt: *payload* is no command, the entry makes no sense, or term or stamp
            fall. Nothing was changed.
        """
        last = self.last
        state = self.state
        if term < last.term or not stamp >= state.stamp:
            raise LedgerCorrupt(
                f"entry {last.index + 1} of term {term}, stamp {stamp} comes after {last},"
                f" stamp {state.stamp}"
            )
        if command is None:
            try:
                command = decode_command(payload)
            except RemoteProtocolError as error:
                raise LedgerCorrupt(
                    f"entry {last.index + 1} is damaged or of a newer version: {error}"
                ) from error
        index = last.index + 1
        self._undos.append(state.apply(index, term, stamp, command))
        self._commands.append(command)
        self._rows.append(_new(EntryRow, (term, stamp, payload)))
        self.last = _new(Last, (term, index))
        return index

    def truncate(self, from_index: int) -> None:
        """Take back the entries from *from_index* on.

        Raises:
            LocalProtocolError: one of them is committed (rule 5).
        """
        if from_index <= self.commit:
            raise LocalProtocolError(
                f"entry {from_index} is committed (up to {self.commit}) and cannot be taken back"
            )
        while self.last.index >= from_index:
            self.state.revert(self._undos.pop())
            self._commands.pop()
            self._rows.pop()
            self.last = self._last_of_rows()

    def _last_of_rows(self) -> Last:
        if not self._rows:
            return self.base
        return Last(self._rows[-1].term, self.base.index + len(self._rows))

    def commit_to(self, index: int) -> None:
        """Entries up to *index* are committed. Idempotent; never backwards, never beyond the
        last."""
        index = min(index, self.last.index)
        if index <= self.commit:
            return
        undos, commands, feed = self._undos, self._commands, self.feed
        for at in range(self.commit + 1, index + 1):
            undo, command = undos.popleft(), commands.popleft()
            if feed is not None:
                row = self._rows[at - self.base.index - 1]
                feed.append(_new(Committed, (at, row.term, row.stamp, command, undo)))
        self.commit = index
        self.state.settle(index)
        self.state.forget_ended(self._rows[index - self.base.index - 1].stamp)

    # --- snapshots ----------------------------------------

    def make_snapshot(self) -> Snapshot:
        """Of the committed prefix. The uncommitted tail is taken back for it and applied again."""
        state = self.state
        for undo in reversed(self._undos):
            state.revert(undo)
        term = self.term_at(self.commit)
        assert term is not None
        last = Last(term, self.commit)
        snapshot = Snapshot(last, state.stamp, encode_state(state, last))
        self._undos.clear()
        for at in range(self.commit - self.base.index, len(self._rows)):
            row = self._rows[at]
            self._undos.append(
                state.apply(
                    self.base.index + at + 1, row.term, row.stamp, decode_command(row.payload)
                )
            )
        return snapshot

    def compact(self, up_to: int) -> None:
        """Forget rows up to *up_to*, which a snapshot holds that is durable.

        Raises:
            LocalProtocolError: *up_to* is not committed.
        """
        if up_to > self.commit:
            raise LocalProtocolError(
                f"entry {up_to} is not committed (up to {self.commit}): keep it"
            )
        if up_to <= self.base.index:
            return
        term = self.term_at(up_to)
        assert term is not None
        del self._rows[: up_to - self.base.index]
        self.base = Last(term, up_to)

    def install(self, snapshot: Snapshot, rows: Iterable[EntryRow] = ()) -> None:
        """Replace everything by *snapshot* and *rows* after it, which count as uncommitted
        (recovering, lagging).

        Raises:
            LedgerCorrupt: they make no sense. Nothing was changed.
        """
        feed = self.feed
        self.__dict__.update(Ledger(snapshot, rows).__dict__)
        self.feed = feed

    def _take(self, snapshot: Snapshot) -> None:
        self.state = decode_state(snapshot)
        self.base = self.last = snapshot.last
        self.commit = snapshot.last.index

    # --- for simulation and exploration ----------------------------------------

    def copy(self) -> Ledger:
        """One that shares nothing that changes."""
        twin = Ledger.__new__(Ledger)
        twin.__dict__.update(self.__dict__)
        twin.state = self.state.copy()
        twin._rows = self._rows.copy()
        twin._undos = self._undos.copy()
        twin._commands = self._commands.copy()
        twin.feed = None if self.feed is None else self.feed.copy()
        return twin

    def session_of(self, name: bytes) -> Session | None:
        """A session that is open, or whose end is not committed; None: there is none."""
        session = self.state.sessions.get(name)
        if session is None:
            for command, undo in zip(self._commands, self._undos, strict=True):
                if type(command) is SessionEnded and command.session == name:
                    session = undo[3]
        return session

    def fingerprint(self) -> bytes:
        """A digest of everything that can make a difference later; the same however it came to be.

        Two ledgers with one log, base and commit have one fingerprint. ``state.fingerprint()`` is
        about the log's meaning alone, wherever base and commit stand.
        """
        digest = hashlib.sha256(_FACTS.pack(*self.base, *self.last, self.commit))
        for row in self._rows:
            digest.update(struct.pack("<qdI", row.term, row.stamp, len(row.payload)))
            digest.update(row.payload)
        digest.update(self.state.fingerprint())
        digest.update(repr(self.state.pending()).encode())
        return digest.digest()
