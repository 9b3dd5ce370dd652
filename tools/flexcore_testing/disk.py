"""A disk: what was acknowledged survives a crash, what was not may or may not, and a disk can be lost."""

from __future__ import annotations

from flexcore.identity import NO_LAST, Last
from flexcore.ledger import Snapshot
from flexcore.quorum import PersistBatch, StoredState
from flexcore.wire.messages import EntryRow


class Disk:
    """Holds what one server stored: the hard state, one snapshot and a contiguous run of log rows."""

    def __init__(self) -> None:
        self.hard: bytes | None = None
        self.snapshot: Snapshot | None = None
        self.first = 1
        """Index of ``rows[0]``."""
        self.rows: list[EntryRow] = []

    @property
    def blank(self) -> bool:
        """Nothing was ever stored, or it was lost."""
        return self.hard is None

    @property
    def last(self) -> Last:
        """The last entry that is stored."""
        if self.rows:
            return Last(self.rows[-1].term, self.first + len(self.rows) - 1)
        return NO_LAST if self.snapshot is None else self.snapshot.last

    def copy(self) -> Disk:
        """What somebody who copies the state folder has."""
        twin = Disk()
        twin.hard, twin.snapshot, twin.first = self.hard, self.snapshot, self.first
        twin.rows = list(self.rows)
        return twin

    def tear(self, draw: float) -> str:
        """Cut something that is stored in the middle, and say what; *draw*: a number from 0 to 1 that decides."""
        parts = ["hard state"]
        if self.snapshot is not None:
            parts.append("snapshot")
        if self.rows:
            parts.append("row")
        what = parts[int(draw * 3 * len(parts)) % len(parts)]
        if what == "snapshot":
            assert self.snapshot is not None
            last, stamp, state = self.snapshot.last, self.snapshot.stamp, self.snapshot.state
            self.snapshot = Snapshot(last, stamp, _cut(state, draw))
        elif what == "row":
            at = int(draw * len(self.rows))
            self.rows[at] = self.rows[at]._replace(payload=_cut(self.rows[at].payload, draw))
        else:
            assert self.hard is not None
            self.hard = _cut(self.hard, draw)
        return what

    def load(self) -> StoredState | None:
        """What a server that starts finds."""
        if self.hard is None:
            return None
        return StoredState(hard=self.hard, snapshot=self.snapshot, entries=tuple(self.rows))

    def lose(self) -> None:
        """The disk is replaced by an empty one."""
        self.hard = None
        self.snapshot = None
        self.first = 1
        self.rows = []

    def write(self, batch: PersistBatch) -> None:
        """One transaction, whole or not at all."""
        if batch.hard is not None:
            self.hard = batch.hard
        if batch.replace_log:
            self.rows = []
            self.first = 1
            if batch.snapshot is None:
                self.snapshot = None
        if batch.truncate_from is not None:
            self._truncate(batch.truncate_from)
        if batch.snapshot is not None:
            self.snapshot = batch.snapshot
            self._drop_through(batch.snapshot.last.index)
        if batch.entries:
            self._append(batch.entries)

    def _truncate(self, from_index: int) -> None:
        keep = max(0, from_index - self.first)
        del self.rows[keep:]

    def _drop_through(self, index: int) -> None:
        drop = max(0, index + 1 - self.first)
        del self.rows[:drop]
        self.first = max(self.first, index + 1)

    def _append(self, entries: tuple[tuple[int, EntryRow], ...]) -> None:
        if not self.rows and self.snapshot is None:
            self.first = entries[0][0]
        for index, row in entries:
            place = index - self.first
            if place != len(self.rows):
                raise AssertionError(f"a hole in the stored log: row {index} after {self.first + len(self.rows) - 1}")
            self.rows.append(row)


def _cut(data: bytes, draw: float) -> bytes:
    return data[: max(1, int(draw * (len(data) - 1)))]
