"""Print the lowest versions that pyproject.toml promises to work with, as pip constraints.

``attrs>=23.2`` becomes ``attrs==23.2``. A dependency without a lower bound is an error: nothing
would say which version was meant.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

BOUND = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?>=(?P<version>[0-9][0-9A-Za-z.]*)$")


def lowest(pyproject: dict[str, object]) -> list[str]:
    """Every dependency and extra of *pyproject*, each pinned to its lower bound, in order.

    Raises SystemExit on a dependency that is not of the form ``name>=version``.
    """
    project = pyproject["project"]
    assert isinstance(project, dict)
    requirements = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        requirements += extra
    pins: dict[str, None] = {}
    for requirement in requirements:
        match = BOUND.match(requirement.replace(" ", ""))
        if match is None:
            raise SystemExit(f"pyproject.toml: {requirement!r} names no lowest version (name>=version)")
        pins[f"{match['name']}=={match['version']}"] = None
    return list(pins)


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    sys.stdout.write("\n".join(lowest(tomllib.loads((root / "pyproject.toml").read_text()))) + "\n")
