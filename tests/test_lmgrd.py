"""lmgrd before it serves: every refusal says why and what to do, and --check starts nothing."""

from __future__ import annotations

import datetime
import os
import re
import signal
import socket
import threading

import pytest
import trio

from flexcore.keys import SigningKey
from flexcore.licensefile import format_license, parse_license, sign_license
from flexcore_host import filesystem, resolver
from flexcore_host.folder import open_state_folder
from flexcore_tools import _preflight, _setup, cli
from flexcore_tools import lmgrd as lmgrd_module
from flexcore_trio.loop import Outcome
from flexcore_trio.serving import run_until_signalled
from tests.ports import free_port

KEY = SigningKey("demo", bytes(range(32)))
SERVERS = "".join(f"SERVER 127.0.0.{n} ID=10{n} {{port}}\n" for n in (1, 2, 3))


def in_days(days):
    day = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=days)
    return f"{day.day}-{day:%b}-{day.year}".lower()


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def lmgrd(tmp_path, port, capsys):
    """Write a signed file and run lmgrd on it; what it said is in ``said``."""

    class Run:
        folder = tmp_path
        said = ""
        port = 0
        license_file = tmp_path / "demo.lic"
        state = tmp_path / "state"

        def write(self, *features, servers=SERVERS, vendors="VENDOR demo\n", change=lambda text: text):
            lines = [f"FEATURE {feature}" for feature in features or ["f1 demo 1.0 permanent 2"]]
            text = servers.format(port=port) + vendors + "\n".join(lines) + "\n"
            signed = format_license(sign_license(parse_license(text), KEY))
            self.license_file.write_text(change(signed))

        def __call__(self, *extra, hostid="ID=101", server="primary", state=None):
            arguments = ["-c", str(self.license_file), "--vendor-key", str(tmp_path / "demo.pub")]
            arguments += ["--hostid", hostid] if hostid else []
            arguments += ["--server", server] if server else []
            arguments += ["--state-dir", state or str(self.state)]
            status = cli.main(["lmgrd", *arguments, *extra])
            captured = capsys.readouterr()
            self.said = captured.out + captured.err
            assert "Traceback" not in self.said
            return status

    (tmp_path / "demo.pub").write_text(f"{KEY.verifying_key}\n")
    run = Run()
    run.port = port
    run.write()
    return run


# --- refusals -----------------------------------------------------------------------------------


def test_help_names_every_flag(capsys):
    assert cli.main(["lmgrd", "--help"]) == 0
    shown = capsys.readouterr().out
    for flag in ("-c", "--vendor-key", "--server", "--hostid", "--state-dir", "--first-start",
                 "--listen", "-l", "--check"):  # fmt: skip
        assert flag in shown


def test_a_changed_line_is_refused_with_the_line_and_the_difference(lmgrd):
    lmgrd.write(change=lambda text: text.replace("permanent 2", "permanent 200"))
    assert lmgrd() != 0
    assert re.search(r"demo\.lic:5: f1: changed after it was signed: count 200", lmgrd.said)
    assert not lmgrd.state.exists()


def test_another_vendors_key_is_refused(lmgrd):
    other = SigningKey("acme", bytes(32))
    (lmgrd.folder / "demo.pub").write_text(f"{other.verifying_key}\n")
    assert lmgrd() == 1
    assert "no --vendor-key is that of demo" in lmgrd.said
    assert "acme" in lmgrd.said


def test_all_problems_of_a_file_are_listed(lmgrd):
    lmgrd.license_file.write_text(
        "SERVER a ID=1 2837\nSERVER b ID=2 2837\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 1\n"
    )
    assert lmgrd() != 0
    assert "no server starts with the licence file" in lmgrd.said
    assert f"{lmgrd.license_file}:" in lmgrd.said


@pytest.mark.parametrize(
    ("text", "why"),
    [("VENDOR demo\n", "no SERVER line"), ("SERVER this_host ANY 2837\n", "no VENDOR line")],
)
def test_a_file_with_nothing_to_serve_is_refused(lmgrd, text, why):
    lmgrd.license_file.write_text(text)
    assert lmgrd() != 0
    assert why in lmgrd.said


