"""Promises: the time for which a server has bound itself to another (protocol.md rules 1, 2, 7, 8).

**Rule 1.** A vote binds a term; a promise binds *time*. A server grants a promise of TO, counted
from receipt, with each vote and with each acknowledgement, and while it runs it votes for nobody
else, itself included. *Whom* is durable, *until when* is not: a restart lets it run its full length
again (rule 7), so the length is durable before a longer one leaves. A promise to oneself
(candidate, master) needs no memory: role and term are never resumed.

Why that keeps two masters apart (I2): a master serves only within TO*(1-r)/(1+r) of the *send* of a
message that another server answered with a promise. That server's promise runs TO from the
*receipt*, which is later, on a clock whose rate differs by at most (1+r)/(1-r). So whenever the
master serves, one other server is still bound to it. A second master would need the votes of two of
three: the first master's own (bound to itself while its lease runs), or the bound one's.

**Free.** The predicate :meth:`Promises.free_for` is the whole rule; each of its lines can be taken
out by a mutation test. An Append of one's own or a higher term replaces the promise at once: its
sender was elected by two.

**Rule 2.** The grantor names the length; the master uses the smaller of that and its own TO.

**Rule 8, waiting.** A server that lost its state may have promised anybody anything: until the
longest TO that it heard of has passed since its boot it promises nobody but the sender of an Append
of a higher term (or is bound to the master it recovered from: see :mod:`flexcore.quorum.recovery`).
The wait is durable (see ``HardState.no_promise_s``).

Shown by ``tests/test_quorum_promises.py`` and the mutants ``restart_forgets_promise``,
``vote_for_self_without_being_free``, ``lease_longer_than_promise``; for the wait of rule 8 by
``tests/test_quorum_mutants.py``.
"""

from __future__ import annotations

from flexcore.identity import Endpoint, Rank
from flexcore.quorum.base import Role
from flexcore.quorum.links import same_process
from flexcore.quorum.rivals import Rivals
from flexcore.wire.messages import Release


class Promises(Rivals):
    """Whom this server is bound to, and until when."""

    def _init_promises(self, now: float) -> None:
        self.promise_until = now
        self.promise_void = False
        self.no_promise_before = now
        promised = self.hard.promised_to
        if promised is not None and promised.rank == self.rank:
            # It ends with the process: role and term are never resumed.
            self.hard.promised_to = None
            self._touch_hard()
        elif promised is not None:
            self.promise_until = now + self._promise_after_restart()
        if self.hard.no_promise_s > 0:
            self.no_promise_before = now + self.hard.no_promise_s

    def _promise_after_restart(self) -> float:
        """Rule 7: the promise runs its full length from boot."""
        return self.hard.promise_len_s

    # --- the predicate ----------------------------------------------------------------------------

    def free_for(self, candidate: Endpoint, now: float, release: Release | None = None) -> bool:
        """Rule 1: never promised; promised to that same process; expired; void; or released to
        it."""
        promised = self.hard.promised_to
        return (
            promised is None
            or same_process(promised, candidate)
            or self._promise_expired(now)
            or self._promise_is_void()
            or (release is not None and self._released_to(candidate, release))
        )

    def free_for_self(self, now: float) -> bool:
        """Rule 1 for one's own candidacy: a vote for oneself needs to be free as well."""
        return self.free_for(self.me, now)

    def _promise_expired(self, now: float) -> bool:
        if self.role is Role.MASTER and same_process(self.hard.promised_to, self.me):
            return now >= self._own_promise_until()
        return now >= self.promise_until

    def _own_promise_until(self) -> float:
        """A master's promise to itself runs as long as its lease."""
        return self._lease_end()

    def _lease_end(self) -> float:
        raise NotImplementedError

    def _promise_is_void(self) -> bool:
        promised = self.hard.promised_to
        if promised is None or promised.rank == self.rank:
            return False
        if not self.promise_void and self._process_gone(promised):
            self.promise_void = True
            self._forget_refusals()
        return self.promise_void

    def _forget_refusals(self) -> None:
        raise NotImplementedError

    def _released_to(self, candidate: Endpoint, release: Release) -> bool:
        """Rule 10: bound to its term, from the one we promised, to this candidate; void once we are
        in a higher term."""
        return (
            release.term == self.hard.term
            and same_process(release.giver, self.hard.promised_to)
            and same_process(release.to, candidate)
        )

    def _may_promise(self, term: int, now: float) -> bool:
        """Rule 8, the wait after recovery."""
        if now >= self.no_promise_before:
            return True
        return term > self.hard.no_promise_term

    def free_in_s(self, now: float) -> float:
        """How long until the promise in force has run out."""
        return max(0.0, self.promise_until - now, self.no_promise_before - now)

    # --- granting ---------------------------------------------------------------------------------

    def _promise(self, to: Endpoint, now: float) -> float:
        """Grant a promise from *now* (the receipt) on, and return its length for the answer (rule
        2)."""
        length = self.config.timeout_s
        if self.hard.promised_to != to:
            if not same_process(self.hard.promised_to, to):
                self.promise_until = now
                self.hard.promise_len_s = 0.0
            self.hard.promised_to = to
            self.hard.promised_at = ""
            self._touch_hard()
        self._note_promised_at(to)
        self.promise_void = False  # a new promise, even to a process that was wrongly thought gone
        if length > self.hard.promise_len_s:
            self.hard.promise_len_s = length
            self._touch_hard()
        self.promise_until = max(self.promise_until, now + length)
        return length

    def _note_promised_at(self, to: Endpoint) -> None:
        """Where that process has answered: it may promise to be heard before our own dial is."""
        address = self._answered_at(to)
        if address and self.hard.promised_at != address:
            self.hard.promised_at = address
            self._touch_hard()

    def _answered_at(self, endpoint: Endpoint) -> str:
        """The address at which this very process answered our dial; '' if it has not."""
        peer = self.peers.get(Rank(endpoint.rank))
        if peer is None or peer.boot is None or peer.boot.boot_id != endpoint.boot.boot_id:
            return ""
        return self.config.address_of(peer.rank)

    def _promise_self(self, until: float) -> None:
        """A candidate binds itself for as long as it stands, a master for as long as its lease
        runs."""
        if self.hard.promised_to != self.me:
            self.hard.promised_to = self.me
            self.hard.promised_at = ""
            self.promise_void = False
            self._touch_hard()
        self.promise_until = until

    def _end_own_promise(self, now: float) -> None:
        """It stopped being a candidate or master: its promise to itself ends with that."""
        if same_process(self.hard.promised_to, self.me):
            self.promise_until = min(self.promise_until, now)
