"""The report log: what every server writes down, its chain, and the history that the three logs make."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flexcore.errors import CheckoutDenied
from flexcore.options import parse_options
from flexcore.report.reportlog import (
    START,
    Position,
    Reading,
    ReportChain,
    ReportReader,
    position_of,
    read_report,
)
from flexcore.report.reportmerge import ReportMerge, merge_reports, merged_lines
from flexcore.report.usage import Usage
from flexcore.server.actions import WriteReport
from flexcore.server.registrar import Registrar
from flexcore.wire.messages import Granted
from flexcore_host.reportfile import ReportFile
from flexcore_testing import Triad
from flexcore_tools.cli import main
from tests import server_kit
from tests.budget import examples
from tests.server_kit import Kit, live
from tests.test_borrow_server import Borrower

SERVERS = ("primary", "secondary", "tertiary")


def reading(lines, name="a"):
    return read_report([(name, lines)])


def chain_of(count):
    chain = ReportChain()
    lines = [chain.line("start", 0, 0, 1.0, "", {"server": "primary", "prev": ""})]
    lines += [chain.line("out", 1, n, 1.0 + n, "ab", {"user": "ann\u00e9"}) for n in range(1, count)]
    return lines


@pytest.fixture(scope="module")
def day():
    """kill -9 of the master, a partition, three restarts, a lost disk; what clients were told on the way."""
    triad = Triad(features={"f1": 3, "f2": 1}, heartbeat_interval_s=1, start=False)
    triad._sim.reporting = True
    triad._sim.first_start = True
    for server in SERVERS:
        triad.start(server)
    triad.wait_for_master()
    triad._sim.first_start = False
    told: list[tuple[str, str, str, int]] = []
    ann, bob = triad.client("ann"), triad.client("bob")

    def use(client, feature):
        try:
            seat = client.checkout(feature)
        except CheckoutDenied as denied:
            told.append(("denied", client.name, feature, denied.code))
            return None
        told.append(("out", client.name, feature, seat.handle))
        return seat

    def give_back(client, seat):
        seat.checkin()
        told.append(("in", client.name, seat.feature, seat.handle))

    first, second = use(ann, "f1"), use(bob, "f2")
    assert use(ann, "f2") is None
    triad.crash("primary")
    triad.wait_for_master()
    third = use(bob, "f1")
    give_back(ann, first)
    triad.start("primary")
    triad.advance(5.0)
    triad.isolate("primary")
    give_back(bob, second)
    triad.heal()
    triad.advance(10.0)
    for server in SERVERS:
        triad.restart(server)
        triad.wait_for_master()
        give_back(ann, use(ann, "f2"))
        triad.advance(5.0)
    triad.crash("tertiary")
    triad.lose_disk("tertiary")
    fourth = use(ann, "f1")
    triad.start("tertiary")
    triad.advance(20.0)
    give_back(ann, fourth)
    give_back(bob, third)
    triad.advance(10.0)
    triad.check()
    return triad, told, [reading(lines, SERVERS[rank]) for rank, lines in enumerate(triad._sim.report_logs)]


def test_three_logs_make_the_history_that_clients_saw(day):
    triad, told, logs = day
    assert [log.problems for log in logs] == [(), (), ()]
    assert [log.server for log in logs] == list(SERVERS)
    for log in logs:
        indices = [r["index"] for r in log.records if r["kind"] not in ("start", "stop", "gap", "denied")]
        assert indices == sorted(set(indices)), "nothing is written again after a restart"
    merged = merge_reports(logs)
    assert merged.complete, merged[1:]
    entries = [record for record in merged.records if record["kind"] != "denied"]
    commit = max(run.ledger.commit for run in triad._sim.runs())
    assert [record["index"] for record in entries] == list(range(1, commit + 1)), "each entry once, none missing"
    seen = [
        (record["kind"], record["user"], record["feature"], record.get("handle", record.get("code")))
        for record in merged.records
        if record["kind"] in ("out", "in", "denied")
    ]
    assert seen == told
    assert all(record["started"] <= record["at"] for record in entries if record["kind"] == "in")


def test_usage_counts_what_clients_were_told(day):
    _, told, logs = day
    usage = Usage(lambda at: 0)
    for record in merge_reports(logs).records:
        usage.add(record)
    report = usage.report()
    assert {use.feature: use.checkouts for use in report.features} == Counter(
        feature for what, _, feature, _ in told if what == "out"
    )
    assert {use.feature: use.peak for use in report.features} == {"f1": 2, "f2": 1}
    assert [(denial.feature, denial.code, denial.count) for denial in report.denials] == [("f2", -4, 1)]
    assert report.unknown == 0
    assert not usage._seats, "everything was given back"


def test_no_log_tells_a_secret(day):
    triad, _, _ = day
    secrets = [s.secret.hex() for run in triad._sim.runs() for s in run.ledger.state.sessions.values()]
    text = "\n".join(line for log in triad._sim.report_logs for line in log)
    assert secrets
    assert not any(secret in text for secret in secrets)


def test_what_one_log_misses_the_others_have(day):
    _, _, logs = day
    whole = merge_reports(logs)
    for left_out in range(3):
        two = [log for number, log in enumerate(logs) if number != left_out]
        merged = merge_reports([*two, two[0]])
        assert merged.complete
        assert [r for r in merged.records if r["kind"] != "denied"] == [
            r for r in whole.records if r["kind"] != "denied"
        ]


def test_what_is_in_no_log_is_named(day):
    _, _, logs = day
    cut = [log._replace(records=tuple(r for r in log.records if r["index"] not in (5, 6))) for log in logs]
    merged = merge_reports(cut)
    assert not merged.complete
    (gap,) = merged.gaps
    assert (gap.first, gap.last) == (5, 6)
    assert set(gap.wrote) == {(server, 4) for server in SERVERS}


def test_two_wordings_of_one_entry_are_found(day):
    _, _, logs = day
    forged = [dict(r, user="eve") if r["kind"] == "out" else r for r in logs[0].records]
    merged = merge_reports([logs[0]._replace(records=tuple(forged)), *logs[1:]])
    assert not merged.complete
    assert {conflict.servers for conflict in merged.conflicts} == {("primary", "secondary")}


def test_the_merged_history_is_a_report_log(day):
    _, _, logs = day
    merged = merge_reports(logs)
    again = reading(list(merged_lines(merged.records, SERVERS, at=1.0)))
    assert again.problems == ()
    assert merge_reports([again]).records == merged.records


def slow_merge(logs):
    """The union by (triad, index), in memory: entries with their first wording, and what differs or is missing."""
    entries: dict[tuple[str, int], dict[str, Any]] = {}
    differ = set()
    for log in logs:
        for record in log.records:
            if record["kind"] in ("start", "stop", "gap", "denied"):
                continue
            plain = {name: value for name, value in record.items() if name not in ("n", "hash")}
            if entries.setdefault((record["triad"], record["index"]), plain) != plain:
                differ.add((record["triad"], record["index"]))
    missing = set()
    for triad in {triad for triad, _ in entries}:
        has = {index for each, index in entries if each == triad}
        missing |= {(triad, index) for index in range(min(has), max(has) + 1)} - {(triad, index) for index in has}
    return entries, differ, missing


@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_merging_streams_is_the_union(data):
    """Whatever each of up to four logs has of two lives of a triad, in other words now and then, with denials."""
    logs: list[Reading] = []
    for _ in range(data.draw(st.integers(1, 4))):
        chain = ReportChain()
        lines = [chain.line("start", 0, 0, 0.0, "", {"server": f"s{len(logs)}", "prev": ""})]
        for triad, begun in (("old", 0.0), ("new", 100.0)):
            last = 0
            for index in sorted(data.draw(st.sets(st.integers(1, 9)))):
                user = data.draw(st.sampled_from(["ann"] * 6 + ["eve"]))
                lines.append(chain.line("out", 1, index, begun + index, triad, {"user": user}))
                last = index
                if data.draw(st.integers(0, 4)) == 0:
                    after = data.draw(st.integers(1, index))
                    lines.append(chain.line("denied", 1, after, begun + index + 0.5, triad,
                                            {"server": f"s{len(logs)}", "seq": last}))  # fmt: skip
        logs.append(reading(lines, f"s{len(logs)}"))
    merged = merge_reports(logs)
    entries, differ, missing = slow_merge(logs)
    told = [record for record in merged.records if record["kind"] != "denied"]
    assert {(record["triad"], record["index"]): record for record in told} == entries
    assert [(record["triad"] == "new", record["index"]) for record in told] == sorted(
        (triad == "new", index) for triad, index in entries
    )
    assert {(conflict.triad, conflict.index) for conflict in merged.conflicts} == differ
    assert {(gap.triad, index) for gap in merged.gaps for index in range(gap.first, gap.last + 1)} == missing
    assert merged.disorders == ()
    denials = [record for record in merged.records if record["kind"] == "denied"]
    assert len(denials) == sum(record["kind"] == "denied" for log in logs for record in log.records)
    for at, record in enumerate(merged.records):
        if record["kind"] == "denied":  # where its master wrote it: after the entry before it, before the next
            before = [each for each in merged.records[:at] if each["kind"] != "denied"][-1]
            assert before["triad"] == record["triad"]
            assert before["at"] <= record["at"] < before["at"] + 1
    assert merge_reports([*logs, *logs])[0] == merged.records


@pytest.mark.parametrize(("end", "recorded"), [("6e6577", 99), ("6f6c64", 50)])
def test_a_log_goes_on_under_the_name_of_the_triad_that_lives(end, recorded):
    """A log that was switched off while the triad was formed anew goes on with the new one's name and entries."""
    state = SimpleNamespace(formed_index=1, triad_id=b"new")
    ledger = SimpleNamespace(feed=None, base=SimpleNamespace(index=50), state=state)
    told: list[Any] = []
    config = server_kit.config(report=Position(7, "ab", 1, 99, end, 1.0))
    Registrar(config, SimpleNamespace(ledger=ledger), SimpleNamespace(actions=told), 2.0)  # type: ignore[arg-type]
    start = json.loads(told[0].text)
    assert (start["kind"], start["triad"], start["index"]) == ("start", "6e6577", recorded)


