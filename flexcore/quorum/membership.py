"""Who the three are, and which triad this is: greetings judged (protocol.md rules 7, 9, 19).

**Rule 19, membership.** Who the three are (vendor and hostids, in order) is compared at the
greeting; with a difference the other is no peer, and both logs name it. One hostid changed against
the state is a change of one member: that one joins as recovering. More is another triad.

**Rule 9, two triads.** Two servers of different committed triads are not peers. The one that stops
is the one that hears another id from a serving master, or from both others. Nothing is merged,
nothing is overwritten. A triad under which nobody was ever served is given up instead: nothing is
lost with it.

**Rule 7.** A server that shows less than a peer remembers of it (counter, last entry) has lost the
end of its state: from then on it is recovering, and no member.

Shown by ``tests/test_quorum_forming.py`` (``test_two_changed_hostids_are_refused_with_both_lists``,
``test_another_id_from_a_serving_master_stops_this_server``) and ``tests/test_quorum_recovery.py``
(``test_who_shows_less_than_is_remembered_is_recovering``).
"""

from __future__ import annotations

from flexcore import timing
from flexcore.identity import Rank
from flexcore.ledger import Ledger
from flexcore.override import override
from flexcore.quorum.handover import Handover
from flexcore.quorum.links import Peer
from flexcore.wire.messages import PROTOCOL_VERSION, Hello, Seen

SAID_MAX = 256
"""Differences that are told once each; beyond it they are not told."""


