"""Hand-over, PRIMARY_IS_MASTER, slow disks, orderly ends (protocol.md rules 10, 11, 20, 22).

**Rule 10.** A *release* says that the lease of one term is over, for one successor. Before it
leaves, the master ends its lease and never serves in that term again (``released_term``), so a
voter that takes it for freedom to vote for that successor cannot help a second master while the
first one serves. It is bound to (term, giver, successor) and void once its target or the voter is
in a higher term: a release that arrives late must not free a promise that was given since. The
master hands over in two steps: it first stops *deciding* (``accepting`` is False; what comes
meanwhile is kept), and when the successor holds every entry it releases. An answer that is committed
and has not left by then is dropped: the client asks again, and is told the same. The
successor stands without a pre-vote. If nobody appears, the old master stands in a new
term.

**Rule 11.** P becomes master again after it has been linked, acknowledging and caught up for one TO
without a break; after a reign of P that ended in failure the wait doubles, up to an hour, and is
forgotten after an hour of good reign.

**Rule 22.** Stop of all three: the master first. It ends its lease and gives each peer a release to
nobody in particular; each stores it durably before it exits, so that the next cold start waits for
nothing. A follower that were released while the old one held its lease could elect a second master:
hence the order.

Shown by ``tests/test_quorum_handover.py`` and the mutants ``serve_after_release``,
``release_of_any_term``.
"""

from __future__ import annotations

import math

from flexcore import timing
from flexcore.identity import Endpoint, Rank
from flexcore.quorum.base import Role
from flexcore.quorum.elections import Elections
from flexcore.quorum.events import StopRequested
from flexcore.quorum.links import Link, Peer, same_process
from flexcore.wire.messages import (
    PeerFrame,
    Release,
    StopAll,
    StopRelease,
    StopReleaseReply,
    TimeoutNow,
)

RELEASE_LEAVES_S = 0.1
"""How long a server that ends without an answer stays for its last frames to leave."""
STOP_PATIENCE_S = 2.0
"""How long a server that stops waits for a successor, or for its peers to store the release."""


