"""``flexcore lmstat``: the servers, the features, who holds what.

Everything goes to stdout, errors as well, since the programs that read it take any stderr as
failure (observed-formats.md section 1).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

from flexcore.codes import exit_status
from flexcore.report.status import Failure, StatusLost, no_seats
from flexcore.wire.messages import SeatRow

from ._ask import DEFAULT_TIMEOUT_S, Survey
from ._common import license_rows, print_anything
from ._where import PATH_HELP, Where, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from flexcore.report.lmstat import Shown
    from flexcore.report.status import Status

HELP = """\
Show the licence servers, which of them is master, and, with -a, -A, -f or -S, how
many licences of each feature are in use and by whom.

exit status: 0; 241 if no server answers; 159 if servers answer but none serves
(no quorum); 251 if nobody has the feature of -f. Of a server that -s names: 0 if it
serves or follows the master. With --check: 0 all well,
1 degraded (two of three), 2 down."""

_TIMEOUT_MAX_S = 3600.0
_CHUNK_LINES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmstat's flags."""
    parser.add_argument("-a", action="store_true", dest="all", help="features and who uses them")
    parser.add_argument("-A", action="store_true", dest="in_use", help="only features in use, and by whom")
    parser.add_argument("-asec", action="store_true", dest="seconds",
                        help="as -a, with seconds in the start times")  # fmt: skip
    parser.add_argument("--no-user-info", "-no-user-info", action="store_true", dest="no_users",
                        help="with -a or -f: counts, and not who uses them")  # fmt: skip
    parser.add_argument(
        "-f", nargs="?", const="", metavar="FEATURE", dest="feature",
        help="who uses FEATURE; without a name as -a",
    )  # fmt: skip
    parser.add_argument("-i", nargs="?", const="", metavar="FEATURE", dest="inside",
                        help="the feature lines of the licence file, that of FEATURE or all")  # fmt: skip
    parser.add_argument("-s", nargs="?", const="", metavar="SERVER", dest="server",
                        help="only the servers, or the one named")  # fmt: skip
    parser.add_argument("-S", nargs="?", const="", metavar="VENDOR", dest="vendor",
                        help="only the features of VENDOR, and who uses them")  # fmt: skip
    parser.add_argument("-proj", action="store_true", dest="projects",
                        help="as -a, with each user's LM_PROJECT")  # fmt: skip
    parser.add_argument(
        "-t", type=_seconds, default=DEFAULT_TIMEOUT_S, metavar="SECONDS", dest="timeout",
        help="how long to wait for a server's answer (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("-c", metavar="PATH", dest="path", help=PATH_HELP)
    parser.add_argument(
        "--json", action="store_true",
        help="print a JSON object (schema 1), always with features and users; "
        "one after the other where PATH has alternatives",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true", help="exit with 0 (all well), 1 (degraded) or 2 (down)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the status of every alternative of the path; the worst gives the exit status."""
    print_anything()
    lines = None if args.inside is None or args.json else license_rows(args.path, args.inside)
    asks = lines is None or _asks_usage(args) or args.server is not None
    places = find(args.path, args.timeout) if asks else ()
    if not args.json:
        from flexcore.report.lmstat import header_lines

        wall = time.time()
        _write(header_lines(wall, _utc_offset_s(wall), detecting=args.path is None and asks))
    worst = 0
    for number, where in enumerate(places):
        if number and not args.json:
            from flexcore.report.lmstat import SEPARATOR

            _write((SEPARATOR,))
        worst = max(worst, _show(where, args, with_lines=lines is None))
    if lines is not None:
        from flexcore.report.lmstat import license_lines

        _write(license_lines(lines))
    return worst


def _asks_usage(args: argparse.Namespace) -> bool:
    return bool(
        args.all or args.in_use or args.seconds or args.projects or args.feature is not None
        or args.vendor is not None
    )  # fmt: skip


def _show(where: Where, args: argparse.Namespace, *, with_lines: bool) -> int:
    wanted = args.feature or ""
    usage = _asks_usage(args) or args.json
    with Survey(where, args.timeout) as survey:
        survey.settle()
        features = None
        asks = usage or (args.inside is not None and with_lines)
        if asks and survey.master is not None:
            try:
                features = survey.features(wanted)
            except StatusLost as lost:
                survey.problem = survey.problem or lost.failure
        wall = time.time()
        status = survey.status(
            wall, features=features or (), wanted="" if features is None else wanted
        )
        if args.server:
            status = _only_server(survey, status, args.server)
        seats = _Seats(survey)
        source = seats if usage else no_seats
        if args.json:
            from flexcore import __version__
            from flexcore.report.status_json import status_json

            sys.stdout.writelines(
                status_json(status, source, survey.queue, software=f"flexcore {__version__}")
            )
        else:
            from flexcore.report.lmstat import license_lines, lmstat_text

            _write(lmstat_text(status, source, survey.queue, utc_offset_s=_utc_offset_s(wall),
                               usage=usage, shown=_shown(args)))  # fmt: skip
            if args.inside is not None and with_lines:
                _write(license_lines(row for row in status.features if args.inside in ("", row.feature)))
        if args.check:
            return status.check_status
        if seats.failure is not None:
            return exit_status(seats.failure.code)
        return status.exit_status


def _shown(args: argparse.Namespace) -> Shown:
    from flexcore.report.lmstat import Shown

    return Shown(
        vendors=args.server is None or _asks_usage(args), users=not args.no_users, in_use=args.in_use,
        seconds=args.seconds, projects=args.projects, vendor=args.vendor or "",
    )  # fmt: skip


def _only_server(survey: Survey, status: Status, name: str) -> Status:
    """Return *status* of the one server that ``-s`` names; a master elsewhere is known no more."""
    from flexcore.record import replace

    from ._servers import chosen_server

    chosen = status.servers[chosen_server(survey, name)]
    follows = chosen.report is not None and chosen.report.state == "follower"
    return replace(status, servers=(chosen,), elsewhere=follows and status.is_serving)


class _Seats:
    """The master's seats of a feature, and how that ended if it did not end well."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self.failure: Failure | None = None

    def __call__(self, feature: str) -> Iterator[SeatRow]:
        try:
            yield from self._survey.seats(feature)
        except StatusLost as lost:
            self.failure = lost.failure
            raise


def _write(lines: Iterable[str]) -> None:
    """Print lines as they come, but not each by itself."""
    chunk: list[str] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) >= _CHUNK_LINES:
            sys.stdout.write("\n".join(chunk) + "\n")
            chunk.clear()
    if chunk:
        sys.stdout.write("\n".join(chunk) + "\n")


def _utc_offset_s(wall: float) -> float:
    from flexcore_host.clock import utc_offset_s

    return utc_offset_s(wall)


def _seconds(text: str) -> float:
    value = float(text)  # argparse turns a ValueError into a usage error
    if not 0 < value <= _TIMEOUT_MAX_S:
        raise ValueError(text)
    return value


_seconds.__name__ = "number of seconds"
