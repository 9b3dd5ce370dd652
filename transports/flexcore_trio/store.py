"""Where a server's state survives: one SQLite file, or memory.

A store is driven by one thread at a time: :meth:`SqliteStore.load` once, then :meth:`write` for
each ``Persist`` of the machine. When ``write`` has returned, the batch is durable (WAL with
``synchronous=FULL``; design.md section 8). After a write has failed the store refuses all others:
what reached the disk is not known, and a failed write is never tried again (protocol.md rule 20).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Protocol

from flexcore.errors import StateDamaged, StateError
from flexcore.identity import Last
from flexcore.ledger import Snapshot
from flexcore.quorum import PersistBatch, StoredState
from flexcore.wire.messages import EntryRow

__all__ = ["MemoryStore", "SqliteStore", "Store"]

SCHEMA_VERSION = 2
APPLICATION_ID = 0x466C7863  # "Flxc", in the file's header

_SCHEMA = """
CREATE TABLE hard (id INTEGER PRIMARY KEY CHECK (id = 0), value BLOB NOT NULL);
CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY CHECK (id = 0), term INTEGER NOT NULL, idx INTEGER NOT NULL,
    stamp REAL NOT NULL, state BLOB NOT NULL
);
CREATE TABLE log (
    idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, stamp REAL NOT NULL, payload BLOB NOT NULL
);
"""


class Store(Protocol):
    """What the server loop asks of a store."""

    @property
    def blocking(self) -> bool:
        """True if ``write`` may take time: it is then called off the loop's thread."""

    @property
    def keeps(self) -> bool:
        """False where nothing outlives the process: ``write`` need not be called then."""

    @property
    def place(self) -> str:
        """Where the state is, for messages."""

    def load(self) -> StoredState | None:
        """Return what was stored, None where nothing was. Raises StateError."""

    def write(self, batch: PersistBatch) -> None:
        """Make ``batch`` durable. Raises StateError; nothing of the batch counts then."""

    def close(self) -> None:
        """Give the file back."""


class MemoryStore:
    """``--state-dir none``: nothing survives the process; the triad's other two remember."""

    blocking = False
    keeps = False
    place = "memory"

    def load(self) -> StoredState | None:
        """Return None: a server without a disk starts blank and recovers from its peers."""
        return None

    def write(self, batch: PersistBatch) -> None:
        """Forget the batch."""

    def close(self) -> None:
        """Do nothing."""


