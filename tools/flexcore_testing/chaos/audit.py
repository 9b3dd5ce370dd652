"""Judging the books of a run: what clients believed in at any instant, what they lost, when they waited.

A client is *known* to believe in a seat from when it wrote down the grant until it last wrote down that
it looked and believed. The sum of these, at no instant, may be more than is licensed (I3). This can
only miss something (a client frozen between two looks may have believed for longer), never accuse.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from .book import read_book

__all__ = ["Belief", "Findings", "audit", "over_issue"]

GAPS_KEPT = 3
"""So many of the longest gaps are told."""


@attrs.frozen(kw_only=True)
class Belief:
    """One seat, and from when until when its holder is known to have believed in it."""

    client: str
    feature: str
    handle: int
    count: int
    began_at: float
    ended_at: float


@attrs.define(kw_only=True)
class Findings:
    """What the books of a run come to."""

    asked: int = 0
    granted: int = 0
    denied: int = 0
    silent: int = 0
    returned: int = 0
    runs: int = 0
    lost: list[str] = attrs.Factory(list)
    double: list[str] = attrs.Factory(list)
    over: list[str] = attrs.Factory(list)
    wrong: list[str] = attrs.Factory(list)
    """Denials that nothing explains, and books that do not add up."""
    gaps: list[tuple[float, float]] = attrs.Factory(list)
    """(length in seconds, when it began): no client got anything meanwhile, longest first."""
    most: dict[str, int] = attrs.Factory(dict)
    """The most seats of each feature that were believed in at one instant."""

    @property
    def bad(self) -> list[str]:
        """Everything that must not be."""
        return [*self.lost, *self.double, *self.over, *self.wrong]


class _Reader:
    """One client's book."""

    def __init__(self, name: str, findings: Findings, excused: frozenset[str]) -> None:
        self.name = name
        self.findings = findings
        self.excused = name in excused
        self.open: dict[int, Belief] = {}
        self.beliefs: list[Belief] = []
        self.grants_at: list[float] = []
        self.quiet: list[tuple[float, float]] = []
        self.quiet_since: float | None = None

    def read(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            what, at = row["what"], float(row["at"])
            if self.quiet_since is not None and what not in ("quiet", "lost"):
                self.quiet.append((self.quiet_since, at))
                self.quiet_since = None
            getattr(self, f"_{what}")(row, at)
        self.beliefs.extend(self.open.values())

    def _ask(self, row: Mapping[str, Any], at: float) -> None:
        self.findings.asked += 1

    def _granted(self, row: Mapping[str, Any], at: float) -> None:
        self.findings.granted += 1
        self.grants_at.append(at)
        handle = int(row["handle"])
        self.open[handle] = Belief(
            client=self.name, feature=row["feature"], handle=handle, count=int(row["count"]),
            began_at=at, ended_at=at,
        )  # fmt: skip

    def _denied(self, row: Mapping[str, Any], at: float) -> None:
        self.findings.denied += 1
        if row["code"] != -4:
            self.findings.wrong.append(f"{self.name}: {row['feature']} was denied with {row['code']}")

    def _silent(self, row: Mapping[str, Any], at: float) -> None:
        self.findings.silent += 1
        if not self.excused:
            self.findings.wrong.append(f"{self.name}: no answer for {row['feature']}: {row['why']}")

    def _held(self, row: Mapping[str, Any], at: float) -> None:
        self._see(int(row["handle"]), at)

    def _return(self, row: Mapping[str, Any], at: float) -> None:
        self._see(int(row["handle"]), at)
        self._close(int(row["handle"]))

    def _returned(self, row: Mapping[str, Any], at: float) -> None:
        self.findings.returned += 1

    def _lost(self, row: Mapping[str, Any], at: float) -> None:
        self._close(int(row["handle"]))
        if not self.excused:
            self.findings.lost.append(f"{self.name} lost handle {row['handle']}: {row['why']}")

    def _quiet(self, row: Mapping[str, Any], at: float) -> None:
        self.quiet_since = at

    def _end(self, row: Mapping[str, Any], at: float) -> None:
        pass

    def _see(self, handle: int, at: float) -> None:
        belief = self.open.get(handle)
        if belief is not None:
            self.open[handle] = attrs.evolve(belief, ended_at=at)

    def _close(self, handle: int) -> None:
        belief = self.open.pop(handle, None)
        if belief is not None:
            self.beliefs.append(belief)


def audit(
    books: Iterable[Path], licensed: Mapping[str, int], *, excused: frozenset[str] = frozenset()
) -> Findings:
    """Judge all books of a run. *excused* clients were killed or frozen: they may lose what they hold.

    The name of a book's client is what stands between ``book-`` and ``.jsonl``.
    """
    findings = Findings()
    beliefs: list[Belief] = []
    grants_at: list[float] = []
    quiet: list[tuple[float, float]] = []
    for path in sorted(books):
        reader = _Reader(path.stem.removeprefix("book-"), findings, excused)
        reader.read(read_book(path))
        beliefs += reader.beliefs
        if any(each.feature == "f1" for each in reader.beliefs):
            grants_at += reader.grants_at
            quiet += reader.quiet
    findings.runs = sum(each.feature == "r1" for each in beliefs)
    findings.double = given_twice(beliefs)
    findings.over, findings.most = over_issue(beliefs, licensed)
    findings.gaps = longest_gaps(grants_at, quiet)
    return findings


def given_twice(beliefs: Iterable[Belief]) -> list[str]:
    """A handle names one checkout for ever: two clients with the same one were given the same seat."""
    owner: dict[int, Belief] = {}
    found = []
    for belief in sorted(beliefs, key=lambda each: (each.began_at, each.client)):
        if not belief.handle:
            continue  # `run` does not tell it
        first = owner.setdefault(belief.handle, belief)
        if first is not belief:
            found.append(f"handle {belief.handle} was given to {first.client} and to {belief.client}")
    return found


def over_issue(
    beliefs: Iterable[Belief], licensed: Mapping[str, int]
) -> tuple[list[str], dict[str, int]]:
    """Return each instant at which more became believed in than is licensed, and the most of each."""
    steps: list[tuple[float, int, str, str]] = []
    for each in beliefs:
        steps.append((each.began_at, each.count, each.feature, each.client))
        steps.append((each.ended_at, -each.count, each.feature, each.client))
    now = dict.fromkeys(licensed, 0)
    most = dict(now)
    found = []
    # What ends at an instant ends before what begins at it: two clocks' ticks may coincide.
    for at, count, feature, client in sorted(steps, key=lambda step: (step[0], step[1])):
        now[feature] += count
        if now[feature] > most[feature]:
            most[feature] = now[feature]
        if count > 0 and now[feature] > licensed[feature]:
            found.append(
                f"{now[feature]} of {licensed[feature]} {feature} are held at {at:.6f}, by {client} among others"
            )
    return found, most


def longest_gaps(
    grants_at: Iterable[float], quiet: Iterable[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Return the longest times between two grants, those in which everybody was told to be quiet left out."""
    times = sorted(grants_at)
    pauses = sorted(quiet)
    gaps = []
    for before, after in itertools.pairwise(times):
        gaps.append((after - before, before))
    gaps.sort(reverse=True)
    kept = []
    for length, begun in gaps:
        if not any(since < begun + length and until > begun for since, until in pauses):
            kept.append((length, begun))
        if len(kept) == GAPS_KEPT:
            break
    return kept
