"""Rounds: a master's Appends, their answers, and when it may serve (rules 2, 5, 12, 14, 15, 20).

An Append is heartbeat, replication and round in one, numbered by *round*. Its answer says four
things, kept apart:

* **lease** (rule 2): an answer that promises extends the lease to the *send* of that round +
  min(own TO, promise), shrunk by the clocks' rates. Counted from the send, never from the answer:
  the promise began at the receipt.
* **match** (rule 5): the log is durable there up to an index. Kept per boot: another process may
  have lost it.
* **commit** (rule 5): durable at two servers *and* an entry of the master's own term at or after it
  is. An entry of an older term that two servers hold may still be overwritten (Raft, figure 8); one
  below a committed entry of the own term cannot. Until ``TermStarted`` is committed and applied the
  master answers no client at all.
* **confirmed round** (rule 15): a peer heard us in this term, after the round was asked for. No
  newer master had been elected with that peer's vote then, so nothing that a newer one may have
  done can contradict an answer that waited for it.

**Rule 12, one-way cuts.** An Append echoes the last acknowledgement received from that peer. A
voter whose acknowledgement of two heartbeats ago is still not covered answers *without*
promising: its words do not arrive, so its promise would bind it for nothing. Compared by order, so
one lost answer does no harm; such answers count for everything but the lease, and the master
answers one with an Append at once (at most every ``HURRY_S``), so that the echo gets through.

**Rule 14.** ``may_serve`` is the one predicate; its clauses can be taken out by mutation tests.
**Rule 20.** Entries leave to the peers before the own commit to disk (``end_turn`` sends before it
persists), and the master counts itself only after.

Shown by ``tests/test_quorum_rounds.py`` and the mutants ``no_own_term_entry``, ``quorum_of_one``,
``match_survives_boot``, ``lease_from_receipt``, ``renew_without_round``.
"""

from __future__ import annotations

import math
from collections import deque

from flexcore import timing
from flexcore.identity import Endpoint, Last, Rank
from flexcore.ledger import LedgerCorrupt
from flexcore.ledger.commands import Command
from flexcore.override import override
from flexcore.quorum.base import Role
from flexcore.quorum.events import StartServing, StopServing
from flexcore.quorum.links import Link, Peer, same_process
from flexcore.quorum.promises import Promises
from flexcore.wire.codec import encode_command
from flexcore.wire.messages import Append, AppendReply, EntryRow, PeerFrame

MAX_APPEND_BYTES = 256 * 1024
MAX_UNACKED_ENTRIES = 65_536
"""Entries sent to a peer and not acknowledged; beyond it the master waits for answers."""
MAX_ROUNDS_IN_FLIGHT = 4096
"""Rounds whose answers may still extend the lease; the oldest is forgotten, which can only shorten
it."""
DEAF_INTERVALS = 1.75
"""After so many s without its echo an acknowledgement counts as not heard: the second heartbeat
after it shows that, and a round trip of most of s does no harm."""
HURRY_S = 0.05
"""At most one Append at once to a peer that answered without a promise in this time (rule 12)."""
SNAPSHOT_ENTRIES = 32_768
"""Committed entries after which the log is folded into a snapshot; up to eight times that while a
peer lags."""


