"""``python -m flexcore_testing.simulate``: one seed with its story, or a campaign of many with its counts."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from flexcore_testing.campaign import Outcome, run_seed
from flexcore_testing.profile import CAMPAIGNS, WITHIN

HEADLINES = ("elections", "checkouts", "grants committed", "faults", "messages")
PROGRESS_S = 10.0
FAILURES_MAX = 50
"""With --keep-going: enough is enough."""


def replay_command(seed: int, campaign: str, level: str) -> str:
    """The one command that runs a seed again."""
    options = f" --campaign {campaign}" if campaign != WITHIN else ""
    options += f" --level {level}" if level != "full" else ""
    return f"python -m flexcore_testing.simulate --seed {seed}{options} -v"


def failure_text(outcome: Outcome, campaign: str, level: str) -> str:
    """What a person needs who has to find the reason."""
    chart = "\n".join(outcome.chart)
    return (
        f"{chart}\n\nseed {outcome.seed}: {outcome.text}\nat {outcome.simulated_s:.4f} s; "
        f"again with: {replay_command(outcome.seed, campaign, level)}"
    )


class Tally:
    """Adds outcomes up."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[Outcome] = []
        self.seeds = 0
        self.simulated_s = 0.0
        self.spent_s = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one seed."""
        self.seeds += 1
        self.counts.update(outcome.counts)
        self.simulated_s += outcome.simulated_s
        self.spent_s += outcome.spent_s
        if outcome.failure:
            self.failures.append(outcome)

    def headline(self) -> str:
        """One line: how much was simulated."""
        hours = self.simulated_s / 3600
        parts = [f"{self.seeds} seeds", f"{len(self.failures)} violations"]
        parts += [f"{self.counts[name]} {name}" for name in HEADLINES if self.counts[name]]
        parts.append(f"{hours:.1f} simulated hours")
        parts.append(f"{hours / max(self.spent_s, 1e-9):.2f} simulated hours a second of one core")
        return ", ".join(parts)

    def table(self) -> str:
        """Everything that was counted."""
        rows = [f"  {self.counts[name]:>10}  {name}" for name in sorted(self.counts) if name not in HEADLINES]
        return "\n".join(rows)


def _work(job: tuple[int, str, str]) -> Outcome:
    seed, campaign, level = job
    return run_seed(seed, campaign, level=level)


def run_many(seeds: Sequence[int], campaign: str = WITHIN, *, level: str = "full", jobs: int = 1) -> Iterator[Outcome]:
    """The outcomes of many seeds, in order."""
    work = [(seed, campaign, level) for seed in seeds]
    if jobs <= 1:
        yield from map(_work, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_work, work, chunksize=4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 if nothing was violated."""
    parser = argparse.ArgumentParser(prog="python -m flexcore_testing.simulate", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="one seed, told as it happens with -v")
    which.add_argument("--seeds", metavar="A..B", help="all seeds from A up to and including B")
    parser.add_argument("--campaign", choices=CAMPAIGNS, default=WITHIN)
    parser.add_argument("--level", choices=("full", "quorum"), default="full")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--chart", type=int, default=120, metavar="LINES", help="length of a failure's chart")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first violation")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args(arguments)
    out = sys.stdout.write
    if options.seed is not None:
        outcome = run_seed(
            options.seed, options.campaign, level=options.level, verbose=options.verbose, chart_lines=options.chart
        )
        tally = Tally()
        tally.add(outcome)
        if outcome.failure:
            out(failure_text(outcome, options.campaign, options.level) + "\n")
        out(tally.headline() + "\n")
        if options.verbose:
            out(tally.table() + "\n")
        return 1 if outcome.failure else 0
    first, _, last = options.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    return _campaign(seeds, options)


def _campaign(seeds: Sequence[int], options: argparse.Namespace) -> int:
    out = sys.stdout.write
    tally = Tally()
    shown = began = time.monotonic()
    for outcome in run_many(seeds, options.campaign, level=options.level, jobs=options.jobs):
        tally.add(outcome)
        if outcome.failure:
            if not options.keep_going:
                out(failure_text(outcome, options.campaign, options.level) + "\n")
                break
            if len(tally.failures) >= FAILURES_MAX:
                break
            text = outcome.text.strip().splitlines()[-1]
            out(f"seed {outcome.seed}: {outcome.failure}: {text[:300]}\n")
        if time.monotonic() - shown > PROGRESS_S:
            shown = time.monotonic()
            out(f"... {tally.seeds} of {len(seeds)} seeds, {len(tally.failures)} violations\n")
        sys.stdout.flush()
    out(tally.table() + "\n" + tally.headline() + "\n")
    out(f"{time.monotonic() - began:.1f} s, {options.jobs} job(s), campaign {options.campaign}\n")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
