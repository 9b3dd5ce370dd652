"""Links to the two others: dialling, greeting, which boot is alive, and whether a process is gone.

Each server dials both others and sends its requests on the connection that it dialled; answers come
back on it (protocol.md section 2). So there are two links between two servers, and each server
judges its peer by its own.

**Rule 6, evidence.** A promise binds its giver to one *process*. It is void when that process
cannot be serving any more:

* another boot of that server answered a fresh nonce on a connection of its own, and no connection
  of the old boot is alive (one address, one process: the old one is gone); or
* every connection with that boot, in either direction, has ended, and an attempt to connect *begun
  after that* was refused at the address where that boot has answered: a server listens before its
  first message, and until it has stopped serving. A refusal at an address that a new file gave it
  says nothing of a process at the old one: where it answered is kept with the promise.

A stale Hello of an old boot must not pass for a new one: hence the fresh nonce. An attempt begun
before the last connection ended says nothing: hence the order numbers. Each server judges for
itself and voids its own promise only. Shown by
``tests/test_quorum_promises.py::test_a_refusal_voids_a_promise`` and its neighbours, and by
``tests/test_quorum_mutants.py``.

**Rule 7, boots.** What a frame's sender claims to be is checked against the boot that answered our
nonce: an older boot is not heard. Two boots that are alive at once run twice (``rivals.py``).
"""

from __future__ import annotations

import math
from collections import deque

import attrs

from flexcore import timing
from flexcore.identity import Boot, Endpoint, Last, Rank
from flexcore.quorum.base import Base, Role
from flexcore.quorum.events import CloseLink, DialPeer
from flexcore.wire.messages import PROTOCOL_VERSION, Beat, Hello, PeerBody, PeerFrame, Seen

BEAT_MASK = 0x7FFFFFFF
"""A Beat carries its sender's milliseconds, cut to this, so that the answer measures the round
trip."""
NO_BOOT = Boot(0, b"")
ROUND_TRIPS_A_TIMEOUT = 20
"""A round trip is taken for a twentieth of the timeout at most: a candidacy (five of them) then
ends well within it."""
MAX_LINKS_PER_PEER = 8
"""Links of one peer, both directions; further ones are closed: a healthy pair has two."""


@attrs.define(kw_only=True)
class Link:
    """One connection with a peer."""

    number: int
    peer: Rank
    dialled: bool
    boot: Boot | None = None
    """Who speaks on it: by echo of our nonce where we dialled, by its own word where it did."""
    nonce: bytes = b""
    opened_at: float = 0.0
    heard_at: float = 0.0
    greet_at: float = math.inf
    """When to greet again: no answer came, and without one the link is of no use."""
    greeted: bool = False
    """Dialled: our nonce came back. Accepted: its Hello came."""
    other_file: bool = False
    """Greeted by a member whose file names other machines: not a peer, but it may be serving (rules
    9 and 19)."""
    rival: bytes = b""
    """Dialled: the boot that spoke before our nonce left; an answer means that the server runs
    twice."""
    voter_nonces: tuple[bytes, ...] = ()
    """Accepted: nonces that we sent on it; a Vote has to show one (rule 4: the link works both
    ways)."""


@attrs.define(kw_only=True)
class Peer:
    """What is known of another server."""

    rank: Rank
    boot: Boot | None = None
    """The boot that answered a fresh nonce."""
    hello: Hello | None = None
    hello_at: float = -math.inf
    heard_at: float | None = None
    out: int | None = None
    """The link that we dialled, once it is greeted."""
    dialling: bool = False
    dial_order: int = 0
    redial_at: float | None = 0.0
    dial_failed: bool = False
    """A dial has failed since our start."""
    ended_order: int = 0
    gone: bool = False
    """Evidence of rule 6: the process behind ``boot`` is gone."""
    twice: bool = False
    foreign: bool = False
    """Another triad, or another membership: not a peer (rules 9 and 19)."""
    hello_sent_at: float = -math.inf
    round_trip_s: float = 0.0
    voter_nonce: bytes = b""
    """Its nonce, to be shown with a Vote."""
    beat_at: float = 0.0
    # as seen by a master
    match: int = 0
    next: int = 1
    acked_round: int = 0
    acked_at: float | None = None
    clock_gap: float = 0.0  # its wall clock less our monotonic one, as that said (rule 18)
    good_since: float | None = None
    hurried_at: float = -1e9
    inflight: list[tuple[int, float]] = attrs.Factory(list)


def same_process(one: Endpoint | None, other: Endpoint | None) -> bool:
    """Whether two endpoints are one process: the id is drawn at each start (rule 7)."""
    return (
        one is not None
        and other is not None
        and one.rank == other.rank
        and one.boot.boot_id == other.boot.boot_id
    )


