"""A client process of a chaos run: takes seats, holds them, gives them back, and keeps its books.

It obeys lines on standard input: ``quiet N`` (do nothing, keep what is held, and say so in the book),
``go``, ``end``; the end of standard input is ``end``, too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import select
import sys
import time
from pathlib import Path

from flexcore.errors import CheckoutDenied, LicenseLost, NoQuorum, NoServerReachable
from flexcore_sync import Seat, connect
from flexcore_testing.history import HistoryWriter, RecordedClient, RecordedSeat

from .book import Book

_LOOK_S = 0.1
"""How often a client that waits looks at what it holds."""
_HANDS = 2
"""A churning client holds so many seats at once at most."""
PATIENCE_S = 30.0
"""How long a checkout waits: longer than any failover."""


class Worker:
    """One client. ``keep`` holds its seats for the whole run, ``churn`` takes and returns."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.draw = random.Random(args.seed)
        self.book = Book(args.folder / f"book-{args.name}.jsonl")
        self.history = HistoryWriter(args.folder / f"history-{args.name}.jsonl")
        client = connect(
            args.path, keys=[args.key], user=args.name, host="elm", display=":0", timeout_s=PATIENCE_S,
            on_loss=self._lost,
        )  # fmt: skip
        self.client = RecordedClient(client, self.history, args.name)
        self.seats: dict[int, tuple[Seat, RecordedSeat]] = {}
        self.ops = 0
        self.orders = b""
        self.ending = False

    def _lost(self, seat: Seat, why: LicenseLost) -> None:
        self.book.write("lost", handle=seat.handle, why=str(why))

    # --- orders --------------------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """Obey orders for so long, and look at what is held."""
        until = time.monotonic() + timeout_s
        while not self.ending:
            left = until - time.monotonic()
            ready, _, _ = select.select([0], [], [], max(0.0, min(left, _LOOK_S)))
            if ready:
                self._read_orders()
            if timeout_s > _LOOK_S:
                self.look()
            if left <= 0.0:
                return

    def look(self) -> None:
        """Write down what is believed in at this moment."""
        for handle, (seat, _) in list(self.seats.items()):
            if seat.held:
                self.book.write("held", handle=handle)
            elif seat.lost is None:
                self.book.write("lost", handle=handle, why="it is no longer believed in")
                del self.seats[handle]
            else:
                del self.seats[handle]  # told to _lost

    def _read_orders(self) -> None:
        data = os.read(0, 4096)
        self.ending = self.ending or not data
        self.orders += data
        while b"\n" in self.orders and not self.ending:
            line, self.orders = self.orders.split(b"\n", 1)
            order = line.decode().split()
            if order[0] == "end":
                self.ending = True
            elif order[0] == "quiet":
                self._be_quiet(int(order[1]))

    def _be_quiet(self, number: int) -> None:
        self.look()
        held = [[s.feature, h, s.count, s.started] for h, (s, _) in sorted(self.seats.items())]
        self.book.write("quiet", number=number, held=held)
        while not self.ending and not self.orders.startswith(b"go\n"):
            if select.select([0], [], [], _LOOK_S)[0]:
                data = os.read(0, 4096)
                self.ending = not data
                self.orders += data
        self.orders = self.orders.removeprefix(b"go\n")
        self.look()

    # --- work ----------------------------------------------------------------------------------------

    def checkout(self, feature: str, count: int) -> bool:
        """Ask for seats; returns whether they were granted."""
        self.ops += 1
        op = self.ops
        self.book.write("ask", op=op, feature=feature, count=count)
        try:
            recorded = self.client.checkout(feature, count=count)
        except CheckoutDenied as denied:
            self.book.write("denied", op=op, feature=feature, code=denied.code)
            return False
        except (NoQuorum, NoServerReachable) as silence:
            self.book.write("silent", op=op, feature=feature, why=str(silence))
            return False
        seat = recorded.seat
        self.book.write(
            "granted", op=op, feature=feature, handle=seat.handle, count=count, started=seat.started
        )
        self.seats[seat.handle] = seat, recorded
        return True

    def checkin(self, handle: int) -> None:
        """Give one back."""
        self.look()
        both = self.seats.pop(handle, None)
        if both is not None:
            self.book.write("return", handle=handle)
            both[1].checkin()
            self.book.write("returned", handle=handle)

    def keep(self) -> None:
        """Hold one seat of ``kept`` for good."""
        while not self.ending:
            if not self.seats and not self.checkout("kept", 1):
                self.wait(0.5)
            self.wait(1.0)

    def churn(self) -> None:
        """Take and give back seats of ``f1``."""
        draw = self.draw
        while not self.ending:
            if self.seats and (len(self.seats) >= _HANDS or draw.random() < 0.6):
                self.checkin(next(iter(self.seats)))
                self.wait(draw.uniform(0.0, self.args.pause_s))
            elif self.checkout("f1", draw.choice((1, 1, 1, 2))):
                long = draw.random() < 0.03
                self.wait(draw.uniform(0.5, 4.0) if long else draw.uniform(0.0, self.args.pause_s))
            else:
                self.wait(draw.uniform(0.0, 3.0 * self.args.pause_s))

    def run(self) -> None:
        """Work until told to end; then give everything back."""
        (self.keep if self.args.role == "keep" else self.churn)()
        for handle in list(self.seats):
            self.checkin(handle)
        self.client.close()
        self.book.write("end")


def main() -> int:
    """Run one client."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--role", choices=("keep", "churn"), required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--pause-s", type=float, default=0.05)
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):  # the conductor tells when to end
        Worker(args).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
