"""Every error of docs/errors.rst that flexcore gives is met here as a user meets it: in the answer of the real server
core, in what the real client tells its application, or as the exit status of a command.

Each situation below returns the code that it met, and the page's rows say which codes there have to be; so a row can
neither be without a situation nor have one that meets something else (tests/test_utilities_table.py reads the page).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import trio

from flexcore.client import CheckoutDeniedAction, SeatLost
from flexcore.errors import FlexcoreError
from flexcore.ledger.sessions import RESULTS_MAX
from flexcore.licensefile.formatting import to_decimal
from flexcore.options import parse_options
from flexcore.server import ReadLicense
from flexcore.server.clocks import CLIENT_CLOCK_S, CLOCK_BACK_S
from flexcore.wire import messages as wire
from flexcore_sync import connect
from flexcore_testing import LoopbackTriad, Triad
from flexcore_tools import cli
from flexcore_tools._link import LinkFailed, open_link
from flexcore_trio import MemoryStore, ServerLoop, open_listeners
from tests.client_fakes import FakeTriad, World
from tests.fake_servers import fake_servers
from tests.ports import free_port
from tests.reread_kit import NEW, OTHER_KEY, Farm, P, S, T, feature, text_of
from tests.server_kit import DAY, Client, Kit, line, live
from tests.test_borrow_client import Machine
from tests.test_borrow_server import LENT, Borrower, lent
from tests.test_entitlements import ENABLES, KIT, desk
from tests.test_lmborrow import LICENSE as LENDS
from tests.test_removals import BY_ANN, kit_of, remove
from tests.test_server_clocks import client_with_clock, set_back
from tests.test_trio_server import FakeMachine
from tests.test_utilities_table import given_rows

Situation = Callable[[], int]
SITUATIONS: dict[int, Situation] = {}


def provokes(code: int) -> Callable[[Situation], Situation]:
    """Say which code a situation meets."""

    def note(situation: Situation) -> Situation:
        assert code not in SITUATIONS
        SITUATIONS[code] = situation
        return situation

    return note


@pytest.mark.parametrize("code", sorted(given_rows(), reverse=True))
def test_every_error_of_the_page_is_met(code, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLEXCORE_BORROW_DIR", str(tmp_path / "borrow"))
    for name in ("LM_LICENSE_FILE", "LM_BORROW"):
        monkeypatch.delenv(name, raising=False)
    assert code in SITUATIONS, f"docs/errors.rst says that {code} is given: provoke it here"
    assert SITUATIONS[code]() == code


# --- the licence says no ----------------------------------------------------------------------------------------------


def denied(kit: Kit, *arguments: Any, user: str = "ann", **more: Any) -> int:
    """The code that a client is told on a checkout."""
    answer = kit.client(user).checkout(*arguments, **more)
    assert isinstance(answer, wire.Denied), answer
    return answer.code


def with_options(text: str, *lines: Any) -> Kit:
    return Kit(*lines, options=parse_options(text, name="demo.opt"))


@provokes(-4)
def all_are_in_use() -> int:
    kit = Kit(line(seats=1))
    kit.client("bob").checkout()
    return denied(kit)


@provokes(-5)
def a_feature_that_is_not_there() -> int:
    return denied(Kit(), "nothing")


@provokes(-9)
def locked_to_another_machine() -> int:
    return denied(Kit(line(lock="ID=9")))


@provokes(-10)
def expired() -> int:
    return denied(Kit(line(expiry_day=DAY - 1)))


@provokes(-23)
def a_client_that_reads_no_answers() -> int:
    client = Kit(line(seats=RESULTS_MAX + 1)).client()
    codes = [getattr(client.checkout(answered=0), "code", 0) for _ in range(RESULTS_MAX + 1)]
    assert codes[:-1] == [0] * RESULTS_MAX
    return codes[-1]


@provokes(-24)
def others_wait() -> int:
    kit = Kit(line(seats=2))
    kit.client("bob").checkout()
    kit.client("eve").checkout(count=2, queue=True)
    return denied(kit)


@provokes(-25)
def a_version_that_is_too_high() -> int:
    return denied(Kit(), "f1", "9.0")


@provokes(-26)
def more_than_there_are() -> int:
    return denied(Kit(), count=9)


@provokes(-31)
def a_day_to_come() -> int:
    return denied(Kit(line(start_day=DAY + 9)))


@provokes(-34)
def the_clients_clock_is_off() -> int:
    kit = Kit(line("soon", expiry_day=DAY + 30))
    return int(client_with_clock(kit, "ann", CLIENT_CLOCK_S + 7200.0).checkout("soon").code)


@provokes(-41)
def given_back_what_was_never_had() -> int:
    return int(Kit().client().checkin(99).code)


@provokes(-42)
def a_count_of_none() -> int:
    return denied(Kit(), count=0)


@provokes(-77)
def a_version_that_is_no_number() -> int:
    return denied(Kit(), "f1", "new")


@provokes(-84)
def nobody_is_named() -> int:
    return denied(Kit(line()._replace(named_users=1)))


@provokes(-88)
def the_servers_clock_was_set_back() -> int:
    kit = Kit(line("soon", expiry_day=DAY + 30))
    set_back(kit, CLOCK_BACK_S + 7200.0)
    return denied(kit, "soon")


@provokes(-89)
def another_platform() -> int:
    return denied(Kit(line()._replace(platforms=("i86_n",))))


@provokes(-125)
def a_package_itself() -> int:
    return int(desk(KIT, ENABLES).out(b"a", "kit").code)


# --- the options file says no -----------------------------------------------------------------------------------------


@provokes(-38)
def excluded() -> int:
    return denied(with_options("EXCLUDE f1 USER ann\n"))


@provokes(-39)
def not_included() -> int:
    return denied(with_options("INCLUDE f1 USER bob\n"))


@provokes(-87)
def max_is_reached() -> int:
    return denied(with_options("MAX 1 f1 USER ann\n"), count=2)


@provokes(-101)
def all_are_reserved() -> int:
    return denied(with_options("RESERVE 2 f1 USER bob\n"))


@provokes(-106)
def as_many_connections_as_it_takes() -> int:
    kit = with_options("MAX_CONNECTIONS 1\n")
    kit.client("bob")
    return int(Client(kit, "ann", opened=False).open().code)


# --- nobody takes it home ---------------------------------------------------------------------------------------------


def refused_to_lend(options: str = "", *, hours: float = 2.0, **changes: Any) -> int:
    """The code that a borrower is told."""
    kit = with_options(options, LENT._replace(**changes))
    ann = Borrower(kit, "ann")
    return int(ann.borrow(ann.checkout().handle, hours).code)


@provokes(-67)
def the_last_ones_stay_in_the_house() -> int:
    return refused_to_lend("BORROW_LOWWATER f1 2\n")


@provokes(-68)
def a_line_without_borrow() -> int:
    return refused_to_lend(borrow_hours=0)


@provokes(-104)
def longer_than_the_line_lends() -> int:
    return refused_to_lend(hours=50.0)


@provokes(-117)
def until_yesterday() -> int:
    return refused_to_lend(hours=-1.0)


@provokes(-118)
def its_time_is_over() -> int:
    machine = Machine()
    machine.seat()
    (lost,) = [each for each in machine.pass_time(3 * 3600.0) if isinstance(each, SeatLost)]
    return lost.code


@provokes(-120)
def stopped_while_something_is_lent() -> int:
    kit, _ = lent()
    conn = kit.connect(local=True)
    kit.said(conn)
    kit.send(conn, wire.AdminRequest(1, "down", ("all",), "root", "elm"))
    (reply,) = kit.said(conn)
    return int(reply.code)


@provokes(-122)
def a_borrow_file_that_cannot_be_removed() -> int:
    assert cli.main(["lmborrow", "demo", "1-jan-2040"]) == 0
    with mock.patch.object(os, "unlink", side_effect=PermissionError(13, "Permission denied")):
        return ends("lmborrow", "-clear")


@provokes(-124)
def given_back_while_it_is_used() -> int:
    with LoopbackTriad(LENDS) as triad, triad.connect(user="ann") as client:
        client.checkout("f1").borrow(time.time() + 3600.0)
        return ends("lmborrow", "-return", "f1")


@provokes(-128)
def given_back_what_was_never_lent() -> int:
    _, ann = lent()
    return int(ann.give_back(ident=b"z" * 16).code)


# --- administrators are told no ---------------------------------------------------------------------------------------


@provokes(-63)
def no_administrator() -> int:
    kit = kit_of(administrators_only=True)
    conn = kit.connect(local=True, vendor="", administrator=False)
    kit.said(conn)
    kit.send(conn, wire.AdminRequest(1, "down", ("one",), "ann", "elm"))
    (reply,) = kit.said(conn)
    return int(reply.code)


@provokes(-64)
def removed_too_soon() -> int:
    kit = kit_of()
    kit.client("ann").checkout()
    return int(remove(kit, *BY_ANN).code)


@provokes(-100)
def what_lingers_cannot_be_removed() -> int:
    kit = kit_of("LINGER f1 600")
    ann = kit.client("ann")
    ann.checkin(ann.checkout().handle)
    live(kit, 150.0, ann)
    return int(remove(kit, *BY_ANN).code)


@provokes(-119)
def from_another_machine() -> int:
    return int(remove(kit_of(), *BY_ANN, local=False).code)


@provokes(-8)
def a_file_that_somebody_else_signed() -> int:
    return reread_of(text_of(feature("f1", 9), key=OTHER_KEY))


@provokes(-92)
def a_file_of_other_servers() -> int:
    return reread_of(text_of(feature("f1", 9), hostids=("ID=1", "ID=2", "ID=9")))


@provokes(-2)
def a_file_that_is_none() -> int:
    return reread_of("SERVER elm\n")


def reread_of(text: str) -> int:
    """What lmreread answers when the tertiary has this file."""
    farm = Farm()
    farm.hosts[P].text = farm.hosts[S].text = NEW
    farm.hosts[T].text = text
    return farm.reread(P).code


@provokes(-30)
def a_file_that_is_gone() -> int:
    """The real loop reads it, and gives the server core what lmreread answers."""

    async def read() -> int:
        (listener,) = open_listeners(["127.0.0.1"], 0)
        machine = FakeMachine()
        log: list[tuple[str, str]] = []
        loop = ServerLoop(machine, store=MemoryStore(), listeners=[listener], log=log.extend, timeout_s=3.0)
        loop._read_license = lambda: open("gone.lic")  # type: ignore[assignment]  # noqa: SIM115
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: loop.run(task_status=task_status))
            machine.actions.append(ReadLicense(ticket=8))
            loop._ask_for_turn()
            _, _, refused = await machine.until("license_read")
            nursery.cancel_scope.cancel()
        return int(refused.code)

    return trio.run(read)


@provokes(-52)
def a_file_server_that_hangs() -> int:
    farm = Farm(read=False)
    conn = farm.connect(P)
    farm.send(P, conn, wire.AdminRequest(7, "reread", ("all",), "ann", "elm"))
    farm.turns()
    farm.read(P)
    farm.read(S)
    farm.run(11)
    (reply,) = farm.said(P, conn)
    return int(reply.code)


@provokes(-85)
def an_order_that_the_server_does_not_know() -> int:
    kit = Kit()
    conn = kit.connect(local=True, vendor="")
    kit.said(conn)
    kit.send(conn, wire.AdminRequest(3, "dance", (), "ann", "elm"))
    (reply,) = kit.said(conn)
    return int(reply.code)


@provokes(-83)
def a_client_of_tomorrow() -> int:
    kit = Kit()
    conn = kit.connect(hello=False)
    kit.send(conn, wire.ClientHello(wire.PROTOCOL_VERSION + 1, "test", "sampled", 0))
    (refusal,) = kit.said(conn)
    return int(refusal.code)


# --- no server could be asked: what the client tells its application --------------------------------------------------


@provokes(-96)
def a_machine_that_hangs() -> int:
    triad = FakeTriad("solo")
    triad.servers[0].frozen = True
    world = World(triad)
    world.checkout()
    world.run(7)
    return int(world.trouble().code)


@provokes(-97)
def one_of_three_alone() -> int:
    triad = Triad(heartbeat_interval_s=1)
    client = triad.client("ann")
    triad.crash("secondary")
    triad.crash("tertiary")
    triad.advance(10)
    return raised(lambda: client.checkout("f1"))


@provokes(-33)
def another_program_uses_the_session() -> int:
    """What the real server says to a wrong proof, and what the real client makes of it."""
    said = Kit().client().resume(secret=b"x" * 16)
    assert isinstance(said, wire.SessionReply)
    triad = FakeTriad("pat", "lee", "terry")
    triad.ledger.free = 0  # a session that holds nothing
    world = World(triad)
    world.checkout(queue=True)
    world.run(0.5)
    server = triad.servers[0]
    usual = server.answer

    def answer(conn: int, message: Any) -> list[wire.Message]:
        return [said._replace(seq=message.seq)] if isinstance(message, wire.ResumeSession) else usual(conn, message)

    for each in triad.servers:
        each.answer = answer if each is server else each.answer  # type: ignore[method-assign]
    world.break_connections(server)
    world.run(5)
    return int(world.all_told(CheckoutDeniedAction)[-1].code)


@provokes(-22)
def taken_away_before_it_was_told() -> int:
    world = World(FakeTriad("pat", "lee", "terry"))
    world.hold()
    server = world.triads[0].servers[0]
    server.renews = False
    world.run(60)
    world.checkout()
    world.run(0.5)
    session = world.node._sites[0].session
    assert session is not None
    (handle,) = session.doubtful
    world.push_message(server, wire.SeatsLost(1, (handle,), 0, "removed by root"))
    world.run(0.1)
    return int(world.all_told(CheckoutDeniedAction)[-1].code)


@provokes(-35)
def the_application_waits_no_longer() -> int:
    triad = Triad(features={"f1": 1})
    seat = triad.client("bob").checkout("f1")
    code = raised(lambda: triad.client("ann").checkout("f1", queue=True, queue_s=5.0))
    assert seat.held
    return code


def raised(what: Callable[[], Any]) -> int:
    """The code of the exception that an application gets."""
    with pytest.raises(FlexcoreError) as told:
        what()
    assert told.value.code is not None
    return int(told.value.code)


# --- what commands end with -------------------------------------------------------------------------------------------


def ends(*words: str) -> int:
    """The code that a command's exit status tells: 256 less."""
    return cli.main([*words]) - 256


