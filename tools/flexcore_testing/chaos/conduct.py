"""One attack after the other, for so long, and what came of it."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import attrs

from flexcore.identity import Rank
from flexcore_testing.history import History, HistoryError
from flexcore_testing.linearize import TooConcurrent, find_offence, summary

from .attacks import Attack, Skipped, choose
from .audit import Findings, audit
from .ground import Ground
from .load import FEATURES, RUNNERS, Load
from .servers import ChaosFailed, Servers

__all__ = ["Outcome", "conduct"]

QUIET_EVERY = 5
"""After so many attacks the books are compared with lmstat."""


@attrs.define(kw_only=True)
class Outcome:
    """What came of the run on one ground."""

    ground: str
    seed: int
    seconds: float = 0.0
    attacks: Counter[str] = attrs.Factory(Counter)
    skipped: dict[str, str] = attrs.Factory(dict)
    elections: int = 0
    quiet_moments: int = 0
    compared: int = 0
    findings: Findings = attrs.Factory(Findings)
    gap_during: list[tuple[float, str]] = attrs.Factory(list)
    failure: str = ""
    histories: str = ""

    @property
    def failed(self) -> bool:
        """Whether anything happened that must not."""
        return bool(self.failure or self.findings.bad)


class Conductor:
    """The stage of the attacks: servers and load on one ground, a folder, and chance from a seed."""

    def __init__(
        self, folder: Path, ground: Ground, seed: int, say: Callable[[str], None],
        runners: int = RUNNERS,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.ground = ground
        self.draw = random.Random(seed)
        self.servers = Servers(folder, ground, FEATURES)
        self.load = Load(self.servers, random.Random(seed + 1), runners=runners)
        self.begun_at = time.monotonic()
        self.done: list[tuple[float, str]] = []
        """(when it began on the clock of the books, name)"""
        self._say = say
        self._log = (folder / "chaos.log").open("a", encoding="utf-8")

    def note(self, text: str) -> None:
        """Write into the run's log what is being done."""
        line = f"{time.monotonic() - self.begun_at:8.2f}  {text}"
        self._log.write(line + "\n")
        self._log.flush()
        self._say(line)

    def begin(self) -> None:
        """Start the servers, then the clients."""
        for rank in Rank:
            self.servers.start(rank, "--first-start", wait=False)
        self.servers.await_peace("the first start")
        report = self.servers.report(Rank.PRIMARY)
        self.servers.first_term = report.term if report is not None else 0
        self.load.begin()
        self.load.await_work("the start of the clients")

    def carry_out(self, attack: Attack) -> None:
        """One attack, and peace after it. Raises Skipped, ChaosFailed."""
        from flexcore_host import clock

        self.done.append((clock.now(), attack.name))
        attack.run(self)
        for rank in Rank:  # whatever an attack left down is down no longer
            if rank not in self.servers.processes:
                self.servers.start(rank)
        self.servers.await_peace(attack.name)
        self.load.await_work(attack.name)

    def close(self) -> None:
        """End all processes."""
        self.load.close()
        self.servers.close()
        self._log.close()


def deck(attacks: list[Attack], draw: random.Random) -> Iterator[Attack]:
    """Yield attacks for ever: each *weight* times, shuffled, and again. So none waits for its luck."""
    while True:
        cards = [each for each in attacks for _ in range(each.weight)]
        draw.shuffle(cards)
        yield from cards


def conduct(
    folder: Path, ground: Ground, *, name: str, seed: int, seconds: float, wanted: Collection[str] = (),
    say: Callable[[str], None], runners: int = RUNNERS,
) -> Outcome:  # fmt: skip
    """Attack a triad on *ground* for so long; everything that is written lands in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(ground=name, seed=seed)
    conductor = Conductor(folder, ground, seed, say, runners)
    try:
        _attack(conductor, outcome, choose(name, wanted), seconds)
    except ChaosFailed as failed:
        outcome.failure = str(failed)
        conductor.note(f"FAILED: {failed}")
    finally:
        outcome.seconds = time.monotonic() - conductor.begun_at
        conductor.close()
    _judge(conductor, outcome)
    return outcome


def _attack(conductor: Conductor, outcome: Outcome, attacks: list[Attack], seconds: float) -> None:
    conductor.begin()
    end = time.monotonic() + seconds
    for number, attack in enumerate(deck(attacks, conductor.draw), 1):
        if time.monotonic() >= end:
            break
        if attack.name in outcome.skipped:
            continue
        try:
            conductor.carry_out(attack)
        except Skipped as skipped:
            outcome.skipped[attack.name] = str(skipped)
            conductor.note(f"SKIPPED: {attack.name}: {skipped}")
            if len(outcome.skipped) == len(attacks):
                break
            continue
        outcome.attacks[attack.name] += 1
        if number % QUIET_EVERY == 0:
            conductor.load.compare()
            conductor.note(f"the books agree with lmstat ({conductor.load.compared} seats so far)")
    conductor.ground.heal()
    conductor.servers.await_peace("the end")
    conductor.load.compare()
    conductor.load.end()


def _judge(conductor: Conductor, outcome: Outcome) -> None:
    load, servers = conductor.load, conductor.servers
    outcome.elections = max(0, servers.last_term - servers.first_term)
    outcome.quiet_moments = load.quiet_moments
    outcome.compared = load.compared
    outcome.findings = audit(load.books, FEATURES, excused=frozenset(load.excused))
    for length, begun in outcome.findings.gaps:
        before = [name for at, name in conductor.done if at <= begun + length]
        outcome.gap_during.append((length, before[-1] if before else "the start"))
    outcome.histories = _linearizable(conductor, outcome)


def _linearizable(conductor: Conductor, outcome: Outcome) -> str:
    """Judge the recorded histories; returns the verdict in words, and notes a violation as a failure."""
    try:
        history = History.read(*sorted(conductor.folder.glob("history-*.jsonl")))
        offence = find_offence(history)
    except TooConcurrent as error:
        return f"not decided: {error}"
    except HistoryError as error:
        outcome.findings.wrong.append(f"the recorded history is none: {error}")
        return "no history"
    if offence is not None:
        outcome.findings.wrong.append(f"not linearizable:\n{offence.report()}")
        return "NO"
    return f"yes, {summary(history)}"


def to_json(outcome: Outcome) -> str:
    """For another process to read."""
    return json.dumps(attrs.asdict(outcome, filter=lambda field, _: field.name != "attacks") | {
        "attacks": dict(outcome.attacks)
    })  # fmt: skip


def from_json(text: str) -> Outcome:
    """What :func:`to_json` wrote."""
    found: dict[str, Any] = json.loads(text)
    findings = found.pop("findings")
    findings["gaps"] = [tuple(each) for each in findings["gaps"]]
    found["attacks"] = Counter(found["attacks"])
    found["gap_during"] = [tuple(each) for each in found["gap_during"]]
    return Outcome(findings=Findings(**findings), **found)
