"""Judges whether what clients were told can be explained by one licence pool that does one thing at a time.

Each operation of a :class:`~flexcore_testing.history.History` must have taken effect at one instant between question
and answer (Herlihy and Wing 1990), such that the whole is a run of this sequential pool of *N* seats:

* a *grant* of *n* needs *n* free seats, and takes them;
* a *denial* of *n* (code -4) needs fewer than *n* free seats, and changes nothing. Denials for other reasons are not
  about seats and are not judged;
* a *checkin* frees its seats. A seat is free from the instant in which that is committed, at the latest when its client
  is told: until then a denial may still count it (protocol.md rule 14), and such a false -4 within one commit is right.
  Once any client has been told, a denial that counts the seat is a violation;
* a seat that was *lost*, or whose client died or said goodbye, is freed at some instant after its client ceased to
  believe in it; never before;
* what was *given up* may have been granted at any time since it was asked, and then freed at any time.

A handle is granted once. Beyond that handles do not matter: what counts is how many seats are in use, so operations of
one kind and size differ only by when they have to have happened, and the one that is due first goes first. This keeps
the search of Wing and Gong, as Lowe orders it (just in time: nothing is decided before some answer needs it), small: a
history of thousands of operations takes milliseconds. Seats that nobody will ever be told about (*given up*) are
treated generously: they may explain any denial in their time.

``python -m flexcore_testing.linearize FILE...`` judges files that :mod:`flexcore_testing.history` describes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from flexcore.codes import ErrorCode
from flexcore_testing.checks import Violation
from flexcore_testing.history import NEVER, History, HistoryError, Operation

CONFIGURATIONS_MAX = 200_000
"""Ways in which one answer can come about; a history with more is not decided."""

HOLDERS_MAX = 20
"""How many of those who hold seats throughout are named."""

GRANT, FREE, DENIAL = "grant", "free", "denial"

BEGINS, ENDS = 0, 1
Point = tuple[float, int, int]
"""Instant, BEGINS or ENDS, index of the step."""


class TooConcurrent(HistoryError):
    """More operations are open at one time than can be searched."""


@attrs.define(eq=False)
class Step:
    """What one operation does to the pool, once, between two instants."""

    kind: str
    count: int
    began_at: float
    ended_at: float
    operation: Operation
    grant: Step | None = None
    """What a FREE frees."""
    family: tuple[str, int, int] = ("", 0, 0)
    """Steps of one family differ by their time only."""
    sums: tuple[int, ...] = (0,)
    """Seats that operations given up may hold while a DENIAL is open."""
    index: int = 0
    bit: int = 0
    """Its place in the masks of a search, while it is open."""

    @property
    def change(self) -> int:
        """What it adds to the number of seats in use."""
        return {GRANT: self.count, FREE: -self.count, DENIAL: 0}[self.kind]


@attrs.frozen(kw_only=True)
class Offence:
    """The smallest part of a history that no pool explains."""

    feature: str
    text: str
    operations: tuple[Operation, ...]
    """The operations of the window, by their beginning."""
    holders: tuple[Operation, ...]
    """Who holds seats from before the window; told to be granted, and not yet asked to be freed when it begins."""

    def report(self) -> str:
        """For people."""
        rows = [f"{self.feature}: {self.text}"]
        if self.holders:
            rows.append("  held from before:")
            rows += [f"    {operation.text()}" for operation in self.holders[:HOLDERS_MAX]]
            if len(self.holders) > HOLDERS_MAX:
                rows.append(f"    ... and {len(self.holders) - HOLDERS_MAX} more")
        rows.append("  the smallest window that cannot be put into any order:")
        rows += [f"    {operation.text()}" for operation in self.operations]
        return "\n".join(rows)


def find_offence(history: History) -> Offence | None:
    """Judge a history: None if it is linearizable.

    Raises:
        HistoryError: it does not say how many seats are licensed. TooConcurrent: it cannot be decided.
    """
    for feature in sorted({operation.feature for operation in history.operations if operation.feature}):
        if feature not in history.pools:
            raise HistoryError(f"the history does not say how many seats of {feature} are licensed")
        mine = [operation for operation in history.operations if operation.feature == feature]
        offence = _double_handle(feature, mine) or _Pool(feature, history.pools[feature], mine).judge()
        if offence is not None:
            return offence
    return None


def check_history(history: History) -> None:
    """Judge a history.

    Raises:
        Violation: it is not linearizable. HistoryError: it is none, or cannot be decided.
    """
    offence = find_offence(history)
    if offence is not None:
        raise Violation("history", offence.report())


def _double_handle(feature: str, operations: Iterable[Operation]) -> Offence | None:
    seen: dict[int, Operation] = {}
    for operation in operations:
        if operation.result == "granted":
            other = seen.setdefault(operation.handle, operation)
            if other is not operation:
                text = f"handle {operation.handle} was granted twice"
                return Offence(feature=feature, text=text, operations=(other, operation), holders=())
    return None


class _Pool:
    """The history of one pool."""

    def __init__(self, feature: str, seats: int, operations: Sequence[Operation]) -> None:
        self.feature = feature
        self.seats = seats
        self.steps = _steps(operations, seats)
        self.points = sorted(
            point
            for step in self.steps
            for point in ((step.began_at, BEGINS, step.index), (step.ended_at, ENDS, step.index))
            if point[0] != NEVER
        )

    def judge(self) -> Offence | None:
        """Find the first answer that cannot be explained, and the smallest window that shows it."""
        failed = self._run(0, len(self.points), frozenset())
        if failed is None:
            return None
        # A later beginning forgets more, so it explains more: the latest that still fails is the smallest window.
        good, bad, reach = failed, 0, 1
        while reach < failed:
            if self._run(failed - reach, failed + 1, frozenset()) is not None:
                bad = failed - reach
                break
            good, reach = failed - reach, reach * 2
        while good - bad > 1:
            middle = (good + bad) // 2
            if self._run(middle, failed + 1, frozenset()) is None:
                good = middle
            else:
                bad = middle
        return self._offence(bad, failed)

    def _offence(self, start: int, failed: int) -> Offence:
        culprit = self.steps[self.points[failed][2]]
        without: frozenset[int] = frozenset()
        for _, _, index in self.points[start:failed]:
            if self.steps[index].kind == DENIAL and index != culprit.index and index not in without:
                if self._run(start, failed + 1, without | {index}) is not None:
                    without |= {index}
        begin = self.points[start]
        shown, holders = [], []
        for step in self.steps:
            began, ended = (step.began_at, BEGINS, step.index), (step.ended_at, ENDS, step.index)
            if began <= self.points[failed] and ended >= begin:
                if step.index not in without and not (step.kind == DENIAL and began < begin and step is not culprit):
                    shown.append(step.operation)
            elif step.kind == GRANT and ended < begin and not self._freed_before(step, self.points[failed]):
                holders.append(step.operation)
        return Offence(
            feature=self.feature,
            text=self._verdict(culprit),
            operations=tuple(shown),
            holders=tuple(holders),
        )

    def _freed_before(self, grant: Step, point: Point) -> bool:
        return any(
            step.grant is grant and (step.began_at, BEGINS, step.index) <= point for step in self.steps
        )

    def _verdict(self, culprit: Step) -> str:
        who, count = culprit.operation.client, culprit.count
        if culprit.kind == DENIAL:
            return f"{who} was denied {count} of {self.seats} seats, and never can fewer than {count} have been free"
        if culprit.kind == GRANT:
            return f"{who} was granted {count} of {self.seats} seats, and never can {count} have been free"
        return f"{who} gave back what cannot have been granted before"

    # --- the search --------------------------------------------------------------------------------------------------

    def _run(self, start: int, stop: int, without: frozenset[int]) -> int | None:
        """Search the points from *start* up to *stop*; the index of the point that has no explanation, or None.

        What ended before *start* counts as done; what was open then is done later, but for denials, which are
        forgotten, as are those *without*.
        """
        in_use, open_steps = 0, set()
        for _, what, index in self.points[:start]:
            if what == BEGINS:
                open_steps.add(index)
            else:
                open_steps.discard(index)
                in_use += self.steps[index].change
        last = self.points[stop - 1][2] if stop > start else -1
        dropped = {i for i in open_steps if self.steps[i].kind == DENIAL and (start > 0 and i != last)} | without
        search = _Search(self.seats, in_use)
        for index in sorted(open_steps - dropped):
            search.begin(self.steps[index])
        for position in range(start, stop):
            _, what, index = self.points[position]
            if index in dropped:
                continue
            if what == BEGINS:
                search.begin(self.steps[index])
            elif not search.end(self.steps[index]):
                return position
        return None


class _Search:
    """All ways in which the open steps may have been done so far: each a bit mask of those that are done."""

    def __init__(self, seats: int, in_use: int) -> None:
        self.seats = seats
        self.in_use = in_use
        """By steps that have ended."""
        self.open: dict[int, Step] = {}
        self.families: dict[tuple[str, int, int], list[Step]] = {}
        self.denials = 0
        self.early = 0
        """How many seats are open to be freed whose grant is still open."""
        self.ways: set[int] = {0}
        self._places: list[int] = []

    def begin(self, step: Step) -> None:
        """The question was asked."""
        step.bit = self._places.pop() if self._places else 1 << len(self.open)
        self.open[step.index] = step
        self.early += step.grant is not None and step.grant.index in self.open
        if step.kind == DENIAL:
            self.denials |= step.bit
            return
        family = self.families.setdefault(step.family, [])
        family.append(step)
        family.sort(key=lambda one: (one.ended_at, one.index))

    def end(self, step: Step) -> bool:
        """The answer was told: the step must be done. False if there is no way."""
        bit = step.bit
        found: set[int] = set()
        seen: set[int] = set()
        stack = list(self.ways)
        while stack:
            way = stack.pop()
            if way & bit:
                found.add(way)
                continue
            if way in seen:
                continue
            seen.add(way)
            if len(seen) > CONFIGURATIONS_MAX:
                raise TooConcurrent(f"{len(self.open)} operations are open at {step.ended_at:.4f}: too many to search")
            in_use = self.in_use + sum(one.change for one in self.open.values() if way & one.bit)
            denied = self._denied(way, in_use)
            if denied & bit:
                found.add(denied)
                continue
            stack.extend(self._moves(denied, in_use, step))
        self.ways = self._best(way & ~bit for way in found)
        self.in_use += step.change
        del self.open[step.index]
        self._places.append(bit)
        self.early = sum(one.grant is not None and one.grant.index in self.open for one in self.open.values())
        if step.kind == DENIAL:
            self.denials &= ~bit
        else:
            self.families[step.family].remove(step)
        return bool(found)

    def _denied(self, way: int, in_use: int) -> int:
        """Denials change nothing: whatever can be denied now is."""
        open_denials = self.denials & ~way
        if open_denials:
            for step in self.open.values():
                if step.bit & open_denials and self._deniable(step, in_use):
                    way |= step.bit
        return way

    def _deniable(self, step: Step, in_use: int) -> bool:
        least = self.seats - step.count + 1
        return in_use >= least or any(least <= in_use + more <= self.seats for more in step.sums)

    def _moves(self, way: int, in_use: int, goal: Step) -> Iterable[int]:
        """What can be done next on the way to *goal*."""
        free = self.seats - in_use
        if not self.denials & ~way and not self.early:
            # Nobody waits for a denial, so all else is done as well later: frees first, then grants.
            if self._enabled(goal, way) and (goal.kind == FREE or goal.count <= free):
                yield way | goal.bit
                return
        for (kind, count, _), family in self.families.items():
            if kind == GRANT and count > free:
                continue
            for step in family:
                if not way & step.bit and self._enabled(step, way):
                    yield way | step.bit
                    break

    def _enabled(self, step: Step, way: int) -> bool:
        grant = step.grant
        return grant is None or grant.index not in self.open or bool(way & grant.bit)

    def _best(self, ways: Iterable[int]) -> set[int]:
        """Of ways that differ by their denials only, those with the most."""
        groups: dict[int, list[int]] = {}
        for way in sorted(ways, reverse=True):
            group = groups.setdefault(way & ~self.denials, [])
            if not any(other & way == way for other in group):
                group[:] = [other for other in group if other & way != other]
                group.append(way)
        return {way for group in groups.values() for way in group}


def _steps(operations: Sequence[Operation], seats: int) -> list[Step]:
    steps: list[Step] = []
    ghosts: list[tuple[float, float, int]] = []
    grants: dict[tuple[str, int], Step] = {}
    for operation in sorted(operations, key=lambda one: one.began_at):
        began, ended, count = operation.began_at, operation.ended_at, operation.count
        if operation.kind != "checkout":
            grant = grants[operation.client, operation.handle]
            steps.append(Step(FREE, count, began, ended, operation, grant, (FREE, count, 0)))
            if began <= grant.ended_at:  # its client does not know since when it did not hold it
                grant.family = (GRANT, count, 1 + len(steps))
        elif operation.result == "granted":
            step = Step(GRANT, count, began, ended, operation, None, (GRANT, count, 0))
            grants[operation.client, operation.handle] = step
            steps.append(step)
        elif operation.code == ErrorCode.USERS_REACHED:
            steps.append(Step(DENIAL, count, began, ended, operation))
        if operation.kind == "checkout" and (operation.anew or operation.result == "unknown"):
            ghosts.append((began, operation.settled_at, count))
        if operation.code == ErrorCode.BAD_SIGNATURE:  # granted, refused by the client, and given back some time
            ghosts.append((began, NEVER, count))
    for index, step in enumerate(steps):
        step.index = index
        if step.kind == DENIAL and ghosts:
            step.sums = _sums(
                [count for began, ended, count in ghosts if began <= step.ended_at and ended >= step.began_at], seats
            )
    return steps


def _sums(counts: Iterable[int], most: int) -> tuple[int, ...]:
    found = {0}
    for count in counts:
        found |= {one + count for one in found if one + count <= most}
    return tuple(sorted(found))


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the files of a run; 0 if they are linearizable, 1 if not, 2 if they are no history."""
    parser = argparse.ArgumentParser(
        prog="python -m flexcore_testing.linearize", description="Judge histories of checkouts and checkins."
    )
    parser.add_argument("files", nargs="+", type=Path, help="as written by flexcore_testing.history.HistoryWriter")
    options = parser.parse_args(arguments)
    try:
        history = History.read(*options.files)
        offence = find_offence(history)
    except (HistoryError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if offence is not None:
        sys.stdout.write(offence.report() + "\n")
        return 1
    sys.stdout.write(f"linearizable: {summary(history)}\n")
    return 0


def summary(history: History) -> str:
    """What a history holds, in a few words."""
    results = [operation.result for operation in history.operations if operation.kind == "checkout"]
    checkins = sum(operation.kind == "checkin" for operation in history.operations)
    parts = [f"{results.count(name)} {name}" for name in ("granted", "denied", "unknown") if name in results]
    parts.append(f"{checkins} checkins")
    return f"{len(history.operations)} operations on {len(history.pools)} pools: {', '.join(parts)}"


if __name__ == "__main__":
    raise SystemExit(main())
