"""Recovering: a server without state, or with less of it than others remember (rules 7 and 8).

**Rule 8.** A server that lost its state may have voted, promised and acknowledged anything. It is
no member: it does not vote, promise or acknowledge until it has the log again. It asks both others,
by nonce, and is done (a) when a *serving* master answers and says that the third server
acknowledged in that term a round sent after the question arrived, and the log is copied up to the
last entry that the master had appended then; or (b) when both others, members of one triad,
answered, and the newest log is copied.

Why (a) needs the third server: the master's own belief that it serves may be old; an
acknowledgement of the third server after the question proves that no other master had been elected
by then with that server's vote, and the only other vote is the lost one. Why the copied log then
holds every acknowledged entry: each was durable at two of three; if one of these was the lost disk,
the other is the master of (a), or one of the two asked in (b).

After either, the vote of the highest term heard is SPENT. The lost state may have promised. After
(b) it may have promised anybody: no promise is given, but by an Append of a higher term, until the
longest TO heard of has passed since boot; that wait is durable. A promise that is still known is
kept beside it: the boot may be long ago, and the promise of a moment ago.

After (a) it is enough to be *bound to the master of (a)* for the longest TO, and here we depart
from protocol.md, which waits in both cases. Who else could count on what the lost state promised or
voted? Only the primary and the secondary are ever master, so it is the third server or an older
process of the master's machine. The latter is gone. The third server acknowledged the master's term
*after* our question, and so after the loss: had it stood in a later term, with the lost vote or
without, it would not have (a term is durable before its Vote leaves); and if it served in an
earlier one, it has stepped down since. So only that very process may still count on us; being bound
to it is what the lost state was at most, and rule 6 frees us from it by evidence as from any
promise. Without this a triad could not fail over in the first TO after its third server had joined.
The attack that fails:
``tests/test_quorum_recovery.py::test_a_third_that_stood_above_the_master_confirms_nothing``.

Shown by ``tests/test_quorum_recovery.py`` and ``tests/test_quorum_mutants.py``.
"""

from __future__ import annotations

import attrs

from flexcore import timing
from flexcore.identity import Endpoint, Rank
from flexcore.ledger import Ledger
from flexcore.override import override
from flexcore.quorum.catchup import PullState
from flexcore.quorum.config import SPENT
from flexcore.quorum.links import Link, Peer
from flexcore.quorum.membership import Membership
from flexcore.wire.messages import PeerFrame, Recover, RecoverReply

LONGEST_TIMEOUT_S = timing.timeout_s(timing.INTERVAL_MAX_S)
"""The longest TO that a licence file may set: HEARTBEAT_INTERVAL=120, which is not signed."""
RECOVER_EVERY_S = 1.0


@attrs.frozen(kw_only=True)
class RecoverGoal:
    """What has to be copied for recovery to end: the log of *peer* up to *index*."""

    peer: Rank
    index: int
    triad_id: bytes
    master: Endpoint | None
    """The serving, confirmed master of rule 8a; None: both others answered (8b)."""


@attrs.define(kw_only=True)
class RecoverAsk:
    """A recovering server's question that waits for the third server (rule 8a), at the master."""

    link: int
    to: Endpoint
    nonce: bytes
    term: int
    round: int
    third: Rank


class Recovery(Membership):
    """Becoming a member again."""

    def _init_recovery(self) -> None:
        self.recover_nonce = b""
        self.recover_answers: dict[int, tuple[RecoverReply, int]] = {}
        self.recover_goal: RecoverGoal | None = None
        self.asks: list[RecoverAsk] = []
        self._copied_to_form = self._copy_is_old = False

    # --- asking -----------------------------------------------------------------------------------

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
            self._copy_from(peer, body, frame.sender, now)
        elif self._both_members_answered():
            rank, (newest, _) = max(
                self.recover_answers.items(), key=lambda item: (item[1][0].last, -item[0])
            )
            self._copy_from(self.peers[Rank(rank)], newest, None, now)

    def _copy_from(
        self, peer: Peer, answer: RecoverReply, master: Endpoint | None, now: float
    ) -> None:
        """Fetch everything that *peer* had when it gave this answer."""
        index = answer.last.index
        self.recover_goal = RecoverGoal(
            peer=peer.rank, index=index, triad_id=answer.committed_triad, master=master
        )
        if peer.out is not None:
            self._start_pull(peer, "recover", 1, index, now)

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
            self._copied_to_form, self._copy_is_old = True, False
            return
        assert goal is not None
        if ledger.last.index < goal.index:
            return
        self._replace_log(ledger, snapshot)
        self.hard.triad_id = goal.triad_id
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
        self._bind_after_recovery(goal.master, now)
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
        """Rule 8: what the lost state may have promised. (a): bind ourselves to that master; (b):
        wait."""
        longest = max(self.longest_heard_s, self.ledger.state.longest_timeout_s)
        self._touch_hard()
        if master is not None:
            self.hard.promised_to = master
            self.hard.promised_at = self._answered_at(master)
            self.hard.promise_len_s = longest
            self.promise_until = now + longest
            self.promise_void = False
            return
        # A promise that we do know of stays: it may be of a moment ago, and the wait counts from
        # boot.
        self.no_promise_before = max(self.no_promise_before, self.boot_at + longest)
        if self.no_promise_before > now:
            self.hard.no_promise_s = max(self.hard.no_promise_s, longest)
            self.hard.no_promise_term = self.hard.term

    def _wait_over(self, now: float) -> None:
        if self.hard.no_promise_s > 0 and now >= self.no_promise_before and self.hard.member:
            self.hard.no_promise_s = 0.0
            self._touch_hard()

    def _become_member(self, now: float) -> None:
        self._raise_counter()
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

    def _raise_counter(self) -> None:
        """Rule 7: one more than the highest that any answer remembers of this server, if it is not
        more already. The caller makes it durable."""
        self.hard.counter = max(self.hard.counter, self._remembered_counter() + 1)

    # --- answering --------------------------------------------------------------------------------

    def _on_recover(self, link: Link, frame: PeerFrame, body: Recover, now: float) -> None:
        """A serving master answers when the third server has acknowledged a round sent after the
        question came."""
        third = next(rank for rank in self.peer_ranks if rank is not link.peer)
        if self.may_serve(now):
            key = (link.number, body.nonce, self.hard.term)
            if any((ask.link, ask.nonce, ask.term) == key for ask in self.asks):
                return  # asked again while the third server's answer is on its way: that will do
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
        """Answer the recovering server whose question the third server's acknowledgement has
        confirmed."""
        for ask in list(self.asks):
            if ask.term != self.hard.term or not self.may_serve(now) or ask.link not in self.links:
                self.asks.remove(ask)
            elif self.peers[ask.third].acked_round >= ask.round:
                self.asks.remove(ask)
                self._answer_recover(ask.link, ask.to, ask.nonce, serving=True, confirmed=True)

    def _forming_wait_s(self) -> float:
        """How long until nothing that a lost triad granted can be believed in: TO + L, the longest
        that a file may set."""
        return LONGEST_TIMEOUT_S + timing.client_lease_s(LONGEST_TIMEOUT_S)
