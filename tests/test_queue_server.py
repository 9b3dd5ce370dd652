"""The server's queue: first come, first served by pool, and who may pass whom all the same."""

from __future__ import annotations

from typing import Any

import pytest

from flexcore.options import parse_options
from flexcore.server.queueing import QUEUED_PER_SESSION_MAX
from flexcore.wire.messages import (
    CheckedIn,
    Denied,
    Granted,
    Queued,
    QueueRow,
    StatusRequest,
    Withdrawn,
)
from tests.server_kit import Client, Kit, line


def kit_of(seats: int = 3, options: str = "", **more: Any) -> Kit:
    if options:
        more["options"] = parse_options(options, name="x.opt")
    return Kit(line(seats=seats), **more)


def told(client: Client) -> list[Any]:
    """What was said unasked."""
    return client.kit.said(client.conn)


def hold(client: Client, count: int = 1) -> int:
    granted = client.checkout(count=count)
    assert isinstance(granted, Granted), granted
    return granted.handle


def test_first_come_first_served() -> None:
    kit = kit_of(1)
    ann, bob, cem = (kit.client(name) for name in ("ann", "bob", "cem"))
    handle = hold(ann)
    first, second = bob.checkout(queue=True), cem.checkout(queue=True)
    assert isinstance(first, Queued)
    assert isinstance(second, Queued)
    assert (first.ahead, second.ahead) == (0, 1)
    assert "1 of 1 in use: ann@elm" in first.text
    assert not first.renews
    kit.logs.clear()
    ann.checkin(handle)
    assert kit.out.pop(cem.conn, []) == []
    (granted,) = told(bob)
    assert (granted.request, granted.seq, granted.renews) == (1, 0, False)
    assert kit.logs == [
        'IN: "f1" ann@elm  ',
        'DEQUEUED: "f1" bob@elm  ',
        'OUT: "f1" bob@elm  ',
    ]
    bob.checkin(granted.handle)
    (granted,) = told(cem)
    assert granted.line == "FEATURE f1 sampled 1.0"
    assert not kit.state.queue


def test_a_large_request_does_not_starve() -> None:
    """Small ones come and go; none overtakes, neither one that would wait nor one that would not."""
    kit = kit_of(3)
    ann, big, bob = (kit.client(name) for name in ("ann", "big", "bob"))
    handles = [hold(ann) for _ in range(2)]
    assert isinstance(big.checkout(count=3, queue=True), Queued)
    refused = bob.checkout()
    assert (refused.code, refused.detail) == (-24, "1 wait for f1")
    assert isinstance(bob.checkout(queue=True), Queued)
    ann.checkin(handles[0])
    assert told(bob) == told(big) == []
    ann.checkin(handles[1])
    (granted,) = told(big)
    assert granted.count == 3
    assert told(bob) == []
    big.checkin(granted.handle)
    assert isinstance(told(bob)[0], Granted)


@pytest.mark.parametrize(("feature", "count", "code"), [("f1", 4, -26), ("f9", 1, -5)])
def test_what_can_never_be_is_denied_at_once(feature: str, count: int, code: int) -> None:
    kit = kit_of(3)
    ann = kit.client("ann")
    denied = ann.checkout(feature, count=count, queue=True)
    assert isinstance(denied, Denied)
    assert denied.code == code
    assert not kit.state.queue


def test_options_that_never_allow_it_deny_at_once() -> None:
    kit = kit_of(
        3, "EXCLUDE f1 USER ann\nMAX 1 f1 USER bob\nRESERVE 2 f1 USER dan\n"
    )  # of three, two are for dan
    for name, count, code in (("ann", 1, -38), ("bob", 2, -87), ("cem", 2, -101)):
        denied = kit.client(name).checkout(count=count, queue=True)
        assert denied.code == code, denied
    assert not kit.state.queue
    hold(kit.client("eva"))
    assert isinstance(kit.client("cid").checkout(queue=True), Queued)


