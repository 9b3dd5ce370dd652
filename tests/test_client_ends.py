"""A product that forks, exits, is killed or is suspended in the middle, with the blocking and with the async client.

Each product is a process of its own. Its part is the same text for both clients: what is different about them
stands in BLOCKING and ON_TRIO. docs/publisher.rst ("What becomes of the licence") says what is tested here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

from flexcore.wire import messages as wire
from tests.socket_triad import ORDERLY, SocketTriad

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")

PATIENCE_S = 30.0

BLOCKING = """
import os, sys, time
import flexcore_sync as flexcore_client

losses = []

def say(*words):
    print(*words, flush=True)

def nap(seconds):
    time.sleep(seconds)

def product(client, seat):
{body}

with flexcore_client.connect(sys.argv[1], vendor="demo", on_loss=lambda *what: losses.append(what)) as client:
    with client.checkout("f1") as seat:
        product(client, seat)
"""

ON_TRIO = """
import os, sys, time
import trio
import flexcore_trio as flexcore_client

losses = []

def say(*words):
    print(*words, flush=True)

async def product(client, seat):
{body}

async def main():
    async with flexcore_client.open_client(
        sys.argv[1], vendor="demo", on_loss=lambda *what: losses.append(what)
    ) as client:
        async with client.checkout("f1") as seat:
            await product(client, seat)

trio.run(main)
"""


def product(kind: str, body: str) -> str:
    """The program of a product. ``NAP(x)`` and ``AWAIT`` in *body* are written as each client needs them."""
    text = textwrap.indent(textwrap.dedent(body), "    ")
    if kind == "trio":
        return ON_TRIO.format(body=text.replace("NAP(", "await trio.sleep(").replace("AWAIT ", "await "))
    return BLOCKING.format(body=text.replace("NAP(", "nap(").replace("AWAIT ", ""))


@pytest.fixture
def triad() -> Iterator[SocketTriad]:
    with SocketTriad() as triad:
        yield triad


@pytest.fixture(params=["blocking", "trio"])
def kind(request) -> str:
    return str(request.param)


class Process:
    """A product that runs. What it says is read line by line."""

    def __init__(self, program: str, triad: SocketTriad) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, triad.path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        self.told = b""

    def line(self) -> str:
        assert self.popen.stdout is not None
        while b"\n" not in self.told:
            ready, _, _ = select.select([self.popen.stdout], [], [], PATIENCE_S)
            assert ready, "it says nothing"
            data = os.read(self.popen.stdout.fileno(), 4096)
            assert data, "it has ended"
            self.told += data
        line, _, self.told = self.told.partition(b"\n")
        return line.decode()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: status, and what it has not said yet."""
        told, errors = self.popen.communicate(timeout=PATIENCE_S)
        return self.popen.returncode, (self.told + told).decode(), errors.decode()

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)


@contextlib.contextmanager
def running(kind: str, body: str, triad: SocketTriad) -> Iterator[Process]:
    process = Process(product(kind, body), triad)
    with process.popen:
        try:
            yield process
        finally:
            if process.popen.poll() is None:
                process.popen.kill()


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happens"
        time.sleep(0.01)


def goodbyes(triad: SocketTriad) -> int:
    with triad.lock:
        return sum(isinstance(m, wire.Goodbye) for server in triad.servers for m in server.heard)


def ends(triad: SocketTriad) -> list[str]:
    """How connections with a session have ended."""
    with triad.lock:
        return [end for server in triad.sockets for end in server.ends if " " not in end]


# --- ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_words", "status"),
    [("sys.exit(3)", 3), ("raise KeyError('a bug')", 1), ("raise KeyboardInterrupt", -signal.SIGINT), ("return", 0)],
)
def test_an_end_that_python_sees_says_goodbye(triad, kind, last_words, status):
    with running(kind, last_words, triad) as process:
        assert process.end()[0] == status
    assert goodbyes(triad) == 1
    assert triad.ledger.free == 10
    until(lambda: ends(triad))
    assert ends(triad) == [ORDERLY]


@pytest.mark.parametrize("last_words", ["os._exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"])
def test_an_end_that_python_does_not_see_ends_the_connection_in_order(triad, kind, last_words):
    """The kernel closes for the dead: an orderly end of stream, which a server takes for the end of the process
    (protocol.md rule 16), and so the seat is free two seconds later: tests/real/test_client.py."""
    with running(kind, f"NAP(0.2)\n{last_words}", triad) as process:
        assert process.end()[0] != 0
    until(lambda: ends(triad))
    assert ends(triad) == [ORDERLY]
    assert goodbyes(triad) == 0


# --- forks --------------------------------------------------------------------------------------------

