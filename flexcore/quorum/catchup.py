"""Catching up: entries, or the snapshot where the log does not reach back, are pulled.

One mechanism for three purposes: a candidate whose log is older than a voter's (``stand``, rule 3),
a follower that lacks what its master has folded into the snapshot (``follow``), and a server
without state (``recover`` and ``form``, rules 8 and 9). Whoever is asked answers from its log as it
stands; whoever asked checks, when everything is here, that it still wants it, and puts it in place
in one transaction.

Why a newer log may replace a tail of one's own: "newer" is (last term, last index). An acknowledged
entry of the own tail is held by two; the master of any later term had it (rule 4), so a log that
ends in a later term has it too, and one that ends in the same term is the longer prefix of the same
master's log. What an own log already agrees with is never replaced: entries that were acknowledged
to the master meanwhile must not be lost by an answer of a moment before.

A follower that has pulled from its master says at once how far it has come: the master sends what
came meanwhile. Until its next heartbeat, 20 s away, it might fold that into its snapshot, and the
follower of a busy master would pull for ever (seed 873 of the simulation). What was pulled from the
master of this term agrees with its log, so the answer counts like any acknowledgement.

Shown by ``tests/test_quorum_catchup.py`` and the mutant ``no_pull``.
"""

from __future__ import annotations

import attrs

from flexcore.identity import Last, Rank
from flexcore.ledger import Ledger, Snapshot
from flexcore.override import override
from flexcore.quorum.base import Role
from flexcore.quorum.links import Link, Peer
from flexcore.quorum.rounds import Rounds
from flexcore.wire.messages import AppendReply, EntryRow, PeerFrame, Pull, PullReply

PULL_BYTES = 512 * 1024
"""What one answer holds at most."""
MAX_SNAPSHOT_BYTES = 1 << 30
FORGET_PULL_S = 5.0
"""A catch-up that got no useful answer for so long is given up and begun anew."""


@attrs.define(kw_only=True)
class PullState:
    """A catch-up in progress."""

    peer: Rank
    purpose: str
    nonce: bytes
    from_index: int
    until_index: int
    term: int
    asked_at: float
    prev: Last | None = None
    """The entry before ``rows``."""
    rows: list[EntryRow] = attrs.Factory(list)
    pieces: bytearray = attrs.Factory(bytearray)
    pieces_of: tuple[Last, int] | None = None
    """Which snapshot the pieces are of: its last entry and its size."""
    snapshot: Snapshot | None = None

    @property
    def newest(self) -> Last:
        """The last entry of what was pulled."""
        assert self.prev is not None
        return Last(
            self.rows[-1].term if self.rows else self.prev.term, self.prev.index + len(self.rows)
        )