def test_a_log_that_goes_back_is_named_and_its_entry_passed_over():
    chain = ReportChain()
    lines = [chain.line("start", 0, 0, 1.0, "", {"server": "primary", "prev": ""})]
    lines += [chain.line("out", 1, index, 1.0, triad, {})
              for triad, index in (("a", 1), ("a", 2), ("a", 1), ("a", 2), ("b", 1), ("a", 3))]  # fmt: skip
    merged = merge_reports([reading(lines)])
    assert [(record["triad"], record["index"]) for record in merged.records] == [("a", 1), ("a", 2), ("b", 1)]
    assert not merged.complete
    assert [(each.server, each.triad, each.index) for each in merged.disorders] == [
        ("primary", "a", 1), ("primary", "a", 2), ("primary", "a", 3)
    ]  # fmt: skip


def test_memory_does_not_grow_with_the_logs():
    def lines():
        chain = ReportChain()
        yield chain.line("start", 0, 0, 1.0, "", {"server": "primary", "prev": ""})
        for index in range(1, 1500):
            yield chain.line("out", 1, index, 1.0 + index, "ab", {"user": "ann"})

    tracemalloc.start()
    try:
        merge = ReportMerge([ReportReader([(name, lines())]) for name in SERVERS])
        assert sum(1 for _ in merge.records) == 1499
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert merge.complete
    assert peak < 300_000, "the records alone take ten times that"


