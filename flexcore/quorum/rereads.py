"""A licence file that is read anew while everything runs (protocol.md rule 19).

*Rereads move the entry, never a promise, a vote or a term.* The signed lines in force are an entry
of the log (``Rights``), and only a master that takes decisions appends one: when its own file was
read anew, or when it serves by lines that it read before and a majority shows those of its file by
now. Whoever reads another file says so in a Hello, at once.

**What a server read before is not forgotten** (``known_rights``). The schedule: a rolling change
begins at S; P, which serves by the old lines, fails before it is told. S's file is new and T's is
old, so no majority shows one file, and if S knew its own file only nobody might stand until an
administrator comes. S still has the old lines, which are those in force: it serves by them, puts no
entry into the log, and moves to its own file's when T shows them as well. So no failover changes
what may be granted, unless two servers agree on it.

**The hole that is left**: P and T have read the new file, S has not, and P fails. The lines in force
are in no file of S, and T never stands: nobody serves until S has read the new file too (one
``lmreread`` on S's or T's machine, once the file is there). Anything else would let one server alone
decide what is licensed.

Shown by ``tests/test_quorum_rereads.py``.
"""

from __future__ import annotations

from flexcore.identity import Endpoint, Rank
from flexcore.ledger.commands import Rights
from flexcore.quorum.base import Role
from flexcore.quorum.events import (
    RemovalAnswered,
    RemovalWanted,
    RereadAnswered,
    RereadWanted,
    SwitchAnswered,
    SwitchWanted,
)
from flexcore.quorum.links import Link, Peer
from flexcore.quorum.reports import Reports
from flexcore.wire.messages import (
    LATER_REQUESTS,
    Remove,
    RemoveReply,
    Reread,
    RereadReply,
    Switch,
    SwitchReply,
)


