"""``flexcore lmreread`` against servers on loopback that answer, refuse or do not hear."""

from __future__ import annotations

import sys

import pytest

from flexcore.wire.messages import AdminReply
from flexcore_tools.cli import main
from tests.fake_servers import FakeServer, fake_servers, path_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="errno values of POSIX")


@pytest.fixture
def triad():
    with fake_servers("follower", "serving", "follower") as servers:
        answer_with(servers, 0, "elm: no change")
        yield servers


def answer_with(servers, code, *lines, text=""):
    for server in servers:
        server.admin = lambda request: AdminReply(request.seq, code, text, lines)


def lmreread(capsys, *words: str) -> tuple[int, str]:
    status = main(["lmreread", *words])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out


def test_one_server_is_asked_for_all_three(triad, capsys):
    assert lmreread(capsys, "-c", path_of(triad)) == (0, "elm: no change\n")
    assert [len(server.commands) for server in triad] == [0, 1, 0], "the master knows what is in force"
    command = triad[1].commands[0]
    assert (command.verb, command.arguments) == ("reread", ("all",))
    assert command.user
    assert command.host


def test_one_server_by_name(triad, capsys):
    assert lmreread(capsys, "-c", path_of(triad), "--server", "tertiary") == (0, "elm: no change\n")
    assert [len(server.commands) for server in triad] == [0, 0, 1]
    assert triad[2].commands[0].arguments == ("one",)


@pytest.mark.parametrize(("code", "status"), [(1, 1), (-8, 248), (-15, 241), (-92, 164)])
def test_the_exit_status_is_that_of_the_answer_and_all_of_it_is_printed(triad, capsys, code, status):
    answer_with(triad, code, "elm: 1 added", "oak: keeps what it has: why", text="not printed: the lines say it")
    assert lmreread(capsys, "-c", path_of(triad)) == (status, "elm: 1 added\noak: keeps what it has: why\n")


def test_from_another_machine_it_says_where_to_log_in(triad, capsys):
    for server in triad:
        server.admin = FakeServer("127.0.0.1", 0, "follower").admin
    status, out = lmreread(capsys, "-c", path_of(triad))
    assert status == 137
    hosts = ", ".join(dict.fromkeys(server.address.host for server in triad))
    assert out == (
        "lmdown and lmreread must be run on license server machine. (-119,497)\n"
        f"log in to one of them and run it there: {hosts}\n"
    )


def test_who_is_no_administrator_is_told_who_is(triad, capsys):
    answer_with(triad, -63, "this server takes orders of some only", text="You are not a license administrator")
    status, out = lmreread(capsys, "-c", path_of(triad))
    assert status == 193
    assert out == (
        "You are not a license administrator. (-63,456)\n"
        "the server was started with lmgrd -2 -p: run it as root, as its own user, or join the group lmadmin\n"
    )


def test_another_vendor_and_no_server(triad, capsys):
    status, out = lmreread(capsys, "-c", path_of(triad), "-vendor", "nobody")
    assert status == 159
    assert "is served, not nobody: nothing was read anew" in out
    for server in triad:
        assert server.commands == []
        server.close()
    assert lmreread(capsys, "-c", path_of(triad))[0] == 241
