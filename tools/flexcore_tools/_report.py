"""Where a server's report log is, and opening it: ``lmgrd --report-log``, or REPORTLOG of the options file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexcore.options import OptionsFile
    from flexcore_host.reportfile import ReportFile
    from flexcore_trio import LogSink


def report_option(options: OptionsFile | None, license_path: str) -> str:
    """REPORTLOG of the options file, '' without it: a relative path counts from the licence file's folder."""
    path = options.report_log if options is not None else ""
    if not path.lstrip("+"):
        return ""
    plus = "+" if path.startswith("+") else ""
    return plus + str(Path(license_path).absolute().parent / path.removeprefix("+"))


def open_report(target: str, log: LogSink, *, of: str = "") -> ReportFile | None:
    """Open the report log; a server that cannot write one serves all the same, and says so. *of*: the vendor's
    name where there are several."""
    from flexcore.errors import FlexcoreError
    from flexcore_host.reportfile import ReportFile

    whose = f" of {of}" if of else ""
    if not target:
        return None
    try:
        report = ReportFile(target)
    except (FlexcoreError, OSError) as error:
        log([("lmgrd", f"WARNING: no report log{whose}: {error}")])
        return None
    log([("lmgrd", f"Report log{whose}: {report.path}, from line {report.position.n + 1} on")])
    return report
