"""Suspended machines (rule 23), goodbyes (rule 16), verified grants, and the client by bytes."""

from __future__ import annotations

import pytest

from flexcore.client import (
    Abort,
    CheckoutDeniedAction,
    CheckoutGranted,
    Close,
    Closed,
    Connect,
    ConnectFailed,
    ConnectionEnded,
    ConnectionMade,
    DataReceived,
    LicenseClient,
    SeatLost,
    SendData,
)
from flexcore.errors import LocalProtocolError
from flexcore.keys import SigningKey
from flexcore.licensefile import parse_license, sign_license
from flexcore.wire import messages as wire
from flexcore.wire.connection import Connection
from tests.client_fakes import FakeServer, FakeTriad, World

# --- rule 23 --------------------------------------------------------------------------------------


def test_a_suspended_client_believes_nothing_before_a_round_trip():
    world = World(FakeTriad("pat"))
    seat = world.hold()
    world.run(15)
    world.wall_offset += 30.0  # the wall clock moved on, `now` did not: it does not count suspended time here
    world.node.handle_timeout(now=world.now, wall=world.wall)
    assert not world.node.believes(seat.handle, world.now)
    assert world.node.held(world.now) == ()
    world.run(0.1)
    assert world.node.believes(seat.handle, world.now)
    assert world.all_told(SeatLost) == []


def test_an_answer_to_a_question_from_before_does_not_count():
    triad = FakeTriad("pat")
    world = World(triad)
    seat = world.hold()
    triad.servers[0].frozen = True
    world.run(11)  # a heartbeat is under way
    beats = len(world.sent(wire.Heartbeat))
    world.wall_offset += 30.0
    world.node.handle_timeout(now=world.now, wall=world.wall)
    before, after = list(triad.servers[0].held_back), []
    world.drain()
    world.run(0.05)
    after = triad.servers[0].held_back[len(before) :]
    triad.servers[0].held_back = before
    world.thaw(triad.servers[0])
    world.run(0.05)
    assert not world.node.believes(seat.handle, world.now)
    triad.servers[0].held_back = after
    world.thaw(triad.servers[0])
    world.run(0.05)
    assert world.node.believes(seat.handle, world.now)
    assert len(world.sent(wire.Heartbeat)) == beats + 1


@pytest.mark.parametrize("jump", [-3600.0, 5.0])
def test_small_and_backward_jumps_of_the_wall_mean_nothing(jump):
    world = World(FakeTriad("pat"))
    seat = world.hold()
    world.wall_offset += jump
    world.node.handle_timeout(now=world.now, wall=world.wall)
    assert world.node.believes(seat.handle, world.now)


# --- goodbye --------------------------------------------------------------------------------------


def test_goodbye_frees_at_once_and_then_closes_in_order():
    triad = FakeTriad("pat", "lee", "terry")
    world = World(triad)
    world.hold()
    world.node.close(now=world.now)
    assert world.node.held(world.now) == ()
    world.drain()
    world.run(1)
    assert triad.ledger.free == 10
    assert world.told[-1] == Closed()
    assert [type(a) for _, a in world.done][-1] is Close
    assert world.node.closed
    assert world.node.next_timeout() is None
    with pytest.raises(LocalProtocolError):
        world.checkout()


def test_goodbye_finds_the_new_master():
    triad = FakeTriad("pat", "lee", "terry")
    world = World(triad)
    world.hold()
    world.kill(triad.servers[0])
    triad.elect(1)
    world.node.close(now=world.now)
    world.drain()
    world.run(1)
    assert triad.ledger.free == 10
    assert world.told[-1] == Closed()


def test_a_goodbye_that_dies_with_the_master_is_said_to_the_next():
    """It was thought said when it was sent: the seat stayed taken for the whole lease."""
    triad = FakeTriad("pat", "lee", "terry")
    world = World(triad)
    world.hold()
    triad.servers[0].frozen = True
    world.node.close(now=world.now)
    world.drain()
    world.run(0.1)
    assert not world.node.closed
    world.kill(triad.servers[0])
    triad.elect(1)
    world.run(1)
    assert triad.ledger.free == 10
    assert world.told[-1] == Closed()
    assert world.conns == {}


