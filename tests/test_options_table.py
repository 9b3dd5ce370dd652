"""docs/options.rst has a row for every keyword, and says of each what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flexcore.options.vocabulary import KEYWORDS, NOT_YET

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "options.rst"

# The manual's page on the syntax, NOLOG, and the feature list of 2026r1: what issue 4 asks to be there.
MANUAL = """AUTOMATIC_REREAD ACTIVATION_LOWWATER ACTIVATION_EXPIRY_DAYS BORROW_LOWWATER DAEMON_SELECT_TIMEOUT
DEBUGLOG EXCLUDE EXCLUDE_BORROW EXCLUDE_ENTITLEMENT EXCLUDEALL EXCLUDEALL_ENTITLEMENT FQDN_MATCHING GROUP
GROUPCASEINSENSITIVE HOST_GROUP INCLUDE INCLUDE_BORROW INCLUDE_ENTITLEMENT INCLUDEALL INCLUDEALL_ENTITLEMENT
LINGER MAX MAX_BORROW_HOURS MAX_CONNECTIONS MAX_OVERDRAFT NOLOG REPORTLOG RESERVE TIMEOUT TIMEOUTALL
AUTO_ROLLOVER"""


def rows() -> dict[str, tuple[str, str]]:
    """Keyword -> state and the last column."""
    table = PAGE.read_text(encoding="utf-8").partition(".. list-table::")[2].partition("The types:")[0]
    found = {}
    for row in table.split("\n   * - ")[2:]:
        line, state, _, where = (cell.strip() for cell in row.split("\n     - "))
        found[line.strip("`").split()[0]] = (state, where)
    return found


def test_no_row_is_missing() -> None:
    assert set(rows()) == set(MANUAL.split()) == set(KEYWORDS)


@pytest.mark.parametrize("name", sorted(KEYWORDS))
def test_the_state_is_that_of_the_code(name: str) -> None:
    reason = KEYWORDS[name].no_effect
    state, where = rows()[name]
    assert state == ("effect" if not reason else "read" if reason == NOT_YET else "none")
    assert where
    for path in re.findall(r"``([a-z_/]+\.py)``", where):
        assert (ROOT / "tests" / path).exists()
