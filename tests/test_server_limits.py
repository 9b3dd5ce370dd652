"""What a server lets in and what it bounds; and that one which raised is closed."""

from __future__ import annotations

import pytest

from flexcore.errors import LocalProtocolError
from flexcore.identity import Boot, Endpoint, Rank
from flexcore.ledger.commands import SeatGranted
from flexcore.quorum import events as q
from flexcore.server.config import Limits
from flexcore.wire.codec import MAX_FRAME_BYTES, encode
from flexcore.wire.messages import (
    AdminReply,
    AdminRequest,
    Beat,
    ClientHello,
    Heartbeat,
    NotServing,
    OpenSession,
    PeerFrame,
    Refusal,
    ServerHello,
    SessionReply,
    StatusPage,
    StatusRequest,
)
from tests.server_kit import Kit, line

ME = Endpoint(1, Boot(1, b"b" * 16))


def test_connections_are_bounded() -> None:
    kit = Kit(limits=Limits(connections=2))
    assert [type(kit.said(kit.connect())[0]) for _ in range(3)] == [ServerHello, ServerHello, Refusal]
    assert kit.closed == {3: False}
    kit.end(1, orderly=False)
    assert isinstance(kit.said(kit.connect())[0], ServerHello)


def test_connections_that_say_nothing_are_bounded() -> None:
    kit = Kit(limits=Limits(unknown_connections=2))
    for _ in range(3):
        kit.connect(hello=False)
    kit.turn()
    assert kit.closed == {3: False}
    kit.send(1, ClientHello(1, "test", "", 0))
    kit.connect(hello=False)
    kit.turn()
    assert kit.closed == {3: False}


def test_sessions_are_bounded() -> None:
    kit = Kit(limits=Limits(sessions=2))
    kit.client("ann")
    kit.client("bob")
    cat = kit.client("cat", opened=False)
    reply = cat.open()
    assert isinstance(reply, SessionReply)
    assert (reply.state, reply.text) == ("refused", "too many sessions")


def test_what_waits_is_bounded() -> None:
    kit = Kit(serving=False, limits=Limits(kept=3, kept_per_connection=2))
    kit.quorum.state = "candidate"
    ann, bob = kit.client("ann", opened=False), kit.client("bob", opened=False)
    for client in (ann, bob):
        for seq in (1, 2, 3):
            kit.send(client.conn, Heartbeat(seq, 0, 0))
    assert [message.seq for message in kit.said(ann.conn)] == [3]
    assert [message.seq for message in kit.out.pop(bob.conn)] == [2, 3]


@pytest.mark.parametrize(
    ("session", "secret"), [(b"", b"s" * 16), (b"i" * 15, b"s" * 16), (b"i" * 16, b"s"), (b"i" * 16, b"s" * 65)]
)
def test_ids_and_secrets_have_their_sizes(session: bytes, secret: bytes) -> None:
    kit = Kit()
    ann = kit.client(opened=False)
    said = ann.ask(OpenSession(1, session, secret, "ann", "elm", "", "", 1, True, 0))
    assert isinstance(said, Refusal)
    assert kit.state.sessions == {}


def test_one_connection_carries_one_session() -> None:
    kit = Kit()
    ann = kit.client()
    other = OpenSession(9, b"j" * 16, b"s" * 16, "bob", "elm", "", "", 1, True, 0)
    assert isinstance(ann.ask(other), Refusal)
    # when the first is over another may follow
    bob = kit.client("bob")
    bob.goodbye()
    assert bob.ask(other).state == "open"


def test_a_page_is_one_frame_whatever_names_people_have() -> None:
    kit = Kit(line("f1", 0))
    ann = kit.client("é" * 4, opened=False)
    ann.name = "é" * 200
    ann.open()
    for number in range(1200):
        command = SeatGranted(ann.session, number + 1, number, number + 1, "f1", "f1 1.0", "1." + "0" * 30, 1)
        kit.quorum.propose(command, now=kit.now, wall=kit.wall)
    conn, cursor, handles = kit.connect(vendor=""), "", []
    kit.said(conn)
    while True:
        kit.send(conn, StatusRequest(1, "seats", "", cursor))
        (page,) = kit.said(conn)
        assert isinstance(page, StatusPage)
        assert len(encode(page)) < MAX_FRAME_BYTES
        handles += [row.handle for row in page.seats]
        cursor = page.cursor
        if not cursor:
            break
    assert handles == list(range(1, 1201))


def test_a_peer_that_talks_nonsense_ends_its_link() -> None:
    kit = Kit()
    kit.node.peer_connected(77, Rank.SECONDARY, nonce=bytes(16), now=kit.now, wall=kit.wall)
    kit.quorum.links[77] = None
    kit.send(77, PeerFrame(b"", 0, ME, ME, Beat(1)))
    kit.send(77, ClientHello(1, "test", "", 0))
    kit.turn()
    assert [type(event) for event in kit.quorum.events] == [q.PeerConnected, q.PeerFrameReceived, q.LinkEnded]
    assert kit.closed == {77: False}


def test_a_client_is_no_peer() -> None:
    kit = Kit()
    conn = kit.connect()
    kit.said(conn)
    kit.send(conn, PeerFrame(b"", 0, ME, ME, Beat(1)))
    assert isinstance(kit.said(conn)[0], Refusal)
    assert kit.quorum.events == []


@pytest.mark.parametrize(
    ("verb", "arguments", "code"),
    [("reread", (), -85), ("down", (), -85), ("down", ("two",), -85), ("down", ("one",), 0)],
)
def test_verbs_of_administrators(verb: str, arguments: tuple[str, ...], code: int) -> None:
    kit = Kit()
    conn = kit.connect(local=True, vendor="")
    kit.said(conn)
    kit.send(conn, AdminRequest(3, verb, arguments, "ann", "elm"))
    (reply,) = kit.said(conn)
    assert isinstance(reply, AdminReply)
    assert (reply.seq, reply.code) == (3, code)
    assert [event.scope for event in kit.quorum.events] == (["one"] if code == 0 else [])


def test_pages_come_from_the_master_only() -> None:
    kit = Kit(serving=False)
    conn = kit.connect(vendor="")
    kit.said(conn)
    kit.send(conn, StatusRequest(1, "seats", "", ""))
    assert [type(message) for message in kit.said(conn)] == [NotServing]


def test_a_server_that_raised_is_closed() -> None:
    kit = Kit()

    def broken(event: object, *, now: float, wall: float) -> None:
        raise RuntimeError("the state makes no sense")

    kit.quorum.receive_event = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        kit.node.persisted(1, now=kit.now, wall=kit.wall)
    with pytest.raises(LocalProtocolError):
        kit.node.end_turn(now=kit.now, wall=kit.wall)
    assert kit.node.next_timeout() is None
