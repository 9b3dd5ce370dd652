"""The terms of a pool beside its count: node lock, platforms, named users, duplicate groups, suite.

A pool without any of them has no Terms, and pays one comparison a checkout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flexcore.codes import ErrorCode
from flexcore.ledger.commands import Share
from flexcore.options.named import Naming

from .nodelock import lock_allows
from .sharing import group_of
from .tallies import requester_of

if TYPE_CHECKING:
    from flexcore.ledger import LedgerState, Session
    from flexcore.options.policy import Policy


class Terms(NamedTuple):
    """See :class:`~flexcore.checkout.rights.Line` for the fields; *suite_seats* and *suite_uncounted*
    are those of the suite's pool that day."""

    lock: str = ""
    platforms: tuple[str, ...] = ()
    named_users: int = 0
    named_hosts: int = 0
    group: str = ""
    suite: str = ""
    suite_group: str = ""
    suite_seats: int = 0
    suite_uncounted: bool = False

    def refusal(self, session: Session, pool: str, policy: Policy | None) -> tuple[int, str] | None:
        """Return the code and the reason why *session* may have nothing of *pool*, or None.

        *policy*: what the options file says, whose INCLUDE lines name users and hosts.
        """
        if self.lock and not lock_allows(self.lock, session):
            return int(ErrorCode.INVALID_HOST), f"locked to {self.lock}"
        if self.platforms and not platform_allows(self.platforms, session.platform):
            shown = session.platform or "of a kind that it does not say"
            return (int(ErrorCode.PLATFORM_NOT_AUTHORIZED),
                    f"licensed for {' '.join(self.platforms)}, this client is {shown}")  # fmt: skip
        for naming, limit in ((Naming.USERS, self.named_users), (Naming.HOSTS, self.named_hosts)):
            if limit and (no := _unnamed(naming, limit, session, pool, policy)) is not None:
                return no
        return None

    def shares(self, pool: str, session: Session) -> tuple[Share, ...]:
        """Return what a checkout takes, () where it takes its count of *pool* and nothing else."""
        own = group_of(self.group, session)
        if self.suite:
            return Share(pool, own), Share(self.suite, group_of(self.suite_group, session))
        return (Share(pool, own),) if own else ()

    def has_room(
        self, state: LedgerState, shares: tuple[Share, ...], seats: int, count: int
    ) -> bool:
        """Say whether *count* seats that take *shares* may be granted now. *seats* are those of the
        first pool; 0: uncounted. A seat that takes nothing more than its group has is always there."""
        first = shares[0]
        if seats and not _fits(state, first, seats, count):
            return False
        return len(shares) == 1 or self.suite_has_room(state, shares[1], count)

    def suite_has_room(self, state: LedgerState, share: Share, count: int) -> bool:
        """Say whether the suite has what *count* seats take of it."""
        return self.suite_uncounted or _fits(state, share, self.suite_seats, count)

    def may_have(self, count: int) -> bool:
        """Say whether the suite has *count* licences at all."""
        return not self.suite or self.suite_uncounted or count <= self.suite_seats

    def suite_text(self, state: LedgerState) -> str:
        """Return, for a denial, how many of the suite are in use; '' without one."""
        if not self.suite or self.suite_uncounted:
            return ""
        name = self.suite.partition(" ")[0]
        used = self.suite_seats - state.available(self.suite, self.suite_seats)
        return f"; of the suite {name} {used} of {self.suite_seats}"


def _unnamed(
    naming: Naming, limit: int, session: Session, pool: str, policy: Policy | None
) -> tuple[int, str] | None:
    """Return why *session* is none of the users, or hosts, who are named for *pool*, or None."""
    if policy is None or not (names := policy.named(pool, naming).names):
        said = f"INCLUDE lines of the options file have to name the {naming.noun} who may use it"
        return int(ErrorCode.USER_BASED_NOBODY), f"{naming}: {said}"
    place = policy.place_of(pool, naming, requester_of(session))
    if place is not None and place < limit:
        return None
    who = session.user if naming is Naming.USERS else session.host
    if place is None:
        said = f"{who} is none of the {len(names)} that INCLUDE lines of {policy.options.name or 'the options'} name"
    else:
        said = (f"{limit} of the {naming.noun} named may use it, and {who} is number {place + 1}:"
                f" {policy.options.where(names[place].rule)}")  # fmt: skip
    return int(ErrorCode.NOT_INCLUDED), f"{naming}: {said}"


def _fits(state: LedgerState, share: Share, seats: int, count: int) -> bool:
    more = state.extra(share.pool, share.group, count)
    return more == 0 or more <= state.available(share.pool, seats)


def platform_allows(wanted: tuple[str, ...], platform: str) -> bool:
    """Say whether a client of *platform* (``x64_lsb``) may use a line with PLATFORMS=*wanted*: one of
    them is its platform, or begins its name (``x64_l``)."""
    return bool(platform) and any(platform.lower().startswith(each) for each in wanted)
