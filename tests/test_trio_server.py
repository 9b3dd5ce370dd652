"""The server's loop over loopback sockets, driving a stand-in for the licence server.

What the machine is told (who came, what they sent, how they went) and what becomes of each action.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections import deque

import pytest
import trio
import trio.testing

from flexcore.errors import ConfigurationError, StateError
from flexcore.identity import Rank
from flexcore.override import override
from flexcore.quorum import PersistBatch
from flexcore.server import CloseConnection, DialPeer, Halt, Persist, WriteLog
from flexcore_trio import MemoryStore, ServerLoop, open_listeners, sockets
from flexcore_trio.link import PAUSE_BYTES, Link

BATCH = PersistBatch(hard=b"h", truncate_from=None, entries=(), snapshot=None, replace_log=False)
PATIENCE_S = 20.0


class FakeMachine:
    """Records what it is told; answers lines of text; does what a test puts into ``actions``."""

    def __init__(self):
        self.told = []
        self.turns = 0
        self.batches = []
        self.actions: deque[object] = deque()
        self.outgoing = []
        self.due_at = None
        self.received = {}
        self.this_turn = []
        self.changed = trio.Event()

    def tell(self, *what):
        self.told.append(what)
        event, self.changed = self.changed, trio.Event()
        event.set()

    async def until(self, *what):
        with trio.fail_after(PATIENCE_S):
            while True:
                for told in self.told:
                    if told[: len(what)] == what:
                        return told
                await self.changed.wait()

    def connection_opened(self, conn, *, nonce, local, remote, now, wall, administrator=True):
        assert len(nonce) == 16
        self.tell("opened", conn, local, remote)

    def receive_data(self, conn, data, *, now, wall):
        self.received[conn] = self.received.get(conn, b"") + data
        self.this_turn.append(conn)
        while b"\n" in self.received[conn]:
            line, self.received[conn] = self.received[conn].split(b"\n", 1)
            if line.startswith(b"pour "):
                self.outgoing.append((conn, b"x" * int(line[5:])))
            elif line == b"abort":
                self.actions.append(CloseConnection(conn=conn, abort=True))
            elif line == b"bye":
                self.outgoing.append((conn, b"farewell\n"))
                self.actions.append(CloseConnection(conn=conn, abort=False))
            elif line == b"persist":
                self.outgoing.append((conn, b"sent first\n"))
                self.actions.append(Persist(ticket=7, batch=BATCH))
            else:
                self.outgoing.append((conn, line + b"\n"))
        self.tell("data", conn)

    def connection_ended(self, conn, *, orderly, now, wall):
        self.tell("ended", conn, orderly)

    def peer_connected(self, conn, peer, *, nonce, now, wall):
        assert len(nonce) == 16
        self.tell("peer", peer, conn)

    def dial_failed(self, peer, *, refused, error, now, wall):
        self.tell("failed", peer, refused, error)

    def persisted(self, ticket, *, now, wall):
        self.tell("persisted", ticket)

    def persist_failed(self, ticket, error, *, now, wall):
        self.tell("persist failed", ticket, error)

    def license_read(self, ticket, outcome, *, now, wall):
        self.tell("license_read", ticket, outcome)

    def log_switched(self, ticket, code, text, *, now, wall):
        self.tell("switched", ticket, code, text)

    def reopen_logs(self, reason, *, now, wall):
        self.tell("reopen", reason)

    def stop(self, scope, requested_by, *, now, wall):
        self.tell("stop", scope, requested_by)
        self.actions.append(Halt(exit_code=0, reason="asked to"))

    def handle_timeout(self, *, now, wall):
        assert self.due_at is not None
        assert now >= self.due_at
        self.due_at = None
        self.tell("timeout")

    def next_timeout(self):
        return self.due_at

    def end_turn(self, *, now, wall):
        self.turns += 1
        if self.this_turn:
            self.batches.append(self.this_turn)
            self.this_turn = []

    def data_to_send(self):
        outgoing, self.outgoing = self.outgoing, []
        return outgoing

    def next_action(self):
        return self.actions.popleft() if self.actions else None


class ThreadStore(MemoryStore):
    """Blocks until the test lets go, and fails if it says so."""

    blocking = True

    def __init__(self):
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.failure = ""
        self.thread = None

    @override
    def write(self, batch):
        self.thread = threading.current_thread()
        self.begun.set()
        self.let_go.wait(PATIENCE_S)
        if self.failure:
            raise StateError(self.failure)


class Running:
    """A running loop and the ways to reach it."""

    def __init__(self, machine, loop, address, lines):
        self.machine = machine
        self.loop = loop
        self.address = address
        self.lines = lines
        self.outcome = None
        self.ended = trio.Event()
        self.streams = []

    async def connect(self):
        stream = await trio.open_tcp_stream(*self.address)
        self.streams.append(stream)
        return stream

    async def until_ended(self):
        with trio.fail_after(PATIENCE_S):
            await self.ended.wait()
        return self.outcome

    def ask(self, *actions):
        self.machine.actions.extend(actions)
        self.loop._ask_for_turn()


@pytest.fixture
async def start(nursery, poller):
    runs = []

    async def begin(store=None):
        (listener,) = open_listeners(["127.0.0.1"], 0)
        machine = FakeMachine()
        lines: list[tuple[str, str]] = []
        loop = ServerLoop(
            machine, store=store or MemoryStore(), listeners=[listener], log=lines.extend,
            timeout_s=3.0,
        )  # fmt: skip
        run = Running(machine, loop, listener.getsockname(), lines)
        runs.append(run)

        async def until_halted(task_status):
            run.outcome = await loop.run(task_status=task_status)
            run.ended.set()

        await nursery.start(until_halted)
        return run

    yield begin
    for run in runs:
        for stream in run.streams:
            await stream.aclose()


@pytest.fixture
async def running(start):
    return await start()


async def read_line(stream):
    data = b""
    with trio.fail_after(PATIENCE_S):
        while not data.endswith(b"\n"):
            more = await stream.receive_some()
            assert more, "end of stream"
            data += more
    return data


def reset(stream):
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


# --- connections --------------------------------------------------------------------------------


@pytest.mark.trio
async def test_bytes_go_in_and_come_out(running):
    stream = await running.connect()
    assert await running.machine.until("opened", 1) == ("opened", 1, True, "127.0.0.1")
    await stream.send_all(b"one\ntwo\n")
    assert await read_line(stream) == b"one\ntwo\n"
    assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.trio
async def test_an_end_of_stream_is_orderly_and_a_reset_is_not(running):
    first, second = await running.connect(), await running.connect()
    await running.machine.until("opened", 2)
    await first.aclose()
    assert await running.machine.until("ended", 1) == ("ended", 1, True)
    reset(second)
    assert await running.machine.until("ended", 2) == ("ended", 2, False)


@pytest.mark.trio
async def test_whatever_is_ready_is_one_turn(running):
    streams = [await running.connect() for _ in range(20)]
    await running.machine.until("opened", 20)
    for stream in streams:  # without a checkpoint in between: all are ready at once
        stream.socket._sock.send(b"hello\n")
    for stream in streams:
        assert await read_line(stream) == b"hello\n"
    assert max(len(batch) for batch in running.machine.batches) >= 10


@pytest.mark.trio
async def test_close_delivers_what_was_sent_before_it(running):
    stream = await running.connect()
    await stream.send_all(b"pour 3000000\nbye\n")
    await running.machine.until("data", 1)
    await stream.send_all(b"unread by the machine\n")
    received = bytearray()
    with trio.fail_after(PATIENCE_S):
        while data := await stream.receive_some():
            received += data
    assert received[:3_000_009].endswith(b"farewell\n")
    await stream.aclose()
    assert ("ended", 1, True) not in running.machine.told


@pytest.mark.trio
async def test_abort_is_a_reset(running):
    stream = await running.connect()
    await stream.send_all(b"abort\n")
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(PATIENCE_S):
        await stream.receive_some()
    assert all(told[0] != "ended" for told in running.machine.told)


@pytest.mark.trio
async def test_a_slow_reader_gets_everything_in_the_end(running):
    stream = await running.connect()
    await stream.send_all(b"pour 4000000\n")
    await running.machine.until("data", 1)
    await trio.testing.wait_all_tasks_blocked()
    other = await running.connect()
    await other.send_all(b"still served\n")
    assert await read_line(other) == b"still served\n"
    left = 4_000_000
    with trio.fail_after(PATIENCE_S):
        while left:
            left -= len(await stream.receive_some())
    await stream.send_all(b"again\n")
    assert await read_line(stream) == b"again\n"


@pytest.mark.trio
async def test_who_does_not_read_is_not_read_from(nursery):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        link = Link(1, ours, accepted=True)
        assert link.send(b"x" * PAUSE_BYTES * 4)
        theirs.send(b"more")
        with trio.move_on_after(0.05) as patience:
            await link.receive()
        assert patience.cancelled_caught
        nursery.start_soon(link.drain)
        left = PAUSE_BYTES * 4
        with trio.fail_after(PATIENCE_S):
            while left:
                await trio.lowlevel.wait_readable(theirs)
                left -= len(theirs.recv(65536))
            assert await link.receive() == b"more"


@pytest.mark.trio
async def test_a_link_that_is_closed_before_its_tasks_begin_says_so(nursery):
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        link = Link(1, ours, accepted=True)
        link.send(b"x" * PAUSE_BYTES * 4)
        link.close()
        link.close()
        with pytest.raises(trio.ClosedResourceError):
            await link.receive()
        assert await link.drain()
        assert link.send(b"late")
        await link.linger()


@pytest.mark.trio
async def test_who_never_reads_is_cut_off(running):
    stream = await running.connect()
    await stream.send_all(b"pour 9000000\n")
    assert await running.machine.until("ended", 1) == ("ended", 1, False)
    other = await running.connect()
    await other.send_all(b"x\n")
    assert await read_line(other) == b"x\n"


@pytest.mark.trio
async def test_without_file_descriptors_accepting_pauses_and_goes_on(running, monkeypatch):
    real = socket.socket.accept
    failures = 3

    def accept(self):
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    stream = await running.connect()
    await stream.send_all(b"x\n")
    assert await read_line(stream) == b"x\n"
    assert running.lines == [("lmgrd", "Cannot accept connections: Too many open files")]


@pytest.mark.trio
async def test_beyond_the_limit_clients_are_turned_away_and_peers_get_in(running):
    running.loop._links_max = 1
    first = await running.connect()
    await running.machine.until("opened", 1)

    async def turned_away():
        second = await running.connect()  # the reset may come this early
        await second.receive_some()

    with pytest.raises((OSError, trio.BrokenResourceError)), trio.fail_after(PATIENCE_S):
        await turned_away()
    assert "Too many connections (1)" in running.lines[0][1]
    await first.send_all(b"still served\n")
    assert await read_line(first) == b"still served\n"
    (listener,) = open_listeners(["127.0.0.1"], 0)
    with listener:  # a peer at 127.0.0.1 was reached
        running.ask(DialPeer(peer=Rank.SECONDARY, host="127.0.0.1", port=listener.getsockname()[1]))
        await running.machine.until("peer", Rank.SECONDARY)
        third = await running.connect()
        await third.send_all(b"peer\n")
        assert await read_line(third) == b"peer\n"


# --- dialling -------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_dial_that_succeeds_is_a_link(running):
    (listener,) = open_listeners(["127.0.0.3"], 0)
    with listener:
        port = listener.getsockname()[1]
        running.ask(DialPeer(peer=Rank.TERTIARY, host="127.0.0.3", port=port))
        _, _, conn = await running.machine.until("peer", Rank.TERTIARY)
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            running.machine.outgoing.append((conn, b"hello peer"))
            running.ask()
            assert await trio.to_thread.run_sync(accepted.recv, 100) == b"hello peer"
            accepted.send(b"answer\n")
            assert await trio.to_thread.run_sync(accepted.recv, 100) == b"answer\n"
        assert await running.machine.until("ended", conn) == ("ended", conn, True)


@pytest.mark.trio
async def test_a_refused_dial_is_told_apart(running):
    running.ask(DialPeer(peer=Rank.SECONDARY, host="127.0.0.1", port=1))
    failed = await running.machine.until("failed", Rank.SECONDARY)
    assert failed[2] is True
    assert "refused" in failed[3]


@pytest.mark.trio
async def test_a_name_that_is_not_known_is_no_refusal(running, monkeypatch):
    def unknown(*args, **named):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    running.ask(DialPeer(peer=Rank.SECONDARY, host="pat", port=2837))
    failed = await running.machine.until("failed", Rank.SECONDARY)
    assert failed[2] is False
    assert "pat: Name or service not known" in failed[3]


@pytest.mark.trio
async def test_a_dial_that_nobody_answers_ends(running, monkeypatch):
    monkeypatch.setattr("flexcore_trio.loop.DIAL_TIMEOUT_S", 0.2)

    async def nothing(sock):
        await trio.sleep_forever()

    monkeypatch.setattr(trio.lowlevel, "wait_writable", nothing)
    running.ask(DialPeer(peer=Rank.PRIMARY, host="127.0.0.3", port=1))
    monkeypatch.setattr(socket.socket, "connect_ex", lambda self, address: errno.EINPROGRESS)
    failed = await running.machine.until("failed", Rank.PRIMARY)
    assert failed[2] is False
    assert "no answer" in failed[3]


@pytest.mark.trio
async def test_refused_means_refused_where_the_peer_was(monkeypatch):
    """A second address that refuses says nothing about a process that was reached at the first."""
    from flexcore_host.resolver import Address

    lost = Address(socket.AF_INET, ("127.0.0.2", 1))
    other = Address(socket.AF_INET, ("127.0.0.3", 1))

    async def connect(address):
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError if address in refusing else OSError(errno.ENETUNREACH, "no")

    monkeypatch.setattr(sockets, "connect_one", connect)
    refusing = {other}
    assert not (await sockets.connect_any([other, lost], 1.0, lost)).refused
    assert not (await sockets.connect_any([other, lost], 1.0, None)).refused
    refusing = {other, lost}
    assert (await sockets.connect_any([other, lost], 1.0, None)).refused
    refusing = {lost}
    assert (await sockets.connect_any([other, lost], 1.0, lost)).refused
    assert not (await sockets.connect_any([], 1.0, None)).refused


# --- disk -----------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_bytes_leave_before_the_commit_which_runs_off_the_loop(start):
    store = ThreadStore()
    running = await start(store)
    stream = await running.connect()
    await stream.send_all(b"persist\n")
    assert await read_line(stream) == b"sent first\n"
    await stream.send_all(b"still here\n")
    assert await read_line(stream) == b"still here\n"
    assert ("persisted", 7) not in running.machine.told
    store.let_go.set()
    await running.machine.until("persisted", 7)
    assert store.thread is not threading.main_thread()


@pytest.mark.trio
async def test_a_failed_write_is_passed_on(start):
    store = ThreadStore()
    store.failure = "the state file x cannot be written: disk full"
    store.let_go.set()
    running = await start(store)
    running.ask(Persist(ticket=3, batch=BATCH))
    assert await running.machine.until("persist failed", 3) == (
        "persist failed", 3, store.failure,
    )  # fmt: skip


@pytest.mark.trio
async def test_a_disk_that_hangs_does_not_hold_up_the_end(start):
    store = ThreadStore()
    running = await start(store)
    running.ask(Persist(ticket=1, batch=BATCH))
    await trio.to_thread.run_sync(store.begun.wait)
    running.ask(Halt(exit_code=1, reason="the disk hangs"))
    assert await running.until_ended() == (1, "the disk hangs")
    assert running.loop.write_under_way
    store.let_go.set()


@pytest.mark.trio
async def test_memory_answers_in_the_same_turn(running):
    running.ask(Persist(ticket=1, batch=BATCH))
    await running.machine.until("persisted", 1)


# --- time, log and the end ------------------------------------------------------------------------


@pytest.mark.trio
async def test_the_machine_is_woken_when_it_asked_to_be(running):
    running.machine.due_at = running.loop._now() + 0.05
    running.ask()
    await running.machine.until("timeout")


@pytest.mark.trio
async def test_after_a_stop_of_the_process_time_comes_before_questions(start):
    """A thawed master must not answer by a lease that is over; its disk was not slow, though."""
    store = ThreadStore()
    running = await start(store)
    running.machine.due_at = running.loop._now() + 1000
    running.ask(Persist(ticket=5, batch=BATCH))
    await trio.to_thread.run_sync(store.begun.wait)
    stream = await running.connect()
    await running.machine.until("opened", 1)
    real = running.loop._now
    stream.socket._sock.send(b"question\n")
    store.let_go.set()
    while running.loop._written is None:  # without a checkpoint: the loop is stopped
        pass
    running.loop._now = lambda: real() + 2000
    await running.machine.until("data", 1)
    told = [what[0] for what in running.machine.told[1:]]
    assert told == ["persisted", "timeout", "data"]


@pytest.mark.trio
async def test_nothing_to_do_means_no_turns(running):
    running.ask()
    await trio.testing.wait_all_tasks_blocked()
    turns = running.machine.turns
    await trio.sleep(0.1)
    assert running.machine.turns == turns


@pytest.mark.trio
async def test_log_lines_are_handed_on_in_order(running):
    running.ask(WriteLog("lmgrd", "a"), WriteLog("demo", "b"))
    running.ask(WriteLog("demo", "c"))
    await trio.testing.wait_all_tasks_blocked()
    assert running.lines == [("lmgrd", "a"), ("demo", "b"), ("demo", "c")]


@pytest.mark.trio
async def test_nobody_is_told_what_is_not_in_the_log_yet(running):
    """A denial is in no ledger: a process that is killed between the answer and the log would leave no trace."""
    stream = await running.connect()
    await running.machine.until("opened", 1)
    order: list[object] = []
    send = running.loop._send

    def sent(link, data):
        order.append(data)
        send(link, data)

    running.loop._send = sent
    running.loop._logs.log = lambda lines: order.extend(text for _, text in lines)
    running.machine.outgoing.append((1, b"denied\n"))
    running.ask(WriteLog("demo", "DENIED"), CloseConnection(conn=1, abort=False))
    assert await read_line(stream) == b"denied\n"
    assert order == ["DENIED", b"denied\n"]


@pytest.mark.trio
async def test_halt_sends_what_is_queued_closes_the_port_and_returns(running):
    stream = await running.connect()
    await running.machine.until("opened", 1)
    running.machine.outgoing.append((1, b"last words\n"))
    running.loop.stop("one", "signal SIGTERM")
    assert ("stop", "one", "signal SIGTERM") in running.machine.told
    assert await read_line(stream) == b"last words\n"
    assert await stream.receive_some() == b""
    await stream.aclose()
    assert await running.until_ended() == (0, "asked to")
    with pytest.raises(OSError, match=r"refused|connect"):
        await running.connect()


# --- listening ------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_accepting_ends_quietly_where_the_port_was_closed_since_it_was_woken(running):
    """The schedule: a client connects in the turn in which the server halts. lmgrd ended with a ValueError."""
    (listener,) = running.loop._listeners
    listener.close()
    await running.loop._accept(listener)


def test_a_port_in_use_is_told_with_its_holder():
    (first,) = open_listeners(["127.0.0.2"], 0)
    slept: list[float] = []
    with first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.2 port {port}.*in use"):
            open_listeners(["127.0.0.2"], port, retry_s=0.3, sleep=slept.append)
        assert len(slept) == 3
        # The same port on another address is free: three servers share a machine.
        for listener in open_listeners(["127.0.0.3"], port):
            listener.close()


def test_a_port_that_becomes_free_is_taken():
    (first,) = open_listeners(["127.0.0.2"], 0)
    port = first.getsockname()[1]
    listeners = open_listeners(["127.0.0.2"], port, sleep=lambda pause: first.close())
    assert listeners[0].getsockname() == ("127.0.0.2", port)
    listeners[0].close()


def test_an_address_of_another_machine_is_told():
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1 port 0: this machine has no such"):
        open_listeners(["192.0.2.1"], 0)


def test_all_addresses_of_both_families_share_a_port():
    (four,) = open_listeners(["0.0.0.0"], 0)
    port = four.getsockname()[1]
    four.close()
    listeners = open_listeners(["0.0.0.0", "::"], port)
    assert {listener.getsockname()[1] for listener in listeners} == {port}
    for listener in listeners:
        listener.close()


def test_keepalives_are_at_most_a_quarter_of_the_timeout_apart():
    with socket.socket() as sock:
        sockets.tune(sock, 79.0, peer=True)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 19
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 19
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 19_000
