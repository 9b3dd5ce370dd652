"""``flexcore simulate``: what a network does to a triad, and which HEARTBEAT_INTERVAL to set on it.

The engine is :mod:`flexcore_testing.forecast`; this is the command line around it. The seed says "set the
HEARTBEAT_INTERVAL to a larger value" for heavy network traffic ("Using License Servers in Heavy Network Traffic"); this
says to which.
"""

from __future__ import annotations

import os
import sys
import time

from flexcore.errors import ConfigurationError

from ._files import read_bytes, read_license

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from flexcore.licensefile import LicenseFile
    from flexcore_testing.forecast import Forecast, Progress, Question
    from flexcore_testing.forecast_network import NetworkDescription

HELP = """\
Say which HEARTBEAT_INTERVAL to set for a triad on a given network, and what to expect of each value: how often and how
long service stops, how many false alarms there are, and how soon a dead, hung or cut off master is replaced. The real
servers and clients are simulated under the described delays, losses and failures; nothing is sent anywhere. The answer
takes about a minute; Ctrl-C shows what is known so far."""

INTERVALS_MAX = 32
_PICTURES = (".svg", ".png", ".pdf")
_REDRAW_S = 0.2
_LINE_S = 5.0
_INTERRUPTED = 130  # 128 + SIGINT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="the licence file (- for stdin)")
    parser.add_argument(
        "--network", metavar="NAME|FILE", default="office",
        help="office (the default), sites, busy, or a TOML file that describes yours",
    )  # fmt: skip
    parser.add_argument(
        "--set", metavar="NAME=NUMBER", action="append", default=[], dest="changes",
        help="change one number of the description, as in --set busy.per_day=8 (may be repeated)",
    )  # fmt: skip
    parser.add_argument(
        "--show-network", action="store_true", help="print the description, to begin a file of your own with, and end"
    )
    parser.add_argument(
        "--intervals", metavar="S,S,...", type=_intervals,
        help="the values of HEARTBEAT_INTERVAL to compare (default: 1,2,5,10,20,40,80,120 and the file's own)",
    )  # fmt: skip
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--hours", metavar="N", type=_positive, help="simulate so many hours with each value")
    length.add_argument("--days", metavar="N", type=_positive, help="... so many days")
    parser.add_argument("--jobs", metavar="N", type=_jobs, default=1, help="processes to simulate in (default: 1)")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="other random numbers (default: 1)")
    parser.add_argument("--details", action="store_true", help="show as well how soon a lost master is noticed")
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument("--picture", metavar="FILE", help="draw it: .svg, .png or .pdf (needs flexcore[pictures])")
    parser.add_argument("--progress", action="store_true", help="show progress where stderr is no terminal, too")


def run(args: argparse.Namespace) -> int:
    """Run it."""
    description = _description(args.network, args.changes)
    if args.show_network:
        print(description.text(), end="")
        return 0
    if args.file is None:
        raise ConfigurationError("name the licence file whose triad is to be simulated: flexcore simulate FILE")
    license = read_license(args.file)
    question = _question(license, description, args)
    if args.picture is not None:
        _check_picture(args.picture)
    forecast, interrupted = _simulate(question, args.jobs, _Display(args.progress))
    if forecast is None:
        print("interrupted before every trouble was met once: nothing is known yet", file=sys.stderr)
        return _INTERRUPTED
    if args.json:
        from ._forecast_table import json_text

        print(json_text(forecast, license, args.network))
    else:
        from ._forecast_table import text

        print(text(forecast, license, args.network, details=args.details))
    if args.picture is not None:
        from ._forecast_picture import draw

        draw(forecast, args.picture)
        print(f"{args.picture}: the picture", file=sys.stderr if args.json else sys.stdout)
    return _INTERRUPTED if interrupted else 0


# --- what is asked ---------------------------------------------------------------------------------------------------


