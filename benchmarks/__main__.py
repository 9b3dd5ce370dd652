"""``make bench``: real servers against floors and peers, as ratios of one run.

Everything runs on one CPU, which is said; each row is launched afresh in each round, and rows take turns. Peers that
are not installed are skipped, loudly. ``--quick`` leaves out what takes long and measures for a blink: a smoke test.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from . import machine, suite, table
from .rows import B, measure

ROUNDS, SECONDS, FAILOVERS, BUDGET_S = 8, 0.5, 20, 840.0
QUICK_S = 0.02


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"fresh launches of each row (default: {ROUNDS}; --quick: 1)")
    parser.add_argument("--seconds", type=float, help=f"how long each is measured (default: {SECONDS:g})")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="begin no round that ends later (%(default)g s)")
    parser.add_argument("--failovers", type=int, default=FAILOVERS, help="how often the master is killed (%(default)s)")
    parser.add_argument("--only", action="append", metavar="WORD", help="rows of this name, or that hold it; and B")
    parser.add_argument("--quick", action="store_true", help="the fast rows, once, for a blink")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the table for the docs there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw there (needs matplotlib)")
    parser.add_argument("--list", action="store_true", help="list the rows")
    return parser


def main() -> int:
    """Measure and print; 0 also where goals are missed: whoever reads decides."""
    options = _parser().parse_args()
    chosen = [row for row in suite.rows(options.failovers) if not (options.quick and row.slow)]
    if options.only:
        names = {row.name for row in chosen}
        chosen = [row for row in chosen if row.name == B or any(
            word == row.name or (word not in names and word in row.name) for word in options.only
        )]  # fmt: skip
    if options.list:
        for row in chosen:
            print(f"{row.name:16} {row.group}: {row.text}")
        return 0
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    seconds = options.seconds or (QUICK_S if options.quick else SECONDS)
    pinned, files = machine.pin_to_one_cpu(), machine.allow_files()
    about: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "machine": machine.describe(), "pinned": pinned,
        "open_files": files, "rounds": rounds, "seconds": seconds,
    }  # fmt: skip
    print(f"{about['date']}, {about['machine']}, {pinned}")
    print(f"{rounds} rounds of {seconds:g} s, rows take turns", flush=True)
    results = measure(chosen, rounds=rounds, seconds=seconds, budget_s=options.budget)
    print(table.text_table(results))
    if options.json:
        options.json.write_text(table.json_text(results, about), encoding="utf-8")
    if options.rst:
        options.rst.write_text(table.rst_table(results), encoding="utf-8")
    if options.plots:
        from .plots import draw

        draw(results, options.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
