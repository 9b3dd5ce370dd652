"""What a user would pick instead, measured beside it: Redis with a checkout in Lua, PySyncObj; :mod:`.etcd`.

Each peer does the essential work and no more: is a licence free, take it, give it back. What each of them promises is
said in its row, since it is not the same: Redis keeps nothing unless asked to, and replies before its replicas have it;
etcd has every write on the disk of two before it replies; PySyncObj keeps it in memory and is driven from inside the
leader's process, which flatters it.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from .load import Figure
from .machine import Missing, child, command, cpu_s, module, python, until
from .servers import HOST, free_ports

CHECKOUT_LUA = """
local used = redis.call('SCARD', KEYS[1])
if ARGV[1] == 'out' then
  if used >= tonumber(ARGV[3]) then return 0 end
  redis.call('SADD', KEYS[1], ARGV[2])
  return 1
end
return redis.call('SREM', KEYS[1], ARGV[2])
"""
"""One script for both: a set of holders, and its size against the count."""
SETTLE_S = 0.25


def measured(turn: Callable[[], int], seconds: float, pids: list[int]) -> Figure:
    """Call *turn*, which returns how many ops it did, for so long, after a quarter of that to warm up."""
    until_s = time.perf_counter() + seconds / 4
    while time.perf_counter() < until_s:
        turn()
    used = cpu_s(pids)
    ops, waits_us = 0, []
    started = time.perf_counter()
    while (at := time.perf_counter()) - started < seconds:
        done = turn()
        waits_us.append((time.perf_counter() - at) * 1e6)
        ops += done
    took = time.perf_counter() - started
    used = cpu_s(pids) - used
    cuts = statistics.quantiles(waits_us, n=100) if len(waits_us) > 1 else [0.0] * 99
    return Figure(ops_s=ops / took, p50_us=cuts[49], p99_us=cuts[98], cpu_us=used / ops * 1e6)


# --- Redis -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[int, int]]:
    """(port, pid) of a Redis that keeps nothing on disk."""
    program = command("redis-server", "redis-server")
    module("redis")
    (port,) = free_ports(1)
    arguments = [program, "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    with tempfile.TemporaryDirectory() as folder, child([*arguments, "--dir", folder]) as process:
        import redis

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError):
                return bool(redis.Redis(HOST, port).ping())
            return False

        until("Redis answers", answers)
        yield port, process.pid


def redis_lua(seconds: float, depth: int = 1) -> Figure:
    """Checkouts and checkins through redis-py (with hiredis), *depth* in a pipeline."""
    with redis_server() as (port, pid):
        import redis

        connection = redis.Redis(HOST, port)
        script = connection.register_script(CHECKOUT_LUA)
        script(["f1"], ["out", "warm", 10])
        script(["f1"], ["in", "warm", 10])
        seat = 0

        def one() -> int:
            nonlocal seat
            seat += 1
            if script(["f1"], ["out", seat, 1000]) != 1 or script(["f1"], ["in", seat, 1000]) != 1:
                raise AssertionError("Redis lost a seat")
            return 2

        def many() -> int:
            nonlocal seat
            for what in ("out", "in"):
                pipe = connection.pipeline(transaction=False)
                for number in range(depth):
                    pipe.evalsha(script.sha, 1, "f1", what, seat + number, 1000)
                if pipe.execute() != [1] * depth:
                    raise AssertionError("Redis lost a seat")
            seat += depth
            return 2 * depth

        return measured(one if depth == 1 else many, seconds, [pid])


# --- PySyncObj -------------------------------------------------------------------------------------------------------

PYSYNCOBJ_MEMBER = """
import sys, time
from pysyncobj import SyncObj, SyncObjConf, replicated
class Pool(SyncObj):
    def __init__(self, own, others):
        super().__init__(own, others, SyncObjConf(appendEntriesUseBatch=False, raftMinTimeout=0.4, raftMaxTimeout=1.4))
        self.holders = set()
    @replicated
    def out(self, seat):
        if len(self.holders) >= 100000: return False
        self.holders.add(seat)
        return True
    @replicated
    def back(self, seat):
        if seat not in self.holders: return False
        self.holders.remove(seat)
        return True
number, seconds, depth = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
addresses = sys.argv[4:]
pool = Pool(addresses[number], [each for each in addresses if each != addresses[number]])
while not (pool.isReady() and pool._getLeader() is not None):
    time.sleep(0.01)
print("ready", flush=True)
if number:
    time.sleep(3600)
import threading
def asked(what, seat, lock, counted):
    def answered(result, error):
        assert result is True, (result, error)
        counted.append(1)
        lock.release()
    lock.acquire()
    what(seat, callback=answered)
def run(seconds):
    counted, lock, seat = [], threading.Semaphore(depth), 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(depth):
            asked(pool.out, seat + _, lock, counted)
        for _ in range(depth):
            lock.acquire()
        for _ in range(depth):
            lock.release()
        for _ in range(depth):
            asked(pool.back, seat + _, lock, counted)
        for _ in range(depth):
            lock.acquire()
        for _ in range(depth):
            lock.release()
        seat += depth
    return len(counted) / (time.perf_counter() - started)
run(seconds / 4)
print(run(seconds), flush=True)
"""


def pysyncobj(seconds: float, depth: int) -> Figure:
    """Three members in memory, without its batching tick of 100 ms; driven inside one of them, *depth* under way."""
    module("pysyncobj")
    addresses = [f"{HOST}:{port}" for port in free_ports(3)]
    with contextlib.ExitStack() as stack:
        for number in (1, 2):
            stack.enter_context(
                child([sys.executable, "-c", PYSYNCOBJ_MEMBER, str(number), str(seconds), str(depth), *addresses])
            )
        driver, said = stack.enter_context(python(PYSYNCOBJ_MEMBER, "0", str(seconds), str(depth), *addresses))
        if said != "ready" or driver.stdout is None:
            raise Missing("PySyncObj does not come up here")
        return Figure(ops_s=float(driver.stdout.readline()))
