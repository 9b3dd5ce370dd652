"""What an application holds: licences that were checked out."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from flexcore.client import Seat as Granted
from flexcore.errors import LicenseLost
from flexcore.override import override

if TYPE_CHECKING:
    from flexcore_sync.client import Client


class Seat:
    """Licences that were checked out. A context manager: they are given back at its end."""

    def __init__(self, client: Client, granted: Granted) -> None:
        self._client = client
        self._granted = granted
        self._lost: LicenseLost | None = None
        self._returned = False

    @property
    def handle(self) -> int:
        """The handle that lmstat shows."""
        return self._granted.handle

    @property
    def feature(self) -> str:
        return self._granted.feature

    @property
    def version(self) -> str:
        """The version that was granted."""
        return self._granted.version

    @property
    def count(self) -> int:
        """How many licences."""
        return self._granted.count

    @property
    def started(self) -> float:
        """When it was granted: epoch seconds, the same after any failover."""
        return self._granted.started

    @property
    def held(self) -> bool:
        """Whether it is held at this very moment: not given back, not lost, and confirmed within the lease."""
        return not self._returned and self._lost is None and self._client._believes(self._granted)

    @property
    def lease_left_s(self) -> float:
        """How much longer it is held if no licence server confirms it any more."""
        return self._client._lease_left_s(self._granted) if self.held else 0.0

    @property
    def lost(self) -> LicenseLost | None:
        """Why it was lost, None if it was not."""
        return self._lost

    def require(self) -> None:
        """Raise :class:`~flexcore.errors.LicenseLost` unless it is held."""
        if self._lost is not None:
            raise self._lost
        if self._returned:
            raise LicenseLost(self.feature, self.handle, "it was given back")
        if not self.held:
            raise LicenseLost(self.feature, self.handle, self._client._why_not_held())

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

    @override
    def __repr__(self) -> str:
        return f"<Seat {self.feature} handle {self.handle} {'held' if self.held else 'not held'}>"
