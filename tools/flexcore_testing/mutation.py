"""What a deliberate mistake is: one rule of protocol.md taken out of the real machines while a context lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from flexcore_testing.profile import WITHIN

Change = tuple[Any, str, Any]
"""Owner, attribute, replacement."""

SEEDS_MAX = 150


@attrs.frozen(kw_only=True)
class Mutation:
    """One rule taken out. *caught_by*: names of the checks that may catch it."""

    name: str
    rule: str
    text: str
    changes: tuple[Change, ...]
    caught_by: frozenset[str]
    level: str = "quorum"
    campaign: str = WITHIN
    focus: Mapping[str, Any] = attrs.field(factory=dict)
    seeds_max: int = SEEDS_MAX
    schedule: str = ""
    """A scripted schedule of :mod:`flexcore_testing.schedules`, or a story of :mod:`flexcore_testing.stories`, that
    shows it; else seeds do."""
    costly: bool = False
    """Takes too long for every test run: ``make mutants`` hunts it."""

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The machines without the rule, while the context lasts."""
        kept = [(owner, name, owner.__dict__.get(name)) for owner, name, _ in self.changes]
        for owner, name, replacement in self.changes:
            assert hasattr(owner, name), f"{owner.__name__} has no {name}: the mutation {self.name} is out of date"
            setattr(owner, name, replacement)
        try:
            yield
        finally:
            for owner, name, original in kept:
                if original is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)


STORMS = {"kill": 2.0, "isolate": 2.0, "cut": 2.0, "pause": 1.0, "reset": 1.0, "power": 1.0, "kill all": 0.3}
QUICK = {"interval_s": 1, "first_start": True, "faults_per_timeout": 1.0, "primary_is_master": False}
"""What bends the drawn profiles towards short seeds with many faults."""


def returns(value: Any) -> Callable[..., Any]:
    """A replacement that always says the same."""
    return lambda *_args, **_kwargs: value


def nothing(*_args: Any, **_kwargs: Any) -> None:
    """A replacement that does nothing."""
