"""Three ``flexcore lmgrd`` processes on 127.0.0.1, .2 and .3, and the ways to hurt them.

Everything is waited for by asking, with a deadline ten times what the protocol promises; nothing
sleeps and hopes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license
from flexcore.wire.codec import MAX_FRAME_BYTES
from flexcore.wire.connection import Connection
from flexcore.wire.messages import (
    PROTOCOL_VERSION,
    CheckedIn,
    Checkin,
    Checkout,
    ClientHello,
    Denied,
    Goodbye,
    Granted,
    HeldSeat,
    Message,
    NotServing,
    OpenSession,
    ResumeSession,
    SeatRow,
    ServerHello,
    ServerReport,
    SessionReply,
    StatusPage,
    StatusRequest,
)
from flexcore.wire.proof import session_proof
from tests.ports import HOSTS, free_port

HOSTIDS = ("ID=101", "ID=102", "ID=103")
VENDOR = "demo"
FLEXCORE = (sys.executable, "-m", "flexcore_tools")
PATIENCE_S = 60.0
ASK_S = 1.0


def until(what: str, condition: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
    """Wait until ``condition()`` is true; returns how long that took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > patience_s:
            raise AssertionError(f"after {patience_s:g} s still not: {what}")
        time.sleep(0.01)
    return time.monotonic() - begun


class Wire:
    """One blocking connection that speaks messages."""

    def __init__(self, host: str, port: int, timeout_s: float = ASK_S) -> None:
        self.sock = socket.create_connection((host, port), timeout_s)
        try:
            self.sock.settimeout(timeout_s)
            self.connection = Connection(max_frame_bytes=MAX_FRAME_BYTES)
            hello = self.ask(ClientHello(PROTOCOL_VERSION, "test", VENDOR, 0))
            assert isinstance(hello, ServerHello), hello
        except BaseException:
            self.sock.close()
            raise
        self.hello = hello

    def send(self, message: Message) -> None:
        self.sock.sendall(self.connection.send(message))

    def receive(self) -> Message:
        while (message := self.connection.next_message()) is None:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionResetError("end of stream")
            self.connection.receive_data(data)
        return message

    def ask(self, message: Message) -> Message:
        self.send(message)
        return self.receive()

    def abort(self) -> None:
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, sys.byteorder) + bytes(4)
        )
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


