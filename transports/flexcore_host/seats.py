"""What an application holds, whatever transport it came by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcore.client import Seat as Granted
from flexcore.errors import LicenseLost
from flexcore.override import override

if TYPE_CHECKING:
    from flexcore_host.desk import Desk

__all__ = ["SeatBase"]


class SeatBase:
    """What a seat tells of itself; how it is given back is the transport's."""

    def __init__(self, desk: Desk[Any], granted: Granted) -> None:
        self._desk = desk
        self._granted = granted
        self._lost: LicenseLost | None = None
        self._returned = False

    @property
    def handle(self) -> int:
        """The handle that lmstat shows."""
        return self._granted.handle

    @property
    def feature(self) -> str:
        """What was checked out."""
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
    def site(self) -> int:
        """Which alternative of the search path granted it, 0 the first; below 0: it is borrowed."""
        return self._granted.site

    @property
    def borrowed(self) -> bool:
        """Whether it is borrowed: held without a server until its end. To give it back ends its use here; the licence
        itself stays borrowed until its end, or ``lmborrow -return``."""
        return self._granted.site < 0

    @property
    def held(self) -> bool:
        """Whether it is held at this very moment: not given back, not lost, and confirmed within the lease."""
        return not self._returned and self._lost is None and self._desk.believes(self._granted)

    @property
    def lease_left_s(self) -> float:
        """How much longer it is held if no licence server confirms it any more; of a borrowed one: until its end."""
        return self._desk.lease_left_s(self._granted) if self.held else 0.0

    @property
    def lost(self) -> LicenseLost | None:
        """Why it was lost, None if it was not."""
        return self._lost

    def idle(self) -> None:
        """Say that the product does not use it from now on. After the seconds of TIMEOUT in the options file (900 at
        least) the servers take it back, and it is lost; without such a line nothing happens. A seat of which
        nothing is said is in use, so a product that never calls this loses nothing by TIMEOUT."""
        self._desk.set_idle(self, idle=True)

    def active(self) -> None:
        """Say that the product uses it again (see :meth:`idle`); once more is harmless."""
        self._desk.set_idle(self, idle=False)

    def require(self) -> None:
        """Raise :class:`~flexcore.errors.LicenseLost` unless it is held."""
        if self._lost is not None:
            raise self._lost
        if self._returned:
            raise LicenseLost(self.feature, self.handle, "it was given back")
        if not self.held:
            raise LicenseLost(self.feature, self.handle, self._desk.why_not_held())

    def _ended(self) -> None:
        """It is over: lost, given back, or its client closed. Called once or more, with the desk's lock held."""

    @override
    def __repr__(self) -> str:
        return f"<Seat {self.feature} handle {self.handle} {'held' if self.held else 'not held'}>"
