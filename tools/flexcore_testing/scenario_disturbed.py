"""Scenarios with trouble in the middle: after each step a failover, a restart of all servers, or a reread.

Nobody who uses licences may notice (I9). So the text is run twice, once as it stands and once with a disturbance
behind each ``run`` during which somebody serves, and compared after each: what users were told so far, who holds what,
what lingers, who waits and in which order. And what the ledger says in front of a disturbance it says behind it, up to
the second in which each seat was taken. Not compared: times, who is master, what servers say.

``# Not disturbed: REASON`` in a scenario says why it is none of these: because it is about which server is the master.

``python -m flexcore_testing.scenario_disturbed FILE...`` does all three with each file.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flexcore.identity import Rank
from flexcore_testing.checks import Violation
from flexcore_testing.scenario import REREAD_S, Stage, parse_scenario
from flexcore_testing.server_run import NodeRun

NOT_DISTURBED = "# Not disturbed:"
TAKEN_OVER_S = 5.0
"""Another server has taken over from one whose process is gone, if it can; milliseconds."""

BACK_S = 200.0
"""Whoever was served is served again within this time; it is some seconds where nothing else is wrong."""

SETTLE_S = 0.5
"""What was on its way when everybody was back has arrived."""

_TOLD = re.compile(r" *\d+ (\S+) +(.*)")


class Told(NamedTuple):
    """Something that a user was told."""

    who: str
    text: str


class Hearing:
    """What users were told, without what may be told once more: that somebody still waits, how many are ahead of him,
    and in which words of the system a seat was lost."""

    def __init__(self) -> None:
        self._waiting: set[tuple[str, str]] = set()

    def heard(self, who: str, text: str) -> Told | None:
        """*text*, or None for what was known."""
        first, _, rest = text.partition(" ")
        if text.startswith("waits for"):
            key = who, rest.partition(",")[0].removeprefix("for ")
            if key in self._waiting:
                return None
            self._waiting.add(key)
            return Told(who, text.partition(",")[0])
        if first == "holds":
            self._waiting.discard((who, rest.partition(" ")[0]))
        elif text.startswith("is denied"):
            self._waiting = {key for key in self._waiting if key[0] != who}
        elif text.startswith("has lost"):
            return Told(who, text.partition(":")[0])
        return Told(who, text)

    def of(self, lines: Sequence[str]) -> Iterator[Told]:
        """What these lines of a scenario say that users were told."""
        for line in lines:
            match = _TOLD.fullmatch(line)
            if match is not None and match[1] not in NO_USERS:
                told = self.heard(match[1], match[2])
                if told is not None:
                    yield told


NO_USERS = frozenset({"net", "master", "lmremove", *(rank.word for rank in Rank)})


def not_disturbed(text: str) -> str:
    """Why this scenario is not disturbed; "" if it is."""
    lines = [line for line in text.splitlines() if line.startswith(NOT_DISTURBED)]
    return lines[0].removeprefix(NOT_DISTURBED).strip() if lines else ""


# --- what must not change ------------------------------------------------------------------------


def picture(stage: Stage) -> dict[str, Any]:
    """Who holds what, by the ledger and by belief, what lingers, what is to be taken away, and who waits."""
    triad = stage.triad
    master = triad.master()
    assert master is not None
    state = master.ledger.state
    seats = {}
    for handle, seat in sorted(state.seats.items()):
        holder = state.holder_of(seat)
        words = "lingers" if seat.linger is not None else "is taken away" if seat.removal is not None else "is held"
        shares = tuple(seat.shares)
        seats[handle] = seat.feature, seat.seats, seat.pool, shares, holder.user, holder.host, holder.display, words
    waiting = {
        feature: [
            (state.sessions[queued.session].user, queued.version, queued.count) for queued in state.queue.of(feature)
        ]
        for feature in state.queue.features
    }
    beliefs = {
        name: sorted((seat.feature, seat.handle, seat.count) for seat in client.held())
        for name, client in sorted(triad.clients.items())
    }
    return {"seats": seats, "waiting": waiting, "beliefs": beliefs}


def since_when(stage: Stage) -> dict[Any, float]:
    """The starting time of each seat, and since when whoever waits does."""
    master = stage.triad.master()
    assert master is not None
    state = master.ledger.state
    since: dict[Any, float] = {handle: seat.started for handle, seat in state.seats.items()}
    for feature in state.queue.features:
        since.update({(feature, queued.place): queued.since for queued in state.queue.of(feature)})
    return since


def differences(before: Mapping[Any, Any], after: Mapping[Any, Any], path: str = "") -> list[str]:
    """Where two pictures differ, one line each."""
    lines = []
    for key in sorted({*before, *after}, key=str):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new, f"{path}{key} ")
        else:
            lines.append(f"{path}{key}: {old} -> {new}")
    return lines


# --- the disturbances ----------------------------------------------------------------------------


class Disturber:
    """Brings trouble about on a stage, and waits until everybody is served again."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._served: tuple[str, ...] = ()
        """Who was served when trouble began: who was turned away or never found a server may still wait."""

    @property
    def may_strike(self) -> bool:
        """Whether somebody serves and something may be lost."""
        master = self.stage.triad.master()
        return master is not None and bool(master.ledger.state.seats or master.ledger.state.queue)

    def failover(self) -> None:
        """The master is killed; another takes over, and it comes back."""
        triad = self.stage.triad
        master = triad.master()
        assert master is not None
        triad.kill(master.rank)
        # Nobody takes over where only two ran, or where the others have files of before a reread (rule 19).
        triad.advance_until(TAKEN_OVER_S, lambda: triad.master() is not None)
        triad.advance_until(TAKEN_OVER_S, self._users_are_served)
        triad.start(master.rank)

    def restart(self) -> None:
        """All servers that run lose their power at one moment, and come back with their disks."""
        triad = self.stage.triad
        ranks = [run.rank for run in triad.runs()]
        for rank in ranks:
            triad.kill(rank)
        for rank in ranks:
            triad.start(rank)

    def reread(self) -> None:
        """The files of all servers are changed in what concerns nobody, and read anew, one server after the other."""
        triad = self.stage.triad
        for rank in Rank:
            triad.spare_on ^= {rank}
            run = triad.run_of(rank)
            if isinstance(run, NodeRun):
                run.post(("reread",))
                triad.advance(REREAD_S)

    def strike(self, kind: str) -> None:
        """Do it, and wait.

        Raises:
            Violation: something was lost (I9), or service does not come back (I7).
        """
        clients = self.stage.triad.clients
        self._served = tuple(name for name, client in sorted(clients.items()) if client.node.ready)
        before, times = picture(self.stage), since_when(self.stage)
        KINDS[kind](self)
        self._wait(self._all_take_part, "all servers take part again")
        self._wait(self._users_are_served, "users are served again")
        self.stage.triad.advance(SETTLE_S)
        lost = differences(before, picture(self.stage)) + differences(times, since_when(self.stage), "since ")
        if lost:
            raise Violation("I9", f"a {kind} changes: " + "; ".join(lost))

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        triad = self.stage.triad
        triad.world.run_until(triad.world.now + BACK_S, condition)
        if not condition():
            raise Violation("I7", f"not within {BACK_S:g} s: {what}")

    def _all_take_part(self) -> bool:
        triad = self.stage.triad
        master = triad.master()
        if master is None:
            return False
        last = master.ledger.last
        return all(triad.is_member(run.rank) and run.ledger.last == last for run in triad.runs())

    def _users_are_served(self) -> bool:
        triad = self.stage.triad
        if triad.master() is None:
            return False
        served = (triad.clients[name] for name in self._served if name in triad.clients)
        return all(client.node.ready or not (client.held() or client.pending) for client in served)


