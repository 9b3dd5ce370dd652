"""One incident of a forecast: the real servers and two real clients, under the described network, through one trouble.

A client holds a seat all the time. Another asks for one at the very instant at which service stops, and how long it
waits is how long the stop was. Every invariant of the simulation is checked on the way.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from flexcore import timing
from flexcore.client import CheckoutDeniedAction, Seat, SeatLost
from flexcore.identity import Rank
from flexcore.licensefile import LicenseFile
from flexcore.override import override
from flexcore.wire.messages import PeerFrame, PreVote, TimeoutNow, Vote
from flexcore_testing.client_run import ClientRun
from flexcore_testing.forecast_network import NetworkDescription, Trouble, WeatherNetwork
from flexcore_testing.licences import signed, triad_text
from flexcore_testing.network import NetworkSettings, Party
from flexcore_testing.process import ServerRun
from flexcore_testing.profile import Profile
from flexcore_testing.service import ServiceTriad
from flexcore_testing.triad import NAMES

QUIET = "quiet"
"""The kind of an episode in which nothing but the ordinary delays and losses happens."""

DISK_S = 0.002
TURN_S = 0.0002
DIAL_TIMEOUT_S = 3.0
"""What the transport gives an attempt to connect."""

FORMING_S = 60.0
ASK_AGAIN_S = 0.25
SETTLE_TIMEOUTS = 6.0
SETTLE_MARGIN_S = 180.0
REBOOT_SILENT_S = 2.0
STALL_FLUSH_MAX_S = 60.0
AWAY_TIMEOUTS = 1.3
AWAY_MARGIN_S = 60.0
QUIET_S = 120.0
QUIET_INTERVALS = 10.0


@attrs.frozen(kw_only=True)
class Task:
    """What one episode is made of. Equal tasks have equal outcomes."""

    kind: str
    """A name of :data:`~flexcore_testing.forecast_network.TROUBLES`, or :data:`QUIET`."""
    on_master: bool
    """Whether the trouble of a server strikes the master."""
    interval_s: int
    primary_is_master: bool
    number: int
    seed: int
    description: NetworkDescription

    @property
    def name(self) -> str:
        """What the random numbers depend on: not the interval, so that all see the same troubles."""
        return f"forecast {self.seed} {self.kind} {self.on_master} {self.number}"


@attrs.frozen(kw_only=True)
class Episode:
    """What came of a task. Durations in seconds, None where there was no such thing."""

    task: Task
    stops: tuple[float, ...]
    """How long service stopped, each time: from the stop until a checkout asked at that instant was granted."""
    false_alarms: int
    """Masters that gave up, or were replaced, while no server was dead, hung or cut off."""
    detection_s: float | None
    """From the trouble until a server stands for election."""
    failover_s: float | None
    """From the trouble until another server serves."""
    checkout_s: float | None
    """From the trouble until a checkout asked at that instant is granted."""
    lost: int
    """Seats that the holder lost."""
    belief_left_s: float
    """The least that was left of the holder's lease at any time when service came back."""
    unfinished: bool
    """Service, or a server, was not back when the simulation gave up waiting."""
    simulated_s: float
    messages: int


