"""``python -m flexcore_testing.chaos.server CONTROL lmgrd ...``: flexcore's lmgrd, but clock and disk can be hurt.

The shipped server has no hooks for this. What it takes its time from, and what it writes with, are
replaced here before it is loaded; everything else is the command as users start it.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

from flexcore.errors import StateError
from flexcore.override import override
from flexcore.quorum import PersistBatch
from flexcore_host import clock

from .control import Control

_POLL_S = 0.02


def hurt_clocks(control: Control) -> None:
    """Let ``flexcore_host.clock`` tell what *control* says. Before anybody took its functions."""
    assert "flexcore_trio" not in sys.modules, "the server has its clock already"
    true_now, true_wall = clock.now, clock.wall
    vars(clock)["now"] = lambda: true_now() + control.now_offset_s
    vars(clock)["wall"] = lambda: true_wall() + control.wall_offset_s


def hurt_disk(control: Control) -> None:
    """Put a store that delays and fails in the place of the one that lmgrd uses."""
    import flexcore_trio

    class HurtStore(flexcore_trio.SqliteStore):
        @override
        def write(self, batch: PersistBatch) -> None:
            begun = time.monotonic()
            while time.monotonic() < begun + control.disk_delay_s:
                time.sleep(_POLL_S)
            if control.disk_fails:
                raise StateError(f"the state file {self.path} cannot be written: injected")
            super().write(batch)

    vars(flexcore_trio)["SqliteStore"] = HurtStore


def main() -> None:
    """Run the command behind the first argument under the control that this names."""
    control = Control(Path(sys.argv[1]))
    hurt_clocks(control)
    hurt_disk(control)
    sys.argv[:] = ["flexcore", *sys.argv[2:]]
    runpy.run_module("flexcore_tools", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
