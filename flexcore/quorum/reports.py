"""What a quorum machine says of itself: words for lmstat and the logs, and a fingerprint."""

from __future__ import annotations

import math

from flexcore.identity import Rank
from flexcore.quorum.base import Role
from flexcore.quorum.events import QuorumReport
from flexcore.quorum.forming import Forming
from flexcore.quorum.links import Peer


class Reports(Forming):
    """Looking, never touching."""

    def report(self) -> QuorumReport:
        """Where this server stands, in the words of lmstat and the logs."""
        state, reason, until = self._standing()
        master = Rank(self.master.rank) if self.master is not None else None
        if self.role is Role.MASTER:
            master = self.rank
        ups = tuple(
            rank
            for rank, peer in self.peers.items()
            if self._up(peer, self.now) and not peer.foreign
        )
        return QuorumReport(
            state=state,
            term=self.hard.term,
            master=master,
            reason=reason,
            until_s=until,
            peers_up=ups,
            notes=self._notes(),
        )

    def _standing(self) -> tuple[str, str, float | None]:
        if self.stopping or self.halted is not None:
            return (
                "stopping",
                self.halted.reason if self.halted is not None else "it is being stopped",
                None,
            )
        if self.role is Role.MASTER:
            if self.may_serve(self.now):
                return "serving", "", None
            return "candidate", "elected; its first entry is not yet on two servers", None
        if self.role in (Role.PREVOTE, Role.CANDIDATE):
            return "candidate", "asking for votes", None
        if self.recovering:
            return self._standing_of_blank()
        if self.master is not None:
            return "follower", f"{Rank(self.master.rank).word} is the master", None
        if not any(self._up(peer, self.now) for peer in self.peers.values()):
            return "waiting", "no quorum: neither of the other servers is reached", None
        if (
            self.promise_until > self.now
            and self.hard.promised_to is not None
            and not self._promise_is_void()
        ):
            word = Rank(self.hard.promised_to.rank).word
            return (
                "waiting",
                f"bound by a promise to {word}, which is not heard",
                self.promise_until - self.now,
            )
        if self.no_promise_before > self.now:
            return (
                "waiting",
                "it lost its state and waits until no promise of it can be in force",
                self.no_promise_before - self.now,
            )
        if not self._has_rights():
            return (
                "waiting",
                "its licence file's signed lines are neither in force nor those of a majority",
                None,
            )
        return "waiting", "no master yet", None

    def _standing_of_blank(self) -> tuple[str, str, float | None]:
        members = [
            peer.rank.word
            for peer in self._linked()
            if peer.hello is not None and peer.hello.member
        ]
        if members:
            text = (
                f"it has no state and recovers it; {' and '.join(members)} reached, "
                "both or a confirmed master needed"
            )
            return "recovering", text, None
        wait = self._forming_in()
        text = (
            "no server has state: the triad is formed when nothing of an earlier one can be in "
            "force; --first-start skips the wait"
        )
        return "forming", text, wait

    def _notes(self) -> tuple[str, ...]:
        notes = [f"{peer.rank.word} runs twice" for peer in self.peers.values() if peer.twice]
        notes += [
            f"{peer.rank.word} is not of this triad" for peer in self.peers.values() if peer.foreign
        ]
        notes += [
            f"{peer.rank.word} has other signed lines"
            for peer in self.peers.values()
            if peer.hello is not None
            and not peer.foreign
            and peer.hello.rights_digest != self.config.rights_digest
        ]
        return tuple(notes)

    def fingerprint(self, now: float) -> tuple[object, ...]:
        """Everything that can make a difference later, instants relative to *now*: equal states,
        equal fingerprints."""
        return (
            self.hard.encode(),
            self.ledger.fingerprint(),
            self.durable_index,
            self.role.value,
            self.master,
            self.stopping,
            self.halted is not None,
            _ago(self.promise_until, now),
            _ago(self.no_promise_before, now),
            _ago(self.lease_until, now),
            self.started_index,
            self.serving,
            self.released_term,
            self.promise_void,
            self.successor,
            self._outstanding_since is not None,
            tuple((gate - self._done, type(frame.body).__name__) for gate, _, frame in self._gated),
            self._agreed,
            tuple(
                (self._acks[-1][0] - number, _ago(at, now, past=True)) for number, at in self._acks
            ),
            _ago(self.candidacy_until, now),
            _ago(self.stand_not_before, now),
            _ago(self.eligible_since, now, past=True),
            self.failures,
            tuple(sorted(self.denied)),
            tuple(sorted(self._refused)),
            None
            if self.pull is None
            else (self.pull.peer, self.pull.purpose, self.pull.from_index),
            tuple(sorted(self.recover_answers)),
            tuple((ask.to, self.round - ask.round) for ask in self.asks),
            tuple(self._fingerprint_of(peer, now) for peer in self.peers.values()),
        )

    def _fingerprint_of(self, peer: Peer, now: float) -> tuple[object, ...]:
        links = self._links_of(peer.rank)
        return (
            peer.rank,
            peer.boot,
            peer.out is not None,
            peer.gone,
            peer.twice,
            peer.foreign,
            peer.dialling,
            peer.dial_order < peer.ended_order,
            peer.match,
            peer.next,
            self.round - peer.acked_round,
            _ago(peer.good_since, now, past=True),
            tuple((self.round - number, _ago(at, now, past=True)) for number, at in peer.inflight),
            tuple((link.dialled, link.greeted, link.boot) for link in links),
            None
            if peer.hello is None
            else (peer.hello.member, peer.hello.last, peer.hello.serving),
        )


def _ago(at: float | None, now: float, *, past: bool = False) -> float | None:
    """Relative to *now*; everything that is over is alike, unless the *past* is what counts."""
    if at is None or math.isinf(at):
        return at
    return round(at - now, 6) if past else max(round(at - now, 6), 0.0)
