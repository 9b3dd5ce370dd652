"""The quorum machine: events in, actions out; the rules are in the layers below.

The layers, each in its file, from the ground up: :mod:`~flexcore.quorum.base` (durable before
told), :mod:`~flexcore.quorum.links` (who is alive), :mod:`~flexcore.quorum.promises` (to whom we
are bound), :mod:`~flexcore.quorum.rounds` (replication, leases, serving),
:mod:`~flexcore.quorum.catchup`, :mod:`~flexcore.quorum.elections`,
:mod:`~flexcore.quorum.handover`, :mod:`~flexcore.quorum.membership` (who is a peer),
:mod:`~flexcore.quorum.recovery`, :mod:`~flexcore.quorum.forming`, :mod:`~flexcore.quorum.reports`,
:mod:`~flexcore.quorum.rereads` (a licence file that is read anew).
This file turns events into calls of them, and time into the things that are due.
"""

from __future__ import annotations

import math
from typing import assert_never

from flexcore import timing
from flexcore.identity import Rank
from flexcore.ledger import LedgerCorrupt
from flexcore.override import override
from flexcore.quorum.base import Role
from flexcore.quorum.catchup import FORGET_PULL_S
from flexcore.quorum.config import QuorumConfig, StoredState
from flexcore.quorum.events import (
    DialFailed,
    LinkEnded,
    PeerConnected,
    PeerFrameReceived,
    Persisted,
    PersistFailed,
    QuorumEvent,
    StopRequested,
)
from flexcore.quorum.links import BEAT_MASK, MAX_LINKS_PER_PEER, Link, Peer
from flexcore.quorum.rereads import Rereads
from flexcore.quorum.twin import twin_of
from flexcore.wire.messages import (
    Append,
    AppendReply,
    Beat,
    BeatReply,
    FormPropose,
    FormReply,
    Hello,
    PeerFrame,
    PreVote,
    PreVoteReply,
    Pull,
    PullReply,
    Recover,
    RecoverReply,
    Remove,
    RemoveReply,
    Reread,
    RereadReply,
    StopAll,
    StopRelease,
    StopReleaseReply,
    Switch,
    SwitchReply,
    TimeoutNow,
    Vote,
    VoteReply,
)

_FOR_ANY_TRIAD = (
    Hello,
    Recover,
    RecoverReply,
    Pull,
    PullReply,
    FormPropose,
    FormReply,
    Beat,
    BeatReply,
    Reread,
    RereadReply,
    Switch,
    SwitchReply,
)
"""Bodies that a server without the triad's id may say or hear."""


