"""A checkout that the application waits for, and what the servers have said of it."""

from __future__ import annotations

from flexcore.client.state import State
from flexcore.client.values import CheckoutDeniedAction, CheckoutQueued
from flexcore.codes import ErrorCode

_NOT_OFFERED = frozenset(
    {
        ErrorCode.NO_SUCH_FEATURE,
        ErrorCode.NOT_SERVED,
        ErrorCode.VERSION_NOT_SERVED,
        ErrorCode.VERSION_NOT_IN_FILE,
        ErrorCode.INVALID_HOST,
    }
)


_TOO_FEW = frozenset(
    {
        ErrorCode.USERS_REACHED,
        ErrorCode.USERS_QUEUED,
        ErrorCode.EXCEEDS_MAX,
        ErrorCode.ALL_RESERVED,
        ErrorCode.SERVER_BUSY,
    }
)
"""Denials of somebody who may grant it another time: there it is worth waiting."""


class Request(State):
    """A checkout that the application waits for."""

    __slots__ = (
        "at", "begun_at", "count", "denials", "feature", "may_wait", "order", "places", "queued",
        "request", "site", "version", "waits",
    )  # fmt: skip

    def __init__(
        self, request: int, feature: str, version: str, count: int, may_wait: bool = False
    ) -> None:
        self.request = request
        self.feature = feature
        self.version = version
        self.count = count
        self.site: int | None = None  # where it was put
        self.denials: dict[int, CheckoutDeniedAction] = {}  # who said no
        self.order: tuple[int, ...] = ()  # in which order the sites are asked, once that is known
        self.begun_at: float | None = None  # since when it is being found out who has most free
        self.may_wait = may_wait
        self.waits = False  # it is put with the wish to wait, where it is put from now on
        self.at: list[int] = []  # of several sites those where it was put with that wish
        self.places: dict[int, CheckoutQueued] = {}  # how it stands there
        self.queued: CheckoutQueued | None = None  # how it stands best, as it was told last

    def begin_to_wait(self) -> bool:
        """Whether it waits from here on: it may, does not yet, and some site has only too few. What those said is
        forgotten; they are asked again, with the wish to wait."""
        if not self.may_wait or self.waits:
            return False
        worth = [at for at, no in self.denials.items() if no.code in _TOO_FEW]
        for at in worth:
            del self.denials[at]
        self.waits = bool(worth)
        return self.waits

    def denial(self) -> CheckoutDeniedAction:
        """The most telling no: somebody who has the feature and cannot give it, rather than who has it not."""
        told = list(self.denials.values())
        return next((d for d in told if d.code not in _NOT_OFFERED), told[0])
