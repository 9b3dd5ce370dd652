"""The state file: what was written is read back, and whatever is wrong with it is told."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from flexcore.errors import StateDamaged, StateError
from flexcore.identity import Last
from flexcore.ledger import Snapshot
from flexcore.quorum import PersistBatch, StoredState
from flexcore.wire.messages import EntryRow
from flexcore_trio.store import MemoryStore, SqliteStore


def batch(*, hard=None, truncate_from=None, entries=(), snapshot=None, replace_log=False):
    return PersistBatch(
        hard=hard, truncate_from=truncate_from, entries=tuple(entries), snapshot=snapshot,
        replace_log=replace_log,
    )  # fmt: skip


def row(number, term=1):
    return EntryRow(term, 1000.0 + number, b"entry %d" % number)


def numbered(first, last, term=1):
    return tuple((index, row(index, term)) for index in range(first, last + 1))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state.sqlite")


def reread(path):
    store = SqliteStore(path)
    try:
        return store.load()
    finally:
        store.close()


def write(path, *batches):
    store = SqliteStore(path)
    for each in batches:
        store.write(each)
    store.close()


def test_a_new_file_holds_nothing_and_is_private(path):
    assert reread(path) is None
    assert os.stat(path).st_mode & 0o077 == 0


def test_what_was_written_is_read_back(path):
    write(path, batch(hard=b"\x00one"), batch(entries=numbered(1, 3)), batch(hard=b"two"))
    assert reread(path) == StoredState(
        hard=b"two", snapshot=None, entries=(row(1), row(2), row(3))
    )


def test_truncation_and_new_entries_are_one_batch(path):
    write(
        path,
        batch(hard=b"h", entries=numbered(1, 4)),
        batch(truncate_from=3, entries=numbered(3, 3, term=2)),
    )
    assert reread(path).entries == (row(1), row(2), row(3, term=2))


def test_a_snapshot_replaces_the_rows_that_it_covers(path):
    snapshot = Snapshot(Last(1, 2), 1002.0, b"state")
    write(path, batch(hard=b"h", entries=numbered(1, 4)), batch(snapshot=snapshot))
    assert reread(path) == StoredState(hard=b"h", snapshot=snapshot, entries=(row(3), row(4)))
    later = Snapshot(Last(3, 9), 1009.0, b"later")
    write(path, batch(snapshot=later, replace_log=True, entries=numbered(10, 11, term=3)))
    assert reread(path) == StoredState(
        hard=b"h", snapshot=later, entries=(row(10, term=3), row(11, term=3))
    )


def test_replacing_the_log_forgets_the_snapshot_as_well(path):
    snapshot = Snapshot(Last(1, 2), 1002.0, b"state")
    write(path, batch(hard=b"h", entries=numbered(1, 4)), batch(snapshot=snapshot))
    write(path, batch(replace_log=True, entries=numbered(1, 2, term=5)))
    assert reread(path) == StoredState(
        hard=b"h", snapshot=None, entries=(row(1, term=5), row(2, term=5))
    )


def test_a_process_killed_after_write_returned_has_lost_nothing(path):
    code = f"""
import os, signal
from flexcore_trio.store import SqliteStore
from flexcore.quorum import PersistBatch
from flexcore.wire.messages import EntryRow
s = SqliteStore({path!r})
for i in range(1, 51):
    s.write(PersistBatch(hard=b"h%d" % i, truncate_from=None, snapshot=None, replace_log=False,
                         entries=((i, EntryRow(1, float(i), b"x")),)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    stored = reread(path)
    assert stored.hard == b"h50"
    assert len(stored.entries) == 50


def test_two_openings_at_once_are_refused(path):
    first = SqliteStore(path)
    first.write(batch(hard=b"h"))
    with pytest.raises(StateError, match="locked"):
        SqliteStore(path)
    first.close()
    assert reread(path).hard == b"h"


def test_a_file_that_is_no_database_is_told_with_what_to_do(path):
    with open(path, "wb") as file:
        file.write(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StateDamaged, match=rf"{path} is damaged .*delete the folder {path[:-13]}"):
        SqliteStore(path)


def test_a_torn_file_is_told(path):
    write(path, batch(hard=b"h", entries=[(i, EntryRow(1, 1.0, b"x" * 500)) for i in range(1, 90)]))
    size = os.path.getsize(path)
    os.truncate(path, size // 2)
    with pytest.raises(StateDamaged, match="is damaged"):
        reread(path)


def test_overwritten_pages_are_told(path):
    write(path, batch(hard=b"h", entries=[(i, EntryRow(1, 1.0, b"x" * 500)) for i in range(1, 90)]))
    with open(path, "r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 4))
    with pytest.raises(StateDamaged, match="is damaged"):
        reread(path)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM log WHERE idx = 2", "UPDATE log SET term = 9 WHERE idx = 1", "DELETE FROM hard",
    ],
)  # fmt: skip
def test_a_log_with_a_hole_is_told(path, statement):
    write(path, batch(hard=b"h", entries=numbered(1, 3)))
    other = sqlite3.connect(path)
    other.execute(statement)
    other.commit()
    other.close()
    with pytest.raises(StateDamaged, match="is damaged"):
        reread(path)


@pytest.mark.parametrize("version", [1, 3])
def test_another_format_is_refused(path, version):
    write(path, batch(hard=b"h"))
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {version}")
    other.close()
    with pytest.raises(StateDamaged, match=rf"has format {version}, this flexcore reads 2: start the version"):
        SqliteStore(path)


def test_a_foreign_database_is_left_alone(path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (id INTEGER)")
    other.commit()
    other.close()
    with pytest.raises(StateDamaged, match="not a state file of flexcore"):
        SqliteStore(path)


def test_another_owners_file_is_refused(path, monkeypatch):
    write(path, batch(hard=b"h"))
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(StateError, match="belongs to uid"):
        SqliteStore(path)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StateError, match="cannot be used"):
        SqliteStore(str(tmp_path / "nowhere" / "state.sqlite"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_fails_the_write_and_every_later_one(path):
    code = f"""
import resource, signal
from flexcore.errors import StateError
from flexcore.quorum import PersistBatch
from flexcore.wire.messages import EntryRow
from flexcore_trio.store import SqliteStore
def batch(i, data):
    return PersistBatch(hard=b"h%d" % i, truncate_from=None, snapshot=None, replace_log=False,
                        entries=((i, EntryRow(1, float(i), data)),))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
s = SqliteStore({path!r})
s.write(batch(1, b"x"))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    s.write(batch(2, b"x" * 400_000))
except StateError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    s.write(batch(2, b"y"))
except StateError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    assert f"the state file {path} cannot be written" in first
    assert "see to the disk" in first
    assert second == first
    assert reread(path) == StoredState(
        hard=b"h1", snapshot=None, entries=(EntryRow(1, 1.0, b"x"),)
    )


def test_memory_keeps_nothing():
    store = MemoryStore()
    store.write(batch(hard=b"h"))
    assert store.load() is None
    store.close()
    assert not store.blocking


def test_the_state_file_of_another_server_is_refused(path):
    """Its votes and promises are another's. The primary took a copy of the tertiary's file for its own."""
    SqliteStore(path).close()  # of before owners were written down
    SqliteStore(path, owner="demo tertiary").close()
    with pytest.raises(StateDamaged, match=r"that of demo tertiary, this server is demo primary.*delete the folder"):
        SqliteStore(path, owner="demo primary")
    SqliteStore(path, owner="demo tertiary").close()
