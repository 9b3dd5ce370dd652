"""Coverage: which rules of protocol.md acted, which roles changed, what was said, which faults struck; and how often.

A rule that no seed has exercised was not tested, whatever the number of seeds: :func:`coverage_text` says so loudly.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flexcore.wire.messages import ClientMessage, PeerBody, ServerMessage
from flexcore_testing.probes import CLIENT_PROBES, QUORUM_PROBES, Probe
from flexcore_testing.profile import (
    ASSUMPTIONS,
    CLIENT_FAULTS,
    FAULTS,
    MORE_CLIENT_FAULTS,
    MORE_FAULTS,
)

RULE, ROLE, SENT, FAULT = "rule ", "role ", "sent ", "fault "

ROLES = (
    "follower > prevote", "prevote > candidate", "prevote > follower", "candidate > master", "candidate > follower",
    "master > follower", "follower > candidate", "follower > master", "prevote > master",
)  # fmt: skip
"""Changes of role that a turn may make; the last ones skip what begins and ends within one turn."""

NEVER_SENT = frozenset({"SeatsLost", "StatusPage", "AdminRequest", "AdminReply", "Refusal"})
"""Messages that only administrators cause, or liars."""


SHOWN_BY: Mapping[str, str] = {
    "6 two processes are one server": "twin_of_the_master",
    "8 the vote is spent": "vote_of_a_lost_disk",
    "9 an unused triad is given up": "unused_triad_is_given_up",
    "9 form: on the log of the member left": "log_of_the_member_left",
    "10 a release that is void": "late_release",
    "21 the detector is off": "detector_off",
}
"""Rules that random weather seldom or never asks for, and the scripted schedule (:mod:`flexcore_testing.schedules`)
that exercises each (the tests run it, and see that it does)."""


def rule_names() -> tuple[str, ...]:
    """Every rule that is probed, in the order of protocol.md."""
    names = {probe.name for probe in QUORUM_PROBES + CLIENT_PROBES if probe.name}
    return tuple(sorted(names, key=_in_order))


def _in_order(name: str) -> tuple[int, str]:
    number = re.match(r"\d+", name)
    return (int(number.group()) if number else 99, name)


@contextlib.contextmanager
def probing() -> Iterator[Counter[str]]:
    """Count what the probes see while the context lasts."""
    counts: Counter[str] = Counter()
    table: dict[tuple[type, str], list[Probe]] = {}
    for probe in QUORUM_PROBES + CLIENT_PROBES:
        table.setdefault((probe.owner, probe.method), []).append(probe)
    kept: list[tuple[type, str, Any]] = []
    try:
        for (owner, method), probes in table.items():
            kept.append((owner, method, owner.__dict__.get(method)))
            setattr(owner, method, _probed(getattr(owner, method), probes, counts))
        yield counts
    finally:
        for owner, method, original in kept:
            if original is None:
                delattr(owner, method)
            else:
                setattr(owner, method, original)


def _probed(original: Callable[..., Any], probes: list[Probe], counts: Counter[str]) -> Callable[..., Any]:
    befores = [(RULE + probe.name, probe.before) for probe in probes if probe.before is not None]
    afters = [(RULE + probe.name, probe.after) for probe in probes if probe.after is not None]

    @functools.wraps(original)
    def probed(it: Any, *args: Any, **named: Any) -> Any:
        seen = args + tuple(named.values()) if named else args
        for name, holds in befores:
            if holds(it, seen, None):
                counts[name] += 1
        result = original(it, *args, **named)
        for name, holds in afters:
            if holds(it, seen, result):
                counts[name] += 1
        return result

    return probed


# --- the report ------------------------------------------------------------------------------------------------------


def never_exercised(counts: Counter[str], *, level: str = "full", beyond: bool = True) -> list[str]:
    """What was not seen at all, of everything that this level of simulation can show."""
    wanted = [RULE + probe.name for probe in QUORUM_PROBES if probe.name]
    wanted += [ROLE + name for name in ROLES[:6]]
    wanted += [SENT + kind.__name__ for kind in PeerBody.__args__]
    wanted += [FAULT + name for name in FAULTS + MORE_FAULTS]
    if beyond:
        wanted += [FAULT + name for names in ASSUMPTIONS.values() for name in names]
    if level == "full":
        wanted += [RULE + probe.name for probe in CLIENT_PROBES]
        wanted += [SENT + kind.__name__ for kind in (ClientMessage | ServerMessage).__args__]
        wanted += [FAULT + name for name in CLIENT_FAULTS + MORE_CLIENT_FAULTS]
    shown = {RULE + name for name in SHOWN_BY}
    never = dict.fromkeys(
        name for name in wanted if not counts[name] and name not in shown and name[len(SENT) :] not in NEVER_SENT
    )
    return list(never)


def coverage_text(counts: Counter[str], seeds: int, *, level: str = "full", beyond: bool = True) -> str:
    """The table, rules first, and what was never exercised."""
    parts = [f"What {seeds} seed{'s' if seeds != 1 else ''} exercised:"]
    for title, prefix in (
        ("rules of protocol.md", RULE), ("changes of role", ROLE), ("messages", SENT), ("faults", FAULT),
    ):  # fmt: skip
        names = sorted((name for name in counts if name.startswith(prefix)), key=lambda name: _in_order(name[5:]))
        parts.append(f" {title}:")
        parts += [f"  {counts[name]:>10}  {name[len(prefix) :]}" for name in names]
    other = sorted(name for name in counts if not name.startswith((RULE, ROLE, SENT, FAULT)))
    parts.append(" and:")
    parts += [f"  {counts[name]:>10}  {name}" for name in other if not name.startswith("believed")]
    scripted = [(name, schedule) for name, schedule in SHOWN_BY.items() if not counts[RULE + name]]
    if scripted:
        parts.append("Exercised by no seed of these, but shown by a scripted schedule:")
        parts += [f"  {name}: shown by schedule {schedule}" for name, schedule in scripted]
    never = never_exercised(counts, level=level, beyond=beyond)
    if never:
        parts.append(f"NEVER EXERCISED, and so not tested by these seeds ({len(never)}):")
        parts += [f"  !!  {name}" for name in never]
    else:
        rest = "other " if scripted else ""
        parts.append(f"Every {rest}rule, role, message and fault was exercised.")
    return "\n".join(parts)
