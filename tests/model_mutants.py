"""Mistakes that the model has to notice: ``python -m tests.model_mutants`` hunts each with up to EXAMPLES histories.

Each takes one sentence of the manual out of the real machines while it runs, as flexcore_testing.mutation does.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from flexcore.checkout.rights import Line
from flexcore.checkout.terms import Terms
from flexcore.ledger.state import LedgerState
from flexcore.licensefile.entitlements import Entitlement
from flexcore.options import tally
from flexcore.options.policy import Policy
from flexcore.options.tally import Counted
from flexcore.server import judge_license, leftovers
from flexcore.server.leftovers import Leftovers
from flexcore_testing import server_run
from flexcore_testing.mutation import Mutation, returns
from tests.model_machine import TriadAndModel

EXAMPLES = 60
_access, _classes = Policy._access, Counted.classes_of


def _only_first_seat(state: LedgerState, pool: str, group: str, count: int) -> int:
    return count if not state.books.groups.taken(pool, group) else 0


def _made(name: str, text: str, *changes: tuple[Any, str, Any]) -> Mutation:
    return Mutation(name=name, rule="manual", text=text, changes=changes, caught_by=frozenset())


MUTANTS = (
    _made("no MAX", "MAX limits nobody",
          (Counted, "classes_of", lambda self, who: _classes(self, who)._replace(limits=()))),
    _made("no RESERVE", "RESERVE keeps nothing", (Policy, "_reserved", returns(None))),
    _made("no EXCLUDE", "EXCLUDE shuts nobody out",
          (Policy, "_access", lambda self, excludes, includes, who: _access(self, [], includes, who))),
    _made("no INCLUDE", "INCLUDE shuts nobody out",
          (Policy, "_access", lambda self, excludes, includes, who: _access(self, excludes, [], who))),
    _made("INCLUDE wins", "who is included is not excluded",
          (Policy, "_access", lambda self, excludes, includes, who: (
              None if any(matches(who) for _, matches in includes) else _access(self, excludes, includes, who)))),
    _made("no clipping", "more is reserved than there is", (tally, "clipped", lambda sizes, total: list(sizes))),
    _made("no leftovers", "a reread doubles what is licensed", (Leftovers, "refusal", returns(None))),
    _made("sharing is no sharing", "who shares stands in the way of leftovers",
          (leftovers, "_taken", lambda state, grant: grant.count)),
    _made("no larger share", "a larger checkout of a group takes nothing more",
          (LedgerState, "extra", _only_first_seat)),
    _made("no expiry", "what has expired is granted",
          (Line, "is_good_on", lambda line, day: not line.is_early_on(day))),
    _made("no start", "START counts for nothing", (Line, "is_early_on", returns(False))),
    _made("no node lock", "HOSTID= locks nobody out", (Terms, "refusal", returns(None))),
    _made("no overdraft", "OVERDRAFT gives nothing", (Entitlement, "seats", property(lambda each: each.line.count))),
    _made("options stay", "a reread keeps the options",
          (server_run, "judge_license", lambda config, license, options=None: judge_license(config, license))),
)  # fmt: skip


def caught(mutant: Mutation, examples: int = EXAMPLES) -> str:
    """Why the model objects; "" if it does not."""
    found = settings(
        max_examples=examples, stateful_step_count=20, deadline=None, phases=[Phase.generate], database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    with mutant.applied():
        try:
            run_state_machine_as_test(seed(1)(TriadAndModel), settings=found)
        except AssertionError as error:
            return str(error).splitlines()[0]
        except Exception as error:  # noqa: BLE001 - a mutant may break anything
            return f"{type(error).__name__}: {error}"
    return ""


def main() -> int:
    """Hunt them all; 1 if one gets away."""
    away = 0
    for mutant in MUTANTS:
        began = time.process_time()
        why = caught(mutant)
        away += not why
        sys.stdout.write(f"{mutant.name:<24} {time.process_time() - began:5.1f} s  {why[:150] or 'NOT CAUGHT'}\n")
        sys.stdout.flush()
    return 1 if away else 0


if __name__ == "__main__":
    raise SystemExit(main())
