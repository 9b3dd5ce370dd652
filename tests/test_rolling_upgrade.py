"""Servers of two versions side by side: no order of an administrator costs a link, and what is not known is said.

The older server is one of today whose codec lacks the numbers of the requests that came later, and whose Hello
does not name them.
"""

from __future__ import annotations

from typing import Any

import pytest

from flexcore.codes import ErrorCode
from flexcore.errors import RemoteProtocolError
from flexcore.identity import Rank
from flexcore.override import override
from flexcore.wire.codec import MAX_FRAME_BYTES, MESSAGES, PEER_BODIES, TypeTable, encode
from flexcore.wire.messages import Hello, PeerFrame
from tests.reread_kit import OLD, Farm, Host, P, S, T

LATER = {58, 59, 90, 91}
OLDER = TypeTable(
    "message", MESSAGES, {number: cls for number, cls in PEER_BODIES.items() if number not in LATER},
    max_bytes=MAX_FRAME_BYTES,
)  # fmt: skip


class MixedFarm(Farm):
    """A triad in which *older* runs the version before; *silent*: its Hello does not name what it knows."""

    def __init__(self, older: Rank | None, *, silent: bool = True) -> None:
        self.older, self.silent = older, silent
        super().__init__(OLD, reporting=True)

    @override
    def deliver(self, host: Host, conn: int, message: Any) -> None:
        if host.rank is self.older:
            try:
                message = OLDER.decode(encode(message))
            except RemoteProtocolError as error:  # what LicenseServer.receive_data does
                host.node.refuse(conn, ErrorCode.BAD_DATA_FROM_SERVER, str(error))
                return
        elif type(message) is PeerFrame and type(message.body) is Hello and self.silent:
            if message.sender.rank == self.older:
                message = message._replace(body=message.body._replace(knows=(), software="0.0.9"))
        super().deliver(host, conn, message)

    def lost(self) -> list[str]:
        return [text for host in self.hosts.values() for text in host.logs if "Lost connection" in text]


@pytest.mark.parametrize("asked", [P, S])
def test_logs_are_switched_where_that_is_known(asked):
    farm = MixedFarm(T)
    reply = farm.order(asked, "newlog", "all", "demo", "old.log")
    assert reply.code == ErrorCode.REQUEST_NOT_SUPPORTED
    assert reply.lines == (
        "elm (primary): it goes on (old.log)", "oak (secondary): it goes on (old.log)",
        "ash (tertiary): runs flexcore 0.0.9, which does not know this order: upgrade it first",
    )  # fmt: skip
    farm.run(5.0)
    assert farm.lost() == []


def test_the_schedule_a_server_that_is_sent_what_it_does_not_know_ends_the_link():
    farm = MixedFarm(T, silent=False)
    reply = farm.order(P, "newlog", "all", "demo", "old.log", wait_s=11.0)
    assert reply.lines[2] == "ash (tertiary): did not answer"
    assert farm.lost() != []


def test_lmremove_is_not_passed_on_to_a_master_that_does_not_know_it():
    farm = MixedFarm(P)
    master = farm.master
    assert master is not None
    assert master.rank is P
    client = farm.client()
    client.checkout()
    words = ("user", "f1", "ann", "elm", ":0")
    reply = farm.order(S, "remove", *words)
    assert reply.code == ErrorCode.REQUEST_NOT_SUPPORTED
    assert reply.lines[0].startswith("the master runs flexcore 0.0.9, which takes no lmremove from another server")
    farm.run(5.0)
    assert farm.lost() == []
    assert farm.reread(S).code == 0, "what the first version knew is passed on"


def test_a_server_that_was_upgraded_is_asked_from_then_on():
    farm = MixedFarm(T)
    assert farm.order(S, "newlog", "all", "demo", "one.log").code != 0
    farm.kill(T)
    farm.older = None
    farm.hosts[T] = Host(farm, T, OLD)
    farm.run(until=lambda: farm.hosts[T].node.quorum.hard.member)
    reply = farm.order(S, "newlog", "all", "demo", "two.log")
    assert (reply.code, reply.lines[2]) == (0, "ash (tertiary): it goes on (two.log)")
