"""Forming: how a triad begins, and begins anew where no two members are left (protocol.md rule 9).

Blank servers form a triad after TO + L (the longest that any licence file may set: the interval is
not signed) from the later boot, or at once on the administrator's word that nothing is held
(--first-start), which counts only where no server that answers is a member, and for one that has
acknowledged another's ``Formed`` only with that one, or where all three are there and it has lost
its state; the third server is given a moment to answer. The first of P and S that is present
proposes; the other agrees with its own durable vote and promise. The proposal carries a fresh
``triad_id``, which binds only when ``Formed`` is committed. Whoever holds no more than an
uncommitted ``Formed`` counts as blank. A
member that is left alone forms anew with a blank server, on its own log, after the same wait,
counted also from when it last heard another member: one that is only being restarted must find its
triad again. A blank proposer copies that log first.

Where the licence file allows borrowing, forming by waiting needs all three: a lease ends while one waits, what is
lent does not. The log of a member that is left cannot stand in for the third server, however little is lent in it.
The schedule: P is cut off. S and T lend a seat; S loses its disk, T its power. P hears nothing of a higher term, its
log ends before the loan, and with a blank S it would give the seat to somebody else. All three need not have state: a
third one that is blank too says that nobody is missing any more.

Shown by ``tests/test_quorum_forming.py`` and the mutant ``forming_waits_for_nothing``.
"""

from __future__ import annotations

from flexcore.identity import NO_LAST, Rank
from flexcore.ledger.commands import Formed
from flexcore.override import override
from flexcore.quorum.base import Role
from flexcore.quorum.links import Link, Peer
from flexcore.quorum.recovery import Recovery
from flexcore.wire.messages import FormPropose, FormReply, Hello, PeerFrame

FORM_EVERY_S = 0.5
FORM_PATIENCE_S = 1.0
"""How long after its start a server lets a third one answer before it forms a triad without it."""
LOOK_AGAIN_S = 0.05
EVERYTHING = 1 << 60
"""Up to where a blank proposer copies: its partner's log may have grown since it greeted."""


