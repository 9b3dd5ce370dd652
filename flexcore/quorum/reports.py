"""What a quorum machine says of itself: words for lmstat and the logs, and a fingerprint."""

from __future__ import annotations

from flexcore.identity import Rank
from flexcore.quorum.base import Role
from flexcore.quorum.events import QuorumReport
from flexcore.quorum.fingerprint import fingerprint_of
from flexcore.quorum.forming import Forming


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
            # The wait is durable, its cause is not: rule 8, or Membership._sit_out_promise_to.
            text = (
                "it waits until no promise of it can be in force: it lost its state, or the "
                "machine that it had promised is replaced in the licence file"
            )
            return "waiting", text, self.no_promise_before - self.now
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
        if self.config.borrow_allowed and not self._all_present():
            text = (
                "no server has state, and the licence file allows borrowing: what is lent may be known to a "
                "server that is not here. Start all three; --first-start is the word that nothing is lent"
            )
            return "forming", text, None
        founder = self._founder()
        if founder is not None and not self._all_present():
            text = (
                f"it has agreed to the triad of {founder.word}, which may be in force: it waits for that server, or "
                "until nothing of its can be in force; --first-start counts again where it is back"
            )
            return "forming", text, wait
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
            and peer.hello.rights_digest != self.rights_digest
        ]
        notes += [
            f"{peer.rank.word} has other options"
            for peer in self.peers.values()
            if peer.hello is not None and not peer.foreign and self._has_other_options(peer.hello)
        ]
        return tuple(notes)

    def fingerprint(self, now: float) -> tuple[object, ...]:
        """Everything that can make a difference later, instants relative to *now*: equal
        fingerprints, equal futures (:mod:`~flexcore.quorum.fingerprint`)."""
        return fingerprint_of(self, now)
