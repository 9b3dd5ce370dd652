"""lmdiag: what could be checked out, what is wrong with a triad, and an archive without secrets."""

from __future__ import annotations

import errno
import tarfile
from functools import partial
from typing import Any

import pytest

from flexcore.options.vocabulary import KEYWORDS
from flexcore.quorum import QuorumMachine
from flexcore.report.diagnosis import FAIL, NOTE, OK, Finding, Measured, findings
from flexcore.report.status import Failure, Status
from flexcore.server import LicenseServer
from flexcore.server.details import ANSWERS_MAX
from flexcore.wire.messages import CanCheckOut, LinkDetails, Message, ServerDetails, StatusRequest
from flexcore_testing import LoopbackTriad
from flexcore_tools import _bundle
from flexcore_tools._bundle import without_secrets
from flexcore_tools.cli import main
from tests.fake_servers import FakeServer, fake_servers, path_of
from tests.server_kit import DAY, Kit, line
from tests.test_report_lmstat import REFUSED, TIMED_OUT, report, triad


def question(feature: str = "", version: str = "", **changes: Any) -> CanCheckOut:
    return CanCheckOut(5, feature, version, 1, "bob", "oak", ":0", "")._replace(**changes)


# --- of the master --------------------------------------------------------------------------------


def ask(kit: Kit, message: Any) -> Any:
    conn = kit.connect()
    kit.said(conn)
    kit.send(conn, message)
    return kit.said(conn)[-1]


def test_the_question_takes_no_seat():
    kit = Kit(line("f1", 1), line("f2", 1, expiry_day=DAY - 1), line("f3", 1, lock="ID=9"))
    before = kit.state.index
    for _ in range(3):
        said = ask(kit, question())
        assert [(a.feature, a.code) for a in said.answers] == [("f1", 0), ("f2", -10), ("f3", -9)]
    assert kit.state.index == before
    assert not kit.state.sessions
    assert kit.state.in_use["f1 1.0"] == 0
    kit.client().checkout("f1")
    said = ask(kit, question("f1"))
    assert said.answers[0].code == -4
    assert said.answers[0].detail.startswith("1 of 1 in use: ")


def test_versions_and_unknown_features():
    kit = Kit(line("f1", 1, "2.0"))
    assert ask(kit, question("f1", "1.5")).answers[0][:3] == ("f1", "1.5", 0)
    assert ask(kit, question("f1", "3.0")).answers[0].code == -25
    assert ask(kit, question("f9")).answers[0].code == -5
    assert ask(kit, question("f1", "one")).answers[0].code == -77
    assert ask(kit, question("f1", count=2)).answers[0].code == -26


def test_who_waits_is_not_passed_by_the_question_either():
    kit = Kit(line("f1", 3))
    kit.client().checkout("f1", count=2)
    assert ask(kit, question("f1")).answers[0].code == 0
    assert type(kit.client("cem").checkout("f1", count=3, queue=True)).__name__ == "Queued"
    before = kit.state.index
    assert ask(kit, question("f1")).answers[0].code == -24
    assert kit.state.index == before


def test_many_features_come_in_pages():
    kit = Kit(*(line(f"f{n}", 1) for n in range(ANSWERS_MAX + 5)))
    first = ask(kit, question())
    assert (len(first.answers), first.cursor) == (ANSWERS_MAX, str(ANSWERS_MAX))
    second = ask(kit, question(cursor=first.cursor))
    assert (len(second.answers), second.cursor) == (5, "")


def test_a_cursor_that_nobody_gave_ends_the_connection():
    kit = Kit(line("f1", 1))
    said = ask(kit, question(cursor="-1"))
    assert type(said).__name__ == "Refusal"


# --- comparing ------------------------------------------------------------------------------------


def details(rank: int, **changes: Any) -> ServerDetails:
    others = [other for other in range(3) if other != rank]
    links = tuple(LinkDetails(other, True, 0.5, 0.001, 0.0, 1, "0.1.0", "aa", "") for other in others)
    plain = ServerDetails(
        seq=1, rank=rank, state="follower", term=7, voted_for=0, promised_to=0, promise_s=60.0, boot=1, member=True,
        has_state=True, triad="t", membership="m", rights="aa", rights_in_force="aa", options="", options_path="",
        last_term=7, last_index=9, durable_index=9, commit=9, disk_s=None, timeout_s=79.0, primary_is_master=False,
        wall=0.0, sessions=1, seats=2, links=links,
    )  # fmt: skip
    return plain._replace(**changes)


