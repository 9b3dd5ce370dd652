"""Who reads from the connections: fairness, closed sockets, back-pressure, and that both ways are there."""

from __future__ import annotations

import errno
import select
import socket
import sys

import pytest
import trio
import trio.testing

from flexcore.server import CloseConnection, Halt
from flexcore_trio import readers
from flexcore_trio.link import LINGER_S, PAUSE_BYTES, READ_BYTES, Link
from flexcore_trio.loop import MAX_SLEEP_S
from tests.test_trio_server import PATIENCE_S, read_line, reset, start  # noqa: F401 (a fixture)

needs_epoll = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has epoll")
FIREHOSE = b"x" * (1 << 20)


class Ends:
    """A link and its other end; all are closed when the test ends."""

    def __init__(self):
        self.socks = []

    def make(self, conn):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.socks += [ours, theirs]
        return Link(conn, ours, accepted=True), theirs


@pytest.fixture
def ends():
    made = Ends()
    yield made
    for sock in made.socks:
        sock.close()


class Heard:
    """An EpollReaders that notes every round."""

    def __init__(self, nursery):
        self.rounds = []
        self.readers = readers.EpollReaders(self.take)
        self.readers.open(nursery)

    def take(self, batch):
        self.rounds.append([(link.conn, data) for link, data in batch])
        for link, data in batch:
            if not data:
                link.close(abort=data is None)

    async def settle(self):
        with trio.fail_after(PATIENCE_S):
            await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def heard(nursery):
    made = Heard(nursery)
    yield made
    nursery.cancel_scope.cancel()
    for link in list(made.readers._links.values()):
        link.close()
    made.readers.close()


# --- which one ------------------------------------------------------------------------------------


def test_linux_has_the_epoll_and_the_rest_a_task_each(monkeypatch):
    made = readers.choose(deliver=print, serve=print)
    assert type(made).__name__ == ("EpollReaders" if sys.platform == "linux" else "TaskReaders")
    monkeypatch.setattr(readers, "POLLER", "tasks")
    assert type(readers.choose(deliver=print, serve=print)).__name__ == "TaskReaders"


@pytest.mark.trio
async def test_connections_have_a_task_each_only_where_there_is_no_epoll(start, poller):  # noqa: F811
    running = await start()
    await trio.testing.wait_all_tasks_blocked()
    before = len(running.loop._nursery.child_tasks)
    for _ in range(10):
        await running.connect()
    await running.machine.until("opened", 10)
    await trio.testing.wait_all_tasks_blocked()
    assert len(running.loop._nursery.child_tasks) - before == {"epoll": 0, "tasks": 10}[poller]


# --- for both -------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_who_sends_without_end_does_not_hold_up_the_others(start, nursery):  # noqa: F811
    running = await start()
    hose, other = await running.connect(), await running.connect()
    await running.machine.until("opened", 2)

    async def pour():
        while True:
            await hose.send_all(FIREHOSE)

    nursery.start_soon(pour)
    await running.machine.until("data", 1)
    for number in range(20):
        heard = len(running.machine.told)
        await other.send_all(b"%d\n" % number)
        assert await read_line(other) == b"%d\n" % number
        in_between = sum(told == ("data", 1) for told in running.machine.told[heard:])
        assert in_between * READ_BYTES < 16 * len(FIREHOSE)
    nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_who_takes_no_answers_is_not_read_from_until_it_does(start):  # noqa: F811
    running = await start()
    stream = await running.connect()
    await stream.send_all(b"pour 7900000\n")
    await running.machine.until("data", 1)
    await trio.testing.wait_all_tasks_blocked()
    link = running.loop._links[1]
    assert len(link.unsent) > PAUSE_BYTES
    await stream.send_all(b"unheard\n")
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert sum(told == ("data", 1) for told in running.machine.told) == 1
    left = 7_900_000
    with trio.fail_after(PATIENCE_S):
        while left:
            left -= len(await stream.receive_some(min(left, 65536)))
    assert await read_line(stream) == b"unheard\n"


@pytest.mark.trio
async def test_a_reset_of_one_that_takes_no_answers_is_noticed_and_costs_nothing(start):  # noqa: F811
    running = await start()
    stream = await running.connect()
    await stream.send_all(b"pour 7900000\nunheard\n")
    await running.machine.until("data", 1)
    await stream.send_all(b"more\n")
    await trio.testing.wait_all_tasks_blocked()
    reset(stream)
    assert await running.machine.until("ended", 1) == ("ended", 1, False)
    await trio.testing.wait_all_tasks_blocked()
    assert not running.loop._links


