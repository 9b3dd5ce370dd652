"""``python -m flexcore_testing.chaos``: see the package."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flexcore_testing import namespaces

from . import attacks_disk, attacks_machines, attacks_process, attacks_proxy  # noqa: F401 - they enter themselves
from .attacks import ATTACKS
from .conduct import Outcome, conduct, from_json, to_json
from .ground import Loopback, NamespaceGround
from .report import table

LOOPBACK, MACHINES, INSIDE = "loopback", "machines", "inside"
MACHINES_SHARE = 0.3
"""So much of the time belongs to the machines in namespaces, where the system allows them."""
RESULT = "outcome.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print the table; returns 0, or 1 where something happened that must not."""
    parser = argparse.ArgumentParser(
        prog="python -m flexcore_testing.chaos",
        description="Attack a real triad under load, and count what was lost, double or too much.",
    )
    add = parser.add_argument
    add("--minutes", type=float, default=30.0, help="how long (30)")
    add("--seed", type=int, help="repeats a run, as far as real processes can be repeated")
    add("--attacks", metavar="NAME,...", help="only these; --list names them")
    add("--folder", type=Path, help="where to write (default: a new one, deleted if nothing is wrong)")
    add("--ground", choices=(LOOPBACK, MACHINES, INSIDE), help="only this one (both)")
    add("--list", action="store_true", help="name the attacks and end")
    add("-q", dest="quiet", action="store_true", help="print the table only")
    args = parser.parse_args(arguments)
    if args.list:
        for each in ATTACKS:
            print(f"{each.key:<22} {each.ground:<9} {each.name}")  # noqa: T201
        return 0
    wanted = frozenset(filter(None, (args.attacks or "").split(",")))
    unknown = wanted - {each.key for each in ATTACKS}
    if unknown:
        parser.error(f"no such attacks: {', '.join(sorted(unknown))} (--list names them)")
    seed = int.from_bytes(os.urandom(4), "big") if args.seed is None else args.seed
    folder = args.folder or Path(tempfile.mkdtemp(prefix="flexcore-chaos-"))
    if args.ground == INSIDE:
        return _machines_inside(folder, seed, args, wanted)
    print(f"seed {seed}, folder {folder}", flush=True)  # noqa: T201
    outcomes = []
    share = _share(args.ground)
    if share > 0.0:
        outcomes.append(_machines(folder, seed, share * args.minutes, args))
    if share < 1.0:
        outcomes.append(_loopback(folder, seed, (1.0 - share) * args.minutes, args, wanted))
    for line in table(outcomes):
        print(line)  # noqa: T201
    if any(each.failed for each in outcomes):
        print(f"everything that was written is in {folder}; again with --seed {seed}")  # noqa: T201
        return 1
    if args.folder is None:
        shutil.rmtree(folder)
    return 0


def _share(ground: str | None) -> float:
    """How much of the time belongs to the namespaces; says loudly where there are none."""
    if ground == LOOPBACK:
        return 0.0
    why = namespaces.why_not()
    if why:
        print(f"*** SKIPPED: everything that needs network namespaces: {why} ***", flush=True)  # noqa: T201
        return 0.0
    return 1.0 if ground == MACHINES else MACHINES_SHARE


def _loopback(
    folder: Path, seed: int, minutes: float, args: argparse.Namespace, wanted: frozenset[str]
) -> Outcome:
    ground = Loopback(seed)
    try:
        return conduct(
            folder / LOOPBACK, ground, name=LOOPBACK, seed=seed, seconds=60.0 * minutes,
            wanted=wanted, say=_nothing if args.quiet else _print,
        )  # fmt: skip
    finally:
        ground.close()


def _machines(folder: Path, seed: int, minutes: float, args: argparse.Namespace) -> Outcome:
    """The same command again, inside of namespaces that it owns."""
    command = [
        *namespaces.command_inside(), sys.executable, "-m", "flexcore_testing.chaos", "--ground", INSIDE,
        "--minutes", str(minutes), "--seed", str(seed), "--folder", str(folder),
    ]  # fmt: skip
    if args.attacks:
        command += ["--attacks", args.attacks]
    if args.quiet:
        command.append("-q")
    status = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    result = folder / MACHINES / RESULT
    if status != 0 or not result.exists():
        return Outcome(ground=MACHINES, seed=seed, failure=f"the run in namespaces ended with {status}")
    return from_json(result.read_text(encoding="utf-8"))


def _machines_inside(
    folder: Path, seed: int, args: argparse.Namespace, wanted: frozenset[str]
) -> int:
    with namespaces.Machines(4) as machines:
        outcome = conduct(
            folder / MACHINES, NamespaceGround(machines), name=MACHINES, seed=seed,
            seconds=60.0 * args.minutes, wanted=wanted, say=_nothing if args.quiet else _print,
        )  # fmt: skip
    (folder / MACHINES / RESULT).write_text(to_json(outcome), encoding="utf-8")
    return 0


def _nothing(line: str) -> None:
    """For -q."""


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
