"""``flexcore demo`` on real processes: every claim holds, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for left-over processes in /proc"),
]

DEMO = [sys.executable, "-u", "-m", "flexcore_tools", "demo"]
PATIENCE_S = 300.0


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(folder)}


def processes_in(folder: Path) -> list[str]:
    """The command lines of processes that work in *folder*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = (entry / "cwd").readlink()
                if where.is_relative_to(folder):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


def test_every_claim_holds_and_nothing_is_left(tmp_path):
    done = subprocess.run(
        DEMO, env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "FAILED" not in done.stdout
    assert re.search(r"All \d+ claims held, in [\d.]+ seconds\.", done.stdout)
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_cleans_up(tmp_path, how):
    with subprocess.Popen(
        DEMO, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "--server tertiary" in line:
                break
        assert len(processes_in(tmp_path)) >= 3
        demo.send_signal(how)
        demo.send_signal(how)  # an impatient second one must not stop the cleaning up
        rest = demo.stdout.read()
        status = demo.wait(PATIENCE_S)
    assert status == 130, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def test_keep_leaves_a_triad_that_works(tmp_path):
    done = subprocess.run(
        [*DEMO, "--keep"], env=environment(tmp_path), capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        path = re.search(r"licence search path: (\S+)", done.stdout)
        assert path is not None
        assert "license server UP (MASTER)" in flexcore("lmstat", "-a", "-c", path[1])
        assert "is stopped" in flexcore("lmdown", "-q", "-c", path[1])
        deadline = time.monotonic() + 30
        while processes_in(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_in(tmp_path) == []
    finally:
        end_all(tmp_path)


def flexcore(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "flexcore_tools", *words], capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def end_all(folder: Path) -> None:
    """Whatever a failed test left: only processes that work in our own folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink().is_relative_to(folder):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue
