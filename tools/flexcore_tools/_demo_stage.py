"""What the demo runs on: a folder, three servers, some applications, and taking all of it down.

Every process is remembered here when it is started, and ended by its own handle.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

from flexcore.wire.messages import ServerAddress

VENDOR = "demo"
RANKS = ("primary", "secondary", "tertiary")
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
HOSTIDS = ("ID=101", "ID=102", "ID=103")

COMMAND_S = 20.0
"""How long one flexcore command may take."""

END_S = 5.0
"""How long a process may take to end when it is asked to, before it is killed."""

_PORTS = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections: ours stays free while it is down."""


class DemoFailed(Exception):
    """Something without which the demo cannot go on."""


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    output: str


class Stage:
    """The folder and the processes. ``end()`` takes down what is left, whatever happened."""

    def __init__(self) -> None:
        self.addresses = _free_addresses()
        self.folder = Path(tempfile.mkdtemp(prefix="flexcore-demo-"))
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.applications: list[Application] = []
        self._files: list[Any] = []
        self._left = False

    @property
    def path(self) -> str:
        """The search path: the three servers joined by commas."""
        return ",".join(f"{address.port}@{address.host}" for address in self.addresses)

    @property
    def license_file(self) -> Path:
        """The licence file that all three servers read."""
        return self.folder / "demo.lic"

    def flexcore(self, *words: str) -> Done:
        """Run a flexcore command in the folder, to its end."""
        try:
            done = subprocess.run(
                [*_FLEXCORE, *words],
                cwd=self.folder, env=_environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                encoding="utf-8", errors="replace", timeout=COMMAND_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"flexcore {words[0]} did not end within {COMMAND_S:g} s") from None
        return Done(done.returncode, done.stdout)

    def start_server(self, rank: str, *, first: bool) -> None:
        """Start one lmgrd, in a session of its own so that Ctrl-C is ours to pass on."""
        place = RANKS.index(rank)
        words = ["lmgrd", "-c", "demo.lic", "--vendor-key", "demo.pub", "--server", rank]
        words += ["--hostid", HOSTIDS[place], "--state-dir", f"state-{rank}", "-l", f"+{rank}.log"]
        said = (self.folder / f"{rank}.out").open("ab")
        self._files.append(said)
        self.servers[rank] = subprocess.Popen(
            [*_FLEXCORE, *words, *(["--first-start"] if first else [])],
            cwd=self.folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def check_servers(self, *, but: str = "") -> None:
        """Raise if a server that should run has ended."""
        for rank, process in self.servers.items():
            if rank != but and process.poll() is not None:
                raise DemoFailed(
                    f"the {rank} server ended with status {process.returncode}:\n"
                    + self.last_words(rank)
                )

    def last_words(self, rank: str) -> str:
        """The last lines of a server's log and output."""
        lines: list[str] = []
        for name in (f"{rank}.log", f"{rank}.out"):
            with contextlib.suppress(OSError):
                text = (self.folder / name).read_text(encoding="utf-8", errors="replace")
                lines += [f"    {line}" for line in text.splitlines()[-12:]]
        return "\n".join(lines)

    def application(self, user: str) -> Application:
        """Start an application of *user*'s, which waits for orders."""
        started = Application(self, user)
        self.applications.append(started)
        return started

    def dismiss_applications(self) -> None:
        """End all applications in order: each returns what it holds."""
        for application in self.applications:
            application.say_goodbye()
        for application in self.applications:
            _end(application.process)
        self.applications.clear()

    def leave(self) -> None:
        """Leave servers and folder as they are (--keep)."""
        self.dismiss_applications()
        self.servers.clear()
        self._close_files()
        self._left = True

    def end(self) -> None:
        """End every process that is left, and remove the folder. Once more is harmless."""
        with contextlib.suppress(OSError):
            self.dismiss_applications()
        for process in self.servers.values():
            if process.poll() is None:
                process.terminate()
        for process in self.servers.values():
            _end(process)
        self._close_files()
        if not self._left:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _close_files(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()


class Application:
    """A process that holds licences through the blocking client."""

    def __init__(self, stage: Stage, user: str) -> None:
        self.user = user
        self.lost: list[str] = []
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._said = (stage.folder / f"{user}.out").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flexcore_tools._demo_client", stage.path, "demo.pub"],
            cwd=stage.folder, env=_environment() | {"LOGNAME": user, "USER": user},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        """Wait until the process listens to orders."""
        self._answer(COMMAND_S)

    def order(self, do: str, timeout_s: float = COMMAND_S, **what: Any) -> dict[str, Any]:
        """Give an order and return the answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do} | what) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise DemoFailed(f"{self.user}'s application is gone: {error}") from None
        return self._answer(timeout_s)

    def checkout(
        self, feature: str, count: int = 1, timeout_s: float = COMMAND_S
    ) -> dict[str, Any]:
        """Order a checkout; the answer holds ``granted`` (a handle) or ``denied`` (a code)."""
        return self.order("checkout", timeout_s, feature=feature, count=count)

    def say_goodbye(self) -> None:
        """Close its input: it returns what it holds and ends."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise DemoFailed(f"{self.user}'s application said nothing in {timeout_s:g} s") from None
        if answer is None:
            words = Path(self._said.name).read_text(encoding="utf-8", errors="replace")
            raise DemoFailed(f"{self.user}'s application ended: {words[-1000:]}")
        return answer

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self._said, self.process.stdout as output:
            for line in output:
                said = json.loads(line)
                if "lost" in said:
                    self.lost.append(" ".join(said["lost"]))
                else:
                    self._answers.put(said)
        self._answers.put(None)


_FLEXCORE = [sys.executable, "-m", "flexcore_tools"]


def _environment() -> dict[str, str]:
    """Ours without search paths, which must not lead the demo to real servers."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("LICENSE_FILE") and name != "STATE_DIRECTORY"
    }


def _end(process: subprocess.Popen[Any]) -> None:
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_addresses() -> tuple[ServerAddress, ...]:
    """One free port on 127.0.0.1, .2 and .3; where only .1 exists (macOS), three ports on that."""
    alone = not _can_bind(HOSTS[1], 0)
    found: list[int] = []
    start = os.getpid() % len(_PORTS)  # two demos at once look in different places
    for port in (*_PORTS[start:], *_PORTS[:start]):
        if alone and _can_bind(HOSTS[0], port):
            found.append(port)
            if len(found) == len(HOSTS):
                return tuple(ServerAddress(HOSTS[0], each) for each in found)
        elif not alone and all(_can_bind(host, port) for host in HOSTS):
            return tuple(ServerAddress(host, port) for host in HOSTS)
    raise DemoFailed("no port is free on 127.0.0.1, 127.0.0.2 and 127.0.0.3")


def _can_bind(host: str, port: int) -> bool:
    try:
        with socket.socket() as probe:
            probe.bind((host, port))
    except OSError:
        return False
    return True
