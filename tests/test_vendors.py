"""Several vendors behind one port: whom a connection is for, and that one vendor's failure is its own."""

from __future__ import annotations

import itertools
import os
import threading
from argparse import Namespace
from functools import partial

import pytest
import trio

from flexcore.errors import StateError, StateLocked
from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license
from flexcore.override import override
from flexcore.report.reportlog import Position, ReportChain, read_report
from flexcore.server import How, ServerConfig
from flexcore.server.actions import UseDebugLog
from flexcore.server.front import Front, Guest, Passed, TurnedAway
from flexcore.wire.connection import Connection
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    AdminReply,
    AdminRequest,
    Checkout,
    ClientHello,
    Denied,
    Granted,
    Heartbeat,
    OpenSession,
    Refusal,
    ServerAddress,
    ServerHello,
    SessionReply,
)
from flexcore_host.debuglogs import DebugLogs
from flexcore_host.folder import open_state_folder
from flexcore_host.logfile import LogFile
from flexcore_tools import _setup
from flexcore_tools._vendors import vendor_services
from flexcore_trio import (
    MemoryStore,
    VendorService,
    VendorStart,
    open_listeners,
    serve_vendors,
    vendors,
)
from tests.debuglog_grammar import shape_of
from tests.test_trio_serve import PATIENCE_S, Talk

KEYS = (SigningKey("demo", bytes(range(32))), SigningKey("acme", bytes(range(1, 33))))
NAMES = ("demo", "acme")


def hello(vendor: str = "") -> ClientHello:
    return ClientHello(PROTOCOL_VERSION, "test", vendor, 0)


def refusal_in(away: TurnedAway) -> Refusal:
    wire = Connection()
    wire.receive_data(away.data)
    message = wire.next_message()
    assert isinstance(message, Refusal)
    return message


# --- whose a connection is -----------------------------------------------------------------------


@pytest.fixture
def front():
    front = Front(NAMES)
    for name in NAMES:
        front.vendor_up(name)
    return front


@pytest.mark.parametrize(("named", "whose"), [("demo", "demo"), ("ACME", "acme"), ("", "demo")])
def test_the_first_message_says_whose_a_connection_is_however_it_is_cut(front, named, whose):
    wire = Connection()
    said = wire.send(hello(named)) + wire.send(hello(named))  # what follows is handed on as well
    guest = Guest()
    for place, byte in enumerate(said):
        verdict = front.receive(guest, bytes([byte]))
        if verdict is not None:
            assert verdict == Passed(whose, said[: place + 1])
            break
    else:
        raise AssertionError("nobody was meant")
    assert front.receive(Guest(), said) == Passed(whose, said)


def test_who_names_none_gets_the_first_that_is_up(front):
    front.vendor_down("demo", "disk\nfull")
    assert front.receive(Guest(), Connection().send(hello())) == Passed("acme", Connection().send(hello()))
    away = front.receive(Guest(), Connection().send(hello("demo")))
    assert isinstance(away, TurnedAway)
    assert refusal_in(away).code == -97
    assert refusal_in(away).text.endswith("down: disk full")
    front.vendor_up("demo")
    assert front.receive(Guest(), Connection().send(hello())) == Passed("demo", Connection().send(hello()))


def test_strangers_peers_and_garbage_are_turned_away_with_the_reason(front):
    away = front.receive(Guest(), Connection().send(hello("other")))
    assert isinstance(away, TurnedAway)
    assert refusal_in(away) == Refusal(-97, "this server serves demo, acme, not other")
    for data in (b"GET / HTTP/1.0\r\n\r\n", Connection().send(Heartbeat(1, 0, 0)), b"\xff" * 70):
        verdict = front.receive(Guest(), data)
        assert isinstance(verdict, TurnedAway), data
        assert refusal_in(verdict).code == -12


# --- the failure domain ----------------------------------------------------------------------------


class Disk(MemoryStore):
    """A disk that is full when the test says so."""

    keeps = True
    full = False
    closed = False

    @override
    def write(self, batch):
        if self.full:
            raise StateError("No space left on device")
        super().write(batch)

    @override
    def close(self):
        self.closed = True


