"""Applications that hold licences while servers die, hang, restart or run out of disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from flexcore.errors import CheckoutDenied
from flexcore.identity import Rank
from flexcore_sync import connect
from tests.real.triad import FLEXCORE, PATIENCE_S, running, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
]

P, S, T = Rank


@pytest.fixture
def triad(tmp_path):
    with running(tmp_path) as made:
        made.start(P, S, T)
        made.until_all_follow(P)
        yield made


@contextlib.contextmanager
def application(triad, user="ann"):
    """A client of the library, and what it was told to have lost."""
    lost: list[str] = []
    client = connect(
        triad.path, keys=[triad.key.verifying_key], user=user, host="elm", display=":0",
        timeout_s=PATIENCE_S, on_loss=lambda seat, why: lost.append(str(why)),
    )  # fmt: skip
    with client:
        yield client, lost


@contextlib.contextmanager
def running_command(triad, feature, *command):
    """``flexcore run`` around a command; killed at the end if it is still there."""
    with subprocess.Popen(
        [*FLEXCORE, "run", "-c", triad.path, "-f", feature, "--vendor-key", str(triad.key_file),
         "--wait", str(PATIENCE_S), "--", *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def table(triad):
    """Who holds what, handle and start time included: what a failover must not change."""
    return sorted((seat.user, seat.feature, seat.handle, seat.started) for seat in triad.seats())


def test_commands_keep_running_through_the_death_of_each_master(triad):
    """Issue, "done when" 3: the same users, handles and start times, and the commands live on."""
    with running_command(triad, "f1", "cat") as one, running_command(triad, "f2", "cat") as two:
        until("both commands hold a licence", lambda: len(triad.seats()) == 2)
        before = table(triad)
        for victim in (P, S):
            assert triad.until_master() is victim
            triad.kill(victim)
            triad.until_master()
            assert table(triad) == before
            triad.start(victim, first_start=False)
            triad.until_all_follow()
        for process in (one, two):
            assert process.poll() is None
            output, _ = process.communicate(b"still here\n", timeout=PATIENCE_S)
            assert b"still here" in output
            assert process.returncode == 0
    until("all is given back", lambda: not triad.seats())


def test_a_command_whose_keeper_is_killed_frees_its_licence(triad):
    with running_command(triad, "f1", "sh", "-c", "echo up; exec sleep 1000") as process:
        # Killed with the grant unread, its connection would end with a reset: that waits for the lease.
        assert process.stdout.readline() == b"up\n"
        assert len(triad.seats()) == 1
        process.kill()
        process.wait()
        # An orderly end of stream (the kernel closes for the dead): the grace of two seconds.
        assert until("the licence is free", lambda: not triad.seats()) < 30.0


def test_a_library_client_notices_no_failover(triad):
    with application(triad) as (ann, lost):
        seat = ann.checkout("f1", "1.0")
        handle, started = seat.handle, seat.started
        triad.kill(P)
        begun = time.monotonic()
        second = ann.checkout("f2")
        assert time.monotonic() - begun < 10.0
        assert seat.held
        assert second.held
        assert [(s.handle, s.started) for s in triad.seats() if s.feature == "f1"] == [
            (handle, pytest.approx(started))
        ]
        with pytest.raises(CheckoutDenied) as denied:
            ann.checkout("f1", count=3)
        assert denied.value.code == -4
    assert lost == []
    until("all is given back", lambda: not triad.seats())


def test_a_library_client_rides_out_a_frozen_master(triad):
    with application(triad) as (ann, lost):
        seat = ann.checkout("f1")
        triad.freeze(P)
        begun = time.monotonic()
        ann.checkout("f2")
        assert time.monotonic() - begun < 10 * (triad.timeout_s + 1)
        triad.thaw(P)
        triad.until_all_follow(S)
        assert seat.held
        assert {row.handle for row in triad.seats() if row.feature == "f1"} == {seat.handle}
    assert lost == []


def test_a_library_client_rides_out_the_restart_of_all_three(triad):
    with application(triad) as (ann, lost):
        seat = ann.checkout("f1")
        for rank in Rank:
            triad.kill(rank)
        triad.start(P, S, T, first_start=False)
        triad.until_master()
        until("the client is served again", lambda: ann.is_serving)
        assert seat.held
        assert {row.handle for row in triad.seats()} == {seat.handle}
    assert lost == []


def test_a_lost_state_folder_of_the_master_loses_nothing(triad):
    """Issue, "done when" 7: no waiting, nothing lost."""
    with application(triad) as (ann, lost):
        seat = ann.checkout("f1")
        triad.kill(P)
        shutil.rmtree(triad.state_dir(P))
        triad.start(P, first_start=False)
        triad.until_all_follow(triad.until_master(S))
        assert seat.held
        assert {row.handle for row in triad.seats()} == {seat.handle}
    assert lost == []


def test_without_a_quorum_nothing_is_given_and_what_is_held_stays(triad):
    with application(triad) as (ann, lost):
        seat = ann.checkout("f1")
        triad.kill(S)
        triad.kill(T)
        until("the master has stopped serving", lambda: triad.master() is None)
        shown = triad.flexcore("lmstat", "-a", "-c", triad.path)
        assert shown.returncode == 159
        assert seat.held
        triad.start(S, first_start=False)
        triad.until_master()
        ann.checkout("f2")
        assert seat.held
    assert lost == []


# --- one server -------------------------------------------------------------------------------------


def test_a_second_process_on_one_state_folder_is_refused(triad):
    done = subprocess.run(
        triad.arguments(S), check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    assert f"in use by another process (pid {triad.processes[S].pid})" in done.stderr
    assert triad.master() is P


def test_the_check_of_a_server_that_is_down_sees_its_peers(triad):
    triad.kill(T)
    done = triad.flexcore(*triad.arguments(T, "--check")[len(FLEXCORE) :])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a server of this triad is there (serving)" in done.stdout
    assert "a server of this triad is there (follower)" in done.stdout
    assert f"state folder {triad.state_dir(T)} (with state)" in done.stdout
    triad.write_license(["f1 1.0 permanent 9"], [T])
    text = triad.license_files[T].read_text()
    triad.license_files[T].write_text(text.replace("permanent 9", "permanent 99"))
    assert triad.flexcore(*triad.arguments(T, "--check")[len(FLEXCORE) :]).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_signals_stop_a_server_in_order(triad, number):
    assert triad.end(T, number) == 0
    assert "exiting" in triad.log(T)
    assert triad.master() is P


def test_a_hangup_opens_the_log_anew(triad):
    log = triad.log_file(T)
    log.rename(log.with_suffix(".1"))
    triad.processes[T].send_signal(signal.SIGHUP)
    until("the log is there again", log.exists)
    assert triad.end(T) == 0
    assert "exiting" in triad.log(T)


def test_rubbish_on_the_port_disturbs_nobody(triad):
    with application(triad) as (ann, lost):
        ann.checkout("f1")
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100_000, b"\0\0\0\x02\x7f\x7f", b""):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", triad.port), 5) as sock,
            ):
                sock.sendall(rubbish)
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(15)
                while sock.recv(65536):
                    pass
        ann.checkout("f2")
    assert triad.processes[P].poll() is None
    assert lost == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(folder)],
        check=False, capture_output=True,
    ) if shutil.which("mount") and os.geteuid() == 0 else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.parametrize("victim", [P, S], ids=["master", "follower"])
def test_a_full_disk_stops_that_server_and_not_the_triad(tmp_path, small_disk, victim):
    with running(tmp_path) as triad:
        triad.state_dir(victim).symlink_to(small_disk, target_is_directory=True)
        triad.start(P, S, T)
        triad.until_all_follow(P)
        with application(triad) as (ann, lost):
            seat = ann.checkout("f1")
            with contextlib.suppress(OSError), (small_disk / "fill").open("wb") as fill:
                while True:
                    fill.write(bytes(4096))
                    fill.flush()
            begun = time.monotonic()
            while triad.processes[victim].poll() is None:
                assert time.monotonic() - begun < PATIENCE_S
                ann.checkout("f2").checkin()
            assert triad.exited(victim) == 1
            assert "cannot be written" in triad.errors(victim)
            assert "cannot be written" in triad.log(victim)
            triad.until_master(S if victim is P else P)
            ann.checkout("f2").checkin()
            assert seat.held
        assert lost == []