def test_who_waits_for_its_own_max_holds_up_nobody_else() -> None:
    kit = kit_of(3, "GROUP team ann bob\nMAX 2 f1 GROUP team\n")
    ann, bob, cem = (kit.client(name) for name in ("ann", "bob", "cem"))
    handle = hold(ann)
    assert isinstance(bob.checkout(count=2, queue=True), Queued)
    # Nobody else waits for the team's MAX; but of the team nobody overtakes.
    other = hold(cem)
    assert ann.checkout().code == -24
    hold(cem)
    ann.checkin(handle)  # the MAX has room; now two seats are waited for, and nobody passes
    assert cem.checkout().code == -24
    assert told(bob) == []
    cem.checkin(other)
    assert isinstance(told(bob)[0], Granted)


def test_who_takes_what_is_reserved_for_him_may_pass() -> None:
    kit = kit_of(4, "RESERVE 1 f1 USER bob\n")
    ann, cem, bob = (kit.client(name) for name in ("ann", "cem", "bob"))
    handle = hold(ann, 2)
    assert isinstance(cem.checkout(count=2, queue=True), Queued)
    reserved = hold(bob)
    assert bob.checkout().code == -24  # of the others he has no more than anybody
    bob.checkin(reserved)
    assert told(cem) == []
    ann.checkin(handle)
    assert isinstance(told(cem)[0], Granted)


def test_who_takes_no_further_licence_may_pass() -> None:
    """She has the licence already: in the same process, and in another one of hers; nobody else passes."""
    kit = Kit(line(seats=2)._replace(group="U"))
    ann, bob, cem = (kit.client(name) for name in ("ann", "bob", "cem"))
    hers = kit.client("x", opened=False)
    hers.name = "ann"  # another session of the same user
    hers.open()
    hold(ann)
    assert isinstance(bob.checkout(count=2, queue=True), Queued)
    assert isinstance(ann.checkout(), Granted)
    assert isinstance(hers.checkout(), Granted)
    assert kit.state.in_use["f1 1.0"] == 1
    assert hers.checkout(count=2).code == -24  # one more than she has: a licence that bob waits for
    assert cem.checkout().code == -24
    assert told(bob) == []
    ann.goodbye()
    hers.goodbye()
    assert isinstance(told(bob)[0], Granted)


def test_who_takes_no_further_licence_may_pass_whoever_waits_for_their_max() -> None:
    shared = line(seats=3)._replace(group="U")
    text = "GROUP team ann bob\nMAX 1 f1 GROUP team\n"
    kit = Kit(shared, options=parse_options(text, name="x.opt"))
    ann, bob = kit.client("ann"), kit.client("bob")
    hold(ann)
    assert isinstance(bob.checkout(queue=True), Queued)
    assert isinstance(ann.checkout(), Granted)


def test_nobody_overtakes_on_any_of_the_limits_that_are_waited_for() -> None:
    """ann waits for two limits, her own and her team's: bob, of the same team, does not take its last seat."""
    kit = kit_of(9, "GROUP team ann bob\nMAX 2 f1 USER ann\nMAX 3 f1 GROUP team\n")
    ann, bob, cem = (kit.client(name) for name in ("ann", "bob", "cem"))
    handle = hold(ann)
    hold(bob)
    assert isinstance(ann.checkout(count=2, queue=True), Queued)
    assert bob.checkout().code == -24
    hold(cem)
    ann.strict = False
    assert isinstance(ann.checkin(handle), Granted)  # behind the answer


def test_who_waits_takes_back_what_begins_to_linger() -> None:
    """bob gives two of three back, which linger for him: another process of his waits for one, behind cem."""
    kit = kit_of(3, "LINGER f1 300\n")
    bob, cem, his = kit.client("bob"), kit.client("cem"), kit.client("x", opened=False)
    his.name = "bob"  # another session of the same user
    his.open()
    handle = hold(bob, 2)
    assert isinstance(cem.checkout(count=2, queue=True), Queued)
    assert isinstance(his.checkout(queue=True), Queued)
    bob.checkin(handle)
    assert isinstance(told(his)[0], Granted)
    assert isinstance(told(cem)[0], Granted)  # the one that was not needed is free


