"""``flexcore reportlog``: verify report logs, and join the three servers' logs into one history."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from flexcore.report.reportlog import Reading
    from flexcore.report.reportmerge import Merged

PROBLEMS_SHOWN_MAX = 100

HELP = """\
Verify report logs, or join the logs of the three servers into one history.

verify FILE...   the logs of one server or more, each in one file or in several, in any order. Says which line
                 was changed or is missing, and which lines stand in a file that is not there.
merge FILE...    the same files. Every entry that the triad committed
                 is in it once; what no server wrote is named, with who wrote until where. -o writes
                 the history as a report log of its own.

exit status: 0 if nothing is wrong; 1 if a line was changed or removed, an entry is in no log, or two
logs tell it in different words."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=("verify", "merge"))
    parser.add_argument("files", metavar="FILE", nargs="+")
    parser.add_argument("--continued", action="store_true", help="verify: the files are one log, oldest first")
    parser.add_argument(
        "-o", dest="output", metavar="FILE",
        help="merge: write the history there (- for standard output)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit status."""
    return _verify(args) if args.what == "verify" else _merge(args)


def read_log(files: str) -> Reading:
    """Read one server's log from a file, or from several, oldest first, with commas between."""
    from flexcore.report.reportlog import read_report

    return read_report((name, _lines(name)) for name in _names(files))


def _logs(files: Sequence[str]) -> list[str]:
    """Return the files of each log, oldest first, with commas between."""
    from ._reportfiles import arranged

    return [",".join(names) for names in arranged(files)]


def _names(files: str) -> list[str]:
    return [name for part in files.split(",") for name in (sorted(glob.glob(part)) or [part])]


def _lines(name: str) -> Iterator[str]:
    with open(name, encoding="utf-8", errors="replace", newline="\n") as file:
        yield from file


def _verify(args: argparse.Namespace) -> int:
    from ._reportfiles import first_line

    logs = [",".join(args.files)] if args.continued else _logs(args.files)
    status = 0
    for name in logs:
        reading = read_log(name)
        for problem in reading.problems[:PROBLEMS_SHOWN_MAX]:
            print(problem)
        if len(reading.problems) > PROBLEMS_SHOWN_MAX:
            print(f"... and {len(reading.problems) - PROBLEMS_SHOWN_MAX} more")
        before = first_line(name.split(",")[0]) - 1
        if before > 0:
            print(f"{name}: goes on behind line {before}, which stands in a file that is not given")
        status = 1 if reading.problems else status
        end = reading.end
        said = "ends with the server's stop" if reading.closed else (
            "does not end with a stop: the server runs, was killed, or lines at its end are gone"
        )  # fmt: skip
        print(f"{name}: {reading.server}, {len(reading.records)} records to entry {end.index} of term {end.term};"
              f" {said}")  # fmt: skip
        print(f"{name}: {'NOT ' if reading.problems else ''}intact; line {end.n}, hash {end.hash}")
    return status


def _merge(args: argparse.Namespace) -> int:
    from flexcore.report.reportmerge import merge_reports, merged_lines
    from flexcore_host import clock

    logs = [read_log(name) for name in _logs(args.files)]
    merged = merge_reports(logs)
    out = sys.stderr if args.output == "-" else sys.stdout
    for log in logs:
        for problem in log.problems[:PROBLEMS_SHOWN_MAX]:
            print(problem, file=out)
    for line in _proof(merged):
        print(line, file=out)
    lines = merged_lines(merged, at=clock.wall())
    if args.output == "-":
        sys.stdout.writelines(f"{line}\n" for line in lines)
    elif args.output:
        with open(args.output, "w", encoding="ascii", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
    return 0 if merged.complete and not any(log.problems for log in logs) else 1


def _proof(merged: Merged) -> Iterator[str]:
    for source in merged.sources:
        wrote = ", ".join(f"{first} to {last}" for first, last in source.ranges)
        yield f"{source.server} wrote entries {wrote} of triad {source.triad}"
    for gap in merged.gaps[:PROBLEMS_SHOWN_MAX]:
        who = ", ".join(f"{server} wrote until {last}" for server, last in gap.wrote)
        yield f"MISSING: entries {gap.first} to {gap.last} of triad {gap.triad} are in no log ({who})"
    for conflict in merged.conflicts[:PROBLEMS_SHOWN_MAX]:
        yield f"CONFLICT: {' and '.join(conflict.servers)} tell entry {conflict.index} in different words"
    yield (f"{len(merged.records)} records: " + ("nothing is missing" if merged.complete else "NOT complete"))
