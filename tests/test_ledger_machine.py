"""A ledger against the stupid twin, whatever is done to it in whatever order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flexcore.errors import LocalProtocolError
from flexcore.identity import NO_LAST, Last
from flexcore.ledger import Ledger, Snapshot
from flexcore.wire.codec import encode_command
from flexcore.wire.messages import EntryRow
from tests.budget import examples
from tests.ledger_logs import Entry, Meaning, sensible_command


def row_of(entry: Entry) -> EntryRow:
    return EntryRow(entry.term, entry.stamp, encode_command(entry.command))


class LedgerMachine(RuleBasedStateMachine):
    """The model is the whole log as a list, where commit stands, and where the snapshot ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.log: list[Entry] = []
        self.commit = 0
        self.base = 0
        self.snapshots: list[tuple[Snapshot, list[Entry]]] = []

    def last(self, index: int) -> Last:
        return Last(self.log[index - 1].term, index) if index else NO_LAST

    @rule(
        data=st.data(),
        count=st.integers(1, 6),
        term=st.integers(0, 1),
        later=st.sampled_from([0.0, 0.5, 9.0]),
    )
    def append(self, data: Any, count: int, term: int, later: float) -> None:
        for _ in range(count):
            command = sensible_command(
                self.ledger.state, lambda below: int(data.draw(st.integers(0, below - 1)))
            )
            last = self.log[-1] if self.log else Entry(1, 0.0, command)
            entry = Entry(last.term + term, last.stamp + later, command)
            known = command if data.draw(st.booleans()) else None
            self.log.append(entry)
            assert self.ledger.append(*row_of(entry), known) == len(self.log)
            term, later = 0, 0.0

    @precondition(lambda self: self.commit < len(self.log))
    @rule(data=st.data())
    def truncate(self, data: Any) -> None:
        start = data.draw(st.integers(self.commit + 1, len(self.log) + 1))
        self.ledger.truncate(start)
        del self.log[start - 1 :]

    @rule(data=st.data(), beyond=st.integers(-2, 3))
    def commit_to(self, data: Any, beyond: int) -> None:
        index = data.draw(st.integers(0, len(self.log))) + beyond
        self.ledger.commit_to(index)
        self.commit = max(self.commit, min(index, len(self.log)))

    @rule()
    def make_snapshot(self) -> None:
        before = self.ledger.fingerprint()
        snapshot = self.ledger.make_snapshot()
        assert self.ledger.fingerprint() == before
        assert snapshot.last == self.last(self.commit)
        assert Ledger(snapshot).make_snapshot() == snapshot
        self.snapshots.append((snapshot, list(self.log)))

    @precondition(lambda self: self.base < self.commit)
    @rule(data=st.data())
    def compact(self, data: Any) -> None:
        self.base = data.draw(st.integers(self.base, self.commit))
        self.ledger.compact(self.base)

    @precondition(lambda self: bool(self.snapshots))
    @rule(data=st.data())
    def install(self, data: Any) -> None:
        snapshot, log = data.draw(st.sampled_from(self.snapshots))
        end = data.draw(st.integers(snapshot.last.index, len(log)))
        self.log = log[:end]
        self.commit = self.base = snapshot.last.index
        self.ledger.install(snapshot, map(row_of, self.log[self.base :]))

    @rule(data=st.data())
    def a_copy_is_another(self, data: Any) -> None:
        """Whatever happens to a copy, the original is as it was."""
        before = self.ledger.fingerprint()
        twin = self.ledger.copy()
        assert twin.fingerprint() == before
        twin.truncate(twin.commit + 1)
        for _ in range(4):
            command = sensible_command(
                twin.state, lambda below: int(data.draw(st.integers(0, below - 1)))
            )
            twin.append(twin.last.term, twin.last_stamp, encode_command(command))
        twin.commit_to(twin.last.index)
        assert self.ledger.fingerprint() == before
        original = self.ledger.copy()
        self.ledger.truncate(self.commit + 1)
        self.ledger = original
        assert self.ledger.fingerprint() == before

    @invariant()
    def says_what_the_log_means(self) -> None:
        ledger = self.ledger
        assert (ledger.commit, ledger.last) == (self.commit, self.last(len(self.log)))
        assert ledger.base == self.last(self.base)
        assert ledger.last_stamp == (self.log[-1].stamp if self.log else 0.0)
        Meaning(self.log, self.commit).check(ledger.state)

    @invariant()
    def equals_a_replica(self) -> None:
        """One that got the same log, and nothing else."""
        replica = Ledger(None, map(row_of, self.log))
        replica.commit_to(self.commit)
        replica.compact(self.base)
        assert replica.fingerprint() == self.ledger.fingerprint()

    @invariant()
    def gives_out_its_rows(self) -> None:
        ledger = self.ledger
        for index in range(-1, len(self.log) + 3):
            known = self.base <= index <= len(self.log) and index >= 0
            assert ledger.term_at(index) == (self.last(index).term if known else None)
            assert ledger.prev_of(index + 1) == (self.last(index) if known else None)
        expected = tuple(map(row_of, self.log[self.base :]))
        assert ledger.rows(self.base + 1, 1 << 30) == expected
        assert ledger.rows(self.base + 1, 0) == expected[:1]
        assert ledger.rows(len(self.log) + 1, 1 << 30) == ()
        with pytest.raises(LocalProtocolError):
            ledger.rows(self.base, 1)

    @invariant()
    def keeps_what_is_committed(self) -> None:
        with pytest.raises(LocalProtocolError):
            self.ledger.truncate(self.commit)
        with pytest.raises(LocalProtocolError):
            self.ledger.compact(self.commit + 1)


LedgerMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
TestLedger = LedgerMachine.TestCase
