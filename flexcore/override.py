"""``@override`` for Python 3.11: ``typing.override`` came with 3.12, and mypy asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import override
else:

    def override(method):
        """Mark a method that overrides one of a base class; does nothing at run time."""
        return method


__all__ = ["override"]
