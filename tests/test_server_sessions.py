"""Sessions: opening, resuming, ending; what a closed connection means and what it does not (rules 15 to 17)."""

from __future__ import annotations

import pytest

from flexcore import timing
from flexcore.wire.messages import (
    GoodbyeReply,
    Granted,
    Heartbeat,
    HeartbeatReply,
    NotServing,
    Refusal,
    SessionReply,
)
from tests.server_kit import TO, Kit, L

L_STRETCHED = timing.stretched_s(L)


def test_opening_is_an_entry_and_renews() -> None:
    kit = Kit(auto=False)
    ann = kit.client(opened=False)
    assert ann.open() is None
    assert list(kit.state.sessions) == [ann.session]
    kit.quorum.commit()
    (reply,) = kit.said(ann.conn)
    assert reply == SessionReply(1, 1, True, "open", L, ())


def test_opening_twice_is_one_session() -> None:
    kit = Kit()
    ann = kit.client()
    last = kit.quorum.ledger.last
    assert ann.open().state == "open"
    assert kit.quorum.ledger.last == last


def test_another_secret_is_refused() -> None:
    kit = Kit()
    kit.client()
    thief = kit.client(secret=b"x" * 16, opened=False)
    assert thief.open().state == "refused"
    assert isinstance(thief.heartbeat(), NotServing)


def test_names_are_made_fit_for_the_log() -> None:
    kit = Kit()
    ann = kit.client("an n\n", opened=False)
    ann.open()
    assert kit.state.sessions[ann.session].user == "an_n?"


def test_resume_shows_what_is_held_and_needs_the_proof() -> None:
    kit = Kit()
    ann = kit.client()
    granted = ann.checkout()
    assert ann.resume(secret=b"x" * 16).state == "refused"
    reply = ann.resume()
    assert reply.state == "open"
    assert reply.renews
    assert [(seat.handle, seat.feature, seat.started) for seat in reply.held] == [
        (1, "f1", granted.started)
    ]
    assert isinstance(ann.heartbeat(), HeartbeatReply)


def test_resume_waits_for_its_round() -> None:
    kit = Kit()
    ann = kit.client()
    kit.quorum.auto = False
    assert ann.resume() is None
    kit.quorum.commit()
    assert kit.said(ann.conn) == []
    kit.quorum.confirm()
    assert [message.renews for message in kit.said(ann.conn)] == [True]


def test_unknown_session_is_told_after_a_round() -> None:
    kit = Kit()
    ann = kit.client(opened=False)
    kit.quorum.auto = False
    assert ann.resume() is None
    kit.quorum.commit()
    assert kit.said(ann.conn) == []
    kit.quorum.confirm()
    (reply,) = kit.said(ann.conn)
    assert (reply.state, reply.renews) == ("unknown", False)


def test_ended_session_is_told_after_its_commit() -> None:
    kit = Kit()
    ann = kit.client()
    kit.pass_time(TO + L_STRETCHED - 0.5)
    kit.quorum.auto = False
    kit.pass_time(1.0)
    assert kit.state.sessions == {}
    assert ann.heartbeat() is None
    kit.quorum.confirm()
    assert kit.said(ann.conn) == []  # the end is appended, but not committed: nobody is told
    kit.quorum.commit()
    (reply,) = kit.said(ann.conn)
    assert (reply.state, reply.renews) == ("ended", False)


def test_an_ended_session_is_never_opened_again() -> None:
    kit = Kit()
    ann = kit.client()
    ann.goodbye()
    ann.conn = kit.connect()
    kit.said(ann.conn)
    assert ann.open().state == "ended"
    assert kit.state.sessions == {}


def test_an_id_that_is_forgotten_is_worth_nothing_to_whoever_opens_it_again() -> None:
    """Ended ids are remembered for two leases. A stranger who knows one gets an empty session, and his own."""
    kit = Kit()
    ann = kit.client()
    ann.checkout()
    ann.goodbye()
    kit.pass_time(3 * L_STRETCHED)
    other = kit.client("other")  # an entry: time passes in the ledger by its stamps
    assert not kit.state.was_ended(ann.session)
    stranger = kit.client("stranger", opened=False, secret=b"x" * 16)
    stranger.session = ann.session
    reply = stranger.open()
    assert (reply.state, reply.held) == ("open", ())
    assert ann.resume().state == "refused"
    assert isinstance(other.checkout(), Granted)
    assert stranger.checkin(1).code == -41, "handle 1 was ann's"


def test_goodbye_frees_at_once() -> None:
    kit = Kit()
    ann = kit.client()
    ann.checkout()
    assert isinstance(ann.goodbye(), GoodbyeReply)
    assert kit.state.seats == {}
    assert kit.logs[-1] == 'IN: "f1" ann@elm  '


def test_end_of_stream_frees_after_the_grace() -> None:
    kit = Kit()
    ann = kit.client()
    ann.checkout()
    kit.end(ann.conn, orderly=True)
    kit.pass_time(1.9)
    assert len(kit.state.seats) == 1
    kit.pass_time(0.2)
    assert kit.state.seats == {}
    assert kit.logs[-1] == 'IN: "f1" ann@elm  (CLIENT EXITED)'


def test_reset_waits_for_the_lease() -> None:
    kit = Kit()
    ann = kit.client()
    ann.checkout()
    kit.pass_time(10.0)
    heard = kit.now
    ann.heartbeat()
    kit.end(ann.conn, orderly=False)
    kit.pass_time(heard + L_STRETCHED - 0.01 - kit.now)
    assert len(kit.state.seats) == 1
    kit.pass_time(0.02)
    assert kit.state.seats == {}
    assert kit.logs[-1] == 'IN: "f1" ann@elm  (LEASE EXPIRED)'


