"""Real servers to measure: ``flexcore lmgrd``, one or three, with all that it does in production."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license

from .load import FREE, FULL, VENDOR, Talker
from .machine import until

KEY = SigningKey(VENDOR, bytes(range(32)))
HOST = "127.0.0.1"
RANKS = ("primary", "secondary", "tertiary")
PLENTY = 1_000_000


class House:
    """Server processes with their licence file, in a folder of their own."""

    def __init__(self, folder: Path, servers: int, *, durable: bool, interval_s: int, features: Sequence[str]) -> None:
        self.folder = folder
        self.durable = durable
        self.ports = free_ports(servers)
        self.processes: list[subprocess.Popen[bytes]] = []
        timing = f" HEARTBEAT_INTERVAL={interval_s}" if servers > 1 else ""
        hosts = [f"SERVER {HOST} ID={101 + n} {port}{'' if n else timing}" for n, port in enumerate(self.ports)]
        lines = [*hosts, f"VENDOR {VENDOR}", *features]
        text = "".join(f"{line}\n" for line in lines)
        self.license = folder / "bench.lic"
        self.license.write_text(format_license(sign_license(parse_license(text), KEY)))
        (folder / "demo.pub").write_text(f"{KEY.verifying_key}\n")
        for number in range(servers):
            self.start(number)

    def start(self, number: int) -> None:
        """Start one server."""
        state = str(self.folder / f"state{number}") if self.durable else "none"
        rank = () if len(self.ports) == 1 else ("--server", RANKS[number])
        with (self.folder / f"{number}.err").open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "flexcore_tools", "lmgrd", "-c", str(self.license), *rank,
                 "--vendor-key", str(self.folder / "demo.pub"), "--hostid", f"ID={101 + number}",
                 "--state-dir", state, "--first-start", "-l", str(self.folder / f"{number}.log")],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
            )  # fmt: skip
        self.processes.append(process)

    @property
    def pids(self) -> list[int]:
        """Of all servers."""
        return [process.pid for process in self.processes]

    def master(self) -> int | None:
        """The number of the server that serves, if it is whole: each follower has its connection."""
        for number, port in enumerate(self.ports):
            with contextlib.suppress(OSError):
                talker = Talker(HOST, port, 1.0)
                talker.close()
                report = talker.hello.report
                if report.state == "serving" and len(report.peers_up) >= len(self.ports) - 1:
                    return number
        return None

    def serving(self) -> int:
        """Wait until somebody serves; returns the port."""
        try:
            until("somebody serves", lambda: self.master() is not None)
        except TimeoutError as error:
            logs = "".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.err")))
            raise TimeoutError(f"{error}\n{logs}") from None
        number = self.master()
        assert number is not None
        return self.ports[number]

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            process.kill()
            process.wait()


def default_features() -> list[str]:
    """Of one feature more than anybody takes; of another one licence, which somebody holds."""
    return [f"FEATURE {FREE} {VENDOR} 1.0 permanent {PLENTY}", f"FEATURE {FULL} {VENDOR} 1.0 permanent 1"]


@contextlib.contextmanager
def house(
    servers: int = 1, *, durable: bool = False, interval_s: int = 20, features: Sequence[str] = (),
    disk: Path | None = None,
) -> Iterator[House]:  # fmt: skip
    """Servers that run; *durable*: with state folders on the disk under *disk* (default: the temporary folder)."""
    with tempfile.TemporaryDirectory(prefix="flexcore-bench-", dir=disk) as folder:
        made = House(
            Path(folder), servers, durable=durable, interval_s=interval_s, features=features or default_features()
        )
        try:
            yield made
        finally:
            made.close()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses at this moment."""
    socks = [socket.socket() for _ in range(count)]
    try:
        for sock in socks:
            sock.bind((HOST, 0))
        return [sock.getsockname()[1] for sock in socks]
    finally:
        for sock in socks:
            sock.close()
