"""Snapshots: the same for the same state, and refused when damaged."""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.errors import FlexcoreError
from flexcore.identity import Last
from flexcore.ledger import Ledger, LedgerCorrupt, Snapshot
from flexcore.ledger.commands import Command, SeatGranted, SeatReturned, SessionEnded
from flexcore.ledger.snapshot import snapshot_parts
from flexcore.wire.codec import encode_command
from tests.budget import examples
from tests.ledger_logs import opened, sensible_command, session_id


def some_ledger(rng: random.Random, length: int) -> Ledger:
    ledger = Ledger()
    for _ in range(length):
        command = sensible_command(ledger.state, rng.randrange)
        ledger.append(1, ledger.last_stamp + rng.choice([0.0, 1.0]), encode_command(command))
    ledger.commit_to(length)
    return ledger


@settings(max_examples=examples(60))
@given(st.randoms(use_true_random=False), st.integers(0, 60))
def test_a_snapshot_comes_back(rng: random.Random, length: int) -> None:
    ledger = some_ledger(rng, length)
    snapshot = ledger.make_snapshot()
    assert snapshot.last == ledger.last
    assert snapshot.stamp == ledger.last_stamp
    back = Ledger(snapshot)
    assert back.make_snapshot() == snapshot
    assert back.state.fingerprint() == ledger.state.fingerprint()
    assert back.state.seats == ledger.state.seats
    assert back.state.sessions == ledger.state.sessions
    assert back.state.in_use == ledger.state.in_use
    ledger.compact(length)
    assert back.fingerprint() == ledger.fingerprint()
    command = encode_command(sensible_command(ledger.state, rng.randrange))
    for each in (back, ledger):
        each.append(2, each.last_stamp + 1.0, command)
        each.commit_to(each.last.index)
    assert back.make_snapshot() == ledger.make_snapshot()


def test_equal_states_have_equal_bytes() -> None:
    """Dicts and sets were filled in another order: nothing of it shows."""
    a: list[Command] = [opened(1), opened(2)]
    one, other = Ledger(), Ledger()
    for ledger, first in ((one, a), (other, a[::-1])):
        for start in first:
            ledger.append(1, 0.0, encode_command(start))
    for request in (1, 2, 3):
        payload = encode_command(SeatGranted(session_id(1), request, 0, request, "f", "p", "1", 1))
        one.append(1, 0.0, payload)
        other.append(1, 0.0, payload)
    wrong: list[Command] = [
        SeatReturned(session_id(1), 0, 0, 1, ""),
        SessionEnded(session_id(1), ""),
    ]
    for command in wrong:
        other.append(1, 0.0, encode_command(command))
    other.truncate(6)
    one.commit_to(5)
    other.commit_to(5)
    # The sessions' opening entries differ in place; give both the same, as one log would.
    for ledger in (one, other):
        for session in ledger.state.sessions.values():
            session.opened_index = 1
    assert list(one.state.sessions) != list(other.state.sessions)
    assert list(one.state.seats) != list(other.state.seats)
    assert one.make_snapshot() == other.make_snapshot()


def test_it_can_be_made_in_parts() -> None:
    ledger = some_ledger(random.Random(1), 60)
    snapshot = ledger.make_snapshot()
    parts = list(snapshot_parts(ledger.state, ledger.last))
    body = b"".join(parts)
    assert snapshot.state == body + hashlib.sha256(body).digest()
    assert max(map(len, parts)) < 2000 < len(body)


def damaged(snapshot: Snapshot, body: bytes) -> Snapshot:
    """*body* under a digest that fits, as a bug (not a bad disk) would write it."""
    return snapshot._replace(state=body + hashlib.sha256(body).digest())


def test_damage_is_told() -> None:
    snapshot = some_ledger(random.Random(2), 60).make_snapshot()
    whole = snapshot.state
    for at in range(0, len(whole), 7):
        broken = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
        with pytest.raises(LedgerCorrupt, match="snapshot"):
            Ledger(snapshot._replace(state=broken))
    for cut in (b"", whole[:20], whole[:-1], whole + b"x"):
        with pytest.raises(LedgerCorrupt):
            Ledger(snapshot._replace(state=cut))
    with pytest.raises(LedgerCorrupt, match="stored as one of"):
        Ledger(snapshot._replace(last=Last(1, 7)))
    with pytest.raises(LedgerCorrupt, match="stored as one of"):
        Ledger(snapshot._replace(stamp=snapshot.stamp + 1))
    assert issubclass(LedgerCorrupt, FlexcoreError)


@pytest.mark.parametrize("version", [1, 3])
def test_another_version_is_refused(version: int) -> None:
    snapshot = some_ledger(random.Random(2), 10).make_snapshot()
    body = snapshot.state[:4] + struct.pack("<H", version) + snapshot.state[6:-32]
    with pytest.raises(LedgerCorrupt, match=f"version {version}; this program knows 2"):
        Ledger(damaged(snapshot, body))


@settings(max_examples=examples(200))
@given(st.data())
def test_nothing_but_corrupt_comes_of_wrong_bytes(data: st.DataObject) -> None:
    """Even where the digest fits: a ledger, or LedgerCorrupt."""
    snapshot = some_ledger(random.Random(data.draw(st.integers(0, 20))), 40).make_snapshot()
    body = bytearray(snapshot.state[:-32])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(6, len(body) - 1))
        if data.draw(st.booleans()):
            body[at] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del body[at : at + data.draw(st.integers(1, 9))]
    with contextlib.suppress(LedgerCorrupt):
        Ledger(damaged(snapshot, bytes(body)))


def test_install_of_damage_changes_nothing() -> None:
    ledger = some_ledger(random.Random(3), 30)
    snapshot = ledger.make_snapshot()
    before = ledger.fingerprint()
    with pytest.raises(LedgerCorrupt):
        ledger.install(snapshot._replace(state=snapshot.state[:-1]))
    with pytest.raises(LedgerCorrupt):
        ledger.install(snapshot, ledger.rows(1, 10_000))  # not the entries after it
    assert ledger.fingerprint() == before
