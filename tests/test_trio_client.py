"""What is special to the async client: cancellation, tasks, nurseries and the ends of blocks, on made-up time."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import warnings
from typing import Any

import pytest
import trio
import trio.testing

import flexcore_trio
from flexcore.override import override
from flexcore.wire import messages as wire
from flexcore_host.application import CLOSE_S
from flexcore_trio import LicenseLost, LocalProtocolError, Seat
from tests.memory_triad import MemoryTriad

WALL_AT_START = 1_700_000_000.0


def on_made_up_time(test: Any, *, clock: None, instruments: Any) -> Any:
    return trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0), instruments=instruments)


pytestmark = pytest.mark.trio(run=on_made_up_time)


@pytest.fixture
async def triad(nursery: trio.Nursery) -> MemoryTriad:
    return MemoryTriad(nursery)


def open_client(triad: MemoryTriad, **options: Any) -> contextlib.AbstractAsyncContextManager[flexcore_trio.Client]:
    return flexcore_trio.open_client(
        triad.path, vendor="demo", user="ann", connect=triad.connect, now=trio.current_time,
        wall=lambda: WALL_AT_START + trio.current_time(), **options,
    )  # fmt: skip


def removal(seat: Seat) -> wire.SeatsLost:
    return wire.SeatsLost(1, (seat.handle,), -63, "removed by root")


# --- time ---------------------------------------------------------------------------------------------


class Steps(trio.abc.Instrument):
    """Counts how often anything runs."""

    count = 0

    @override
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_hours_pass_without_a_busy_loop(triad):
    async with open_client(triad) as client, client.checkout("f1", "1.0") as seat:
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(7200.0)
        trio.lowlevel.remove_instrument(steps)
        assert seat.held
        beats = len(triad.heard(wire.Heartbeat))
    assert beats == pytest.approx(720, rel=0.02)  # every ten seconds
    assert steps.count < 20 * beats
    assert triad.ledger.free == 10
    assert triad.ledger.sessions == {}


async def test_the_lease_ends_to_the_instant(triad):
    losses: list[tuple[float, Seat, LicenseLost]] = []
    async with open_client(
        triad, on_loss=lambda seat, why: losses.append((trio.current_time(), seat, why))
    ) as client:
        seat = await client.checkout("f1")
        for rank in range(3):
            await triad.kill(rank)
        left_s = seat.lease_left_s
        until = trio.current_time() + left_s
        await trio.sleep(left_s - 0.001)
        assert seat.held
        await trio.sleep(0.002)
        assert not seat.held
        assert [(at, lost) for at, lost, _ in losses] == [(pytest.approx(until, abs=1e-6), seat)]
        with pytest.raises(LicenseLost):
            seat.require()


async def test_what_is_due_sooner_is_not_slept_through(triad):
    """The next heartbeat is seconds away when a question is asked that the server does not answer."""
    async with open_client(triad) as client:
        await client.checkout("f1")
        await trio.sleep(1.0)
        triad.servers[0].frozen = True
        triad.elect(1)
        begun = trio.current_time()
        assert (await client.checkout("f1")).held
        assert trio.current_time() - begun < 2.0  # the machine's patience is one second


# --- cancellation -------------------------------------------------------------------------------------


async def test_a_cancelled_checkout_is_withdrawn(triad):
    triad.servers[0].frozen = True
    async with open_client(triad) as client:
        with trio.move_on_after(1.0) as patience:
            await client.checkout("f1")
        assert patience.cancelled_caught
        assert client.seats == ()
        await triad.thaw(0)
        async with client.checkout("f1") as seat:
            assert seat.held
            await trio.sleep(1.0)
            assert triad.ledger.free == 9
    assert triad.ledger.free == 10


async def test_a_checkout_that_is_cancelled_behind_its_question_is_withdrawn(triad):
    """The server has the question, and the grant is on its way: nobody will take it."""
    async with open_client(triad) as client:
        await client.checkout("f1")  # a session is there, and one seat is held
        triad.servers[0].frozen = True
        with trio.move_on_after(0.5):
            await client.checkout("f1")
        assert len([m for _, m in triad.servers[0].held_back if isinstance(m, wire.Checkout)]) == 1
        await triad.thaw(0)
        await trio.sleep(1.0)
        assert len(triad.heard(wire.Withdraw)) == 1
        assert triad.ledger.free == 9
        assert len(client.seats) == 1


async def test_cancelled_before_anything_was_asked(triad):
    async with open_client(triad) as client:
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.checkout("f1")
        assert scope.cancelled_caught
        await trio.sleep(5.0)
    assert triad.heard(wire.Checkout) == []


async def test_a_cancelled_block_gives_its_seat_back(triad):
    async with open_client(triad) as client:
        with trio.move_on_after(1.0):
            async with client.checkout("f1") as seat:
                await trio.sleep_forever()
        assert not seat.held
        await trio.sleep(0.5)
        assert triad.ledger.free == 10
        assert client.is_serving


async def test_a_cancelled_client_still_says_goodbye(triad):
    with trio.move_on_after(1.0) as patience:
        async with open_client(triad) as client:
            await client.checkout("f1")
            await trio.sleep_forever()
    assert patience.cancelled_caught
    assert len(triad.heard(wire.Goodbye)) == 1
    assert triad.ledger.free == 10
    assert trio.current_time() < 2.0


@pytest.mark.parametrize("trouble", ["frozen", "dead", "dark"])
async def test_the_end_waits_for_nobody_for_long(triad, trouble):
    async with open_client(triad) as client:
        seat = await client.checkout("f1")
        for server in triad.servers:
            server.frozen = trouble == "frozen"
            server.dark = trouble == "dark"
            if trouble != "frozen":
                await triad.kill(server.rank)
        begun = trio.current_time()
        with trio.CancelScope() as scope:
            scope.cancel()
            await seat.checkin()
    assert trio.current_time() - begun <= CLOSE_S + 0.1
    assert not seat.held


async def test_wait_s_and_trio_timeouts(triad):
    for server in triad.servers:
        server.up = False
    async with open_client(triad, timeout_s=3.0) as client:
        for wait_s, waited_s in ((None, 3.0), (0.5, 0.5), (0.0, 0.0)):
            begun = trio.current_time()
            with pytest.raises(flexcore_trio.NoServerReachable):
                await client.checkout("f1", wait_s=wait_s)
            assert trio.current_time() - begun == pytest.approx(waited_s, abs=0.01)
        with pytest.raises(trio.TooSlowError), trio.fail_after(20.0):
            await client.checkout("f1", wait_s=math.inf)
        triad.servers[1].up = True
        triad.elect(1)
        assert (await client.checkout("f1", wait_s=math.inf)).held


# --- exceptions ---------------------------------------------------------------------------------------


async def test_an_exception_of_the_block_comes_out_as_it_is(triad):
    mine = RuntimeError("the product's")
    with pytest.raises(RuntimeError) as raised:
        async with open_client(triad) as client, client.checkout("f1"):
            raise mine
    assert raised.value is mine
    assert triad.ledger.free == 10
    with pytest.raises(flexcore_trio.CheckoutDenied):
        async with open_client(triad) as client:
            await client.checkout("f9")


async def test_a_crash_in_the_products_nursery_gives_everything_back(triad):
    async def crash() -> None:
        await trio.sleep(1.0)
        raise ValueError("a task of the product")

    async def product() -> None:
        async with open_client(triad) as client, client.checkout("f1"), trio.open_nursery() as tasks:
            tasks.start_soon(crash)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        await product()
    assert [str(error) for error in raised.value.exceptions] == ["a task of the product"]
    assert triad.ledger.free == 10
    assert len(triad.heard(wire.Goodbye)) == 1


async def test_a_bug_of_the_client_is_told_and_logged(triad, caplog, monkeypatch):
    losses: list[LicenseLost] = []
    async with open_client(triad, on_loss=lambda _, why: losses.append(why)) as client:
        seat = await client.checkout("f1")

        def broken(*_: Any, **__: Any) -> None:
            raise AssertionError("a bug")

        monkeypatch.setattr(type(client._desk.machine), "receive_event", broken)
        with pytest.raises(LocalProtocolError, match="has failed: a bug"):
            await client.checkout("f1")
        assert not seat.held
        assert [why.reason for why in losses] == ["the client has failed: a bug"]
        assert (await seat.wait_lost()) is losses[0]
        await seat.checkin()
        begun = trio.current_time()
    assert trio.current_time() == begun
    assert "the licence client has failed" in caplog.text


async def test_a_checkout_that_nobody_awaits_is_told():
    async with flexcore_trio.open_client("1@a") as client:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            client.checkout("f1")
            gc.collect()
    assert ["was never awaited" in str(each.message) for each in told] == [True]


async def test_closed(triad):
    async with open_client(triad) as client:
        seat = await client.checkout("f1")
        await client.close()
        assert not seat.held
        assert await seat.wait_lost() is None
        with pytest.raises(LocalProtocolError, match="closed"):
            await client.checkout("f1")
        with pytest.raises(LocalProtocolError, match="closed"):
            client.trouble  # noqa: B018
        await client.close()
    assert len(triad.heard(wire.Goodbye)) == 1


# --- tasks --------------------------------------------------------------------------------------------


async def test_many_tasks_share_a_client(triad):
    held: list[int] = []
    denied: list[int] = []

    async def work() -> None:
        try:
            async with client.checkout("f1") as seat:
                held.append(seat.handle)
                await trio.sleep(5.0)
                assert seat.held
        except flexcore_trio.CheckoutDenied as no:
            denied.append(no.code)

    async with open_client(triad) as client, trio.open_nursery() as workers:
        for _ in range(13):
            workers.start_soon(work)
    assert len(set(held)) == 10
    assert denied == [-4, -4, -4]
    assert triad.ledger.free == 10
    assert len(triad.heard(wire.OpenSession)) == 1


async def test_the_last_seat_can_be_had_again_at_once(triad):
    async with open_client(triad) as client:
        for _ in range(5):
            async with client.checkout("f1", count=10) as seat:
                assert seat.held


async def test_the_server_is_killed_in_the_middle_of_a_checkout(triad):
    """It has granted, and dies before it says so: the next master says the same, once."""
    async with open_client(triad) as client:
        async with client.checkout("f1"):
            triad.servers[0].frozen = True

            async def die() -> None:
                await trio.sleep(0.1)
                for conn, message in triad.servers[0].held_back:
                    triad.servers[0].answer(conn, message)  # written down, not said
                assert triad.ledger.free == 8
                triad.elect(1)
                await triad.kill(0)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(die)
                second = await client.checkout("f1")
            assert second.held
            assert len(client.seats) == 2
            assert triad.ledger.free == 8
        await second.checkin()
        assert triad.ledger.free == 10


# --- losses -------------------------------------------------------------------------------------------


async def test_while_held_cancels_the_block(triad):
    async def product() -> None:
        with seat.while_held():
            await triad.push(0, removal(seat))
            await trio.sleep_forever()

    async with open_client(triad) as client, client.checkout("f1") as seat:
        begun = trio.current_time()
        with pytest.raises(LicenseLost, match="removed by root"):
            await product()
        assert trio.current_time() == begun
        with pytest.raises(LicenseLost), seat.while_held():
            raise AssertionError("not held, not entered")


async def test_while_held_leaves_what_ends_alone(triad):
    async with open_client(triad) as client, client.checkout("f1") as seat:
        with seat.while_held():
            await trio.sleep(1.0)
        with pytest.raises(KeyError), seat.while_held():
            raise KeyError
        with trio.move_on_after(1.0) as outer, seat.while_held():
            await trio.sleep_forever()
        assert outer.cancelled_caught
        with seat.while_held() as scope:
            scope.cancel()
            await trio.sleep_forever()
        assert seat.held


async def test_while_held_ends_with_the_checkin_of_another_task(triad):
    async with open_client(triad) as client, trio.open_nursery() as nursery:
        seat = await client.checkout("f1")
        nursery.start_soon(seat.checkin)
        with pytest.raises(LicenseLost, match="given back"), seat.while_held():
            await trio.sleep_forever()
        assert await seat.wait_lost() is None


async def test_wait_lost(triad):
    told: list[LicenseLost | None] = []

    async def watch() -> None:
        told.append(await seat.wait_lost())

    async with open_client(triad) as client:
        seat = await client.checkout("f1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            assert told == []
            await triad.push(0, removal(seat))
        assert told == [seat.lost]
        assert seat.lost is not None


async def test_an_async_callback_runs_beside_the_block(triad, caplog):
    saved: list[Seat] = []

    async def save(seat: Seat, why: LicenseLost) -> None:
        again = await client.checkout("f1")
        await trio.sleep(30.0)
        saved.append(again)
        raise RuntimeError("the product's mistake")

    async with open_client(triad, on_loss=save) as client:
        seat = await client.checkout("f1")
        await triad.push(0, removal(seat))
        await trio.sleep(1.0)
        assert saved == []
        await trio.sleep(30.0)
        assert saved[0].held
    assert "the product's mistake" in caplog.text


async def test_the_end_waits_for_callbacks_and_an_exception_cancels_them(triad):
    ended: list[str] = []

    async def save(seat: Seat, why: LicenseLost) -> None:
        try:
            await trio.sleep(30.0)
            ended.append("saved")
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    async def product_that_fails() -> None:
        async with open_client(triad, on_loss=save) as client:
            seat = await client.checkout("f1")
            await triad.push(0, removal(seat))
            await trio.sleep(0.1)
            raise KeyError

    async with open_client(triad, on_loss=save) as client:
        seat = await client.checkout("f1")
        await triad.push(0, removal(seat))
        await trio.sleep(0.1)
    assert ended == ["saved"]
    with pytest.raises(KeyError):
        await product_that_fails()
    assert ended == ["saved", "cancelled"]


async def test_states_are_told(triad):
    states: list[tuple[bool, str]] = []

    async def state(change: flexcore_trio.StateChanged) -> None:
        states.append((change.ready, change.server.host if change.server else ""))

    async with open_client(triad, on_state=state) as client:
        seat = await client.checkout("f1")
        triad.elect(1)
        await triad.kill(0)
        await trio.sleep(5.0)
        assert seat.held
        assert client.is_serving
        assert client.trouble is None
    assert states == [(True, "a"), (False, ""), (True, "b")]


# --- streams ------------------------------------------------------------------------------------------


class Stuffed(trio.abc.Stream):
    """A stream that takes nothing any more once it is stuffed."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.stuffed = False

    @override
    async def send_all(self, data: Any) -> None:
        if self.stuffed:
            await trio.sleep_forever()
        await self.inner.send_all(data)

    @override
    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    @override
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        received: bytes = await self.inner.receive_some(max_bytes)
        return received

    @override
    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_a_server_that_reads_nothing_is_given_up(triad, monkeypatch):
    """Bytes that wait for it are bounded; nobody waits for the machine's own patience."""
    bound = "flexcore_trio.client_engine.UNSENT_BYTES_MAX"
    monkeypatch.setattr(bound, 200)
    streams: list[Stuffed] = []

    async def connect(host: str, port: int) -> Stuffed:
        if streams:
            monkeypatch.setattr(bound, 1 << 20)
        streams.append(Stuffed(await triad.connect(host, port)))
        return streams[-1]

    async with flexcore_trio.open_client(
        triad.path, vendor="demo", connect=connect, now=trio.current_time, wall=trio.current_time
    ) as client:
        await client.checkout("f1")
        streams[0].stuffed = True
        triad.elect(1)
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._check_out, "f1", "", 1, None)
            await trio.testing.wait_all_tasks_blocked()  # this one is in the stream's hands
            for _ in range(8):
                nursery.start_soon(client._check_out, "f1", "", 1, None)
        assert trio.current_time() - begun < 0.5
        assert len(client.seats) == 10


async def test_a_stream_that_cannot_be_made(caplog):
    """What is no OSError is a bug of whoever brought the stream: it is told, and nothing hangs."""

    async def connect(host: str, port: int) -> Any:
        raise KeyError(host)

    async with flexcore_trio.open_client("1@a", vendor="demo", connect=connect) as client:
        with caplog.at_level(logging.ERROR), pytest.raises(LocalProtocolError, match="has failed"):
            await client.checkout("f1")
