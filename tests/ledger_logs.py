"""Logs that make sense, and what they mean, worked out stupidly: shared by the tests of the
ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flexcore.ledger import LedgerState
from flexcore.ledger.commands import (
    BorrowEnded,
    Command,
    Formed,
    LingerPassed,
    LingerResumed,
    RequestQueued,
    RequestUnqueued,
    RequestWithdrawn,
    Rights,
    SeatBorrowed,
    SeatGranted,
    SeatLingers,
    SeatRemoved,
    SeatReturned,
    SessionEnded,
    SessionOpened,
    Share,
    TermStarted,
)
from flexcore.timing import stretched_s

LEASE_S = 10.0
POOLS = ("f1|1.0", "f1|2.0", "f2|1.0")

Choose = Callable[[int], int]
"""choose(n): a number below n, from whoever drives the test."""


class Entry(NamedTuple):
    term: int
    stamp: float
    command: Command


def session_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def opened(number: int, lease_s: float = LEASE_S) -> SessionOpened:
    return SessionOpened(
        session_id(number), bytes(16), f"user{number}", "host", "display", "", number, lease_s, True
    )


def sensible_command(state: LedgerState, choose: Choose) -> Command:
    """Some command that a correct master may append to *state*."""
    kind = choose(22)
    sessions = sorted(state.sessions.keys() - state.borrows.keys())
    if kind == 20 and state.borrows:
        return BorrowEnded(sorted(state.borrows)[choose(len(state.borrows))], "over")
    if kind == 0:
        return TermStarted(choose(2), float(1 + choose(80)), LEASE_S)
    if kind == 1:
        return Rights(bytes([choose(4)]))
    if kind == 2:
        return Formed(bytes([choose(4)]), choose(2), b"members")
    if kind <= 4 or not sessions:
        number = choose(8)
        while session_id(number) in state.sessions or state.was_ended(session_id(number)):
            number += 1
        return opened(number)
    session = state.sessions[sessions[choose(len(sessions))]]
    if kind == 5:
        return SessionEnded(session.session, "goodbye")
    answered = session.answered + choose(3) if choose(2) else session.answered
    request = answered + 1 + choose(4)
    while session.is_over(request, answered) or {request} & {*session.results, *session.queued}:
        request += 1
    if kind == 12:
        return RequestQueued(session.session, request, answered, POOLS[choose(3)][:2], "", 1 + choose(3))
    waiting = sorted(session.queued)
    if kind == 13 and waiting:
        return RequestUnqueued(session.session, waiting[choose(len(waiting))], "no such feature")
    if 16 > kind >= 14 and waiting:
        request, answered = waiting[choose(len(waiting))], session.answered
        if kind == 15:
            number = max([session.answered, *session.results, *session.withdrawn, *waiting]) + 1
            return RequestWithdrawn(session.session, number, answered, request)
        kind = 9
    held = sorted(session.seats)
    lingering = [seat.handle for seat in state.lingering.all()]
    ended = lingering[choose(3):][:choose(3)]
    if kind == 16 and held:
        numbers = (request, answered) if choose(2) else (0, 0)
        total_s = 1.0 + choose(3)
        ends_s = state.linger_clock_s + total_s + choose(3) - 1 * (choose(3) == 0)
        return SeatLingers(session.session, *numbers, held[choose(len(held))], total_s,
                           max(ends_s, total_s))  # fmt: skip
    if kind == 17 and held:
        return SeatRemoved(session.session, held[choose(len(held))], -67, "REMOVED", "by root")
    if kind == 18:
        return LingerPassed(state.linger_clock_s + choose(3), tuple(ended))
    if kind == 19 and ended:
        pool = state.seats[ended[0]].pool
        return LingerResumed(
            session.session, request, answered, state.next_handle, pool[:2], pool, "1.0",
            1 + choose(3), sensible_shares(pool, choose), tuple(ended),
        )  # fmt: skip
    if kind == 6:
        return RequestWithdrawn(session.session, request, answered, max(1, request - choose(5)))
    if kind == 21 and held:
        borrow = session_id(1000 + state.index)
        return SeatBorrowed(session.session, request, answered, held[choose(len(held))], borrow,
                            bytes(16), 1e9 + choose(5), ("ether=1",))  # fmt: skip
    if kind <= 8 and held:
        taken = choose(4) == 0
        handle = held[choose(len(held))]
        numbers = (0, 0) if taken else (request, answered)
        return SeatReturned(session.session, *numbers, handle, "taken" if taken else "")
    pool = POOLS[choose(len(POOLS))]
    handle = state.next_handle + (choose(4) == 0)
    return SeatGranted(
        session.session, request, answered, handle, pool[:2], pool, "1.0", 1 + choose(3),
        sensible_shares(pool, choose),
    )  # fmt: skip


def sensible_shares(pool: str, choose: Choose) -> tuple[Share, ...]:
    """A plain seat, one that shares with a group, or one that also takes of a suite."""
    kind = choose(5)
    if kind <= 1:
        return ()
    own = Share(pool, ("", "ann", "bob")[choose(3)])
    suites = [other for other in POOLS if other != pool]
    return (
        (own, Share(suites[choose(len(suites))], ("", "ann")[choose(2)])) if kind == 4 else (own,)
    )


# --- the stupid twin --------------------------------------------------------------------------


class Meaning:
    """What a log means, from the words of protocol.md and nothing else: no undo, no index, no care
    for speed."""

    def __init__(self, log: list[Entry], commit: int) -> None:
        self.seats: dict[int, tuple[Any, ...]] = {}
        self.sessions: dict[bytes, dict[str, Any]] = {}
        self.ended: dict[bytes, float] = {}
        self.freed: dict[str, int] = {}
        self.next_handle = 1
        self.rights = self.triad_id = b""
        self.longest_timeout_s = 0.0
        self.term = 0
        self.now = self.linger_clock_s = 0.0
        self.owners: dict[bytes, SessionOpened] = {}
        for index, (term, stamp, command) in enumerate(log, 1):
            self.now = stamp
            before = {pool: self.used(pool) for pool in POOLS}
            self._carry_out(index, term, stamp, command)
            if index > commit:
                for pool in POOLS:
                    less = max(0, before[pool] - self.used(pool))
                    self.freed[pool] = self.freed.get(pool, 0) + less
        self.ended = {key: until for key, until in self.ended.items() if until >= self.now}

    def used(self, pool: str) -> int:
        """Seats out of *pool*: what shares a group counts once, by the largest."""
        most: dict[str, int] = {}
        alone = 0
        for seat in self.seats.values():
            for share in seat[8] or (Share(seat[3], ""),):
                if share.pool == pool:
                    if share.group:
                        most[share.group] = max(most.get(share.group, 0), seat[5])
                    else:
                        alone += seat[5]
        return alone + sum(most.values())

    def _carry_out(self, index: int, term: int, stamp: float, command: Command) -> None:
        match command:
            case TermStarted(timeout_s=timeout):
                self.term = term
                self.longest_timeout_s = max(self.longest_timeout_s, timeout)
            case Rights(digest=digest):
                self.rights = digest
            case Formed(triad_id=triad_id):
                self.triad_id = triad_id
            case SessionOpened(session=key, lease_s=lease):
                self.owners[key] = command
                self.ended.pop(key, None)
                self.sessions[key] = {
                    "answered": 0, "results": {}, "withdrawn": set(), "lease": lease, "opened": stamp,
                    "queued": {},
                }  # fmt: skip
            case SessionEnded(session=key):
                self.ended[key] = stamp + 2 * stretched_s(self.sessions.pop(key)["lease"])
                self.seats = {h: seat for h, seat in self.seats.items() if seat[0] != key}
            case SeatGranted() as grant:
                self.seats[grant.handle] = (
                    grant.session, grant.request, grant.feature, grant.pool, grant.version,
                    grant.count, stamp, index, grant.shares, None, None,
                )  # fmt: skip
                self.next_handle = max(self.next_handle, grant.handle + 1)
                if self.sessions[grant.session]["queued"].pop(grant.request, None) is None:
                    self._answer(grant, index)
            case SeatReturned() as given:
                del self.seats[given.handle]
                if given.request:
                    self._answer(given, index)
            case RequestWithdrawn() as gone:
                session = self.sessions[gone.session]
                was = session["results"].get(gone.target)
                if was is not None and isinstance(was[1], SeatGranted):
                    handle = was[1].handle
                    if handle in self.seats and self.seats[handle][0] == gone.session:
                        del self.seats[handle]  # lingering or lent, it is the session's no more
                    del session["results"][gone.target]
                elif session["queued"].pop(gone.target, None) is None:
                    mine = (gone.session, gone.target)
                    self.seats = {h: seat for h, seat in self.seats.items() if seat[:2] != mine}
                session["withdrawn"].add(gone.target)
                self._answer(gone, index)
            case SeatLingers() as left:
                was_held = self.seats[left.handle]
                who = self.owners[left.session]
                linger = (who.user, who.host, who.display, who.project, who.address, who.pid,
                          left.ends_s, left.total_s)  # fmt: skip
                self.seats[left.handle] = (b"", *was_held[1:9], None, linger)
                self.linger_clock_s = max(self.linger_clock_s, left.ends_s - left.total_s)
                if left.request:
                    self._answer(SeatReturned(*left[:4], ""), index)
            case LingerPassed(clock_s=clock_s, ended=ended):
                self.linger_clock_s = clock_s
                for handle in ended:
                    del self.seats[handle]
            case LingerResumed() as again:
                for handle in again.ended:
                    del self.seats[handle]
                self._carry_out(index, term, stamp, SeatGranted(*again[:9]))
            case SeatRemoved() as taken:
                was_held = self.seats[taken.handle]
                self.seats[taken.handle] = (*was_held[:9], taken[2:], None)
            case SeatBorrowed() as lent:
                seat = self.seats[lent.handle]
                self.seats[lent.handle] = (lent.borrow, 0, *seat[2:])
                self.sessions[lent.borrow] = {
                    "answered": 0, "results": {}, "withdrawn": set(), "opened": stamp, "queued": {},
                    "until": lent.until,
                }  # fmt: skip
                self._answer(lent, index)
            case BorrowEnded(borrow=key):
                del self.sessions[key]
                self.seats = {h: seat for h, seat in self.seats.items() if seat[0] != key}
            case RequestQueued() as queued:
                self.sessions[queued.session]["queued"][queued.request] = (index, queued, stamp)
                self._answer(queued, index)
            case RequestUnqueued() as refused:
                del self.sessions[refused.session]["queued"][refused.request]

    def _answer(
        self,
        command: SeatGranted | SeatReturned | RequestWithdrawn | RequestQueued | SeatBorrowed,
        index: int,
    ) -> None:
        session = self.sessions[command.session]
        if not isinstance(command, RequestQueued):
            session["results"][command.request] = (index, command)
        answered = session["answered"] = max(session["answered"], command.answered)
        session["results"] = {n: was for n, was in session["results"].items() if n > answered}
        session["withdrawn"] = {n for n in session["withdrawn"] if n > answered}

    def check(self, state: LedgerState) -> None:
        """*state* says the same."""
        assert {handle: tuple(seat)[1:] for handle, seat in state.seats.items()} == self.seats
        assert state.sessions.keys() == self.sessions.keys()
        for key, session in state.sessions.items():
            model = self.sessions[key]
            assert session.answered == model["answered"]
            assert session.withdrawn == model["withdrawn"]
            assert session.opened == model["opened"]
            assert {n: (o.index, o.command) for n, o in session.results.items()} == model["results"]
            assert session.queued == {
                n: (index, key, n, q.feature, q.version, q.count, since)
                for n, (index, q, since) in model["queued"].items()
            }
            mine = [handle for handle, seat in sorted(self.seats.items()) if seat[0] == key]
            assert [seat.handle for seat in state.seats_of(key)] == mine
        lingering = sorted(handle for handle, seat in self.seats.items() if seat[10])
        assert [seat.handle for seat in state.lingering.all()] == lingering
        assert len(state.lingering) == len(lingering)
        assert state.linger_clock_s == self.linger_clock_s
        for handle in lingering:
            seat = self.seats[handle]
            owner = (seat[2], *seat[10][:3])
            assert handle in [each.handle for each in state.lingering.of(owner)]
        assert state.borrows == {
            key: model["until"] for key, model in self.sessions.items() if "until" in model
        }
        for feature in {pool[:2] for pool in POOLS}:
            waiting = sorted(
                index for session in self.sessions.values()
                for index, q, _ in session["queued"].values() if q.feature == feature
            )  # fmt: skip
            assert [queued.place for queued in state.queue.of(feature)] == waiting
            assert state.queue.length(feature) == len(waiting)
            assert (feature in state.queue) == bool(waiting)
        for pool in POOLS:
            mine = [
                handle
                for handle, seat in sorted(self.seats.items())
                if seat[3] == pool or any(share.pool == pool for share in seat[8])
            ]
            used = self.used(pool)
            assert state.in_use[pool] == state.in_use.get(pool, 0) == used
            assert state.freed_uncommitted(pool) == self.freed.get(pool, 0)
            assert state.available(pool, 100) == 100 - used - self.freed.get(pool, 0)
            assert state.seat_count(pool) == len(mine)
            assert [seat.handle for seat in state.seats_page(pool)] == mine
        assert {
            key for key in map(session_id, range(40)) if state.was_ended(key)
        } == self.ended.keys()
        assert state.next_handle == self.next_handle
        assert (state.rights, state.triad_id, state.term) == (self.rights, self.triad_id, self.term)
        assert state.longest_timeout_s == self.longest_timeout_s
