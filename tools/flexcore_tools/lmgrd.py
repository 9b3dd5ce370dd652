"""``flexcore lmgrd``: a licence server in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flexcore.timing import LMREMOVE_MIN_S

if TYPE_CHECKING:
    from flexcore_host.debuglogs import DebugLogs
    from flexcore_host.logfile import LogFile
    from flexcore_trio import LogSink, Outcome, Store
    from flexcore_trio.turnlogs import EventSink

    from ._setup import Setup

WARNINGS_MAX = 200
"""So many warnings are logged at start; `flexcore lint` prints them all."""
LOG_SIZE_MIN = 4096
LOG_KEEP_MAX = 999

HELP = """\
Run one server of a triad, or a single server, in the foreground.

The licence file says where: the server finds its SERVER line by its host name or its hostid, or by
--server. It serves the features that verify with the publisher's public key, on one port for
applications, utilities and the other servers (a single server also those of several VENDOR lines,
each with options, state folder and failures of its own), until lmdown, SIGTERM or SIGINT stops it in order
(it hands mastership over first; a second signal stops it at once). lmreread has the licence file
read anew while everything runs. The debug log begins anew at SIGHUP (for logrotate), at lmswitch, and
with --log-size by itself; the report log goes on at SIGHUP, lmnewlog and lmswitchr.

What it promised and recorded is kept in the state folder, which belongs to one process. Never
restore it from a backup: delete it instead, and the server recovers from the other two.

With --check nothing is started: a verdict a line says whether it would, and exit 1 that not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from ._common import add_common_arguments

    add = parser.add_argument
    add("-z", action="store_true", help="accepted: it always stays in the foreground")
    add("-c", dest="license_file", metavar="FILE", required=True, help="the licence file")
    add("--vendor-key", metavar="FILE", action="append", required=True,
        help="the publisher's public key; may be given more than once")  # fmt: skip
    add("--server", metavar="NAME",
        help="this server's SERVER line: its host, or primary, secondary or tertiary")  # fmt: skip
    add("--hostid", metavar="HOSTID",
        help="assert this hostid, where the machine's own is not found; the log says so")  # fmt: skip
    add("--state-dir", metavar="DIR",
        help="the state folder, or none to run in memory"
             " (default: $STATE_DIRECTORY, or the system's place)")  # fmt: skip
    add("--first-start", action="store_true",
        help="the very first start of the triad: nobody holds anything, do not wait")  # fmt: skip
    add("--listen", metavar="ADDRESS", action="append",
        help="listen on this address only; may be given more than once"
             " (default: the SERVER line's address, or all for a name)")  # fmt: skip
    add("-l", dest="log", metavar="[+]LOG",
        help="write the debug log to LOG, +LOG to append (default: standard output)")  # fmt: skip
    add("--log-size", metavar="SIZE", type=_size, default=0,
        help="rotate the debug log when it has grown beyond SIZE bytes (with K, M or G): LOG.1 is the newest"
             " of the old ones (default: never)")  # fmt: skip
    add("--log-keep", metavar="N", type=_number, default=9, help="how many old ones are kept (default: %(default)s)")
    add("--event-log", metavar="ADDRESS", nargs="?", const="",
        help="also send start, stop, changes of the master, lost quorum and fatal errors to syslog (on Windows:"
             " the event log); ADDRESS: the path of its socket, or HOST[:PORT] by UDP")  # fmt: skip
    add("-x", dest="switched_off", metavar="COMMAND", action="append", choices=("lmdown", "lmremove"),
        help="do not take this command: lmdown or lmremove; may be given twice")  # fmt: skip
    add("-2", dest="two", action="store_true",
        help="with -p and -local: take lmdown, lmreread, lmremove and the like only of root, of the user whom this"
             " server runs as, and of the group lmadmin")  # fmt: skip
    add("-p", dest="protected", action="store_true", help="see -2")
    add("-local", dest="local", action="store_true",
        help="such commands from this machine only: it is always so, and -2 -p asks for it to be said")  # fmt: skip
    add("--lmremove-min", metavar="SECONDS", type=_seconds, default=LMREMOVE_MIN_S,
        help="how old a checkout is before lmremove takes it away (default: %(default)g)")  # fmt: skip
    add("--report-log", metavar="[+]LOG",
        help="write the report log to LOG, +LOG to go on with it; stands above REPORTLOG of the"
             " options file (flexcore reportlog)")  # fmt: skip
    add("--datestamp", "-datestamp", action="store_true",
        help="begin each line of the debug log with date, time and zone (ISO 8601)")  # fmt: skip
    add("--check", action="store_true", help="say whether the server could start; start nothing")
    add_common_arguments(parser)


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.0 <= number < float("inf"):
        raise ValueError("no number of seconds")
    return number


def _size(text: str) -> int:
    units = {"K": 1024, "M": 1024**2, "G": 1024**3}
    unit = units.get(text[-1:].upper(), 0)
    number = int(text[:-1] if unit else text) * (unit or 1)
    if number < LOG_SIZE_MIN:
        raise ValueError("too small")
    return number


