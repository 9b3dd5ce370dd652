"""A run that drives a whole :class:`flexcore.server.ServerNode` by messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from flexcore.identity import Rank
from flexcore.override import override
from flexcore.report.reportlog import read_report
from flexcore.server import (
    CloseConnection,
    DialPeer,
    Halt,
    Persist,
    ReadLicense,
    ServerConfig,
    ServerNode,
    SwitchLog,
    WriteLog,
    WriteReport,
    judge_license,
)
from flexcore_testing.process import ServerHost, ServerRun

if TYPE_CHECKING:
    from flexcore_testing.service import ServiceTriad


READ_S = 0.1
"""A licence file is read and verified within this time."""


class NodeRun(ServerRun):
    """An adapter for a ServerNode."""

    def __init__(self, triad: ServiceTriad, host: ServerHost, serial: int, config: ServerConfig) -> None:
        super().__init__(triad, host, serial)
        rng = triad.rng
        self.service = triad
        self.report_log = triad.report_logs[host.rank]
        position = read_report([("", self.report_log[-1:])]).end if triad.reporting else None
        self.node = ServerNode(
            attrs.evolve(config, report=position),
            stored=host.disk.load(),
            boot_id=rng.randbytes(16),
            triad_id=rng.randbytes(16),
            now=self.clock.local(self.world.now),
            wall=host.wall.read(self.world.now),
            rights=triad.rights_of(config),
        )
        self.quorum = self.node.quorum
        self.log: list[tuple[str, str]] = []

    @override
    def _next_timeout(self) -> float | None:
        return self.node.next_timeout()

    @override
    def _handle_timeout(self, now: float, wall: float) -> None:
        self.node.handle_timeout(now=now, wall=wall)

    @override
    def _finish_turn(self, now: float, wall: float) -> None:
        self.node.end_turn(now=now, wall=wall)

    @override
    def _handle(self, item: tuple[Any, ...], now: float, wall: float) -> None:
        node = self.node
        kind = item[0]
        if kind == "message":
            node.receive_message(item[1], item[2], now=now, wall=wall)
        elif kind == "persisted":
            node.persisted(item[1], now=now, wall=wall)
        elif kind == "accepted":
            nonce = self.triad.rng.randbytes(16)
            node.connection_opened(item[1], nonce=nonce, local=item[2] == self.host, remote=item[2], now=now, wall=wall)
        elif kind == "ended":
            node.connection_ended(item[1], orderly=item[2], now=now, wall=wall)
        elif kind == "connected":
            node.peer_connected(item[1], item[2], nonce=self.triad.rng.randbytes(16), now=now, wall=wall)
        elif kind == "dial_failed":
            node.dial_failed(item[1], refused=item[2], error=item[3], now=now, wall=wall)
        elif kind == "persist_failed":
            node.persist_failed(item[1], item[2], now=now, wall=wall)
        elif kind == "stop":
            node.stop(item[1], item[2], now=now, wall=wall)
        elif kind == "reread":
            node._rereads.want("simulation")
        elif kind == "license_read":
            node.license_read(item[1], item[2], now=now, wall=wall)

    def _read_license(self, ticket: int) -> None:
        """The file as it is now, some time later: a disk and a verification lie between."""
        outcome = judge_license(
            self.node.config, self.service.license_of(self.rank), self.service.options_of(self.rank)
        )
        self.world.after(self.triad.rng.random() * READ_S, self.post, ("license_read", ticket, outcome))

    @override
    def _perform(self) -> bool:
        node, network = self.node, self.triad.network
        for conn, message in node.messages_to_send():
            network.send(self, conn, message)
        while (action := node.next_action()) is not None:
            if isinstance(action, Persist):
                self._persist(action.ticket, action.batch)
            elif isinstance(action, DialPeer):
                self._dial(Rank(action.peer))
            elif isinstance(action, CloseConnection):
                network.close(self, action.conn, abort=action.abort)
            elif isinstance(action, ReadLicense):
                self._read_license(action.ticket)
            elif isinstance(action, WriteLog):
                self.log.append((action.daemon, action.text))
                self.service.logged(self, action.daemon, action.text)
            elif isinstance(action, WriteReport):
                self.report_log.append(action.text)
            elif isinstance(action, SwitchLog):
                self.report_log += [action.first] if action.first else []
                node.log_switched(action.ticket, 0, "it goes on", now=node._now, wall=node._wall)
            elif isinstance(action, Halt):
                self.triad.note(self, f"HALT {action.exit_code} {action.reason}")
                self.halted = (action.exit_code, action.reason)
                self.triad.exited(self)
                return False
        return True
