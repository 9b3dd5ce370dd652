"""Scenarios: plain text, a command, ``----``, and what happens; written again with a flag, and read like the manual.

A file is blocks with a blank line between them. A block is lines of commands, ``----``, and the lines that are
expected; lines that begin with ``#`` are for people. What happens is told in whole seconds of true time::

    triad interval=20
    start primary secondary tertiary
    run 60
    ----
         0 primary    serves (term 1)

``licence FEATURE f1 demo 1.0 permanent 2 DUP_GROUP=U`` in front of ``triad`` puts that line into the licence file (it
is signed there), ``option MAX 1 f1 USER ann`` one into the options file. After ``triad`` such lines begin new files,
which ``reread`` (of all servers, or of those named) puts in place and has read; ``put`` only puts them in place. A
client is ``user``, ``user@host`` or ``user@host:display``; a second process of the same is ``user@host/2``; ``machine
elm 00146c37f273 platform=x64_lsb`` says what the host ``elm`` shows. ``ann checkout f1 2 version=1.0`` asks for two
licences, ``ann queue f1 2`` waits for them if need be; ``ann idle`` says that her program is not used, ``ann active``
that it is again. ``lmremove`` is written as on a command line; ``clock primary -172800`` sets that server's clock.
``ann@elm borrows 2`` takes home what is held, for two hours, and ``ann@elm returns`` brings it back.

The same text is run against real servers by ``tests/real/test_scenarios.py``; a comment ``# Simulated only:`` says
why one is not. It is also run with a failover, a restart of all three or a reread after each step
(:mod:`flexcore_testing.scenario_disturbed`), from which its users must notice nothing, unless a comment ``# Not
disturbed:`` says why.

``python -m flexcore_testing.scenario FILE...`` compares, ``--rewrite`` puts what happened in place of what was
expected.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from flexcore.identity import Rank
from flexcore.licensefile import LicenseFile
from flexcore_testing.licences import SEED_EXAMPLE, signed, triad_text
from flexcore_testing.profile import Profile
from flexcore_testing.scenario_borrowing import Loan, borrow, give_back
from flexcore_testing.scenario_files import (
    Files,
    Machine,
    ScenarioTriad,
    epoch_of_words,
    machine_of_words,
)
from flexcore_testing.scenario_remove import REMOVAL_S, Remover
from flexcore_testing.server_run import NodeRun

REREAD_S = 1.0
"""Files are read, verified and told to the master within this time."""

DIVIDER = "----"
CLIENT_WORDS = ("OUT", "IN", "DENIED", "QUEUED", "DEQUEUED")
EPOCH_2017 = 1_497_600_000.0
"""16 June 2017, while the licences of the seed's example are valid."""


class ScenarioError(Exception):
    """A scenario file that makes no sense."""


@attrs.frozen(kw_only=True)
class Settings:
    """The words behind ``triad``."""

    interval_s: int
    primary_is_master: bool
    first_start: bool
    seed_example: bool
    epoch: float
    features: dict[str, int]


def read_settings(words: Sequence[str], has_lines: bool) -> Settings:
    """``interval=5 primary_is_master first_start=no licence=seed date=2026-01-31T23:59 f1=3``."""
    named = dict(word.partition("=")[::2] for word in words)
    date = named.pop("date", "")
    example = named.pop("licence", "") == "seed"
    return Settings(
        interval_s=int(named.pop("interval", "20")),
        primary_is_master=named.pop("primary_is_master", None) is not None or example,
        first_start=named.pop("first_start", "yes") != "no",
        seed_example=example,
        epoch=epoch_of_words(date) if date else EPOCH_2017,
        features={name: int(count) for name, count in named.items()} or ({} if has_lines else {"f1": 10}),
    )


@attrs.frozen
class Block:
    """Commands and what they are expected to tell."""

    comments: tuple[str, ...]
    commands: tuple[str, ...]
    expected: tuple[str, ...]