@pytest.mark.trio
async def test_one_that_takes_no_answers_is_closed_in_order_all_the_same(start):  # noqa: F811
    """It is read from again: with input left unread the close would be a reset, and overtake the answers."""
    running = await start()
    stream = await running.connect()
    await stream.send_all(b"pour 7900000\n")
    await running.machine.until("data", 1)
    await trio.testing.wait_all_tasks_blocked()
    await stream.send_all(b"unheard\n")
    await trio.testing.wait_all_tasks_blocked(0.05)
    running.ask(CloseConnection(conn=1, abort=False))
    received = 0
    with trio.fail_after(PATIENCE_S):
        while data := await stream.receive_some():
            received += len(data)
    assert received == 7_900_000
    await stream.send_all(b"unheard as well\n")
    await stream.aclose()
    with trio.fail_after(LINGER_S / 2):
        while running.loop._links:
            await trio.testing.wait_all_tasks_blocked()
    assert sum(told == ("data", 1) for told in running.machine.told) == 1


@pytest.mark.trio
async def test_hundreds_that_come_and_go_at_once_are_told_apart(start):  # noqa: F811
    """Numbers of sockets are given anew at once: what the machine hears of one is never another's."""
    running = await start()
    for wave in range(4):
        streams = [await running.connect() for _ in range(60)]
        first = wave * 60 + 1
        await running.machine.until("opened", first + 59)
        for number, stream in enumerate(streams):
            stream.socket._sock.send(b"%d of %d\n" % (number, wave))
        for number, stream in enumerate(streams):
            assert await read_line(stream) == b"%d of %d\n" % (number, wave)
        for number, stream in enumerate(streams):
            (reset if number % 2 else lambda end: end.socket.close())(stream)
        for number in range(60):
            assert (await running.machine.until("ended", first + number))[2] is (number % 2 == 0)
    assert not running.loop._links


@pytest.mark.trio
async def test_a_turn_that_asks_for_another_has_it_and_the_rest_go_on(start):  # noqa: F811
    running = await start()
    machine = running.machine
    stream, other = await running.connect(), await running.connect()
    await machine.until("opened", 2)
    end_turn = machine.end_turn
    asked = 0

    def ask_again(*, now, wall):
        nonlocal asked
        end_turn(now=now, wall=wall)
        if asked < 200:
            asked += 1
            running.loop._ask_for_turn()

    machine.end_turn = ask_again
    stream.socket._sock.send(b"one\n")
    other.socket._sock.send(b"two\n")
    assert await read_line(stream) == b"one\n"
    assert await read_line(other) == b"two\n"
    with trio.fail_after(PATIENCE_S):
        while asked < 200:
            await trio.lowlevel.checkpoint()


@pytest.mark.trio
async def test_what_a_client_brings_forward_is_done_in_time(start):  # noqa: F811
    """The task that waits for the clock had set its alarm before the client came."""
    running = await start()
    stream = await running.connect()
    await running.machine.until("opened", 1)
    await trio.testing.wait_all_tasks_blocked()
    machine, now = running.machine, running.loop._now
    receive_data = machine.receive_data

    def receive(conn, data, *, now, wall):
        machine.due_at = now + 0.05
        receive_data(conn, data, now=now, wall=wall)

    machine.receive_data = receive
    before = now()
    await stream.send_all(b"x\n")
    await machine.until("timeout")
    assert now() - before < PATIENCE_S / 4  # the alarm of before is 10 s away


@pytest.mark.trio
async def test_what_a_client_ends_the_server_with_ends_it_now(start):  # noqa: F811
    running = await start()
    stream = await running.connect()
    await running.machine.until("opened", 1)
    await trio.testing.wait_all_tasks_blocked()
    receive_data = running.machine.receive_data

    def receive(conn, data, *, now, wall):
        running.machine.actions.append(Halt(exit_code=3, reason="a client"))
        receive_data(conn, data, now=now, wall=wall)

    running.machine.receive_data = receive
    await stream.send_all(b"x\n")
    with trio.fail_after(MAX_SLEEP_S / 2):
        assert await read_line(stream) == b"x\n"
        assert await stream.receive_some() == b""
        await stream.aclose()
        assert await running.until_ended() == (3, "a client")


@pytest.mark.trio
async def test_a_connection_that_cannot_be_watched_has_ended(start, monkeypatch):  # noqa: F811
    running = await start()

    def add(link):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(running.loop._readers, "add", add)
    with pytest.raises((trio.BrokenResourceError, OSError)):  # it may be over before we know that it was made
        await (await running.connect()).receive_some()
    assert await running.machine.until("ended", 1) == ("ended", 1, False)
    assert not running.loop._links


