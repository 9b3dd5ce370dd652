"""The terms of a pool beside its count: node lock, platforms, named users, duplicate groups, suite.

A pool without any of them has no Terms, and pays one comparison a checkout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flexcore.codes import ErrorCode
from flexcore.ledger.commands import Share

from .nodelock import lock_allows
from .sharing import group_of

if TYPE_CHECKING:
    from flexcore.ledger import LedgerState, Session

NOBODY_NAMED = "INCLUDE lines of the options file have to name who may use it"


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

    def refusal(self, session: Session, *, is_named: bool = False) -> tuple[int, str] | None:
        """Return the code and the reason why *session* may have nothing of the pool, or None.

        *is_named*: the options file has INCLUDE lines for the pool (who is in none of them is refused
        by these).
        """
        if self.lock and not lock_allows(self.lock, session):
            return int(ErrorCode.INVALID_HOST), f"locked to {self.lock}"
        if self.platforms and not platform_allows(self.platforms, session.platform):
            shown = session.platform or "of a kind that it does not say"
            return (int(ErrorCode.PLATFORM_NOT_AUTHORIZED),
                    f"licensed for {' '.join(self.platforms)}, this client is {shown}")  # fmt: skip
        if (self.named_users or self.named_hosts) and not is_named:
            return int(ErrorCode.USER_BASED_NOBODY), NOBODY_NAMED
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


def _fits(state: LedgerState, share: Share, seats: int, count: int) -> bool:
    more = state.extra(share.pool, share.group, count)
    return more == 0 or more <= state.available(share.pool, seats)


def platform_allows(wanted: tuple[str, ...], platform: str) -> bool:
    """Say whether a client of *platform* (``x64_lsb``) may use a line with PLATFORMS=*wanted*: one of
    them is its platform, or begins its name (``x64_l``)."""
    return bool(platform) and any(platform.lower().startswith(each) for each in wanted)
