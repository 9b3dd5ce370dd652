"""Randomness for the core, which draws none itself: ids, nonces, secrets."""

from __future__ import annotations

import os

__all__ = ["draw"]


def draw(size: int) -> bytes:
    """Return ``size`` bytes from the operating system's generator."""
    return os.urandom(size)