def test_close_does_not_wait_for_ever():
    triad = FakeTriad("pat", "lee", "terry")
    world = World(triad)
    world.hold()
    triad.servers[0].frozen = True
    world.node.close(now=world.now)
    world.drain()
    world.run(2.1)
    assert world.told[-1] == Closed()
    assert world.conns == {}


def test_close_with_nothing_asked_is_at_once():
    world = World(FakeTriad("pat"))
    world.node.close(now=world.now)
    world.drain()
    assert world.told == [Closed()]
    assert world.done == []


def test_close_in_the_middle_of_a_checkout_leaves_nothing():
    for step in range(0, 90, 5):
        triad = FakeTriad("pat", "lee", "terry", master=1)
        world = World(triad)
        world.checkout()
        world.run(step / 1000.0)
        world.node.close(now=world.now)
        world.drain()
        world.run(3)
        assert triad.ledger.seats == {}, step
        assert world.told[-1] == Closed(), step
        assert world.conns == {}, step


# --- verified grants ------------------------------------------------------------------------------

TEXT = """SERVER pat ID=1 2837
SERVER lee ID=2 2837
SERVER terry ID=3 2837
VENDOR demo
FEATURE f1 demo 1.0 permanent 10
FEATURE f2 demo 1.0 permanent 10
"""
HOSTIDS = ("ID=1", "ID=2", "ID=3")


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey("demo", b"\x11" * 32)


def signed_line(key: SigningKey, index: int = 0) -> str:
    return sign_license(parse_license(TEXT), key).features[index].signed_text


def verified_world(key, line: str, hostids: tuple[str, ...] = HOSTIDS) -> World:
    triad = FakeTriad("pat", "lee", "terry")
    triad.line, triad.hostids = line, hostids
    return World(triad, keys=(key.verifying_key,))


def test_a_signed_grant_is_taken(key):
    world = verified_world(key, signed_line(key))
    world.hold()
    assert len(world.node.held(world.now)) == 1


@pytest.mark.parametrize("case", ["none", "changed", "hostids", "feature"])
def test_a_grant_that_the_publisher_did_not_sign_is_given_back(key, case):
    line = signed_line(key, 1 if case == "feature" else 0)
    if case == "none":
        line = ""
    elif case == "changed":
        line = line.replace("permanent 10", "permanent 99")
    world = verified_world(key, line, ("ID=9", *HOSTIDS[1:]) if case == "hostids" else HOSTIDS)
    world.checkout()
    world.run(1)
    (denied,) = world.all_told(CheckoutDeniedAction)
    assert denied.code == -8
    assert denied.detail
    assert world.node.held(world.now) == ()
    assert world.triads[0].ledger.free == 10
    assert world.all_told(CheckoutGranted) == []


def add_up(key: SigningKey, *endings: str) -> list[str]:
    """Signed INCREMENT lines of f1, each with its ending."""
    head = "".join(TEXT.splitlines(keepends=True)[:4])
    text = head + "".join(f"INCREMENT f1 demo {ending}\n" for ending in endings)
    return [line.signed_text for line in sign_license(parse_license(text), key).features]


def test_lines_add_up_to_a_grant(key):
    lines = add_up(key, "1.0 permanent 2", "1.0 permanent 1 ISSUED=1-jan-2025")
    world = verified_world(key, "\n".join(lines))
    world.hold(3)
    assert [seat.count for seat in world.node.held(world.now)] == [3]


