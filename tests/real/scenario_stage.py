"""The commands of a scenario, carried out on three real lmgrd processes and real clients, beside the simulation.

The simulation says what has to happen; the servers on loopback have HEARTBEAT_INTERVAL=1, and what the scenario lets
pass in seconds of its own triad passes in as many of its timeouts here, IDLE_MAX_S at most. Compared are: who
serves and who is down, what clients are told, who holds what, what is said of rereads, what the logs say of clients.
Not compared: times, the numbers of terms, and how many are ahead of who waits. A handle is the one that the simulation
gave the same seat. What lingers does so for as long as there; what is idle has been so for as long as there.
"""

from __future__ import annotations

import datetime
import functools
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flexcore.client import ClientConfig
from flexcore.identity import Rank
from flexcore.wire.messages import ServerAddress
from flexcore_testing.licences import SEED_EXAMPLE
from flexcore_testing.scenario import (
    CLIENT_WORDS,
    Settings,
    Stage,
    parse_scenario,
    read_request,
    read_settings,
    said_of_reread,
)
from flexcore_testing.scenario_disturbed import Hearing, Told
from flexcore_testing.scenario_files import (
    OPTIONS_NAME,
    SPARE_LICENCE,
    SPARE_OPTION,
    Files,
    Machine,
    configured,
    machine_of_words,
    user_of,
)
from tests.ports import HOSTS
from tests.real.scenario_user import User
from tests.real.scenario_zone import zone_before
from tests.real.triad import PATIENCE_S, VENDOR, Triad, until

SIMULATED_ONLY = "# Simulated only:"
IDLE_MAX_S = 3.2
PROMPT_S = 0.5
"""A checkout is answered within this time, or its user waits for a server."""
LMREMOVE_MIN_S = 30
"""How old a checkout has to be for lmremove here, where the scenario has the two minutes of the manual: young enough
for what is refused, and not too long to wait for what is not."""

MIDNIGHT_S = 25.0
"""A scenario that names a minute before midnight has this time for what it does before; see :func:`zone_before`."""

_TOLD = re.compile(r" *\d+ (\S+) +(.*)")
_DATE = re.compile(r"\b\d{1,2}-[a-z]{3}-\d{4}\b")
_HANDLE = re.compile(r"handle (\d+)")


def only_simulated(text: str) -> str:
    """Why this scenario is not for real servers; "" if it is."""
    lines = [line for line in text.splitlines() if line.startswith(SIMULATED_ONLY)]
    return lines[0].removeprefix(SIMULATED_ONLY).strip() if lines else ""


def run_real_scenario(text: str, folder: Path) -> None:
    """Run the scenario twice, simulated and real, and compare after each command that lets time pass."""
    simulated, real = Stage(), RealStage(folder)
    try:
        for block in parse_scenario(text):
            for command in block.commands:
                told = simulated.run((command,))
                try:
                    real.carry_out(command, told, simulated)
                except AssertionError as error:
                    raise AssertionError(f"{command!r}, where the simulation tells {told}:\n{error}") from error
    finally:
        real.close()


