"""Seats that are taken away: lmremove in both forms, TIMEOUT, and that only the client's word frees them."""

from __future__ import annotations

from typing import Any

import pytest

from flexcore.identity import Rank
from flexcore.ledger import Ledger
from flexcore.options import parse_options
from flexcore.quorum import events as q
from flexcore.wire.messages import (
    AdminReply,
    AdminRequest,
    Checkout,
    Granted,
    Heartbeat,
    HeartbeatReply,
    IdleSeat,
    RemoveReply,
    SeatsLost,
    SessionReply,
)
from tests.server_kit import Client, Kit, in_use, line, live

BY_ANN = ("user", "f1", "ann", "elm", ":0")


def kit_of(text: str = "", *lines: Any, **changes: Any) -> Kit:
    options = parse_options(text, name="demo.opt") if text else None
    return Kit(*lines or (line("f1", seats=3),), options=options, **changes)


def remove(kit: Kit, *arguments: str, local: bool = True) -> Any:
    conn = kit.connect(local=local)
    kit.said(conn)
    kit.send(conn, AdminRequest(1, "remove", arguments, "root", "oak"))
    kit.turn()  # the answer leaves in the turn after the commit
    said = kit.said(conn)
    return said[0] if said else None


def test_a_removed_seat_is_free_when_its_client_gives_it_back() -> None:
    kit = kit_of()
    ann, bob = kit.client("ann"), kit.client("bob")
    handles = [ann.checkout().handle, ann.checkout(count=2).handle]
    live(kit, 120.0, ann, bob)
    kit.out.clear()
    answer = remove(kit, *BY_ANN)
    assert (answer.code, answer.lines) == (
        0, ("f1: ann elm :0 (handle 1)", "f1: ann elm :0 (handle 2), 2 licenses")
    )  # fmt: skip
    lost = kit.out.pop(ann.conn)
    assert [each.handles for each in lost if isinstance(each, SeatsLost)] == [(1,), (2,)]
    assert lost[0].text == "taken away by root@oak (lmremove)"
    assert in_use(kit) == 3
    assert bob.checkout().code == -4
    for handle in handles:
        ann.checkin(handle)
    assert in_use(kit) == 0
    assert [text for text in kit.logs if text.startswith(("IN", "REMOVE"))] == [
        'REMOVE: "f1" ann@elm  (lmremove by root@oak)', 'REMOVE: "f1" ann@elm  (lmremove by root@oak)',
        'IN: "f1" ann@elm  (REMOVED)', 'IN: "f1" ann@elm  (2 licenses) (REMOVED)',
    ]  # fmt: skip


def test_who_does_not_answer_keeps_it_until_its_lease_is_over() -> None:
    kit = kit_of("LINGER f1 600")  # what is taken away does not linger
    ann = kit.client("ann")
    ann.checkout()
    live(kit, 120.0, ann)
    assert remove(kit, *BY_ANN).code == 0
    kit.pass_time(10.0)
    assert in_use(kit) == 1
    kit.pass_time(60.0)
    assert in_use(kit) == 0


def test_by_handle_and_what_is_not_held() -> None:
    kit = kit_of("", line("f1", seats=3), line("f2", seats=1))
    ann = kit.client("ann")
    first, second = ann.checkout().handle, ann.checkout().handle
    live(kit, 120.0, ann)
    for arguments, code in (
        (("handle", "f2", "elm", "2837", str(first)), -41),
        (("handle", "f1", "elm", "2837", "999"), -41),
        (("handle", "f1", "elm", "2837", "x"), -41),
        (("user", "f1", "ann", "elm", ":1"), -41),
        (("user", "f9", "ann", "elm", ":0"), -5),
        (("user", "f1", "ann"), -42),
        (("anything", "f1", "ann", "elm", ":0"), -42),
        ((), -42),
    ):
        assert remove(kit, *arguments).code == code, arguments
    assert remove(kit, "handle", "f1", "elm", "2837", str(second)).code == 0
    assert [seat.removal is not None for seat in sorted(kit.state.seats.values())] == [False, True]


def test_the_least_interval_lingering_and_the_switch() -> None:
    kit = kit_of("LINGER f1 600")
    ann = kit.client("ann")
    handle = ann.checkout().handle
    live(kit, 119.0, ann)
    answer = remove(kit, *BY_ANN)
    assert (answer.code, answer.lines) == (-64, ("a checkout stays for 120 s; try again in 1 s",))
    ann.checkin(handle)
    live(kit, 60.0, ann)
    assert remove(kit, *BY_ANN).code == -100
    assert remove(kit, "handle", "f1", "elm", "2837", str(handle)).code == -100
    assert remove(kit_of(lmremove=False), *BY_ANN).code == -85
    assert remove(kit, *BY_ANN, local=False).code == -119


def test_a_new_master_tells_the_client() -> None:
    kit = kit_of()
    ann = kit.client("ann")
    ann.checkout()
    live(kit, 120.0, ann)
    kit.end(ann.conn, orderly=False)
    remove(kit, *BY_ANN)
    ledger = kit.quorum.ledger
    ledger.commit_to(ledger.last.index)
    for snapshot in (False, True):
        heir = kit_of(serving=False)
        heir.quorum.ledger = Ledger(ledger.make_snapshot()) if snapshot else ledger.copy()
        heir.quorum.start(2)
        heir.turn()
        again = Client(heir, "ann", opened=False)
        again.strict, again.request, again.answered = False, 1, 1
        lost = again.resume()
        assert lost == SeatsLost(2, (1,), 0, "taken away by root@oak (lmremove)")
        again.checkin(1)
        assert in_use(heir) == 0


