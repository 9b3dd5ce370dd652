"""Rereads at the server: the file that is read anew, what is said, and what clients notice of it."""

from __future__ import annotations

import pytest

from flexcore.wire.messages import AdminRequest, CheckedIn, Denied, Granted
from tests.reread_kit import (
    HOSTS,
    NEW,
    NEW_LINES,
    OLD,
    OLD_LINES,
    OTHER_KEY,
    Farm,
    P,
    S,
    T,
    feature,
    text_of,
)

CHANGES = (
    'added "f3" v1.0 (5 licenses, permanent)',
    'removed "f2" v1.0 (2 licenses, permanent)',
    'changed "f1" v1.0: 3 licenses -> 1 license',
)


def put(farm, text, *ranks):
    for rank in ranks or tuple(farm.hosts):
        farm.hosts[rank].text = text


def terms(farm):
    return {host.node.quorum.hard.term for host in farm.hosts.values()}


def test_all_three_read_their_own_file_and_say_what_changed():
    farm = Farm()
    before = terms(farm)
    put(farm, NEW)
    reply = farm.reread(S)
    assert (reply.code, reply.text) == (0, "")
    assert reply.lines == (
        *(f"{host} ({rank.word}): 1 added, 1 removed, 1 changed" for rank, host in zip((P, S, T), HOSTS, strict=True)),
        *CHANGES,
    )
    for host in farm.hosts.values():
        assert 'REREAD: lmreread received from admin "ann" on elm' in host.logs
        assert [f"REREAD: {text}" for text in CHANGES] == [x for x in host.logs if x[8:] in CHANGES]
    farm.run(30)
    assert terms(farm) == before, "a reread moves no mastership"
    assert farm.master is farm.hosts[P]
    assert len(farm.in_force) == 1


@pytest.mark.parametrize("single", [True, False])
def test_holders_keep_what_they_hold_and_the_new_lines_decide(single):
    hostids = ("ID=1",) if single else ("ID=1", "ID=2", "ID=3")
    farm = Farm(text_of(*OLD_LINES, hostids=hostids))
    client = farm.client()
    held = [client.checkout("f1") for _ in range(3)] + [client.checkout("f2")]
    assert all(isinstance(seat, Granted) for seat in held)
    put(farm, text_of(*NEW_LINES, hostids=hostids))
    reply = farm.reread(P)
    assert any("3 are in use: nothing is granted until fewer than 1 are" in line for line in reply.lines)
    assert any("the 1 in use stay until they are given back" in line for line in reply.lines)
    assert client.checkout("f1").code == -4
    assert client.checkout("f2").code == -5, "a removed feature is unknown to new requests"
    assert isinstance(client.checkout("f3"), Granted)
    for seat in held[:2]:
        assert isinstance(client.checkin(seat.handle), CheckedIn)
    assert isinstance(client.checkout("f1"), Denied), "one is still out, and one is licensed"
    assert isinstance(client.checkin(held[2].handle), CheckedIn)
    assert isinstance(client.checkout("f1"), Granted)
    assert isinstance(client.checkin(held[3].handle), CheckedIn)


@pytest.mark.parametrize("failover", [False, True])
def test_another_pool_of_the_feature_does_not_double_it(failover):
    """Three of version 1.0 are out, and the new file has three of version 2.0: three are licensed, not six."""
    farm = Farm()
    client = farm.client()
    held = [client.checkout("f1") for _ in range(3)]
    put(farm, text_of(feature("f1", 3, "2.0")))
    assert farm.reread(P).code == 0
    if failover:
        farm.kill(P)
        farm.run(10, until=lambda: farm.master is not None)
        client.resume_at(farm)
    denied = client.checkout("f1", "2.0")
    assert (denied.code, denied.detail) == (-4, "3 of 3 in use, 3 of them by lines that are no longer in force")
    client.checkin(held[0].handle)
    assert isinstance(client.checkout("f1", "2.0"), Granted)
    assert client.checkout("f1", "2.0").code == -4
    for seat in held[1:]:
        client.checkin(seat.handle)
    assert [type(client.checkout("f1", "2.0")) for _ in range(3)] == [Granted, Granted, Denied]