def _number(text: str) -> int:
    number = int(text)
    if not 1 <= number <= LOG_KEEP_MAX:
        raise ValueError("not as many logs")
    return number


def run(args: argparse.Namespace) -> int:
    """Run the server; returns its exit status."""
    if args.check:
        from . import _preflight

        return _preflight.print_verdicts(_preflight.check(args))
    with _hangups_held():
        return _serve(args)


@contextlib.contextmanager
def _hangups_held() -> Iterator[None]:
    """Hold SIGHUP back until the server takes it: log rotation must not end one that just opened its logs."""
    import signal

    if not hasattr(signal, "pthread_sigmask") or not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(args: argparse.Namespace) -> int:
    from flexcore.errors import FlexcoreError
    from flexcore.report.logline import timestamp_line
    from flexcore_host import clock
    from flexcore_host.debuglogs import DebugLogs
    from flexcore_host.folder import open_state_folder
    from flexcore_host.logfile import LogFile
    from flexcore_host.logstamp import LinePrinter
    from flexcore_trio import MemoryStore, SqliteStore

    from . import _setup

    setup = _setup.load(args)

    printed = LinePrinter(dated=args.datestamp)

    def dated() -> str:
        wall = clock.wall()
        return timestamp_line(wall, clock.utc_offset_s(wall))

    size, kept = args.log_size, args.log_keep
    log_file = LogFile(args.log or "", max_bytes=size, kept=kept, head=lambda: printed([("lmgrd", dated())]))
    folder = Path(setup.path).absolute().parent
    logs = DebugLogs(log_file, printed, folder, max_bytes=size, kept=kept, dated=dated)
    log = logs.write
    with contextlib.ExitStack() as stack:
        stack.callback(logs.close)
        event = _event_sink(args.event_log, log, stack)
        try:
            if len(setup.vendors) > 1:
                if args.report_log:
                    advice = "write REPORTLOG into the options file of each"
                    log([("lmgrd", f"WARNING: --report-log is for a server of one vendor: {advice}")])
                return _serve_vendors(setup, log_file, logs, event, first_start=args.first_start)
            store: Store = MemoryStore()
            if setup.state_dir is not None:
                state = open_state_folder(
                    setup.state_dir, vendor=setup.vendor, rank=setup.rank.word,
                    hostids=setup.license.hostids,
                )  # fmt: skip
                stack.callback(state.close)
                store = SqliteStore(
                    state.state_file, owner=f"{setup.vendor} {setup.rank.word}"
                )
            return _serve_on(
                setup, store, log_file, logs, event, first_start=args.first_start,
                report_log=args.report_log or "",
            )  # fmt: skip
        except Exception as error:
            # The log says why as well: standard error may go nowhere.
            said = _first_cause(error)
            words = str(said) if isinstance(said, FlexcoreError) else repr(said)
            log([("lmgrd", f"EXITING: {line}") for line in words.splitlines()])
            event("fatal", words)
            raise


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error


def _event_sink(address: str | None, log: LogSink, stack: contextlib.ExitStack) -> EventSink:
    """Return where events go; a server that cannot tell them serves all the same, and says so."""
    from flexcore_host.eventlog import EventLog

    if address is None:
        return lambda event, text: None
    try:
        events = EventLog(address)
    except (OSError, ValueError) as error:
        log([("lmgrd", f"WARNING: no event log: {address or 'the system'}: {error}")])
        return lambda event, text: None
    stack.callback(events.close)
    return events.tell


def _serve_on(
    setup: Setup, store: Store, log_file: LogFile, logs: DebugLogs, event: EventSink, *,
    first_start: bool, report_log: str,
) -> int:  # fmt: skip
    from flexcore import __version__
    from flexcore.server import ServerConfig
    from flexcore_host import clock
    from flexcore_host.logswitch import switch_log
    from flexcore_trio import open_listeners, run_server

    from . import _options, _report, _setup

    log = logs.write
    _raise_file_limit()
    try:
        listeners = open_listeners(setup.listen, setup.port)
    except BaseException:
        store.close()  # once it serves, serve() closes it, or leaves it to a disk that hangs
        raise
    log_file.begin()
    options, warning = _options.options_or_warning(setup.license, setup.path, setup.vendor)
    log([*_opening_lines(setup, log_file.path), *(("lmgrd", text) for text in warning)])
    event("start", _start_event(setup))
    report = _report.open_report(report_log or _report.report_option(options, setup.path), log)
    config = ServerConfig(
        license=setup.license,
        keys=setup.keys,
        rank=setup.rank,
        license_path=setup.path,
        software=__version__,
        first_start=first_start,
        addresses=setup.addresses,
        utc_offset_s=clock.utc_offset_s(clock.wall()),
        options=options,
        lmdown="lmdown" not in setup.switched_off,
        lmremove="lmremove" not in setup.switched_off,
        lmremove_min_s=setup.lmremove_min_s,
        administrators_only=setup.administrators_only,
        notes=tuple(_setup.place_warnings(setup, log_file.path)),
        pid=os.getpid(),
        report=None if report is None else report.position,
    )
    outcome = run_server(
        config, store=store, listeners=listeners, log=log, on_hangup=logs.reopen,
        read_license=lambda: _setup.read_license(setup.path),
        read_options=lambda license: _options.load_options(license, setup.path, setup.vendor),
        use_debug_log=lambda to: logs.use(to.daemon, to.path, append=to.append),
        report=None if report is None else report.write,
        switch_log=lambda wanted: switch_log(wanted, logs, report), event=event,
    )  # fmt: skip
    if report is not None:
        report.close()
    return _end(outcome, log, event)


