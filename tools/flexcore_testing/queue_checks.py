"""First come, first served: what is granted against who waited, entry by entry as they are committed.

The rule: while anybody waits for a pool nobody who came later is granted any of it, unless it is none that the earlier
one could have had (docs/licence-semantics.rst, *Queueing*). Who holds what, and who shares with whom, is counted here
from the entries alone; that the earlier one waits for that pool at all, and whom MAX and RESERVE lines name, is asked
of the server that serves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import attrs

from flexcore.checkout import CheckoutMachine
from flexcore.checkout.tallies import requester_of
from flexcore.ledger import LedgerState
from flexcore.ledger.commands import (
    BorrowEnded,
    Formed,
    LingerPassed,
    LingerResumed,
    RequestQueued,
    RequestUnqueued,
    RequestWithdrawn,
    SeatBorrowed,
    SeatGranted,
    SeatLingers,
    SeatReturned,
    SessionEnded,
    SessionOpened,
)
from flexcore.options.patterns import Requester
from flexcore.options.policy import Policy


class Rules(NamedTuple):
    """By what a server decides, and its ledger's state for the sessions in it."""

    checkout: CheckoutMachine
    state: LedgerState
    day: int


@attrs.define
class Held:
    """A seat that somebody has, or that lingers."""

    session: bytes
    request: int
    who: Requester
    pool: str
    group: str
    count: int


class QueueChecks:
    """Hears every command once, in the order of the log; *fail* is told of whoever is overtaken. *rules*: those of the
    server that serves; None: everything has one plain pool."""

    def __init__(self, fail: Callable[[str, str], None], rules: Callable[[], Rules | None] = lambda: None) -> None:
        self._fail = fail
        self._rules = rules
        self._queues: dict[str, list[RequestQueued]] = {}
        self._people: dict[bytes, Requester] = {}
        self._held: dict[int, Held] = {}
        self.granted = 0
        """How many waited and were granted."""
        self.passed = 0
        """How many grants passed somebody who waits, and were right to."""

    def committed(self, command: object) -> None:
        """An entry is committed."""
        match command:
            case SessionOpened(session=session, user=user, host=host, display=display, project=project):
                self._people[session] = Requester(user, host, display, command.address, project)
            case RequestQueued(feature=feature):
                self._queues.setdefault(feature, []).append(command)
            case SeatGranted():
                self._grant(command, ())
            case LingerResumed(ended=ended):
                self._grant(SeatGranted(*command[:9]), ended)
            case SeatReturned(handle=handle):
                self._held.pop(handle, None)
            case RequestUnqueued(session=session, request=request):
                self._leave(session, request)
            case RequestWithdrawn(session=session, target=target):
                self._leave(session, target)
                self._drop(lambda held: (held.session, held.request) == (session, target))
            case SeatLingers(handle=handle):
                if handle in self._held:
                    self._held[handle].session = b""
            case LingerPassed(ended=handles):
                for handle in handles:
                    self._held.pop(handle, None)
            case SeatBorrowed(handle=handle, borrow=borrow):
                if handle in self._held:
                    self._held[handle].session, self._held[handle].request = borrow, 0
            case BorrowEnded(borrow=session) | SessionEnded(session=session):
                self._people.pop(session, None)
                self._leave(session)
                self._drop(lambda held: held.session == session)
            case Formed():
                for kept in (self._queues, self._people, self._held):
                    kept.clear()
            case _:
                pass

    def _grant(self, grant: SeatGranted, ended: tuple[int, ...]) -> None:
        who = self._people.get(grant.session, Requester("", "", "", "", ""))
        group = grant.shares[0].group if grant.shares else ""
        name = grant.session, grant.request
        queue = self._queues.get(grant.feature, [])
        places = [place for place, each in enumerate(queue) if (each.session, each.request) == name]
        ahead = queue[: places[0]] if places else queue
        back = [self._held.pop(handle) for handle in ended if handle in self._held]
        if ahead:
            given_back = sum(held.count for held in back if held.pool == grant.pool)
            if self._extra(grant.pool, group, grant.count) > given_back:
                self._judge(grant, who, ahead)
        self.granted += bool(places)
        self._leave(*name)
        self._held[grant.handle] = Held(*name, who, grant.pool, group, grant.count)

    def _judge(self, grant: SeatGranted, who: Requester, ahead: list[RequestQueued]) -> None:
        rules = self._rules()
        for waiting in ahead:
            if rules is None or not self._may_be_passed(grant, who, waiting, rules):
                first = f"request {waiting.request} of {waiting.session.hex()[:6]}"
                self._fail("I9", f"request {grant.request} of {grant.session.hex()[:6]} for {grant.feature}"
                                 f" overtakes {first}")  # fmt: skip
        self.passed += 1

    def _may_be_passed(self, grant: SeatGranted, who: Requester, waiting: RequestQueued, rules: Rules) -> bool:
        """Whether *waiting* could have none of what *who* is granted."""
        session = rules.state.sessions.get(waiting.session)
        if session is None:
            return True
        asked = waiting.feature, waiting.version, waiting.count
        offers = [each for each in rules.checkout.may_ever(session, *asked, rules.day) if each.pool == grant.pool]
        if not offers:
            return True
        policy = rules.checkout.policy
        if policy is None:
            return False
        other = requester_of(session)
        shares = () if offers[0].terms is None else offers[0].terms.shares(grant.pool, session)
        extra = self._extra(grant.pool, shares[0].group if shares else "", waiting.count)
        for limit in policy.limits_on(grant.pool, other):
            is_full = self._counted(policy, grant.pool, limit) + extra > limit.number
            if is_full and limit not in policy.limits_on(grant.pool, who):
                return True
        mine = policy.kept_for(grant.pool, who)
        return bool(mine) and mine.isdisjoint(policy.kept_for(grant.pool, other))

    def _counted(self, policy: Policy, pool: str, limit: object) -> int:
        """How many seats those hold together whom a MAX names; what is shared counts once."""
        seats: dict[object, int] = {}
        for handle, held in self._held.items():
            if limit in policy.limits_on(held.pool, held.who):
                key = (held.pool, held.group) if held.group else handle
                seats[key] = max(seats.get(key, 0), held.count)
        return sum(seats.values())

    def _extra(self, pool: str, group: str, count: int) -> int:
        """How many licences *count* seats take beside what their group has."""
        if not group:
            return count
        had = [held.count for held in self._held.values() if (held.pool, held.group) == (pool, group)]
        return max(0, count - max(had, default=0))

    def _drop(self, is_gone: Callable[[Held], bool]) -> None:
        self._held = {handle: held for handle, held in self._held.items() if not is_gone(held)}

    def _leave(self, session: bytes, request: int | None = None) -> None:
        """A request, or all of a session, waits no more."""
        for feature, queue in self._queues.items():
            self._queues[feature] = [
                each for each in queue if each.session != session or request not in (None, each.request)
            ]
