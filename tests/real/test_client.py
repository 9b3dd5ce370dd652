"""The blocking client and ``flexcore run`` against a triad of real processes (issue, "done when" 3 and 4)."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import pytest

import flexcore_sync
from flexcore.identity import Rank
from flexcore_host.application import CHECKIN_S
from tests.real.triad import FLEXCORE, running, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
]

P, S, T = Rank

BLOCKING = """
import os, sys
import flexcore_sync
client = flexcore_sync.connect(sys.argv[1], vendor="demo")
seat = client.checkout("f1")
print("up", flush=True)
exec(input())
"""

ON_TRIO = """
import os, sys
import flexcore_trio, trio
async def main():
    async with flexcore_trio.open_client(sys.argv[1], vendor="demo") as client:
        async with client.checkout("f1"):
            await trio.sleep(0.2)
            print("up", flush=True)
            exec(await trio.to_thread.run_sync(input))
trio.run(main)
"""


@pytest.fixture
def triad(tmp_path):
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def serving(triad):
    triad.start(P, S, T)
    triad.until_all_follow(P)
    return triad


def connect(triad, **options):
    return flexcore_sync.connect(triad.path, keys=[triad.key.verifying_key], **options)


def held(triad):
    return sorted((s.user, s.host, s.display, s.feature, s.handle, s.started) for s in triad.seats())


@pytest.mark.parametrize("keep_alive", ["thread", "none"])
def test_checkout_and_checkin(serving, keep_alive):
    with connect(serving, keep_alive=keep_alive) as client:
        with client.checkout("f1", "1.0", count=2) as seat:
            (row,) = serving.seats()
            assert (row.handle, row.count, row.started) == (seat.handle, 2, seat.started)
            with pytest.raises(flexcore_sync.CheckoutDenied) as denied:
                client.checkout("f1", count=2)
            assert denied.value.code == -4
        until("it is back", lambda: serving.seats() == [])
        client.checkout("f2")
    assert serving.seats() == []


@pytest.mark.parametrize("keep_alive", ["thread", "none"])
def test_the_last_seat_that_was_returned_can_be_had_at_once(serving, keep_alive):
    """Rule 14 keeps a seat until its return is written down twice: that must not look like a full pool."""
    with connect(serving, keep_alive=keep_alive) as one, connect(serving) as other:
        for client in (one, other) * 10:
            with client.checkout("f1", count=3):
                pass
            with client.checkout("f1", count=3):
                pass


def test_a_checkin_does_not_wait_for_a_triad_that_is_gone(serving):
    with connect(serving) as client:
        seat = client.checkout("f1")
        for rank in (P, S, T):
            serving.kill(rank)
        until("the client knows", lambda: not client.is_serving)
        begun = time.monotonic()
        seat.checkin()
        assert not seat.held
        assert time.monotonic() - begun < CHECKIN_S


def test_kill_of_the_master(serving):
    losses = []
    with connect(serving, on_loss=lambda *what: losses.append(what)) as client:
        seat = client.checkout("f1")
        before = held(serving)
        serving.kill(P)
        begun = time.monotonic()
        second = client.checkout("f1", wait_s=30.0)
        took = time.monotonic() - begun
        assert seat.held
        assert second.held
        assert losses == []
        assert set(before) < set(held(serving))
        assert took < 10.0  # promised is a second; asserted with ten times the margin


def test_a_frozen_master(serving):
    with connect(serving) as client:
        seat = client.checkout("f1")
        serving.freeze(P)
        begun = time.monotonic()
        second = client.checkout("f1", wait_s=60.0)
        took = time.monotonic() - begun
        assert seat.held
        assert second.held
        assert took < 10.0 * (serving.timeout_s + 1.0)
        serving.thaw(P)
        time.sleep(1.0)
        assert seat.held
        assert len(serving.seats()) == 2


def test_each_server_killed_and_started_again(serving):
    losses = []
    with connect(serving, on_loss=lambda *what: losses.append(what)) as client:
        seats = [client.checkout("f1"), client.checkout("f2")]
        for rank in (P, S, T):
            serving.kill(rank)
            serving.until_master()
            assert client.checkout("f1", wait_s=30.0).held
            client.seats[-1].checkin()
            serving.start(rank, first_start=False)
            serving.until_all_follow(serving.until_master())
        assert all(seat.held for seat in seats)
        assert losses == []


def test_restart_of_all_three(serving):
    with connect(serving) as client:
        seat = client.checkout("f1")
        before = held(serving)
        for rank in Rank:
            serving.kill(rank)
        with pytest.raises(flexcore_sync.NoServerReachable):
            client.checkout("f1", wait_s=0.5)
        assert seat.held
        serving.start(P, S, T, first_start=False)
        serving.until_master()
        assert client.checkout("f2", wait_s=30.0).held
        assert seat.held
        assert set(before) < set(held(serving))


def test_no_quorum_is_told(triad):
    triad.start(P)
    with connect(triad) as client, pytest.raises(flexcore_sync.NoQuorum) as silence:
        client.checkout("f1", wait_s=1.5)
    assert silence.value.code == -97


def test_run_rides_out_a_failover(serving):
    command = [
        *FLEXCORE, "run", "-c", serving.path, "-f", "f1", "--vendor-key", str(serving.key_file), "--",
        sys.executable, "-c", "print('up', flush=True); input(); print('done')",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        serving.kill(P)
        serving.until_master(S)
        assert len(serving.seats()) == 1
        process.stdin.write("go on\n")
        process.stdin.close()
        assert process.stdout.readline() == "done\n"
        assert process.wait(30) == 0
    until("it is back", lambda: serving.seats() == [])


@pytest.mark.parametrize("last_words", ["os.kill(os.getpid(), 9)", "os._exit(3)", "sys.exit(3)"])
def test_an_application_that_ends_frees_its_licences(serving, last_words):
    """Killed, ended past Python, ended without a close: the grace of an orderly end of stream at most (rule 16)."""
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, serving.path],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
            )
            for program in (BLOCKING, ON_TRIO)
        ]  # fmt: skip
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        assert len(serving.seats()) == 2
        for process in processes:
            process.communicate(f"{last_words}\n", timeout=30)
            assert process.returncode != 0
    # The lease is 33 s: only the end of the connections can have freed them before that.
    assert until("they are free", lambda: serving.seats() == []) < 30.0
