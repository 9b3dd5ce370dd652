"""The wheel: built once and looked into (FLEXCORE_WHEEL names one that is built already)."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TARGET = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
PACKAGES = {Path(path).name: path for path in TARGET["wheel"]["packages"]}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of the wheel; FLEXCORE_WHEEL names one that is built already."""
    given = os.environ.get("FLEXCORE_WHEEL")
    if given:
        wheel = Path(given)
    else:
        place = tmp_path_factory.mktemp("wheel")
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(place), str(ROOT)]
        if find_spec("hatchling") is not None:
            command.insert(3, "--no-isolation")  # else build fetches the back end
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert told.returncode == 0, told.stdout + told.stderr
        (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_packages_and_nothing_else(wheel_names: list[str]) -> None:
    top = {name.split("/")[0] for name in wheel_names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        *("flexcore", "flexcore_host", "flexcore_sync", "flexcore_trio", "flexcore_tools", "flexcore_testing")
    }
    folders = {part for name in wheel_names for part in name.split("/")[:-1]}
    assert folders.isdisjoint({"transports", "tools", "tests", "benchmarks", "docs"})
    assert not [name for name in wheel_names if "__pycache__" in name or Path(name).name.startswith("test_")]


def test_the_wheel_holds_everything_of_the_packages(wheel_names: list[str]) -> None:
    for package, path in PACKAGES.items():
        for file in (ROOT / path).rglob("*.py"):
            assert f"{package}/{file.relative_to(ROOT / path).as_posix()}" in wheel_names
        assert f"{package}/py.typed" in wheel_names


def test_the_wheel_carries_the_licence_and_the_command(wheel_names: list[str]) -> None:
    assert [name for name in wheel_names if name.endswith(".dist-info/licenses/LICENSE")]
    assert [name for name in wheel_names if name.endswith(".dist-info/entry_points.txt")]
