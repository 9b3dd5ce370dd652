"""A borrow record, and a folder with one in it, for tests of the application's half of borrowing."""

from __future__ import annotations

from typing import Any

from flexcore.borrowing import LENT, BorrowRecord
from flexcore.record import replace
from flexcore_host.borrow_files import BorrowFolder, machine_marks

WALL = 1_800_000_000.0
HOUR = 3600.0
LINE = "FEATURE f1 demo 2.0 permanent 5 BORROW=48 SIGN=0"

RECORD = BorrowRecord(
    vendor="demo", feature="f1", version="2.0", count=2, handle=7, user="ann", host="elm", display=":0", started=WALL,
    line=LINE, hostids=("ID=1",), machine=("HOSTNAME=elm", "00163e111111", "INTERNET=10.0.0.7"), borrow=b"b" * 16,
    secret=b"s" * 32, servers=("2837@pat",), borrowed_at=WALL, until=WALL + 2 * HOUR, seen=WALL, state=LENT,
)  # fmt: skip


def put(folder: BorrowFolder, **changes: Any) -> BorrowRecord:
    """Write a record of this machine and this user's into *folder*."""
    record = replace(RECORD, **{"machine": machine_marks(), **changes})
    folder.write(record)
    return record
