"""Random weather over a fake triad: whatever happens, the client sleeps between events, is told the truth, believes no
longer than it may, and leaves nothing behind when the weather clears.

The schedules that a person thinks of are in the other test_client modules; these are those nobody thought of.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from flexcore.client import (
    Abort,
    CheckoutDeniedAction,
    CheckoutGranted,
    Close,
    Closed,
    Connect,
    SeatLost,
    SendMessage,
)
from flexcore.wire import messages as wire
from tests.client_fakes import FakeTriad, World

STEPS = 120


class Storm:
    """One schedule, and what must hold all along."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.triad = FakeTriad("pat", "lee", "terry", count=4)
        self.triad.lease_s = self.rng.choice([20.0, 60.0, 109.0])
        triads = [self.triad]
        if self.rng.random() < 0.3:
            triads.append(FakeTriad("solo", count=4))
        self.world = World(*triads)
        self.world.delay_s = self.rng.choice([0.0, 0.01, 0.2])
        self.asked: set[int] = set()
        self.withdrawn: set[int] = set()

    # --- weather ----------------------------------------------------------------------------------

    def step(self) -> None:
        rng, world, triad = self.rng, self.world, self.triad
        server = rng.choice(triad.servers)
        what = rng.choice(
            ["checkout"] * 4 + ["checkin"] * 3 + ["withdraw", "kill", "kill", "start", "start",
             "freeze", "thaw", "thaw", "dark", "light", "break", "eof", "elect", "elect", "nobody",
             "end", "push", "doubt", "sure", "jump", "refuse", "wait", "wait"]
        )  # fmt: skip
        match what:
            case "checkout":
                self.asked.add(world.checkout(rng.choice(["f1", "f1", "f1", "f9"])))
            case "checkin":
                seats = world.node.held(world.now)
                if seats:
                    seat = rng.choice(seats)
                    world.node.checkin(seat.handle, site=seat.site, now=world.now, wall=world.wall)
            case "withdraw":
                open_ = sorted(self.asked - self.answered() - self.withdrawn)
                if open_:
                    request = rng.choice(open_)
                    self.withdrawn.add(request)
                    world.node.withdraw(request, now=world.now, wall=world.wall)
            case "kill":
                world.kill(server)
                if triad.master == server.rank and rng.random() < 0.7:
                    self.elect()
            case "start":
                server.up = True
            case "freeze":
                server.frozen = True
            case "thaw":
                world.thaw(server)
            case "dark":
                server.dark = True
            case "light":
                server.dark = False
            case "break" | "eof":
                world.break_connections(server, orderly=what == "eof")
            case "elect":
                self.elect()
            case "nobody":
                triad.elect(None)
            case "end":
                if triad.ledger.sessions and rng.random() < 0.3:
                    triad.ledger.end(next(iter(triad.ledger.sessions)))
            case "push":
                world.push_message(server, wire.NotServing(0, triad.term, "elsewhere", None, None))
            case "doubt" | "sure":
                server.renews = what == "sure"
            case "jump":
                world.wall_offset += rng.choice([-100.0, 3.0, 100.0])
            case "refuse":
                server.refusal = rng.choice([None, wire.Refusal(-106, "full")])
            case _:
                assert what == "wait"
        world.drain()
        world.run(rng.choice([0.0, 0.005, 0.05, 0.5, 2.0, 10.0]))
        self.check()

    def elect(self) -> None:
        able = [s.rank for s in self.triad.servers[:2] if s.up and not s.frozen and not s.dark]
        self.triad.elect(self.rng.choice(able) if able else None)

    # --- what must hold ---------------------------------------------------------------------------

    def answered(self) -> set[int]:
        told = self.world.told
        return {a.request for a in told if isinstance(a, CheckoutGranted | CheckoutDeniedAction)}

    def check(self) -> None:
        """Once after each step."""
        world = self.world
        answers: list[Any] = [
            a.request for a in world.told if isinstance(a, CheckoutGranted | CheckoutDeniedAction)
        ]
        assert len(answers) == len(set(answers)), "answered twice"
        lost = [(a.seat.site, a.handle) for a in world.told if isinstance(a, SeatLost)]
        assert len(lost) == len(set(lost)), "lost twice"
        granted = {
            (a.seat.site, a.seat.handle) for a in world.told if isinstance(a, CheckoutGranted)
        }
        held = {(seat.site, seat.handle) for seat in world.node.held(world.now)}
        assert held <= granted - set(lost)
        self.check_belief()
        twin = world.node.copy()
        assert twin.fingerprint(world.now) == world.node.fingerprint(world.now)

    def check_belief(self) -> None:
        """No later than the last message that was sent (and may renew) plus L."""
        world = self.world
        for site in range(len(world.triads)):
            until = world.node.believed_until(site)
            if until is not None and until > 0:
                sent = [at for at, a in world.done if isinstance(a, SendMessage)]
                assert until <= max(sent) + max(t.lease_s for t in world.triads)

    def check_ends(self) -> None:
        """Rule 16: a connection that has carried the session ends by abort, or after a goodbye."""
        touched: set[int] = set()
        farewell: set[int] = set()
        for _, action in self.world.done:
            if isinstance(action, SendMessage):
                if isinstance(action.message, wire.OpenSession | wire.ResumeSession):
                    touched.add(action.conn)
                elif isinstance(action.message, wire.Goodbye):
                    farewell.add(action.conn)
            elif isinstance(action, Close):
                assert action.conn not in touched - farewell, "an orderly end while it believes"

    def current_sessions(self) -> dict[int, bytes]:
        """The sessions that live on a connection now, by site."""
        return {
            action.conn % len(self.world.triads): action.message.session
            for _, action in self.world.done
            if isinstance(action, SendMessage)
            and isinstance(action.message, wire.OpenSession | wire.ResumeSession)
            and action.conn in self.world.conns
        }

    def clear_up(self) -> None:
        """The weather clears: everything is answered, the ledger and the client agree."""
        world = self.world
        for triad in world.triads:
            triad.until_s = None
            for server in triad.servers:
                server.up, server.dark, server.renews, server.refusal = True, False, True, None
                world.thaw(server)
        self.triad.elect(0)
        world.drain()
        world.run(60.0)
        assert self.asked - self.answered() - self.withdrawn == set(), "never answered"
        held = sorted((seat.site, seat.handle) for seat in world.node.held(world.now))
        current = self.current_sessions()  # one that was abandoned ends by its lease
        known = sorted(
            (site, handle)
            for site, triad in enumerate(world.triads)
            for handle, (owner, _) in triad.ledger.seats.items()
            if owner == current.get(site)
        )
        assert held == known, "the ledger holds what nobody knows of"
        world.node.close(now=world.now, wall=world.wall)
        world.drain()
        world.run(5.0)
        assert world.told[-1] == Closed()
        assert world.conns == {}
        self.check_ends()
        dials = [a for _, a in world.done if isinstance(a, Connect)]
        ends = [a for _, a in world.done if isinstance(a, Abort | Close)]
        assert len({a.conn for a in dials}) == len(dials)
        assert len({a.conn for a in ends}) == len(ends), "ended twice"


@pytest.mark.parametrize("batch", range(4))
def test_storms(batch):
    for seed in range(batch * 8, batch * 8 + 8):
        storm = Storm(seed)
        try:
            for _ in range(STEPS):
                storm.step()
            storm.clear_up()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
