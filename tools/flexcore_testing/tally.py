"""The sum of many seeds: how much was simulated, what was found, and how fast it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from flexcore_testing.campaign import Outcome

HEADLINES = ("elections", "checkouts", "grants committed", "faults", "messages")
FAILURES_KEPT = 200
"""How many failing seeds a tally names; it counts all of them."""


class Tally:
    """Adds outcomes up."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[Outcome] = []
        self.failed = 0
        self.seeds = 0
        self.simulated_s = 0.0
        self.spent_s = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one seed."""
        self.seeds += 1
        self.counts.update(outcome.counts)
        self.simulated_s += outcome.simulated_s
        self.spent_s += outcome.spent_s
        if outcome.failure:
            self.failed += 1
            if len(self.failures) < FAILURES_KEPT:
                self.failures.append(outcome)

    def headline(self) -> str:
        """One line: how much was simulated."""
        hours = self.simulated_s / 3600
        parts = [f"{self.seeds} seeds", f"{self.failed} violations"]
        parts += [f"{self.counts[name]} {name}" for name in HEADLINES if self.counts[name]]
        parts.append(f"{hours:.1f} simulated hours")
        parts.append(f"{hours / max(self.spent_s, 1e-9):.2f} simulated hours a second of one core")
        return ", ".join(parts)

    def to_data(self) -> dict[str, Any]:
        """What a file keeps of it (without the failures)."""
        return {
            "counts": dict(sorted(self.counts.items())), "failed": self.failed, "seeds": self.seeds,
            "simulated_s": self.simulated_s, "spent_s": self.spent_s,
        }  # fmt: skip

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Tally:
        """Read what :meth:`to_data` wrote."""
        tally = cls()
        tally.counts.update({str(name): int(number) for name, number in data["counts"].items()})
        tally.failed, tally.seeds = int(data["failed"]), int(data["seeds"])
        tally.simulated_s, tally.spent_s = float(data["simulated_s"]), float(data["spent_s"])
        return tally