class Forming(Recovery):
    """Becoming a member for the first time."""

    def _init_forming(self, now: float) -> None:
        self.form_at = now
        self.form_round = 0
        self.form_with: Rank | None = None
        self._founder_boot = b""
        """The process with which this one has agreed to form, since it runs."""

    # --- when -------------------------------------------------------------------------------------

    @override
    def _forming_in(self) -> float | None:
        """Seconds until this server would form a triad anew with another; None: it is a member with
        members beside it."""
        if not self.config.triad:
            return None
        return max(0.0, self.boot_at + self._forming_wait_s() - self.now)

    def _form_partner(self, now: float) -> Peer | None:
        """With whom this server would form now: another blank one, or a member left alone."""
        for rank in (Rank.PRIMARY, Rank.SECONDARY, Rank.TERTIARY):
            peer = self.peers.get(rank)
            if peer is None or peer.out is None or peer.hello is None or peer.foreign:
                continue
            if not self._form_allowed(peer, now):
                continue
            return peer
        return None

    def _form_allowed(self, peer: Peer, now: float) -> bool:
        """Whether this server and *peer* may form: both waited, or the administrator's word where
        both are blank."""
        hello = peer.hello
        assert hello is not None
        theirs = hello.forming_at_s
        mine = self._forming_in()
        if theirs is None or mine is None or (self.hard.member and hello.member):
            return False
        both_blank = self.blank and hello.only_formed and not hello.member
        if both_blank and not self._member_seen and self._word_counts(peer, hello):
            return True
        if self._member_in_sight(besides=peer.rank):
            return False
        if self.config.borrow_allowed and not self._all_present():
            return False  # who has borrowed may be known to the third server only
        wait = max(mine, theirs - (now - peer.hello_at), self._missed_in(peer.rank, now))
        return wait <= 0.0

    def _word_counts(self, peer: Peer, hello: Hello) -> bool:
        """Whether the administrator said that nothing is held, and nothing here speaks against it."""
        if not (self.first_start or hello.first_start):
            return False
        founder = self._founder()
        if founder is None:
            return True
        return self._all_present() if self._has_forgotten(self.peers[founder]) else founder is peer.rank

    def _has_forgotten(self, founder: Peer) -> bool:
        """Whether another process without state is in the founder's place.

        Its last greeting may be older than what it founded: only another process's is surely not (seed 11011: S
        formed anew with T, in whose eyes P, present and suspended while it served, was still as blank as it had
        greeted).
        """
        hello, boot = founder.hello, founder.boot
        return hello is not None and boot is not None and boot.boot_id != self._founder_boot and hello.last == NO_LAST

    def _founder(self) -> Rank | None:
        """Whose Formed this server has acknowledged, if another's: it may be committed by that.

        The schedule (seed 5139 of the soak): P forms with S and serves, and is cut off before its next Append
        tells S so. S formed anew with a blank T at once, by the word of the first start; P came back to a triad
        that had been formed without it, and stopped until somebody deleted its state. The same without that word,
        where all had been up for longer than the wait (seed 5575): it counts from the founder's last word, too. All
        three together need not wait where the founder has lost its state: it has served nobody of whom one of the
        other two would not know. Nor has it with the founder that is no member by its own state.
        """
        rank = self.ledger.state.term_rank
        return Rank(rank) if self.blank and rank >= 0 and rank != self.rank else None

    def _missed_in(self, besides: Rank, now: float) -> float:
        """Seconds until the members that were heard before, and a founder, have been gone for the whole wait.

        The schedule: T has lost its disk, and its copy is slow to come. P, the master, is restarted.
        S, long up and alone with a blank server at the instant of P's death, formed anew with T; P
        came back a moment later, was of the old forming and stopped, until somebody deleted its
        state.
        """
        founder = self._founder()
        heard = [
            peer.heard_at
            for peer in self.peers.values()
            if peer.rank is not besides
            and peer.heard_at is not None
            and peer.hello is not None
            and (peer.hello.member or peer.rank is founder)
            and not peer.foreign
        ]
        return max(heard) + self._forming_wait_s() - now if heard else 0.0

    def _all_present(self) -> bool:
        return all(
            peer.out is not None and peer.hello is not None and not peer.foreign
            for peer in self.peers.values()
        )

    def _third_had_its_chance(self, partner: Peer, now: float) -> bool:
        """--first-start acts where no peer *that answers* is a member: let the third server answer,
        if it can."""
        third = next(peer for peer in self.peers.values() if peer.rank is not partner.rank)
        return (
            third.out is not None
            or third.foreign
            or third.dial_failed
            or now - self.boot_at >= FORM_PATIENCE_S
        )

    def _member_in_sight(self, besides: Rank | None = None) -> bool:
        """A member that answers: a peer, or one with another file.

        The schedule of the latter: P's machine is replaced. S and the new P have the new file; T was
        forgotten and serves on with the old P. Without T's word S and the new P would form a second
        triad beside them: every licence twice.
        """
        return any(link.other_file for link in self.links.values()) or any(
            peer.hello is not None
            and peer.hello.member
            and peer.out is not None
            and peer.rank is not besides
            for peer in self.peers.values()
        )

    # --- proposing --------------------------------------------------------------------------------

    def _form_due(self, now: float) -> None:
        """The first of P and S that is present proposes."""
        if now < self.form_at or not self._may_form():
            return
        self.form_at = now + FORM_EVERY_S
        partner = self._form_partner(now)
        if partner is None or not self.free_for_self(now):
            return
        if not self._third_had_its_chance(partner, now):
            self.form_at = now + LOOK_AGAIN_S
            return
        primary = self.peers.get(Rank.PRIMARY)
        if (
            primary is not None
            and primary.out is not None
            and not primary.foreign
            and self.rank is Rank.SECONDARY
        ):
            return  # the primary is present: it proposes
        assert partner.hello is not None
        if partner.hello.member and (not self._copied_to_form or self._copy_is_old):
            if self.pull is None:
                self._start_pull(partner, "form", 1, EVERYTHING, now)
            return
        self._propose_forming(partner, now)

    def _may_form(self) -> bool:
        """Whether this server is one that may propose: without state, or the only one that has
        it."""
        return (
            self.config.triad
            and self.rank.may_be_master
            and self.role is Role.FOLLOWER
            and not self.stopping
            and self.halted is None
            and (not self.hard.member or self._left_alone())
        )

    def _left_alone(self) -> bool:
        """A member whose only company is a blank server, the third one gone."""
        blanks = [
            peer for peer in self._linked() if peer.hello is not None and not peer.hello.member
        ]
        members = [peer for peer in self._linked() if peer.hello is not None and peer.hello.member]
        return bool(blanks) and not members and self.master is None

    def _propose_forming(self, partner: Peer, now: float) -> None:
        """The proposal is a vote in a new term: durable before it leaves."""
        if not self.hard.member and not self._copied_to_form:
            self._forget_log()
        self._raise_counter()
        self.role = Role.CANDIDATE
        self.master = None
        self._raise_term(max(self.hard.term, self._highest_known_term()) + 1)
        self.hard.voted_for = int(self.rank)
        self.hard.pending_triad = self.fresh_triad_id
        self.candidacy_until = now + self._patience()
        self._promise_self(self.candidacy_until)
        self.round += 1
        self.vote_round = self.form_round = self.round
        self.vote_sent_at = now
        self.form_with = partner.rank
        self._copy_is_old = True  # for the next proposal: the log may have grown by then
        self.denied = set()
        self._notice("forming", f"proposing a new triad to {partner.rank.word}", partner.rank)
        self._send(
            partner,
            FormPropose(
                self.hard.pending_triad, self.ledger.last, self.form_round, self.first_start
            ),
            gate=self._hard_gate,
        )

    def _highest_known_term(self) -> int:
        return max(
            [0, *(peer.hello.last.term for peer in self.peers.values() if peer.hello is not None)]
        )

    # --- agreeing ---------------------------------------------------------------------------------

    def _on_form_propose(self, link: Link, frame: PeerFrame, body: FormPropose, now: float) -> None:
        peer = self.peers[link.peer]
        yields = (
            self.role is Role.CANDIDATE and bool(self.hard.pending_triad) and peer.rank < self.rank
        )
        if yields:
            self._candidacy_over(now)
        allowed = peer.hello is not None and self._form_allowed(peer, now)
        granted = (
            allowed
            and frame.term > self.hard.term
            and Rank(frame.sender.rank).may_be_master
            and self.role is Role.FOLLOWER
            and self.free_for(frame.sender, now)
            and (self.blank or self._log_new_enough(body.last))
            and frame.sender.boot.counter > 0
        )
        if not granted:
            wait_s = self.free_in_s(now)
            self._post(
                link.number,
                frame.sender,
                FormReply(False, body.triad_id, body.round, 0.0, wait_s),
                gate=self._hard_gate,
            )
            return
        self._raise_counter()
        self._raise_term(frame.term)
        self._founder_boot = frame.sender.boot.boot_id
        self.hard.voted_for = frame.sender.rank
        self.hard.pending_triad = body.triad_id
        if self.blank:
            self._forget_log()
        self.master = None
        promise_s = self._promise(frame.sender, now)
        self._post(
            link.number,
            frame.sender,
            FormReply(True, body.triad_id, body.round, promise_s, 0.0),
            gate=self._hard_gate,
        )

    def _on_form_reply(self, peer: Peer, frame: PeerFrame, body: FormReply, now: float) -> None:
        if (
            self.role is not Role.CANDIDATE
            or body.round != self.form_round
            or body.triad_id != self.hard.pending_triad
            or peer.rank is not self.form_with
        ):
            return
        if not body.ok:
            self._candidacy_over(now)
            self.form_at = now + max(FORM_EVERY_S, min(body.wait_s, self.config.timeout_s))
            return
        self._win(body.promise_s, now)

    @override
    def _begin_term(self, now: float) -> None:
        """The first entry of a triad's life is Formed; then the term begins as any does."""
        if self.hard.pending_triad and self.hard.pending_triad != self.hard.triad_id:
            self.propose(
                Formed(self.hard.pending_triad, int(self.rank), self.config.membership_digest),
                now=now,
                wall=self.wall,
            )
        super()._begin_term(now)

    @override
    def _note_formed(self) -> None:
        """Formed is known to be committed: the new triad_id binds, and whoever holds it is a
        member."""
        state = self.ledger.state
        if not self.hard.pending_triad or state.triad_id != self.hard.pending_triad:
            return
        if self.ledger.commit < state.formed_index:
            return
        self._bind_triad()

    @override
    def _judge_hello(self, peer: Peer, hello: Hello, now: float) -> None:
        """A member that shows the very triad whose Formed we hold tells that it is committed.

        The schedule: P commits Formed and is killed before its next Append says so. S holds it, and
        beside P, back as a member, would be neither: not a member, and no partner to form anew with
        but after the whole wait. It may count itself one: since its vote for this triad it has
        forgotten nothing (else the member would remember more of it than it shows: rule 7), and it
        has acknowledged nothing that it does not hold.
        """
        super()._judge_hello(peer, hello, now)
        pending = self.hard.pending_triad
        if (
            pending
            and not peer.foreign
            and hello.member
            and hello.committed_triad == pending == self.ledger.state.triad_id
            and (hello.seen_of_you is None or not self._shows_less_than(hello.seen_of_you))
        ):
            self._bind_triad()

    def _bind_triad(self) -> None:
        self.hard.triad_id = self.hard.pending_triad
        self.hard.pending_triad = b""
        self.hard.member = True
        self.hard.hostids = self.config.hostids
        self._touch_hard()
        self._notice("formed", f"triad {self.hard.triad_id.hex()[:8]} is formed")
        self._greet_again(self.now)

    def _in_forming(self, triad_id: bytes) -> bool:
        """Whether frames of this triad_id are of the triad that is being formed with us."""
        return bool(self.hard.pending_triad) and triad_id == self.hard.pending_triad
