"""Rereads: from an administrator's word to all three servers, and back with what came of it.

The server that is asked reads its own file anew and passes the word on to both others, each of which
reads its own (protocol.md rule 19). Reading and verifying is done off the event loop
(:class:`~flexcore.server.actions.ReadLicense`); meanwhile everything goes on. The answer leaves when
all have answered and, on a master whose lines changed, when that is committed; or after
:data:`ANSWER_S`, with the names of those that did not answer.

A file that is being read when the word comes may be the one of before: it is read once more for
whoever asked meanwhile.

An options file is read with the licence file and judged with it: it belongs into
:class:`~flexcore.server.judgement.LicenseRead`, and from there into
:func:`~flexcore.server.setup.make_checkout`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

import attrs

from flexcore.checkout.rights import Rights
from flexcore.codes import ErrorCode, text_of
from flexcore.identity import Rank
from flexcore.options import options_digest
from flexcore.quorum import QuorumMachine
from flexcore.quorum.events import (
    PassedOn,
    RemovalAnswered,
    RemovalWanted,
    RereadAnswered,
    RereadWanted,
    SwitchAnswered,
    SwitchWanted,
)
from flexcore.report.plain import line_of
from flexcore.wire.messages import AdminReply, AdminRequest, RereadReply

from .actions import ReadLicense
from .administration import REMOVE
from .answers import asker_of
from .config import ServerConfig
from .connections import ServerConnection
from .journal import Journal
from .judgement import LicenseRead, LicenseRefused, changes_between
from .midnights import Midnights
from .outbox import Outbox
from .removals import Removals
from .switches import VERBS, Switches

if TYPE_CHECKING:
    from flexcore.options import OptionsFile

    from .desk import ClientDesk

ANSWER_S = 10.0
"""How long an administrator waits for the slowest server's file."""
COMMIT_S = 5.0
"""How long an answer waits until the change is on two servers."""
WAITERS_MAX = 32
"""Words of rereads that wait for one file; further ones are told to come again."""
KNOWN_MAX = 4
"""Signed lines that a server keeps: its file's, those in force, and the last ones before."""
SENTENCE_MAX = 400
SENTENCES_MAX = 120
"""Three servers' answers stay far below the longest message."""
DIFFERENT_FILES = 1
"""The answer's code where every server took its file and they are not the same."""


@attrs.frozen(kw_only=True)
class Waiter:
    """Who waits for this server's own file: the ask *number* of an administrator here, or that of the
    peer on *link*."""

    number: int
    link: int | None


@attrs.frozen(kw_only=True)
class Ready:
    """An answer that waits for the commit of entry *index*, or until *deadline*."""

    index: int
    deadline: float
    waiter: Waiter
    reply: RereadReply


@attrs.define(kw_only=True)
class Ask:
    """An administrator's question, with the answers that have come."""

    conn: int
    seq: int
    deadline: float
    ranks: tuple[Rank, ...]
    waiting: set[Rank]
    answers: dict[Rank, RereadReply]

    def copy(self) -> Ask:
        """Return a twin."""
        return attrs.evolve(self, waiting=set(self.waiting), answers=dict(self.answers))


def bounded(texts: Iterable[str]) -> tuple[str, ...]:
    """Return *texts* fit to be sent and printed: names in a licence file may be long, and anything."""
    return tuple([line_of(text[:SENTENCE_MAX]) for text in islice(texts, SENTENCES_MAX)])


