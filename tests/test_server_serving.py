"""ServerNode: grants, denials, repeats, and what is not answered before, during and after a reign."""

from __future__ import annotations

import pytest

from flexcore.codes import ErrorCode
from flexcore.identity import Boot, Endpoint, Rank
from flexcore.wire.messages import (
    Beat,
    CheckedIn,
    Checkout,
    ClientHello,
    Denied,
    Granted,
    HeartbeatReply,
    NotServing,
    PeerFrame,
    Refusal,
    ServerHello,
    SessionReply,
    StatusReport,
    StatusRequest,
    Withdrawn,
)
from tests.server_kit import DAY, Kit, line


def test_hello_names_the_servers() -> None:
    kit = Kit()
    (hello,) = kit.said(kit.connect())
    assert isinstance(hello, ServerHello)
    assert [server.host for server in hello.servers] == ["elm", "oak", "ash"]
    assert hello.vendor == "sampled"
    assert hello.nonce == (1).to_bytes(16, "big")
    assert hello.report.state == "serving"


def test_wrong_vendor_is_refused() -> None:
    kit = Kit()
    conn = kit.connect(vendor="other")
    (refusal,) = kit.said(conn)
    assert isinstance(refusal, Refusal)
    assert refusal.code == -97
    assert kit.closed == {conn: False}


def test_grant_and_checkin() -> None:
    kit = Kit()
    ann = kit.client()
    granted = ann.checkout()
    assert isinstance(granted, Granted)
    assert (granted.handle, granted.count, granted.version, granted.renews, granted.term) == (
        1,
        1,
        "1.0",
        True,
        1,
    )
    assert granted.line == "FEATURE f1 sampled 1.0"
    assert granted.started == pytest.approx(kit.wall)
    assert kit.logs == ['OUT: "f1" ann@elm  ']
    back = ann.checkin(granted.handle)
    assert isinstance(back, CheckedIn)
    assert back.renews
    assert kit.logs[1:] == ['IN: "f1" ann@elm  ']
    assert kit.state.in_use["f1 1.0"] == 0


@pytest.mark.parametrize(
    ("feature", "version", "count", "code"),
    [
        ("nothing", "1.0", 1, -5),
        ("f1", "2.0", 1, -25),
        ("f1", "one", 1, -77),
        ("f1", "1.0", 3, -26),
        ("f1", "1.0", 0, -42),
        ("old", "1.0", 1, -10),
        ("new", "1.0", 1, -31),
        ("locked", "1.0", 1, -9),
        ("full", "1.0", 1, -4),
    ],
)
def test_denials(feature: str, version: str, count: int, code: int) -> None:
    kit = Kit(
        line("f1", 2), line("old", 2, expiry_day=DAY - 1), line("new", 2, start_day=DAY + 1),
        line("locked", 2, lock="001122334455"), line("full", 2),
    )  # fmt: skip
    bob = kit.client("bob")
    assert isinstance(bob.checkout("full", count=2), Granted)
    kit.logs.clear()
    denied = kit.client("ann").checkout(feature, version, count)
    assert isinstance(denied, Denied)
    assert denied.code == code
    assert denied.text
    assert not denied.renews
    (logged,) = kit.logs
    if code == ErrorCode.NO_SUCH_FEATURE:
        assert logged.startswith(f'UNSUPPORTED: "{feature}" () ann@elm  (')
    else:
        assert logged.startswith(f'DENIED: "{feature}" ann@elm  (')
    assert f"({code}," in logged
    if code == -4:
        assert denied.detail == "2 of 2 in use: bob@elm (2)"


def test_last_day_and_first_day_count() -> None:
    kit = Kit(line("ends", expiry_day=DAY), line("begins", start_day=DAY))
    ann = kit.client()
    assert isinstance(ann.checkout("ends"), Granted)
    assert isinstance(ann.checkout("begins"), Granted)


def test_highest_version_where_none_is_named() -> None:
    kit = Kit(line(version="2.0", seats=1), line(version="1.0", seats=1))
    ann = kit.client()
    assert ann.checkout(version="").version == "2.0"
    assert ann.checkout(version="").version == "1.0"
    assert ann.checkout(version="").code == -4


