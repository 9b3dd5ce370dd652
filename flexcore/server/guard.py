"""After a machine raised it is closed: half a step is no state to go on from (design.md section 4)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class _Closable(Protocol):
    _closed: bool


_M = TypeVar("_M", bound=_Closable)
_P = ParamSpec("_P")


def closes_on_error(
    method: Callable[Concatenate[_M, _P], None],
) -> Callable[Concatenate[_M, _P], None]:
    """Close the machine for good when *method* raises."""

    @functools.wraps(method)
    def guarded(self: _M, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            self._closed = True
            raise

    return guarded