class Handover(Elections):
    """Giving mastership away, and ending."""

    def _init_handover(self) -> None:
        self.successor: Rank | None = None
        self.handover_reason = ""
        self.handover_until = -math.inf
        self.stop_scope = ""
        self.stop_until: float | None = None
        self.stop_by = ""
        self._stop_stored: set[int] = set()
        self._stop_sent = False
        self.primary_failures = 0
        self.primary_reign_since: float | None = None
        self._primary_notice = -1
        self.refused_handover_until = -math.inf

    @property
    def accepting(self) -> bool:
        """Whether the master takes new decisions; False while it hands over: requests are kept or
        redirected."""
        return (
            self.role is Role.MASTER
            and self.successor is None
            and not self._released()
            and not self.stopping
        )

    # --- rule 10 ----------------------------------------------------------------------------------

    def _other_candidate(self) -> Peer | None:
        if self.rank is Rank.TERTIARY:
            return None
        return self.peers.get(Rank.SECONDARY if self.rank is Rank.PRIMARY else Rank.PRIMARY)

    def _begin_handover(self, target: Rank, reason: str, now: float) -> None:
        """Stop deciding; the release follows when *target* holds everything."""
        if self.role is not Role.MASTER or self.successor is not None:
            return
        peer = self.peers[target]
        self.successor = target
        self.handover_reason = reason
        self.handover_until = now + timing.candidate_wait_s(peer.round_trip_s)
        self._notice("handover", reason, target)
        self.request_round(now)

    def _advance_handover(self, now: float) -> None:
        if self.successor is None or self.role is not Role.MASTER:
            return
        peer = self.peers[self.successor]
        ready = (
            peer.out is not None
            and peer.boot is not None
            and peer.match == self.ledger.last.index == self.ledger.commit
        )
        if ready and self.may_serve(now):
            self._release_to(peer, now)
        elif now >= self.handover_until:
            self._notice("handover", "given up: the other server is not caught up", self.successor)
            self.refused_handover_until = now + self.config.interval_s
            self.successor = None
            peer.good_since = None

    def _release_to(self, peer: Peer, now: float) -> None:
        """End the lease, for ever in this term; only then may the release leave."""
        assert peer.boot is not None
        release = Release(self.hard.term, self.me, Endpoint(int(peer.rank), peer.boot))
        self._end_reign(f"handed over to {peer.rank.word}: {self.handover_reason}", now, peer.rank)
        self._send(peer, TimeoutNow(release))
        # if nobody appears we stand in a new term, after the successor has had its chance
        self.stand_not_before = now + 2 * timing.candidate_wait_s(peer.round_trip_s)
        self.successor = None

    def _end_reign(self, reason: str, now: float, successor: Rank | None) -> None:
        """The lease of this term is over, and is never taken up again."""
        self._mark_released()
        self._step_down(reason, now, successor=successor)
        self.master = None

    def _mark_released(self) -> None:
        self.released_term = self.hard.term

    def _on_timeout_now(self, frame: PeerFrame, body: TimeoutNow, now: float) -> None:
        """Stand, without a pre-vote: the giver has ended its lease for us."""
        release = body.release
        valid = (
            release.term == self.hard.term
            and same_process(release.to, self.me)
            and same_process(release.giver, frame.sender)
            and self.role is Role.FOLLOWER
            and self.hard.member
            and self.rank.may_be_master
            and not self.stopping
            and self.free_for(self.me, now, release)
            and now >= self.no_promise_before
            and self._has_rights()
        )
        if valid:
            self.primary_reign_since = None  # given, not lost
            self._stand(now, release)

    # --- rule 11 ----------------------------------------------------------------------------------

    def _primary_wait_s(self) -> float:
        """How long P has to be good before it is given mastership."""
        return min(self.config.timeout_s * 2.0**self.primary_failures, timing.PRIMARY_WAIT_MAX_S)

    def _primary_due_at(self) -> float | None:
        """When P gets mastership, if it stays good; None: not in sight."""
        peer = self.peers.get(Rank.PRIMARY)
        wanted = (
            self.role is Role.MASTER
            and self.serving
            and self.rank is Rank.SECONDARY
            and not self.stopping
            and self.successor is None
            and peer is not None
            and peer.hello is not None
            and peer.hello.primary_is_master
            and peer.good_since is not None
            and self._primary_has_rights(peer)
        )
        if not wanted:
            return None
        assert peer is not None
        assert peer.good_since is not None
        return max(peer.good_since + self._primary_wait_s(), self.refused_handover_until)

    def _primary_has_rights(self, peer: Peer) -> bool:
        return peer.hello is not None and peer.hello.rights_digest == self.ledger.state.rights

    def _consider_primary(self, now: float) -> None:
        at = self._primary_due_at()
        if at is None:
            return
        if self._primary_notice != self.hard.term:
            self._primary_notice = self.hard.term
            self._notice(
                "primary_wait",
                f"the primary takes over in {max(0.0, at - now):.0f} s if it stays up",
                Rank.PRIMARY,
            )
        peer = self.peers[Rank.PRIMARY]
        fresh = peer.acked_at is not None and now - peer.acked_at <= 2 * self.config.interval_s
        if not fresh:
            peer.good_since = None
        elif now >= at:
            self._begin_handover(Rank.PRIMARY, "PRIMARY_IS_MASTER", now)

    def _note_reigns(self, now: float) -> None:
        """Remember how P's reigns end: a failure doubles the wait, an hour of good reign
        forgets."""
        if self.rank is not Rank.SECONDARY:
            return
        reigning = self.master is not None and self.master.rank == Rank.PRIMARY
        if reigning and self.primary_reign_since is None:
            self.primary_reign_since = now
        elif not reigning and self.primary_reign_since is not None:
            if now - self.primary_reign_since >= timing.PRIMARY_WAIT_MAX_S:
                self.primary_failures = 0
            if self.role is Role.MASTER:
                self.primary_failures = min(self.primary_failures + 1, 16)
                self.primary_reign_since = None

    # --- rule 20 ----------------------------------------------------------------------------------

    def _watch_disk(self, now: float) -> None:
        """A slow disk: a master hands over; one that answers no more ends the process."""
        if self._outstanding_since is None:
            return
        if self._disk_slow(now, timing.persist_fatal_s(self.config.timeout_s)):
            self._disk_dead("the disk has not answered for too long", now)
        elif (
            self._disk_slow(now, self.config.persist_slow_s)
            and self.role is Role.MASTER
        ):
            other = self._other_candidate()
            if other is not None and self._up(other, now) and now >= self.refused_handover_until:
                self._begin_disk_handover(other, now)

    def _begin_disk_handover(self, other: Peer, now: float) -> None:
        """What we decided is on its way to the others' disks; ours is not needed for their
        quorum."""
        if self.successor is None:
            self._notice("disk", "the state's disk is slow: handing over")
        self._begin_handover(other.rank, "its disk is slow", now)

    def _disk_dead(self, why: str, now: float) -> None:
        self._end_reign("the disk failed", now, None)
        self._halt(1, f"the state could not be written: {why}; this server stops, the others go on")

    # --- stopping ---------------------------------------------------------------------------------

    def _on_stop_requested(self, event: StopRequested, now: float) -> None:
        if self.stopping and self.stop_scope == event.scope:
            return
        self.stopping = True
        self.stop_scope = event.scope
        self.stop_by = event.requested_by
        self.stop_until = now + STOP_PATIENCE_S
        self._notice("stopping", f"requested by {event.requested_by or 'the system'}")
        if event.scope == "all":
            self._begin_stop_all(now)
        else:
            self._begin_stop_one(now)
        self._advance_stop(now)

    def _begin_stop_one(self, now: float) -> None:
        """Rule 10: hand over where somebody can take over; else end the lease and free the
        voters."""
        if self.role is not Role.MASTER:
            return
        other = self._other_candidate()
        if other is not None and self._up(other, now) and self.serving:
            self._begin_handover(other.rank, "it stops", now)
        else:
            self._release_everybody(now)

    def _release_everybody(self, now: float) -> None:
        """End the lease; every voter may forget its promise to us (rule 22's release, to nobody in
        particular)."""
        was_master = self.role is Role.MASTER
        if was_master:
            release = Release(self.hard.term, self.me, None)
            self._end_reign("it stops", now, None)
            for peer in self._linked():
                self._send(peer, StopRelease(release, self._stop_word()))
        self.hard.promised_to = None
        self._touch_hard()
        self._stop_sent = True

    def _stop_word(self) -> str:
        return (self.stop_by or "an administrator") if self.stop_scope == "all" else ""

    def _begin_stop_all(self, now: float) -> None:
        if self.role is Role.MASTER or not self.config.triad:
            self._release_everybody(now)
            return
        master = self.peers.get(Rank(self.master.rank)) if self.master is not None else None
        if master is not None and self._send(master, StopAll(self.stop_by)):
            return  # the master stops all three, this one included, by its release
        # no master to be reached: nobody's lease can be ended; tell the others to stop, and keep
        # the promise (rule 22)
        for peer in self._linked():
            self._send(peer, StopRelease(None, self.stop_by))
        self._stop_sent = True

    def _on_stop_all(self, body: StopAll, now: float) -> None:
        self._on_stop_requested(StopRequested(scope="all", requested_by=body.requested_by), now)

    def _on_stop_release(self, link: Link, frame: PeerFrame, body: StopRelease, now: float) -> None:
        """Take note, durably; then stop as well, if it is a stop of all three."""
        release = body.release
        if (
            release is not None
            and release.term == self.hard.term
            and same_process(self.hard.promised_to, release.giver)
        ):
            self.hard.promised_to = None
            self._touch_hard()
            self.master = None
        self._post(link.number, frame.sender, StopReleaseReply(True), gate=self._hard_gate)
        if body.requested_by:
            self.stopping = True
            self.stop_scope = "all"
            self.stop_by = body.requested_by
            self._stop_sent = True
            self._stop_stored = {int(rank) for rank in self.peers}
            self.stop_until = now + STOP_PATIENCE_S
            self._notice("stopping", f"all three, requested by {body.requested_by}")
            if self.role is Role.MASTER:
                self._release_everybody(now)

    def _on_stop_release_reply(self, peer: Peer) -> None:
        self._stop_stored.add(int(peer.rank))

    def _advance_stop(self, now: float) -> None:
        """Exit when everything that should be known is known and durable, or when patience ends."""
        if not self.stopping or self.halted is not None or self.stop_until is None:
            return
        if self.stop_scope == "all":
            told = self._stop_sent and all(
                int(peer.rank) in self._stop_stored for peer in self._linked()
            )
        else:
            told = self._successor_appeared() or self._stop_done_alone()
        settled = not self._dirty_hard and self._outstanding_since is None and not self._gated
        if (told and settled) or now >= self.stop_until:
            if self.role is Role.MASTER:
                self._release_everybody(now)
                if settled:
                    self.stop_until = now + RELEASE_LEAVES_S
                    return
            self._halt(0, f"stopped by {self.stop_by}" if self.stop_by else "stopped")

    def _successor_appeared(self) -> bool:
        return (
            self.role is not Role.MASTER
            and self.master is not None
            and not same_process(self.master, self.me)
        )

    def _stop_done_alone(self) -> bool:
        """A server that was not master, or had nobody to hand over to, has nothing to wait for."""
        released = self._released() and not self._stop_sent
        return self.role is not Role.MASTER and not released
