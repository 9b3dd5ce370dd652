"""Finding the master of one alternative, going to it, and leaving it: connections and addresses, no
requests.

Owns these rules of protocol.md on the client's side:

* Rules 16 and 17: before the session goes elsewhere its old connection is *aborted*; the session is
  resumed with a proof. ``tests/test_client_failover.py``.
* A master that has been silent for max(1 s, 5 round trips) is suspected: the others are asked,
  while its answer is still waited for (design.md section 10);
  ``test_suspects_a_silent_master_after_a_second_and_keeps_waiting``.
"""

from __future__ import annotations

from flexcore import timing
from flexcore.client.link import Link, Stage, connect_wait_s, link_wait_s
from flexcore.client.search import Search
from flexcore.client.session import NEVER, Session, derive_session
from flexcore.client.state import State
from flexcore.client.values import (
    Abort,
    ClientConfig,
    Close,
    Connect,
    NodeAction,
    SendMessage,
    StateChanged,
)
from flexcore.wire import messages as wire
from flexcore.wire.proof import session_proof

LINKS_MAX = 8
"""Connections of one site at a time: three listed, three named, the suspected master once more, and one leaving."""

ROUND_TRIP_WEIGHT = 0.125
"""Smoothing of the round trip (RFC 6298's alpha)."""