def test_missing_files_are_named(lmgrd):
    lmgrd.license_file.unlink()
    assert lmgrd() != 0
    assert f"the licence file {lmgrd.license_file} cannot be read: No such file" in lmgrd.said
    lmgrd.write()
    (lmgrd.folder / "demo.pub").unlink()
    assert lmgrd() == 1
    assert "demo.pub cannot be read: No such file" in lmgrd.said
    (lmgrd.folder / "demo.pub").write_text("what is this")
    assert lmgrd() == 1
    assert "demo.pub cannot be used" in lmgrd.said


def test_a_hostid_that_is_not_this_machines_is_refused(lmgrd):
    assert lmgrd(hostid="") != 0
    assert "hostid ID=101 on the SERVER line of 127.0.0.1 is not this machine's" in lmgrd.said
    assert "--hostid" in lmgrd.said
    assert lmgrd(hostid="ID=102") != 0
    assert "--hostid ID=102 is not the hostid ID=101" in lmgrd.said


def test_which_line_is_asked_where_it_is_not_clear(lmgrd):
    assert lmgrd(hostid="", server="") == 1
    assert "more than one SERVER line (127.0.0.1, 127.0.0.2, 127.0.0.3)" in lmgrd.said
    assert lmgrd(server="pat") == 1
    assert "--server pat is none of the SERVER lines" in lmgrd.said


def test_a_port_in_use_is_told_with_its_holder_also_in_the_log(lmgrd, monkeypatch):
    monkeypatch.setattr("flexcore_trio.sockets.BIND_RETRY_S", 0.0)
    log = lmgrd.folder / "debug.log"
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", lmgrd.port))
        holder.listen()
        assert lmgrd("-l", str(log)) == 1
    assert f"127.0.0.1 port {lmgrd.port}: the port is in use by pid {os.getpid()}" in lmgrd.said
    assert "the port is in use" in log.read_text()


def test_a_state_folder_in_use_is_refused_and_the_log_of_its_owner_stays(lmgrd):
    log = lmgrd.folder / "debug.log"
    log.write_text("what the first one wrote\n")
    folder = open_state_folder(str(lmgrd.state))
    try:
        assert lmgrd("-l", str(log)) == 1
    finally:
        folder.close()
    assert f"in use by another process (pid {os.getpid()})" in lmgrd.said
    assert log.read_text().startswith("what the first one wrote\n")


def test_a_damaged_state_file_is_told_with_what_to_do(lmgrd):
    open_state_folder(str(lmgrd.state)).close()
    (lmgrd.state / "state.sqlite").write_bytes(b"torn" * 1000)
    assert lmgrd() == 1
    assert "is damaged" in lmgrd.said
    assert f"delete the folder {lmgrd.state}" in lmgrd.said


# --- the check ------------------------------------------------------------------------------------


def verdicts(lmgrd, word):
    return [line for line in lmgrd.said.splitlines() if line.startswith(word)]


def test_a_machine_that_is_ready_passes_and_nothing_is_made(lmgrd):
    assert lmgrd("--check") == 0, lmgrd.said
    assert not verdicts(lmgrd, "FAIL")
    assert "this server is the primary: SERVER 127.0.0.1" in lmgrd.said
    assert "ID=101 was asserted" in lmgrd.said
    assert f"127.0.0.1 port {lmgrd.port} is free" in lmgrd.said
    assert f"peer 127.0.0.2 port {lmgrd.port}: the machine answers, no server" in lmgrd.said
    assert not lmgrd.state.exists()


def test_the_check_sees_what_a_start_would(lmgrd):
    lmgrd.write(change=lambda text: text.replace("permanent 2", "permanent 200"))
    assert lmgrd("--check") == 1
    assert "changed after it was signed" in lmgrd.said


def test_the_check_names_who_has_the_port_and_the_folder(lmgrd):
    folder = open_state_folder(str(lmgrd.state))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", lmgrd.port))
        holder.listen()
        assert lmgrd("--check") == 1
    folder.close()
    failures = verdicts(lmgrd, "FAIL")
    assert any("is in use by pid" in line for line in failures)
    assert any("state folder" in line for line in failures)


def test_whoever_listens_in_a_peers_place_is_asked_who_it_is(lmgrd, monkeypatch):
    monkeypatch.setattr(_preflight, "CONNECT_TIMEOUT_S", 0.2)
    with socket.socket() as peer:
        peer.bind(("127.0.0.3", lmgrd.port))
        peer.listen()
        assert lmgrd("--check") == 1
    assert "but not a server of this" in verdicts(lmgrd, "FAIL")[0]


