"""What a reign remembers of requests beside the ledger.

Rule 17: a request is sent again under its own number until it is answered, and happens once. What it
changed is in the ledger, with its number. A *denial* changes nothing and is in no ledger; so it is
remembered here until the client says that it knows the answer. The schedule without it: a checkout
is slow to be answered, the client sends it again; the first copy is denied, and the client tells the
application so; meanwhile a seat comes free, the second copy arrives and is granted: nobody knows of
that seat, and it is taken until the client goes away (seed 89 of the simulation; the history of what
clients were told was not linearizable). Shown by
``tests/test_server_replies.py::test_a_repeated_checkout_is_denied_again``.

A new master remembers nothing, and need not: the client aborts the connection with the old one
before it asks elsewhere, and by then it knows the answer or takes the new master's.
"""

from __future__ import annotations

from collections.abc import Hashable

from flexcore.checkout import Denial
from flexcore.codes import ErrorCode
from flexcore.ledger import Session

DENIALS_MAX = 128
"""Denials that are remembered of one session: twice what a client leaves unanswered. The oldest go first."""


class RequestMemory:
    """Up to where the results are known, and what was denied, by session."""

    def __init__(self) -> None:
        self._answered: dict[bytes, int] = {}
        self._denials: dict[bytes, dict[int, Denial]] = {}

    def note_answered(self, session: Session, answered: int) -> None:
        """The client knows the results up to the request *answered*."""
        name = session.session
        if answered <= self._answered.get(name, session.answered):
            return
        self._answered[name] = answered
        denials = self._denials.get(name)
        if denials is not None:
            for number in [each for each in denials if each <= answered]:
                del denials[number]
            if not denials:
                del self._denials[name]

    def recall(self, session: bytes, number: int) -> Denial | None:
        """Return the denial that request *number* gets whatever is free now; None: it is to be decided."""
        if number <= self._answered.get(session, 0):
            return Denial(ErrorCode.INVALID_PARAMETER, f"request {number} was answered before")
        denials = self._denials.get(session)
        return None if denials is None else denials.get(number)

    def keep(self, session: bytes, number: int, denial: Denial) -> None:
        """Request *number* was denied."""
        denials = self._denials.setdefault(session, {})
        denials[number] = denial
        if len(denials) > DENIALS_MAX:
            del denials[next(iter(denials))]

    def forget(self, session: bytes) -> None:
        """The session is over."""
        self._answered.pop(session, None)
        self._denials.pop(session, None)

    def clear(self) -> None:
        """A reign begins or ends."""
        self._answered.clear()
        self._denials.clear()

    def copy(self) -> RequestMemory:
        """Return a twin."""
        twin = RequestMemory()
        twin._answered = dict(self._answered)
        twin._denials = {name: dict(denials) for name, denials in self._denials.items()}
        return twin

    def fingerprint(self) -> Hashable:
        """Return what decides its future."""
        return (
            tuple(sorted(self._answered.items())),
            tuple(sorted((name, tuple(denials.items())) for name, denials in self._denials.items())),
        )