def _description(network: str, changes: list[str]) -> NetworkDescription:
    import tomllib

    from flexcore_testing.forecast_network import DESCRIPTION_BYTES_MAX, EXAMPLES, changed, describe

    text = EXAMPLES.get(network)
    if text is None:
        if not os.path.exists(network) and os.path.basename(network) == network and "." not in network:
            raise ConfigurationError(
                f"there is no network {network!r}: name {', '.join(EXAMPLES)}, or a TOML file;"
                " `flexcore simulate --show-network` prints one to begin with"
            )
        text = read_bytes(network, DESCRIPTION_BYTES_MAX).decode("utf-8", "replace")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{network}: not TOML: {error}; `flexcore simulate --show-network` prints a file to begin with"
        ) from None
    for change in changes:
        table = changed(table, change)
    return describe(table, network)


def _question(license: LicenseFile, description: NetworkDescription, args: argparse.Namespace) -> Question:
    from flexcore_testing.forecast import INTERVALS, Question

    if not license.is_triad:
        lines = len(license.servers)
        raise ConfigurationError(
            f"{license.name} has {lines} SERVER line{'s' * (lines != 1)}: there is nothing to fail over to, and"
            " HEARTBEAT_INTERVAL means nothing; a triad has three (flexcore new --server ... three times)"
        )
    current = license.heartbeat_interval_s
    if not 0 <= current <= 120:
        raise ConfigurationError(f"{license.name}: HEARTBEAT_INTERVAL={current} is not 0 to 120; see `flexcore lint`")
    hours = args.hours if args.days is None else 24 * args.days
    return Question(
        description=description,
        intervals_s=tuple(sorted({*(args.intervals or INTERVALS), current})),
        current_s=current,
        primary_is_master=license.primary_is_master,
        seed=args.seed,
        hours=hours,
    )


def _intervals(text: str) -> tuple[int, ...]:
    values = tuple(int(word) for word in text.split(","))  # argparse turns a ValueError into a usage error
    if not values or len(values) > INTERVALS_MAX or not all(0 <= value <= 120 for value in values):
        raise ValueError(text)
    return values


_intervals.__name__ = "list of whole numbers from 0 to 120"


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e6:
        raise ValueError(text)
    return value


_positive.__name__ = "number above 0"


def _jobs(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 256:
        raise ValueError(text)
    return value


_jobs.__name__ = "number of processes (1 to 256)"


def _check_picture(path: str) -> None:
    """Before a minute is spent: can a picture be drawn and written there?"""
    from importlib.util import find_spec

    if not path.lower().endswith(_PICTURES):
        raise ConfigurationError(f"--picture {path}: name a file that ends with {', '.join(_PICTURES)}")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise ConfigurationError(f"--picture {path}: there is no folder {os.path.dirname(path)}")
    if find_spec("matplotlib") is None:
        raise ConfigurationError("--picture needs matplotlib: pip install 'flexcore[pictures]'")


# --- running ---------------------------------------------------------------------------------------------------------


def _simulate(question: Question, jobs: int, display: _Display) -> tuple[Forecast | None, bool]:
    """The forecast, and whether it was interrupted."""
    from flexcore_testing.forecast import Forecaster

    forecaster = Forecaster(question)
    try:
        forecaster.run(jobs=jobs, on_progress=display.show)
    except KeyboardInterrupt:
        return forecaster.forecast(), True
    finally:
        display.end()
    return forecaster.forecast(), False


class _Display:
    """Progress on stderr: one line that changes, or, asked for without a terminal, a line every few seconds."""

    def __init__(self, wanted: bool) -> None:
        self._terminal = sys.stderr.isatty()
        self._active = wanted or self._terminal
        self._began = self._shown = time.monotonic()
        self._width = 0

    def show(self, progress: Progress) -> None:
        """Say how far it is, if it is time to."""
        now = time.monotonic()
        if not self._active or now - self._shown < (_REDRAW_S if self._terminal else _LINE_S):
            return
        self._shown = now
        spent_s = now - self._began
        left = f", about {spent_s * (1 / progress.done - 1):.0f} s left" if progress.done > 0.02 else ""
        text = (
            f"{progress.done:4.0%}: {progress.episodes} incidents, "
            f"{progress.simulated_hours:.1f} simulated hours{left}"
        )
        if self._terminal:
            self._width = max(self._width, len(text))
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Wipe the line."""
        if self._terminal and self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
