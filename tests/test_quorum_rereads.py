"""protocol.md rule 19, rereads: the rights entry moves while a reign lasts, and nothing else does."""

from __future__ import annotations

import pytest

from flexcore.identity import Rank
from flexcore.ledger.commands import Rights
from flexcore.wire.codec import decode_command
from tests.quorum_kit import RIGHTS, TO, P, S, T, Triad, formed, session

NEW = b"n" * 32
NEWER = b"o" * 32


def reread(triad: Triad, rank: Rank, own: bytes = NEW, *known: bytes) -> int:
    server = triad[rank]
    index = server.machine.take_rights(own, (*known, RIGHTS, own), now=triad.now, wall=triad.wall)
    triad.end_turn(rank)
    return index


def in_force(triad: Triad) -> set[bytes]:
    return {server.machine.ledger.state.rights for server in triad.servers.values() if server.alive}


def rights_entries(triad: Triad, rank: Rank) -> list[bytes]:
    commands = [decode_command(payload) for payload in triad.commands(rank)]
    return [command.digest for command in commands if isinstance(command, Rights)]


@pytest.mark.parametrize("order", [(P, S, T), (S, P, T), (T, S, P)])
def test_the_entry_moves_with_the_masters_file_and_no_vote_does(order: tuple[Rank, ...]) -> None:
    triad = formed()
    before = [(s.machine.hard.term, s.machine.hard.promised_to, s.machine.hard.voted_for)
              for s in triad.servers.values()]  # fmt: skip
    for number, rank in enumerate(order):
        reread(triad, rank)
        assert in_force(triad) == {NEW if P in order[: number + 1] else RIGHTS}
        triad.run(25.0)
    assert triad.master is P
    assert rights_entries(triad, T) == [RIGHTS, NEW]
    after = [(s.machine.hard.term, s.machine.hard.promised_to, s.machine.hard.voted_for)
             for s in triad.servers.values()]  # fmt: skip
    assert after == before


def test_only_the_master_has_an_entry_to_wait_for() -> None:
    triad = formed()
    assert reread(triad, S) == 0
    index = reread(triad, P)
    assert index == triad[P].machine.ledger.last.index == triad[P].machine.ledger.commit


def test_the_others_hear_of_another_file_at_once() -> None:
    triad = formed()
    reread(triad, S)
    for rank in (P, T):
        assert any("secondary has other signed lines" in note for note in triad[rank].machine.report().notes)
    reread(triad, S, RIGHTS)
    assert not any("signed lines" in note for note in triad[P].machine.report().notes)


def test_who_read_another_file_serves_by_the_old_lines_if_they_are_in_force() -> None:
    triad = formed()
    reread(triad, S)
    triad.kill(P)
    triad.run(5.0)
    assert triad.master is S
    assert in_force(triad) == {RIGHTS}
    assert rights_entries(triad, S) == [RIGHTS], "no entry: nothing changed"
    reread(triad, T)
    assert in_force(triad) == {NEW}, "a majority shows the new lines by now"


def test_after_a_restart_the_old_lines_are_not_known_any_more() -> None:
    triad = formed()
    triad.changes[S]["rights_digest"] = NEW
    triad.kill(S)
    triad.start(S)
    triad.run(5.0)
    triad.kill(P)
    triad.run(2 * TO)
    assert triad.master is None


def test_new_lines_that_two_have_come_into_force_with_a_new_master() -> None:
    triad = formed()
    for rank in (S, T):
        reread(triad, rank)
    assert in_force(triad) == {RIGHTS}
    triad.kill(P)
    triad.run(5.0)
    assert triad.master is S
    assert in_force(triad) == {NEW}


def test_a_master_alone_with_new_lines_is_followed_by_the_two_that_agree() -> None:
    triad = formed()
    reread(triad, P)
    triad.propose(P, session(1))
    triad.kill(P)
    triad.run(5.0)
    assert triad.master is S
    assert in_force(triad) == {RIGHTS}
    assert triad[S].machine.ledger.state.sessions, "what was granted under the new lines stays"


def test_an_entry_that_was_not_committed_moves_nothing() -> None:
    """P reads the new file while it is cut off: its entry goes with its reign."""
    triad = formed()
    triad.cut_off(P)
    reread(triad, P)
    assert triad[P].machine.ledger.state.rights == NEW
    assert triad[P].machine.ledger.commit < triad[P].machine.ledger.last.index
    triad.run(2 * TO)
    assert triad.master is S
    triad.heal()
    triad.run(TO)
    assert in_force(triad) == {RIGHTS}


def test_a_master_that_hands_over_leaves_the_log_alone() -> None:
    triad = formed()
    triad.hold(S, P)  # the hand-over waits for S to catch up
    triad.propose(P, session(1))
    triad.stop(P)
    machine = triad[P].machine
    last = machine.ledger.last
    assert triad.master is P
    assert not machine.accepting
    reread(triad, P)
    assert machine.ledger.last == last
    triad.let_go(S, P)
    triad.run(5.0)
    assert triad.master is S
    assert in_force(triad) == {RIGHTS}


def test_a_master_reads_twice_before_the_first_is_committed() -> None:
    triad = formed()
    triad.cut_off(P)
    reread(triad, P)
    reread(triad, P, NEWER, NEW)
    triad.heal()
    triad.run(25.0)
    assert triad.master is P
    assert rights_entries(triad, T)[-2:] == [NEW, NEWER]
    assert in_force(triad) == {NEWER}
