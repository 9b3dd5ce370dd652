"""lmswitch, lmswitchr, lmnewlog: who is asked, what the report log's chain makes of it, and where a log may go."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from flexcore.errors import FlexcoreError
from flexcore.report.reportlog import Position, ReportChain, read_report
from flexcore.server import How, SwitchLog
from flexcore_host.debuglogs import DebugLogs
from flexcore_host.logfile import LogFile
from flexcore_host.logswitch import switch_log
from flexcore_host.reportfile import ReportFile
from flexcore_tools.cli import main
from tests.fake_servers import fake_servers, path_of
from tests.reread_kit import OLD, Farm, P, S, T, feature, text_of

# --- the servers ----------------------------------------------------------------------------------


def test_all_three_are_asked_and_each_answers_for_itself():
    farm = Farm(OLD, reporting=True)
    reply = farm.order(S, "newlog", "all", "demo", "old.log")
    assert reply.code == 0
    assert reply.lines == tuple(f"{host} ({rank.word}): it goes on (old.log)"
                                for host, rank in zip(("elm", "oak", "ash"), (P, S, T), strict=True))  # fmt: skip
    for host in farm.hosts.values():
        (order,) = host.switched
        assert (order.how, order.path, order.daemon) == (How.KEEP, "old.log", "demo")
        assert read_report([("x", host.report)]).problems == ()
        kinds = [json.loads(line)["kind"] for line in host.report[-2:]]
        assert kinds == ["stop", "start"]
        assert "it goes on (old.log)" in host.logs
    assert json.loads(farm.hosts[T].report[-2])["reason"] == "lmnewlog by ann@elm"


def test_one_server_and_one_that_cannot():
    farm = Farm(OLD, reporting=True)
    assert farm.order(T, "switchr", "one", "f2", "new.log").lines == ("ash (tertiary): it goes on (new.log)",)
    assert [len(host.switched) for host in farm.hosts.values()] == [0, 0, 1]
    farm.hosts[S].cannot_switch = "the disk is full"
    reply = farm.order(P, "switch", "all", "demo", "new.log", "rollover")
    assert reply.code == -42
    assert reply.lines[1] == "oak (secondary): the disk is full"
    assert "WARNING: the disk is full" in farm.hosts[S].logs
    assert [host.switched[-1].how for host in farm.hosts.values()] == [How.KEEP] * 3
    farm.kill(S)
    reply = farm.order(P, "switch", "all", "demo", "other.log", wait_s=11.0)
    assert reply.code == -15
    assert reply.lines[1] == "oak (secondary): was not reached"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("switch", "all", "nobody", "new.log"), -97), (("switch", "all", "f1", "new.log"), -97),
        (("newlog", "all", "nothing", "new.log"), -5), (("newlog", "all", "demo", ""), -42),
        (("newlog", "all", "demo", "a\nb"), -42), (("newlog", "all", "demo", "x" * 5000), -42),
        (("newlog", "all", "demo"), -85), (("newlog", "some", "demo", "x"), -85),
    ],
)  # fmt: skip
def test_what_is_refused(words, code):
    farm = Farm(OLD, reporting=True)
    assert farm.order(P, *words).code == code
    assert [host.switched for host in farm.hosts.values()] == [[], [], []]


def test_only_from_a_servers_own_machine_and_only_where_there_is_a_log():
    farm = Farm(text_of(feature()), reporting=True)
    assert farm.order(P, "switch", "all", "demo", "x", local=False).code == -119
    without = Farm(OLD)
    reply = without.order(P, "newlog", "all", "demo", "x")
    assert reply.code == -85
    assert "writes no report log" in reply.lines[2]


def test_sighup_and_a_reread_go_on_with_the_chain():
    farm = Farm(OLD, reporting=True)
    host = farm.hosts[P]
    host.node.reopen_logs("SIGHUP", now=farm.now, wall=farm.wall)
    farm.turns()
    assert [order.how for order in host.switched] == [How.REOPEN]
    farm.order(P, "switchr", "one", "demo", "away.log")
    assert json.loads(host.report[-2])["next"] == "away.log"
    farm.reread(P)
    farm.reread(P)
    assert [order.how for order in host.switched] == [How.REOPEN, How.NEW, How.HOME]
    assert read_report([("x", host.report)]).problems == ()


# --- the report log on disk -----------------------------------------------------------------------


class Writer:
    """A server's chain, and the file that it writes."""

    def __init__(self, target: str) -> None:
        self.file = ReportFile(target)
        self.chain = ReportChain(self.file.position)
        self.say("start", prev=self.chain.position.hash, server="primary")

    def say(self, kind: str, **fields: object) -> None:
        self.file.write([self.line(kind, **fields)])

    def line(self, kind: str, **fields: object) -> str:
        at = self.chain.position
        return self.chain.line(kind, 1, at.index + (kind == "out"), 1.0, "ab", dict(fields))

    def switch(self, how: How, path: str = "") -> str:
        self.say("stop", **({"next": path} if how is How.NEW else {}))
        first = self.line("start", prev=self.chain.position.hash, server="primary")
        return self.file.switch(how, path, first)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["n"] for line in lines_of(path)]


