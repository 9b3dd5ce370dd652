"""What a turn of the loop has to log: taken out of its actions, and written before anything else happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from flexcore.codes import ErrorCode
from flexcore.server import (
    CloseConnection,
    DialPeer,
    Halt,
    Persist,
    ReadLicense,
    ServerAction,
    SwitchLog,
    UseDebugLog,
    WriteLog,
    WriteReport,
)

__all__ = ["Duty", "EventSink", "LogSink", "LogSwitch", "ReportSink", "Switched", "TurnLogs"]

LogSink: TypeAlias = Callable[[Sequence[tuple[str, str]]], None]
"""Where log lines go, a batch a turn: (daemon, text) pairs without a time."""

ReportSink: TypeAlias = Callable[[Sequence[str]], None]
"""Where the lines of the report log go, a batch a turn."""

LogSwitch: TypeAlias = Callable[[SwitchLog], tuple[int, str]]
"""Lets a log go on elsewhere; returns a code (0: done) and a sentence for the administrator."""

EventSink: TypeAlias = Callable[[str, str], None]
"""Takes what the system's own event log should have: an event's name (WriteLog.event) and its line."""

Duty: TypeAlias = Persist | CloseConnection | DialPeer | ReadLicense | Halt
"""What is carried out once the turn's bytes are on their way."""


class Switched(NamedTuple):
    """What came of a SwitchLog: the arguments of ``log_switched``."""

    ticket: int
    code: int
    text: str


class TurnLogs:
    """Collects a turn's lines; whoever drives calls :meth:`take` for each action, then :meth:`write`."""

    def __init__(
        self, log: LogSink, *, report: ReportSink | None = None,
        use_debug_log: Callable[[UseDebugLog], None] | None = None, switch_log: LogSwitch | None = None,
        event: EventSink | None = None,
    ) -> None:  # fmt: skip
        self.log = log
        self._event = event
        self._report = report
        self._use_debug_log = use_debug_log
        self._switch_log = switch_log
        self._lines: list[tuple[str, str]] = []
        self._records: list[str] = []
        self.switched: list[Switched] = []
        """What the machine has to be told."""

    def say(self, daemon: str, text: str) -> None:
        """A line of the driver's own."""
        self._lines.append((daemon, text))

    def take(self, action: ServerAction) -> Duty | None:
        """Do what *action* asks of the logs; one that asks for something else is given back."""
        match action:
            case WriteLog(daemon=daemon, text=text, event=event):
                self._lines.append((daemon, text))
                if event and self._event is not None:
                    self._event(event, text)
            case WriteReport(text=text):
                self._records.append(text)
            case UseDebugLog():
                self.write()  # what was said before goes where it went before
                if self._use_debug_log is not None:
                    self._use_debug_log(action)
            case SwitchLog():
                self.write()
                self.switched.append(Switched(action.ticket, *self._switch(action)))
            case _:
                return action
        return None

    def _switch(self, order: SwitchLog) -> tuple[int, str]:
        if self._switch_log is not None:
            return self._switch_log(order)
        if order.first:
            self._records.append(order.first)
        return int(ErrorCode.REQUEST_NOT_SUPPORTED), "this server's logs are its driver's own"

    def write(self) -> None:
        """Write what was collected."""
        if self._lines:
            lines, self._lines = self._lines, []
            self.log(lines)
        if self._records:
            records, self._records = self._records, []
            if self._report is not None:
                self._report(records)
