"""Redundancy by search path with processes: three independent servers, each with a share, one of them killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import trio

import flexcore_sync
import flexcore_trio
from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license
from tests.ports import HOSTS, free_port
from tests.real.triad import FLEXCORE, PATIENCE_S, Wire, until

pytestmark = pytest.mark.real

KEY = SigningKey("demo", bytes(range(32)))
SHARES = (1, 1, 2)


class Servers:
    """Three single servers, with one, one and two licences of f1 if nothing else is said."""

    def __init__(self, folder, shares=SHARES):
        self.port = free_port()
        self.path = ":".join(f"{self.port}@{host}" for host in HOSTS)
        self.processes = []
        (folder / "demo.pub").write_text(f"{KEY.verifying_key}\n")
        for host, share in zip(HOSTS, shares, strict=True):
            text = f"SERVER {host} ANY {self.port} HEARTBEAT_INTERVAL=1\nVENDOR demo\n"
            text += f"FEATURE f1 demo 1.0 permanent {share}\n"
            file = folder / f"{host}.lic"
            file.write_text(format_license(sign_license(parse_license(text), KEY)))
            arguments = [*FLEXCORE, "lmgrd", "-c", str(file), "--vendor-key", str(folder / "demo.pub"),
                         "--state-dir", "none", "-l", str(folder / f"{host}.log"), "--first-start"]  # fmt: skip
            with (folder / "err").open("ab") as errors:
                self.processes.append(subprocess.Popen(arguments, stdout=errors, stderr=errors))
        until("all serve", lambda: all(self.serves(host) for host in HOSTS))

    def serves(self, host):
        try:
            wire = Wire(host, self.port)
        except OSError:
            return False
        wire.close()
        return wire.hello.report.state == "serving"

    def kill(self, index):
        self.processes[index].kill()
        self.processes[index].wait()

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def servers(tmp_path):
    servers = Servers(tmp_path)
    yield servers
    servers.close()


def test_three_servers_and_one_is_killed(servers):
    keys = [KEY.verifying_key]
    with flexcore_sync.connect(servers.path, keys=keys, user="ann") as ann:
        seats = [ann.checkout("f1") for _ in range(4)]
        assert [seat.site for seat in seats] == [0, 1, 2, 2], "the shares are one pool for the client"
        with pytest.raises(flexcore_sync.CheckoutDenied) as denied:
            ann.checkout("f1")
        assert denied.value.code == -4
        # Bob waits in all three queues; the first server dies, and takes only its own share with it.
        with flexcore_sync.connect(servers.path, keys=keys, user="bob") as bob:
            waiting = bob.queue("f1")
            until("bob waits", lambda: waiting.was_queued)
            servers.kill(0)
            begun_at = time.monotonic()
            seats[3].checkin()
            seats[1].checkin()
            until("bob has one", lambda: waiting.seat is not None)
            assert time.monotonic() - begun_at < PATIENCE_S
            until("and one only", lambda: len(bob.seats) == 1)
            assert waiting.seat is not None
            assert waiting.seat.site in (1, 2)
            assert seats[2].held, "what another server granted is not touched"
            # Of the three that are left two are taken, so that one more is to be had, wherever it is.
            until("the other grant is given back", lambda: _can_have(ann))
    # The async client and `run` take the same path. All of it is free at both: the order of the path; then not.
    assert trio.run(_least_loaded, servers.path, keys) == [1, 2]
    done = subprocess.run(
        [*FLEXCORE, "run", "-c", servers.path, "-f", "f1", "--count", "2", "--least-loaded", "--",
         sys.executable, "-c", "print('ran')"],
        check=False, capture_output=True, text=True, timeout=PATIENCE_S, env=dict(os.environ),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


def _can_have(client):
    try:
        client.checkout("f1").checkin()
    except flexcore_sync.CheckoutDenied:
        return False
    return True


async def _least_loaded(path, keys):
    async with (
        flexcore_trio.open_client(path, keys=keys, prefer="least-loaded") as client,
        client.checkout("f1") as first, client.checkout("f1") as second,
    ):  # fmt: skip
        return [first.site, second.site]