class QuorumMachine(Rereads):
    """One server's mastership and replication: of a triad, or of a single server (a majority of
    one)."""

    def __init__(
        self,
        config: QuorumConfig,
        *,
        stored: StoredState | None,
        boot_id: bytes,
        triad_id: bytes,
        now: float,
        wall: float,
    ) -> None:
        """Start. *boot_id* and *triad_id* are 16 fresh random bytes each.

        Raises:
            StateError: what was stored cannot be used.
            LedgerCorrupt: the stored log makes no sense.
        """
        super().__init__(
            config, stored=stored, boot_id=boot_id, triad_id=triad_id, now=now, wall=wall
        )
        self._init_links()
        self._init_promises(now)
        self._init_rounds()
        self._init_catchup()
        self._init_elections()
        self._init_handover()
        self._init_rereads()
        if self.has_state:
            self.hard.counter += 1  # durable before the first message leaves (rule 7)
            self._touch_hard()
        self._init_membership(now)
        self._init_recovery()
        self._init_forming(now)
        if config.triad and config.detector_off:
            self._notice(
                "detector_off",
                "HEARTBEAT_INTERVAL=0: silence on an open connection starts no election",
            )
        if not config.triad:
            self._start_single(now)

    def _start_single(self, now: float) -> None:
        """One server: a majority of one. Durable, with terms, without elections."""
        if not self.has_state:
            self.hard.counter = 1
            self.hard.pending_triad = self.fresh_triad_id
        self.hard.member = True
        self._raise_term(self.hard.term + 1)
        self.role = Role.MASTER
        self.master = self.me
        self.lease_until = math.inf
        self._begin_term(now)

    # --- entry points -----------------------------------------------------------------------------

    def receive_event(self, event: QuorumEvent, *, now: float, wall: float) -> None:
        """Something happened at *now* (monotonic seconds) and *wall* (epoch seconds)."""
        self._tick(now, wall)
        if self.halted is not None:
            return
        match event:
            case PeerConnected(link=number, peer=rank):
                self._peer_connected(number, rank, now)
            case DialFailed(peer=rank, refused=refused):
                self._dial_failed(rank, refused, now)
            case PeerFrameReceived(link=number, frame=frame):
                self._take_frame(number, frame, now)
            case LinkEnded(link=number):
                self._link_ended(number, now)
            case Persisted(ticket=ticket):
                self._persisted(ticket)
                self._advance_commit(now)
            case PersistFailed(error=error):
                self._disk_dead(error, now)
            case StopRequested():
                self._on_stop_requested(event, now)
            case _:
                assert_never(event)
        self._advance(now)
        self._check(now)

    def handle_timeout(self, *, now: float, wall: float) -> None:
        """Time has passed: do what is due. Early, late or twice is harmless."""
        self._tick(now, wall)
        if self.halted is None:
            self._advance(now)
            self._check(now)

    def end_turn(self, *, now: float, wall: float) -> None:
        """Once a turn of the loop: one Append a peer, then one Persist, with everything that this
        turn decided."""
        self._tick(now, wall)
        if self.halted is not None:
            return
        self._replicate(now)
        self._fold_log()
        while self._issue_persist():  # in memory: what became durable may have consequences, which are of this turn
            self._advance(now)
            self._check(now)
            if not self._is_dirty():
                return
            self._replicate(now)

    def _replicate(self, now: float) -> None:
        if self.role is Role.MASTER and self.config.triad:
            self._send_appends(now)

    @override
    def _tick(self, now: float, wall: float) -> None:
        """Take note of both clocks. Rule 23: wall time that runs ahead of *now* means that we were
        suspended."""
        assert now >= self.now
        gap = wall - now
        suspended = gap - self.clock_gap > self.config.interval_s
        self.clock_gap = gap
        self.now = now
        self.wall = wall
        if suspended and self.config.triad:
            self.distrust(now)

    def _take_frame(self, number: int, frame: PeerFrame, now: float) -> None:
        try:
            self._frame_received(number, frame, now)
        except LedgerCorrupt as error:
            self._end_reign("its ledger makes no sense", now, None)
            self._halt(1, f"what another server sent does not fit this one's ledger: {error}")

    # --- frames -----------------------------------------------------------------------------------

    def _frame_received(self, number: int, frame: PeerFrame, now: float) -> None:
        link = self._link_for(number, frame)
        if link is None:
            return
        body = frame.body
        if isinstance(body, Hello):
            self._on_hello(link, frame, body, now)
            return
        peer = self._heard(link, frame, now)
        if peer is None or not self._same_triad(frame):
            return
        if link.dialled:
            self._reply_received(link, peer, frame, now)
        else:
            self._request_received(link, peer, frame, now)

    def _link_for(self, number: int, frame: PeerFrame) -> Link | None:
        """The link a frame came on; an accepted one becomes known by its first frame, a Hello."""
        link = self.links.get(number)
        if link is not None:
            return link if int(link.peer) == frame.sender.rank else None
        if number in self._dropped or frame.sender.rank not in [int(rank) for rank in self.peers]:
            return None
        rank = Rank(frame.sender.rank)
        if not isinstance(frame.body, Hello) or len(self._links_of(rank)) >= MAX_LINKS_PER_PEER:
            return None
        link = Link(number=number, peer=rank, dialled=False)
        self.links[number] = link
        return link

    def _same_triad(self, frame: PeerFrame) -> bool:
        """Another triad's frames are dropped; those by which a server joins are not (protocol.md
        section 2)."""
        if isinstance(frame.body, _FOR_ANY_TRIAD):
            return True
        if not frame.triad_id:
            return False
        return (self.hard.member and frame.triad_id == self.hard.triad_id) or self._in_forming(
            frame.triad_id
        )

    def _reply_received(self, link: Link, peer: Peer, frame: PeerFrame, now: float) -> None:
        body = frame.body
        teaches = isinstance(body, PreVoteReply | VoteReply | AppendReply | FormReply)
        if teaches and self._reply_teaches(frame):
            self._higher_term_in_reply(peer, frame.term, now)
            return
        match body:
            case PreVoteReply():
                self._on_prevote_reply(peer, body, now)
            case VoteReply():
                self._on_vote_reply(peer, frame, body, now)
            case AppendReply():
                self._on_append_reply(peer, frame, body, now)
            case PullReply():
                self._on_pull_reply(peer, body, now)
            case RecoverReply():
                self._on_recover_reply(peer, frame, body, now)
            case FormReply():
                self._on_form_reply(peer, frame, body, now)
            case BeatReply():
                self._measure(peer, ((int(now * 1000) - body.sent) & BEAT_MASK) / 1000)
            case RereadReply():
                self._on_reread_reply(peer, body)
            case RemoveReply():
                self._on_remove_reply(peer, body)
            case SwitchReply():
                self._on_switch_reply(peer, body)
            case StopReleaseReply():
                self._on_stop_release_reply(peer)
            case _:
                pass  # a request on a link that we dialled is not answered

    def _reply_teaches(self, frame: PeerFrame) -> bool:
        """Rule 1: a reply with a higher term raises one's own."""
        return frame.term > self.hard.term

    def _request_received(self, link: Link, peer: Peer, frame: PeerFrame, now: float) -> None:
        body = frame.body
        match body:
            case Append():
                self._append_received(link, frame, body, now)
            case PreVote():
                self._on_prevote(link, frame, body, now)
            case Vote():
                self._on_vote(link, frame, body, now)
            case Pull():
                self._on_pull(link, frame, body)
            case Beat():
                self._post(link.number, frame.sender, BeatReply(body.sent), gate=self._hard_gate)
            case TimeoutNow():
                self._on_timeout_now(frame, body, now)
            case Recover():
                self._on_recover(link, frame, body, now)
            case FormPropose():
                self._on_form_propose(link, frame, body, now)
            case StopRelease():
                self._on_stop_release(link, frame, body, now)
            case StopAll():
                self._on_stop_all(body, now)
            case Reread():
                self._on_reread(link, body)
            case Remove():
                self._on_remove(link, body)
            case Switch():
                self._on_switch(link, body)
            case _:
                pass  # an answer on a link that we accepted belongs to nothing

    def _append_received(self, link: Link, frame: PeerFrame, body: Append, now: float) -> None:
        """Only members, and those that form with the sender, take Appends (rule 8)."""
        if not (self.hard.member or self._in_forming(frame.triad_id)):
            return
        if frame.term < self.hard.term:
            self._post(
                link.number,
                frame.sender,
                AppendReply(False, body.round, 0, 0.0, self.wall),
                gate=self._hard_gate,
            )
            return
        if not Rank(frame.sender.rank).may_be_master or not self._back_from_forming(frame, now):
            return
        if self.role is Role.MASTER and frame.term == self.hard.term:
            self._end_reign(f"two masters of term {frame.term}", now, None)
            self._halt(
                1, f"two masters of term {frame.term}: a state folder was copied or restored"
            )
            return
        self._step_down(f"{link.peer.word} is master of a newer term", now)
        self._candidacy_over(now)
        if frame.term > self.hard.term:
            self._raise_term(frame.term)
            # What we agreed on with the master of an older term, even the same process, is void.
            self.master = None
        self._on_append(link, frame, body, now)

    # --- time -------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Everything that is due at *now*, in an order in which each step sees what the one before
        did."""
        self._move_rights(now)
        if not self.config.triad:
            self._advance_commit(now)
            self._watch_disk(now)
            self._advance_stop(now)
            return
        self._watch_lease(now)
        self._watch_disk(now)
        self._greetings_due(now)
        self._dial_due(now)
        self._beats_due(now)
        if self.role in (Role.PREVOTE, Role.CANDIDATE) and now >= self.candidacy_until:
            self._candidacy_over(now)
        if self.pull is not None and now - self.pull.asked_at >= FORGET_PULL_S:
            self.pull = None
        self._wait_over(now)
        self._tell_refused(now)
        self._consider_standing(now)
        self._advance_commit(now)
        self._note_reigns(now)
        self._consider_primary(now)
        self._advance_handover(now)
        self._settle_asks(now)
        self._recover_due(now)
        self._form_due(now)
        self._advance_stop(now)

    def _watch_lease(self, now: float) -> None:
        """Rule 12: a master whose lease is over stops serving and claiming; a follower forgets a
        master it is not bound to."""
        if self.role is Role.MASTER and now >= self.lease_until:
            self._notice("lost_quorum", f"no answer from a peer for {self.config.timeout_s:g} s")
            self._step_down("it lost its quorum", now)
            self.master = None
        elif (
            self.role is Role.FOLLOWER
            and self.master is not None
            and (self._promise_is_void() or now >= self.promise_until)
        ):
            gone = Rank(self.master.rank)
            self.master = None
            if not self._detector_holds():
                self._notice("lost", "the master is not heard any more", gone)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` has something to do; None: never, unless something
        happens."""
        if self.halted is not None:
            return None
        return min(self._deadlines(), default=None)

    def _deadlines(self) -> list[float]:
        """Asked for in every turn: a list, since a generator takes twice as long."""
        times = [self.now] if self._more else []
        if self._outstanding_since is not None:
            since = self._outstanding_since
            fatal = timing.persist_fatal_s(self.config.timeout_s)
            times += [
                math.nextafter(since + limit, math.inf)
                for limit in (self.config.persist_slow_s, fatal)
                if since + limit >= self.now
            ]
        if self.stop_until is not None:
            times.append(self.stop_until)
        if not self.config.triad:
            return times
        for peer in self.peers.values():
            if peer.redial_at is not None and not peer.dialling and not self._dialled(peer):
                times.append(peer.redial_at)
            if peer.out is not None and not peer.foreign:
                times.append(peer.beat_at)
        for link in self.links.values():
            if link.dialled and not link.greeted:
                times.append(link.greet_at)
            elif link.dialled and not self.config.detector_off:
                times.append(link.heard_at + self.config.timeout_s)
        self._add_role_deadlines(times)
        if self.pull is not None:
            times.append(self.pull.asked_at + FORGET_PULL_S)
        if self.hard.no_promise_s > 0 and self.hard.member:
            times.append(self.no_promise_before)
        if self.recovering:
            times.append(self.recover_at)
        if self._may_form():
            times.append(self.form_at)
        return times

    def _add_role_deadlines(self, times: list[float]) -> None:
        if self.role is Role.MASTER:
            times.append(self.lease_until)
            if self.successor is not None:
                times.append(self.handover_until)
            at = self._primary_due_at()
            if at is not None:
                times.append(max(at, self.now))
        elif self.role in (Role.PREVOTE, Role.CANDIDATE):
            times.append(self.candidacy_until)
        else:
            if self.promise_until > self.now:
                times.append(self.promise_until)
            at = self._stand_at(self.now)
            if at is not None and self.pull is None:
                times.append(max(at, self.now))

    # --- invariants -------------------------------------------------------------------------------

    def _check(self, now: float) -> None:
        """What must hold after every event (design.md section 5)."""
        assert self.role is Role.FOLLOWER or self.rank.may_be_master or not self.config.triad, (
            "I1: the tertiary is never master"
        )
        assert not self.serving or self.role is Role.MASTER
        assert self.ledger.commit <= self.ledger.last.index
        assert self.durable_index <= self.ledger.last.index
        assert self.ledger.last.term <= self.hard.term
        assert (
            self.role is not Role.MASTER
            or not self.config.triad
            or self.lease_until <= now + self.config.timeout_s
        )

    # --- for others -------------------------------------------------------------------------------

    def copy(self) -> QuorumMachine:
        """A twin that shares nothing that changes: for simulation and exploration."""
        twin: QuorumMachine = twin_of(self)
        return twin