class Rereads:
    """What this server knows of signed lines, and who waits for its file."""

    def __init__(
        self, config: ServerConfig, rights: Rights, quorum: QuorumMachine, outbox: Outbox,
        journal: Journal,
    ) -> None:  # fmt: skip
        self._config = config
        self._quorum = quorum
        self._outbox = outbox
        self._journal = journal
        self._file = rights
        self.options = config.options
        """What was read last; the node decides by it."""
        self._options_are_new = False
        self.newest: LicenseRead | None = None
        """What was read last, with its rules made ready."""
        self._midnights = Midnights(config.utc_offset_s)
        self._midnights.use(self.options)
        self._known: dict[bytes, Rights] = {rights.digest: rights}
        self._ticket = 0
        self._number = 0
        self._reading = False
        self._now_waiting: list[Waiter] = []
        self._next_waiting: list[Waiter] = []
        self._ready: list[Ready] = []
        self._asks: dict[int, Ask] = {}
        self.removals = Removals(config, quorum, outbox)
        self.switches = Switches(config, quorum, outbox, journal)

    @property
    def own_digest(self) -> bytes:
        """The lines of the own file, as it was read last."""
        return self._file.digest

    def rights_in_force(self) -> Rights:
        """Return the lines that the ledger names; those of the own file where it has no others."""
        return self._known.get(self._quorum.ledger.state.rights, self._file)

    def options_to_use(self) -> bool:
        """Whether other options were read since this was asked last."""
        are_new, self._options_are_new = self._options_are_new, False
        return are_new

    # --- being asked ------------------------------------------------------------------------------

    def ask(
        self, connection: ServerConnection, message: AdminRequest, *, now: float, wall: float,
        desk: ClientDesk | None = None,
    ) -> None:  # fmt: skip
        """An administrator of this machine asks: this server ('one') or all three ('all'), or for seats
        to be taken away. *desk*: None where this server decides nothing now."""
        if message.verb == REMOVE:
            self.removals.ask(connection, message, desk, now=now, wall=wall)
            return
        if message.verb in VERBS:
            self.switches.ask(connection, message, now=now, wall=wall)
            return
        if len(self._asks) >= WAITERS_MAX:
            busy = ErrorCode.SERVER_BUSY
            self._outbox.send(connection.conn, AdminReply(message.seq, int(busy), text_of(busy)))
            return
        by = asker_of(message)
        self._number += 1
        ranks: tuple[Rank, ...] = (self._config.rank,)
        reached: tuple[Rank, ...] = ()
        if message.arguments[0] == "all" and self._config.license.is_triad:
            ranks = tuple(Rank)
            reached = self._quorum.ask_reread(self._number, by, now=now, wall=wall)
        self._asks[self._number] = Ask(
            conn=connection.conn, seq=message.seq, deadline=now + ANSWER_S, ranks=ranks,
            waiting={self._config.rank, *reached}, answers={},
        )  # fmt: skip
        self._journal.reread_asked(by)
        self._want(Waiter(number=self._number, link=None))

    def want(self, requested_by: str) -> None:
        """Read the own file anew, with nobody to answer: the log says what came of it."""
        self._journal.reread_asked(requested_by)
        self._want(Waiter(number=0, link=None))

    def passed_on(
        self, action: PassedOn, *, desk: ClientDesk | None, now: float, wall: float
    ) -> None:
        """What an administrator asked of another server came here, or its answer did."""
        match action:
            case RereadWanted():
                self.ask_for_peer(action, now=now, wall=wall)
            case RereadAnswered():
                self.peer_answered(action.peer, action.reply)
            case RemovalWanted():
                self.removals.ask_for_peer(action, desk, now=now, wall=wall)
            case RemovalAnswered():
                self.removals.peer_answered(action.peer, action.reply)
            case SwitchWanted():
                self.switches.ask_for_peer(action, now=now, wall=wall)
            case SwitchAnswered():
                self.switches.peer_answered(action.peer, action.reply)

    def ask_for_peer(self, wanted: RereadWanted, *, now: float, wall: float) -> None:
        """Another server passes the word on."""
        if len(self._now_waiting) + len(self._next_waiting) + len(self._ready) >= WAITERS_MAX:
            code = ErrorCode.SERVER_BUSY
            busy = RereadReply(wanted.number, int(code), text_of(code), self._file.digest, b"", (), ())
            self._quorum.answer_reread(wanted.link, busy, now=now, wall=wall)
            return
        self._journal.reread_asked(wanted.requested_by)
        self._want(Waiter(number=wanted.number, link=wanted.link))

    def peer_answered(self, peer: Rank, reply: RereadReply) -> None:
        """A peer says what came of it there."""
        ask = self._asks.get(reply.number)
        if ask is not None and peer in ask.waiting:
            ask.waiting.discard(peer)
            ask.answers[peer] = reply

    # --- reading ----------------------------------------------------------------------------------

    def _want(self, waiter: Waiter) -> None:
        self._next_waiting.append(waiter)
        if not self._reading:
            self._read_next()

    def _read_next(self) -> None:
        self._reading = bool(self._next_waiting)
        if self._reading:
            self._now_waiting, self._next_waiting = self._next_waiting, []
            self._ticket += 1
            self._outbox.actions.append(ReadLicense(ticket=self._ticket))

    def read(
        self, ticket: int, outcome: LicenseRead | LicenseRefused, *, now: float, wall: float
    ) -> None:
        """The file was read and judged: take it, or say why not."""
        if not self._reading or ticket != self._ticket:
            return
        if isinstance(outcome, LicenseRefused):
            index, said = 0, self._refuse(outcome)
        else:
            index, said = self._take(outcome, now, wall)
        self._ready += [
            Ready(index=index, deadline=now + COMMIT_S, waiter=waiter,
                  reply=said._replace(number=waiter.number))
            for waiter in self._now_waiting
        ]  # fmt: skip
        self._now_waiting = []
        self._read_next()

    def _refuse(self, refused: LicenseRefused) -> RereadReply:
        (text, *details) = bounded((refused.text, *refused.details))
        self._journal.reread_done(f"was not taken: {text}", details, taken=False)
        return RereadReply(0, int(refused.code), text, self._file.digest, b"", (), tuple(details))

    def _take(self, outcome: LicenseRead, now: float, wall: float) -> tuple[int, RereadReply]:
        rights, quorum = outcome.rights, self._quorum
        changes, summary = changes_between(self._file, rights, quorum.ledger.state.in_use)
        self._file = rights
        self._keep(rights)
        self.newest = outcome
        remarks = (*outcome.remarks, *self._take_options(outcome.options))
        if self.options is not None:
            quorum.take_options(options_digest(self.options), now=now, wall=wall)
        changes, remarks = bounded(changes), bounded(remarks)
        index = quorum.take_rights(rights.digest, tuple(self._known), now=now, wall=wall)
        self._journal.reread_done(
            f"reread completed: {summary}", (*changes, *remarks), taken=True
        )
        return index, RereadReply(0, 0, summary, rights.digest, b"", changes, remarks)

    def _take_options(self, options: OptionsFile | None) -> tuple[str, ...]:
        if options is None:
            return ()
        self._journal.options_read(options, again=True)
        changed = options.rules != (() if self.options is None else self.options.rules)
        self.options = options
        self._midnights.use(options)
        self._options_are_new = self._options_are_new or changed
        return (f"{len(options.rules)} rules of options are in effect now",) if changed else ()

    def _keep(self, rights: Rights) -> None:
        """Know *rights* as the newest; forget the oldest that are not in force."""
        self._known.pop(rights.digest, None)
        self._known[rights.digest] = rights
        in_force = self._quorum.ledger.state.rights
        for digest in list(self._known):
            if len(self._known) > KNOWN_MAX and digest not in (in_force, rights.digest):
                del self._known[digest]

    # --- answering --------------------------------------------------------------------------------

    def settle(
        self, connections: Mapping[int, ServerConnection], *, now: float, wall: float
    ) -> None:
        """Once a turn: let go of the answers that may."""
        if self._midnights.is_over(now, wall):
            self.want(f"AUTOMATIC_REREAD@{self._config.host}")
        if self._ready:
            commit = self._quorum.ledger.commit
            ready, self._ready = self._ready, []
            for each in ready:
                if each.index <= commit:
                    self._deliver(each.waiter, each.reply, now, wall)
                elif each.deadline <= now:
                    late = each.reply._replace(text=f"{each.reply.text}; not yet on two servers")
                    self._deliver(each.waiter, late, now, wall)
                else:
                    self._ready.append(each)
        if self.removals.has_work:
            self.removals.settle(connections, now=now, wall=wall)
        if self.switches.has_work:
            self.switches.settle(connections, now=now)
        for number, ask in list(self._asks.items()) if self._asks else ():
            if not ask.waiting or ask.deadline <= now:
                del self._asks[number]
                if ask.conn in connections:
                    self._outbox.send(ask.conn, self._answer(ask))

    def _deliver(self, waiter: Waiter, reply: RereadReply, now: float, wall: float) -> None:
        reply = reply._replace(in_force=self._quorum.ledger.state.rights)
        if waiter.link is not None:
            self._quorum.answer_reread(waiter.link, reply, now=now, wall=wall)
        else:
            self.peer_answered(self._config.rank, reply)

    def _answer(self, ask: Ask) -> AdminReply:
        """Return what the administrator is told: a line for each server, then what changed."""
        lines: list[str] = []
        code = 0
        for rank in ask.ranks:
            reply = ask.answers.get(rank)
            name = self._name(rank)
            if reply is None:
                wait = rank in ask.waiting
                lines.append(f"{name}: {'did not answer' if wait else 'was not reached'}; it keeps"
                             " what it has")  # fmt: skip
                code = code or (ErrorCode.NO_ANSWER_IN_TIME if wait else ErrorCode.CANNOT_CONNECT)
            elif reply.code:
                lines.append(f"{name}: keeps what it has: {reply.text}")
                lines += [f"  {text}" for text in reply.remarks]
                code = code or reply.code
            else:
                lines.append(f"{name}: {reply.text}")
                lines += [f"  {text}" for text in reply.remarks]
        lines += self._changes(ask)
        differ = self._differences(ask)
        if differ:
            lines += differ
            code = code or DIFFERENT_FILES
        return AdminReply(ask.seq, int(code), text_of(code) if code < 0 else "", tuple(lines))

    def _name(self, rank: Rank) -> str:
        servers = self._config.servers
        host = servers[rank].host if rank < len(servers) else "this server"
        return f"{host} ({rank.word})" if self._config.license.is_triad else host

    def _changes(self, ask: Ask) -> list[str]:
        """What changed, once for all servers of which the same is to be said."""
        groups: dict[tuple[str, ...], list[Rank]] = {}
        for rank in ask.ranks:
            reply = ask.answers.get(rank)
            if reply is not None and reply.changes:
                groups.setdefault(reply.changes, []).append(rank)
        if len(groups) == 1:
            return list(next(iter(groups)))
        return [
            f"{', '.join(self._name(rank) for rank in ranks)}: {text}"
            for changes, ranks in groups.items()
            for text in changes
        ]

    def _differences(self, ask: Ask) -> list[str]:
        """Say whose lines are in force, where not all that answered have the same."""
        files = {rank: reply.digest for rank, reply in ask.answers.items()}
        master = self._quorum.report().master
        in_force = self._quorum.ledger.state.rights
        if master is not None and master in ask.answers:  # our own copy of the ledger may be late
            in_force = ask.answers[master].in_force
        if not in_force or all(digest == in_force for digest in files.values()):
            return []
        theirs = [self._name(rank) for rank in ask.ranks if files.get(rank) == in_force]
        others = [self._name(rank) for rank in ask.ranks if files.get(rank, in_force) != in_force]
        whose = f"those of {', '.join(theirs)}" if theirs else "those of before"
        what = f"the licence lines in force are {whose}; {' and '.join(others)} not"
        return [f"{what}: put the same file on all three servers and read it anew"]

    # --- time, copies -----------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """Return when somebody has waited long enough."""
        midnight_at, removal_at = self._midnights.next_at, self.removals.next_timeout()
        switch_at = self.switches.next_timeout()
        if not (self._ready or self._asks or midnight_at or removal_at or switch_at):
            return None
        dues = [each.deadline for each in self._ready] + [ask.deadline for ask in self._asks.values()]
        dues += [at for at in (midnight_at, removal_at, switch_at) if at is not None]
        return min(dues, default=None)

    def copy(self, quorum: QuorumMachine, outbox: Outbox, journal: Journal) -> Rereads:
        """Return a twin that works with the twins of its surroundings."""
        twin = object.__new__(Rereads)
        twin.__dict__.update(self.__dict__)
        twin._quorum, twin._outbox, twin._journal = quorum, outbox, journal
        twin._known = dict(self._known)
        twin._now_waiting, twin._next_waiting = list(self._now_waiting), list(self._next_waiting)
        twin._ready = list(self._ready)
        twin._midnights = self._midnights.copy()
        twin._asks = {number: ask.copy() for number, ask in self._asks.items()}
        twin.removals = self.removals.copy(quorum, outbox)
        twin.switches = self.switches.copy(quorum, outbox, journal)
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what decides its future, times relative to *now*."""
        return (
            self.removals.fingerprint(now), self.switches.fingerprint(now),
            self._file.digest, self.options, tuple(self._known), self._ticket, self._number, self._reading,
            tuple(self._now_waiting), tuple(self._next_waiting),
            tuple((each.index, each.deadline - now, each.waiter, each.reply) for each in self._ready),
            tuple(
                (number, ask.conn, ask.seq, ask.deadline - now, ask.ranks,
                 tuple(sorted(ask.waiting)), tuple(sorted(ask.answers.items())))
                for number, ask in sorted(self._asks.items())
            ),
        )  # fmt: skip