KINDS: dict[str, Callable[[Disturber], None]] = {
    "failover": Disturber.failover,
    "restart": Disturber.restart,
    "reread": Disturber.reread,
}


# --- whole scenarios -----------------------------------------------------------------------------


def run_disturbed(text: str, kinds: Sequence[str], *, every: int = 1) -> int:
    """Run a scenario beside its calm twin, with a disturbance behind each step, or behind *every* second or third:
    *kinds* one after the other, and again from the first. Returns how many there were.

    Raises:
        Violation: somebody noticed; the text says at which command.
    """
    calm, rough = Stage(), Stage()
    heard = Counter[Told](), Counter[Told]()
    hearings = Hearing(), Hearing()
    disturber = Disturber(rough)
    struck = steps = 0
    for block in parse_scenario(text):
        for command in block.commands:
            heard[0].update(hearings[0].of(calm.run((command,))))
            heard[1].update(hearings[1].of(rough.run((command,))))
            if command.split()[0] != "run" or not disturber.may_strike:
                continue
            steps += 1
            if steps % every:
                continue
            kind = kinds[struck % len(kinds)]
            try:
                with rough.listening() as lines:
                    disturber.strike(kind)
                heard[1].update(hearings[1].of(lines))
                compare(calm, rough, *heard)
            except Violation as violation:
                text = str(violation).removeprefix(f"{violation.name}: ")
                raise Violation(violation.name, f"{kind} behind {command!r} (step {steps}): {text}") from violation
            struck += 1
    return struck


def compare(calm: Stage, rough: Stage, heard: Counter[Told], heard_too: Counter[Told]) -> None:
    """Users were told the same so far, and hold the same.

    Raises:
        Violation: not so.
    """
    missing, more = heard - heard_too, heard_too - heard
    wrong = [f"without it {told.who} hears also: {told.text}" for told in sorted(missing.elements())]
    wrong += [f"only with it {told.who} hears: {told.text}" for told in sorted(more.elements())]
    wrong += differences(picture(calm), picture(rough))
    if wrong:
        raise Violation("I9", "; ".join(wrong))


def main(arguments: Sequence[str] | None = None) -> int:
    """Disturb scenario files; 0 if nobody notices."""
    parser = argparse.ArgumentParser(prog="python -m flexcore_testing.scenario_disturbed", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--kind", choices=tuple(KINDS), action="append", help="default: each of them")
    options = parser.parse_args(arguments)
    wrong = 0
    for path in options.files:
        text = path.read_text(encoding="utf-8")
        if reason := not_disturbed(text):
            sys.stdout.write(f"{path}: not disturbed: {reason}\n")
            continue
        for kind in options.kind or KINDS:
            try:
                struck = run_disturbed(text, (kind,))
            except Violation as violation:
                wrong += 1
                sys.stdout.write(f"{path}: {violation}\n")
            else:
                sys.stdout.write(f"{path}: {struck} of {kind}, nobody noticed\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