def test_a_history_may_replace_one_of_its_logs(tmp_path, capsys):
    path = tmp_path / "a.log"
    path.write_text("".join(f"{line}\n" for line in chain_of(5)))
    assert main(["reportlog", "merge", str(path), "-o", str(path)]) == 0
    assert main(["reportlog", "verify", str(path)]) == 0
    assert "5 records" in capsys.readouterr().out


def test_every_line_of_a_day_counts(day):
    """Exhaustively: each line of the three logs gone, and each of its places changed."""
    triad, _, _ = day
    for log in triad._sim.report_logs:
        for at, line in enumerate(log):
            end = at == len(log) - 1
            assert reading(log[:at] + log[at + 1 :]).problems or end
            before = log[max(at - 1, 0) : at]
            usual = reading([*before, line]).problems
            for place in range(at % 5, len(line), 5):
                other = "x" if line[place] != "x" else "y"
                found = reading([*before, line[:place] + other + line[place + 1 :]]).problems
                assert len(found) == len(usual) + 1, (at, place)


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_any_line_removed_or_changed_is_found(data):
    lines = chain_of(12)
    at = data.draw(st.integers(0, len(lines) - 1))
    how = data.draw(st.sampled_from(["remove", "change", "swap", "repeat"]))
    changed = list(lines)
    if how == "remove":
        del changed[at]
    elif how == "repeat":
        changed.insert(at, lines[at])
    elif how == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda number: number != at))
        changed[at], changed[other] = changed[other], changed[at]
    else:
        place = data.draw(st.integers(0, len(lines[at]) - 1))
        letter = data.draw(st.characters(exclude_categories=["Cs"]).filter(lambda c: c != lines[at][place]))
        changed[at] = lines[at][:place] + letter + lines[at][place + 1 :]
    whole, found = reading(lines), reading(changed)
    assert whole.problems == ()
    assert found.problems or found.end != whole.end  # the last lines gone: the head tells, and the merge
    if how != "remove" or at < len(lines) - 1:
        assert found.problems


