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
from ._where import PATH_HELP, Where, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = """\
Show the licence servers, which of them is master, and, with -a or -f, how many
licences of each feature are in use and by whom.

exit status: 0; 241 if no server answers; 159 if servers answer but none serves
(no quorum); 251 if nobody has the feature of -f. With --check: 0 all well,
1 degraded (two of three), 2 down."""

_TIMEOUT_MAX_S = 3600.0
_CHUNK_LINES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare lmstat's flags."""
    parser.add_argument("-a", action="store_true", dest="all", help="features and who uses them")
    parser.add_argument(
        "-f", nargs="?", const="", metavar="FEATURE", dest="feature",
        help="who uses FEATURE; without a name as -a",
    )  # fmt: skip
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
    places = find(args.path, args.timeout)
    if not args.json:
        from flexcore.report.lmstat import header_lines

        wall = time.time()
        _write(header_lines(wall, _utc_offset_s(wall), detecting=args.path is None))
    worst = 0
    for number, where in enumerate(places):
        if number and not args.json:
            from flexcore.report.lmstat import SEPARATOR

            _write((SEPARATOR,))
        worst = max(worst, _show(where, args))
    return worst


def _show(where: Where, args: argparse.Namespace) -> int:
    wanted = args.feature or ""
    usage = args.all or args.feature is not None or args.json
    with Survey(where, args.timeout) as survey:
        survey.settle()
        features = None
        if usage and survey.master is not None:
            try:
                features = survey.features(wanted)
            except StatusLost as lost:
                survey.problem = survey.problem or lost.failure
        wall = time.time()
        status = survey.status(
            wall, features=features or (), wanted="" if features is None else wanted
        )
        seats = _Seats(survey)
        source = seats if usage else no_seats
        if args.json:
            from flexcore import __version__
            from flexcore.report.status_json import status_json

            sys.stdout.writelines(status_json(status, source, software=f"flexcore {__version__}"))
        else:
            from flexcore.report.lmstat import lmstat_text

            _write(lmstat_text(status, source, utc_offset_s=_utc_offset_s(wall), usage=usage))
        if args.check:
            return status.check_status
        if seats.failure is not None:
            return exit_status(seats.failure.code)
        return status.exit_status


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


def print_anything() -> None:
    """Let no user's name stop the output: what the terminal cannot show is escaped."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


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
