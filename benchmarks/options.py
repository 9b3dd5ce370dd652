"""What options cost: a checkout among many holders, with and without rules; and taking an options file.

``python -m benchmarks.options`` decides in memory, without a wire or a disk. A MAX or a RESERVE used to look through
all holders at each checkout; the column of 10,000 holders shows whether one does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from flexcore.checkout import CheckoutMachine, Grant, Line, make_rights
from flexcore.checkout.regulations import regulations_of
from flexcore.ledger import Ledger
from flexcore.ledger.commands import Command, SessionOpened
from flexcore.options import parse_options
from flexcore.wire.codec import encode_command
from flexcore.wire.messages import Checkin, Checkout

DAY = 739_000
HOLDERS = (10, 1_000, 10_000)
ROWS = (
    ("no options file", ""),
    ("another feature's rules", "MAX 1 f9 USER ann\n"),
    ("EXCLUDE", "EXCLUDE f1 USER nobody\n"),
    ("MAX of a group", "MAX 50000 f1 GROUP all\nGROUP all *\n"),
    ("RESERVE for a user", "RESERVE 5 f1 USER ann\n"),
    ("1,000 MAX lines", "".join(f"MAX 1000 f1 USER u{n}\n" for n in range(1000))),
    ("1,000 RESERVE lines", "".join(f"RESERVE 2 f1 USER u{n}\n" for n in range(1000))),
)


def line(feature: str) -> Line:
    """100,000 licences of a feature."""
    return Line(feature, f"{feature} 1.0", "1.0", "demo", 100_000, "permanent", None, None, "", "", "")


class Desk:
    """A ledger with so many holders, and a machine that decides."""

    def __init__(self, text: str, holders: int) -> None:
        rights = make_rights([line("f1")], vendor="demo")
        self.ledger = Ledger()
        self.machine = CheckoutMachine(rights, regulations_of(parse_options(text), rights))
        self.requests = [0] * holders
        for number in range(holders):
            self.append(SessionOpened(b"%d" % number, b"s", f"u{number}", f"h{number}", "", "", 1, 33.0, True))
        for number in range(holders):
            self.round(number)

    def append(self, command: Command) -> int:
        """Append and commit."""
        index = self.ledger.append(1, 1.0, encode_command(command), command)
        self.ledger.commit_to(index)
        return index

    def round(self, number: int, *, keep: bool = True) -> float:
        """One checkout, given back unless *keep*; return the seconds of the decision."""
        session = self.ledger.state.sessions[b"%d" % number]
        self.requests[number] += 1
        asked = Checkout(0, self.requests[number], self.requests[number] - 1, "f1", "1.0", 1, 0)
        started = time.perf_counter()
        verdict = self.machine.decide(self.ledger.state, session, asked, day=DAY, now=1.0)
        took = time.perf_counter() - started
        assert type(verdict) is Grant, verdict
        self.append(verdict.command)
        if not keep:
            self.requests[number] += 1
            back = Checkin(0, self.requests[number], self.requests[number] - 1, verdict.command.handle, 0)
            given = self.machine.decide(self.ledger.state, session, back, day=DAY, now=1.0)
            self.append(given.command)  # type: ignore[union-attr]
        return took


def decision_us(text: str, holders: int, times: int = 300) -> float:
    """Microseconds of the median decision on a checkout among *holders*, each after a change of the ledger."""
    desk = Desk(text, holders)
    return statistics.median(desk.round(n * 7 % holders, keep=False) for n in range(times)) * 1e6


def taking_ms(rules: int, features: int) -> float:
    """Milliseconds to make decisions ready out of an options file that was read: what a reread does on the loop."""
    text = "".join(
        f"{('EXCLUDE', 'INCLUDE')[n % 2]} f{n % features} USER u{n}\n"
        if n % 4 else f"MAX 3 f{n % features} USER u{n}\n"
        for n in range(rules)
    ) + "".join(f"EXCLUDEALL USER x{n}\n" for n in range(100))
    options = parse_options(text)
    rights = make_rights([line(f"f{n}") for n in range(features)], vendor="demo")
    return timed(lambda: regulations_of(options, rights)) * 1e3


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    print("microseconds of a decision    " + "".join(f"{n:>10,}" for n in HOLDERS) + "  holders")
    for name, text in ROWS:
        figures = [decision_us(text, holders, 60 if holders > 1000 else 300) for holders in HOLDERS]
        print(f"{name:30}" + "".join(f"{figure:10.1f}" for figure in figures), flush=True)
    print("\nmilliseconds on the loop to take an options file of ...")
    for rules, features in ((100, 100), (10_000, 100), (10_000, 2_000), (100_000, 2_000)):
        print(f"{rules:>8,} rules about {features:>5,} features  {taking_ms(rules, features):10.1f}", flush=True)


if __name__ == "__main__":
    main()
