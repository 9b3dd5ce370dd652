"""Connections of the async client that end in order, where the other end takes nothing: none waits for ever."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.abc
import trio.testing

from flexcore.client import Abort, Close, Connect, ConnectionMade, SendData
from flexcore.override import override
from flexcore_host.application import CLOSE_FLUSH_S
from flexcore_trio.client_engine import Engine


def on_made_up_time(test: Any, *, clock: None, instruments: Any) -> Any:
    return trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0), instruments=instruments)


pytestmark = pytest.mark.trio(run=on_made_up_time)


class Script:
    """A client machine that wants what a test tells it to."""

    def __init__(self) -> None:
        self.actions: list[Any] = [Connect(conn=1, host="a", port=1)]
        self.events: list[Any] = []

    def next_action(self) -> Any:
        return self.actions.pop(0) if self.actions else None

    def next_timeout(self) -> float | None:
        return None

    def receive_event(self, event: Any, **clocks: float) -> None:
        self.events.append(event)


class Stuck(trio.abc.Stream):
    """The other end takes bytes after *takes_s*; closing takes *closes_s* unless it is forced."""

    def __init__(self, takes_s: float, closes_s: float) -> None:
        self.takes_s, self.closes_s = takes_s, closes_s
        self.taken = b""
        self.gone_at = math.inf

    @override
    async def send_all(self, data: Any) -> None:
        await trio.sleep(self.takes_s)
        self.taken += bytes(data)

    @override
    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    @override
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    @override
    async def aclose(self) -> None:
        try:
            await trio.sleep(self.closes_s)
        finally:
            self.gone_at = trio.current_time()


async def end(stream: Stuck, how: Callable[..., Any]) -> float:
    """Send a few bytes, end the connection; returns when its socket is gone, counted from that."""
    script = Script()

    async def connect(host: str, port: int) -> Stuck:
        return stream

    engine = Engine(
        script,  # type: ignore[arg-type]
        connect=connect, tell=lambda action: None, failed=lambda error: pytest.fail(repr(error)),
        now=trio.current_time, wall=trio.current_time,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        await trio.testing.wait_all_tasks_blocked()
        assert script.events == [ConnectionMade(conn=1)]
        script.actions += [SendData(conn=1, data=b"goodbye"), how(conn=1)]
        begun = trio.current_time()
        engine.turn()
        await trio.sleep(10 * CLOSE_FLUSH_S)
        engine.end()
    assert script.events == [ConnectionMade(conn=1)], "whoever ended it is not told of its end"
    return stream.gone_at - begun


async def test_the_last_bytes_are_waited_for():
    stream = Stuck(takes_s=0.6 * CLOSE_FLUSH_S, closes_s=0.0)
    assert await end(stream, Close) == pytest.approx(0.6 * CLOSE_FLUSH_S)
    assert stream.taken == b"goodbye"


async def test_an_end_that_takes_nothing_is_left_after_the_flush():
    stream = Stuck(takes_s=math.inf, closes_s=0.0)
    assert await end(stream, Close) == pytest.approx(CLOSE_FLUSH_S)
    assert stream.taken == b""


async def test_an_end_that_cannot_be_closed_is_left_as_well():
    """A stream over TLS, say, whose close waits for an answer."""
    assert await end(Stuck(takes_s=0.0, closes_s=math.inf), Close) == pytest.approx(CLOSE_FLUSH_S)
    assert await end(Stuck(takes_s=math.inf, closes_s=math.inf), Close) == pytest.approx(2 * CLOSE_FLUSH_S)


async def test_an_abort_waits_for_nothing():
    assert await end(Stuck(takes_s=math.inf, closes_s=math.inf), Abort) == 0.0
