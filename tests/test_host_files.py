"""State folder, its lock, the log file, file systems and ports."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys

import pytest

from flexcore.errors import StateError, StateLocked
from flexcore_host import filesystem
from flexcore_host.debuglogs import DebugLogs
from flexcore_host.folder import default_folder, open_state_folder
from flexcore_host.logfile import LogFile

HOSTIDS = ("17003456", "17004355", "17007ea8")
DIGEST = bytes(range(32))


def where(environment, *, hostids=HOSTIDS, digest=DIGEST, rank="primary"):
    return default_folder(
        vendor="demo", rank=rank, digest=digest, hostids=hostids, environment=environment
    )


def test_the_folder_is_systemds_else_xdgs(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    name = "demo-primary-00010203"
    assert where({"STATE_DIRECTORY": "/var/lib/fc:/x"}) == f"/var/lib/fc/{name}"
    assert where({"XDG_STATE_HOME": "/s"}) == f"/s/flexcore/{name}"
    home = os.path.expanduser("~")
    assert where({}) == f"{home}/.local/state/flexcore/{name}"
    assert where({"XDG_STATE_HOME": "relative"}) == f"{home}/.local/state/flexcore/{name}"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert where({"XDG_STATE_HOME": "/s"}) == f"/var/lib/flexcore/{name}"


def test_the_folder_keeps_its_name_when_one_of_three_hostids_changes(tmp_path):
    environment = {"STATE_DIRECTORY": str(tmp_path)}
    first = where(environment)
    open_state_folder(first, vendor="demo", rank="primary", hostids=HOSTIDS).close()
    one = ("17003456", "99999999", "17007ea8")
    assert where(environment, hostids=one, digest=b"\xff" * 32) == first
    two = ("11111111", "99999999", "17007ea8")
    assert where(environment, hostids=two, digest=b"\xff" * 32) != first
    assert where(environment, hostids=one, digest=b"\xff" * 32, rank="secondary") != first


def test_a_new_folder_is_private_and_locked(tmp_path):
    path = tmp_path / "a" / "b"
    folder = open_state_folder(str(path), vendor="demo", rank="primary", hostids=HOSTIDS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert folder.path == str(path)
    assert os.path.dirname(folder.state_file) == str(path)
    with pytest.raises(StateLocked, match=rf"pid {os.getpid()}\).*--state-dir"):
        open_state_folder(str(path))
    folder.close()
    folder.close()
    open_state_folder(str(path)).close()


def test_a_second_process_is_refused_with_the_first_ones_pid(tmp_path):
    code = (
        "import sys; from flexcore_host.folder import open_state_folder as o;"
        f"f = o({str(tmp_path / 's')!r}); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"locked\n"
        with pytest.raises(StateLocked, match=f"pid {first.pid}"):
            open_state_folder(str(tmp_path / "s"))
        first.kill()
        first.wait()
    open_state_folder(str(tmp_path / "s")).close()


def test_a_folder_that_others_read_is_tightened_only_if_it_is_ours(tmp_path):
    ours = tmp_path / "ours"
    ours.mkdir(mode=0o755)
    open_state_folder(str(ours)).close()
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    (shared / "letter.txt").write_text("dear")
    with pytest.raises(StateError, match=r"letter\.txt"):
        open_state_folder(str(shared))
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_another_owner_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(StateError, match=r"belongs to uid \d+, this process is uid 54321"):
        open_state_folder(str(tmp_path))


def test_another_server_lines_folder_is_refused(tmp_path):
    path = str(tmp_path / "s")
    open_state_folder(path, vendor="demo", rank="primary").close()
    with pytest.raises(StateError, match="was made for rank primary, this server is secondary"):
        open_state_folder(path, vendor="demo", rank="secondary")
    with pytest.raises(StateError, match="was made for vendor demo"):
        open_state_folder(path, vendor="acme", rank="primary")
    open_state_folder(path, vendor="demo", rank="primary").close()


def test_a_file_in_the_folders_place_is_told(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(StateError, match="--state-dir"):
        open_state_folder(str(tmp_path / "f"))
    with pytest.raises(StateError, match="cannot be used"):
        open_state_folder(str(tmp_path / "f" / "deeper"))


# --- the log --------------------------------------------------------------------------------------


def test_plus_appends_and_without_it_the_log_begins_anew(tmp_path):
    path = tmp_path / "debug.log"
    path.write_text("old\n")
    log = LogFile(f"+{path}")
    log.begin()
    log.write(["one", "two"])
    log.close()
    assert path.read_text() == "old\none\ntwo\n"
    log = LogFile(str(path))
    log.write(["why this one may not start"])
    assert path.read_text().startswith("old\n")
    log.begin()
    log.write([" 9:05:00 (demo) x\ty"])
    log.close()
    log.close()
    assert path.read_text() == " 9:05:00 (demo) x\ty\n"


def test_a_text_from_outside_cannot_make_a_second_line_and_odd_bytes_pass(tmp_path):
    path = tmp_path / "debug.log"
    log = LogFile(str(path))
    log.write(["a\r\nb\x1b[2Jc\u2028d", b"caf\xe9".decode("utf-8", "surrogateescape"), "é"])
    log.close()
    assert path.read_bytes() == b"a??b?[2Jc?d\ncaf\xe9\n\xc3\xa9\n"


def test_reopen_follows_log_rotation(tmp_path):
    path = tmp_path / "debug.log"
    log = LogFile(str(path))
    log.write(["one"])
    path.rename(tmp_path / "debug.log.1")
    log.write(["two"])
    log.reopen()
    log.write(["three"])
    log.close()
    assert (tmp_path / "debug.log.1").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"


def test_a_full_disk_is_said_once_and_lines_are_counted(tmp_path, monkeypatch, capsys):
    path = tmp_path / "debug.log"
    log = LogFile(str(path))
    log.write(["before"])
    real = os.write

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.write(["a", "b"])
    log.write(["c"])
    monkeypatch.setattr(os, "write", real)
    log.write(["after"])
    log.close()
    said = capsys.readouterr().err
    assert said.count("No space left on device") == 1
    assert str(path) in said
    assert path.read_text() == (
        "before\n(3 lines were lost: the log could not be written)\nafter\n"
    )


def test_without_a_path_the_log_is_standard_output(capfd):
    log = LogFile()
    log.begin()
    log.write(["hello"])
    log.reopen()
    log.close()
    assert capfd.readouterr().out == "hello\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs poll")
def test_a_pipe_that_nobody_reads_does_not_hold_up_the_server(monkeypatch):
    monkeypatch.setattr("flexcore_host.logfile.WAITING_LINES_MAX", 5)
    reader, writer = os.pipe()
    log = LogFile(fallback=writer)
    lines = [f"{number:04d} {'x' * 1000}" for number in range(100)]  # a pipe holds about 64
    for line in lines:
        log.write([line])
    received = os.read(reader, 1 << 20).decode()
    log.write(["the last " + "y" * 10_000])
    log.close()
    os.close(writer)
    with open(reader, encoding="utf-8") as rest:
        received += rest.read()
    assert received.startswith(lines[0] + "\n" + lines[1] + "\n")
    shown = received.splitlines()
    lost = next(line for line in shown if line.startswith("("))
    number = int(lost[1:].split()[0])
    assert "lines were lost" in lost
    assert [line for line in shown if line in lines] == [
        *lines[: 100 - 5 - number],
        *lines[-5:],
    ]
    assert shown[-1] == "the last " + "y" * 10_000


# --- file systems and ports -----------------------------------------------------------------------

MOUNTS = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:41 / /home rw - nfs4 filer:/home rw,vers=4.2
41 40 0:42 / /home/local rw - xfs /dev/sdb rw
42 22 0:43 / /mnt/with\\040blank rw - cifs //pc/share rw
43 22 0:44 / /srv rw - nfs old:/srv rw
44 22 0:45 / /srv rw - tmpfs tmpfs rw
garbage line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/dan/state", "nfs4"), ("/home", "nfs4"), ("/homeless", None), ("/home/local/x", None),
        ("/mnt/with blank/f", "cifs"), ("/var/lib", None), ("/srv/x", None),
    ],
)  # fmt: skip
def test_the_mount_that_holds_a_path_decides(path, kind):
    found = filesystem.network_mount(path, MOUNTS)
    assert (found.kind if found else None) == kind


def test_the_own_tables_can_be_read(tmp_path):
    assert filesystem.network_mount(str(tmp_path)) is None
    assert filesystem.network_mount(str(tmp_path), "") is None


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="needs Linux's /proc")
def test_the_process_that_holds_a_port_is_named():
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert filesystem.port_holder(port).startswith(f"pid {os.getpid()} (")
        assert filesystem.port_holder(port, "127.0.0.2").startswith(f"pid {os.getpid()} (")
        assert filesystem.port_holder(port, "127.0.0.3") == ""
    assert filesystem.port_holder(port) == ""


def test_the_log_s_size_is_asked_for_only_when_it_may_be_too_long(tmp_path, monkeypatch):
    path = tmp_path / "server.log"
    path.write_text("x" * 99 + "\n")
    log = LogFile(f"+{path}", max_bytes=1000)
    asked = []
    fstat = os.fstat

    def ask(number):
        asked.append(number)
        return fstat(number)

    monkeypatch.setattr("flexcore_host.logfile.os.fstat", ask)
    for _ in range(9):
        log.write(["x" * 99])
    assert len(asked) == 1
    os.truncate(path, 300)  # as logrotate's copytruncate does
    log.write(["y" * 99])
    assert len(asked) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["server.log"]
    for _ in range(7):
        log.write(["z" * 99])
    log.close()
    assert (tmp_path / "server.log.1").stat().st_size == 1100
    assert not path.stat().st_size


def test_a_log_that_is_too_long_already_is_rotated_by_the_first_line(tmp_path):
    path = tmp_path / "server.log"
    path.write_text("x" * 99 + "\n")
    log = LogFile(f"+{path}", max_bytes=100)
    log.write(["one"])
    log.write(["two"])
    log.close()
    assert (tmp_path / "server.log.1").read_text().endswith("x\none\n")
    assert path.read_text() == "two\n"


def test_a_batch_is_one_write_for_each_log(tmp_path, monkeypatch):
    main, other = LogFile(str(tmp_path / "main.log")), str(tmp_path / "other.log")
    logs = DebugLogs(main, lambda lines: [text for _, text in lines], tmp_path)
    logs.use("acme", other, append=False)
    written = []
    put = os.write

    def write(number, data):
        written.append(bytes(data))
        return put(number, data)

    monkeypatch.setattr("flexcore_host.logfile.os.write", write)
    logs.write([("demo", "1"), ("acme", "2"), ("demo", "3"), ("acme", "4"), ("lmgrd", "5")])
    logs.close()
    assert written == [b"1\n3\n5\n", b"2\n4\n"]
