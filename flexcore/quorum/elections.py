"""Elections: who stands, votes and wins (protocol.md rules 3, 4, 5, 13, 19; Raft thesis 3.6, 9.6).

**Rule 3, standing.** Primary and secondary only; a member; free for itself; with the rights that
are in force, or that a majority shows. A pre-vote goes first: it binds nobody, so a server that
cannot win disturbs nobody. A voter whose log is newer says so, and the candidate *pulls* that
suffix (the tertiary, which may never be master, can be the only holder of the newest entry), puts
it in place of its own conflicting tail in one transaction, and asks again.

**Who first.** The one longer up; within two seconds, or unknown, the primary; the other waits
``candidate_wait_s``, but only for a peer from which it has heard within the last s, and never for
the master whose promise has run out or is void. There is no randomness: two candidates collide only
if neither has heard of the other, and then a candidacy ends by itself.

**A refused candidate** asks again when the voter's promise is over (``free_in``), not on a beat. A
voter that has refused, and becomes free before that (the evidence of rule 6 reaches the two at
different instants), *says so unasked*. Without it a candidate that asked one millisecond early
would wait for the whole promise: a schedule that protocol.md does not have.

**Rule 4, voting.** One vote a term, durable before it leaves; only by members that are free; only
for a log at least as new (last term, then index: so every acknowledged entry is in it); only over a
link that works both ways (the nonce).

**Rule 13.** A higher term in a *reply* is true (it was granted, or learnt from a grant), so it is
taken over, and a master stands again above it. A *request* raises a term only if it is granted or
is an Append: a refused candidate disturbs nobody.

Shown by ``tests/test_quorum_elections.py`` and the mutants ``no_log_check``, ``no_pull``,
``two_votes_a_term``, ``reply_teaches_nothing``, ``candidate_bound_for_ever``.
"""

from __future__ import annotations

import math

from flexcore import timing
from flexcore.identity import NOBODY, Endpoint, Last, Rank
from flexcore.ledger.commands import Rights, TermStarted
from flexcore.override import override
from flexcore.quorum.base import Role
from flexcore.quorum.catchup import CatchUp
from flexcore.quorum.links import Link, Peer, same_process
from flexcore.wire.messages import (
    PeerFrame,
    PreVote,
    PreVoteReply,
    Release,
    Vote,
    VoteReply,
)

RETRY_MIN_S = 0.01
"""A refused candidate asks again no sooner than this."""
FAILURES_BEFORE_YIELD = 3


