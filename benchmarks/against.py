"""``python -m benchmarks.against TREE``: what a checkout costs here, and with the flexcore of another tree, in one run.

*TREE* is a checkout of another commit (``git worktree add TREE COMMIT``). Launches are interleaved and fresh, and both
are measured by the code of this tree; the file has no options and uses none of what options, packages or queues bring.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CHILD = """
import sys, time
time.perf_counter = time.process_time  # what else the machine does shall not count
tree, here, seconds, batch = sys.argv[1:]
sys.path[:0] = [tree, tree + "/transports"]
import flexcore, flexcore_trio
sys.path.insert(0, here)
from benchmarks import checkout
print(flexcore.__file__, checkout.in_core(float(seconds), batch=int(batch)))
"""


def operations(tree: Path, seconds: float, batch: int) -> float:
    """Operations a second of the core of *tree*."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tree), str(HERE), str(seconds), str(batch)],
        check=True, capture_output=True, text=True, cwd="/", env={"PYTHONHASHSEED": "0"},
    )  # fmt: skip
    place, figure = done.stdout.split()
    assert place.startswith(str(tree)), f"measured {place}"
    return float(figure)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("tree", type=Path, help="a checkout of another commit")
    parser.add_argument("--launches", type=int, default=7, help="fresh launches of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each is measured (default: %(default)s)")
    args = parser.parse_args()
    tree = args.tree.resolve()
    print(f"{'core alone':16}{'there, ops/s':>14}{'here, ops/s':>14}{'cost here':>11}")
    for batch in (1, 64):
        pairs = [(operations(tree, args.seconds, batch), operations(HERE, args.seconds, batch))
                 for _ in range(args.launches)]  # fmt: skip
        there, here = (statistics.median(figures) for figures in zip(*pairs, strict=True))
        ratio = statistics.median(other / own for other, own in pairs)
        print(f"{f'{batch} a turn':16}{there:14,.0f}{here:14,.0f}{ratio:10.3f}x", flush=True)


if __name__ == "__main__":
    main()
