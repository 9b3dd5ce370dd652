"""What options about the server itself do: its count, its connections, its log, its midnights, its peers."""

from __future__ import annotations

from typing import Any

from flexcore.identity import Rank
from flexcore.options import options_digest, parse_options
from flexcore.server.actions import ReadLicense, UseDebugLog
from flexcore.server.midnights import DAY_S
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    ClientHello,
    Denied,
    Granted,
    Hello,
    Refusal,
    ServerHello,
)
from tests import server_kit
from tests.quorum_kit import P, S, T, formed
from tests.reread_kit import Farm, feature, text_of
from tests.server_kit import DAY, Client, Kit, line
from tests.test_options_checkout import Desk
from tests.test_options_server import give


def kit(text: str, *lines: Any) -> Kit:
    return Kit(*lines, options=parse_options(text, name="demo.opt"))


# --- MAX_OVERDRAFT ----------------------------------------------------------------------------------------------


def test_max_overdraft_leaves_fewer_and_the_refusal_names_it() -> None:
    pool = line(seats=5)._replace(overdraft=3)
    desk = Desk("MAX_OVERDRAFT f1 1\n", pool)
    assert desk.machine.offers(DAY)["f1"][0].seats == 3
    assert desk.out("ann", 3).count == 3
    assert desk.refused("bob") == (
        -4, "3 of 3 in use: ann@ann-pc (3); the licence allows more, demo.opt:1: MAX_OVERDRAFT f1 1 does not"
    )  # fmt: skip
    assert desk.refused("bob", 4)[0] == -26
    assert Desk("MAX_OVERDRAFT f1 1\n", line(seats=5)).machine.offers(DAY)["f1"][0].seats == 5
    assert Desk("MAX_OVERDRAFT f1 9\n", pool).machine.offers(DAY)["f1"][0].seats == 5
    other = Desk("MAX_OVERDRAFT f1:VERSION=9 0\n", pool)
    assert other.machine.offers(DAY)["f1"][0].seats == 5


def test_reserve_goes_on_in_the_next_pool_where_max_overdraft_ends() -> None:
    """Of three that are reserved two lie in the first pool, which has two without its overdraft, one in the second."""
    pools = line(seats=3, version="2.0")._replace(overdraft=1), line(seats=2)
    desk = Desk("MAX_OVERDRAFT f1 0\nRESERVE 3 f1 USER ann\n", *pools)
    assert desk.out("bob", 1).pool == "f1 1.0"
    assert desk.refused("bob")[0] == -101


# --- MAX_CONNECTIONS, and the number of the protocol ------------------------------------------------------------


def turned_away(host: Kit, name: str) -> Refusal:
    late = Client(host, name, opened=False)
    said = late.open()
    assert isinstance(said, Refusal)
    return said


def test_max_connections_counts_applications() -> None:
    host = kit("MAX_CONNECTIONS 2\n")
    ann, bob = host.client("ann"), host.client("bob")
    for _ in range(3):  # utilities and whoever only says hello are not counted
        assert isinstance(host.said(host.connect())[0], ServerHello)
    said = turned_away(host, "cem")
    assert said.code == -106
    assert said.text.endswith(": 2 are open, demo.opt:1: MAX_CONNECTIONS 2")
    assert isinstance(ann.checkout(), Granted)
    bob.goodbye()
    assert isinstance(host.client("cem").checkout(), Granted)


def test_after_a_failover_newcomers_do_not_stand_in_the_way_of_old_sessions() -> None:
    host = kit("MAX_CONNECTIONS 2\n", line("f1", seats=5))
    clients = [host.client("ann"), host.client("bob")]
    handles = [client.checkout().handle for client in clients]
    heir = Kit(line("f1", seats=5), options=parse_options("MAX_CONNECTIONS 2\n", name="demo.opt"), serving=False)
    host.quorum.ledger.commit_to(host.quorum.ledger.last.index)
    heir.quorum.ledger = host.quorum.ledger.copy()
    heir.quorum.start(2)
    heir.turn()
    assert turned_away(heir, "cem").code == -106
    for client, handle in zip(clients, handles, strict=True):
        again = Client(heir, client.name, opened=False)
        again.strict, again.request, again.answered = False, 1, 1
        assert [seat.handle for seat in again.resume().held] == [handle]


def test_a_client_of_another_protocol_is_turned_away() -> None:
    host = Kit()
    for number, code in ((PROTOCOL_VERSION + 1, -83), (0, -85)):
        conn = host.connect(hello=False)
        host.send(conn, ClientHello(number, "test", "sampled", 0))
        (said,) = host.said(conn)
        assert isinstance(said, Refusal)
        assert said.code == code
        assert f"version {PROTOCOL_VERSION} of the protocol, not {number}" in said.text


# --- the log ----------------------------------------------------------------------------------------------------


def test_nolog_leaves_kinds_of_lines_out() -> None:
    said = {}
    for kind in ("", "IN", "OUT", "DENIED", "UNSUPPORTED"):
        host = kit(f"NOLOG {kind}\n" if kind else "")
        ann = host.client("ann")
        seat = ann.checkout()
        assert isinstance(seat, Granted)
        assert isinstance(ann.checkout(count=9), Denied)
        assert isinstance(ann.checkout("nothing"), Denied)
        ann.checkin(seat.handle)
        said[kind] = [text.split(":")[0] for text in host.logs]
    assert said[""] == ["OUT", "DENIED", "UNSUPPORTED", "IN"]
    for kind in ("IN", "OUT", "DENIED", "UNSUPPORTED"):
        assert said[kind] == [each for each in said[""] if each != kind]


