"""Real servers write report logs over kill -9, a partition and restarts; the three become one history."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexcore.identity import Rank
from flexcore.report.reportlog import read_report
from flexcore.report.reportmerge import merge_reports
from flexcore.wire.messages import Granted
from flexcore_testing.proxy import ProxyLink, ProxyThread
from tests.ports import HOSTS
from tests.real.triad import HOSTIDS, Session, Triad, running, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and .3, and signals"),
    pytest.mark.skipif("FLEXCORE_LONG" not in os.environ, reason="takes half a minute: make long"),
]

P, S, T = Rank
Told = tuple[str, str, int]


@contextlib.contextmanager
def proxied(triad: Triad) -> Iterator[dict[Rank, list[ProxyLink]]]:
    """Give each server a file in which the others are behind proxies; the links of each server to the others."""
    links: dict[Rank, list[ProxyLink]] = {rank: [] for rank in Rank}
    with ProxyThread() as proxies:
        for rank in Rank:
            text = triad.license_files[rank].read_text()
            for other in Rank:
                if other is not rank:
                    link = proxies.add((HOSTS[other], triad.port), host=HOSTS[other])
                    true = f"SERVER {HOSTS[other]} {HOSTIDS[other]} {triad.port}"
                    assert true in text
                    text = text.replace(true, f"SERVER {HOSTS[other]} {HOSTIDS[other]} {link.port}")
                    links[rank].append(link)
                    links[other].append(link)
            triad.license_files[rank].write_text(text)
        yield links


class Clients:
    """Two users of one licence, and what they were told."""

    def __init__(self, triad: Triad) -> None:
        self.told: list[Told] = []
        self.ann, self.bob = Session(triad, "ann"), Session(triad, "bob")

    def ask(self, who: Session, feature: str) -> int:
        answer = who.checkout(feature)
        self.told.append(
            ("out", who.user, answer.handle) if isinstance(answer, Granted) else ("denied", who.user, answer.code)
        )
        return answer.handle if isinstance(answer, Granted) else 0

    def give_back(self, who: Session, handle: int) -> None:
        who.checkin(handle)
        self.told.append(("in", who.user, handle))


def test_kill_partition_and_three_restarts_leave_one_history(tmp_path, monkeypatch):
    logs = [tmp_path / f"{rank.word}.report" for rank in Rank]
    with running(tmp_path, features=("f1 1.0 permanent 1",)) as triad, proxied(triad) as links:
        options = triad.license_files[P].parent / "demo.opt"
        options.write_text("REPORTLOG +primary.report\n")
        usual = triad.arguments
        monkeypatch.setattr(triad, "arguments", lambda rank, *extra: usual(
            rank, *(() if rank is P else ("--report-log", f"+{logs[rank]}")), *extra
        ))  # fmt: skip
        logs[P] = options.parent / "primary.report"
        triad.start(P, S, T)
        triad.until_all_follow(P)
        clients = Clients(triad)
        ann, bob = clients.ann, clients.bob
        first = clients.ask(ann, "f1")
        clients.ask(bob, "f1")
        until("the primary has written that down", lambda: '"denied"' in logs[P].read_text())
        triad.kill(P)
        triad.until_master(S)
        clients.give_back(ann, first)
        second = clients.ask(bob, "f1")
        triad.start(P, first_start=False)  # the first restart
        triad.until_all_follow(S)
        for link in links[S]:
            link.set(cut=True)
        triad.until_master(P)
        clients.ask(ann, "f1")
        clients.give_back(bob, second)
        third = clients.ask(ann, "f1")
        for link in links[S]:
            link.heal()
        triad.until_all_follow(P)
        for rank in (P, T):  # the second and the third
            assert triad.end(rank) == 0
            triad.start(rank, first_start=False)
            triad.until_all_follow()
            clients.give_back(ann, third)
            third = clients.ask(ann, "f1")
        assert triad.master() is S, "the primary handed over"
        clients.give_back(ann, third)
        ann.goodbye()
        bob.goodbye()
        until("all three know that the last entry is committed", lambda: len({last_entry(path) for path in logs}) == 1)
        down = triad.flexcore("lmdown", "-c", triad.path, "-q")
        assert down.returncode == 0, down.stdout
        for rank in Rank:
            triad.exited(rank)
        history = tmp_path / "history.report"
        merged = triad.flexcore("reportlog", "merge", "-o", str(history), *map(str, logs))
        assert merged.returncode == 0, merged.stdout + merged.stderr
        assert "nothing is missing" in merged.stdout
        records = [json.loads(line) for line in history.read_text().splitlines()]
        told = [(r["kind"], r["user"], r.get("handle", r.get("code"))) for r in records
                if r["kind"] in ("out", "in", "denied")]  # fmt: skip
        assert told == clients.told
        assert [code for what, _, code in told if what == "denied"] == [-4, -4]
        verified = triad.flexcore("reportlog", "verify", *map(str, logs))
        assert verified.returncode == 0, verified.stdout
        assert verified.stdout.count("ends with the server's stop") == 3
        usage = triad.flexcore("usage", "--csv", "features", *map(str, logs))
        assert usage.stdout.splitlines()[1].startswith("f1,,1,"), usage.stdout + usage.stderr
    every_line_counts(logs)


def last_entry(path: Path) -> int:
    return read_report([(path.name, path.read_text().splitlines())]).end.index


def every_line_counts(logs: list[Path]) -> None:
    """Each single line of each log, removed or changed at some place of it, is found; where the last one is removed
    the log ends without the server's stop. If the whole chain behind is forged the other two logs have the entry."""
    for path in logs:
        lines = path.read_text().splitlines()
        assert read_report([(path.name, lines)]).closed
        for at, line in enumerate(lines):
            without = read_report([(path.name, lines[:at] + lines[at + 1 :])])
            assert without.problems or not without.closed, at
            assert without.problems or at == len(lines) - 1
            before = lines[max(at - 1, 0) : at]
            usual = read_report([(path.name, [*before, line])]).problems
            for place in range(at % 7, len(line), 7):
                other = "x" if line[place] != "x" else "y"
                found = read_report([(path.name, [*before, line[:place] + other + line[place + 1 :]])]).problems
                assert len(found) == len(usual) + 1, (at, place)
        others = [read_report([(each.name, each.read_text().splitlines())]) for each in logs if each != path]
        forged = read_report([(path.name, lines)])
        for at in range(len(lines)):
            kept = tuple(record for number, record in enumerate(forged.records) if number != at)
            whole = merge_reports([forged, *others]).records
            denial = forged.records[at]["kind"] == "denied"
            assert denial or merge_reports([forged._replace(records=kept), *others]).records == whole


