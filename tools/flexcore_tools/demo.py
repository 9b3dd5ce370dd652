"""``flexcore demo``: the main job on this machine, told as it happens.

A publisher signs a licence file; three servers serve it; applications hold licences; the master is
killed; nothing is lost and nothing is given twice; one command stops all. Each sentence that the
demo says with ``ok`` is a claim that was checked, with what the processes themselves say; the exit
status is 0 only if all of them held.
"""

from __future__ import annotations

import contextlib
import datetime
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from flexcore import timing
from flexcore.wire.messages import SeatRow

from ._ask import Survey
from ._demo_stage import HOSTIDS, RANKS, VENDOR, Application, DemoFailed, Done, Stage
from ._link import is_listening

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Show the main job on this machine, in under 30 seconds: sign a licence file,
serve it with three servers, hold licences, kill the master, lose nothing.
Exits with 0 only if every claim held. Leaves nothing behind, except with --keep."""

INTERVAL_S = 2
"""HEARTBEAT_INTERVAL of the demo; a dead process must be noticed without waiting for it."""

LICENSES = 10
START_S = 15.0
FAILOVER_S = 5.0
"""How long the checkout after the kill may take. It takes milliseconds; this leaves room for a busy
machine and is still less than the timeout, which a dead process must not cost."""

_ASK_S = 2.0
_POLL_S = 0.02
_USERS_REACHED = -4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the demo's flags."""
    parser.add_argument(
        "--keep", action="store_true",
        help="leave the three servers running and say how to look at them",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Play the demo; whatever happens, leave no process and no file behind (but see --keep)."""
    with _interrupted_once(), contextlib.ExitStack() as stack:
        try:
            stage = Stage()
            stack.callback(stage.end)
            return Demo(stage).play(keep=args.keep)
        except DemoFailed as failed:
            print(f"\nThe demo cannot go on: {failed}", flush=True)
            return 1


class Demo:
    """The acts, in order, and how many claims were made and held."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.started = time.monotonic()
        self.held = 0
        self.failed = 0

    def play(self, *, keep: bool) -> int:
        """Play all acts and return the exit status."""
        self.sign()
        self.start()
        before = self.hold()
        self.kill(before)
        self.restart()
        if keep:
            self.leave()
        else:
            self.stop()
        took = time.monotonic() - self.started
        if self.failed:
            print(
                f"\n{self.failed} of {self.held + self.failed} claims did not hold ({took:.1f} s)."
            )
            return 1
        print(f"\nAll {self.held} claims held, in {took:.1f} seconds.")
        return 0

    # --- the acts ---------------------------------------------------------------------------------

    def sign(self) -> None:
        """The publisher: keys, a licence file, signatures."""
        self.act("A publisher makes a key pair and signs a licence file for three servers")
        lines = [
            f"{address.host} {hostid} {address.port}"
            for address, hostid in zip(self.stage.addresses, HOSTIDS, strict=True)
        ]
        servers = [word for line in lines for word in ("--server", line)]
        expiry = _next_year()
        feature = ["--feature", f"f1 1.0 {expiry} {LICENSES}", "--feature", f"f2 1.0 {expiry} 2"]
        self.command("keygen", VENDOR)
        self.command("new", VENDOR, *servers, *feature, "-o", "demo.lic")
        self.command("sign", "demo.lic", "--key", "demo.key")
        self._set_interval()
        verified = self.command("verify", "demo.lic", "--key", "demo.pub")
        self.claim(verified.status == 0, "every feature line verifies against the public key")

    def start(self) -> None:
        """The administrator: three servers."""
        self.act("An administrator starts three licence servers: primary, secondary, tertiary")
        for rank in RANKS:
            self.stage.start_server(rank, first=True)
            self.say(f"$ flexcore lmgrd -c demo.lic --vendor-key demo.pub --server {rank} ... &")
            if rank == "primary":
                self._wait_listening(0)
        took = self.wait_for(lambda: self._serving_rank() == 0 and self._all_up(), "all three up")
        self.claim(True, f"a quorum formed and the primary is master ({took:.1f} s)")

    def hold(self) -> list[SeatRow]:
        """Applications take every licence of f1; lmstat shows them; there is no eleventh."""
        self.act(f"Applications check out all {LICENSES} licences of f1")
        self.ann, self.bob = self.stage.application("ann"), self.stage.application("bob")
        self.eve, self.dan = self.stage.application("eve"), self.stage.application("dan")
        for application in (self.ann, self.bob, self.eve, self.dan):
            application.wait_ready()
        self.handles: dict[Application, list[int]] = {}
        for application, count in ((self.ann, 1), (self.ann, 4), (self.bob, 3), (self.eve, 2)):
            handle = self._granted(application.checkout("f1", count), application)
            self.handles.setdefault(application, []).append(handle)
            self.say(f"{application.user} holds {count} of f1 as handle {handle}")
        self._refused(self.dan, "an eleventh licence is refused")
        self.command("lmstat", "-a", "-c", self.stage.path, shown=True)
        seats = self._seats()
        self.claim(
            sum(seat.count for seat in seats) == LICENSES and len(seats) == 4,
            f"lmstat shows all {LICENSES} of f1 in use, by three users",
        )
        return seats

    def kill(self, before: list[SeatRow]) -> None:
        """kill -9 of the master: the next checkout, and what became of everybody's licences."""
        self.act("The master is killed: kill -9 of the primary server")
        # A new application, which asks for the first time when the master is already dead.
        zoe = self.stage.application("zoe")
        self.wait_for(self._all_members, "three members of one triad")
        zoe.wait_ready()
        self.stage.servers["primary"].kill()
        killed = time.monotonic()
        answer = self.dan.checkout("f2", timeout_s=60.0)
        took = time.monotonic() - killed
        answer_zoe = zoe.checkout("f2", timeout_s=60.0)
        took_zoe = time.monotonic() - killed
        self.stage.servers["primary"].wait()
        limit = timing.timeout_s(INTERVAL_S)
        self.claim(
            "granted" in answer and took < FAILOVER_S,
            f"the next checkout was granted {took * 1000:.0f} ms after the kill"
            f" (the timeout, {limit:g} s, was not waited for)",
            answer,
        )
        self.claim(
            "granted" in answer_zoe and took_zoe < 2 * FAILOVER_S,
            f"an application that came after it was served as well ({took_zoe * 1000:.0f} ms)",
            answer_zoe,
        )
        self.command("lmstat", "-a", "-c", self.stage.path, shown=True)
        self.claim(self._serving_rank() == 1, "the secondary is master")
        self.claim(
            self._seats() == before,
            "every user, handle, start time and count is the same on the new master",
        )
        for application in (self.ann, self.bob, self.eve):
            held = application.order("held").get("held")
            self.claim(
                held == sorted(self.handles[application]) and not application.lost,
                f"{application.user} kept working and was told of no loss",
                (held, application.lost),
            )
        self._refused(self.dan, "the new master refuses an eleventh licence of f1 as well")
        returned = self.handles[self.eve].pop()
        self.eve.order("checkin", handle=returned)
        self.wait_for(
            lambda: all(seat.handle != returned for seat in self._seats()),
            "rid of eve's licences",
            but="primary",
        )
        handle = self._granted(self.dan.checkout("f1", 2), self.dan)
        self.claim(
            handle not in {seat.handle for seat in before},
            f"eve returns 2 of f1 and dan gets them, as handle {handle}",
        )

    def restart(self) -> None:
        """The dead server comes back and follows."""
        self.act("The primary server is started again")
        self.stage.start_server("primary", first=False)
        took = self.wait_for(self._all_up, "the primary back")
        self.claim(
            self._serving_rank() == 1,
            f"it follows ({took:.1f} s); the secondary stays master, without PRIMARY_IS_MASTER",
        )
        used = sum(seat.count for seat in self._seats())
        self.claim(used == LICENSES, f"{used} of {LICENSES} licences of f1 are in use: none twice")

    def stop(self) -> None:
        """Applications end, one command stops the triad."""
        self.act("The applications end, and one command stops all three servers")
        self.stage.dismiss_applications()
        self.claim(self._seats() == [], "what they held is free again")
        done = self.command("lmdown", "-q", "-c", self.stage.path, shown=True)
        self.claim(done.status == 0, "lmdown exits with 0", done)
        self.claim(
            not any(is_listening(address, _ASK_S) for address in self.stage.addresses),
            "all three ports are closed",
        )
        statuses = [process.wait(START_S) for process in self.stage.servers.values()]
        self.claim(statuses == [0, 0, 0], "all three servers exit with 0", statuses)

    def leave(self) -> None:
        """--keep: the triad goes on, and how to use it."""
        self.act("The servers go on running (--keep)")
        path, folder = self.stage.path, self.stage.folder
        self.stage.leave()
        print(f"   the licence search path: {path}")
        print(f"   its files and logs:      {folder}")
        print("   try:")
        print(f"     flexcore lmstat -a -c {path}")
        print(f"     flexcore run -c {path} -f f1 --vendor-key {folder / 'demo.pub'} -- sleep 60")
        print(f"     flexcore lmdown -q -c {path} && rm -r {folder}")

    # --- telling ------------------------------------------------------------------------------------

    def act(self, title: str) -> None:
        """Begin an act."""
        print(f"\n[{time.monotonic() - self.started:4.1f} s] {title}", flush=True)

    def say(self, text: str) -> None:
        """Tell what happens."""
        print(f"   {text}", flush=True)

    def claim(self, holds: bool, text: str, evidence: object = None) -> None:
        """Say a claim with whether it held; with *evidence* if it did not."""
        if holds:
            self.held += 1
            self.say(f"ok: {text}")
            return
        self.failed += 1
        self.say(f"FAILED: {text}" + ("" if evidence is None else f" ({evidence})"))

    def command(self, *words: str, shown: bool = False) -> Done:
        """Run a flexcore command and show it; without *shown* its output only if it fails."""
        self.say("$ flexcore " + " ".join(_quoted(word) for word in words))
        done = self.stage.flexcore(*words)
        if shown or done.status != 0:
            for line in done.output.rstrip().splitlines():
                print(f"   | {line}")
        if done.status != 0 and not shown:
            raise DemoFailed(f"flexcore {words[0]} exits with {done.status}")
        return done

    # --- looking ------------------------------------------------------------------------------------

    def wait_for(self, condition: Callable[[], bool], what: str, *, but: str = "") -> float:
        """Wait until *condition* holds, all servers but one running, and return how long it took."""
        began = time.monotonic()
        while not condition():
            self.stage.check_servers(but=but)
            if time.monotonic() - began > START_S:
                words = "\n".join(self.stage.last_words(rank) for rank in RANKS)
                raise DemoFailed(f"not {what} after {START_S:g} s; the servers say:\n{words}")
            time.sleep(_POLL_S)
        return time.monotonic() - began

    def _wait_listening(self, place: int) -> None:
        self.wait_for(lambda: is_listening(self.stage.addresses[place], _ASK_S), "listening")

    def _serving_rank(self) -> int | None:
        with Survey(self.stage.addresses, _ASK_S) as survey:
            return None if survey.master is None else survey.master.report.rank

    def _all_members(self) -> bool:
        """Whether all three hold the ledger: one that is still recovering it could not vote."""
        with Survey(self.stage.addresses, _ASK_S) as survey:
            states = [link.report.state for link in survey.links.values()]
            return len(states) == 3 and set(states) <= {"serving", "follower"}

    def _all_up(self) -> bool:
        with Survey(self.stage.addresses, _ASK_S) as survey:
            return survey.status(time.time()).check_status == 0

    def _seats(self) -> list[SeatRow]:
        """Who holds f1, as the master says now."""
        with Survey(self.stage.addresses, _ASK_S) as survey:
            survey.settle()
            return sorted(survey.seats("f1"), key=lambda seat: seat.handle)

    def _granted(self, answer: dict[str, object], application: Application) -> int:
        handle = answer.get("granted")
        if not isinstance(handle, int):
            raise DemoFailed(f"{application.user} got no licence: {answer}")
        return handle

    def _refused(self, application: Application, text: str) -> None:
        answer = application.checkout("f1")
        said = f": {answer['text']}" if "text" in answer else ""
        self.claim(answer.get("denied") == _USERS_REACHED, f"{text}{said}", answer)

    def _set_interval(self) -> None:
        """What an administrator may change after signing: HEARTBEAT_INTERVAL on the first line."""
        file = self.stage.license_file
        lines = file.read_text(encoding="utf-8").splitlines()
        first = next(n for n, line in enumerate(lines) if line.upper().startswith("SERVER"))
        lines[first] += f" HEARTBEAT_INTERVAL={INTERVAL_S}"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _next_year() -> str:
    """A date in the licence file's form, about a year from now."""
    year = datetime.datetime.now(datetime.UTC).year + 1
    return f"31-dec-{year}"


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


@contextlib.contextmanager
def _interrupted_once() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does; a second one does not stop the cleaning
    up, which takes seconds."""
    before: dict[int, Any] = {}

    def interrupt(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None:
            before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
