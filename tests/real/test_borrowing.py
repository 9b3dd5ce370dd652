"""Borrowing with real lmgrd processes and real commands: taken home, the master killed, used without any server,
returned to the next master after a restart of all three. ``make scenarios`` runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from flexcore.identity import Rank
from flexcore_host import whoami
from flexcore_host.borrow_files import BorrowFolder
from tests.borrow_kit import put
from tests.real.triad import FLEXCORE, VENDOR, running

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
    pytest.mark.skipif(os.environ.get("FLEXCORE_SCENARIOS") != "all", reason="of make scenarios: it takes long"),
]

P, S, T = Rank


def test_the_end_of_what_is_borrowed_ends_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEXCORE_BORROW_DIR", str(tmp_path / "borrow"))
    now = time.time()
    put(BorrowFolder(str(tmp_path / "borrow")), user=whoami.user(), borrowed_at=now, seen=now, until=now + 2.0)
    done = subprocess.run(
        [*FLEXCORE, "run", "-c", "1@127.0.0.1", "-f", "f1", "--", "sleep", "60"],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGTERM
    assert "the licence for f1 is lost: BORROW period has expired; terminating the command" in done.stderr


def in_use(triad) -> int:
    return sum(row.count for row in triad.seats())


DIES = """
import os, signal, sys
from flexcore_host.lending import Lending
from flexcore_tools.cli import main
Lending.lent = lambda self, action: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_killed_between_the_servers_answer_and_its_file(tmp_path, monkeypatch):
    """The one seat is lent, and the command that asked for it is dead: the next one finds it, also at the next master,
    and only then it can be used at home."""
    monkeypatch.setenv("FLEXCORE_BORROW_DIR", str(tmp_path / "borrow"))
    with running(tmp_path, features=("f1 1.0 permanent 1 BORROW=48",)) as triad:
        key = str(tmp_path / f"{VENDOR}.pub")
        run = ("run", "-c", triad.path, "--vendor-key", key, "--vendor", VENDOR, "-f", "f1", "--wait", "20", "--")
        triad.start(P, S, T)
        triad.until_all_follow(P)
        monkeypatch.setenv("LM_BORROW", time.strftime(f"today:{VENDOR}:%d-%b-%Y", time.localtime(time.time() + 86_400)))
        died = subprocess.run([sys.executable, "-c", DIES, *run, "echo", "never"], timeout=50, check=False)
        assert died.returncode == -signal.SIGKILL
        assert in_use(triad) == 1
        assert "no server confirmed it" in triad.flexcore("lmborrow", "-status").stdout
        triad.kill(P)
        triad.until_master(S)
        done = triad.flexcore(*run, "echo", "at work")
        assert (done.returncode, done.stdout) == (0, "at work\n"), done.stderr
        assert in_use(triad) == 1
        for rank in (S, T):
            triad.kill(rank)
        done = triad.flexcore(*run, "echo", "at home")
        assert (done.returncode, done.stdout) == (0, "at home\n"), done.stderr


def test_borrowed_before_and_returned_after_a_failover_and_a_restart(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEXCORE_BORROW_DIR", str(tmp_path / "borrow"))
    with running(tmp_path, features=("f1 1.0 permanent 2 BORROW=48",)) as triad:
        key = str(tmp_path / f"{VENDOR}.pub")
        run = ("run", "-c", triad.path, "--vendor-key", key, "--vendor", VENDOR, "-f", "f1", "--wait", "20", "--")
        triad.start(P, S, T)
        triad.until_all_follow(P)
        tomorrow = time.strftime("%d-%b-%Y:%H:%M", time.localtime(time.time() + 24 * 3600))
        assert triad.flexcore("lmborrow", VENDOR, tomorrow).returncode == 0
        done = triad.flexcore(*run, "echo", "at work")
        assert (done.returncode, done.stdout) == (0, "at work\n"), done.stderr
        assert triad.flexcore("lmborrow", "-clear").returncode == 0
        assert in_use(triad) == 1

        triad.kill(P)
        triad.until_master(S)
        assert in_use(triad) == 1
        for rank in (S, T):
            triad.kill(rank)
        done = triad.flexcore(*run, "echo", "at home")
        assert (done.returncode, done.stdout) == (0, "at home\n"), done.stderr
        assert triad.flexcore("lmborrow", "-return", "f1").returncode == 241
        done = triad.flexcore(*run, "echo", "still at home")  # a return that reached nobody changed nothing
        assert done.returncode == 0, done.stderr

        triad.start(P, S, T)
        triad.until_master()
        assert in_use(triad) == 1
        done = triad.flexcore("lmborrow", "-return", "-c", triad.path, "f1")
        assert (done.returncode, done.stdout) == (0, "f1 is returned\n"), done.stderr
        assert in_use(triad) == 0
