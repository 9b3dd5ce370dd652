"""Two processes that claim to be one server (protocol.md rules 6 and 7).

Somebody copied a state folder, or started a SERVER line on a second machine. Each of the two may
vote and promise in the other's name, so nothing is promised to either, and the logs say so, until
one of them is stopped. It is known in two ways:

* *the same counter, another id.* Counters are raised durably at each start, so two ids with one
  counter are two processes that began with one state folder (a lower counter alone is an old boot's
  late word, and is not heard);
* *both are alive.* A process whose counter is higher than that of the one we dialled is its
  successor, as a rule: the one we dialled died, and its connection ends in a moment. So that one is
  asked for a sign of life, with a fresh nonce: if it answers, it was alive after the other had
  spoken. A process with an empty folder recovers, and has the higher counter: nothing else tells.
  (Before that it has none, is promised nothing, and its greeting may be an old one that is late.)

Shown by ``tests/test_quorum_promises.py::test_nobody_renews_a_server_that_runs_twice`` and its
neighbours, and by ``make chaos`` (two servers with the same SERVER line).
"""

from __future__ import annotations

from flexcore.identity import Boot
from flexcore.override import override
from flexcore.quorum.links import Link, Links, Peer


class Rivals(Links):
    """Finds out that a server runs twice."""

    @override
    def _suspect_twice(self, peer: Peer, boot: Boot) -> None:
        """Another boot, not a newer one, speaks while ours is connected."""
        assert peer.boot is not None
        if boot.counter == peer.boot.counter:
            self._runs_twice(peer, boot)

    @override
    def _ask_for_life(self, peer: Peer, rival: Boot, now: float) -> None:
        """*rival* greeted us: is the process that we dialled, if it is another one, still alive?"""
        if peer.out is None or peer.boot is None or peer.boot.boot_id == rival.boot_id:
            return
        out = self.links[peer.out]
        out.nonce = self._fresh_nonce()
        out.rival = rival.boot_id
        self._greet(out, now)

    @override
    def _note_rival(self, peer: Peer, rival: Boot, now: float) -> None:
        """A process that is not the one we dialled goes on talking to us.

        Its greeting came while the other could not answer (it was suspended, and its folder had
        been copied meanwhile), so that nobody was asked for a sign of life then. Asked once.
        """
        if peer.out is not None and not peer.twice and not self.links[peer.out].rival:
            self._ask_for_life(peer, rival, now)

    @override
    def _lives(self, peer: Peer, out: Link, boot: Boot) -> None:
        """The process that we dialled answered a nonce that was sent after its rival had spoken."""
        rival, out.rival = out.rival, b""
        for link in self._links_of(peer.rank):
            if not link.dialled and link.boot is not None and link.boot.boot_id == rival:
                if peer.boot is not None and peer.boot.boot_id == boot.boot_id:
                    self._runs_twice(peer, link.boot)

    def _runs_twice(self, peer: Peer, other: Boot) -> None:
        assert peer.boot is not None
        if peer.twice:
            return
        peer.twice = True
        self._notice(
            "twice",
            f"the {peer.rank.word} runs twice: boots {other.boot_id.hex()[:8]} and "
            f"{peer.boot.boot_id.hex()[:8]} both answer; nothing is promised to either until one "
            "of them is stopped",
            peer.rank,
        )