class RealStage:
    """The servers and clients of one scenario."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = Files()
        self.machines: dict[str, Machine] = {}
        self.users: dict[str, User] = {}
        self.frozen: set[Rank] = set()
        self.heard: list[Told] = []
        self.expected: list[Told] = []
        self._hearings = Hearing(), Hearing()
        self.disturbed = False
        """Then it is no matter who is the master, and logs say more than in the scenario."""
        self.spare_on: set[Rank] = set()
        self._on_disk: dict[Rank, tuple[list[str], str]] = {}
        self.handles: dict[str, str] = {}
        """Of real seats: the handle of the same seat in the simulation."""
        self.days = 0
        self.zone = ""
        self.midnight_at: float | None = None
        self.borrow_dir = os.environ.get("FLEXCORE_BORROW_DIR", "")
        """Of other tests: put back at the end."""
        self._triad: Triad | None = None
        self._settings: Settings | None = None

    @property
    def triad(self) -> Triad:
        assert self._triad is not None
        return self._triad

    def carry_out(self, command: str, told: Sequence[str], simulated: Stage) -> None:
        """Do the same as the simulation, which told *told*, and compare."""
        words = command.split()
        if "?" not in command:
            self.expect(told)
        word = words[1] if words[0] not in _SERVER_COMMANDS else words[0]
        handler: Callable[..., None] = getattr(self, "_new" if word == "triad" else "_" + word.rstrip("?"))
        if word is words[0]:
            handler(words[1:], told, simulated)
        else:
            handler(words[0], words[2:], simulated)

    def expect(self, lines: Sequence[str]) -> None:
        """Users are to hear here what these lines of the simulation say that they heard there."""
        self.expected += self._hearings[0].of(lines)

    def hear(self, who: str, text: str) -> None:
        """A client is told something."""
        told = self._hearings[1].heard(who, text)
        if told is not None:
            self.heard.append(told)

    def close(self) -> None:
        """End everything."""
        os.environ["FLEXCORE_BORROW_DIR"] = self.borrow_dir
        for user in self.users.values():
            user.kill()
        if self._triad is not None:
            self._triad.close()
            print(self._triad.everything())

    # --- files ------------------------------------------------------------------------------------

    def _licence(self, words: list[str], told: object, simulated: object) -> None:
        self.files.add("licence", words)

    def _option(self, words: list[str], told: object, simulated: object) -> None:
        self.files.add("option", words)

    def _machine(self, words: list[str], told: object, simulated: object) -> None:
        self.machines[words[0]] = machine_of_words(words[1:])

    def _new(self, words: list[str], told: object, simulated: object) -> None:
        if self._triad is not None:
            self._triad.close()
            self.frozen.clear()
            self.folder = self.folder / "next"
            self.folder.mkdir()
        settings = self._settings = read_settings(words, bool(self.files.licences))
        there = datetime.datetime.fromtimestamp(settings.epoch, datetime.UTC)
        here = datetime.datetime.now(datetime.UTC)
        if there.time() >= datetime.time(23, 59):
            self.zone, local = zone_before(here, MIDNIGHT_S)
            self.midnight_at = time.monotonic() + MIDNIGHT_S
        else:
            local = here
        self.days = (local.date() - there.date()).days
        os.environ["FLEXCORE_BORROW_DIR"] = str(self.folder / "borrow")
        self._triad = Triad(
            self.folder, interval=0 if settings.interval_s == 0 else 1,
            primary_is_master=settings.primary_is_master, first_start=settings.first_start,
        )  # fmt: skip
        self._triad.extra = ("--lmremove-min", str(LMREMOVE_MIN_S))
        for rank in Rank:
            (self.folder / rank.word).mkdir()
            self._triad.license_files[rank] = self.folder / rank.word / "demo.lic"
        self._put([], told, simulated)

    def _put(self, words: list[str], told: object, simulated: object) -> None:
        settings = self._settings
        assert settings is not None
        lines = [f"FEATURE {name} {VENDOR} 1.0 permanent {count} SIGN=0" for name, count in settings.features.items()]
        if settings.seed_example:
            lines = [line.partition("SIGN")[0] + "SIGN=0" for line in SEED_EXAMPLE.splitlines()[4:]]
        lines += [f"{line} SIGN=0" for line in self.files.licences]
        for rank in [Rank[word.upper()] for word in words] or list(Rank):
            self._on_disk[rank] = [self._dated(line) for line in lines], self.files.options_text
            self.write(rank)
        self.files.used()

    def write(self, rank: Rank) -> None:
        """Write this server's files anew, with the lines that are about nobody if they are to be there."""
        lines, options = self._on_disk[rank]
        file = self.triad.license_files[rank]
        spare = rank in self.spare_on
        file.write_text(self.triad.signed([*lines, f"{SPARE_LICENCE} SIGN=0"] if spare else lines))
        (file.parent / OPTIONS_NAME).write_text(options + (f"{SPARE_OPTION}\n" if spare else ""))

    def _dated(self, line: str) -> str:
        """The line with its dates as far from today as they are from the scenario's day."""

        def moved(match: re.Match[str]) -> str:
            day = datetime.datetime.strptime(match[0], "%d-%b-%Y").date() + datetime.timedelta(self.days)
            return day.strftime("%d-%b-%Y").lower()

        return _DATE.sub(moved, line)

    def _reread(self, words: list[str], told: Sequence[str], simulated: Stage) -> None:
        self._put(words, told, simulated)
        for rank in [Rank[word.upper()] for word in words] or list(Rank):
            if rank not in self.triad.processes:
                continue
            since = len(self.triad.log(rank))
            self.read_anew(rank)
            wanted = [match[2] for line in told if (match := _TOLD.fullmatch(line)) and match[1] == rank.word]
            says = functools.partial(self._reread_says, rank, since, wanted)
            until(f"{rank.word} says of the reread {wanted}", says)
        self.settle(simulated)

    @property
    def differ(self) -> bool:
        """Whether servers have different files: who has those of before may not take over (rule 19)."""
        return len({str(files) for files in self._on_disk.values()}) > 1

    def read_anew(self, rank: Rank) -> None:
        """Have one server read its files."""
        done = self.triad.flexcore("lmreread", "-c", self.triad.path, "--server", rank.word)
        assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: another server has other lines

    def _reread_says(self, rank: Rank, since: int, wanted: list[str]) -> bool:
        texts = [line.partition(") ")[2] for line in self.triad.log(rank)[since:].splitlines()]
        return [said for text in texts if (said := said_of_reread(text))] == wanted

    def _lmremove(self, words: list[str], told: Sequence[str], simulated: Stage) -> None:
        """Ask until the checkout is old enough, where the simulation's is."""
        self.settle(simulated)
        wanted = [_blurred(match[2]) for line in told if (match := _TOLD.fullmatch(line)) and match[1] == "lmremove"]
        if words[0] == "-h":
            words = [*words[:-1], next(here for here, there in self.handles.items() if there == words[-1])]
        printed: list[str] = []

        def done() -> bool:
            ran = self.triad.flexcore("lmremove", "-c", self.triad.path, *words)
            printed[:] = [_blurred(self._named(line)) for line in ran.stdout.splitlines()]
            return printed[-len(wanted) :] == wanted or "-64," not in ran.stdout

        until(f"lmremove prints {wanted}", done)
        assert printed[-len(wanted) :] == wanted, printed

    # --- servers ------------------------------------------------------------------------------------

    def _start(self, words: list[str], told: object, simulated: object) -> None:
        kept = os.environ.get("TZ")
        if self.zone:
            os.environ["TZ"] = self.zone
        try:
            for word in words:
                rank = Rank[word.upper()]
                if rank in self.frozen:  # its machine had lost its power
                    self._kill([word], told, simulated)
                self.triad.start(rank)
        finally:
            if self.zone:
                os.environ.pop("TZ", None) if kept is None else os.environ.update(TZ=kept)

    def _kill(self, words: list[str], told: object, simulated: object) -> None:
        for word in words:
            self.frozen.discard(Rank[word.upper()])
            self.triad.kill(Rank[word.upper()])

    def _poweroff(self, words: list[str], told: object, simulated: object) -> None:
        for word in words:  # no word is heard of it any more, and its connections hang
            self._pause([word], told, simulated)

    def _pause(self, words: list[str], told: object, simulated: object) -> None:
        self.frozen.add(Rank[words[0].upper()])
        self.triad.freeze(Rank[words[0].upper()])

    def _resume(self, words: list[str], told: object, simulated: object) -> None:
        self.frozen.discard(Rank[words[0].upper()])
        self.triad.thaw(Rank[words[0].upper()])

    def _losedisk(self, words: list[str], told: object, simulated: object) -> None:
        shutil.rmtree(self.triad.state_dir(Rank[words[0].upper()]))

    def _stop(self, words: list[str], told: object, simulated: object) -> None:
        assert self.triad.end(Rank[words[0].upper()], signal.SIGTERM) == 0

    def _lmdown(self, words: list[str], told: object, simulated: object) -> None:
        done = self.triad.flexcore("lmdown", "-q", "-c", self.triad.path)
        assert done.returncode == 0, done.stdout + done.stderr
        for rank in list(self.triad.processes):
            assert self.triad.exited(rank) == 0

    # --- time, and looking ----------------------------------------------------------------------------

    def _run(self, words: list[str], told: object, simulated: Stage) -> None:
        seconds = float(words[0])
        self._idle_as_there(simulated)
        self.settle(simulated, PATIENCE_S + seconds)
        triad = simulated.triad
        midnight = 86400.0 * ((triad.profile.epoch + triad.world.now) // 86400.0) - triad.profile.epoch
        if self.midnight_at is not None and 0.0 < midnight <= triad.world.now:  # it passed while this ran
            time.sleep(max(0.0, self.midnight_at + 1.0 - time.monotonic()))
            self.midnight_at = None
        share = seconds / triad.profile.timeout_s if triad.profile.interval_s else 1.0
        time.sleep(max(0.0, min(share * self.triad.timeout_s, IDLE_MAX_S)) if seconds > 5.0 else 0.05)
        self.settle(simulated)

    def _idle_as_there(self, simulated: Stage) -> None:
        """What the products do not use has not been used for as long as in the simulation."""
        self._learn_handles()
        for name, user in self.users.items():
            client = simulated.triad.clients.get(name)
            session = None if client is None else client.node._sites[0].session
            if client is not None and session is not None and session.idle_since:
                now = client.now()
                user.idle_for({str(handle): now - at for handle, at in session.idle_since.items()}, self.handles)

    def settle(self, simulated: Stage, patience_s: float = PATIENCE_S) -> None:
        """Wait until the same server serves as in the simulation, the same seats are held, and the same was told."""
        self._answers_come(patience_s)
        wrong: list[str] = []

        def same() -> bool:
            wrong[:] = self._differences(simulated)
            return not wrong

        try:
            until("it is as in the simulation", same, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {wrong}") from error

    def _answers_come(self, patience_s: float) -> None:
        """Know which seat is which before anything is compared."""
        if Counter(self.expected) - self._heard():
            until("users hear", lambda: not self._missing(), patience_s)

    def _missing(self) -> Counter[Told]:
        self._learn_handles()
        return Counter(self.expected) - self._heard()

    def _learn_handles(self) -> None:
        """The n-th grant that a user heard of is the n-th that the simulation told of the same user."""
        for user in self.users:
            here = [_HANDLE.search(text) for who, text in self.heard if who == user and text.startswith("holds")]
            there = [_HANDLE.search(text) for who, text in self.expected if who == user and text.startswith("holds")]
            self.handles.update(
                {real[1]: seat[1] for real, seat in zip(here, there, strict=False) if real and seat}
            )

    def _heard(self) -> Counter[Told]:
        return Counter(Told(who, self._named(text)) for who, text in self.heard)

    def _named(self, text: str) -> str:
        """The text with the handles of the simulation."""
        return _HANDLE.sub(lambda match: f"handle {self.handles.get(match[1], match[1] + ' of its own')}", text)

    def _differences(self, simulated: Stage) -> list[str]:
        missing = self._missing()
        too_much = self._heard() - Counter(self.expected)
        wrong = [f"not heard: {missing}"] * bool(missing) + [f"heard as well: {too_much}"] * bool(too_much)
        run = simulated.triad.master()
        wanted = None if run is None else run.rank
        ends = {host.rank for host in simulated.triad.hosts if host.run is None}
        gone = {rank for rank in Rank if rank not in self.triad.processes or rank in self.frozen}
        down = {rank for rank in gone if rank not in self.frozen or rank in ends}
        if down != ends:
            wrong.append(f"down are {down}, not {ends}")
        master = self.triad.master()
        if master != wanted and (not self.disturbed or (master is None) != (wanted is None)):
            wrong.append(f"master is {master}, not {wanted}")
        elif run is not None:
            state: Any = run.ledger.state
            held = sorted(
                (str(handle), seat.feature, seat.seats, state.holder_of(seat).user)
                for handle, seat in state.seats.items()
            )
            rows = sorted(
                (self.handles.get(str(row.handle), "?"), row.feature, row.count, row.user) for row in self.triad.seats()
            )
            known = {handle: feature for handle, feature, _, _ in held}
            rows = [row for row in rows if known.get(row[0], row[1]) == row[1]]  # a suite is held by its component
            if rows != held:
                wrong.append(f"held is {rows}, not {held}")
        return wrong

    def _master(self, words: list[str], told: object, simulated: Stage) -> None:
        self.settle(simulated)

    _seats = _master

    def _servers(self, words: list[str], told: object, simulated: Stage) -> None:
        if self.disturbed:
            return
        wanted = {}
        for host in simulated.triad.hosts:
            wanted[host.rank] = "down" if host.run is None else simulated.triad.describe(host.run).split()[0]

        def states() -> dict[Rank, str]:
            reports = {rank: self.triad.report(rank) for rank in self.triad.processes}
            return {rank: report.state if (report := reports.get(rank)) else "down" for rank in Rank}

        until(f"servers are {wanted}", lambda: states() == wanted)

    def _log(self, words: list[str], told: Sequence[str], simulated: Stage) -> None:
        if self.disturbed:
            return
        rank = Rank[words[0].upper()]
        wanted = sorted(line.strip() for line in told if line.startswith("       ("))  # two users are not in step

        def lines() -> list[str]:
            texts = [line.lstrip().partition(" ")[2].rstrip() for line in self.triad.log(rank).splitlines()]
            return [text for text in texts if text.partition(") ")[2].partition(":")[0] in CLIENT_WORDS]

        until(f"{rank.word} logs {wanted}", lambda: sorted(lines()) == wanted)

    # --- users --------------------------------------------------------------------------------------

    def _user(self, name: str) -> User:
        user = self.users.get(name)
        if user is None:
            who, host, display = user_of(name)
            addresses = tuple(ServerAddress(address, self.triad.port) for address in HOSTS)
            config = ClientConfig(
                path=(addresses,), vendor=VENDOR, user=who, host=host, display=display,
                keys=(self.triad.key.verifying_key,),
            )  # fmt: skip
            user = self.users[name] = User(self.hear, name, configured(config, self.machines.get(host)))
        return user

    def _checkout(self, name: str, words: list[str], simulated: Stage) -> None:
        self._user(name).checkout(*read_request(words)).join(PROMPT_S)

    def _queue(self, name: str, words: list[str], simulated: Stage) -> None:
        self._user(name).queue(*read_request(words))
        self.settle(simulated)

    def _idle(self, name: str, words: list[str], simulated: Stage) -> None:
        for seat in self.users[name].seats:
            seat.idle()

    def _active(self, name: str, words: list[str], simulated: Stage) -> None:
        for seat in self.users[name].seats:
            seat.active()

    def _checkin(self, name: str, words: list[str], simulated: Stage) -> None:
        self._learn_handles()
        user = self.users[name]
        for seat in list(user.seats):
            if not words or self.handles[str(seat.handle)] in words:
                seat.checkin()
                user.seats.remove(seat)

    def _borrows(self, name: str, words: list[str], simulated: Stage) -> None:
        self._learn_handles()
        self.users[name].borrow(float(words[0]))

    def _returns(self, name: str, words: list[str], simulated: Stage) -> None:
        done = self.triad.flexcore("lmborrow", "-return", "f1")
        assert done.returncode == 0, done.stdout + done.stderr
        self.hear(name, done.stdout.strip().replace("f1 is returned", "returns f1"))

    def _killed(self, name: str, words: list[str], simulated: Stage) -> None:
        self.users.pop(name).kill()

    def _closes(self, name: str, words: list[str], simulated: Stage) -> None:
        self.users.pop(name).client.close()

    def _held(self, name: str, words: list[str], simulated: Stage) -> None:
        self.settle(simulated)
        there = simulated.triad.clients.get(name)
        wanted = sorted((seat.feature, str(seat.handle)) for seat in (there.held() if there else ()))
        user = self.users.get(name)
        held = sorted(
            (seat.feature, self.handles[str(seat.handle)]) for seat in (user.client.seats if user else ())
        )
        assert held == wanted


_SERVER_COMMANDS = frozenset({
    "licence", "option", "machine", "triad", "put", "reread", "lmremove", "start", "kill", "poweroff", "losedisk",
    "pause", "resume", "stop", "lmdown", "cut", "isolate", "heal", "run", "master?", "servers?", "seats?", "log?",
})  # fmt: skip


def _blurred(text: str) -> str:
    """A line of lmremove without its seconds, which are others here."""
    return re.sub(r"\d+ s\b", "n s", text)