class House:
    """A single server of two vendors, each with one feature of one licence, on loopback."""

    def __init__(self):
        self.listeners = open_listeners(["127.0.0.1"], 0)
        self.host, self.port = self.listeners[0].getsockname()
        self.lines = []
        self.disks: dict[str, list[Disk]] = {name: [] for name in NAMES}
        self.cannot = {}
        self.switched = []
        self.outcome = None
        self.logged = trio.Event()
        self.talks = []
        text = f"SERVER {self.host} ANY {self.port} HEARTBEAT_INTERVAL=1\nVENDOR demo\nVENDOR acme\n"
        text += "FEATURE f1 demo 1.0 permanent 1\nFEATURE f1 acme 2.0 permanent 1\n"
        license = parse_license(text)
        for key in KEYS:
            license = sign_license(license, key)
        self.license = license

    def prepare(self, name):
        if name in self.cannot:
            raise self.cannot[name]
        disk = Disk()
        self.disks[name].append(disk)
        config = ServerConfig(
            license=self.license, keys=tuple(key.verifying_key for key in KEYS), rank=Rank.PRIMARY,
            addresses=(ServerAddress(self.host, self.port),), first_start=True, vendor=name, vendors=NAMES,
            report=Position(),
        )  # fmt: skip
        return VendorStart(config=config, store=disk, switch_log=self.switch)

    def switch(self, order):
        self.switched.append((order.daemon, order.how))
        return 0, f"the report log goes on in {order.daemon}.rep"

    async def serve(self, task_status):
        services = [VendorService(vendor=name, prepare=partial(self.prepare, name)) for name in NAMES]
        self.outcome = await serve_vendors(
            services, listeners=self.listeners, log=self.log, task_status=task_status
        )
        await self.hang_up()

    async def hang_up(self):
        for talk in self.talks:
            await talk.stream.aclose()

    async def until_logged(self, words):
        with trio.fail_after(PATIENCE_S):
            while not any(words in text for _, text in self.lines):
                self.logged = trio.Event()
                await self.logged.wait()

    def log(self, lines):
        self.lines.extend(lines)
        self.logged.set()

    async def connect(self):
        talk = Talk(await trio.open_tcp_stream(self.host, self.port))
        self.talks.append(talk)
        return talk

    async def greet(self, vendor=""):
        talk = await self.connect()
        return talk, await talk.ask(hello(vendor))

    async def until_answered_by(self, vendor, kind):
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    talk, said = await self.greet(vendor)
                except trio.BrokenResourceError:  # it ended between two messages
                    continue
                if isinstance(said, kind) and (kind is Refusal or said.report.state == "serving"):
                    return talk, said
                await talk.stream.aclose()
                await trio.sleep(0.01)

    async def seat(self, vendor):
        """Hold the vendor's only licence."""
        talk, _ = await self.until_answered_by(vendor, ServerHello)
        opening = OpenSession(1, bytes([next(_numbers)] * 16), b"s" * 32, "ann", "elm", "/", "", 1, True, 0)
        while True:
            reply = await talk.ask(opening)
            if isinstance(reply, SessionReply):
                break
        return talk, await talk.ask(Checkout(2, 1, 0, "f1", "", 1, 0))


_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(vendors, "RESTART_MIN_S", 0.05)


def running(test):
    async def main():
        house = House()
        async with trio.open_nursery() as nursery:
            got = await nursery.start(house.serve)
            await test(house, got)
            await house.hang_up()  # or the server would wait for us to read its last words
            got.stop("one", "the test")
        return house

    house = trio.run(main)
    for daemon, text in house.lines:
        shape_of(daemon, text)  # every line of several vendors is one that readers know
    return house


