"""What the licence file and the options file let people have: lists and loops, written from the manual's sentences.

Nothing here is quick and nothing is shared with the product: a pool is looked up by walking over all lines,
reservations are filled by trying every way, and what is in use is counted anew for every question.
tests/test_model.py drives the triad and this side by side.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

DEVELOPERS = ("ann", "bob")


class Line(NamedTuple):
    """A FEATURE or INCREMENT line; days count from the first day of the simulation; count 0: uncounted."""

    kind: str
    feature: str
    version: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    expiry: int | None = None
    start: int | None = None
    host: str = ""
    dup: str = ""
    overdraft: int = 0
    vendor_string: str = ""

    @property
    def seats(self) -> int:
        return self.count + self.overdraft if self.count else 0

    def is_good_on(self, day: int) -> bool:
        return not self.is_early_on(day) and (self.expiry is None or day <= self.expiry)

    def is_early_on(self, day: int) -> bool:
        return self.start is not None and day < self.start


class Pool(NamedTuple):
    """What has to be equal for lines to add up."""

    feature: str
    version: int
    host: str
    dup: str
    vendor_string: str


def pool_of(line: Line) -> Pool:
    return Pool(line.feature, line.version, line.host, line.dup, line.vendor_string)


class Option(NamedTuple):
    """A rule of the options file: *what* is EXCLUDE, INCLUDE, EXCLUDEALL, INCLUDEALL, MAX or RESERVE."""

    what: str
    feature: str
    vendor_string: str
    type: str
    name: str
    number: int = 0


class Who(NamedTuple):
    user: str
    host: str


class Hold(NamedTuple):
    """A seat that somebody holds, in the order of handles."""

    handle: int
    name: str
    who: Who
    pool: Pool
    count: int  # type: ignore[assignment]  # as above


def is_meant(option: Option, who: Who) -> bool:
    if option.type == "USER":
        return who.user == option.name
    if option.type == "HOST":
        return who.host == option.name
    return who.user in DEVELOPERS


def is_about(option: Option, pool: Pool) -> bool:
    if option.what.endswith("ALL"):
        return True
    return option.feature == pool.feature and option.vendor_string in ("", pool.vendor_string)


class Model:
    """The lines and the options in force, the day, and who holds what."""

    def __init__(self, lines: tuple[Line, ...], options: tuple[Option, ...]) -> None:
        self.lines = lines
        self.options = options
        self.day = 0
        self.holds: list[Hold] = []

    # --- the licence file -------------------------------------------------------------------------

    def counting_lines(self) -> list[Line]:
        """Only the first FEATURE of a name counts; then in the order in which they are tried."""
        chosen: list[Line] = []
        for line in self.lines:
            if line.kind == "FEATURE" and any(
                other.kind == "FEATURE" and other.feature == line.feature for other in chosen
            ):
                continue
            chosen.append(line)
        return sorted(
            chosen,
            key=lambda line: (
                line.feature,
                line.kind != "FEATURE",
                line.count != 0,
                -line.version,
                -(line.start if line.start is not None else -1000),
            ),
        )

    def pools(self) -> list[Pool]:
        found: list[Pool] = []
        for line in self.counting_lines():
            if pool_of(line) not in found:
                found.append(pool_of(line))
        return found

    def lines_of(self, pool: Pool) -> list[Line]:
        return [line for line in self.counting_lines() if pool_of(line) == pool]

    def good_lines_of(self, pool: Pool) -> list[Line]:
        return [line for line in self.lines_of(pool) if line.is_good_on(self.day)]

    def issued(self, pool: Pool) -> int:
        return sum(line.seats for line in self.good_lines_of(pool))

    def is_uncounted(self, pool: Pool) -> bool:
        return any(line.count == 0 for line in self.good_lines_of(pool))

    # --- who holds what ----------------------------------------------------------------------------

    def group(self, pool: Pool, who: Who) -> tuple[str, ...] | None:
        """With whom *who* shares a licence; None: with nobody."""
        if pool.dup == "SITE":
            return ()
        words = tuple({"U": who.user, "H": who.host}[letter] for letter in pool.dup)
        return words or None

    def shared(self, pool: Pool) -> list[Hold]:
        """The holds of a pool, of each group only the largest (the oldest of equals)."""
        largest: list[Hold] = []
        for hold in self.holds:
            if hold.pool != pool:
                continue
            group = self.group(pool, hold.who)
            same = [other for other in largest if group is not None and self.group(pool, other.who) == group]
            if not same:
                largest.append(hold)
            elif hold.count > same[0].count:
                largest[largest.index(same[0])] = hold
        return largest

    def used(self, pool: Pool) -> int:
        return sum(hold.count for hold in self.shared(pool))

    def extra(self, pool: Pool, who: Who, count: int) -> int:
        """How many licences a checkout takes beside what those who share with it have."""
        group = self.group(pool, who)
        if group is None:
            return count
        taken = [hold.count for hold in self.holds if hold.pool == pool and self.group(pool, hold.who) == group]
        return max(0, count - max(taken, default=0))

    # --- the options file --------------------------------------------------------------------------

    def shut_out(self, pool: Pool, who: Who) -> int:
        about = [option for option in self.options if is_about(option, pool)]
        if any(option.what in ("EXCLUDE", "EXCLUDEALL") and is_meant(option, who) for option in about):
            return -38
        includes = [option for option in about if option.what in ("INCLUDE", "INCLUDEALL")]
        if includes and not any(is_meant(option, who) for option in includes):
            return -39
        return 0

    def over_max(self, pool: Pool, who: Who, extra: int) -> bool:
        for option in self.options:
            if option.what == "MAX" and is_about(option, pool) and is_meant(option, who):
                held = sum(
                    hold.count
                    for other in self.pools()
                    if is_about(option, other)
                    for hold in self.shared(other)
                    if is_meant(option, hold.who)
                )
                if held + extra > option.number:
                    return True
        return False

    def reservations(self, pool: Pool) -> list[tuple[Option, int]]:
        """Which RESERVE lines keep how many seats of a pool: laid into pools as they are tried, first come first."""
        laid: list[tuple[Option, Pool, int]] = []
        for option in self.options:
            left = option.number if option.what == "RESERVE" else 0
            for each in self.pools():
                if not is_about(option, each) or any(line.count == 0 for line in self.lines_of(each)):
                    continue
                room = sum(line.seats for line in self.lines_of(each))
                room -= sum(size for _, other, size in laid if other == each)
                if min(left, room) > 0:
                    laid.append((option, each, min(left, room)))
                    left -= min(left, room)
        kept = []
        room = self.issued(pool)
        for option, each, size in laid:
            if each == pool:
                kept.append((option, min(size, room)))
                room -= min(size, room)
        return kept

    def unfilled(self, pool: Pool, seats: list[Who]) -> int:
        """How many reserved seats are left when *seats* (one entry each) fill what they can: try all ways."""
        kept = self.reservations(pool)
        best = 0
        concerned = [who for who in seats if any(is_meant(option, who) for option, _ in kept)]
        for way in itertools.product(range(len(kept) + 1), repeat=len(concerned)):
            filled = [0] * len(kept)
            fits = True
            for who, place in zip(concerned, way, strict=True):
                if place == len(kept):
                    continue
                filled[place] += 1
                fits = fits and is_meant(kept[place][0], who) and filled[place] <= kept[place][1]
            if fits:
                best = max(best, sum(filled))
        return sum(size for _, size in kept) - best

    def is_reserved(self, pool: Pool, who: Who, extra: int) -> bool:
        seats = [hold.who for hold in self.shared(pool) for _ in range(hold.count)]
        before = self.unfilled(pool, seats)
        after = self.unfilled(pool, seats + [who] * extra)
        return before - after != extra and self.used(pool) + extra + after > self.issued(pool)

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

    def decide(self, who: Who, feature: str, version: int, count: int) -> Pool | set[int]:
        """The pool from which a checkout is granted, or the codes of which one is told."""
        codes = set()
        for pool in self.pools():
            if pool.feature == feature:
                code = self.refusal(pool, who, version, count)
                if code == 0:
                    return {-4} if self.stands_in_the_way(pool, self.extra(pool, who, count)) else pool
                codes.add(code)
        return codes or {-5}

    def stands_in_the_way(self, pool: Pool, extra: int) -> bool:
        """Whether what is left over is too much for a feature: decided for the first pool that has room."""
        if not extra or self.is_uncounted(pool) or not self.left_over(pool.feature):
            return False
        counted = [each for each in self.pools() if each.feature == pool.feature and not self.is_uncounted(each)]
        used = self.left_over(pool.feature) + sum(self.used(each) for each in counted)
        return used + extra > sum(self.issued(each) for each in counted)

    def grant(self, handle: int, name: str, who: Who, pool: Pool, count: int) -> None:
        self.holds.append(Hold(handle, name, who, pool, count))

    def give_back(self, handle: int) -> None:
        self.holds = [hold for hold in self.holds if hold.handle != handle]