FORK = """
pid = os.fork()
if pid == 0:
    said = [seat.held, client.seats, client.is_serving]
    try:
        seat.require()
    except flexcore_client.LicenseLost as error:
        said.append("forked" in str(error))
    try:
        AWAIT client.checkout("f1")
    except flexcore_client.LocalProtocolError as error:
        said.append("forked" in str(error))
    AWAIT seat.checkin()
    AWAIT client.close()
    say(said)
    os._exit(0)
os.waitpid(pid, 0)
end = time.monotonic() + 2.0  # longer than the lease
while time.monotonic() < end:
    if not seat.held:
        say("lost")
    NAP(0.05)
say(len(losses), (AWAIT client.checkout("f1")).held)
"""


def test_a_forked_child_holds_nothing_and_disturbs_nothing(triad, kind):
    with triad.lock:
        triad.lease_s = 1.5
    with running(kind, FORK, triad) as process:
        status, told, errors = process.end()
    assert (status, errors) == (0, "")
    assert told.splitlines() == [str([False, (), False, True, True]), "0 True"]
    assert triad.ledger.free == 10
    until(lambda: ends(triad))
    assert ends(triad) == [ORDERLY]
    assert goodbyes(triad) == 1


def test_a_child_that_lives_on_does_not_keep_the_parents_connection(triad, kind):
    """Its copies of the sockets are closed: the end of the parent is seen at once."""
    body = """
    if os.fork() == 0:
        sys.stdin.readline()
        os._exit(0)
    NAP(0.2)
    say("dead")
    os._exit(0)
    """
    with running(kind, body, triad) as process:
        assert process.line() == "dead"
        until(lambda: ends(triad))
        assert ends(triad) == [ORDERLY]
        assert process.popen.stdin is not None
        process.popen.stdin.close()


def test_a_child_makes_a_client_of_its_own(triad, kind):
    body = """
    pid = os.fork()
    if pid == 0:
        import flexcore_sync
        with flexcore_sync.connect(sys.argv[1], vendor="demo") as own, own.checkout("f1") as mine:
            say(mine.held, mine.handle != seat.handle)
        os._exit(0)
    os.waitpid(pid, 0)
    NAP(0.1)
    say(seat.held)
    """
    with running(kind, body, triad) as process:
        assert process.end() == (0, "True True\nTrue\n", "")
    assert goodbyes(triad) == 2
    assert len(triad.ledger.ended) == 2


def test_multiprocessing_by_fork(triad, kind):
    """The child ends with os._exit, as multiprocessing does: nothing is said for the parent."""
    body = """
    import multiprocessing
    child = multiprocessing.get_context("fork").Process(target=lambda: say(seat.held))
    child.start()
    child.join()
    say(child.exitcode, seat.held)
    """
    with running(kind, body, triad) as process:
        assert process.end() == (0, "False\n0 True\n", "")
    assert goodbyes(triad) == 1


# --- suspended ----------------------------------------------------------------------------------------

WATCH = """
last = time.monotonic()
say("up")
while True:
    now = time.monotonic()
    held = seat.held
    if now - last > 0.4:
        say("slept", now - last, held)
        if not held:
            break
    last = now
    NAP(0.01)
while not losses:
    NAP(0.01)
say("lost", seat.held, losses[0][0] is seat, len(losses))
try:
    seat.require()
except flexcore_client.LicenseLost:
    say("told")
say((AWAIT client.checkout("f1")).held)
"""


def after_sleep(process: Process, pause_s: float) -> str:
    """What it said of its seat when it woke. A busy machine lets it sleep for shorter times besides."""
    while True:
        word, slept_s, held = process.line().split()
        assert word == "slept"
        if float(slept_s) > pause_s - 0.2:
            return held


def test_a_product_that_is_suspended_knows_before_it_says_that_it_holds(triad):
    """SIGSTOP for less than the lease changes nothing. For longer: the first thing that the product can see is that
    it does not hold its licence any more, then it is told so. Both clients at once, since this takes real time."""
    with triad.lock:
        triad.lease_s = 3.0
    with running("blocking", WATCH, triad) as one, running("trio", WATCH, triad) as other:
        for process in (one, other):
            assert process.line() == "up"
        for pause_s, held in ((0.8, "True"), (3.5, "False")):
            for process in (one, other):
                process.send(signal.SIGSTOP)
            time.sleep(pause_s)
            for process in (one, other):
                process.send(signal.SIGCONT)
            for process in (one, other):
                assert after_sleep(process, pause_s) == held
        for process in (one, other):
            assert process.end() == (0, "lost False True 1\ntold\nTrue\n", "")
    assert triad.ledger.free == 10