def test_the_client_is_told_after_the_commit_and_again_behind_a_repeated_grant() -> None:
    kit = kit_of(auto=False, lmremove_min_s=0.0)
    ann = kit.client("ann", opened=False)
    ann.strict = False
    ann.open()
    ann.checkout()
    conn = kit.connect(local=True)
    kit.send(conn, AdminRequest(1, "remove", BY_ANN, "root", "oak"))
    kit.turn()
    assert ann.conn not in kit.out
    kit.quorum.commit()
    kit.turn()
    granted, lost = [each for each in kit.out.pop(ann.conn) if not isinstance(each, SessionReply)]
    assert (type(granted), type(lost)) == (Granted, SeatsLost)
    kit.send(ann.conn, Checkout(9, 1, 0, "f1", "1.0", 1, 0))
    kit.turn()
    assert [type(each) for each in kit.out[ann.conn]] == [Granted, SeatsLost]


def test_a_follower_passes_it_on_and_the_master_answers() -> None:
    kit = kit_of(serving=False)
    kit.quorum.state, kit.quorum.master = "follower", Rank.SECONDARY
    asked: list[Any] = []
    quorum: Any = kit.quorum

    def ask_removal(*arguments: Any, **_: Any) -> bool:
        asked.append(arguments)
        return True

    quorum.ask_removal = ask_removal
    assert remove(kit, *BY_ANN) is None
    assert asked == [(Rank.SECONDARY, 1, BY_ANN, "root@oak")]
    kit.quorum.actions.append(
        q.RemovalAnswered(peer=Rank.SECONDARY, reply=RemoveReply(1, -64, ("too new",)))
    )
    kit.turn()
    (said,) = kit.out.popitem()[1]
    assert (said.code, said.lines) == (-64, ("too new",))
    remove(kit, *BY_ANN)
    kit.pass_time(11.0)
    (said,) = kit.out.popitem()[1]
    assert said.code == -52
    quorum.ask_removal = lambda *_, **__: False
    assert remove(kit, *BY_ANN).code == -15
    kit.quorum.master = None
    assert remove(kit, *BY_ANN).code == -96


def test_the_master_carries_out_what_is_passed_on() -> None:
    kit = kit_of()
    ann = kit.client("ann")
    ann.checkout()
    live(kit, 120.0, ann)
    answers: list[Any] = []
    quorum: Any = kit.quorum
    quorum.answer_removal = lambda link, reply, **_: answers.append((link, reply))
    for number in (7, 8):
        kit.quorum.actions.append(
            q.RemovalWanted(link=3, number=number, arguments=BY_ANN, requested_by="root@oak")
        )
        kit.turn()
        kit.turn()
    line_ = ("f1: ann elm :0 (handle 1)",)
    assert answers == [(3, RemoveReply(7, 0, line_)), (3, RemoveReply(8, 0, line_))]
    kit.quorum.handing_over = True
    kit.quorum.actions.append(
        q.RemovalWanted(link=3, number=9, arguments=BY_ANN, requested_by="root@oak")
    )
    kit.turn()
    assert answers[-1][1][:2] == (9, -96)


@pytest.mark.parametrize(
    ("text", "idle_s", "taken"),
    [
        ("TIMEOUT f1 1000", 1000.0, True),
        ("TIMEOUT f1 1000", 999.0, False),
        ("TIMEOUT f1:VERSION=1.0 1000", 1000.0, True),
        ("TIMEOUT f1:VERSION=2.0 1000", 9e9, False),
        ("TIMEOUT f2 1000\nTIMEOUTALL 2000", 1999.0, False),
        ("TIMEOUTALL 2000", 2000.0, True),
        ("TIMEOUT f1 3000\nTIMEOUTALL 1000", 2999.0, False),
        ("TIMEOUTALL 5", 899.0, False),
        ("TIMEOUTALL 5", 900.0, True),
        ("MAX 3 f1 USER ann", 9e9, False),
    ],
)
def test_an_idle_seat_is_taken_back(text: str, idle_s: float, taken: bool) -> None:
    kit = kit_of(text)
    ann = kit.client("ann")
    handle = ann.checkout().handle
    ann.strict = False
    kit.send(ann.conn, Heartbeat(ann.next(), 1, 0, (IdleSeat(handle, idle_s), IdleSeat(99, 9e9))))
    kit.turn()
    kit.turn()
    said = kit.out.pop(ann.conn)
    assert [type(each) for each in said] == ([SeatsLost] if taken else []) + [HeartbeatReply]
    if taken:
        ann.checkin(handle)
        assert 'IN: "f1" ann@elm  (INACTIVE)' in kit.logs


def test_nothing_idle_is_taken_while_handing_over() -> None:
    kit = kit_of("TIMEOUTALL 900")
    ann = kit.client("ann")
    handle = ann.checkout().handle
    kit.quorum.handing_over = True
    kit.send(ann.conn, Heartbeat(ann.next(), 1, 0, (IdleSeat(handle, 1000.0),)))
    kit.turn()
    assert [type(each) for each in kit.out[ann.conn]] == [HeartbeatReply]


def test_admin_replies_say_what_the_code_means() -> None:
    assert remove(kit_of(), "user", "f9", "ann", "elm", ":0") == AdminReply(1, -5, "No such feature exists", ())