def _serve_vendors(
    setup: Setup, log_file: LogFile, logs: DebugLogs, event: EventSink, *, first_start: bool
) -> int:
    """A single server with several VENDOR lines: all of them behind the one port."""
    from flexcore_trio import open_listeners, run_vendors

    from ._vendors import vendor_services

    _raise_file_limit()
    listeners = open_listeners(setup.listen, setup.port)
    log_file.begin()
    log = logs.write
    log(_opening_lines(setup, log_file.path))
    event("start", _start_event(setup))
    services = vendor_services(setup, logs, event, first_start=first_start, log_path=log_file.path)
    outcome = run_vendors(services, listeners=listeners, log=log, on_hangup=logs.reopen)
    return _end(outcome, log, event)


def _start_event(setup: Setup) -> str:
    names = ", ".join(vendor.name for vendor in setup.vendors)
    return f"the {setup.rank.word} server of {names} starts on port {setup.port} with {setup.path}"


def _end(outcome: Outcome, log: LogSink, event: EventSink) -> int:
    event("fatal" if outcome.exit_code else "stop", outcome.reason or "stopped")
    if outcome.exit_code:
        log([("lmgrd", f"EXITING: {outcome.reason}")])
        print(f"flexcore lmgrd: {outcome.reason}", file=sys.stderr)
    return outcome.exit_code


def _opening_lines(setup: Setup, log_path: str) -> list[tuple[str, str]]:
    """What every log begins with (observed-formats D1, D2, D9), and whatever should be seen to."""
    import platform

    from flexcore import __version__, report
    from flexcore_host import clock, whoami

    from . import _setup

    wall = clock.wall()
    offset_s = clock.utc_offset_s(wall)
    names = [vendor.name for vendor in setup.vendors]
    arch, system = platform.machine() or "unknown", sys.platform
    lines = [
        *report.banner_lines(),
        report.pid_line(os.getpid()),
        report.started_line(__version__, "1", arch, whoami.host(), system, wall, offset_s),
        report.license_files_line([setup.path]),
        report.lmgrd_port_line(setup.port),
        *report.slog_lines("lmgrd", _slog_texts(setup, report.date_text(wall, offset_s))),
        report.starting_vendors_line(),
        *(report.started_vendor_line(name, os.getpid(), setup.port) for name in names),
        *(report.vendor_port_line(name, setup.port) for name in names),
        f"This server is the {setup.rank.word} of the triad"
        if setup.license.is_triad
        else "This is a single server",
        "Listening on " + ", ".join(f"{each} port {setup.port}" for each in setup.listen),
        *_state_lines(setup),
    ]
    if setup.hostid_note:
        lines.append(setup.hostid_note)
    warnings = [
        *setup.notes,
        *(f"{setup.path}:{problem}" for problem in setup.license.problems),
        *_setup.place_warnings(setup, log_path),
        *_setup.expiry_warnings(setup.license, wall, offset_s),
    ]
    lines += [f"WARNING: {warning}" for warning in warnings[:WARNINGS_MAX]]
    versions = [(name, report.vendor_version_line(__version__, "1", arch)) for name in names]
    return [*(("lmgrd", text) for text in lines), *versions]


def _slog_texts(setup: Setup, date: str) -> list[str]:
    from flexcore import __version__

    triad = "Three-Server Redundancy" if setup.license.is_triad else "Single Server"
    return [
        "=== LMGRD ===",
        f"Start-Date: {date}",
        f"PID: {os.getpid()}",
        f"LMGRD Version: v{__version__} build 1",
        f"Listening port: {setup.port}",
        f"Server Configuration: {triad}",
        f"Command-line options used at LS startup: {' '.join(sys.argv[1:])}",
        f"License file(s) used: {setup.path}",
    ]


def _state_lines(setup: Setup) -> list[str]:
    if setup.state_dir is None:
        return ["No state folder: this server remembers nothing over a restart"]
    if len(setup.vendors) == 1:
        return [f"State folder: {setup.state_dir}"]
    return [f"State folder of {each.name}: {each.state_dir}" for each in setup.vendors]


def _raise_file_limit() -> None:
    """Every client is a file descriptor: take as many as the system lets us have."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
