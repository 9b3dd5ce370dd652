"""What a client of a chaos run writes down, by itself, as it happens: one JSON object a line.

Every line has ``at`` (seconds of the clock that all processes of the machine share) and ``what``:

=============  ====================================  ========================================================
what           further fields                        meaning
=============  ====================================  ========================================================
``ask``        ``op feature count``                  before a checkout
``granted``    ``op feature handle count started``   it has the seat
``denied``     ``op feature code``                   the answer is no
``silent``     ``op feature why``                    no answer within its patience
``held``       ``handle``                            it looked, and believed in the seat
``return``     ``handle``                            before the checkin
``returned``   ``handle``                            after it
``lost``       ``handle why``                        the seat is lost
``quiet``      ``number held``                       it does nothing now, and holds these: [feature, handle,
                                                     count, started]
``end``                                              it is done, everything was given back
=============  ====================================  ========================================================
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flexcore_host import clock

__all__ = ["Book", "read_book"]


class Book:
    """Appends lines to a file, each at once and whole. Usable from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def write(self, what: str, **fields: Any) -> None:
        """Write down what happens now."""
        with self._lock:
            row = {"at": clock.now(), "what": what, **fields}
            self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")


def read_book(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a book; a last line that its writer did not finish is left out."""
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        row: dict[str, Any] = json.loads(line)
        yield row
