"""A checkout that may wait in the server's queue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flexcore_host.desk import Desk
from flexcore_host.waiting import WaitingBase

from .client_seat import Seat

if TYPE_CHECKING:
    from .client import Client, OnChange

__all__ = ["Waiting"]


class Waiting(WaitingBase[Seat]):
    """A checkout that may wait; made by :meth:`Client.queue`."""

    def __init__(
        self, client: Client, desk: Desk[Seat], feature: str, on_change: OnChange | None
    ) -> None:
        super().__init__(desk, feature, on_change)
        self._client = client

    async def wait(self, timeout_s: float | None = None) -> Seat:
        """Wait until it is granted, for *timeout_s* at most (default: as long as it takes), and return the seat. After
        a timeout or a cancellation the wait may go on, or be given up with :meth:`cancel`.

        Raises:
            CheckoutDenied: it was refused; -35: it is still in the queue.
            LocalProtocolError: it was cancelled, or the client closed.
        """
        timeout_s = math.inf if timeout_s is None else timeout_s
        await self._client._engine.wait_until(lambda: self.is_over, timeout_s)
        return self._outcome()

    def cancel(self) -> None:
        """Leave the queue, or give back what was granted. Once more is harmless."""
        if self._cancel():
            self._client._engine.turn()

    async def _wait_for_place(self, timeout_s: float, queue_s: float | None) -> Seat:
        """Wait for *timeout_s* until a server has it, then for *queue_s* in its queue; give it up on any failure."""
        try:
            await self._client._engine.wait_until(
                lambda: self.is_over or self.is_queued, timeout_s
            )
            if not self.is_over and not self.is_queued:
                raise self._desk.no_answer(self.feature, self._desk.trouble)
            return await self.wait(queue_s)
        except BaseException:
            self.cancel()
            raise
