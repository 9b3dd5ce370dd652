"""A disk that hangs: rule 20 of protocol.md, with a store that never comes back."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from flexcore import timing

pytestmark = [pytest.mark.real, pytest.mark.slow]

HANGING_SERVER = """
import sys, threading
from flexcore.identity import Rank
from flexcore.keys import SigningKey
from flexcore.licensefile import parse_license, sign_license
from flexcore.server import ServerConfig
from flexcore.wire.messages import ServerAddress
from flexcore_trio import MemoryStore, open_listeners, run_server

class Hanging(MemoryStore):
    blocking = keeps = True
    def write(self, batch):
        threading.Event().wait()

key = SigningKey("demo", bytes(range(32)))
listeners = open_listeners(["127.0.0.1"], 0)
host, port = listeners[0].getsockname()
text = f"SERVER {host} ANY {port} HEARTBEAT_INTERVAL=1\\nVENDOR demo\\nFEATURE f1 demo 1.0 permanent 1\\n"
config = ServerConfig(
    license=sign_license(parse_license(text), key), keys=(key.verifying_key,), rank=Rank.PRIMARY,
    addresses=(ServerAddress(host, port),),
)
outcome = run_server(config, store=Hanging(), listeners=listeners, log=lambda lines: None)
print(outcome.reason)
sys.exit(outcome.exit_code)
"""


def test_a_disk_that_hangs_ends_the_process_with_the_reason():
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING_SERVER], check=False, capture_output=True, text=True, timeout=120
    )
    took = time.monotonic() - begun
    assert done.returncode == 1, done.stderr
    assert "disk" in done.stdout.lower()
    assert took >= timing.persist_fatal_s(timing.timeout_s(1))
