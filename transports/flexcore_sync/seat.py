"""What an application holds: licences that were checked out."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from flexcore.client import Seat as Granted
from flexcore_host.desk import Desk, SeatBase

if TYPE_CHECKING:
    from flexcore_sync.client import Client


class Seat(SeatBase):
    """Licences that were checked out. A context manager: they are given back at its end."""

    def __init__(self, client: Client, desk: Desk[Seat], granted: Granted) -> None:
        super().__init__(desk, granted)
        self._client = client

    def checkin(self) -> None:
        """Give it back; once more is harmless. It is not held from here on. While a server serves this waits,
        for a second at most, until the seat is free for the next checkout; nothing else is waited for."""
        self._client._check_in(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.checkin()
