"""What the licence file and the options file let people have: lists and loops, written from the manual's sentences.

Nothing here is quick and nothing is shared with the product: a pool is looked up by walking over all lines,
reservations are filled by trying every way, and what is in use, who waits for what, and what is over are found anew
for every question, out of two lists of facts: who holds what, and who waits. tests/test_model.py drives the triad and
this side by side.

Times are those of the simulation. What the triad may do a little later than it could (count a minute of linger twice
after a failover, hear of an idle seat with the next heartbeat) is a :class:`Span`; within it the triad chooses.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.slow_pools import Hold, Line, Option, Pool, Pools, Span, Who, is_about, is_meant

HEARTBEAT_S = 12.0
"""Within it a client tells its servers that a seat is idle, and has given it back when they say so."""
CLOCKS_S = 10.0
"""Within it the servers know each other's clocks."""
BORROW_SLACK_S = 300.0
"""So long after its end a borrowed seat is back."""


class Asked(NamedTuple):
    """What a checkout is for; version 0: any."""

    feature: str
    version: int
    count: int  # type: ignore[assignment]  # as above


class Waiting(NamedTuple):
    """A request in the queue; the list of them is the queue."""

    name: str
    request: int
    who: Who
    asked: Asked


class Grant(NamedTuple):
    """A checkout comes out of *pool*, and whoever asked takes back what lingered for him under these handles."""

    pool: Pool
    taken_back: tuple[int, ...]


class Claim(NamedTuple):
    """What an earlier request keeps from later ones: a pool, of which it may have seats of these RESERVE lines; or,
    while it is beyond these MAX lines, them and nothing else."""

    pool: Pool | None
    reserves: tuple[Option, ...] = ()
    limits: tuple[Option, ...] = ()


LEFT_OVER = {-4}
"""The answer where what is left over stands in the way."""