class ForecastTriad(ServiceTriad):
    """Three servers, a holder and an asker; it notes when nobody serves."""

    def __init__(self, task: Task) -> None:
        timeout = timing.timeout_s(task.interval_s)
        self._waiting_since: float | None = None
        self._asked = -1
        self.holder: ClientRun | None = None
        self.asker: ClientRun | None = None
        self.stops: list[float] = []
        self.false_alarms = 0
        self.lost = 0
        self.belief_left_s = timing.client_lease_s(timeout)
        self.alarms_count = False
        """Whether a master that gives up now is a false alarm."""
        self.struck_at: float | None = None
        self.detected_at: float | None = None
        self.served_at: float | None = None
        self.granted_at: float | None = None
        self._served_before = 0
        super().__init__(_profile(task), license_file=_licence(task))
        patience_s = max(1.0, float(int(timeout / 4)))  # flexcore_trio.sockets.tune
        self.profile.network.keepalive_min_s = patience_s
        self.profile.network.keepalive_max_s = patience_s + self.profile.interval_s
        weather = WeatherNetwork(
            self.world, random.Random(task.name), self.profile.network, self.journal, patience_s=patience_s
        )
        weather.packet_loss = task.description.loss
        for host in self.hosts:
            weather.add_host(host.name)
        weather.on_delivery = self.checks.delivered
        weather.on_send = self._sent
        self.network = self.weather = weather

    # --- is there service? ---------------------------------------------------------------------------------------

    def serving_run(self) -> ServerRun | None:
        """The server that can serve at this instant: it holds the lease, runs, and reaches another."""
        for run in self.runs():
            if not run.paused and run.serves() and self._reaches_another(run):
                return run
        return None

    def _reaches_another(self, run: ServerRun) -> bool:
        return any(
            other is not run
            and not other.paused
            and not self.network.is_cut(run.host, other.host)
            and not self.network.is_cut(other.host, run.host)
            for other in self.runs()
        )

    def look(self) -> None:
        """Notice that nobody serves; a checkout is asked for at that instant."""
        if self.asker is not None and self._waiting_since is None and self.serving_run() is None:
            self.note("net", "SERVICE STOPS")
            self._ask()

    def _ask(self) -> None:
        assert self.asker is not None
        self._waiting_since = self.world.now
        self._asked = self.asker.checkout("probe")

    def _ask_again(self) -> None:
        if self.asker is not None and self._waiting_since is not None:
            self._asked = self.asker.checkout("probe")

    @override
    def client_granted(self, run: ClientRun, request: int, seat: Seat) -> None:
        super().client_granted(run, request, seat)
        if run is not self.asker:
            return
        self.world.after(0.0, self._give_back, run, seat.handle)
        if request == self._asked and self._waiting_since is not None:
            self.note("net", "SERVICE IS BACK")
            if self.struck_at is not None and self.granted_at is None:
                self.granted_at = self.world.now
            self.stops.append(self.world.now - self._waiting_since)
            self._waiting_since = None
            self._measure_belief()
            self.world.after(0.0, self.look)

    def _give_back(self, run: ClientRun, handle: int) -> None:
        if run.alive:
            run.checkin(handle)

    def _measure_belief(self) -> None:
        if self.holder is not None:
            until = self.holder.node.believed_until()
            if until is not None:
                self.belief_left_s = min(self.belief_left_s, max(0.0, until - self.holder.now()))

    @override
    def client_denied(self, run: ClientRun, action: CheckoutDeniedAction) -> None:
        super().client_denied(run, action)
        if run is self.asker and action.request == self._asked and self._waiting_since is not None:
            self.world.after(ASK_AGAIN_S, self._ask_again)

    @override
    def client_lost(self, run: ClientRun, action: SeatLost) -> None:
        super().client_lost(run, action)
        if run is self.holder:
            self.lost += 1
            self.belief_left_s = 0.0

    @override
    def after_turn(self, run: ServerRun) -> None:
        books = run.books
        before, elections = books.serving, self.checks.elections
        super().after_turn(run)
        gave_up = before and not books.serving and run.alive and run.quorum.released_term < before
        if gave_up and self.alarms_count and not run.stopping:
            self.false_alarms += 1
        if self.checks.elections > elections and self.struck_at is not None and self.served_at is None:
            self.served_at = self.world.now
        self.look()

    def _sent(self, source: Party, target: Party, message: object) -> None:
        self.checks.sent(source, target, message)
        if (
            self.detected_at is None
            and self.struck_at is not None
            and isinstance(message, PeerFrame)
            and isinstance(message.body, PreVote | Vote | TimeoutNow)
        ):
            self.detected_at = self.world.now

    # --- the course of an episode --------------------------------------------------------------------------------

    def begin(self, rng: random.Random) -> None:
        """Form the triad, connect the clients, and let a random part of a heartbeat pass."""
        for rank in Rank:
            self.start(rank)
        self.world.run_until(FORMING_S, lambda: self.serving_run() is not None)
        holder = self.holder = self.client("holder")
        holder.checkout("held")
        asker = self.client("asker")
        asker.checkout("probe")
        self.world.run_until(self.world.now + FORMING_S, lambda: bool(asker.granted and holder.granted))
        for seat in asker.held():
            asker.checkin(seat.handle)
        interval = self.profile.interval_s
        self.advance(max(2.0, 2 * interval) + rng.random() * max(interval, 10.0))
        self.asker = asker
        self.look()
        self.world.run_until(self.world.now + FORMING_S, self.is_settled)

    def strike(self, action: Callable[[], object]) -> None:
        """The trouble begins."""
        self.struck_at = self.world.now
        self.detected_at = self.served_at = None
        action()
        self.look()

    def is_settled(self) -> bool:
        """Whether everybody is back and follows the master that is to be."""
        if self._waiting_since is not None or self.network.cuts:
            return False
        runs = self.runs()
        master = self.serving_run()
        if master is None or len(runs) < 3 or any(run.paused for run in runs):
            return False
        if self.profile.primary_is_master and master.rank is not Rank.PRIMARY:
            return False
        last = master.ledger.last
        return all(run.term == master.term and run.ledger.last == last for run in runs)

    def calm_down(self) -> bool:
        """Wait until everything is as before; False if that takes too long."""
        wait = SETTLE_TIMEOUTS * self.longest_timeout_s + SETTLE_MARGIN_S
        if self.is_settled():
            return True
        return self.world.run_until(self.world.now + wait, self.is_settled)

    def isolate(self, hosts: tuple[str, ...]) -> list[tuple[str, str]]:
        """Let nothing pass from or to each of *hosts*; return what was cut."""
        everybody = (*NAMES, "holder", "asker")
        pairs = [
            (source, target)
            for source in everybody
            for target in everybody
            if source != target and (source in hosts or target in hosts)
        ]
        for source, target in pairs:
            self.network.cut(source, target)
        return pairs

    def mend(self, pairs: list[tuple[str, str]]) -> None:
        """Undo :meth:`isolate`."""
        for source, target in pairs:
            self.network.heal(source, target)


