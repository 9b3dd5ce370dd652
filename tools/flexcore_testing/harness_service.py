"""The simulation under :class:`flexcore_testing.Triad`: a ServiceTriad that serves any licence file."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable

import attrs

from flexcore.checkout.reading import read_rights
from flexcore.client import CheckedIn, ClientConfig, SeatLost
from flexcore.identity import Rank
from flexcore.licensefile import LicenseFile
from flexcore.override import override
from flexcore.report.logline import log_line
from flexcore.server import ServerConfig
from flexcore.wire.messages import ServerAddress
from flexcore_testing.checks import Violation
from flexcore_testing.client_run import ClientRun
from flexcore_testing.harness_licence import Terms
from flexcore_testing.inquiry import SOFTWARE
from flexcore_testing.profile import Profile
from flexcore_testing.server_run import NodeRun
from flexcore_testing.service import ServiceTriad
from flexcore_testing.triad import NAMES

LOG_LINES_MAX = 10_000
"""Lines of each server's debug log that are kept."""

UNCOUNTED = 1 << 40
"""More seats than anybody takes: what an uncounted line licenses."""


def quiet_profile(
    *, seed: int, interval_s: int, primary_is_master: bool, epoch: float, latency_s: float, jitter_s: float
) -> Profile:
    """Return the profile of a network and of machines that do nothing by themselves: a test brings the faults."""
    profile = Profile(
        seed=seed, campaign="harness", interval_s=interval_s, primary_is_master=primary_is_master, epoch=epoch,
        clients=0,
    )  # fmt: skip
    network = profile.network
    network.delay_s, network.jitter_s = latency_s, jitter_s
    network.flush_max_s = network.reset_at_death = 0.0
    network.keepalive_min_s = network.keepalive_max_s = 0.75 * profile.timeout_s
    return profile


class HarnessTriad(ServiceTriad):
    """Serves *terms*, keeps its logs, and tells :attr:`news` what clients were told."""

    def __init__(self, profile: Profile, terms: Terms) -> None:
        super().__init__(profile, license_file=terms.license)
        self.terms = terms
        self.terms_on = [terms] * 3
        """What each server's own file is; they may differ for a while (rule 19)."""
        self.addresses = tuple(ServerAddress(line.host, line.port or 0) for line in terms.license.servers)
        self.client_checks.licensed = licensed_of(terms)
        self.news: deque[Callable[[], None]] = deque()
        """What is to be told outside of the turn in which it happened."""
        self.returned: set[tuple[int, int]] = set()
        """What servers took back: number of the client's process, handle."""
        self.on_lost: Callable[[ClientRun, SeatLost], None] | None = None
        self.logs: tuple[deque[str], ...] = tuple(deque(maxlen=LOG_LINES_MAX) for _ in Rank)

    # --- what a ServiceTriad takes from its seed, and this one from the licence file ------------------------------

    @override
    def server_config(self, rank: Rank) -> ServerConfig:
        config = super().server_config(rank)
        path = self.terms.license.name or "test.lic"
        return attrs.evolve(config, keys=self.terms.keys, license_path=path, software=SOFTWARE)

    @override
    def license_of(self, rank: Rank) -> LicenseFile:
        return self.terms_on[rank].license

    def put_file(self, rank: Rank, terms: Terms) -> None:
        """Replace the file of one server; it is read when somebody asks for that, or at the next start."""
        self.terms_on[rank] = terms
        self.recorder.count_changed()
        for feature, seats in licensed_of(terms).items():
            known = self.client_checks.licensed
            known[feature] = max(known.get(feature, 0), seats)
        self.note(self.hosts[rank].name, "its licence file is replaced")

    @override
    def server_at(self, host: str, port: int) -> str:
        return NAMES[self.addresses.index(ServerAddress(host, port))]

    @override
    def client(self, name: str, *, rate: float = 1.0, first: int = 0) -> ClientRun:
        if name not in self.network.powered:
            self.network.add_host(name)
        self.serial += 1
        config = ClientConfig(
            path=(self.addresses,), vendor=self.terms.vendor, user=name, host=f"{name}-host", display="/dev/tty",
            keys=self.terms.keys, hostids=(_ether_of(name),),
        )  # fmt: skip
        run = self.clients[name] = ClientRun(self, name, self.serial, config, rate)
        return run

    # --- what is told ---------------------------------------------------------------------------------------------

    @override
    def logged(self, run: NodeRun, daemon: str, text: str) -> None:
        wall = run.machine_host.wall.read(self.world.now)
        self.logs[run.rank].append(log_line(wall, 0.0, daemon, text))
        super().logged(run, daemon, text)

    @override
    def client_lost(self, run: ClientRun, action: SeatLost) -> None:
        super().client_lost(run, action)
        if self.on_lost is not None:
            self.on_lost(run, action)

    @override
    def client_returned(self, run: ClientRun, action: CheckedIn) -> None:
        super().client_returned(run, action)
        self.returned.add((run.serial, action.handle))

    # --- checking -------------------------------------------------------------------------------------------------

    def check_now(self) -> None:
        """Check every safety invariant at this instant; what a turn may break is checked after each turn anyway.

        Raises:
            Violation: one does not hold.
        """
        for run in self.runs():
            self.checks.after_turn(run)
        for feature in sorted({seat.feature for client in self.clients.values() for seat in client.held()}):
            self.client_checks._check_sum(feature)
        self._check_handles()
        for run in self.runs():
            assert isinstance(run, NodeRun)
            self.client_checks._looked.pop(run.serial, None)
            self.client_checks.after_server_turn(run)
            self._check_counts(run)
        self.checks.check_replicas()

    def _check_handles(self) -> None:
        """I5: one handle, one holder."""
        holders: Counter[int] = Counter(seat.handle for client in self.clients.values() for seat in client.held())
        for handle, count in sorted(holders.items()):
            if count > 1:
                self.checks.fail("I5", f"handle {handle} is believed to be held {count} times")

    def _check_counts(self, run: NodeRun) -> None:
        """I3 by the ledger of whoever serves: no feature has more seats out than were licensed."""
        if not run.books.serving:
            return
        used: Counter[str] = Counter()
        for seat in run.ledger.state.seats.values():
            used[seat.feature] += seat.seats
        for feature, seats in sorted(used.items()):
            licensed = self.client_checks.licensed.get(feature, 0)
            if seats > licensed:
                self.checks.fail("I3", f"{run.name} serves with {seats} of {licensed} seats of {feature} given out")


def licensed_of(terms: Terms) -> dict[str, int]:
    """How many seats of each feature the file licenses, over all its pools; expired lines count as well."""
    rights = read_rights(terms.license, terms.keys, vendor=terms.vendor)
    licensed: dict[str, int] = {}
    for pool in rights.pools:
        counts = [line.seats or UNCOUNTED for line in pool.lines]
        licensed[pool.feature] = licensed.get(pool.feature, 0) + sum(counts)
    return licensed


def with_chart(violation: Violation, chart: str) -> Violation:
    """The same violation with the last messages below its text."""
    text = str(violation).removeprefix(f"{violation.name}: ")
    return Violation(violation.name, f"{text}\n\n{chart}")


def _ether_of(name: str) -> str:
    """The hostid that the machine of the client *name* shows: what is borrowed there is bound to it."""
    return f"ether=00163e{hashlib.sha256(name.encode()).hexdigest()[:6]}"