class Elections(CatchUp):
    """Standing, voting, winning."""

    def _init_elections(self) -> None:
        self.eligible_since: float | None = None
        self.stand_not_before = -math.inf
        self.candidacy_until = -math.inf
        self.vote_round = 0
        self.vote_sent_at = -math.inf
        self.denied: set[int] = set()
        self.failures = 0
        self._refused: dict[int, tuple[int, Endpoint, PreVote]] = {}

    # --- standing (rule 3) ------------------------------------------------------------------------

    def _can_stand(self, now: float) -> bool:
        return (
            self.config.triad
            and self.rank.may_be_master
            and self.hard.member
            and self.role is Role.FOLLOWER
            and not self.stopping
            and self.halted is None
            and self.free_for_self(now)
            and now >= self.no_promise_before
            and not self._detector_holds()
            and not self._disk_slow(now, self.config.persist_slow_s)
            and any(peer.hello is None or peer.hello.member for peer in self._linked())
            and self._has_rights()
        )

    def _detector_holds(self) -> bool:
        """HEARTBEAT_INTERVAL=0: silence on an open connection starts no election (rule 21)."""
        promised = self.hard.promised_to
        if not self.config.detector_off or promised is None or promised.rank == self.rank:
            return False
        peer = self.peers[Rank(promised.rank)]
        return (
            peer.out is not None
            and peer.boot is not None
            and peer.boot.boot_id == promised.boot.boot_id
        )

    def _has_rights(self) -> bool:
        """Rule 19: the lines in force are those of its own file, or of one that it read before and
        still knows; or a majority, itself included, shows its own."""
        committed = self.ledger.state.rights
        return not committed or committed in self.known_rights or self._majority_shows_own()

    def _majority_shows_own(self) -> bool:
        return any(
            peer.hello is not None and peer.hello.rights_digest == self.rights_digest
            for peer in self._linked()
        )

    def _rights_to_serve(self) -> bytes:
        """By which lines a new master serves: its own file's where it may put them into force."""
        committed = self.ledger.state.rights
        if committed in self.known_rights and not self._majority_shows_own():
            return committed
        return self.rights_digest

    def _head_start_s(self, now: float) -> float:
        """How long we let the other candidate stand first."""
        other = self.peers.get(Rank.SECONDARY if self.rank is Rank.PRIMARY else Rank.PRIMARY)
        if (
            other is None
            or other.heard_at is None
            or now - other.heard_at > self.config.interval_s
            or not self._up(other, now)
        ):
            return 0.0
        promised = self.hard.promised_to
        if promised is not None and promised.rank == other.rank:
            return 0.0
        if self.failures == FAILURES_BEFORE_YIELD:
            return timing.candidate_wait_s(other.round_trip_s)
        primary_first = self.rank is Rank.PRIMARY
        if other.hello is None:
            return 0.0 if primary_first else timing.candidate_wait_s(other.round_trip_s)
        ahead = (now - self.boot_at) - (other.hello.uptime_s + now - other.hello_at)
        first = primary_first if abs(ahead) <= timing.UPTIME_TIE_S else ahead > 0
        return 0.0 if first else timing.candidate_wait_s(other.round_trip_s)

    def _stand_at(self, now: float) -> float | None:
        """When to ask for votes, if nothing changes; None: not now."""
        if not self._can_stand(now):
            self.eligible_since = None
            return None
        if self.eligible_since is None:
            self.eligible_since = now
        return max(self.eligible_since + self._head_start_s(now), self.stand_not_before)

    def _consider_standing(self, now: float) -> None:
        at = self._stand_at(now)
        if at is not None and now >= at and self.pull is None:
            self._drop_forming()
            self.role = Role.PREVOTE
            self.master = None
            self.candidacy_until = now + self._patience()
            for peer in self._linked():
                self._send(
                    peer,
                    PreVote(self.hard.term + 1, self.ledger.last, self._fresh_nonce()),
                    gate=self._hard_gate,
                )

    def _drop_forming(self) -> None:
        """A member that is free again stands, and votes, in the triad that it is a member of: the
        forming that it agreed to came to nothing (its proposer holds no promise of ours any more),
        and two members must understand each other."""
        if self.hard.pending_triad:
            self.hard.pending_triad = b""
            self._touch_hard()

    def _back_from_forming(self, frame: PeerFrame, now: float) -> bool:
        """The occasion of :meth:`_drop_forming` where another stands or reigns; False: a member of
        the old triad speaks while we are bound to the proposer of a new one. Its word is late: that
        triad has had no two members that could elect since. An Append of it, with a term that we
        never heard of, must not free us of the proposer, who may serve by our promise."""
        if not self.hard.pending_triad or frame.triad_id == self.hard.pending_triad:
            return True
        if not self.free_for(frame.sender, now):
            return False
        self._drop_forming()
        return True

    @override
    def _forget_refusals(self) -> None:
        """What a voter said of its promise is of another time: there has been a master, or
        evidence, since."""
        self.stand_not_before = -math.inf

    def _patience(self) -> float:
        """How long a candidacy lasts: max(1 s, 5 round trips)."""
        return timing.candidate_wait_s(
            max((peer.round_trip_s for peer in self.peers.values()), default=0.0)
        )

    def _candidacy_over(self, now: float) -> None:
        """No majority within the time, or denied: stop being a candidate, and one's promise to
        oneself with it."""
        if self.role is Role.CANDIDATE:
            self._end_candidacy_promise(now)
            self.failures = self.failures % (FAILURES_BEFORE_YIELD + 1) + 1
        if self.role in (Role.PREVOTE, Role.CANDIDATE):
            self.role = Role.FOLLOWER
            self.eligible_since = None
            self.stand_not_before = max(self.stand_not_before, now + RETRY_MIN_S)

    def _end_candidacy_promise(self, now: float) -> None:
        self._end_own_promise(now)

    # --- pre-votes --------------------------------------------------------------------------------

    def _on_prevote(self, link: Link, frame: PeerFrame, body: PreVote, now: float) -> None:
        self._back_from_forming(frame, now)
        ok = (
            self._may_vote(frame.sender, now)
            and body.next_term > self.hard.term
            and self._log_new_enough(body.last)
            and self.role is not Role.CANDIDATE
        )
        if not ok:
            self._refused[int(link.peer)] = (link.number, frame.sender, body)
        self._answer_prevote(link, frame.sender, ok, now)

    def _answer_prevote(self, link: Link, to: Endpoint, ok: bool, now: float) -> None:
        nonce = self._fresh_nonce()
        link.voter_nonces = (*link.voter_nonces[-1:], nonce)
        free_in = 0.0 if self.free_for(to, now) else self.free_in_s(now)
        self._post(
            link.number,
            to,
            PreVoteReply(ok, self.ledger.last, nonce, free_in),
            gate=self._hard_gate,
        )

    def _tell_refused(self, now: float) -> None:
        """Whoever was refused while we were bound is told when we are free, before it would ask
        again."""
        for rank, (number, to, body) in list(self._refused.items()):
            link = self.links.get(number)
            if link is None or self.role is Role.MASTER or body.next_term <= self.hard.term:
                del self._refused[rank]
            elif (
                self.role is not Role.CANDIDATE
                and self._may_vote(to, now)
                and self._log_new_enough(body.last)
            ):
                del self._refused[rank]
                self._answer_prevote(link, to, True, now)

    def _on_prevote_reply(self, peer: Peer, body: PreVoteReply, now: float) -> None:
        peer.voter_nonce = body.nonce
        if self.stopping:
            return
        if body.last > self.ledger.last:
            if self.role in (Role.PREVOTE, Role.FOLLOWER) and self._can_pull_to_stand(now):
                self._start_pull(peer, "stand", self.ledger.commit + 1, body.last.index, now)
            return
        if (
            body.ok
            and self.role is Role.FOLLOWER
            and self._can_stand(now)
            and self._head_start_s(now) == 0.0
        ) or (body.ok and self.role is Role.PREVOTE):
            self._stand(now)
        elif not body.ok and self.role is Role.PREVOTE:
            self.stand_not_before = now + max(body.free_in_s, RETRY_MIN_S)
            if body.free_in_s <= 0.0:
                self.stand_not_before = now + self._patience() / 10

    def _can_pull_to_stand(self, now: float) -> bool:
        """Rule 3: pull before the vote."""
        if self.pull is not None:
            return False
        return self.role is Role.PREVOTE or self._can_stand(now)

    # --- votes ------------------------------------------------------------------------------------

    def _stand(self, now: float, release: Release | None = None) -> None:
        """Term + 1, a vote for oneself, durable; then one Vote to each (it waits for the disk)."""
        assert self.rank.may_be_master
        self.role = Role.CANDIDATE
        self.master = None
        self.pull = None
        self._raise_term(self.hard.term + 1)
        self.hard.voted_for = int(self.rank)
        self.candidacy_until = now + self._patience()
        self._promise_self(self._own_candidacy_until())
        self.round += 1
        self.vote_round = self.round
        self.vote_sent_at = now
        self.denied = set()
        for peer in self._linked():
            self._send(
                peer,
                Vote(self.ledger.last, self.vote_round, peer.voter_nonce, release),
                gate=self._hard_gate,
            )

    def _own_candidacy_until(self) -> float:
        return self.candidacy_until

    def _may_vote(self, candidate: Endpoint, now: float, release: Release | None = None) -> bool:
        """Rule 4, the part that a pre-vote asks about: a member, free, not waiting after recovery,
        its disk working."""
        peer = self.peers[Rank(candidate.rank)]
        return (
            self.hard.member
            and self.halted is None
            and Rank(candidate.rank).may_be_master
            and self.free_for(candidate, now, release)
            and now >= self.no_promise_before
            and not peer.twice
            and not self._disk_slow(now, self.config.persist_slow_s)
        )

    def _log_new_enough(self, last: Last) -> bool:
        """Rule 4: last term, then index."""
        return last >= self.ledger.last

    def _vote_is_free(self, candidate: Endpoint, term: int) -> bool:
        """Rule 4: one vote a term; none in a term that is spent (rule 8)."""
        return term > self.hard.term or self.hard.voted_for in (NOBODY, candidate.rank)

    def _on_vote(self, link: Link, frame: PeerFrame, body: Vote, now: float) -> None:
        granted = (
            frame.term >= self.hard.term
            and self._vote_is_free(frame.sender, frame.term)
            and self._may_vote(frame.sender, now, body.release)
            and self._log_new_enough(body.last)
            and body.nonce in link.voter_nonces
        )
        if not granted:
            self._post(
                link.number,
                frame.sender,
                VoteReply(False, body.round, body.nonce, 0.0),
                gate=self._hard_gate,
            )
            return
        if self.role is Role.MASTER:
            self._step_down("a successor was elected", now, successor=Rank(frame.sender.rank))
        self._candidacy_over(now)
        if frame.term > self.hard.term:
            self._raise_term(frame.term)
        if self.hard.voted_for != frame.sender.rank:
            self.hard.voted_for = frame.sender.rank
            self._touch_hard()
        self.master = None
        self.pull = None
        self._forget_refusals()
        promise_s = self._promise(frame.sender, now)
        self._refused.pop(int(link.peer), None)
        self._post(
            link.number,
            frame.sender,
            VoteReply(True, body.round, body.nonce, promise_s),
            gate=self._hard_gate,
        )

    def _on_vote_reply(self, peer: Peer, frame: PeerFrame, body: VoteReply, now: float) -> None:
        if self.role is not Role.CANDIDATE or body.round != self.vote_round:
            return  # of a candidacy that is over: ignored (rule 1)
        if body.ok:
            if frame.term == self.hard.term:
                self._win(body.promise_s, now)
            return
        # A denial is of the voter's own, lower term: whoever is refused raises nothing.
        self.denied.add(int(peer.rank))
        if all(int(each.rank) in self.denied for each in self._linked()):
            self._candidacy_over(now)

    # --- winning (rule 5) -------------------------------------------------------------------------

    def _win(self, promise_s: float, now: float) -> None:
        assert self.rank.may_be_master
        self.role = Role.MASTER
        self.master = self.me
        self.serving = False
        self.failures = 0
        self.released_term = min(self.released_term, self.hard.term - 1)
        self._in_doubt_until_round = None
        for peer in self.peers.values():
            peer.match, peer.next = 0, self.ledger.last.index + 1
            peer.acked_round, peer.acked_at, peer.good_since = 0, None, None
            peer.inflight.clear()
            peer.beat_at = now
        self.lease_until = -math.inf
        self._extend_lease(self.vote_sent_at, promise_s)
        self._begin_term(now)

    def _begin_term(self, now: float) -> None:
        """The term's first entries: TO and L (rule 2), and the rights where they are new (rule
        19)."""
        config = self.config
        self.started_index = self.propose(
            TermStarted(int(self.rank), config.timeout_s, config.client_lease_s),
            now=now,
            wall=self.wall,
        )
        rights = self._rights_to_serve()
        if self.ledger.state.rights != rights:
            self.started_index = self.propose(Rights(rights), now=now, wall=self.wall)

    # --- terms ------------------------------------------------------------------------------------

    def _higher_term_in_reply(self, peer: Peer, term: int, now: float) -> None:
        """Rules 1 and 13: a reply teaches a higher term; a master steps down and stands above
        it."""
        if not same_process(self.master, self.me):
            self.master = None
        self._step_down(f"{peer.rank.word} knows a higher term", now)
        self._candidacy_over(now)
        self._raise_term(term)
        self.stand_not_before = -math.inf
