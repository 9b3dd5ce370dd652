"""A logger where something is to be said: loading logging takes a client a tenth of its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["logger"]


def logger(name: str) -> logging.Logger:
    """Return the logger *name*; loads the standard library's logging the first time."""
    import logging

    return logging.getLogger(name)
