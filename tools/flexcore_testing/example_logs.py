"""Report logs of a believable month, for documents, measurements and tests.

``python -m flexcore_testing.example_logs FOLDER`` writes three servers' logs of an office in Europe over the end of
summer time, with a failover: for an hour the primary is away, and the secondary is master from then on. Equal
arguments give equal files.
"""

from __future__ import annotations

import argparse
import datetime
import heapq
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flexcore.report.reportlog import ReportChain

BEGIN = datetime.datetime(2026, 10, 4, 22, tzinfo=datetime.UTC).timestamp()
"""Midnight in Berlin; three weeks later clocks go back."""
FEATURES = {"solver": (6, 9000.0, 5), "mesher": (4, 5000.0, 2), "viewer": (12, 5000.0, 4)}
"""Licences, seconds of a usual checkout, how often it is wanted."""
TRIAD = "9869c275"
SERVERS = ("primary", "secondary", "tertiary")
_TEAMS = ("site-a", "site-b", "site-c", "cfd")
_NAMES = ("ann", "bob", "carol", "dave", "eve", "frank", "grace", "heidi", "ivan", "judy", "karl", "liz", "niaj",
          "olivia", "peggy", "quinn", "rupert", "sybil")  # fmt: skip
_DAY_S = 86_400


class _Wish(NamedTuple):
    at: float
    for_s: float
    name: int
    feature: str


def _wishes(random_: random.Random, days: int) -> list[_Wish]:
    """Who wants what when: much in the week, a little at weekends."""
    wishes = []
    features, weights = list(FEATURES), [often for _, _, often in FEATURES.values()]
    for day in range(days):
        for name in range(len(_NAMES)):
            for _ in range(random_.choice((1, 2, 3)) if day % 7 < 5 else random_.random() < 0.1):
                feature = random_.choices(features, weights)[0]
                hour = min(max(random_.gauss(random_.choice((10.0, 14.0)), 1.8), 6.0), 20.0)
                length_s = 300.0 + random_.expovariate(1 / FEATURES[feature][1])
                wishes.append(_Wish(BEGIN + day * _DAY_S + hour * 3600, min(length_s, 9 * 3600.0), name, feature))
    return sorted(wishes)


def history(days: int, seed: int = 1) -> Iterator[tuple[str, int, float, dict[str, Any]]]:
    """Yield (kind, index, at, fields) of each record that a triad would write."""
    index, handle, session = 1, 0, 0
    yield "formed", index, BEGIN, {"triad_id": TRIAD * 4, "rank": 0, "membership_digest": "00" * 32}
    held: list[tuple[float, int, dict[str, Any]]] = []
    in_use = dict.fromkeys(FEATURES, 0)
    for wish in [*_wishes(random.Random(seed), days), None]:
        until = wish.at if wish is not None else float("inf")
        while held and held[0][0] <= until:
            at, _, fields = heapq.heappop(held)
            index += 1
            in_use[fields["feature"]] -= 1
            yield "in", index, at, {**fields, "request": 2, "reason": ""}
        if wish is None:
            return
        user = _NAMES[wish.name]
        who = {"user": user, "host": f"{user}-pc", "display": ":0", "project": _TEAMS[wish.name % 4], "pid": 100}
        code = -4 if in_use[wish.feature] >= FEATURES[wish.feature][0] else -38 if handle % 97 == 96 else 0
        if code:
            text = {-4: "Licensed number of users already reached", -38: "User/host on EXCLUDE list for feature"}[code]
            yield "denied", index, wish.at, {"after": index, "seq": 1, "feature": wish.feature, "count": 1, **who,
                                             "code": code, "minor": 0, "text": text}  # fmt: skip
            handle += code == -38
            continue
        index, handle, session = index + 1, handle + 1, session + 1
        seat = {"handle": handle, "feature": wish.feature, "pool": f"{wish.feature} 1.0", "version": "1.0", "count": 1}
        fields = {**who, "session": f"{session:032x}", **seat}
        in_use[wish.feature] += 1
        heapq.heappush(held, (wish.at + wish.for_s, handle, {**fields, "started": wish.at}))
        yield "out", index, wish.at, {**fields, "request": 1}


def write(folder: Path, days: int, seed: int = 1) -> list[Path]:
    """Write the three logs, and return their paths."""
    paths = [folder / f"{server}.log" for server in SERVERS]
    chains = [ReportChain() for _ in SERVERS]
    away = BEGIN + 9 * _DAY_S + 11 * 3600.0  # of the primary, for an hour
    with paths[0].open("w") as first, paths[1].open("w") as second, paths[2].open("w") as third:
        files = (first, second, third)
        for file, chain, server in zip(files, chains, SERVERS, strict=True):
            file.write(chain.line("start", 0, 0, BEGIN, "", {"schema": 1, "server": server, "prev": ""}) + "\n")
        for kind, index, at, fields in history(days, seed):
            term = 1 if at < away else 2
            for number, (file, chain) in enumerate(zip(files, chains, strict=True)):
                if kind == "denied":
                    if number != term - 1:
                        continue
                    fields = {"server": SERVERS[number], **fields}
                elif number == 0 and away <= at < away + 3600:
                    continue
                file.write(chain.line(kind, term, index, at, TRIAD, fields) + "\n")
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flexcore_testing.example_logs", description=__doc__)
    parser.add_argument("folder", type=Path, help="where primary.log, secondary.log and tertiary.log are written")
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    for path in write(args.folder, args.days, args.seed):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
