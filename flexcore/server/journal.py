"""The debug log's lines about the server itself: who is master, who was lost, what runs out.

Lines of licences (OUT, IN, DENIED) are the desk's. Shapes are those of :mod:`flexcore.report.logline`
(observed-formats D1 to D8); what those do not know is said in a sentence by ``lmgrd``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flexcore.checkout.rights import Rights
from flexcore.identity import Rank
from flexcore.options import OptionsFile, echo_lines
from flexcore.quorum.events import Notice
from flexcore.report import logline
from flexcore.report.logline import LMGRD

from .actions import How, UseDebugLog
from .config import TIMESTAMP_EVERY_S, ServerConfig
from .expiries import expiries
from .midnights import day_of, until_midnight_s
from .outbox import Outbox
from .registrar import Registrar

if TYPE_CHECKING:
    from flexcore.quorum import QuorumMachine

REJECTED_LOGGED_MAX = 200
EXIT_BY_SIGNAL = 4
"""What `Exit reason` says of an end by a signal; the manual gives no table of these numbers."""
_SIGNALS = {"SIGHUP": 1, "SIGINT": 2, "SIGTERM": 15, "SIGBREAK": 21}
"""How a transport names who asked for the end, where it was the system."""


class Journal:
    """Writes lifecycle lines into the outbox."""

    def __init__(
        self, config: ServerConfig, rights: Rights, outbox: Outbox, quorum: QuorumMachine,
        now: float, wall: float,
    ) -> None:  # fmt: skip
        self._config = config
        self._rights = rights
        self._outbox = outbox
        self.registrar = Registrar(config, quorum, outbox, wall)
        """Writes the report log."""
        self._vendor = config.served_vendor
        self._quorum = quorum
        self._up: set[Rank] = set()  # asked for membership only
        self._serves = self._knew_a_master = False
        self._day = 0
        self._no_quorum_said = False
        self._signal = ""
        self._stamp_at = 0.0
        self._debug_log = ""
        self.notes = config.notes
        """What ServerReport.notes says beyond the quorum's own notes."""
        self._started(now, wall)

    def _lmgrd(self, text: str, event: str = "") -> None:
        self._outbox.log(LMGRD, text, event)

    def _daemon(self, text: str) -> None:
        self._outbox.log(self._vendor, text)

    def _host(self, rank: Rank | None) -> str:
        servers = self._config.servers
        if rank is None or rank >= len(servers):
            return "unknown"
        return servers[rank].host

    def _started(self, now: float, wall: float) -> None:
        """The server was made: say which lines of the file give no rights, and why."""
        self._stamp(now, wall)
        if self._config.options is not None:
            self.options_read(self._config.options, again=False)
        errors = 0
        for number, bad in enumerate(self._rights.rejected):
            errors += bad.is_error
            if number < REJECTED_LOGGED_MAX:
                self._daemon(f'Feature "{bad.feature}" v{bad.version} is not served: {bad.why}')
        if errors:
            self.notes += (f"{errors} lines of the license file are not served: the log says why",)
        if not self._rights.pools:
            self._daemon("No valid feature lines: nothing can be checked out. Check the license file "
                         "and the publisher's key (flexcore verify)")  # fmt: skip

    def use(self, rights: Rights) -> None:
        """These lines are in force from here on, and this server decides by them."""
        before, self._rights = self._rights, rights
        if rights.digest != before.digest:  # not so where the same file was read anew
            self._daemon(f"The license lines in force are others now (digest {rights.digest.hex()[:16]})")

    def options_read(self, options: OptionsFile, *, again: bool) -> None:
        """An options file was read: repeat its rules, and say what is wrong with it (D6); what it says
        about the log itself has its effect."""
        self._outbox.unlogged = tuple(f"{kind}: " for kind in sorted(options.unlogged))
        if options.debug_log != self._debug_log:
            self._debug_log = options.debug_log
            path = options.debug_log.removeprefix("+")
            self._outbox.actions.append(UseDebugLog(
                daemon=self._vendor, path=path, append=path != options.debug_log))  # fmt: skip
        if options.name:
            self._daemon(f'REREAD: options file "{options.name}" reread completed' if again
                         else f'Using options file: "{options.name}"')  # fmt: skip
        for text in echo_lines(options):
            self._daemon(text)

    @property
    def features(self) -> tuple[str, ...]:
        """The features of the lines in force."""
        return self._rights.features

    def log_switched(self, text: str, *, failed: bool) -> None:
        """A log goes on elsewhere, or was to and does not."""
        self._lmgrd(f"WARNING: {text}" if failed else text)

    # --- rereads (D6) -----------------------------------------------------------------------------

    def reread_asked(self, requested_by: str) -> None:
        """Somebody wants the licence file to be read anew."""
        user, _, host = requested_by.partition("@")
        for text in logline.reread_lines(user, host or self._config.host):
            self._lmgrd(text)

    def reread_done(self, what: str, details: Iterable[str], *, taken: bool) -> None:
        """It was: say what came of it."""
        path = self._config.license_path or "license file"
        self._daemon(f'REREAD: license file "{path}" {what}')
        for text in details:
            self._daemon(f"REREAD: {text}")
        if taken:
            self.notes = self._config.notes
            if self.registrar.is_elsewhere:  # lmswitchr lasts until then
                self.registrar.switch(0, How.HOME, "", "the files were read anew", self._quorum.wall)
        for text in logline.reread_finished_lines():
            self._lmgrd(text)

    def serving(self, rights_in_force: bytes, day: int, own_file: bytes) -> None:
        """This server begins to serve; *own_file* names the lines of its file as it was read last."""
        self._serves = True
        if self._config.license.is_triad:
            self._master_is(self._config.rank, "a majority elected it")
        for text in logline.vendor_started_lines(self._config.host, self._rights.features):
            self._daemon(text)
        if rights_in_force and rights_in_force != own_file:
            self._lmgrd("The licence lines in force are not those of this server's own file: "
                        "put the same file on all three servers and read it anew (lmreread)")  # fmt: skip
        self._say_expiries(day, None)

    def _say_expiries(self, day: int, before: int | None) -> None:
        self._day = day
        for text in expiries(self._rights.pools, day, self._quorum.ledger.state.in_use, before):
            self._daemon(text)

    def stopped_serving(self, reason: str) -> None:
        """This server serves no more."""
        self._serves = False
        self._daemon(f"Stopped serving: {reason}" if reason else "Stopped serving")

    # --- the triad (D8): the manual's words, each followed by why ---------------------------------

    def notice(self, notice: Notice) -> None:
        """What the quorum machine has to say."""
        peer = notice.peer
        if peer is not None and notice.kind == "connected":
            self._up.add(peer)
            self._no_quorum_said = False
            self._lmgrd(logline.connected_line(self._host(peer)))
            self._why(notice.text)
        elif peer is not None and notice.kind == "lost":
            self._lost(peer, notice.text)
        elif peer is not None and notice.kind == "master":
            self._master_is(peer, notice.text)
        elif notice.kind == "lost_quorum":
            self._lost_quorum(notice.text)
        elif notice.text:
            self._lmgrd(notice.text)

    def _why(self, text: str, *peers: Rank) -> None:
        quorum, heard = self._quorum, []
        for rank in peers:
            peer = quorum.peers.get(rank)
            if peer is None:  # this server itself, in an earlier start, was the master
                continue
            heard_at = peer.heard_at
            heard.append((self._host(rank), None if heard_at is None else quorum.now - heard_at))
        self._lmgrd(logline.why_line(text, quorum.hard.term, heard))

    def _master_is(self, rank: Rank, why: str) -> None:
        """*rank* is the master from here on. Whoever comes into a running group has not voted for it."""
        host = self._host(rank)
        voted = self._quorum.hard.voted_for
        if not self._knew_a_master and rank != self._config.rank and voted != rank:
            self._lmgrd(logline.existing_master_line(host))
        self._knew_a_master, self._no_quorum_said = True, False
        self._lmgrd(logline.master_line(host), "master")
        self._why(why, *(() if rank == self._config.rank else (rank,)))

    def _lost(self, peer: Rank, why: str) -> None:
        """The shape is said once for a loss: that a link ended and that a promise ran out are two reasons."""
        host = self._host(peer)
        if peer in self._up:
            self._up.discard(peer)
            self._lmgrd(logline.lost_connection_line(host))
        self._why(f"{host}: {why}", peer)
        report = self._quorum.report()
        if not report.peers_up and report.master is None:
            self._lost_quorum("neither of the other servers is reached")

    def _lost_quorum(self, why: str) -> None:
        if not self._no_quorum_said:
            self._no_quorum_said = True
            self._lmgrd(logline.lost_quorum_line(), "lost_quorum")
            self._why(why, *sorted(self._quorum.peers))

    # --- the end (D7) -----------------------------------------------------------------------------

    def stop_requested(self, requested_by: str, remote: str) -> None:
        """Somebody asked for the end: an administrator, or the system by a signal."""
        if requested_by in _SIGNALS:
            self._signal = requested_by
            number, pid = _SIGNALS[requested_by], self._config.pid
            self._lmgrd(logline.shutting_down_vendor_line(self._vendor, pid, number))
            return
        user, _, host = requested_by.partition("@")
        self._daemon(logline.shutdown_requested_line(user, host or self._config.host, remote or "local"))

    def halted(self, exit_code: int, reason: str, wall: float) -> None:
        """The last lines."""
        self.registrar.stop(reason, wall)
        if reason:
            self._lmgrd(reason)
        if self._signal:
            self._daemon(logline.exiting_line(_SIGNALS[self._signal], EXIT_BY_SIGNAL))
        if exit_code == 0 and not self._config.vendors:  # the others of this process go on
            self._lmgrd(logline.lmgrd_exiting_line())

    # --- time stamps (D5) -------------------------------------------------------------------------

    def _stamp(self, now: float, wall: float) -> None:
        """Say the date; again in six hours, and when a day begins."""
        offset_s = self._config.utc_offset_s
        self._stamp_at = now + min(TIMESTAMP_EVERY_S, until_midnight_s(wall, offset_s))
        text = logline.timestamp_line(wall, offset_s)
        self._lmgrd(text)
        self._daemon(text)
        if self._serves:
            self._say_expiries(day_of(wall, offset_s), self._day)
            state, last = self._quorum.ledger.state, self._quorum.ledger.last
            said = (f"Sessions: {len(state.sessions)}", f"Seats: {len(state.seats)}",
                    f"Ledger: term {last.term} entry {last.index}")  # fmt: skip
            for line in logline.slog_lines(self._vendor, said):
                self._daemon(line)

    def next_timeout(self) -> float:
        """Return when the next TIMESTAMP is due."""
        return self._stamp_at

    def handle_timeout(self, now: float, wall: float) -> None:
        """Write TIMESTAMP lines if they are due."""
        if now >= self._stamp_at:
            self._stamp(now, wall)

    def copy(self, quorum: QuorumMachine, outbox: Outbox) -> Journal:
        """Return a twin that writes into *outbox*."""
        twin = object.__new__(Journal)
        twin.__dict__.update(self.__dict__)
        twin._outbox, twin._quorum, twin._up = outbox, quorum, set(self._up)
        twin.registrar = self.registrar.copy(quorum, outbox)
        return twin