class Membership(Handover):
    """Judging whether another server is a peer, and whether this one still is."""

    def _init_membership(self, now: float) -> None:
        self.recover_at = now
        """When to ask the others for what is lost (rule 8)."""
        self.longest_heard_s = self.config.timeout_s
        self._said: set[str] = set()
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
        """Rule 19: one hostid changed against the state is a change of one member; more is another
        triad."""
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
            self._sit_out_promise_to(changed[0])
        self.hard.hostids = own
        self._touch_hard()

    def _sit_out_promise_to(self, replaced: Rank) -> None:
        """The machine that we promised is no longer in the file, and may serve by that promise still.

        The schedule: P serves; the file gets another machine for P; S and T start again with it. At
        P's place now answers, or refuses, the new machine: evidence of rule 6 for a process that was
        never there. S and T elect S while the old machine serves for up to a whole lease. So the
        promise becomes a wait that no evidence ends (durable, as that of rule 8).
        """
        promised = self.hard.promised_to
        if promised is None or promised.rank != replaced:
            return
        self.hard.no_promise_s = max(self.hard.no_promise_s, self.hard.promise_len_s)
        self.hard.no_promise_term = self.hard.term
        self.no_promise_before = max(self.no_promise_before, self.now + self.hard.no_promise_s)
        self.hard.promised_to = None
        self.promise_until = self.now

    def _say_once(self, key: str, kind: str, text: str, peer: Rank | None = None) -> None:
        if key not in self._said and len(self._said) < SAID_MAX:
            self._said.add(key)
            self._notice(kind, text, peer)

    # --- judging a greeting -----------------------------------------------------------------------

    @override
    def _judge_hello(self, peer: Peer, hello: Hello, now: float) -> None:
        """Is it a peer, does it remember more of us than we have, does it belong to another
        triad?"""
        self.longest_heard_s = max(self.longest_heard_s, hello.timeout_s, hello.longest_timeout_s)
        foreign = (
            self._other_protocol(peer, hello)
            or self._other_membership(peer, hello)
            or self._other_triad(peer, hello, now)
        )
        if foreign and peer.out is not None:
            self._notice("lost", "it is not of this triad", peer.rank)
            peer.out = None
        peer.foreign = foreign
        if foreign:
            return
        if hello.rights_digest != self.rights_digest:
            self._say_once(
                f"rights {hello.rights_digest.hex()}",
                "rights",
                f"{peer.rank.word}'s licence file has other signed lines than this server's",
                peer.rank,
            )
        self._compare_options(peer)
        if abs(hello.wall - self.wall) > timing.CLOCKS_DIFFER_S:
            later = "ahead of" if hello.wall > self.wall else "behind"
            self._say_once(
                f"clock {peer.rank} {later}",
                "clock",
                f"{peer.rank.word}'s clock is {abs(hello.wall - self.wall) / 60.0:.0f} minutes {later} this"
                " server's: licences expire by the calendar of whoever serves",
                peer.rank,
            )
        self._member_seen = self._member_seen or hello.member
        if self.first_start and hello.member:
            self.first_start = False
            if hello.committed_triad not in (self.hard.triad_id, self.hard.pending_triad):
                self._notice(
                    "first_start_ignored",
                    f"--first-start is ignored: {peer.rank.word} is a member; this server joins it",
                    peer.rank,
                )
        seen = hello.seen_of_you
        if seen is not None and self.hard.member and self._shows_less_than(seen):
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

    def _has_other_options(self, hello: Hello) -> bool:
        """Whether a peer's options file differs; False where one of the two does not say."""
        mine, its = self.options_digest, hello.options_digest
        return bool(mine and its) and mine != its

    def _compare_options(self, peer: Peer) -> None:
        """Tell of another options file: after a failover that one decides (rule 19 leaves options to
        each server; a value of b"" is a server that does not say)."""
        if peer.hello is not None and not peer.foreign and self._has_other_options(peer.hello):
            self._say_once(
                f"options {peer.hello.options_digest.hex()} {self.options_digest.hex()}",
                "options",
                f"{peer.rank.word}'s options file differs from this server's: after a failover that one"
                " decides; put the same file on all servers and read it anew (lmreread)",
                peer.rank,
            )

    def _other_protocol(self, peer: Peer, hello: Hello) -> bool:
        """Section 2: two servers speak one protocol. Both compare, so both logs say it."""
        if hello.protocol == PROTOCOL_VERSION:
            return False
        self._say_once(
            f"protocol {peer.rank} {hello.protocol}",
            "membership",
            f"{peer.rank.word} speaks version {hello.protocol} of the protocol (software"
            f" {hello.software[:32]}), this server version {PROTOCOL_VERSION}: not a peer until both run"
            " the same version",
            peer.rank,
        )
        return True

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
            f"its licence file names other hostids for {', '.join(differing) or 'its servers'}: "
            "not a peer until they agree",
            peer.rank,
        )
        return True

    def _other_triad(self, peer: Peer, hello: Hello, now: float) -> bool:
        """Rule 9: another committed triad_id. Whoever hears it from a serving master, or from both
        others, stops; one that was formed with our own vote is no other."""
        if not (
            self.hard.member
            and hello.committed_triad
            and hello.committed_triad not in (self.hard.triad_id, self.hard.pending_triad)
        ):
            return False
        theirs, ours = hello.committed_triad.hex()[:8], self.hard.triad_id.hex()[:8]
        text = f"{peer.rank.word} belongs to another forming of this triad ({theirs}, ours {ours})"
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
            and all(
                each.hello is not None and each.hello.committed_triad
                for each in self.peers.values()
            )
        )
        if hello.serving or (both and self.hard.triad_id not in others):
            self._end_reign("the triad was formed anew without this server", now, None)
            if self._never_served():
                self._give_up_triad(peer, now)
                return False
            self._halt(
                1,
                "the triad was formed anew without this server: its state is of the old one and "
                "nothing of it is merged; delete its state folder and start it again to join",
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
        """Rule 9 says so of an uncommitted Formed; a committed one under which nobody was ever
        served is no different.

        The schedule: P and S form, P stops before S knows it to be committed; S, blank to the
        letter, forms anew with T; P comes back with a triad of its own that nobody has used.
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

    def _forget_log(self) -> None:
        """What a server that is no member holds (a Formed that came to nothing, a state that lost
        its end) counts as nothing."""
        if self.ledger.last.index > 0:
            self._replace_log(Ledger(), None)
