"""A checkout that may wait: what it tells of itself. How it is waited for is the transport's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flexcore.client import CheckoutQueued
from flexcore.codes import ErrorCode
from flexcore.errors import CheckoutDenied, FlexcoreError, LocalProtocolError
from flexcore.override import override

if TYPE_CHECKING:
    from flexcore_host.desk import Desk, SeatBase

__all__ = ["WaitingBase"]

SeatT = TypeVar("SeatT", bound="SeatBase")


class WaitingBase(Generic[SeatT]):
    """A checkout that may wait. It is over once there is a seat or an error, or it was cancelled.

    *on_change* is called with it whenever it stands otherwise: it waits, fewer are before it, it was granted or
    refused.
    """

    def __init__(
        self, desk: Desk[Any], feature: str, on_change: Callable[[Any], object] | None
    ) -> None:
        self._desk = desk
        self._on_change = on_change
        self.request = 0
        self.feature = feature
        self._seat: SeatT | None = None
        self._error: FlexcoreError | None = None
        self._queued: CheckoutQueued | None = None
        self._cancelled = False

    @property
    def seat(self) -> SeatT | None:
        """What was granted, None as long as nothing was. To give it back is the application's from then on."""
        return self._seat

    @property
    def error(self) -> FlexcoreError | None:
        """Why nothing will be granted: CheckoutDenied, or LocalProtocolError when the client was closed; else None."""
        return self._error

    @property
    def is_over(self) -> bool:
        """Whether it waits no more."""
        over = self._seat is not None or self._error is not None
        return over or self._cancelled or self._desk.is_over

    @property
    def is_queued(self) -> bool:
        """Whether a server has it in its queue (also while that server, or its successor, cannot be reached)."""
        return self._queued is not None and not self.is_over

    @property
    def was_queued(self) -> bool:
        """Whether it was ever in a queue: False where a licence was free at once."""
        return self._queued is not None

    @property
    def ahead(self) -> int | None:
        """How many requests were before it when a server told last; None while it is in no queue."""
        queued = self._queued
        return queued.ahead if queued is not None and self.is_queued else None

    @property
    def text(self) -> str:
        """What is in use and by whom, in the server's words; '' while it is in no queue."""
        queued = self._queued
        return queued.text if queued is not None and self.is_queued else ""

    def _cancel(self) -> bool:
        """Wait no more; what was granted is given back. Returns whether there is anything to do."""
        if self._cancelled or self._desk.is_forked:
            return False
        self._cancelled = True
        self._desk.abandon_queued(self)
        return True

    def _outcome(self) -> SeatT:
        """Return the seat, or raise why there is none (yet: -35)."""
        if self._seat is not None:
            return self._seat
        if self._error is not None:
            raise self._error
        self._desk.check_usable()
        if self._cancelled:
            raise LocalProtocolError("this checkout was cancelled")
        raise CheckoutDenied(int(ErrorCode.IN_QUEUE), detail=self.text, feature=self.feature)

    @override
    def __repr__(self) -> str:
        state = "over" if self.is_over else "queued" if self.is_queued else "asked"
        return f"<Waiting {self.feature} {state}>"
