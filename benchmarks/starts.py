"""How long commands take from exec to their end, and a server to its first connection; against Python itself."""

from __future__ import annotations

import compileall
import contextlib
import functools
import importlib.util
import socket
import subprocess
import sys
import time

from .load import FREE
from .machine import until, wall_s
from .servers import HOST, house

FLEXCORE = (sys.executable, "-m", "flexcore_tools")
PACKAGES = ("flexcore", "flexcore_host", "flexcore_sync", "flexcore_tools", "flexcore_trio")


@functools.cache
def _compile() -> None:
    """As an installed wheel is: some environments write no bytecode, and each start would compile everything."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        for folder in spec.submodule_search_locations or ():
            compileall.compile_dir(folder, quiet=1)


def bare_python_s() -> float:
    """The least that any command in Python takes."""
    return wall_s([sys.executable, "-I", "-c", "pass"])


def bare_imports_s() -> float:
    """The least that a server on trio takes before its first line."""
    return wall_s([sys.executable, "-I", "-c", "import trio, attrs, cryptography"])


def version_s() -> float:
    """``flexcore --version``."""
    _compile()
    return wall_s([*FLEXCORE, "--version"])


def lmstat_s() -> float:
    """``flexcore lmstat`` of a single server."""
    _compile()
    with house() as servers:
        port = servers.serving()
        return wall_s([*FLEXCORE, "lmstat", "-c", f"{port}@{HOST}"])


def run_s() -> float:
    """``flexcore run`` of a command that does nothing: checkout, command, checkin."""
    _compile()
    with house() as servers:
        port = servers.serving()
        key_file = str(servers.folder / "demo.pub")
        return wall_s([*FLEXCORE, "run", "-c", f"{port}@{HOST}", "--vendor-key", key_file, "-f", FREE, "--", "true"])


def server_s() -> float:
    """From exec to the first connection that a server accepts."""
    _compile()
    with house() as servers:
        servers.serving()
        servers.processes.pop().kill()
        port = servers.ports[0]
        until("the port is free", lambda: not _accepts(port))
        began = time.perf_counter()
        servers.start(0)
        while not _accepts(port):
            if servers.processes[0].poll() is not None:
                raise subprocess.CalledProcessError(servers.processes[0].returncode, "lmgrd")
            time.sleep(0.001)
        return time.perf_counter() - began


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((HOST, port), 1.0).close()
        return True
    return False
