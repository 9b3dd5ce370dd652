"""``flexcore run`` as a process: statuses, signals, losses, and no command that outlives its licence."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flexcore.keys import SigningKey
from flexcore.wire import messages as wire
from tests.socket_triad import SocketTriad

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

RUN = (sys.executable, "-W", "error", "-m", "flexcore_tools", "run")
PATIENCE_S = 30.0


@pytest.fixture
def triad() -> Iterator[SocketTriad]:
    with SocketTriad() as triad:
        yield triad


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happens"
        time.sleep(0.01)


def run(triad: SocketTriad, *arguments: str, feature: str = "f1") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, "-c", triad.path, "-f", feature, *arguments],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


class Running:
    """A run under way whose command is a Python script; lines of its output are waited for."""

    def __init__(self, triad: SocketTriad, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*RUN, "-c", triad.path, "-f", "f1", *arguments, "--", sys.executable, "-u", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            start_new_session=True,
        )  # fmt: skip
        self.read = {"stdout": b"", "stderr": b""}

    def line(self, stream: str = "stdout") -> str:
        """The next line; what came with it in one piece is kept here, for no select() would tell of that."""
        pipe = getattr(self.process, stream)
        while b"\n" not in self.read[stream]:
            ready, _, _ = select.select([pipe], [], [], PATIENCE_S)
            assert ready, f"no output beyond {self.read}"
            piece = os.read(pipe.fileno(), 4096)
            assert piece, f"the output ends after {self.read}"
            self.read[stream] += piece
        line, _, self.read[stream] = self.read[stream].partition(b"\n")
        return line.decode()

    def rest(self, stream: str = "stdout") -> bytes:
        """All that comes until the last process with that stream has ended."""
        return self.read[stream] + bytes(getattr(self.process, stream).read())

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        self.process.wait()


WAIT = "import time; print('up'); time.sleep(60)"


def state_of(pid: int) -> str:
    """R, S, T (stopped), Z, or '' for no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


# --- statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("sh", "-c", "exit 0"), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("no-such-command",), 127),
        (("/etc/passwd",), 126),
    ],
)
def test_exits_with_the_commands_status(triad, command, status):
    done = run(triad, "--", *command)
    assert done.returncode == status
    until(lambda: triad.ledger.free == 10 and not triad.ledger.sessions)


def test_queue_says_for_whom_it_waits_and_runs_then(triad):
    with triad.lock:
        triad.ledger.free = 0
    with Running(triad, WAIT, "--queue") as running:
        said = running.line("stderr")
        assert said == "flexcore run: waiting in the queue for f1, next in turn; all in use by bob@elm"
        with triad.lock:
            triad.ledger.free = 1
            for server in triad.sockets:
                for conn, message in server.fake.take_pushes():
                    server.say(conn, message)
        assert running.line("stderr") == "flexcore run: it is our turn: there is a licence"
        assert running.line() == "up"
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    until(lambda: triad.ledger.free == 1)


def test_queue_is_left_after_its_time_and_by_a_signal(triad):
    with triad.lock:
        triad.ledger.free = 0
    done = run(triad, "--queue", "--queue-wait", "0.2", "--", "true")
    assert done.returncode == 221
    assert "In the queue for this feature. (-35,437) f1: all in use by bob@elm" in done.stderr
    with Running(triad, WAIT, "--queue") as running:
        assert "next in turn" in running.line("stderr")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    until(lambda: not triad.ledger.waiting and not triad.ledger.sessions)


def test_the_command_has_the_licence_and_the_streams(triad):
    done = run(triad, "--count", "3", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 0)
    (asked,) = [m for m in triad.servers[0].heard if isinstance(m, wire.Checkout)]
    assert (asked.feature, asked.version, asked.count) == ("f1", "", 3)


def test_a_denial_is_told_at_once(triad):
    done = run(triad, "--count", "11", "--", "echo", "never")
    assert (done.returncode, done.stdout) == (252, "")
    assert done.stderr == "flexcore run: Licensed number of users already reached. (-4,342) f1\n"
    assert run(triad, "--", "true", feature="f9").returncode == 251


def test_no_server_is_241_and_no_quorum_159(triad):
    with triad.lock:
        triad.elect(None)
    done = run(triad, "--wait", "1", "--", "echo", "never")
    assert (done.returncode, done.stdout) == (159, "")
    assert "waiting for a quorum" in done.stderr
    with triad.lock:
        for server in triad.sockets:
            server.kill()
    done = run(triad, "--wait", "1", "--", "echo", "never")
    assert (done.returncode, done.stdout) == (241, "")
    assert "(-15,570:111" in done.stderr


def test_waits_for_a_quorum_and_says_why(triad):
    with triad.lock:
        triad.elect(None)
        triad.until_s = 60.0
    with Running(triad, "print('up')", "--wait", str(PATIENCE_S)) as running:
        said = running.line("stderr")
        assert said.startswith("flexcore run: waiting: The desired vendor daemon is down. (-97,121)")
        assert "(expected in " in said
        with triad.lock:
            triad.elect(2)
        assert running.line() == "up"
        assert running.process.wait(PATIENCE_S) == 0


def test_usage_errors(triad):
    assert run(triad).returncode == 2
    assert run(triad, "--count", "0", "--", "true").returncode == 2
    assert run(triad, "--wait", "-1", "--", "true").returncode == 2
    assert run(triad, "--on-loss", "panic", "--", "true").returncode == 2


def test_an_unsigned_grant_is_248(triad, tmp_path):
    key = tmp_path / "demo.pub"
    key.write_text(str(SigningKey("demo", b"\x33" * 32).verifying_key) + "\n")
    done = run(triad, "--vendor-key", str(key), "--", "echo", "never")
    assert (done.returncode, done.stdout) == (248, "")
    assert "(-8,130)" in done.stderr
    done = run(triad, "--vendor-key", str(tmp_path / "missing"), "--", "echo", "never")
    assert done.returncode == 1
    assert "missing" in done.stderr
    assert "Traceback" not in done.stderr