class Links(Base):
    """Connections, greetings and evidence."""

    first_start: bool
    knows: tuple[int, ...]

    def _init_links(self) -> None:
        self.peers = {rank: Peer(rank=rank) for rank in self.peer_ranks}
        self.links: dict[int, Link] = {}
        self._dropped: deque[int] = deque(maxlen=MAX_LINKS_PER_PEER)
        """Links that we closed last: what still comes on them says nothing."""
        self._order = 0
        self._nonces = 0

    def _fresh_nonce(self) -> bytes:
        """Unique for this boot; the boot's id is random, so unique altogether."""
        self._nonces += 1
        return self.boot_id + self._nonces.to_bytes(8, "big")

    def _next_order(self) -> int:
        self._order += 1
        return self._order

    # --- dialling ---------------------------------------------------------------------------------

    def _dial_due(self, now: float) -> None:
        for peer in self.peers.values():
            if (
                peer.redial_at is not None
                and now >= peer.redial_at
                and not peer.dialling
                and not self._dialled(peer)
            ):
                peer.dialling = True
                peer.redial_at = None
                peer.dial_order = self._next_order()
                self._emit(DialPeer(peer=peer.rank))

    def _dialled(self, peer: Peer) -> bool:
        return any(link.dialled and link.peer is peer.rank for link in self.links.values())

    def _peer_connected(self, number: int, rank: Rank, now: float) -> None:
        peer = self.peers[rank]
        peer.dialling = False
        link = Link(
            number=number, peer=rank, dialled=True, nonce=self._fresh_nonce(), opened_at=now
        )
        self.links[number] = link
        self._greet(link, now)

    def _greet(self, link: Link, now: float) -> None:
        """Say who we are and ask for a sign of life: with a fresh nonce."""
        peer = self.peers[link.peer]
        peer.hello_sent_at = now
        link.greet_at = now + timing.redial_s(self.config.heartbeat_interval_s)
        boot = peer.boot or NO_BOOT
        self._post(
            link.number,
            Endpoint(int(link.peer), boot),
            self._hello(link.peer, nonce=link.nonce, echo=b""),
            gate=self._hard_gate,
        )

    def _greetings_due(self, now: float) -> None:
        """Greet again where no answer came; after the timeout the connection is taken for dead, and
        dialled anew.

        So is one on which nothing was heard for the timeout, unless the detector is off (rule 21):
        the keepalives of the transport then end it.
        """
        for link in list(self.links.values()):
            if link.dialled and link.greeted and not self.config.detector_off:
                if now - link.heard_at >= self.config.timeout_s:
                    self._drop_link(link.number, now)
            elif link.dialled and not link.greeted and now >= link.greet_at:
                if now - link.opened_at >= self.config.timeout_s:
                    self._drop_link(link.number, now)
                else:
                    self._greet(link, now)

    def _greet_again(self, now: float) -> None:
        """Something about us changed that peers must know."""
        for link in list(self.links.values()):
            if link.dialled:
                self._greet(link, now)

    def _dial_failed(self, rank: Rank, refused: bool, now: float) -> None:
        peer = self.peers[rank]
        peer.dialling = False
        peer.dial_failed = True
        peer.redial_at = now + timing.redial_s(self.config.heartbeat_interval_s)
        if peer.dial_order < peer.ended_order and not self._links_of(rank):
            # The last connection ended meanwhile: only an attempt begun from now on is evidence.
            peer.redial_at = now
        if refused and peer.dial_order > peer.ended_order and not self._links_of(rank):
            peer.gone = True

    def _links_of(self, rank: Rank) -> list[Link]:
        return [link for link in self.links.values() if link.peer is rank]

    def _link_ended(self, number: int, now: float) -> None:
        link = self.links.pop(number, None)
        if link is None:
            return
        peer = self.peers[link.peer]
        peer.ended_order = self._next_order()
        # An attempt has to begin after this end: an earlier refusal was of an earlier process.
        peer.gone = False
        if link.dialled:
            was_up = peer.out == number
            peer.out = None if was_up else peer.out
            peer.redial_at = now
            peer.inflight.clear()
            peer.good_since = None
            peer.next = peer.match + 1
            if was_up:
                self._notice("lost", "the connection ended", link.peer)
        if not self._links_of(link.peer) and not peer.dialling:
            # Only now can an attempt be the evidence of rule 6. The first one often comes too early,
            # between the two ends; waiting a redial for the next would double a failover's time.
            peer.redial_at = now
        boots = {each.boot.boot_id for each in self._links_of(link.peer) if each.boot is not None}
        if len(boots) <= 1:
            peer.twice = False

    def _drop_link(self, number: int, now: float) -> None:
        """Close a link ourselves."""
        if number in self.links:
            self._emit(CloseLink(link=number))
            self._dropped.append(number)
            self._link_ended(number, now)

    # --- greeting ---------------------------------------------------------------------------------

    def _hello(self, to: Rank, *, nonce: bytes, echo: bytes) -> Hello:
        seen = self.hard.peer_seen.get(int(to))
        state = self.ledger.state
        return Hello(
            nonce=nonce,
            echo=echo,
            last=self.ledger.last,
            durable_last=self._durable_last(),
            seen_of_you=seen,
            promised_to=self.hard.promised_to,
            member=self.hard.member,
            has_state=self.has_state,
            only_formed=self.blank,
            committed_triad=self.hard.triad_id if self.hard.member else b"",
            uptime_s=self.now - self.boot_at,
            protocol=PROTOCOL_VERSION,
            software=self.config.software,
            vendor=self.config.vendor,
            membership_digest=self.config.membership_digest,
            hostids=self.config.hostids,
            rights_digest=self.rights_digest,
            committed_rights=state.rights,
            primary_is_master=self.config.primary_is_master,
            timeout_s=self.config.timeout_s,
            longest_timeout_s=max(self.config.timeout_s, state.longest_timeout_s),
            wall=self.wall,
            serving=self.role is Role.MASTER,
            forming_at_s=self._forming_in(),
            first_start=self.first_start and self.blank,
            options_digest=self.options_digest,
            knows=self.knows,
        )

    def _forming_in(self) -> float | None:
        raise NotImplementedError

    def _on_hello(self, link: Link, frame: PeerFrame, hello: Hello, now: float) -> None:
        """A Hello: on a link that we dialled it must echo our nonce; on an accepted one we answer
        it."""
        peer = self.peers[link.peer]
        boot = frame.sender.boot
        if link.dialled and hello.echo != link.nonce:
            return  # of another time or another link: says nothing
        link.boot = boot
        link.greeted = True
        link.other_file = hello.member and hello.membership_digest != self.config.membership_digest
        if link.dialled:
            link.heard_at = now
            self._measure(peer, now - peer.hello_sent_at)
            peer.voter_nonce = hello.nonce
            self._fresh_boot(peer, boot)
            if link.rival:
                self._lives(peer, link, boot)
            self._note_hello(peer, hello, now)
        else:
            if peer.redial_at is not None and not self._dialled(peer):
                peer.redial_at = min(
                    peer.redial_at, now
                )  # it is there now: no need to wait for the next try
            nonce = self._fresh_nonce()
            link.voter_nonces = (*link.voter_nonces[-1:], nonce)
            if link.other_file and self._greeted(peer):
                pass  # a machine that was replaced: where our file says, the new one has answered
            elif self._believable(peer, boot):
                self._ask_for_life(peer, boot, now)
                self._note_hello(peer, hello, now)
            else:
                self._suspect_twice(peer, boot)
            # answered in any case: a Hello is never dropped for a boot, and the echo is how its
            # sender learns of us
            self._post(
                link.number,
                frame.sender,
                self._hello(link.peer, nonce=nonce, echo=hello.nonce),
                gate=self._hard_gate,
            )

    def _note_hello(self, peer: Peer, hello: Hello, now: float) -> None:
        if hello.member and peer.hello is not None and not peer.hello.member:
            # It has just recovered or formed: it hears its master now, not at the next heartbeat,
            # which is 20 s away.
            peer.beat_at = now
        peer.hello = hello
        peer.hello_at = now
        peer.heard_at = now
        self._judge_hello(peer, hello, now)
        if peer.out is None and not peer.foreign:
            self._open_out(peer, now)

    def _open_out(self, peer: Peer, now: float) -> None:
        """From here on requests go to it, on the link that we dialled (it may have been no peer
        until now)."""
        for link in self._links_of(peer.rank):
            if link.dialled and link.greeted and link.boot is not None:
                peer.out = link.number
                peer.beat_at = now
                self._notice("connected", f"it answers, in its start no. {link.boot.counter}", peer.rank)

    def _judge_hello(self, peer: Peer, hello: Hello, now: float) -> None:
        raise NotImplementedError

    def _fresh_boot(self, peer: Peer, boot: Boot) -> None:
        """This boot answered a fresh nonce: it is the one that is alive."""
        if peer.boot is None or peer.boot.boot_id != boot.boot_id:
            # another process: what the old one had in memory or said of its log counts no more
            # (rule 5)
            peer.match = 0
            peer.next = self.ledger.last.index + 1
            peer.acked_round = 0
            peer.acked_at = None
            peer.good_since = None
            peer.inflight.clear()
            peer.gone = False
        peer.boot = boot

    def _believable(self, peer: Peer, boot: Boot) -> bool:
        """Whether a frame's sender may be the process that is alive: it is the one that answered,
        or a newer one."""
        known = peer.boot
        return (
            known is None
            or known.boot_id == boot.boot_id
            or boot.counter > known.counter
            or not self._greeted(peer)
        )

    def _greeted(self, peer: Peer) -> bool:
        return peer.out is not None

    def _suspect_twice(self, peer: Peer, boot: Boot) -> None:
        raise NotImplementedError

    def _ask_for_life(self, peer: Peer, rival: Boot, now: float) -> None:
        raise NotImplementedError

    def _note_rival(self, peer: Peer, rival: Boot, now: float) -> None: ...

    def _lives(self, peer: Peer, out: Link, boot: Boot) -> None:
        raise NotImplementedError

    # --- liveness ---------------------------------------------------------------------------------

    def _heard(self, link: Link, frame: PeerFrame, now: float) -> Peer | None:
        """Check a frame's sender and note that it lives; None: not to be heard (protocol.md section
        2)."""
        peer = self.peers[link.peer]
        if frame.sender.boot.boot_id == self.boot_id or peer.foreign:
            return None
        if link.dialled:
            if link.boot is None or link.boot.boot_id != frame.sender.boot.boot_id:
                return None
        else:
            joins = (
                frame.sender.boot.counter == 0
            )  # without state: it can only ask, and is never dropped for its boot
            if not joins and not self._believable(peer, frame.sender.boot):
                self._suspect_twice(peer, frame.sender.boot)
                return None
            link.boot = frame.sender.boot
            if peer.boot is not None and peer.boot.boot_id != link.boot.boot_id and not joins:
                self._note_rival(peer, link.boot, now)
        if frame.target.boot.boot_id not in (self.boot_id, b""):
            return None  # meant for an earlier boot of ours
        if (
            peer.boot is not None
            and peer.boot.boot_id == frame.sender.boot.boot_id
            and frame.sender.boot.counter > peer.boot.counter
        ):
            peer.boot = (
                frame.sender.boot
            )  # it has become a member: its counter is no longer 0 (rule 7)
        peer.heard_at = link.heard_at = now
        return peer

    def _measure(self, peer: Peer, sample_s: float) -> None:
        """Keep the round trip: a smaller sample counts by half, a larger one by an eighth and
        within reason, so that one message that waited out a stall does not make every later wait
        long, nor one lucky message every later one short."""
        sample_s = min(max(sample_s, 0.0), self.config.timeout_s / ROUND_TRIPS_A_TIMEOUT)
        if peer.round_trip_s == 0.0:
            peer.round_trip_s = sample_s
        else:
            share = 2 if sample_s < peer.round_trip_s else 8
            peer.round_trip_s += (sample_s - peer.round_trip_s) / share

    def _send(self, peer: Peer, body: PeerBody, *, gate: int = 0) -> bool:
        """A request, on the link that we dialled; False where there is none."""
        if peer.out is None or peer.boot is None:
            return False
        self._post(peer.out, Endpoint(int(peer.rank), peer.boot), body, gate=gate)
        return True

    def _up(self, peer: Peer, now: float) -> bool:
        """Connected, and heard within the timeout."""
        return (
            peer.out is not None
            and peer.heard_at is not None
            and now - peer.heard_at <= self.config.timeout_s
        )

    def _linked(self) -> list[Peer]:
        """Peers that requests can be sent to."""
        return [peer for peer in self.peers.values() if peer.out is not None and not peer.foreign]

    def _beats_due(self, now: float) -> None:
        """Every s seconds a heartbeat to both; a master's is its Append (sent by the rounds)."""
        if self.role is Role.MASTER:
            return
        for peer in self._linked():
            if now >= peer.beat_at:
                peer.beat_at = now + self.config.interval_s
                self._send(peer, Beat(int(now * 1000) & BEAT_MASK))

    # --- evidence ---------------------------------------------------------------------------------

    def _process_gone(self, endpoint: Endpoint) -> bool:
        """Rule 6: the process *endpoint*, which we promised to, serves no more."""
        peer = self.peers.get(Rank(endpoint.rank))
        if peer is None:
            return False
        for link in self._links_of(peer.rank):
            if link.boot is None or link.boot.boot_id == endpoint.boot.boot_id:
                return False  # alive
        other_answered = (
            peer.boot is not None
            and peer.boot.boot_id != endpoint.boot.boot_id
            and peer.out is not None
        )
        return other_answered or (
            peer.gone and self.hard.promised_at == self.config.address_of(peer.rank)
        )

    def _remember(self, peer: Peer, last: Last) -> None:
        """Keep what the peer itself said to be durable; written with the next commit, none of its
        own (rule 7)."""
        if peer.boot is not None and peer.boot.counter > 0:
            seen = Seen(peer.boot, last)
            if self.hard.peer_seen.get(int(peer.rank)) != seen:
                self.hard.peer_seen[int(peer.rank)] = seen
                self._dirty_seen = True