class SqliteStore:
    """State in one SQLite file.

    Opening raises StateDamaged when the file is torn, of a newer version or not flexcore's, and
    StateError when it cannot be opened; both name the file and what to do. *owner* names the SERVER
    line that it belongs to: it is written into the file, and a file of another one's is refused as
    damaged. A server that took another's promises and votes for its own could vote twice in a term.
    """

    blocking = True
    keeps = True

    @property
    def place(self) -> str:
        """The file."""
        return self.path

    def __init__(self, path: str, *, owner: str = "") -> None:
        self.path = path
        self._failed = ""
        _check_owner(path)
        try:
            # Autocommit: transactions are begun by hand. One thread at a time, not always the same.
            self._connection = sqlite3.connect(
                path, timeout=0.0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            self._prepare()
            if owner:
                self._check_owner_line(owner)
        except sqlite3.Error as error:
            self._connection.close()
            raise self._unusable(error) from error
        except BaseException:
            self._connection.close()
            raise
        with contextlib.suppress(OSError):
            os.chmod(path, 0o600)

    def load(self) -> StoredState | None:
        """Read everything back, checked. Raises StateDamaged."""
        run = self._connection.execute
        try:
            verdict = run("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise self._damaged(str(verdict))
            hard = run("SELECT value FROM hard").fetchone()
            kept = run("SELECT term, idx, stamp, state FROM snapshot").fetchone()
            rows = run("SELECT idx, term, stamp, payload FROM log ORDER BY idx").fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if hard is None:
            if kept is not None or rows:
                raise self._damaged("a log without a head")
            return None
        snapshot = None if kept is None else Snapshot(Last(kept[0], kept[1]), kept[2], kept[3])
        self._check_log(snapshot, rows)
        return StoredState(
            hard=hard[0],
            snapshot=snapshot,
            entries=tuple(EntryRow(term, stamp, payload) for _, term, stamp, payload in rows),
        )

    def write(self, batch: PersistBatch) -> None:
        """Write the batch in one transaction, durable on return. Raises StateError."""
        if self._failed:
            raise StateError(self._failed)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._write(batch)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            self._failed = (
                f"the state file {self.path} cannot be written: {error};"
                " see to the disk, then start the server again"
            )
            raise StateError(self._failed) from error

    def close(self) -> None:
        """Close the file. Twice is harmless."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _prepare(self) -> None:
        run = self._connection.execute
        # One process has the file (the folder's lock says so too), and no shared memory is needed.
        run("PRAGMA locking_mode = EXCLUSIVE")
        application = run("PRAGMA application_id").fetchone()[0]
        version = run("PRAGMA user_version").fetchone()[0]
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise StateDamaged(
                f"{self.path} is a database, but not a state file of flexcore;"
                " name another folder with --state-dir"
            )
        if tables and version != SCHEMA_VERSION:
            raise StateDamaged(
                f"the state file {self.path} has format {version}, this flexcore reads"
                f" {SCHEMA_VERSION}: start the version that wrote it, or delete the folder"
                f" {os.path.dirname(self.path)} and let the server recover from its peers"
            )
        run("PRAGMA journal_mode = WAL").fetchone()
        run("PRAGMA synchronous = FULL")
        if not tables:
            run("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                run(statement)
            run(f"PRAGMA application_id = {APPLICATION_ID}")
            run(f"PRAGMA user_version = {SCHEMA_VERSION}")
            run("COMMIT")

    def _check_owner_line(self, owner: str) -> None:
        """Files of before this table have no owner yet, and get this one."""
        run = self._connection.execute
        run("CREATE TABLE IF NOT EXISTS owner (id INTEGER PRIMARY KEY CHECK (id = 0), name TEXT NOT NULL)")
        run("INSERT OR IGNORE INTO owner VALUES (0, ?)", (owner,))
        found = str(run("SELECT name FROM owner").fetchone()[0])
        if found != owner:
            raise self._damaged(f"it is that of {found}, this server is {owner}")

    def _write(self, batch: PersistBatch) -> None:
        run = self._connection.execute
        if batch.replace_log:
            run("DELETE FROM log")
            run("DELETE FROM snapshot")
        if batch.truncate_from is not None:
            run("DELETE FROM log WHERE idx >= ?", (batch.truncate_from,))
        if batch.snapshot is not None:
            last = batch.snapshot.last
            run(
                "REPLACE INTO snapshot VALUES (0, ?, ?, ?, ?)",
                (last.term, last.index, batch.snapshot.stamp, batch.snapshot.state),
            )
            run("DELETE FROM log WHERE idx <= ?", (last.index,))
        if batch.entries:
            self._connection.executemany(
                "INSERT INTO log VALUES (?, ?, ?, ?)",
                ((index, row.term, row.stamp, row.payload) for index, row in batch.entries),
            )
        if batch.hard is not None:
            run("REPLACE INTO hard VALUES (0, ?)", (batch.hard,))

    def _check_log(
        self, snapshot: Snapshot | None, rows: list[tuple[int, int, float, bytes]]
    ) -> None:
        """Rows follow the snapshot without a gap, terms never fall: else pages were lost."""
        index, term = (0, 0) if snapshot is None else (snapshot.last.index, snapshot.last.term)
        for row in rows:
            if row[0] != index + 1 or row[1] < term:
                raise self._damaged(f"entry {row[0]} of term {row[1]} follows {index} of {term}")
            index, term = row[0], row[1]

    def _unusable(self, error: sqlite3.Error) -> StateError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return self._damaged(str(error))
        return StateError(
            f"the state file {self.path} cannot be used: {error};"
            " see to the disk and the folder's rights, or name another with --state-dir"
        )

    def _damaged(self, how: str) -> StateDamaged:
        return StateDamaged(
            f"the state file {self.path} is damaged ({how}): delete the folder"
            f" {os.path.dirname(self.path)} and start the server again; it recovers from its peers"
        )


def _check_owner(path: str) -> None:
    if not hasattr(os, "geteuid"):
        return
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return  # not there yet; opening will tell what else is wrong
    if owner != os.geteuid():
        raise StateError(
            f"the state file {path} belongs to uid {owner}, this process is uid {os.geteuid()}:"
            " start the server as its owner"
        )


def _conforms(store: SqliteStore | MemoryStore) -> Store:
    """Let the type checker compare both with the protocol."""
    return store
