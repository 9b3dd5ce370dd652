"""The simulated network keeps TCP's promises and breaks only what it says it breaks."""

from __future__ import annotations

import random

import pytest

from flexcore_testing.clockwork import DriftingClock, WallClock, World
from flexcore_testing.journal import Journal, describe
from flexcore_testing.network import Network, NetworkSettings


class Node:
    """A process that writes down what the network tells it."""

    def __init__(self, name, serial, *, is_server=True):
        self.name = self.host = name
        self.serial = serial
        self.alive = True
        self.is_server = is_server
        self.got = []
        self.ends = []
        self.news = []
        self._conn = 100

    def take_conn(self):
        self._conn += 1
        return self._conn

    def accepted(self, conn, remote):
        self.news.append(("accepted", conn, remote))

    def arrived(self, conn, message):
        self.got.append(message)

    def ended(self, conn, orderly):
        self.ends.append((conn, orderly))

    def made(self, conn):
        self.news.append(("made", conn))

    def failed(self, conn, refused, error):
        self.news.append(("failed", refused))


class Pair:
    """A dialled connection from A to B."""

    def __init__(self, **settings):
        self.world = World()
        chosen = NetworkSettings()
        for name, value in settings.items():
            setattr(chosen, name, value)
        self.journal = Journal()
        self.network = Network(self.world, random.Random(1), chosen, self.journal)
        self.a, self.b = Node("A", 1), Node("B", 2)
        for node in (self.a, self.b):
            self.network.add_host(node.host)
            self.network.listen(node)

    def connect(self):
        self.network.dial(self.a, "B", 1, self.a.made, self.a.failed)
        self.world.run_until(self.world.now + 4)
        assert self.a.news[-1] == ("made", 1)
        return self.b.news[-1][1]

    def run(self, seconds):
        self.world.run_until(self.world.now + seconds)


def test_messages_arrive_in_order_whatever_the_delay():
    pair = Pair(delay_s=0.01, jitter_s=1.0)
    pair.connect()
    for number in range(50):
        pair.network.send(pair.a, 1, number)
    pair.run(5)
    assert pair.b.got == list(range(50))


def test_a_one_way_cut_stalls_one_direction_and_loses_nothing():
    pair = Pair(keepalive_min_s=1000, keepalive_max_s=1000)
    back = pair.connect()
    pair.network.cut("A", "B")
    pair.network.send(pair.a, 1, "there")
    pair.network.send(pair.b, back, "back")
    pair.run(10)
    assert (pair.b.got, pair.a.got) == ([], ["back"])
    pair.network.heal("A", "B")
    pair.network.send(pair.a, 1, "later")
    pair.run(10)
    assert pair.b.got == ["there", "later"]


def test_keepalives_end_what_stays_cut():
    pair = Pair(keepalive_min_s=5, keepalive_max_s=5)
    back = pair.connect()
    pair.network.cut("A", "B")
    pair.run(6)
    assert pair.a.ends == [(1, False)]
    assert pair.b.ends == [(back, False)]


def test_a_dead_process_ends_its_connections_and_refuses():
    pair = Pair()
    pair.connect()
    pair.b.alive = False
    pair.network.die(pair.b, says_so=True)
    pair.run(1)
    assert [conn for conn, _ in pair.a.ends] == [1]
    pair.network.dial(pair.a, "B", 2, pair.a.made, pair.a.failed)
    pair.run(1)
    assert pair.a.news[-1] == ("failed", True)


def test_a_host_without_power_says_nothing_until_it_is_back():
    pair = Pair(dial_timeout_s=1.0, keepalive_min_s=500, keepalive_max_s=500)
    pair.connect()
    pair.b.alive = False
    pair.network.die(pair.b, says_so=False)
    pair.network.power_off("B")
    pair.network.send(pair.a, 1, "hello?")
    pair.network.dial(pair.a, "B", 2, pair.a.made, pair.a.failed)
    pair.run(10)
    assert pair.a.ends == []
    assert pair.a.news[-1] == ("failed", False)
    pair.network.power_on("B")
    pair.network.send(pair.a, 1, "anybody?")
    pair.run(10)
    assert pair.a.ends == [(1, False)]


def test_a_half_open_link_is_noticed_by_sending():
    pair = Pair(keepalive_min_s=500, keepalive_max_s=500)
    back = pair.connect()
    assert pair.network.reset_between("A", "B", half_open=True) == 1
    pair.run(1)
    assert len(pair.a.ends) + len(pair.b.ends) == 1
    pair.network.send(pair.a, 1, "x")
    pair.network.send(pair.b, back, "y")
    pair.run(1)
    assert len(pair.a.ends) == len(pair.b.ends) == 1
    assert pair.a.got == pair.b.got == []


def test_an_orderly_end_comes_after_what_was_sent():
    pair = Pair(delay_s=0.01, jitter_s=0.5)
    back = pair.connect()
    pair.network.send(pair.a, 1, "last words")
    pair.network.close(pair.a, 1)
    pair.run(2)
    assert pair.b.got == ["last words"]
    assert pair.b.ends == [(back, True)]


@pytest.mark.parametrize("is_server", [True, False])
def test_unordered_mode_is_for_servers_only(is_server):
    pair = Pair(loss=0.3, double=0.3, reorder_s=1.0)
    pair.a.is_server = is_server
    pair.connect()
    for number in range(100):
        pair.network.send(pair.a, 1, number)
    pair.run(10)
    if is_server:
        assert pair.b.got != sorted(pair.b.got)
        assert len(set(pair.b.got)) < 100
        assert len(pair.b.got) > len(set(pair.b.got))
    else:
        assert pair.b.got == list(range(100))


def test_false_refusal_refuses_a_living_process():
    pair = Pair()
    pair.network.refusing.add(("A", "B"))
    pair.network.dial(pair.a, "B", 1, pair.a.made, pair.a.failed)
    pair.run(1)
    assert pair.a.news == [("failed", True)]


def test_clocks_drift_and_come_back():
    clock = DriftingClock(1.01, started_at=100.0, shows=5000.0)
    assert clock.local(200.0) == pytest.approx(5101.0)
    assert clock.true(clock.local(321.0)) == pytest.approx(321.0)
    wall = WallClock(1e9)
    wall.jump(-3600)
    assert wall.read(10.0) == 1e9 + 10 - 3600


def test_equal_times_run_in_the_order_of_asking():
    world = World()
    seen: list[int] = []
    for number in range(5):
        world.at(1.0, seen.append, number)
    assert world.run_until(2.0) is False
    assert seen == [0, 1, 2, 3, 4]


def test_the_journal_keeps_the_newest():
    journal = Journal(limit=2)
    for number in range(3):
        journal.note(float(number), "P", f"note {number}")
    assert [line.split()[-1] for line in journal.lines()] == ["1", "2"]
    assert describe((1.5, b"\x01\x02")) == "[1.500,0102]"