GOOD = triad(report(0, "serving"), report(1, "follower"), report(2, "follower"))
CALM = {rank: Measured(0.001, 0.0) for rank in range(3)}


def diagnose(status: Status = GOOD, *said: ServerDetails, clocks: dict[int, Measured] | None = None) -> list[Finding]:
    known = {each.rank: each for each in said or (details(0), details(1), details(2))}
    return list(findings(status, known, CALM if clocks is None else clocks))


def test_a_triad_that_is_well_gives_no_other_word_than_ok():
    found = diagnose()
    assert {finding.word for finding in found} == {OK}
    printed = "\n".join(finding.printed() for finding in found)
    assert "primary to secondary: connected, round trip 1.0 ms, heard 0.5 s ago" in printed
    assert "term 7, started 1 times, a member, promised to the primary, for 60.0 s more" in printed


@pytest.mark.parametrize(
    ("change", "word", "text"),
    [
        ({"rights": "bb"}, NOTE, "they have different signed lines (primary aa, secondary bb, tertiary aa)"),
        ({"rights": "bb"}, NOTE, "its licence file has other signed lines than those in force"),
        ({"options": "cc"}, NOTE, "they have different options (primary none, secondary cc, tertiary none)"),
        ({"membership": "x"}, NOTE, "they have different machines in their licence files"),
        ({"triad": "x"}, NOTE, "they have different triads"),
        ({"term": 6}, NOTE, "they have different terms (primary 7, secondary 6, tertiary 7)"),
        ({"disk_s": 4.0}, NOTE, "its disk has been writing for 4.0 s"),
        ({"commit": 5000}, NOTE, "its disk is 4991 entries behind"),
        ({"links": (LinkDetails(2, False, None, None, None, 0, "", "", ""),)}, FAIL, "to tertiary: not connected"),
        ({"links": (LinkDetails(2, True, 0.1, 9.0, None, 0, "", "", ""),)}, NOTE, "slow for this HEARTBEAT_INTERVAL"),
        ({"links": (LinkDetails(2, True, 0.1, 0.1, None, 0, "", "", "it runs twice"),)}, FAIL, "it runs twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(change, word, text):
    found = diagnose(GOOD, details(0), details(1, **change), details(2))
    assert [finding.word for finding in found if text in finding.text] == [word], found


def test_clocks():
    found = diagnose(clocks={**CALM, 1: Measured(0.001, 90.0)})
    assert [f.word for f in found if "secondary" in f.text and "differ by 90.0 s" in f.text] == [NOTE] * 3
    found = diagnose(clocks={0: Measured(0.001, -7200.0)})
    assert [f.word for f in found if "differ" in f.text] == [FAIL]


def test_why_a_server_is_not_reached_and_what_to_do():
    unknown = Failure(-14)
    value = triad(REFUSED, TIMED_OUT, unknown)
    texts = [finding.text for finding in findings(value, {}, {})]
    assert texts[0] == "no server answers: nothing can be checked out"
    assert texts[1].endswith("start it (its log says why it ended).")
    assert texts[2].endswith("does a firewall let the port through?")
    assert texts[3].endswith("Correct the name, or the name service of this machine.")
    assert REFUSED.sys_errno == errno.ECONNREFUSED


def test_what_a_recovering_server_waits_for():
    reason = "it has no state and recovers it; secondary reached, both or a confirmed master needed"
    value = triad(report(0, "recovering", reason=reason), report(1, "waiting", until_s=12.0), REFUSED)
    found = list(findings(value, {0: details(0, state="recovering", member=False, has_state=False)}, {}))
    assert found[0] == Finding(FAIL, "servers answer, and none serves, for 12 s more at most: see why below")
    assert any(finding.text.endswith(reason) for finding in found)
    degraded = triad(report(0, "serving", peers_up=(1,)), report(1, "follower"), TIMED_OUT)
    assert next(findings(degraded, {}, {})).word == NOTE


# --- the command ----------------------------------------------------------------------------------


def older(server: FakeServer, message: StatusRequest) -> Message | None:
    """A server that ends the connection when it is asked what it does not know."""
    return None if message.what == "details" else server.plain_status(message)


def test_servers_of_an_older_version(capsys):
    with fake_servers("serving", "follower", "follower") as servers:
        for server in servers:
            server.status = partial(older, server)
        status = main(["lmdiag", "-c", path_of(servers)])
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("it is too old to say more") == 3
    assert "the features could not be asked for: " in out
    assert status == 240


def content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    assert file is not None
    return file.read()


def machines(servers: LoopbackTriad) -> list[QuorumMachine]:
    loops = [thread._loop for thread in servers._threads.values()]
    found = [loop._machine for loop in loops if loop is not None]
    return [machine.node.quorum for machine in found if isinstance(machine, LicenseServer)]


def test_a_real_triad_and_an_archive_without_secrets(capsys, tmp_path):
    bundle = tmp_path / "support.tgz"
    log = tmp_path / "debug.log"
    with LoopbackTriad(features={"f1": 1, "f2": 3}) as servers, servers.connect() as client, client.checkout("f1"):
        states = machines(servers)
        sessions = [s for q in states for s in q.ledger.state.sessions.values()]
        secrets = {s.session for s in sessions} | {s.secret for s in sessions} | {q.hard.triad_id for q in states}
        secrets |= {q.boot_id for q in states}
        assert len(secrets) >= 6
        log.write_text("\n".join(s.hex() for s in secrets) + "\nflexcore-secret-key demo ed25519 00\nplain words\n")
        status = main(["lmdiag", "f1", "-c", servers.path, "--bundle", str(bundle), "--log", str(log),
                       "--state-dir", str(tmp_path)])  # fmt: skip
        out = capsys.readouterr().out
        assert status == 252
        assert "Licensed number of users already reached. (-4,342)" in out
        assert "ok    same signed lines" in out
        assert main(["lmdiag", "-n", "f2:1.0", "-c", servers.path]) in (0, 1)  # 1: names are loopback ones
        assert "  This license can be checked out\n  expiry: " in capsys.readouterr().out
    with tarfile.open(bundle) as archive:
        texts = {entry.name: content(archive, entry) for entry in archive.getmembers()}
    assert bundle.stat().st_mode & 0o077 == 0
    everything = b"\n".join(texts.values())
    for secret in secrets:
        assert secret not in everything
        assert secret.hex().encode() not in everything.lower()
    assert b"secret-key" not in everything
    assert b"plain words" in everything
    assert {name.rpartition("/")[2] for name in texts} >= {
        "diagnosis.txt", "servers.json", "status.json", "versions.txt", "environment.txt", "state-folder.txt",
    }  # fmt: skip


def test_secrets_are_struck_out():
    sign = " ".join(["0A1B"] * 40)
    assert without_secrets(f'SIGN="{sign}" SN=1') == "SIGN=(removed) SN=1"
    assert "0A1B" not in without_secrets(f"kept: {sign}")
    assert without_secrets("ID=" + "ab" * 16) == "ID=(removed)"
    assert without_secrets('f1 SIGN = "FC01 0731" SN=1') == "f1 SIGN=(removed) SN=1"
    old = "FEATURE f1 demo 1.0 permanent 1 0A1B2C3D4E5F6071 \\\n\t00112233445566778899 HOSTID=001122334455"
    assert without_secrets(old) == "FEATURE f1 demo 1.0 permanent 1 (removed) \\\n\t(removed) HOSTID=001122334455"
    kept = 'SERVER elm 001122334455 2837\nFEATURE f1 demo 1.0 permanent 1 HOSTID="aabbccddeeff 001122334455 11223344"'
    assert without_secrets(kept) == kept


def test_what_a_server_names_as_its_files_is_taken_only_if_it_is_such_a_file(tmp_path):
    """Anybody may have started that server; the archive is often written as root."""
    shadow, license, options = (tmp_path / name for name in ("shadow", "demo.lic", "demo.opt"))
    shadow.write_text("root:$6$salt$hash:19000:0:99999:7:::\n")
    license.write_text("# ours\n  feature f1 demo 1.0 permanent 1 SIGN=00\n")
    options.write_text("max 1 f1 USER ann\n")
    for path, keywords in ((license, _bundle._LINES), (options, frozenset(KEYWORDS))):
        assert _bundle._if_of(str(path), keywords) == path.read_text()
        assert _bundle._if_of(str(shadow), keywords) == f"{shadow} is left out: no line is one of such a file"
        assert "cannot be read: No such" in _bundle._if_of(str(tmp_path / "gone"), keywords)


def test_of_a_long_file_no_half_line_comes_along(tmp_path, monkeypatch):
    monkeypatch.setattr(_bundle, "FILE_BYTES_MAX", 20)
    path = tmp_path / "log"
    path.write_text("secret 00112233\nand the rest\n")
    assert _bundle._tail(str(path)) == "and the rest\n"
    assert without_secrets("the digest 0123456789abcdef of f1") == "the digest 0123456789abcdef of f1"