def test_what_lingers_in_one_pool_lets_nobody_pass_in_another() -> None:
    """ann may take back what lingers for her of 1.0, and none of 2.0, which bob waits for."""
    kit = Kit(line(seats=2, version="2.0"), line(seats=1),
              options=parse_options("LINGER f1:VERSION=1.0 300\n", name="x.opt"))  # fmt: skip
    ann, bob, cem = (kit.client(name) for name in ("ann", "bob", "cem"))
    first = cem.checkout()
    cem.checkout()
    ann.checkin(ann.checkout().handle)
    assert isinstance(bob.checkout(version="2.0", count=2, queue=True), Queued)
    cem.checkin(first.handle)
    taken = ann.checkout()
    assert (taken.version, kit.state.in_use["f1 2.0"]) == ("1.0", 1)
    cem.goodbye()
    assert isinstance(told(bob)[0], Granted)


def test_a_component_does_not_overtake_another_of_its_suite() -> None:
    kit = Kit(
        line("all", 2, pool="all 1.0")._replace(package="all"),
        line("a", 5)._replace(suite="all 1.0"), line("b", 5)._replace(suite="all 1.0"),
    )  # fmt: skip
    ann, bob, cem = (kit.client(name) for name in ("ann", "bob", "cem"))
    first = ann.checkout("a").handle
    ann.checkout("b")
    assert isinstance(bob.checkout("a", count=2, queue=True), Queued)
    assert isinstance(cem.checkout("b", queue=True), Queued)
    ann.checkin(first)
    assert told(cem) == told(bob) == []
    ann.goodbye()
    assert isinstance(told(bob)[0], Granted)
    assert told(cem) == []
    bob.goodbye()
    assert isinstance(told(cem)[0], Granted)


def test_a_waiter_asks_again_and_hears_how_it_stands() -> None:
    kit = kit_of(1)
    ann, bob = kit.client("ann"), kit.client("bob")
    handle = hold(ann)
    first = bob.checkout(queue=True)
    bob.answered = 5  # it knows, and says so
    assert isinstance(bob.checkout(request=6, queue=True), Queued)
    again = bob.checkout(request=1, answered=0, queue=True)
    assert again == first._replace(seq=again.seq)
    ann.checkin(handle)
    (granted,) = told(bob)
    repeated = bob.checkout(request=1, answered=0, queue=True)
    assert repeated == granted._replace(seq=repeated.seq)


def test_leaving_the_queue() -> None:
    """By withdrawal, by goodbye, and when the lease is over; each time the next one comes up."""
    kit = kit_of(2)
    ann = kit.client("ann")
    hold(ann)
    bob, cem, dan, eva = (kit.client(name) for name in ("bob", "cem", "dan", "eva"))
    for client, count in ((bob, 2), (cem, 2), (dan, 2), (eva, 1)):
        assert isinstance(client.checkout(count=count, queue=True), Queued)
    kit.logs.clear()
    assert isinstance(bob.withdraw(1), Withdrawn)
    assert 'DEQUEUED: "f1" bob@elm  (2 licenses) ' in kit.logs
    assert bob.checkout(request=1, queue=True).code == -42
    cem.goodbye()
    assert 'DEQUEUED: "f1" cem@elm  (2 licenses) ' in kit.logs
    assert told(eva) == []
    kit.end(dan.conn, orderly=False)
    eva.strict = False
    for _ in range(20):
        kit.pass_time(3.0)
        ann.heartbeat()
        eva.heartbeat()
    assert not kit.state.queue
    assert len(kit.state.sessions[eva.session].seats) == 1


def test_a_withdrawal_after_the_grant_gives_the_seat_back() -> None:
    kit = kit_of(1)
    ann, bob = kit.client("ann"), kit.client("bob")
    handle = hold(ann)
    bob.checkout(queue=True)
    bob.answered = 1
    ann.checkin(handle)
    kit.out.clear()  # it is on its way to bob, who gives up
    assert isinstance(bob.withdraw(1), Withdrawn)
    assert kit.state.seats == {}


