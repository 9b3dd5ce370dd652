"""``flexcore lmstat`` against servers on loopback: what it prints, what it exits with."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from flexcore.errors import NotOneTriad
from flexcore.override import override
from flexcore.wire.messages import FeatureRow, Refusal, SeatRow, ServerAddress
from flexcore_tools._ask import Survey
from flexcore_tools.cli import main
from tests.fake_servers import fake_servers, path_of

REFUSED = 'Cannot connect to license server system. (-15,570:111 "Connection refused")'
FEATURES = tuple(
    FeatureRow(f"f{n}", f"p{n}", "1.0", "demo", "1-jan-2030", 900, "", 10, n, "") for n in range(5)
)
SEATS = tuple(
    SeatRow(f"p{n}", f"f{n}", "ann", "elm", f":{k}", "1.0", 10 * n + k, 1795511100.0, 1, 42)
    for n in range(5) for k in range(n)
)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="errno values of POSIX")


@pytest.fixture
def triad():
    with fake_servers("serving", "follower", "follower") as servers:
        servers[0].features, servers[0].seats = FEATURES, SEATS
        yield servers


def lmstat(capsys, *words: str) -> tuple[int, str]:
    status = main(["lmstat", *words])
    out, err = capsys.readouterr()
    assert err == "", "readers take any stderr as failure"
    return status, out


def test_servers_and_vendor_daemon(triad, capsys):
    status, out = lmstat(capsys, "-c", path_of(triad))
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("lmutil - Copyright (c) 2026-")
    assert lines[3] == f"License server status: {path_of(triad)}"
    assert lines[6:] == [
        " 127.0.0.1: license server UP (MASTER) v0.1.0",
        " 127.0.0.1: license server UP v0.1.0",
        " 127.0.0.1: license server UP v0.1.0",
        "",
        "Vendor daemon status (on 127.0.0.1):",
        "",
        "      demo: UP v0.1.0",
    ]
    assert triad[0].asked == []


def test_all_features_and_seats_come_in_pages(triad, capsys):
    status, out = lmstat(capsys, "-a", "-c", path_of(triad))
    assert status == 0
    for number in range(5):
        used = "1 license" if number == 1 else f"{number} licenses"
        assert f"Users of f{number}:  (Total of 10 licenses issued;  Total of {used} in use)" in out
    first = triad[0].address
    for seat in SEATS:
        assert f"    ann elm {seat.display} (v1.0) (127.0.0.1/{first.port} {seat.handle})," in out
    assert out.count("start ") == len(SEATS)
    assert len([ask for ask in triad[0].asked if ask.feature == "f4"]) == 2


def test_one_feature(triad, capsys):
    status, out = lmstat(capsys, "-f", "f3", "-c", path_of(triad))
    assert status == 0
    assert out.count("Users of ") == 1
    assert out.count("start ") == 3
    status, out = lmstat(capsys, "-c", path_of(triad), "-f")
    assert (status, out.count("Users of ")) == (0, 5)
    status, out = lmstat(capsys, "-f", "f9", "-c", path_of(triad))
    assert status == 251
    assert "Users of f9:  (Error: 0 licenses, unsupported by licensed server)\n" in out


def test_one_address_of_a_triad_is_enough(triad, capsys):
    for server in triad:
        status, out = lmstat(capsys, "-c", path_of([server]))
        assert status == 0
        assert f"License server status: {path_of(triad)}\n" in out
        assert out.count("license server UP") == 3


def test_a_dead_server_is_shown_and_does_not_matter(triad, capsys):
    triad[2].close()
    status, out = lmstat(capsys, "-c", path_of(triad))
    assert status == 0
    assert f" 127.0.0.1: {REFUSED}\n" in out
    assert lmstat(capsys, "--check", "-c", path_of(triad))[0] == 1
    assert lmstat(capsys, "--check", "-c", path_of(triad[:1]))[0] == 1
    assert lmstat(capsys, "--check", "-c", path_of(triad[2:]))[0] == 2


def test_the_first_of_the_path_is_dead_and_the_others_are_named_by_the_second(triad, capsys):
    triad[0].close()
    triad[1].report = triad[1].report._replace(state="serving", term=4, vendor_up=True)
    status, out = lmstat(capsys, "-c", path_of(triad[:2]))
    assert status == 0
    assert out.splitlines()[6:9] == [
        f" 127.0.0.1: {REFUSED}",
        " 127.0.0.1: license server UP (MASTER) v0.1.0",
        " 127.0.0.1: license server UP v0.1.0",
    ]


def test_a_frozen_server_costs_one_timeout_and_no_more(triad, capsys):
    triad[1].frozen = True
    triad[2].frozen = True
    started = time.monotonic()
    status, out = lmstat(capsys, "-t", "0.3", "-c", path_of(triad))
    assert time.monotonic() - started < 5
    assert status == 0
    timed_out = ' 127.0.0.1: Cannot connect to license server system. (-15,570:110 "Connection'
    assert out.count(f'{timed_out} timed out")\n') == 2


def test_without_a_quorum():
    with fake_servers("waiting", "waiting", "waiting") as servers:
        servers[0].close()
        result = subprocess.run(
            [sys.executable, "-m", "flexcore_tools.cli", "lmstat", "-a", "-c", path_of(servers)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.stderr == ""
    assert result.returncode == 159
    assert "      demo: The desired vendor daemon is down. (-97,121)\n" in result.stdout
    assert "(MASTER)" not in result.stdout
    assert "Users of" not in result.stdout


def test_nobody_answers(triad, capsys):
    for server in triad:
        server.close()
    status, out = lmstat(capsys, "-a", "-c", path_of(triad))
    assert status == 241
    assert out.count(f" 127.0.0.1: {REFUSED}\n") == 3
    assert out.endswith(f"Error getting status: {REFUSED}\n")
    status, out = lmstat(capsys, "-c", path_of(triad[:1]))
    assert (status, out.splitlines()[3:]) == (241, [f"Error getting status: {REFUSED}"])


def test_an_election_is_waited_for(capsys):
    with fake_servers("serving", "follower", "candidate") as servers:
        servers[0].close()
        servers[1].report = servers[1].report._replace(state="candidate")

        def later(message):
            if len(servers[1].asked) >= 3:
                servers[1].report = servers[1].report._replace(state="serving", vendor_up=True)
            return servers[1].plain_status(message)

        servers[1].status = later
        status, out = lmstat(capsys, "-c", path_of(servers))
    assert status == 0
    assert out.count("(MASTER)") == 1


def test_the_master_dies_between_two_pages(triad, capsys):
    triad[0].cut_after = 4
    status, out = lmstat(capsys, "-a", "-c", path_of(triad))
    assert status == 240
    assert out.endswith(
        "Error getting status: Cannot read data from license server system. (-16,287)\n"
    )
    triad[0].asked.clear()
    status, out = lmstat(capsys, "--json", "-c", path_of(triad))
    assert status == 240
    assert json.loads(out)["complete"] is False


def test_a_master_that_was_replaced_before_the_question(triad, capsys):
    stale = triad[0].report
    triad[1].report = stale._replace(rank=1, term=4)
    triad[1].features, triad[1].seats = FEATURES, SEATS

    def resign(message):
        triad[0].report = stale._replace(state="follower", vendor_up=False)
        return triad[0].plain_status(message)

    triad[0].status = resign
    triad[1].report = triad[1].report._replace(state="serving", term=2)
    status, out = lmstat(capsys, "-a", "-c", path_of(triad))
    assert status == 0
    assert out.count("start ") == len(SEATS)


def test_json(triad, capsys):
    triad[2].close()
    status, out = lmstat(capsys, "--json", "-c", path_of(triad))
    got = json.loads(out)
    assert status == 0
    assert (got["schema"], got["state"], got["degraded"]) == (1, "serving", True)
    assert [server["up"] for server in got["servers"]] == [True, True, False]
    assert len(got["seats"]) == len(SEATS)
    assert got["features"][2]["expires_in_days"] == 900


def test_servers_of_two_licence_files_are_no_triad(triad, capsys):
    triad[1].digest = b"another"
    status, out = lmstat(capsys, "-c", path_of(triad))
    assert status == 247
    assert "are no one triad; a comma joins the three servers of one licence file" in out
    with pytest.raises(NotOneTriad):
        Survey([server.address for server in triad], 2.0)


def test_single_servers_in_a_comma_list(capsys):
    with fake_servers("serving") as one, fake_servers("serving") as two:
        status, out = lmstat(capsys, "-c", path_of(one + two))
        assert status == 247
        assert "is a single server, not one of a triad" in out
        status, out = lmstat(capsys, "-c", f"{path_of(one)}:{path_of(two)}")
    assert status == 0
    assert out.count("(MASTER)") == 2
    assert out.count("-" * 40) == 1


def test_refusal_and_rubbish(capsys):
    with fake_servers("serving") as (server,):
        server.refusal = Refusal(-106, "License server system out of network connections.")
        status, out = lmstat(capsys, "-c", path_of([server]))
    assert status == 256 - 106
    assert "out of network connections. (-106,488)" in out

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def rubbish():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=rubbish)
        thread.start()
        status, out = lmstat(capsys, "-c", f"{listener.getsockname()[1]}@127.0.0.1")
        thread.join()
    assert status == 244
    assert "(-12,424)" in out


def test_a_name_that_nobody_knows(capsys):
    status, out = lmstat(capsys, "-c", "2837@no-such-host.invalid")
    assert status == 242
    assert "Cannot find SERVER host name in network database. (-14,7)" in out


def test_the_environment(triad, capsys, monkeypatch):
    monkeypatch.setenv("LM_LICENSE_FILE", path_of(triad))
    status, out = lmstat(capsys)
    assert status == 0
    assert "[Detecting lmgrd processes...]\nLicense server status: " in out


def test_a_link_knows_that_its_server_is_on_this_machine(triad):
    with Survey([ServerAddress("127.0.0.1", triad[0].address.port)], 2.0) as survey:
        assert survey.master is not None
        assert survey.master.is_local


def test_lmstat_is_light():
    code = (
        "import sys; from flexcore_tools.cli import main; main(sys.argv[1:]);"
        "heavy = {'cryptography', 'trio', 'asyncio', 'ssl', 'sqlite3', 'attr', 'dataclasses', 'inspect', 'logging',"
        " 'hashlib'} & set(sys.modules);"
        "sys.exit(f'lmstat loads {heavy}' if heavy else 0)"
    )
    with fake_servers("serving") as servers:
        result = subprocess.run(
            [sys.executable, "-c", code, "lmstat", "-a", "-c", path_of(servers)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (result.stderr, result.returncode) == ("", 0)
    assert "(MASTER)" in result.stdout


def test_a_licence_file_names_the_triad(triad, capsys, tmp_path):
    file = tmp_path / "demo.lic"
    lines = [f"SERVER {s.address.host} ID={n} {s.address.port}" for n, s in enumerate(triad)]
    file.write_text("\n".join([*lines, "VENDOR demo", ""]), encoding="utf-8")
    status, out = lmstat(capsys, "-c", str(file))
    assert status == 0
    assert f"License server status: {path_of(triad)}\n" in out


def test_a_search_path_that_says_nothing(capsys, monkeypatch):
    for name in ("LM_LICENSE_FILE", "DEMO_LICENSE_FILE"):
        monkeypatch.delenv(name, raising=False)
    status, out = lmstat(capsys)
    assert status != 0
    assert "give port@host with -c, or in LM_LICENSE_FILE" in out
    status, out = lmstat(capsys, "-c", "/no/such/file.lic")
    assert status == 255
    assert "/no/such/file.lic: No such file or directory" in out


def test_users_are_printed_while_further_pages_are_asked_for(monkeypatch):
    """100,000 checkouts are never in memory: the first lines are out when few of the pages have come."""
    monkeypatch.setattr("tests.fake_servers.PAGE_ROWS", 100)
    asked_at_first_line: list[int] = []
    lines = 0

    class Terminal(io.StringIO):
        @override
        def write(self, text: str) -> int:
            nonlocal lines
            lines += text.count("start ")
            if lines and not asked_at_first_line:
                asked_at_first_line.append(len(server.asked))
            return len(text)

    with fake_servers("serving") as (server,):
        server.features = (FEATURES[0]._replace(count=5000, in_use=5000),)
        server.seats = tuple(SEATS[0]._replace(handle=number, feature=FEATURES[0].feature) for number in range(5000))
        monkeypatch.setattr(sys, "stdout", Terminal())
        assert main(["lmstat", "-a", "-c", path_of([server])]) == 0
        assert lines == 5000
        assert len(server.asked) > 50
    assert asked_at_first_line[0] < 20