def test_one_handle_comes_from_one_pool() -> None:
    kit = Kit(line(version="2.0", seats=1), line(version="1.0", seats=2))
    ann = kit.client()
    assert ann.checkout(version="1.0", count=2).handle == 1
    assert kit.state.in_use["f1 1.0"] == 2
    assert ann.checkout(version="1.0", count=3).code == -26


def test_uncounted_is_always_granted() -> None:
    kit = Kit(line(seats=0))
    ann = kit.client()
    assert [ann.checkout(count=5).handle for _ in range(3)] == [1, 2, 3]


def test_repeat_is_the_same_checkout() -> None:
    kit = Kit()
    ann = kit.client()
    first = ann.checkout()
    again = ann.checkout(request=1)
    assert isinstance(again, Granted)
    assert (again.handle, again.started) == (first.handle, first.started)
    assert not again.renews
    assert len(kit.state.seats) == 1
    back = ann.checkin(first.handle)
    repeated = ann.checkin(first.handle, request=ann.request)
    assert isinstance(repeated, CheckedIn)
    assert repeated.handle == back.handle
    assert not repeated.renews


def test_answered_number_is_refused() -> None:
    kit = Kit()
    ann = kit.client()
    ann.checkout()
    ann.answered = 1
    ann.heartbeat()
    denied = ann.checkout(request=1, answered=0)
    assert isinstance(denied, Denied)
    assert denied.code == -42
    assert len(kit.state.seats) == 1


def test_withdrawn_request_is_free_and_stays_refused() -> None:
    kit = Kit()
    ann = kit.client()
    ann.checkout()
    assert isinstance(ann.withdraw(1), Withdrawn)
    assert kit.state.seats == {}
    assert ann.checkout(request=1).code == -42
    # ... also one that never arrived
    ann.request = 10
    assert isinstance(ann.withdraw(10), Withdrawn)
    assert ann.checkout(request=10).code == -42


def test_freed_seat_waits_for_commit() -> None:
    kit = Kit(line(seats=1))
    ann, bob = kit.client("ann"), kit.client("bob")
    handle = ann.checkout().handle
    kit.quorum.auto = False
    assert ann.checkin(handle) is None
    assert bob.checkout() is None
    assert len(kit.state.seats) == 0  # not granted before the freeing is committed, and not denied
    kit.quorum.commit()
    assert kit.said(bob.conn) == []  # granted by an entry that is not committed yet
    kit.quorum.commit()
    (granted,) = kit.said(bob.conn)
    assert isinstance(granted, Granted)


def test_nothing_is_answered_before_serving() -> None:
    kit = Kit(serving=False)
    kit.quorum.state, kit.quorum.master = "serving", Rank.PRIMARY  # won, first entry not committed
    ann = kit.client(opened=False)
    assert ann.open() is None
    kit.quorum.start()
    (reply,) = kit.said(ann.conn)
    assert isinstance(reply, SessionReply)
    assert reply.state == "open"


def test_what_is_kept_too_long_is_redirected() -> None:
    kit = Kit(serving=False)
    kit.quorum.state = "candidate"
    ann = kit.client(opened=False)
    assert ann.open() is None
    kit.pass_time(1.0)
    (reply,) = kit.said(ann.conn)
    assert isinstance(reply, NotServing)
    assert reply.seq == 1


def test_without_a_quorum_the_answer_is_at_once() -> None:
    kit = Kit(serving=False)
    ann = kit.client(opened=False)
    reply = ann.open()
    assert isinstance(reply, NotServing)
    assert reply.master is None
    assert reply.reason == "no quorum"


def test_a_follower_names_the_master() -> None:
    kit = Kit(serving=False)
    kit.quorum.state, kit.quorum.master = "follower", Rank.SECONDARY
    reply = kit.client(opened=False).open()
    assert isinstance(reply, NotServing)
    assert reply.master is not None
    assert reply.master.host == "oak"


def test_requests_during_a_hand_over_are_kept() -> None:
    kit = Kit()
    ann = kit.client()
    kit.quorum.stop(state="stopping")
    kit.turn()
    assert [type(message) for message in kit.said(ann.conn)] == [NotServing]
    assert ann.checkout() is None
    kit.quorum.master = Rank.SECONDARY
    kit.pass_time(1.0)
    (reply,) = kit.said(ann.conn)
    assert isinstance(reply, NotServing)
    assert reply.master is not None


