"""docs/licence-semantics.rst has a row for every keyword, and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from flexcore.licensefile.lines import POOL_KEYS
from flexcore.licensefile.vocabulary import (
    ADMINISTRATOR_KEYS,
    PUBLISHER_KEYS,
    WITHOUT_EFFECT,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "licence-semantics.rst").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^   \* - ``(\w+)``\n     - ((?:.|\n)*?)(?=^     - ``tests)", PAGE, re.MULTILINE))
SERVER_KEYS = {"PRIMARY_IS_MASTER", "HEARTBEAT_INTERVAL", "SERVER_TIMEOUT", "PLAT"}
LINES = SERVER_KEYS | {"SERVER", "VENDOR", "USE_SERVER", "FEATURE", "INCREMENT", "UPGRADE", "PACKAGE"}


def test_every_keyword_has_a_row() -> None:
    assert set(ROWS) == PUBLISHER_KEYS | ADMINISTRATOR_KEYS | LINES
    assert set(ROWS) > set(POOL_KEYS)


def test_the_rows_say_what_lint_says() -> None:
    silent = {key for key, text in ROWS.items() if text.startswith("No effect")}
    assert silent == set(WITHOUT_EFFECT)


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"``(tests/[\w/.]+)(?:::(\w+))?``", PAGE)
    assert len(named) > len(ROWS)
    for path, function in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in text, (path, function)
