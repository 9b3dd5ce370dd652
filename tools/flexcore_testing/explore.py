"""Exhaustive exploration: every state of the real servers that a few faults, delays and clients can bring about.

``python -m flexcore_testing.explore --scope small`` visits, breadth first, everything that the scope's bounds allow,
checks the safety invariants in each state, and says what was visited. A violation is told as the shortest schedule that
leads to it, with the command that replays it. ``--mutation NAME`` takes one rule out of the servers first: then a
violation is what ought to be found.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from flexcore_testing.explore_scopes import SCOPES, Scope
from flexcore_testing.explore_search import Outcome, Search, replay
from flexcore_testing.mutation import Mutation
from flexcore_testing.mutations import MUTATIONS

STATES_MAX = 50_000_000


def _mutation(name: str) -> Mutation | None:
    """The mutation of this name; None for ''."""
    return next((each for each in MUTATIONS if each.name == name), None)


def explore(scope: Scope, *, mutation: str = "", states_max: int = STATES_MAX, quiet: bool = True) -> Outcome:
    """Explore *scope*, with the rule of *mutation* taken out where one is named."""
    taken_out = _mutation(mutation)
    with taken_out.applied() if taken_out is not None else contextlib.nullcontext():
        return Search(scope.world(), states_max=states_max, progress=None if quiet else _say).run()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def schedule_of(scope: Scope, choices: Sequence[int], *, mutation: str = "") -> str:
    """A schedule for a person, and what is wrong at its end."""
    taken_out = _mutation(mutation)
    with taken_out.applied() if taken_out is not None else contextlib.nullcontext():
        lines, violation = replay(scope.world(), choices)
    lines.append(f"     then: {violation}" if violation is not None else "     and every invariant holds")
    return "\n".join(lines)


def _report(scope: Scope, outcome: Outcome, mutation: str) -> str:
    rate = outcome.states / outcome.spent_s
    lines = [
        f"scope {scope.name}: {scope.text}",
        f"bounds: {scope.bounds_text()}",
        (
            f"{outcome.states:,} states, {outcome.transitions:,} transitions, depth {outcome.depth}, "
            f"{outcome.pruned:,} events beyond the bound on messages under way, "
            f"{outcome.spent_s:.1f} s, {rate:,.0f} states/s"
        ),
    ]
    if outcome.violation is not None:
        choices = ".".join(map(str, outcome.choices))
        flag = f" --mutation {mutation}" if mutation else ""
        lines += [
            f"VIOLATION after {len(outcome.choices)} steps: {outcome.violation}",
            schedule_of(scope, outcome.choices, mutation=mutation),
            f"replay: python -m flexcore_testing.explore --scope {scope.name}{flag} --replay {choices}",
        ]
    elif outcome.complete:
        lines.append("complete: every state within these bounds was visited, and no invariant is violated")
    else:
        lines.append("NOT complete: the limit on states was reached; no violation so far")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: complete and without a violation, or the mutation was caught; 1: not so."""
    parser = argparse.ArgumentParser(prog="python -m flexcore_testing.explore", description=__doc__)
    parser.add_argument("--scope", choices=sorted(SCOPES), default="small", help="what to explore (default: small)")
    parser.add_argument(
        "--mutation", choices=[each.name for each in MUTATIONS], default="", help="a rule to take out", metavar="NAME"
    )
    parser.add_argument("--states", type=int, default=STATES_MAX, help="visit no more than so many states")
    parser.add_argument("--replay", default="", metavar="CHOICES", help="tell one schedule, as a violation prints it")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    options = parser.parse_args(arguments)
    scope = SCOPES[options.scope]
    if options.replay:
        choices = [int(each) for each in options.replay.split(".")]
        sys.stdout.write(schedule_of(scope, choices, mutation=options.mutation) + "\n")
        return 0
    outcome = explore(scope, mutation=options.mutation, states_max=options.states, quiet=options.quiet)
    sys.stdout.write(_report(scope, outcome, options.mutation) + "\n")
    if options.mutation:
        return 0 if outcome.violation is not None else 1
    return 0 if outcome.complete else 1


if __name__ == "__main__":
    raise SystemExit(main())
