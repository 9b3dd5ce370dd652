"""A client that breaks the protocol on purpose: numbers used twice, terms that never were, sessions of others, garbage.

It speaks raw messages, each of which passed through the codec, on up to three connections with one session or with
several. Whatever it says, honest clients must lose nothing by it, no server may stop, and nobody may get a session that
is not its own, nor stop a triad from a machine that is none of the three.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flexcore.errors import FlexcoreError
from flexcore.wire import messages as wire
from flexcore.wire.codec import decode, encode
from flexcore.wire.proof import session_proof

if TYPE_CHECKING:
    from flexcore_testing.service import ServiceTriad

CONNS_MAX = 3
SESSIONS_MAX = 4
NUMBERS = (0, 1, 2, 3, -1, 7, 1 << 20, (1 << 53) + 1, (1 << 62))
NOT_HERE = -119


class Liar:
    """One process that lies."""

    is_server = False
    lies = True

    def __init__(self, triad: ServiceTriad, name: str) -> None:
        self.triad = triad
        self.name = self.host = name
        self.rng = triad.liar_rng
        self.alive = True
        self.active = True
        triad.serial += 1
        self.serial = triad.serial
        triad.network.add_host(name)
        self._conn = 0
        self._seq = 0
        self._nonces: dict[int, bytes] = {}
        """Of the connections that were greeted."""
        self._dialling = 0
        self._sessions: list[tuple[bytes, bytes]] = []
        self._handles: list[int] = []
        self._last: dict[int, wire.Message] = {}
        self._foreign: dict[int, tuple[bytes, bytes]] = {}
        """Sessions of somebody else that questions named, with the secret in them, by the question's number."""
        self._lies: tuple[Callable[[int], Any], ...] = (
            self._open, self._open_again, self._open_stolen, self._resume, self._resume, self._resume_stolen,
            self._checkout, self._checkout, self._checkout, self._checkin, self._withdraw, self._heartbeat,
            self._goodbye, self._repeat, self._repeat, self._garbage, self._stop_them_all,
        )  # fmt: skip

    def begin(self) -> None:
        """Start to lie."""
        pause = self.rng.expovariate(1.0 / self.triad.profile.traffic_s)
        self.triad.world.after(pause, self._act)

    def finish(self) -> None:
        """Be gone."""
        self.active = self.alive = False
        self.triad.network.die(self, says_so=self.rng.random() < 0.5)

    def _act(self) -> None:
        if not self.active:
            return
        self.begin()
        rng = self.rng
        if len(self._nonces) + self._dialling < CONNS_MAX and (not self._nonces or rng.random() < 0.2):
            self._dial()
        elif self._nonces and rng.random() < 0.05:
            conn = rng.choice(sorted(self._nonces))
            del self._nonces[conn]
            self.triad.network.close(self, conn, abort=rng.random() < 0.5)
        elif self._nonces:
            conn = rng.choice(sorted(self._nonces))
            for _ in range(rng.choice((1, 1, 1, 3))):
                self._say(conn, rng.choice(self._lies)(conn))

    def _say(self, conn: int, message: Any) -> None:
        if message is None:
            return
        try:
            message = decode(encode(message))
        except (FlexcoreError, ValueError, OverflowError, struct.error):
            return  # what no bytes can say
        self.triad.coverage[f"lie {type(message).__name__}"] += 1
        self._last[conn] = message
        self.triad.network.send(self, conn, message)

    # --- Party ---------------------------------------------------------------------------------------------------

    def take_conn(self) -> int:
        """Nobody dials it."""
        raise AssertionError("a client does not listen")

    def accepted(self, conn: int, remote: str) -> None:
        """Nobody dials it."""
        raise AssertionError("a client does not listen")

    def ended(self, conn: int, orderly: bool) -> None:
        """A connection is over."""
        self._nonces.pop(conn, None)

    def arrived(self, conn: int, message: Any) -> None:
        """An answer: what may not be said is not said."""
        checks = self.triad.checks
        if isinstance(message, wire.ServerHello):
            self._nonces[conn] = message.nonce
        elif isinstance(message, wire.Granted):
            self._handles.append(message.handle)
        elif isinstance(message, wire.SessionReply):
            if message.state == wire.SESSION_OPEN and self._is_foreign(*self._foreign.get(message.seq, (b"", b""))):
                checks.fail("proof", f"{self.name} was let into a session that is not its own")
        elif isinstance(message, wire.AdminReply) and message.code != NOT_HERE:
            checks.fail("proof", f"{self.name} administers the triad from a machine that is none of the three")

    def _dial(self) -> None:
        self._conn += 1
        self._dialling += 1

        def made(conn: int) -> None:
            self._dialling -= 1
            if self.alive:
                term = self.rng.choice((0, 0, 1, self.triad.highest_term() + self.rng.choice((0, 1, 1000))))
                self._say(conn, wire.ClientHello(wire.PROTOCOL_VERSION, "liar", "demo", term))

        def failed(_conn: int, _refused: bool, _error: str) -> None:
            self._dialling -= 1

        self.triad.network.dial(self, self.rng.choice("PST"), self._conn, made, failed)

    # --- lies ----------------------------------------------------------------------------------------------------

    def _take_seq(self) -> int:
        self._seq += 1
        return self._seq if self.rng.random() < 0.8 else self.rng.randint(1, self._seq)

    def _fresh_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _term(self) -> int:
        return self.rng.choice((0, 1, self.triad.highest_term(), self.triad.highest_term() + 1, 1 << 40))

    def _own(self) -> tuple[bytes, bytes] | None:
        return self.rng.choice(self._sessions) if self._sessions else None

    def _stolen(self) -> bytes | None:
        """The id of a session that another client has open."""
        master = self.triad.master()
        own = {session for session, _ in self._sessions}
        others = [] if master is None else [each for each in master.ledger.state.sessions if each not in own]
        return self.rng.choice(others) if others else None

    def _is_foreign(self, session: bytes, secret: bytes) -> bool:
        """Whether that is somebody else's session: not one that the liar itself opened by that name, saying its stolen
        request again when its owner had left."""
        master = self.triad.master()
        held = None if master is None else master.ledger.state.sessions.get(session)
        return held is not None and held.secret != secret

    def _open_as(self, seq: int, session: bytes, secret: bytes) -> wire.OpenSession:
        return wire.OpenSession(
            seq, session, secret, "liar", self.host, "", "", self.rng.choice((0, -5, 1 << 40)),
            self.rng.random() < 0.5, self._term(),
        )  # fmt: skip

    def _open(self, conn: int) -> Any:
        session, secret = self.rng.randbytes(16), self.rng.randbytes(self.rng.choice((16, 32, 64)))
        if self.rng.random() < 0.1:
            return self._open_as(self._fresh_seq(), session[: self.rng.randint(0, 15)], secret)
        self._sessions = [*self._sessions[-SESSIONS_MAX + 1 :], (session, secret)]
        return self._open_as(self._fresh_seq(), session, secret)

    def _open_again(self, conn: int) -> Any:
        own = self._own()
        return None if own is None else self._open_as(self._fresh_seq(), *own)

    def _open_stolen(self, conn: int) -> Any:
        session = self._stolen()
        if session is None:
            return None
        seq = self._fresh_seq()
        secret = self.rng.randbytes(32)
        self._foreign[seq] = session, secret
        return self._open_as(seq, session, secret)

    def _resume(self, conn: int) -> Any:
        own = self._own()
        if own is None:
            return None
        nonce = self.rng.choice([self._nonces[conn], self._nonces[conn], *self._nonces.values()])
        return wire.ResumeSession(self._fresh_seq(), own[0], session_proof(own[1], nonce, own[0]), self._term())

    def _resume_stolen(self, conn: int) -> Any:
        session = self._stolen()
        if session is None:
            return None
        seq = self._fresh_seq()
        secret = self.rng.choice([self.rng.randbytes(32), *(secret for _, secret in self._sessions)])
        self._foreign[seq] = session, secret
        return wire.ResumeSession(seq, session, session_proof(secret, self._nonces[conn], session), self._term())

    def _checkout(self, conn: int) -> Any:
        rng = self.rng
        request = rng.choice((rng.randint(1, 40), rng.randint(1, 40), rng.choice(NUMBERS)))
        answered = rng.choice((0, request - 1, rng.choice(NUMBERS)))
        feature = rng.choice(("f1", "f1", "probe-not", "", "f" * 3000))
        count = rng.choice((1, 1, 1, 2, 0, -1, 1 << 40))
        version = rng.choice(("", "", "1.0", "9.9", "x"))
        return wire.Checkout(self._take_seq(), request, answered, feature, version, count, self._term())

    def _checkin(self, conn: int) -> Any:
        rng = self.rng
        handle = rng.choice([*self._handles[-5:], rng.randint(1, 200), -1])
        return wire.Checkin(self._take_seq(), rng.randint(1, 40), rng.choice((0, 0, 39)), handle, self._term())

    def _withdraw(self, conn: int) -> Any:
        rng = self.rng
        number = rng.randint(1, 40)
        return wire.Withdraw(self._take_seq(), number, 0, rng.choice((number - 1, number, rng.choice(NUMBERS))), 0)

    def _heartbeat(self, conn: int) -> Any:
        return wire.Heartbeat(self._take_seq(), self.rng.choice((0, 0, 3, self.rng.choice(NUMBERS))), self._term())

    def _goodbye(self, conn: int) -> Any:
        return wire.Goodbye(self._take_seq(), self._term())

    def _repeat(self, conn: int) -> Any:
        """What was said on this connection, or on another one, once more."""
        last = list(self._last.values())
        return self._last.get(conn) if self.rng.random() < 0.7 or not last else self.rng.choice(last)

    def _garbage(self, conn: int) -> Any:
        """A message that is no client's to send, or not now."""
        seq = self._take_seq()
        return self.rng.choice((
            wire.HeartbeatReply(seq, 1, True),
            wire.NotServing(seq, 1 << 40, "so there", None, None),
            wire.ClientHello(1, "liar", "demo", 0),
            wire.ClientHello(99, "liar", "other", 1 << 40),
            wire.StatusRequest(seq, self.rng.choice(("report", "features", "seats", "?")), "", "x"),
            wire.Refusal(-1, "no"),
        ))  # fmt: skip

    def _stop_them_all(self, conn: int) -> Any:
        return wire.AdminRequest(self._take_seq(), "down", ("all",), "root", self.rng.choice(("pat", "lee", self.host)))
