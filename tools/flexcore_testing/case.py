"""A case: one seed, perhaps with parts of it replaced. What a shrinker makes smaller, and what is kept as a test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from flexcore.errors import FlexcoreError
from flexcore_testing.plan import Fault
from flexcore_testing.profile import CAMPAIGNS, WITHIN

LEVELS = ("full", "quorum")
CASE_FORMAT = 1


class CaseError(FlexcoreError):
    """A file that is not a case."""


@attrs.frozen(kw_only=True)
class Case:
    """What is run: *focus* replaces parts of what the seed draws (the fields of
    :class:`flexcore_testing.profile.Profile`, of the network those that are named), *faults* its whole fault plan."""

    seed: int
    campaign: str = WITHIN
    level: str = "full"
    focus: Mapping[str, Any] = attrs.field(factory=dict)
    faults: tuple[Fault, ...] | None = None
    """None: the plan that the seed draws."""

    def to_json(self) -> str:
        """The case as a file; a person may edit it."""
        head = ", ".join(
            f"{json.dumps(key)}: {json.dumps(value)}"
            for key, value in (
                ("format", CASE_FORMAT), ("seed", self.seed), ("campaign", self.campaign), ("level", self.level),
            )
        )  # fmt: skip
        lines = [f"{{{head},", f' "focus": {json.dumps(dict(self.focus), sort_keys=True)},']
        if self.faults is None:
            lines.append(' "faults": null}')
        else:
            rows = [f"  {json.dumps(attrs.asdict(fault))}" for fault in self.faults]
            lines += [' "faults": [', ",\n".join(rows) + "]}"] if rows else [' "faults": []}']
        return "\n".join(lines) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Case:
        """Read what :meth:`to_json` wrote.

        Raises:
            CaseError: it is not a case, or of a newer version.
        """
        try:
            data = json.loads(text)
            if data["format"] > CASE_FORMAT:
                raise CaseError(f"this case is of format {data['format']}, newer than {CASE_FORMAT}")
            faults = data["faults"]
            case = cls(
                seed=int(data["seed"]),
                campaign=data["campaign"],
                level=data["level"],
                focus={key: tuple(value) if isinstance(value, list) else value for key, value in data["focus"].items()},
                faults=None if faults is None else tuple(Fault(**fault) for fault in faults),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CaseError(f"this is not a case: {error!r}") from error
        if case.campaign not in CAMPAIGNS or case.level not in LEVELS:
            raise CaseError(f"there is no campaign {case.campaign!r} at level {case.level!r}")
        return case
