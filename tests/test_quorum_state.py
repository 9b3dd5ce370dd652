"""What a quorum machine stores and how it starts from it; the single server; twins and fingerprints."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from flexcore.identity import Boot, Endpoint, Last
from flexcore.ledger import Ledger, LedgerCorrupt
from flexcore.quorum import (
    HardState,
    PeerFrameReceived,
    PersistBatch,
    QuorumMachine,
    StateError,
    StopRequested,
    StoredState,
)
from flexcore.quorum.base import MAX_GATED_FRAMES
from flexcore.quorum.config import SPENT, STATE_VERSION
from flexcore.wire.messages import Append, AppendReply, Beat, Seen
from flexcore_testing.disk import Disk
from tests.quorum_kit import TO, WALL, Alone, P, S, T, config, formed, row, session, settled_state

END = Last(1, 6)
FULL = HardState(
    triad_id=b"t" * 16,
    pending_triad=b"p" * 16,
    member=True,
    counter=7,
    term=9,
    voted_for=SPENT,
    promised_to=Endpoint(1, Boot(3, b"b" * 16)),
    promised_at="p:27000",
    promise_len_s=79.0,
    no_promise_s=12.5,
    no_promise_term=9,
    peer_seen={0: Seen(Boot(2, b"x" * 16), Last(9, 40)), 2: Seen(Boot(5, b"y" * 16), Last(8, 31))},
    hostids=("17003456", "17004355", "17007ea8"),
)


# --- the blob --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [HardState(), FULL])
def test_the_durable_state_survives_encoding(hard: HardState) -> None:
    assert HardState.decode(hard.encode()) == hard


def test_equal_states_have_equal_bytes() -> None:
    other = attrs.evolve(FULL, peer_seen=dict(reversed(FULL.peer_seen.items())))
    assert other.encode() == FULL.encode()


def test_a_newer_version_is_refused_in_words() -> None:
    data = json.loads(FULL.encode())
    data["version"] = STATE_VERSION + 1
    with pytest.raises(StateError, match="newer version"):
        HardState.decode(json.dumps(data).encode())


@pytest.mark.parametrize("blob", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"version": 1}', b"7"])
def test_what_was_not_written_by_us_is_refused(blob: bytes) -> None:
    with pytest.raises(StateError):
        HardState.decode(blob)


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(HardState)])
def test_every_part_of_the_state_is_needed(name: str) -> None:
    data = json.loads(FULL.encode())
    del data[name]
    with pytest.raises(StateError):
        HardState.decode(json.dumps(data).encode())


def test_a_log_beyond_the_stored_term_is_refused() -> None:
    stored = settled_state(S, term=0)
    with pytest.raises(StateError, match="term"):
        Alone(S, stored)


def test_a_stored_log_that_makes_no_sense_is_refused() -> None:
    stored = attrs.evolve(settled_state(S), entries=(row(1, session(1)), row(1, session(1))))
    with pytest.raises(LedgerCorrupt):
        Alone(S, stored)


# --- the order of a batch --------------------------------------------------------------------------------------------


def test_what_is_stored_is_what_is_held() -> None:
    """Truncation, new rows, a snapshot, a replaced log: after each batch the disk has what the machine has."""
    alone = Alone(T, settled_state(T))
    disk = Disk()
    first = settled_state(T)
    disk.write(PersistBatch(hard=first.hard, entries=tuple(enumerate(first.entries, 1))))
    done = 0

    def same() -> None:
        nonlocal done
        for batch in alone.batches[done:]:
            disk.write(batch)
        done = len(alone.batches)
        ledger = alone.machine.ledger
        assert tuple(disk.rows) == ledger.rows(ledger.base.index + 1, 1 << 30)
        assert disk.first == ledger.base.index + 1
        assert disk.hard is not None
        assert HardState.decode(disk.hard).term == alone.machine.hard.term

    same()
    alone.connect(P, S, last=END)
    alone.append(P, term=6, prev=END, rows=tuple(row(6, session(number)) for number in range(4)))
    same()
    alone.append(S, term=7, prev=Last(6, 8), rows=(row(7, session(50)),), commit=8)
    same()
    alone.machine.snapshot = alone.machine.ledger.make_snapshot()
    alone.machine.ledger.compact(8)
    alone.machine._dirty_snapshot = True
    alone.turn()
    same()
    alone.machine._replace_log(Ledger(), None)
    alone.turn()
    same()
    alone.append(S, term=7, round=2, rows=(row(7, session(60)), row(7, session(61))))
    same()


def test_frames_that_wait_for_the_disk_are_bounded() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, last=END)
    alone.disk_waits = True
    alone.append(P, term=6, prev=END)
    for number in range(MAX_GATED_FRAMES + 10):
        alone.machine._post(alone.ins[P], alone.end(P), Beat(number), gate=1 << 40)
    assert len(alone.machine._gated) == MAX_GATED_FRAMES


def test_frames_wait_for_the_ticket_that_is_about_them() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, last=END)
    alone.append(P, term=6, prev=END)
    alone.take(P, AppendReply)
    alone.disk_waits = True
    alone.append(P, term=6, round=2, prev=END, rows=(row(6, session(7)),))
    alone.append(P, term=6, round=3, prev=Last(6, 7), rows=(row(6, session(8)),))
    alone.write()
    assert [reply.match for reply in alone.take(P, AppendReply)] == [7]
    alone.write()
    assert [reply.match for reply in alone.take(P, AppendReply)] == [8]


# --- a single server -------------------------------------------------------------------------------------------------


def single(stored: StoredState | None = None, *, disk_waits: bool = False) -> Alone:
    return Alone(P, stored, disk_waits=disk_waits, triad=False)


def test_a_single_server_serves_when_its_first_entries_are_durable() -> None:
    alone = single(disk_waits=True)
    assert not alone.machine.may_serve(alone.now)
    alone.write()
    assert alone.machine.may_serve(alone.now)
    assert alone.machine.may_answer(alone.now)
    assert alone.machine.hard.member
    assert not alone.dials


def test_a_single_server_goes_on_in_a_new_term() -> None:
    alone = single()
    index = alone.machine.propose(session(1), now=alone.now, wall=alone.wall)
    alone.turn()
    assert alone.machine.ledger.commit == index
    disk = Disk()
    for batch in alone.batches:
        disk.write(batch)
    again = single(disk.load())
    assert again.machine.may_serve(again.now)
    assert again.machine.hard.term == alone.machine.hard.term + 1
    assert again.machine.boot.counter == alone.machine.boot.counter + 1
    assert again.machine.hard.triad_id == alone.machine.hard.triad_id
    assert len(again.machine.ledger.state.sessions) == 1


def test_a_single_servers_rounds_confirm_themselves() -> None:
    alone = single()
    assert alone.machine.request_round(alone.now) <= alone.machine.confirmed_round


def test_a_single_server_has_no_lease_to_lose() -> None:
    alone = single()
    alone.run(100_000.0)
    assert alone.machine.may_serve(alone.now)


def test_a_single_server_stops_in_order() -> None:
    for scope in ("one", "all"):
        alone = single()
        alone.event(StopRequested(scope=scope, requested_by="admin"))
        alone.run(3.0)
        assert alone.halt is not None
        assert alone.halt.exit_code == 0


def test_a_single_servers_disk_counts() -> None:
    alone = single()
    alone.disk_waits = True
    alone.machine.propose(session(1), now=alone.now, wall=alone.wall)
    alone.turn()
    alone.run(TO + 11.0)
    assert alone.halt is not None
    assert alone.halt.exit_code == 1


# --- twins and fingerprints ------------------------------------------------------------------------------------------


def follow(machine: QuorumMachine, peer: Alone, now: float) -> list[Any]:
    """The same events for any machine, and what it makes of them."""
    body = Append(1, END, (row(6, session(7)),), 0, 0, WALL, 0, False)
    frame = peer.frame(P, body, 6)
    machine.receive_event(PeerFrameReceived(link=peer.ins[P], frame=frame), now=now, wall=now + WALL)
    machine.end_turn(now=now, wall=now + WALL)
    actions = []
    while (action := machine.next_action()) is not None:
        actions.append(action)
    return actions


def test_a_twin_behaves_alike_and_shares_nothing() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    twin = alone.machine.copy()
    before = alone.machine.fingerprint(alone.now)
    assert twin.fingerprint(alone.now) == before
    done = follow(twin, alone, alone.now)
    assert done
    assert alone.machine.fingerprint(alone.now) == before
    assert twin.fingerprint(alone.now) != before
    assert follow(alone.machine, alone, alone.now) == done
    assert alone.machine.fingerprint(alone.now) == twin.fingerprint(alone.now)


def test_a_fingerprint_does_not_depend_on_the_clocks_zero() -> None:
    def life(start: float) -> tuple[object, ...]:
        alone = Alone(T, settled_state(T), now=start)
        alone.connect(P, S, last=END)
        alone.append(P, term=6, prev=END)
        alone.run(10.0)
        return alone.machine.fingerprint(alone.now)

    assert life(1000.0) == life(8.0)


def test_a_fingerprint_tells_what_makes_a_difference() -> None:
    alone = Alone(T, settled_state(T))
    alone.connect(P, S, last=END)
    seen = {alone.machine.fingerprint(alone.now)}
    alone.append(P, term=6, prev=END)
    seen.add(alone.machine.fingerprint(alone.now))
    alone.run(1.0)
    seen.add(alone.machine.fingerprint(alone.now))  # the promise is a second nearer to its end
    alone.append(P, term=6, round=2, prev=END, rows=(row(6, session(1)),))
    seen.add(alone.machine.fingerprint(alone.now))
    alone.lose(S)
    seen.add(alone.machine.fingerprint(alone.now))
    assert len(seen) == 5


def test_what_is_over_makes_no_difference() -> None:
    def with_promise_over(ago_s: float) -> object:
        alone = Alone(T, settled_state(T))
        alone.run(500.0)
        alone.machine.promise_until = alone.now - ago_s
        return alone.machine.fingerprint(alone.now)

    assert with_promise_over(1.0) == with_promise_over(400.0)
    assert with_promise_over(-1.0) != with_promise_over(1.0)


def test_two_triads_that_lived_alike_are_alike() -> None:
    def life() -> list[object]:
        triad = formed()
        triad.propose(P, session(1))
        triad.kill(P)
        triad.run(5.0)
        triad.start(P)
        triad.run(30.0)
        return [triad[rank].machine.fingerprint(triad.now) for rank in (P, S, T)]

    assert life() == life()


def test_timers_are_harmless_early_late_and_twice() -> None:
    triad = formed()
    fingerprint = triad[S].machine.fingerprint(triad.now)
    for _ in range(3):
        triad[S].machine.handle_timeout(now=triad.now, wall=triad.wall)
    assert triad[S].machine.fingerprint(triad.now) == fingerprint
    assert config(S).timeout_s == TO