def test_nothing_is_decided_while_handing_over() -> None:
    kit = Kit()
    ann = kit.client()
    kit.quorum.handing_over = True
    assert ann.checkout() is None
    assert kit.state.seats == {}
    assert ann.heartbeat() is None  # behind the checkout: a connection's messages keep their order
    kit.quorum.handing_over = False  # given up
    replies = kit.said(ann.conn)
    assert [type(message) for message in replies] == [Granted, HeartbeatReply]


def test_held_answers_are_dropped_with_the_lease() -> None:
    kit = Kit()
    ann = kit.client()
    kit.quorum.auto = False
    assert ann.checkout() is None
    kit.quorum.stop(master=Rank.SECONDARY, state="follower")
    (pushed,) = kit.said(ann.conn)
    assert isinstance(pushed, NotServing)
    kit.quorum.auto = True
    kit.logs.clear()
    kit.quorum.start(term=3)
    assert kit.said(ann.conn) == []
    assert not [text for text in kit.logs if text.startswith("OUT")]
    # the session has to prove itself in the new reign
    assert isinstance(ann.heartbeat(), NotServing)
    resumed = ann.resume()
    assert [seat.handle for seat in resumed.held] == [1]
    assert resumed.term == 3


def test_a_lease_that_ran_out_silently_answers_nobody() -> None:
    kit = Kit()
    ann = kit.client()
    kit.quorum.auto = False
    assert ann.checkout() is None
    kit.quorum.commit()
    kit.quorum.lease = False  # time ran out; StopServing has not been seen yet
    assert kit.said(ann.conn) == []


def test_a_higher_term_silences_until_a_round() -> None:
    kit = Kit(auto=False)
    ann = kit.client(opened=False)
    ann.term_seen = 5
    assert ann.open() is None
    assert kit.quorum.terms_seen == [5]
    kit.quorum.commit()
    assert kit.said(ann.conn) == []
    kit.quorum.confirm()
    (reply,) = kit.said(ann.conn)
    assert isinstance(reply, SessionReply)


def test_a_term_of_another_triad_silences_once() -> None:
    kit = Kit()
    ann = kit.client(opened=False)
    ann.term_seen = 50
    kit.quorum.auto = False
    ann.open()
    ann.heartbeat()
    assert kit.quorum.terms_seen == [50]
    kit.quorum.auto = True
    assert [type(message) for message in kit.said(ann.conn)] == [SessionReply, HeartbeatReply]
    assert isinstance(ann.checkout(), Granted)
    assert kit.quorum.terms_seen == [50]


def test_what_no_quorum_knows_as_a_peer_is_closed() -> None:
    kit = Kit()
    conn = kit.connect(hello=False)
    me = Endpoint(1, Boot(1, b"b" * 16))
    kit.send(conn, PeerFrame(b"", 0, me, me, Beat(1)))
    kit.turn()
    assert len(kit.quorum.events) == 1
    assert conn in kit.closed


def test_report_is_for_anyone_at_any_time() -> None:
    kit = Kit(serving=False)
    conn = kit.connect(vendor="")
    kit.said(conn)
    kit.send(conn, StatusRequest(4, "report", "", ""))
    (reply,) = kit.said(conn)
    assert isinstance(reply, StatusReport)
    assert (reply.seq, reply.report.state, reply.report.vendor_up) == (4, "waiting", False)


@pytest.mark.parametrize(
    "message",
    [
        ClientHello(1, "x", "", 0),
        Checkout(1, 1, 1, "f1", "", 1, 0),
        Checkout(1, 0, -1, "f1", "", 1, 0),
    ],
)
def test_what_no_client_sends_closes_its_connection(message: object) -> None:
    kit = Kit()
    ann, bob = kit.client("ann"), kit.client("bob")
    refusal = ann.ask(message)
    assert isinstance(refusal, Refusal)
    assert kit.closed == {ann.conn: False}
    assert isinstance(bob.checkout(), Granted)


def test_pipelining_is_bounded() -> None:
    kit = Kit(auto=False)
    ann = kit.client(opened=False)
    for request in range(3000):
        kit.send(ann.conn, StatusRequest(request, "features", "", ""))
    assert [type(message) for message in kit.said(ann.conn)] == [Refusal]
    assert ann.conn in kit.closed
