"""Whoever names the test of a rule names one that exists: in the modules' docstrings and in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "flexcore").is_dir(), reason="a wheel's run has no source tree beside it")

NAMED = re.compile(r"(?:tests/)?((?:real/)?test_\w+\.py)(?:::(test_\w+))?")

OF_USERS = {"testing.rst"}
"""Its tests are those that users write; the page is run itself (tests/test_docs.py)."""


def missing(text: str) -> list[str]:
    """The tests that *text* names and nobody finds."""
    found = []
    for file, name in NAMED.findall(text):
        path = ROOT / "tests" / file
        if not path.is_file() or (name and f"def {name}(" not in path.read_text(encoding="utf-8")):
            found.append(f"{file}::{name}" if name else file)
    return found


def sources() -> Iterator[Path]:
    for part in ("flexcore", "transports", "tools"):
        yield from sorted((ROOT / part).rglob("*.py"))
    yield from sorted(page for page in (ROOT / "docs").glob("*.rst") if page.name not in OF_USERS)


def test_the_check_sees() -> None:
    assert missing("``tests/test_nowhere.py``") == ["test_nowhere.py"]
    assert missing("``tests/test_named_tests.py::test_never_written``") == ["test_named_tests.py::test_never_written"]
    assert not missing("``tests/test_named_tests.py::test_the_check_sees``, ``tests/real/test_triad.py``")


def test_every_named_test_exists() -> None:
    found = {
        str(path.relative_to(ROOT)): lost
        for path in sources()
        if (lost := missing(path.read_text(encoding="utf-8")))
    }
    assert not found
