"""``flexcore lmremove`` against servers on loopback that answer or refuse."""

from __future__ import annotations

import sys

import pytest

from flexcore.wire.messages import AdminReply
from flexcore_tools.cli import main
from tests.fake_servers import fake_servers, path_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="errno values of POSIX")


@pytest.fixture
def triad():
    with fake_servers("follower", "serving", "follower") as servers:
        yield servers


def answer_with(servers, code, *lines, text=""):
    for server in servers:
        server.admin = lambda request: AdminReply(request.seq, code, text, lines)


def lmremove(capsys, *words: str) -> tuple[int, str]:
    status = main(["lmremove", *words])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out


def test_both_forms(triad, capsys):
    answer_with(triad, 0, "f1: ann elm :0 (handle 7)")
    said = (0, "taken away: f1: ann elm :0 (handle 7)\n")
    assert lmremove(capsys, "-c", path_of(triad), "f1", "ann", "elm", ":0") == said
    assert lmremove(capsys, "-c", path_of(triad), "-h", "f1", "elm", "2837", "7") == said
    commands = [command for server in triad for command in server.commands]
    assert [(command.verb, command.arguments) for command in commands] == [
        ("remove", ("user", "f1", "ann", "elm", ":0")),
        ("remove", ("handle", "f1", "elm", "2837", "7")),
    ]


@pytest.mark.parametrize(
    ("code", "text", "status", "said"),
    [
        (-64, "lmremove request before the minimum lmremove interval", 192, "(-64,"),
        (-100, "Cannot remove a linger license", 156, "(-100,483)"),
        (-5, "No such feature exists", 251, "(-5,346)"),
    ],
)
def test_a_no_says_why(triad, capsys, code, text, status, said):
    answer_with(triad, code, "because", text=text)
    got, out = lmremove(capsys, "-c", path_of(triad), "f1", "ann", "elm", ":0")
    assert got == status
    assert said in out
    assert out.endswith("because\n")


def test_from_another_machine(triad, capsys):
    status, out = lmremove(capsys, "-c", path_of(triad), "f1", "ann", "elm", ":0")
    assert status == 137
    assert "log in to one of them" in out


def test_words_that_are_missing(capsys):
    assert lmremove(capsys, "f1", "ann")[0] == 2
    assert main(["lmremove", "--help"]) == 0
    assert "server_host port handle" in capsys.readouterr().out