@pytest.mark.parametrize("case", ["too few", "twice", "twice in other words", "two pools", "one changed", "many"])
def test_lines_that_do_not_add_up_are_given_back(key, case):
    first, second, other = add_up(key, "1.0 permanent 2", "1.0 permanent 1 ISSUED=1-jan-2025", "2.0 permanent 5")
    lines = {
        "too few": [second, first],
        "twice": [first, first],
        "twice in other words": [first, first.replace("INCREMENT", "increment"), first.replace(" 2 ", "  2 ")],
        "two pools": [first, other],
        "one changed": [first, second.replace(" permanent 1 ", " permanent 9 ")],
        "many": [first] + [second] * 64,
    }[case]
    world = verified_world(key, "\n".join(lines))
    world.checkout(count=4)
    world.run(1)
    (denied,) = world.all_told(CheckoutDeniedAction)
    assert denied.code == -8
    words = {"too few": "signed 3 ", "twice": "signed 2 ", "two pools": "do not add up", "many": "more than 64 lines"}
    assert words.get(case, "") in denied.detail
    assert world.node.held(world.now) == ()


# --- by bytes -------------------------------------------------------------------------------------


def drive(chunk: int) -> list[str]:
    """One session by bytes, cut into pieces of *chunk* bytes; what came out."""
    world = World(FakeTriad("pat", "lee", "terry", master=1))
    client = LicenseClient(world.config, entropy=bytes(32), now=0.0)
    servers = {s.address: s for s in world.triads[0].servers}
    ends: dict[int, tuple[FakeServer, Connection]] = {}
    out: list[str] = []
    client.checkout("f1", now=0.0)
    now = 0.0
    for _ in range(40):
        now += 0.01
        while (action := client.next_action()) is not None:
            out.append(type(action).__name__)
            if isinstance(action, Connect):
                server = servers[wire.ServerAddress(action.host, action.port)]
                ends[action.conn] = (server, Connection())
                client.receive_event(ConnectionMade(conn=action.conn), now=now)
            elif isinstance(action, SendData):
                server, end = ends[action.conn]
                end.receive_data(action.data)
                while (message := end.next_message()) is not None:
                    for answer in server.answer(action.conn, message):
                        data = end.send(answer)
                        for at in range(0, len(data), chunk):
                            client.receive_event(
                                DataReceived(conn=action.conn, data=data[at : at + chunk]), now=now
                            )
        client.handle_timeout(now=now)
    assert len(client.held(now)) == 1
    return out


def test_byte_at_a_time_is_the_same():
    assert drive(1) == drive(1 << 20)


def test_garbage_bytes_abort_and_raise_nothing():
    world = World(FakeTriad("pat"))
    client = LicenseClient(world.config, entropy=bytes(32), now=0.0)
    client.checkout("f1", now=0.0)
    connect = client.next_action()
    assert isinstance(connect, Connect)
    client.receive_event(ConnectionMade(conn=connect.conn), now=0.0)
    assert isinstance(client.next_action(), SendData)
    client.receive_event(DataReceived(conn=connect.conn, data=b"HTTP/1.1 400 Bad"), now=0.1)
    assert client.next_action() == Abort(conn=connect.conn)
    assert client.next_action() is None
    client.receive_event(DataReceived(conn=connect.conn, data=b"more"), now=0.1)
    client.receive_event(ConnectionEnded(conn=connect.conn), now=0.1)
    client.receive_event(ConnectFailed(conn=999, error="?"), now=0.1)
    timeout = client.next_timeout()
    assert timeout is not None
    assert timeout > 0.1


def test_bytes_copied_in_the_middle_of_a_frame():
    world = World(FakeTriad("pat"))
    client = LicenseClient(world.config, entropy=bytes(32), now=0.0)
    client.checkout("f1", now=0.0)
    connect = client.next_action()
    assert isinstance(connect, Connect)
    client.receive_event(ConnectionMade(conn=connect.conn), now=0.0)
    client.next_action()
    server = world.triads[0].servers[0]
    data = Connection().send(server.answer(connect.conn, wire.ClientHello(1, "", "demo", 0))[0])
    client.receive_event(DataReceived(conn=connect.conn, data=data[:10]), now=0.1)
    twin = client.copy()
    for each in (client, twin):
        each.receive_event(DataReceived(conn=connect.conn, data=data[10:]), now=0.1)
        assert isinstance(each.next_action(), SendData)
