"""Redundancy by search path, simulated: several independent single servers, and clients with a path over them.

The other simulation has one triad and all faults of its network; here each alternative of the path is a server of its
own, connections are reliable with random delays, and servers are killed. Real nodes on both sides
(:class:`~flexcore.server.node.ServerNode`, :class:`~flexcore.client.ClientNode`), messages instead of bytes, and one
clock that the seed's schedule moves. :meth:`PathWorld.check` says after every turn what must hold: nobody holds two
seats for one request, and no server has more out than it has.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from flexcore.client import (
    Abort,
    CheckoutDeniedAction,
    CheckoutGranted,
    CheckoutQueued,
    ClientConfig,
    ClientNode,
    Close,
    Connect,
    ConnectFailed,
    ConnectionEnded,
    ConnectionMade,
    MessageReceived,
    Seat,
    SeatLost,
    SendMessage,
)
from flexcore.client.values import PATH_ORDER, NodeEvent
from flexcore.ledger.state import LedgerState
from flexcore.licensefile import parse_license, sign_license
from flexcore.server import ServerConfig
from flexcore.server.actions import CloseConnection, Persist
from flexcore.server.node import ServerNode
from flexcore.wire.messages import ServerAddress

from .licences import signing_key

WALL = 1_800_000_000.0
DELAY_S = 0.05
"""The longest way of a message."""
STEPS_MAX = 500_000


class Pipe:
    """A connection: what is under way on it arrives in order."""

    def __init__(self, client: PathClient, conn: int, server: PathServer, number: int) -> None:
        self.client, self.conn, self.server, self.number = client, conn, server, number
        self.open = True
        self.last_at = {"up": 0.0, "down": 0.0}


class PathServer:
    """A single server with *seats* licences of f1."""

    def __init__(self, world: PathWorld, name: str, seats: int) -> None:
        self.world, self.address, self.seats = world, ServerAddress(name, 1000), seats
        text = (f"SERVER {name} ANY 1000 HEARTBEAT_INTERVAL=1\nVENDOR demo\n"
                f"FEATURE f1 demo 1.0 permanent {seats}\n")  # fmt: skip
        config = ServerConfig(license=sign_license(parse_license(text), signing_key()),
                              keys=(signing_key().verifying_key,), first_start=True)  # fmt: skip
        draw = world.rng.randbytes
        self.node: ServerNode | None = ServerNode(
            config, boot_id=draw(16), triad_id=draw(16), now=world.now, wall=world.wall
        )
        self.pipes: dict[int, Pipe] = {}
        self.number = 0
        self.wake_at: float | None = None
        self.turn()

    @property
    def state(self) -> LedgerState:
        """What it has out, and who waits."""
        assert self.node is not None, "it was killed"
        return self.node.quorum.ledger.state

    def accept(self, pipe: Pipe) -> None:
        """A client has connected."""
        if self.node is not None:
            self.pipes[pipe.number] = pipe
            self.node.connection_opened(
                pipe.number, nonce=self.world.rng.randbytes(16), local=False, remote="10.0.0.1",
                now=self.world.now, wall=self.world.wall,
            )  # fmt: skip
            self.turn()

    def receive(self, pipe: Pipe, message: Any) -> None:
        """A message has arrived."""
        if self.node is not None and pipe.number in self.pipes:
            self.node.receive_message(pipe.number, message, now=self.world.now, wall=self.world.wall)
            self.turn()

    def ended(self, pipe: Pipe, orderly: bool) -> None:
        """The client has closed."""
        if self.node is not None and self.pipes.pop(pipe.number, None) is not None:
            self.node.connection_ended(pipe.number, orderly=orderly, now=self.world.now, wall=self.world.wall)
            self.turn()

    def kill(self) -> None:
        """The machine is gone for good; its connections break."""
        self.node = None
        for pipe in self.pipes.values():
            self.world.end(pipe, "down", "reset by peer")
        self.pipes.clear()

    def turn(self) -> None:
        """What its loop does."""
        node, busy = self.node, True
        while busy and node is not None:
            busy = False
            due = node.next_timeout()
            if due is not None and due <= self.world.now:
                node.handle_timeout(now=self.world.now, wall=self.world.wall)
            node.end_turn(now=self.world.now, wall=self.world.wall)
            for conn, message in node.messages_to_send():
                if conn in self.pipes:
                    pipe = self.pipes[conn]
                    self.world.send(pipe, "down", partial(pipe.client.receive, pipe, message))
            while (action := node.next_action()) is not None:
                if isinstance(action, Persist):
                    busy = True
                    node.persisted(action.ticket, now=self.world.now, wall=self.world.wall)
                elif isinstance(action, CloseConnection) and action.conn in self.pipes:
                    self.world.end(self.pipes.pop(action.conn), "down", "closed by the server")
        if node is not None:
            self.wake_at = self.world.wake(self.wake_at, node.next_timeout(), self.turn)


class PathClient:
    """One client; *held* and *told* are what its application knows."""

    def __init__(self, world: PathWorld, name: str, path: tuple[ServerAddress, ...], prefer: str) -> None:
        self.world, self.name = world, name
        config = ClientConfig(path=tuple((address,) for address in path), vendor="demo", user=name, host=name,
                              display=":0", keys=(signing_key().verifying_key,), prefer=prefer)  # fmt: skip
        self.node = ClientNode(config, entropy=world.rng.randbytes(32), now=world.now, wall=world.wall)
        self.pipes: dict[int, Pipe] = {}
        self.held: dict[tuple[int, int], Seat] = {}
        self.told: list[Any] = []
        self.asked = 0
        self.wake_at: float | None = None
        self.on_told: Callable[[Any], None] = lambda action: None

    def checkout(self, *, queue: bool = False) -> int:
        """Ask for a seat of f1."""
        self.asked += 1
        request = self.node.checkout("f1", queue=queue, now=self.world.now, wall=self.world.wall)
        self.turn()
        return request

    def checkin(self) -> None:
        """Give back what is held."""
        for key in list(self.held):
            self.give_back(key)

    def give_back(self, key: tuple[int, int]) -> None:
        """Give one seat back, by its place in the path and its handle."""
        seat = self.held.pop(key)
        self.node.checkin(seat.handle, site=seat.site, now=self.world.now, wall=self.world.wall)
        self.turn()

    def receive(self, pipe: Pipe, message: Any) -> None:
        """A message has arrived."""
        if pipe.conn in self.pipes:
            self._happened(MessageReceived(conn=pipe.conn, message=message))

    def ended(self, pipe: Pipe, error: str) -> None:
        """The server has closed, or is gone."""
        if self.pipes.pop(pipe.conn, None) is not None:
            self._happened(ConnectionEnded(conn=pipe.conn, error=error))

    def _happened(self, event: NodeEvent) -> None:
        self.node.receive_event(event, now=self.world.now, wall=self.world.wall)
        self.turn()

    def turn(self) -> None:
        """What its transport does."""
        due = self.node.next_timeout()
        if due is not None and due <= self.world.now:
            self.node.handle_timeout(now=self.world.now, wall=self.world.wall)
        while (action := self.node.next_action()) is not None:
            if isinstance(action, Connect):
                self.world.dial(self, action)
            elif isinstance(action, SendMessage) and action.conn in self.pipes:
                pipe = self.pipes[action.conn]
                self.world.send(pipe, "up", partial(pipe.server.receive, pipe, action.message))
            elif isinstance(action, Abort | Close) and action.conn in self.pipes:
                self.world.end(self.pipes.pop(action.conn), "up", "", orderly=isinstance(action, Close))
            elif isinstance(action, CheckoutGranted | CheckoutDeniedAction | CheckoutQueued | SeatLost):
                self._tell(action)
        self.wake_at = self.world.wake(self.wake_at, self.node.next_timeout(), self.turn)
        self.world.check()

    def _tell(self, action: Any) -> None:
        self.told.append(action)
        if isinstance(action, CheckoutGranted):
            self.held[action.seat.site, action.seat.handle] = action.seat
        elif isinstance(action, SeatLost):
            self.held.pop((action.seat.site, action.handle), None)
        self.world.after(0.0, lambda: self.on_told(action))


class PathWorld:
    """The servers, the clients, the delays and the clock of one seed."""

    def __init__(self, seed: int, seats: tuple[int, ...]) -> None:
        self.rng = random.Random(seed)
        self.now = 100.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._steps = 0
        self.clients: list[PathClient] = []
        self.servers = [PathServer(self, f"s{number}", count) for number, count in enumerate(seats)]

    def client(self, name: str, *servers: int, prefer: str = PATH_ORDER) -> PathClient:
        """A client whose path is these servers in this order, all of them without."""
        path = tuple(self.servers[number].address for number in servers or range(len(self.servers)))
        self.clients.append(PathClient(self, name, path, prefer))
        return self.clients[-1]

    @property
    def wall(self) -> float:
        """Everybody's calendar clock."""
        return WALL + self.now

    # --- time -------------------------------------------------------------------------------------

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something happen later."""
        self._steps += 1
        heapq.heappush(self._heap, (self.now + seconds, self._steps, act))

    def wake(self, before: float | None, due: float | None, turn: Callable[[], None]) -> float | None:
        """Have a turn when it is due, unless one is on its way; returns when that is."""
        if due is None or (before is not None and self.now < before <= due):
            return before
        at = max(due, self.now + 1e-6)
        self.after(at - self.now, turn)
        return at

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as *until* is."""
        end = self.now + seconds
        for _ in range(STEPS_MAX):
            if until():
                return True
            if not self._heap or self._heap[0][0] > end:
                self.now = end
                return until()
            self.now, _, act = heapq.heappop(self._heap)
            act()
        raise AssertionError("time does not pass")

    # --- the network ------------------------------------------------------------------------------

    def dial(self, client: PathClient, action: Connect) -> None:
        """Connect, some time later, or be refused."""
        server = next(each for each in self.servers if each.address.host == action.host)
        delay = self.rng.uniform(0.0, DELAY_S)

        def arrive() -> None:
            if server.node is None:
                failed = ConnectFailed(conn=action.conn, error="Connection refused", refused=True, errno=111)
                client.node.receive_event(failed, now=self.now, wall=self.wall)
            else:
                server.number += 1
                pipe = client.pipes[action.conn] = Pipe(client, action.conn, server, server.number)
                server.accept(pipe)
                client.node.receive_event(ConnectionMade(conn=action.conn), now=self.now, wall=self.wall)
            client.turn()

        self.after(delay, arrive)

    def send(self, pipe: Pipe, way: str, arrive: Callable[[], None]) -> None:
        """Have something arrive behind all that is under way there."""
        at = pipe.last_at[way] = max(pipe.last_at[way], self.now + self.rng.uniform(0.0, DELAY_S))
        self.after(at - self.now, arrive)

    def end(self, pipe: Pipe, way: str, error: str, *, orderly: bool = False) -> None:
        """One end closes; the other hears of it."""
        if way == "down":
            self.send(pipe, way, lambda: pipe.client.ended(pipe, error))
        else:
            self.send(pipe, way, lambda: pipe.server.ended(pipe, orderly))

    # --- what must hold ---------------------------------------------------------------------------

    def check(self) -> None:
        """Nobody holds two seats for one request; no server has more out than it has, by anybody's belief."""
        for client in self.clients:
            believed = client.node.held(self.now)
            assert len(believed) <= client.asked, f"{client.name} holds {believed} for {client.asked} requests"
        for server in self.servers:
            held = sum(
                seat.count for client in self.clients for seat in client.node.held(self.now)
                if client.node._config.path[seat.site][0] == server.address
            )  # fmt: skip
            assert held <= server.seats, f"{server.address.host}: {held} of {server.seats} are believed in"
            if server.node is not None:
                assert sum(server.state.in_use.values()) <= server.seats
