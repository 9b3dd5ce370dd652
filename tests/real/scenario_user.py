"""The users of a scenario on real servers: blocking clients that tell what they hear."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import flexcore_sync
from flexcore.client import ClientConfig
from flexcore.errors import CheckoutDenied, FlexcoreError

ANSWER_S = 120.0
"""How long a checkout looks for a server."""


class User:
    """One client process of a scenario: a blocking client whose checkouts wait in threads of their own."""

    def __init__(self, hear: Callable[[str, str], None], name: str, config: ClientConfig) -> None:
        self.hear = hear
        self.name = name
        self.seats: list[flexcore_sync.Seat] = []
        self.client = flexcore_sync.Client(config, ANSWER_S, self._lost, None, threaded=True)

    def checkout(self, feature: str, count: int, version: str) -> threading.Thread:
        """Ask in a thread; it ends when the answer was told."""
        thread = threading.Thread(target=self._ask, args=(feature, count, version), daemon=True)
        thread.start()
        return thread

    def _ask(self, feature: str, count: int, version: str) -> None:
        try:
            seat = self.client.checkout(feature, version, count=count)
        except CheckoutDenied as denied:
            self.hear(self.name, f"is denied: {denied.text} ({denied.code},{denied.minor})")
        except FlexcoreError as error:
            if not self.client._engine.is_shut:
                self.hear(self.name, f"has failed: {error}")
        else:
            self._holds(seat)

    def _holds(self, seat: flexcore_sync.Seat) -> None:
        self.seats.append(seat)
        self.hear(self.name, f"holds {seat.feature} handle {seat.handle}")

    def queue(self, feature: str, count: int, version: str) -> None:
        """Ask, and wait in the server's queue if need be."""
        self.client.queue(feature, version, count=count, on_change=self._changed)

    def _changed(self, waiting: flexcore_sync.Waiting) -> None:
        if waiting.seat is not None:
            self._holds(waiting.seat)
        elif isinstance(waiting.error, CheckoutDenied):
            error = waiting.error
            self.hear(self.name, f"is denied: {error.text} ({error.code},{error.minor})")
        elif waiting.ahead is not None:
            self.hear(self.name, f"waits for {waiting.feature}, {waiting.ahead} ahead")

    def borrow(self, hours: float) -> None:
        """Take home what is held."""
        for seat in list(self.seats):
            told = f"takes {seat.feature} handle {seat.handle} home"
            try:
                seat.borrow(time.time() + hours * 3600.0)
            except CheckoutDenied as denied:
                told = f"does not take it home: {denied.text} ({denied.code},{denied.minor})"
            self.hear(self.name, told)

    def idle_for(self, ages_s: dict[str, float], handles: dict[str, str]) -> None:
        """Make what is idle so for as long as in the simulation: *ages_s*, by the handles there. Nobody waits for
        hours, and a product says that it is idle when it begins to be."""
        desk = self.client._desk
        with desk._lock:
            for site in desk.machine._sites:
                known = {} if site.session is None else site.session.idle_since
                for handle in known:
                    known[handle] = desk.now() - ages_s.get(handles.get(str(handle), ""), 0.0)

    def _lost(self, seat: flexcore_sync.Seat, why: Exception) -> None:
        self.hear(self.name, f"has lost {seat.feature} handle {seat.handle}: {why}")

    def kill(self) -> None:
        """The process is gone: its kernel ends the connections, and nobody says goodbye."""
        self.client._engine.shut()
