"""docs/debuglog.rst has a row for every log line that public texts name, and each that is implemented is one that the
strict reader takes."""

from __future__ import annotations

import pytest

from tests.debuglog_grammar import shape_of
from tests.test_utilities_table import rows

# What the public manuals and recorded logs name, as the project's collection of facts has it: how the lines begin.
FACTS = (
    "Please Note", "pid", "Licensing (v", "License file(s):", "lmgrd tcp-port",
    "SLOG@) Server Configuration", "Starting vendor daemons ...", "Started", "using TCP-port",
    "Licensing version v", "Server started on", "EXTERNAL FILTERS", "TIMESTAMP", "OUT:", "IN:",
    "DENIED:", "UNSUPPORTED:", "QUEUED:", "DEQUEUED:", "EXPIRED:", "UPGRADE:", "Connected to",
    "CONNECTED, master is", "Selected (EXISTING) master", "Lost connection to", "Lost quorum",
    "License File SERVER line order mismatch.", "Using alphabetical order", "IN server died",
    "MASTER SERVER died", "MULTIPLE", "Please kill, and restart", "Removing clients of children",
    "Retrying socket bind", "DEMO mode supports", "TCP_NODELAY", "root.LicenseEngine started",
    "root.Quorum is starting up", "root.Quorum is waiting",
    "REREAD: lmreread received", "Rereading license file(s)", "REREAD: options file",
    "...Finished rereading", "Done rereading", "RESERVING", "INCLUDE_BORROW", "INACTIVITY TIMEOUT",
    "Shutdown requested from", "Shutting down", "EXITING DUE TO SIGNAL", "exited with status",
    "unknown status", "will attempt to re-start", "REStarted", "Restarted", "heartbeat timeout expired",
    "All vendor daemons are down", "License server manager (lmgrd) exiting", "^^^",
)  # fmt: skip
TABLE = [
    (line.strip("`").replace("\u00b7", " ").replace("<TAB>", "\t"), daemon, state, where)
    for line, daemon, state, where in rows("debuglog.rst")
]


@pytest.mark.parametrize("fact", FACTS)
def test_no_line_is_missing(fact):
    if fact == "Please Note":
        fact = "This log is intended"
    assert any(fact in line for line, *_ in TABLE)


def test_what_is_called_implemented_is_read():
    assert len(TABLE) > len(FACTS) - 5
    for line, daemon, state, where in TABLE:
        assert state in ("implemented", "not")
        assert where
        if state == "implemented":
            assert shape_of(daemon, line)[0] != "own", line
