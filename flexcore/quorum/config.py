"""What a quorum machine is told once: its configuration, and what its store read back."""

from __future__ import annotations

import json
from typing import Any

import attrs

from flexcore import timing
from flexcore.errors import FlexcoreError
from flexcore.identity import NOBODY, Boot, Endpoint, Last, Rank
from flexcore.ledger import Snapshot
from flexcore.wire.messages import EntryRow, Seen

SPENT = -2
"""voted_for: a vote of this term may have been given by the state that was lost; none is given
again (rule 8)."""

STATE_VERSION = 1
"""Version of the encoding of :class:`HardState`; a newer one is refused (protocol.md section 2)."""


class StateError(FlexcoreError):
    """What the store read back cannot be used: another version, or not what was written."""


@attrs.frozen(kw_only=True)
class QuorumConfig:
    """One server's place in its triad, or of the single server (``triad=False``: a majority of
    one)."""

    rank: Rank
    triad: bool
    heartbeat_interval_s: float = attrs.field(
        default=timing.DEFAULT_INTERVAL_S,
        validator=[attrs.validators.ge(0.0), attrs.validators.le(timing.INTERVAL_MAX_S)],
    )
    """Bounded, because the wait of rule 9 is for the longest that any server may have used."""
    primary_is_master: bool = False
    vendor: str = ""
    membership_digest: bytes = b""
    hostids: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    """Where the file says that each server listens, ``HOST:PORT`` by rank; empty where nobody needs
    to know (the single server, a simulation)."""
    rights_digest: bytes = b""
    options_digest: bytes = b""
    """Names the options file's rules about licences; b"": nobody looked."""
    software: str = ""
    borrow_allowed: bool = False
    """The licence file allows borrowing: forming without the third server needs the administrator's
    word (rule 9)."""
    first_start: bool = False
    """The administrator's word that nothing is held (``lmgrd --first-start``, rule 9)."""
    in_memory: bool = False
    """Nothing outlives this process (``lmgrd --state-dir none``): no Persist is asked for, and
    nothing waits for one."""

    # What follows from the interval is asked for in every turn, and worked out once.
    interval_s: float = attrs.field(init=False, eq=False, repr=False)
    """s of protocol.md: 20 wherever HEARTBEAT_INTERVAL is 0."""
    timeout_s: float = attrs.field(init=False, eq=False, repr=False)
    """TO."""
    client_lease_s: float = attrs.field(init=False, eq=False, repr=False)
    """L."""
    persist_slow_s: float = attrs.field(init=False, eq=False, repr=False)
    """How long a Persist may take until the disk counts as slow (rule 20)."""
    detector_off: bool = attrs.field(init=False, eq=False, repr=False)
    """HEARTBEAT_INTERVAL=0: silence on an open connection starts no election (rule 21)."""

    @interval_s.default
    def _interval_s(self) -> float:
        return timing.effective_interval_s(self.heartbeat_interval_s)

    @timeout_s.default
    def _timeout_s(self) -> float:
        return timing.timeout_s(self.heartbeat_interval_s)

    @client_lease_s.default
    def _client_lease_s(self) -> float:
        return timing.client_lease_s(self.timeout_s)

    @persist_slow_s.default
    def _persist_slow_s(self) -> float:
        return timing.persist_slow_s(self.heartbeat_interval_s)

    @detector_off.default
    def _detector_off(self) -> bool:
        return self.heartbeat_interval_s <= 0

    def address_of(self, rank: Rank) -> str:
        """Where this server dials *rank*; never empty."""
        return self.addresses[rank] if self.addresses else rank.word


@attrs.frozen(kw_only=True)
class StoredState:
    """What the store read back at start. ``hard`` empty: there was no state."""

    hard: bytes = b""
    snapshot: Snapshot | None = None
    entries: tuple[EntryRow, ...] = ()


