"""Early returns at one alternative of the search path: asked of whoever serves, again if no answer came.

They are no requests of the session (protocol.md rule 17): each proves itself by the borrowing's own secret, and is
harmless when it is done twice. ``tests/client_borrowing.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from flexcore.borrowing import BorrowRecord, is_lender
from flexcore.client.link import Link
from flexcore.client.pursuit import Pursuit
from flexcore.client.session import NEVER, Session
from flexcore.client.values import BorrowGivenBack, ClientConfig, ServerReached
from flexcore.override import override
from flexcore.wire import messages as wire
from flexcore.wire.proof import session_proof


class EarlyReturn(NamedTuple):
    """One that is not answered; *conn* and *seq* are those of the question, 0 before it was asked."""

    request: int
    record: BorrowRecord
    conn: int = 0
    seq: int = 0


class Returns(Pursuit):
    """What is to be given back here."""

    __slots__ = ("errand_at", "errands", "reached_said", "returns")
    NUMBERED = Pursuit.NUMBERED | frozenset({"returns"})

    def __init__(self, index: int, config: ClientConfig, entropy: bytes) -> None:
        super().__init__(index, config, entropy)
        self.errands = 0
        """How many of the application's affairs need a server here, beside what the session asks."""
        self.errand_at = NEVER
        self.reached_said = False
        self.returns: dict[int, EarlyReturn] = {}

    @override
    def _adopt(self, link: Link, now: float) -> None:
        for asked in list(self.returns.values()):  # what was asked before may not be answered, also on this connection
            self.returns[asked.request] = asked._replace(conn=0, seq=0)
        super()._adopt(link, now)

    def _ask_returns(self, home: Link, session: Session, now: float) -> None:
        """Ask what was not asked on this connection, and say that a server is there."""
        assert home.hello is not None
        if self.errands and not self.reached_said and session.heard_at > self.errand_at:
            self.reached_said = True
            self.actions.append(ServerReached(site=self.index))
        for asked in list(self.returns.values()):
            if asked.conn != home.conn:
                seq = session.take_seq(now)
                record = asked.record
                proof = session_proof(record.secret, home.hello.nonce, record.borrow)
                self._send(home, wire.ReturnBorrow(seq, record.borrow, proof, self.term_seen))
                self.returns[asked.request] = asked._replace(conn=home.conn, seq=seq)

    def _returned(self, link: Link, message: wire.BorrowReturned, now: float) -> None:
        if message.term < self.term_seen:
            return  # a master of the past (rule 15)
        self.term_seen = message.term
        hello = link.hello
        if link.is_home and self.session is not None:
            self.session.note_answer(message.seq, renews=False, now=now)
        assert hello is not None
        for asked in list(self.returns.values()):
            if (asked.conn, asked.seq) == (link.conn, message.seq):
                del self.returns[asked.request]
                self.actions.append(
                    BorrowGivenBack(
                        request=asked.request, code=message.code, text=message.text, detail=message.detail,
                        has_lent=is_lender(asked.record, hello.vendor, hello.membership_digest),
                    )
                )  # fmt: skip
