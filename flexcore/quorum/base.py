"""What every layer of the quorum machine stands on: state, outbox, and what is durable before what.

**Rule 20, second half** (a server sends an entry to its peers before its own commit to disk, and
counts itself only after) and the ordering duties of every other rule come down to one mechanism
here, the *gate*: each change of durable state belongs to a Persist ticket; a frame that tells of
the change waits in ``_gated`` until that ticket is done, and frames that tell nothing new leave at
once. At most one Persist is outstanding; what changes meanwhile is the next one (group commit).
Shown by ``tests/test_quorum_elections.py::test_a_vote_leaves_only_when_it_is_durable``,
``tests/test_quorum_state.py::test_what_is_stored_is_what_is_held`` and the mutant
``vote_before_durable``.

Where a server keeps nothing (``in_memory``) what memory holds is as durable as it will ever be: it
starts blank whatever it had written, and is nobody's promisee then (rule 7). A ticket is done when it
would be given, so that a turn's answers leave in that turn
(``tests/test_quorum_memory.py::test_what_memory_holds_is_durable_in_the_same_turn``).
"""

from __future__ import annotations

import enum
from collections import deque

from flexcore.identity import NOBODY, Boot, Endpoint, Last, Rank
from flexcore.ledger import Ledger, LedgerCorrupt, Snapshot
from flexcore.quorum.config import HardState, PersistBatch, QuorumConfig, StateError, StoredState
from flexcore.quorum.events import Halt, Notice, Persist, QuorumAction, SendFrame
from flexcore.wire.messages import EntryRow, PeerBody, PeerFrame, Vote

MAX_GATED_FRAMES = 4096
"""Frames that wait for the disk; with a disk this slow the newest are dropped: every one of them is
asked for again."""


class Role(enum.Enum):
    """What a member is doing about mastership."""

    FOLLOWER = "follower"
    PREVOTE = "prevote"
    CANDIDATE = "candidate"
    MASTER = "master"


