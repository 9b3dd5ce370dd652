"""Carries out what a server asks about its logs: :class:`flexcore.server.SwitchLog`."""

from __future__ import annotations

from flexcore.codes import ErrorCode
from flexcore.errors import FlexcoreError
from flexcore.server import SwitchLog

from .debuglogs import DebugLogs
from .reportfile import ReportFile

__all__ = ["switch_log"]


def switch_log(order: SwitchLog, logs: DebugLogs, report: ReportFile | None) -> tuple[int, str]:
    """Let a log go on as *order* says; return a code (0: done) and a sentence for the administrator."""
    try:
        if not order.first:
            return 0, logs.switch(order.daemon, order.how, order.path)
        if report is None:
            return int(ErrorCode.REQUEST_NOT_SUPPORTED), "this server writes no report log"
        return 0, report.switch(order.how, order.path, order.first)
    except FlexcoreError as error:
        return int(ErrorCode.INVALID_PARAMETER), f"the log goes on where it was: {error}"
    except OSError as error:
        why = error.strerror or str(error)
        return int(ErrorCode.INVALID_PARAMETER), f"the log goes on where it was: {order.path}: {why}"