@pytest.mark.usefixtures("poller")
def test_each_vendor_has_its_own_features_and_the_hello_names_all():
    async def test(house, got):
        for name, version in (("demo", "1.0"), ("acme", "2.0")):
            _, granted = await house.seat(name)
            assert isinstance(granted, Granted)
            assert granted.version == version
            _, said = await house.greet(name)
            assert (said.vendor, said.vendors) == (name, NAMES)
        _, said = await house.greet()
        assert said.vendor == "demo"

    house = running(test)
    assert house.outcome == (0, "")
    assert [line for line in house.lines if "exiting" in line[1]] == [
        ("lmgrd", "License server manager (lmgrd) exiting")
    ]
    assert all(disk.closed for disks in house.disks.values() for disk in disks)


def test_a_full_disk_ends_one_vendor_and_is_tried_again_while_the_other_keeps_its_holder():
    async def test(house, got):
        kept, granted = await house.seat("demo")
        assert isinstance(granted, Granted)
        talk, _ = await house.until_answered_by("acme", ServerHello)
        house.disks["acme"][-1].full = True
        house.cannot["acme"] = StateError("still full")
        await talk.stream.send_all(talk.wire.send(
            OpenSession(1, b"x" * 16, b"s" * 32, "bob", "elm", "/", "", 1, True, 0)))  # fmt: skip
        await talk.stream.aclose()
        _, refusal = await house.until_answered_by("acme", Refusal)
        assert refusal.code == -97
        assert isinstance((await house.until_answered_by("", ServerHello))[1], ServerHello)
        # Its one licence is still out, and the connection is the same.
        _, denied = await house.seat("demo")
        assert isinstance(denied, Denied)
        assert isinstance(await kept.ask(Heartbeat(99, 99, 0)), object)
        await house.until_logged("still full")
        del house.cannot["acme"]
        _, granted = await house.seat("acme")
        assert isinstance(granted, Granted)

    house = running(test)
    assert len(house.disks["demo"]) == 1
    assert len(house.disks["acme"]) == 2
    exited = [text for _, text in house.lines if text.startswith("acme exited with status 1")]
    assert exited
    assert "disk" in exited[0] or "space" in exited[0]
    assert any("still full" in text for text in exited)
    texts = [text for _, text in house.lines]
    after = texts.index(exited[0])
    assert texts[after + 2] == "manager (lmgrd) will attempt to re-start the vendor daemon."
    assert f"REStarted acme (pid {os.getpid()})" in texts[after:]


@pytest.mark.usefixtures("poller")
def test_a_bug_in_one_is_not_the_others_end(monkeypatch):
    async def test(house, got):
        await house.seat("demo")
        loop = got._loops["acme"]

        def broken(*args, **kwargs):
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(loop._machine, "end_turn", broken)
        await house.greet("demo")
        talk = await house.connect()
        await talk.stream.send_all(talk.wire.send(hello("acme")))
        await house.until_logged("ZeroDivisionError")
        _, granted = await house.seat("acme")
        assert isinstance(granted, Granted)
        assert isinstance((await house.seat("demo"))[1], Denied)

    running(test)


@pytest.mark.usefixtures("poller")
def test_lmdown_of_one_leaves_the_other_and_of_both_ends_the_process():
    async def main():
        house = House()
        async with trio.open_nursery() as nursery:
            await nursery.start(house.serve)
            for name in NAMES:
                talk, _ = await house.until_answered_by(name, ServerHello)
                assert await talk.ask(AdminRequest(1, "down", ("all",), "root", "elm")) == AdminReply(1, 0, "")
                if name == "demo":
                    await house.until_answered_by("demo", Refusal)
                    assert isinstance((await house.greet())[1], ServerHello)
                await house.hang_up()
        return house

    assert trio.run(main).outcome == (0, "")


def test_sighup_has_every_vendors_report_log_go_on_where_a_rotation_left_its_name():
    async def test(house, got):
        for name in NAMES:
            await house.until_answered_by(name, ServerHello)
        got.reopen_logs("SIGHUP")
        for name in NAMES:
            await house.until_logged(f"goes on in {name}.rep")

    house = running(test)
    assert sorted(house.switched) == [("acme", How.REOPEN), ("demo", How.REOPEN)]