def parse_scenario(text: str) -> list[Block]:
    """The blocks of a file.

    Raises:
        ScenarioError: a block has no ``----``.
    """
    blocks = []
    for part in text.strip("\n").split("\n\n"):
        lines = [line.rstrip() for line in part.strip("\n").splitlines()]
        comments = tuple(line for line in lines if line.startswith("#"))
        rest = [line for line in lines if not line.startswith("#")]
        if not rest:
            blocks.append(Block(comments, (), ()))
            continue
        if DIVIDER not in rest:
            raise ScenarioError(f"a block without {DIVIDER}: {rest[0]}")
        at = rest.index(DIVIDER)
        blocks.append(Block(comments, tuple(rest[:at]), tuple(rest[at + 1 :])))
    return blocks


def format_scenario(blocks: Sequence[Block]) -> str:
    """The text of a file."""
    parts = []
    for block in blocks:
        lines = [*block.comments]
        if block.commands:
            lines += [*block.commands, DIVIDER, *block.expected]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def run_scenario(text: str) -> str:
    """The file with what really happened in place of what was expected."""
    stage = Stage()
    blocks = []
    for block in parse_scenario(text):
        told = stage.run(block.commands) if block.commands else ()
        blocks.append(attrs.evolve(block, expected=tuple(told)))
    return format_scenario(blocks)


