"""serve(): a licence server from its configuration to its end, in this process, over loopback."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from flexcore.errors import StateDamaged
from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import parse_license, sign_license
from flexcore.quorum import PersistBatch
from flexcore.server import ServerConfig
from flexcore.wire.codec import MAX_FRAME_BYTES
from flexcore.wire.connection import Connection
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    AdminReply,
    AdminRequest,
    Checkout,
    ClientHello,
    Denied,
    Granted,
    OpenSession,
    ServerAddress,
    ServerHello,
    SessionReply,
    StatusRequest,
)
from flexcore_trio import MemoryStore, Outcome, SqliteStore, open_listeners, serve

KEY = SigningKey("demo", bytes(range(32)))
PATIENCE_S = 30.0


def config_for(listeners):
    host, port = listeners[0].getsockname()
    text = f"SERVER {host} ANY {port} HEARTBEAT_INTERVAL=1\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 1\n"
    return ServerConfig(
        license=sign_license(parse_license(text), KEY), keys=(KEY.verifying_key,),
        rank=Rank.PRIMARY, addresses=(ServerAddress(host, port),), first_start=True,
    )  # fmt: skip


class Talk:
    """An async connection that speaks messages."""

    def __init__(self, stream):
        self.stream = stream
        self.wire = Connection(max_frame_bytes=MAX_FRAME_BYTES)

    async def ask(self, message):
        await self.stream.send_all(self.wire.send(message))
        return await self.receive()

    async def receive(self):
        with trio.fail_after(PATIENCE_S):
            while (message := self.wire.next_message()) is None:
                data = await self.stream.receive_some()
                assert data, "end of stream"
                self.wire.receive_data(data)
        return message


async def hello(config):
    host, port = config.addresses[0]
    talk = Talk(await trio.open_tcp_stream(host, port))
    answer = await talk.ask(ClientHello(PROTOCOL_VERSION, "test", "demo", 0))
    assert isinstance(answer, ServerHello)
    return talk, answer


async def until_serving(config):
    with trio.fail_after(PATIENCE_S):
        while True:
            talk, answer = await hello(config)
            if answer.report.state == "serving":
                return talk
            await talk.stream.aclose()
            await trio.sleep(0.02)


async def open_session(talk):
    opened = await talk.ask(
        OpenSession(1, b"s" * 16, b"k" * 32, "ann", "elm", ":0", "", 1, True, 0)
    )
    assert isinstance(opened, SessionReply)
    assert opened.state == "open"


@pytest.mark.usefixtures("poller")
@pytest.mark.trio
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_single_server_serves_and_ends_in_order(nursery, tmp_path, kind):
    listeners = open_listeners(["127.0.0.1"], 0)
    config = config_for(listeners)
    store = MemoryStore() if kind == "memory" else SqliteStore(str(tmp_path / "state.sqlite"))
    lines: list[tuple[str, str]] = []
    ended: list[Outcome] = []
    over = trio.Event()

    async def served(task_status):
        ended.append(
            await serve(
                config, store=store, listeners=listeners, log=lines.extend, task_status=task_status
            )
        )
        over.set()

    await nursery.start(served)
    talk = await until_serving(config)
    async with talk.stream:
        await open_session(talk)
        assert isinstance(await talk.ask(Checkout(2, 1, 0, "f1", "1.0", 1, 0)), Granted)
        denied = await talk.ask(Checkout(3, 2, 1, "f1", "1.0", 1, 0))
        assert isinstance(denied, Denied)
        assert denied.code == -4
        admin, _ = await hello(config)
        async with admin.stream:
            answer = await admin.ask(AdminRequest(1, "down", ("all",), "ann", "elm"))
            assert isinstance(answer, AdminReply)
            assert answer.code == 0
            with trio.fail_after(PATIENCE_S):
                while await talk.stream.receive_some():
                    pass
    with trio.fail_after(PATIENCE_S):
        await over.wait()
    assert ended[0].exit_code == 0
    texts = [text for daemon, text in lines if daemon == "demo"]
    assert 'OUT: "f1" ann@elm  ' in texts
    assert any(text.startswith('DENIED: "f1" ann@elm  (Licensed number') for text in texts)
    with pytest.raises(OSError, match=r"refused|connect"):
        await trio.open_tcp_stream(*config.addresses[0])


@pytest.mark.trio
async def test_a_restart_remembers(nursery, tmp_path):
    path = str(tmp_path / "state.sqlite")
    port = 0
    for life in (1, 2):
        listeners = open_listeners(["127.0.0.1"], port)
        config = config_for(listeners)
        port = config.addresses[0].port
        scope = trio.CancelScope()

        async def served(config, listeners, scope, task_status):
            with scope:
                await serve(
                    config, store=SqliteStore(path), listeners=listeners, log=lambda lines: None,
                    task_status=task_status,
                )  # fmt: skip

        await nursery.start(served, config, listeners, scope)
        talk = await until_serving(config)
        async with talk.stream:
            if life == 1:
                await open_session(talk)
                assert isinstance(await talk.ask(Checkout(2, 1, 0, "f1", "1.0", 1, 0)), Granted)
            else:
                page = await talk.ask(StatusRequest(1, "seats", "", ""))
                assert [(seat.feature, seat.user) for seat in page.seats] == [("f1", "ann")]
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.trio
async def test_state_that_cannot_be_read_stops_the_start(tmp_path):
    path = str(tmp_path / "state.sqlite")
    store = SqliteStore(path)
    store.write(PersistBatch(hard=b'{"version": 99}'))
    listeners = open_listeners(["127.0.0.1"], 0)
    with pytest.raises(StateDamaged, match=rf"newer version .*\({path}\).*delete the folder"):
        await serve(config_for(listeners), store=store, listeners=listeners, log=lambda lines: None)
    assert all(listener.fileno() < 0 for listener in listeners)