def test_a_sighup_reaches_a_vendor_that_is_just_starting(monkeypatch):
    """It has opened its report log by then, perhaps before the rotation moved that away."""

    monkeypatch.setattr(Disk, "blocking", True)  # as a store in a folder is

    async def main():
        opened, told = threading.Event(), threading.Event()

        class SlowHouse(House):
            @override
            def prepare(self, name):
                start = super().prepare(name)
                if name == "acme":
                    opened.set()
                    assert told.wait(PATIENCE_S)
                return start

        house = SlowHouse()
        async with trio.open_nursery() as nursery:
            got = await nursery.start(house.serve)
            await house.until_answered_by("demo", ServerHello)
            await trio.to_thread.run_sync(opened.wait, PATIENCE_S)
            got.reopen_logs("SIGHUP")
            told.set()
            await house.until_logged("goes on in acme.rep")
            await house.hang_up()
            got.stop("one", "the test")
        return house

    assert sorted(trio.run(main).switched) == [("acme", How.REOPEN), ("demo", How.REOPEN)]


def test_a_server_none_of_whose_vendors_can_be_served_ends_with_the_reason():
    async def main():
        house = House()
        house.cannot = {name: StateError(f"{name} is damaged") for name in NAMES}
        async with trio.open_nursery() as nursery:
            await nursery.start(house.serve)
        return house

    code, reason = trio.run(main).outcome
    assert code == 1
    assert reason.endswith("is damaged")


def test_a_first_start_is_said_of_the_first_start_only(tmp_path):
    """Who started the server knew that nobody holds anything; whoever starts a vendor again does not."""
    license = tmp_path / "both.lic"
    text = "SERVER this_host ANY 2837\nVENDOR demo\nVENDOR acme\nFEATURE f1 demo 1.0 permanent 1\n"
    license.write_text(format_license(sign_license(parse_license(text), KEYS[0])))
    for key in KEYS:
        (tmp_path / f"{key.vendor}.pub").write_text(f"{key.verifying_key}\n")
    args = Namespace(
        license_file=str(license), vendor_key=[str(tmp_path / f"{name}.pub") for name in NAMES], server="",
        hostid="", listen=["127.0.0.1"], state_dir=str(tmp_path / "state"),
        switched_off=None, lmremove_min=120.0, two=False, protected=False, local=False,
    )  # fmt: skip
    (tmp_path / "demo.opt").write_text("REPORTLOG demo.rep\n")
    logs = DebugLogs(LogFile(str(tmp_path / "log")), lambda lines: [text for _, text in lines], tmp_path)
    demo, _ = vendor_services(_setup.load(args), logs, first_start=True)
    said = []
    for _ in range(2):
        start = demo.prepare()
        said.append(start.config.first_start)
        assert os.listdir(tmp_path / "state") == ["demo"]
        with pytest.raises(StateLocked):
            demo.prepare()  # as long as the store is not closed, the folder is its own
        assert start.use_debug_log is not None
        start.use_debug_log(UseDebugLog(daemon="demo", path="demo.log", append=False))
        logs.write([("demo", f"life {len(said)}")])
        assert start.report is not None
        assert start.config.report is not None
        assert start.at_end is not None
        start.report([ReportChain(start.config.report).line("start", 0, 0, 1.0, "", {"life": len(said)})])
        start.at_end()
        start.store.close()
    records = read_report([("demo.rep", (tmp_path / "demo.rep").read_text().splitlines())]).records
    assert [(record["n"], record["life"]) for record in records] == [(1, 1), (2, 2)], "a restart goes on with it"
    assert said == [True, False]
    logs.close()
    assert [line for line in (tmp_path / "demo.log").read_text().splitlines() if "life" in line] == ["life 1", "life 2"]


def test_the_vendor_that_was_alone_keeps_its_folder(tmp_path):
    alone = tmp_path / "state"
    open_state_folder(str(alone), vendor="demo", rank="primary").close()
    license = parse_license("SERVER this_host ANY 2837\nVENDOR demo\nVENDOR acme\n")
    found = [_setup._state_dir(str(alone), license, Rank.PRIMARY, name) for name in NAMES]
    assert found == [str(alone), str(alone / "acme")]
    assert _setup._state_dir("none", license, Rank.PRIMARY, "acme") is None
