"""A run that drives a bare :class:`flexcore.quorum.QuorumMachine`: mastership and log, no clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcore.identity import Rank
from flexcore.ledger.commands import Command
from flexcore.override import override
from flexcore.quorum import (
    CloseLink,
    DialFailed,
    DialPeer,
    Halt,
    LinkEnded,
    Notice,
    PeerConnected,
    PeerFrameReceived,
    Persist,
    Persisted,
    PersistFailed,
    QuorumConfig,
    QuorumMachine,
    SendFrame,
    StartServing,
    StopRequested,
    StopServing,
)
from flexcore_testing.process import ServerHost, ServerRun

if TYPE_CHECKING:
    from flexcore_testing.triad import SimulatedTriad


class QuorumRun(ServerRun):
    """An adapter that does what contracts between machine and transports ask, and nothing else."""

    def __init__(self, triad: SimulatedTriad, host: ServerHost, serial: int, config: QuorumConfig) -> None:
        super().__init__(triad, host, serial)
        rng = triad.rng
        self.quorum = self.machine = QuorumMachine(
            config,
            stored=host.disk.load(),
            boot_id=rng.randbytes(16),
            triad_id=rng.randbytes(16),
            now=self.clock.local(self.world.now),
            wall=host.wall.read(self.world.now),
        )
        self.serving_term: int | None = None
        self.rounds: list[tuple[int, float]] = []
        """Rounds asked for and not yet confirmed: (number, true time of asking)."""

    @override
    def _next_timeout(self) -> float | None:
        return self.machine.next_timeout()

    @override
    def _handle_timeout(self, now: float, wall: float) -> None:
        self.machine.handle_timeout(now=now, wall=wall)

    @override
    def _finish_turn(self, now: float, wall: float) -> None:
        self.machine.end_turn(now=now, wall=wall)

    @override
    def _handle(self, item: tuple[Any, ...], now: float, wall: float) -> None:
        machine = self.machine
        kind = item[0]
        if kind == "message":
            machine.receive_event(PeerFrameReceived(link=item[1], frame=item[2]), now=now, wall=wall)
        elif kind == "persisted":
            machine.receive_event(Persisted(ticket=item[1]), now=now, wall=wall)
        elif kind == "ended":
            machine.receive_event(LinkEnded(link=item[1]), now=now, wall=wall)
        elif kind == "connected":
            machine.receive_event(PeerConnected(link=item[1], peer=item[2]), now=now, wall=wall)
        elif kind == "dial_failed":
            machine.receive_event(DialFailed(peer=item[1], refused=item[2], error=item[3]), now=now, wall=wall)
        elif kind == "persist_failed":
            machine.receive_event(PersistFailed(ticket=item[1], error=item[2]), now=now, wall=wall)
        elif kind == "stop":
            machine.receive_event(StopRequested(scope=item[1], requested_by=item[2]), now=now, wall=wall)
        elif kind == "propose":
            self._propose(now, wall)
        elif kind == "round":
            if machine.may_serve(now):
                self.rounds.append((machine.request_round(now), self.world.now))

    def _propose(self, now: float, wall: float) -> None:
        if self.machine.may_serve(now):
            command: Command = self.triad.next_command(self.machine.ledger)
            self.machine.propose(command, now=now, wall=wall)

    @override
    def _perform(self) -> bool:
        machine = self.machine
        while (action := machine.next_action()) is not None:
            if isinstance(action, SendFrame):
                self.triad.network.send(self, action.link, action.frame)
            elif isinstance(action, Persist):
                self._persist(action.ticket, action.batch)
            elif isinstance(action, DialPeer):
                self._dial(Rank(action.peer))
            elif isinstance(action, CloseLink):
                self.triad.network.close(self, action.link)
            elif isinstance(action, StartServing):
                self.serving_term = action.term
                self.triad.note(self, f"START SERVING term={action.term}")
            elif isinstance(action, StopServing):
                self.serving_term = None
                self.rounds.clear()
                self.triad.note(self, f"STOP SERVING {action.reason}")
                self.triad.checks.stopped_serving(self)
            elif isinstance(action, Notice):
                self.triad.note(self, f"notice {action!r}")
            elif isinstance(action, Halt):
                self.triad.note(self, f"HALT {action.exit_code} {action.reason}")
                self.halted = (action.exit_code, action.reason)
                self.triad.exited(self)
                return False
        return True
