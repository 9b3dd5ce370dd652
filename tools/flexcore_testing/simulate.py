"""``python -m flexcore_testing.simulate``: one seed with its story, a campaign of many with what they exercised, or a
case that was kept; ``--shrink`` makes a failure small."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flexcore_testing.campaign import CHART_LINES, Outcome, run_case
from flexcore_testing.case import LEVELS, Case, CaseError
from flexcore_testing.coverage import coverage_text
from flexcore_testing.profile import BEYOND, CAMPAIGNS, MEMORY, WITHIN
from flexcore_testing.shrink import SHRINK_S, Shrinker
from flexcore_testing.tally import HEADLINES, Tally
from flexcore_testing.terms import TERMS

__all__ = ["HEADLINES", "Tally", "failure_text", "main", "replay_command", "run_many"]

FOCUSES: Mapping[str, Mapping[str, Any]] = {"memory": MEMORY, "terms": TERMS}
"""By name: what replaces parts of what a seed draws."""

PROGRESS_S = 10.0
FAILURES_MAX = 50
"""With --keep-going: enough is enough."""


def replay_command(seed: int, campaign: str, level: str, focus: Mapping[str, Any] | None = None) -> str:
    """The one command that runs a seed again."""
    options = f" --campaign {campaign}" if campaign != WITHIN else ""
    options += f" --level {level}" if level != "full" else ""
    options += "".join(f" --focus {name}" for name, known in FOCUSES.items() if focus == known)
    return f"python -m flexcore_testing.simulate --seed {seed}{options} -v"


def failure_text(outcome: Outcome, campaign: str, level: str) -> str:
    """What a person needs who has to find the reason."""
    chart = "\n".join(outcome.chart)
    again = replay_command(outcome.seed, campaign, level, outcome.case.focus)
    return (
        f"{chart}\n\nseed {outcome.seed}: {outcome.text}\nat {outcome.simulated_s:.4f} s; again with: {again}\n"
        f"smaller with: {again.removesuffix(' -v')} --shrink"
    )


def run_many(
    seeds: Sequence[int], campaign: str = WITHIN, *, level: str = "full", jobs: int = 1,
    focus: Mapping[str, Any] | None = None,
) -> Iterator[Outcome]:  # fmt: skip
    """The outcomes of many seeds, in order."""
    cases = [Case(seed=seed, campaign=campaign, level=level, focus=focus or {}) for seed in seeds]
    yield from run_cases(cases, jobs=jobs)


def run_cases(cases: Sequence[Case], *, jobs: int = 1) -> Iterator[Outcome]:
    """The outcomes of many cases, in order, *jobs* at a time."""
    if jobs <= 1:
        yield from map(run_case, cases)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run_case, cases, chunksize=4)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flexcore_testing.simulate", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="one seed, told as it happens with -v")
    which.add_argument("--seeds", metavar="A..B", help="all seeds from A up to and including B")
    which.add_argument("--case", type=Path, metavar="FILE", help="a case that was kept")
    parser.add_argument("--campaign", choices=CAMPAIGNS, default=WITHIN)
    parser.add_argument("--level", choices=LEVELS, default="full")
    parser.add_argument("--focus", choices=tuple(FOCUSES), help="draw what no seed draws of itself")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--chart", type=int, default=CHART_LINES, metavar="LINES", help="length of a failure's chart")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first violation")
    parser.add_argument("--shrink", action="store_true", help="make the first failure small, and print it as a test")
    parser.add_argument("--shrink-seconds", type=float, default=SHRINK_S, metavar="S", help="at most so long")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the shrunk case to this file")
    parser.add_argument("-v", "--verbose", action="store_true", help="the story of a seed; what all exercised")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 if nothing was violated."""
    parser = _parser()
    options = parser.parse_args(arguments)
    focus = FOCUSES.get(options.focus, {})
    if options.seeds is None:
        if options.case is None:
            case = Case(seed=options.seed, campaign=options.campaign, level=options.level, focus=focus)
        else:
            try:
                case = Case.from_json(options.case.read_text(encoding="utf-8"))
            except (OSError, CaseError) as error:
                parser.error(f"{options.case}: {error}")
        return _one(case, options)
    first, _, last = options.seeds.partition("..")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        parser.error(f"--seeds wants A..B, not {options.seeds!r}")
    return _campaign(seeds, options)


def _one(case: Case, options: argparse.Namespace) -> int:
    out = sys.stdout.write
    outcome = run_case(case, verbose=options.verbose and not options.shrink, chart_lines=options.chart)
    tally = Tally()
    tally.add(outcome)
    if outcome.failure and options.shrink:
        return _shrink(case, outcome, options)
    if outcome.failure:
        out(failure_text(outcome, case.campaign, case.level) + "\n")
    if options.verbose:
        out(coverage_text(tally.counts, 1, level=case.level, beyond=case.campaign == BEYOND) + "\n")
    out(tally.headline() + "\n")
    return 1 if outcome.failure else 0


def _shrink(case: Case, outcome: Outcome, options: argparse.Namespace) -> int:
    out = sys.stdout.write
    out(f"seed {case.seed} fails with {outcome.failure}; shrinking for at most {options.shrink_seconds:.0f} s ...\n")
    sys.stdout.flush()
    shrunk = Shrinker(case, outcome.failure, seconds=options.shrink_seconds).shrink()
    if shrunk is None:
        out("it did not fail again: something outside of the case decides\n")
        return 1
    out("\n".join(shrunk.outcome.chart[-options.chart :]) + "\n\n" + shrunk.text())
    if options.keep is not None:
        options.keep.write_text(shrunk.case.to_json(), encoding="utf-8")
    return 1


def _campaign(seeds: Sequence[int], options: argparse.Namespace) -> int:
    out = sys.stdout.write
    tally = Tally()
    shown = began = time.monotonic()
    for outcome in run_many(
        seeds, options.campaign, level=options.level, jobs=options.jobs, focus=FOCUSES.get(options.focus)
    ):
        tally.add(outcome)
        if outcome.failure:
            if options.shrink:
                return _shrink(outcome.case, outcome, options)
            if not options.keep_going:
                out(failure_text(outcome, options.campaign, options.level) + "\n")
                break
            text = outcome.text.strip().splitlines()[-1 if outcome.failure.endswith("Error") else 0]
            out(f"seed {outcome.seed}: {outcome.failure}: {text[:300]}\n")
            if tally.failed >= FAILURES_MAX:
                break
        if time.monotonic() - shown > PROGRESS_S:
            shown = time.monotonic()
            out(f"... {tally.seeds} of {len(seeds)} seeds, {tally.failed} violations\n")
        sys.stdout.flush()
    out(coverage_text(tally.counts, tally.seeds, level=options.level, beyond=options.campaign == BEYOND) + "\n")
    out(tally.headline() + "\n")
    out(f"{time.monotonic() - began:.1f} s, {options.jobs} job(s), campaign {options.campaign}\n")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