class Rounds(Promises):
    """Replication by the master, acknowledgement by the others."""

    def _init_rounds(self) -> None:
        self.lease_until = -math.inf
        self.started_index = 0
        self.serving = False
        self.released_term = 0
        self.round = 0
        self.confirmed_round = 0
        self._round_wanted = False
        self._in_doubt_until_round: int | None = None
        self._agreed = 0
        self._acks: deque[tuple[int, float]] = deque()
        self._acked_master: tuple[Endpoint, int] | None = None
        self._more = False

    @override
    def _lease_end(self) -> float:
        return self.lease_until

    # --- serving (rule 14) ------------------------------------------------------------------------

    def may_serve(self, now: float) -> bool:
        """Rule 14: master, member, not released, lease in force, own term's first entry
        committed."""
        return (
            self.role is Role.MASTER
            and self.hard.member
            and not self._released()
            and self._lease_in_force(now)
            and self._own_term_committed()
            and self.halted is None
        )

    def may_answer(self, now: float) -> bool:
        """Whether clients may be answered: serving, and no higher term was shown that no round has
        settled (rule 15)."""
        return self.may_serve(now) and self._in_doubt_until_round is None

    def _released(self) -> bool:
        return self.released_term >= self.hard.term

    def _lease_in_force(self, now: float) -> bool:
        return now < self.lease_until

    def _own_term_committed(self) -> bool:
        return self.ledger.commit >= self.started_index

    def note_term_seen(self, term: int, now: float) -> None:
        """A client showed a higher term: answer nobody until a round confirms that we are still
        master (rule 15)."""
        if self.role is Role.MASTER and term > self.hard.term:
            self.distrust(now)

    def distrust(self, now: float) -> None:
        """Doubt the lease until one round trip confirms it (rules 15 and 23)."""
        if self.role is Role.MASTER:
            self._in_doubt_until_round = self.request_round(now)
            self._settle_doubt()

    def _settle_doubt(self) -> None:
        if (
            self._in_doubt_until_round is not None
            and self.confirmed_round >= self._in_doubt_until_round
        ):
            self._in_doubt_until_round = None

    # --- proposing --------------------------------------------------------------------------------

    def propose(self, command: Command, *, now: float, wall: float) -> int:
        """Append *command* as master and return its index; it is sent and persisted at the end of
        the turn."""
        assert self.role is Role.MASTER
        ledger = self.ledger
        stamp = ledger.state.stamp
        if wall > stamp:
            stamp = wall
        index = ledger.append(self.hard.term, stamp, encode_command(command), command)
        if self._dirty_from is None:
            self._dirty_from = index
        return index

    def request_round(self, now: float) -> int:
        """The number of the next round, which will be sent at or after *now*: at the end of this
        turn."""
        if not self.config.triad:
            return self.confirmed_round
        self._round_wanted = True
        return self.round + 1

    # --- the end of a turn ------------------------------------------------------------------------

    def _send_appends(self, now: float) -> None:
        """One Append a peer: where there are entries, where a round is wanted, where the heartbeat
        is due."""
        wanted = self._round_wanted
        self._round_wanted = False
        self._more = False
        due = [
            peer
            for peer in self._linked()
            if wanted or now >= peer.beat_at or self._has_rows_for(peer)
        ]
        if not due and not wanted:
            return
        self.round += 1
        for peer in due:
            self._append_to(peer, now)

    def _has_rows_for(self, peer: Peer) -> bool:
        """Rows that are in the snapshot by now are not sent: the heartbeat says that they have to be
        pulled. (With every turn it said so without end to a peer that does not listen.)"""
        return (
            self.ledger.base.index < peer.next <= self.ledger.last.index
            and peer.next - peer.match <= MAX_UNACKED_ENTRIES
        )

    def _beat_every_s(self, peer: Peer) -> float:
        """s; but the peer's s where its file names a shorter one: its promises are as short (rule 2), and a lease
        that is over before the next heartbeat would end a healthy reign every few seconds."""
        own = self.config.interval_s
        return own if peer.hello is None else min(own, (peer.hello.timeout_s + 1.0) / 4.0)

    def _append_to(self, peer: Peer, now: float) -> None:
        ledger = self.ledger
        rows: tuple[EntryRow, ...] = ()
        pull = peer.next <= ledger.base.index
        if pull:
            prev = ledger.last
        else:
            before = ledger.prev_of(peer.next)
            assert before is not None
            prev = before
            if self._has_rows_for(peer):
                rows = ledger.rows(peer.next, MAX_APPEND_BYTES)
            peer.next += len(rows)
            self._more = self._more or self._has_rows_for(peer)
        body = Append(
            self.round,
            prev,
            rows,
            ledger.commit,
            self.durable_index,
            self.wall,
            peer.acked_round,
            pull,
        )
        peer.beat_at = now + self._beat_every_s(peer)
        if len(peer.inflight) >= MAX_ROUNDS_IN_FLIGHT:
            del peer.inflight[: MAX_ROUNDS_IN_FLIGHT // 2]
        peer.inflight.append((self.round, now))
        self._send(peer, body, gate=self._hard_gate)

    # --- answers, at the master -------------------------------------------------------------------

    def _on_append_reply(self, peer: Peer, frame: PeerFrame, body: AppendReply, now: float) -> None:
        if self.role is not Role.MASTER or frame.term != self.hard.term:
            return
        sent_at = self._take_round(peer, body.round)
        peer.acked_round = max(peer.acked_round, body.round)
        peer.acked_at = now
        peer.clock_gap = body.wall - now
        if sent_at is not None:
            self._measure(peer, now - sent_at)
        if body.ok:
            peer.match = max(peer.match, min(body.match, self.ledger.last.index))
            peer.next = max(peer.next, peer.match + 1)
            self._remember(peer, Last(self.ledger.term_at(peer.match) or 0, peer.match))
        elif peer.next > body.match + 1:
            peer.next = max(body.match + 1, 1)
            if peer.next <= self.ledger.base.index:
                peer.beat_at = now  # once, at once: pull
        self._confirm(body.round)
        if body.promise_s > 0 and sent_at is not None and not self._released():
            self._extend_lease(sent_at, body.promise_s)
        elif body.promise_s <= 0 and now - peer.hurried_at >= HURRY_S:
            peer.hurried_at = now
            peer.beat_at = now
        self._note_health(peer, body, now)
        self._advance_commit(now)

    def _note_health(self, peer: Peer, body: AppendReply, now: float) -> None:
        """For PRIMARY_IS_MASTER: since when this peer has been acknowledging, promising and caught
        up (rule 11)."""
        healthy = body.ok and body.promise_s > 0 and peer.match >= self.ledger.commit
        if not body.ok:
            peer.good_since = None
        elif healthy and peer.good_since is None:
            peer.good_since = now

    def _take_round(self, peer: Peer, number: int) -> float | None:
        """When the round that this answer answers was sent."""
        sent_at = None
        keep = 0
        for keep, (each, at) in enumerate(peer.inflight):  # noqa: B007  (wanted after the loop)
            if each >= number:
                sent_at = at if each == number else None
                break
        else:
            keep = len(peer.inflight)
        del peer.inflight[:keep]
        return sent_at

    def _confirm(self, number: int) -> None:
        self.confirmed_round = max(self.confirmed_round, number)
        self._settle_doubt()

    def _extend_lease(self, sent_at: float, promise_s: float) -> None:
        """Rule 2: from the send, the smaller of both lengths, shrunk by the clocks' rates."""
        until = sent_at + timing.shrunk_s(min(self.config.timeout_s, promise_s))
        if until > self.lease_until:
            self.lease_until = until
            self._promise_self(until)

    def _advance_commit(self, now: float) -> None:
        """Rule 5: durable at two, and an entry of the own term at or after it."""
        if self.role is not Role.MASTER:
            return
        index = self._held_by_quorum()
        if index >= self._commit_floor() and index > self.ledger.commit:
            self.ledger.commit_to(index)
            self._note_formed()
        if not self.serving and self.may_serve(now):
            self.serving = True
            self._emit(StartServing(term=self.hard.term))

    def _held_by_quorum(self) -> int:
        """The highest index that a majority holds durably: the second highest of three (the only
        one of one)."""
        held = sorted(
            [self.durable_index, *(peer.match for peer in self.peers.values())], reverse=True
        )
        return held[len(held) // 2]

    def _commit_floor(self) -> int:
        return self.started_index

    def _note_formed(self) -> None:
        raise NotImplementedError

    def _step_down(self, reason: str, now: float, *, successor: Rank | None = None) -> None:
        """Stop serving and claiming (rule 12): from here on this server is a follower of nobody."""
        if self.role is Role.MASTER:
            self._end_own_promise(now)
            self.lease_until = -math.inf
            self._in_doubt_until_round = None
            if self.serving:
                self.serving = False
                self._emit(StopServing(reason=reason, successor=successor))
        elif self.role is Role.CANDIDATE:
            self._end_own_promise(now)
        self.role = Role.FOLLOWER

    # --- Appends, at the others -------------------------------------------------------------------

    def _on_append(self, link: Link, frame: PeerFrame, body: Append, now: float) -> None:
        """The dispatcher has dropped lower terms, and raised ours to a higher one."""
        assert frame.term == self.hard.term
        assert self.role is not Role.MASTER
        if not same_process(self.master, frame.sender):
            self._new_master(frame.sender, now)
        peer = self.peers[link.peer]
        self._uncovered(frame, body, now)
        ok, match = self._take_rows(body, peer)
        promise_s = self._renewal(frame, now)
        if ok:
            self._agreed = max(self._agreed, match)
            self._remember(peer, self._peer_durable(body, match))
            if min(body.commit, self._agreed) > self.ledger.commit:
                self.ledger.commit_to(min(body.commit, self._agreed))
                self._note_formed()
        elif body.pull:
            self._follow_pull(peer, now)
        if body.entries:
            reply, gate = (
                AppendReply(ok, body.round, match, promise_s, self.wall),
                max(self._log_gate(), self._hard_gate),
            )
        else:
            durable = min(match, self.durable_index) if ok else match
            reply, gate = (
                AppendReply(ok, body.round, durable, promise_s, self.wall),
                self._hard_gate,
            )
        self._acks_sent(body.round, now)
        self._post(link.number, frame.sender, reply, gate=gate)

    def _new_master(self, endpoint: Endpoint, now: float) -> None:
        self.master = endpoint
        self._agreed = self.ledger.commit
        self._acks.clear()
        self.role = Role.FOLLOWER
        self._forget_refusals()
        self._notice("master", "its entries are followed", Rank(endpoint.rank))

    def _peer_durable(self, body: Append, match: int) -> Last:
        """What the master has durable, as far as the logs agree: our own tail says nothing about
        its log."""
        index = min(body.durable, match)
        return Last(self.ledger.term_at(index) or 0, index)

    def _renewal(self, frame: PeerFrame, now: float) -> float:
        """The promise that goes with this acknowledgement: its length, or 0 where none is made."""
        peer = self.peers[Rank(frame.sender.rank)]
        slow = self._disk_slow(now, self.config.persist_slow_s)
        if slow or peer.twice or self._deaf(now) or not self._may_promise(frame.term, now):
            return 0.0
        return self._promise(frame.sender, now)

    def _uncovered(self, frame: PeerFrame, body: Append, now: float) -> None:
        """Forget the acknowledgements that the master has received, by its own echo."""
        key = (frame.sender, frame.term)
        if self._acked_master != key:
            self._acked_master = key
            self._acks.clear()
        while self._acks and self._acks[0][0] <= body.last_ack_from_you:
            self._acks.popleft()

    def _acks_sent(self, number: int, now: float) -> None:
        if len(self._acks) < MAX_ROUNDS_IN_FLIGHT:
            self._acks.append((number, now))

    def _deaf(self, now: float) -> bool:
        """Rule 12: an acknowledgement of two heartbeats ago is still not covered: the master does
        not hear us.

        Heartbeats come s apart, so "more than 2*s" would leave it to chance whether the third one
        binds us.
        """
        return bool(self._acks) and now - self._acks[0][1] > DEAF_INTERVALS * self.config.interval_s

    def _take_rows(self, body: Append, peer: Peer) -> tuple[bool, int]:
        """Log matching (Raft 5.3). Returns (ok, the index up to which we agree, or where the master
        should look next)."""
        ledger = self.ledger
        prev = body.prev
        held = ledger.term_at(prev.index)
        if prev.index > ledger.last.index:
            return False, ledger.last.index
        if prev.index < ledger.base.index:
            skip = ledger.base.index - prev.index
            if len(body.entries) < skip:
                return True, ledger.commit  # all of it is in our snapshot, which is committed
            rows, at = body.entries[skip:], ledger.base.index
        elif held != prev.term:
            if prev.index <= ledger.commit:
                raise LedgerCorrupt(
                    f"entry {prev.index} is committed, and the master has another one"
                )
            return False, self._before_term(prev.index)
        else:
            rows, at = body.entries, prev.index
        self._merge_rows(at, rows)
        return True, at + len(rows)

    def _before_term(self, index: int) -> int:
        """The last index before the term that our entry *index* is of: none of that term need be
        tried one by one."""
        ledger = self.ledger
        held = ledger.term_at(index)
        index -= 1
        while index > ledger.commit and ledger.term_at(index) == held:
            index -= 1
        return index

    def _merge_rows(self, at: int, rows: tuple[EntryRow, ...]) -> None:
        """Put *rows* after index *at*; what conflicts there was never committed and goes."""
        for row in rows:
            at += 1
            held = self.ledger.term_at(at)
            if held == row.term or at <= self.ledger.base.index:
                continue
            if held is not None:
                self._truncate_log(at)
            self.ledger.append(row.term, row.stamp, row.payload)
            self._touch_log(at)

    def _follow_pull(self, peer: Peer, now: float) -> None:
        raise NotImplementedError

    # --- folding the log --------------------------------------------------------------------------

    def _fold_log(self) -> None:
        """Make a snapshot where the log has grown; wait (to eight times as long) for a peer that is
        catching up."""
        ledger = self.ledger
        grown = ledger.commit - ledger.base.index
        if grown < SNAPSHOT_ENTRIES or self._outstanding_since is not None or self._dirty_replace:
            return
        lagging = self.role is Role.MASTER and any(
            peer.match < ledger.commit - SNAPSHOT_ENTRIES // 2 for peer in self._linked()
        )
        if lagging and grown < 8 * SNAPSHOT_ENTRIES:
            return
        if self.durable_index < ledger.commit:
            return
        self.snapshot = ledger.make_snapshot()
        ledger.compact(self.snapshot.last.index)
        self._dirty_snapshot = True
