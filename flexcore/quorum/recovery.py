"""Recovering and forming: servers without state, triads without members (protocol.md rules 7, 8, 9, 19).

**Rule 8.** A server that lost its state (or shows less than a peer remembers of it) may have voted, promised and
acknowledged anything. It is no member: it does not vote, promise or acknowledge until it has the log again. It asks both
others, by nonce, and is done (a) when a *serving* master answers and says that the third server acknowledged in that term a
round sent after the question arrived, and the log is copied up to the last entry that the master had appended then; or (b)
when both others, members, answered, and the newest log is copied.

Why (a) needs the third server: the master's own belief that it serves may be old; an acknowledgement of the third server
after the question proves that no other master had been elected by then with that server's vote, and the only other vote is
the lost one. Why the copied log then holds every acknowledged entry: each was durable at two of three; if one of these was
the lost disk, the other is the master of (a), or one of the two asked in (b).

After either, the vote of the highest term heard is SPENT. The lost state may have promised. After (b) it may have promised
anybody: no promise is given, but by an Append of a higher term, until the longest TO heard of has passed since boot; that
wait is durable. After (a) it is enough to be *bound to the master of (a)* for the longest TO, and here we depart from
protocol.md, which waits in both cases: only the primary and the secondary can serve. The third server acknowledged the
master's term after our question, so if it ever served on a promise of ours, that is over (it stepped down), and if it had
stood in a later term with our lost vote, it could not have acknowledged this one. So the only process that may still count
on a promise of ours is the master of (a); being bound to it is what the lost state was at most, and rule 6 frees us from it
by evidence as from any promise. Without this a triad could not fail over in the first TO after its third server had joined.

**Rule 9.** Blank servers form a triad after TO + L (the longest that any licence file may set: the interval is not signed)
from the later boot, or at once on the administrator's word. The proposal is a vote: it carries a fresh ``triad_id``, which
binds only when ``Formed`` is committed. Whoever holds no more than an uncommitted ``Formed`` counts as blank. A member that
is left alone forms anew with a blank server, on its own log, after the same wait.

Two servers of different committed triads are not peers. The one that stops is the one that hears another id from a serving
master, or from both others. Nothing is merged, nothing is overwritten.

**Rule 19, membership.** Who the three are (vendor and hostids, in order) is compared at the greeting; with a difference the
other is no peer, and both logs name it. One hostid changed against the state: that member joins as recovering.

Shown by ``tests/test_quorum_rules.py`` and the mutants ``recovery_without_wait``, ``vote_not_spent``,
``recovery_without_third``, ``forming_without_wait``.
"""

from __future__ import annotations

import attrs

from flexcore import timing
from flexcore.identity import Endpoint, Rank
from flexcore.ledger import Ledger
from flexcore.ledger.commands import Formed
from flexcore.override import override
from flexcore.quorum.base import Role
from flexcore.quorum.catchup import PullState
from flexcore.quorum.config import SPENT
from flexcore.quorum.handover import Handover
from flexcore.quorum.links import Link, Peer
from flexcore.wire.messages import (
    FormPropose,
    FormReply,
    Hello,
    PeerFrame,
    Recover,
    RecoverReply,
    Seen,
)

LONGEST_TIMEOUT_S = timing.timeout_s(timing.INTERVAL_MAX_S)
"""The longest TO that a licence file may set: HEARTBEAT_INTERVAL=120, which is not signed."""
RECOVER_EVERY_S = 1.0
FORM_EVERY_S = 0.5
FORM_PATIENCE_S = 1.0
"""How long after its start a server lets a third one answer before it forms a triad without it."""
LOOK_AGAIN_S = 0.05


@attrs.define(kw_only=True)
class RecoverAsk:
    """A recovering server's question that waits for the third server (rule 8a), at the master."""

    link: int
    to: Endpoint
    nonce: bytes
    term: int
    round: int
    third: Rank


