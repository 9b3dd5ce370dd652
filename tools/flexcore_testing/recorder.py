"""Writes down what the clients of a simulated triad see, for :mod:`flexcore_testing.linearize` to judge at the end.

In a simulation more is known than clients know: when the last of what a client left open has happened (its session
asks for nothing any more; or it is dead and the end of its session is committed). That makes the judge stricter, never
milder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcore.client import CheckedIn, CheckoutDeniedAction, Seat, SeatLost
from flexcore.ledger.commands import SessionEnded
from flexcore_testing.history import NEVER, Event, History
from flexcore_testing.linearize import check_history

if TYPE_CHECKING:
    from flexcore_testing.client_run import ClientRun
    from flexcore_testing.service import ServiceTriad


class _Watched:
    """One process of a client."""

    __slots__ = ("ended", "former", "leftovers", "name", "session", "until")

    def __init__(self, name: str) -> None:
        self.name = name
        self.until = NEVER
        """Until when it believes, as far as it knew at its last turn; in true time."""
        self.session: bytes | None = None
        self.ended = False
        self.former: set[bytes] = set()
        """Sessions that it has given up or was told to be over, and that may still hold something at the servers."""
        self.leftovers = False
        """It has left something open that nobody will tell it about."""


class Recorder:
    """The history of one run."""

    def __init__(self, triad: ServiceTriad) -> None:
        self.triad = triad
        self.events: list[Event] = []
        self.pools = {feature.name: feature.count for feature in triad.license.features if feature.count}
        self._changed = False
        self._watched: dict[int, _Watched] = {}
        self._owners: dict[bytes, tuple[ClientRun, _Watched]] = {}

    def history(self) -> History:
        """What was seen so far."""
        if not self._changed:
            return History.of(self.events, self.pools)
        # How much is licensed changed on the way: nobody ever had more than the most, and a denial means little.
        events = [event._replace(code=0) if event.event == "denied" else event for event in self.events]
        return History.of(events, self.triad.client_checks.licensed)

    def count_changed(self) -> None:
        """From now on a server may license another number of seats."""
        self._changed = True

    def check(self) -> None:
        """Judge the whole run.

        Raises:
            Violation: no pool explains it.
        """
        check_history(self.history())
        self.triad.coverage["histories judged"] += 1

    # --- what clients do and are told --------------------------------------------------------------------------------

    def asked(self, run: ClientRun, request: int, feature: str, count: int) -> None:
        """A checkout begins."""
        self._write(run, "checkout", op=request, feature=feature, count=count)

    def granted(self, run: ClientRun, request: int, seat: Seat) -> None:
        """It is granted."""
        self._write(run, "granted", op=request, handle=seat.handle)

    def denied(self, run: ClientRun, action: CheckoutDeniedAction) -> None:
        """It is denied."""
        self._write(run, "denied", op=action.request, code=action.code)

    def gave_up(self, run: ClientRun, request: int) -> None:
        """The application waits no longer."""
        self._of(run).leftovers = True
        self._write(run, "gave up", op=request)

    def returning(self, run: ClientRun, request: int, handle: int) -> None:
        """A checkin begins."""
        self._write(run, "checkin", op=request, handle=handle, until=self._of(run).until)

    def returned(self, run: ClientRun, action: CheckedIn) -> None:
        """A server has the seat back; or the client has given up the session, and a server will find out."""
        session = run.node._sites[0].session
        if session is not None and session.ident == self._of(run).session:
            self._write(run, "returned", op=action.request)

    def lost(self, run: ClientRun, action: SeatLost) -> None:
        """The client holds this seat no longer."""
        watched = self._of(run)
        watched.leftovers = True
        self._write(run, "lost", handle=action.handle, until=watched.until)

    def ended(self, run: ClientRun) -> None:
        """The process says goodbye, or is gone."""
        watched = self._of(run)
        if not watched.ended:
            watched.ended = watched.leftovers = True
            self._write(run, "died", until=watched.until)

    def after_client_turn(self, run: ClientRun) -> None:
        """See what the turn has changed inside of the client."""
        watched = self._of(run)
        if watched.ended:
            return
        session = run.node._sites[0].session
        ident = None if session is None else session.ident
        if ident != watched.session:
            if watched.session is not None:
                self._write(run, "anew")
                watched.leftovers = True
                if watched.session in self._owners:
                    watched.former.add(watched.session)
            if ident is not None:
                self._owners[ident] = run, watched
            watched.session = ident
        watched.until = run.clock.true(session.lease_until) if session is not None and session.seats else NEVER
        self._settle(run, watched)

    def _settle(self, run: ClientRun, watched: _Watched) -> None:
        """Say so if nothing that the client left open can happen any more."""
        session = run.node._sites[0].session
        quiet = watched.ended or session is None or not (session.orders or session.waiting or session.doubtful)
        over = not watched.former and not (watched.ended and watched.session in self._owners)
        if watched.leftovers and quiet and over:
            watched.leftovers = False
            self._write(run, "settled")

    # --- what servers know -------------------------------------------------------------------------------------------

    def committed(self, command: Any) -> None:
        """An entry is committed: the end of a dead client's session settles what it left open."""
        if isinstance(command, SessionEnded) and command.session in self._owners:
            run, watched = self._owners.pop(command.session)
            watched.former.discard(command.session)
            self._settle(run, watched)

    def _of(self, run: ClientRun) -> _Watched:
        watched = self._watched.get(run.serial)
        if watched is None:
            watched = self._watched[run.serial] = _Watched(f"{run.name}#{run.serial}")
        return watched

    def _write(self, run: ClientRun, event: str, **fields: Any) -> None:
        self.events.append(Event(self.triad.world.now, event, self._of(run).name, **fields))