def run_task(task: Task) -> Episode:
    """Run one episode from forming to peace.

    Raises:
        Violation: the servers broke a promise: a bug of flexcore.
    """
    rng = random.Random(task.name)
    triad = ForecastTriad(task)
    triad.begin(rng)
    if task.kind == QUIET:
        triad.alarms_count = True
        triad.advance(quiet_s(task.interval_s))
        triad.alarms_count = False
        unsettled = not triad.calm_down()
    else:
        trouble = task.description.troubles[task.kind]
        _TROUBLES[task.kind](triad, trouble, _target(task, triad), rng)
        unsettled = not triad.calm_down()
    struck = triad.struck_at
    return Episode(
        task=task,
        stops=tuple(triad.stops) + ((triad.world.now - triad._waiting_since,) if triad._waiting_since else ()),
        false_alarms=triad.false_alarms,
        detection_s=_since(triad.detected_at, struck),
        failover_s=_since(triad.served_at, struck),
        checkout_s=_since(triad.granted_at, struck),
        lost=triad.lost,
        belief_left_s=triad.belief_left_s,
        unfinished=unsettled,
        simulated_s=triad.world.now,
        messages=triad.network.messages,
    )


def quiet_s(interval_s: int) -> float:
    """How long a quiet episode looks for false alarms."""
    return max(QUIET_S, QUIET_INTERVALS * timing.effective_interval_s(interval_s))


def _since(instant: float | None, start: float | None) -> float | None:
    return None if instant is None or start is None else instant - start


def _profile(task: Task) -> Profile:
    network = NetworkSettings()
    network.delay_s = task.description.delay_s
    network.jitter_s = task.description.jitter_s
    network.dial_timeout_s = DIAL_TIMEOUT_S
    return Profile(
        seed=task.seed,
        campaign=task.name,
        interval_s=task.interval_s,
        primary_is_master=task.primary_is_master,
        network=network,
        disk_latency_s=DISK_S,
        turn_s=TURN_S,
        clients=0,
    )