@provokes(-1)
def no_search_path() -> int:
    return ends("lmstat")


@provokes(-11)
def a_day_that_is_none() -> int:
    return ends("lmborrow", "demo", "soon")


@provokes(-14)
def a_name_that_nobody_knows() -> int:
    return ends("lmstat", "-c", "2837@no-such-host.invalid")


@provokes(-15)
def nothing_listens() -> int:
    port = free_port()
    assert ends("lmstat", "-c", f"{port}@127.0.0.1") == -15
    with connect(f"{port}@127.0.0.1", vendor="demo") as client:
        return raised(lambda: client.checkout("f1", wait_s=0.2))


@provokes(-12)
def something_else_answers() -> int:
    with answering(b"HTTP/1.0 400 Bad Request\r\n\r\n") as port:
        return ends("lmstat", "-c", f"{port}@127.0.0.1")


@provokes(-16)
def the_connection_ends_while_it_is_read() -> int:
    with answering(b"") as port:
        return ends("lmstat", "-c", f"{port}@127.0.0.1")


@provokes(-17)
def the_connection_ends_while_it_is_written() -> int:
    with fake_servers("serving") as (server,):
        link = open_link(server.address, 5.0)
        link._sock.shutdown(socket.SHUT_WR)  # as the system does when the other end is found gone
        try:
            with pytest.raises(LinkFailed) as told:
                link.refresh(5.0)
        finally:
            link.close()
    return int(told.value.failure.code)


@provokes(-99)
def a_digit_that_was_typed_wrongly() -> int:
    with open("a.dec", "w", encoding="ascii") as file:
        file.write(to_decimal(NEW).replace("DECIMAL 1.1 ", "DECIMAL 1.1 9", 1))
    return ends("format", "a.dec")


@contextlib.contextmanager
def answering(data: bytes) -> Iterator[int]:
    """Something on a port that says *data* to whoever comes first, and ends the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def say() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(data)
                connection.recv(1000)

        thread = threading.Thread(target=say)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
