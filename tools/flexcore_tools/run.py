"""``flexcore run``: run a command while holding a licence."""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from flexcore.codes import ErrorCode, exit_status
from flexcore.errors import CheckoutDenied, LicenseLost, NoQuorum, ServerError

if TYPE_CHECKING:
    import flexcore_sync
    from flexcore.keys import VerifyingKey
    from flexcore_tools._child import Child

HELP = """\
Run COMMAND while holding a licence, and exit with its status (128 + N if signal N ended it).

A denial is told at once, with exit status 256 + code (-4 gives 252). With --queue it waits in the
server's queue instead while too few licences are free, and says for whom it waits; the place is kept
when a server fails. What can never be granted is denied at once all the same. After --queue-wait
seconds it gives up with exit status 221 (-35); SIGINT and SIGTERM leave the queue at once. Without a server, or without
a quorum of servers, it tries for --wait seconds and exits with 241 or 159. While COMMAND runs,
failovers and lost quorums are ridden out for as long as the lease runs; when the licence is lost
all the same, COMMAND is terminated (SIGTERM, after ten seconds SIGKILL), or paused until there is
a licence again, or only a warning is given. Signals are passed on to COMMAND.
"""

KILL_AFTER_S = 10.0
"""A command that was told to terminate and has not is killed."""

SAY_AFTER_S = 3.0
"""Trouble that passes within this time is not worth a line."""

REGAIN_EVERY_S = 2.0
"""How long after a denial a lost licence is asked for again."""

WAIT_MIN_S = 0.5

_TO_GROUP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGWINCH")
_TO_COMMAND = ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGIO")
_TERMINAL_STOPS = ("SIGTSTP", "SIGTTIN", "SIGTTOU")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.usage = (  # argparse shows three dots for a command line that follows
        "flexcore run [-h] [-c PATH] -f FEATURE [--version V] [--count N]\n"
        "                    [--vendor-key VENDOR.pub] [--vendor NAME] [--wait SECONDS]\n"
        "                    [--least-loaded]\n"
        "                    [--queue] [--queue-wait SECONDS]\n"
        "                    [--on-loss {terminate,pause,warn}] -- COMMAND..."
    )
    parser.add_argument(
        "-c", metavar="PATH", dest="path",
        help="licence search path: port@host, three joined by commas for a triad (default: the "
             "environment); a colon (; on Windows) between servers that are independent",
    )  # fmt: skip
    parser.add_argument("-f", metavar="FEATURE", dest="feature", required=True,
                        help="the feature to hold")  # fmt: skip
    parser.add_argument("--version", metavar="V", default="", help="default: the highest on offer")
    parser.add_argument("--count", metavar="N", type=int, default=1, help="how many licences (1)")
    parser.add_argument(
        "--vendor-key", metavar="VENDOR.pub", action="append", default=[],
        help="verify what is granted with the publisher's public key; may be given more than once",
    )  # fmt: skip
    parser.add_argument(
        "--wait", metavar="SECONDS", type=float, default=10.0,
        help="how long to look for a server that serves (10)",
    )  # fmt: skip
    parser.add_argument(
        "--vendor", metavar="NAME", default="",
        help="whose licence, where a server has those of several vendors (default: the key's vendor)",
    )  # fmt: skip
    parser.add_argument(
        "--least-loaded", action="store_true",
        help="of several independent servers in PATH ask the one first that has most free",
    )  # fmt: skip
    parser.add_argument("--queue", action="store_true",
                        help="wait in the server's queue while too few licences are free")  # fmt: skip
    parser.add_argument("--queue-wait", metavar="SECONDS", type=float,
                        help="... for so long at most (default: as long as it takes)")  # fmt: skip
    parser.add_argument("--on-loss", choices=("terminate", "pause", "warn"), default="terminate",
                        help="what happens to COMMAND when the licence is lost (terminate)")  # fmt: skip
    parser.add_argument("command", metavar="-- COMMAND...", nargs=argparse.REMAINDER)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit status, or why it was not run."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        print("flexcore run: no command is given: write it behind --", file=sys.stderr)
        return 2
    if args.count < 1 or not 0 <= args.wait < 1e9:
        print("flexcore run: --count is 1 or more, --wait is 0 or more", file=sys.stderr)
        return 2
    if args.queue_wait is not None and not (args.queue and 0 <= args.queue_wait < 1e9):
        print("flexcore run: --queue-wait is 0 or more, and goes with --queue", file=sys.stderr)
        return 2
    if not hasattr(os, "fork"):
        print("flexcore run: this system is not supported yet", file=sys.stderr)
        return 1
    keys = _read_keys(args.vendor_key)
    # Everything that starts threads comes after the fork.
    from flexcore_tools._child import CannotStart, Child

    child = Child(command)
    try:
        return Runner(args, child, keys).run()
    except CannotStart as error:
        say(str(error))
        return error.status
    finally:
        child.give_up()


