"""The async client and three real servers in one trio program: real sockets of loopback, made-up time."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

import flexcore_trio
from flexcore_testing import open_triad


def on_made_up_time(test: Any, *, clock: None, instruments: Any) -> Any:
    return trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0.005), instruments=instruments)


pytestmark = pytest.mark.trio(run=on_made_up_time)

SEATS = 3
FREE_BY_S = 5.0
"""A failover takes milliseconds here; the lease, which would free them as well, is 33 s."""


class Books:
    """What the tasks hold, by their own account."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.checkouts = 0

    async def work(self, client: flexcore_trio.Client) -> None:
        while True:
            try:
                async with client.checkout("f1", wait_s=60.0) as seat:
                    assert seat.handle not in self.held, "two tasks hold one seat"
                    self.held.add(seat.handle)
                    assert len(self.held) <= SEATS, "more is held than there is"
                    self.checkouts += 1
                    await trio.sleep(0.2)
                    assert seat.held
                    self.held.remove(seat.handle)
            except flexcore_trio.CheckoutDenied:
                await trio.sleep(0.1)  # what was returned under the last master is not written down yet


@pytest.mark.slow
async def test_tasks_at_work_while_each_server_crashes_in_turn():
    losses: list[object] = []
    books = Books()
    async with (
        open_triad(features={"f1": SEATS}) as triad,
        triad.open_client(on_loss=lambda *what: losses.append(what)) as one,
        triad.open_client(on_loss=lambda *what: losses.append(what)) as other,
        trio.open_nursery() as tasks,
    ):
        for client in (one, other, one):
            tasks.start_soon(books.work, client)
        for server in ("primary", "secondary", "tertiary", "secondary"):
            await trio.sleep(1.0)
            before = books.checkouts
            assert before > 0
            await triad.crash(server)
            await triad.wait_for_master()
            await trio.sleep(3.0)
            assert books.checkouts > before, f"nothing goes on without the {server}"
            await triad.start(server)
            await trio.sleep(10.0)
        tasks.cancel_scope.cancel()
    assert losses == []


async def test_a_goodbye_at_the_death_of_the_master_is_said_to_the_next():
    """One that went to the dying master was lost with it in half the runs: the seats stayed taken for the lease."""
    async with open_triad(features={"f1": SEATS}) as triad:
        async with triad.open_client() as client:
            await client.checkout("f1", count=SEATS)
            await triad.crash("primary")
        async with triad.open_client() as client:
            with trio.fail_after(FREE_BY_S):
                while True:
                    try:
                        async with client.checkout("f1", count=SEATS) as seat:
                            assert seat.held
                            break
                    except flexcore_trio.CheckoutDenied:
                        await trio.sleep(0.5)
