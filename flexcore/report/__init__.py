"""Values to text: lmstat and its JSON, debug-log lines (observed-formats.md); and report logs: written
(:mod:`~flexcore.report.reportlog`), joined (:mod:`~flexcore.report.reportmerge`), summed up
(:mod:`~flexcore.report.usage`).

Nothing here asks anything: whoever has the values calls, with the clock and the zone as arguments.
:mod:`~flexcore.report.status` is the one value that every form of status prints.
"""

from __future__ import annotations

from .civil import date_text
from .logline import (
    LMGRD,
    all_vendors_down_line,
    banner_lines,
    connected_line,
    denied_line,
    existing_master_line,
    exiting_line,
    in_line,
    license_files_line,
    lmgrd_exiting_line,
    lmgrd_port_line,
    log_line,
    lost_connection_line,
    lost_quorum_line,
    master_line,
    out_line,
    pid_line,
    restarted_line,
    shutdown_requested_line,
    shutting_down_vendor_line,
    slog_lines,
    started_line,
    started_vendor_line,
    starting_vendors_line,
    timestamp_line,
    unsupported_line,
    vendor_exited_line,
    vendor_port_line,
    vendor_start_lines,
    vendor_started_lines,
    vendor_version_line,
)

__all__ = [
    "LMGRD",
    "log_line",
    # licences
    "out_line",
    "in_line",
    "denied_line",
    "unsupported_line",
    # start
    "banner_lines",
    "pid_line",
    "started_line",
    "license_files_line",
    "lmgrd_port_line",
    "starting_vendors_line",
    "started_vendor_line",
    "vendor_port_line",
    "vendor_start_lines",
    "vendor_started_lines",
    "vendor_version_line",
    "slog_lines",
    "date_text",
    # while it runs
    "timestamp_line",
    "connected_line",
    "master_line",
    "existing_master_line",
    "lost_connection_line",
    "lost_quorum_line",
    # ends
    "shutdown_requested_line",
    "exiting_line",
    "vendor_exited_line",
    "shutting_down_vendor_line",
    "restarted_line",
    "all_vendors_down_line",
    "lmgrd_exiting_line",
]