def _licence(task: Task) -> LicenseFile:
    return signed(
        triad_text(
            {"held": 1, "probe": 1000}, interval_s=task.interval_s, primary_is_master=task.primary_is_master
        )
    )


def _target(task: Task, triad: ForecastTriad) -> Rank:
    master = triad.serving_run()
    first = master.rank if master is not None else Rank.PRIMARY
    if task.on_master:
        return first
    others = [rank for rank in Rank if rank is not first]
    return others[task.number % 2]


# --- the troubles ------------------------------------------------------------------------------------------------


def _away_s(triad: ForecastTriad, trouble: Trouble, rng: random.Random) -> float:
    """How long a server is away; once the others have long noticed, more of it would teach nothing."""
    return min(trouble.length_s(rng), AWAY_TIMEOUTS * triad.longest_timeout_s + AWAY_MARGIN_S)


def _crash(triad: ForecastTriad, trouble: Trouble, target: Rank, rng: random.Random) -> None:
    away_s = _away_s(triad, trouble, rng)
    triad.strike(lambda: triad.kill(target))
    triad.advance(away_s)
    triad.start(target)


def _power(triad: ForecastTriad, trouble: Trouble, target: Rank, rng: random.Random) -> None:
    away_s = _away_s(triad, trouble, rng)
    triad.strike(lambda: triad.power_off(target))
    triad.advance(away_s)
    triad.start(target)


def _hang(triad: ForecastTriad, trouble: Trouble, target: Rank, rng: random.Random) -> None:
    away_s = _away_s(triad, trouble, rng)
    triad.strike(lambda: triad.pause(target))
    triad.advance(away_s)
    triad.resume(target)
    triad.look()


def _cut(triad: ForecastTriad, trouble: Trouble, target: Rank, rng: random.Random) -> None:
    away_s = _away_s(triad, trouble, rng)
    _interrupt(triad, (NAMES[target],), away_s)


def _reboot(triad: ForecastTriad, trouble: Trouble, target: Rank, rng: random.Random) -> None:
    away_s = _away_s(triad, trouble, rng)
    triad.strike(lambda: triad.stop(target, "one"))
    triad.world.run_until(triad.world.now + 60.0, lambda: triad.run_of(target) is None)
    triad.advance(min(REBOOT_SILENT_S, away_s))
    triad.power_off(target)
    triad.look()
    triad.advance(away_s)
    triad.start(target)


def _busy(triad: ForecastTriad, trouble: Trouble, target: Rank, rng: random.Random) -> None:
    length_s = trouble.length_s(rng)

    def begin() -> None:
        triad.weather.busy_s = trouble.delay_s
        triad.weather.packet_loss = max(trouble.loss, triad.weather.packet_loss)

    loss = triad.weather.packet_loss
    triad.alarms_count = True
    triad.strike(begin)
    triad.advance(length_s)
    triad.weather.busy_s = 0.0
    triad.weather.packet_loss = loss
    triad.advance(triad.longest_timeout_s)
    triad.alarms_count = False


def _stall(triad: ForecastTriad, trouble: Trouble, target: Rank, rng: random.Random) -> None:
    length_s = trouble.length_s(rng)
    triad.alarms_count = True
    _interrupt(triad, tuple(NAMES), length_s)
    triad.advance(triad.longest_timeout_s)
    triad.alarms_count = False


def _interrupt(triad: ForecastTriad, hosts: tuple[str, ...], length_s: float) -> None:
    triad.network.settings.flush_max_s = min(length_s, STALL_FLUSH_MAX_S)  # TCP waited ever longer
    pairs: list[tuple[str, str]] = []
    triad.strike(lambda: pairs.extend(triad.isolate(hosts)))
    triad.advance(length_s)
    triad.mend(pairs)
    triad.look()


_TROUBLES: dict[str, Callable[[ForecastTriad, Trouble, Rank, random.Random], None]] = {
    "crash": _crash,
    "power": _power,
    "hang": _hang,
    "cut": _cut,
    "reboot": _reboot,
    "busy": _busy,
    "stall": _stall,
}