def test_a_log_in_two_files_is_one_chain():
    lines = chain_of(6)
    later = ReportChain(position_of(json.loads(lines[-1])))
    more = [later.line("start", 1, 5, 9.0, "ab", {"server": "primary", "prev": later.position.hash})]
    assert read_report([("a.1", lines), ("a", more)]).problems == ()
    assert read_report([("a", more)]).problems == ()
    (problem,) = read_report([("a.1", lines[:-1]), ("a", more)]).problems
    assert "are missing" in str(problem)


def test_a_start_without_a_stop_before_is_told(tmp_path, capsys):
    """Where lines were removed from the end of a server's log while it was down, the chain fits all the same."""
    lines = chain_of(6)
    for stopped, said in (True, 0), (False, 1):
        chain = ReportChain(position_of(json.loads(lines[-1])))
        more = [chain.line("stop", 1, 5, 9.0, "ab", {"reason": "test"})] if stopped else []
        more.append(chain.line("start", 1, 5, 9.5, "ab", {"server": "primary", "prev": chain.position.hash}))
        path = tmp_path / "report.log"
        path.write_text("".join(f"{line}\n" for line in lines + more))
        assert main(["reportlog", "verify", str(path)]) == 0
        assert capsys.readouterr().out.count(f"{path}:{len(lines) + 1}: no stop before this start") == said
        assert main(["reportlog", "merge", str(path)]) == 0
        assert capsys.readouterr().out.count("no stop before this start") == said


def test_the_file_goes_on_where_it_ended(tmp_path):
    path = tmp_path / "report.log"
    lines = chain_of(4)
    first = ReportFile(f"+{path}")
    assert first.position == Position()
    first.write(lines)
    first.close()
    with path.open("a") as file:
        file.write(lines[-1][:20])  # a crash in the middle of a line
    second = ReportFile(f"+{path}")
    assert second.position == position_of(json.loads(lines[-1]))
    second.close()
    assert path.read_text().splitlines() == lines
    third = ReportFile(str(path))
    assert third.position == second.position, "a new file, the same chain"
    third.close()
    assert (tmp_path / "report.log.1").read_text().splitlines() == lines