def test_logs_go_on_in_other_files_and_stay_one_history(tmp_path, monkeypatch):
    """lmnewlog, lmswitchr, logrotate and lmreread with real servers: the files, in any order, are one history."""
    folders = [tmp_path / f"reports-{rank.word}" for rank in Rank]
    with running(tmp_path, features=("f1 1.0 permanent 2",)) as triad:
        usual = triad.arguments
        for folder in folders:
            folder.mkdir(exist_ok=True)
        monkeypatch.setattr(triad, "arguments", lambda rank, *extra: usual(
            rank, "--report-log", f"+{folders[rank] / 'report.log'}", *extra
        ))  # fmt: skip
        triad.start(P, S, T)
        triad.until_all_follow(P)
        ann = Session(triad, "ann")

        def order(*words, status=0):
            done = triad.flexcore(words[0], "-c", triad.path, *words[1:])
            assert done.returncode == status, done.stdout + done.stderr
            return done.stdout

        assert isinstance(ann.checkout("f1"), Granted)
        said = order("lmnewlog", "demo", "one.log")
        assert said.count("what was written so far is in") == 3
        assert "exists already" in order("lmnewlog", "demo", "one.log", status=214)
        order("lmswitchr", "f1", "two.log")
        assert isinstance(ann.checkout("f1"), Granted)
        order("lmreread")
        for rank in Rank:
            (folders[rank] / "report.log").rename(folders[rank] / "report.log-1")
            triad.processes[rank].send_signal(signal.SIGHUP)
            until("it is opened anew", (folders[rank] / "report.log").exists)
        ann.goodbye()
        assert order("lmdown", "-q")
        for rank in Rank:
            triad.exited(rank)
        files = [str(path) for folder in folders for path in sorted(folder.glob("*.log*"))]
        assert len(files) >= 12
        verified = triad.flexcore("reportlog", "verify", *files)
        assert verified.returncode == 0, verified.stdout
        assert verified.stdout.count("ends with the server's stop") == 3
        merged = triad.flexcore("reportlog", "merge", *reversed(files))
        assert merged.returncode == 0, merged.stdout + merged.stderr
        assert "nothing is missing" in merged.stdout
        without = [name for name in files if not name.endswith("reports-primary/two.log")]
        missing = triad.flexcore("reportlog", "verify", *without)
        assert missing.returncode == 1
        assert "of the log are missing" in missing.stdout