def test_a_peer_whose_name_nobody_knows_fails(lmgrd):
    servers = SERVERS.replace("127.0.0.3", "no.such.host.invalid")
    lmgrd.write(servers=servers)
    assert lmgrd("--check") == 1
    assert "no.such.host.invalid" in verdicts(lmgrd, "FAIL")[0]


def test_expiry_within_thirty_days_is_noted(lmgrd):
    lmgrd.write(
        f"f1 demo 1.0 {in_days(20)} 2", f"f2 demo 1.0 {in_days(400)} 2", f"f3 demo 1.0 {in_days(-2)} 2"
    )
    assert lmgrd("--check") == 0
    notes = "\n".join(verdicts(lmgrd, "note"))
    assert re.search(r'"f1" v1\.0 expires in (19|20|21) days', notes)
    assert '"f2"' not in notes
    assert '"f3" v1.0 has expired' in notes


def test_network_file_systems_and_loopback_names_fail(lmgrd, monkeypatch):
    mount = filesystem.NetworkMount("nfs4", "filer:/x", "/mnt")
    monkeypatch.setattr(filesystem, "network_mount", lambda path: mount)
    monkeypatch.setattr(resolver, "loopback_alias", lambda host: "127.0.1.1")
    assert lmgrd("--check", "-l", str(lmgrd.folder / "debug.log")) == 1
    failures = "\n".join(verdicts(lmgrd, "FAIL"))
    assert f"the state folder {lmgrd.state} is on a network file system (nfs4 filer:/x" in failures
    assert f"the licence file {lmgrd.license_file} is on a network" in failures
    assert "the log " in failures
    assert "resolves to 127.0.1.1" in failures


def test_in_memory_is_noted(lmgrd):
    assert lmgrd("--check", state="none") == 0
    assert "remembers nothing" in lmgrd.said


def test_what_is_wrong_with_the_options_file_is_noted(lmgrd):
    options = lmgrd.folder / "demo.opt"
    options.write_text("EXCLUDE nothing USER ann\nFOO\nTIMEOUT f1 60\n")
    assert lmgrd("--check") == 0, lmgrd.said
    assert f"options file {options}: 2 rule(s)" in lmgrd.said
    notes = "\n".join(verdicts(lmgrd, "note"))
    assert f"{options}:1:1: warning: the licence file has no feature nothing" in notes
    assert f"{options}:2:1: warning: there is no option 'FOO'" in notes


def test_several_vendors_are_noted_on_a_single_server(lmgrd):
    lmgrd.write(
        servers="SERVER this_host ANY {port}\n", vendors="VENDOR demo\nVENDOR acme\n",
    )  # fmt: skip
    assert lmgrd("--check", hostid="", server="") == 0, lmgrd.said
    assert "acme is not served: no --vendor-key is that of acme" in lmgrd.said


# --- set-up ---------------------------------------------------------------------------------------


def test_a_single_server_without_a_port_takes_the_default(lmgrd):
    lmgrd.write(servers="SERVER this_host ANY\n")
    parser = cli.make_parser("lmgrd")
    args = parser.parse_args(
        ["-c", str(lmgrd.license_file), "--vendor-key", str(lmgrd.folder / "demo.pub")]
    )
    setup = _setup.load(args)
    assert setup.port == _setup.DEFAULT_PORT
    assert setup.addresses[0].host == socket.gethostname()
    assert setup.listen[0] == "0.0.0.0"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no such signal there")
def test_a_hangup_while_the_logs_are_opened_is_taken_as_soon_as_the_server_runs():
    told, reopened = [], trio.Event()

    class Server:
        def stop(self, scope, requested_by):
            raise AssertionError("nobody stops it")

        def reopen_logs(self, reason):
            told.append(reason)
            reopened.set()

    async def start(task_status):
        task_status.started(Server())
        with trio.fail_after(30):
            await reopened.wait()
        return Outcome(0, "")

    with lmgrd_module._hangups_held():
        assert signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, []), "or it would end this process"
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
        assert told == []
        assert trio.run(run_until_signalled, start, [], lambda: told.append("the debug log")) == Outcome(0, "")
    assert told == ["the debug log", "SIGHUP"]
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
