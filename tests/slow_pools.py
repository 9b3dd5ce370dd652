"""What the licence file and the options file say, and how seats are counted: the first half of the slow model.

A pool is looked up by walking over all lines, reservations are filled by trying every way, and what is in use is
counted anew for every question, out of the list of who holds what.
"""

from __future__ import annotations

import functools
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
    linger: int = 0
    borrow: int = 0

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
    borrow: int


def pool_of(line: Line) -> Pool:
    return Pool(line.feature, line.version, line.host, line.dup, line.vendor_string, line.borrow)


class Option(NamedTuple):
    """A rule of the options file: *what* is its keyword. Rules about everybody have no *type* and *name*."""

    what: str
    feature: str
    vendor_string: str = ""
    type: str = ""
    name: str = ""
    number: int = 0


class Who(NamedTuple):
    user: str
    host: str


class Span(NamedTuple):
    """Something happens not before *earliest*, and has happened at *latest*."""

    earliest: float
    latest: float


class Hold(NamedTuple):
    """A seat that somebody has. In whose hands it is: a process (*name*), nobody's while it *lingers* until some time,
    or a machine that has *borrowed* it until an hour of the calendar."""

    handle: int
    name: str
    who: Who
    pool: Pool
    count: int  # type: ignore[assignment]  # as above
    started: float
    idle_since: float | None = None
    lingers: Span | None = None
    borrowed: float | None = None


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


class Pools:
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

    def number(self, what: str, pool: Pool) -> int | None:
        """What the options file says of a pool; the last line counts."""
        said = [option.number for option in self.options if option.what == what and is_about(option, pool)]
        return said[-1] if said else None

    def seats_of(self, pool: Pool, lines: list[Line]) -> int:
        """What these lines of a pool license together: OVERDRAFT as far as MAX_OVERDRAFT lets it."""
        overdraft = sum(line.overdraft for line in lines if line.count)
        most = self.number("MAX_OVERDRAFT", pool)
        return sum(line.count for line in lines) + (overdraft if most is None else min(most, overdraft))

    def issued(self, pool: Pool) -> int:
        return self.seats_of(pool, self.good_lines_of(pool))

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

    def shut_out(self, pool: Pool, who: Who, besides: str = "") -> int:
        """-38 or -39 by EXCLUDE and INCLUDE; *besides* ``_BORROW``: by the lines about borrowing."""
        about = [option for option in self.options if is_about(option, pool)]
        excludes = [option for option in about if option.what in (f"EXCLUDE{besides}", f"EXCLUDE{besides or 'ALL'}")]
        includes = [option for option in about if option.what in (f"INCLUDE{besides}", f"INCLUDE{besides or 'ALL'}")]
        if any(is_meant(option, who) for option in excludes):
            return -38
        if includes and not any(is_meant(option, who) for option in includes):
            return -39
        return 0

    def over_max(self, pool: Pool, who: Who, extra: int) -> tuple[Option, ...]:
        """The MAX lines that *extra* seats more would go beyond."""
        over = []
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
                    over.append(option)
        return tuple(over)

    def reservations(self, pool: Pool) -> list[tuple[Option, int]]:
        """Which RESERVE lines keep how many seats of a pool: laid into pools as they are tried, first come first."""
        laid: list[tuple[Option, Pool, int]] = []
        for option in self.options:
            left = option.number if option.what == "RESERVE" else 0
            for each in self.pools():
                if not is_about(option, each) or any(line.count == 0 for line in self.lines_of(each)):
                    continue
                room = self.seats_of(each, self.lines_of(each))
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

        @functools.cache
        def most(number: int, room: tuple[int, ...]) -> int:
            if number == len(seats):
                return 0
            best = most(number + 1, room)
            for place, (option, _) in enumerate(kept):
                if room[place] and is_meant(option, seats[number]):
                    less = (*room[:place], room[place] - 1, *room[place + 1 :])
                    best = max(best, 1 + most(number + 1, less))
            return best

        sizes = tuple(size for _, size in kept)
        return sum(sizes) - most(0, sizes)

    def takes_of_reserved(self, pool: Pool, who: Who, extra: int) -> int:
        """How many of *extra* seats more would fill reservations."""
        seats = [hold.who for hold in self.shared(pool) for _ in range(hold.count)]
        return self.unfilled(pool, seats) - self.unfilled(pool, seats + [who] * extra)

    def is_reserved(self, pool: Pool, who: Who, extra: int) -> bool:
        """Whether too few seats are left beside those that are kept for others."""
        seats = [hold.who for hold in self.shared(pool) for _ in range(hold.count)]
        after = self.unfilled(pool, seats + [who] * extra)
        return self.takes_of_reserved(pool, who, extra) != extra and self.used(pool) + extra + after > self.issued(pool)
