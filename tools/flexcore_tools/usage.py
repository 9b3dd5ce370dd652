"""``flexcore usage``: what report logs say of use, as tables, for programs, and as pictures.

The numbers are made by :mod:`flexcore.report.usage`; this is the command line around it.
"""

from __future__ import annotations

import datetime
import sys
import time

from flexcore.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from flexcore.report.reportlog import Record, ReportReader
    from flexcore.report.reportmerge import ReportMerge
    from flexcore.report.usage import Keys

    from ._usage_answer import Answer

HELP = """\
Say what licences were used for: peaks, hours by user or project, denials by cause, a heat map of the week, and
what expires. LOG is a report log; give those of all three servers of a triad, and each entry counts once. A
server's log may be in several files, given in any order, as they are or compressed by gzip.

--from and --to take a day (2026-11-02; both days are in the period) or an instant (2026-11-02T08:30). Days
and hours are those of this machine's zone, or of --timezone. --license adds how many licences there are, and
the expiries.

Logs that were changed, cut off, or that do not make a whole history are named and refused, but with --anyway.

exit status: 0; 1 if the logs were refused, or with --anyway taken as they are."""

FORMATS = ("svg", "png", "pdf")
EXPIRING_DAYS = 90


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from flexcore.report.usage import BY

    from ._usage_answer import TABLES

    parser.add_argument("logs", metavar="LOG", nargs="+", help="a server's report log")
    parser.add_argument("--from", dest="begin", metavar="WHEN", help="where the period begins (default: the logs)")
    parser.add_argument("--to", dest="end", metavar="WHEN", help="where it ends (default: the logs)")
    parser.add_argument(
        "--feature", metavar="NAME", action="append", default=[], help="only this feature (may be repeated)"
    )
    parser.add_argument("--by", choices=BY, default="user", help="whose hours are told apart (default: user)")
    parser.add_argument("--options", metavar="FILE", help="the options file whose GROUP lines --by group means")
    parser.add_argument("--license", metavar="FILE", help="the licence file in force")
    parser.add_argument(
        "--expiring", metavar="DAYS", type=int, default=EXPIRING_DAYS,
        help=f"with --license: lines that expire so soon (default: {EXPIRING_DAYS})",
    )  # fmt: skip
    parser.add_argument("--timezone", metavar="ZONE", help="such as Europe/Berlin (default: this machine's)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--csv", metavar="TABLE", choices=tuple(TABLES), help=f"one table as CSV: {', '.join(TABLES)}")
    how.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument(
        "--pictures", metavar="FOLDER", help="draw them into this folder, too (needs flexcore[pictures])"
    )
    parser.add_argument("--format", choices=FORMATS, default="svg", help="of the pictures (default: svg)")
    parser.add_argument("--anyway", action="store_true", help="take logs that are not whole as they are")


def run(args: argparse.Namespace) -> int:
    """Run it."""
    from ._usage_answer import csv_lines, json_text
    from ._usage_text import text_lines

    if args.pictures is not None:
        _check_pictures()
    answer, faults = _answer(args)
    for fault in faults:
        print(f"flexcore usage: {fault}", file=sys.stderr)
    if answer is None:
        print("flexcore usage: these logs do not make a whole history; --anyway takes them as they are",
              file=sys.stderr)  # fmt: skip
        return 1
    if args.json:
        print(json_text(answer))
    elif args.csv:
        sys.stdout.writelines(csv_lines(answer, args.csv))
    else:
        for line in text_lines(answer):
            print(line)
    if args.pictures is not None:
        from ._usage_pictures import draw_all

        for path in draw_all(answer, args.pictures, args.format):
            print(path, file=sys.stderr if args.json or args.csv else sys.stdout)
    return 1 if faults else 0


def _check_pictures() -> None:
    """Before the logs are read: can pictures be drawn?"""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ConfigurationError("--pictures needs matplotlib: pip install 'flexcore[pictures]'")


def _answer(args: argparse.Namespace) -> tuple[Answer | None, list[str]]:
    """What was found out, None if the logs are refused; and what is wrong with them."""
    from flexcore.report.reportmerge import ReportMerge
    from flexcore.report.usage import Usage

    from ._files import today
    from ._usage_answer import Answer, read_lines
    from .reportlog import arranged_files, fault_lines, open_log, problem_lines

    offset, zone = _zone(args.timezone)
    begin, end = _instant(args.begin, args.timezone, later=False), _instant(args.end, args.timezone, later=True)
    if begin is not None and end is not None and begin >= end:
        raise ConfigurationError(f"--from {args.begin} is not before --to {args.end}")
    if args.options is not None and args.by != "group":
        raise ConfigurationError("--options is for --by group")
    usage = Usage(offset, begin_at=begin, end_at=end, features=args.feature, keys=_keys(args.by, args.options))
    lines = None if args.license is None else read_lines(args.license)
    logs = [open_log(names) for names in arranged_files(args.logs)]
    merge = ReportMerge(logs)
    first = _take(merge, logs, usage.add, anyway=args.anyway)
    faults = [line for log in logs for line in problem_lines(log)] + list(fault_lines(merge))
    if faults and not args.anyway:
        return None, faults
    answer = Answer(
        report=usage.report(), by=args.by, zone=zone, offset=offset, logs=len(logs), first=first,
        is_whole=not faults, lines=lines, license_name=args.license or "", today=today(),
        expiring_days=args.expiring, faults=tuple(faults),
    )  # fmt: skip
    return answer, faults


def _take(
    merge: ReportMerge, logs: Iterable[ReportReader], add: Callable[[Record], None], *, anyway: bool
) -> int:
    """Hand the history on, up to the first fault unless *anyway*; return its first entry."""
    first = 0
    for record in merge.records:
        first = first or record["index"]
        if anyway or (merge.complete and not any(log.problems for log in logs)):
            add(record)
    return first


def _zone(name: str | None) -> tuple[Callable[[int], int], str]:
    if name is None:
        return (lambda at: time.localtime(at).tm_gmtoff), "local time"
    info = _zone_info(name)

    def offset(at: int) -> int:
        ahead = datetime.datetime.fromtimestamp(at, info).utcoffset()
        return int(ahead.total_seconds()) if ahead is not None else 0

    return offset, name


def _zone_info(name: str) -> datetime.tzinfo:
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(f"there is no time zone {name!r}: write it as Europe/Berlin or UTC") from None


def _instant(text: str | None, zone: str | None, *, later: bool) -> float | None:
    """What --from and --to say. *later*: a day means its end."""
    if text is None:
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no day and no instant: write 2026-11-02 or 2026-11-02T08:30"
        ) from None
    if later and len(text) <= len("2026-11-02"):
        found += datetime.timedelta(days=1)
    if found.tzinfo is None and zone is not None:
        found = found.replace(tzinfo=_zone_info(zone))
    return found.timestamp()  # a time without a zone is this machine's


def _keys(by: str, options: str | None) -> Keys:
    from flexcore.report.usage import NOBODY

    if by != "group":
        return lambda record: (str(record.get(by) or NOBODY),)
    if options is None:
        raise ConfigurationError("--by group needs the options file that has the GROUP lines: --options FILE")
    from ._usage_answer import groups_of

    return groups_of(options)
