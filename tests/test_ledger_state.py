"""What entries do, what undoing them does, and which of them make no sense."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexcore.ledger import Ledger, LedgerCorrupt, LedgerState
from flexcore.ledger.commands import (
    Command,
    Formed,
    RequestWithdrawn,
    Rights,
    SeatGranted,
    SeatReturned,
    SessionEnded,
    TermStarted,
)
from flexcore.timing import stretched_s
from flexcore.wire.codec import encode_command
from tests.budget import examples
from tests.ledger_logs import LEASE_S, opened, sensible_command, session_id

A, B = session_id(1), session_id(2)
POOL = "f1|1.0"


def grant(
    request: int, handle: int, count: int = 1, answered: int = 0, session: bytes = A
) -> SeatGranted:
    return SeatGranted(session, request, answered, handle, "f1", POOL, "1.0", count)


class Log:
    """A ledger that one writes by saying commands."""

    def __init__(self, *commands: Command) -> None:
        self.ledger = Ledger()
        self.state = self.ledger.state
        for command in commands:
            self.add(command)

    def add(self, command: Command, stamp: float | None = None) -> int:
        at = self.ledger.last_stamp if stamp is None else stamp
        return self.ledger.append(1, at, encode_command(command))

    def refuses(self, command: Command, match: str, stamp: float | None = None) -> None:
        before = self.ledger.fingerprint()
        with pytest.raises(LedgerCorrupt, match=match):
            self.add(command, stamp)
        assert self.ledger.fingerprint() == before


# --- rule 18 ----------------------------------------------------------------------------


def test_a_seat_starts_at_its_stamp() -> None:
    log = Log(opened(1))
    index = log.add(grant(1, 5, 3), stamp=1234.5)
    seat = log.state.seats[5]
    assert (seat.started, seat.entry, seat.seats, seat.feature, seat.pool) == (
        1234.5,
        index,
        3,
        "f1",
        POOL,
    )
    assert log.state.in_use[POOL] == 3
    assert log.state.next_handle == 6
    assert log.state.seats_of(A) == (seat,)


def test_terms_triad_and_rights() -> None:
    log = Log(
        Formed(b"triad", 1, b"members"), TermStarted(1, 79.0, 109.0), Rights(b"one"), TermStarted(0, 3.0, 33.0)
    )  # fmt: skip
    state = log.state
    assert (state.triad_id, state.membership_digest, state.formed_index) == (
        b"triad",
        b"members",
        1,
    )
    assert (state.term, state.term_rank, state.term_index, state.term_timeout_s) == (1, 0, 4, 3.0)
    assert state.longest_timeout_s == 79.0
    assert (state.rights, state.rights_index) == (b"one", 3)
    log.ledger.truncate(2)
    assert (state.triad_id, state.term, state.rights, state.longest_timeout_s) == (
        b"triad",
        0,
        b"",
        0.0,
    )


@settings(max_examples=examples(60))
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_replicas_are_equal(rng: random.Random, length: int) -> None:
    """One log, applied in one go or with a wrong tail taken back at every step: equal to the
    byte."""
    straight, crooked = Ledger(), Ledger()
    for _ in range(length):
        for _ in range(rng.randrange(3)):
            wrong = sensible_command(crooked.state, rng.randrange)
            crooked.append(
                crooked.last.term, crooked.last_stamp + rng.random(), encode_command(wrong)
            )
        crooked.truncate(straight.last.index + 1)
        command = encode_command(sensible_command(straight.state, rng.randrange))
        stamp = straight.last_stamp + rng.choice([0.0, 1.0, 7.0])
        for ledger in (straight, crooked):
            ledger.append(1, stamp, command)
        commit = rng.randint(0, straight.last.index)
        for ledger in (straight, crooked):
            ledger.commit_to(commit)
        assert straight.fingerprint() == crooked.fingerprint()
    assert straight.make_snapshot() == crooked.make_snapshot()


@settings(max_examples=examples(60))
@given(st.randoms(use_true_random=False), st.integers(0, 30))
def test_apply_then_revert_is_identity(rng: random.Random, length: int) -> None:
    state = LedgerState()
    undos = []
    marks = [(state.fingerprint(), state.pending())]
    for index in range(1, length + 1):
        command = sensible_command(state, rng.randrange)
        undos.append(state.apply(index, 1, state.stamp + rng.choice([0.0, 3.0]), command))
        marks.append((state.fingerprint(), state.pending()))
    while undos:
        assert (state.fingerprint(), state.pending()) == marks.pop()
        state.revert(undos.pop())
    assert (state.fingerprint(), state.pending()) == marks.pop()
    assert not state.pools
    assert not state.in_use


# --- rule 17 ----------------------------------------------------------------------------


def test_a_retry_finds_its_result() -> None:
    log = Log(opened(1))
    index = log.add(grant(1, 7), stamp=5.0)
    outcome = log.state.result_of(A, 1)
    assert outcome == (index, 5.0, grant(1, 7))
    given_back = log.add(SeatReturned(A, 2, 0, 7, ""))
    assert log.state.result_of(A, 1) == outcome  # until the client says that it knows
    assert log.state.result_of(A, 2) == (given_back, 5.0, SeatReturned(A, 2, 0, 7, ""))
    log.add(grant(3, 8, answered=2))
    assert log.state.result_of(A, 1) is log.state.result_of(A, 2) is None
    assert log.state.result_of(A, 3) is not None
    assert log.state.result_of(B, 3) is None


def test_results_survive_a_snapshot() -> None:
    log = Log(opened(1), grant(1, 7), RequestWithdrawn(A, 2, 0, 1), grant(4, 8, answered=1))
    log.ledger.commit_to(4)
    state = Ledger(log.ledger.make_snapshot()).state
    assert state.result_of(A, 4) == log.state.result_of(A, 4)
    assert state.result_of(A, 2) == log.state.result_of(A, 2)
    assert state.sessions[A].answered == 1
    assert state.sessions[A] == log.state.sessions[A]


def test_withdrawn() -> None:
    """A withdrawn request frees what it was granted, and is never granted later."""
    log = Log(opened(1), grant(1, 7, 2))
    log.add(RequestWithdrawn(A, 2, 0, 1))
    assert not log.state.seats
    assert log.state.result_of(A, 1) is None
    assert log.state.sessions[A].is_over(1)
    log.refuses(grant(1, 8), "decides request 1")
    log.add(RequestWithdrawn(A, 4, 0, 3))  # it overtook request 3
    log.refuses(grant(3, 8), "decides request 3")
    assert log.state.sessions[A].outstanding == 4
    log.add(grant(5, 8, answered=4))
    assert log.state.sessions[A].outstanding == 1
    log.refuses(grant(3, 9), "decides request 3")


def test_a_withdrawn_return_stays_returned() -> None:
    log = Log(opened(1), grant(1, 7), SeatReturned(A, 2, 1, 7, ""), RequestWithdrawn(A, 3, 1, 2))
    assert not log.state.seats
    assert log.state.result_of(A, 2) is not None
    log.ledger.truncate(4)
    assert log.state.result_of(A, 2) is not None
    assert not log.state.sessions[A].withdrawn


def test_nonsense_is_refused() -> None:
    """An entry that contradicts the log stops the server and changes nothing."""
    log = Log(opened(1), grant(2, 7, answered=1))
    log.refuses(grant(3, 8, session=B), "which is not open")
    log.refuses(grant(3, 7), "grants handle 7")
    log.refuses(grant(3, 6), "the next handle is 8")
    log.refuses(grant(3, 8, count=0), "0 seats")
    log.refuses(grant(2, 8), "decides request 2 .* again")
    log.refuses(grant(1, 8), "decides request 1 .* again")
    log.refuses(grant(3, 8, answered=3), "decides request 3 .* again")
    log.refuses(SeatReturned(A, 3, 0, 9, ""), "does not hold")
    log.refuses(SeatReturned(A, 2, 0, 7, ""), "decides request 2 .* again")
    log.refuses(RequestWithdrawn(A, 1, 0, 9), "decides request 1 .* again")
    log.refuses(opened(1), "a second time")
    log.refuses(SessionEnded(B, ""), "which is not open")
    log.add(opened(2))
    log.refuses(SeatReturned(B, 1, 0, 7, ""), "does not hold")


def test_the_log_itself_makes_sense() -> None:
    log = Log()
    ledger = log.ledger
    ledger.append(3, 10.0, encode_command(Rights(b"")))
    for term, stamp in ((2, 10.0), (3, 9.0), (3, float("nan"))):
        with pytest.raises(LedgerCorrupt, match="comes after"):
            ledger.append(term, stamp, encode_command(Rights(b"")))
    with pytest.raises(LedgerCorrupt, match="damaged or of a newer version"):
        ledger.append(3, 10.0, b"\xff\xff")
    assert ledger.last.index == 1


def test_a_session_is_never_reused() -> None:
    """... while a duplicate of its opening could still be about: two of its leases, by the log's
    stamps."""
    log = Log(opened(1))
    log.add(SessionEnded(A, "goodbye"), stamp=100.0)
    assert log.state.was_ended(A)
    assert not log.state.was_ended(B)
    until = 100.0 + 2 * stretched_s(LEASE_S)
    log.refuses(opened(1), "has ended", stamp=until)
    log.add(Rights(b""), stamp=until)
    assert log.state.was_ended(A)
    log.add(Rights(b""), stamp=until + 0.001)
    assert not log.state.was_ended(A)
    log.add(opened(1))
    assert not log.state.ended
    log.ledger.truncate(3)
    assert log.state.was_ended(A)


def test_ended_sessions_are_forgotten_in_time() -> None:
    """The memory is as long as its time, not as the log; and when it was swept shows nowhere."""
    swept, never = Log(), Log()
    most = 0
    for number in range(600):
        for log in (swept, never):
            log.add(opened(number), stamp=float(number))
            log.add(SessionEnded(session_id(number), "goodbye"))
        swept.ledger.commit_to(swept.ledger.last.index)
        most = max(most, len(swept.state.ended))
        for log in (swept, never):
            oldest = number - int(2 * stretched_s(LEASE_S))
            assert all(log.state.was_ended(session_id(n)) for n in range(max(oldest, 0), number))
            assert not any(log.state.was_ended(session_id(n)) for n in range(max(oldest, 0)))
    assert most < 200
    assert len(never.state.ended) == 600
    assert swept.state.fingerprint() == never.state.fingerprint()


def test_the_end_of_a_session_frees_everything() -> None:
    log = Log(opened(1), opened(2), grant(1, 1), grant(2, 2, 3), grant(1, 3, session=B))
    log.add(SessionEnded(A, "lease"))
    assert list(log.state.seats) == [3]
    assert log.state.in_use == {POOL: 1}
    assert log.state.seats_of(A) == ()
    log.ledger.truncate(6)
    assert [seat.handle for seat in log.state.seats_page(POOL)] == [1, 2, 3]
    assert log.state.result_of(A, 2) is not None


def test_a_secret_is_not_printed() -> None:
    log = Log(opened(1))
    assert "secret" not in repr(log.state.sessions[A])


# --- rule 14 ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "freeing",
    [
        SeatReturned(A, 2, 0, 1, ""),
        SeatReturned(A, 0, 0, 1, "removed"),
        SessionEnded(A, ""),
        RequestWithdrawn(A, 2, 0, 1),
    ],
    ids=["returned", "taken", "ended", "withdrawn"],
)
def test_a_freed_seat_is_free_at_commit(freeing: Command) -> None:
    """From append it is not held any more; from commit it may be given again. Overruled, it is held
    as before."""
    log = Log(opened(1), grant(1, 1, 3))
    log.ledger.commit_to(2)
    assert log.state.available(POOL, 10) == 7
    index = log.add(freeing)
    assert not log.state.seats
    assert log.state.in_use[POOL] == 0
    assert log.state.freed_uncommitted(POOL) == 3
    assert log.state.available(POOL, 10) == 7
    log.ledger.commit_to(index - 1)
    assert log.state.available(POOL, 10) == 7

    overruled = log.ledger.copy()
    overruled.truncate(index)
    assert overruled.state.in_use[POOL] == 3
    assert overruled.state.freed_uncommitted(POOL) == 0
    assert overruled.state.available(POOL, 10) == 7

    log.ledger.commit_to(index)
    assert log.state.freed_uncommitted(POOL) == 0
    assert log.state.available(POOL, 10) == 10
    assert log.state.pending() == ()


def test_a_snapshot_leaves_what_is_pending() -> None:
    log = Log(opened(1), grant(1, 1), grant(2, 2))
    log.ledger.commit_to(2)
    log.add(SeatReturned(A, 3, 0, 1, ""))
    snapshot = log.ledger.make_snapshot()
    assert log.state.freed_uncommitted(POOL) == 1
    assert list(Ledger(snapshot).state.seats) == [1]
    log.ledger.truncate(3)
    assert log.state.available(POOL, 10) == 9


# --- pages ------------------------------------------------------------------------------


def pages(state: LedgerState, limit: int) -> list[int]:
    found: list[int] = []
    while page := state.seats_page(POOL, found[-1] if found else 0, limit):
        assert len(page) <= limit
        found += [seat.handle for seat in page]
    return found


@settings(max_examples=examples(30))
@given(st.randoms(use_true_random=False), st.integers(1, 50))
def test_pages(rng: random.Random, limit: int) -> None:
    """In the order of handles, each once, whatever came back, went, and was overruled."""
    log = Log(opened(1))
    request = 0
    for _ in range(6):
        for _ in range(rng.randrange(200)):
            request += 1
            log.add(grant(request, log.state.next_handle, answered=request - 1))
        log.ledger.commit_to(rng.randint(0, log.ledger.last.index))
        held = sorted(log.state.seats)
        for handle in rng.sample(held, rng.randint(0, len(held))):
            log.add(SeatReturned(A, 0, 0, handle, "removed"))
        assert pages(log.state, limit) == sorted(log.state.seats)
        assert log.state.seat_count(POOL) == len(log.state.seats)
        start = max(rng.randint(log.ledger.commit, log.ledger.last.index), 1) + 1
        log.ledger.truncate(start)
        assert pages(log.state, limit) == sorted(log.state.seats)


def test_a_cursor_need_not_be_held_any_more() -> None:
    log = Log(opened(1), *[grant(n, n) for n in range(1, 8)])
    log.add(SeatReturned(A, 0, 0, 4, ""))
    assert [seat.handle for seat in log.state.seats_page(POOL, 4, 2)] == [5, 6]
    assert log.state.seats_page("none") == ()
    assert log.state.seat_count("none") == 0


def test_asking_for_a_pool_does_not_make_it() -> None:
    log = Log(opened(1))
    before = log.state.fingerprint()
    assert log.state.in_use["none"] == log.state.freed_uncommitted("none") == 0
    assert log.state.available("none", 4) == 4
    assert not log.state.in_use
    assert log.state.fingerprint() == before


def test_undo_records_do_not_change() -> None:
    """Two ledgers share them after a copy: what one does with a session must not show in the
    other."""
    log = Log(opened(1), grant(1, 1), SessionEnded(A, ""))
    twin = log.ledger.copy()
    log.ledger.truncate(3)
    log.add(grant(2, 2))
    twin.truncate(3)
    assert list(twin.state.sessions[A].results) == [1]
    assert list(twin.state.seats) == [1]
