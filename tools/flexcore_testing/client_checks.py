"""What clients believe, against what was licensed and what the serving master's ledger holds (I3, I4, I9)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from flexcore.client import Seat
from flexcore.licensefile import LicenseFile
from flexcore.licensefile.entitlements import read_entitlements

if TYPE_CHECKING:
    from flexcore_testing.client_run import ClientRun
    from flexcore_testing.server_run import NodeRun
    from flexcore_testing.service import ServiceTriad


UNCOUNTED = 1 << 40


class ClientChecks:
    """I3 at each turn of a client, I4 at each turn of a serving master, and who may write which log line."""

    def __init__(self, triad: ServiceTriad) -> None:
        self.triad = triad
        self.licensed: dict[str, int] = {}
        self._shared_by: dict[str, str] = {}
        self.license_changed(triad.license)
        self._believed: dict[int, int] = {}
        self._looked: dict[int, tuple[object, int]] = {}

    def license_changed(self, license: LicenseFile) -> None:
        """Some server has this file now: what was licensed before may still be held."""
        licensed: dict[str, int] = {}
        for each in read_entitlements(license.signable_lines, license.hostids).items:
            name = each.line.name
            licensed[name] = licensed.get(name, 0) + (each.seats or UNCOUNTED)
            self._shared_by[name] = (each.line.value("DUP_GROUP") or "").upper()
        for name, seats in licensed.items():
            self.licensed[name] = max(self.licensed.get(name, 0), seats)

    def granted(self, run: ClientRun, seat: Seat) -> None:
        """A client was told that it holds *seat*: now is the time to count."""
        self._check_sum(seat.feature)

    def after_client_turn(self, run: ClientRun) -> None:
        """Beliefs grow only in a client's turn (a grant, or a renewal that came late)."""
        held = run.held()
        if len(held) > self._believed.get(run.serial, 0):
            for feature in sorted({seat.feature for seat in held}):
                self._check_sum(feature)
        self._believed[run.serial] = len(held)

    def _check_sum(self, feature: str) -> None:
        believed: Counter[str] = Counter()
        shared: dict[str, int] = {}
        for client in self.triad.clients.values():
            group = self._group_of(client, feature)
            for seat in client.held():
                if seat.feature == feature:
                    believed[client.name] += seat.count
                    key = group or f"{client.name} {seat.handle}"
                    shared[key] = max(shared.get(key, 0), seat.count)
        total = sum(shared.values())
        self.triad.coverage[f"believed {total} of {self.licensed[feature]}"] += 1
        if total > self.licensed[feature]:
            self.triad.checks.fail(
                "I3",
                f"{total} of {self.licensed[feature]} seats of {feature} are believed to be held: {dict(believed)}",
            )

    def _group_of(self, client: ClientRun, feature: str) -> str:
        """With whom *client* shares a licence of *feature*, '' for nobody."""
        letters = self._shared_by.get(feature, "")
        config = client.config
        words = {"U": config.user, "H": config.host, "D": config.display}
        if letters == "SITE":
            return letters
        return " ".join(words[letter] for letter in "UHD" if letter in letters and letters != "NONE")

    def after_server_turn(self, run: NodeRun) -> None:
        """A master that serves holds in its ledger whatever any client believes in, as it was granted."""
        if not run.alive or not run.books.serving:
            self._looked.pop(run.serial, None)
            return
        ledger = run.ledger
        looked = (ledger.last, ledger.commit)
        if self._looked.get(run.serial) == looked:
            return
        self._looked[run.serial] = looked
        seats = ledger.state.seats
        for client in self.triad.clients.values():
            for believed in client.held():
                seat = seats.get(believed.handle)
                if seat is None:
                    self.triad.checks.fail(
                        "I4",
                        f"{client.name} believes in handle {believed.handle} ({believed.feature}); "
                        f"the serving {run.name} does not hold it",
                    )
                elif (seat.feature, seat.seats, seat.started) != (believed.feature, believed.count, believed.started):
                    self.triad.checks.fail("I9", f"{client.name} believes in {believed}, {run.name} holds {seat}")

    def logged(self, run: NodeRun, daemon: str, text: str) -> None:
        """Only a master writes OUT, IN and DENIED (seed, "Logging and the Debug Log")."""
        word = text.partition(":")[0]
        if word in ("OUT", "IN", "DENIED"):
            self.triad.coverage[f"log {word}"] += 1
            if not run.serves():
                self.triad.checks.fail("log lines", f"{run.name} is not master and logs {text}")
