"""What may be given out: the signed lines of one vendor, grouped into pools.

A *pool* is what seats are counted in. Lines of one feature that agree in version, node lock, vendor
string and the other pool fields make one pool, and their counts add up (INCREMENT); of FEATURE
lines only the first of a name counts (flexnet-facts a5). A checkout takes all its seats from one
pool and gets one handle.

Nothing here knows who holds what (that is the ledger) or what the time is: a *day* is an argument,
the number of the calendar day as ``datetime.date.toordinal`` counts. A line is good from the
morning of its START day to the evening of its expiry day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import attrs

from flexcore.codes import ErrorCode
from flexcore.licensefile.version import Version, VersionError, parse_version

from .terms import Terms


def version_key(text: str) -> Version | None:
    """Return what versions are compared by, or None for a text that is none (-77).

    >>> version_key("1.0") == version_key("1.00") < version_key("1.05") < version_key("1.1")
    True
    >>> version_key("v1") is None
    True
    """
    try:
        return parse_version(text)
    except VersionError:
        return None


_FOR_EVER = 1 << 40

PROOF_LINES_MAX = 64
"""Signed lines that go out with one grant; a pool of more lines than that is no honest file."""


class Line(NamedTuple):
    """One verified FEATURE or INCREMENT line, as far as checkouts need it.

    *seats* 0 is uncounted. *expiry_day* and *start_day* are day ordinals, None for permanent and for
    no START. *signed_text* is what a client verifies, more than one line where UPGRADE or PACKAGE made
    it. *lock* is the text of HOSTID=, '' if floating. *package*: the line enables this package, and is
    not checked out itself (-125).

    *seats* holds OVERDRAFT= too. *group* is DUP_GROUP= as :func:`~flexcore.checkout.sharing.normal_group`
    has it; *suite*: the pool of the suite of which a checkout also takes a licence, shared by
    *suite_group*. *platforms*: of PLATFORMS=, () for any. *named_users* and *named_hosts*: the limit of
    USER_BASED and HOST_BASED, 0 without. *linger_s*: of LINGER=, seconds.
    *borrow_hours*: the longest borrowing by BORROW=, 0 without.
    """

    feature: str
    pool: str
    version: str
    vendor: str
    seats: int
    expiry_text: str
    expiry_day: int | None
    start_day: int | None
    vendor_string: str
    lock: str
    signed_text: str
    package: str = ""
    group: str = ""
    suite: str = ""
    suite_group: str = ""
    platforms: tuple[str, ...] = ()
    named_users: int = 0
    named_hosts: int = 0
    linger_s: int = 0
    overdraft: int = 0
    """How many of *seats* OVERDRAFT= adds: MAX_OVERDRAFT of the options file may allow fewer."""
    borrow_hours: int = 0

    def is_good_on(self, day: int) -> bool:
        """Whether the line counts on *day*."""
        return not self.is_over_on(day) and not self.is_early_on(day)

    def lasts_until(self) -> int:
        """The last day as a number that sorts; permanent lines come last."""
        return self.expiry_day if self.expiry_day is not None else _FOR_EVER

    def is_over_on(self, day: int) -> bool:
        """Whether the line expired before *day*."""
        return self.expiry_day is not None and day > self.expiry_day

    def is_early_on(self, day: int) -> bool:
        """Whether *day* is before the line's START."""
        return self.start_day is not None and day < self.start_day


@attrs.frozen(kw_only=True)
class Pool:
    """Seats that are counted together; *lines* agree in everything that the pool key names."""

    key: str
    feature: str
    version: str
    version_key: Version
    lines: tuple[Line, ...]

    @property
    def first(self) -> Line:
        """The line that speaks for the pool where they all agree."""
        return self.lines[0]


def proof_of(first: Line, lines: Iterable[Line], count: int) -> str:
    """Return the signed texts of *first* and of as many of *lines* as it takes to license *count*
    seats, the largest first, one a line: a checkout may need more than one INCREMENT line has."""
    covered = first.seats or count
    chosen = [first]
    if covered < count:
        others = [line for line in lines if line is not first]
        for line in sorted(others, key=lambda line: line.seats or count, reverse=True):
            if covered >= count or len(chosen) == PROOF_LINES_MAX:
                break
            chosen.append(line)
            covered += line.seats or count
    if len(chosen) == 1:
        return first.signed_text
    texts = dict.fromkeys(text for line in chosen for text in line.signed_text.split("\n"))
    return "\n".join(texts)  # a PACKAGE line once, also for the components of two lines


class Offer(NamedTuple):
    """A pool on a certain day. *seats* 0 with *uncounted* False: nothing of it counts that day.

    *refusal* is 0, or the code of the only answer that this pool has that day (-10, -31, -125). *good* are
    the lines that count that day. *terms* is what has to be asked about a checkout beside the count,
    None for nothing.
    """

    pool: str
    feature: str
    version: str
    version_key: Version
    uncounted: bool
    seats: int
    lock: str
    refusal: int
    line: Line
    good: tuple[Line, ...] = ()
    terms: Terms | None = None

    def proof(self, count: int) -> str:
        """Return the signed lines that license *count* seats, for the client to verify."""
        return proof_of(self.line, self.good, count)


