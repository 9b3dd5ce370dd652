"""Deliberate mistakes: each takes one rule of protocol.md section 5 out of the real machines, and must be caught.

A checker that has never failed proves nothing. A mutation replaces small methods of the running code, never its files;
:func:`hunt` then runs a scripted schedule, or seeds until some check fails that does not fail with the rule in place.
*focus* bends the drawn profiles towards the faults that the rule is about, so that a few seeds suffice; what is hunted
is the real code with one rule less.

``python -m flexcore_testing.mutations --jobs 2`` prints the table of mutation, check that caught it, and seeds needed;
with ``--table`` as it stands in the documents.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence

import attrs

from flexcore_testing.campaign import Outcome, run_seed
from flexcore_testing.checks import Violation
from flexcore_testing.mutants import RULES
from flexcore_testing.mutants_rare import RARE_RULES
from flexcore_testing.mutants_terms import TERMS_RULES
from flexcore_testing.mutation import Mutation
from flexcore_testing.schedules import run_schedule
from flexcore_testing.stories import STORIES

MUTATIONS: tuple[Mutation, ...] = RULES + RARE_RULES + TERMS_RULES


@attrs.frozen(kw_only=True)
class Catch:
    """What caught a mutation: the name of the check ('' if none did), after how many seeds (0: by its schedule)."""

    name: str
    seeds: int
    check: str
    text: str
    spent_s: float


def hunt(mutation: Mutation, first: int = 1) -> Catch:
    """Run the schedule, or seeds, until a check fails that may catch this mutation, and holds without it."""
    began = time.perf_counter()
    check = text = ""
    seeds = 0
    if mutation.schedule:
        check, text = _scheduled(mutation)
    else:
        for seed in range(first, first + mutation.seeds_max):
            seeds += 1
            with mutation.applied():
                outcome = _run(mutation, seed)
            if outcome.failure in mutation.caught_by and _run(mutation, seed).failure != outcome.failure:
                check, text = outcome.failure, outcome.text
                break
    return Catch(name=mutation.name, seeds=seeds, check=check, text=text, spent_s=time.perf_counter() - began)


def _run(mutation: Mutation, seed: int) -> Outcome:
    return run_seed(seed, mutation.campaign, level=mutation.level, focus=mutation.focus)


def _scheduled(mutation: Mutation) -> tuple[str, str]:
    with mutation.applied():
        try:
            STORIES.get(mutation.schedule, lambda: run_schedule(mutation.schedule))()
        except Violation as violation:
            if violation.name in mutation.caught_by:
                return violation.name, str(violation)
    return "", ""


def _hunt_named(job: tuple[str, int]) -> Catch:
    name, first = job
    return hunt(next(mutation for mutation in MUTATIONS if mutation.name == name), first)


def hunt_many(names: Sequence[str], *, first: int = 1, jobs: int = 1) -> Iterator[Catch]:
    """Hunt the mutations of these names, on *jobs* cores; in their order."""
    work = [(name, first) for name in names]
    if jobs <= 1:
        yield from map(_hunt_named, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_hunt_named, work, chunksize=1)


def _after(catch: Catch) -> str:
    if not catch.seeds:
        return "a schedule"
    return f"{catch.seeds} seed{'s' if catch.seeds > 1 else ''}"


def table(catches: Sequence[Catch]) -> str:
    """Mutation, rule, the check that caught it, and after how many seeds."""
    known = {mutation.name: mutation for mutation in MUTATIONS}
    rows = [f"{'mutation':<32} {'rule':<4} {'caught by':<14} {'after':<10} what is missing"]
    for catch in catches:
        mutation = known[catch.name]
        by = catch.check or "NOTHING"
        rows.append(f"{mutation.name:<32} {mutation.rule:<4} {by:<14} {_after(catch):<10} {mutation.text}")
    return "\n".join(rows)


def documents_table(catches: Sequence[Catch]) -> str:
    """The same for ``docs/mutations.rst``."""
    known = {mutation.name: mutation for mutation in MUTATIONS}
    rows = [".. list-table::", "   :header-rows: 1", "   :widths: 30 8 40 22", ""]
    cells = [("Mutation", "Rule", "What is missing", "Caught by")]
    for catch in catches:
        mutation = known[catch.name]
        by = f"{catch.check}, after {_after(catch)}" if catch.seeds else f"{catch.check or 'nothing'}, {_after(catch)}"
        cells.append((f"``{mutation.name}``", mutation.rule, mutation.text, by if catch.check else "**nothing**"))
    for row in cells:
        rows += [f"   {'* -' if place == 0 else '  -'} {cell}" for place, cell in enumerate(row)]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt all mutations, or those named; 0 if each was caught."""
    parser = argparse.ArgumentParser(
        prog="python -m flexcore_testing.mutations", description="Take rules out one by one and see a check fail."
    )
    parser.add_argument("names", nargs="*", help="which mutations (default: all)")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="on how many cores")
    parser.add_argument("--table", action="store_true", help="print the table as it stands in the documents")
    options = parser.parse_args(arguments)
    known = [mutation.name for mutation in MUTATIONS]
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no such mutation: {', '.join(unknown)}")
    names = [name for name in known if not options.names or name in options.names]
    catches = []
    for catch in hunt_many(names, first=options.first, jobs=options.jobs):
        catches.append(catch)
        by = catch.check or "NOTHING"
        sys.stderr.write(f"{catch.name}: {by} after {_after(catch)}, {catch.spent_s:.1f} s\n")
    sys.stdout.write((documents_table if options.table else table)(catches) + "\n")
    return 0 if all(catch.check for catch in catches) else 1


if __name__ == "__main__":
    raise SystemExit(main())
