"""The strings on which a hurt server hangs: a small file that both processes have mapped.

What is written takes effect at once, in the middle of a write or while the server is stopped.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

__all__ = ["Control"]

_FIELDS = ("wall_offset_s", "now_offset_s", "disk_delay_s", "disk_fails")
_NUMBER = struct.Struct("<d")


class Control:
    """Four numbers, shared with one server through the file *path*, which is made where missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = _NUMBER.size * len(_FIELDS)
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), size)

    def _get(self, name: str) -> float:
        value: float = _NUMBER.unpack_from(self._shared, _NUMBER.size * _FIELDS.index(name))[0]
        return value

    def _set(self, name: str, value: float) -> None:
        _NUMBER.pack_into(self._shared, _NUMBER.size * _FIELDS.index(name), value)

    @property
    def wall_offset_s(self) -> float:
        """How far the server's calendar clock is ahead of this machine's."""
        return self._get("wall_offset_s")

    @wall_offset_s.setter
    def wall_offset_s(self, value: float) -> None:
        self._set("wall_offset_s", value)

    @property
    def now_offset_s(self) -> float:
        """How far its monotonic clock is ahead; lowered only while the server is stopped."""
        return self._get("now_offset_s")

    @now_offset_s.setter
    def now_offset_s(self, value: float) -> None:
        self._set("now_offset_s", value)

    @property
    def disk_delay_s(self) -> float:
        """How long a write to its disk takes at least."""
        return self._get("disk_delay_s")

    @disk_delay_s.setter
    def disk_delay_s(self, value: float) -> None:
        self._set("disk_delay_s", value)

    @property
    def disk_fails(self) -> bool:
        """Whether the next write fails."""
        return self._get("disk_fails") != 0.0

    @disk_fails.setter
    def disk_fails(self, value: bool) -> None:
        self._set("disk_fails", float(value))

    def heal(self) -> None:
        """A disk as it should be; the clocks stay where they are."""
        self.disk_delay_s = 0.0
        self.disk_fails = False