@attrs.frozen(kw_only=True)
class PersistBatch:
    """One transaction for the store; every part is optional. In this order: replace, truncate,
    snapshot, entries, hard.

    ``replace_log``: delete all rows and the snapshot first. ``truncate_from``: delete rows with
    that index and above. ``snapshot``: replaces the stored one; rows up to ``snapshot.last.index``
    are deleted. ``entries``: (index, row), to insert. ``hard``: replaces the stored blob.
    """

    hard: bytes | None = None
    replace_log: bool = False
    truncate_from: int | None = None
    snapshot: Snapshot | None = None
    entries: tuple[tuple[int, EntryRow], ...] = ()


@attrs.define(kw_only=True)
class HardState:
    """The DURABLE part of protocol.md section 2, but for the log.

    ``no_promise_s`` is the wait of rule 8, kept so that a restart inside the wait begins it anew: a
    server that lost its disk, recovered by (b), and restarted at once would otherwise be free for a
    candidate while the master of its forgotten promise still counts on it (two masters).
    protocol.md keeps it in memory only; that is the hole.

    ``promised_at`` is the address at which the process of ``promised_to`` has answered us, '' if it
    has not: a refusal at another address is no evidence about it (rule 6).
    """

    triad_id: bytes = b""
    pending_triad: bytes = b""
    member: bool = False
    counter: int = 0
    term: int = 0
    voted_for: int = NOBODY
    promised_to: Endpoint | None = None
    promised_at: str = ""
    promise_len_s: float = 0.0
    no_promise_s: float = 0.0
    no_promise_term: int = 0
    peer_seen: dict[int, Seen] = attrs.Factory(dict)
    hostids: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The blob that the store keeps: JSON, so that a person can read it when it matters."""
        promised = None
        if self.promised_to is not None:
            promised = [self.promised_to.rank, *_boot_out(self.promised_to.boot)]
        return json.dumps(
            {
                "version": STATE_VERSION,
                "triad_id": self.triad_id.hex(),
                "pending_triad": self.pending_triad.hex(),
                "member": self.member,
                "counter": self.counter,
                "term": self.term,
                "voted_for": self.voted_for,
                "promised_to": promised,
                "promised_at": self.promised_at,
                "promise_len_s": self.promise_len_s,
                "no_promise_s": self.no_promise_s,
                "no_promise_term": self.no_promise_term,
                "peer_seen": [
                    [rank, *_boot_out(seen.boot), *seen.last]
                    for rank, seen in sorted(self.peer_seen.items())
                ],
                "hostids": list(self.hostids),
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, blob: bytes) -> HardState:
        """Read what :meth:`encode` wrote.

        Raises:
            StateError: the blob is of a newer version, or was not written by :meth:`encode`.
        """
        try:
            data = json.loads(blob)
            version = data["version"]
            if isinstance(version, int) and version > STATE_VERSION:
                raise StateError(
                    f"the state was written by a newer version (format {version}, this one reads"
                    f" {STATE_VERSION})"
                )
            return cls._from(data)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise StateError(f"the state cannot be read: {error}") from error

    @classmethod
    def _from(cls, data: dict[str, Any]) -> HardState:
        promised = data["promised_to"]
        return cls(
            triad_id=bytes.fromhex(data["triad_id"]),
            pending_triad=bytes.fromhex(data["pending_triad"]),
            member=bool(data["member"]),
            counter=int(data["counter"]),
            term=int(data["term"]),
            voted_for=int(data["voted_for"]),
            promised_to=None
            if promised is None
            else Endpoint(int(promised[0]), _boot_in(promised[1], promised[2])),
            promised_at=str(data["promised_at"]),
            promise_len_s=float(data["promise_len_s"]),
            no_promise_s=float(data["no_promise_s"]),
            no_promise_term=int(data["no_promise_term"]),
            peer_seen={
                int(rank): Seen(_boot_in(counter, boot_id), Last(int(term), int(index)))
                for rank, counter, boot_id, term, index in data["peer_seen"]
            },
            hostids=tuple(str(hostid) for hostid in data["hostids"]),
        )


def _boot_out(boot: Boot) -> tuple[int, str]:
    return boot.counter, boot.boot_id.hex()


def _boot_in(counter: int, boot_id: str) -> Boot:
    return Boot(int(counter), bytes.fromhex(boot_id))
