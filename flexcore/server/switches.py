"""Logs that go on elsewhere: lmswitch (debug log), lmswitchr and lmnewlog (report log).

The server that is asked passes the word on to both others, as a reread: each has its own files, and
the path counts from where its log is. Moving the file is the transport's
(:class:`~flexcore.server.actions.SwitchLog`); the report log's chain goes on in the new file
(:mod:`flexcore.server.registrar`).

Anybody on a server's machine may connect and order it, so where a log may go is bounded by the
transport: into the folder of the log that is written, or one below, and never over a file that exists.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

import attrs

from flexcore.codes import ErrorCode, text_of
from flexcore.identity import Rank
from flexcore.report.plain import line_of
from flexcore.wire.messages import AdminReply, AdminRequest, Switch, SwitchReply

from .actions import How, SwitchLog
from .answers import asker_of

if TYPE_CHECKING:
    from flexcore.quorum import QuorumMachine
    from flexcore.quorum.events import SwitchWanted

    from .config import ServerConfig
    from .connections import ServerConnection
    from .journal import Journal
    from .outbox import Outbox

LMSWITCH, LMSWITCHR, LMNEWLOG = "switch", "switchr", "newlog"
"""Verbs; arguments: 'one' or 'all', a vendor or (of the report log) a feature, the path, and perhaps
:data:`ROLLOVER`."""
VERBS = frozenset({LMSWITCH, LMSWITCHR, LMNEWLOG})
ROLLOVER = "rollover"
"""lmswitch -rollover: the path is for what was written so far."""

ANSWER_S = 10.0
ASKS_MAX = 32
PATH_MAX = 1024
TEXT_MAX = 512


@attrs.define(kw_only=True)
class SwitchAsk:
    """An administrator's order, with the answers that have come."""

    conn: int
    seq: int
    deadline: float
    ranks: tuple[Rank, ...]
    waiting: set[Rank]
    answers: dict[Rank, SwitchReply]

    def copy(self) -> SwitchAsk:
        """Return a twin."""
        return attrs.evolve(self, waiting=set(self.waiting), answers=dict(self.answers))


