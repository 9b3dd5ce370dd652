"""``flexcore lmdown`` against servers on loopback that obey, refuse or do not hear."""

from __future__ import annotations

import io
import sys
import threading
import time
from typing import Any

import pytest

from flexcore.override import override
from flexcore.wire.messages import AdminReply, ServerAddress
from flexcore_tools import lmdown as module
from flexcore_tools._link import Link, is_listening
from flexcore_tools._vendors_admin import stop_vendors
from flexcore_tools.cli import main
from tests.fake_servers import FakeServer, fake_servers, path_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="errno values of POSIX")


@pytest.fixture
def triad():
    with fake_servers("follower", "serving", "follower") as servers:
        for server in servers:
            server.admin = stops(server, servers)
        yield servers


def stops(own: FakeServer, servers: list[FakeServer], after_s: float = 0.05):
    """What a server does: take the command, answer, then close, its peers too if it is for all."""

    def admin(request):
        targets = servers if request.arguments == ("all",) else [own]
        for target in targets:
            threading.Timer(after_s, target.close).start()
        return AdminReply(request.seq, 0, "", ())

    return admin


def lmdown(capsys, *words: str) -> tuple[int, str]:
    status = main(["lmdown", *words])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out


def is_open(server: FakeServer) -> bool:
    return is_listening(server.address, 1.0)


def test_all_three_with_one_command(triad, capsys):
    status, out = lmdown(capsys, "-q", "-c", path_of(triad))
    assert status == 0
    assert not any(is_open(server) for server in triad)
    for server in triad:
        assert f"{path_of([server])} is stopped\n" in out
    # The master is asked: it has nobody to pass the command on to.
    assert [len(server.commands) for server in triad] == [0, 1, 0]
    command = triad[1].commands[0]
    assert (command.verb, command.arguments) == ("down", ("all",))
    assert command.user
    assert command.host


def test_it_returns_only_when_the_ports_are_closed(triad, capsys):
    triad[1].admin = stops(triad[1], triad, after_s=0.6)
    started = time.monotonic()
    assert lmdown(capsys, "-q", "-c", path_of(triad[:1]))[0] == 0
    assert time.monotonic() - started >= 0.5
    assert not any(is_open(server) for server in triad)


def test_one_server(triad, capsys):
    for name, server in (("tertiary", triad[2]), ("secondary", triad[1])):
        status, out = lmdown(capsys, "-q", "-c", path_of(triad), "--server", name)
        assert (status, out) == (0, f"{path_of([server])} is stopped\n")
        assert [command.arguments for command in server.commands] == [("one",)]
        assert is_open(triad[0])


def test_a_server_name_that_is_not_in_the_file(triad, capsys):
    status, out = lmdown(capsys, "-q", "-c", path_of(triad), "--server", "quaternary")
    assert status == 1
    assert "--server quaternary is none of the SERVER lines" in out
    assert all(is_open(server) for server in triad)


def test_from_another_machine_it_passes_the_refusal_on(triad, capsys):
    for server in triad:
        server.admin = FakeServer("127.0.0.1", 0, "follower").admin
    status, out = lmdown(capsys, "-q", "-c", path_of(triad))
    assert status == 137
    assert out == (
        "lmdown and lmreread must be run on license server machine. (-119,497)\n"
        "log in to one of them and run it there: 127.0.0.1\n"
    )
    assert all(is_open(server) for server in triad)
    assert [len(server.commands) for server in triad] == [1, 1, 1], "any of them might be local"


def test_a_dead_server_is_named_and_is_no_error(triad, capsys):
    triad[0].close()
    status, out = lmdown(capsys, "-q", "-c", path_of(triad))
    assert status == 0
    assert f"{path_of(triad[:1])} was not running\n" in out
    assert out.count("is stopped") == 2


def test_a_server_that_was_not_reached_is_named_and_is_an_error(triad, capsys, monkeypatch):
    monkeypatch.setattr(module, "DEFAULT_TIMEOUT_S", 0.3)
    triad[0].frozen = True
    triad[1].admin = stops(triad[1], triad[1:])
    status, out = lmdown(capsys, "-q", "-c", path_of(triad))
    assert status == 241
    assert f"{path_of(triad[:1])} was not reached and was not told to stop: Cannot connect" in out


def test_a_straggler_is_told_itself(triad, capsys, monkeypatch):
    monkeypatch.setattr(module, "STRAGGLER_S", 0.2)
    triad[1].admin = stops(triad[1], triad[:2])
    status, out = lmdown(capsys, "-q", "-c", path_of(triad))
    assert status == 0
    assert out.count("is stopped") == 3
    assert len(triad[2].commands) == 1


def test_a_server_that_never_closes_is_said(triad, capsys, monkeypatch):
    monkeypatch.setattr(module, "STOP_S", 0.5)
    triad[1].admin = stops(triad[1], triad[:2])
    status, out = lmdown(capsys, "-q", "-c", path_of(triad))
    assert status == 1
    assert f"{path_of(triad[2:])} still answers after 0.5 s\n" in out


def test_a_server_that_dies_before_its_answer_leaves(triad, capsys):
    def admin(request):
        for server in triad:
            server.close()

    triad[1].admin = admin
    status, out = lmdown(capsys, "-q", "-c", path_of(triad))
    assert status == 0
    assert out.count("is stopped") == 3


def test_nobody_answers(triad, capsys):
    for server in triad:
        server.close()
    status, out = lmdown(capsys, "-q", "-c", path_of(triad))
    assert status == 241
    assert out.count("Cannot connect to license server system. (-15,570:111") == 3


@pytest.mark.parametrize(
    ("typed", "stopped"), [("y\n", True), ("YES\n", True), ("n\n", False), ("", False)]
)
def test_it_asks_on_a_terminal(triad, capsys, monkeypatch, typed, stopped):
    terminal = io.StringIO(typed)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    status, out = lmdown(capsys, "-c", path_of(triad))
    assert "Are you sure (y/n)? " in out
    assert f"    {path_of(triad[1:2])} (MASTER)  demo\n" in out
    assert status == (0 if stopped else 1)
    assert ("nothing was stopped\n" in out) == (not stopped)
    assert is_open(triad[0]) == (not stopped)


def test_alternatives_are_not_all_stopped_by_mistake(triad, capsys):
    path = f"{path_of(triad[:1])}:{path_of(triad[1:2])}"
    status, out = lmdown(capsys, "-q", "-c", path)
    assert status != 0
    assert "2 alternatives" in out
    assert all(is_open(server) for server in triad)


def test_force_reaches_one_of_several_vendors(monkeypatch):
    """Without the word the server refuses while something is borrowed (-120)."""
    asked = []

    class Vendor(Link):
        def __init__(self):
            """Connected to nobody."""

        @override
        def admin(self, verb, arguments, user, host, timeout_s):
            asked.append((verb, arguments))
            return AdminReply(1, -120, "Cannot lmdown the server when licenses are borrowed", ())

    class Servers:
        vendors = {"demo": Vendor()}
        vendor_links = vendors
        servers = (ServerAddress("elm", 2837),)

    survey: Any = Servers()
    for force in (False, True):
        assert stop_vendors(survey, ["demo"], force=force) == 136
    assert asked == [("down", ("all",)), ("down", ("all", "force"))]
