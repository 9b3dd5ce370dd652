"""One server after the other is killed, frozen, stopped or robbed of its disk, while clients work.

At any time at most one server is down, so nothing may ever be lost (I4), and the sum of what the
clients believe in may never exceed the licence (I3). ``FLEXCORE_CHAOS_S`` makes it longer,
``FLEXCORE_CHAOS_SEED`` repeats a run as far as real processes can be repeated.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import threading
import time
from functools import partial

import pytest

from flexcore.errors import CheckoutDenied
from flexcore.identity import Rank
from flexcore_sync import connect
from tests.real.triad import PATIENCE_S, running, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
]

CHAOS_S = float(os.environ.get("FLEXCORE_CHAOS_S", "20"))
SEED = int(os.environ.get("FLEXCORE_CHAOS_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
CLIENTS = 6
LICENSED = 4


class Worker:
    """A client that holds one seat for good and takes and returns others."""

    def __init__(self, triad, number, pool):
        self.lost: list[str] = []
        self.errors: list[BaseException] = []
        self.granted = self.denied = 0
        self.pool = pool
        self.stop = threading.Event()
        self.client = connect(
            triad.path, keys=[triad.key.verifying_key], user=f"user{number}", host="elm",
            display=":0", timeout_s=PATIENCE_S, on_loss=lambda seat, why: self.lost.append(str(why)),
        )  # fmt: skip
        self.kept = self.client.checkout("kept")
        self.thread = threading.Thread(target=self._run, name=f"worker {number}")

    def _run(self):
        try:
            while not self.stop.is_set():
                try:
                    with self.client.checkout("f1") as seat:
                        self.granted += 1
                        self.pool.believe(seat)
                        time.sleep(0.005)
                        self.pool.leave()
                except CheckoutDenied as denied:
                    if denied.code != -4:
                        raise
                    self.denied += 1
                    time.sleep(0.002)
        except BaseException as error:  # noqa: BLE001 - the test's thread raises it
            self.errors.append(error)


class Pool:
    """How many believe in a seat of f1 at this moment, and whether it was ever too many."""

    def __init__(self):
        self._lock = threading.Lock()
        self.now = self.most = 0
        self.not_held = 0

    def believe(self, seat):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.not_held += not seat.held

    def leave(self):
        with self._lock:
            self.now -= 1


def _more_than(workers, number):
    return sum(worker.granted for worker in workers) > number


def hurt(triad, draw, how, rank):
    """One fault and its repair; what is asserted is that the others go on serving meanwhile."""
    if how == "kill":
        triad.kill(rank)
        triad.until_master()
        triad.start(rank, first_start=False)
    elif how == "lose disk":
        triad.kill(rank)
        shutil.rmtree(triad.state_dir(rank))
        triad.start(rank, first_start=False)
    elif how == "stop":
        assert triad.end(rank) == 0
        triad.until_master()
        triad.start(rank, first_start=False)
    else:
        triad.freeze(rank)
        time.sleep(draw.uniform(0.0, 2.0 * triad.timeout_s))
        triad.thaw(rank)
    triad.until_all_follow()


def test_nothing_is_lost_and_nothing_is_given_twice(tmp_path):
    draw = random.Random(SEED)
    print(f"FLEXCORE_CHAOS_SEED={SEED}")
    features = (f"f1 1.0 permanent {LICENSED}", f"kept 1.0 permanent {CLIENTS}")
    with running(tmp_path, features=features) as triad:
        triad.start(*Rank)
        triad.until_all_follow()
        pool = Pool()
        workers = [Worker(triad, number, pool) for number in range(CLIENTS)]
        handles = {worker.kept.handle for worker in workers}
        assert len(handles) == CLIENTS
        for worker in workers:
            worker.thread.start()
        try:
            end = time.monotonic() + CHAOS_S
            while time.monotonic() < end:
                rank, how = draw.choice(list(Rank)), draw.choice(["kill", "lose disk", "stop", "freeze"])
                print(f"{how} {rank.word}")
                hurt(triad, draw, how, rank)
                before = sum(worker.granted for worker in workers)
                until("checkouts go on", partial(_more_than, workers, before))
        finally:
            for worker in workers:
                worker.stop.set()
            for worker in workers:
                worker.thread.join(PATIENCE_S)
        print(f"granted {sum(w.granted for w in workers)}, denied {sum(w.denied for w in workers)}")
        assert [error for worker in workers for error in worker.errors] == []
        assert pool.most <= LICENSED
        assert pool.not_held == 0
        assert [why for worker in workers for why in worker.lost] == []
        assert all(worker.kept.held for worker in workers)
        assert {seat.handle for seat in triad.seats() if seat.feature == "kept"} == handles
        for worker in workers:
            worker.client.close()
        until("all is given back", lambda: not triad.seats())
