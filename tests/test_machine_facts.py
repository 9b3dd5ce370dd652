"""What a client says of its machine: sent with its session, kept in the ledger, asked at node-locked lines."""

from __future__ import annotations

from typing import Any

from flexcore.checkout.nodelock import HOSTIDS_MAX
from flexcore.wire.messages import Granted, OpenSession
from tests.client_fakes import FakeTriad, World
from tests.server_kit import Kit, line

MAC = "00146c37f273"


def opening(client: Any, **facts: Any) -> OpenSession:
    return OpenSession(
        client.next(), client.session, client.secret, "ann", "elm", ":0", "", 7, True, 0, **facts
    )


def test_a_node_locked_line_is_granted_to_the_machine_that_shows_its_hostid() -> None:
    kit = Kit(line(lock=MAC))
    ann, bob = kit.client("ann", opened=False), kit.client("bob")
    ann.ask(opening(ann, hostids=("00:14:6C:37:F2:73",), platform="x64_lsb"))
    assert isinstance(ann.checkout(), Granted)
    assert bob.checkout().code == -9
    assert kit.state.sessions[ann.session].platform == "x64_lsb"


def test_what_the_ledger_keeps_is_bounded() -> None:
    kit = Kit()
    ann = kit.client("ann", opened=False)
    ann.ask(opening(ann, hostids=("x" * 1000, *map(str, range(1000))), platform="p" * 1000))
    session = kit.state.sessions[ann.session]
    assert len(session.hostids) == HOSTIDS_MAX
    assert max(map(len, (*session.hostids, session.platform))) <= 128


def test_a_client_sends_what_it_was_told_of_its_machine() -> None:
    triad = FakeTriad("elm")
    world = World(triad, hostids=(MAC,), platform="x64_lsb")
    world.checkout()
    world.run(1)
    (said,) = [message for message in triad.servers[0].heard if isinstance(message, OpenSession)]
    assert (said.hostids, said.platform) == ((MAC,), "x64_lsb")