def test_each_file_holds_lines_that_follow_each_other(tmp_path, capsys):
    log = tmp_path / "report.log"
    writer = Writer(f"+{log}")
    writer.say("out")
    assert "what was written so far is in" in writer.switch(How.KEEP, "one.log")
    writer.say("out")
    writer.switch(How.NEW, "two.log")
    writer.say("out")
    writer.switch(How.HOME)
    writer.say("out")
    log.rename(tmp_path / "report.log-20261124")
    writer.switch(How.REOPEN)
    writer.say("out")
    writer.switch(How.REOPEN)  # without a rotation: the file goes on
    writer.file.close()
    files = ["one.log", "report.log.1", "two.log", "report.log-20261124", "report.log"]
    held = [numbers(tmp_path / name) for name in files]
    assert held == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [13, 14, 15, 16]]
    names = [str(tmp_path / name) for name in files]
    assert main(["reportlog", "verify", *reversed(names)]) == 0
    assert "intact; line 16" in capsys.readouterr().out
    assert main(["reportlog", "merge", *reversed(names)]) == 0
    capsys.readouterr()
    assert main(["reportlog", "verify", names[0], names[3], names[1], names[4]]) == 1
    assert "lines 7 to 9 of the log are missing" in capsys.readouterr().out
    assert main(["reportlog", "verify", names[2]]) == 0
    assert "goes on behind line 6, which stands in a file that is not given" in capsys.readouterr().out


def test_a_server_that_was_sent_elsewhere_goes_on_there_when_it_starts_again(tmp_path):
    log = tmp_path / "report.log"
    writer = Writer(f"+{log}")
    writer.switch(How.NEW, "two.log")
    writer.say("out")
    writer.file.close()
    again = Writer(f"+{log}")
    again.file.close()
    names = [tmp_path / name for name in ("report.log.1", "two.log", "report.log")]
    assert [numbers(path) for path in names] == [[1, 2], [3, 4], [5]]
    assert [problem for path in names for problem in read_report([(str(path), lines_of(path))]).problems] == []


