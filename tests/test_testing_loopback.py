"""Real triads inside a test: LoopbackTriad (threads) and open_triad (the test's own trio loop)."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import trio
import trio.testing

import flexcore_sync
from flexcore.errors import (
    CheckoutDenied,
    LicenseError,
    LicenseLost,
    LocalProtocolError,
    NoQuorum,
    StateDamaged,
)
from flexcore.wire.messages import ServerAddress
from flexcore_testing import LoopbackTriad, open_triad
from flexcore_testing.inquiry import Inquiry
from flexcore_testing.loopback import converse
from flexcore_testing.loopback_setup import Ports
from flexcore_trio import open_client

pytest_plugins = ["flexcore_testing.plugin"]

PATIENCE_S = 30.0


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


# --- in threads ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("poller")
def test_the_blocking_client_survives_and_loses():
    told = []
    with LoopbackTriad(features={"f1": 2}) as triad:
        assert triad.master == "primary"
        with triad.connect(user="user1", on_loss=lambda seat, error: told.append((seat, error))) as client:
            seat = client.checkout("f1", "1.0")
            triad.crash("primary")
            assert triad.state("primary") == "down"
            assert triad.wait_for_master() == "secondary"
            other = client.checkout("f1")
            with pytest.raises(CheckoutDenied):
                client.checkout("f1")
            assert seat.held
            text = triad.lmstat()
            assert '(-15,570:111 "Connection refused")' in text
            assert "Users of f1:  (Total of 2 licenses issued;  Total of 2 licenses in use)" in text
            assert "    user1 " in text
            assert "Users of" not in triad.lmstat(usage=False)
            other.checkin()
            triad.restart("primary")
            wait_until(lambda: triad.state("primary") == "follower")
            triad.stop("secondary")
            assert triad.wait_for_master() == "primary"
            assert seat.held
            assert 'OUT: "f1" user1@' in triad.log("secondary")


def test_a_seat_is_lost_when_the_servers_are_installed_anew():
    told = []
    with LoopbackTriad() as triad, triad.connect(on_loss=lambda seat, error: told.append(error)) as client:
        seat = client.checkout("f1")
        triad.forget_everything()
        wait_until(lambda: told)
        assert isinstance(told[0], LicenseLost)
        assert not seat.held
        assert client.checkout("f1").held


@pytest.mark.slow
def test_a_frozen_server_and_a_lost_disk():
    with LoopbackTriad() as triad, triad.connect() as client:
        seat = client.checkout("f1")
        triad.pause("primary")
        assert triad.state("primary") == "paused"
        assert '(-15,570:110 "Connection timed out")' in triad.lmstat()
        assert triad.wait_for_master() == "secondary"
        assert seat.held
        with pytest.raises(LocalProtocolError, match="resume it, or crash it"):
            triad.stop("primary")
        triad.resume("primary")
        wait_until(lambda: triad.state("primary") == "follower")
        triad.pause("tertiary")
        triad.crash("tertiary")
        triad.lose_disk("tertiary")
        triad.start("tertiary")
        wait_until(lambda: triad.state("tertiary") == "follower")
        assert "copied" in triad.log("tertiary")


@pytest.mark.slow
def test_servers_that_are_cut_off_from_each_other():
    with LoopbackTriad(cuttable=True) as triad, triad.connect() as client:
        seat = client.checkout("f1")
        triad.cut("primary", "secondary", one_way=True)
        triad.heal("primary", "secondary")
        triad.isolate("primary")
        wait_until(lambda: triad.state("secondary") == "serving" and triad.state("primary") != "serving")
        assert client.checkout("f1").held
        assert seat.held
        triad.heal()
        wait_until(lambda: triad.state("primary") == "follower")
        with pytest.raises(ValueError, match="are one server"):
            triad.cut("primary", "pat")
        with pytest.raises(TypeError, match="heal"):
            triad.heal("primary")
    with LoopbackTriad(start=False) as triad, pytest.raises(LocalProtocolError, match="made with cuttable=True"):
        triad.isolate("primary")


def test_an_async_client_of_servers_in_threads():
    async def main():
        async with open_client(triad.path, keys=triad.keys) as client, client.checkout("f1") as seat:
            await trio.to_thread.run_sync(triad.crash, "primary")
            assert await trio.to_thread.run_sync(triad.wait_for_master) == "secondary"
            assert seat.held
            assert (await client.checkout("f1")).held

    with LoopbackTriad() as triad:
        trio.run(main)


def test_servers_that_are_not_started():
    with LoopbackTriad(start=False) as triad:
        assert triad.master is None
        triad.start("secondary")
        with pytest.raises(TimeoutError, match=r"after 0.1 s nobody serves:\n  primary: down\n(.|\n)*down"):
            triad.wait_for_master(within_s=0.1)
        with triad.connect() as client, pytest.raises(NoQuorum):
            client.checkout("f1", wait_s=0.5)
        triad.start("tertiary")
        assert triad.wait_for_master() == "secondary"
        for call in (triad.crash, triad.stop, triad.pause, triad.resume):
            with pytest.raises(LocalProtocolError, match="the primary: it is down"):
                call("primary")
        with pytest.raises(LocalProtocolError, match="the secondary runs"):
            triad.start("lee")
        with pytest.raises(LocalProtocolError, match="crash or stop it before"):
            triad.lose_disk("terry")
        with pytest.raises(LocalProtocolError, match="not paused"):
            triad.resume("terry")
        with pytest.raises(ValueError, match="'pet' is no server"):
            triad.crash("pet")
    with pytest.raises(LocalProtocolError, match="closed"):
        triad.start("primary")
    triad.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flexcore-")]


def test_a_start_that_fails_is_told_and_leaves_nothing():
    with pytest.raises(LicenseError, match="a triad has three"):
        LoopbackTriad("SERVER a ANY 5000\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 1 SIGN=0\n")
    with LoopbackTriad(start=False) as triad:
        triad._stage.disks[0].hard = b"{"
        with pytest.raises(StateDamaged, match=r"the disk of the primary"):
            triad.start("primary")
        assert triad.state("primary") == "down"


def test_what_an_inquiry_makes_of_other_servers():
    silent = socket.create_server(("127.0.0.1", 0))
    babbler = socket.create_server(("127.0.0.1", 0))

    def babble():
        sock, _ = babbler.accept()
        with sock:
            sock.sendall(b"\xff" * 64)

    thread = threading.Thread(target=babble)
    thread.start()
    with silent, babbler:
        for listener in (silent, babbler):
            inquiry = Inquiry(usage=True)
            host, port = listener.getsockname()
            converse(inquiry, ServerAddress(host, port), timeout_s=0.05)
            assert inquiry.hello is None
            assert inquiry.failure is not None
    thread.join()


def test_a_port_is_kept_while_its_server_is_down():
    ports = Ports()
    try:
        for number in ports.numbers:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", number), 5)
    finally:
        ports.close()


# --- in the loop of the test --------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_the_issue_s_example_with_an_async_client(flexcore_async_triad, autojump_clock):
    triad = flexcore_async_triad
    async with triad.open_client(user="user1") as client, client.checkout("f1", "1.0") as seat:
        await triad.crash("primary")
        await trio.sleep(80)
        assert await triad.master() == "secondary"
        assert seat.held
        assert "    user1 " in await triad.lmstat()
    assert "user1" not in await triad.lmstat()


@pytest.mark.trio
async def test_a_licence_that_is_lost_needs_no_waiting(autojump_clock):
    told = []
    async with open_triad(heartbeat_interval_s=20, date="2026-06-01") as triad:
        async with triad.open_client(on_loss=lambda seat, error: told.append(trio.current_time())) as client:
            seat = await client.checkout("f1")
            assert triad.timeout_s == 79
            began = trio.current_time()
            await triad.crash("primary")
            await triad.crash("secondary")
            await trio.sleep(200)
            assert told[0] - began == pytest.approx(109, abs=11)
            assert not seat.held
            await triad.restart("secondary")
            assert await triad.wait_for_master() == "secondary"
            await triad.restart("primary")
            await triad.stop("secondary")
            assert await triad.wait_for_master() == "primary"
            assert (await client.checkout("f1")).held
        assert "Mon 6/1/2026" in await triad.lmstat(usage=False)
        assert "CONNECTED, master is" in triad.log("tertiary")


@pytest.mark.trio
async def test_wrong_calls_in_a_loop(autojump_clock):
    async with open_triad() as triad:
        seat_lost = []
        async with triad.open_client(on_loss=lambda seat, error: seat_lost.append(error)) as client:
            await client.checkout("f1")
            await triad.forget_everything()
            await trio.sleep(5)
            assert seat_lost
        with pytest.raises(LocalProtocolError, match="the primary runs"):
            await triad.start("primary")
        with pytest.raises(LocalProtocolError, match="crash or stop it before"):
            triad.lose_disk("primary")
        await triad.crash("primary")
        for call in (triad.crash, triad.stop):
            with pytest.raises(LocalProtocolError, match="it is down"):
                await call("primary")
        await triad.crash("secondary")
        await trio.sleep(5)
        assert await triad.state("tertiary") == "waiting"
        with pytest.raises(TimeoutError, match="after 1 s nobody serves"):
            await triad.wait_for_master(within_s=1)
    with pytest.raises(ZeroDivisionError):
        async with open_triad():
            raise ZeroDivisionError


def test_the_two_clients_are_the_products_own():
    with LoopbackTriad() as triad, triad.connect(keys=()) as client:
        assert isinstance(client, flexcore_sync.Client)
        assert client.checkout("f1").held
        assert triad.vendor == "demo"
        assert triad.license.is_triad
