"""The async client through the suite for transports: each call of the suite runs in a loop of its own thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import trio

import flexcore_trio
from flexcore.errors import LicenseLost
from tests.client_conformance import PATIENCE_S, ClientTransportSuite

T = TypeVar("T")


class Portal:
    """Runs things in the client's loop, for whichever thread asks."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.token = token
        self.seats: dict[flexcore_trio.Seat, BlockingSeat] = {}

    def run(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        return trio.from_thread.run(function, *arguments, trio_token=self.token)

    def get(self, thing: object, name: str) -> Any:
        return trio.from_thread.run_sync(getattr, thing, name, trio_token=self.token)

    def seat(self, seat: flexcore_trio.Seat) -> BlockingSeat:
        return self.seats.setdefault(seat, BlockingSeat(self, seat))


class BlockingSeat:
    """A seat as the suite expects it. After the loop's end it is asked directly."""

    def __init__(self, portal: Portal, seat: flexcore_trio.Seat) -> None:
        self.portal = portal
        self.inner = seat

    def __getattr__(self, name: str) -> Any:
        try:
            return self.portal.get(self.inner, name)
        except trio.RunFinishedError:
            return getattr(self.inner, name)

    def require(self) -> None:
        self.inner.require()

    def checkin(self) -> None:
        self.portal.run(self.inner.checkin)

    def borrow(self, until: float) -> None:
        self.portal.run(self.inner.borrow, until)

    def __enter__(self) -> BlockingSeat:
        return self

    def __exit__(self, *_: object) -> None:
        self.checkin()


class BlockingWaiting:
    """A checkout that waits, as the suite expects it."""

    def __init__(self, portal: Portal, waiting: flexcore_trio.Waiting) -> None:
        self.portal = portal
        self.inner = waiting

    @property
    def seat(self) -> BlockingSeat | None:
        seat = self.portal.get(self.inner, "seat")
        return None if seat is None else self.portal.seat(seat)

    def wait(self, timeout_s: float | None = None) -> BlockingSeat:
        return self.portal.seat(self.portal.run(self.inner.wait, timeout_s))

    def cancel(self) -> None:
        trio.from_thread.run_sync(self.inner.cancel, trio_token=self.portal.token)

    def __getattr__(self, name: str) -> Any:
        return self.portal.get(self.inner, name)


class BlockingClient:
    def __init__(self, portal: Portal, client: flexcore_trio.Client) -> None:
        self.portal = portal
        self.inner = client

    def checkout(self, *arguments: Any, **options: Any) -> BlockingSeat:
        async def ask() -> flexcore_trio.Seat:
            return await self.inner.checkout(*arguments, **options)

        try:
            return self.portal.seat(self.portal.run(ask))
        except trio.RunFinishedError:
            return self.portal.seat(trio.run(ask))

    def return_borrowed(self, *arguments: Any, **options: Any) -> int:
        async def ask() -> int:
            return await self.inner.return_borrowed(*arguments, **options)

        return self.portal.run(ask)

    def queue(self, *arguments: Any, **options: Any) -> BlockingWaiting:
        async def ask() -> flexcore_trio.Waiting:
            return self.inner.queue(*arguments, **options)

        return BlockingWaiting(self.portal, self.portal.run(ask))

    def __getattr__(self, name: str) -> Any:
        return self.portal.get(self.inner, name)

    def close(self) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self.portal.run(self.inner.close)


class OnTrio:
    """A thread that runs trio with one client in it, while the block lasts."""

    @contextlib.contextmanager
    def open(
        self, path: str, *, on_loss: Callable[[Any, LicenseLost], object] | None = None, **options: Any
    ) -> Iterator[BlockingClient]:
        ready, leave = threading.Event(), trio.Event()
        made: list[BlockingClient] = []
        errors: list[BaseException] = []

        async def main() -> None:
            portal = Portal(trio.lowlevel.current_trio_token())

            async def lost(seat: flexcore_trio.Seat, why: LicenseLost) -> None:
                assert on_loss is not None
                await trio.to_thread.run_sync(on_loss, portal.seat(seat), why)

            if on_loss is not None:
                options["on_loss"] = lost
            async with flexcore_trio.open_client(path, vendor="demo", **options) as client:
                made.append(BlockingClient(portal, client))
                ready.set()
                await leave.wait()

        def run() -> None:
            try:
                trio.run(main)
            except BaseException as error:  # noqa: BLE001 - raised in the test's thread
                errors.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(PATIENCE_S)
        try:
            if made:
                yield made[0]
        finally:
            if made:
                with contextlib.suppress(trio.RunFinishedError):
                    made[0].portal.token.run_sync_soon(leave.set)
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
            for error in errors:
                raise error

    def breathe(self, client: Any) -> None:
        """It has a loop."""


class TestTrio(ClientTransportSuite):
    @pytest.fixture
    def transport(self) -> OnTrio:
        return OnTrio()