def _read_keys(names: list[str]) -> list[VerifyingKey]:
    if not names:
        return []
    from flexcore_tools._files import read_verifying_key

    return [read_verifying_key(name) for name in names]


def say(words: str) -> None:
    """Tell the user; the command's own output goes to the same place."""
    with contextlib.suppress(OSError, ValueError):
        print(f"flexcore run: {words}", file=sys.stderr, flush=True)


class Runner:
    """One run: the licence, the command, and what happens to either."""

    def __init__(self, args: argparse.Namespace, child: Child, keys: list[VerifyingKey]) -> None:
        self._args = args
        self._child = child
        self._keys = keys
        self._events: collections.deque[tuple[str, str]] = collections.deque()
        self._wake_in, self._wake_out = os.pipe()
        for end in (self._wake_in, self._wake_out):
            os.set_blocking(end, False)
        self._seat: flexcore_sync.Seat | None = None
        self._paused = False
        self._kill_at: float | None = None
        self._unserved_at: float | None = None
        self._unserved_said = False
        self._over = threading.Event()

    def run(self) -> int:
        """Get the licence, run the command, give the licence back."""
        import flexcore_sync

        args = self._args
        with _ended_by_signals(), flexcore_sync.connect(
            args.path, vendor=args.vendor, keys=self._keys, on_loss=self._lost, on_state=self._state,
            prefer="least-loaded" if args.least_loaded else "path-order",
        ) as client:
            try:
                self._seat = self._check_out(client)
            except NoQuorum as error:
                say(str(error))
                return exit_status(ErrorCode.VENDOR_DOWN)
            except ServerError as error:
                say(str(error))
                return exit_status(ErrorCode.CANNOT_CONNECT)
            except CheckoutDenied as error:
                say(str(error))
                return error.exit_status
            with self._signals_passed_on():
                try:
                    self._child.start()
                    return self._watch(client)
                finally:
                    self._over.set()

    def _check_out(self, client: flexcore_sync.Client) -> flexcore_sync.Seat:
        args = self._args
        got = threading.Event()
        teller = threading.Thread(target=_tell_trouble, args=(client, got), daemon=True)
        teller.start()
        try:
            return client.checkout(
                args.feature, args.version, count=args.count, wait_s=max(args.wait, WAIT_MIN_S),
                queue=args.queue, queue_s=args.queue_wait, on_queue=_tell_queue,
            )  # fmt: skip
        finally:
            got.set()
            teller.join()

    # --- told by the client's thread ----------------------------------------------------------------

    def _lost(self, seat: flexcore_sync.Seat, error: LicenseLost) -> None:
        self._post("lost", error.reason)

    def _state(self, change: flexcore_sync.StateChanged) -> None:
        self._post("served" if change.ready else "unserved", change.reason)

    def _post(self, what: str, words: str) -> None:
        self._events.append((what, words))
        with contextlib.suppress(OSError):
            os.write(self._wake_out, b"\0")

    # --- the main thread ------------------------------------------------------------------------------

    def _watch(self, client: flexcore_sync.Client) -> int:
        from flexcore_tools._child import Ended, Stopped

        while True:
            while self._events:
                self._handle(client, *self._events.popleft())
            self._tell_unserved(client)
            what = self._child.poll()
            if isinstance(what, Ended):
                return what.status
            if isinstance(what, Stopped) and not self._paused:
                if what.signal in [getattr(signal, name) for name in _TERMINAL_STOPS]:
                    self._child.stop_together()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                say("the command has not ended: killing it")
                self._child.send(signal.SIGKILL, group=True)
                self._kill_at = None
            self._sleep()

    def _sleep(self) -> None:
        times = [at for at in (self._kill_at, self._say_at()) if at is not None]
        wait = max(0.0, min(times) - time.monotonic()) if times else None
        ready, _, _ = select.select([self._wake_in], [], [], wait)
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_in, 4096)

    def _handle(self, client: flexcore_sync.Client, what: str, words: str) -> None:
        if what == "lost":
            self._handle_loss(client, words)
        elif what == "regained" and self._seat is not None and self._seat.held:
            say("there is a licence again" + ("; the command continues" if self._paused else ""))
            if self._paused:
                self._paused = False
                self._child.send(signal.SIGCONT, group=True)
        elif what == "unserved":
            self._unserved_at = self._unserved_at or time.monotonic()
        elif what == "served":
            if self._unserved_said:
                say("the licence is served again")
            self._unserved_at, self._unserved_said = None, False

    def _handle_loss(self, client: flexcore_sync.Client, reason: str) -> None:
        args = self._args
        if self._seat is None:
            return
        self._seat = None
        lost = f"the licence for {args.feature} is lost: {reason}"
        if args.on_loss == "terminate":
            say(f"{lost}; terminating the command")
            self._child.send(signal.SIGTERM, group=True)
            self._child.send(signal.SIGCONT, group=True)
            self._kill_at = time.monotonic() + KILL_AFTER_S
            return
        if args.on_loss == "pause":
            self._paused = True
            self._child.send(signal.SIGSTOP, group=True)
            say(f"{lost}; the command is paused until there is a licence again")
        else:
            say(f"{lost}; the command goes on without it")
        threading.Thread(target=self._regain, args=(client,), daemon=True).start()

    def _regain(self, client: flexcore_sync.Client) -> None:
        """Ask for the licence until it is there (in a thread of its own)."""
        from flexcore.errors import FlexcoreError

        args = self._args
        denied = ""
        while not self._over.is_set():
            try:
                seat = client.checkout(
                    args.feature, args.version, count=args.count, wait_s=30.0, queue=args.queue
                )
            except CheckoutDenied as error:
                if str(error) != denied:
                    denied = str(error)
                    say(f"asking again: {denied}")
            except FlexcoreError:
                pass
            else:
                self._seat = seat
                self._post("regained", "")
                return
            self._over.wait(REGAIN_EVERY_S)

    # --- trouble that may pass ------------------------------------------------------------------------

    def _say_at(self) -> float | None:
        if self._unserved_at is None or self._unserved_said:
            return None
        return self._unserved_at + SAY_AFTER_S

    def _tell_unserved(self, client: flexcore_sync.Client) -> None:
        at = self._say_at()
        seat = self._seat
        if at is None or time.monotonic() < at or seat is None:
            return
        self._unserved_said = True
        trouble = client.trouble
        why = trouble.text if trouble is not None else "no licence server serves"
        say(f"{why}; the licence is safe for {seat.lease_left_s:.0f} s, trying on")

    # --- signals --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals_passed_on(self) -> Iterator[None]:
        before = {}
        wakeup = signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)
        for name in (*_TO_GROUP, *_TO_COMMAND):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, self._pass_on)
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        group = signal.Signals(number).name in _TO_GROUP
        self._child.send(number, group=group)
        if self._paused and number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._child.send(signal.SIGCONT, group=True)  # or it could not die of it


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """While there is no command: these signals end the run in order."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {
        number: signal.signal(number, leave)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_queue(waiting: flexcore_sync.Waiting) -> None:
    """Say how it stands in the queue; called by the client's thread when that has changed."""
    ahead = waiting.ahead
    if ahead is not None:
        place = f"{ahead} before us" if ahead else "next in turn"
        words = f"; {waiting.text}" if waiting.text else ""
        say(f"waiting in the queue for {waiting.feature}, {place}{words}")
    elif waiting.seat is not None and waiting.was_queued:
        say("it is our turn: there is a licence")


def _tell_trouble(client: flexcore_sync.Client, got: threading.Event) -> None:
    """Say why it takes long, once for each reason (in a thread of its own)."""
    said = ""
    while not got.wait(1.0):
        trouble = client.trouble
        if trouble is None or trouble.text == said:
            continue
        said = trouble.text
        until = f" (expected in {trouble.until_s:.0f} s)" if trouble.until_s else ""
        say(f"waiting: {said}{until}")
