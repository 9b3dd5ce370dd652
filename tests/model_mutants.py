"""Mistakes that the model has to notice: ``python -m tests.model_mutants`` hunts each with up to EXAMPLES histories.

Each takes one sentence of the manual out of the real machines while it runs, as flexcore_testing.mutation does. Words
behind the command hunt only the mutants whose names have one of them; ``--table`` prints docs/mutations.rst's rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from flexcore.checkout import borrowing as lending
from flexcore.checkout import machine, regulations
from flexcore.checkout.claims import Claims
from flexcore.checkout.machine import CheckoutMachine
from flexcore.checkout.regulations import Regulations
from flexcore.checkout.rights import Line, offers_on
from flexcore.checkout.terms import Terms
from flexcore.ledger import lingering
from flexcore.ledger.state import LedgerState
from flexcore.licensefile.entitlements import Entitlement
from flexcore.options import tally
from flexcore.options.policy import Policy
from flexcore.options.tally import Counted
from flexcore.override import override
from flexcore.server import admission, borrowing, desk, judge_license, leftovers
from flexcore.server.borrowing import BorrowCounter
from flexcore.server.leftovers import Leftovers
from flexcore.server.lingering import LingerClock
from flexcore.server.queueing import Queueing
from flexcore_testing import server_run
from flexcore_testing.mutation import Mutation, nothing, returns
from tests.model_machine import TriadAndModel

EXAMPLES = 150
STEPS = 25
_access, _classes, _waiting_in = Policy._access, Counted.classes_of, Queueing._waiting_in
_start, _claim = LingerClock.start, CheckoutMachine.claim


def _only_first_seat(state: LedgerState, pool: str, group: str, count: int) -> int:
    return count if not state.books.groups.taken(pool, group) else 0


def _start_late(clock: LingerClock, state: LedgerState, now: float) -> None:
    _start(clock, state, now - 1000.0)


def _claim_and_hope(self: CheckoutMachine, *arguments: Any) -> bool:
    _claim(self, *arguments)
    return True


def _feature_alone(feature: str, holder: Any) -> tuple[str, str, str, str]:
    return feature, "", "", ""


def _all_offers(
    self: CheckoutMachine, session: Any, feature: str, version: str, count: int, day: int
) -> tuple[Any, ...]:
    return self.offers(day).get(feature, ())


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
    _made("all overdraft", "MAX_OVERDRAFT takes nothing away",
          (machine, "offers_on", lambda rights, day, overdrafts=None: offers_on(rights, day))),
    _made("RESERVE on overdraft", "RESERVE lies on seats that MAX_OVERDRAFT takes away",
          (regulations, "_less_overdraft", lambda facts, pool, rules: facts)),
    _made("options stay", "a reread keeps the options",
          (server_run, "judge_license", lambda config, license, options=None: judge_license(config, license))),
    # --- the queue
    _made("everybody passes", "who comes later overtakes", (Claims, "lets_pass", returns(True))),
    _made("nobody passes", "not even who takes nothing that others wait for", (Claims, "lets_pass", returns(False))),
    _made("last come first served", "the queue is served from its end",
          (Queueing, "_waiting_in", lambda self, feature, day: iter(list(_waiting_in(self, feature, day))[::-1]))),
    _made("MAX holds up everybody", "who waits for his own MAX claims the pool",
          (Regulations, "exceeded", returns(()))),
    _made("what lingers passes", "who has anything lingering overtakes in every pool",
          (Claims, "besides", lambda self, back: Claims(None))),
    _made("waits for ever", "what can never be had waits all the same", (CheckoutMachine, "may_ever", _all_offers)),
    _made("hope for ever", "what a reread takes away is waited for", (CheckoutMachine, "claim", _claim_and_hope)),
    # --- linger
    _made("no linger", "what comes back is free at once", (desk, "lingers_s", returns(0))),
    _made("only options linger", "LINGER of the licence counts for nothing", (Line, "linger_s", property(returns(0)))),
    _made("lingers for anybody", "whoever asks takes over what lingers",
          (lingering, "owner_of", _feature_alone), (machine, "owner_of", _feature_alone)),
    _made("a reign ends linger", "a new master counts time that was counted", (LingerClock, "start", _start_late)),
    # --- lmremove, TIMEOUT
    _made("removal untold", "a new master tells nobody what lmremove took away",
          (admission, "lost_seats", returns(()))),
    _made("what is removed lingers", "lmremove and TIMEOUT leave seats lingering",
          (desk, "lingers_s", lambda durations, seat: durations.linger_s.get(seat.pool, 0))),
    _made("no TIMEOUT", "what is idle is never taken back", (desk, "take_idle", nothing)),
    # --- borrowing
    _made("lent for good", "what is lent never comes back by itself", (BorrowCounter, "end_due", nothing)),
    _made("no slack", "a borrowing ends to the second, whatever the client's clock",
          (borrowing, "BORROW_SLACK_S", 0.0)),
    _made("anybody borrows", "everything may be borrowed, for as long as one likes",
          (borrowing, "borrow_refusal", returns(None))),
    _made("no low water", "BORROW_LOWWATER keeps nothing here", (lending, "_low_water", returns(None))),
    _made("no EXCLUDE_BORROW", "INCLUDE_BORROW and EXCLUDE_BORROW say nothing",
          (Policy, "borrow_refusal", returns(None))),
    _made("no hours", "MAX_BORROW_HOURS makes nothing shorter",
          (Policy, "borrow_hours_max", lambda self, pool, signed_hours: signed_hours)),
)  # fmt: skip


def caught(mutant: Mutation, examples: int = EXAMPLES) -> tuple[int, str]:
    """After how many histories the model objects, and why; 0 if it does not."""
    found = settings(
        max_examples=examples, stateful_step_count=STEPS, deadline=None, phases=[Phase.generate], database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    begun = 0

    class Counting(TriadAndModel):
        @override
        def make(self, *files: Any) -> None:
            nonlocal begun
            begun += 1
            super().make(*files)

    with mutant.applied():
        try:
            run_state_machine_as_test(seed(1)(Counting), settings=found)
        except AssertionError as error:
            return begun, str(error).splitlines()[0]
        except Exception as error:  # noqa: BLE001 - a mutant may break anything
            return begun, f"{type(error).__name__}: {error}"
    return 0, ""


def main(arguments: Sequence[str]) -> int:
    """Hunt them all; 1 if one gets away."""
    away = 0
    words = [word for word in arguments if word != "--table"]
    for mutant in MUTANTS:
        if words and not any(word in mutant.name for word in words):
            continue
        began = time.process_time()
        histories, why = caught(mutant)
        away += not histories
        if "--table" in arguments:
            sys.stdout.write(f"   * - {mutant.name}\n     - {mutant.text}\n     - {histories or 'not caught'}\n")
        else:
            spent_s = time.process_time() - began
            sys.stdout.write(f"{mutant.name:<24} {histories:4} {spent_s:6.1f} s  {why[:150] or 'NOT CAUGHT'}\n")
        sys.stdout.flush()
    return 1 if away else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
