"""The clients of a chaos run, and the moments at which their books are compared with ``lmstat``."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from flexcore_host import clock
from flexcore_testing.history import HistoryWriter

from .ground import CLIENTS
from .servers import FLEXCORE, PATIENCE_S, ChaosFailed, Servers, until

__all__ = ["FEATURES", "Load"]

FEATURES = {"f1": 5, "kept": 3, "r1": 2}
"""What is licensed: too little of f1 for all who churn; one ``kept`` for each keeper; r1 for ``run``."""

CHURNERS = 4
RUNNERS = 2
QUIET_S = 45.0
"""How long a client may take to become quiet: a checkout under way waits for a failover."""
_POLL_S = 0.02
_TAIL_BYTES = 65536
"""More than the longest row."""


class Client:
    """One worker process."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], book: Path) -> None:
        self.name = name
        self.process = process
        self.book = book
        self.read = 0

    def tell(self, order: str) -> None:
        """Give it an order; one that is gone is found out elsewhere."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(f"{order}\n".encode())
            self.process.stdin.flush()


class Load:
    """All clients."""

    def __init__(self, servers: Servers, draw: random.Random, *, runners: int = RUNNERS) -> None:
        self.servers = servers
        self.draw = draw
        self.folder = servers.folder
        self.runners = runners
        self.clients: dict[str, Client] = {}
        self.runs: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.killed_at: dict[str, float] = {}
        self.excused: set[str] = set()
        self.quiet_moments = 0
        self.compared = 0
        self.history = HistoryWriter(self.folder / "history-conductor.jsonl", pools=FEATURES)
        self._names = 0

    # --- processes -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start everybody."""
        for _ in range(FEATURES["kept"]):
            self.start("keep")
        for _ in range(CHURNERS):
            self.start("churn")
        self.tend()

    def start(self, role: str) -> Client:
        """Start one client; names are used once."""
        self._names += 1
        name = f"{role}{self._names}"
        command = [
            *self.servers.ground.prefix(CLIENTS), sys.executable, "-m", "flexcore_testing.chaos.worker",
            "--name", name, "--role", role, "--folder", str(self.folder), "--path", self.servers.path(),
            "--key", str(self.servers.key.verifying_key), "--seed", str(self.draw.getrandbits(32)),
        ]  # fmt: skip
        with (self.folder / "clients.err").open("ab") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=errors, stderr=errors, start_new_session=True
            )
        client = Client(name, process, self.folder / f"book-{name}.jsonl")
        self.clients[name] = client
        return client

    def tend(self) -> None:
        """Start what has ended in order; raise if a client has ended by itself."""
        for client in self.clients.values():
            status = client.process.poll()
            if status is not None:
                raise ChaosFailed(f"the client {client.name} has ended, status {status}: see clients.err")
        for name, process in list(self.runs):
            if process.poll() is not None:
                self.runs.remove((name, process))
                if process.returncode not in (0, 252):  # 252: all of r1 are held
                    raise ChaosFailed(f"flexcore run ({name}) ended with {process.returncode}: see clients.err")
        while len(self.runs) < self.runners:
            self._start_run()

    def _start_run(self) -> None:
        self._names += 1
        name = f"run{self._names}"
        seconds = f"{self.draw.uniform(0.5, 20.0):.2f}"
        command = [
            *self.servers.ground.prefix(CLIENTS), *FLEXCORE, "run", "-c", self.servers.path(), "-f", "r1",
            "--vendor-key", str(self.servers.key_file), "--wait", str(PATIENCE_S), "--",
            sys.executable, str(Path(__file__).with_name("child.py")),
            str(self.folder / f"book-{name}.jsonl"), seconds, "r1",
        ]  # fmt: skip
        with (self.folder / "clients.err").open("ab") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True
            )
        self.runs.append((name, process))

    def kill_one(self) -> str:
        """kill -9 of a churning client; another takes its place. Returns its name."""
        client = self.draw.choice([c for c in self.clients.values() if c.name.startswith("churn")])
        del self.clients[client.name]
        before = clock.now()
        client.process.kill()
        client.process.wait()
        self.history.write("died", client=client.name, until=before)
        self.excused.add(client.name)
        self.killed_at[client.name] = time.monotonic()
        self._forget(client)
        self.start("churn")
        return client.name

    def freeze_one(self, seconds: float) -> str:
        """SIGSTOP a churning client for a while shorter than its lease."""
        client = self.draw.choice([c for c in self.clients.values() if c.name.startswith("churn")])
        client.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        client.process.send_signal(signal.SIGCONT)
        return client.name

    def _forget(self, client: Client) -> None:
        if client.process.stdin is not None:
            with contextlib.suppress(OSError):
                client.process.stdin.close()

    # --- looking ---------------------------------------------------------------------------------------

    def await_work(self, what: str) -> None:
        """Wait until a churning client has been granted something from now on."""
        offsets = {c.name: c.book.stat().st_size if c.book.exists() else 0 for c in self.clients.values()}

        def granted() -> bool:
            self.tend()
            for client in self.clients.values():
                if client.name.startswith("churn") and client.book.exists():
                    with client.book.open("rb") as file:
                        file.seek(offsets.get(client.name, 0))
                        if b'"granted"' in file.read():
                            return True
            return False

        until(f"checkouts go on after: {what}", granted)

    def compare(self) -> None:
        """Make everybody quiet and compare all books with ``lmstat``. Raises ChaosFailed."""
        self.quiet_moments += 1
        number = self.quiet_moments
        for client in self.clients.values():
            client.tell(f"quiet {number}")
        expected: set[tuple[Any, ...]] = set()
        for client in self.clients.values():
            for feature, handle, count, started in self._quiet_row(client, number)["held"]:
                expected.add((client.name, feature, handle, count, round(started, 3)))
        self._compare(expected)
        self.compared += len(expected)
        for client in self.clients.values():
            client.tell("go")

    def _quiet_row(self, client: Client, number: int) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def quiet() -> bool:
            if client.process.poll() is not None:
                raise ChaosFailed(f"the client {client.name} has ended: see clients.err")
            if client.book.exists():
                last = _last_row(client.book)
                if last is not None and last["what"] == "quiet" and last["number"] == number:
                    found.append(last)
            return bool(found)

        until(f"{client.name} is quiet", quiet, QUIET_S)
        return found[0]

    def _compare(self, expected: set[tuple[Any, ...]]) -> None:
        """Whatever clients hold must stand in lmstat at once; what stands there too much must soon go."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            told = self.servers.lmstat()
            if told is not None:
                seen = {
                    (s["user"], s["feature"], s["handle"], s["count"], round(s["started"], 3))
                    for s in told["seats"]
                    if s["feature"] != "r1"
                }
                missing = expected - seen
                if missing:
                    raise ChaosFailed(f"held by clients, but not in lmstat: {sorted(missing)}")
                spare = {row for row in seen - expected if not self._died_lately(row[0])}
                if not spare:
                    return
            else:
                spare = set()
            if time.monotonic() > deadline:
                raise ChaosFailed(
                    f"in lmstat, but held by nobody: {sorted(spare)}" if spare else "lmstat: nobody serves"
                )
            time.sleep(_POLL_S * 10)

    def _died_lately(self, name: str) -> bool:
        """Whether a killed client's lease may still run: L' + TO, and some time for a busy machine."""
        died_at = self.killed_at.get(name)
        return died_at is not None and time.monotonic() < died_at + PATIENCE_S

    # --- the end ---------------------------------------------------------------------------------------

    def end(self) -> None:
        """Everybody gives everything back; then lmstat must show nothing."""
        (self.folder / "ending").touch()
        for client in self.clients.values():
            client.tell("end")
        for client in list(self.clients.values()):
            try:
                status = client.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                raise ChaosFailed(f"the client {client.name} does not end") from None
            if status != 0:
                raise ChaosFailed(f"the client {client.name} ended with {status}: see clients.err")
            self._forget(client)
        self.clients.clear()
        for name, process in self.runs:
            if process.wait(PATIENCE_S) not in (0, 252):
                raise ChaosFailed(f"flexcore run ({name}) ended with {process.returncode}")
        self.runs.clear()

        def empty() -> bool:
            told = self.servers.lmstat()
            return told is not None and not told["seats"]

        until("lmstat shows nobody after all have given everything back", empty)

    def close(self) -> None:
        """Kill what is left."""
        for process in [client.process for client in self.clients.values()] + [p for _, p in self.runs]:
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        for client in self.clients.values():
            self._forget(client)
        self.history.close()

    @property
    def books(self) -> list[Path]:
        """All books of the run."""
        return sorted(self.folder.glob("book-*.jsonl"))


def _last_row(path: Path) -> dict[str, Any] | None:
    """The last whole row of a book that may be long."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    if not lines:
        return None
    row: dict[str, Any] = json.loads(lines[-1])
    return row
