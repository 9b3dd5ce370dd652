"""The mutable parts of the client machine can be copied and compared, so that simulation and
exhaustive exploration run the real code.

Instants are recognised by their names (``*_at``, ``*_until``): a fingerprint holds them relative to
*now*, so that two states that differ only in when they happened are equal.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar, Self


class State:
    """Base of everything that changes. All fields are slots, named in the class that has them."""

    __slots__ = ()

    NUMBERING: ClassVar[frozenset[str]] = frozenset()
    """Fields that only number things (counters, ids): left out of a fingerprint."""

    NUMBERED: ClassVar[frozenset[str]] = frozenset()
    """Dictionaries whose keys only number things: a fingerprint has their values, in order."""

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Names of all slots, base classes first."""
        return tuple(
            name
            for base in reversed(cls.__mro__)
            for name in base.__dict__.get("__slots__", ())
        )

    def copy(self) -> Self:
        """Return an independent machine in the same state."""
        twin = object.__new__(type(self))
        for name in self.fields():
            setattr(twin, name, _copied(getattr(self, name)))
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what two machines that behave the same from *now* on have in common."""
        return tuple(
            _printed(getattr(self, name), now, is_instant(name), name in self.NUMBERED)
            for name in self.fields()
            if name not in self.NUMBERING
        )


def is_instant(name: str) -> bool:
    """Whether a field of this name holds an instant of the monotonic clock."""
    return name.endswith(("_at", "_until"))


def _copied(value: Any) -> Any:
    if isinstance(value, State):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value  # everything else is immutable


def _printed(value: Any, now: float, instant: bool, numbered: bool = False) -> Hashable:
    if isinstance(value, State):
        return value.fingerprint(now)
    if isinstance(value, dict):
        if numbered:
            return tuple(_printed(item, now, instant) for item in value.values())
        return tuple((key, _printed(item, now, instant)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(_printed(item, now, instant) for item in value)
    if isinstance(value, float):
        return round(value - now if instant else value, 6)
    assert isinstance(value, Hashable), value
    return value