# --- the epoll alone ------------------------------------------------------------------------------


@needs_epoll
@pytest.mark.trio
async def test_a_round_is_bounded_and_what_it_left_goes_first(heard, ends):
    pairs = [ends.make(conn) for conn in range(8)]
    for link, _ in pairs:
        heard.readers.add(link)
    for _, theirs in pairs:
        assert theirs.send(b"x" * READ_BYTES) == READ_BYTES
    await heard.settle()
    per_round = readers.ROUND_BYTES // READ_BYTES
    assert [len(each) for each in heard.rounds] == [per_round, 8 - per_round]
    assert {conn for each in heard.rounds for conn, _ in each} == set(range(8))


@needs_epoll
@pytest.mark.trio
async def test_those_that_always_have_more_do_not_come_first_again(heard, ends):
    pairs = [ends.make(conn) for conn in range(8)]

    def take(batch):
        heard.rounds.append([(link.conn, data) for link, data in batch])
        for link, _ in batch:
            if len(heard.rounds) < 10:
                assert pairs[link.conn][1].send(b"x" * READ_BYTES) == READ_BYTES

    heard.readers._serve = take
    for link, theirs in pairs:
        heard.readers.add(link)
        theirs.send(b"x" * READ_BYTES)
    await heard.settle()
    first, second = ({conn for conn, _ in each} for each in heard.rounds[:2])
    assert first | second == set(range(8))


@needs_epoll
@pytest.mark.trio
async def test_what_is_closed_after_it_was_ready_is_not_read_and_its_number_is_anothers(heard, ends):
    """The end of one closes others that are ready in the same round, and a new one takes a number of theirs."""
    pairs = [ends.make(conn) for conn in range(8)]
    for link, _ in pairs:
        heard.readers.add(link)
    new = None

    def take(batch):
        nonlocal new
        heard.rounds.append([(link.conn, data) for link, data in batch])
        if new is None:
            read = {link.conn for link, _ in batch}
            left = [link for link, _ in pairs if link.conn not in read]
            assert left
            numbers = {link.sock.fileno() for link in left}
            for link in left:
                link.close()
            new, theirs = ends.make(99)
            assert {new.sock.fileno(), theirs.fileno()} & numbers
            heard.readers.add(new)

    heard.readers._serve = take
    for _, theirs in pairs:
        theirs.send(b"x" * READ_BYTES)
    await heard.settle()
    assert len(heard.rounds) == 1
    ends.socks[-1].send(b"mine")
    await heard.settle()
    assert heard.rounds[1:] == [[(99, b"mine")]]


@needs_epoll
@pytest.mark.trio
async def test_a_link_leaves_the_epoll_before_its_socket_is_closed(heard, ends):
    """A child that is being started holds the socket, too: the epoll would report it for ever."""
    link, theirs = ends.make(1)
    heard.readers.add(link)
    child = link.sock.dup()
    with child:
        link.close()
        theirs.send(b"for nobody")
        await heard.settle()
        assert not heard.readers._epoll.poll(0)
    assert heard.rounds == []


@needs_epoll
@pytest.mark.trio
async def test_the_epoll_tells_an_end_from_a_reset_and_the_last_bytes_come_first(heard, ends):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        for conn in (1, 2):
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
            ours.setblocking(False)
            ends.socks += [ours, theirs]
            heard.readers.add(Link(conn, ours, accepted=True))
            if conn == 1:
                theirs.send(b"last words")
                theirs.close()
            else:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                theirs.close()
    await heard.settle()
    seen = [each for every in heard.rounds for each in every]
    assert [data for conn, data in seen if conn == 1] == [b"last words", b""]
    assert [data for conn, data in seen if conn == 2] == [None]


@needs_epoll
@pytest.mark.trio
async def test_more_that_are_ready_than_a_round_takes_are_all_read(heard, ends, monkeypatch):
    monkeypatch.setattr(readers, "ROUND_EVENTS", 3)
    pairs = [ends.make(conn) for conn in range(10)]
    for link, theirs in pairs:
        heard.readers.add(link)
        theirs.send(b"x")
    await heard.settle()
    assert max(len(each) for each in heard.rounds) <= 3
    assert sorted(conn for each in heard.rounds for conn, _ in each) == list(range(10))


@needs_epoll
@pytest.mark.trio
async def test_adding_and_closing_twice_is_harmless(heard, ends):
    link, theirs = ends.make(1)
    heard.readers.add(link)
    heard.readers.add(link)
    theirs.send(b"once")
    await heard.settle()
    assert heard.rounds == [[(1, b"once")]]
    link.close()
    link.close()
    assert isinstance(heard.readers._epoll, select.epoll)
