"""What an application on trio holds: licences that were checked out."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio

from flexcore.client import Seat as Granted
from flexcore.errors import LicenseLost
from flexcore.override import override
from flexcore_host.desk import Desk, SeatBase

if TYPE_CHECKING:
    from .client import Client

__all__ = ["Checkout", "Seat"]


class Seat(SeatBase):
    """Licences that were checked out. An async context manager: they are given back at its end."""

    def __init__(self, client: Client, desk: Desk[Seat], granted: Granted) -> None:
        super().__init__(desk, granted)
        self._client = client
        self._over = trio.Event()
        self._scopes: list[trio.CancelScope] = []

    async def checkin(self) -> None:
        """Give it back; once more is harmless. It is not held from here on, even if this is cancelled. While a server
        serves this waits, for a second at most, until the seat is free for the next checkout; nothing else is waited
        for."""
        await self._client._check_in(self)

    async def borrow(self, until: float, *, wait_s: float | None = None) -> None:
        """Have it lent to this machine until *until* (epoch seconds): from then on it is held without a server, also
        by later runs of the product, until its end or ``flexcore lmborrow -return``. *wait_s* is as for a checkout.
        If this is cancelled it may be borrowed all the same.

        Raises:
            CheckoutDenied: -68: its line has no BORROW; -104: for so long; -67: too few may be borrowed; -38, -39:
                not by this user; -34: this machine's clock is wrong; -117: another reason. It is held as before.
            NoQuorum, NoServerReachable: nobody answered; it is held as before, as far as is known.
            BorrowError: -117: its file cannot be written; -42, -104: no such end. LicenseLost: it is not held.
            LocalProtocolError: it is borrowed already.
        """
        await self._client._borrow(self, until, self._client._timeout_s if wait_s is None else wait_s)

    async def wait_lost(self) -> LicenseLost | None:
        """Wait until it is lost, and return why; None once it was given back."""
        await self._over.wait()
        return self._lost

    @contextlib.contextmanager
    def while_held(self) -> Iterator[trio.CancelScope]:
        """Cancel the ``with`` block the moment that the seat is lost (or given back), and raise LicenseLost then.

        A block that ends by itself has ended, and nothing is raised.
        """
        self.require()
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                yield scope
            finally:
                self._scopes.remove(scope)
        if scope.cancelled_caught and self._over.is_set():
            self.require()

    @override
    def _ended(self) -> None:
        self._over.set()
        for scope in self._scopes:
            scope.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.checkin()


class Checkout:
    """A checkout that begins when it is awaited, for its :class:`Seat`, or entered with ``async with``."""

    def __init__(self, asking: Coroutine[Any, Any, Seat]) -> None:
        self._asking = asking
        self._seat: Seat | None = None

    def __await__(self) -> Generator[Any, Any, Seat]:
        return self._asking.__await__()

    async def __aenter__(self) -> Seat:
        self._seat = await self._asking
        return self._seat

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._seat is not None
        await self._seat.checkin()
