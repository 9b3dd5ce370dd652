"""Host names to socket addresses, without ever making a heartbeat wait for a name server.

A literal address is answered at once. A name is looked up in a helper thread, and remembered: the last known addresses
serve while a name server is slow or gone, which is when a client must reconnect most urgently.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from flexcore_host import clock
from flexcore_host.resolver import Address, addresses_of, is_literal

FRESH_S = 60.0
"""How long a looked-up name is taken as it is; later it is looked up again, and used meanwhile."""

NAMES_MAX = 256
"""Names that are remembered; a path has no more addresses."""

ADDRESSES_MAX = 8
"""Addresses of one name that are tried."""


class Names:
    """A cache of lookups. *wake* is called, from another thread, when a lookup has ended."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[tuple[Address, ...], float]] = {}
        self._errors: dict[tuple[str, int], str] = {}
        self._asking: set[tuple[str, int]] = set()

    def ask(self, host: str, port: int) -> tuple[Address, ...] | str | None:
        """Return the addresses, or why there are none, or None: ask again after the next wake-up."""
        if is_literal(host):
            try:
                return addresses_of(host, port)
            except OSError as error:
                return _words(host, error)
        key = (host, port)
        with self._lock:
            found = self._known.get(key)
            if found is not None and clock.now() < found[1] + FRESH_S:
                return found[0]
            failed = self._errors.pop(key, None)
            if failed is not None:
                return found[0] if found is not None else failed
            if key not in self._asking:
                self._asking.add(key)
                threading.Thread(
                    target=self._look_up, args=key, name=f"flexcore-name-{host}", daemon=True
                ).start()
            return found[0] if found is not None else None

    def _look_up(self, host: str, port: int) -> None:
        key = (host, port)
        found: tuple[Address, ...] = ()
        error = ""
        try:
            found = addresses_of(host, port)[:ADDRESSES_MAX]
        except (OSError, UnicodeError, ValueError) as problem:
            error = _words(host, problem)
        with self._lock:
            self._asking.discard(key)
            if found:
                while len(self._known) >= NAMES_MAX:
                    del self._known[next(iter(self._known))]
                self._known[key] = (found, clock.now())
            else:
                self._errors[key] = error or f"{host} has no address"
        with contextlib.suppress(OSError, ValueError):
            self._wake()


def _words(host: str, error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return f"cannot find the host name {host!r}: {said or error}"