class Base:
    """State, outbox and gate. The layers above add the rules."""

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
        self.config = config
        self.rank = config.rank
        self.rights_digest = config.rights_digest
        """The signed lines of this server's own file, as it was read last (rule 19)."""
        self.options_digest = config.options_digest
        """The options file of this server, as it was read last: no option is a condition of anything
        here, it is only told where they differ."""
        self.known_rights: tuple[bytes, ...] = (config.rights_digest,)
        """All signed lines that this process could serve by: those, and what it read before."""
        self.boot_id = boot_id
        self.fresh_triad_id = triad_id
        self.boot_at = now
        self.now = now
        self.wall = wall
        self.clock_gap = wall - now
        self.has_state = stored is not None and bool(stored.hard)
        self.hard = (
            HardState.decode(stored.hard) if stored is not None and stored.hard else HardState()
        )
        entries = stored.entries if stored is not None and self.has_state else ()
        self.snapshot: Snapshot | None = (
            stored.snapshot if stored is not None and self.has_state else None
        )
        self.ledger = Ledger(self.snapshot, entries)
        if self.ledger.last.term > self.hard.term:
            raise StateError(
                f"the log's last entry is of term {self.ledger.last.term}, but the state knows only"
                f" term {self.hard.term}"
            )
        self.role = Role.FOLLOWER
        self.master: Endpoint | None = None
        self.halted: Halt | None = None
        self.stopping = False
        self._actions: deque[QuorumAction] = deque()
        # the gate
        self._gated: deque[tuple[int, int, PeerFrame]] = deque()
        self._ticket = 0
        self._done = 0
        self._outstanding_since: float | None = None
        self._outstanding_covers = 0
        self._hard_gate = 0
        self._dirty_hard = False
        self._dirty_seen = False
        """peer_seen changed: written with the next rows, none of its own (rule 7)."""
        self._dirty_from: int | None = None
        self._dirty_truncate: int | None = None
        self._dirty_snapshot = False
        self._dirty_replace = False
        self.durable_index = self.ledger.last.index

    # --- who we are -------------------------------------------------------------------------------

    @property
    def boot(self) -> Boot:
        """This start of the process. Counter 0: without state, and nobody's promisee (rule 7)."""
        return Boot(self.hard.counter, self.boot_id)

    @property
    def me(self) -> Endpoint:
        return Endpoint(int(self.rank), self.boot)

    @property
    def peer_ranks(self) -> tuple[Rank, ...]:
        if not self.config.triad:
            return ()
        return tuple(rank for rank in Rank if rank is not self.rank)

    @property
    def blank(self) -> bool:
        """Counts as blank: no member, so nothing here is known to be committed (rule 9).

        A server becomes a member with the Append that tells it that Formed is committed, before it
        acknowledges any entry of a client; so the log of one that is none holds no more than the
        first entries of a term, or is of a state that lost its end and counts as nothing (rule 7).
        """
        return not self.hard.member

    @property
    def frame_triad(self) -> bytes:
        return self.hard.pending_triad or self.hard.triad_id

    @property
    def writing_since(self) -> float | None:
        """Since when the disk writes, None while it is idle."""
        return self._outstanding_since

    # --- outbox -----------------------------------------------------------------------------------

    def _emit(self, action: QuorumAction) -> None:
        self._actions.append(action)

    def _notice(self, kind: str, text: str, peer: Rank | None = None) -> None:
        self._emit(Notice(kind=kind, text=text, peer=peer))

    def _halt(self, exit_code: int, reason: str) -> None:
        if self.halted is None:
            self.halted = Halt(exit_code=exit_code, reason=reason)
            self._emit(self.halted)

    def next_action(self) -> QuorumAction | None:
        """The next thing that the adapter has to do, in order; None when there is nothing."""
        return self._actions.popleft() if self._actions else None

    def _frame(self, to: Endpoint, body: PeerBody) -> PeerFrame:
        return PeerFrame(self.frame_triad, self.hard.term, self.me, to, body)

    def _post(self, link: int, to: Endpoint, body: PeerBody, *, gate: int = 0) -> None:
        """Send *body*, when ticket *gate* is durable."""
        frame = self._frame(to, body)
        if gate <= self._done:
            self._emit(SendFrame(link=link, frame=frame))
        elif len(self._gated) < MAX_GATED_FRAMES:
            self._gated.append((gate, link, frame))

    # --- durability -------------------------------------------------------------------------------

    def _touch_hard(self) -> None:
        """The durable state changed: whatever tells of it waits for the next ticket."""
        self._dirty_hard = True
        self._hard_gate = self._ticket + 1

    def _log_gate(self) -> int:
        """The ticket that makes the log as it stands durable."""
        if (
            self._dirty_from is not None
            or self._dirty_truncate is not None
            or self._dirty_replace
            or self._dirty_snapshot
        ):
            return self._ticket + 1
        return self._ticket

    def _touch_log(self, from_index: int) -> None:
        """Rows from *from_index* on are new."""
        if self._dirty_from is None or from_index < self._dirty_from:
            self._dirty_from = from_index

    def _truncate_log(self, from_index: int) -> None:
        """Throw away rows from *from_index* on: they were never committed (rule 5: nothing at or
        below commit)."""
        if from_index <= self.ledger.commit:
            raise LedgerCorrupt(
                f"entry {from_index} is committed, and another server has another one"
            )
        self.ledger.truncate(from_index)
        self.durable_index = min(self.durable_index, from_index - 1)
        self._outstanding_covers = min(self._outstanding_covers, from_index - 1)
        if self._dirty_truncate is None or from_index < self._dirty_truncate:
            self._dirty_truncate = from_index
        if self._dirty_from is not None and self._dirty_from > from_index:
            self._dirty_from = from_index

    def _replace_log(self, ledger: Ledger, snapshot: Snapshot | None) -> None:
        """Everything is as *ledger* says from now on (recovery, or catching up by snapshot)."""
        ledger.feed = self.ledger.feed
        self.ledger = ledger
        self.snapshot = snapshot
        self.durable_index = 0
        self._outstanding_covers = 0
        self._dirty_replace = True
        self._dirty_truncate = None
        self._dirty_snapshot = snapshot is not None
        self._dirty_from = ledger.base.index + 1

    def _issue_persist(self) -> bool:
        """Once a turn: one Persist with everything that changed, unless one is outstanding.

        Returns whether something is durable by now that was not: in memory only.
        """
        if self._outstanding_since is not None:
            return False
        if not self._is_dirty():
            return False
        self._ticket += 1
        last = self.ledger.last.index
        if self.config.in_memory:
            self._clean()
            self._outstanding_covers = last
            self._persisted(self._ticket)
            return True
        start = self._dirty_from
        entries: tuple[tuple[int, EntryRow], ...] = ()
        if start is not None and start <= last:
            rows = self.ledger.rows(start, 1 << 62)
            assert len(rows) == last - start + 1
            entries = tuple(zip(range(start, last + 1), rows, strict=True))
        batch = PersistBatch(
            hard=self.hard.encode() if self._dirty_hard or self._dirty_seen else None,
            replace_log=self._dirty_replace,
            truncate_from=self._dirty_truncate,
            snapshot=self.snapshot if self._dirty_snapshot else None,
            entries=entries,
        )
        self._clean()
        self._outstanding_since = self.now
        self._outstanding_covers = last
        self._emit(Persist(ticket=self._ticket, batch=batch))
        return False

    def _is_dirty(self) -> bool:
        """Whether anything changed that is to be durable."""
        return self._dirty_hard or self._log_gate() > self._ticket

    def _clean(self) -> None:
        self._dirty_hard = self._dirty_seen = self._dirty_snapshot = self._dirty_replace = False
        self._dirty_from = self._dirty_truncate = None

    def _persisted(self, ticket: int) -> None:
        """*ticket* is durable: let go of the frames that waited for it."""
        assert ticket == self._ticket
        self._done = ticket
        self._outstanding_since = None
        self.has_state = True
        self.durable_index = max(self.durable_index, self._outstanding_covers)
        assert self.durable_index <= self.ledger.last.index
        if not self._gated:
            return
        waiting = self._gated
        self._gated = deque()
        for gate, link, frame in waiting:
            if gate > ticket:
                self._gated.append((gate, link, frame))
            elif not isinstance(frame.body, Vote) or self._still_standing(frame.term):
                self._emit(SendFrame(link=link, frame=frame))

    def _still_standing(self, term: int) -> bool:
        return self.role is Role.CANDIDATE and self.hard.term == term

    def _durable_last(self) -> Last:
        """The last entry of the log that the disk holds."""
        term = self.ledger.term_at(self.durable_index)
        return Last(term or 0, self.durable_index)

    def _disk_slow(self, now: float, limit_s: float) -> bool:
        return self._outstanding_since is not None and now - self._outstanding_since > limit_s

    def _raise_term(self, term: int) -> None:
        """A higher term is known: the vote of the old one is of no more use."""
        assert term > self.hard.term
        self.hard.term = term
        self.hard.voted_for = NOBODY
        self._touch_hard()