class Pursuit(State):
    """The connections of one alternative of the path, and what is known of its servers."""

    __slots__ = (
        "actions",
        "broken",
        "clock_gap_s",
        "config",
        "digest",
        "entropy",
        "heartbeat_at",
        "index",
        "links",
        "next_conn",
        "ready_said",
        "round_trip_s",
        "search",
        "session",
        "sessions_made",
        "stride",
        "term_seen",
        "unready_since_at",
    )
    NUMBERING = frozenset({"clock_gap_s", "config", "entropy", "next_conn", "sessions_made", "stride"})
    NUMBERED = frozenset({"links"})

    def __init__(self, index: int, config: ClientConfig, entropy: bytes) -> None:
        self.index = index
        self.config = config
        self.entropy = entropy
        self.search = Search(config.path[index], entropy[0] / 255.0)
        self.session: Session | None = None
        self.sessions_made = 0
        self.links: dict[int, Link] = {}
        # Each site numbers its connections n, n + stride, n + 2*stride ...: no two sites use one number.
        self.next_conn = index + len(config.path)
        self.stride = len(config.path)
        self.term_seen = 0
        self.clock_gap_s: float | None = None  # the calendar clock less the monotonic one
        self.round_trip_s = 0.0
        self.heartbeat_at = NEVER
        self.unready_since_at: float | None = None
        self.digest = b""
        self.broken = ""  # why these addresses cannot be one triad
        self.ready_said = False
        self.actions: list[NodeAction] = []

    @property
    def home(self) -> Link | None:
        """The link that has the session, or is about to have it."""
        for link in self.links.values():  # asked several times a turn: no generator, no call
            stage = link.stage
            if stage is Stage.READY or stage is Stage.OPENING:
                return link
        return None

    @property
    def ready(self) -> bool:
        """Whether a master has the session."""
        home = self.home
        return home is not None and home.stage is Stage.READY

    @property
    def lease_s(self) -> float:
        return self.session.lease_s if self.session is not None else 0.0

    def start_session(self) -> Session:
        """Make a session with a fresh id and secret; it is opened when a master is found."""
        ident, secret = derive_session(self.entropy, self.index, self.sessions_made)
        self.sessions_made += 1
        self.digest = b""
        self.session = Session(self.index, ident, secret)
        return self.session

    # --- connections ---

    def connection_made(self, conn: int, now: float) -> None:
        link = self.links.get(conn)
        if link is None or link.stage is not Stage.CONNECTING:
            return
        link.stage = Stage.GREETING
        # No sample: a tunnel's near end connects at once for a far one, and a lost SYN is not the way's length.
        link.deadline_at = now + self._wait_s(link, now, at_least_s=now - link.hello_at)
        link.hello_at = now
        self._send(
            link,
            wire.ClientHello(
                wire.PROTOCOL_VERSION, self.config.software, self.config.vendor, self.term_seen,
                wall=self.wall(now),
            ),
        )

    def wall(self, now: float) -> float:
        """Return this machine's calendar time, 0 where the transport tells none."""
        return 0.0 if self.clock_gap_s is None else now + self.clock_gap_s

    def connection_over(self, conn: int, error: str, errno: int | None, now: float) -> None:
        """The connection failed, ended or broke: its transport has nothing more to do with it."""
        link = self.links.get(conn)
        if link is not None:
            self._forget(link, error or "the server closed the connection", now, errno=errno)

    def _send(self, link: Link, message: wire.Message) -> None:
        self.actions.append(SendMessage(conn=link.conn, message=message))

    def _end(
        self, link: Link, error: str, now: float, *, code: int = 0, silent: bool = False
    ) -> None:
        """Our side ends a connection because something is wrong with it."""
        self._drop(link)
        self._forget(link, error, now, code=code, silent=silent)

    def _drop(self, link: Link) -> None:
        """Our side ends a connection: with a reset if it has carried the session and no goodbye (rule 16)."""
        if link.stage is Stage.CONNECTING or (link.touched and link.stage is not Stage.LEAVING):
            self.actions.append(Abort(conn=link.conn))
        else:
            self.actions.append(Close(conn=link.conn))
        del self.links[link.conn]

    def _forget(
        self, link: Link, error: str, now: float, *, errno: int | None = None, code: int = 0,
        silent: bool = False,
    ) -> None:  # fmt: skip
        """A connection is no more: note why, and look elsewhere at once."""
        self.links.pop(link.conn, None)
        if link.stage is Stage.LEAVING:
            if self.session is not None:  # its goodbye was not answered
                self.session.connection_lost()
                self.search.lost(link.address, error, now)
            return
        if link.stage is Stage.READY:
            self.search.lost(link.address, error, now)
        else:
            self.search.failed(
                link.address, error, now=now, lease_s=self.lease_s, errno=errno, code=code,
                silent=silent,
            )  # fmt: skip
        if link.is_home:
            if self.session is not None:
                self.session.connection_lost()
            self._say_unready(error, now)

    def _say_unready(self, reason: str, now: float) -> None:
        if self.unready_since_at is None:
            self.unready_since_at = now
        if self.ready_said:
            self.ready_said = False
            self.actions.append(
                StateChanged(site=self.index, ready=False, server=None, reason=reason)
            )

    # --- silence ---

    def suspect_at(self) -> float | None:
        """When the master's silence becomes suspicious: max(1 s, 5 round trips) after what it owes an answer to."""
        if self.session is None or self.home is None:
            return None
        since = self.session.silent_since_at()
        if since is None:
            return None
        return since + timing.candidate_wait_s(self.round_trip_s)

    def suspects(self, now: float) -> bool:
        at = self.suspect_at()
        return at is not None and now >= at

    def note_round_trip(self, measured: float) -> None:
        if self.round_trip_s == 0.0:
            self.round_trip_s = measured
        self.round_trip_s += ROUND_TRIP_WEIGHT * (measured - self.round_trip_s)

    def _wait_s(self, link: Link, now: float, at_least_s: float = 0.0) -> float:
        """How long *link* may take to answer what it is asked now."""
        session = self.session
        left_s = None
        if session is not None and (session.seats or session.doubtful) and now < session.lease_until:
            left_s = session.lease_until - now
        round_trip_s = max(self.round_trip_s, at_least_s)
        return link_wait_s(round_trip_s, self.search.backoff(link.address).silences, left_s)

    # --- looking around ---

    def look_around(self, now: float) -> None:
        """Dial whom it is time to dial, and ask those again that do not serve."""
        for link in list(self.links.values()):
            if link.stage is Stage.PARKED and now >= link.poll_at and link.deadline_at is None:
                link.poll_seq += 1
                link.deadline_at = now + self._wait_s(link, now)
                self._send(link, wire.StatusRequest(link.poll_seq, "report", "", ""))
        while len(self.links) < LINKS_MAX and now >= self.search.dial_at:
            home = self.home
            address = self.search.next_dial(
                self._busy(), home.address if home is not None else None, now
            )
            if address is None:
                return
            conn = self.next_conn
            self.next_conn += self.stride
            wait_s = connect_wait_s(self.round_trip_s, self.search.backoff(address).silences)
            self.links[conn] = Link(conn, address, now, wait_s)
            self.actions.append(Connect(conn=conn, host=address.host, port=address.port))

    def look_around_at(self) -> float | None:
        """When look_around has something to do."""
        times = [
            link.poll_at
            for link in self.links.values()
            if link.stage is Stage.PARKED and link.deadline_at is None
        ]
        if len(self.links) < LINKS_MAX:
            dial_at = self.search.next_dial_at(self._busy())
            if dial_at is not None:
                times.append(dial_at)
        return min(times, default=None)

    def _busy(self) -> list[wire.ServerAddress]:
        """Addresses that need no dial: a connection is there, other than the one of a silent master."""
        return [link.address for link in self.links.values() if not link.is_home]

    def end_overdue(self, now: float) -> None:
        """Give up connections whose other end has not said in time what it has to say next."""
        for link in list(self.links.values()):
            if link.deadline_at is not None and now >= link.deadline_at:
                if link.stage is Stage.LEAVING:
                    self._drop(link)
                else:
                    connected = link.stage is not Stage.CONNECTING
                    self.search.timed_out(link.address)
                    words = "it does not answer" if connected else "connection timed out"
                    self._end(link, words, now, silent=connected)

    # --- greeting, and going to the master ---

    def _hello(self, link: Link, hello: wire.ServerHello, now: float) -> None:
        if link.stage is not Stage.GREETING:
            self._end(link, "the server said hello twice", now)
            return
        problem = self._not_one_triad(hello)
        if problem:
            if self.session is None or not self.session.asked:
                self.broken = problem  # nothing is held: the path is wrong, and the application is told
            self._end(link, problem, now)
            return
        link.hello = hello
        self.digest = hello.membership_digest or self.digest
        self.note_round_trip(now - link.hello_at)
        self.search.answered(link.address)
        self.search.learn_hello(link.address, hello)
        self._learn(link, hello.report, now)

    def _not_one_triad(self, hello: wire.ServerHello) -> str:
        """Why the addresses of this comma list cannot be one triad, '' if they can."""
        names = ",".join(f"{a.port}@{a.host}" for a in self.search.listed)
        if len(self.search.listed) > 1 and 0 < len(hello.servers) < len(self.search.listed):
            return (
                f"{names} is not one triad: {hello.report.name} is one of {len(hello.servers)} server(s); "
                "separate independent servers with ':' (';' on Windows) instead of ','"
            )
        if self.digest and hello.membership_digest and self.digest != hello.membership_digest:
            return (
                f"{names} is not one triad: {hello.report.name} serves another licence file than "
                "the server asked before"
            )
        return ""

    def _learn(self, link: Link, report: wire.ServerReport, now: float) -> None:
        """A greeted server said how it is: go to it, to the master that it names, or ask again later."""
        link.learn(report, now)
        if link.serves and report.term >= self.term_seen:
            self.search.master = link.address
            if self._may_move_to(link, now):
                self._adopt(link, now)
                return
        else:
            self.search.learn_master(report, now)
            self._hurry_master(now)
        link.park(now, self.search.retry_max_s(self.lease_s))

    def _hurry_master(self, now: float) -> None:
        """Somebody named the master: ask it soon where it did not serve before."""
        for link in self.links.values():
            if link.stage is Stage.PARKED and link.address == self.search.master:
                link.hurry(now)

    def _may_move_to(self, link: Link, now: float) -> bool:
        home = self.home
        if self.session is None or self.broken:
            return False
        return home is None or (home is not link and self.suspects(now))

    def _adopt(self, link: Link, now: float) -> None:
        """The session goes to this link; whatever else has carried it is aborted first (rule 17)."""
        session = self.session
        assert session is not None
        assert link.hello is not None
        for other in list(self.links.values()):
            if other is not link and other.touched:
                self._end(other, "it does not answer", now, silent=other.is_home)
        session.connection_lost()
        link.stage = Stage.OPENING
        link.touched = True
        link.deadline_at = now + self._wait_s(link, now)
        self._ask_for_session(link, session, now)

    def _ask_for_session(self, link: Link, session: Session, now: float) -> None:
        assert link.hello is not None
        config = self.config
        seq = session.take_seq(now)
        if session.asked:
            proof = session_proof(session.secret, link.hello.nonce, session.ident)
            self._send(link, wire.ResumeSession(seq, session.ident, proof, self.term_seen))
            return
        session.asked = True
        self._send(
            link,
            wire.OpenSession(
                seq, session.ident, session.secret, config.user, config.host, config.display,
                config.project, config.pid, config.trusted_end, self.term_seen, config.hostids,
                config.platform,
            ),
        )  # fmt: skip

    def _status(self, link: Link, message: wire.StatusReport, now: float) -> None:
        if link.stage is Stage.PARKED:
            link.deadline_at = None
            self._learn(link, message.report, now)

    def _not_serving(self, link: Link, message: wire.NotServing, now: float) -> None:
        """This server is not, or no more, the master (rule 14); the session waits for whoever is."""
        if link.stage in (Stage.CONNECTING, Stage.GREETING):
            return
        was_home = link.is_home
        leaves = link.stage is Stage.LEAVING  # a goodbye that it does not take is not said
        if link.report is not None:
            link.learn(
                link.report._replace(
                    state="waiting", reason=message.reason, until_s=message.until_s
                ),
                now,
            )
        if (was_home or leaves) and self.session is not None:
            self.session.connection_lost()
        link.park(now, self.search.retry_max_s(self.lease_s))
        if message.master is None:
            if self.search.master == link.address:
                self.search.master = None
            self.search.dial_at = now
        elif self.search.same_server(message.master, link.address):
            link.poll_at = now  # it serves, but wants the session to be proved again
            self.search.dial_at = now + timing.CLIENT_STAGGER_S
        else:
            self.search.point_to(message.master, now)
            self._hurry_master(now)
        if was_home:
            self._say_unready(message.reason or "the server does not serve any more", now)
