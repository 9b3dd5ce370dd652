"""``make bench``: a table of ratios against a floor that is measured in the same run.

Absolute figures drift between machines and launches by a tenth; ratios of medians over interleaved fresh launches hold.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable

import trio

from . import checkout, floor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--launches", type=int, default=8, help="fresh launches of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each is measured (default: %(default)s)")
    args = parser.parse_args()
    pinned = floor.pin_to_one_cpu()
    print(f"CPython {platform.python_version()}, trio {trio.__version__}, {platform.machine()}, {pinned}")
    print(f"median of {args.launches} launches of {args.seconds:g} s each, interleaved")
    print("one op = a checkout or a checkin\n")
    rows: list[tuple[str, Callable[[float], float]]] = [
        ("floor: trio echo, one at a time", floor.echo_per_second),
        ("server on trio, one at a time", checkout.over_trio),
        ("core alone, 1 a turn", lambda seconds: checkout.in_core(seconds, batch=1)),
        ("core alone, 64 a turn", lambda seconds: checkout.in_core(seconds, batch=64)),
    ]
    figures: dict[str, list[float]] = {name: [] for name, _ in rows}
    for _ in range(args.launches):
        for name, measure in rows:
            figures[name].append(measure(args.seconds))
    base = statistics.median(figures[rows[0][0]])
    print(f"{'what':34} {'ops/s':>10} {'min..max':>20} {'ratio':>8}")
    for name, _ in rows:
        seen = figures[name]
        median = statistics.median(seen)
        print(f"{name:34} {median:10,.0f} {f'{min(seen):,.0f}..{max(seen):,.0f}':>20} {median / base:7.2f}x")


if __name__ == "__main__":
    main()
