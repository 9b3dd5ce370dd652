"""etcd beside the triad, over gRPC as its own clients speak it, with the few messages that a checkout needs.

The messages are encoded here (etcd's ``rpc.proto`` has their numbers), once for each client: what Python would spend
on building them is not etcd's cost. The gRPC library's own cost stays: with 64 threads on the one CPU that all of a row
shares, it uses about twice what the three members do. So their CPU for each op says what etcd costs, and its
operations a second there are what a Python program gets from it, not what it can do.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .load import Figure
from .machine import child, command, cpu_s, module, until
from .servers import HOST, free_ports

STATUS = "/etcdserverpb.Maintenance/Status"
TXN = "/etcdserverpb.KV/Txn"
DELETE = "/etcdserverpb.KV/DeleteRange"
ANSWER_S = 30.0

VARINT, LENGTH = 0, 2  # wire types of protocol buffers


def varint(number: int) -> bytes:
    """*number* (not negative) in groups of seven bits, the lowest first."""
    some = bytearray()
    while number > 0x7F:
        some.append(number & 0x7F | 0x80)
        number >>= 7
    some.append(number)
    return bytes(some)


def piece(field: int, data: bytes) -> bytes:
    """A field of bytes, or of a message."""
    return varint(field << 3 | LENGTH) + varint(len(data)) + data


def whole(field: int, number: int) -> bytes:
    """A field of a number; 0 is written as well, since it stands for the choice in a ``oneof``."""
    return varint(field << 3 | VARINT) + varint(number)


def fields(data: bytes) -> dict[int, int | bytes]:
    """The fields of a message, the last one of each number. Raises ValueError for any other wire type."""
    found: dict[int, int | bytes] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == VARINT:
            found[tag >> 3] = number()
        elif tag & 7 == LENGTH:
            size = number()
            found[tag >> 3] = data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {tag & 7}")
    return found


def take(key: bytes, value: bytes) -> bytes:
    """TxnRequest: put *key*, if it is not there (its version is 0)."""
    compare = whole(1, 0) + whole(2, 0) + piece(3, key) + whole(4, 0)  # EQUAL, VERSION, key, version
    put = piece(1, key) + piece(2, value)
    return piece(1, compare) + piece(2, piece(2, put))


def give_back(key: bytes) -> bytes:
    """DeleteRangeRequest: delete *key*."""
    return piece(1, key)


class Stub:
    """One channel of gRPC, messages as bytes."""

    def __init__(self, address: str) -> None:
        import grpc

        # Without the option all channels of a process to one address are one connection.
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.status, self.txn, self.delete = (self._method(name) for name in (STATUS, TXN, DELETE))

    def _method(self, name: str) -> Callable[[bytes], bytes]:
        call: Any = self._channel.unary_unary(name)
        return lambda request: call(request, timeout=ANSWER_S)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()


@contextlib.contextmanager
def cluster(disk: Path | None) -> Iterator[tuple[str, list[int]]]:
    """(address of the leader, pids) of three members whose data are under *disk*."""
    program = command("etcd", "etcd-server")
    module("grpc", "grpcio")
    ports = free_ports(6)
    peers = ",".join(f"m{n}=http://{HOST}:{ports[n]}" for n in range(3))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flexcore-bench-etcd-", dir=disk))
        processes = [
            stack.enter_context(child([
                program, "--name", f"m{n}", "--data-dir", f"{folder}/{n}", "--initial-cluster", peers,
                "--initial-cluster-state", "new", "--listen-peer-urls", f"http://{HOST}:{ports[n]}",
                "--initial-advertise-peer-urls", f"http://{HOST}:{ports[n]}",
                "--listen-client-urls", f"http://{HOST}:{ports[3 + n]}",
                "--advertise-client-urls", f"http://{HOST}:{ports[3 + n]}",
            ]))
            for n in range(3)
        ]  # fmt: skip
        leader = ""

        def elected() -> bool:
            nonlocal leader
            for n in range(3):
                address = f"{HOST}:{ports[3 + n]}"
                if leads(address):
                    leader = address
            return bool(leader)

        until("etcd has a leader", elected)
        yield leader, [process.pid for process in processes]


def leads(address: str) -> bool:
    """Whether the member at *address* is the leader; False where it does not answer."""
    import grpc

    stub = Stub(address)
    try:
        status = fields(stub.status(b""))
    except grpc.RpcError:
        return False
    finally:
        stub.close()
    header = status.get(1, b"")
    assert isinstance(header, bytes)
    return bool(status.get(4)) and status[4] == fields(header).get(2)  # leader, member_id


class Crowd:
    """Threads that take and give back, each over a connection of its own and a key of its own."""

    def __init__(self, address: str, clients: int) -> None:
        self.done = [0] * clients
        self.waits_us: list[list[float]] = [[] for _ in range(clients)]
        self.broken: list[BaseException] = []
        self._address = address
        self._begin, self._stop = threading.Barrier(clients + 1), threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(clients)]

    def start(self) -> None:
        """Begin, all at once. Raises what a client raised meanwhile."""
        for thread in self._threads:
            thread.start()
        with contextlib.suppress(threading.BrokenBarrierError):
            self._begin.wait()

    def end(self) -> None:
        """Stop, and raise what went wrong with any."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.broken:
            raise self.broken[0]

    def _work(self, number: int) -> None:
        try:
            stub = Stub(self._address)
            key = f"f1/{number}".encode()
            taking, giving = take(key, b"seat"), give_back(key)
            self._begin.wait()
            while not self._stop.is_set():
                at = time.perf_counter()
                taken = fields(stub.txn(taking))
                middle = time.perf_counter()
                given = fields(stub.delete(giving))
                if taken.get(2) != 1 or given.get(2) != 1:  # succeeded; how many were deleted
                    raise AssertionError("etcd lost a seat")
                self.waits_us[number] += [(middle - at) * 1e6, (time.perf_counter() - middle) * 1e6]
                self.done[number] += 2
            stub.close()
        except BaseException as error:  # noqa: BLE001  raised again where the threads are joined
            self.broken.append(error)
            self._begin.abort()


def checkouts(seconds: float, clients: int, disk: Path | None) -> Figure:
    """Checkouts as transactions (the seat's key must not exist), checkins as deletions. Raises Missing."""
    with cluster(disk) as (leader, pids):
        crowd = Crowd(leader, clients)
        crowd.start()
        time.sleep(seconds / 4)
        before, used, started = sum(crowd.done), cpu_s(pids), time.perf_counter()
        time.sleep(seconds)
        # also where the window is a blink
        until("an op of etcd", lambda: sum(crowd.done) > before or bool(crowd.broken))
        ops, took, used = sum(crowd.done) - before, time.perf_counter() - started, cpu_s(pids) - used
        crowd.end()
    cuts = statistics.quantiles([each for some in crowd.waits_us for each in some], n=100)
    return Figure(ops_s=ops / took, p50_us=cuts[49], p99_us=cuts[98], cpu_us=used / ops * 1e6)
