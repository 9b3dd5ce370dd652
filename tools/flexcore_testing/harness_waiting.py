"""A simulated checkout that may wait, with the surface of :class:`flexcore_sync.Waiting`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flexcore.errors import FlexcoreError
from flexcore_host.application import no_answer
from flexcore_host.waiting import WaitingBase

if TYPE_CHECKING:
    from flexcore_testing.harness_client import Client, Seat


WAIT_MAX_S = 30 * 86400.0
"""The longest simulated wait that a call may ask for: more is a mistake, and would run for minutes."""


def seconds_of(value: float, name: str, *, longest: float = WAIT_MAX_S) -> float:
    """Return *value* if it is a length of time.

    Raises:
        TypeError: no number. ValueError: negative, not finite or longer than *longest*.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number of simulated seconds, not {value!r}")
    if not math.isfinite(value) or not 0.0 <= value <= longest:
        raise ValueError(f"{name}={value!r}: simulated seconds from 0 to {longest:g}")
    return float(value)


class Waiting(WaitingBase["Seat"]):
    """A checkout that may wait; made by :meth:`Client.queue`."""

    def __init__(
        self, client: Client, feature: str, version: str, count: int,
        on_change: Callable[[Waiting], object] | None,
    ) -> None:  # fmt: skip
        desk: Any = _WaitingBooks(client)
        super().__init__(desk, feature, on_change)
        self._client = client
        run = client._run
        self.request = run.checkout(feature, count, version, queue=True)
        run.listeners[self.request] = self._told

    def wait(self, timeout_s: float | None = None) -> Seat:
        """Let simulated time pass until it is granted, *timeout_s* at most (default: thirty days), and return the seat.

        Raises: as the real one does.
        """
        limit = WAIT_MAX_S if timeout_s is None else seconds_of(timeout_s, "timeout_s")
        self._client._triad._run_for(limit, lambda: self.is_over)
        return self._outcome()

    def cancel(self) -> None:
        """Leave the queue, or give back what was granted. Once more is harmless."""
        self._cancel()

    def _wait_for_place(self, timeout_s: float, queue_s: float | None) -> Seat:
        try:
            self._client._triad._run_for(timeout_s, lambda: self.is_over or self.is_queued)
            if not self.is_over and not self.is_queued:
                raise no_answer(self._client.trouble)
            return self.wait(queue_s)
        except BaseException:
            self.cancel()
            raise

    def _told(self) -> None:
        """Its run was told something about it."""
        client, run = self._client, self._client._run
        granted, denied = run.granted.get(self.request), run.denied.get(self.request)
        if granted is not None and self._seat is None:
            self._seat = client._seat_of(granted)
        elif denied is not None:
            error = client._denial(denied, self.feature)
            assert isinstance(error, FlexcoreError)
            self._error = error
        self._queued = run.queued.get(self.request)
        if self._on_change is not None:
            client._triad._sim.news.append(self._call_back)

    def _call_back(self) -> None:
        if self._on_change is not None:
            self._on_change(self)


class _WaitingBooks:
    """What a waiting checkout asks of its client, where real clients have a desk."""

    is_forked = False

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def is_over(self) -> bool:
        return not self._client._run.alive or self._client._closing

    def check_usable(self) -> None:
        self._client._check_usable()

    def abandon_queued(self, waiting: Waiting) -> None:
        run = self._client._run
        run.listeners.pop(waiting.request, None)
        if waiting._seat is not None:
            self._client._check_in(waiting._seat)
        elif waiting._error is None and not self.is_over:
            run.withdraw(waiting.request)