@pytest.mark.parametrize("place", ["../evil.log", "{}/evil.log", "link/evil.log", "evil.link", "bad\0/x"])
def test_a_start_follows_the_log_to_no_place_that_the_order_could_not_have_had(tmp_path, capfd, place):
    """The order is written before it is refused, and the server may be killed in between."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    (folder / "evil.link").symlink_to(tmp_path / "evil.log")
    log = folder / "report.log"
    writer = Writer(f"+{log}")
    writer.say("stop", next=place.format(tmp_path))
    position = writer.chain.position
    writer.say("start", prev=position.hash, server="primary")  # the start of the other file
    writer.file.close()
    *here, there = lines_of(log)
    log.write_text("".join(f"{line}\n" for line in here))
    (tmp_path / "evil.log").write_text(f"{there}\nprecious")
    again = ReportFile(f"+{log}")
    assert again.position == position
    again.close()
    assert (tmp_path / "evil.log").read_text() == f"{there}\nprecious", "not a byte of it is touched"
    assert "goes on where it is, not in" in capfd.readouterr().err
    assert sorted(each.name for each in folder.iterdir()) == ["evil.link", "link", "report.log"]


@pytest.mark.parametrize(
    ("lines", "begin"),
    [(2, {"server": "secondary"}), (3, {"server": "secondary"}), (3, {"vendor": "acme", "server": "primary"}),
     (3, None)],
)  # fmt: skip
def test_a_start_takes_no_other_log_for_what_the_own_one_goes_on_in(tmp_path, capfd, lines, begin):
    other = ReportChain(Position(n=lines, hash="of another log"))
    text = other.line("out" if begin is None else "start", 1, 5, 1.0, "ab", begin or {})
    (tmp_path / "other.log").write_text(f"{text}\n{{half a line")
    log = tmp_path / "report.log"
    writer = Writer(f"+{log}")
    writer.say("stop", next="other.log")
    writer.file.close()
    again = ReportFile(f"+{log}")
    assert again.position == writer.chain.position
    again.close()
    assert (tmp_path / "other.log").read_text() == f"{text}\n{{half a line"
    assert "report log" in capfd.readouterr().err


def test_a_start_follows_the_log_where_it_was_cut_in_pieces_since(tmp_path, capfd):
    """lmnewlog has kept what follows the own file elsewhere: what goes on is a later piece."""
    log = tmp_path / "report.log"
    writer = Writer(f"+{log}")
    writer.switch(How.NEW, "two.log")
    writer.switch(How.KEEP, "kept.log")
    writer.say("out")
    writer.file.close()
    again = ReportFile(f"+{log}")
    assert again.position == writer.chain.position
    again.close()
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_second_server_takes_no_log_away(tmp_path):
    log = tmp_path / "report.log"
    writer = Writer(f"+{log}")
    for target in (f"+{log}", str(log)):
        with pytest.raises(FlexcoreError, match="written by another server"):
            ReportFile(target)
    writer.switch(How.NEW, "two.log")
    with pytest.raises(FlexcoreError, match="written by another server"):
        ReportFile(f"+{log}")
    writer.say("out")
    writer.file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.log", "two.log"]


def test_half_a_line_is_cut_off_before_a_file_is_put_aside(tmp_path):
    log = tmp_path / "report.log"
    writer = Writer(f"+{log}")
    writer.file.close()
    with log.open("a") as file:
        file.write('{"n":2,"ki')
    again = Writer(str(log))
    again.file.close()
    assert (numbers(tmp_path / "report.log.1"), numbers(log)) == ([1], [2])


@pytest.mark.parametrize("target", ["+{}", "{}"])
@pytest.mark.parametrize("text", ["SERVER elm ID=1 2837\nVENDOR demo\nFEATURE half", "\x00" * 100, '{"a":1}\n', "x"])
def test_a_mistyped_path_costs_no_file_anything(tmp_path, target, text):
    path = tmp_path / "demo.lic"
    path.write_text(text)
    with pytest.raises(FlexcoreError, match="is something else than a report log: it is left alone"):
        ReportFile(target.format(path))
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", '{"n":1,"kind":"sta', '{"n":1,'])
def test_what_a_crash_left_of_the_very_first_line_is_begun_anew(tmp_path, text):
    log = tmp_path / "report.log"
    log.write_text(text)
    writer = Writer(f"+{log}")
    writer.file.close()
    assert numbers(log) == [1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such thing there")
def test_a_pipe_is_no_place_for_a_report_log(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FlexcoreError, match="is a pipe"):
        ReportFile(f"+{tmp_path / 'pipe'}")


def test_a_rotation_that_was_not_told_before_the_end_is_found(tmp_path):
    log = tmp_path / "report.log"
    writer = Writer(f"+{log}")
    writer.say("out")
    writer.file.close()
    log.rename(tmp_path / "report.log.1")
    (tmp_path / "report.log-secondary").write_text("of another server\n")
    again = Writer(f"+{log}")
    again.file.close()
    assert numbers(log) == [3]
    anew = Writer(str(log))  # without +: a new file, the same chain
    anew.file.close()
    assert numbers(tmp_path / "report.log.2") == [3]
    assert numbers(log) == [4]


@pytest.mark.parametrize("path", ["../out.log", "sub/../../out.log", "/tmp/out.log", "", ".", "there.log", "link/x"])
def test_a_log_does_not_leave_its_folder_and_overwrites_nothing(tmp_path, path):
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "there.log").write_text("precious\n")
    (folder / "link").symlink_to(tmp_path)
    log = folder / "report.log"
    writer = Writer(f"+{log}")
    for how in (How.NEW, How.KEEP):
        with pytest.raises(FlexcoreError):
            writer.switch(how, path)
    writer.say("out")
    writer.file.close()
    assert (folder / "there.log").read_text() == "precious\n"
    assert sorted(each.name for each in folder.iterdir()) == ["link", "report.log", "there.log"]
    assert not (tmp_path / "out.log").exists()
    reading = read_report([("x", lines_of(log))])
    assert reading.problems == ()
    assert [record["kind"] for record in reading.records] == ["start", "stop", "start", "stop", "start", "out"]


def kill_keeping(writer: Writer, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """lmnewlog keeps the log as kept.log, and the server is killed at *step*, an operation of the system."""
    with monkeypatch.context() as killed:
        killed.setattr(f"flexcore_host.logplaces.os.{step}", lambda *paths, **how: 1 / 0)
        killed.setattr("flexcore_host.logplaces.os.unlink", lambda path: None)
        with pytest.raises(ZeroDivisionError):
            writer.switch(How.KEEP, "kept.log")
    writer.file.close()


def test_a_start_finishes_what_lmnewlog_was_killed_in(tmp_path, monkeypatch):
    log = tmp_path / "report.log"
    kill_keeping(Writer(f"+{log}"), monkeypatch, "replace")
    kept = tmp_path / "kept.log"
    assert kept.samefile(log)
    again = Writer(f"+{log}")
    again.file.close()
    assert (numbers(kept), numbers(log)) == ([1, 2], [3, 4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.log", "report.log"]


def test_a_start_finishes_it_where_lmswitchr_had_sent_the_log(tmp_path, monkeypatch, capsys):
    log = tmp_path / "report.log"
    writer = Writer(f"+{log}")
    writer.switch(How.NEW, "two.log")
    kill_keeping(writer, monkeypatch, "replace")
    again = Writer(f"+{log}")
    again.file.close()
    names = [tmp_path / name for name in ("report.log.1", "kept.log", "two.log", "report.log")]
    assert [numbers(path) for path in names] == [[1, 2], [3, 4], [5], [6]]
    assert sorted(tmp_path.iterdir()) == sorted(names)
    assert main(["reportlog", "verify", *map(str, names)]) == 0
    assert "intact; line 6" in capsys.readouterr().out


def test_a_start_tidies_up_where_nothing_was_kept_yet(tmp_path, monkeypatch):
    log = tmp_path / "report.log"
    kill_keeping(Writer(f"+{log}"), monkeypatch, "link")
    assert len(list(tmp_path.iterdir())) == 2
    again = Writer(f"+{log}")
    again.file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["report.log"]
    assert numbers(log) == [1, 2, 3]


def test_below_its_folder_a_log_may_go(tmp_path):
    (tmp_path / "old").mkdir()
    writer = Writer(f"+{tmp_path / 'report.log'}")
    writer.switch(How.KEEP, "old/november.log")
    writer.file.close()
    assert numbers(tmp_path / "old/november.log") == [1, 2]
    assert numbers(tmp_path / "report.log") == [3]


def test_where_there_are_no_links_it_is_renamed(tmp_path, monkeypatch):
    def no_links(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("flexcore_host.logplaces.os.link", no_links)
    writer = Writer(f"+{tmp_path / 'report.log'}")
    writer.switch(How.KEEP, "old.log")
    writer.file.close()
    assert numbers(tmp_path / "old.log") == [1, 2]
    assert numbers(tmp_path / "report.log") == [3]


# --- the debug log on disk ------------------------------------------------------------------------


def debug_logs(folder: Path, **more: int) -> DebugLogs:
    def printed(lines):
        return [f"({daemon}) {text}" for daemon, text in lines]

    def dated():
        return "TIMESTAMP 11/24/2026"

    main_log = LogFile(str(folder / "main.log"), head=lambda: ["(lmgrd) TIMESTAMP 11/24/2026"], **more)
    return DebugLogs(main_log, printed, folder, dated=dated, **more)


def ordered(how: How, path: str) -> SwitchLog:
    return SwitchLog(ticket=1, daemon="demo", how=how, path=path, first="")


def test_lmswitch_sends_a_vendors_lines_elsewhere_or_keeps_what_was_written(tmp_path):
    logs = debug_logs(tmp_path)
    logs.write([("lmgrd", "one"), ("demo", "two")])
    code, text = switch_log(ordered(How.NEW, "demo.log"), logs, None)
    assert (code, text) == (0, f"the debug log of demo goes on in {tmp_path / 'demo.log'}")
    logs.write([("lmgrd", "three"), ("demo", "four")])
    assert switch_log(ordered(How.KEEP, "old.log"), logs, None)[0] == 0
    logs.write([("demo", "five")])
    code, text = switch_log(ordered(How.NEW, "old.log"), logs, None)
    assert code == -42
    assert text == f"the log goes on where it was: {tmp_path / 'old.log'} exists already"
    logs.close()
    assert (tmp_path / "main.log").read_text().splitlines() == [
        "(lmgrd) one", "(demo) two", f"(demo) The lines of demo go to {tmp_path / 'demo.log'} from here on (lmswitch)",
        "(lmgrd) three",
    ]  # fmt: skip
    assert (tmp_path / "old.log").read_text().splitlines() == ["(demo) TIMESTAMP 11/24/2026", "(demo) four"]
    assert (tmp_path / "demo.log").read_text().splitlines() == ["(demo) TIMESTAMP 11/24/2026", "(demo) five"]


@pytest.mark.parametrize("target", ["+{}", "{}"])
@pytest.mark.parametrize("step", ["link", "replace"])
def test_a_start_finishes_what_a_rollover_was_killed_in(tmp_path, monkeypatch, target, step):
    """Without + the log is begun anew: what was kept under another name, the same file still, was emptied."""
    logs = debug_logs(tmp_path)
    logs.write([("demo", "one")])
    with monkeypatch.context() as killed:
        killed.setattr(f"flexcore_host.logplaces.os.{step}", lambda *paths, **how: 1 / 0)
        killed.setattr("flexcore_host.logplaces.os.unlink", lambda path: None)
        with pytest.raises(ZeroDivisionError):
            logs.switch("demo", How.KEEP, "old.log")
    logs.close()
    log = LogFile(target.format(tmp_path / "main.log"))
    log.begin()
    log.write(["two"])
    log.close()
    kept, left = tmp_path / "old.log", (tmp_path / "main.log").read_text().splitlines()
    if step == "replace":
        assert kept.read_text() == "(demo) one\n"
        assert left == (["(lmgrd) TIMESTAMP 11/24/2026", "two"] if "+" in target else ["two"])
    else:
        assert left == (["(demo) one", "two"] if "+" in target else ["two"])
    there = ["main.log", "old.log"] if step == "replace" else ["main.log"]
    assert sorted(path.name for path in tmp_path.iterdir()) == there


def test_a_log_on_standard_output_and_one_that_is_not_there(tmp_path):
    logs = DebugLogs(LogFile(), lambda lines: [text for _, text in lines], tmp_path)
    code, text = switch_log(ordered(How.NEW, "demo.log"), logs, None)
    assert code == -42
    assert "standard output" in text
    report = SwitchLog(ticket=1, daemon="demo", how=How.KEEP, path="x", first="{}")
    assert switch_log(report, logs, None)[0] == -85


def test_a_log_that_has_grown_is_rotated_and_dated(tmp_path):
    logs = debug_logs(tmp_path, max_bytes=100, kept=2)
    for number in range(12):
        logs.write([("demo", f"line {number:2d} {'x' * 20}")])
    logs.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main.log", "main.log.1", "main.log.2"]
    newest = (tmp_path / "main.log").read_text().splitlines()
    older = (tmp_path / "main.log.1").read_text().splitlines()
    assert newest[0] == older[0] == "(lmgrd) TIMESTAMP 11/24/2026"
    assert [line.split()[2] for line in [*older[1:], *newest[1:]]][-3:] == ["9", "10", "11"]
    assert 100 < (tmp_path / "main.log.1").stat().st_size < 170


def test_a_rotation_that_fails_is_said_once_and_the_log_goes_on(tmp_path, monkeypatch, capfd):
    logs = debug_logs(tmp_path, max_bytes=10)

    def refused(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("flexcore_host.logfile.os.replace", refused)
    for number in range(3):
        logs.write([("demo", f"line {number}")])
    logs.close()
    assert len((tmp_path / "main.log").read_text().splitlines()) == 3
    assert capfd.readouterr().err.count("Permission denied") == 1


# --- the commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "verb", "arguments"),
    [
        (["lmswitch", "demo", "new.log"], "switch", ("all", "demo", "new.log")),
        (["lmswitch", "demo", "old.log", "-rollover"], "switch", ("all", "demo", "old.log", "rollover")),
        (["lmswitchr", "f1", "new.log"], "switchr", ("all", "f1", "new.log")),
        (["lmnewlog", "demo", "old.log", "--server", "secondary"], "newlog", ("one", "demo", "old.log")),
    ],
)  # fmt: skip
def test_the_commands(words, verb, arguments, capsys):
    with fake_servers("follower", "serving", "follower") as triad:
        for server in triad:
            server.admin = lambda request: request_answer(request)
        name, *rest = words
        assert main([name, "-c", path_of(triad), *rest]) == 0
        assert capsys.readouterr().out == "oak: it goes on\n"
        (command,) = triad[1].commands
        assert (command.verb, command.arguments) == (verb, arguments)


def request_answer(request):
    from flexcore.wire.messages import AdminReply

    return AdminReply(request.seq, 0, "", ("oak: it goes on",))


def test_the_exit_status_is_that_of_the_first_server_that_did_not(capsys):
    from flexcore.wire.messages import AdminReply

    with fake_servers("follower", "serving", "follower") as triad:
        for server in triad:
            server.admin = lambda request: AdminReply(
                request.seq, -42, "Invalid parameter", ("oak: it exists already",)
            )
        assert main(["lmnewlog", "-c", path_of(triad), "demo", "x"]) == 214
        assert capsys.readouterr().out.splitlines()[0] == "oak: it exists already"
        for server in triad:
            server.close()
        assert main(["lmnewlog", "-c", path_of(triad), "demo", "x"]) == 241