def test_status_says_who_waits() -> None:
    kit = Kit(line(seats=1), line(seats=1, version="2.0"))
    ann = kit.client("ann")
    ann.checkout(version="2.0")
    ann.checkout(version="1.0")
    for _ in range(3):
        assert isinstance(ann.checkout(version="2.0", queue=True), Queued)
    assert isinstance(ann.checkout(version="", count=1, queue=True), Queued)
    page = ann.ask(StatusRequest(99, "queue", "f1", ""))
    first = next(kit.state.queue.of("f1"))
    assert page.queue[0] == QueueRow("f1 2.0", "f1", "ann", "elm", ":0", "2.0", first.place,
                                     first.since, 1, 7)  # fmt: skip
    assert [(row.pool, row.version) for row in page.queue[2:]] == [("f1 2.0", "2.0"), ("f1 1.0", "1.0")]
    rest = ann.ask(StatusRequest(99, "queue", "", f"0.{first.place}"))
    assert rest.queue == page.queue[1:]
    features = ann.ask(StatusRequest(99, "features", "", "")).features
    assert {row.pool: row.queued for row in features} == {"f1 1.0": 1, "f1 2.0": 3}


def test_a_new_master_serves_the_queue_in_order() -> None:
    kit = kit_of(1)
    ann, bob, cem = (kit.client(name) for name in ("ann", "bob", "cem"))
    hold(ann)
    first = bob.checkout(queue=True)
    second = cem.checkout(queue=True)
    kit.quorum.stop()
    kit.turn()
    kit.out.clear()
    kit.quorum.start(term=2)
    kit.turn()
    for client, queued in ((cem, second), (bob, first)):
        client.resume()
        client.answered = 1
        again = client.checkout(request=1, answered=0, queue=True)
        assert (again.place, again.ahead, again.term) == (queued.place, queued.ahead, 2)
    ann.resume()
    ann.goodbye()
    assert isinstance(told(bob)[0], Granted)
    assert told(cem) == []


def test_nobody_is_told_before_the_commit() -> None:
    kit = kit_of(1)
    ann, bob = kit.client("ann"), kit.client("bob")
    handle = hold(ann)
    bob.checkout(queue=True)
    kit.quorum.auto = False
    ann.checkin(handle)
    assert told(bob) == []
    assert kit.state.queue  # a freeing counts from its commit for re-use
    kit.quorum.commit()
    assert told(bob) == []
    assert not kit.state.queue  # appended, not committed
    kit.quorum.commit()
    assert isinstance(told(bob)[0], Granted)


def test_a_seat_on_its_way_back_is_waited_for() -> None:
    """Two clients race for one seat that comes back: the first has it, the second hears so."""
    kit = kit_of(1)
    ann, bob, cem = (kit.client(name) for name in ("ann", "bob", "cem"))
    handle = hold(ann)
    kit.quorum.auto = False
    ann.checkin(handle)
    assert bob.checkout() is None
    assert cem.checkout() is None
    kit.quorum.commit()
    assert told(bob) == []  # decided again, and granted: that has to be committed too
    kit.quorum.commit()
    assert isinstance(told(bob)[0], Granted)
    assert [one.code for one in kit.out.pop(cem.conn)] == [-4]


def test_one_that_never_fits_does_not_wait_for_commits() -> None:
    kit = kit_of(1)
    ann, bob = kit.client("ann"), kit.client("bob")
    handle = hold(ann)
    kit.quorum.auto = False
    ann.checkin(handle)
    bob.checkout(count=2)
    kit.quorum.commit()
    assert isinstance(told(bob)[0], Denied)


def test_the_number_of_waits_is_bounded() -> None:
    kit = kit_of(1)
    ann = kit.client("ann")
    hold(ann)
    for _ in range(QUEUED_PER_SESSION_MAX):
        assert isinstance(ann.checkout(queue=True), Queued)
    ann.answered = ann.request
    assert ann.checkout(queue=True).code in (-4, -24)


def test_a_copy_goes_its_own_way() -> None:
    kit = kit_of(1)
    ann, bob = kit.client("ann"), kit.client("bob")
    handle = hold(ann)
    bob.checkout(queue=True)
    twin = kit.node.copy()
    assert twin.fingerprint(kit.now) == kit.node.fingerprint(kit.now)
    assert isinstance(ann.checkin(handle), CheckedIn)
    assert twin.fingerprint(kit.now) != kit.node.fingerprint(kit.now)
    assert list(twin.quorum.ledger.state.queue.of("f1"))
