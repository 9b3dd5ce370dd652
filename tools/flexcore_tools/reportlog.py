"""``flexcore reportlog``: verify report logs, and join the three servers' logs into one history."""

from __future__ import annotations

import glob
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from flexcore.report.reportlog import ReportReader
    from flexcore.report.reportmerge import ReportMerge

PROBLEMS_SHOWN_MAX = 100

HELP = """\
Verify report logs, or join the logs of the three servers into one history.

verify FILE...   the logs of one server or more, each in one file or in several, in any order, as they are or
                 compressed by gzip. Says which line was changed or is missing, and which lines stand in a file
                 that is not there.
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


def open_log(names: Sequence[str]) -> ReportReader:
    """Return a reader of one server's log, whose files are *names*, oldest first."""
    from flexcore.report.reportlog import ReportReader
    from flexcore_host import packed

    for name in names:  # a name that is none is told before anything is read
        packed.open_plain(name).close()
    return ReportReader((name, packed.lines(name)) for name in names)


def arranged_files(words: Sequence[str]) -> list[list[str]]:
    """Return the files of each log, oldest first, that *words* of the command line name."""
    from ._reportfiles import arranged

    return [_names(",".join(names)) for names in arranged(words)]


def _names(files: str) -> list[str]:
    return [name for part in files.split(",") for name in (sorted(glob.glob(part)) or [part])]


def problem_lines(log: ReportReader) -> Iterator[str]:
    """Yield what is wrong with a log that was read."""
    shown = log.problems[:PROBLEMS_SHOWN_MAX]
    yield from map(str, shown)
    if log.problem_count > len(shown):
        yield f"... and {log.problem_count - len(shown)} more in {log.name}"


def _verify(args: argparse.Namespace) -> int:
    from ._reportfiles import first_line

    logs = [_names(",".join(args.files))] if args.continued else arranged_files(args.files)
    status = 0
    for names in logs:
        log = open_log(names)
        name = ",".join(names)
        deque(log.records, maxlen=0)
        for line in problem_lines(log):
            print(line)
        for start in log.unstopped[:PROBLEMS_SHOWN_MAX]:
            print(start)
        before = first_line(names[0]) - 1
        if before > 0:
            print(f"{name}: goes on behind line {before}, which stands in a file that is not given")
        status = 1 if log.problems else status
        end = log.end
        said = "ends with the server's stop" if log.closed else (
            "does not end with a stop: the server runs, was killed, or lines at its end are gone"
        )  # fmt: skip
        print(f"{name}: {log.server}, {log.count} records to entry {end.index} of term {end.term};"
              f" {said}")  # fmt: skip
        print(f"{name}: {'NOT ' if log.problems else ''}intact; line {end.n}, hash {end.hash}")
    return status


def _merge(args: argparse.Namespace) -> int:
    from flexcore.report.reportmerge import ReportMerge, merged_lines
    from flexcore_host import clock

    logs = [open_log(names) for names in arranged_files(args.files)]
    merge = ReportMerge(logs)
    lines = merged_lines(merge.records, args.files, at=clock.wall())
    if args.output == "-":
        sys.stdout.writelines(f"{line}\n" for line in lines)
    elif args.output:
        _write(args.output, lines)
    else:
        deque(lines, maxlen=0)
    out = sys.stderr if args.output == "-" else sys.stdout
    for log in logs:
        for line in problem_lines(log):
            print(line, file=out)
        for start in log.unstopped[:PROBLEMS_SHOWN_MAX]:
            print(start, file=out)
    damaged = any(log.problems for log in logs)
    for line in proof_lines(merge, damaged=damaged):
        print(line, file=out)
    return 0 if merge.complete and not damaged else 1


def _write(path: str, lines: Iterator[str]) -> None:
    """Write *lines* to *path*, which may be one of the logs that they are read from: its name holds what
    stood there until all is written."""
    plain = os.path.isfile(path) or not os.path.exists(path)
    there = f"{path}.part" if plain else path  # a pipe or a device is written as it comes
    with open(there, "w", encoding="ascii", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
    if plain:
        os.replace(there, path)


def proof_lines(merge: ReportMerge, *, damaged: bool) -> Iterator[str]:
    """Yield what each log has, and what is missing or told in two ways.

    *damaged*: lines of a log were changed or are missing. The entries may all be in the others; what only that
    log had, such as denials, is not, and nobody may then be told that nothing is missing.
    """
    for source in merge.sources:
        wrote = ", ".join(f"{first} to {last}" for first, last in source.ranges[:PROBLEMS_SHOWN_MAX])
        yield f"{source.server} wrote entries {wrote} of triad {source.triad}"
    yield from fault_lines(merge)
    whole = "every entry is there, but not every line of each log (see above)" if damaged else "nothing is missing"
    yield f"{merge.count} records: " + (whole if merge.complete else "NOT complete")


def fault_lines(merge: ReportMerge) -> Iterator[str]:
    """Yield why a history is not complete."""
    for gap in merge.gaps[:PROBLEMS_SHOWN_MAX]:
        who = ", ".join(f"{server} wrote until {last}" for server, last in gap.wrote)
        yield f"MISSING: entries {gap.first} to {gap.last} of triad {gap.triad} are in no log ({who})"
    for conflict in merge.conflicts[:PROBLEMS_SHOWN_MAX]:
        yield f"CONFLICT: {' and '.join(conflict.servers)} tell entry {conflict.index} in different words"
    for each in merge.disorders[:PROBLEMS_SHOWN_MAX]:
        yield f"DISORDER: {each.server} tells entry {each.index} of triad {each.triad} after entry {each.last}"
