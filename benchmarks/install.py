"""``python -m benchmarks.install``: bring the peers here, as far as this machine lets us.

Redis and etcd come from Debian's packages, with root's rights; their services are not started. What cannot be had is
said, and the benchmark goes on without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

PROGRAMS = {"redis-server": "redis-server", "etcd": "etcd-server"}


def main() -> int:
    """Install what is missing; 0 also where something stays missing."""
    missing = {program: package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if not missing:
        return 0
    how = f"apt-get install {' '.join(missing.values())}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        print(f"!! {', '.join(missing)} will be skipped: as root, on Debian: {how}", file=sys.stderr)
        return 0
    print(f"installing {', '.join(missing.values())} for comparison", file=sys.stderr)
    # RUNLEVEL=1: Debian's scripts do not start a service that is installed.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", *missing.values()]):
        done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            print(f"!! {' '.join(command)} failed: {last}; {', '.join(missing)} may be skipped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