def test_who_shares_takes_nothing_beside_what_is_left_over():
    """A licence of lines that are gone is held; a second checkout of who shares another (DUP_GROUP) needs none."""
    shared = feature("f1", 1, "2.0") + " DUP_GROUP=U sort=200"
    farm = Farm(text_of(feature("f1", 1, "1.0") + " sort=1", shared))
    client = farm.client()
    for version in ("1.0", "2.0"):
        assert isinstance(client.checkout("f1", version), Granted)
    put(farm, text_of(shared))
    assert farm.reread(P).code == 0
    assert isinstance(client.checkout("f1", "2.0"), Granted)


def test_a_later_pool_is_tried_where_leftovers_refuse_the_first():
    """Two of version 1.0 are out and gone from the file. Version 3.0 has room by itself, but not for the feature;
    of 2.0 the same user holds a licence that he shares (DUP_GROUP), which takes nothing more."""
    shared = feature("f1", 1, "2.0") + " DUP_GROUP=U sort=200"
    farm = Farm(text_of(feature("f1", 2, "1.0"), shared))
    client = farm.client()
    assert [client.checkout("f1", version).version for version in ("2.0", "1.0", "1.0")] == ["2.0", "1.0", "1.0"]
    put(farm, text_of(feature("f1", 1, "3.0"), shared))
    assert farm.reread(P).code == 0
    assert client.checkout("f1", "3.0").detail == "3 of 2 in use, 2 of them by lines that are no longer in force"
    taken = client.checkout("f1", "1.0")
    assert (taken.version, "2.0" in taken.line) == ("1.0", True)


@pytest.mark.parametrize("licensed", [1, 2])
def test_what_lingers_is_taken_over_beside_what_is_left_over(licensed):
    """A licence that lingers is its user's again at once, where that takes nothing more than is licensed."""
    lasting = feature("f1", 1, "2.0") + " LINGER=600"
    farm = Farm(text_of(feature("f1", 1, "1.0") + " sort=1", lasting))
    client = farm.client()
    assert isinstance(client.checkout("f1", "1.0"), Granted)
    client.checkin(client.checkout("f1", "2.0").handle)
    put(farm, text_of(lasting, *[feature("f1", 1, "3.0")] * (licensed - 1)))
    assert farm.reread(P).code == 0
    assert type(client.checkout("f1", "2.0")) is (Granted if licensed == 2 else Denied)


