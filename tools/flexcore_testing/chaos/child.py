"""``python child.py BOOK SECONDS FEATURE``: what ``flexcore run`` runs in a chaos run.

It works for so long, or until there is a file called ``ending`` beside its book. It imports nothing of
flexcore, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

_LOOK_S = 0.1


def _now() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def main() -> None:
    """Write ``granted``, ``held`` from time to time, and ``end``; ``lost`` when terminated."""
    feature = sys.argv[3]
    with open(sys.argv[1], "ab", buffering=0) as file:

        def write(what: str, **fields: Any) -> None:
            file.write(json.dumps({"at": _now(), "what": what, **fields}).encode() + b"\n")

        def terminated(number: int, frame: object) -> None:
            write("lost", handle=0, why="run has terminated the command")
            sys.exit(1)

        signal.signal(signal.SIGTERM, terminated)
        until = time.monotonic() + float(sys.argv[2])
        write("granted", op=0, feature=feature, handle=0, count=1, started=0.0)
        ending = os.path.join(os.path.dirname(sys.argv[1]), "ending")
        while time.monotonic() < until and not os.path.exists(ending):
            time.sleep(_LOOK_S)
            write("held", handle=0)
        write("return", handle=0)
        write("end")


if __name__ == "__main__":
    main()
