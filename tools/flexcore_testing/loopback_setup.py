"""What both kinds of real triad on loopback have in common: ports, licence file, disks, logs."""

from __future__ import annotations

import datetime
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from flexcore.errors import LocalProtocolError
from flexcore.identity import Rank
from flexcore.keys import VerifyingKey
from flexcore.licensefile import LicenseFile
from flexcore.quorum import PersistBatch, StoredState
from flexcore.report.logline import log_line
from flexcore.server import ServerConfig
from flexcore.wire.messages import ServerAddress
from flexcore_testing.disk import Disk
from flexcore_testing.harness_licence import Terms, epoch_of, read_terms
from flexcore_testing.harness_names import ServerName, rank_of
from flexcore_testing.inquiry import SOFTWARE
from flexcore_trio import open_listeners

HOST = "127.0.0.1"
"""Where everything listens."""

INTERVAL_S = 1
"""HEARTBEAT_INTERVAL where a test names none: a frozen master is replaced after 3 s, not 79."""

LOG_LINES_MAX = 10_000
"""Lines of each server's debug log that are kept."""

STARTUP_S = 10.0
"""How long servers may take to begin to serve, beyond the timeout of the triad."""

TAKING_PART = frozenset({"serving", "follower"})


class DiskStore:
    """A :class:`~flexcore_trio.Store` on a made-up disk: it survives the server, and can be lost."""

    blocking = False
    keeps = True

    def __init__(self, disk: Disk, place: str) -> None:
        self.disk = disk
        self.place = place

    def load(self) -> StoredState | None:
        """Return what was written."""
        return self.disk.load()

    def write(self, batch: PersistBatch) -> None:
        """Keep the batch."""
        self.disk.write(batch)

    def close(self) -> None:
        """Do nothing."""


class Ports:
    """A port of this machine for each server, kept while its server is down: nobody else may get it meanwhile."""

    def __init__(self) -> None:
        self._kept: list[socket.socket] = []
        self.numbers: list[int] = []
        for _ in Rank:
            keeper = socket.socket()
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind((HOST, 0))  # bound and never listening: connections to it are refused
            self._kept.append(keeper)
            self.numbers.append(keeper.getsockname()[1])

    def listen(self, rank: Rank) -> list[socket.socket]:
        """Return the server's listening sockets."""
        return open_listeners([HOST], self.numbers[rank])

    def close(self) -> None:
        """Let go of all ports."""
        for keeper in self._kept:
            keeper.close()


class Stage:
    """The licence file, the disks and the logs of a real triad; which servers run is its driver's business."""

    def __init__(
        self,
        license: str | os.PathLike[str] | LicenseFile | None,
        *,
        features: Mapping[str, int] | None,
        keys: VerifyingKey | str | Iterable[VerifyingKey | str],
        heartbeat_interval_s: int | None,
        primary_is_master: bool | None,
        date: datetime.date | str | None,
        wall: Callable[[], float],
    ) -> None:
        self.terms: Terms = read_terms(
            license, features=features, keys=keys, heartbeat_interval_s=heartbeat_interval_s,
            primary_is_master=primary_is_master,
        )  # fmt: skip
        self._wall = wall
        self._ahead_s = 0.0 if date is None else epoch_of(date) - wall()
        self.ports = Ports()
        self.addresses = tuple(ServerAddress(HOST, port) for port in self.ports.numbers)
        self.disks = tuple(Disk() for _ in Rank)
        self.logs: tuple[deque[str], ...] = tuple(deque(maxlen=LOG_LINES_MAX) for _ in Rank)
        self.first_start = True

    @property
    def path(self) -> str:
        """The search path of this triad."""
        return ",".join(f"{address.port}@{address.host}" for address in self.addresses)

    @property
    def timeout_s(self) -> float:
        """The timeout of this triad."""
        return self.config(Rank.PRIMARY, self.addresses).timeout_s

    def wall(self) -> float:
        """The calendar of this triad, in epoch seconds."""
        return self._wall() + self._ahead_s

    def config(self, rank: Rank, addresses: Sequence[ServerAddress]) -> ServerConfig:
        """What a server is told when it starts; *addresses* are where it finds the others."""
        file = self.terms.license
        return ServerConfig(
            license=file, keys=self.terms.keys, rank=rank, license_path=file.name or "test.lic", software=SOFTWARE,
            first_start=self.first_start, addresses=tuple(addresses),
        )  # fmt: skip

    def store(self, rank: Rank) -> DiskStore:
        """The server's disk."""
        return DiskStore(self.disks[rank], f"the disk of the {rank.word}")

    def note(self, rank: Rank, lines: Sequence[tuple[str, str]]) -> None:
        """Keep what a server writes to its debug log."""
        wall = self.wall()
        self.logs[rank].extend(log_line(wall, 0.0, daemon, text) for daemon, text in lines)

    def log(self, server: ServerName) -> str:
        """The debug log of a server."""
        return "".join(f"{line}\n" for line in list(self.logs[self.rank(server)]))

    def rank(self, server: ServerName) -> Rank:
        """The server that is meant. Raises ValueError."""
        return rank_of(server, self.terms.license)

    def lose_disk(self, rank: Rank) -> None:
        """Replace the disk of a server that is down by an empty one."""
        self.disks[rank].lose()

    def states_text(self, states: Sequence[str]) -> str:
        """What each server does, and the end of its log, for a person who reads a failure."""
        parts = []
        for rank, state in zip(Rank, states, strict=True):
            parts.append(f"  {rank.word}: {state}")
            parts += [f"      {line}" for line in list(self.logs[rank])[-5:]]
        return "\n".join(parts)


def must_run(rank: Rank, runs: bool, what: str) -> None:
    """Raise LocalProtocolError unless the server is there."""
    if not runs:
        raise LocalProtocolError(f"cannot {what} the {rank.word}: it is down")


def must_be_down(rank: Rank, runs: bool, what: str) -> None:
    """Raise LocalProtocolError if the server is there."""
    if runs:
        raise LocalProtocolError(f"the {rank.word} runs: {what}")