# --- signals --------------------------------------------------------------------------------------

TELL = """
import signal, sys, time
def tell(number, frame):
    print(signal.Signals(number).name)
    if number == signal.SIGTERM:
        sys.exit(5)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    signal.signal(getattr(signal, name), tell)
print("up")
while True:
    time.sleep(60)
"""


def test_signals_are_passed_on(triad):
    with Running(triad, TELL) as running:
        assert running.line() == "up"
        for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
            running.process.send_signal(getattr(signal, name))
            assert running.line() == name
        assert running.process.wait(PATIENCE_S) == 5
    until(lambda: triad.ledger.free == 10)


def test_a_signal_that_ends_the_command(triad):
    with Running(triad, WAIT) as running:
        assert running.line() == "up"
        running.process.terminate()
        assert running.process.wait(PATIENCE_S) == 143


def test_a_signal_before_there_is_a_licence(triad):
    with triad.lock:
        triad.elect(None)
    with Running(triad, WAIT, "--wait", "60") as running:
        assert "waiting" in running.line("stderr")
        running.process.terminate()
        assert running.process.wait(PATIENCE_S) == 143
        assert running.process.stdout is not None
        assert running.rest() == b""  # its end: the waiting child is gone too


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_command_does_not_outlive_run(triad):
    with Running(triad, "import os, time; print(os.getpid()); time.sleep(60)") as running:
        pid = int(running.line())
        running.process.kill()
        running.process.wait()
        until(lambda: state_of(pid) in ("", "Z"))


def test_the_command_does_not_inherit_our_files(triad):
    script = "import os; print(sorted(os.listdir('/proc/self/fd'), key=int)[:-1])"
    with Running(triad, script) as running:
        assert running.line() == "['0', '1', '2']"


# --- losses ---------------------------------------------------------------------------------------


def take_away(triad: SocketTriad) -> None:
    with triad.lock:
        (handle,) = triad.ledger.seats
        triad.ledger.give_back(handle)
        for server in triad.sockets:
            server.push(wire.SeatsLost(triad.term, (handle,), -63, "removed by root"))


def test_a_failover_goes_unnoticed(triad):
    with Running(triad, "import time; print('up'); time.sleep(2); print('done')") as running:
        assert running.line() == "up"
        with triad.lock:
            triad.sockets[0].kill()
            triad.elect(1)
        assert running.line() == "done"
        assert running.process.wait(PATIENCE_S) == 0
        assert running.process.stderr is not None
        assert running.rest("stderr") == b""
    assert len(triad.ledger.results) == 1


def test_a_lost_quorum_is_ridden_out_and_told(triad):
    with triad.lock:
        triad.lease_s = 60.0
    with Running(triad, WAIT) as running:
        assert running.line() == "up"
        with triad.lock:
            triad.elect(None)
            for server in triad.sockets:
                server.push(wire.NotServing(0, 2, "the quorum is lost", None, None))
        said = running.line("stderr")
        assert "the licence is safe for 5" in said
        with triad.lock:
            triad.elect(1)
        assert "served again" in running.line("stderr")
        assert running.process.poll() is None


def test_terminate(triad):
    with Running(triad, WAIT) as running:
        assert running.line() == "up"
        take_away(triad)
        assert running.line("stderr") == (
            "flexcore run: the licence for f1 is lost: removed by root; terminating the command"
        )
        assert running.process.wait(PATIENCE_S) == 143


def test_a_keeper_that_was_suspended_beyond_the_lease_ends_the_command(triad):
    """It is SIGSTOPped alone: the command runs on meanwhile, and is ended as soon as its keeper can."""
    with triad.lock:
        triad.lease_s = 1.5
    with Running(triad, WAIT) as running:
        assert running.line() == "up"
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(2.0)
        running.process.send_signal(signal.SIGCONT)
        assert "lost" in running.line("stderr")
        assert running.process.wait(PATIENCE_S) != 0
    assert triad.ledger.free == 10


def test_warn(triad):
    with Running(triad, WAIT, "--on-loss", "warn") as running:
        assert running.line() == "up"
        take_away(triad)
        assert "goes on without it" in running.line("stderr")
        assert "there is a licence again" in running.line("stderr")
        assert running.process.poll() is None
        assert len(triad.ledger.seats) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pause_until_there_is_a_licence_again(triad):
    script = "import os, time; print(os.getpid()); time.sleep(60)"
    with Running(triad, script, "--on-loss", "pause") as running:
        pid = int(running.line())
        with triad.lock:
            triad.ledger.free = -20  # nothing to be had for now
        take_away(triad)
        assert "paused" in running.line("stderr")
        until(lambda: state_of(pid) == "T")
        assert "asking again" in running.line("stderr")
        with triad.lock:
            triad.ledger.free = 10
        assert "continues" in running.line("stderr")
        until(lambda: state_of(pid) == "S")
        running.process.terminate()
        assert running.process.wait(PATIENCE_S) == 143


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_paused_command_can_be_terminated(triad):
    script = "import os, time; print(os.getpid()); time.sleep(60)"
    with Running(triad, script, "--on-loss", "pause") as running:
        pid = int(running.line())
        with triad.lock:
            triad.ledger.free = -20
        take_away(triad)
        until(lambda: state_of(pid) == "T")
        running.process.terminate()
        assert running.process.wait(PATIENCE_S) == 143


def test_help_says_where_the_command_goes():
    done = subprocess.run([*RUN, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: flexcore run ")
    assert " -- COMMAND...\n\n" in done.stdout
