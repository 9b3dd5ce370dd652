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

    def borrow(self, until: float, *, wait_s: float | None = None) -> None:
        """Have it lent to this machine until *until* (epoch seconds): from then on it is held without a server, also
        by later runs of the product, until its end or ``flexcore lmborrow -return``. *wait_s* is as for a checkout.

        Raises:
            CheckoutDenied: -68: its line has no BORROW; -104: for so long; -67: too few may be borrowed; -38, -39:
                not by this user; -34: this machine's clock is wrong; -117: another reason. It is held as before.
            NoQuorum, NoServerReachable: nobody answered; it is held as before, as far as is known.
            BorrowError: -117: its file cannot be written; -42, -104: no such end. LicenseLost: it is not held.
            LocalProtocolError: it is borrowed already.
        """
        self._client._borrow(self, until, self._client._timeout_s if wait_s is None else wait_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.checkin()
