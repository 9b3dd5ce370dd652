"""Three ``flexcore lmgrd`` processes, and what can be done to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license
from flexcore.timing import timeout_s
from flexcore.wire.codec import MAX_FRAME_BYTES
from flexcore.wire.connection import Connection
from flexcore.wire.messages import PROTOCOL_VERSION, ClientHello, ServerHello, ServerReport

from .control import Control
from .ground import CLIENTS, Ground, Place

__all__ = ["FLEXCORE", "ChaosFailed", "Servers", "until"]

VENDOR = "demo"
HOSTIDS = ("ID=101", "ID=102", "ID=103")
FLEXCORE = [sys.executable, "-m", "flexcore_tools"]
PATIENCE_S = 90.0
"""How long anything may take that the protocol does in seconds; the machine may be busy."""
_ASK_S = 2.0
_POLL_S = 0.05


class ChaosFailed(Exception):
    """Something that must not happen has happened; the words say what."""


def until(what: str, condition: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
    """Wait until ``condition()`` is true; returns how long that took. Raises ChaosFailed."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > patience_s:
            raise ChaosFailed(f"after {patience_s:g} s still not: {what}")
        time.sleep(_POLL_S)
    return time.monotonic() - begun


class Servers:
    """The processes, their files under *folder*, and how to look at them."""

    def __init__(self, folder: Path, ground: Ground, features: dict[str, int], interval: int = 1) -> None:
        self.folder = folder
        self.ground = ground
        self.features = features
        self.interval = interval
        self.timeout_s = timeout_s(interval)
        self.key = SigningKey(VENDOR, bytes(range(32)))
        self.key_file = folder / "demo.pub"
        self.key_file.write_text(f"{self.key.verifying_key}\n")
        self.processes: dict[Rank, subprocess.Popen[bytes]] = {}
        self.others: list[subprocess.Popen[bytes]] = []
        self.controls = {rank: Control(folder / f"{rank.word}.control") for rank in Rank}
        self.first_term = self.last_term = 0
        for reader in Rank:
            self.license_file(reader).write_text(self.license_text(reader))
        self.terms_served: set[int] = set()

    # --- files -----------------------------------------------------------------------------------------

    def license_text(self, reader: Place, own_port: int | None = None) -> str:
        """The signed file in which the others stand where *reader* finds them."""
        lines = []
        for rank, hostid in zip(Rank, HOSTIDS, strict=True):
            host, port = self.ground.address(reader, rank)
            if rank is reader and own_port is not None:
                port = own_port
            words = f" HEARTBEAT_INTERVAL={self.interval}" if rank is Rank.PRIMARY else ""
            lines.append(f"SERVER {host} {hostid} {port}{words}")
        lines.append(f"VENDOR {VENDOR}")
        lines += [f"FEATURE {name} {VENDOR} 1.0 permanent {count}" for name, count in self.features.items()]
        return format_license(sign_license(parse_license("\n".join(lines) + "\n"), self.key))

    def license_file(self, rank: Rank) -> Path:
        return self.folder / f"{rank.word}.lic"

    def state_dir(self, rank: Rank) -> Path:
        return self.folder / f"state-{rank.word}"

    def log_file(self, rank: Rank) -> Path:
        return self.folder / f"{rank.word}.log"

    def errors_file(self, rank: Rank) -> Path:
        return self.folder / f"{rank.word}.err"

    def said(self, rank: Rank) -> str:
        """Everything that a server has said so far."""
        text = ""
        for path in (self.log_file(rank), self.errors_file(rank)):
            with contextlib.suppress(FileNotFoundError):
                text += path.read_text(errors="replace")
        return text

    # --- processes -------------------------------------------------------------------------------------

    def command(self, rank: Rank, *extra: str, own: Path | None = None) -> list[str]:
        """What starts a server, its clock and disk under control. *own*: a folder with a licence file, a state and a
        log of its own, for a second process of this rank."""
        if own is None:
            files = self.license_file(rank), self.state_dir(rank), self.log_file(rank)
        else:
            files = own / "license.lic", own / "state", own / "log"
        return [
            sys.executable, "-m", "flexcore_testing.chaos.server", str(self.controls[rank].path),
            "lmgrd", "-c", str(files[0]), "--vendor-key", str(self.key_file),
            "--server", rank.word, "--hostid", HOSTIDS[rank], "--state-dir", str(files[1]),
            "-l", f"+{files[2]}", *extra,
        ]  # fmt: skip

    def spawn(self, rank: Rank, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a process on a server's machine, in a session of its own."""
        with self.errors_file(rank).open("ab") as errors:
            return subprocess.Popen(
                [*self.ground.prefix(rank), *command], stdin=subprocess.DEVNULL, stdout=errors,
                stderr=errors, start_new_session=True, env=_environment(),
            )  # fmt: skip

    def start(
        self, rank: Rank, *extra: str, before: Sequence[str] = (), wait: bool = True
    ) -> None:
        """Start a server, *before* it a command that becomes it."""
        assert rank not in self.processes
        self.controls[rank].heal()
        self.processes[rank] = self.spawn(rank, [*before, *self.command(rank, *extra)])
        if wait:
            until(f"the {rank.word} answers", lambda: self._answers(rank))

    def _answers(self, rank: Rank) -> bool:
        status = self.processes[rank].poll()
        if status is not None:
            raise ChaosFailed(f"the {rank.word} ended with status {status}:\n{self.last_words(rank)}")
        return self.report(rank) is not None

    def last_words(self, rank: Rank) -> str:
        """The last lines of a server's log and errors."""
        return "\n".join(f"    {line}" for line in self.said(rank).splitlines()[-15:])

    def kill(self, rank: Rank) -> None:
        """kill -9."""
        process = self.processes.pop(rank)
        process.kill()
        process.wait()

    def stop(self, rank: Rank) -> None:
        """SIGTERM; it hands over and exits with 0."""
        process = self.processes.pop(rank)
        process.terminate()
        status = process.wait(PATIENCE_S)
        if status != 0:
            raise ChaosFailed(f"SIGTERM of the {rank.word}: status {status}:\n{self.last_words(rank)}")

    def await_exit(self, rank: Rank, *words: str) -> None:
        """Wait until a server gives up by itself, with status 1 and *words* in what it says."""
        before = len(self.said(rank))
        process = self.processes.pop(rank)
        try:
            status = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.processes[rank] = process
            raise ChaosFailed(f"the {rank.word} goes on, though: {' '.join(words)}") from None
        told = self.said(rank)[max(0, before - 4000) :]
        if status <= 0 or not all(word in told for word in words):
            raise ChaosFailed(
                f"the {rank.word} ended with status {status}, and not by saying {words}:\n"
                + self.last_words(rank)
            )

    def freeze(self, rank: Rank) -> None:
        """SIGSTOP."""
        self.processes[rank].send_signal(signal.SIGSTOP)

    def thaw(self, rank: Rank) -> None:
        """SIGCONT."""
        self.processes[rank].send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill what is left."""
        for process in [*self.processes.values(), *self.others]:
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.processes.clear()

    # --- looking ---------------------------------------------------------------------------------------

    def report(self, rank: Rank) -> ServerReport | None:
        """What a server says of itself, asked past all proxies; None if it does not answer."""
        found = ask_report((self.ground.hosts[rank], self.ground.port))
        if found is not None:
            self.last_term = max(self.last_term, found.term)
            if found.state == "serving":
                self.terms_served.add(found.term)
        return found

    def master(self) -> Rank | None:
        """Who serves, by its own word."""
        for rank in list(self.processes):
            report = self.report(rank)
            if report is not None and report.state == "serving":
                return rank
        return None

    def await_master(self, *, but: Rank | None = None) -> Rank:
        """Wait until somebody serves (other than *but*) and return who."""
        found: list[Rank] = []

        def somebody() -> bool:
            master = self.master()
            if master is None or master is but:
                return False
            found.append(master)
            return True

        until("a server serves", somebody)
        return found[-1]

    def await_peace(self, what: str) -> Rank:
        """Wait until all that run follow one master and are linked; returns the master."""
        seen: list[Rank] = []

        def peace() -> bool:
            for rank in self.processes:
                self._answers(rank)
            reports = {rank: self.report(rank) for rank in self.processes}
            master = next((r for r, said in reports.items() if said and said.state == "serving"), None)
            if master is None:
                return False
            seen.append(master)
            return all(
                said is not None
                and said.master_rank == master
                and said.state == ("serving" if rank is master else "follower")
                and set(said.peers_up) >= set(reports) - {rank}
                for rank, said in reports.items()
            )

        until(f"all follow one master after: {what}", peace)
        return seen[-1]

    def path(self, reader: Place = CLIENTS) -> str:
        """The search path of a client."""
        found = [self.ground.address(reader, rank) for rank in Rank]
        return ",".join(f"{port}@{host}" for host, port in found)

    @property
    def true_path(self) -> str:
        """The search path past all proxies."""
        return ",".join(f"{self.ground.port}@{host}" for host in self.ground.hosts)

    def flexcore(self, *words: str, place: Place = CLIENTS) -> subprocess.CompletedProcess[str]:
        """Run a flexcore command to its end."""
        return subprocess.run(
            [*self.ground.prefix(place), *FLEXCORE, *words], check=False, capture_output=True,
            text=True, timeout=PATIENCE_S, env=_environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def lmstat(self) -> dict[str, Any] | None:
        """``lmstat --json``, None where nobody serves or the answer is not whole."""
        done = self.flexcore("lmstat", "--json", "-c", self.true_path)
        try:
            told: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            return None
        return told if told["state"] == "serving" and told["complete"] else None


def ask_report(address: tuple[str, int]) -> ServerReport | None:
    """Connect, greet, and return what the server says of itself."""
    connection = Connection(max_frame_bytes=MAX_FRAME_BYTES)
    try:
        with socket.create_connection(address, _ASK_S) as sock:
            sock.sendall(connection.send(ClientHello(PROTOCOL_VERSION, "chaos", VENDOR, 0)))
            while (message := connection.next_message()) is None:
                data = sock.recv(65536)
                if not data:
                    return None
                connection.receive_data(data)
    except OSError:
        return None
    return message.report if isinstance(message, ServerHello) else None


def _environment() -> dict[str, str]:
    return {**os.environ, "TZ": "UTC", "FLEXCORE_DEBUG": "1"}
