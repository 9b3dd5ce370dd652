"""The report log of one server: a record of every entry that is committed here, master or not.

Only the master knows of denials. The debug log's OUT and IN are the desk's: an entry of an earlier
master that is committed under this one only is in the report logs and in no debug log, since this one
cannot know whether the other had told it already.

What was written before a restart is not written again: the log's last line says up to where. Entries
that came as a snapshot only are named as a gap, which the other servers' logs fill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcore.codes import minor_of, text_of
from flexcore.ledger.commands import Formed, SessionEnded
from flexcore.ledger.log import Committed
from flexcore.report.logline import refusal_line
from flexcore.report.reportlog import (
    DENIED,
    SCHEMA,
    Record,
    ReportChain,
    entry_fields,
    kind_of,
    person_fields,
)

from .actions import How, SwitchLog, WriteReport
from .answers import NAME_MAX

if TYPE_CHECKING:
    from flexcore.ledger.sessions import Session
    from flexcore.quorum import QuorumMachine
    from flexcore.wire.messages import Checkout

    from .config import ServerConfig
    from .outbox import Outbox

TRIAD_DIGITS = 8


class Refused(str):
    """The debug log's line of a denial (D4), and what the report log says of it."""

    term: int
    after: int
    """Index of the entry after which it was decided."""
    fields: Record


def refusal_of(message: Checkout, session: Session, code: int, *, term: int, after: int) -> Refused:
    """Return what is to be logged of the denial of *message*."""
    feature, text, minor = message.feature[:NAME_MAX], text_of(code), minor_of(code)
    line = Refused(refusal_line(feature, session.user, session.host, message.count, text, code, minor))
    line.term, line.after = term, after
    line.fields = {
        "feature": feature, "count": message.count, **person_fields(session), "code": code,
        "minor": minor, "text": text,
    }  # fmt: skip
    return line


