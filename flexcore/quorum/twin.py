"""A copy of a quorum machine that shares nothing that changes, made faster than ``deepcopy`` makes one.

What is of a kind that is known here is copied as its kind needs; anything else is copied deeply, so
that an attribute of a new kind is slow and not wrong (``tests/test_quorum_fingerprint.py``,
``test_a_twin_shares_nothing_that_changes``).
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

from flexcore.identity import Rank
from flexcore.ledger import Ledger, Snapshot
from flexcore.quorum.base import Role
from flexcore.quorum.catchup import PullState
from flexcore.quorum.config import HardState, QuorumConfig
from flexcore.quorum.events import Halt
from flexcore.quorum.links import Link, Peer
from flexcore.quorum.recovery import RecoverAsk, RecoverGoal


def twin_of(machine: Any) -> Any:
    """A machine with the same future, which goes its own way."""
    twin = object.__new__(type(machine))
    mine = twin.__dict__
    for name, value in vars(machine).items():
        mine[name] = _copied(value)
    return twin


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in _SHARED or isinstance(value, tuple):
        return value  # a tuple here holds frozen values only
    how = _HOW.get(kind)
    return copy.deepcopy(value) if how is None else how(value)


_SHARED: frozenset[type] = frozenset({
    type(None), bool, int, float, str, bytes, Rank, Role, QuorumConfig, Halt, RecoverGoal,
    RecoverAsk, Snapshot,
})  # fmt: skip
"""Never changed once they are made."""


def _fields(kind: type) -> Callable[[Any], Any]:
    names = tuple(each.name for each in attrs.fields(kind))

    def copied(value: Any) -> Any:
        twin: Any = object.__new__(kind)
        for name in names:
            setattr(twin, name, _copied(getattr(value, name)))
        return twin

    return copied


_HOW: dict[type, Callable[[Any], Any]] = {
    Ledger: Ledger.copy,
    list: lambda value: [_copied(each) for each in value],
    deque: lambda value: deque([_copied(each) for each in value], value.maxlen),
    dict: lambda value: {key: _copied(each) for key, each in value.items()},
    set: set,
    bytearray: bytearray,
    HardState: _fields(HardState),
    Peer: _fields(Peer),
    Link: _fields(Link),
    PullState: _fields(PullState),
}