def test_debuglog_is_asked_for_at_the_start_and_when_it_changes() -> None:
    host = kit("DEBUGLOG +demo.log\n")
    assert UseDebugLog(daemon="sampled", path="demo.log", append=True) in host.rest
    farm = Farm(text_of(feature(), hostids=("ID=1",)))
    primary = farm.hosts[Rank.PRIMARY]
    asked: list[Any] = []
    real = primary.node.next_action

    def noted() -> Any:
        while isinstance(action := real(), UseDebugLog):
            asked.append((action.path, action.append))
        return action

    primary.node.next_action = noted  # type: ignore[method-assign]
    for text in ("DEBUGLOG a.log\n", "DEBUGLOG a.log\nMAX 1 f1 USER ann\n", "DEBUGLOG +a.log\n", ""):
        give(primary, text)
        farm.reread(Rank.PRIMARY)
    assert asked == [("a.log", False), ("a.log", True), ("", False)]


# --- AUTOMATIC_REREAD -------------------------------------------------------------------------------------------


def test_files_are_read_anew_at_midnight_where_it_says_on() -> None:
    for text, reads in (("AUTOMATIC_REREAD ON\n", 1), ("AUTOMATIC_REREAD OFF\n", 0), ("", 0)):
        host = kit(text)
        until_midnight = DAY_S - host.wall % DAY_S
        host.pass_time(until_midnight - 1.0)
        assert not any(isinstance(each, ReadLicense) for each in host.rest)
        host.pass_time(2.0)
        assert sum(isinstance(each, ReadLicense) for each in host.rest) == reads
    assert server_kit.WALL % DAY_S != 0


# --- peers ------------------------------------------------------------------------------------------------------


def test_a_digest_is_about_licences_and_nothing_else() -> None:
    one = parse_options("# words\nMAX 1 f1 USER ann\nDEBUGLOG /var/one.log\nNOLOG IN\n")
    other = parse_options("max  1  f1 user ann\nREPORTLOG +/var/two.rl\n")
    assert options_digest(one) == options_digest(other) != options_digest(None)
    assert options_digest(parse_options("# nothing\n")) == options_digest(None)
    assert options_digest(parse_options("MAX 2 f1 USER ann\n")) != options_digest(one)


def test_servers_whose_options_differ_are_told_so_on_both() -> None:
    triad = formed(options_digest=b"o" * 32)
    assert not any(triad[rank].said("options") for rank in (P, S, T))
    machine = triad[S].machine
    machine.take_options(b"x" * 32, now=machine.now, wall=machine.wall)
    triad.end_turn(S)
    triad.run(2.0)
    assert any("primary's options file differs" in text for text in triad[S].said("options"))
    for rank in (P, T):
        assert any("secondary's options file differs" in text for text in triad[rank].said("options"))
        assert "secondary has other options" in triad[rank].machine.report().notes
    machine.take_options(b"o" * 32, now=machine.now, wall=machine.wall)
    triad.end_turn(S)
    triad.run(2.0)
    assert not any("options" in note for rank in (P, S, T) for note in triad[rank].machine.report().notes)
    assert triad.master is P  # no option changes the redundancy


def test_an_options_reread_is_compared_by_all_three() -> None:
    farm = Farm(text_of(feature("f1", 3)))
    give(farm.hosts[S], "EXCLUDE f1 USER ann\n")
    farm.reread(Rank.PRIMARY)
    farm.run(2.0)
    for rank in (P, T):
        assert any("secondary has other options" in note for note in farm.hosts[rank].node.report().notes)
        assert any("secondary's options file differs" in text for text in farm.hosts[rank].logs)
    assert "primary has other options" in farm.hosts[S].node.report().notes


def test_a_peer_of_another_protocol_is_no_peer_and_both_say_so(monkeypatch: Any) -> None:
    triad = formed()
    number = PROTOCOL_VERSION + 1
    real = type(triad[T].machine)._hello

    def newer(machine: Any, to: Rank, **words: bytes) -> Hello:
        hello = real(machine, to, **words)
        return hello._replace(protocol=number) if machine.rank is T else hello

    monkeypatch.setattr(type(triad[T].machine), "_hello", newer)
    triad.break_links(P, T)
    triad.run(3.0)
    said = [text for text in triad[P].said("membership") if "protocol" in text]
    assert len(said) == 1
    assert said[0].startswith(f"tertiary speaks version {number} of the protocol")
    assert "tertiary is not of this triad" in triad[P].machine.report().notes
    assert triad.master is P


def test_counts_of_rules_survive_a_failover() -> None:
    farm = Farm(text_of(feature("f1", 9)))
    for rank in (P, S, T):
        give(farm.hosts[rank], "MAX 2 f1 USER ann\nRESERVE 6 f1 USER bob\n")
    farm.reread(P, "all")
    client = farm.client()
    assert isinstance(client.checkout("f1"), Granted)
    seat = client.checkout("f1")
    assert isinstance(seat, Granted)
    farm.kill(P)
    farm.run(until=lambda: farm.master is farm.hosts[S])
    client.resume_at(farm)
    refused = client.checkout("f1")
    assert isinstance(refused, Denied)
    assert (refused.code, refused.detail) == (-87, "demo.opt:1: MAX 2 f1 USER ann: 2 in use by ann@elm (2)")
    client.checkin(seat.handle)
    assert isinstance(client.checkout("f1"), Granted)
