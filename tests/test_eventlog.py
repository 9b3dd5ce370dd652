"""lmgrd --event-log: the few lines that a system's own watchers see, by a syslog that is a socket of the test."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest

from flexcore.identity import Rank
from flexcore.server import WriteLog
from flexcore_host.eventlog import EventLog
from flexcore_testing import Triad
from flexcore_testing.server_run import NodeRun
from flexcore_tools import lmgrd
from flexcore_trio.turnlogs import TurnLogs
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="syslog; Windows has its own event log")

DAEMON = 3 << 3


@pytest.fixture
def syslog(tmp_path):
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(10.0)
        sock.bind(str(tmp_path / "log"))
        yield sock


def test_events_reach_syslog_with_their_severity(syslog):
    events = EventLog(syslog.getsockname())
    for event in ("start", "master", "lost_quorum", "fatal", "stop"):
        events.tell(event, f"of {event}")
    events.close()
    events.close()
    said = [syslog.recv(1000).decode() for _ in range(5)]
    assert [line.partition(">")[0] for line in said] == [
        f"<{DAEMON + severity}" for severity in (6, 6, 4, 2, 6)
    ]  # fmt: skip
    assert all("flexcore-lmgrd[" in line for line in said)
    assert said[2].endswith("]: of lost_quorum")


def test_by_udp():
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(10.0)
        sock.bind(("127.0.0.1", 0))
        events = EventLog(f"127.0.0.1:{sock.getsockname()[1]}")
        events.tell("stop", "bye")
        assert sock.recv(1000).decode().endswith("bye")
        events.close()


def test_a_syslog_that_takes_nothing_holds_up_nobody(syslog, capfd):
    events = EventLog(syslog.getsockname())
    for _ in range(3000):  # more than its queue and ours
        events.tell("master", "x" * 500)
    events.close()
    assert capfd.readouterr().err == ""
    syslog.close()  # it was sending: what it says of that now is of this test, and not of the next
    events._queue.put(None, timeout=10.0)
    events._thread.join(10.0)
    assert not events._thread.is_alive()


def test_a_syslog_that_goes_away_is_said_once(tmp_path, syslog, capfd):
    events = EventLog(syslog.getsockname())
    syslog.close()
    (tmp_path / "log").unlink()
    events.tell("master", "one")
    events.tell("master", "two")
    events.close()
    assert capfd.readouterr().err.count("the event log takes nothing") == 1


def test_an_address_that_is_none_is_a_warning_in_the_log():
    address = "127.0.0.1:many"
    said: list[tuple[str, str]] = []
    with contextlib.ExitStack() as stack:
        event = lmgrd._event_sink(address, said.extend, stack)
        event("start", "x")
    ((_, text),) = said
    assert text.startswith(f"WARNING: no event log: {address}: ")


def test_which_lines_of_a_triad_are_events(monkeypatch):
    triad = Triad(heartbeat_interval_s=20)
    events: list[tuple[str, str]] = []
    logs = TurnLogs(lambda lines: None, event=lambda event, text: events.append((event, text)))
    run = triad._sim.run_of(Rank.PRIMARY)
    assert isinstance(run, NodeRun)
    taken = run.node._outbox.log

    def log(daemon, text, event=""):
        logs.take(WriteLog(daemon, text, event))
        taken(daemon, text, event)

    monkeypatch.setattr(run.node._outbox, "log", log)
    triad.isolate("primary")
    triad.advance(100.0)
    triad.heal()
    triad.advance(100.0)
    assert events == [("lost_quorum", "Lost quorum"), ("master", "CONNECTED, master is lee")]


def test_a_server_tells_why_it_does_not_start(tmp_path, syslog, capsys):
    from flexcore.licensefile import format_license, parse_license, sign_license
    from flexcore_tools.cli import main
    from tests.test_lmgrd import KEY

    port = free_port()
    text = f"SERVER 127.0.0.1 ID=1 {port}\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 2\n"
    (tmp_path / "demo.lic").write_text(format_license(sign_license(parse_license(text), KEY)))
    (tmp_path / "demo.pub").write_text(f"{KEY.verifying_key}\n")
    words = ["-c", str(tmp_path / "demo.lic"), "--vendor-key", str(tmp_path / "demo.pub"), "--hostid", "ID=1"]
    status = main(["lmgrd", *words, "--state-dir", words[1], "--event-log", syslog.getsockname()])
    assert status != 0
    said = syslog.recv(1000).decode()
    assert said.startswith(f"<{DAEMON + 2}>")
    assert "demo.lic" in said
    capsys.readouterr()
