"""The table at the end of a chaos run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .conduct import Outcome

__all__ = ["table"]

COMPLAINTS_SHOWN = 20


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines: attacks by kind, what the clients did, what must be zero."""
    for outcome in outcomes:
        yield ""
        yield f"{outcome.ground}, {outcome.seconds:.0f} s, seed {outcome.seed}"
        yield "-" * 78
        for name, count in sorted(outcome.attacks.items(), key=lambda item: (-item[1], item[0])):
            yield f"  {name:<68} {count:>7}"
        for name, why in sorted(outcome.skipped.items()):
            yield f"  SKIPPED {name}: {why}"
    yield ""
    yield "=" * 78
    total = [
        ("attacks", sum(sum(each.attacks.values()) for each in outcomes)),
        ("elections", sum(each.elections for each in outcomes)),
        ("checkouts granted", sum(each.findings.granted for each in outcomes)),
        ("checkins", sum(each.findings.returned for each in outcomes)),
        ("denials (-4, all in use)", sum(each.findings.denied for each in outcomes)),
        ("commands under flexcore run", sum(each.findings.runs for each in outcomes)),
        ("comparisons with lmstat", sum(each.quiet_moments for each in outcomes)),
        ("seats compared there", sum(each.compared for each in outcomes)),
        ("lost", sum(len(each.findings.lost) for each in outcomes)),
        ("double", sum(len(each.findings.double) for each in outcomes)),
        ("over the count", sum(len(each.findings.over) for each in outcomes)),
        ("unanswered, or wrongly denied", sum(len(each.findings.wrong) for each in outcomes)),
    ]
    for name, value in total:
        yield f"  {name:<68} {value:>7}"
    for outcome in outcomes:
        for length, name in outcome.gap_during[:1]:
            yield f"  longest without a grant: {length:.2f} s ({outcome.ground}: {name})"
        if outcome.findings.most:
            most = ", ".join(f"{name} {count}" for name, count in sorted(outcome.findings.most.items()))
            yield f"  most held at one instant ({outcome.ground}): {most}"
        yield f"  linearizable ({outcome.ground}): {outcome.histories}"
    yield "=" * 78
    for outcome in outcomes:
        if outcome.failure:
            yield f"FAILED ({outcome.ground}): {outcome.failure}"
        bad = outcome.findings.bad
        for line in bad[:COMPLAINTS_SHOWN]:
            yield f"FAILED ({outcome.ground}): {line}"
        if len(bad) > COMPLAINTS_SHOWN:
            yield f"... and {len(bad) - COMPLAINTS_SHOWN} more"