class Model(Pools):
    """The lines and the options in force, the day, who holds what, and who waits."""

    def __init__(self, lines: tuple[Line, ...], options: tuple[Option, ...]) -> None:
        super().__init__(lines, options)
        self.waiting: list[Waiting] = []
        self.ahead_s = 0.0
        """How far the calendars have been set forward."""
        self.since = 0.0
        """When something happened to the servers or their files last."""

    def having(self, holds: list[Hold]) -> Model:
        """The same files on the same day, and these holds."""
        other = Model(self.lines, self.options)
        other.day, other.holds = self.day, holds
        return other

    # --- the decision ---------------------------------------------------------------------------------

    def left_over(self, feature: str) -> int:
        """Seats of the feature that are held by lines which are not there any more."""
        gone = {hold.pool for hold in self.holds if hold.pool.feature == feature} - set(self.pools())
        return sum(self.used(pool) for pool in gone)

    def refusal(self, pool: Pool, who: Who, version: int, count: int) -> int:
        """Why a pool is not for this checkout; 0: it is."""
        if version > pool.version:
            return -25
        if not self.good_lines_of(pool):
            return -31 if any(line.is_early_on(self.day) for line in self.lines_of(pool)) else -10
        if pool.host and pool.host != who.host:
            return -9
        extra = self.extra(pool, who, count)
        uncounted = self.is_uncounted(pool)
        if self.shut_out(pool, who):
            return self.shut_out(pool, who)
        if not uncounted and self.used(pool) + extra > self.issued(pool) and extra:
            return -26 if count > self.issued(pool) else -4
        if extra and self.over_max(pool, who, extra):
            return -87
        if extra and not uncounted and self.is_reserved(pool, who, extra):
            return -101
        return 0

    def decide(self, who: Who, asked: Asked, ahead: list[Waiting] | None = None) -> Grant | set[int]:
        """What a checkout comes to, behind those who wait already; or the codes of which one is told."""
        claims = self.claims(self.waiting if ahead is None else ahead)
        back = self.lingering_for(who, asked)
        if back:
            found = self.having([hold for hold in self.holds if hold not in back]).first_pool(who, asked, claims, self)
            if isinstance(found, Pool):
                return Grant(found, tuple(hold.handle for hold in back))
            if found is LEFT_OVER:
                return found
        found = self.first_pool(who, asked, claims, self)
        return Grant(found, ()) if isinstance(found, Pool) else found

    def first_pool(self, who: Who, asked: Asked, claims: list[Claim], before: Model) -> Pool | set[int]:
        """The pool out of which a checkout is granted. *before* is the model with what *who* gives up for it."""
        codes = set()
        left_over = False
        for pool in self.pools():
            if pool.feature != asked.feature:
                continue
            code = self.refusal(pool, who, asked.version, asked.count)
            extra = self.extra(pool, who, asked.count)
            if code:
                codes.add(code)
            elif extra > before.used(pool) - self.used(pool) and not self.may_pass(claims, pool, who, extra):
                codes.add(-24)
            elif self.stands_in_the_way(pool, extra):
                left_over = True
            else:
                return pool
        if left_over:
            return LEFT_OVER
        return {-24} if -24 in codes else codes or {-5}

    def stands_in_the_way(self, pool: Pool, extra: int) -> bool:
        """Whether what is left over is too much for a feature: decided for the first pool that has room."""
        if not extra or self.is_uncounted(pool) or not self.left_over(pool.feature):
            return False
        counted = [each for each in self.pools() if each.feature == pool.feature and not self.is_uncounted(each)]
        used = self.left_over(pool.feature) + sum(self.used(each) for each in counted)
        return used + extra > sum(self.issued(each) for each in counted)

    # --- the queue --------------------------------------------------------------------------------

    def could_ever(self, pool: Pool, who: Who, asked: Asked) -> bool:
        """Whether this would be granted if nobody held anything."""
        nobody = self.having([])
        return pool.feature == asked.feature and nobody.refusal(pool, who, asked.version, asked.count) == 0

    def may_wait(self, who: Who, asked: Asked) -> bool:
        """What can never be does not wait."""
        return any(self.could_ever(pool, who, asked) for pool in self.pools())

    def claims(self, ahead: list[Waiting]) -> list[Claim]:
        """What those that wait keep from others, by pool."""
        found = []
        for _, _, who, asked in ahead:
            for pool in self.pools():
                if not self.could_ever(pool, who, asked):
                    continue
                extra = self.extra(pool, who, asked.count)
                limits = self.over_max(pool, who, extra) if extra else ()
                reserves = tuple(option for option, _ in self.reservations(pool) if is_meant(option, who))
                found.append(Claim(None, (), limits) if limits else Claim(pool, reserves))
        return found

    def may_pass(self, claims: list[Claim], pool: Pool, who: Who, extra: int) -> bool:
        """Whether *extra* seats more are none that those who came earlier could have had."""
        if not extra:
            return True
        limits = [option for claim in claims for option in claim.limits]
        if any(is_about(option, pool) and is_meant(option, who) for option in limits):
            return False
        claimed = [claim for claim in claims if claim.pool == pool]
        if not claimed or self.is_uncounted(pool):
            return True
        mine = [option for option, _ in self.reservations(pool) if is_meant(option, who)]
        if any(option in claim.reserves for claim in claimed for option in mine):
            return False
        return self.takes_of_reserved(pool, who, extra) == extra

    def next_served(self) -> tuple[Waiting, Grant] | None:
        """Who of those that wait is granted what now: the first who can be."""
        for place, each in enumerate(self.waiting):
            verdict = self.decide(each.who, each.asked, self.waiting[:place])
            if isinstance(verdict, Grant):
                return each, verdict
        return None

    def next_hopeless(self) -> Waiting | None:
        """Who waits for what can never be: the files or the day have changed."""
        return next((each for each in self.waiting if not self.may_wait(each.who, each.asked)), None)

    # --- seats that nobody uses --------------------------------------------------------------------

    def lingering_for(self, who: Who, asked: Asked) -> list[Hold]:
        """What lingers for somebody, the oldest first, as much as it takes."""
        found: list[Hold] = []
        for hold in sorted(self.holds):
            is_his = hold.lingers is not None and hold.who == who and hold.pool.feature == asked.feature
            if is_his and sum(each.count for each in found) < asked.count:
                found.append(hold)
        return found

    def linger_s(self, pool: Pool) -> int:
        """For how long a seat of a pool lingers: the longest of its lines; the options file can make it longer. A seat
        of lines that are not there any more is free at once."""
        if pool not in self.pools():
            return 0
        return max([line.linger for line in self.lines_of(pool)] + [self.number("LINGER", pool) or 0])

    def timeout_s(self, pool: Pool) -> int:
        """For how long a seat of a pool may be idle, 0: for ever."""
        own = self.number("TIMEOUT", pool)
        everybody = [option.number for option in self.options if option.what == "TIMEOUTALL"]
        if pool not in self.pools():
            return 0
        return own if own is not None else everybody[-1] if everybody else 0

    def over(self, hold: Hold) -> Span | None:
        """When the time of a hold is over by a clock, None if it is not."""
        if hold.lingers is not None:
            return hold.lingers
        if hold.borrowed is not None:
            due = hold.borrowed + BORROW_SLACK_S - self.ahead_s
            return Span(due, max(due, self.since) + CLOCKS_S)
        if hold.idle_since is not None and self.timeout_s(hold.pool):
            due = hold.idle_since + self.timeout_s(hold.pool)
            return Span(due, max(due, self.since) + HEARTBEAT_S)
        return None

    def nobody_served(self, outage_s: float) -> None:
        """A failover: what lingers may do so for that much longer, and for the minute that was not written down."""
        for place, hold in enumerate(self.holds):
            if hold.lingers is not None:
                earliest, latest = hold.lingers
                self.holds[place] = hold._replace(lingers=Span(earliest, latest + outage_s + 60.0))

    # --- borrowing ----------------------------------------------------------------------------------

    def no_borrow(self, hold: Hold, hours: int, day_hours: float) -> set[int]:
        """Why a seat may not be borrowed for so many hours: the codes of which one is told. *day_hours*: how much of
        the day has passed."""
        pool, good = hold.pool, self.good_lines_of(hold.pool)
        if not good:
            return {-5}
        if not pool.borrow:
            return {-68}
        codes = {self.shut_out(pool, hold.who, "_BORROW")} - {0}
        most = self.number("MAX_BORROW_HOURS", pool)
        if hours > pool.borrow or (most is not None and hours > most):
            codes.add(-104)
        last = None if any(line.expiry is None for line in good) else max(line.expiry or 0 for line in good)
        if last is not None and day_hours + hours > 24 * (last + 1 - self.day):
            codes.add(-104)
        kept = self.number("BORROW_LOWWATER", pool) or 0
        out = sum(each.count for each in self.holds if each.pool == pool and each.borrowed is not None)
        if kept and not self.is_uncounted(pool) and out + hold.count > self.issued(pool) - kept:
            codes.add(-67)
        return codes

    # --- what happens -------------------------------------------------------------------------------

    def grant(self, handle: int, name: str, who: Who, found: Grant, asked: Asked, now: float) -> None:
        """A checkout is granted."""
        self.holds = [hold for hold in self.holds if hold.handle not in found.taken_back]
        self.holds.append(Hold(handle, name, who, found.pool, asked.count, now))

    def leave(self, hold: Hold, began: float, now: float) -> None:
        """A process has no seat any more, since some time between *began* and *now*: it lingers, or is free."""
        self.free(hold)
        linger_s = self.linger_s(hold.pool)
        if linger_s:
            span = Span(began + linger_s, now + linger_s)
            self.holds.append(hold._replace(name="", idle_since=None, lingers=span))

    def free(self, hold: Hold) -> None:
        """Nobody has it any more."""
        self.holds = [each for each in self.holds if each.handle != hold.handle]

    def replace(self, hold: Hold, other: Hold) -> None:
        """Something about a seat has changed."""
        self.holds[self.holds.index(hold)] = other