class Stage:
    """A simulated triad with its clients, and the commands that move it."""

    def __init__(self) -> None:
        self._triad: ScenarioTriad | None = None
        self._told: list[str] = []
        self.files = Files()
        self._machines: dict[str, Machine] = {}
        self.loans: dict[str, list[Loan]] = {}
        """What each user took home."""

    def run(self, commands: Sequence[str]) -> list[str]:
        """Carry out some commands; what happened, one line each, or ``ok``."""
        self._told = []
        for command in commands:
            words = command.split()
            handler = _COMMANDS.get(words[0])
            if handler is not None:
                handler(self, words[1:])
            elif len(words) > 1 and words[1] in _CLIENT_COMMANDS:
                _CLIENT_COMMANDS[words[1]](self, words[0], words[2:])
            else:
                raise ScenarioError(f"what is {command!r}?")
        return self._told or ["ok"]

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[str]]:
        """What happens while the context lasts, in the lines of a scenario; for whoever moves the triad himself."""
        self._told = []
        yield self._told

    @property
    def triad(self) -> ScenarioTriad:
        """The triad of the scenario."""
        if self._triad is None:
            raise ScenarioError("the first command has to be: triad")
        return self._triad

    def _tell(self, who: str, text: str) -> None:
        self._told.append(f"{self.triad.world.now:6.0f} {who:<10} {text}")

    # --- servers -------------------------------------------------------------------------------------------------

    def _licence(self, words: list[str]) -> None:
        self.files.add("licence", words)

    def _option(self, words: list[str]) -> None:
        self.files.add("option", words)

    def _machine(self, words: list[str]) -> None:
        self._machines[words[0]] = machine_of_words(words[1:])

    def _new(self, words: list[str]) -> None:
        settings = read_settings(words, bool(self.files.licences))
        profile = Profile(
            seed=0,
            interval_s=settings.interval_s,
            primary_is_master=settings.primary_is_master,
            first_start=settings.first_start,
            epoch=settings.epoch,
            clients=0,
        )
        network = profile.network  # nothing is drawn: a scenario tells the same story whatever else draws numbers
        network.jitter_s = network.flush_max_s = network.reset_at_death = 0.0
        network.keepalive_min_s = network.keepalive_max_s = 0.75 * profile.timeout_s
        self._settings = settings
        self._triad = ScenarioTriad(profile, self._license(), self.files.options())
        self._triad.machines = self._machines
        self._triad.listeners.append(self._tell)
        self.files.used()

    def _license(self) -> LicenseFile:
        settings = self._settings
        if settings.seed_example:
            return signed(SEED_EXAMPLE)
        text = triad_text(
            settings.features, interval_s=settings.interval_s, primary_is_master=settings.primary_is_master
        )
        return signed(text + "".join(f"{line} SIGN=0\n" for line in self.files.licences))

    def _put(self, words: list[str]) -> None:
        files = (self._license(), self.files.options())
        self.files.used()
        for rank in [_rank(word) for word in words] or list(Rank):
            self.triad.put_files(rank, *files)

    def _reread(self, words: list[str]) -> None:
        self._put(words)
        logged = {}
        for rank in [_rank(word) for word in words] or list(Rank):
            run = self.triad.run_of(rank)
            if isinstance(run, NodeRun):
                logged[rank] = run, len(run.log)
                run.post(("reread",))
        self.triad.advance(REREAD_S)
        for rank, (run, since) in logged.items():
            for text in filter(None, (said_of_reread(text) for _, text in run.log[since:])):
                self._tell(rank.word, text)

    def _lmremove(self, words: list[str]) -> None:
        remover = Remover(self.triad, words)
        world = self.triad.world
        world.run_until(world.now + REMOVAL_S, remover.is_over)
        for line in remover.lines:
            self._tell("lmremove", line)

    def _clock(self, words: list[str]) -> None:
        self.triad.jump_wall(_rank(words[0]), float(words[1]))

    def _start(self, words: list[str]) -> None:
        for word in words:
            self.triad.start(_rank(word))
            self.triad.advance(0.1)

    def _kill(self, words: list[str]) -> None:
        for word in words:
            self.triad.kill(_rank(word))

    def _power_off(self, words: list[str]) -> None:
        for word in words:
            self.triad.power_off(_rank(word))

    def _lose(self, words: list[str]) -> None:
        self.triad.lose_disk(_rank(words[0]))

    def _pause(self, words: list[str]) -> None:
        self.triad.pause(_rank(words[0]))

    def _resume(self, words: list[str]) -> None:
        self.triad.resume(_rank(words[0]))

    def _stop(self, words: list[str]) -> None:
        self.triad.stop(_rank(words[0]), "one")

    def _lmdown(self, words: list[str]) -> None:
        self.triad.stop(_rank(words[0]), "all")

    def _cut(self, words: list[str]) -> None:
        self.triad.cut(_rank(words[0]), _rank(words[1]), one_way=words[2:] == ["one", "way"])

    def _isolate(self, words: list[str]) -> None:
        lonely = _rank(words[0])
        for other in Rank:
            if other is not lonely:
                self.triad.cut(lonely, other)

    def _heal(self, words: list[str]) -> None:
        self.triad.network.heal_all()

    def _run(self, words: list[str]) -> None:
        self.triad.advance(float(words[0]))

    def _master(self, words: list[str]) -> None:
        master = self.triad.master()
        self._tell("master", "nobody" if master is None else master.rank.word)

    def _servers(self, words: list[str]) -> None:
        for host in self.triad.hosts:
            text = "down" if host.run is None else self.triad.describe(host.run)
            self._tell(host.rank.word, text)

    def _seats(self, words: list[str]) -> None:
        master = self.triad.master()
        if master is None:
            self._told.append("nobody serves")
            return
        state = master.ledger.state
        for handle in sorted(state.seats):
            seat = state.seats[handle]
            since = seat.started - self.triad.profile.epoch
            user = state.holder_of(seat).user
            self._told.append(f"       {seat.feature} x{seat.seats} handle {handle} {user} since {since:.0f}")
        if not state.seats:
            self._told.append("no seat is held")

    def _log(self, words: list[str]) -> None:
        run = self.triad.run_of(_rank(words[0]))
        if not isinstance(run, NodeRun):
            self._told.append(f"{words[0]} is down")
            return
        lines = [f"       ({daemon}) {text}" for daemon, text in run.log if text.partition(":")[0] in CLIENT_WORDS]
        self._told += lines or [f"{words[0]} has logged nothing of clients"]

    # --- clients -------------------------------------------------------------------------------------------------

    def _checkout(self, name: str, words: list[str]) -> None:
        client = self.triad.clients.get(name) or self.triad.client(name)
        feature, count, version = read_request(words)
        client.checkout(feature, count, version)

    def _queue(self, name: str, words: list[str]) -> None:
        client = self.triad.clients.get(name) or self.triad.client(name)
        feature, count, version = read_request(words)
        client.checkout(feature, count, version, queue=True)

    def _checkin(self, name: str, words: list[str]) -> None:
        client = self.triad.clients[name]
        for handle in [int(word) for word in words] or sorted(client.seats):
            client.checkin(handle)

    def _idle(self, name: str, words: list[str]) -> None:
        self._set_idle(name, True)

    def _active(self, name: str, words: list[str]) -> None:
        self._set_idle(name, False)

    def _set_idle(self, name: str, idle: bool) -> None:
        client = self.triad.clients[name]
        for handle in sorted(client.seats):
            client.set_idle(handle, idle)

    def _client_borrows(self, name: str, words: list[str]) -> None:
        self.loans.setdefault(name, []).extend(borrow(self.triad.clients[name], float(words[0])))

    def _client_returns(self, name: str, words: list[str]) -> None:
        for text in give_back(self.triad, self.loans.pop(name)):
            self._tell(name, text)

    def _client_kill(self, name: str, words: list[str]) -> None:
        self.triad.kill_client(name)

    def _client_close(self, name: str, words: list[str]) -> None:
        self.triad.clients[name].close()

    def _client_held(self, name: str, words: list[str]) -> None:
        client = self.triad.clients.get(name)
        held = [] if client is None else [f"{seat.feature} handle {seat.handle}" for seat in client.held()]
        self._tell(name, "believes in " + (", ".join(held) or "nothing"))


