"""A triad of bare quorum machines with the real ledger: mastership and replication, with traffic instead of clients."""

from __future__ import annotations

from flexcore.identity import Last, Rank
from flexcore.ledger import Ledger
from flexcore.ledger.commands import Command, SeatGranted, SeatReturned, SessionEnded, SessionOpened
from flexcore.override import override
from flexcore.quorum import QuorumConfig
from flexcore_testing.checks import Violation
from flexcore_testing.process import ServerHost, ServerRun
from flexcore_testing.profile import Profile
from flexcore_testing.quorum_run import QuorumRun
from flexcore_testing.triad import SimulatedTriad

SESSIONS_MAX = 12
SEATS_MAX = 24


class BareTriad(SimulatedTriad):
    """Three QuorumMachines; the traffic opens sessions, grants and returns seats on whoever serves."""

    def __init__(self, profile: Profile, *, only: frozenset[str] | None = None) -> None:
        super().__init__(profile, only=only)
        self._request = 0
        self.traffic = True

    @override
    def make_run(self, host: ServerHost, serial: int) -> QuorumRun:
        return QuorumRun(self, host, serial, self.config(host.rank))

    def config(self, rank: Rank) -> QuorumConfig:
        """What the server of this rank reads in its licence file."""
        return QuorumConfig(
            rank=rank,
            triad=True,
            heartbeat_interval_s=self.intervals_s[rank],
            primary_is_master=self.profile.primary_is_master,
            vendor="demo",
            membership_digest=b"m" * 32,
            hostids=("17003456", "17004355", "17007ea8"),
            rights_digest=b"r" * 31 + bytes([self.licensed_on[rank]]),
            software="simulated",
            first_start=self.first_start,
            in_memory=self.profile.in_memory,
        )

    @override
    def is_member(self, rank: Rank) -> bool:
        run = self.hosts[rank].run
        if not isinstance(run, QuorumRun):
            return False
        return run.machine.hard.member and (self.profile.in_memory or not self.hosts[rank].disk.blank)

    @override
    def next_command(self, ledger: Ledger) -> Command:
        rng, state = self.rng, ledger.state
        sessions = sorted(state.sessions)
        seats = sorted(state.seats)
        kind = rng.random()
        if not sessions or (kind < 0.15 and len(sessions) < SESSIONS_MAX):
            return SessionOpened(rng.randbytes(16), b"s" * 32, "user", "host", "", "", 1, self.profile.lease_s, True)
        if len(sessions) >= SESSIONS_MAX or kind < 0.2:
            return SessionEnded(rng.choice(sessions), "simulated")
        self._request += 1
        if seats and (kind < 0.5 or len(seats) >= SEATS_MAX):
            handle = rng.choice(seats)
            seat = state.seats[handle]
            return SeatReturned(seat.session, self._request, self._request - 1, handle, "")
        return SeatGranted(
            rng.choice(sessions), self._request, self._request - 1, state.next_handle, "f1", "f1", "1.0", 1
        )

    @override
    def after_turn(self, run: ServerRun) -> None:
        super().after_turn(run)
        assert isinstance(run, QuorumRun)
        if run.rounds and run.serving_term is not None:
            self.checks.check_rounds(run, run.serving_term, run.machine.confirmed_round, run.rounds)

    @override
    def describe(self, run: ServerRun) -> str:
        assert isinstance(run, QuorumRun)
        report = run.machine.report()
        return f"{report.state} term {report.term} ({report.reason})"

    @override
    def settle(self, absent: Rank | None) -> None:
        profile = self.profile
        expected = [rank for rank in Rank if rank is not absent]
        self.traffic = False
        network = profile.network
        self.advance(2.0 + self.longest_timeout_s + network.dial_timeout_s + 4 * profile.slack_s)
        self.checks.check_replicas()
        self.require_master()
        # A reign that began a moment ago (PRIMARY_IS_MASTER) may have its first entry under way (seed 7365).
        self.advance_until(4 * profile.slack_s, lambda: len({self._last(rank) for rank in expected}) == 1)
        lasts = {self.hosts[rank].name: self._last(rank) for rank in expected}
        if len(set(lasts.values())) != 1:
            raise Violation("I7", f"in peace the logs do not become one: {lasts}")
        for rank in expected:
            if not self.is_member(rank):
                raise Violation("I7", f"in peace {rank.word} does not become a member")

    def _last(self, rank: Rank) -> Last | None:
        run = self.hosts[rank].run
        return None if run is None else run.ledger.last

    @override
    def start_traffic(self) -> None:
        """Begin to propose, and to ask for rounds, at random times."""
        self.world.after(self.rng.expovariate(1.0 / self.profile.traffic_s), self._traffic)

    def _traffic(self) -> None:
        if not self.traffic:
            return
        for run in self.runs():
            if run.serves():
                for _ in range(self.rng.choice((1, 1, 1, 2, 5))):
                    run.post(("propose",) if self.rng.random() < 0.7 else ("round",))
        self.start_traffic()
