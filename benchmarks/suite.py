"""All rows of ``make bench``, and what each has to reach."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import checkout, etcd, failover, files, floor, peers, sizes, starts
from .load import Figure, Load
from .rows import AT_LEAST, AT_MOST, B, Goal, Row
from .servers import HOST, house

TMPFS = Path("/dev/shm")
KIB = 1024


def served(
    seconds: float, *, servers: int = 1, clients: int = 1, depth: int = 1, durable: bool = False
) -> Figure:
    """Ops a second of freshly launched servers."""
    with house(servers, durable=durable) as launched:
        load = Load(HOST, launched.serving(), clients, depth)
        try:
            return load.run(seconds, launched.pids)
        finally:
            load.close()


def simulated_hours_s(seconds: float) -> float:
    """Simulated hours a second of one core, all faults on."""
    from flexcore_testing.campaign import run_case
    from flexcore_testing.soak import case_of

    hours = spent_s = 0.0
    seed = 0
    while spent_s < seconds:
        seed += 1
        outcome = run_case(case_of(seed))
        assert not outcome.failure, outcome.text
        hours += outcome.simulated_s / 3600
        spent_s += outcome.spent_s
    return hours / spent_s


def rows(failovers: int) -> list[Row]:
    """Every row; *failovers*: how often the master is killed for each of those."""
    return [
        *_floors(), *_core(), *_single(), *_triad(), *_failover(failovers),
        *_files(), *_growth(), *_sizes(), *_starts(),
    ]  # fmt: skip


def _echo(clients: int, depth: int = 1) -> Callable[[float], Figure]:
    return lambda seconds: floor.echo(seconds, clients, depth)


def _floors() -> list[Row]:
    group = "Floor: trio echo of 64 bytes"
    return [
        Row(name=B, group=group, text="1 client (this is B)", measure=_echo(1)),
        Row(name="echo 100", group=group, text="100 clients", measure=_echo(100)),
        Row(name="echo 1000", group=group, text="1,000 clients", measure=_echo(1000)),
        Row(name="echo x64", group=group, text="1 client, 64 at once", measure=_echo(1, 64)),
    ]


def _core() -> list[Row]:
    group = "The core, without sockets"
    return [
        Row(name="core 1", group=group, text="one frame a call", measure=lambda s: checkout.in_core(s, 1),
            goals=(Goal(AT_LEAST, 18),)),
        Row(name="core 64", group=group, text="64 frames a call", measure=lambda s: checkout.in_core(s, 64),
            goals=(Goal(AT_LEAST, 46),)),
        Row(name="simulation", group=group, text="simulated hours a second, all faults on", unit="h/s",
            measure=simulated_hours_s, rounds_max=2),
    ]  # fmt: skip


def _single() -> list[Row]:
    group = "One server, lmgrd --state-dir none"
    goals = {1: 1.0, 10: 2.0, 100: 2.6, 1000: 2.0}
    measured = [
        Row(name=f"single {clients}", group=group, text=f"{clients:,} client{'s' * (clients > 1)}",
            measure=partial(served, clients=clients),
            goals=(Goal(AT_LEAST, goal), *((Goal(AT_LEAST, 1.5, "redis 1"),) if clients == 1 else ())))
        for clients, goal in goals.items()
    ]  # fmt: skip
    return [
        *measured,
        Row(name="single 10000", group=group, text="10,000 clients", measure=partial(served, clients=10_000),
            rounds_max=1, slow=True),
        Row(name="single x64", group=group, text="1 client, 64 at once", measure=partial(served, depth=64),
            goals=(Goal(AT_LEAST, 18), Goal(AT_LEAST, 5, "redis x64"))),
        Row(name="redis 1", group=group, text="Redis, checkout in Lua, redis-py: 1 client", measure=peers.redis_lua),
        Row(name="redis x64", group=group, text="Redis, the same, 64 in a pipeline",
            measure=lambda s: peers.redis_lua(s, 64)),
    ]  # fmt: skip


def _triad() -> list[Row]:
    group = "Triad, granted after two servers have it"
    return [
        Row(name="triad 1", group=group, text="in memory, 1 client", measure=partial(served, servers=3),
            goals=(Goal(AT_LEAST, 0.15),)),
        Row(name="triad 100", group=group, text="in memory, 100 clients",
            measure=partial(served, servers=3, clients=100),
            goals=(Goal(AT_LEAST, 1.7), Goal(AT_LEAST, 7, "pysyncobj 64"), Goal(AT_LEAST, 14, "etcd tmpfs 64"))),
        Row(name="triad 1000", group=group, text="in memory, 1,000 clients",
            measure=partial(served, servers=3, clients=1000), goals=(Goal(AT_LEAST, 1.6),)),
        Row(name="durable 1", group=group, text="on two disks, 1 client",
            measure=partial(served, servers=3, durable=True),
            goals=(Goal(AT_LEAST, 1.7, "etcd disk 1"),)),
        Row(name="durable 100", group=group, text="on two disks, 100 clients",
            measure=partial(served, servers=3, clients=100, durable=True), goals=(Goal(AT_LEAST, 7, "etcd disk 64"),)),
        Row(name="pysyncobj 1", group=group, text="PySyncObj, in memory, inside the leader: 1 under way",
            measure=lambda s: peers.pysyncobj(s, 1), rounds_max=3),
        Row(name="pysyncobj 64", group=group, text="PySyncObj, the same, 64 under way",
            measure=lambda s: peers.pysyncobj(s, 64), rounds_max=3),
        Row(name="etcd tmpfs 64", group=group, text="etcd on tmpfs, gRPC in Python, 64 clients",
            measure=lambda s: etcd.checkouts(s, 64, TMPFS), rounds_max=3),
        Row(name="etcd disk 1", group=group, text="etcd on disk, gRPC in Python, 1 client",
            measure=lambda s: etcd.checkouts(s, 1, None), rounds_max=3),
        Row(name="etcd disk 64", group=group, text="etcd on disk, gRPC in Python, 64 clients",
            measure=lambda s: etcd.checkouts(s, 64, None), rounds_max=3),
    ]  # fmt: skip


def _failover(times: int) -> list[Row]:
    group = "Failover: from the blow to the next checkout of an existing client"

    def killed(name: str, text: str, *, durable: bool, median_ms: float, worst_ms: float) -> Row:
        def often(_seconds: float) -> float:
            return failover.wait_s(durable=durable) * 1000

        goals = (Goal(AT_MOST, median_ms, ""), Goal(AT_MOST, worst_ms, "", worst=True))
        return Row(name=name, group=group, text=text, unit="ms", measure=often, goals=goals, rounds_max=times,
                   slow=True)  # fmt: skip

    def frozen(_seconds: float) -> float:
        return failover.wait_s(durable=False, frozen=True, interval_s=1) * 1000

    return [
        killed("kill memory", "kill -9 of the master, in memory", durable=False, median_ms=10, worst_ms=25),
        killed("kill durable", "kill -9 of the master, on disks", durable=True, median_ms=20, worst_ms=50),
        Row(name="stop", group=group, text="SIGSTOP of the master, HEARTBEAT_INTERVAL=1 (3 s)", unit="ms",
            measure=frozen, goals=(Goal(AT_MOST, 3010, ""),), rounds_max=min(5, times), slow=True),
    ]  # fmt: skip


def _files() -> list[Row]:
    group = "Licence files and the log"
    rows = []
    for lines in (10, 1_000, 10_000, 100_000):
        many = {"unit": "lines/s", "group": group, "rounds_max": 2 if lines > 1_000 else 1000, "slow": lines > 1_000}
        goal = (Goal(AT_LEAST, 0.8, f"ed25519 {lines}"),) if lines >= 1000 else ()
        each: list[tuple[str, str, Callable[[int], float], tuple[Goal, ...]]] = [
            ("parse", "parse", files.parse_lines_s, ()),
            ("verify", "verify", files.verify_lines_s, goal),
            ("ed25519", "bare Ed25519 over the same bytes", files.bare_ed25519_s, ()),
            ("sign", "sign, and read back", files.sign_lines_s, ()),
        ]
        rows += [
            Row(name=f"{name} {lines}", text=f"{text}: {lines:,} lines", goals=goals,
                measure=lambda _s, call=call, lines=lines: call(lines), **many)  # type: ignore[misc, arg-type]
            for name, text, call, goals in each
        ]  # fmt: skip
    million = {"unit": "s", "group": group, "rounds_max": 1, "slow": True}
    return [
        *rows,
        Row(name="snapshot", text="snapshot of 1,000,000 sessions", measure=lambda _s: files.snapshot_s(1_000_000),
            **million),  # type: ignore[arg-type]
        Row(name="catch up", text="taking that snapshot in", measure=lambda _s: files.catch_up_s(1_000_000),
            **million),  # type: ignore[arg-type]
    ]  # fmt: skip


def _growth() -> list[Row]:
    group = "Growth: cost of a checkout in the core, 64 a call"

    def cost_us(seconds: float, **more: int) -> float:
        return 1e6 / checkout.in_core(seconds, 64, **more)

    goal = (Goal(AT_MOST, 1.2, "outstanding 1"),)
    sizes_of = ((1, False), (1_000, False), (100_000, True), (1_000_000, True))
    return [
        *[Row(name=f"outstanding {count}", group=group, text=f"{count:,} outstanding", unit="us",
              measure=partial(cost_us, outstanding=count), goals=goal if count > 1 else (), slow=slow,
              rounds_max=1 if count > 100_000 else 3)
          for count, slow in sizes_of],
        Row(name="features", group=group, text="100,000 features in the file", unit="us", slow=True, rounds_max=1,
            measure=partial(cost_us, features=100_000), goals=goal),
    ]  # fmt: skip


def _sizes() -> list[Row]:
    group = "What things cost a server"
    return [
        Row(name="connection", group=group, text="an idle connection, of 2,000", unit="KiB", rounds_max=2, slow=True,
            measure=lambda _s: sizes.connection_bytes(2000) / KIB, goals=(Goal(AT_MOST, 4, ""),)),
        Row(name="seat", group=group, text="a checkout, of 100,000", unit="bytes", rounds_max=2, slow=True,
            measure=lambda _s: sizes.seat_bytes(100_000), goals=(Goal(AT_MOST, 600, ""),)),
        Row(name="feature", group=group, text="a feature, of 10,000", unit="bytes", rounds_max=1, slow=True,
            measure=lambda _s: sizes.feature_bytes(10_000)),
        Row(name="heartbeats", group=group, text="10,000 clients that only heartbeat", unit="% CPU", rounds_max=3,
            measure=sizes.heartbeats_cpu_share, goals=(Goal(AT_MOST, 5, ""),)),
        Row(name="lmstat seats", group=group, text="lmstat -a of 100,000 checkouts", unit="s", rounds_max=1, slow=True,
            measure=lambda _s: sizes.seats_listed_s(100_000)),
    ]  # fmt: skip


def _starts() -> list[Row]:
    group = "Starts, from exec"

    def start(name: str, text: str, call: Callable[[], float], *goals: Goal) -> Row:
        return Row(name=name, group=group, text=text, unit="ms", measure=lambda _s: call() * 1000, goals=goals)

    return [
        start("python", "python -I -c pass", starts.bare_python_s),
        start("version", "flexcore --version", starts.version_s, Goal(AT_MOST, 3, "python")),
        start("lmstat", "flexcore lmstat", starts.lmstat_s, Goal(AT_MOST, 6, "python")),
        start("run", "flexcore run true", starts.run_s, Goal(AT_MOST, 9, "python")),
        start("imports", 'python -I -c "import trio, attrs, cryptography"', starts.bare_imports_s),
        start("server", "lmgrd to its first connection", starts.server_s, Goal(AT_MOST, 1.5, "imports")),
    ]
