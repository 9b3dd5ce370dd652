"""One history out of the report logs of three servers, and what is missing from it.

Every server records every committed entry, in the same words; so the union by (triad, index) is the
whole history as long as at every moment one of them wrote. What is not covered by any of them is named,
with who wrote until where; two logs that tell the same entry in different words are a conflict: one of
them was changed. Denials are only in the log of the master that refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .reportlog import DENIED, LOCAL, Reading, Record, ReportChain

GAPS_MAX = 1000
"""So many gaps are named; a history with more holes than that is no history."""

_OWN_FIELDS = ("n", "hash")


class Source(NamedTuple):
    """What one log covers of one triad's life, as ranges of indices (both ends within)."""

    server: str
    triad: str
    ranges: tuple[tuple[int, int], ...]
    last_at: float

    @property
    def until(self) -> int:
        """The last entry that it has."""
        return self.ranges[-1][1]


class Gap(NamedTuple):
    """Entries *first* to *last* are in no log; *wrote*: (server, its last entry before that)."""

    triad: str
    first: int
    last: int
    wrote: tuple[tuple[str, int], ...]


class Conflict(NamedTuple):
    """Two servers tell entry *index* in different words."""

    triad: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    servers: tuple[str, str]


class Merged(NamedTuple):
    """The history: *records* in their order, without the logs' own records, numbers and hashes."""

    records: tuple[Record, ...]
    sources: tuple[Source, ...]
    gaps: tuple[Gap, ...]
    conflicts: tuple[Conflict, ...]

    @property
    def complete(self) -> bool:
        """Whether every entry from the first that any log has to the last is there, in one wording."""
        return not self.gaps and not self.conflicts


def merge_reports(logs: Sequence[Reading]) -> Merged:
    """Join the logs of the servers of one triad: any number, in any order, also the same one twice."""
    entries: dict[tuple[str, int], tuple[str, Record]] = {}
    denials: dict[tuple[Any, ...], Record] = {}
    conflicts: dict[tuple[str, int], Conflict] = {}
    begun: dict[str, float] = {}
    sources: list[Source] = []
    for log in logs:
        server = log.server
        covered: dict[str, set[int]] = {}
        last_at: dict[str, float] = {}
        for record in log.records:
            if record["kind"] in LOCAL:
                continue
            triad, index = record["triad"], record["index"]
            plain = {name: value for name, value in record.items() if name not in _OWN_FIELDS}
            if record["kind"] == DENIED:
                denials.setdefault((triad, index, record.get("server"), record.get("seq"), record["at"]), plain)
                continue
            covered.setdefault(triad, set()).add(index)
            last_at[triad] = record["at"]
            begun[triad] = min(begun.get(triad, record["at"]), record["at"])
            known = entries.setdefault((triad, index), (server, plain))
            if known[1] != plain:
                conflicts.setdefault((triad, index), Conflict(triad, index, (known[0], server)))
        sources += [Source(server, triad, _ranges(some), last_at[triad]) for triad, some in covered.items()]
    records = [record for _, record in entries.values()] + list(denials.values())
    records.sort(key=lambda record: _place(record, begun))
    found = conflicts.values()
    return Merged(tuple(records), tuple(sources), tuple(_gaps(sources)), tuple(sorted(found)))


def _place(record: Record, begun: dict[str, float]) -> tuple[Any, ...]:
    denied = record["kind"] == DENIED
    triad = record["triad"]
    return (begun.get(triad, record["at"]), triad, record["index"], denied, record["at"] if denied else 0.0,
            str(record.get("server", "")), record.get("seq", 0) if denied else 0)  # fmt: skip


def _ranges(indices: Iterable[int]) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for index in sorted(indices):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((index, index))
    return tuple(ranges)


def _gaps(sources: Sequence[Source]) -> Iterator[Gap]:
    for triad in sorted({source.triad for source in sources}):
        of_triad = [source for source in sources if source.triad == triad]
        edge: int | None = None
        number = 0
        for first, last in sorted(each for source in of_triad for each in source.ranges):
            if edge is not None and first > edge + 1:
                number += 1
                if number > GAPS_MAX:
                    return
                yield Gap(triad, edge + 1, first - 1, tuple(_wrote(of_triad, first)))
            edge = last if edge is None else max(edge, last)


def _wrote(sources: Sequence[Source], before: int) -> Iterator[tuple[str, int]]:
    for source in sources:
        ends = [last for _, last in source.ranges if last < before]
        if ends:
            yield source.server, ends[-1]


def merged_lines(merged: Merged, *, at: float) -> Iterator[str]:
    """Yield the lines of a report log of the whole history: a start that names the sources, and the
    records with a chain of their own."""
    chain = ReportChain()
    sources = [{"server": s.server, "triad": s.triad, "entries": [list(r) for r in s.ranges]} for s in merged.sources]
    yield chain.line("start", 0, 0, at, "", {"schema": 1, "server": "merged", "prev": "", "sources": sources,
                                             "complete": merged.complete})  # fmt: skip
    for record in merged.records:
        rest = dict(record)
        kind, term, index = rest.pop("kind"), rest.pop("term"), rest.pop("index")
        yield chain.line(kind, term, index, rest.pop("at"), rest.pop("triad"), rest)
