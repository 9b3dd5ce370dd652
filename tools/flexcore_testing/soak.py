"""``python -m flexcore_testing.soak``: the campaign for hours, by seed range, resumable.

Seed n of the soak is one case: every tenth breaks the assumptions of the protocol (campaign ``beyond``), every tenth
is a bare quorum without clients, the rest are whole servers with clients within the assumptions. What was done is
written to a state file every few seconds and at the end, also after Ctrl-C; ``--resume FILE`` goes on behind the last
seed that was counted. A violation does not stop the soak: it is told with its chart, and named again at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

import flexcore
import flexcore_testing
from flexcore_testing.campaign import Outcome, run_case
from flexcore_testing.case import Case
from flexcore_testing.coverage import coverage_text
from flexcore_testing.profile import BEYOND, WITHIN
from flexcore_testing.simulate import failure_text
from flexcore_testing.tally import Tally

STATE_FORMAT = 1
SAVE_EVERY_S = 10.0
SHOW_EVERY_S = 30.0
AHEAD_PER_JOB = 8
"""Seeds given out and not yet counted, a worker: what is lost at Ctrl-C, and what waits for a slow seed."""
GOALS = {"seeds": 20_000, "elections": 200_000, "checkouts": 2_000_000, "faults": 500_000}
"""What a full soak has to reach before anybody may say that it found nothing."""


class SoakError(flexcore.FlexcoreError):
    """The state file cannot be used."""


def case_of(number: int) -> Case:
    """What seed *number* of the soak runs."""
    if number % 10 == 0:
        return Case(seed=number, campaign=BEYOND)
    if number % 10 == 5:
        return Case(seed=number, campaign=WITHIN, level="quorum")
    return Case(seed=number, campaign=WITHIN)


def _failed_case(failure: Mapping[str, Any]) -> Case:
    """The seed that failed, whichever numbers of the soak mean what by now."""
    return Case(seed=failure["seed"], campaign=failure["campaign"], level=failure["level"])


def code_digest() -> str:
    """Of the sources that decide what a seed does: a tally of two different programs is worth less."""
    digest = hashlib.sha256()
    for package in (flexcore, flexcore_testing):
        folder = Path(package.__file__ or "").parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@attrs.define(kw_only=True)
class SoakState:
    """How far a soak has come."""

    first: int
    next: int
    """The first seed that is not counted yet."""
    last: int | None = None
    tally: Tally = attrs.field(factory=Tally)
    failures: list[dict[str, Any]] = attrs.field(factory=list)
    mended: list[dict[str, Any]] = attrs.field(factory=list)
    """Failures that were run again (``--again``) and do not happen any more: kept, with the program that mends them."""
    wall_s: float = 0.0
    codes: list[str] = attrs.field(factory=list)

    def save(self, path: Path) -> None:
        """Write the file anew, whole or not at all."""
        data = {
            "format": STATE_FORMAT, "first": self.first, "next": self.next, "last": self.last, "wall_s": self.wall_s,
            "codes": self.codes, "failures": self.failures, "mended": self.mended, "tally": self.tally.to_data(),
        }  # fmt: skip
        draft = path.with_name(path.name + ".new")
        draft.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> SoakState:
        """Read what :meth:`save` wrote.

        Raises:
            SoakError: it cannot be read.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] > STATE_FORMAT:
                raise SoakError(f"{path} was written by a newer version")
            return cls(
                first=int(data["first"]), next=int(data["next"]), last=data["last"], wall_s=float(data["wall_s"]),
                codes=list(data["codes"]), failures=list(data["failures"]), mended=list(data.get("mended", ())),
                tally=Tally.from_data(data["tally"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SoakError(f"{path} is not the state of a soak: {error}") from error

    def count(self, outcome: Outcome) -> None:
        """Add the outcome of the next seed."""
        assert outcome.seed == self.next
        self.next += 1
        self.tally.add(outcome)
        if outcome.failure:
            case = outcome.case
            self.failures.append(
                {"seed": case.seed, "campaign": case.campaign, "level": case.level, "failure": outcome.failure}
            )

    def try_again(self, outcomes: Iterable[Outcome], code: str) -> None:
        """Look at what the failed seeds do by now: those that hold are no violations of this program."""
        failures, self.failures = self.failures, []
        for failure, outcome in zip(failures, outcomes, strict=True):
            if outcome.failure:
                self.failures.append(failure | {"failure": outcome.failure})
            else:
                self.mended.append(failure | {"code": code})
        self.tally.failed = len(self.failures)

    def summary(self) -> str:
        """What was done, against the goals."""
        tally = self.tally
        done = {"seeds": tally.seeds, **{name: tally.counts[name] for name in GOALS if name != "seeds"}}
        rows = [f"  {done[name]:>11,} {name:<10} of {goal:>9,}" for name, goal in GOALS.items()]
        hours = tally.simulated_s / 3600
        rows.append(f"  {hours:>11,.1f} simulated hours in {self.wall_s / 3600:.2f} h")
        rows.append(f"  {hours / max(tally.spent_s, 1e-9):>11.3f} simulated hours a second of one core")
        rows.append(f"  {tally.spent_s / max(tally.seeds, 1):>11.3f} s of one core a seed")
        if len(self.codes) > 1:
            rows.append(f"  the program changed {len(self.codes) - 1} time(s) on the way")
        verdict = f"{tally.failed} violations" if tally.failed else "no violation"
        if self.mended:
            seeds = ", ".join(f"{each['seed']} ({each['failure']})" for each in self.mended)
            rows.append(f"  failed on the way and run again without, after a mend: {seeds}")
        return "\n".join([f"seeds {self.first} to {self.next - 1}: {verdict}", *rows])


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone decides what Ctrl-C means


def _outcomes(state: SoakState, jobs: int) -> Iterator[Outcome]:
    """In order, without end or up to the last seed; never far ahead of what was counted."""
    numbers = itertools.count(state.next) if state.last is None else iter(range(state.next, state.last + 1))
    if jobs <= 1:
        for number in numbers:
            yield run_case(case_of(number))
        return
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_ignore_interrupts) as pool:
        waiting = [pool.apply_async(run_case, (case_of(number),))
                   for number in itertools.islice(numbers, jobs * AHEAD_PER_JOB)]  # fmt: skip
        while waiting:
            yield waiting.pop(0).get()
            waiting += [pool.apply_async(run_case, (case_of(number),)) for number in itertools.islice(numbers, 1)]


def soak(state: SoakState, path: Path | None, *, jobs: int, hours: float | None) -> None:
    """Run until the last seed, or for *hours* more, or until Ctrl-C; tell on the way."""
    out = sys.stdout.write
    began = saved = shown = time.monotonic()
    before_s = state.wall_s
    try:
        for outcome in _outcomes(state, jobs):
            state.count(outcome)
            now = time.monotonic()
            state.wall_s = before_s + now - began
            if outcome.failure:
                out(failure_text(outcome, outcome.case.campaign, outcome.case.level) + "\n")
            if path is not None and (now - saved > SAVE_EVERY_S or outcome.failure):
                state.save(path)
                saved = now
            if now - shown > SHOW_EVERY_S:
                out(f"... {state.tally.headline()}\n")
                shown = now
            sys.stdout.flush()
            if hours is not None and now - began >= hours * 3600:
                break
    except KeyboardInterrupt:
        out("\ninterrupted\n")
    if path is not None:
        state.save(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flexcore_testing.soak", description=__doc__)
    parser.add_argument("--seeds", metavar="A..B", help="seeds from A up to and including B (default: 1 and no end)")
    parser.add_argument("--hours", type=float, help="stop after so long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep there how far it has come")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from there (made if it is missing)")
    parser.add_argument("--again", action="store_true",
                        help="first run the seeds that failed again: those that hold now are noted as mended")
    parser.add_argument("-q", "--quiet", action="store_true", help="no table of what was exercised at the end")
    return parser


def _begin(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[SoakState, Path | None]:
    path: Path | None = options.resume or options.state
    first, _, last = (options.seeds or "1..").partition("..")
    try:
        state = SoakState(first=int(first), next=int(first), last=int(last) if last else None)
    except ValueError:
        parser.error(f"--seeds wants A..B, not {options.seeds!r}")
    if options.resume is not None and options.resume.exists():
        try:
            kept = SoakState.load(options.resume)
        except SoakError as error:
            parser.error(str(error))
        kept.last = state.last if options.seeds else kept.last
        state = kept
    elif options.state is not None and options.state.exists():
        parser.error(f"{options.state} exists: --resume goes on from it")
    return state, path


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak; 0 if nothing was violated, in this run and in those that it resumes."""
    parser = _parser()
    options = parser.parse_args(arguments)
    state, path = _begin(parser, options)
    out = sys.stdout.write
    code = code_digest()
    if state.codes and state.codes[-1] != code:
        out(f"the program has changed since seed {state.next - 1}: the tally will be of both\n")
    if code not in state.codes[-1:]:
        state.codes.append(code)
    if state.next > state.first:
        out(f"going on at seed {state.next}\n")
    if options.again:
        state.try_again([run_case(_failed_case(failure)) for failure in state.failures], code)
    soak(state, path, jobs=options.jobs, hours=options.hours)
    if not options.quiet:
        out(coverage_text(state.tally.counts, state.tally.seeds) + "\n")
    out(state.summary() + "\n")
    for failure in state.failures:
        out(f"  failed: seed {failure['seed']} {failure['campaign']} {failure['level']}: {failure['failure']}\n")
    return 1 if state.tally.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
