"""What was sent, what arrived, what happened: the last of it is printed as a sequence chart when a check fails."""

from __future__ import annotations

from collections import deque
from typing import Any

from flexcore.wire.messages import PeerFrame

JOURNAL_LINES = 4000
"""How many happenings a journal keeps."""


class Journal:
    """A bounded list of happenings; formatting waits until somebody wants to read it."""

    def __init__(self, limit: int = JOURNAL_LINES) -> None:
        self._rows: deque[tuple[float, str, str, str, Any]] = deque(maxlen=limit)

    def arrived(self, at: float, source: str, target: str, message: Any) -> None:
        """A message was handed to *target*."""
        self._rows.append((at, "->", source, target, message))

    def lost(self, at: float, source: str, target: str, message: Any) -> None:
        """A message will never arrive."""
        self._rows.append((at, "-x", source, target, message))

    def note(self, at: float, who: str, text: str) -> None:
        """Something happened at *who*."""
        self._rows.append((at, "..", who, "", text))

    def lines(self, last: int | None = None) -> list[str]:
        """The newest *last* happenings, oldest first."""
        rows = list(self._rows)
        if last is not None:
            rows = rows[-last:]
        return [_line(row) for row in rows]


def _line(row: tuple[float, str, str, str, Any]) -> str:
    at, kind, source, target, what = row
    if kind == "..":
        return f"{at:12.4f}  {source:>5} {what}"
    return f"{at:12.4f}  {source:>5} {kind} {target:<5} {describe(what)}"


def describe(message: Any) -> str:
    """One line for a message: the name and its fields, bytes shortened."""
    if isinstance(message, PeerFrame):
        body = message.body
        boots = f"{message.sender.boot.counter}>{message.target.boot.counter}"
        triad = message.triad_id.hex()[:4] or "-"
        return f"t{message.term} b{boots} {triad} {_fields(body)}"
    return _fields(message)


def _fields(body: Any) -> str:
    names: tuple[str, ...] = getattr(body, "_fields", ())
    if not names:
        return _short(body)
    shown = [f"{name}={_short(getattr(body, name))}" for name in names if _worth(getattr(body, name))]
    text = f"{type(body).__name__}({', '.join(shown)})"
    return text if len(text) <= 260 else text[:257] + "..."


def _worth(value: Any) -> bool:
    return value is not None and value != b"" and value != () and value != ""


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()[:6]
    if isinstance(value, float):
        return f"{value:.3f}"
    names: tuple[str, ...] = getattr(value, "_fields", ())
    if names == ("term", "index"):
        return f"{value.term}.{value.index}"
    if names:
        return f"{type(value).__name__}({','.join(_short(item) for item in value)})"
    if isinstance(value, tuple):
        if len(value) > 4:
            return f"[{len(value)} items]"
        return "[" + ",".join(_short(item) for item in value) + "]"
    return str(value)