def test_the_same_file_is_no_change():
    farm = Farm()
    last = farm.hosts[P].node.quorum.ledger.last
    reply = farm.reread(P)
    assert reply.code == 0
    assert [line.split(": ")[1] for line in reply.lines] == ["no change"] * 3
    assert farm.hosts[P].node.quorum.ledger.last == last


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (text_of(feature("f1", 9), key=OTHER_KEY), -8, "1 of its lines are not what the publisher signed"),
        (OLD.replace(" 3 SIGN", " 9 SIGN"), -8, "1 of its lines are not what the publisher signed"),
        (text_of(feature("f1", 9), hostids=("ID=1", "ID=2", "ID=9")), -92, "tertiary id=9, not id=3"),
        (text_of(feature("f1", 9), hostids=("ID=1",)), -92, "it has 1 SERVER lines, and 3 run"),
        ("SERVER elm\n", -2, "no server starts with this file"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_taken_is_named_and_changes_nothing(text, code, words):
    farm = Farm()
    assert text != OLD
    put(farm, NEW, P, S)
    put(farm, text, T)
    reply = farm.reread(P)
    assert reply.code == code
    (line,) = [line for line in reply.lines if line.startswith("ash (tertiary): keeps what it has: ")]
    assert words in line
    assert farm.hosts[T].node.report().state == "follower"
    assert any("was not taken" in line for line in farm.hosts[T].logs)
    assert any("the licence lines in force are those of elm (primary), oak (secondary)" in x for x in reply.lines)
    put(farm, text, P)
    assert farm.reread(P, "one").code == code
    assert isinstance(farm.client().checkout("f3"), Granted), "the master serves on by what it has"


def test_what_takes_effect_at_the_next_start_only_is_said():
    farm = Farm()
    put(farm, text_of(feature("f1", 3), feature("f2", 2), words=" HEARTBEAT_INTERVAL=5 PRIMARY_IS_MASTER", port=2900))
    reply = farm.reread(P, "one")
    start = ": this takes effect at the next start of the server"
    assert reply.lines == (
        "elm (primary): no change",
        f"  HEARTBEAT_INTERVAL is 5 in the file and 1 here{start}",
        f"  PRIMARY_IS_MASTER is in the file now{start}",
        *(
            f"  the {rank.word} is 2900@{host} in the file and 2837@{host} here{start}"
            for rank, host in zip((P, S, T), HOSTS, strict=True)
        ),
    )
    assert farm.hosts[P].node.config.timeout_s == 3.0


def test_a_master_answers_when_the_change_is_on_two_servers_or_says_that_it_is_not():
    farm = Farm()
    put(farm, NEW)
    farm.kill(S)
    farm.kill(T)
    conn = farm.connect(P)
    farm.send(P, conn, AdminRequest(1, "reread", ("one",), "ann", "elm"))
    assert farm.said(P, conn) == []
    farm.run(6)
    (reply,) = farm.said(P, conn)
    assert reply.lines[0] == "elm (primary): 1 added, 1 removed, 1 changed; not yet on two servers"


def test_an_answer_stays_short_whatever_stands_in_the_file():
    farm = Farm()
    put(farm, text_of(*(feature(f"g{number}", 9) for number in range(300))))
    reply = farm.reread(P)
    assert reply.code == 0
    assert len(reply.lines) < 120
    assert max(map(len, reply.lines)) <= 400
    assert reply.lines[0] == "elm (primary): 300 added, 2 removed"
    assert reply.lines[-1] == "and 202 more"


def test_a_master_whose_own_file_is_another_says_so_when_it_begins_to_serve():
    farm = Farm()
    put(farm, NEW, S)
    farm.reread(S, "one")
    farm.kill(P)
    farm.run(10, until=lambda: farm.master is not None)
    assert any("lines in force are not those of this server's own file" in line for line in farm.hosts[S].logs)
    put(farm, NEW, T)
    assert farm.reread(T).code == -15, "the primary is not there"
    assert any("The license lines in force are others now" in line for line in farm.hosts[S].logs)


def test_only_an_administrator_on_a_servers_machine_may_ask():
    farm = Farm()
    reply = farm.reread(P, local=False)
    assert (reply.code, reply.lines) == (-119, HOSTS)
    assert farm.hosts[P].reading is None


def test_a_server_that_is_not_there_is_named():
    farm = Farm()
    put(farm, NEW)
    farm.kill(T)
    reply = farm.reread(S)
    assert reply.code == -15
    assert "ash (tertiary): was not reached; it keeps what it has" in reply.lines
    assert isinstance(farm.client().checkout("f3"), Granted)


def test_a_file_that_cannot_be_read_in_time_holds_up_nobody_else():
    farm = Farm(read=False)
    put(farm, NEW)
    conn = farm.connect(P)
    farm.send(P, conn, AdminRequest(7, "reread", ("all",), "ann", "elm"))
    farm.turns()
    farm.read(P)
    farm.read(S)
    client = farm.client()
    assert isinstance(client.checkout("f3"), Granted), "the file server of the third hangs, the triad serves"
    assert farm.said(P, conn) == []
    farm.run(11)
    (reply,) = farm.said(P, conn)
    assert (reply.seq, reply.code) == (7, -52)
    assert "ash (tertiary): did not answer; it keeps what it has" in reply.lines
    farm.read(T)  # it comes back: taken, though nobody waits
    farm.turns()
    assert farm.hosts[T].node.quorum.rights_digest in farm.in_force


def test_who_asks_while_the_file_is_read_gets_it_read_once_more():
    farm = Farm(read=False)
    first, second = farm.connect(P), farm.connect(P)
    farm.send(P, first, AdminRequest(1, "reread", ("one",), "ann", "elm"))
    farm.turns()
    put(farm, NEW)
    farm.send(P, second, AdminRequest(2, "reread", ("one",), "ann", "elm"))
    farm.hosts[P].text = OLD  # what the first reading had found before the file was replaced
    farm.read(P)
    assert "no change" in farm.said(P, first)[0].lines[0]
    assert farm.said(P, second) == []
    farm.hosts[P].text = NEW
    farm.read(P)
    assert "1 added" in farm.said(P, second)[0].lines[0]


# --- rolling changes and failovers in the middle of them ---------------------------------------------


@pytest.mark.parametrize("order", [(P, S, T), (S, P, T), (T, S, P), (S, T, P), (T, P, S), (P, T, S)])
@pytest.mark.parametrize("scope", ["one", "all"])
def test_a_rolling_change_works_in_any_order(order, scope):
    farm = Farm()
    before = terms(farm)
    client = farm.client()
    held = client.checkout("f2")
    for rank in order:
        put(farm, NEW, rank)
        reply = farm.reread(rank, scope)
        assert scope == "one" or reply.code == (0 if rank is order[2] else 1)
        farm.run(3)
    assert farm.reread(P).code == 0
    assert len(farm.in_force) == 1
    assert terms(farm) == before
    assert isinstance(client.checkout("f3"), Granted)
    assert isinstance(client.checkin(held.handle), CheckedIn)


@pytest.mark.parametrize(
    ("told", "feature_name", "granted"),
    [
        ((S,), "f2", 2),  # S read the new file, and serves by the old lines, which are in force
        ((T,), "f2", 2),
        ((S, T), "f3", 5),  # two show the new lines: they come into force with the new master
        ((P,), "f2", 2),  # P's new lines were in force; S and T agree on the old ones
        ((P, S), "f3", 5),
        ((P, S, T), "f3", 5),
    ],
)
def test_the_master_fails_in_the_middle_of_a_rolling_reread(told, feature_name, granted):
    farm = Farm()
    for rank in told:
        put(farm, NEW, rank)
        farm.reread(rank, "one")
    farm.run(5)
    farm.kill(P)
    farm.run(60, until=lambda: farm.master is not None)
    assert farm.master is farm.hosts[S]
    client = farm.client()
    others = {"f2": "f3", "f3": "f2"}[feature_name]
    assert client.checkout(others).code == -5
    for _ in range(granted):
        assert isinstance(client.checkout(feature_name), Granted)
    assert client.checkout(feature_name).code == -4
    put(farm, NEW)
    farm.reread(T)
    farm.run(5)
    assert isinstance(client.checkout("f3"), Denied if granted == 5 else Granted)
    assert len(farm.in_force) == 1


def test_the_hole_that_is_left_is_an_outage_that_one_command_ends():
    """P and T have read the new file, S has not: its lines are neither in force nor a majority's."""
    farm = Farm()
    for rank in (P, T):
        put(farm, NEW, rank)
        farm.reread(rank, "one")
    farm.run(5)
    farm.kill(P)
    farm.run(60)
    assert farm.master is None
    assert "signed lines are neither in force nor those of a majority" in farm.hosts[S].node.report().reason
    put(farm, NEW, S)
    farm.reread(T)
    farm.run(10, until=lambda: farm.master is not None)
    assert isinstance(farm.client().checkout("f3"), Granted)
