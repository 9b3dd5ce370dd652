"""``lmgrd -2 -p -local``: who is at the other end of a connection, and whose orders are taken."""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from flexcore.errors import ConfigurationError
from flexcore.wire.messages import AdminReply, AdminRequest
from flexcore_host import administrators, sockdiag
from flexcore_tools import _setup
from flexcore_tools.lmgrd import add_arguments
from tests.server_kit import Kit, line

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
FAMILIES = [(socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET6, "::1", socket.AF_INET6, "::1"),
            (socket.AF_INET6, "::", socket.AF_INET, "127.0.0.1")]  # fmt: skip


@pytest.fixture(params=FAMILIES, ids=["ipv4", "ipv6", "ipv4 at an ipv6 socket"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection on this machine: the server's, the client's."""
    family, host, client_family, target = request.param
    with socket.socket(family) as listener, socket.socket(client_family) as client:
        try:
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind((host, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen()
        client.connect((target, listener.getsockname()[1]))
        server, _ = listener.accept()
        with server:
            yield server, client


@pytest.fixture(params=[True, False], ids=["asked", "tables"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to find out: the one socket is asked for, or looked for among all."""
    if not request.param:
        monkeypatch.setattr(sockdiag, "is_there", lambda: False)
    elif not sockdiag.is_there():
        pytest.skip("a kernel without sock_diag")


@linux
@pytest.mark.usefixtures("_way")
def test_the_system_says_whose_a_connection_is(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    assert administrators.user_at(server) == administrators.user_at(client) == os.getuid()
    assert administrators.is_administrator(server)
    if os.getuid() == 0:  # a socket belongs to whoever owns it, not to whoever holds the other end
        os.fchown(client.fileno(), 4711, 4711)
        assert administrators.user_at(server) == 4711
        assert not administrators.is_administrator(server)


@linux
@pytest.mark.usefixtures("_way")
def test_who_is_gone_is_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    server, _ = pair
    server.close()
    assert administrators.user_at(server) is None
    assert not administrators.is_administrator(server)


@linux
@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("aborts", [False, True], ids=["closed", "reset"])
def test_who_has_closed_before_he_was_asked_about_is_nobody(aborts: bool) -> None:
    """To Linux such a socket is root's: who sent an order and closed at once was taken for root."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        client.sendall(b"down all")
        if aborts:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        server, _ = listener.accept()
        with server:
            assert administrators.user_at(server) is None
            assert not administrators.is_administrator(server)


@linux
def test_one_socket_is_asked_for_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Reading all of them cost tens of milliseconds a connection when somebody opened them by the thousand."""
    if not sockdiag.is_there():
        pytest.skip("a kernel without sock_diag")
    server, client = pair
    monkeypatch.setattr(administrators, "_TABLES", ())
    assert administrators.user_at(server) == os.getuid()
    client.shutdown(socket.SHUT_RDWR)
    server.shutdown(socket.SHUT_RDWR)
    assert administrators.user_at(server) is None


@pytest.mark.parametrize("answer", [OSError(1, "not permitted"), None])
def test_a_kernel_that_does_not_answer_is_noticed(monkeypatch: pytest.MonkeyPatch, answer: OSError | None) -> None:
    def look_up(*_: object) -> None:
        if answer is not None:
            raise answer

    monkeypatch.setattr(sockdiag, "look_up", look_up)
    sockdiag.is_there.cache_clear()
    try:
        assert not sockdiag.is_there()
    finally:
        sockdiag.is_there.cache_clear()


HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
HERE, THERE = ("127.0.0.1", 0x6978), ("127.0.0.1", 0xBEEF)
ROW = "   7: {there} {here} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 2 0 20 4 30 10 -1\n"
DIGITS = "0100007F" if sys.byteorder == "little" else "7F000001"


def row(state: str = "01", uid: int = 4711, inode: int = 99, at: str = DIGITS) -> str:
    return ROW.format(there=f"{at}:BEEF", here=f"{at}:6978", state=state, uid=uid, inode=inode)


@pytest.mark.parametrize(
    ("rows", "uid"),
    [
        (row(), 4711),
        (row(uid=0), 0),
        (row(state="08"), 4711),
        ("", None),
        (row(state="04", uid=0, inode=0), None),  # FIN_WAIT1
        (row(state="05", uid=0, inode=0), None),  # FIN_WAIT2
        (row(state="06", uid=0, inode=0), None),  # TIME_WAIT
        (row(state="02", uid=0), None),  # SYN_SENT: another one who tries the same port
        (row(uid=0, inode=0), None),
        (row(uid=0).partition(" 99 ")[0] + "\n", None),
        (row().replace("BEEF", "BEEE"), None),
        (row(at="0000000000000000" + ("FFFF0000" if sys.byteorder == "little" else "0000FFFF") + DIGITS), 4711),
    ],
)  # fmt: skip
def test_only_an_open_socket_has_an_owner(rows: str, uid: int | None) -> None:
    owner = administrators._owner(HEADER + row().replace(":BEEF", ":BEE0") + rows, THERE, HERE)
    assert (None if owner is None else owner.uid) == uid


@linux
def test_who_closes_while_the_table_is_written_is_nobody(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The row may seem open, and its owner be root already; a second look finds it closed."""
    server, client = pair
    look_up = administrators._look_up

    def looked_up_and_closed(*ends: tuple[str, int]) -> administrators._Owner | None:
        found = look_up(*ends)
        client.close()
        return found and found._replace(uid=0)

    monkeypatch.setattr(administrators, "_look_up", looked_up_and_closed)
    assert administrators.user_at(server) is None


@pytest.mark.skipif(sys.platform == "win32", reason="users of POSIX")
@pytest.mark.parametrize(
    ("uid", "name", "gid", "allowed"),
    [(4711, "ann", 9, True), (4712, "bob", 7, True), (4713, "carl", 9, False), (0, "root", 0, True)],
)
def test_members_of_lmadmin_are_administrators(
    monkeypatch: pytest.MonkeyPatch, uid: int, name: str, gid: int, allowed: bool
) -> None:
    import grp
    import pwd

    monkeypatch.setattr(grp, "getgrnam", lambda group: SimpleNamespace(gr_gid=7, gr_mem=["ann"]))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: SimpleNamespace(pw_name=name, pw_gid=gid))
    assert administrators.may_administrate(uid) is allowed
    missing: Any = SimpleNamespace(side_effect=KeyError)
    monkeypatch.setattr(grp, "getgrnam", lambda group: (_ for _ in ()).throw(KeyError(missing)))
    assert administrators.may_administrate(uid) is (uid == 0)


@pytest.mark.parametrize(("verb", "argument"), [("down", "one"), ("reread", "all"), ("remove", "user"), ("new", "")])
@pytest.mark.parametrize(("restricted", "administrator"), [(True, False), (True, True), (False, False)])
def test_orders_of_others_are_refused(verb: str, argument: str, restricted: bool, administrator: bool) -> None:
    kit = Kit(line("f1"), administrators_only=restricted)
    conn = kit.connect(local=True, administrator=administrator)
    kit.send(conn, AdminRequest(1, verb, (argument,), "ann", "elm"))
    replies = [said for said in kit.said(conn) if isinstance(said, AdminReply)]
    refused = [reply for reply in replies if reply.code == -63]
    assert bool(refused) is (restricted and not administrator)
    assert not refused or (refused[0].text, "lmadmin" in refused[0].lines[0]) == (
        "You are not a license administrator", True
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["down", "reread"])
def test_who_asks_breaks_no_line(verb: str) -> None:
    """What he calls himself goes to the system's event log too, which takes lines as they are."""
    kit = Kit(line("f1"))
    conn = kit.connect(local=True)
    kit.send(conn, AdminRequest(1, verb, ("one",), "ann\n(lmgrd) forged", "elm\r\u2028"))
    kit.turn()
    said = "".join(kit.logs)
    assert "ann?(lmgrd) forged" in said
    assert not set("\n\r\u2028") & set(said)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    return parser.parse_args(["-c", "x", "--vendor-key", "y", *words])


@linux
def test_the_flags() -> None:
    assert not _setup.administrators_only(parsed())
    assert not _setup.administrators_only(parsed("-local"))
    assert parsed("-l", "+log").log == "+log"
    assert _setup.administrators_only(parsed("-2", "-p", "-local"))
    for words in (("-2",), ("-p", "-local"), ("-2", "-p")):
        with pytest.raises(ConfigurationError, match="lmgrd -2 -p -local"):
            _setup.administrators_only(parsed(*words))


def test_a_system_that_does_not_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(administrators, "_TABLES", ("/nowhere",))
    with pytest.raises(ConfigurationError, match="-x lmdown"):
        _setup.administrators_only(parsed("-2", "-p", "-local"))
