"""Held answers: commit, rounds, twins, and a whole random run against what the ledger says."""

from __future__ import annotations

import random

from flexcore.checkout import Denial
from flexcore.server.memory import DENIALS_MAX, RequestMemory
from flexcore.server.replies import HeldReplies
from flexcore.wire.messages import (
    CheckedIn,
    Denied,
    Granted,
    HeartbeatReply,
    StatusPage,
    StatusRequest,
)
from tests.server_kit import Kit, line


def test_nothing_leaves_before_its_commit() -> None:
    kit = Kit()
    ann = kit.client()
    kit.quorum.auto = False
    assert ann.checkout() is None
    assert ann.checkout("nothing") is None  # a denial depends on what was decided before it
    kit.send(ann.conn, StatusRequest(9, "seats", "", ""))
    assert kit.said(ann.conn) == []
    assert kit.logs == []
    kit.quorum.commit()
    assert [type(message) for message in kit.said(ann.conn)] == [Granted, Denied, StatusPage]
    assert [text[:4] for text in kit.logs] == ["OUT:", "UNSU"]


def test_a_repeated_checkout_is_denied_again() -> None:
    """Seed 89: the first copy was denied, a seat came free, and the second copy took it: nobody knew of that seat."""
    kit = Kit()
    ann, bob = kit.client(), kit.client("bob")
    held = [ann.checkout() for _ in range(2)]
    denied = bob.checkout(request=1)
    assert isinstance(denied, Denied)
    ann.checkin(held[0].handle)
    logged = len(kit.logs)
    again = bob.checkout(request=1)
    assert isinstance(again, Denied)
    assert (again.request, again.code, again.detail) == (1, denied.code, denied.detail)
    assert len(kit.logs) == logged  # it was denied once
    assert isinstance(bob.checkout(request=2), Granted)
    assert isinstance(bob.checkout(request=1, answered=0), Denied)  # however late a copy comes


def test_denials_are_remembered_until_the_client_knows_them() -> None:
    kit, memory = Kit(), RequestMemory()
    session = kit.state.sessions[kit.client().session]
    for number in range(1, 2 * DENIALS_MAX):
        memory.keep(session.session, number, Denial(-4, ""))
    assert memory.recall(session.session, DENIALS_MAX - 1) is None  # bounded
    assert memory.recall(session.session, DENIALS_MAX) == Denial(-4, "")
    twin = memory.copy()
    assert twin.fingerprint() == memory.fingerprint()
    memory.note_answered(session, 2 * DENIALS_MAX)
    assert twin.fingerprint() != memory.fingerprint()
    assert memory.recall(session.session, DENIALS_MAX) is not None  # answered before: refused
    memory.forget(session.session)
    assert memory.recall(session.session, DENIALS_MAX) is None
    memory.clear()
    assert memory.fingerprint() == RequestMemory().fingerprint()


def test_heartbeat_waits_for_its_round() -> None:
    kit = Kit()
    ann = kit.client()
    kit.quorum.auto = False
    kit.quorum.request_round(kit.now)
    before = kit.quorum.rounds
    assert ann.heartbeat() is None
    kit.quorum.confirmed_round = (
        before  # a round that was sent before the heartbeat came proves nothing
    )
    assert kit.said(ann.conn) == []
    kit.quorum.confirm()
    assert [type(message) for message in kit.said(ann.conn)] == [HeartbeatReply]


def test_queues_keep_their_order() -> None:
    held = HeldReplies()
    held.until_commit(5, 1, CheckedIn(1, 1, 1, True, 1))
    held.until_round(2, 5, 1, HeartbeatReply(2, 1, True))
    held.until_round(3, 6, 1, HeartbeatReply(3, 1, True))
    assert held.release(commit=4, confirmed_round=9) == []
    assert [each.message.seq for each in held.release(commit=5, confirmed_round=3)] == [1, 2]  # type: ignore[union-attr]
    assert len(held) == 1
    assert held.release(commit=6, confirmed_round=2) == []
    assert len(held.release(commit=6, confirmed_round=3)) == 1


def test_a_copy_goes_its_own_way() -> None:
    kit = Kit()
    ann = kit.client()
    kit.quorum.auto = False
    ann.checkout()
    ann.heartbeat()
    twin = kit.node.copy()
    assert twin.fingerprint(kit.now) == kit.node.fingerprint(kit.now)
    kit.quorum.commit()
    kit.quorum.confirm()
    assert len(kit.said(ann.conn)) == 2
    assert twin.messages_to_send() == []
    twin.quorum.commit()  # type: ignore[attr-defined]
    twin.quorum.confirm()  # type: ignore[attr-defined]
    twin.end_turn(now=kit.now, wall=kit.wall)
    assert len(twin.messages_to_send()) == 2
    assert (
        twin.fingerprint(kit.now) != kit.node.fingerprint(kit.now) or twin.next_action() is not None
    )


def test_random_days_never_issue_more_than_there_is() -> None:
    """Commits, resets, ends of stream and repeats in any order; the clients' own books stay within the licence."""
    for seed in range(6):
        rng = random.Random(seed)
        kit = Kit(line(seats=3))
        clients = [kit.client(f"u{number}") for number in range(4)]
        for _ in range(300):
            kit.quorum.auto = rng.random() < 0.7
            ann = rng.choice(clients)
            ann.strict = False
            what = rng.random()
            if what < 0.5:
                ann.checkout(count=rng.randint(1, 2))
            elif what < 0.8:
                held = [seat.handle for seat in kit.state.seats_of(ann.session)]
                if held:
                    ann.checkin(rng.choice(held))
            elif what < 0.9:
                kit.out.clear()
                ann.resume()
            else:
                kit.pass_time(rng.random())
            kit.out.clear()
            in_use = sum(seat.seats for seat in kit.state.seats.values())
            assert in_use == kit.state.in_use["f1 1.0"]
            assert in_use + kit.state.freed_uncommitted("f1 1.0") <= 3
            if rng.random() < 0.5:
                ann.answered = ann.request
