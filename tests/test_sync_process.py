"""The blocking client as part of a process: threads, the environment, the end of the interpreter. Forks and other ends
of both clients: test_client_ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flexcore_sync
from flexcore_host.paths import find_servers
from tests.socket_triad import SocketTriad

PATIENCE_S = 20.0


@pytest.fixture
def triad() -> Iterator[SocketTriad]:
    with SocketTriad() as triad:
        yield triad


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happens"
        time.sleep(0.01)


def script(text: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text), *arguments],
        capture_output=True, text=True, timeout=60, env=os.environ | environment, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("keep_alive", ["thread", "none"])
def test_many_threads_share_a_client(triad, keep_alive):
    with triad.lock:
        triad.ledger.free = 100
    errors: list[BaseException] = []
    handles: list[int] = []

    def work() -> None:
        try:
            for _ in range(10):
                with client.checkout("f1") as seat:
                    assert seat.held
                    handles.append(seat.handle)
        except BaseException as error:  # noqa: BLE001 - told by the assertion below
            errors.append(error)

    with flexcore_sync.connect(triad.path, vendor="demo", keep_alive=keep_alive) as client:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert errors == []
    assert len(set(handles)) == 80
    assert triad.ledger.free == 100


def test_no_thread_in_the_no_thread_form(triad):
    before = threading.active_count()
    with flexcore_sync.connect(triad.path, vendor="demo", keep_alive="none") as client:
        client.checkout("f1")
        assert threading.active_count() == before


def test_the_end_of_the_interpreter_says_goodbye(triad):
    result = script(
        """
        import sys
        import flexcore_sync
        seat = flexcore_sync.connect(sys.argv[1], vendor="demo").checkout("f1")
        print(seat.held)
        """,
        triad.path,
    )
    assert (result.stdout, result.stderr) == ("True\n", "")
    until(lambda: triad.sockets[0].ends)
    assert triad.ledger.free == 10
    assert triad.ledger.sessions == {}


def test_an_exception_gives_the_seat_back(triad):
    def product() -> None:
        with flexcore_sync.connect(triad.path, vendor="demo") as client, client.checkout("f1"):
            raise RuntimeError("the product's")

    with pytest.raises(RuntimeError, match="the product's"):
        product()
    assert triad.ledger.free == 10


def test_an_interrupt_behind_the_grant_gives_it_back(triad, monkeypatch):
    with flexcore_sync.connect(triad.path, vendor="demo") as client:
        wait = client._await

        def interrupted(*arguments: Any) -> None:
            wait(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(client, "_await", interrupted)
            with pytest.raises(KeyboardInterrupt):
                client.checkout("f1")
        until(lambda: triad.ledger.free == 10 and len(triad.ledger.results) == 2)
        assert client.seats == ()


def test_a_wait_that_is_given_up_is_withdrawn(triad):
    with triad.lock:
        triad.servers[0].frozen = True
    with flexcore_sync.connect(triad.path, vendor="demo", timeout_s=0.5) as client:
        with pytest.raises(flexcore_sync.NoQuorum, match="is said to be the master, and does not answer"):
            client.checkout("f1")
        with triad.lock:
            triad.sockets[0].thaw()
        seat = client.checkout("f1", wait_s=PATIENCE_S)
        assert seat.held
        until(lambda: triad.ledger.free == 9)


def test_it_imports_neither_trio_nor_asyncio():
    result = script(
        """
        import sys
        import flexcore_sync
        flexcore_sync.connect("2837@127.0.0.1", vendor="demo").close()
        heavy = {"trio", "asyncio", "cryptography", "sqlite3", "flexcore_trio", "flexcore.licensefile.parser", "attr",
                 "dataclasses", "inspect", "logging"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_the_path_comes_from_the_environment(triad):
    one = "import flexcore_sync, sys\nwith flexcore_sync.connect(vendor='demo') as c: print(c.checkout('f1').held)"
    result = script(one, DEMO_LICENSE_FILE=triad.path, LM_LICENSE_FILE="")
    assert result.stdout == "True\n"
    result = script(one, LM_LICENSE_FILE=triad.path)
    assert result.stdout == "True\n"


def test_the_vendors_variable_comes_first():
    found = find_servers(
        None, "demo", {"LM_LICENSE_FILE": "1@lm", "DEMO_LICENSE_FILE": "2@demo", "X": "y"}
    )
    assert [[tuple(a) for a in alternative] for alternative in found] == [
        [("demo", 2)],
        [("lm", 1)],
    ]


def test_no_path_at_all():
    with pytest.raises(flexcore_sync.SearchPathError, match="DEMO_LICENSE_FILE or LM_LICENSE_FILE"):
        find_servers(None, "demo", {})


def test_a_file_with_three_server_lines_is_refused_with_the_line_to_use(tmp_path):
    file = tmp_path / "triad.lic"
    file.write_text("SERVER pat 1 2837\nSERVER lee 2 2837\nSERVER terry 3 2837\nVENDOR demo\n")
    with pytest.raises(flexcore_sync.SearchPathError, match="2837@pat,2837@lee,2837@terry"):
        flexcore_sync.connect(str(file))


def test_a_file_with_one_server_line_is_followed(tmp_path, triad):
    with SocketTriad(1) as single:
        file = tmp_path / "single.lic"
        file.write_text(f"SERVER 127.0.0.1 ANY {single.addresses[0].port}\nVENDOR demo\n")
        with flexcore_sync.connect(str(file), vendor="demo") as client:
            assert client.checkout("f1").held


def test_who_is_shown(triad):
    with flexcore_sync.connect(
        triad.path, vendor="demo", user="ann b", host="desk 1", display="\udc80:0", project="p"
    ) as client:
        client.checkout("f1")
    (opened,) = [m for m in triad.servers[0].heard if type(m).__name__ == "OpenSession"]
    assert (opened.user, opened.host, opened.display, opened.project) == ("ann_b", "desk_1", "_:0", "p")
    assert opened.pid == os.getpid()


def test_impossible_keep_alive():
    with pytest.raises(ValueError, match="keep_alive"):
        flexcore_sync.connect("1@a", keep_alive="sometimes")  # type: ignore[arg-type]


def test_closing_twice_and_from_a_callback(triad):
    client = flexcore_sync.connect(triad.path, vendor="demo", on_state=lambda change: client.close())
    with pytest.raises(flexcore_sync.LocalProtocolError):
        client.checkout("f1")
    client.close()
    client.close()