class Registrar:
    """Takes what was committed once a turn, and writes it down."""

    def __init__(
        self, config: ServerConfig, quorum: QuorumMachine, outbox: Outbox, wall: float
    ) -> None:
        self._config, self._quorum, self._outbox = config, quorum, outbox
        ledger = quorum.ledger
        ledger.feed = None if config.report is None else []
        self._ledger = ledger
        self._chain: ReportChain | None = None
        self._triad = ""
        self._recorded = ledger.base.index
        self._denial = (0, 0, 0)
        self.is_elsewhere = False
        """lmswitchr sent it to another place, until the options file is read anew."""
        if config.report is not None:
            self._begin(wall)

    def _begin(self, wall: float) -> None:
        assert self._config.report is not None
        end = self._config.report
        self._chain = ReportChain(end)
        here = self._triad_of_base()
        self._triad = here or end.triad  # the log may end in the life of a triad that is no more
        if end.index and here in ("", end.triad):
            self._recorded = end.index
        self._outbox.actions.append(WriteReport(self._start_line(wall)))

    def _start_line(self, wall: float) -> str:
        assert self._chain is not None
        rank = self._config.rank
        return self._own_line("start", wall, {
            "schema": SCHEMA, "server": rank.word if self._config.license.is_triad else "single",
            "host": self._config.host, "vendor": self._config.served_vendor,
            "prev": self._chain.position.hash, "software": f"flexcore {self._config.software}",
        })  # fmt: skip

    def _triad_of_base(self) -> str:
        """The triad whose entries the snapshot holds; '' without one."""
        state, base = self._ledger.state, self._ledger.base.index
        held = base and state.formed_index <= base
        return state.triad_id.hex()[:TRIAD_DIGITS] if held else ""

    def _own(self, kind: str, wall: float, fields: Record) -> None:
        self._outbox.actions.append(WriteReport(self._own_line(kind, wall, fields)))

    def _own_line(self, kind: str, wall: float, fields: Record) -> str:
        assert self._chain is not None
        return self._chain.line(kind, self._chain.position.term, self._recorded, wall, self._triad, fields)

    # --- once a turn ------------------------------------------------------------------------------

    def end_turn(self, wall: float) -> None:
        """Write down what this turn has committed and refused."""
        ledger = self._quorum.ledger
        feed = ledger.feed
        if feed:
            ledger.feed = []
            self._committed(feed, wall)
        if self._outbox.refusals:
            refusals, self._outbox.refusals = self._outbox.refusals, []
            if self._chain is not None:
                for each in refusals:
                    self._refusal(each, wall)

    def _committed(self, feed: list[Committed], wall: float) -> None:
        ended = {entry.undo[3].session: entry.undo[3] for entry in feed
                 if type(entry.command) is SessionEnded}  # fmt: skip
        for entry in feed:
            name = getattr(entry.command, "session", None)
            session = None
            if name is not None:
                session = ended.get(name) or self._quorum.ledger.session_of(name)
            fields = entry_fields(entry.command, session, entry.undo[3:])
            self._record(entry, fields, wall)

    def _record(self, entry: Committed, fields: Record, wall: float) -> None:
        self._note_replaced()
        if type(entry.command) is Formed:
            triad = entry.command.triad_id.hex()[:TRIAD_DIGITS]
            if triad != self._triad:
                self._triad = triad
                self._recorded = min(self._recorded, entry.index - 1)
        if entry.index <= self._recorded:
            return
        if entry.index > self._recorded + 1:
            self._own("gap", wall, {"from": self._recorded + 1, "to": entry.index - 1})
        self._recorded = entry.index
        chain = self._chain
        assert chain is not None
        line = chain.line(kind_of(entry.command), entry.term, entry.index, entry.stamp, self._triad, fields)
        self._outbox.actions.append(WriteReport(line))

    def _note_replaced(self) -> None:
        """The whole log came from another server: it may be that of a triad that was formed anew."""
        if self._quorum.ledger is self._ledger:
            return
        self._ledger = self._quorum.ledger
        here = self._triad_of_base()
        if here and here != self._triad:
            if self._triad:
                self._recorded = 0
            self._triad = here

    def _refusal(self, each: Refused, wall: float) -> None:
        assert self._chain is not None
        term, index, number = self._denial
        number = number + 1 if (term, index) == (each.term, each.after) else 1
        self._denial = (each.term, each.after, number)
        fields = {"server": self._config.rank.word, "after": each.after, "seq": number, **each.fields}
        line = self._chain.line(DENIED, each.term, each.after, wall, self._triad, fields)
        self._outbox.actions.append(WriteReport(line))

    @property
    def writes(self) -> bool:
        """Whether there is a report log."""
        return self._chain is not None

    def switch(self, ticket: int, how: How, path: str, reason: str, wall: float) -> None:
        """Close the file that is written, and let the log go on as *how* says: the next line begins the
        new file, in the same chain. Where it cannot be had the two lines stand behind each other.

        *path* goes into the log where it goes on there, so that a server that starts again finds it.
        """
        if self._chain is None:
            return
        self.end_turn(wall)
        self._own("stop", wall, {"reason": reason, "next": path} if how is How.NEW else {"reason": reason})
        self.is_elsewhere = self.is_elsewhere and how is not How.HOME
        self._outbox.actions.append(SwitchLog(
            ticket=ticket, daemon=self._config.served_vendor, how=how, path=path,
            first=self._start_line(wall)))  # fmt: skip

    def stop(self, reason: str, wall: float) -> None:
        """The server stops in order: nothing comes after this record."""
        self.end_turn(wall)
        if self._chain is not None:
            self._own("stop", wall, {"reason": reason})
            self._chain = None

    def copy(self, quorum: QuorumMachine, outbox: Outbox) -> Registrar:
        """Return a twin that works with the twins of its surroundings."""
        twin = object.__new__(Registrar)
        twin.__dict__.update(self.__dict__)
        same = self._ledger is self._quorum.ledger
        twin._quorum, twin._outbox = quorum, outbox
        twin._ledger = quorum.ledger if same else self._ledger
        twin._chain = None if self._chain is None else self._chain.copy()
        return twin