def test_untrusted_end_of_stream_waits_for_the_lease() -> None:
    kit = Kit()
    ann = kit.client(trusted_end=False)
    kit.end(ann.conn, orderly=True)
    kit.pass_time(10.0)
    assert len(kit.state.sessions) == 1


def test_untrusting_server_waits_for_the_lease() -> None:
    kit = Kit(trusted_end=False)
    ann = kit.client()
    kit.end(ann.conn, orderly=True)
    kit.pass_time(10.0)
    assert len(kit.state.sessions) == 1


def test_a_resume_ends_the_grace() -> None:
    kit = Kit()
    ann = kit.client()
    kit.end(ann.conn, orderly=True)
    kit.pass_time(1.0)
    assert ann.resume().state == "open"
    kit.pass_time(10.0)
    assert len(kit.state.sessions) == 1


def test_no_grace_for_a_session_that_lives_on_another_connection() -> None:
    kit = Kit()
    ann = kit.client()
    first = ann.conn
    ann.resume()
    assert kit.closed == {first: True}
    kit.end(first, orderly=True)
    kit.pass_time(10.0)
    assert len(kit.state.sessions) == 1
    assert isinstance(ann.checkout(), Granted)


def test_no_grace_in_a_reign_in_which_it_has_not_spoken() -> None:
    kit = Kit()
    ann = kit.client()
    kit.quorum.stop()
    kit.turn()
    kit.quorum.start(term=3)
    kit.turn()
    kit.end(ann.conn, orderly=True)
    kit.pass_time(10.0)
    assert len(kit.state.sessions) == 1


def test_a_close_by_the_server_waits_for_the_lease() -> None:
    kit = Kit()
    ann = kit.client()
    kit.send(ann.conn, GoodbyeReply(1, 1))
    assert isinstance(kit.said(ann.conn)[0], Refusal)
    kit.end(ann.conn, orderly=True)
    kit.pass_time(10.0)
    assert len(kit.state.sessions) == 1


def test_freed_only_after_both_waits() -> None:
    """A new master spares everybody for L' + TO from its winning, whoever was heard before (rule 15)."""
    kit = Kit()
    ann, bob = kit.client("ann"), kit.client("bob")
    kit.pass_time(5.0)
    kit.quorum.stop()
    kit.turn()
    kit.pass_time(5.0)
    kit.quorum.start(term=3)
    kit.turn()
    won = kit.now
    bob.resume()  # heard right after the winning: L' after that is earlier than L' + TO after the winning
    cat = kit.client("cat")
    kit.pass_time(won + TO + L_STRETCHED - 0.01 - kit.now)
    assert sorted(kit.state.sessions) == [ann.session, bob.session, cat.session]
    kit.pass_time(0.02)
    assert kit.state.sessions == {}


def test_a_kept_message_was_heard_when_it_came() -> None:
    kit = Kit()
    ann = kit.client()
    kit.pass_time(20.0)
    assert isinstance(ann.heartbeat(), HeartbeatReply)
    kit.pass_time(L_STRETCHED - 0.01)
    assert len(kit.state.sessions) == 1
    kit.pass_time(0.02)
    assert kit.state.sessions == {}


def test_heartbeats_share_a_round_and_renew() -> None:
    kit = Kit()
    ann, bob = kit.client("ann"), kit.client("bob")
    kit.quorum.auto = False
    assert ann.heartbeat() is None
    assert bob.heartbeat() is None
    kit.quorum.confirm()
    (one,) = kit.said(ann.conn)
    (two,) = kit.out.pop(bob.conn)
    assert (one.renews, two.renews) == (True, True)


def test_nobody_is_freed_while_the_master_is_in_doubt() -> None:
    kit = Kit()
    kit.client()
    kit.quorum.doubt = True
    kit.quorum.auto = False
    kit.now += 100.0
    kit.turn()
    assert len(kit.state.sessions) == 1
    due = kit.node.next_timeout()
    assert due is not None
    assert due > kit.now  # a lease that may not be ended yet wakes nobody
    kit.quorum.doubt = False
    assert kit.node.next_timeout() <= kit.now  # type: ignore[operator]
    kit.turn()
    assert kit.state.sessions == {}


@pytest.mark.parametrize("sessions", [1200])
def test_a_great_many_leases_end_some_hundreds_a_turn(sessions: int) -> None:
    kit = Kit()
    for number in range(sessions):
        kit.client(f"u{number}")
    kit.now += 100.0
    kit.turn()
    assert len(kit.state.sessions) == sessions - 500
    assert kit.node.next_timeout() <= kit.now  # type: ignore[operator]
    kit.pass_time(1.0)
    assert kit.state.sessions == {}


def test_a_silent_stranger_is_closed() -> None:
    kit = Kit()
    conn = kit.connect(hello=False)
    kit.pass_time(9.9)
    assert conn not in kit.closed
    kit.pass_time(0.2)
    assert conn in kit.closed
    # ... a client with a session is not, one without is, after a minute
    ann = kit.client(opened=False)
    bob = kit.client("bob")
    for _ in range(7):
        kit.pass_time(10.0)
        kit.send(bob.conn, Heartbeat(bob.next(), 0, 0))
    assert ann.conn in kit.closed
    assert bob.conn not in kit.closed
