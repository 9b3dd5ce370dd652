"""Real servers write report logs over kill -9 and restarts; the three become one history."""

from __future__ import annotations

import json
import os
import sys

import pytest

from flexcore.identity import Rank
from flexcore.wire.messages import Denied, Granted
from tests.real.triad import Session, running, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
    pytest.mark.skipif("FLEXCORE_LONG" not in os.environ, reason="takes 10 s: set FLEXCORE_LONG to run it"),
]

P, S, T = Rank


def test_kill_and_restart_leave_one_history(tmp_path, monkeypatch):
    logs = [tmp_path / f"{rank.word}.report" for rank in Rank]
    with running(tmp_path, features=("f1 1.0 permanent 1",)) as triad:
        options = triad.license_files[P].parent / "demo.opt"
        options.write_text("REPORTLOG +primary.report\n")
        usual = triad.arguments
        monkeypatch.setattr(triad, "arguments", lambda rank, *extra: usual(
            rank, *(() if rank is P else ("--report-log", f"+{logs[rank]}")), *extra
        ))  # fmt: skip
        triad.start(P, S, T)
        triad.until_all_follow(P)
        logs[P] = options.parent / "primary.report"
        ann, bob = Session(triad, "ann"), Session(triad, "bob")
        assert isinstance(ann.checkout("f1"), Granted)
        assert isinstance(bob.checkout("f1"), Denied)
        until("the primary has written that down", lambda: '"denied"' in logs[P].read_text())
        triad.kill(P)
        triad.until_master(S)
        ann.resume()
        ann.goodbye()
        bob.resume()
        assert isinstance(bob.checkout("f1"), Granted)
        triad.start(P, first_start=False)
        triad.until_all_follow(S)
        bob.goodbye()
        down = triad.flexcore("lmdown", "-c", triad.path, "-q")
        assert down.returncode == 0, down.stdout
        for rank in Rank:
            triad.exited(rank)
        history = tmp_path / "history.report"
        merged = triad.flexcore("reportlog", "merge", "-o", str(history), *map(str, logs))
        assert merged.returncode == 0, merged.stdout + merged.stderr
        assert "nothing is missing" in merged.stdout
        records = [json.loads(line) for line in history.read_text().splitlines()]
        told = [(r["kind"], r["user"]) for r in records if r["kind"] in ("out", "end", "denied")]
        assert told == [("out", "ann"), ("denied", "bob"), ("end", "ann"), ("out", "bob"), ("end", "bob")]
        verified = triad.flexcore("reportlog", "verify", *map(str, logs))
        assert verified.returncode == 0, verified.stdout
        assert verified.stdout.count("ends with the server's stop") == 3