_NO_SUITES: Mapping[str, Offer] = {}


@attrs.frozen(kw_only=True)
class Rejected:
    """A line that gives no rights, and why: not signed by the vendor, a second FEATURE ..."""

    feature: str
    version: str
    count: int
    why: str
    is_error: bool = True


@attrs.frozen(kw_only=True)
class Rights:
    """All pools of one vendor in the order in which checkouts try them, and the rejected lines.

    *digest* names the signed lines (protocol.md rule 19); *hostids* are those of the SERVER lines in
    order, which a client needs to verify a line.
    """

    vendor: str
    pools: tuple[Pool, ...]
    rejected: tuple[Rejected, ...] = ()
    digest: bytes = b""
    hostids: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """The names on offer, each once, in order."""
        return tuple(dict.fromkeys(pool.feature for pool in self.pools))


def make_rights(
    lines: Iterable[Line],
    *,
    vendor: str,
    rejected: Iterable[Rejected] = (),
    digest: bytes = b"",
    hostids: tuple[str, ...] = (),
) -> Rights:
    """Group *lines*, which stand in the order in which they are to be tried, into pools."""
    grouped: dict[str, list[Line]] = {}
    bad: list[Rejected] = list(rejected)
    for line in lines:
        if version_key(line.version) is None:
            bad.append(Rejected(feature=line.feature, version=line.version, count=line.seats,
                                why=f"version {line.version!r} is not a number"))  # fmt: skip
            continue
        grouped.setdefault(line.pool, []).append(line)
    pools = []
    for key, members in grouped.items():
        first = members[0]
        version = version_key(first.version)
        assert version is not None
        pools.append(Pool(key=key, feature=first.feature, version=first.version,
                          version_key=version, lines=tuple(members)))  # fmt: skip
    return Rights(vendor=vendor, pools=tuple(pools), rejected=tuple(bad), digest=digest,
                  hostids=hostids)  # fmt: skip


def offer_on(
    pool: Pool, day: int, suites: Mapping[str, Offer] = _NO_SUITES, overdraft_max: int | None = None
) -> Offer:
    """Return what *pool* offers on *day*; the line that goes out is the one that lasts longest.
    *suites*: the offers of that day's other pools, by pool. *overdraft_max*: so many of the seats of
    OVERDRAFT at most, None for all."""
    good = [line for line in pool.lines if line.is_good_on(day)]
    if good:
        line = max(good, key=Line.lasts_until)
        uncounted = any(entry.seats == 0 for entry in good)
        count = sum(entry.seats for entry in good)
        if overdraft_max is not None:
            count -= max(0, sum(entry.overdraft for entry in good) - overdraft_max)
        refusal = ErrorCode.PACKAGE_CHECKOUT if line.package else 0
    else:
        line = max(pool.lines, key=Line.lasts_until)
        uncounted, count = False, 0
        early = any(entry.is_early_on(day) for entry in pool.lines)
        refusal = ErrorCode.NOT_STARTED_YET if early else ErrorCode.EXPIRED
    return Offer(pool.key, pool.feature, pool.version, pool.version_key, uncounted, count,
                 pool.first.lock, int(refusal), line, tuple(good),
                 _terms(pool.first, good, suites.get(pool.first.suite)))  # fmt: skip


def _terms(line: Line, good: list[Line], suite: Offer | None) -> Terms | None:
    """Return the terms of the pool of which *line* is the first: its lines agree in them, but for how
    many users and hosts may be named, which add up as counts do."""
    named = good or [line]
    terms = Terms(
        line.lock, line.platforms, sum(each.named_users for each in named),
        sum(each.named_hosts for each in named), line.group,
        line.suite, line.suite_group, 0 if suite is None else suite.seats,
        suite is not None and suite.uncounted,
    )  # fmt: skip
    return terms if any(terms) else None


_NO_MAXIMA: Mapping[str, int] = {}


def offers_on(
    rights: Rights, day: int, overdrafts: Mapping[str, int] = _NO_MAXIMA
) -> dict[str, tuple[Offer, ...]]:
    """Return the offers of *day* by feature, each tuple in the order to try. *overdrafts*: what
    MAX_OVERDRAFT says, by pool."""
    enabling = {
        pool.key: offer_on(pool, day, overdraft_max=overdrafts.get(pool.key))
        for pool in rights.pools if pool.first.package
    }  # fmt: skip
    found: dict[str, list[Offer]] = {}
    for pool in rights.pools:
        offer = enabling.get(pool.key) or offer_on(pool, day, enabling, overdrafts.get(pool.key))
        found.setdefault(pool.feature, []).append(offer)
    return {feature: tuple(offers) for feature, offers in found.items()}