class Switches:
    """Who ordered what, and what came of it."""

    def __init__(
        self, config: ServerConfig, quorum: QuorumMachine, outbox: Outbox, journal: Journal
    ) -> None:
        self._config, self._quorum = config, quorum
        self._outbox, self._journal = outbox, journal
        self._number = self._ticket = 0
        self._asks: dict[int, SwitchAsk] = {}
        self._tickets: dict[int, tuple[int, int | None, bool]] = {}
        """Of orders under way: number, the link of the peer that passed it on, and whether the report log
        goes to a place of its own."""

    # --- being asked ------------------------------------------------------------------------------

    def ask(
        self, connection: ServerConnection, message: AdminRequest, *, now: float, wall: float
    ) -> None:
        """An administrator of this machine asks: this server ('one') or all three ('all')."""
        scope, *rest = message.arguments[:5] or ("",)
        arguments = tuple([text[: PATH_MAX + 1] for text in rest])
        if len(self._asks) >= ASKS_MAX:
            busy = ErrorCode.SERVER_BUSY
            self._outbox.send(connection.conn, AdminReply(message.seq, int(busy), text_of(busy)))
            return
        self._number += 1
        by = asker_of(message)
        ranks: tuple[Rank, ...] = (self._config.rank,)
        reached: tuple[Rank, ...] = ()
        if scope == "all" and self._config.license.is_triad:
            ranks = tuple(Rank)
            reached = self._quorum.ask_switch(self._number, message.verb, arguments, by, now=now, wall=wall)
        self._asks[self._number] = SwitchAsk(
            conn=connection.conn, seq=message.seq, deadline=now + ANSWER_S, ranks=ranks,
            waiting={self._config.rank, *reached}, answers=self._too_old(ranks),
        )  # fmt: skip
        self._carry_out(self._number, None, message.verb, arguments, by, now, wall)

    def _too_old(self, ranks: tuple[Rank, ...]) -> dict[Rank, SwitchReply]:
        """Return what is to be said of servers that were not asked, since they would not understand it."""
        no = int(ErrorCode.REQUEST_NOT_SUPPORTED)
        running = [(rank, self._quorum.too_old_for(Switch, rank)) for rank in ranks]
        return {rank: SwitchReply(self._number, no, f"runs flexcore {line_of(software[:32])}, which does not know"
                                                    " this order: upgrade it first")
                for rank, software in running if software}  # fmt: skip

    def ask_for_peer(self, wanted: SwitchWanted, *, now: float, wall: float) -> None:
        """Another server passes the word on."""
        self._carry_out(
            wanted.number, wanted.link, wanted.verb, wanted.arguments, wanted.requested_by, now, wall
        )

    def peer_answered(self, peer: Rank, reply: SwitchReply) -> None:
        """A peer says what came of it there."""
        ask = self._asks.get(reply.number)
        if ask is not None and peer in ask.waiting:
            ask.waiting.discard(peer)
            ask.answers[peer] = reply

    # --- carrying it out --------------------------------------------------------------------------

    def _carry_out(
        self, number: int, link: int | None, verb: str, arguments: tuple[str, ...], by: str, now: float,
        wall: float,
    ) -> None:  # fmt: skip
        refusal = self._refusal(verb, arguments)
        if refusal is not None:
            self._deliver(SwitchReply(number, *refusal), link, now, wall)
            return
        path, rollover = arguments[1], ROLLOVER in arguments[2:]
        self._ticket += 1
        self._tickets[self._ticket] = (number, link, verb == LMSWITCHR)
        if verb == LMSWITCH:
            how = How.KEEP if rollover else How.NEW
            self._outbox.actions.append(SwitchLog(
                ticket=self._ticket, daemon=self._config.served_vendor, how=how, path=path, first=""))  # fmt: skip
        else:
            how = How.KEEP if verb == LMNEWLOG else How.NEW
            self._journal.registrar.switch(self._ticket, how, path, f"lm{verb} by {by}", wall)

    def _refusal(self, verb: str, arguments: tuple[str, ...]) -> tuple[int, str] | None:
        """Return why an order is not carried out here, None: it is."""
        if verb not in VERBS or not 2 <= len(arguments) <= 3:
            return int(ErrorCode.REQUEST_NOT_SUPPORTED), text_of(ErrorCode.REQUEST_NOT_SUPPORTED)
        name, path = arguments[:2]
        if not path or len(path) > PATH_MAX or line_of(path) != path or "\t" in path:
            return int(ErrorCode.INVALID_PARAMETER), "that is no path for a log"
        vendor = self._config.served_vendor
        known = name.casefold() == vendor.casefold() or (
            verb != LMSWITCH and name in self._journal.features
        )
        if not known:
            code = ErrorCode.VENDOR_DOWN if verb == LMSWITCH else ErrorCode.NO_SUCH_FEATURE
            return int(code), f"{vendor} is served here, not {line_of(name[:64])}"
        if verb != LMSWITCH and not self._journal.registrar.writes:
            return (int(ErrorCode.REQUEST_NOT_SUPPORTED),
                    "this server writes no report log: lmgrd --report-log, or REPORTLOG")  # fmt: skip
        return None

    def done(self, ticket: int, code: int, text: str, *, now: float, wall: float) -> None:
        """The transport has let a log go on elsewhere, or says why not."""
        self._journal.log_switched(text, failed=bool(code))
        number, link, elsewhere = self._tickets.pop(ticket, (0, None, False))
        if elsewhere and not code:
            self._journal.registrar.is_elsewhere = True
        self._deliver(SwitchReply(number, code, line_of(text[:TEXT_MAX])), link, now, wall)

    def _deliver(self, reply: SwitchReply, link: int | None, now: float, wall: float) -> None:
        if link is not None:
            self._quorum.answer_switch(link, reply, now=now, wall=wall)
        else:
            self.peer_answered(self._config.rank, reply)

    @property
    def has_work(self) -> bool:
        """Whether somebody waits for an answer: as good as never, and asked once a turn."""
        return bool(self._asks)

    # --- answering --------------------------------------------------------------------------------

    def settle(self, connections: Mapping[int, ServerConnection], *, now: float) -> None:
        """Once a turn: answer who has waited for everybody, or long enough."""
        for number, ask in list(self._asks.items()):
            if not ask.waiting or ask.deadline <= now:
                del self._asks[number]
                if ask.conn in connections:
                    self._outbox.send(ask.conn, self._answer(ask))

    def _answer(self, ask: SwitchAsk) -> AdminReply:
        """Return a line for each server, and the code of the first that did not do it."""
        lines: list[str] = []
        worst = 0
        for rank in ask.ranks:
            reply = ask.answers.get(rank)
            if reply is None:
                wait = rank in ask.waiting
                said = "did not answer" if wait else "was not reached"
                code = int(ErrorCode.NO_ANSWER_IN_TIME if wait else ErrorCode.CANNOT_CONNECT)
            else:
                said, code = reply.text, reply.code
            lines.append(f"{self._name(rank)}: {said}")
            worst = worst or code
        return AdminReply(ask.seq, worst, text_of(worst) if worst else "", tuple(lines))

    def _name(self, rank: Rank) -> str:
        servers = self._config.servers
        host = servers[rank].host if rank < len(servers) else "this server"
        return f"{host} ({rank.word})" if self._config.license.is_triad else host

    def next_timeout(self) -> float | None:
        """Return when somebody has waited long enough."""
        return min([ask.deadline for ask in self._asks.values()]) if self._asks else None

    def copy(self, quorum: QuorumMachine, outbox: Outbox, journal: Journal) -> Switches:
        """Return a twin that works with the twins of its surroundings."""
        twin = Switches(self._config, quorum, outbox, journal)
        twin._number, twin._ticket, twin._tickets = self._number, self._ticket, dict(self._tickets)
        twin._asks = {number: ask.copy() for number, ask in self._asks.items()}
        return twin

    def fingerprint(self, now: float) -> Hashable:
        """Return what decides its future, times relative to *now*."""
        return (
            self._number, self._ticket, tuple(sorted(self._tickets.items(), key=lambda item: item[0])),
            tuple((number, ask.conn, ask.seq, ask.deadline - now, tuple(sorted(ask.waiting)),
                   tuple(sorted(ask.answers.items()))) for number, ask in sorted(self._asks.items())),
        )  # fmt: skip