class CatchUp(Rounds):
    """Asking, answering, and putting in place."""

    def _init_catchup(self) -> None:
        self.pull: PullState | None = None

    # --- asking -----------------------------------------------------------------------------------

    def _start_pull(
        self, peer: Peer, purpose: str, from_index: int, until_index: int, now: float
    ) -> None:
        self.pull = PullState(
            peer=peer.rank,
            purpose=purpose,
            nonce=self._fresh_nonce(),
            from_index=from_index,
            until_index=until_index,
            term=self.hard.term,
            asked_at=now,
        )
        if purpose == "stand":
            self.role = Role.FOLLOWER
        self._ask_pull(now)

    @override
    def _follow_pull(self, peer: Peer, now: float) -> None:
        """A lagging follower: the master says that what we lack is in its snapshot."""
        if self.pull is None or self.pull.purpose == "stand":
            self._start_pull(
                peer, "follow", self.ledger.commit + 1, self.ledger.last.index + (1 << 60), now
            )

    def _ask_pull(self, now: float) -> None:
        pull = self.pull
        assert pull is not None
        pull.asked_at = now
        offset = len(pull.pieces) if pull.snapshot is None else 0
        if not self._send(
            self.peers[pull.peer], Pull(pull.from_index, pull.nonce, offset), gate=self._hard_gate
        ):
            self.pull = None

    # --- answering --------------------------------------------------------------------------------

    def _on_pull(self, link: Link, frame: PeerFrame, body: Pull) -> None:
        """Serve entries from the log, or a piece of the snapshot where the log does not reach
        back."""
        ledger, snapshot = self.ledger, self.snapshot
        start = max(1, body.from_index)
        if start <= ledger.base.index:
            assert snapshot is not None
            assert snapshot.last == ledger.base
            size = len(snapshot.state)
            offset = body.offset if 0 <= body.offset < size else 0
            piece = snapshot.state[offset : offset + PULL_BYTES]
            reply = PullReply(
                body.nonce, snapshot.last, (), ledger.last, piece, offset, size, snapshot.stamp
            )
        else:
            start = min(start, ledger.last.index + 1)
            prev = ledger.prev_of(start)
            assert prev is not None
            rows = ledger.rows(start, PULL_BYTES) if start <= ledger.last.index else ()
            reply = PullReply(body.nonce, prev, rows, ledger.last)
        self._post(link.number, frame.sender, reply, gate=self._hard_gate)

    # --- what comes -------------------------------------------------------------------------------

    def _on_pull_reply(self, peer: Peer, body: PullReply, now: float) -> None:
        pull = self.pull
        if pull is None or pull.nonce != body.nonce or pull.peer is not peer.rank:
            return
        useful = (
            self._take_piece(pull, body)
            if body.snapshot is not None
            else self._take_pulled(pull, body)
        )
        if useful is None:
            return  # a repeat: says nothing, and does not count as an answer
        if not useful:
            self.pull = None
        elif pull.prev is not None and pull.from_index > pull.until_index:
            self.pull = None
            self._pulled(pull, now)
        else:
            self._ask_pull(now)

    def _take_piece(self, pull: PullState, body: PullReply) -> bool | None:
        """Add a piece of a snapshot; False: it makes no sense; None: it is a repeat."""
        assert body.snapshot is not None
        snapshot_is = (body.prev, body.snapshot_size)
        if not body.snapshot or not 0 < body.snapshot_size <= MAX_SNAPSHOT_BYTES:
            return False
        if snapshot_is != pull.pieces_of:
            if body.offset != 0:
                return False  # the other server has made a new snapshot meanwhile: begin anew
            pull.pieces_of = snapshot_is
            pull.pieces = bytearray()
            pull.snapshot = pull.prev = None
            pull.rows.clear()
        elif body.offset != len(pull.pieces) or pull.snapshot is not None:
            return None
        pull.pieces += body.snapshot
        if len(pull.pieces) >= body.snapshot_size:
            pull.snapshot = Snapshot(body.prev, body.snapshot_stamp, bytes(pull.pieces))
            pull.prev = body.prev
            pull.from_index = body.prev.index + 1
            pull.until_index = self._pull_end(pull, body)
        return True

    def _take_pulled(self, pull: PullState, body: PullReply) -> bool | None:
        """Add entries; False: there are none where there should be; None: a repeat."""
        if pull.prev is None:
            pull.prev = body.prev
        at = pull.newest.index
        if body.prev.index != at:
            return None
        if body.prev.term != pull.newest.term:
            return False  # its log was overruled meanwhile: two logs must not be glued into one
        pull.rows.extend(body.entries)
        pull.from_index = at + len(body.entries) + 1
        pull.until_index = self._pull_end(pull, body)
        return bool(body.entries) or pull.from_index > pull.until_index

    def _pull_end(self, pull: PullState, body: PullReply) -> int:
        """Up to where to pull: what was asked for, or what the other server has by now, if that is
        less."""
        return min(pull.until_index, body.last.index)

    # --- putting in place -------------------------------------------------------------------------

    def _pulled(self, pull: PullState, now: float) -> None:
        """Everything asked for is here: put it in place, if it is still wanted."""
        if pull.purpose in ("recover", "form"):
            self._recovery_pulled(pull, now)
            return
        newest = pull.newest
        if pull.purpose == "stand":
            wanted = (
                newest > self.ledger.last and self.master is None and self.role is Role.FOLLOWER
            )
        else:
            wanted = (
                self.master is not None
                and self.hard.term == pull.term
                and newest.index > self.ledger.commit
            )
        if not wanted:
            return
        if newest.term > self.hard.term:
            self._raise_term(newest.term)  # an entry of a term proves that the term was
        self._put_in_place(pull)
        self.stand_not_before = now
        if pull.purpose == "follow":
            self._acknowledge_pulled(pull)

    stand_not_before: float

    def _acknowledge_pulled(self, pull: PullState) -> None:
        """Tell the master how far our log agrees with its own; it answers no round, and promises
        nothing."""
        master, newest = self.master, pull.newest
        if master is None or master.rank != pull.peer:
            return
        if self.ledger.term_at(newest.index) != newest.term:
            return  # it was not put in place
        for link in self._links_of(pull.peer):
            if not link.dialled and link.boot == master.boot:
                self._agreed = max(self._agreed, newest.index)
                reply = AppendReply(True, 0, newest.index, 0.0, self.wall)
                self._post(
                    link.number, master, reply, gate=max(self._log_gate(), self._hard_gate)
                )
                return

    def _put_in_place(self, pull: PullState) -> None:
        """In one transaction. Where our log agrees with what came, only what it lacks is added."""
        assert pull.prev is not None
        ledger = self.ledger
        if ledger.term_at(pull.prev.index) == pull.prev.term:
            self._merge_rows(pull.prev.index, tuple(pull.rows))
        elif pull.snapshot is not None and pull.newest >= ledger.last:
            commit = ledger.commit
            self._replace_log(Ledger(pull.snapshot, pull.rows), pull.snapshot)
            self.ledger.commit_to(min(commit, self.ledger.last.index))

    def _recovery_pulled(self, pull: PullState, now: float) -> None:
        raise NotImplementedError