class Recovery(Handover):
    """Becoming a member."""

    def _init_recovery(self, now: float) -> None:
        self.recover_nonce = b""
        self.recover_at = now
        self.recover_answers: dict[int, tuple[RecoverReply, int]] = {}
        self.recover_goal: tuple[Rank, int, Endpoint | None] | None = None
        self.longest_heard_s = self.config.timeout_s
        self.asks: list[RecoverAsk] = []
        self.form_at = now
        self.form_round = 0
        self.form_sent_at = now
        self.form_with: Rank | None = None
        self._said: set[str] = set()
        self._copied_to_form = False
        self._member_seen = False
        """A member has answered since our start: --first-start is ignored (rule 9)."""
        self.first_start = self.config.first_start and not self.hard.triad_id
        if self.config.first_start and not self.first_start:
            self._notice(
                "first_start_ignored",
                "--first-start is ignored: this server has state; it joins the triad it was in",
            )
        self._check_membership()

    def _check_membership(self) -> None:
        """Rule 19: one hostid changed against the state is a change of one member; more is another triad."""
        stored, own = self.hard.hostids, self.config.hostids
        if not self.hard.member or not stored or stored == own:
            return
        changed = [rank for rank in Rank if stored[rank : rank + 1] != own[rank : rank + 1]]
        if len(changed) > 1 or len(stored) != len(own):
            self._halt(
                1,
                "the licence file names other servers than the state: "
                f"{', '.join(own)} against {', '.join(stored)}; more than one hostid changed",
            )
            return
        if changed[0] is self.rank:
            self.hard.member = False
            self._notice(
                "recovering",
                "this server's hostid is new in the licence file: it joins as a new member",
            )
        else:
            self.hard.peer_seen.pop(int(changed[0]), None)
        self.hard.hostids = own
        self._touch_hard()

    def _say_once(self, key: str, kind: str, text: str, peer: Rank | None = None) -> None:
        if key not in self._said and len(self._said) < 256:
            self._said.add(key)
            self._notice(kind, text, peer)

    # --- judging a greeting ------------------------------------------------------------------------------------------

    @override
    def _judge_hello(self, peer: Peer, hello: Hello, now: float) -> None:
        """Is it a peer, does it remember more of us than we have, does it belong to another triad?"""
        self.longest_heard_s = max(self.longest_heard_s, hello.timeout_s, hello.longest_timeout_s)
        foreign = self._other_membership(peer, hello) or self._other_triad(peer, hello, now)
        if foreign and peer.out is not None:
            self._notice("lost", "it is not of this triad", peer.rank)
            peer.out = None
        peer.foreign = foreign
        if foreign:
            return
        if hello.rights_digest != self.config.rights_digest:
            self._say_once(
                f"rights {hello.rights_digest.hex()}",
                "rights",
                f"{peer.rank.word}'s licence file has other signed lines than this server's",
                peer.rank,
            )
        self._member_seen = self._member_seen or hello.member
        if self.first_start and hello.member:
            self.first_start = False
            self._notice(
                "first_start_ignored",
                f"--first-start is ignored: {peer.rank.word} is a member; this server joins its triad",
                peer.rank,
            )
        seen = hello.seen_of_you
        if (
            seen is not None
            and self.hard.member
            and self._shows_less_than(seen)
        ):
            self._become_recovering(peer, now)
        if not self.hard.member and hello.member and not self.hard.pending_triad:
            self.recover_at = min(self.recover_at, now)

    def _shows_less_than(self, seen: Seen) -> bool:
        """Rule 7: our counter or our last entry is less than what a peer remembers of us."""
        if seen.boot.boot_id == self.boot_id:
            return False
        return seen.boot.counter >= self.hard.counter or seen.last > self.ledger.last

    def _become_recovering(self, peer: Peer, now: float) -> None:
        self._notice(
            "recovering",
            f"{peer.rank.word} remembers more of this server than its state holds",
            peer.rank,
        )
        self._end_reign("its state is not complete", now, None)
        self._candidacy_over(now)
        self.hard.member = False
        self._touch_hard()
        self.recover_at = now

    def _other_membership(self, peer: Peer, hello: Hello) -> bool:
        mine = self.config.hostids
        if hello.vendor != self.config.vendor:
            self._say_once(
                f"vendor {peer.rank}",
                "membership",
                f"it serves vendor {hello.vendor!r}, not {self.config.vendor!r}",
                peer.rank,
            )
            return True
        if hello.membership_digest == self.config.membership_digest:
            return False
        differing = [
            Rank(i).word
            for i, (a, b) in enumerate(zip(mine, hello.hostids, strict=False))
            if a != b
        ]
        self._say_once(
            f"membership {peer.rank} {hello.membership_digest.hex()}",
            "membership",
            f"its licence file names other hostids for {', '.join(differing) or 'its servers'}: not a peer until they agree",
            peer.rank,
        )
        return True

    def _other_triad(self, peer: Peer, hello: Hello, now: float) -> bool:
        """Rule 9: another committed triad_id. Whoever hears it from a serving master, or from both others, stops."""
        if not (
            self.hard.member
            and hello.committed_triad
            and hello.committed_triad != self.hard.triad_id
        ):
            return False
        text = f"{peer.rank.word} belongs to another forming of this triad ({hello.committed_triad.hex()[:8]}, ours {self.hard.triad_id.hex()[:8]})"
        self._say_once(
            f"triad {peer.rank} {hello.committed_triad.hex()}", "membership", text, peer.rank
        )
        others = {
            each.hello.committed_triad
            for each in self.peers.values()
            if each.hello is not None and each.hello.committed_triad
        }
        both = (
            len(self.peers) == 2
            and len(others) == 1
            and all(each.hello is not None for each in self.peers.values())
        )
        if hello.serving or (both and self.hard.triad_id not in others):
            self._end_reign("the triad was formed anew without this server", now, None)
            if self._never_served():
                self._give_up_triad(peer, now)
                return False
            self._halt(
                1,
                "the triad was formed anew without this server: its state is of the old one and nothing of it is merged; "
                "delete its state folder and start it again to join",
            )
        return True

    def _never_served(self) -> bool:
        """No client ever had anything of this triad: giving it up loses nothing."""
        state = self.ledger.state
        return (
            not state.sessions
            and not state.ended
            and state.next_handle == 1
            and self.ledger.base.index == 0
        )

    def _give_up_triad(self, peer: Peer, now: float) -> None:
        """Rule 9 says so of an uncommitted Formed; a committed one under which nobody was ever served is no different.

        The schedule: P and S form, P stops before S knows it to be committed; S, blank to the letter, forms anew with T;
        P comes back with a triad of its own that nobody has used.
        """
        self._notice(
            "recovering",
            "the triad it formed was never used; it joins the one that serves",
            peer.rank,
        )
        self._candidacy_over(now)
        self.hard.member = False
        self.hard.triad_id = self.hard.pending_triad = b""
        self._forget_log()
        self._touch_hard()
        self.recover_at = now

    # --- recovering (rule 8), the asking side ------------------------------------------------------------------------

    @property
    def recovering(self) -> bool:
        return self.config.triad and not self.hard.member

    def _recover_due(self, now: float) -> None:
        """Ask both others, again every second, while not a member."""
        if not self.recovering or now < self.recover_at or self.halted is not None:
            return
        self.recover_at = now + RECOVER_EVERY_S
        if self.pull is not None and now - self.pull.asked_at > RECOVER_EVERY_S:
            self.pull = None
        if self.pull is not None:
            return
        if not self.recover_nonce:
            self.recover_nonce = self._fresh_nonce()
        for peer in self._linked():
            self._send(peer, Recover(self.recover_nonce), gate=self._hard_gate)

    def _on_recover_reply(
        self, peer: Peer, frame: PeerFrame, body: RecoverReply, now: float
    ) -> None:
        if not self.recovering or body.nonce != self.recover_nonce:
            return
        self.longest_heard_s = max(self.longest_heard_s, body.longest_timeout_s)
        self.recover_answers[int(peer.rank)] = (body, frame.term)
        if self.pull is not None or not body.member:
            return
        if body.serving and self._third_confirmed(body):
            self.recover_goal = (peer.rank, body.last.index, frame.sender)
            self._start_pull(peer, "recover", 1, body.last.index, now)
        elif self._both_members_answered():
            newest = max(self.recover_answers.items(), key=lambda item: (item[1][0].last, -item[0]))
            rank = Rank(newest[0])
            self.recover_goal = (rank, newest[1][0].last.index, None)
            if self.peers[rank].out is not None:
                self._start_pull(self.peers[rank], "recover", 1, newest[1][0].last.index, now)

    def _third_confirmed(self, body: RecoverReply) -> bool:
        return body.confirmed

    def _both_members_answered(self) -> bool:
        answers = [body for body, _ in self.recover_answers.values()]
        return (
            len(answers) == 2
            and all(body.member and not body.serving for body in answers)
            and len({body.committed_triad for body in answers}) == 1
        )

    @override
    def _recovery_pulled(self, pull: PullState, now: float) -> None:
        """The log is here: a member again, with the waits of rule 8."""
        goal = self.recover_goal
        if not self.recovering or (goal is None and pull.purpose == "recover"):
            return
        snapshot = pull.snapshot
        ledger = Ledger(snapshot, pull.rows)
        if pull.purpose == "form":
            self._replace_log(ledger, snapshot)
            if ledger.last.term > self.hard.term:
                self._raise_term(ledger.last.term)
            self._copied_to_form = True
            return
        assert goal is not None
        if ledger.last.index < goal[1]:
            return
        self._replace_log(ledger, snapshot)
        triads = [
            body.committed_triad
            for body, _ in self.recover_answers.values()
            if body.committed_triad
        ]
        if not triads:
            return
        self.hard.triad_id = self.recover_answers[int(goal[0])][0].committed_triad or triads[0]
        self.hard.pending_triad = b""
        self._spend_vote(
            max(
                [
                    ledger.last.term,
                    self.hard.term,
                    *(term for _, term in self.recover_answers.values()),
                ]
            )
        )
        self.recovered_term = self.hard.term
        self._bind_after_recovery(goal[2], now)
        self._become_member(now)
        self._notice(
            "recovered", f"copied {ledger.last.index} entries from {pull.peer.word}", pull.peer
        )

    def _spend_vote(self, term: int) -> None:
        """Rule 8: a vote of this term may have been given by the state that was lost."""
        self.hard.term = term
        self.hard.voted_for = SPENT
        self._touch_hard()

    def _bind_after_recovery(self, master: Endpoint | None, now: float) -> None:
        """Rule 8: what the lost state may have promised. (a): bind ourselves to that master; (b): wait."""
        longest = max(self.longest_heard_s, self.ledger.state.longest_timeout_s)
        self._touch_hard()
        if master is not None:
            self.hard.promised_to = master
            self.hard.promise_len_s = longest
            self.promise_until = now + longest
            self.promise_void = False
            return
        # A promise that we do know of stays: it may be of a moment ago, and the wait counts from boot.
        self.no_promise_before = max(self.no_promise_before, self.boot_at + longest)
        if self.no_promise_before > now:
            self.hard.no_promise_s = longest

    def _wait_over(self, now: float) -> None:
        if self.hard.no_promise_s > 0 and now >= self.no_promise_before and self.hard.member:
            self.hard.no_promise_s = 0.0
            self._touch_hard()

    def _become_member(self, now: float) -> None:
        self.hard.counter = max(self.hard.counter, self._remembered_counter()) + (
            0 if self._counter_is_fresh() else 1
        )
        self.hard.member = True
        self.hard.hostids = self.config.hostids
        self.recover_nonce = b""
        self.recover_answers.clear()
        self.recover_goal = None
        self._touch_hard()
        self._greet_again(now)

    def _remembered_counter(self) -> int:
        """The highest counter that any answer remembers of this server."""
        seen = [each.hello.seen_of_you for each in self.peers.values() if each.hello is not None]
        seen += [body.seen_of_you for body, _ in self.recover_answers.values()]
        return max(
            [
                0,
                *(
                    each.boot.counter
                    for each in seen
                    if each is not None and each.boot.boot_id != self.boot_id
                ),
            ]
        )

    def _counter_is_fresh(self) -> bool:
        return self.hard.counter > self._remembered_counter()

    # --- recovering, the answering side ------------------------------------------------------------------------------

    def _on_recover(self, link: Link, frame: PeerFrame, body: Recover, now: float) -> None:
        """A serving master answers when the third server has acknowledged a round sent after the question came."""
        third = next(rank for rank in self.peer_ranks if rank is not link.peer)
        if self.may_serve(now):
            key = (link.number, body.nonce, self.hard.term)
            if any((ask.link, ask.nonce, ask.term) == key for ask in self.asks):
                return  # asked again while the third server's answer is on its way: that answer will do
            self.asks = [ask for ask in self.asks if ask.to.rank != frame.sender.rank]
            self.asks.append(
                RecoverAsk(
                    link=link.number,
                    to=frame.sender,
                    nonce=body.nonce,
                    term=self.hard.term,
                    round=self.request_round(now),
                    third=third,
                )
            )
            return
        self._answer_recover(link.number, frame.sender, body.nonce, serving=False, confirmed=False)

    def _answer_recover(
        self, link: int, to: Endpoint, nonce: bytes, *, serving: bool, confirmed: bool
    ) -> None:
        reply = RecoverReply(
            nonce,
            self.ledger.last,
            serving,
            confirmed,
            max(self.config.timeout_s, self.ledger.state.longest_timeout_s),
            self.hard.peer_seen.get(to.rank),
            self.hard.member,
            self.hard.triad_id if self.hard.member else b"",
        )
        self._post(link, to, reply, gate=self._hard_gate)

    def _settle_asks(self, now: float) -> None:
        """Answer the recovering server whose question the third server's acknowledgement has confirmed."""
        for ask in list(self.asks):
            if ask.term != self.hard.term or not self.may_serve(now) or ask.link not in self.links:
                self.asks.remove(ask)
            elif self.peers[ask.third].acked_round >= ask.round:
                self.asks.remove(ask)
                self._answer_recover(ask.link, ask.to, ask.nonce, serving=True, confirmed=True)

    # --- forming (rule 9) --------------------------------------------------------------------------------------------

    def _forming_wait_s(self) -> float:
        """TO + L, the longest that the signed file allows."""
        return LONGEST_TIMEOUT_S + timing.client_lease_s(LONGEST_TIMEOUT_S)

    @override
    def _forming_in(self) -> float | None:
        """Seconds until this server would form a triad anew with another; None: it is a member with members beside it."""
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
        """Whether this server and *peer* may form: both waited, or the administrator's word where both are blank."""
        hello = peer.hello
        assert hello is not None
        theirs = hello.forming_at_s
        mine = self._forming_in()
        if theirs is None or mine is None or (self.hard.member and hello.member):
            return False
        both_blank = self.blank and hello.only_formed and not hello.member
        if both_blank and not self._member_seen and (self.first_start or hello.first_start):
            return True
        if self._member_in_sight(besides=peer.rank):
            return False
        if self.config.borrow_allowed and not self._all_present():
            return False  # who has borrowed may be known to the third server only
        return max(mine, theirs - (now - peer.hello_at)) <= 0.0

    def _all_present(self) -> bool:
        return all(
            peer.out is not None and peer.hello is not None and not peer.foreign
            for peer in self.peers.values()
        )

    def _third_had_its_chance(self, partner: Peer, now: float) -> bool:
        """--first-start acts where no peer *that answers* is a member: let the third server answer, if it can."""
        third = next(peer for peer in self.peers.values() if peer.rank is not partner.rank)
        return (
            third.out is not None
            or third.foreign
            or third.dial_failed
            or now - self.boot_at >= FORM_PATIENCE_S
        )

    def _member_in_sight(self, besides: Rank | None = None) -> bool:
        return any(
            peer.hello is not None
            and peer.hello.member
            and peer.out is not None
            and peer.rank is not besides
            for peer in self.peers.values()
        )

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
        if partner.hello.member and not self._copied_to_form:
            if self.pull is None:
                self._start_pull(partner, "form", 1, partner.hello.last.index, now)
            return
        self._propose_forming(partner, now)

    def _may_form(self) -> bool:
        """Whether this server is one that may propose: without state, or the only one that has it."""
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
        self.hard.counter = max(
            self.hard.counter,
            self._remembered_counter() + (0 if self._counter_is_fresh() else 1),
            1,
        )
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
        self.denied = set()
        self._notice("forming", f"proposing a new triad to {partner.rank.word}", partner.rank)
        self._send(
            partner,
            FormPropose(
                self.hard.pending_triad, self.ledger.last, self.form_round, self.first_start
            ),
            gate=self._hard_gate,
        )

    def _forget_log(self) -> None:
        """What a server that is no member holds (a Formed that came to nothing, a state that lost its end) counts as nothing."""
        if self.ledger.last.index > 0:
            self._replace_log(Ledger(), None)

    def _highest_known_term(self) -> int:
        return max(
            [0, *(peer.hello.last.term for peer in self.peers.values() if peer.hello is not None)]
        )

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
        self.hard.counter = max(
            self.hard.counter,
            self._remembered_counter() + (0 if self._counter_is_fresh() else 1),
            1,
        )
        self._raise_term(frame.term)
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
        """Formed is known to be committed: the new triad_id binds, and whoever holds it is a member."""
        state = self.ledger.state
        if not self.hard.pending_triad or state.triad_id != self.hard.pending_triad:
            return
        if self.ledger.commit < state.formed_index:
            return
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