def test_the_command(day, tmp_path, capsys):
    triad, _, _ = day
    paths = []
    for server, lines in zip(SERVERS, triad._sim.report_logs, strict=True):
        path = tmp_path / f"{server}.log"
        path.write_text("".join(f"{line}\n" for line in lines))
        paths.append(str(path))
    assert main(["reportlog", "verify", *paths]) == 0
    assert capsys.readouterr().out.count("NOT intact") == 0
    history = tmp_path / "history.log"
    assert main(["reportlog", "merge", "-o", str(history), *paths]) == 0
    assert "nothing is missing" in capsys.readouterr().out
    assert main(["reportlog", "verify", str(history)]) == 0
    lines = (tmp_path / "primary.log").read_text().splitlines(keepends=True)
    (tmp_path / "primary.log").write_text("".join(lines[:3] + lines[4:]))
    capsys.readouterr()
    assert main(["reportlog", "verify", paths[0]]) == 1
    assert "are missing" in capsys.readouterr().out
    assert main(["reportlog", "merge", *paths]) == 1
    said = capsys.readouterr().out
    assert "every entry is there, but not every line" in said
    assert "nothing is missing" not in said
    kinds = Counter(json.loads(line)["kind"] for line in lines)
    assert kinds["start"] >= 2


ACTIONS = ["out", "out", "many", "in", "goodbye", "queue", "withdraw", "borrow", "return", "time", "deny"]


@settings(max_examples=examples(30), deadline=None)
@example(actions=[("out", "a", 1), ("borrow", "a", 1), ("goodbye", "a", 0), ("return", "b", 1)])
@example(actions=[("queue", "a", 1), ("withdraw", "a", 0)])
@example(actions=[("out", "a", 1), ("in", "a", 0), ("out", "a", 1), ("in", "a", 0), ("time", "a", 5)])
@given(actions=st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from("abc"), st.integers(0, 5)), max_size=25))
def test_usage_has_in_use_what_the_ledger_has(actions):
    """Sharing, lingering, borrowing, queueing: read back from the log, the numbers are those of the pools."""
    kit = Kit(
        server_kit.line("f1", 3)._replace(borrow_hours=48), server_kit.line("f2", 2)._replace(group="U"),
        options=parse_options("LINGER f1 90\n", name="demo.opt"), report=START,
    )  # fmt: skip
    usage = Usage(lambda at: 0)
    people: dict[str, Borrower] = {}
    held: dict[str, list[int]] = {}
    waiting: dict[str, int] = {}
    for what, name, number in actions:
        ann = people.get(name)
        if ann is None:
            ann = people[name] = Borrower(kit, name)
            ann.strict = False
            held[name] = []
        feature = "f1" if number % 2 else "f2"
        mine = held[name]
        if what in ("out", "many", "deny"):
            count = {"out": 1, "many": 2, "deny": 9}[what]
            said = ann.checkout(feature, count=count)
            mine += [said.handle] if isinstance(said, Granted) else []
        elif what == "queue":
            ann.checkout(feature, count=2, queue=True)
            waiting[name] = ann.request
        elif what == "withdraw" and name in waiting:
            ann.withdraw(waiting.pop(name))
        elif what == "in" and mine:
            ann.checkin(mine.pop(number % len(mine)))
        elif what == "borrow" and mine:
            ann.borrow(mine.pop(), ident=bytes([number]) * 16)
        elif what == "return":
            ann.give_back(ident=bytes([number]) * 16)
        elif what == "goodbye":
            ann.goodbye()
            del people[name], held[name]
            waiting.pop(name, None)
        else:
            live(kit, 60.0 * number, *people.values())
        kit.turn()
        texts = [action.text for action in kit.rest if isinstance(action, WriteReport)]
        kit.rest.clear()
        for record in map(json.loads, texts):
            if record["kind"] not in ("start", "stop", "gap"):
                usage.add(record)
        in_use = dict.fromkeys(("f1", "f2"), 0)
        for pool, count in kit.state.in_use.items():
            in_use[pool.split()[0]] += count
        assert {feature: meter.level for feature, meter in usage._meters.items()} == {
            feature: count for feature, count in in_use.items() if feature in usage._meters
        }
        assert set(usage._seats) == set(kit.state.seats)
    assert usage.report().unknown == 0
