"""The proxy that makes a network bad: what passes, what does not, and what is told of it."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import threading
import time

import pytest
import trio

from flexcore_testing.proxy import Faults, ProxyThread, open_proxy
from flexcore_testing.proxy_command import main

PATIENCE_S = 20.0
SHORT_S = 0.05


class Echo:
    """A server that sends back what it gets, and remembers how each connection ended."""

    def __init__(self, port=0):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen()
        self.address = self.listener.getsockname()
        self.ends: list[str] = []
        self.socks: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.socks.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self.threads.append(thread)
            thread.start()

    def _serve(self, sock):
        with sock:
            try:
                while data := sock.recv(65536):
                    sock.sendall(data)
            except OSError:
                self.ends.append("reset")
            else:
                self.ends.append("end")

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in (self.thread, *self.threads):
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxies():
    with ProxyThread() as running:
        yield running


@pytest.fixture
def link(proxies, echo):
    return proxies.add(echo.address)


def dial(link):
    return socket.create_connection((link.host, link.port), PATIENCE_S)


def ask(sock, data=b"hello"):
    sock.sendall(data)
    return read(sock, len(data))


def read(sock, size):
    got = b""
    while len(got) < size:
        part = sock.recv(65536)
        if not part:
            break
        got += part
    return got


def hears_nothing(sock):
    sock.settimeout(SHORT_S)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.settimeout(PATIENCE_S)


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_bytes_pass_and_the_end_of_stream_too(link, echo):
    data = bytes(range(256)) * 8000
    with dial(link) as sock:
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        assert read(sock, len(data)) == data
        sender.join()
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    until(lambda: echo.ends == ["end"])
    until(lambda: link.open_connections == 0)
    report = link.report()
    assert (report["bytes_there"], report["bytes_back"], report["connections"]) == (len(data), len(data), 1)


def test_a_reset_of_the_application_arrives_as_a_reset(link, echo):
    sock = dial(link)
    assert ask(sock) == b"hello"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    until(lambda: echo.ends == ["reset"])


def test_a_reset_by_order_reaches_both_ends(link, echo):
    with dial(link) as one, dial(link) as other:
        ask(one)
        ask(other)
        assert link.reset() == 2
        for sock in (one, other):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
    until(lambda: echo.ends == ["reset", "reset"])
    with dial(link) as sock:  # new ones are none the worse
        assert ask(sock) == b"hello"


@pytest.mark.parametrize("way", ["there", "back", "both"])
def test_a_cut_holds_and_its_end_lets_go(link, echo, way):
    with dial(link) as sock:
        assert ask(sock, b"before") == b"before"
        link.set(cut=True, way=way)
        sock.sendall(b"during")
        hears_nothing(sock)
        passed = link.report()["bytes_there"]
        assert passed == len(b"before") + (len(b"during") if way == "back" else 0)
        link.heal()
        assert read(sock, 6) == b"during"


def test_a_cut_hides_the_death_of_a_process(link, echo):
    with dial(link) as sock:
        ask(sock)
        link.set(cut=True)
        echo.close()
        hears_nothing(sock)
        with dial(link) as late:  # and it is not refused: nobody is there to say so
            hears_nothing(late)
            link.heal()
            assert sock.recv(1) == b""
            with contextlib.suppress(ConnectionResetError):
                assert late.recv(1) == b""


def test_a_delay_and_its_end(link):
    with dial(link) as sock:
        ask(sock)
        link.set(delay_s=0.1)
        begun = time.monotonic()
        ask(sock)
        assert time.monotonic() - begun >= 0.2
        link.set(delay_s=1000.0)
        sock.sendall(b"late")
        hears_nothing(sock)
        link.heal()
        assert read(sock, 4) == b"late"


def test_stalls_keep_the_order(link):
    link.set(stall_chance=0.5, stall_s=0.01, jitter_s=0.005)
    data = bytes(range(256)) * 1000
    with dial(link) as sock:
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        assert read(sock, len(data)) == data
        sender.join()


def test_bandwidth(link):
    link.set(bytes_per_s=20_000.0, way="there")
    with dial(link) as sock:
        begun = time.monotonic()
        sock.sendall(bytes(4000))
        sock.shutdown(socket.SHUT_WR)
        assert len(read(sock, 4000)) == 4000
        assert sock.recv(1) == b""
        assert time.monotonic() - begun >= 0.2


def test_half_open_is_forwarded_when_it_is_healed(link, echo):
    link.set(accept="hang")
    with dial(link) as sock:
        sock.sendall(b"hello")
        hears_nothing(sock)
        assert echo.socks == []
        link.heal()
        assert read(sock, 5) == b"hello"


def test_accept_reset(link):
    link.set(accept="reset")
    with pytest.raises(ConnectionResetError), dial(link) as sock:  # either of the two may meet it
        sock.recv(1)


def test_refuse_leaves_the_open_connections_and_comes_back_on_the_same_port(link):
    with dial(link) as sock:
        ask(sock)
        link.set(accept="refuse")
        with pytest.raises(ConnectionRefusedError):
            dial(link)
        assert ask(sock) == b"hello"
        link.set(accept="forward")
        with dial(link) as other:
            assert ask(other) == b"hello"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a copy of a socket keeps its port")
def test_refuse_while_a_process_is_being_started(link):
    """Between fork and exec a child has a copy of every socket: the port must refuse and come back all the same."""
    link.set(accept="forward")
    copy = link._proxy._listener.dup()
    try:
        link.set(accept="refuse")
        with pytest.raises(ConnectionRefusedError):
            dial(link)
        link.heal()
        with dial(link) as sock:
            assert ask(sock) == b"hello"
    finally:
        copy.close()


def test_a_target_that_refuses_is_refused_until_it_is_back(proxies, link, echo):
    address = echo.address
    echo.close()
    with contextlib.suppress(ConnectionResetError), dial(link) as sock:
        sock.settimeout(PATIENCE_S)
        sock.recv(1)

    def refused():
        try:
            dial(link).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass
        return False

    until(refused)
    again = Echo(address[1])
    try:
        until(lambda: not refused())
        with dial(link) as sock:
            assert ask(sock) == b"hello"
    finally:
        again.close()


def test_wrong_faults_change_nothing(link):
    for wrong in (
        {"delay_s": -1.0}, {"stall_chance": 2.0}, {"way": "up"}, {"accept": "perhaps"}, {"jitter_s": float("nan")},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            link.set(**wrong)
    with pytest.raises(TypeError):
        link.set(colour=1)
    assert link.report()["there"] == {
        "delay_s": 0.0, "jitter_s": 0.0, "stall_chance": 0.0, "stall_s": 0.2, "bytes_per_s": 0.0,
        "cut": False,
    }  # fmt: skip


def test_a_port_in_use_is_told_to_whoever_asked(proxies, link, echo):
    with pytest.raises(OSError, match="in use"):
        proxies.add(echo.address, port=echo.address[1])
    with dial(link) as sock:  # the others go on
        assert ask(sock) == b"hello"


@pytest.mark.trio
async def test_in_a_trio_program(echo):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - as it is, not in a group
        async with open_proxy(echo.address) as proxy:
            stream = await trio.open_tcp_stream(proxy.host, proxy.port)
            async with stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
            proxy.set(accept="refuse")
            raise ZeroDivisionError
    with pytest.raises(OSError, match="in use"):
        async with open_proxy(echo.address, port=echo.address[1]):
            pass


def test_faults_are_values():
    assert Faults(delay_s=1.0) == Faults(delay_s=1.0)


def test_the_command(echo, monkeypatch, capsys):
    orders = [
        {"do": "set", "link": "a", "delay_s": 0.5, "way": "there"}, {"do": "report", "link": "a"},
        {"do": "set", "link": "b"}, {"do": "set", "colour": 1}, {"do": "reset"}, {"do": "heal"}, {"do": "?"},
    ]  # fmt: skip
    text = "".join(json.dumps(each) + "\n" for each in orders) + "nonsense\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert main(["--link", f"a=127.0.0.1:0=127.0.0.1:{echo.address[1]}"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[0]["a"].startswith("127.0.0.1:")
    assert [each["ok"] for each in said[1:]] == [True, True, False, False, True, True, False, False]
    assert said[2]["a"]["there"]["delay_s"] == 0.5


def test_the_command_says_what_is_wrong(capsys):
    with pytest.raises(SystemExit):
        main(["--link", "nonsense"])
    assert "reads NAME=HOST:PORT=HOST:PORT" in capsys.readouterr().err


def test_many_resets_while_bytes_are_under_way(link):
    """A reset closes both sockets between two steps of the tasks that wait for them: that ended all proxies."""
    link.set(jitter_s=0.002)
    for _ in range(40):
        socks = [dial(link) for _ in range(5)]
        for sock in socks:
            sock.sendall(bytes(50_000))
        link.reset()
        for sock in socks:
            sock.close()
    link.heal()
    with dial(link) as sock:
        assert ask(sock) == b"hello"
