"""How long the tests may look for wrong answers: ``FLEXCORE_EXAMPLES`` scales the number of Hypothesis's examples.

The full run looks at all of them; the runs of the wheel on further Pythons, which are about the Python and not about
the code, at a part.
"""

from __future__ import annotations

import os

FRACTION = float(os.environ.get("FLEXCORE_EXAMPLES", "1"))
LEAST = 5


def examples(count: int) -> int:
    """So many examples in a full run; fewer where less was asked for."""
    return max(LEAST, round(count * FRACTION))