class Rereads(Reports):
    """The rights entry while a reign lasts, and the word of a reread from server to server."""

    knows = tuple(LATER_REQUESTS.values())

    def _init_rereads(self) -> None:
        self._reread_in_term = 0
        """The term in which this server, as master, read its own file anew last."""

    def _tick(self, now: float, wall: float) -> None:
        raise NotImplementedError

    def take_rights(self, own: bytes, known: tuple[bytes, ...], *, now: float, wall: float) -> int:
        """This server's file was read anew: its signed lines are *own*.

        *known* are all that it can serve by: *own*, and what it read before. On a master the lines
        are in force from here on (``ledger.state.rights``), and for clients and administrators once
        that entry is committed: its index is returned. Another server has nothing to wait for, and
        one that hands over leaves the log alone: 0.
        """
        assert own in known
        self._tick(now, wall)
        if self.halted is not None:
            return 0
        self.known_rights = known
        if own != self.rights_digest:
            self.rights_digest = own
            self._greet_again(now)
        if self.role is Role.MASTER:
            self._reread_in_term = self.hard.term
        self._move_rights(now)
        return self.ledger.state.rights_index if self.role is Role.MASTER else 0

    def take_options(self, digest: bytes, *, now: float, wall: float) -> None:
        """This server's options file was read anew: the others hear of it, and nothing else happens."""
        self._tick(now, wall)
        if self.halted is None and digest != self.options_digest:
            self.options_digest = digest
            self._greet_again(now)
            for peer in self.peers.values():
                self._compare_options(peer)

    def _move_rights(self, now: float) -> None:
        """Append the rights of the own file where a master may put them into force."""
        if not self.accepting or self.rights_digest == self.ledger.state.rights:
            return
        if self._reread_in_term == self.hard.term or self._majority_shows_own():
            self.propose(Rights(self.rights_digest), now=now, wall=self.wall)

    # --- from server to server --------------------------------------------------------------------

    def ask_reread(
        self, number: int, requested_by: str, *, now: float, wall: float
    ) -> tuple[Rank, ...]:
        """Pass on to both others that the file is to be read anew; return whom that was sent to."""
        self._tick(now, wall)
        asked = Reread(number, requested_by)
        return tuple([peer.rank for peer in self._linked() if self._send(peer, asked)])

    def answer_reread(self, link: int, reply: RereadReply, *, now: float, wall: float) -> None:
        """Say on *link*, where :class:`RereadWanted` came from, what came of it."""
        self._tick(now, wall)
        self._answer_on(link, reply)

    def _answer_on(self, link: int, reply: RereadReply | RemoveReply | SwitchReply) -> None:
        known = self.links.get(link)
        if known is not None and known.boot is not None:
            self._post(link, Endpoint(int(known.peer), known.boot), reply)

    def _on_reread(self, link: Link, body: Reread) -> None:
        self._emit(
            RereadWanted(link=link.number, number=body.number, requested_by=body.requested_by)
        )

    def _on_reread_reply(self, peer: Peer, body: RereadReply) -> None:
        self._emit(RereadAnswered(peer=peer.rank, reply=body))

    def ask_removal(
        self, master: Rank, number: int, arguments: tuple[str, ...], requested_by: str, *,
        now: float, wall: float,
    ) -> bool:  # fmt: skip
        """Pass on to *master* that seats are to be taken away; False where it is not reached."""
        self._tick(now, wall)
        peer = self.peers.get(master)
        if peer is None or peer not in self._linked() or not _knows(peer, Remove):
            return False
        return self._send(peer, Remove(number, arguments, requested_by))

    def answer_removal(self, link: int, reply: RemoveReply, *, now: float, wall: float) -> None:
        """Say on *link*, where :class:`RemovalWanted` came from, what came of it."""
        self._tick(now, wall)
        self._answer_on(link, reply)

    def _on_remove(self, link: Link, body: Remove) -> None:
        self._emit(
            RemovalWanted(
                link=link.number, number=body.number, arguments=body.arguments,
                requested_by=body.requested_by,
            )
        )  # fmt: skip

    def _on_remove_reply(self, peer: Peer, body: RemoveReply) -> None:
        self._emit(RemovalAnswered(peer=peer.rank, reply=body))

    def ask_switch(
        self, number: int, verb: str, arguments: tuple[str, ...], requested_by: str, *, now: float,
        wall: float,
    ) -> tuple[Rank, ...]:  # fmt: skip
        """Pass on to both others that a log is to go on elsewhere; return whom that was sent to."""
        self._tick(now, wall)
        asked = Switch(number, verb, arguments, requested_by)
        return tuple([peer.rank for peer in self._linked() if _knows(peer, Switch) and self._send(peer, asked)])

    def too_old_for(self, request: type, rank: Rank) -> str:
        """Return which software *rank* runs where it is reached and does not know *request*, else ''.

        A rolling upgrade: one that was sent it all the same would end the link, again with each order.
        """
        peer = self.peers.get(rank)
        if peer is None or peer not in self._linked() or _knows(peer, request):
            return ""
        return (peer.hello.software if peer.hello is not None else "") or "?"

    def answer_switch(self, link: int, reply: SwitchReply, *, now: float, wall: float) -> None:
        """Say on *link*, where :class:`SwitchWanted` came from, what came of it."""
        self._tick(now, wall)
        self._answer_on(link, reply)

    def _on_switch(self, link: Link, body: Switch) -> None:
        self._emit(
            SwitchWanted(
                link=link.number, number=body.number, verb=body.verb, arguments=body.arguments,
                requested_by=body.requested_by,
            )
        )  # fmt: skip

    def _on_switch_reply(self, peer: Peer, body: SwitchReply) -> None:
        self._emit(SwitchAnswered(peer=peer.rank, reply=body))


def _knows(peer: Peer, request: type) -> bool:
    """Whether *peer* has said that it understands *request*."""
    return peer.hello is not None and LATER_REQUESTS[request] in peer.hello.knows