class Triad:
    """A signed licence file and its three servers."""

    def __init__(
        self, folder: Path, *, interval: int | None = 1, primary_is_master: bool = False,
        features: Sequence[str] = ("f1 1.0 permanent 3", "f2 1.0 permanent 2"), first_start: bool = True,
        hostids: Sequence[str] = HOSTIDS,
    ) -> None:  # fmt: skip
        self.hostids = hostids
        self.folder = folder
        self.port = free_port()
        self.interval = interval
        self.primary_is_master = primary_is_master
        self.first_start = first_start
        self.extra: tuple[str, ...] = ()
        """More arguments of every server that is started from now on."""
        self.key = SigningKey(VENDOR, bytes(range(32)))
        self.key_file = folder / "demo.pub"
        self.key_file.write_text(f"{self.key.verifying_key}\n")
        self.processes: dict[Rank, subprocess.Popen[bytes]] = {}
        self.sessions: list[Session] = []
        self.license_files = {rank: folder / f"{rank.word}.lic" for rank in Rank}
        self.write_license(features)

    @property
    def path(self) -> str:
        return ",".join(f"{self.port}@{host}" for host in HOSTS)

    @property
    def timeout_s(self) -> float:
        return 4.0 * (20 if self.interval is None else self.interval) - 1.0

    def license_text(self, features: Sequence[str]) -> str:
        lines = []
        for feature in features:
            name, rest = feature.split(" ", 1)
            lines.append(f"FEATURE {name} {VENDOR} {rest}")
        return self.signed(lines)

    def signed(self, lines: Sequence[str]) -> str:
        """The licence file of this triad with these lines."""
        words = "" if self.interval is None else f" HEARTBEAT_INTERVAL={self.interval}"
        if self.primary_is_master:
            words += " PRIMARY_IS_MASTER"
        head = [
            f"SERVER {host} {hostid} {self.port}{words if rank == 0 else ''}"
            for rank, (host, hostid) in enumerate(zip(HOSTS, self.hostids, strict=True))
        ]
        text = "".join(f"{line}\n" for line in (*head, f"VENDOR {VENDOR}", *lines))
        return format_license(sign_license(parse_license(text), self.key))

    def write_license(self, features: Sequence[str], ranks: Sequence[Rank] = tuple(Rank)) -> None:
        text = self.license_text(features)
        for rank in ranks:
            self.license_files[rank].write_text(text)

    # --- processes --------------------------------------------------------------------------------

    def state_dir(self, rank: Rank) -> Path:
        return self.folder / f"state-{rank.word}"

    def arguments(self, rank: Rank, *extra: str) -> list[str]:
        return [
            *FLEXCORE, "lmgrd", "-c", str(self.license_files[rank]), "--vendor-key", str(self.key_file),
            "--server", rank.word, "--hostid", self.hostids[rank], "--state-dir", str(self.state_dir(rank)),
            "-l", f"+{self.log_file(rank)}", *self.extra, *extra,
        ]  # fmt: skip

    def start(self, *ranks: Rank, first_start: bool | None = None, wait: bool = True) -> None:
        first = self.first_start if first_start is None else first_start
        for rank in ranks:
            assert rank not in self.processes
            extra = ("--first-start",) if first else ()
            with (self.folder / f"{rank.word}.err").open("ab") as errors:
                self.processes[rank] = subprocess.Popen(
                    self.arguments(rank, *extra), stdin=subprocess.DEVNULL, stdout=errors,
                    stderr=errors, env={**os.environ, "FLEXCORE_DEBUG": "1"},
                )  # fmt: skip
            if wait:
                until(f"{rank.word} listens", functools.partial(self._listens, rank))

    def _listens(self, rank: Rank) -> bool:
        assert self.processes[rank].poll() is None, f"{rank.word} has ended"
        return self.report(rank) is not None

    def kill(self, rank: Rank) -> None:
        process = self.processes.pop(rank)
        process.kill()
        process.wait()

    def end(self, rank: Rank, number: int = signal.SIGTERM) -> int:
        """Stop one server in order and return its exit status."""
        process = self.processes.pop(rank)
        process.send_signal(number)
        return process.wait(PATIENCE_S)

    def freeze(self, rank: Rank) -> None:
        self.processes[rank].send_signal(signal.SIGSTOP)

    def thaw(self, rank: Rank) -> None:
        self.processes[rank].send_signal(signal.SIGCONT)

    def exited(self, rank: Rank) -> int:
        """Wait for the end of a process and return its status."""
        return self.processes.pop(rank).wait(PATIENCE_S)

    def close(self) -> None:
        for session in self.sessions:
            session.close()
        for process in self.processes.values():
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.processes.clear()

    # --- looking ------------------------------------------------------------------------------------

    def log_file(self, rank: Rank) -> Path:
        return self.folder / f"{rank.word}.log"

    def log(self, rank: Rank) -> str:
        try:
            return self.log_file(rank).read_text()
        except FileNotFoundError:
            return ""

    def errors(self, rank: Rank) -> str:
        try:
            return (self.folder / f"{rank.word}.err").read_text()
        except FileNotFoundError:
            return ""

    def everything(self) -> str:
        """All logs, for the message of a failed test."""
        return "".join(
            f"--- {rank.word} ---\n{self.log(rank)}{self.errors(rank)}"
            for rank in Rank
        )

    def report(self, rank: Rank) -> ServerReport | None:
        """What a server says of itself; None if it does not answer."""
        try:
            wire = Wire(HOSTS[rank], self.port)
        except OSError:
            return None
        wire.close()
        return wire.hello.report

    def master(self) -> Rank | None:
        """Who serves, by its own word; None if nobody does.

        Servers are asked one after the other, so that a hand-over can show two; not three times.
        """
        found: list[Rank] = []
        for _ in range(3):
            reports = {rank: self.report(rank) for rank in self.processes}
            found = [rank for rank, said in reports.items() if said and said.state == "serving"]
            if len(found) < 2:
                return found[0] if found else None
        raise AssertionError(f"two masters: {found}")

    def until_master(self, *wanted: Rank, patience_s: float = PATIENCE_S) -> Rank:
        """Wait until one of ``wanted`` (anybody) serves and return who does."""
        seen: list[Rank] = []

        def somebody() -> bool:
            master = self.master()
            if master is None or (wanted and master not in wanted):
                return False
            seen.append(master)
            return True

        until(f"a master among {[rank.word for rank in wanted or tuple(Rank)]}", somebody, patience_s)
        return seen[-1]

    def until_all_follow(self, master: Rank | None = None) -> Rank:
        """Wait until every process follows ``master`` (None: whoever it is) and is linked to the
        others; returns the master."""
        ranks = set(self.processes)
        seen: list[Rank] = []

        def all_follow() -> bool:
            wanted = self.master() if master is None else master
            reports = {rank: self.report(rank) for rank in ranks}
            if wanted is None:
                return False
            seen.append(wanted)
            return all(
                report is not None
                and report.master_rank == wanted
                and report.state == ("serving" if rank is wanted else "follower")
                and set(report.peers_up) >= ranks - {rank}
                for rank, report in reports.items()
            )

        until("all follow one master", all_follow)
        return seen[-1]

    def seats(self) -> list[SeatRow]:
        """Who holds what, as the master tells."""
        wire = Wire(HOSTS[self.until_master()], self.port)
        try:
            page = wire.ask(StatusRequest(1, "seats", "", ""))
            assert isinstance(page, StatusPage), page
            assert not page.cursor
            return list(page.seats)
        finally:
            wire.close()

    def flexcore(self, *arguments: str, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run a flexcore command."""
        return subprocess.run(
            [*FLEXCORE, *arguments], check=False, capture_output=True, text=True, timeout=timeout_s,
            env={**os.environ, "TZ": "UTC"},
        )  # fmt: skip


class Session:
    """A client by hand: one session, resumed wherever the master is."""

    def __init__(self, triad: Triad, user: str = "ann") -> None:
        self.triad = triad
        self.user = user
        self.session = os.urandom(16)
        self.secret = os.urandom(32)
        self.request = 0
        self.seq = 0
        self.term = 0
        self.wire: Wire | None = None
        triad.sessions.append(self)
        self.held: tuple[HeldSeat, ...] = ()
        self._enter(opening=True)

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _enter(self, *, opening: bool) -> None:
        """Find the master and open or resume the session there."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for host in HOSTS:
                reply = self._try(host, opening=opening)
                if isinstance(reply, SessionReply):
                    assert reply.state == "open", reply
                    self.term = max(self.term, reply.term)
                    self.held = reply.held
                    return
            assert time.monotonic() < deadline, "no master takes the session"
            time.sleep(0.01)

    def _try(self, host: str, *, opening: bool) -> Message | None:
        try:
            wire = Wire(host, self.triad.port)
        except OSError:
            return None
        wire.sock.settimeout(3.0)
        message: Message
        if opening:
            message = OpenSession(
                self._next(), self.session, self.secret, self.user, "elm", ":0", "", os.getpid(),
                True, self.term,
            )  # fmt: skip
        else:
            proof = session_proof(self.secret, wire.hello.nonce, self.session)
            message = ResumeSession(self._next(), self.session, proof, self.term)
        try:
            reply = wire.ask(message)
        except OSError:
            wire.abort()
            return None
        if isinstance(reply, SessionReply):
            self.wire = wire
        else:
            assert isinstance(reply, NotServing), reply
            wire.abort()
        return reply

    def resume(self) -> tuple[HeldSeat, ...]:
        """Abort the connection and resume with the master of now; returns what is held."""
        if self.wire is not None:
            self.wire.abort()
        self._enter(opening=False)
        return self.held

    def _ask(self, make: Callable[[int], Message]) -> Message:
        """Ask until a master answers: the same request, on whatever connection."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert self.wire is not None
            try:
                reply = self.wire.ask(make(self._next()))
                if not isinstance(reply, NotServing):
                    return reply
            except OSError:
                pass
            assert time.monotonic() < deadline
            self.resume()

    def checkout(self, feature: str, count: int = 1) -> Granted | Denied:
        self.request += 1
        number = self.request
        reply = self._ask(
            lambda seq: Checkout(seq, number, number - 1, feature, "1.0", count, self.term)
        )
        assert isinstance(reply, Granted | Denied), reply
        return reply

    def checkin(self, handle: int) -> CheckedIn:
        self.request += 1
        number = self.request
        reply = self._ask(lambda seq: Checkin(seq, number, number - 1, handle, self.term))
        assert isinstance(reply, CheckedIn), reply
        return reply

    def goodbye(self) -> None:
        self._ask(lambda seq: Goodbye(seq, self.term))
        self.close()

    def close(self) -> None:
        if self.wire is not None:
            self.wire.close()
            self.wire = None


@contextlib.contextmanager
def running(folder: Path, **options: object) -> Iterator[Triad]:
    """A triad whose processes are gone at the end, and whose logs pytest shows if the test failed."""
    triad = Triad(folder, **options)  # type: ignore[arg-type]
    try:
        yield triad
    finally:
        triad.close()
        print(triad.everything())
