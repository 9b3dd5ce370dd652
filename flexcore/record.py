"""Frozen records for what commands and clients load: as attrs makes them, without loading attrs.

``flexcore lmstat`` and ``flexcore run`` are started thousands of times a day, and a product loads the
blocking client at its own start. Loading attrs takes as long there as Python itself, and each of its
classes half a millisecond more (``benchmarks/starts.py``); servers have both loaded anyway, and use attrs.

>>> class Point(Record):
...     x: int
...     y: int = 0
>>> Point(3), Point(3) == Point(3, 0), replace(Point(3), y=4)
(Point(x=3, y=0), True, Point(x=3, y=4))
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar, dataclass_transform

from .override import override

__all__ = ["Record", "replace"]

R = TypeVar("R", bound="Record")


@dataclass_transform(frozen_default=True)
class Record:
    """The annotations of a subclass are its fields, in order; values in its body are their defaults.

    ``kw_only=True`` in the class line wants them by name; ``secret=("name",)`` keeps a field out of ``repr``.
    Two records are equal if they are of one class and their fields are. A subclass checks its fields in
    ``_check``, which runs at the end of ``__init__``. A record is never the base of another one.
    """

    record_fields: ClassVar[tuple[str, ...]] = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()
    _kw_only: ClassVar[bool] = False
    _secret: ClassVar[tuple[str, ...]] = ()
    _needed: ClassVar[frozenset[str]] = frozenset()

    @override
    def __init_subclass__(cls, *, kw_only: bool = False, secret: tuple[str, ...] = ()) -> None:
        assert cls.__base__ is Record, "records have no fields of others"
        fields = tuple(cls.__annotations__)
        cls.record_fields = cls.__match_args__ = fields  # type: ignore[misc]  # each class its own
        cls._kw_only, cls._secret = kw_only, secret
        cls._needed = frozenset(name for name in fields if name not in cls.__dict__)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args:
            kwargs = self._by_name(args, kwargs)
        if not kwargs.keys() >= self._needed:
            missing = ", ".join(sorted(self._needed - kwargs.keys()))
            raise TypeError(f"{type(self).__name__}() is missing {missing}")
        for name in kwargs:
            if name not in self.record_fields:
                raise TypeError(f"{type(self).__name__}() has no field {name}")
        self.__dict__.update(kwargs)  # what has a default is found in the class
        self._check()

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        fields = self.record_fields
        most = 0 if self._kw_only else len(fields)
        if len(args) > most:
            raise TypeError(f"{type(self).__name__}() takes {most} values without a name, not {len(args)}")
        named = dict(zip(fields, args, strict=False))
        if twice := named.keys() & kwargs.keys():
            raise TypeError(f"{type(self).__name__}() has two values for {', '.join(sorted(twice))}")
        return named | kwargs

    def _check(self) -> None:
        """Raise where the fields make no sense."""

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.record_fields])

    @override
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    @override
    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    @override
    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    @override
    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    @override
    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.record_fields if name not in self._secret]
        return f"{type(self).__name__}({', '.join(shown)})"


def replace(record: R, **changes: Any) -> R:
    """Return *record* with other values for some fields.

    Raises:
        TypeError: it has no such field.
    """
    return type(record)(**{name: getattr(record, name) for name in record.record_fields} | changes)