def _rank(word: str) -> Rank:
    try:
        return Rank[word.upper()]
    except KeyError:
        raise ScenarioError(f"{word!r} is no server: primary, secondary, tertiary") from None


def read_request(words: Sequence[str]) -> tuple[str, int, str]:
    """``f1 2 version=1.0`` as feature, count and version."""
    version = next((word.partition("=")[2] for word in words if word.startswith("version=")), "")
    rest = [word for word in words if not word.startswith("version=")]
    return rest[0], int(rest[1]) if len(rest) > 1 else 1, version


def said_of_reread(text: str) -> str:
    """What a line of the debug log says about a reread, "" for one that says nothing of it."""
    if not text.startswith("REREAD: ") or text.startswith("REREAD: lmreread"):
        return ""
    return "rereads: " + re.sub(r'file "[^"]*"', "file", text.removeprefix("REREAD: "))


_COMMANDS: dict[str, Callable[[Stage, list[str]], None]] = {
    "licence": Stage._licence,
    "option": Stage._option,
    "machine": Stage._machine,
    "triad": Stage._new,
    "put": Stage._put,
    "reread": Stage._reread,
    "lmremove": Stage._lmremove,
    "clock": Stage._clock,
    "start": Stage._start,
    "kill": Stage._kill,
    "poweroff": Stage._power_off,
    "losedisk": Stage._lose,
    "pause": Stage._pause,
    "resume": Stage._resume,
    "stop": Stage._stop,
    "lmdown": Stage._lmdown,
    "cut": Stage._cut,
    "isolate": Stage._isolate,
    "heal": Stage._heal,
    "run": Stage._run,
    "master?": Stage._master,
    "servers?": Stage._servers,
    "seats?": Stage._seats,
    "log?": Stage._log,
}
_CLIENT_COMMANDS: dict[str, Callable[[Stage, str, list[str]], None]] = {
    "checkout": Stage._checkout,
    "queue": Stage._queue,
    "checkin": Stage._checkin,
    "idle": Stage._idle,
    "active": Stage._active,
    "borrows": Stage._client_borrows,
    "returns": Stage._client_returns,
    "killed": Stage._client_kill,
    "closes": Stage._client_close,
    "held?": Stage._client_held,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare or rewrite scenario files; 0 if they are as expected."""
    parser = argparse.ArgumentParser(prog="python -m flexcore_testing.scenario", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rewrite", action="store_true")
    options = parser.parse_args(arguments)
    wrong = 0
    for path in options.files:
        text = path.read_text(encoding="utf-8")
        happened = run_scenario(text)
        if happened == text:
            continue
        if options.rewrite:
            path.write_text(happened, encoding="utf-8")
            sys.stdout.write(f"{path}: written again\n")
        else:
            wrong += 1
            sys.stdout.write(f"{path}: what happens is\n{happened}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
